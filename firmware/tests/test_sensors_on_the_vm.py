"""The sensor drivers and fixtures on the real MicroPython, where integers, exceptions and asyncio differ from CPython's."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest
from lamppost_node.drivers.sht4x import humidity_centi_percent, temperature_centi_c
from lamppost_node.fixtures.air import correct
from lamppost_node.fixtures.bin import square_root

HERE = pathlib.Path(__file__).parent
ROOTS = (HERE.parent, HERE.parent.parent / "protocol")


@pytest.fixture(scope="module")
def results() -> Any:
    """What sensors_on_the_vm.py printed, run once with the heap the node has on this port."""
    vm = os.environ.get("MICROPYTHON") or shutil.which("micropython", path=str(pathlib.Path(sys.executable).parent))
    vm = vm or shutil.which("micropython")
    if vm is None:
        pytest.skip("micropython is not installed")
    done = subprocess.run(
        [vm, "-X", "heapsize=240k", str(HERE / "sensors_on_the_vm.py")],
        env={"MICROPYPATH": ":".join((".frozen", *map(str, ROOTS)))},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_drivers_read_and_fail_as_on_the_host(results: Any) -> None:
    """The same bytes give the same numbers and the same faults."""
    assert results["ranger"] == 700
    assert results["ranger_no_echo"] == "NoEcho no_echo"
    assert results["ranger_damaged"] == "BadChecksum bad_checksum"
    assert results["ranger_silent"] == "NoAnswer silent"
    assert results["masses"] == [4, 5, 5, [0x37E, 0xE2, 0x17, 2, 0, 0]]
    assert results["climate"] == [2500, 5000]
    assert results["climate_absent"] == "NoAnswer not_acknowledged"
    assert results["gravity"] == [0, 0, 1008]


def test_arithmetic_is_the_hosts(results: Any) -> None:
    """Conversions, roots and the correction agree number by number."""
    raws = (0, 1, 3145, 26214, 40000, 65535)
    assert results["words"] == [[temperature_centi_c(raw), humidity_centi_percent(raw)] for raw in raws]
    assert results["square_roots"] == [square_root(value) for value in (0, 1, 2, 3, 490000, 10**12 + 1, 6 * 10**11)]
    pairs = ((20, 500), (0, 1000), (569, 0), (570, 500), (20, None))
    assert results["corrections"] == [list(correct(*pair)) for pair in pairs]


def test_receiving_allocates_nothing(results: Any) -> None:
    """Frames are assembled with the heap locked."""
    assert results["ranger_frames_locked"] >= 8
    assert results["mass_frames_locked"] >= 3


def test_fixtures_run_and_stop(results: Any) -> None:
    """The bin gives good records and the air station its warm-up record, in real time, and both end when cancelled."""
    records = results["bin"]["records"]
    assert records[0] == [2, 0, [706, 35, 250, 0], False]
    assert len(records) == 2
    assert results["air"]["records"] == [[3, 3, [None, None, None, None, 250, 500, 0, 0], False]]
    assert results["bin"]["lines"] == results["air"]["lines"] == []
