"""`lamppost frame decode`: any octets of our wire in words, and whether they are valid or why not.

Takes a COSE message (uplink, order, beacon, acknowledgement, ticket, request), serial line octets (SLIP; a bridge's too), a packet of the
air, or a hello's body. Nothing it is given makes it raise: what cannot be read is said, with the reason a gateway would count.
"""

from dataclasses import dataclass, field
from typing import Any

from lamppost_protocol import beacons, cose, elision, frames, hello, hop, orders, records, releases, slip, tickets
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostVerifier
from lamppost_protocol.fragments import Reassembly

from lamppost_tools.frame import service
from lamppost_tools.frame import words as frame_words
from lamppost_tools.frame.air import UNSIGNED, is_packet_form, modem_in_words, network_hint, packet_in_words
from lamppost_tools.node.registry import all_keys, valid_keys

_MESSAGE_NAMES = {
    slip.FRAME: "frame",
    slip.LOG: "log line",
    slip.HELLO: "hello",
    slip.RADIO_RECEIVED: "radio received",
    slip.RADIO_TRANSMIT: "radio transmit",
    slip.RADIO_SENT: "radio sent",
    slip.MODEM: "modem",
    slip.RADIO_LISTEN: "radio listen",
    slip.WANT: "want",
    slip.PIECE: "piece",
    slip.SERVICE: "service",
    slip.SERVICE_ANSWER: "service answer",
}
_ROOM = 64  # packets in pieces that a line may hold at once
_HINT = "unsigned: a hint only"
_LINE_REFUSALS = ("bad_slip", "bad_crc", "bad_type", "too_long")


@dataclass
class KeyRing:
    """What is known for checking proofs; all of it optional. Public keys, and hop keys where the caller may hold them."""

    network: int | None = None
    nodes: dict[int, dict[str, Any]] = field(default_factory=dict)
    issuer: int | None = None
    authority_key: bytes | None = None
    hop_keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    def hop_key(self, node: int, epoch: int) -> bytes | None:
        """The key of a node's acknowledgements in one epoch."""
        own = self.hop_keys.get(f"{node:08x}") if epoch == self.nodes[node]["epoch"] else None
        return self.hop_keys.get(f"{node:08x}.{epoch}", own)


def decode(data: bytes, ring: KeyRing) -> list[dict[str, Any]]:
    """Everything found in `data`, in order; at least one entry. Each has "what" and "verdict", refusals have "reason"."""
    if not data:
        return [_refusal("bad_cose", "nothing to decode")]
    if data[0] == slip.END[0]:
        return _decode_line(data, ring)
    if data[0] in (cose.SIGN1, cose.MAC0):
        return [decode_frame(data, ring)]
    try:
        return [{**frame_words.hello_in_words(hello.decode_hello(data)), "verdict": _HINT}]
    except ProtocolError:
        pass
    if is_packet_form(data):
        found = _decode_packet(data, _reassembly(network_hint(ring.network, data)), ring)
        line = _decode_line(data, ring) if slip.END in data and "packet" not in found[0] else []
        return line if any("serial_message" in entry for entry in line) else found
    if slip.END in data:
        return _decode_line(data, ring)
    return [decode_frame(data, ring)]


def is_valid(found: list[dict[str, Any]]) -> bool:
    """Whether nothing in `found` was refused."""
    return all("reason" not in entry for entry in found)


def decode_frame(data: bytes, ring: KeyRing) -> dict[str, Any]:
    """One COSE message in words."""
    try:
        message = cose.decode(data)
    except ProtocolError as error:
        # Only what begins as a frame is shown: a file named by mistake may hold a key.
        octets = {"hex": data[:64].hex()} if data[:1] in (b"\xd1", b"\xd2") else {}
        return _refusal(error.reason, error.detail, bytes=len(data), **octets)
    header = {
        "bytes": len(data),
        "type": "COSE_Sign1" if message.kind == cose.SIGN1 else "COSE_Mac0",
        "algorithm": "ES256" if message.kind == cose.SIGN1 else "HMAC 256/64",
        "kid": f"{message.kid:08x}",
        "tx": message.tx,
        "digest": frames.frame_digest(data).hex(),
    }
    if message.kind == cose.MAC0:
        return {**header, **_acknowledgement(message, ring)}
    return {**header, **_signed(message, ring)}


class LineReader:
    """A serial line as it comes: `feed` octets, get what they complete. Raises nothing."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._decoder = slip.Decoder()
        self._air: Reassembly | None = None
        self._told = dict.fromkeys(_LINE_REFUSALS, 0)

    def feed(self, data: bytes, now_ms: int = 0) -> list[dict[str, Any]]:
        """Messages, and how many refusals of the line's own. `now_ms`: by which pieces of packets grow old."""
        found: list[dict[str, Any]] = []
        for message_type, body in self._decoder.feed(data):
            found.extend({"serial_message": _MESSAGE_NAMES[message_type], **entry} for entry in self._message(message_type, body, now_ms))
        for reason in _LINE_REFUSALS:
            count = getattr(self._decoder, reason)
            found.extend(_refusal(reason, "on the serial line") for _ in range(count - self._told[reason]))
            self._told[reason] = count
        return found

    def _message(self, message_type: int, body: bytes, now_ms: int) -> list[dict[str, Any]]:
        if message_type == slip.FRAME:
            return [decode_frame(body, self._ring)]
        if message_type in UNSIGNED.values():
            return [_decode_hint(message_type, body)]
        if message_type == slip.LOG:
            return [{"what": "log", "text": frame_words.text_of_peer(body.decode("utf-8", "replace")), "verdict": _HINT}]
        if message_type == slip.SERVICE:
            return [decode_frame(body, self._ring) if body else {"what": "service question", "verdict": _HINT}]
        try:
            if message_type == slip.SERVICE_ANSWER:
                return [{**service.answer_in_words(tickets.decode_answer(body)), "verdict": _HINT}]
            words, packet = modem_in_words(message_type, body)
        except ProtocolError as error:
            return [_refusal(error.reason, error.detail)]
        if packet is None:
            return [{**words, "verdict": _HINT}]
        self._air = self._air or _reassembly(network_hint(self._ring.network, packet))
        return [{**words, **entry} for entry in _decode_packet(packet, self._air, self._ring, now_ms)]


def _decode_line(data: bytes, ring: KeyRing) -> list[dict[str, Any]]:
    found = LineReader(ring).feed(data if data.endswith(slip.END) else data + slip.END)
    return found or [_refusal("bad_slip", "no message between the END octets")]


def _reassembly(network: int) -> Reassembly:
    return Reassembly(network, lambda traffic, node: True, _ROOM)


def _decode_packet(packet: bytes, air: Reassembly, ring: KeyRing, now_ms: int = 0) -> list[dict[str, Any]]:
    """A packet and the frame that it completes; at least one entry."""
    network = network_hint(ring.network, packet)
    try:
        words = packet_in_words(packet, network)
        complete = air.feed(packet, now_ms)
    except ProtocolError as error:
        return [_refusal(error.reason, error.detail, packet_bytes=len(packet))]
    if not complete:
        return [{**words, "what": "piece of a packet", "verdict": "waits for the other pieces"}]
    return [{**words, "waited_s": rebuilt.waited_s, **_decode_rebuilt(rebuilt, ring)} for rebuilt in complete]


def _decode_rebuilt(rebuilt: elision.Packet, ring: KeyRing) -> dict[str, Any]:
    if rebuilt.traffic not in UNSIGNED:
        return decode_frame(rebuilt.frame, ring)
    words = _decode_hint(UNSIGNED[rebuilt.traffic], rebuilt.frame)
    return words if ring.network is not None or "network" not in words else {**words, "network": None}


def _decode_hint(message_type: int, body: bytes) -> dict[str, Any]:
    """A hello, a want or a piece of a release."""
    try:
        if message_type != slip.HELLO:
            return {**frame_words.hint_of_release_in_words(message_type, body), "verdict": _HINT}
        return {**frame_words.hello_in_words(hello.decode_hello(body)), "verdict": _HINT}
    except ProtocolError as error:
        return _refusal(error.reason, error.detail)


def _signed(message: Any, ring: KeyRing) -> dict[str, Any]:
    for direction, read in _READERS:
        try:
            words = read(message)
        except ProtocolError:
            continue
        if direction == frames.UPLINK:
            return {**words, **_check_uplink(message, ring)}
        if direction == frames.REQUEST:
            return {
                **words,
                "holder": f"{message.kid:08x}",
                "verdict": "not checked: the key is in the ticket, and only the node knows which counts",
            }
        return {**words, **_check_authority(message, direction, ring)}
    return _refusal("bad_payload", "neither records, order, beacon, release, ticket nor request", payload=message.payload.hex())


def _uplink(message: Any) -> dict[str, Any]:
    words = frame_words.uplink_in_words(records.decode_uplink(message.payload))
    return {"what": words.pop("what"), "node": f"{message.kid:08x}", **words}


def _order(message: Any) -> dict[str, Any]:
    return frame_words.order_in_words(orders.decode_order(message.tx, message.payload))


def _beacon(message: Any) -> dict[str, Any]:
    return frame_words.beacon_in_words(beacons.decode_beacon(message.payload))


def _release(message: Any) -> dict[str, Any]:
    return frame_words.release_in_words(releases.decode_manifest(message.tx, message.payload))


def _ticket(message: Any) -> dict[str, Any]:
    return service.ticket_in_words(message.tx, tickets.decode_ticket(message.payload))


def _request(message: Any) -> dict[str, Any]:
    return service.request_in_words(message.tx, tickets.decode_request(message.payload))


_READERS = (
    (frames.UPLINK, _uplink),
    (frames.ORDER, _order),
    (frames.BEACON, _beacon),
    (frames.RELEASE, _release),
    (frames.TICKET, _ticket),
    (frames.REQUEST, _request),
)


def _check_uplink(message: Any, ring: KeyRing) -> dict[str, Any]:
    if ring.network is None:
        return {"verdict": "not checked: give --registry"}
    entry = ring.nodes.get(message.kid)
    if entry is None:
        return _refusal_only("unknown_node", f"node {message.kid:08x} is not in the registry")
    if entry.get("revoked"):
        return _refusal_only("revoked_node", f"node {message.kid:08x} is revoked")
    for epoch, public_key in sorted(all_keys(entry).items(), reverse=True):
        try:
            frames.open_signed(message, HostVerifier(bytes.fromhex(public_key)), frames.UPLINK, ring.network, message.kid, epoch)
        except ProtocolError as error:
            failure = error
            continue
        words = {"verdict": "valid", "epoch": epoch, "network": f"{ring.network:08x}"}
        return words if epoch in valid_keys(entry) else {**words, "note": "of an epoch that has ended: gateways refuse it now"}
    detail = f"not signed by this node's key for network {ring.network:08x}, epoch {entry['epoch']}"
    return _refusal_only(failure.reason, f"{detail} ({failure.detail})" if failure.detail else detail)


def _check_authority(message: Any, direction: int, ring: KeyRing) -> dict[str, Any]:
    if ring.authority_key is None or ring.network is None:
        return {"verdict": "not checked: give --authority-key (and --registry for the nodes it may be meant for)"}
    if ring.issuer is not None and message.kid != ring.issuer:
        return _refusal_only("unknown_issuer", f"kid {message.kid:08x} is not the authority's {ring.issuer:08x}")
    verifier = HostVerifier(ring.authority_key)
    contexts = [(0, 0)] if direction in (frames.BEACON, frames.RELEASE) else []
    if direction != frames.RELEASE:
        contexts += [(node, epoch) for node, entry in sorted(ring.nodes.items()) for epoch in all_keys(entry)]
    for node, epoch in contexts:
        try:
            frames.open_signed(message, verifier, direction, ring.network, node, epoch)
        except ProtocolError:
            continue
        meant = (
            "every node with its base" if direction == frames.RELEASE else "everybody" if node == 0 else f"node {node:08x}, epoch {epoch}"
        )
        return {"verdict": "valid", "meant_for": meant, "network": f"{ring.network:08x}"}
    return _refusal_only("bad_signature", f"not signed by this authority for any of the {len(ring.nodes)} known node(s) in their epoch")


def _acknowledgement(message: Any, ring: KeyRing) -> dict[str, Any]:
    try:
        words = frame_words.acknowledgement_in_words(frames.decode_acknowledgement(message.payload))
    except ProtocolError as error:
        return _refusal(error.reason, error.detail, payload=message.payload.hex())
    words["node"] = f"{message.kid:08x}"
    entry = ring.nodes.get(message.kid)
    epochs = {} if entry is None else {epoch: ring.hop_key(message.kid, epoch) for epoch in valid_keys(entry)}
    keys = {epoch: key for epoch, key in epochs.items() if key is not None}
    if not keys or ring.network is None:
        return {**words, "verdict": "not checked: give --registry and --hop-keys"}
    for epoch, key in keys.items():
        try:
            frames.open_acknowledgement(message, hop.HopKey(key), ring.network, message.kid, epoch)
        except ProtocolError as error:
            failure = error
            continue
        return {**words, "verdict": "valid"}
    return {**words, **_refusal_only(failure.reason, failure.detail or "not made with this node's hop key")}


def _refusal(reason: str, detail: str, **fields: Any) -> dict[str, Any]:
    return {"what": "not readable", **fields, **_refusal_only(reason, detail)}


def _refusal_only(reason: str, detail: str) -> dict[str, Any]:
    return {"verdict": "refused", "reason": reason, "detail": detail}
