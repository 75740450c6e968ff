"""Packets heard by a radio, whole or in pieces: frames out, to be verified. WIRE.md section 12.1.

Pieces carry no proof, so anybody can forge one. What that may cost is bounded: a piece that contradicts another opens a collection of its
own, beside the first, and each that is complete and passes its check goes on to be verified. Collections are few, per node and in all,
and none outlives LIFETIME_MS. Complete ones stay until then: a repeated piece changes nothing, and a genuine one that comes after a forged
one still finds the others.
"""

from . import elision
from .errors import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: How long pieces are waited for, from the first: a sender takes the airtime of all before it sends one, and SF12 carries a frame in 45 s.
LIFETIME_MS = 60000
#: Collections of one node at once: the genuine one and three forged.
MAX_OF_A_NODE = 4


class _Collection:
    """Pieces of one packet that agree with each other."""

    def __init__(self, key: tuple[int, int, int, int], pieces: "list[bytes | None]", since_ms: int) -> None:
        self.key = key  # form, node, check, last number
        self.pieces = pieces
        self.since_ms = since_ms


class Reassembly:
    """Packets in, Packets with frames out. Holds at most `room` collections of less than 1,250 octets each; pieces are shared.

    Counts `expired` and `displaced` collections and `mismatched` ones: complete, yet no packet.
    """

    def __init__(self, network: int, is_wanted: "Callable[[int, int], bool]", room: int) -> None:
        """`is_wanted(traffic, node)`: whether a packet of this traffic, from or for this node (0: all), is for this receiver.

        `room`: MAX_OF_A_NODE does for a node; a gateway takes some for every node it may hear at once.
        """
        self._network = network
        self._is_wanted = is_wanted
        self._room = room
        self._held: list[_Collection] = []  # the one that longest had no new piece first
        self.expired = 0
        self.displaced = 0
        self.mismatched = 0

    def feed(self, packet: bytes, now_ms: int) -> list[elision.Packet]:
        """Return the Packets that `packet`, not kept, completes: mostly one or none, more where forged pieces fit as well.

        Raises RemoteError, by which the caller counts: as `decode_head` and `decode_body`, `unknown_node` (not wanted), `bad_fragment`.
        """
        self._expire(now_ms)
        head = elision.decode_head(packet, self._network)
        if not self._is_wanted(head.traffic, head.node):
            raise RemoteError("unknown_node", "not for this receiver")
        if not head.is_piece:
            return [elision.decode_body(head, bytes(packet[elision.HEAD_BYTES :]))]
        start = elision.HEAD_BYTES + elision.PIECE_BYTES
        if len(packet) <= start:
            raise RemoteError("bad_fragment", "a piece of nothing")
        check = int.from_bytes(packet[elision.HEAD_BYTES : start - 1], "big")
        number, last = packet[start - 1] >> 4, packet[start - 1] & 15
        piece = bytes(packet[start:])
        if number > last or last == 0 or (number < last and len(piece) * last > elision.MAX_BODY_BYTES):
            raise RemoteError("bad_fragment", "no such piece")
        complete = []
        for collection in self._take_up((head.form, head.node, check, last), number, piece, now_ms):
            if None in collection.pieces:
                continue
            try:
                body = _join(collection.pieces)
                if elision.body_check(elision.encode_head(head), body) != check:
                    raise RemoteError("bad_fragment", "pieces of different packets")
                complete.append(elision.decode_body(head, body))
            except RemoteError:
                self.mismatched += 1
        return complete

    def _take_up(self, key: tuple[int, int, int, int], number: int, piece: bytes, now_ms: int) -> list[_Collection]:
        """Return the collections to which the piece was new: those it lacked in, and copies of those it contradicts."""
        alike = [c for c in self._held if c.key == key]
        if not alike:
            alike = [self._open(_Collection(key, [None] * (key[3] + 1), now_ms))]
        for collection in alike:
            if collection.pieces[number] == piece:
                return []
        changed = [c for c in alike if c.pieces[number] is None]
        for collection in changed:
            collection.pieces[number] = piece
            self._held.remove(collection)
            self._held.append(collection)
        for collection in alike:
            pieces = list(collection.pieces)
            pieces[number] = piece
            if not [c for c in changed if c.pieces == pieces]:
                changed.append(self._open(_Collection(key, pieces, collection.since_ms)))
        return changed

    def _open(self, collection: _Collection) -> _Collection:
        own = [c for c in self._held if c.key[1] == collection.key[1]]
        if len(own) >= MAX_OF_A_NODE:
            self._displace(own[0])
        elif len(self._held) >= self._room:
            self._displace(self._greediest())
        self._held.append(collection)
        return collection

    def _greediest(self) -> _Collection:
        """Return the oldest collection of the node that holds most; in a tie, of the one whose is oldest."""
        counts: dict[int, int] = {}
        for collection in self._held:
            counts[collection.key[1]] = counts.get(collection.key[1], 0) + 1
        most = max(counts.values())
        for collection in self._held:
            if counts[collection.key[1]] == most:
                return collection
        return self._held[0]

    def _displace(self, collection: _Collection) -> None:
        self._held.remove(collection)
        if None in collection.pieces:
            self.displaced += 1

    def _expire(self, now_ms: int) -> None:
        kept = [c for c in self._held if 0 <= now_ms - c.since_ms < LIFETIME_MS]
        self.expired += len([c for c in self._held if c not in kept and None in c.pieces])
        self._held = kept


def _join(pieces: "list[bytes | None]") -> bytes:
    """Return the body whose pieces these are, none missing. Raises RemoteError("bad_fragment") where the lengths are no packet's."""
    whole = [piece for piece in pieces if piece is not None]
    size = len(whole[0])
    for i in range(1, len(whole)):
        if len(whole[i]) > size or (len(whole[i]) < size and i < len(whole) - 1):
            raise RemoteError("bad_fragment", "lengths of no packet")
    return b"".join(whole)
