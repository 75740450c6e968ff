"""The hello: who is on this line and what it needs. WIRE.md section 10.

Unsigned, so it is a hint: it moves no counter and opens no door.
"""

from collections import namedtuple

from . import cbor
from .beacons import NONCE_BYTES
from .errors import ProtocolError, RemoteError
from .frames import is_uint
from .limits import MAX_N

VERSION = 1

RUNNING = 0
SAFE_MODE = 1
COUNTER_LOST = 2
STATES = ("running", "safe_mode", "counter_lost")

MAX_FIRMWARE_TEXT = 32

#: network, node unsigned 32-bit; epoch; state; nonce 8 octets or None; oldest_n owed and next_n to be written; firmware text.
Hello = namedtuple("Hello", ("network", "node", "epoch", "state", "nonce", "oldest_n", "next_n", "firmware"))


def encode_hello(hello: Hello) -> bytes:
    """Return the body of a hello message."""
    value = [VERSION]
    value.extend(hello)
    return cbor.encode(value)


def decode_hello(body: bytes) -> Hello:
    """Return the Hello in `body`. Raises RemoteError("bad_payload")."""
    try:
        value = cbor.decode(body)
    except ProtocolError as error:
        raise RemoteError("bad_payload", error.detail)
    if not isinstance(value, list) or len(value) != 9 or value[0] != VERSION:
        raise RemoteError("bad_payload", "not a hello of version 1")
    numbers = ((1, 0xFFFFFFFF), (2, 0xFFFFFFFF), (3, 0xFFFFFFFF), (4, COUNTER_LOST), (6, MAX_N), (7, MAX_N))
    for index, largest in numbers:
        if not is_uint(value[index], largest):
            raise RemoteError("bad_payload", "hello out of range")
    nonce, firmware = value[5], value[8]
    if nonce is not None and not (isinstance(nonce, bytes) and len(nonce) == NONCE_BYTES):
        raise RemoteError("bad_payload", "nonce is not eight octets")
    if not isinstance(firmware, str) or len(firmware) > MAX_FIRMWARE_TEXT:
        raise RemoteError("bad_payload", "firmware is not a short text")
    return Hello(value[1], value[2], value[3], value[4], nonce, value[6], value[7], firmware)
