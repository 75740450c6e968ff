"""What a bench image must do before anything is tested on it, on each emulated board: REPL, clocks, flash, resets, lines, power cuts."""

import ast
import contextlib
import os
import random
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.console import ConsoleError, DeviceError, Repl
from bench.deadline import DEADLINE_S, Deadline
from bench.pseudo_terminal import TerminalPort
from bench.rom_image import ROM_FOLDER
from bench.targets.qemu import CUT_STATUS, Qemu, QemuDevice
from bench.targets.target import Setup, Target, VirtualClock
from mpremote.transport import TransportError
from street.deploy import install
from street.node_device import compile_for_device

pytestmark = pytest.mark.needs("bench")


@pytest.fixture
def make_board(target: Target, tmp_path: Path) -> Iterator[Callable[..., QemuDevice]]:
    """Makes a started board with a fresh flash; it ends with the test."""
    assert isinstance(target, Qemu)
    with ExitStack() as stack:

        def make(*words: str, **setup: Any) -> QemuDevice:
            board = target.device(Setup(tmp_path / f"{time.monotonic_ns()}", **setup), words)
            stack.callback(board.close)
            board.start()
            return board

        yield make


@pytest.fixture
def board(make_board: Callable[..., QemuDevice]) -> QemuDevice:
    """A started board."""
    return make_board()


def deploy_rom(board: QemuDevice, files: dict[str, bytes]) -> None:
    """As `mpremote romfs deploy` does with a folder of these files; mounted by the next reset."""
    with board.console.raw_repl() as repl:
        assert install(repl, {f"{ROM_FOLDER}{name}": content for name, content in files.items()}) == [ROM_FOLDER]


def power_cycle(board: QemuDevice) -> None:
    """SIGKILL and start again."""
    board.cut_power()
    board.start()


def evaluate(repl: Repl, expression: str) -> Any:
    """The value of `expression` on the board."""
    return ast.literal_eval(repl.exec(f"print(repr({expression}))"))


def ask(board: QemuDevice, expression: str, before: str = "pass") -> Any:
    """The value of `expression` after a soft reset and `before`."""
    with board.console.raw_repl() as repl:
        repl.exec(before)
        return evaluate(repl, expression)


def run_counted(make_board: Callable[..., QemuDevice], code: str, expression: str) -> Any:
    """The value of `expression` after `code`, as main.py in time by instructions: how busy this machine is does not matter."""
    ending = f"import bench\nprint('value', repr(({expression})))\nbench.exit(0)\n"
    board = make_board(clock=VirtualClock(), files={"/main.py": (code + ending).encode()})
    assert board.status(DEADLINE_S) == 0
    return ast.literal_eval(board.console.said().partition("value ")[2].splitlines()[0])


def reset_by(board: QemuDevice, code: str) -> None:
    """Run `code`, which must reset the board, and wait until it has come up."""
    with board.console.raw_repl(soft_reset=False) as repl:
        mark = board.console.mark()
        repl.run(code)
    board.console.expect("MicroPython v", mark)


def cause(board: QemuDevice) -> tuple[str, int]:
    """What the board says of its last reset, and how often it has started since power came on."""
    with board.console.raw_repl(soft_reset=False) as repl:
        repl.exec("import bench, machine\nnames = ('PWRON_RESET', 'HARD_RESET', 'WDT_RESET', 'SOFT_RESET')")
        found: tuple[str, int] = evaluate(
            repl, "([name for name in names if getattr(machine, name) == machine.reset_cause()][0], bench.boots())"
        )
        return found


def test_repl_answers_and_names_its_machine(board: QemuDevice, target: Target) -> None:
    """The raw REPL runs code, and `sys` and `os` say which board it is."""
    with board.console.raw_repl() as repl:
        repl.exec("import os, sys")
        assert evaluate(repl, "6 * 7") == 42
        assert evaluate(repl, "sys.platform") == "qemu"
        machines = {"qemu-rv32": "virt with rv32imac", "qemu-arm": "mps2-an385 with Cortex-M3"}
        assert evaluate(repl, "os.uname().machine") == machines[target.name]


def test_floats_have_32_bits(board: QemuDevice) -> None:
    """Floats are on and as narrow as an ESP32's, so that a sum that needs 64 bits fails here as it would there."""
    with board.console.raw_repl() as repl:
        repl.exec("import math")
        assert evaluate(repl, "0.5 + 0.25") == 0.75
        assert evaluate(repl, "1.0 + 1e-8 == 1.0")
        assert evaluate(repl, "math.sin(1.0)") == pytest.approx(0.841471, abs=1e-6)


def test_sha256_known_answer(board: QemuDevice) -> None:
    """hashlib.sha256 gives FIPS 180-4's answer for `abc`."""
    digest = ask(board, "hashlib.sha256(b'abc').digest()", "import hashlib")
    assert digest.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_heap_is_an_esp32s_unless_told_otherwise(make_board: Callable[..., QemuDevice]) -> None:
    """By default at most 110 KiB are usable, and a setup's heap is what it says."""
    usable = "gc.mem_free() + gc.mem_alloc()"
    assert 105 * 1024 < ask(make_board(), usable, "import gc") <= 110 * 1024
    assert 380_000 < ask(make_board(heap_bytes=400_000), usable, "import gc") <= 400_000


def test_time_passes_at_the_hosts_rate(board: QemuDevice) -> None:
    """Two readings of ticks_us lie as far apart as the moments at which they can have been made."""
    with board.console.raw_repl() as repl:
        repl.exec("import time")
        before_first = time.monotonic()
        first_us = evaluate(repl, "time.ticks_us()")
        after_first = time.monotonic()
        repl.exec("time.sleep_ms(700)")
        before_second = time.monotonic()
        passed_us = evaluate(repl, f"time.ticks_diff(time.ticks_us(), {first_us})")
        after_second = time.monotonic()
    assert passed_us >= 700_000
    assert (before_second - after_first) * 0.999 <= passed_us / 1e6 <= (after_second - before_first) * 1.001


def test_wall_clock_is_the_hosts_since_2000(board: QemuDevice) -> None:
    """time.time() counts from 2000, as on an ESP32, and agrees with the host to two seconds."""
    with board.console.raw_repl() as repl:
        repl.exec("import time")
        before = time.time()
        seconds = evaluate(repl, "time.time()")
        assert evaluate(repl, "time.gmtime(0)[0]") == 2000
        assert before - 2 <= seconds + 946684800 <= time.time() + 2


def test_two_asyncio_tasks_sleep_side_by_side(make_board: Callable[..., QemuDevice]) -> None:
    """Sleeps of 100 and 150 ms together take 150 ms of the board's own time."""
    done, passed_ms = run_counted(
        make_board,
        "import asyncio, time\n"
        "done = []\n"
        "async def task(ms):\n"
        "    await asyncio.sleep_ms(ms)\n"
        "    done.append(ms)\n"
        "async def main():\n"
        "    await asyncio.gather(task(150), task(100))\n"
        "start = time.ticks_ms()\n"
        "asyncio.run(main())\n",
        "done, time.ticks_diff(time.ticks_ms(), start)",
    )
    assert done == [100, 150]
    assert 150 <= passed_ms < 170


def test_ctrl_c_ends_a_busy_loop(board: QemuDevice) -> None:
    """A loop that never waits is interrupted from the console, by an exception that says so."""
    with board.console.raw_repl() as repl:
        repl.transport.exec_raw_no_follow("print('in')\nwhile True: pass")
        repl.transport.read_until(1, b"in\r\n")
        repl.transport.serial.write(b"\x03")
        _, error = repl.transport.follow(timeout=20)
    assert b"KeyboardInterrupt" in error


def test_files_survive_sigkill(board: QemuDevice) -> None:
    """What was written and closed is there after QEMU was killed."""
    with board.console.raw_repl() as repl:
        repl.exec("with open('kept', 'w') as f: f.write('x' * 5000)")
        board.cut_power()
    board.start()
    assert ask(board, "open('kept').read() == 'x' * 5000")


def test_reset_is_real_and_names_its_cause(board: QemuDevice) -> None:
    """After machine.reset() variables are gone; the causes tell power-up, reset and soft reset apart."""
    assert cause(board) == ("PWRON_RESET", 1)
    reset_by(board, "import machine\nmachine.reset()")
    with board.console.raw_repl(soft_reset=False) as repl:
        assert evaluate(repl, "'machine' in globals()") is False
    assert cause(board) == ("HARD_RESET", 2)
    with board.console.raw_repl():
        pass
    assert cause(board) == ("SOFT_RESET", 2)


@pytest.mark.parametrize("loop", ["while True: pass", "import time; time.sleep(1000)", "import time; time.sleep_us(1000000000)"])
def test_watchdog_bites_whatever_hangs(board: QemuDevice, loop: str) -> None:
    """A watchdog that is not fed resets the board and is named as the cause."""
    reset_by(board, f"import machine\nmachine.WDT(timeout=300)\n{loop}")
    assert cause(board)[0] == "WDT_RESET"


def test_fed_watchdog_does_not_bite(make_board: Callable[..., QemuDevice]) -> None:
    """Fed every 50 ms of the board's own time, a watchdog of 200 ms stays quiet for a second."""
    feeding = "import machine, time\nwatchdog = machine.WDT(timeout=200)\nfor _ in range(20):\n    time.sleep_ms(50)\n    watchdog.feed()\n"
    assert run_counted(make_board, feeding, "bench.boots()") == 1


def test_rtc_memory_survives_reset_and_not_power(board: QemuDevice) -> None:
    """machine.RTC().memory() is kept over a reset and empty after a power cut."""
    memory = "machine.RTC().memory()"
    reset_by(board, "import machine\nmachine.RTC().memory(b'three boots')\nmachine.reset()")
    assert ask(board, memory, "import machine") == b"three boots"
    power_cycle(board)
    assert ask(board, memory, "import machine") == b""


def test_uart_carries_ten_kilobytes_both_ways(make_board: Callable[..., QemuDevice], seed: int) -> None:
    """10,240 random octets come back from UART(1) through asyncio's streams, each one and in order."""
    sent = random.Random(seed).randbytes(10_240)
    line = TerminalPort()
    with make_board(line=line.far_path).console.raw_repl() as repl:
        repl.transport.exec_raw_no_follow(
            "import asyncio, machine\n"
            "async def echo(left):\n"
            "    u = machine.UART(1, 115200, tx=1, rx=2, rxbuf=2048, timeout=0)\n"
            "    r, w = asyncio.StreamReader(u), asyncio.StreamWriter(u, {})\n"
            "    print('open')\n"
            "    while left:\n"
            "        data = await r.read(256)\n"
            "        left -= len(data)\n"
            "        w.write(data)\n"
            "        await w.drain()\n"
            f"asyncio.run(echo({len(sent)}))\n"
        )
        repl.transport.read_until(1, b"open\r\n")
        got, left = bytearray(), sent
        deadline = Deadline()
        while len(got) < len(sent) and not deadline.is_over:
            readable, writable, _ = select.select([line], [line] if left else [], [], deadline.left_s())
            if readable:
                got += line.read()
            if writable:
                left = left[line.write(left) :]
        assert bytes(got) == sent
        assert repl.transport.follow(timeout=30) == (b"", b"")
    line.end()


def test_ask_waits_for_the_hosts_answer(make_board: Callable[..., QemuDevice], tmp_path: Path) -> None:
    """bench.ask() carries a line to a host program and its answer back, and unique_id is what the host says."""
    request, answer = tmp_path / "request", tmp_path / "answer"
    os.mkfifo(request)
    os.mkfifo(answer)

    def shout() -> None:
        with request.open() as questions, answer.open("w", buffering=1) as answers:
            for _ in range(3):
                answers.write(questions.readline().upper())

    model = threading.Thread(target=shout, daemon=True)
    model.start()
    with make_board("id=0a0b0c0d", f"exchange={tmp_path}").console.raw_repl() as repl:
        repl.exec("import bench, machine")
        assert evaluate(repl, "[bench.ask('lux %d' % n) for n in range(3)]") == ["LUX 0", "LUX 1", "LUX 2"]
        assert evaluate(repl, "machine.unique_id()") == bytes.fromhex("0a0b0c0d")
    model.join(30)
    assert not model.is_alive()


@pytest.mark.needs("bench", "instruction_count")
def test_instructions_are_counted_the_same_each_time(make_board: Callable[..., QemuDevice]) -> None:
    """bench.instret() counts what code costs: the same twice, and twice as much for twice the work."""
    with make_board(clock=VirtualClock(skips_waits=False)).console.raw_repl() as repl:
        repl.exec(
            "import bench, gc\n"
            "def cost(n):\n"
            "    gc.collect()\n"
            "    start = bench.instret()\n"
            "    for _ in range(n): pass\n"
            "    return bench.instret() - start\n"
        )
        once, again, double = evaluate(repl, "[cost(1000), cost(1000), cost(2000)]")
    assert 10_000 < once < 1_000_000
    assert abs(once - again) < once * 0.05  # one poll of the serial lines more or less
    assert 1.9 < double / once < 2.1


@pytest.mark.needs("bench", "instruction_count")
def test_host_ticks_are_never_called_instructions(board: QemuDevice) -> None:
    """Without a counted clock there is no instruction count: the board says so, and so does the bench before it asks."""
    with board.console.raw_repl() as repl, pytest.raises(DeviceError, match="ENODEV"):
        repl.exec("import bench, errno\nbench.instret()")
    with pytest.raises(ValueError, match="clock"):
        board.instructions()


@pytest.mark.parametrize("mode", ["NONE", "HALF", "WHOLE"])
def test_power_cut_in_each_flash_operation_leaves_old_or_new(board: QemuDevice, mode: str) -> None:
    """A record rewritten through a temporary file and rename is the old or the new one, wherever power fails in between."""
    old, new = "a" * 900, "b" * 1100
    rewrite = f"with open('r.new', 'w') as f: f.write({new!r})\nos.rename('r.new', 'r')\nbench.exit(0)"
    seen = []
    for k in range(1, 100):
        with board.console.raw_repl() as repl:
            repl.exec(f"import bench, os\nwith open('r', 'w') as f: f.write({old!r})\nbench.cut_after({k}, bench.{mode})")
            repl.run(rewrite)
        status = board.status(DEADLINE_S)
        board.start()
        found = ask(board, "open('r').read()")
        assert found in (old, new), f"cut {mode} in operation {k}: {found[:40]!r}..."
        if status == 0:
            assert found == new
            break
        assert status == CUT_STATUS
        seen.append(found)
    assert status == 0
    assert len(seen) > 3
    assert seen[0] == old


@pytest.mark.parametrize(("mode", "programmed", "erased"), [("NONE", 0, 0), ("HALF", 128, 2048), ("WHOLE", 256, 4096)])
def test_cut_operation_is_on_the_flash_as_far_as_it_says(board: QemuDevice, mode: str, programmed: int, erased: int) -> None:
    """Nothing, half or all of a page, or of a block's erase, is what the host finds in the flash after the cut."""
    block = 100
    prepare = (
        "import bench, vfs\n"
        "vfs.umount('/')\n"
        "flash = bench.Flash(*[word[6:] for word in bench.args().split() if word.startswith('flash=')])\n"
        f"flash.ioctl(6, {block})\n"
    )

    def content_after(last: str) -> bytes:
        with board.console.raw_repl() as repl:
            repl.exec(prepare)
            repl.run(last)
        assert board.status(DEADLINE_S) == CUT_STATUS
        with board.flash.open("rb") as flash:
            flash.seek(block * 4096)
            return flash.read(4096)

    cut = f"bench.cut_after(1, bench.{mode})\n"
    found = content_after(f"{cut}flash.writeblocks({block}, bytes(512), 0)")
    assert found == bytes(programmed) + b"\xff" * (4096 - programmed)
    board.start()
    found = content_after(f"flash.writeblocks({block}, bytes(4096), 0)\n{cut}flash.ioctl(6, {block})")
    assert found == b"\xff" * erased + bytes(4096 - erased)


def test_damaged_flash_is_named_and_never_formatted(board: QemuDevice) -> None:
    """A file system that does not mount stays as it is, for somebody to look at, and the REPL still answers."""
    assert ask(board, "6 * 7") == 42  # it has made its file system
    board.cut_power()
    with board.flash.open("r+b") as flash:
        flash.write(b"damage" * 1500)
        flash.seek(0)
        before = flash.read(2 << 20)
    mark = board.console.mark()
    board.start()
    board.console.expect("flash not mounted:", mark)
    assert ask(board, "6 * 7") == 42
    with board.flash.open("rb") as flash:
        assert flash.read(2 << 20) == before


def test_rom_deployed_by_mpremote_survives_reset_and_power_cut(board: QemuDevice) -> None:
    """What `mpremote romfs deploy` wrote is importable before main.py runs, found before /lib, and kept; the file system beside it too."""
    ask(board, "0", "import os\nos.mkdir('/lib')\nfor name in ('/lib/a.py', '/kept'):\n    with open(name, 'w') as f: f.write('A = 1')")
    deploy_rom(board, {"a.py": b"A = 2", "lib/b.py": b"B = 3", "fill": random.Random(1).randbytes(40_000)})
    reset_by(board, "import machine\nmachine.reset()")
    look = "import a, b, sys\nassert (a.A, b.B, open('/kept').read()) == (2, 3, 'A = 1'), sys.path\nprint('all there')\n"
    ask(board, "0", f"with open('/main.py', 'w') as f: f.write({look!r})")
    mark = board.console.mark()
    power_cycle(board)
    board.console.expect("all there\r\n", mark)
    assert ask(board, "sys.path", "import sys") == ["", ".frozen", "/rom", "/rom/lib", "/lib"]
    assert ask(board, "open('/rom/fill', 'rb').read()[-1000:]") == random.Random(1).randbytes(40_000)[-1000:]


def test_bytecode_and_data_in_rom_stay_out_of_the_heap(board: QemuDevice, tmp_path: Path) -> None:
    """A module of 12 kB costs that much heap from the file system and next to nothing from ROM; so does a file as a buffer."""
    lines = "".join(f"    x = f(x, {n}, {n + 1000}, 'one text')\n" for n in range(1000))
    (tmp_path / "big.py").write_text(f"def big(f):\n    x = 1\n{lines}    return x\n")
    bytecode = compile_for_device(tmp_path, [tmp_path / "big.py"])["big.mpy"]
    assert len(bytecode) > 12_000
    table = random.Random(2).randbytes(8192)
    deploy_rom(board, {"in_rom.mpy": bytecode, "table": table})
    reset_by(board, "import machine\nmachine.reset()")
    with board.console.raw_repl() as repl:
        repl.transport.fs_writefile("/in_ram.mpy", bytecode)
        repl.exec(
            "import gc\n"
            "def cost(name):\n"
            "    gc.collect()\n"
            "    before = gc.mem_alloc()\n"
            "    module = __import__(name)\n"
            "    gc.collect()\n"
            "    return gc.mem_alloc() - before, module.big(lambda x, a, b, text: x * a % (b + len(text)))\n"
        )
        (in_rom, result), (in_ram, same_result) = evaluate(repl, "cost('in_rom')"), evaluate(repl, "cost('in_ram')")
        print(f"{len(bytecode)} octets of bytecode: heap {in_rom} from ROM, {in_ram} from the file system")
        assert result == same_result
        assert in_ram > 12_000
        assert in_rom < 1024
        repl.exec("gc.collect()\nbefore = gc.mem_alloc()\ntable = memoryview(open('/rom/table', 'rb'))")
        assert evaluate(repl, "gc.mem_alloc() - before") < 512
        assert evaluate(repl, "bytes(table)") == table


def test_rom_cut_half_way_leaves_a_board_that_can_be_deployed_again(board: QemuDevice) -> None:
    """Power fails in the middle of a deployment: the REPL still answers, the file system is whole, the next deployment mends."""
    ask(board, "0", "with open('kept', 'w') as f: f.write('x' * 5000)")
    files = {"a.py": b"A = 2", "fill": random.Random(3).randbytes(40_000)}
    with board.console.raw_repl() as repl, contextlib.suppress(ConsoleError, TransportError, OSError):
        repl.exec("import bench\nbench.cut_after(20)")
        install(repl, {f"{ROM_FOLDER}{name}": content for name, content in files.items()})
    assert board.status(DEADLINE_S) == CUT_STATUS
    board.start()
    assert ask(board, "open('kept').read() == 'x' * 5000")
    deploy_rom(board, files)
    power_cycle(board)
    assert ask(board, "a.A", "import a") == 2
