"""A refused frame in words, as far as it can be read: what it is, whom it claims to be from, what it says; pure.

Nothing here is verified: these are a stranger's bytes, so every text in them is made harmless and cut.
"""

from typing import Any

from lamppost_protocol import beacons, cose, frames, kinds, order_words, orders, profiles, records
from lamppost_protocol.errors import ProtocolError

from lamppost_gateway.documents import iso
from lamppost_gateway.topics import hex8


def describe(data: bytes) -> dict[str, Any]:
    """Return what `data` looks like; `unreadable` says at which rule the reading stopped."""
    try:
        message = cose.decode(data)
    except ProtocolError as error:
        return {"looks_like": "nothing we know", "unreadable": str(error)}
    words: dict[str, Any] = {"claims_kid": hex8(message.kid)}
    if message.tx is not None:
        words["tx"] = message.tx
    try:
        return words | _content(message)
    except ProtocolError as error:
        return words | {"looks_like": "a sealed message", "unreadable": str(error)}


def _content(message: cose.Message) -> dict[str, Any]:
    if message.kind == cose.MAC0:
        said = frames.decode_acknowledgement(message.payload)
        return {"looks_like": "acknowledgement", "highest": said.highest}
    if beacons.is_beacon(message.payload):
        beacon = beacons.decode_beacon(message.payload)
        return {"looks_like": "beacon", "time": iso(beacon.unix * 1000, "seconds"), "has_nonce": beacon.nonce is not None}
    try:
        uplink = records.decode_uplink(message.payload)
    except ProtocolError:
        order = orders.decode_order(message.tx, message.payload)
        return {
            "looks_like": "order",
            "verb": order_words.VERBS.get(order.verb, f"verb_{order.verb}"),
            "target": "node" if order.target == 0 else profiles.fixture_name(order.target),
            "not_after": iso(order.not_after * 1000, "seconds"),
        }
    return {
        "looks_like": "uplink",
        "n": uplink.n,
        "records": [f"{profiles.fixture_name(record[0])} {_quality(record[2])}" for record in uplink.records],
        "time": None if uplink.t is None else iso(uplink.t * 1000, "seconds"),
    }


def _quality(code: int) -> str:
    return kinds.QUALITIES[code] if code < len(kinds.QUALITIES) else f"code_{code}"


def in_one_line(words: dict[str, Any]) -> str:
    """Return the words as `uplink n=5 lamp good`, for a table."""
    parts = [str(words["looks_like"])]
    for key, value in words.items():
        if key == "records":
            parts.append("[" + ", ".join(value) + "]")
        elif key == "unreadable":
            parts.append(f"({value})")
        elif key not in ("looks_like", "claims_kid") and value is not None:
            parts.append(f"{key}={value}")
    return " ".join(parts)
