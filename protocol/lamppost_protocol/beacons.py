"""Beacons: the city's time, signed by the authority. WIRE.md section 7.

Only a beacon that echoes the node's own nonce tells a node the time, and only to within the round trip; a broadcast beacon can have
been held back, so it only ever moves a clock forward. A broadcast has node 0 and epoch 0 in its context.
"""

from collections import namedtuple

from . import cbor
from .errors import LocalError, ProtocolError, RemoteError
from .frames import is_uint
from .records import MAX_UNIX_S

NONCE_BYTES = 8

#: unix seconds; nonce 8 octets, or None in a broadcast.
Beacon = namedtuple("Beacon", ("unix", "nonce"))


def is_beacon(payload: bytes) -> bool:
    """Return whether a downlink payload has a beacon's shape (an array of two), before its signature is verified."""
    return len(payload) > 0 and payload[0] == 0x82


def encode_beacon(unix: int, nonce: bytes | None) -> bytes:
    """Return the payload of a beacon. Raises LocalError("bad_payload")."""
    if not is_uint(unix, MAX_UNIX_S) or (nonce is not None and len(nonce) != NONCE_BYTES):
        raise LocalError("bad_payload", "beacon out of range")
    return cbor.encode((unix, nonce))


def decode_beacon(payload: bytes) -> Beacon:
    """Return the Beacon in a payload whose signature has been verified. Raises RemoteError("bad_payload")."""
    try:
        value = cbor.decode(payload)
    except ProtocolError as error:
        raise RemoteError("bad_payload", error.detail)
    if not isinstance(value, list) or len(value) != 2 or not is_uint(value[0], MAX_UNIX_S):
        raise RemoteError("bad_payload", "not [unix, nonce]")
    if value[1] is not None and not (isinstance(value[1], bytes) and len(value[1]) == NONCE_BYTES):
        raise RemoteError("bad_payload", "nonce is not eight octets")
    return Beacon(value[0], value[1])
