"""Nodes on ptys as a load: frames signed beforehand, poured as fast as they are taken or paced, acknowledgements timed.

All nodes live in the benchmark's own process, whose processor time is not counted.
"""

import os
import select
import time
from pathlib import Path

from lamppost_protocol import slip
from lamppost_protocol.errors import ProtocolError
from street.gateway_rig import City, PtyLine, SenderNode

_LAMP_VALUES = (100, 100, 471, 2301, 210, 950, 12345, 3, 0)


class StreetLoad:
    """`line_count` lines with one node each and `frame_count` signed frames, spread evenly."""

    def __init__(self, line_count: int, frame_count: int, seed: int = 1) -> None:
        self.nodes = [SenderNode(0x100 + i, seed) for i in range(line_count)]
        self.frame_count = frame_count
        self.frames: list[list[bytes]] = [[] for _ in self.nodes]
        for i in range(frame_count):
            node = self.nodes[i % line_count]
            self.frames[i % line_count].append(slip.encode(slip.FRAME, node.frame(items=[[1, 0, 0, *_LAMP_VALUES]])))

    def extra_frame(self, index: int) -> bytes:
        """One more frame of node `index`, signed now, as octets on the line."""
        return slip.encode(slip.FRAME, self.nodes[index].frame(items=[[1, 0, 0, *_LAMP_VALUES]]))

    def lay(self, folder: Path) -> "Lines":
        """Give the nodes fresh lines and a city (registry, keys) in `folder`."""
        return Lines(self, City(folder, self.nodes))


class Lines:
    """The ptys of one run."""

    def __init__(self, load: StreetLoad, city: City) -> None:
        self.load = load
        self.city = city
        self.ptys = [PtyLine(city.folder / f"line{i}") for i in range(len(load.nodes))]
        self.paths = [pty.path for pty in self.ptys]
        self._sent_at_s: list[list[float]] = [[] for _ in self.ptys]
        self._answered = [0] * len(self.ptys)
        self.delays_s: list[float] = []
        self._poll = select.epoll()
        self._index_of = {pty.master: i for i, pty in enumerate(self.ptys)}
        for pty in self.ptys:
            self._poll.register(pty.master, select.EPOLLIN)

    def pour(self, limit_s: float = 120.0) -> None:
        """Send every frame as fast as the lines take them; return when all are acknowledged. Raises TimeoutError."""
        waiting = {i: memoryview(b"".join(self.load.frames[i])) for i in range(len(self.ptys))}
        for i, pty in enumerate(self.ptys):
            self._sent_at_s[i] = [0.0] * len(self.load.frames[i])
            self._poll.modify(pty.master, select.EPOLLIN | select.EPOLLOUT)
        end_s = time.monotonic() + limit_s
        while self._owed():
            if time.monotonic() > end_s:
                raise TimeoutError(f"{self._owed()} frames not acknowledged")
            for fd, events in self._poll.poll(0.5):
                i = self._index_of[fd]
                if events & select.EPOLLOUT and i in waiting:
                    waiting[i] = waiting[i][_write(fd, waiting[i]) :]
                    if not waiting[i]:
                        del waiting[i]
                        self._poll.modify(fd, select.EPOLLIN)
                if events & select.EPOLLIN:
                    self._hear(i)

    def pace(self, per_s: float, limit_s: float = 60.0) -> None:
        """Send all frames at `per_s`, one line after the other, timing acknowledgements. Raises TimeoutError."""
        begin_s = time.monotonic()
        sent = 0
        counts = [0] * len(self.ptys)
        while sent < self.load.frame_count or self._owed():
            now_s = time.monotonic()
            if now_s - begin_s > limit_s:
                raise TimeoutError(f"{self._owed()} frames not acknowledged")
            while sent < self.load.frame_count and begin_s + sent / per_s <= now_s:
                i = sent % len(self.ptys)
                self._sent_at_s[i].append(time.monotonic())
                self.ptys[i].send_raw(self.load.frames[i][counts[i]])
                counts[i] += 1
                sent += 1
            pause_s = max(0.0, begin_s + sent / per_s - time.monotonic()) if sent < self.load.frame_count else 0.05
            for fd, _ in self._poll.poll(pause_s):
                self._hear(self._index_of[fd])

    def _owed(self) -> int:
        return sum(len(sent) for sent in self._sent_at_s) - sum(self._answered)

    def _hear(self, i: int) -> None:
        now_s = time.monotonic()
        for message_type, body in self.ptys[i].take():
            if message_type != slip.FRAME:
                continue
            try:
                answer = self.load.nodes[i].acknowledged(body)
            except ProtocolError:
                continue
            for number in range(self._answered[i], min(answer.highest, len(self._sent_at_s[i]))):
                self.delays_s.append(now_s - self._sent_at_s[i][number])
            self._answered[i] = max(self._answered[i], min(answer.highest, len(self._sent_at_s[i])))

    def close(self) -> None:
        """Take all lines away."""
        self._poll.close()
        for pty in self.ptys:
            pty.unplug()


def _write(fd: int, view: memoryview) -> int:
    try:
        return os.write(fd, view[:2048])
    except BlockingIOError:
        return 0
