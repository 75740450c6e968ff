"""A JSON document and its signature beside it: `name.json`, which people read, and `name.cose`, a COSE_Sign1 with a detached payload.

The payload is the file `name.json` to the last octet. Its form is ours to write, not to check: keys sorted, no spaces, ASCII, a newline
at the end. The message is tag 18 around [protected, {}, nil, signature]; protected is {1: -7 (ES256), 4: key id}, the key id the first
four octets of SHA-256 of the public key; external_aad is the CBOR array ["lamppost/document", kind], so that no document passes for
another kind. All but the 64 octets of the signature is known beforehand, and compared. Ref: RFC 9052 sections 2, 4.1 and 4.4.
"""

import hashlib
import json
from typing import Any

from lamppost_protocol import cbor, cose
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier, public_key

from lamppost_tools.errors import RefusedError

KIT, COMMISSIONING = "kit", "commissioning"
#: A technician's records: their `format` to the kind that is signed.
RECORDS = {
    "lamppost commissioning 1": COMMISSIONING,
    "lamppost re-keying 1": "re-keying",
    "lamppost decommissioning 1": "decommissioning",
    "lamppost reset 1": "reset",
}
_NIL = b"\xf6"


def canonical_json(document: Any) -> bytes:
    """The one form in which a document is signed."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def sign_document(kind: str, payload: bytes, private_key: bytes) -> bytes:
    """The content of `name.cose` for the content of `name.json`."""
    protected = _protected(public_key(private_key))
    signature = HostSigner(private_key).sign(cose.signature_input(protected, _context(kind), payload))
    return _before_signature(protected) + signature


def verify_document(kind: str, payload: bytes, signed: bytes, public: bytes) -> Any:
    """The document in `payload`, of which `signed` is the signature by `public` (x and y, 64 octets). Raises RefusedError."""
    protected = _protected(public)
    before = _before_signature(protected)
    try:
        if signed[: len(before)] != before:
            raise RemoteError("bad_signature", "other key or kind of message")
        HostVerifier(public).verify(cose.signature_input(protected, _context(kind), payload), signed[len(before) :])
    except RemoteError as error:
        raise RefusedError(f"the signature is not good ({error.detail})") from None
    return json.loads(payload)


def fingerprint(public: bytes) -> str:
    """What people compare of a public key: eight octets of its SHA-256, in groups."""
    digits = hashlib.sha256(public).hexdigest()[:16]
    return " ".join(digits[at : at + 4] for at in range(0, 16, 4))


def _protected(public: bytes) -> bytes:
    encoded: bytes = cbor.encode({1: cose.ES256, 4: hashlib.sha256(public).digest()[: cose.KID_BYTES]})
    return encoded


def _context(kind: str) -> bytes:
    encoded: bytes = cbor.encode(["lamppost/document", kind])
    return encoded


def _before_signature(protected: bytes) -> bytes:
    head: bytes = bytes((cose.SIGN1, 0x84)) + cbor.byte_string(protected) + b"\xa0" + _NIL + b"\x58\x40"
    return head
