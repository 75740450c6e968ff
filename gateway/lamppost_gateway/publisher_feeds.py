"""What the gateway publishes besides stored frames: health, refusals, hellos, order states, losses.

Hints (refusals, hellos) live in small bounded buffers and are thinned under a flood; order states and losses come from
the outbox and stay there until the broker confirmed them.
"""

import asyncio
import time
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from lamppost_gateway import documents
from lamppost_gateway.mqtt_messages import Outgoing, json_message
from lamppost_gateway.outbox_rows import OutboxCounts, StoredFrame
from lamppost_gateway.topics import Topics

if TYPE_CHECKING:
    from lamppost_protocol.hello import Hello

    from lamppost_gateway.metrics import Metrics
    from lamppost_gateway.registry import Registry

_REJECTS_PER_S = 10
_REJECTS_KEPT = 100
_HELLO_EVERY_S = 2.0
_HELLOS_KEPT = 1000
_HELLO_LIFE_S = 20.0  # a node takes no answer to a nonce older than 60 s
_STATUS_EVERY_S = 30.0
ORDER_EXPIRY_S = 30 * 86400  # a broker that speaks MQTT 5 forgets old orders by itself
_STATUS_EXPIRY_S = 7 * 86400  # a status older than this says nothing any more


class Hints:
    """Refusals and hellos on their way to the broker, bounded; the newest win."""

    def __init__(self, topics: Topics, gateway: str, registry: "Registry", metrics: "Metrics", network: int) -> None:
        self._topics = topics
        self._gateway = gateway
        self._registry = registry
        self._metrics = metrics
        self._network = network
        self._waiting: deque[tuple[float, Outgoing]] = deque(maxlen=_REJECTS_KEPT + _HELLOS_KEPT)
        self._hello_at_s: dict[int, float] = {}
        self._reject_second = (0, 0)
        self._skipped = 0
        self.ready = asyncio.Event()

    def rejected(self, reason: str, node: int | None, link: str, at_ms: int, data: bytes) -> None:
        """Take a refusal; at most ten a second are published, the next one tells how many were not. O(1)."""
        second, count = self._reject_second
        now = int(time.monotonic())
        if second == now and count >= _REJECTS_PER_S:
            self._skipped += 1
            self._metrics.count("rejects_unpublished")
            return
        self._reject_second = (now, count + 1 if second == now else 1)
        document = documents.reject_document(reason, node, data, link, at_ms, self._gateway, self._skipped)
        self._skipped = 0
        self._put(json_message(self._topics.reject, document), float("inf"))

    def hello_heard(self, link: str, hello: "Hello") -> None:
        """Take a hello of a node we know; one each two seconds and node."""
        now_s = time.monotonic()
        entry = self._registry.node(hello.node)
        is_ours = hello.network == self._network and entry is not None and not entry.revoked
        if not is_ours or now_s - self._hello_at_s.get(hello.node, -_HELLO_EVERY_S) < _HELLO_EVERY_S:
            self._metrics.count("hellos_unpublished")
            return
        self._hello_at_s[hello.node] = now_s  # bounded: registry nodes only
        document = documents.hello_document(hello, self._gateway, link, int(time.time() * 1000))
        self._put(json_message(self._topics.hello(hello.node), document), now_s + _HELLO_LIFE_S)

    def _put(self, message: Outgoing, until_s: float) -> None:
        self._waiting.append((until_s, message))
        self.ready.set()

    def take(self) -> Outgoing | None:
        """Return the oldest waiting message that is still of use; None, and `ready` is cleared, when there is none."""
        while self._waiting:
            until_s, message = self._waiting.popleft()
            if time.monotonic() < until_s:
                return message
        self.ready.clear()
        return None


class NodeStatus:
    """Decides when a node's retained status is worth another message."""

    def __init__(self, topics: Topics, gateway: str) -> None:
        self._topics = topics
        self._gateway = gateway
        self._sent_at_s: dict[int, float] = {}

    def message(self, heard: StoredFrame, last: documents.Record) -> Outgoing | None:
        """Return the status after a live frame, at most one each 30 s and node; None when it is too soon."""
        now_s = time.monotonic()
        if now_s - self._sent_at_s.get(heard.node, -_STATUS_EVERY_S) < _STATUS_EVERY_S:
            return None
        self._sent_at_s[heard.node] = now_s
        document = documents.status_document(heard, last, self._gateway)
        return json_message(self._topics.status(heard.node), document, retain=True, expiry_s=_STATUS_EXPIRY_S)

    def forget(self) -> None:
        """The broker may have lost what it retained: send every status again at the next frame."""
        self._sent_at_s.clear()


class ForeignStates:
    """States of orders that another gateway carried: published straight from the record, never going back."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._last: dict[int, tuple[int, int]] = {}

    def is_news(self, order_id: int, record: documents.Record) -> bool:
        """Tell whether `record` is newer than what was published of this order; bounded memory, oldest forgotten."""
        place = (record.epoch, record.n)
        if self._last.get(order_id, (0, 0)) >= place:
            return False
        self._last.pop(order_id, None)
        self._last[order_id] = place
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]
        return True


def health_message(topics: Topics, gateway: str, state: str, at_ms: int | None, numbers: dict[str, Any] | None = None) -> Outgoing:
    """Return the retained health; `state` online, stopped or (as last will, without a time) offline."""
    document: dict[str, Any] = {"v": documents.VERSION, "gateway": gateway, "state": state}
    if at_ms is not None:
        document["at"] = documents.iso(at_ms)
    document.update(numbers or {})
    return json_message(topics.health, document, retain=True)


def health_numbers(counts: OutboxCounts | None, at_ms: int, open_orders: int, nodes_heard: int) -> dict[str, Any]:
    """Return what the health document says besides its state."""
    numbers: dict[str, Any] = {"version": _version(), "open_orders": open_orders, "nodes_heard": nodes_heard}
    if counts is not None:
        oldest_ms = counts.oldest_unpublished_at_ms
        numbers["outbox"] = {
            "frames": counts.frames,
            "unpublished": counts.unpublished,
            "oldest_age_s": None if oldest_ms is None else max(0, (at_ms - oldest_ms) // 1000),
            "bytes": counts.bytes_used,
            "limit_bytes": counts.bytes_limit,
            "full_in_h": counts.full_in_h,
        }
        numbers["rejects"] = counts.rejects
        numbers["losses"] = counts.losses
    return numbers


def _version() -> str:
    try:
        return version("lamppost")
    except PackageNotFoundError:
        return "unknown"
