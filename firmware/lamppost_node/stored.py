"""The form of one record on flash, and the walk over a segment of them. Pure: octets in a buffer, no files.

    length (2) | length inverted (2) | crc32 (4) | n (6) | body (CBOR)        all big-endian

crc32 covers n and body. The inverted length tells a record cut short by a power cut (a prefix of a good one, hence never sent)
from a damaged one (which may have been sent, so its number must not be used again).
"""

import binascii
import struct
from collections import namedtuple

from lamppost_protocol import cbor
from lamppost_protocol.errors import ProtocolError

#: power_up: number of the power-up it was measured in, 0 unknown; t: unix seconds or None when the clock was not set then;
#: monotonic_ms within that power-up; uncertainty_s of t; flags: ALARM, KEEP; values: list of int or None.
Stored = namedtuple("Stored", ("n", "power_up", "t", "monotonic_ms", "uncertainty_s", "flags", "kind", "q", "values"))

ALARM = 1  # sent alone and at once
KEEP = 2  # outlives thinned history: alarms, order states, gaps

HEADER_BYTES = 14
#: Smallest whole record: header and a body of seven small integers without values. Bounds how many numbers lost octets can hide.
MIN_RECORD_BYTES = HEADER_BYTES + 8

GOOD = 0
END = 1  # nothing more, or a record cut short
DAMAGED = 2  # this record is lost, the next one can be found
LOST = 3  # this record and all behind it in the segment are lost


def encode(record: Stored) -> bytes:
    """The octets of one record. Raises LocalError for values CBOR cannot carry."""
    value = [record.power_up, record.t, record.monotonic_ms, record.uncertainty_s, record.flags, record.kind, record.q]
    value.extend(record.values)
    body: bytes = record.n.to_bytes(6, "big") + cbor.encode(value)
    length = len(body) - 6
    return struct.pack(">HHI", length, length ^ 0xFFFF, binascii.crc32(body) & 0xFFFFFFFF) + body


def inspect(view: memoryview, offset: int, size: int) -> tuple[int, int, int]:
    """What stands at `offset` of a segment of `size` octets: (GOOD | END | DAMAGED | LOST, offset of the next, n if GOOD else 0)."""
    if size - offset < HEADER_BYTES:
        return END, size, 0
    length, inverted, crc, high, low = struct.unpack_from(">HHIHI", view, offset)
    if length ^ inverted != 0xFFFF:
        return LOST, size, 0
    after = offset + HEADER_BYTES + length
    if after > size:
        return END, size, 0
    if binascii.crc32(view[offset + 8 : after]) & 0xFFFFFFFF != crc:
        return DAMAGED, after, 0
    return GOOD, after, high << 32 | low


def decode(view: memoryview, offset: int, after: int, n: int) -> Stored | None:
    """The record that `inspect` found GOOD; None when its body is not of our form (another version's)."""
    try:
        value = cbor.decode(bytes(view[offset + HEADER_BYTES : after]))
    except ProtocolError:
        return None
    if not isinstance(value, list) or len(value) < 7:
        return None
    return Stored(n, value[0], value[1], value[2], value[3], value[4], value[5], value[6], value[7:])
