"""Service tickets: what a technician may ask of one node for some minutes, his requests, and what the node tells him. WIRE.md section 18.

Nothing here decides: a ticket counts once its signature is verified with the authority's key, a request with that of the ticket's holder.
"""

from collections import namedtuple
from hashlib import sha256

from . import cbor
from .beacons import NONCE_BYTES
from .errors import LocalError, ProtocolError, RemoteError
from .frames import is_uint
from .limits import MAX_N, MAX_TX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LOOK = 1
TEST = 2
LIGHT = 3
RESTART = 4
CONFIGURE = 5
RESEND = 6

NONCE_LIFE_S = 3600
MIN_VALID_S = 60
MAX_SCOPES = 63
HOLDER_BYTES = 64
MAX_TEST_S = 120
MAX_LIGHT_S = 1800
#: Longest configuration in a request: what a frame carries, less the rest of it.
MAX_CONFIGURATION_BYTES = 800

#: nonce 8 octets; valid_s 60 .. 3600 from the nonce's birth; scopes: bit (verb - 1) for each verb; holder: public key, x || y.
Ticket = namedtuple("Ticket", ("nonce", "valid_s", "scopes", "holder"))
#: nonce 8 octets; verb; args: list.
Request = namedtuple("Request", ("nonce", "verb", "args"))
#: As a hello, and: left_s until the nonce ends; ticket, asked: tx of the ticket in force and of the last request taken, 0 for none.
Facts = namedtuple("Facts", ("network", "node", "epoch", "state", "nonce", "left_s", "ticket", "asked", "firmware"))
#: asked: the request's tx; result: 0, or a reason of `orders`; value: as the verb has it, None where nothing was done.
Answer = namedtuple("Answer", ("asked", "result", "value"))


def is_ticket(payload: bytes) -> bool:
    """Return whether the payload of a technician's message has a ticket's shape (an array of four), before its signature is verified."""
    return payload[:1] == b"\x84"


def scope_of(verb: int) -> int:
    """Return the bit of a ticket's scopes that allows `verb`."""
    return 1 << (verb - 1)


def holder_id(holder: bytes) -> int:
    """Return the kid of requests under this public key: the first 4 octets of its SHA-256."""
    return int.from_bytes(sha256(holder).digest()[:4], "big")


def encode_ticket(ticket: Ticket) -> bytes:
    """Return the payload of a ticket. Raises LocalError("bad_payload") where it breaks a rule of `decode_ticket`."""
    return _encoded(list(ticket), _check_ticket)


def decode_ticket(payload: bytes) -> Ticket:
    """Return the Ticket in `payload`; `holder` may be no point of the curve: its verifier tells. Raises RemoteError("bad_payload")."""
    return Ticket(*_decoded(payload, _check_ticket))


def _check_ticket(value: "list[Any]") -> bool:
    return (
        len(value) == 4
        and _is_octets(value[0], NONCE_BYTES)
        and is_uint(value[1], NONCE_LIFE_S)
        and value[1] >= MIN_VALID_S
        and is_uint(value[2], MAX_SCOPES)
        and value[2] > 0
        and _is_octets(value[3], HOLDER_BYTES)
    )


def encode_request(request: Request) -> bytes:
    """Return the payload of a request. Raises LocalError("bad_payload") where it breaks a rule of `decode_request`."""
    return _encoded(list(request), _check_request)


def decode_request(payload: bytes) -> Request:
    """Return the Request in `payload`: a known verb with arguments that fit it. Raises RemoteError("bad_payload")."""
    return Request(*_decoded(payload, _check_request))


def _check_request(value: "list[Any]") -> bool:
    if len(value) != 3 or not _is_octets(value[0], NONCE_BYTES) or not is_uint(value[1], RESEND):
        return False
    verb, args = value[1], value[2]
    if not isinstance(args, list):
        return False
    if verb == LOOK or verb == RESTART:
        return not args
    if verb == TEST or verb == LIGHT:
        return len(args) == 1 and is_uint(args[0], MAX_TEST_S if verb == TEST else MAX_LIGHT_S) and args[0] > 0
    if verb == CONFIGURE:
        return len(args) == 1 and isinstance(args[0], bytes) and 0 < len(args[0]) <= MAX_CONFIGURATION_BYTES
    if verb == RESEND:
        return len(args) == 2 and is_uint(args[0], MAX_N) and is_uint(args[1], MAX_N) and 0 < args[0] <= args[1]
    return False


def encode_facts(facts: Facts) -> bytes:
    """Return the body of a service answer that tells who is here."""
    value: list[object] = [0]
    value.extend(facts)
    return cbor.encode(value)


def encode_answer(answer: Answer) -> bytes:
    """Return the body of the answer to a request. Raises LocalError("bad_cbor") for a value that the wire cannot carry."""
    return cbor.encode(answer)


def decode_answer(body: bytes) -> Facts | Answer:
    """Return what a node said in a service answer. Raises RemoteError("bad_payload")."""
    value = _decoded(body, _check_answer)
    return Facts(*value[1:]) if value[0] == 0 else Answer(*value)


def _check_answer(value: "list[Any]") -> bool:
    if len(value) == 3:
        return is_uint(value[0], MAX_TX) and value[0] > 0 and is_uint(value[1], 63)
    return (
        len(value) == 10
        and is_uint(value[0], 0)
        and is_uint(value[1], MAX_TX)
        and is_uint(value[2], MAX_TX)
        and is_uint(value[3], MAX_TX)
        and is_uint(value[4], 2)
        and _is_octets(value[5], NONCE_BYTES)
        and is_uint(value[6], NONCE_LIFE_S)
        and is_uint(value[7], MAX_TX)
        and is_uint(value[8], MAX_TX)
        and isinstance(value[9], str)
        and len(value[9]) <= 32
    )


def _is_octets(value: object, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length


def _encoded(value: "list[Any]", fits: "Callable[[list[Any]], bool]") -> bytes:
    if not fits(value):
        raise LocalError("bad_payload", "service message out of range")
    return cbor.encode(value)


def _decoded(data: bytes, fits: "Callable[[list[Any]], bool]") -> "list[Any]":
    try:
        value = cbor.decode(data)
    except ProtocolError as error:
        raise RemoteError("bad_payload", error.detail)
    if not isinstance(value, list) or not fits(value):
        raise RemoteError("bad_payload", "service message out of range")
    return value
