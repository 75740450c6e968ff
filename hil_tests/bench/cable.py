"""A serial cable on the bench: pseudo-terminals joined by a thread. It can be pulled, plugged, forked, recorded, lied into, spoilt.

One end is the device's, the others are the hosts': what the device says reaches every host (a forked cable), what any host says
reaches the device. Programs open `<name>.<end>`, a link that goes when the end is pulled. What crosses is cut at an octet that ends
messages (SLIP's END), so that an injected message never lands inside another one. Knows octets only.
"""

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from bench.deadline import Changes
from bench.line_faults import FaultyLine, LineFaults, Piece
from bench.pseudo_terminal import Terminal

END = b"\xc0"
DEVICE = "device"
_READ_BYTES = 4096
_MOST_PENDING_BYTES = 1 << 16  # a reader that is absent loses what is above this, as a real line loses it


class Cable:
    """Owns its thread and file descriptors until `close`. `up` and `down`: messages that entered it, before any fault.

    `up_damaged`: for each message in `up` whether the line damaged it. `heard_up`: what came out towards the hosts. `most_kept`: of the
    messages at least so many newest are remembered, and never twice as many; None: all.
    """

    def __init__(
        self, folder: Path, name: str, hosts: Sequence[str] = ("host",), seed: int = 0, most_kept: int | None = None
    ) -> None:  # fmt: skip
        self._paths = {end: folder / f"{name}.{end}" for end in (DEVICE, *hosts)}
        self._ends: dict[str, _Terminal] = {end: _Terminal(path) for end, path in self._paths.items()}
        self._cutters = {end: _Cutter() for end in self._paths}
        self._seed = seed
        self._most_kept = most_kept
        self._faulty_up: FaultyLine | None = None
        self._faulty_down: FaultyLine | None = None
        self._to_say: list[tuple[str, bytes]] = []
        self._retired: list[_Terminal] = []
        self.changes = Changes()
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.up_damaged: list[bool] = []
        self.heard_up = bytearray()
        self._is_start_damaged = False  # of the message that comes next
        self._is_closed = False
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"cable-{name}", daemon=True)
        self._thread.start()

    def path(self, end: str = DEVICE) -> Path:
        """Where a program opens that end."""
        return self._paths[end]

    def say(self, end: str, data: bytes) -> None:
        """Put octets on the line towards `end` (DEVICE or a host), between two messages."""
        with self.changes:
            self._to_say.append((end, data))
        self._wake()

    def spoil(self, faults: LineFaults | None) -> list[dict[str, int]]:
        """From now on both directions suffer these faults; None ends them. Returns how often each of the former ones happened."""
        with self.changes:
            before = [line.counts for line in (self._faulty_up, self._faulty_down) if line is not None]
            self._faulty_up = FaultyLine(faults, self._seed * 2) if faults else None
            self._faulty_down = FaultyLine(faults, self._seed * 2 + 1) if faults else None
            self._seed += 1
        return before

    def pull(self, end: str) -> None:
        """Take an end out: its port is gone, path and all. Returns when it is."""
        with self.changes:
            terminal = self._ends.pop(end, None)
            if terminal is None:
                return
            self._retired.append(terminal)
        self._wake()
        self.changes.wait(lambda: terminal not in self._retired, "pulled end", 5)

    def plug(self, end: str) -> None:
        """Put an end in again, as a new port under the same path."""
        with self.changes:
            if end not in self._ends:
                self._ends[end] = _Terminal(self._paths[end])
                self._cutters[end] = _Cutter()
        self._wake()

    def close(self) -> None:
        """End the thread and remove all ends. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wake()
        self._thread.join(5)
        for terminal in (*self._ends.values(), *self._retired):
            terminal.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"\x00")

    def _run(self) -> None:
        while not self._is_closed:
            with self.changes:
                for terminal in self._retired:
                    terminal.close()
                self._retired.clear()
                ends = dict(self._ends)
                to_say, self._to_say = self._to_say, []
            for end, data in to_say:
                if end in ends:
                    ends[end].push(Piece(data, 0.0))
            by_master = {terminal.near: end for end, terminal in ends.items()}
            now_s = time.monotonic()
            writers = [master for master, end in by_master.items() if ends[end].has_due(now_s)]
            wait_s = min((terminal.wait_s(now_s) for terminal in ends.values()), default=1.0)
            readable, writable, _ = select.select([self._wake_read, *by_master], writers, [], wait_s)
            if self._wake_read in readable:
                os.read(self._wake_read, _READ_BYTES)
                readable.remove(self._wake_read)
            with self.changes:
                now = dict(self._ends)  # what is said after `plug` has returned reaches the new end, though this thread was waiting
            for master in readable:
                self._carry(by_master[master], ends | now)
            for master in writable:
                ends[by_master[master]].flush()

    def _carry(self, end: str, ends: "dict[str, _Terminal]") -> None:
        messages = self._cutters[end].feed(ends[end].read())
        if not messages:
            return
        out: list[Piece] = []
        with self.changes:
            for message in messages:
                line = self._faulty_up if end == DEVICE else self._faulty_down
                pieces, is_damaged = line.carry(message) if line else ([Piece(message, 0.0)], False)
                out += pieces
                if message == END:
                    self._is_start_damaged = is_damaged
                    continue
                (self.up if end == DEVICE else self.down).append(message)
                if end == DEVICE:
                    self.up_damaged.append(is_damaged or self._is_start_damaged)
            if end == DEVICE:
                self.heard_up += b"".join(piece.data for piece in out)
            if self._most_kept is not None:
                self._forget(self._most_kept)
        for target in [DEVICE] if end != DEVICE else [name for name in ends if name != DEVICE]:
            if target in ends:
                ends[target].push(*out)

    def _forget(self, most_kept: int) -> None:
        for remembered in (self.up, self.up_damaged, self.down):
            if len(remembered) >= 2 * most_kept:
                del remembered[:-most_kept]
        self.heard_up.clear()


class _Cutter:
    """Lets octets pass in pieces that end with END."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, self._pending = (self._pending + data).split(END)
        if len(self._pending) > _MOST_PENDING_BYTES:
            self._pending = b""
        return [piece + END for piece in whole]


class _Terminal(Terminal):
    """One end of the cable. Its far end stays open here, so a reader's leaving is no error."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pending: deque[tuple[float, bytes]] = deque()  # when it may leave, octets

    def read(self) -> bytes:
        try:
            return os.read(self.near, _READ_BYTES)
        except OSError:
            return b""

    def push(self, *pieces: Piece) -> None:
        for piece in pieces:
            before_s = self._pending[-1][0] if self._pending else time.monotonic()
            self._pending.append((max(before_s, time.monotonic()) + piece.after_s, piece.data))
        while sum(len(data) for _, data in self._pending) > _MOST_PENDING_BYTES:
            self._pending.popleft()
        self.flush()

    def has_due(self, now_s: float) -> bool:
        return bool(self._pending) and self._pending[0][0] <= now_s

    def wait_s(self, now_s: float) -> float:
        """How long until the next octets may leave, at most 1 s."""
        return min(1.0, max(0.0, self._pending[0][0] - now_s)) if self._pending and not self.has_due(now_s) else 1.0

    def flush(self) -> None:
        """Write what is due, each piece by itself."""
        while self.has_due(time.monotonic()):
            due_s, data = self._pending[0]
            try:
                written = os.write(self.near, data) if data else 0
            except BlockingIOError:
                return
            except OSError:
                self._pending.clear()
                return
            if written < len(data):
                self._pending[0] = (due_s, data[written:])
            else:
                self._pending.popleft()
