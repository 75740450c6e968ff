"""Several boards in lock-step on one ether, at this machine's pace and never ahead of it.

Each board is bench/lock_step.py's on the interpreter; all radios are models in this process. The board whose request is the earliest is
answered next, so the ether sees one time that never runs back, to the microsecond, however busy this machine is. The world waits for the
clock; where the machine cannot keep up, the world falls behind, never to catch up, and its timing is right all the same. So programs
outside that speak with a board over its terminal have at least the time that they would have with a real one.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.lock_step import HostProgram, LineEnd, LockStepBoard
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.ether import Ether
from bench.peripherals.street import Street
from bench.pseudo_terminal import Terminal

_STEP_S = 0.02  # looked for what came over the terminals
_QUIET_MS = 10
_IDLE_S = 0.2


class TerminalLine(LineEnd):
    """A board's UART 1 at a terminal of this machine, which another program opens by `path`."""

    quiet_limit_ms = _QUIET_MS

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._terminal = Terminal(path)

    def command(self, data: bytes, now_s: float) -> None:
        with contextlib.suppress(OSError):  # full: nobody reads, and a real line loses it too
            os.write(self._terminal.near, data)

    def listen(self, now_s: float) -> None:
        """Take what the program has written by now."""
        with contextlib.suppress(OSError):
            self.say(now_s, os.read(self._terminal.near, 4096))

    def end(self) -> None:
        self._terminal.close()


class SilentLine(LineEnd):
    """A UART with nothing at the other end."""

    def command(self, data: bytes, now_s: float) -> None:
        """Nobody hears it."""


class SharedAir:
    """`add` boards, then `start`: from then on a thread of its own runs them. `end` ends them all.

    `failure`: what ended the thread before that, "" where nothing did.
    """

    def __init__(self, folder: Path, seed: int, heap_bytes: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._started_s = time.monotonic()
        self.street = Street(seed, int(time.time()))
        self.ether = Ether(seed)
        self.boards: dict[str, LockStepBoard] = {}
        self.failure = ""
        self._lines: list[TerminalLine] = []
        self._orders: list[Callable[[], None]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shared-air", daemon=True)

    def add(
        self, name: str, wiring: str, program: Mapping[str, bytes] | HostProgram, terminal: Path | None = None, x_m: float = 0.0
    ) -> Cabinet:  # fmt: skip
        """A board with its cabinet, `x_m` away from the origin; `terminal`: where its UART 1 is to be found. It has no power yet.

        `program`: the files on its flash, or what it runs off this machine's.
        """
        cabinet = Cabinet(name, wiring, self.street, 0.0, self.ether)
        cabinet.set("x_m", x_m)
        line: LineEnd = SilentLine()
        if terminal is not None:
            line = TerminalLine(terminal)
            self._lines.append(line)
        files, host_program = ({}, program) if isinstance(program, HostProgram) else (program, None)
        self.boards[name] = LockStepBoard(
            self._folder / name, files, self.street, cabinet, line, on_vm=True, host_program=host_program
        )  # fmt: skip
        return cabinet

    def start(self) -> None:
        """Power on all boards."""
        self._thread.start()

    def order(self, work: Callable[[], None]) -> None:
        """Have something done between two steps of the world: a fault, a power cut. Raises TimeoutError when the world stands still."""
        done = threading.Event()
        self._orders.append(lambda: (work(), done.set())[0])
        if not done.wait(60):
            raise TimeoutError(f"the world stands still: {self.failure}")

    def now_s(self) -> float:
        """The time of the earliest board."""
        return min((board.now_s for board in self.boards.values() if board.is_running), default=0.0)

    def end(self) -> None:
        """End the thread and every board. Safe to call twice."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(30)
        for board in self.boards.values():
            board.__exit__()
        self.boards.clear()
        for line in self._lines:
            line.end()
        self._lines.clear()

    def _run(self) -> None:
        try:
            for board in self.boards.values():
                board.power_on()
            while not self._is_over.is_set():
                self._step()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            raise

    def _step(self) -> None:
        """Answer the earliest board up to the next one's request, or wait for the clock."""
        while self._orders:
            self._orders.pop(0)()
        boards = sorted((board for board in self.boards.values() if board.is_running), key=lambda board: board.now_s)
        if not boards:
            self._is_over.wait(_IDLE_S)
            return
        first = boards[0]
        ahead_s = first.now_s - (time.monotonic() - self._started_s)
        if ahead_s > 0:
            self._is_over.wait(min(ahead_s, _STEP_S))
        if ahead_s > _STEP_S:
            return
        self._started_s -= min(0.0, ahead_s)  # lost time stays lost: a world that hurried after the clock would be too fast for others
        for line in self._lines:
            line.listen(first.now_s)
        until_s = first.now_s + _STEP_S if len(boards) == 1 else min(boards[1].now_s, first.now_s + _STEP_S)
        first.run(until_s + 1e-6)
