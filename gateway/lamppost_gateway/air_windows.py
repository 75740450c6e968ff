"""When a node listens, and what it is told in which order. WIRE.md 14.2. Pure: time is an argument, nothing is sent here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from lamppost_protocol import beacons, cose, elision
from lamppost_protocol.ladder import above_need_qdb

from lamppost_gateway.links.modem import Packet

#: After the end of a node's packet, in seconds.
WINDOWS_S = (1.0, 2.0, 4.0)
#: A modem has its request so long before the window opens; what is decided later than LAST_CALL_S before it waits for the next one.
LEAD_S = 0.3
LAST_CALL_S = 0.12
#: How often packets for a node open its windows anew.
MOST_OPENINGS = 8

ACKNOWLEDGEMENT, ORDER, BEACON, PIECE = "acknowledgement", "order", "beacon", "piece"
_TRAFFIC = {ACKNOWLEDGEMENT: elision.TRAFFIC_ACKNOWLEDGEMENT, PIECE: elision.TRAFFIC_PIECE}
_FIRST_WINDOW_QDB = 40
_SECOND_WINDOW_QDB = 12


class Copy(NamedTuple):
    """One packet as one modem heard it, or as it sent it itself: at_us, its clock at the end."""

    at_us: int
    above_need_qdb: int


@dataclass
class Opening:
    """The end of a packet, from which a node's windows are counted: at_s by the gateway's own clock, `copies` by each modem's."""

    at_s: float
    copies: dict[str, Copy] = field(default_factory=dict)

    def hear(self, modem: str, packet: Packet) -> None:
        """A copy of it; of one modem the first counts."""
        self.copies.setdefault(modem, Copy(packet.at_us, above_need_qdb(packet.spreading_factor, packet.snr_qdb)))

    def modems(self) -> list[str]:
        """Who may answer, the best signal first."""
        return sorted(self.copies, key=lambda name: -self.copies[name].above_need_qdb)

    def first_window(self) -> int:
        """The window in which an answer begins: the better it was heard the sooner, so that of several gateways the best is heard first."""
        best_qdb = max(copy.above_need_qdb for copy in self.copies.values())
        return 0 if best_qdb >= _FIRST_WINDOW_QDB else 1 if best_qdb >= _SECOND_WINDOW_QDB else 2

    def next_window(self, first: int, now_s: float) -> int | None:
        """The first window from `first` on that can still be met, None when they are over."""
        for window in range(first, len(WINDOWS_S)):
            if now_s <= self.at_s + WINDOWS_S[window] - LAST_CALL_S:
                return window
        return None


@dataclass
class Conversation:
    """What one node is to be told.

    Each packet for it opens its windows anew, so an order follows the acknowledgement. `opening` None: it listens always, has not
    spoken for some seconds, and is told at once. `heard`: its last packet, for who may tell it. `is_sealed`: the windows are those of a
    verified frame; pieces of a release go into others alone.
    """

    node: int
    listens_always: bool
    heard: Opening
    is_sealed: bool = False
    opening: Opening | None = None
    window: int = 0
    openings: int = 0
    waiting: dict[str, list[bytes]] = field(default_factory=dict)

    def open(self, opening: Opening) -> None:
        """A packet of the node has ended: it waits for no piece that it asked for before."""
        self.waiting.pop(PIECE, None)
        self.opening = self.heard = opening
        self.window = opening.first_window()
        self.openings = 0

    def is_open(self, now_s: float) -> bool:
        """Whether something can still be told."""
        if self.opening is None:
            return self.listens_always
        return self.openings < MOST_OPENINGS and self.opening.next_window(self.window, now_s) is not None

    def add(self, kind: str, frame: bytes) -> None:
        """Tell this too; of acknowledgements and beacons the newest one only, and no order or piece twice."""
        frames = self.waiting.setdefault(kind, [])
        if kind in (ACKNOWLEDGEMENT, BEACON):
            frames.clear()
        if frame not in frames:
            frames.append(frame)

    def next(self) -> tuple[str, bytes] | None:
        """(kind, frame) of what is told next, None when that was all."""
        for kind in (ACKNOWLEDGEMENT, ORDER, BEACON, PIECE):
            if self.waiting.get(kind):
                return kind, self.waiting[kind][0]
        return None

    def done(self, kind: str, frame: bytes) -> None:
        """This was told, or never will be."""
        frames = self.waiting.get(kind, [])
        if frame in frames:
            frames.remove(frame)

    def sent(self, end: Opening) -> None:
        """A packet for the node was on the air until `end`: its windows open anew, also where it listens always: it is busy between."""
        self.openings += 1
        if self.opening is not None:
            self.opening, self.window = end, 0


def kind_of(frame: bytes) -> tuple[str, cose.Message]:
    """What a sealed frame for a node is. Raises RemoteError where it is no frame at all."""
    message = cose.decode(frame)
    if message.kind == cose.MAC0:
        return ACKNOWLEDGEMENT, message
    return (BEACON if beacons.is_beacon(message.payload) else ORDER), message


def traffic_of(kind: str) -> int:
    """How it flies."""
    return _TRAFFIC.get(kind, elision.TRAFFIC_DOWNLINK)
