"""The messages between a gateway and a bridge: a radio on its line that holds packets and understands none. WIRE.md section 15.

Each is a CBOR array. Ranges are those of the radio (lamppost_node.drivers.sx126x), not of the law: whether a transmission is lawful the
gateway decides before it asks for one.
"""

from collections import namedtuple

from . import cbor
from .errors import LocalError, ProtocolError, RemoteError
from .frames import is_uint
from .limits import MAX_PACKET_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
#: Times are counted in microseconds modulo this.
CLOCK_US = 1 << 32
#: How far ahead of its instant a bridge takes a transmission.
MOST_AHEAD_US = 8000000
MAX_FIRMWARE_TEXT = 32

SENT = 0
TOO_LATE = 1
TOO_EARLY = 2
TAKEN = 3
RADIO_FAULT = 4
BAD_REQUEST = 5
BUSY = 6
#: Words of `result`, for metrics and logs.
RESULTS = ("sent", "too_late", "too_early", "taken", "radio_fault", "bad_request", "busy")

#: A packet was heard. at_us: the modem's clock at its end; rssi_dbm; snr_qdb: signal to noise in quarters of dB; packet: 1 .. 255 octets.
Received = namedtuple("Received", ("at_us", "frequency_hz", "spreading_factor", "bandwidth_hz", "rssi_dbm", "snr_qdb", "packet"))
#: Send a packet. token 0 .. 65535 comes back in the answer; at_us: when it begins by the modem's clock, None: at once; listen_ms, busy_dbm:
#: how long the channel is listened to before, and what signal there forbids to send.
Transmit = namedtuple(
    "Transmit",
    ("token", "at_us", "frequency_hz", "spreading_factor", "bandwidth_hz", "power_dbm", "listen_ms", "busy_dbm", "packet"),
)
#: What became of it. result: SENT .. BUSY; airtime_us: how long it occupied the air, 0 where it did not.
Sent = namedtuple("Sent", ("token", "result", "airtime_us"))
#: How the modem is: firmware text; now_us its clock; counts since its start, modulo 2^32; is_listening: whether it hears.
State = namedtuple("State", ("firmware", "now_us", "received", "crc_errors", "header_errors", "restarts", "is_listening"))
#: Listen for uplinks with these settings.
Listen = namedtuple("Listen", ("frequency_hz", "spreading_factor", "bandwidth_hz"))

_U32 = (0, 0xFFFFFFFF)
_HZ = (150000000, 960000000)
_SPREADING_FACTOR = (5, 12)
_BANDWIDTH_HZ = (7800, 500000)
_RECEIVED = (_U32, _HZ, _SPREADING_FACTOR, _BANDWIDTH_HZ, (-200, 50), (-128, 127))
_SENT = ((0, 0xFFFF), (SENT, BUSY), _U32)
_LISTEN = (_HZ, _SPREADING_FACTOR, _BANDWIDTH_HZ)
_TRANSMIT = ((0, 0xFFFF), _HZ, _SPREADING_FACTOR, _BANDWIDTH_HZ, (-9, 30), (0, 100), (-130, 0))


def encode_received(received: Received) -> bytes:
    """Return the body of a type 4. Raises LocalError("bad_payload") for a value out of range."""
    return _encode(_is_received, received)


def decode_received(body: bytes) -> Received:
    """Return what a type 4 tells. Raises RemoteError("bad_payload")."""
    return Received(*_decode(_is_received, body))


def encode_transmit(transmit: Transmit) -> bytes:
    """Return the body of a type 5. Raises LocalError("bad_payload") for a value out of range."""
    return _encode(_is_transmit, transmit)


def decode_transmit(body: bytes) -> Transmit:
    """Return what a type 5 asks for. Raises RemoteError("bad_payload")."""
    return Transmit(*_decode(_is_transmit, body))


def token_of(body: bytes) -> int | None:
    """Return the token of a type 5 that `decode_transmit` refused, by which to answer it; None where it has none."""
    try:
        value = cbor.decode(body)
    except ProtocolError:
        return None
    if not isinstance(value, list) or not value or not is_uint(value[0], 0xFFFF):
        return None
    return value[0]


def encode_sent(sent: Sent) -> bytes:
    """Return the body of a type 6. Raises LocalError("bad_payload") for a value out of range."""
    return _encode(_is_sent, sent)


def decode_sent(body: bytes) -> Sent:
    """Return what a type 6 tells. Raises RemoteError("bad_payload")."""
    return Sent(*_decode(_is_sent, body))


def encode_state(state: State) -> bytes:
    """Return the body of a type 7. Raises LocalError("bad_payload") for a value out of range."""
    return _encode(_is_state, (VERSION,) + tuple(state))  # noqa: RUF005 (no (*a,) in MicroPython)


def decode_state(body: bytes) -> State:
    """Return what a type 7 tells. Raises RemoteError("bad_payload")."""
    return State(*_decode(_is_state, body)[1:])


def encode_listen(listen: Listen) -> bytes:
    """Return the body of a type 8. Raises LocalError("bad_payload") for a value out of range."""
    return _encode(_is_listen, listen)


def decode_listen(body: bytes) -> Listen:
    """Return what a type 8 asks for. Raises RemoteError("bad_payload")."""
    return Listen(*_decode(_is_listen, body))


def _encode(is_form, values) -> bytes:  # type: ignore[no-untyped-def]
    if not is_form(values):
        raise LocalError("bad_payload", "out of range")
    return cbor.encode(tuple(values))


def _decode(is_form, body: bytes) -> "list[Any]":  # type: ignore[no-untyped-def]
    try:
        value = cbor.decode(body)
    except ProtocolError as error:
        raise RemoteError("bad_payload", error.detail)
    if not isinstance(value, list) or not is_form(value):
        raise RemoteError("bad_payload", "no such message of a modem")
    return value


def _is_received(value: "Any") -> bool:
    return len(value) == 7 and _are_within(value[:6], _RECEIVED) and _is_packet(value[6])


def _is_transmit(value: "Any") -> bool:
    is_right = len(value) == 9 and (value[1] is None or is_uint(value[1], 0xFFFFFFFF)) and _is_packet(value[8])
    return is_right and _are_within((value[0],) + tuple(value[2:8]), _TRANSMIT)  # noqa: RUF005 (no (*a,) in MicroPython)


def _is_sent(value: "Any") -> bool:
    return len(value) == 3 and _are_within(value, _SENT)


def _is_state(value: "Any") -> bool:
    if len(value) != 8 or not _are_within(value[:1], ((VERSION, VERSION),)) or not isinstance(value[1], str):
        return False
    return len(value[1]) <= MAX_FIRMWARE_TEXT and _are_within(value[2:7], (_U32,) * 5) and isinstance(value[7], bool)


def _is_listen(value: "Any") -> bool:
    return len(value) == 3 and _are_within(value, _LISTEN)


def _is_packet(value: "Any") -> bool:
    return isinstance(value, bytes) and 1 <= len(value) <= MAX_PACKET_BYTES


def _are_within(values: "Any", ranges: tuple[tuple[int, int], ...]) -> bool:
    for i in range(len(ranges)):
        value = values[i]
        if isinstance(value, bool) or not isinstance(value, int) or not ranges[i][0] <= value <= ranges[i][1]:
            return False
    return True
