"""`lamppost frame decode`: any octets of our wire in words, and whether they are valid or why not.

Takes a COSE message (uplink, order, beacon, acknowledgement), serial line octets (SLIP), or a hello's body. Nothing it is
given makes it raise: what cannot be read is said, with the reason a gateway would count.
"""

from dataclasses import dataclass, field
from typing import Any

from lamppost_protocol import beacons, cose, frames, hello, hop, orders, records, slip
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostVerifier

from lamppost_tools import frame_words

_MESSAGE_NAMES = {
    slip.FRAME: "frame",
    slip.LOG: "log line",
    slip.HELLO: "hello",
    slip.RADIO_RECEIVED: "radio received",
    slip.RADIO_TRANSMIT: "radio transmit",
}


@dataclass
class KeyRing:
    """What is known for checking proofs; all of it optional. Public keys, and hop keys where the caller may hold them."""

    network: int | None = None
    nodes: dict[int, dict[str, Any]] = field(default_factory=dict)
    issuer: int | None = None
    authority_key: bytes | None = None
    hop_keys: dict[int, bytes] = field(default_factory=dict, repr=False)


def decode(data: bytes, ring: KeyRing) -> list[dict[str, Any]]:
    """Everything found in `data`, in order; at least one entry. Each has "what" and "verdict", refusals have "reason"."""
    if not data:
        return [_refusal("bad_cose", "nothing to decode")]
    if data[0] == slip.END[0]:
        return _decode_line(data, ring)
    if data[0] in (cose.SIGN1, cose.MAC0):
        return [decode_frame(data, ring)]
    try:
        return [{**frame_words.hello_in_words(hello.decode_hello(data)), "verdict": "unsigned: a hint only"}]
    except ProtocolError:
        pass
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


def _decode_line(data: bytes, ring: KeyRing) -> list[dict[str, Any]]:
    decoder = slip.Decoder()
    found: list[dict[str, Any]] = []
    for message_type, body in decoder.feed(data if data.endswith(slip.END) else data + slip.END):
        entry: dict[str, Any] = {"serial_message": _MESSAGE_NAMES[message_type]}
        if message_type == slip.FRAME:
            entry.update(decode_frame(body, ring))
        elif message_type == slip.HELLO:
            try:
                entry.update(frame_words.hello_in_words(hello.decode_hello(body)), verdict="unsigned: a hint only")
            except ProtocolError as error:
                entry.update(_refusal(error.reason, error.detail))
        elif message_type == slip.LOG:
            text = frame_words.text_of_peer(body.decode("utf-8", "replace"))
            entry.update(what="log", text=text, verdict="unsigned: a hint only")
        else:
            entry.update(what="radio", hex=body.hex(), verdict="reserved for bridges")
        found.append(entry)
    for reason in ("bad_slip", "bad_crc", "bad_type", "too_long"):
        found.extend(_refusal(reason, "on the serial line") for _ in range(getattr(decoder, reason)))
    return found or [_refusal("bad_slip", "no message between the END octets")]


def _signed(message: Any, ring: KeyRing) -> dict[str, Any]:
    for direction, read in ((frames.UPLINK, _uplink), (frames.ORDER, _order), (frames.BEACON, _beacon)):
        try:
            words = read(message)
        except ProtocolError:
            continue
        if direction == frames.UPLINK:
            return {**words, **_check_uplink(message, ring)}
        return {**words, **_check_authority(message, direction, ring)}
    return _refusal("bad_payload", "neither records, order nor beacon", payload=message.payload.hex())


def _uplink(message: Any) -> dict[str, Any]:
    words = frame_words.uplink_in_words(records.decode_uplink(message.payload))
    return {"what": words.pop("what"), "node": f"{message.kid:08x}", **words}


def _order(message: Any) -> dict[str, Any]:
    return frame_words.order_in_words(orders.decode_order(message.tx, message.payload))


def _beacon(message: Any) -> dict[str, Any]:
    return frame_words.beacon_in_words(beacons.decode_beacon(message.payload))


def _check_uplink(message: Any, ring: KeyRing) -> dict[str, Any]:
    if ring.network is None:
        return {"verdict": "not checked: give --registry"}
    entry = ring.nodes.get(message.kid)
    if entry is None:
        return _refusal_only("unknown_node", f"node {message.kid:08x} is not in the registry")
    if entry.get("revoked"):
        return _refusal_only("revoked_node", f"node {message.kid:08x} is revoked")
    epoch = int(entry["epoch"])
    try:
        verifier = HostVerifier(bytes.fromhex(entry["public_key"]))
        frames.open_signed(message, verifier, frames.UPLINK, ring.network, message.kid, epoch)
    except ProtocolError as error:
        detail = f"not signed by this node's key for network {ring.network:08x}, epoch {epoch}"
        return _refusal_only(error.reason, f"{detail} ({error.detail})" if error.detail else detail)
    return {"verdict": "valid", "epoch": epoch, "network": f"{ring.network:08x}"}


def _check_authority(message: Any, direction: int, ring: KeyRing) -> dict[str, Any]:
    if ring.authority_key is None or ring.network is None:
        return {"verdict": "not checked: give --authority-key (and --registry for the nodes it may be meant for)"}
    if ring.issuer is not None and message.kid != ring.issuer:
        return _refusal_only("unknown_issuer", f"kid {message.kid:08x} is not the authority's {ring.issuer:08x}")
    verifier = HostVerifier(ring.authority_key)
    contexts = [(0, 0)] if direction == frames.BEACON else []
    contexts += [(node, int(entry["epoch"])) for node, entry in sorted(ring.nodes.items())]
    for node, epoch in contexts:
        try:
            frames.open_signed(message, verifier, direction, ring.network, node, epoch)
        except ProtocolError:
            continue
        meant = "everybody" if node == 0 else f"node {node:08x}, epoch {epoch}"
        return {"verdict": "valid", "meant_for": meant, "network": f"{ring.network:08x}"}
    return _refusal_only("bad_signature", f"not signed by this authority for any of the {len(ring.nodes)} known node(s) in their epoch")


def _acknowledgement(message: Any, ring: KeyRing) -> dict[str, Any]:
    try:
        words = frame_words.acknowledgement_in_words(frames.decode_acknowledgement(message.payload))
    except ProtocolError as error:
        return _refusal(error.reason, error.detail, payload=message.payload.hex())
    words["node"] = f"{message.kid:08x}"
    key, entry = ring.hop_keys.get(message.kid), ring.nodes.get(message.kid)
    if key is None or entry is None or ring.network is None:
        return {**words, "verdict": "not checked: give --registry and --hop-keys"}
    try:
        frames.open_acknowledgement(message, hop.HopKey(key), ring.network, message.kid, int(entry["epoch"]))
    except ProtocolError as error:
        return {**words, **_refusal_only(error.reason, error.detail or "not made with this node's hop key")}
    return {**words, "verdict": "valid"}


def _refusal(reason: str, detail: str, **fields: Any) -> dict[str, Any]:
    return {"what": "not readable", **fields, **_refusal_only(reason, detail)}


def _refusal_only(reason: str, detail: str) -> dict[str, Any]:
    return {"verdict": "refused", "reason": reason, "detail": detail}
