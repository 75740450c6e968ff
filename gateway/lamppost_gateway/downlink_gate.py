"""Deciding whether a broker message may reach a node: only what the authority signed for a node we serve; pure.

The broker is not trusted: whoever has a login there may publish anything. Everything in the JSON around the frame is a
hint for finding the right key and context; nothing is spent, stored or sent before the signature holds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lamppost_protocol import beacons, cose, frames, orders
from lamppost_protocol.errors import ProtocolError, RemoteError

from lamppost_gateway.topics import hex8, parse_hex8

MAX_DOCUMENT_BYTES = 8192  # a frame of 1024 octets in hex, and a few fields; a longer document is not ours


class Verifier(Protocol):
    """A public key."""

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return, or raise RemoteError("bad_signature")."""


class Node(Protocol):
    """What the registry knows of a node, as far as this room needs it."""

    @property
    def epoch(self) -> int: ...
    @property
    def epochs(self) -> Sequence[int]: ...
    @property
    def revoked(self) -> bool: ...


class Registry(Protocol):
    """Who is known."""

    def node(self, node_id: int, /) -> Node | None:
        """Return the node's entry, None for a stranger."""

    def hop_key(self, node_id: int, /) -> object | None:
        """Return something when this gateway serves the node."""


class NotOursError(Exception):
    """Addressed to a node that this gateway does not serve: another gateway's business, no refusal."""


@dataclass(frozen=True)
class SignedOrder:
    """An order whose signature holds."""

    node: int
    epoch: int
    order: orders.Order
    frame: bytes


@dataclass(frozen=True)
class SignedBeacon:
    """A beacon whose signature holds; `node` None: for everyone."""

    node: int | None
    tx: int
    beacon: beacons.Beacon
    frame: bytes


class Gate:
    """Opens documents of order/signed and beacon/signed with the authority's public key.

    `open_order` and `open_beacon` raise NotOursError, or RemoteError whose reason is one of protocol's REASONS. They block for
    about 150 us (one signature), and for a tenth of that when the document is refused before the signature.
    """

    def __init__(self, network: int, verifier: Verifier, authority_id: bytes | None, registry: Registry) -> None:
        self._network = network
        self._verifier = verifier
        self._authority = None if authority_id is None else int.from_bytes(authority_id, "big")
        self._registry = registry

    def is_served(self, node: int) -> bool:
        """Tell whether this gateway may speak to the node: known, not revoked, with a hop key here."""
        entry = self._registry.node(node)
        return entry is not None and not entry.revoked and self._registry.hop_key(node) is not None

    def peek_order(self, payload: bytes) -> tuple[int, cose.Message, bytes, int]:
        """Return (node, message, frame, epoch) with everything checked that is cheaper than a signature."""
        document, frame = _document(payload)
        node, epoch = self._addressee(document)
        message = self._message(frame)
        if not orders.is_order(message.payload):
            raise RemoteError("bad_payload", "not an order")
        return node, message, frame, epoch

    def open_order(self, payload: bytes) -> SignedOrder:
        """Return the order in a document of order/signed."""
        node, message, frame, epoch = self.peek_order(payload)
        content = frames.open_signed(message, self._verifier, frames.ORDER, self._network, node, epoch)
        return SignedOrder(node, epoch, orders.decode_order(message.tx, content), frame)

    def open_beacon(self, payload: bytes) -> SignedBeacon:
        """Return the beacon in a document of beacon/signed."""
        document, frame = _document(payload)
        is_broadcast = document.get("node") is None
        node, epoch = (0, 0) if is_broadcast else self._addressee(document)
        message = self._message(frame)
        if not beacons.is_beacon(message.payload):
            raise RemoteError("bad_payload", "not a beacon")
        content = frames.open_signed(message, self._verifier, frames.BEACON, self._network, node, epoch)
        beacon = beacons.decode_beacon(content)
        if is_broadcast != (beacon.nonce is None):
            raise RemoteError("bad_payload", "a nonce is for one node")
        return SignedBeacon(None if is_broadcast else node, message.tx, beacon, frame)

    def _addressee(self, document: dict[str, Any]) -> tuple[int, int]:
        try:
            node = parse_hex8(document.get("node"))
        except ValueError as error:
            raise RemoteError("bad_payload", "node: " + str(error)) from None
        entry = self._registry.node(node)
        if entry is None or self._registry.hop_key(node) is None:
            raise NotOursError(hex8(node))
        if entry.revoked:
            raise RemoteError("revoked_node")
        epoch = document.get("epoch", entry.epoch)
        if epoch not in entry.epochs or isinstance(epoch, bool):
            raise RemoteError("wrong_epoch")
        return node, int(epoch)

    def _message(self, frame: bytes) -> cose.Message:
        message = cose.decode(frame)
        if message.kind != cose.SIGN1:
            raise RemoteError("bad_cose", "COSE_Sign1 expected")
        if self._authority is not None and message.kid != self._authority:
            raise RemoteError("unknown_issuer")
        return message


def _document(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON object in `payload` and the octets of its `frame`."""
    if len(payload) > MAX_DOCUMENT_BYTES:
        raise RemoteError("too_long")
    try:
        document = json.loads(payload)
        frame = bytes.fromhex(document["frame"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RemoteError("bad_payload", "not a JSON object with a frame in hex") from None
    return document, frame


def refused_octets(payload: bytes) -> bytes:
    """Return what the reject ledger keeps of a refused document: its frame when it has one, else its first 1024 octets."""
    try:
        return _document(payload)[1][:MAX_DOCUMENT_BYTES]
    except ProtocolError:
        return payload[:1024]
