"""Each capability that a target claims, alone and at its smallest: a claim that does not hold fails here, by its name.

test_matrix.py sees to it that there is a test for each.
"""

import contextlib
import datetime
import os
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.deadline import wait_for
from bench.flash_chip import MODES
from bench.peripherals.client import Bench
from bench.pseudo_terminal import TerminalPort
from bench.targets.target import MODELS, Device, Setup, Target, VirtualClock
from street.deploy import install

EPOCH_UNIX = 946_684_800
"""Boards count from 2000."""
DIM = """
import machine
lamp = machine.PWM(machine.Pin(25), freq=1000, duty_u16=19661)
relay = machine.Pin(26, machine.Pin.OUT, value=0)
"""
ECHO = """
import machine, time
line = machine.UART(1, 115200, tx=17, rx=16)
line.write(b"up")
while not line.any():
    time.sleep_ms(1)
print("heard", line.read())
"""
AN_HOUR = b"""
import time
began_ms = time.ticks_ms()
time.sleep(3600)
print("an hour", time.ticks_diff(time.ticks_ms(), began_ms), time.time(), time.ticks_us())
"""


@pytest.fixture
def models(target: Target, tmp_path: Path) -> Iterator[Bench | None]:
    """The models of a lamp, where the target reaches any; its `machine` then needs them."""
    if MODELS not in target.capabilities:
        yield None
        return
    with contextlib.closing(Bench(tmp_path, "lamp:lamp")) as bench:
        yield bench


@pytest.fixture
def make(target: Target, tmp_path: Path, models: Bench | None) -> Iterator[Callable[..., Device]]:
    """Makes devices with power; they end with the test."""
    with ExitStack() as stack:

        def make_one(name: str = "device", **setup: Any) -> Device:
            setup.setdefault("exchange", models.folder / "lamp" if models else None)
            device = target.device(Setup(tmp_path / name, name, **setup))
            stack.callback(device.close)
            device.start()
            return device

        yield make_one


def ask(target: Target, device: Device, code: str) -> str:
    with device.console.raw_repl(soft_reset=False, deadline_s=target.deadline_s()) as repl:
        return repl.exec(code, target.deadline_s()).strip()


@pytest.mark.needs("console")
def test_console(target: Target, make: Callable[..., Device]) -> None:
    """Code goes in, what it prints comes out."""
    assert ask(target, make(), "print(6 * 7)") == "42"


@pytest.mark.needs("console", "files")
def test_files(target: Target, make: Callable[..., Device]) -> None:
    """A file written by mpremote's transport reads the same."""
    with make().console.raw_repl(deadline_s=target.deadline_s()) as repl:
        repl.transport.fs_writefile("/written", bytes(range(256)))
        assert bytes(repl.transport.fs_readfile("/written")) == bytes(range(256))


@pytest.mark.needs("console", "files", "flash")
def test_flash(target: Target, make: Callable[..., Device]) -> None:
    """A file is there after the power was gone (a board that always has it: after its reset)."""
    device = make()
    ask(target, device, "with open('/kept', 'w') as file:\n    file.write('kept')")
    device.stop()
    device.start()
    assert ask(target, device, "print(open('/kept').read())") == "kept"


@pytest.mark.needs("console", "line")
def test_line(target: Target, make: Callable[..., Device]) -> None:
    """Octets out of UART 1 and into it."""
    line = TerminalPort()
    device = make(line=line.far_path)
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        mark = device.console.mark()
        repl.run(ECHO)
    assert select.select([line], [], [], target.deadline_s())[0]
    heard = line.read()
    while heard != b"up":
        assert select.select([line], [], [], target.deadline_s())[0], heard
        heard += line.read()
    assert line.write(b"down") == 4
    device.console.expect("heard b'd", mark, target.deadline_s())
    device.stop()
    line.end()


@pytest.mark.needs("console", "power")
def test_power(target: Target, make: Callable[..., Device]) -> None:
    """Cut in the middle of a loop: nothing runs, and after the next start nothing of it is left in memory."""
    device = make()
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        mark = device.console.mark()
        repl.run("here = 1\nprint('loops')\nwhile True:\n    pass")
    device.console.expect("loops", mark, target.deadline_s())
    device.cut_power()
    assert not device.is_running
    device.start()
    assert device.is_running
    assert ask(target, device, "print('here' in globals())") == "False"


@pytest.mark.needs("console", "reset")
def test_reset(target: Target, make: Callable[..., Device]) -> None:
    """By its program and by its watchdog it comes up again, and knows which it was."""
    device = make()
    for code, cause in (("machine.reset()", "HARD_RESET"), ("machine.WDT(timeout=1000)\nwhile True:\n    pass", "WDT_RESET")):
        with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
            mark = device.console.mark()
            repl.run(f"import machine\n{code}")
        device.console.expect(">>> ", mark, target.deadline_s())
        assert ask(target, device, f"import machine\nprint(machine.reset_cause() == machine.{cause})") == "True", cause


@pytest.mark.needs("console", "deep_sleep")
def test_deep_sleep(target: Target, make: Callable[..., Device]) -> None:
    """It comes up again when its time is over, knows why, has its RTC memory, and no watchdog bit it meanwhile."""
    device = make()
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        mark = device.console.mark()
        repl.run("import machine\nmachine.RTC().memory(b'kept')\nmachine.WDT(timeout=500)\nmachine.deepsleep(1200)")
    device.console.expect(">>> ", mark, target.deadline_s())
    assert ask(target, device, "import machine\nprint(machine.reset_cause() == machine.DEEPSLEEP_RESET)") == "True"
    assert ask(target, device, "import machine\nprint(machine.RTC().memory())") == "b'kept'"


@pytest.mark.needs("console", "models")
def test_models(target: Target, make: Callable[..., Device], models: Bench) -> None:
    """The model of the lamp is as bright as the pin says."""
    ask(target, make(), DIM)
    assert models.node("lamp")["lamp"]["level_permille"] == 300


@pytest.mark.needs("console", "rom")
def test_rom(target: Target, make: Callable[..., Device]) -> None:
    """What is installed below /rom is imported from there after the next start."""
    device = make()
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        assert install(repl, {"/rom/in_rom.py": b"VALUE = 42"}) == ["/rom/"]
    device.stop()
    device.start()
    assert ask(target, device, "import in_rom\nprint(in_rom.VALUE, in_rom.__file__)") == "42 /rom/in_rom.py"


@pytest.mark.needs("console", "prepare")
def test_prepare(target: Target, make: Callable[..., Device]) -> None:
    """A main.py that was there before the first start runs."""
    make(files={"/main.py": b"print('was there')\n"}).console.expect("was there", deadline_s=target.deadline_s())


@pytest.mark.needs("console", "processes")
def test_processes(target: Target, make: Callable[..., Device]) -> None:
    """Several at once, each a process of this machine that ends with its device."""
    devices = [make(name, exchange=None) for name in ("a", "b", "c")]
    processes = [device.process_id for device in devices]
    assert len(set(processes)) == 3
    for device, process in zip(devices, processes, strict=True):
        assert ask(target, device, "print('runs')") == "runs"
        assert process is not None
        os.kill(process, 0)
        device.stop()
        wait_for(lambda process=process: not Path(f"/proc/{process}").exists(), f"end of {process}")


@pytest.mark.needs("console", "prepare", "virtual_time")
def test_virtual_time(target: Target, make: Callable[..., Device]) -> None:
    """An hour passes at once, from the start that was given, and to the microsecond the same again."""
    start = datetime.datetime(2027, 3, 15, 20, tzinfo=datetime.UTC)
    clock = VirtualClock(start=start.strftime("%Y-%m-%dT%H:%M:%S"))
    seen = []
    for name in ("first", "second"):
        device = make(name, exchange=None, clock=clock, files={"/main.py": AN_HOUR})
        device.console.expect("an hour", deadline_s=target.deadline_s())
        device.console.expect("\n", device.console.said().index("an hour"), target.deadline_s())
        seen.append(device.console.said().partition("an hour ")[2].splitlines()[0].split())
        device.stop()
    assert seen[0] == seen[1]
    assert 3_600_000 <= int(seen[0][0]) < 3_601_000
    assert 3600 <= int(seen[0][1]) + EPOCH_UNIX - start.timestamp() <= 3600 + 2


@pytest.mark.needs("console", "instruction_count")
def test_instruction_count(target: Target, make: Callable[..., Device]) -> None:
    """A loop costs instructions where a clock counts them; where none does there is no count, and not the wrong one."""
    device = make(exchange=None, clock=VirtualClock(skips_waits=False))
    before = device.instructions()
    ask(target, device, "for _ in range(10000):\n    pass")
    assert device.instructions() - before > 100_000
    with pytest.raises(ValueError, match="clock"):
        make("without", exchange=None).instructions()


@pytest.mark.needs("console", "cuts")
def test_cuts(target: Target, make: Callable[..., Device]) -> None:
    """Power goes in the operation asked for, and only then; what is left of the flash can be read."""
    device = make(exchange=None)
    write = "with open('/cut', 'w') as file:\n    file.write('x' * 5000)\nprint('written')"
    for mode in MODES:
        before = device.flash_operations()
        assert ask(target, device, write) == "written"
        operations = device.flash_operations() - before
        assert operations > 5000 // 256
        assert b"x" * 256 in device.flash_image.read_bytes()
        device.cut_after(operations // 2, mode)
        with device.console.raw_repl(soft_reset=False, deadline_s=target.deadline_s()) as repl:
            mark = device.console.mark()
            repl.run(write)
        assert device.ended(target.deadline_s())
        assert not device.is_running
        assert "written" not in device.console.said(mark)
        device.start()


@pytest.mark.needs("console", "bench")
def test_bench(target: Target, make: Callable[..., Device]) -> None:
    """The module is there and knows the board's starts."""
    assert ask(target, make(exchange=None), "import bench\nprint(bench.boots())") == "1"
