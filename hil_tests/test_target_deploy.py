"""Deployment by a technician's hand: mpremote's transport, compiled files, only what changed; and a console as boards have it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.console import ConsoleError, DeviceError
from bench.rom_image import ROM_FOLDER
from bench.targets.target import Device, Setup, Target
from lamppost_protocol.kinds import NODE as NODE_KIND
from street.accounts import check_numbers
from street.deploy import install
from street.node_device import NodeDevice
from street.street_node import NodeSpec
from street.town import Town

NODE = 0xD1
COUNTING = b"import time\nprint('main runs')\nwhile True:\n    time.sleep_ms(10)\n"


@pytest.fixture
def device(target: Target, tmp_path: Path) -> Iterator[Device]:
    """A blank device with power."""
    made = target.device(Setup(tmp_path))
    made.start()
    yield made
    made.close()


@pytest.mark.needs("console", "files")
def test_only_what_changed_is_written(target: Target, device: Device) -> None:
    """A second installation writes nothing; one octet changed writes one file; folders are made; cut off anywhere, the next one mends."""
    files = {"/lib/room/a.py": b"A = 1\n" * 300, "/lib/room/deep/b.bin": bytes(range(256)) * 9, "/c.txt": b""}
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        assert install(repl, files) == list(files)
        assert install(repl, files) == []
        files["/lib/room/a.py"] = files["/lib/room/a.py"][:-2] + b"2\n"
        repl.exec("with open('/lib/room/deep/b.bin', 'wb') as file:\n    file.write(b'half')")
        assert install(repl, files) == ["/lib/room/a.py", "/lib/room/deep/b.bin"]
        assert repl.exec("from room import a\nprint(a.A)") == "2\n"
        assert bytes(repl.transport.fs_readfile("/lib/room/deep/b.bin")) == files["/lib/room/deep/b.bin"]


@pytest.mark.needs("console", "files", "rom", "power")
def test_rom_is_one_image_written_when_it_differs(target: Target, device: Device) -> None:
    """Files below /rom are there after a power cut; a second installation writes nothing, one octet changed or one block lost all of it."""
    files = {"/rom/room/a.py": b"A = 1\n", "/rom/big": bytes(range(256)) * 100, "/c.txt": b"c"}

    def installed() -> list[str]:
        with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
            return install(repl, files)

    def said(code: str) -> str:
        with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
            return repl.exec(code)

    assert installed() == ["/rom/", "/c.txt"]
    assert installed() == []
    files["/rom/room/a.py"] = b"A = 2\n"
    assert installed() == ["/rom/"]
    device.cut_power()
    device.start()
    assert said("from room import a\nprint(a.A, a.__file__, len(open('/rom/big', 'rb').read()))") == "2 /rom/room/a.py 25600\n"
    said("import vfs\nvfs.rom_ioctl(2, 0).ioctl(6, 0)")
    assert installed() == ["/rom/"]
    assert said("from room import a\nprint(a.A)") == "2\n"


@pytest.mark.needs("console", "files", "line", "models", "reset", "rom")
def test_a_rotten_table_in_rom_is_not_used(target_town: Callable[..., Town]) -> None:
    """A generator's table that was deployed half: the node signs with the one from its enrolment."""
    street = target_town(NodeSpec(NODE), is_prepared=False)
    street.add_gateway().start()
    node = street.nodes[NODE]
    device = node.program
    assert isinstance(device, NodeDevice)
    table = device.image_files["/rom/tables/generator.tbl"]
    device.image_files["/rom/tables/generator.tbl"] = table[:4096] + b"\xff" * 4096
    node.start()
    street.wait_until(lambda: node.values(NODE_KIND), "health record of a node with a rotten table")


@pytest.mark.needs("console", "files")
def test_whatever_runs_can_be_interrupted(target: Target, device: Device) -> None:
    """A busy loop, a sleep, a coroutine and main.py each give way to the raw REPL, softly reset or not."""
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        install(repl, {"/main.py": COUNTING})
    for code in (
        "while True:\n    pass",
        "import time\ntime.sleep(1000)",
        "import asyncio\nasync def run():\n    while True:\n        await asyncio.sleep(0.01)\nasyncio.run(run())",
    ):
        with device.console.raw_repl(soft_reset=False, deadline_s=target.deadline_s()) as repl:
            repl.run(code)
        with device.console.raw_repl(soft_reset=False, deadline_s=target.deadline_s()) as repl:
            assert repl.exec("print(6 * 7)") == "42\n"
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        assert repl.exec("print('main_has_run' in globals())") == "False\n"


@pytest.mark.needs("console", "files", "power", "flash")
def test_a_rename_replaces_and_outlives_the_power_cut(target: Target, device: Device) -> None:
    """What everything durable relies on: written beside, renamed over, there after the cut; by absolute and by relative path."""
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        install(repl, {"/state/a": b"old", "/state/b": b"new", "/c": b"old", "/d": b"new"})
        repl.exec("import os\nos.rename('/state/b', '/state/a')\nos.rename('d', 'c')")
    device.cut_power()
    device.start()
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        assert repl.exec("import os\nprint(open('/state/a').read(), open('/c').read(), os.listdir('/state'))") == "new new ['a']\n"


@pytest.mark.needs("console", "files", "power", "flash")
def test_boot_order(target: Target, device: Device) -> None:
    """With power come boot.py and main.py, in this order; a tool's soft reset runs boot.py alone. Files outlive the power cut."""
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        install(repl, {"/boot.py": b"print('boot runs')\n", "/main.py": COUNTING})
    mark = device.console.mark()
    device.cut_power()
    device.start()
    device.console.expect("main runs", mark, target.deadline_s())
    assert device.console.said(mark).index("boot runs") < device.console.said(mark).index("main runs")
    mark = device.console.mark()
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        repl.exec("pass")
    assert "boot runs" in device.console.said(mark)
    assert "main runs" not in device.console.said(mark)


@pytest.mark.needs("console")
def test_a_failure_tells_what_a_person_needs(target: Target, device: Device) -> None:
    """What was expected, what was said last, where the log is, which image ran; and the device's own traceback."""
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        with pytest.raises(DeviceError) as failed:
            repl.exec("print('before')\n{}['key']")
        assert "KeyError" in failed.value.traceback
    with pytest.raises(ConsoleError) as missed:
        device.console.expect("never said", deadline_s=0.05)
    for part in ("'never said'", "last said: ", "before", str(device.console.log_path), target.image()):
        assert part in str(missed.value)
    assert "before" in device.console.log_path.read_text(errors="replace")


@pytest.mark.needs("console", "files")
def test_the_mpremote_command_itself(target: Target, device: Device) -> None:
    """The console is an ordinary port to `mpremote connect`: what a technician types works."""
    with device.console.lent() as path:
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", path, "exec", "print('by hand', 6 * 7)"],
            capture_output=True,
            text=True,
            timeout=target.deadline_s(),
            check=False,
        )
    assert done.stdout.split() == ["by", "hand", "42"], done.stderr


@pytest.mark.needs("console", "files", "line", "models", "reset")
def test_a_node_deployed_by_hand_reports_and_is_updated(target: Target, target_town: Callable[..., Town]) -> None:
    """The whole image goes in through the transport, the node reports; an update while it runs writes the one file that changed,
    or the ROMFS image it is part of."""
    street = target_town(NodeSpec(NODE), is_prepared=False)
    street.add_gateway().start()
    street.serve_time()
    node = street.nodes[NODE]
    began_s = time.monotonic()
    node.start()
    print(f"{target.name}: deployed in {time.monotonic() - began_s:.1f} s")
    street.wait_until(lambda: node.values(NODE_KIND), "health record of a node that was deployed by hand")
    device = node.program
    assert isinstance(device, NodeDevice)
    assert device.update() == []
    changed = next(path for path in device.image_files if path.endswith("/lamppost_node/refusal.mpy"))
    device.image_files[changed] += b"\x00"
    assert device.update() == [ROM_FOLDER if changed.startswith(ROM_FOLDER) else changed]
    said = len(node.hellos())
    device.reset()
    street.wait_until(lambda: len(node.hellos()) > said, "hello of the updated node")
    check_numbers(node)
