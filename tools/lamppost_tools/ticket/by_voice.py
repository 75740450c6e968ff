"""A nonce and a ticket as text short enough for a telephone: base32, in groups of four, with a check. WIRE.md section 18.5. Pure."""

import hashlib
from base64 import b32decode, b32encode

from lamppost_protocol import cose, tickets
from lamppost_protocol.beacons import NONCE_BYTES
from lamppost_protocol.errors import ProtocolError

from lamppost_tools.errors import RefusedError, UsageError

_NONCE_CHECK_BYTES = 2
_TICKET_CHECK_BYTES = 3
_TX_BYTES, _VALID_BYTES, _SCOPES_BYTES = 4, 2, 2
_HEARD_WRONG = str.maketrans("018", "OIB", " -\t\r\n")


def nonce_text(nonce: bytes) -> str:
    """A nonce in 16 letters."""
    return _text(nonce, _NONCE_CHECK_BYTES)


def nonce_of(text: str) -> bytes:
    """The nonce in such a text. Raises UsageError."""
    return _octets(text, NONCE_BYTES, _NONCE_CHECK_BYTES, "nonce")


def ticket_text(frame: bytes) -> str:
    """A signed ticket in 120 letters: all but what the technician knows."""
    message = cose.decode(frame)
    ticket = tickets.decode_ticket(message.payload)
    head: bytes = message.tx.to_bytes(_TX_BYTES, "big") + ticket.valid_s.to_bytes(_VALID_BYTES, "big")
    return _text(head + ticket.scopes.to_bytes(_SCOPES_BYTES, "big") + message.proof, _TICKET_CHECK_BYTES)


def ticket_of(text: str, nonce: bytes, holder: bytes, issuer: int) -> bytes:
    """The ticket in such a text, rebuilt; its signature is not verified. Raises UsageError, or RefusedError for one that can be none."""
    length = _TX_BYTES + _VALID_BYTES + _SCOPES_BYTES + cose.SIGNATURE_BYTES
    octets = _octets(text, length, _TICKET_CHECK_BYTES, "ticket")
    ends = _TX_BYTES, _TX_BYTES + _VALID_BYTES, _TX_BYTES + _VALID_BYTES + _SCOPES_BYTES
    tx, valid_s, scopes = (int.from_bytes(octets[start:end], "big") for start, end in zip((0, *ends), ends, strict=False))
    try:
        payload = tickets.encode_ticket(tickets.Ticket(nonce, valid_s, scopes, holder))
        frame: bytes = cose.encode(cose.SIGN1, cose.protected_header(cose.ES256, issuer, tx), payload, octets[ends[2] :])
    except ProtocolError as error:
        raise RefusedError(f"that is no ticket: {error}", "have the authority issue one for this nonce") from None
    return frame


def _text(octets: bytes, check_bytes: int) -> str:
    letters = b32encode(octets + _check(octets, check_bytes)).decode().rstrip("=")
    return "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def _octets(text: str, length: int, check_bytes: int, name: str) -> bytes:
    letters = text.upper().translate(_HEARD_WRONG)
    wanted = len(b32encode(bytes(length + check_bytes)).rstrip(b"="))
    if len(letters) != wanted:
        raise UsageError(f"a {name} has {wanted} letters, this one {len(letters)}", "compare it with what was read out")
    try:
        octets = b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:
        raise UsageError(f"a {name} has letters A to Z and digits 2 to 7 only", "compare it with what was read out") from None
    if _check(octets[:length], check_bytes) != octets[length:]:
        raise UsageError(f"the {name} has a slip in it: its check does not fit", "compare it with what was read out")
    return octets[:length]


def _check(octets: bytes, check_bytes: int) -> bytes:
    return hashlib.sha256(octets).digest()[:check_bytes]
