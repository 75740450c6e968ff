"""The two COSE shapes on our wire (RFC 9052): COSE_Sign1 with ES256, COSE_Mac0 with HMAC 256/64. WIRE.md section 3.

A general COSE library accepts trailing octets, repeated keys and algorithms outside the protected header; here each message has one
form. This module knows no keys: `signature_input` and `mac_input` give the octets that signers, verifiers and hop keys work on.
"""

from collections import namedtuple

from . import cbor
from .errors import LocalError, RemoteError
from .limits import MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, MAX_TX

#: CBOR tags (RFC 9052 section 2) as their one-octet encoding, which is also how a message's kind is told apart.
SIGN1 = 0xD2  # tag 18
MAC0 = 0xD1  # tag 17

#: COSE algorithms (RFC 9053): ES256 in section 2.1, HMAC 256/64 in section 3.1.
ES256 = -7
HMAC_256_64 = 4

SIGNATURE_BYTES = 64
TAG_BYTES = 8
KID_BYTES = 4

_ALG = 1
_KID = 4
_PARTIAL_IV = 6

#: kind SIGN1 or MAC0; kid unsigned 32-bit; tx 1 .. MAX_TX (None for MAC0); protected, payload, proof as octets; unverified.
Message = namedtuple("Message", ("kind", "kid", "tx", "protected", "payload", "proof"))


def protected_header(alg: int, kid: int, tx: int | None) -> bytes:
    """Return the encoded protected header: alg, kid (4 octets) and, with `tx`, the Partial IV without leading zeros."""
    if not 0 <= kid <= 0xFFFFFFFF:
        raise LocalError("bad_cose", "kid beyond 32 bits")
    header: dict[int, object] = {_ALG: alg, _KID: kid.to_bytes(KID_BYTES, "big")}
    if tx is not None:
        if not 1 <= tx <= MAX_TX:
            raise LocalError("bad_cose", "tx out of range")
        header[_PARTIAL_IV] = _shortest(tx)
    return cbor.encode(header)


def _shortest(tx: int) -> bytes:
    width = 1 if tx < 0x100 else 2 if tx < 0x10000 else 3 if tx < 0x1000000 else 4
    return tx.to_bytes(width, "big")


def signature_input(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """Return the encoded Sig_structure for COSE_Sign1. Ref: RFC 9052 section 4.4."""
    return b"\x84\x6aSignature1" + cbor.byte_string(protected) + cbor.byte_string(external_aad) + cbor.byte_string(payload)


def mac_input(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """Return the encoded MAC_structure for COSE_Mac0. Ref: RFC 9052 section 6.3."""
    return b"\x84\x64MAC0" + cbor.byte_string(protected) + cbor.byte_string(external_aad) + cbor.byte_string(payload)


def encode(kind: int, protected: bytes, payload: bytes, proof: bytes) -> bytes:
    """Return the tagged message `kind([protected, {}, payload, proof])`. Raises LocalError("too_long") above the caps."""
    if len(proof) != (SIGNATURE_BYTES if kind == SIGN1 else TAG_BYTES):
        raise LocalError("bad_cose", "proof of the wrong length")
    data = bytes((kind, 0x84)) + cbor.byte_string(protected) + b"\xa0" + cbor.byte_string(payload) + cbor.byte_string(proof)
    if len(payload) > MAX_PAYLOAD_BYTES or len(data) > MAX_FRAME_BYTES:
        raise LocalError("too_long", "frame above the cap")
    return data


def decode(data: bytes) -> Message:
    """Return the message in `data`, structure checked, proof not yet verified.

    Raises RemoteError: `too_long`, `bad_cbor`, `bad_cose` (another shape, unprotected or unknown headers, a proof of another
    length, a Partial IV not in its shortest form) or `bad_algorithm` (alg is not the one its kind has).
    """
    if len(data) > MAX_FRAME_BYTES:
        raise RemoteError("too_long", "frame above the cap")
    if len(data) < 2 or (data[0] != SIGN1 and data[0] != MAC0):
        raise RemoteError("bad_cose", "neither COSE_Sign1 nor COSE_Mac0")
    kind = data[0]
    parts = cbor.decode(data[1:])
    if not isinstance(parts, list) or len(parts) != 4:
        raise RemoteError("bad_cose", "not an array of four")
    protected, unprotected, payload, proof = parts
    if not (isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(proof, bytes)):
        raise RemoteError("bad_cose", "a part is not a byte string")
    if not isinstance(unprotected, dict) or unprotected:
        raise RemoteError("bad_cose", "unprotected headers")
    if len(proof) != (SIGNATURE_BYTES if kind == SIGN1 else TAG_BYTES):
        raise RemoteError("bad_cose", "proof of the wrong length")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RemoteError("too_long", "payload above the cap")
    header = cbor.decode(protected)
    if not isinstance(header, dict) or len(header) != (3 if kind == SIGN1 else 2):
        raise RemoteError("bad_cose", "protected headers differ from the profile")
    if header.get(_ALG) != (ES256 if kind == SIGN1 else HMAC_256_64):
        raise RemoteError("bad_algorithm", "not the algorithm of this kind")
    kid = header.get(_KID)
    if not isinstance(kid, bytes) or len(kid) != KID_BYTES:
        raise RemoteError("bad_cose", "kid is not four octets")
    tx = None
    if kind == SIGN1:
        partial_iv = header.get(_PARTIAL_IV)
        if not isinstance(partial_iv, bytes) or not 1 <= len(partial_iv) <= 4 or partial_iv[0] == 0:
            raise RemoteError("bad_cose", "Partial IV not in its shortest form")
        tx = int.from_bytes(partial_iv, "big")
    return Message(kind, int.from_bytes(kid, "big"), tx, protected, payload, proof)
