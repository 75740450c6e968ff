"""A node over the air by WIRE.md's letter, without a radio: its packets, and which of what is on the air it hears."""

from dataclasses import dataclass, field

from lamppost_protocol import elision, frames, releases

from street.gateway_rig import SenderNode

WINDOWS_S = (1.0, 2.0, 4.0)
_EARLY_S = 0.05
_NEXT_PIECE_S = 0.125
MOST_OPENINGS = 8


@dataclass
class AirNode:
    """`sender`: its keys and counters. `heard`: (begin_s, traffic, frame) of all it heard and what answers it."""

    sender: SenderNode
    listens_always: bool = False
    heard: list[tuple[float, int, bytes]] = field(default_factory=list)
    _opened_s: float = float("-inf")
    _openings: int = 0
    _pieces: list[bytes] = field(default_factory=list)

    def uplink(self, frame: bytes, waited_s: int = 0, most_bytes: int = 255) -> list[bytes]:
        """The packets of a frame."""
        node = self.sender
        packets: list[bytes] = elision.encode(frame, elision.TRAFFIC_UPLINK, node.network, node.node, waited_s, most_bytes)
        return packets

    def hello(self, nonce: bytes | None = None) -> bytes:
        node = self.sender
        (packet,) = elision.encode(node.hello(nonce), elision.TRAFFIC_HELLO, node.network, node.node)
        return bytes(packet)

    def ended(self, at_s: float) -> None:
        """Its last packet of a frame has ended then: the windows open."""
        self._opened_s, self._openings = at_s, 0

    def listens_at(self, begin_s: float) -> bool:
        """Whether it hears a packet that begins then."""
        if self.listens_always:
            return True
        return any(
            opening_s - _EARLY_S <= begin_s <= opening_s + _EARLY_S for opening_s in (self._opened_s + window_s for window_s in WINDOWS_S)
        )

    def take(self, begin_s: float, end_s: float, packet: bytes) -> bool:
        """One packet on the air; whether the node heard it and it was for this node."""
        head = elision.decode_head(packet, self.sender.network)
        if head.node not in (0, self.sender.node) or not self.listens_at(begin_s):
            return False
        if head.is_piece:
            self._pieces.append(packet)
            self._opened_s = end_s + _NEXT_PIECE_S - WINDOWS_S[0]
            last = packet[8] & 15
            if packet[8] >> 4 != last:
                return True
            body = b"".join(each[9:] for each in self._pieces)
            self._pieces.clear()
        else:
            body = packet[6:]
        decoded = elision.decode_body(head, body)
        self.heard.append((begin_s, decoded.traffic, decoded.frame))
        self._opened_s = end_s
        self._openings += 1
        if self._openings >= MOST_OPENINGS:
            self._opened_s = float("-inf")
        return True

    def acknowledgements(self) -> list[frames.Acknowledgement]:
        """Those it heard, verified."""
        return [self.sender.acknowledged(frame) for _, traffic, frame in self.heard if traffic == elision.TRAFFIC_ACKNOWLEDGEMENT]

    def want(self, release: bytes, first: int, count: int) -> bytes:
        """The packet that asks for pieces of a release."""
        node = self.sender
        body = releases.encode_want(releases.Want(node.network, node.node, release, first, count))
        (packet,) = elision.encode(body, elision.TRAFFIC_WANT, node.network, node.node)
        return bytes(packet)

    def pieces(self) -> list[tuple[float, releases.Piece]]:
        """(begin_s, piece) of all pieces of releases that it heard."""
        return [(at_s, releases.decode_piece(body)) for at_s, traffic, body in self.heard if traffic == elision.TRAFFIC_PIECE]
