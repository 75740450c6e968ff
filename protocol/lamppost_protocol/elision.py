"""A frame as it flies: a packet without what both ends know, from which the same octets are rebuilt. WIRE.md section 12.

Every frame has exactly one packet, and every packet accepted here is some frame's. Nothing is verified here: the rebuilt frame goes the
way of every other. Packets in pieces: fragments.py.
"""

from binascii import crc32
from collections import namedtuple

from . import cbor, cose
from .errors import LocalError, RemoteError
from .hello import VERSION
from .limits import MAX_PACKET_BYTES, MAX_PAYLOAD_BYTES, MAX_PIECES

#: What travels in a packet, the low two bits of its form. 0 is none of ours: every LoRaWAN packet has it there. An acknowledgement and all
#: that is unsigned share theirs; the bits that elsewhere count the octets of tx tell them apart.
TRAFFIC_UPLINK = 0x01
TRAFFIC_DOWNLINK = 0x02
TRAFFIC_ACKNOWLEDGEMENT = 0x03
TRAFFIC_HELLO = 0x13
TRAFFIC_WANT = 0x23
#: Of a release, WIRE.md 17.3; every other piece in this file is one of a packet.
TRAFFIC_PIECE = 0x33

HEAD_BYTES = 6
#: What a piece carries between head and part: check and position.
PIECE_BYTES = 3
MAX_WAITED_S = 0xFFFF
#: The longest body: waited (2) or issuer (4), tx (4), payload, signature.
MAX_BODY_BYTES = 8 + MAX_PAYLOAD_BYTES + cose.SIGNATURE_BYTES

_VERSION = 0x80
_VERSION_MASK = 0xC0
_TX_WIDTH = 4  # shift of the octets of tx, less 1
_TX_MASK = 0x30
_WAITED = 0x08
_PIECE = 0x04
_TRAFFIC_MASK = 0x03

#: form: first octet, without the bit of a piece; traffic TRAFFIC_..; network: the receiver's own, in full; node: sender, or whom a downlink
#: is for (0: all); is_piece.
Head = namedtuple("Head", ("form", "traffic", "network", "node", "is_piece"))
#: waited_s 0 .. MAX_WAITED_S, an unsigned remark of the sender's; frame: the octets of WIRE.md section 3, not yet verified, or of what is
#: unsigned those of section 10 or 17.3, not yet decoded.
Packet = namedtuple("Packet", ("traffic", "node", "waited_s", "frame"))


def encode(frame: bytes, traffic: int, network: int, node: int, waited_s: int = 0, most_bytes: int = MAX_PACKET_BYTES) -> list[bytes]:
    """Return the packets that carry `frame`, none above `most_bytes`: one, or its 2 .. 16 pieces.

    node: the sender; of a downlink whom it is for, 0 for a broadcast. waited_s: by how much the airtime budget delayed an uplink.
    Of what is unsigned `frame` is its body. Raises LocalError: `bad_cose` (frame, traffic and node do not go together), `too_long` (needs
    more than 16 pieces).
    """
    if _is_unsigned(traffic):
        form, body = _VERSION | traffic, _shorten_unsigned(frame, traffic, network, node, waited_s)
    else:
        form, body = _shorten(frame, traffic, node, waited_s)
    head = bytes((form, _network_octet(network))) + node.to_bytes(4, "big")
    if HEAD_BYTES + len(body) <= min(most_bytes, MAX_PACKET_BYTES):
        return [head + body]
    room = min(most_bytes, MAX_PACKET_BYTES) - HEAD_BYTES - PIECE_BYTES
    count = (len(body) + room - 1) // room if room > 0 else MAX_PIECES + 1
    if count > MAX_PIECES or traffic == TRAFFIC_WANT:
        raise LocalError("too_long", "more pieces than it may have: a faster data rate is needed")
    size = (len(body) + count - 1) // count
    check = body_check(head, body)
    head = bytes((form | _PIECE,)) + head[1:] + check.to_bytes(2, "big")
    return [head + bytes((i << 4 | (count - 1),)) + body[i * size : (i + 1) * size] for i in range(count)]


def _shorten(frame: bytes, traffic: int, node: int, waited_s: int) -> tuple[int, bytes]:
    try:
        message = cose.decode(frame)
    except RemoteError as error:
        raise LocalError(error.reason, error.detail)
    form = _VERSION | traffic
    body = b""
    if message.kind == cose.MAC0:
        is_right = traffic == TRAFFIC_ACKNOWLEDGEMENT and waited_s == 0
    else:
        is_right = traffic == TRAFFIC_UPLINK or (traffic == TRAFFIC_DOWNLINK and waited_s == 0)
        if waited_s:
            form |= _WAITED
            body = min(waited_s, MAX_WAITED_S).to_bytes(2, "big")
        if traffic == TRAFFIC_DOWNLINK:
            body = message.kid.to_bytes(4, "big")
        width = 1 if message.tx < 0x100 else 2 if message.tx < 0x10000 else 3 if message.tx < 0x1000000 else 4
        form |= (width - 1) << _TX_WIDTH
        body += message.tx.to_bytes(width, "big")
    if traffic != TRAFFIC_DOWNLINK:
        is_right = is_right and message.kid == node and node != 0
    if not is_right or not 0 <= node <= 0xFFFFFFFF or waited_s < 0:
        raise LocalError("bad_cose", "frame, traffic, node and wait do not go together")
    return form, body + message.payload + message.proof


def _is_unsigned(traffic: int) -> bool:
    return traffic > TRAFFIC_ACKNOWLEDGEMENT


def _starts(traffic: int, network: int, node: int) -> tuple[bytes, bytes]:
    """How an unsigned array begins, with all that both ends know of it, and the octet in place of that: the array without these items."""
    if traffic == TRAFFIC_PIECE:
        return b"\x83", b"\x83"
    who = cbor.encode(network) + cbor.encode(node)
    if traffic == TRAFFIC_WANT:
        return b"\x85" + who, b"\x83"
    return b"\x89" + cbor.encode(VERSION) + who, b"\x86"


def _shorten_unsigned(said: bytes, traffic: int, network: int, node: int, waited_s: int) -> bytes:
    start, short = _starts(traffic, network, node)
    if not said.startswith(start) or node == 0 or waited_s:
        raise LocalError("bad_cose", "not this node's hello, want or piece")
    return short + said[len(start) :]


def decode_head(packet: bytes, network: int) -> Head:
    """Return the head of a packet, the cheap part: what it is and from or for whom.

    Raises RemoteError: `foreign_packet`, `too_long`, `foreign_network`, `bad_packet`, in this order.
    """
    if len(packet) < HEAD_BYTES or packet[0] & _VERSION_MASK != _VERSION or not packet[0] & _TRAFFIC_MASK:
        raise RemoteError("foreign_packet", "not a packet of ours")
    if len(packet) > MAX_PACKET_BYTES:
        raise RemoteError("too_long", "packet above the cap")
    if packet[1] != _network_octet(network):
        raise RemoteError("foreign_network", "packet of another network")
    form = packet[0]
    traffic = form & _TRAFFIC_MASK
    if traffic == TRAFFIC_ACKNOWLEDGEMENT:
        traffic |= form & _TX_MASK
    node = int.from_bytes(packet[2:HEAD_BYTES], "big")
    if traffic != TRAFFIC_UPLINK and form & _WAITED:
        raise RemoteError("bad_packet", "only an uplink says that it waited")
    if traffic == TRAFFIC_WANT and form & _PIECE:
        raise RemoteError("bad_packet", "a want has no pieces")
    if traffic != TRAFFIC_DOWNLINK and node == 0:
        raise RemoteError("bad_packet", "node 0")
    return Head(form & ~_PIECE, traffic, network, node, form & _PIECE != 0)


def decode_body(head: Head, body: bytes) -> Packet:
    """Return the Packet whose head and whole body these are. Raises RemoteError: `bad_packet`, `too_long`."""
    if _is_unsigned(head.traffic):
        start, short = _starts(head.traffic, head.network, head.node)
        if body[:1] != short:
            raise RemoteError("bad_packet", "not so many parts")
        return Packet(head.traffic, head.node, 0, start + bytes(body[1:]))
    at = 0
    waited_s = 0
    kid = head.node
    tx = None
    proof_bytes = cose.TAG_BYTES
    if head.traffic != TRAFFIC_ACKNOWLEDGEMENT:
        proof_bytes = cose.SIGNATURE_BYTES
        if head.form & _WAITED:
            waited_s = int.from_bytes(body[:2], "big")
            at = 2
            if waited_s == 0:
                raise RemoteError("bad_packet", "waited for no time")
        if head.traffic == TRAFFIC_DOWNLINK:
            kid = int.from_bytes(body[:4], "big")
            at = 4
        width = (head.form >> _TX_WIDTH & 3) + 1
        tx = int.from_bytes(body[at : at + width], "big")
        at += width
        if tx >> 8 * (width - 1) == 0:
            raise RemoteError("bad_packet", "tx not in its shortest form")
    end = len(body) - proof_bytes
    if end < at:
        raise RemoteError("bad_packet", "too short for its parts")
    if end - at > MAX_PAYLOAD_BYTES:
        raise RemoteError("too_long", "payload above the cap")
    if tx is None:
        kind, protected = cose.MAC0, cose.protected_header(cose.HMAC_256_64, kid, None)
    else:
        kind, protected = cose.SIGN1, cose.protected_header(cose.ES256, kid, tx)
    return Packet(head.traffic, head.node, waited_s, cose.encode(kind, protected, bytes(body[at:end]), bytes(body[end:])))


def encode_head(head: Head) -> bytes:
    """Return the six octets of the head, those of a whole packet."""
    node: int = head.node
    return bytes((head.form, _network_octet(head.network))) + node.to_bytes(4, "big")


def body_check(head: bytes, body: bytes) -> int:
    """Return the check of a packet's pieces: the low 16 bits of the CRC-32 of the whole packet."""
    return crc32(head + body) & 0xFFFF


def _network_octet(network: int) -> int:
    return (network >> 24 ^ network >> 16 ^ network >> 8 ^ network) & 0xFF
