"""Payloads in words: names, units, times and enumerations from the profile table. Pure, and made for hostile bytes.

Every function takes decoded protocol values and returns plain JSON values; peer text is stripped of control characters.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from lamppost_protocol import beacons, cose, frames, hello, kinds, order_words, orders, profiles, records, releases, schedule, slip
from lamppost_protocol.errors import ProtocolError

from lamppost_tools.order.schedule_file import schedule_in_words

_WORDS: dict[tuple[str, str], Any] = {
    ("lamp", "cause"): profiles.LAMP_CAUSES,
    ("lamp", "faults"): profiles.LAMP_FAULTS,
    ("bin", "flags"): profiles.BIN_FLAGS,
    ("air", "method"): profiles.AIR_METHODS,
    ("node", "state"): hello.STATES,
    ("order_state", "state"): order_words.STATES,
    ("order_state", "reason"): order_words.REASONS,
    ("gap", "reason"): kinds.GAP_REASONS,
    ("service", "verb"): profiles.SERVICE_VERBS,
    ("service", "result"): {**order_words.REASONS, orders.NO_REASON: "done"},
}
_MAX_TEXT = 200


def uplink_in_words(uplink: records.Uplink) -> dict[str, Any]:
    """An uplink payload: first number, what is owed, clock, and each record with its own number and time."""
    return {
        "what": "uplink",
        "n": uplink.n,
        "behind": uplink.behind,
        "time": time_in_words(uplink.t),
        "clock": "never set" if uplink.t is None else f"known to within {uplink.clock} s",
        "records": [record_in_words(uplink.n + index, record, uplink.t) for index, record in enumerate(uplink.records)],
    }


def record_in_words(n: int, record: list[Any], base_s: int | None) -> dict[str, Any]:
    """One record. A profile unknown here keeps its raw values."""
    kind, dt, quality = record[0], record[1], record[2]
    profile_id, instance = kinds.split_kind(kind)
    profile = profiles.PROFILES.get(profile_id)
    words: dict[str, Any] = {
        "n": n,
        "fixture": profiles.fixture_name(kind),
        "profile": profile.name if profile else None,
        "instance": instance,
        "time": None if base_s is None or dt is None else time_in_words(base_s + dt),
        "quality": kinds.QUALITIES[quality] if quality < len(kinds.QUALITIES) else f"unknown code {quality}",
    }
    if dt is None:
        words["when"] = "time lost"
    elif base_s is None:
        words["when"] = f"{-dt} s before sending"
    values = record[3:]
    if profile is None:
        words["note"] = "this profile is unknown here: raw integers"
        words["values"] = values
        return words
    words["values"] = {
        column.name: value_in_words(profile.name, column, value) for column, value in zip(profile.columns, values, strict=False)
    }
    if len(values) > len(profile.columns):
        words["note"] = f"{len(values) - len(profile.columns)} newer column(s) unknown here"
        words["more_values"] = values[len(profile.columns) :]
    return words


def value_in_words(profile: str, column: profiles.Column, value: int | None) -> dict[str, Any]:
    """One value as {"value", "unit", "path"}; enumerations and flag words named; outside its range said so."""
    words: dict[str, Any] = {"value": None, "unit": column.unit, "path": column.path}
    if value is None:
        return words
    scaled = Decimal(value).scaleb(column.scale)
    words["value"] = value if column.scale == 0 else float(scaled)
    if not column.low <= value <= column.high:
        words["note"] = "outside the column's range"
    names = _WORDS.get((profile, column.name))
    if column.unit == "enum" and names is not None:
        words["word"] = _name(names, value)
    elif column.unit == "bits" and names is not None and value >= 0:
        words["words"] = [
            names[bit] if bit < len(names) else f"bit {bit}" for bit in range(min(64, value.bit_length())) if value >> bit & 1
        ]
    return words


def order_in_words(order: orders.Order) -> dict[str, Any]:
    """An order with its life and its arguments."""
    words: dict[str, Any] = {
        "what": "order",
        "order_id": order.order_id,
        "not_before": time_in_words(order.not_before),
        "not_after": time_in_words(order.not_after),
        "verb": order_words.VERBS.get(order.verb, f"unknown verb {order.verb}"),
        "target": "the node" if order.target == 0 else profiles.fixture_name(order.target),
    }
    try:
        orders.check_arguments(order.verb, order.target, order.args)
    except ProtocolError as error:
        return {**words, "arguments": plain(order.args), "note": f"a node refuses this: {error}"}
    if order.verb == orders.LEVEL:
        words.update(level_percent=order.args[0], ramp_s=order.args[1])
    elif order.verb == orders.CANCEL:
        words.update(cancels_order=order.args[0])
    elif order.verb == orders.RESEND:
        words.update(first_n=order.args[0], last_n=order.args[1])
    elif order.verb == orders.SCHEDULE:
        words.update(_schedule_in_words(order.args[0]))
    elif order.verb == orders.UPDATE:
        words.update(_manifest_in_words(order.args[0]))
    else:
        words.update(arguments=plain(order.args))
    return words


def _schedule_in_words(value: Any) -> dict[str, Any]:
    try:
        schedule.check_schedule(value)
    except ProtocolError as error:
        return {"arguments": plain(value), "note": f"a node refuses this: {error}"}
    return {"schedule": schedule_in_words(value)}


def _manifest_in_words(data: bytes) -> dict[str, Any]:
    try:
        message = cose.decode(data)
        return {"release": release_in_words(releases.decode_manifest(message.tx, message.payload))}
    except ProtocolError as error:
        return {"arguments": data.hex(), "note": f"a node refuses this: {error}"}


def release_in_words(manifest: releases.Manifest) -> dict[str, Any]:
    """A release's manifest, whoever signed it."""
    return {
        "what": "release",
        "sequence": manifest.sequence,
        "version": text_of_peer(manifest.version),
        "base": manifest.base.hex(),
        "heap_bytes": manifest.heap_bytes,
        "body_bytes": manifest.size_bytes,
        "body_sha256": manifest.digest.hex(),
    }


def hint_of_release_in_words(message_type: int, body: bytes) -> dict[str, Any]:
    """A want or a piece of a release's body. Raises RemoteError."""
    if message_type == slip.WANT:
        want = releases.decode_want(body)
        end = want.first + want.count * releases.PIECE_BYTES
        words = {"what": "want", "network": f"{want.network:08x}", "node": f"{want.node:08x}", "release": want.release.hex()}
        return {**words, "octets": f"{want.first} to {end}, or the body's end"}
    piece = releases.decode_piece(body)
    return {"what": "piece", "release": piece.release.hex(), "octets": f"{piece.offset} to {piece.offset + len(piece.octets)}"}


def beacon_in_words(beacon: beacons.Beacon) -> dict[str, Any]:
    """A beacon: city time and whom it answers."""
    return {
        "what": "beacon",
        "time": time_in_words(beacon.unix),
        "nonce": None if beacon.nonce is None else beacon.nonce.hex(),
        "for": "everybody" if beacon.nonce is None else "the node that sent this nonce",
    }


def acknowledgement_in_words(acknowledgement: frames.Acknowledgement) -> dict[str, Any]:
    """An acknowledgement: everything up to `highest` is stored, and which above it."""
    above = [acknowledgement.highest + 1 + bit for bit in range(32) if acknowledgement.bitmap >> bit & 1]
    words: dict[str, Any] = {
        "what": "acknowledgement",
        "highest": acknowledgement.highest,
        "also_stored": above,
        "answers_frame_digest": acknowledgement.digest.hex(),
    }
    if acknowledgement.steps is not None:
        words["ladder_steps"] = acknowledgement.steps
    return words


def hello_in_words(value: hello.Hello) -> dict[str, Any]:
    """A hello; it is unsigned, so a hint only."""
    return {
        "what": "hello",
        "network": f"{value.network:08x}",
        "node": f"{value.node:08x}",
        "epoch": value.epoch,
        "state": hello.STATES[value.state],
        "nonce": None if value.nonce is None else value.nonce.hex(),
        "oldest_n": value.oldest_n,
        "next_n": value.next_n,
        "firmware": text_of_peer(value.firmware),
    }


def time_in_words(unix_s: int | None) -> str | None:
    """ISO 8601 in UTC; a number beyond the calendar stays a number with its unit."""
    if unix_s is None:
        return None
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s since 1970"


def text_of_peer(text: str) -> str:
    """A peer's text, cut and free of control characters, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_MAX_TEXT])


def plain(value: Any) -> Any:
    """A decoded CBOR value as JSON can carry it: octets as hex, keys as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return text_of_peer(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int)):
        return value
    return text_of_peer(str(value))


def _name(names: Any, value: int) -> str:
    if isinstance(names, dict):
        return names.get(value) or ("none" if value == 0 else f"unknown code {value}")
    return str(names[value]) if 0 <= value < len(names) else f"unknown code {value}"
