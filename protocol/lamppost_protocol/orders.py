"""Orders: what the authority says to a node, and the numbers of what becomes of it. WIRE.md section 6; words: order_words.py.

An order is an absolute state with a life: from `not_before` until, but not including, `not_after`. Its id is the
authority's counter, which is the frame's `tx`. Repeating one is harmless; an older one than the highest obeyed is never obeyed.
"""

from collections import namedtuple

from . import cbor
from .errors import LocalError, ProtocolError, RemoteError
from .frames import is_uint
from .limits import MAX_N, MAX_TX
from .records import MAX_KIND, MAX_UNIX_S

LEVEL = 1
CANCEL = 2
SCHEDULE = 3
CONFIGURE = 4
RESEND = 5
UPDATE = 6
LAST_VERB = UPDATE

#: States. The first two are the gateway's word, the others the node's, in signed records.
QUEUED = 1
SENT = 2
ACCEPTED = 3
APPLIED = 4
VERIFIED = 5
REVERTED = 6
EXPIRED = 7
REFUSED = 8

#: Reasons; those of an update, 14 to 20, are in releases.py.
NO_REASON = 0
SUPERSEDED = 1
CLOCK_NEVER_SET = 2
TOO_LATE = 3
UNKNOWN_VERB = 4
UNKNOWN_TARGET = 5
BAD_ARGUMENTS = 6
SAFE_MODE = 7
UNVERIFIED_POWER = 8
METER_MISSING = 9
CANCELLED = 10
LEASE_ENDED = 11
STORE_FAULT = 12
LAMP_FAULT = 13
ONLY_BY_CABLE = 21

MAX_RAMP_S = 3600
MAX_ARGUMENTS = 8

#: order_id 1 .. MAX_TX; not_before, not_after unix seconds; verb; target: a kind, or 0 for the node; args: list.
Order = namedtuple("Order", ("order_id", "not_before", "not_after", "verb", "target", "args"))


def is_order(payload: bytes) -> bool:
    """Return whether a downlink payload has an order's shape (an array of five or more), before its signature is verified."""
    return len(payload) > 0 and 0x85 <= payload[0] <= 0x97


def encode_order(not_before: int, not_after: int, verb: int, target: int, args: list[object]) -> bytes:
    """Return the payload of an order. Raises LocalError("bad_payload") where it breaks a rule of `decode_order`."""
    value: list[object] = [not_before, not_after, verb, target]
    value.extend(args)
    try:
        _check(value)
        check_arguments(verb, target, args)
    except RemoteError as error:
        raise LocalError("bad_payload", error.detail)
    return cbor.encode(value)


def decode_order(order_id: int, payload: bytes) -> Order:
    """Return the Order in a payload whose signature has been verified; `order_id` is the frame's tx.

    Raises RemoteError("bad_payload"). An unknown verb is not an error here: the node refuses it by name.
    """
    try:
        decoded = cbor.decode(payload)
    except ProtocolError as error:
        raise RemoteError("bad_payload", error.detail)
    value = _check(decoded)
    return Order(order_id, value[0], value[1], value[2], value[3], value[4:])


def _check(value: object) -> list[object]:
    if not isinstance(value, list) or not 5 <= len(value) <= 4 + MAX_ARGUMENTS:
        raise RemoteError("bad_payload", "not [not_before, not_after, verb, target, argument, ...]")
    if not is_uint(value[0], MAX_UNIX_S) or not is_uint(value[1], MAX_UNIX_S) or value[0] >= value[1]:
        raise RemoteError("bad_payload", "validity out of range")
    if not is_uint(value[2], 255) or value[2] == 0:
        raise RemoteError("bad_payload", "verb out of range")
    if not is_uint(value[3], MAX_KIND):
        raise RemoteError("bad_payload", "target out of range")
    for argument in value[4:]:
        if argument is True or argument is False or not isinstance(argument, (int, bytes, list)):
            raise RemoteError("bad_payload", "argument is no integer, octets or array")
    return value


def check_arguments(verb: int, target: int, args: list[object]) -> None:
    """Return when `args` fit a known verb, else raise RemoteError("bad_payload"): the authority's and the node's one rule.

    LEVEL [level_percent 0..100, ramp_s 0..3600]; CANCEL [order_id]; SCHEDULE [schedule array]; CONFIGURE [encoded map];
    RESEND [first_n, last_n]; UPDATE [manifest]. The content of a schedule, configuration or manifest is checked where it is used.
    """
    if verb == LEVEL:
        fits = len(args) == 2 and target != 0 and is_uint(args[0], 100) and is_uint(args[1], MAX_RAMP_S)
    elif verb == CANCEL:
        fits = len(args) == 1 and is_uint(args[0], MAX_TX) and args[0] > 0
    elif verb == SCHEDULE:
        fits = len(args) == 1 and target != 0 and isinstance(args[0], (list, tuple))
    elif verb == CONFIGURE or verb == UPDATE:
        fits = len(args) == 1 and isinstance(args[0], bytes) and (verb == CONFIGURE or target == 0)
    elif verb == RESEND:
        fits = len(args) == 2 and is_uint(args[0], MAX_N) and is_uint(args[1], MAX_N) and 0 < args[0] <= args[1]
    else:
        raise RemoteError("bad_payload", "unknown verb")
    if not fits:
        raise RemoteError("bad_payload", "arguments do not fit the verb")
