"""The JSON documents the city reads, made from verified frames and the gateway's own knowledge; pure.

Each document has a JSON schema in schema_mqtt/. Nothing a node signed is lost here: a profile or column that this
gateway does not know is passed on as raw integers, and the frame itself is published beside the documents.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cbor2
from lamppost_protocol import hello, kinds, order_words, profiles, records
from lamppost_protocol.errors import RemoteError

from lamppost_gateway.outbox_rows import Loss, StoredFrame
from lamppost_gateway.topics import hex8

if TYPE_CHECKING:
    from lamppost_gateway.verifier import VerifiedFrame

VERSION = 1

#: What the numbers of `enum` and `bits` columns mean, by profile and column.
_WORDS: dict[tuple[str, str], dict[int, str]] = {
    ("lamp", "cause"): dict(enumerate(profiles.LAMP_CAUSES)),
    ("lamp", "faults"): dict(enumerate(profiles.LAMP_FAULTS)),
    ("bin", "flags"): dict(enumerate(profiles.BIN_FLAGS)),
    ("air", "method"): dict(enumerate(profiles.AIR_METHODS)),
    ("node", "state"): dict(enumerate(hello.STATES)),
    ("order_state", "state"): order_words.STATES,
    ("order_state", "reason"): order_words.REASONS,
    ("gap", "reason"): kinds.GAP_REASONS,
    ("service", "verb"): dict(enumerate(profiles.SERVICE_VERBS)),
    ("service", "result"): {**order_words.REASONS, 0: "done"},
}


@dataclass(frozen=True)
class Record:
    """One record of a verified frame: its number, its kind, its time (unix s, None = unknown) and its integers."""

    node: int
    epoch: int
    n: int
    kind: int
    quality: int
    unix: int | None
    age_s: int | None
    uncertainty_s: int | None
    values: tuple[int | None, ...]

    @property
    def profile_id(self) -> int:
        """The profile, whether this gateway knows it or not."""
        return kinds.split_kind(self.kind)[0]

    @property
    def fixture(self) -> str:
        """The fixture's name in topics: `lamp`, `lamp.1`, `profile-9`."""
        return profiles.fixture_name(self.kind)

    def value(self, name: str) -> int | None:
        """Return the integer in the column `name`; None when it is null, absent or the profile is unknown."""
        profile = profiles.PROFILES.get(self.profile_id)
        for index, column in enumerate(profile.columns if profile else ()):
            if column.name == name:
                return self.values[index] if index < len(self.values) else None
        return None


def records_of(heard: StoredFrame) -> list[Record]:
    """Return the fresh records of a stored frame, in order of `n`. Raises RemoteError when the store is damaged.

    The frame passed our strict decoder before it was stored, so the quick general one will do here; that is a sixth of
    the publisher's time. Types are checked all the same, since a disk can rot.
    """
    try:
        n, behind, t, clock, *contents = cbor2.loads(cbor2.loads(heard.data).value[2])
    except (cbor2.CBORDecodeError, AttributeError, TypeError, ValueError, IndexError) as error:
        raise RemoteError("bad_payload", type(error).__name__) from None
    for content in contents:
        records.check_record(content, t is not None)
    if not (isinstance(n, int) and isinstance(t, int | None) and isinstance(clock, int | None)):
        raise RemoteError("bad_payload", "head")
    return list(_records(heard.node, heard.epoch, heard.fresh, records.Uplink(n, behind, t, clock, contents)))


def order_states_of(frame: "VerifiedFrame") -> list[Record]:
    """Return the fresh order_state records of a frame that has just been verified and stored."""
    if all(record[0] & 63 != kinds.ORDER_STATE for record in frame.records):
        return []
    uplink = records.Uplink(frame.n, frame.behind, frame.t, frame.clock, frame.records)
    found = _records(frame.node, frame.epoch, frame.fresh, uplink)
    return [record for record in found if record.profile_id == kinds.ORDER_STATE]


def _records(node: int, epoch: int, fresh: int, uplink: records.Uplink) -> Iterator[Record]:
    for i, (kind, dt, quality, *values) in enumerate(uplink.records):
        if not fresh >> i & 1:
            continue
        known = uplink.t is not None and dt is not None
        yield Record(
            node=node,
            epoch=epoch,
            n=uplink.n + i,
            kind=kind,
            quality=quality,
            unix=uplink.t + dt if known else None,
            age_s=-dt if uplink.t is None and dt is not None else None,
            uncertainty_s=uplink.clock if known else None,
            values=tuple(values),
        )


def record_document(record: Record, heard: StoredFrame, gateway: str, *, late: bool) -> dict[str, Any]:
    """Return the document of topic node/<id>/record/<fixture> (schema_mqtt/record.json)."""
    profile = profiles.PROFILES.get(record.profile_id)
    time = iso(record.unix * 1000, "seconds") if record.unix is not None else None
    document: dict[str, Any] = {
        "v": VERSION,
        "node": hex8(record.node),
        "fixture": record.fixture,
        "instance": kinds.split_kind(record.kind)[1],
        "profile": profile.name if profile else None,
        "profile_id": record.profile_id,
        "epoch": record.epoch,
        "n": record.n,
        "time": time,
        "clock": {
            "state": "never_set" if record.unix is None else "synced" if time is not None else "implausible",
            "uncertainty_s": record.uncertainty_s,
            "age_s": record.age_s,
        },
        "quality": _name(kinds.QUALITIES, record.quality),
        "late": late,
        "verified": True,
        "values": _values(profile, record.values),
        "gateway": gateway,
        "received_at": iso(heard.received_at_ms),
    }
    unread = record.values[len(profile.columns) if profile else 0 :]
    if unread:
        document["raw"] = list(unread)
    return document


def _values(profile: profiles.Profile | None, values: Sequence[int | None]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for column, value in zip(profile.columns if profile else (), values, strict=False):
        entry: dict[str, Any] = {"value": scaled(value, column.scale), "unit": column.unit, "path": column.path}
        words = _WORDS.get((profile.name, column.name)) if profile else None
        if words is not None and value is not None:
            if column.unit == "bits":
                entry["words"] = [words.get(bit, f"bit_{bit}") for bit in range(value.bit_length()) if value >> bit & 1]
            else:
                entry["word"] = words.get(value, f"code_{value}")
        document[column.name] = entry
    return document


def scaled(value: int | None, scale: int) -> int | float | None:
    """Return value * 10**scale: an int while scale >= 0, else the double nearest to the exact decimal."""
    if value is None:
        return None
    if scale < 0:
        divisor: int = 10**-scale
        return value / divisor
    factor: int = 10**scale
    return value * factor


def iso(unix_ms: int, resolution: str = "milliseconds") -> str | None:
    """Return unix milliseconds as ISO 8601 in UTC with a Z; None beyond the year 9999, which a broken clock may claim."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec=resolution).replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return None


def hello_document(message: hello.Hello, gateway: str, link: str, at_ms: int) -> dict[str, Any]:
    """Return the document of topic node/<id>/hello (hello.json). Unsigned: a hint, as `verified` says."""
    return {
        "v": VERSION,
        "node": hex8(message.node),
        "epoch": message.epoch,
        "state": hello.STATES[message.state],
        "nonce": None if message.nonce is None else message.nonce.hex(),
        "oldest_n": message.oldest_n,
        "next_n": message.next_n,
        "firmware": message.firmware,
        "verified": False,
        "gateway": gateway,
        "link": link,
        "received_at": iso(at_ms),
    }


def status_document(heard: StoredFrame, last: Record, gateway: str) -> dict[str, Any]:
    """Return the retained document of topic node/<id>/status (node-status.json)."""
    return {
        "v": VERSION,
        "node": hex8(heard.node),
        "epoch": heard.epoch,
        "state": "heard",
        "last_heard": iso(heard.received_at_ms),
        "last_n": last.n,
        "clock": "never_set" if last.unix is None else "synced",
        "link": heard.link,
        "gateway": gateway,
    }


def reject_document(reason: str, node: int | None, frame: bytes, link: str, at_ms: int, gateway: str, skipped: int = 0) -> dict[str, Any]:
    """Return the document of topic gateway/<id>/reject (gateway-reject.json). `skipped`: refusals before this one, not sent."""
    return {
        "v": VERSION,
        "reason": reason,
        "node": None if node is None else hex8(node),
        "bytes": frame.hex(),
        "link": link,
        "at": iso(at_ms),
        "gateway": gateway,
        "skipped": skipped,
    }


def loss_document(loss: Loss, gateway: str) -> dict[str, Any]:
    """Return the document of topic gateway/<id>/loss (gateway-loss.json): what this gateway stored and had to drop."""
    return {
        "v": VERSION,
        "node": hex8(loss.node),
        "epoch": loss.epoch,
        "first_n": loss.first_n,
        "last_n": loss.last_n,
        "records": loss.records,
        "reason": loss.reason,
        "at": iso(loss.at_ms),
        "gateway": gateway,
    }


def order_state_document(order_id: int, node: int, state: int, at_ms: int, gateway: str, evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the retained document of topic order/<order_id>/state (order-state.json)."""
    return {
        "v": VERSION,
        "order_id": order_id,
        "node": hex8(node),
        "state": _name(order_words.STATES, state),
        "at": iso(at_ms),
        "evidence": evidence,
        "gateway": gateway,
    }


def order_evidence(record: Record) -> dict[str, Any]:
    """Return what a node's signed order_state record proves: where it can be read again, the reason, level and power."""
    profile = profiles.by_name("order_state")
    evidence: dict[str, Any] = {
        "by": "node",
        "epoch": record.epoch,
        "n": record.n,
        "time": iso(record.unix * 1000, "seconds") if record.unix is not None else None,
    }
    reason = record.value("reason")
    if reason:
        evidence["reason"] = _name(order_words.REASONS, reason)
    for column in profile.columns:
        value = record.value(column.name)
        if column.name in ("level", "power_before", "power_after") and value is not None:
            evidence[column.name] = {"value": scaled(value, column.scale), "unit": column.unit, "path": column.path}
    return evidence


def parse_evidence(text: str) -> dict[str, Any]:
    """Return the evidence of a stored order event; {} when a damaged store left no JSON object."""
    try:
        evidence = json.loads(text)
    except ValueError:
        return {}
    return evidence if isinstance(evidence, dict) else {}


def _name(words: dict[int, str] | Sequence[str], code: int) -> str:
    """Return the word of a code, or `code_<n>` where this gateway is older than the code."""
    if isinstance(words, dict):
        return words.get(code, f"code_{code}")
    return words[code] if 0 <= code < len(words) else f"code_{code}"
