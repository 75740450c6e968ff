"""An emulated board whose every pin, bus and line is a model in this process, in the board's own virtual time: days in seconds.

The board (QEMU, rv32) counts instructions instead of time and steps over what it sleeps. Whenever its program touches hardware it stands
still until this process has answered, so one seed gives one run, to the octet. What the tests know of it afterwards is the truth of
the models, not a reading.

`run` answers requests until a moment of the world; whatever is to happen then (a fault, a cut, a word on the line) the caller does
between two calls. Moments are those of requests: a board that asks nothing for an hour is looked at an hour later.
World time never stands still while the board has power and never runs back; a board without power misses what `wait` lets pass.
A board in deep sleep is no process at all: nothing of it is run, its wake-up is a moment of `run` like another.
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
from dataclasses import dataclass
from pathlib import Path

from bench.deadline import Deadline
from bench.peripherals.bus import UartModel
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.client import SHIM, find_micropython
from bench.peripherals.requests import DEEPSLEEP_RESET, PWRON_RESET, WDT_RESET
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
_DEEPSLEEP = b"deepsleep "
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
    """Where the logs of two emulated boards, in these folders, part; an interpreter of this machine keeps none."""
    if not (first / LOG).exists():
        return "the exchanges differ"
    pairs = itertools.zip_longest(*((folder / LOG).read_bytes().splitlines() for folder in (first, second)))
    for number, (one, other) in enumerate(pairs, 1):
        if one != other:
            return f"line {number} of {LOG}: {one!r} against {other!r}"
    return "the same in every exchange"


def missing() -> str | None:
    """Why this machine cannot do it and what to do about that, or None."""
    return Qemu(RV32).missing()


@dataclass(frozen=True)
class HostProgram:
    """What a board on the interpreter runs off this machine's files: `folder` with main.py, variables of its environment."""

    folder: Path
    environment: Mapping[str, str]


class LockStepBoard:
    """One board with its cabinet and line. `files`: absolute path on the device to content; `machine.py` and its like among them.

    `now_s`: seconds of the world since the street's start, the time all models are asked with. `digest`: over all exchanges so far.
    `sleep_ppm`: by how much longer its sleeps last than its own clock says.
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
        host_program: HostProgram | None = None,
    ) -> None:
        """`up_ms`: how long the emulated board's ticks say that it has been up when power comes on. `host_program`: instead of `files`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.cabinet, self.line = cabinet, line
        self.now_s = 0.0
        self.exchanges = 0
        self.powered_s = 0.0
        """World time when power came on last."""
        self.sleep_ppm = 0.0
        self._slept_s = 0.0  # without the present sleep
        self.erased = 0
        """Flash blocks erased by programs of this machine's interpreter that ended by themselves; an emulated board does not tell."""
        self._behind_us = 0  # the board's clock, to the world's
        self._slept_since_s = 0.0
        self._sleep_ms: int | None = None  # asked for; it has not ended itself yet
        self._wakes_s: float | None = None
        self._start_us = round(street.unix_s(0) * 1_000_000)
        self._folder = folder
        self._heap_bytes = heap_bytes
        self._on_vm = on_vm
        self._host_program = host_program
        self._up_ms = up_ms
        self.flash = folder / "flash.bin"
        self.console = folder / "console.log"
        if host_program is None:
            with self.flash.open("wb") as flash:
                flash.write(file_system(dict(files)))
                flash.truncate(RV32.flash_bytes)
        for name in ("request", "answer"):
            (folder / name).unlink(missing_ok=True)
            os.mkfifo(folder / name, 0o600)
        # Read and write: neither end may see the other come and go with the board's power.
        self._request = os.open(folder / "request", os.O_RDWR | os.O_NONBLOCK)
        self._answer = os.open(folder / "answer", os.O_RDWR)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = -1
        self._pending = b""
        self._open: bytes | None = None
        self._fault = ""
        self._fault_at_start = ("", 0)
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
        return self._process is not None or self.is_asleep

    @property
    def asleep_s(self) -> float:
        """For how long it has slept by now."""
        return self._slept_s + (self.now_s - self._slept_since_s if self.is_asleep else 0.0)

    @property
    def is_asleep(self) -> bool:
        """Whether it is in deep sleep."""
        return self._wakes_s is not None

    def power_on(self) -> None:
        """At the next whole second of the world."""
        assert not self.is_running
        self._behind_us = 0
        self._spawn(PWRON_RESET)
        self.powered_s = self.now_s

    def _spawn(self, cause: int) -> None:
        fault, programs = self._fault_at_start
        if programs:
            self._fault_at_start = fault, programs - 1
            self._fault = fault if programs == 1 else self._fault
        unix_us = self._start_us + round(self.now_s * 1_000_000) - self._behind_us
        unix_s = -(-unix_us // 1_000_000)
        self._advance(unix_s * 1_000_000 + self._behind_us)
        command = self._vm_command(unix_s, cause) if self._on_vm else self._emulator_command(unix_s, cause)
        environment = None if self._host_program is None else {**os.environ, **self._host_program.environment}
        with self.console.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )  # fmt: skip
        self._ended = os.pidfd_open(self._process.pid)

    def _vm_command(self, unix_s: int, cause: int) -> list[str]:
        boot = str(SHIM / "lock_step" / "vm_boot.py")
        program = [] if self._host_program is None else [str(self._host_program.folder.resolve())]
        return [find_micropython(), "-X", f"heapsize={_VM_HEAP_KB}k", boot, str(unix_s * 1_000_000), str(cause), *program]

    def _emulator_command(self, unix_s: int, cause: int) -> list[str]:
        start = datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        console = f"file,path={self.console.name},append=on"
        words = ("exchange=.", f"heap={self._heap_bytes}", "skip=1", "resets=1", f"cause={cause}", f"up_ms={self._up_ms}")
        return RV32.command(Qemu(RV32).firmware, console, words, clock=VirtualClock(SHIFT, start))

    def cut_power(self) -> None:
        """At this instant."""
        self._wakes_s = None
        self._kill()
        self.cabinet.cut_power(self.now_s)

    def wait(self, seconds: float) -> None:
        """Let the world go on; the board must be without power."""
        assert not self.is_running
        self._pass_until(self.now_s + seconds)

    def suffer(self, fault: str) -> None:
        """With the next answer: `cut K HALF|WHOLE` (power fails in the K-th flash operation from then), `reset`, `hang`.

        Not with the answer that lets a program begin: it has no watchdog yet.
        """
        self._fault = fault

    def suffer_at_start(self, fault: str, programs: int = 1) -> None:
        """The same, with the first answer to the program that begins after so many - 1 others."""
        self._fault_at_start = fault, programs

    def run(self, until_s: float) -> bool:
        """Answer until the world's time `until_s`; False when power failed before (then the cabinet knows it too).

        Raises LockStepError when the board says nothing for two minutes of this machine's time or its emulator ends otherwise.
        """
        assert self.is_running
        while True:
            if self._wakes_s is not None:
                if self._wakes_s >= until_s:
                    self._pass_until(until_s)
                    return True
                self._wake(self._wakes_s)
            if self._open is None:
                self._open = self._next_request()
            if self._open is None:
                status = self._kill()
                if status != CUT_STATUS:
                    raise LockStepError(self.describe(f"ended with status {status}"))
                self.cabinet.cut_power(self.now_s)
                return False
            stamp, _, line = self._open.partition(b" ")
            self._advance(int(stamp[1:]) + _EPOCH_UNIX_US + self._behind_us)
            if line.startswith(_END):
                cause, *counts = (int(word) for word in line[len(_END) :].split())
                self.erased += sum(counts)
                if not self._start_anew(cause):
                    return False
                continue
            if self.now_s >= until_s:
                return True
            self._reply(line, self._answer_of(line))
            self._open = None

    def _start_anew(self, cause: int) -> bool:
        """What a chip does by itself and a process cannot: bite, restart, lose power. False when power is gone."""
        self._note(b"%.6f end %d\n" % (self.now_s, cause))
        sleep_ms, self._sleep_ms = self._sleep_ms, None
        self._kill()
        if cause == _DEAD:
            self.cabinet.cut_power(self.now_s)
            return False
        if sleep_ms is not None:
            self._slept_since_s = self.now_s
            lost_us = round(sleep_ms * self.sleep_ppm / 1000)
            self._wakes_s = self.now_s + sleep_ms / 1000 + lost_us / 1_000_000
            self._behind_us += lost_us
            return True
        self.cabinet.release(self.now_s)
        if cause == WDT_RESET:
            self.cabinet.watchdog_bites()
        self._spawn(cause)
        return True

    def _wake(self, at_s: float) -> None:
        self._wakes_s = None
        self._pass_until(at_s)
        self._slept_s += at_s - self._slept_since_s
        self._spawn(DEEPSLEEP_RESET)

    def describe(self, what: str) -> str:
        """`what`, and all that helps to find its cause."""
        printed = self.console.read_bytes()[-2000:].decode(errors="replace")
        asked = "\n".join(line.decode(errors="replace") for line in self._last)
        return f"{self.cabinet.name}: {what} at {self.now_s:.3f} s\nlast exchanges:\n{asked}\nconsole ({self.console}):\n{printed}"

    # -- exchanges --------------------------------------------------------------------------------------------------

    def _advance(self, unix_us: int) -> None:
        # A reset takes the seconds' fraction from the board's wall clock: the world waits for it.
        self.now_s = max(self.now_s, (unix_us - self._start_us) / 1_000_000)

    def _pass_until(self, until_s: float) -> None:
        self.now_s = max(self.now_s, until_s)  # to the bit, or whoever waits for this moment waits for ever

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
        if line.startswith(_DEEPSLEEP):
            self._sleep_ms = int(line[len(_DEEPSLEEP) :])
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
