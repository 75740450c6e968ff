"""An emulated board whose every pin, bus and line is a model in this process, in the board's own virtual time: days in seconds.

The board (QEMU, rv32) counts instructions instead of time and skips what it sleeps. Whenever its program touches hardware it stands
still until this process has answered, so one seed gives one run, to the octet. What the tests know of it afterwards is the truth of
the models, not a reading.

`run` answers requests until a moment of the world; whatever is to happen then (a fault, a cut, a word on the line) the caller does
between two calls. Moments are those of requests: a board that asks nothing for an hour is looked at an hour later.
World time never stands still while the board has power and never runs back; a board without power misses what `wait` lets pass.
"""

import bisect
import datetime
import hashlib
import itertools
import os
import select
import subprocess
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from bench.deadline import Deadline
from bench.peripherals.bus import UartModel
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.client import SHIM, find_micropython
from bench.peripherals.requests import PWRON_RESET, WDT_RESET
from bench.peripherals.street import Street
from bench.targets.qemu import RV32, Qemu, file_system
from bench.targets.target import VirtualClock

MACHINE_SOURCES = (SHIM / "lock_step" / "machine.py", SHIM / "machine_models.py", SHIM / "machine_extra.py")
SHIFT = 4
"""2 ** 4 ns an instruction: within a quarter of an ESP32-C3 at 160 MHz."""
HALF, WHOLE = 0, 1
"""What a power cut leaves of the flash operation it meets."""
CUT_STATUS = 77
_VM_HEAP_KB = 640
_EPOCH_UNIX_US = 946_684_800_000_000  # the board counts from 2000
HEAP_BYTES = 160 << 10
"""Roomy: what firmware needs of it is a figure to measure, not a cause for other tests to fail."""
_STUCK_S = 120.0
_LAST = 24
LOG = "exchanges.log"
_END = b"end "
_HELLO = b"hello"
_DEAD = 0


class LineEnd(UartModel):
    """The far end of UART 1, at baud pace. A subclass hears with `command` and speaks with `say`."""

    baud = 115200
    quiet_limit_ms = 1000
    """How long a quiet line is believed to stay so: raise it where nothing will be said unasked."""

    def advance(self, now_s: float) -> None:
        """Nothing is sent by itself."""

    def say(self, at_s: float, data: bytes) -> None:
        """Put octets on the wire then, or behind what is on it by then."""
        if not self._port_baud:
            return
        octet_s = 10 / self.baud
        position = bisect.bisect_right([start_s for start_s, _ in self._flying], at_s)
        self._flying.insert(position, (at_s, data))
        for index in range(max(1, position), len(self._flying)):
            before_s, before = self._flying[index - 1]
            start_s, octets = self._flying[index]
            self._flying[index] = (max(start_s, before_s + len(before) * octet_s), octets)

    def quiet_ms(self, now_s: float) -> int:
        """For how long nothing more can be read."""
        if not self._flying:
            return self.quiet_limit_ms
        start_s, data = self._flying[0]
        return min(self.quiet_limit_ms, max(1, int((start_s + len(data) * 10 / self.baud - now_s) * 1000) + 1))


class LockStepError(AssertionError):
    """The board fell silent or ended by itself; says what it was last asked and what it printed."""


def first_difference(first: Path, second: Path) -> str:
    """Where the logs of two emulated boards, in these folders, part."""
    pairs = itertools.zip_longest(*((folder / LOG).read_bytes().splitlines() for folder in (first, second)))
    for number, (one, other) in enumerate(pairs, 1):
        if one != other:
            return f"line {number} of {LOG}: {one!r} against {other!r}"
    return "the same in every exchange"


def missing() -> str | None:
    """Why this machine cannot do it and what to do about that, or None."""
    return Qemu(RV32).missing()


class LockStepBoard:
    """One board with its cabinet and line. `files`: absolute path on the device to content; `machine.py` and its like among them.

    `now_s`: seconds of the world since the street's start, the time all models are asked with. `digest`: over all exchanges so far.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, bytes],
        street: Street,
        cabinet: Cabinet,
        line: LineEnd,
        on_vm: bool = False,
        heap_bytes: int = HEAP_BYTES,
        up_ms: int = 0,
    ) -> None:
        """`up_ms`: how long the emulated board's ticks say that it has been up when power comes on."""
        folder.mkdir(parents=True, exist_ok=True)
        self.cabinet, self.line = cabinet, line
        self.now_s = 0.0
        self.exchanges = 0
        self.powered_s = 0.0
        """World time when power came on last."""
        self._start_us = round(street.unix_s(0) * 1_000_000)
        self._folder = folder
        self._heap_bytes = heap_bytes
        self._on_vm = on_vm
        self._up_ms = up_ms
        self.flash = folder / "flash.bin"
        self.console = folder / "console.log"
        with self.flash.open("wb") as flash:
            flash.write(file_system(dict(files)))
            flash.truncate(RV32.flash_bytes)
        for name in ("request", "answer"):
            os.mkfifo(folder / name, 0o600)
        # Read and write: neither end may see the other come and go with the board's power.
        self._request = os.open(folder / "request", os.O_RDWR | os.O_NONBLOCK)
        self._answer = os.open(folder / "answer", os.O_RDWR)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = -1
        self._pending = b""
        self._open: bytes | None = None
        self._fault = ""
        self._hash = hashlib.sha256()
        # An emulated board's hours are few enough to be kept whole.
        self._log = None if on_vm else (folder / LOG).open("wb")
        self._last: deque[bytes] = deque(maxlen=_LAST)

    def __enter__(self) -> "LockStepBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        os.close(self._request)
        os.close(self._answer)
        if self._log is not None:
            self._log.close()

    @property
    def digest(self) -> str:
        """SHA-256 over every request and answer."""
        return self._hash.hexdigest()

    @property
    def is_running(self) -> bool:
        """Whether it has power."""
        return self._process is not None

    def power_on(self) -> None:
        """At the next whole second of the world."""
        assert self._process is None
        self._spawn(PWRON_RESET)

    def _spawn(self, cause: int) -> None:
        unix_us = self._start_us + round(self.now_s * 1_000_000)
        unix_s = -(-unix_us // 1_000_000)
        self._advance(unix_s * 1_000_000)
        self.powered_s = self.now_s
        command = self._vm_command(unix_s, cause) if self._on_vm else self._emulator_command(unix_s, cause)
        with self.console.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._ended = os.pidfd_open(self._process.pid)

    def _vm_command(self, unix_s: int, cause: int) -> list[str]:
        boot = str(SHIM / "lock_step" / "vm_boot.py")
        return [find_micropython(), "-X", f"heapsize={_VM_HEAP_KB}k", boot, str(unix_s * 1_000_000), str(cause)]

    def _emulator_command(self, unix_s: int, cause: int) -> list[str]:
        start = datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        console = f"file,path={self.console.name},append=on"
        words = ("exchange=.", f"heap={self._heap_bytes}", "resets=1", f"cause={cause}", f"up_ms={self._up_ms}")
        return RV32.command(Qemu(RV32).firmware, console, words, clock=VirtualClock(SHIFT, start))

    def cut_power(self) -> None:
        """At this instant."""
        self._kill()
        self.cabinet.cut_power(self.now_s)

    def wait(self, seconds: float) -> None:
        """Let the world go on; the board must be without power."""
        assert self._process is None
        self._advance(self._start_us + round((self.now_s + seconds) * 1_000_000))

    def suffer(self, fault: str) -> None:
        """With the next answer: `cut K HALF|WHOLE` (power fails in the K-th flash operation from then), `reset`, `hang`.

        Not with the answer that lets a program begin: it has no watchdog yet.
        """
        self._fault = fault

    def run(self, until_s: float) -> bool:
        """Answer until the world's time `until_s`; False when power failed before (then the cabinet knows it too).

        Raises LockStepError when the board says nothing for two minutes of this machine's time or its emulator ends otherwise.
        """
        assert self._process is not None
        while True:
            if self._open is None:
                self._open = self._next_request()
            if self._open is None:
                status = self._kill()
                if status != CUT_STATUS:
                    raise LockStepError(self.describe(f"ended with status {status}"))
                self.cabinet.cut_power(self.now_s)
                return False
            stamp, _, line = self._open.partition(b" ")
            self._advance(int(stamp[1:]) + _EPOCH_UNIX_US)
            if line.startswith(_END):
                if not self._start_anew(int(line[len(_END) :])):
                    return False
                continue
            if self.now_s >= until_s:
                return True
            self._reply(line, self._answer_of(line))
            self._open = None

    def _start_anew(self, cause: int) -> bool:
        """What a chip does by itself and a process cannot: bite, restart, lose power. False when power is gone."""
        self._note(b"%.6f end %d\n" % (self.now_s, cause))
        self._kill()
        if cause == _DEAD:
            self.cabinet.cut_power(self.now_s)
            return False
        self.cabinet.release(self.now_s)
        if cause == WDT_RESET:
            self.cabinet.watchdog_bites()
        self._spawn(cause)
        return True

    def describe(self, what: str) -> str:
        """`what`, and all that helps to find its cause."""
        printed = self.console.read_bytes()[-2000:].decode(errors="replace")
        asked = "\n".join(line.decode(errors="replace") for line in self._last)
        return f"{what} at {self.now_s:.3f} s\nlast exchanges:\n{asked}\nconsole ({self.console}):\n{printed}"

    # -- exchanges --------------------------------------------------------------------------------------------------

    def _advance(self, unix_us: int) -> None:
        # A reset takes the seconds' fraction from the board's wall clock: the world waits for it.
        self.now_s = max(self.now_s, (unix_us - self._start_us) / 1_000_000)

    def _next_request(self) -> bytes | None:
        """The next line, None when the emulator has ended. Raises LockStepError."""
        deadline = Deadline(_STUCK_S)
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._request, self._ended], [], [], deadline.left_s())
            if self._request in ready:
                self._pending += os.read(self._request, 65536)
            elif self._ended in ready:
                return None
            else:
                raise LockStepError(self.describe("nothing asked for two minutes of this machine's time"))
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _answer_of(self, line: bytes) -> bytes:
        if line == _HELLO:
            self.cabinet.start(self.now_s)
            self.line.close()
            return b"ok"
        if line.startswith(b"line "):
            return self._line_answer(line.decode().split()[1:])
        return self.cabinet.handle(line, self.now_s)

    def _line_answer(self, words: list[str]) -> bytes:
        line, now_s, data = self.line, self.now_s, ""
        if words[0] == "init":
            line.open(int(words[1]), int(words[2]), now_s)
        elif words[0] == "read":
            data = line.read(int(words[1]), now_s).hex()
        elif words[0] == "write":
            line.write(bytes.fromhex(words[1]), now_s)
        waiting = line.waiting(now_s)
        return f"ok {data} {waiting} {line.quiet_ms(now_s)}".encode()

    def _reply(self, line: bytes, answer: bytes) -> None:
        if self._fault and line != _HELLO:
            answer = f"do {self._fault}\t".encode() + answer
            self._fault = ""
        os.write(self._answer, answer + b"\n")
        self.exchanges += 1
        self._note(b"%.6f " % self.now_s + line + b" -> " + answer + b"\n")

    def _note(self, exchange: bytes) -> None:
        self._hash.update(exchange)
        self._last.append(exchange[:300])
        if self._log is not None:
            self._log.write(exchange)

    def _kill(self) -> int | None:
        """End the emulator and forget what it was saying; its exit status."""
        if self._process is None:
            return None
        self._process.kill()
        status = self._process.wait(10)
        os.close(self._ended)
        self._process = None
        self._open, self._pending, self._fault = None, b"", ""
        for fifo in (self._request, self._answer):
            while select.select([fifo], [], [], 0)[0]:
                os.read(fifo, 65536)
        return status
