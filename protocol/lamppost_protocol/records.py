"""Records and the uplink payload that carries them. WIRE.md section 5."""

from collections import namedtuple

from . import cbor
from .errors import LocalError, ProtocolError, RemoteError
from .frames import is_uint
from .limits import MAX_N, MAX_PAYLOAD_BYTES, MAX_RECORDS, MAX_VALUES

#: n of the first record; behind = n less the oldest number still owed; t unix seconds or None; clock = uncertainty_s, None with t;
#: records: lists [kind, dt, q, v1 ..].
Uplink = namedtuple("Uplink", ("n", "behind", "t", "clock", "records"))

MAX_KIND = 1023
MAX_QUALITY = 63
#: Largest distance of a record from its frame's base time, either way: ten years.
MAX_DT_S = 315360000
MAX_UNIX_S = 0xFFFFFFFFFF
MAX_CLOCK_S = 0xFFFFFFFF


def check_record(record: object, time_known: bool) -> None:
    """Return when `record` is [kind, dt, q, v1 ..] with integers and nulls only, else raise RemoteError("bad_payload").

    dt is seconds after the base time, or, when the clock was never set (`time_known` false), seconds before sending as a negative
    number or 0; null where the time is lost. An unknown profile is not an error: an older gateway relays what it cannot read.
    """
    if not isinstance(record, (list, tuple)) or not 3 <= len(record) <= 3 + MAX_VALUES:
        raise RemoteError("bad_payload", "record is not [kind, dt, q, ...]")
    kind, dt, q = record[0], record[1], record[2]
    if not is_uint(kind, MAX_KIND) or kind & 63 == 0:
        raise RemoteError("bad_payload", "kind out of range")
    if dt is not None and (not _is_int(dt) or not -MAX_DT_S <= dt <= (MAX_DT_S if time_known else 0)):
        raise RemoteError("bad_payload", "dt out of range")
    if not is_uint(q, MAX_QUALITY):
        raise RemoteError("bad_payload", "quality out of range")
    for i in range(3, len(record)):
        if record[i] is not None and not _is_int(record[i]):
            raise RemoteError("bad_payload", "a value is neither integer nor null")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and value is not True and value is not False


def encode_uplink(n: int, behind: int, t: int | None, clock: int | None, records: list[list[int | None]]) -> bytes:
    """Return the payload. Raises LocalError: `bad_payload` (out of range), `too_long` (above MAX_PAYLOAD_BYTES)."""
    value: list[object] = [n, behind, t, clock]
    value.extend(records)
    try:
        _check(value)
    except RemoteError as error:
        raise LocalError("bad_payload", error.detail)
    payload = cbor.encode(value)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise LocalError("too_long", "payload above the cap")
    return payload


def decode_uplink(payload: bytes) -> Uplink:
    """Return the Uplink in a payload whose signature has been verified. Raises RemoteError("bad_payload")."""
    try:
        decoded = cbor.decode(payload)
    except ProtocolError as error:
        raise RemoteError("bad_payload", error.detail)
    value = _check(decoded)
    return Uplink(value[0], value[1], value[2], value[3], value[4:])


def _check(value: object) -> list[object]:
    if not isinstance(value, list) or not 5 <= len(value) <= 4 + MAX_RECORDS:
        raise RemoteError("bad_payload", "not [n, behind, t, clock, record, ...]")
    n, behind, t, clock = value[0], value[1], value[2], value[3]
    if not is_uint(n, MAX_N - len(value)) or n == 0:
        raise RemoteError("bad_payload", "n out of range")
    if not is_uint(behind, n - 1):
        raise RemoteError("bad_payload", "behind out of range")
    if (t is None) != (clock is None):
        raise RemoteError("bad_payload", "time and clock quality go together")
    if t is not None and not (is_uint(t, MAX_UNIX_S) and is_uint(clock, MAX_CLOCK_S)):
        raise RemoteError("bad_payload", "time out of range")
    for i in range(4, len(value)):
        check_record(value[i], t is not None)
    return value
