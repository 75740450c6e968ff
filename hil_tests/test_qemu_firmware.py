"""What a bench image must do before anything is tested on it, on each emulated board: REPL, clocks, flash, resets, lines, power cuts."""

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.deadline import Deadline
from mpremote.transport import TransportExecError
from qemu.run import EMULATORS, IMAGES, Board

pytestmark = pytest.mark.qemu

CUT = 77
"""QEMU's exit status after `bench.cut_after`, by default."""


@pytest.fixture(params=sorted(EMULATORS))
def target(request: pytest.FixtureRequest) -> str:
    """Each target whose emulator and image are here."""
    name: str = request.param
    if shutil.which(EMULATORS[name]) is None:
        pytest.skip(f"no {EMULATORS[name]}: make deps")
    if not (IMAGES / name / "firmware.elf").exists():
        pytest.skip(f"no image for {name}: make qemu-firmware")
    return name


@pytest.fixture
def make_board(target: str, tmp_path: Path) -> Iterator[Callable[..., Board]]:
    """Makes a started board of `target`; it ends with the test."""
    with ExitStack() as stack:

        def make(*words: str, icount: str | None = None) -> Board:
            board = Board(target, tmp_path, words, icount)
            stack.callback(board.kill)
            board.start()
            return board

        yield make


@pytest.fixture
def board(make_board: Callable[..., Board]) -> Board:
    """A started board with a fresh flash."""
    return make_board()


def power_cycle(board: Board) -> None:
    """SIGKILL and start again."""
    board.kill()
    board.start()


def evaluate(board: Board, expression: str) -> Any:
    """The value of `expression` on the board, in the raw REPL it is already in."""
    assert board.console is not None
    return board.console.eval(expression)


def reset_by(board: Board, code: str) -> None:
    """Run `code`, which must reset the board, and come back to its raw REPL."""
    assert board.console is not None
    board.console.exec_raw_no_follow(code)
    banner = board.console.read_until(1, b"\r\n>>> ", timeout_overall=30)
    assert b"MicroPython v" in banner, f"no banner after {code!r}: {banner!r}"
    board.repl(soft_reset=False)


def test_repl_answers_and_names_its_machine(board: Board, target: str) -> None:
    """The raw REPL runs code, and `sys` and `os` say which board it is."""
    board.repl().exec("import os, sys")
    assert evaluate(board, "6 * 7") == 42
    assert evaluate(board, "sys.platform") == "qemu"
    assert evaluate(board, "os.uname().machine") == {"rv32": "virt with rv32imac", "arm": "mps2-an385 with Cortex-M3"}[target]


def test_floats_have_32_bits(board: Board) -> None:
    """Floats are on and as narrow as an ESP32's, so that a sum that needs 64 bits fails here as it would there."""
    board.repl().exec("import math")
    assert evaluate(board, "0.5 + 0.25") == 0.75
    assert evaluate(board, "1.0 + 1e-8 == 1.0")
    assert evaluate(board, "math.sin(1.0)") == pytest.approx(0.841471, abs=1e-6)


def test_sha256_known_answer(board: Board) -> None:
    """hashlib.sha256 gives FIPS 180-4's answer for `abc`."""
    board.repl().exec("import hashlib")
    digest = evaluate(board, "hashlib.sha256(b'abc').digest()")
    assert digest.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_heap_is_an_esp32s_unless_told_otherwise(make_board: Callable[..., Board]) -> None:
    """By default at most 110 KiB are usable, and `heap=` gives what it says."""
    board = make_board()
    board.repl().exec("import gc")
    assert 105 * 1024 < evaluate(board, "gc.mem_free() + gc.mem_alloc()") <= 110 * 1024
    board.kill()
    board = make_board("heap=400000")
    board.repl().exec("import gc")
    assert 380_000 < evaluate(board, "gc.mem_free() + gc.mem_alloc()") <= 400_000


def test_time_passes_at_the_hosts_rate(board: Board) -> None:
    """Two readings of ticks_us lie as far apart as the moments at which they can have been made."""
    board.repl().exec("import time")
    before_first = time.monotonic()
    first_us = evaluate(board, "time.ticks_us()")
    after_first = time.monotonic()
    assert board.console is not None
    board.console.exec("time.sleep_ms(700)")
    before_second = time.monotonic()
    passed_us = evaluate(board, f"time.ticks_diff(time.ticks_us(), {first_us})")
    after_second = time.monotonic()
    assert passed_us >= 700_000
    assert (before_second - after_first) * 0.999 <= passed_us / 1e6 <= (after_second - before_first) * 1.001


def test_wall_clock_is_the_hosts_since_2000(board: Board) -> None:
    """time.time() counts from 2000, as on an ESP32, and agrees with the host to two seconds."""
    board.repl().exec("import time")
    before = time.time()
    seconds = evaluate(board, "time.time()")
    assert evaluate(board, "time.gmtime(0)[0]") == 2000
    assert before - 2 <= seconds + 946684800 <= time.time() + 2


def test_two_asyncio_tasks_sleep_side_by_side(make_board: Callable[..., Board]) -> None:
    """Sleeps of 100 and 150 ms together take 150 ms of the board's own time, counted in instructions so that load does not matter."""
    repl = make_board(icount="shift=4,sleep=on").repl()
    repl.exec(
        "import asyncio, time\n"
        "done = []\n"
        "async def task(ms):\n"
        "    await asyncio.sleep_ms(ms)\n"
        "    done.append(ms)\n"
        "async def main():\n"
        "    await asyncio.gather(task(150), task(100))\n"
        "start = time.ticks_ms()\n"
        "asyncio.run(main())\n"
        "passed = time.ticks_diff(time.ticks_ms(), start)\n"
    )
    assert repl.eval("done") == [100, 150]
    assert 150 <= repl.eval("passed") < 170


def test_ctrl_c_ends_a_busy_loop(board: Board) -> None:
    """A loop that never waits is interrupted from the console."""
    repl = board.repl()
    repl.exec_raw_no_follow("print('in')\nwhile True: pass")
    repl.read_until(1, b"in\r\n")
    repl.serial.write(b"\x03")
    _, error = repl.follow(timeout=20)
    assert b"KeyboardInterrupt" in error


def test_boot_order_is_a_boards(board: Board) -> None:
    """boot.py, then main.py after power-up; boot.py alone when a tool enters the raw REPL."""
    repl = board.repl()
    repl.exec("for name in ('boot', 'main'):\n    with open(name + '.py', 'w') as f: f.write('print(%r)' % ('ran ' + name))")
    power_cycle(board)
    assert board.console is not None
    printed = board.console.read_until(1, b">>> ", timeout_overall=30)
    assert b"ran boot\r\nran main\r\nMicroPython" in printed
    board.console.serial.write(b"\x01\x04")
    printed = board.console.read_until(1, b"soft reboot\r\n", timeout_overall=30)
    printed = board.console.read_until(1, b"raw REPL; CTRL-B to exit\r\n", timeout_overall=30)
    assert b"ran boot" in printed
    assert b"ran main" not in printed


def test_files_survive_sigkill(board: Board) -> None:
    """What was written and closed is there after QEMU was killed."""
    board.repl().exec("with open('kept', 'w') as f: f.write('x' * 5000)")
    power_cycle(board)
    board.repl()
    assert evaluate(board, "open('kept').read() == 'x' * 5000")


def test_reset_is_real_and_names_its_cause(board: Board) -> None:
    """After machine.reset() variables are gone; the causes tell power-up, reset and soft reset apart."""
    board.repl(soft_reset=False).exec("import bench, machine")
    assert evaluate(board, "(machine.reset_cause() == machine.PWRON_RESET, bench.boots())") == (True, 1)
    reset_by(board, "machine.reset()")
    assert evaluate(board, "'machine' in globals()") is False
    assert board.console is not None
    board.console.exec("import bench, machine")
    assert evaluate(board, "(machine.reset_cause() == machine.HARD_RESET, bench.boots())") == (True, 2)
    board.console.exit_raw_repl()
    board.repl().exec("import bench, machine")
    assert evaluate(board, "(machine.reset_cause() == machine.SOFT_RESET, bench.boots())") == (True, 2)


@pytest.mark.parametrize("loop", ["while True: pass", "import time; time.sleep(1000)", "import time; time.sleep_us(1000000000)"])
def test_watchdog_bites_whatever_hangs(board: Board, loop: str) -> None:
    """A watchdog that is not fed resets the board and is named as the cause."""
    board.repl()
    reset_by(board, f"import machine\nmachine.WDT(timeout=300)\n{loop}")
    assert board.console is not None
    board.console.exec("import machine")
    assert evaluate(board, "machine.reset_cause() == machine.WDT_RESET")


def test_fed_watchdog_does_not_bite(make_board: Callable[..., Board]) -> None:
    """Fed every 50 ms of the board's own time, a watchdog of 200 ms stays quiet for a second."""
    repl = make_board(icount="shift=4,sleep=on").repl()
    repl.exec(
        "import bench, machine, time\n"
        "watchdog = machine.WDT(timeout=200)\n"
        "for _ in range(20):\n"
        "    time.sleep_ms(50)\n"
        "    watchdog.feed()\n"
        "machine.WDT(timeout=600000)\n"
    )
    assert repl.eval("bench.boots()") == 1


def test_rtc_memory_survives_reset_and_not_power(board: Board) -> None:
    """machine.RTC().memory() is kept over a reset and empty after a power cut."""
    board.repl().exec("import machine\nmachine.RTC().memory(b'three boots')")
    reset_by(board, "machine.reset()")
    assert board.console is not None
    board.console.exec("import machine")
    assert evaluate(board, "machine.RTC().memory()") == b"three boots"
    power_cycle(board)
    board.repl().exec("import machine")
    assert evaluate(board, "machine.RTC().memory()") == b""


def test_uart_carries_ten_kilobytes_both_ways(board: Board, seed: int) -> None:
    """10,240 random octets come back from UART(1) through asyncio's streams, each one and in order."""
    sent = random.Random(seed).randbytes(10_240)
    repl = board.repl()
    with board.line() as line:
        line.settimeout(30)
        repl.exec_raw_no_follow(
            "import asyncio, machine\n"
            "async def echo(left):\n"
            "    u = machine.UART(1, 115200, tx=1, rx=2, rxbuf=2048, timeout=0)\n"
            "    r, w = asyncio.StreamReader(u), asyncio.StreamWriter(u, {})\n"
            "    while left:\n"
            "        data = await r.read(256)\n"
            "        left -= len(data)\n"
            "        w.write(data)\n"
            "        await w.drain()\n"
            f"asyncio.run(echo({len(sent)}))\n"
        )
        sender = threading.Thread(target=line.sendall, args=(sent,))
        sender.start()
        got = bytearray()
        deadline = Deadline()
        while len(got) < len(sent) and not deadline.is_over:
            got += line.recv(4096)
        sender.join()
    assert bytes(got) == sent
    assert repl.follow(timeout=30) == (b"", b"")


def test_ask_waits_for_the_hosts_answer(make_board: Callable[..., Board], tmp_path: Path) -> None:
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
    repl = make_board(f"exchange={tmp_path}", "id=0a0b0c0d").repl()
    repl.exec("import bench, machine")
    assert repl.eval("[bench.ask('lux %d' % n) for n in range(3)]") == ["LUX 0", "LUX 1", "LUX 2"]
    assert repl.eval("machine.unique_id()") == bytes.fromhex("0a0b0c0d")
    model.join(30)
    assert not model.is_alive()


def test_instructions_are_counted_the_same_each_time(make_board: Callable[..., Board], target: str) -> None:
    """Under -icount bench.instret() counts what code costs: the same twice, and twice as much for twice the work."""
    if target != "rv32":
        pytest.skip(f"{target} has no instruction counter")
    repl = make_board(icount="shift=4,sleep=on").repl()
    repl.exec(
        "import bench, gc\n"
        "def cost(n):\n"
        "    gc.collect()\n"
        "    start = bench.instret()\n"
        "    for _ in range(n): pass\n"
        "    return bench.instret() - start\n"
    )
    once, again, double = repl.eval("[cost(1000), cost(1000), cost(2000)]")
    assert 10_000 < once < 1_000_000
    assert abs(once - again) < once * 0.05  # one poll of the serial lines more or less
    assert 1.9 < double / once < 2.1


def test_host_ticks_are_never_called_instructions(board: Board, target: str) -> None:
    """Without -icount there is no instruction count, and bench.instret() says so."""
    if target != "rv32":
        pytest.skip(f"{target} has no instruction counter")
    board.repl().exec("import bench, errno")
    assert board.console is not None
    with pytest.raises(TransportExecError, match="ENODEV"):
        board.console.exec("bench.instret()")


@pytest.mark.parametrize("mode", ["HALF", "WHOLE"])
def test_power_cut_in_each_flash_operation_leaves_old_or_new(board: Board, mode: str) -> None:
    """A record rewritten through a temporary file and rename is the old or the new one, wherever power fails in between."""
    old, new = "a" * 900, "b" * 1100
    rewrite = f"with open('r.new', 'w') as f: f.write({new!r})\nos.rename('r.new', 'r')\nbench.exit(0)"
    seen = []
    for k in range(1, 100):
        repl = board.repl()
        repl.exec(f"import bench, os\nwith open('r', 'w') as f: f.write({old!r})\nbench.cut_after({k}, bench.{mode})")
        repl.exec_raw_no_follow(rewrite)
        status = board.wait()
        board.start()
        found = board.repl().eval("open('r').read()")
        assert found in (old, new), f"cut {mode} in operation {k}: {found[:40]!r}..."
        if status == 0:
            assert found == new
            break
        assert status == CUT
        seen.append(found)
    assert status == 0
    assert len(seen) > 3
    assert seen[0] == old


@pytest.mark.parametrize(("mode", "programmed", "erased"), [("HALF", 128, 2048), ("WHOLE", 256, 4096)])
def test_cut_operation_is_on_the_flash_as_far_as_it_says(board: Board, mode: str, programmed: int, erased: int) -> None:
    """Half a page or a whole one, half a block's erase or a whole one, is what the host finds in the flash after the cut; no more."""
    block = 100
    prepare = (
        "import bench, vfs\n"
        "vfs.umount('/')\n"
        "flash = bench.Flash(*[word[6:] for word in bench.args().split() if word.startswith('flash=')])\n"
        f"flash.ioctl(6, {block})\n"
    )

    def content_after(last: str) -> bytes:
        repl = board.repl()
        repl.exec(prepare)
        repl.exec_raw_no_follow(last)
        assert board.wait() == CUT
        with board.flash.open("rb") as flash:
            flash.seek(block * 4096)
            return flash.read(4096)

    cut = f"bench.cut_after(1, bench.{mode})\n"
    found = content_after(f"{cut}flash.writeblocks({block}, bytes(512), 0)")
    assert found == bytes(programmed) + b"\xff" * (4096 - programmed)
    board.start()
    found = content_after(f"flash.writeblocks({block}, bytes(4096), 0)\n{cut}flash.ioctl(6, {block})")
    assert found == b"\xff" * erased + bytes(4096 - erased)


def test_damaged_flash_is_named_and_never_formatted(board: Board) -> None:
    """A file system that does not mount stays as it is, for somebody to look at, and the REPL still answers."""
    board.repl()
    board.kill()
    with board.flash.open("r+b") as flash:
        flash.write(b"damage" * 1500)
        flash.seek(0)
        before = flash.read(2 << 20)
    board.start()
    assert board.console is not None
    printed = board.console.read_until(1, b">>> ", timeout_overall=30)
    assert b"flash not mounted:" in printed
    board.repl()
    assert evaluate(board, "6 * 7") == 42
    with board.flash.open("rb") as flash:
        assert flash.read(2 << 20) == before
