"""The rows of the outbox as values. All `*_at_ms` and `*_ms` times are unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A verified frame about to be stored; bit i of `fresh` says record n+i was not known to this gateway."""

    node: int
    epoch: int
    tx: int
    n: int
    count: int
    fresh: int
    received_at_ms: int
    link: str
    late: bool
    alarm: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's two windows under one key epoch, as `ReplayWindow` and `ReceiveWindow` persist them."""

    node: int
    epoch: int
    tx_highest: int
    tx_bitmap: int
    n_highest: int
    n_bitmap: int


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A stored frame: `data` is the COSE message as received and verified; publish only records with a `fresh` bit."""

    id: int
    node: int
    epoch: int
    tx: int
    n: int
    count: int
    fresh: int
    received_at_ms: int
    link: str
    late: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class QueuedOrder:
    """A signed order on its way; `not_before` and `not_after` are unix seconds, `state` one of order_words.STATES."""

    order_id: int
    node: int
    epoch: int
    not_before: int
    not_after: int
    verb: int
    frame: bytes
    state: int
    at_ms: int
    attempts: int = 0
    sent_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One step in an order's life, waiting to be published; `evidence` is JSON text."""

    id: int
    order_id: int
    node: int
    state: int
    at_ms: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A refused frame as it came in; `node` is what it claimed to be, None where that could not be read; `signal` how a radio heard it."""

    id: int
    reason: str
    node: int | None
    link: str
    at_ms: int
    data: bytes
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """`records` of the records first_n .. last_n will never be published; reason `disk_budget` or `quarantine`."""

    id: int
    node: int
    epoch: int
    first_n: int
    last_n: int
    records: int
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """Numbers for status and metrics; `full_in_h` is None unless the outbox has been growing for some minutes."""

    frames: int
    unpublished: int
    oldest_unpublished_at_ms: int | None
    rejects: int
    open_orders: int
    losses: int
    bytes_used: int
    bytes_limit: int
    full_in_h: float | None


def pack(bitmap: int) -> bytes:
    """A bitmap as its shortest big-endian octets (none for 0)."""
    return bitmap.to_bytes((bitmap.bit_length() + 7) // 8, "big")


def unpack(blob: bytes) -> int:
    """The bitmap of `pack`."""
    return int.from_bytes(blob, "big")
