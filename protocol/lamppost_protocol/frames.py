"""Sealing and opening: a payload bound to its direction, network, node and key epoch. WIRE.md section 4.

Nothing here decides whom to trust: the caller brings the key that the registry fixes for the sender, and opens with exactly that.
"""

from collections import namedtuple
from hashlib import sha256

from . import cbor, cose
from .errors import RemoteError
from .limits import MAX_N

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

    from .interfaces import HopKeyLike, SignerLike, VerifierLike

UPLINK = 0
ORDER = 1
BEACON = 2
ACKNOWLEDGEMENT = 3
RELEASE = 4
TICKET = 5
REQUEST = 6

PROTOCOL_ID = "lamppost/1"
DIGEST_BYTES = 8

#: highest: every record up to and including it is stored; bitmap: bit i = record highest+1+i is stored; digest: of the frame heard;
#: steps: how far the node shall move along its ladder, -MAX_STEPS .. MAX_STEPS, None on a serial line.
Acknowledgement = namedtuple("Acknowledgement", ("highest", "bitmap", "digest", "steps"))

#: No ladder is longer: eight spreading factors, and 18 dB of power beyond.
MAX_STEPS = 8


def external_aad(direction: int, network: int, node: int, epoch: int) -> bytes:
    """Return the context that every proof covers and no message carries; what is sealed in one context verifies in no other."""
    return cbor.encode((PROTOCOL_ID, direction, network, node, epoch))


def seal(signer: "SignerLike", direction: int, network: int, node: int, epoch: int, kid: int, tx: int, payload: bytes) -> bytes:
    """Return a COSE_Sign1 message. `signer.sign(octets)` gives 64 octets; `tx` must be fresh under this key.

    Raises LocalError: `bad_cose` (kid or tx out of range), `too_long`.
    """
    protected = cose.protected_header(cose.ES256, kid, tx)
    signature = signer.sign(cose.signature_input(protected, external_aad(direction, network, node, epoch), payload))
    return cose.encode(cose.SIGN1, protected, payload, signature)


def open_signed(message: cose.Message, verifier: "VerifierLike", direction: int, network: int, node: int, epoch: int) -> bytes:
    """Return the payload of a decoded COSE_Sign1 message once `verifier.verify(octets, signature)` has accepted it.

    Raises RemoteError: `bad_cose` (not a COSE_Sign1), `bad_signature`.
    """
    if message.kind != cose.SIGN1:
        raise RemoteError("bad_cose", "COSE_Sign1 expected")
    verifier.verify(
        cose.signature_input(message.protected, external_aad(direction, network, node, epoch), message.payload),
        message.proof,
    )
    payload: bytes = message.payload
    return payload


def frame_digest(data: bytes) -> bytes:
    """Return the 8 octets by which an acknowledgement names the frame it answers: the start of its SHA-256."""
    return sha256(data).digest()[:DIGEST_BYTES]


def seal_acknowledgement(
    hop_key: "HopKeyLike", network: int, node: int, epoch: int, highest: int, bitmap: int, digest: bytes, steps: int | None = None
) -> bytes:
    """Return a COSE_Mac0 acknowledgement. 0 <= highest <= MAX_N, 0 <= bitmap < 2^32, digest 8 octets, steps over the air only."""
    protected = cose.protected_header(cose.HMAC_256_64, node, None)
    payload = cbor.encode((highest, bitmap, digest) if steps is None else (highest, bitmap, digest, steps))
    tag = hop_key.tag(cose.mac_input(protected, external_aad(ACKNOWLEDGEMENT, network, node, epoch), payload))
    return cose.encode(cose.MAC0, protected, payload, tag)


def open_acknowledgement(message: cose.Message, hop_key: "HopKeyLike", network: int, node: int, epoch: int) -> Acknowledgement:
    """Return the Acknowledgement in a decoded COSE_Mac0 message once its tag is verified.

    Raises RemoteError: `bad_cose` (not a COSE_Mac0), `unknown_node` (meant for another node), `bad_tag`, `bad_payload`.
    """
    if message.kind != cose.MAC0:
        raise RemoteError("bad_cose", "COSE_Mac0 expected")
    if message.kid != node:
        raise RemoteError("unknown_node", "acknowledgement for another node")
    hop_key.verify(cose.mac_input(message.protected, external_aad(ACKNOWLEDGEMENT, network, node, epoch), message.payload), message.proof)
    return decode_acknowledgement(message.payload)


class AcknowledgementReader:
    """Opens the acknowledgements of one node. All octets but the payload's and the tag's never change: they are compared, not decoded."""

    def __init__(self, hop_key: "HopKeyLike", network: int, node: int, epoch: int) -> None:
        """The context that the acknowledgements are bound to. Raises LocalError("bad_cose") for a node beyond 32 bits."""
        self._hop_key = hop_key
        self._context = network, node, epoch
        protected = cose.protected_header(cose.HMAC_256_64, node, None)
        self._head = bytes((cose.MAC0, 0x84)) + cbor.byte_string(protected) + b"\xa0"
        self._mac_head = cose.mac_input(protected, external_aad(ACKNOWLEDGEMENT, network, node, epoch), b"")[:-1]

    def open(self, data: bytes) -> Acknowledgement:
        """Return the Acknowledgement in a frame once its tag is verified. Raises RemoteError as `cose.decode` and
        `open_acknowledgement` do.
        """
        start = len(self._head)
        end = len(data) - cose.TAG_BYTES
        # Behind the head: the payload, as a byte string of at most 25 octets, and the tag, as one of eight.
        if end < start + 3 or not data.startswith(self._head) or data[end - 1] != 0x40 | cose.TAG_BYTES:
            return open_acknowledgement(cose.decode(data), self._hop_key, *self._context)
        size = data[start] - 0x40
        payload = start + 1
        if size == 24:
            size = data[payload]
            payload += 1
        if payload + size != end - 1 or (size < 24) != (payload == start + 1):
            return open_acknowledgement(cose.decode(data), self._hop_key, *self._context)
        self._hop_key.verify(self._mac_head + data[start : end - 1], data[end:])
        return decode_acknowledgement(data[payload : end - 1])


def decode_acknowledgement(payload: bytes) -> Acknowledgement:
    """Return the Acknowledgement in `payload`, whose tag the caller has verified. Raises RemoteError("bad_payload")."""
    value = cbor.decode(payload)
    if not isinstance(value, list) or not 3 <= len(value) <= 4:
        raise RemoteError("bad_payload", "acknowledgement is not an array of three or four")
    highest, bitmap, digest = value[:3]
    steps = value[3] if len(value) == 4 else None
    if len(value) == 4 and not is_uint(steps, MAX_STEPS) and not (isinstance(steps, int) and -MAX_STEPS <= steps < 0):
        raise RemoteError("bad_payload", "steps out of range")
    if not is_uint(highest, MAX_N) or not is_uint(bitmap, 0xFFFFFFFF):
        raise RemoteError("bad_payload", "acknowledgement out of range")
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise RemoteError("bad_payload", "digest is not eight octets")
    return Acknowledgement(highest, bitmap, digest, steps)


def is_uint(value: object, largest: int) -> "TypeGuard[int]":
    """Return whether `value` is an integer from 0 to `largest`; true and false are not integers here."""
    return value is not True and value is not False and isinstance(value, int) and 0 <= value <= largest
