"""The form of what a node keeps in RTC memory over a deep sleep. Pure: octets in, values out.

    form (1) | length (2) | crc32 (4) | body (CBOR)        big-endian; crc32 covers form, length and body

RTC memory survives a sleep, and resets; not a power cut, behind which it holds anything. So nothing is believed but what is whole to
the octet; for anything else the answer is that of a power-up, which is always right and only dearer.
"""

import binascii

from lamppost_protocol import cbor
from lamppost_protocol.errors import LocalError, ProtocolError

#: Of what follows; another form is never read, since what it says may mean something else.
FORM = 1
#: An ESP32 keeps 2,048 octets; the bench's boards hand over no more than this at once.
MAX_BYTES = 1536
_HEAD_BYTES = 7


def encode(value: object) -> bytes:
    """The image of a value. Raises LocalError: "too_long", or what CBOR cannot carry."""
    body = cbor.encode(value)
    if _HEAD_BYTES + len(body) > MAX_BYTES:
        raise LocalError("too_long", "%d octets to keep over a sleep" % len(body))
    head = bytes((FORM, len(body) >> 8, len(body) & 0xFF))
    return head + _crc(head, body) + body


def decode(data: bytes) -> object:
    """The value of an image that is whole. Raises ValueError for anything else."""
    if len(data) < _HEAD_BYTES or data[0] != FORM or data[1] << 8 | data[2] != len(data) - _HEAD_BYTES:
        raise ValueError("no image")
    body = data[_HEAD_BYTES:]
    if data[3:_HEAD_BYTES] != _crc(data[:3], body):
        raise ValueError("crc")
    try:
        return cbor.decode(body)
    except ProtocolError:
        raise ValueError("cbor") from None


def _crc(head: bytes, body: bytes) -> bytes:
    crc: bytes = (binascii.crc32(body, binascii.crc32(head)) & 0xFFFFFFFF).to_bytes(4, "big")
    return crc
