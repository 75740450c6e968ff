"""An order's life at the gateway: taken from the broker, verified, kept, sent until answered, its states told.

The authority signs; this room only carries. An order is acknowledged to the broker after it is on disk. It is sent over
the link the node was last heard on, again and again until a signed record of the node answers, in the order of the
ids, since a node never obeys an id below one it obeyed. Beacons pass through and are never queued.

Does not know MQTT: publisher.py hands messages in and publishes the events this room writes into the outbox.

Ref: protocol/WIRE.md sections 5.2, 6 and 7.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lamppost_protocol import cose, order_words, orders
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.es256_host import HostVerifier

from lamppost_gateway.documents import Record, order_evidence, order_states_of
from lamppost_gateway.downlink_gate import Gate, NotOursError, SignedOrder, refused_octets
from lamppost_gateway.errors import OutboxError
from lamppost_gateway.log import event, room
from lamppost_gateway.order_queue import OpenOrder, OrderQueue
from lamppost_gateway.outbox_rows import QueuedOrder
from lamppost_gateway.topics import hex8

if TYPE_CHECKING:
    from lamppost_protocol.hello import Hello
    from lamppost_protocol.releases import Manifest

    from lamppost_gateway.config import Config
    from lamppost_gateway.downlinks import Downlinks
    from lamppost_gateway.metrics import Metrics
    from lamppost_gateway.registry import Registry
    from lamppost_gateway.store import Store
    from lamppost_gateway.verifier import VerifiedFrame

_LOG = room("orders")

_RESEND_FIRST_S = 4.0  # an answer takes a signature (0.2 s) and a turn of the node's uplink
_ABSENT_RETRY_S = 30.0  # a node that is not there: it is tried at once when it is heard, this is the safety net
_HEAD_ATTEMPTS = 3  # unanswered that often, an order no longer holds back the node's next ones
_UNANSWERED_GRACE_S = 600  # the node's own last word may come this long after the order's end
_FORGET_S = 7 * 86400  # an accepted order whose end was never told is closed this long after its end
_STALE_S = 7 * 86400  # older than this, an expired order from the broker is a replay and gets no state
_MAX_OPEN = 10_000
_MAX_OPEN_PER_NODE = 64
_LEDGER_PER_S = 10  # refused broker documents kept per second; the rest is only counted


class Orders:
    """The orders and beacons of the nodes this gateway serves. All methods run in the event loop's thread.

    `wall_s` gives unix seconds: an order's expiry is a matter of wall time. Waiting uses the loop's own clock.
    """

    def __init__(
        self,
        config: "Config",
        store: "Store",
        downlinks: "Downlinks",
        registry: "Registry",
        metrics: "Metrics",
        wall_s: Callable[[], float] = time.time,
        resend_first_s: float = _RESEND_FIRST_S,
    ) -> None:
        self._store = store
        self._downlinks = downlinks
        self._metrics = metrics
        self._wall_s = wall_s
        verifier = HostVerifier(config.gateway.authority_public_key)
        self._gate = Gate(config.gateway.network, verifier, config.gateway.authority_id, registry)
        self._queue = OrderQueue(resend_first_s)
        self._loaded = asyncio.Event()
        self._wake = asyncio.Event()
        self._answers: asyncio.Queue[tuple[Record, int]] = asyncio.Queue()
        self._beacon_tx: dict[int | None, int] = {}
        self._ledger_second = (0, 0)
        self._writes: set[asyncio.Task[None]] = set()
        self.events_changed = asyncio.Event()
        """Set when the outbox holds a new order event; publisher.py clears it."""

    # What the receiver tells.

    def frames_committed(self, committed: "Sequence[VerifiedFrame]") -> None:
        """Take note of stored frames: answers to orders, and that their nodes are there. Does not block."""
        for frame in committed:
            for record in order_states_of(frame):
                self._answers.put_nowait((record, frame.received_at_ms))
                self._wake.set()
            self._node_heard(frame.node)

    def hello_heard(self, link: str, hello: "Hello") -> None:
        """Take note of a hello: a hint that the node is there, and whether it waits for the time."""
        if hello.nonce is None:
            self._queue.has_time(hello.node)
        else:
            self._queue.asks_for_time(hello.node, _loop_s())
        self._node_heard(hello.node)

    def _node_heard(self, node: int) -> None:
        for known in self._queue.of_node(node):
            if known.state == orders.QUEUED or known.is_absent:
                known.due_s = 0.0
                self._wake.set()

    # What the publisher hands in from the broker.

    async def take_order(self, payload: bytes) -> None:
        """Verify and queue one document of order/signed; returns when it is durable, refused or none of our business.

        Raises OutboxError when the disk cannot take it: the broker must keep it then.
        """
        await self._loaded.wait()
        try:
            node, message, _, _ = self._gate.peek_order(payload)
            if self._queue.get(message.tx) is not None or await self._store.read(self._store.outbox.get_order, message.tx) is not None:
                self._metrics.count("orders_received", result="repeated")
                return
            signed = self._gate.open_order(payload)
        except NotOursError:
            self._metrics.count("orders_received", result="not_ours")
            return
        except RemoteError as error:
            self._metrics.count("orders_received", result="refused")
            self.refuse(error.reason, payload)
            return
        is_crowded = len(self._queue) >= _MAX_OPEN or len(self._queue.of_node(node)) >= _MAX_OPEN_PER_NODE
        if is_crowded:
            self._metrics.count("orders_received", result="queue_full")
            event(_LOG, logging.WARNING, "order_queue_full", node=hex8(node), order=signed.order.order_id)
            return
        await self._enqueue(signed)

    async def _enqueue(self, signed: SignedOrder) -> None:
        order = signed.order
        now_s = self._wall_s()
        if order.not_after + _STALE_S <= now_s:
            self._metrics.count("orders_received", result="stale")
            return
        queued = QueuedOrder(
            order.order_id,
            signed.node,
            signed.epoch,
            order.not_before,
            order.not_after,
            order.verb,
            signed.frame,
            orders.QUEUED,
            int(now_s * 1000),
        )
        if await self._store.write(self._store.outbox.put_order, queued):
            event(_LOG, logging.INFO, "order_queued", node=hex8(signed.node), order=order.order_id)
            self._metrics.count("orders_received", result="queued")
            self._metrics.count("order_states", state="queued")
            self._queue.add(queued)
            self.events_changed.set()
            self._wake.set()

    async def take_beacon(self, payload: bytes) -> None:
        """Verify one document of beacon/signed and pass the beacon on at once; one seen before is not sent again."""
        try:
            signed = self._gate.open_beacon(payload)
        except NotOursError:
            self._metrics.count("beacons", result="not_ours")
            return
        except RemoteError as error:
            self._metrics.count("beacons", result="refused")
            self.refuse(error.reason, payload)
            return
        if signed.tx <= self._beacon_tx.get(signed.node, 0):
            self._metrics.count("beacons", result="repeated")
            return
        self._beacon_tx[signed.node] = signed.tx
        if signed.node is None:
            is_sent = self._downlinks.broadcast(signed.frame) > 0
        else:
            is_sent = self._downlinks.send(signed.node, signed.frame)
            if self._queue.beacon_sent(signed.node, _loop_s()):
                self._wake.set()
        self._metrics.count("beacons", result="sent" if is_sent else "no_link")

    def refuse(self, reason: str, payload: bytes) -> None:
        """Count a refused message of the broker and keep it in the ledger, at most `_LEDGER_PER_S` a second."""
        self._metrics.count("rejected", reason=reason)
        second, kept = self._ledger_second
        now_s = int(_loop_s())
        if second == now_s and kept >= _LEDGER_PER_S:
            return
        self._ledger_second = (now_s, kept + 1 if second == now_s else 1)
        at_ms = int(self._wall_s() * 1000)
        event(_LOG, logging.WARNING if kept == 0 else logging.DEBUG, "broker_document_refused", reason=reason)
        octets = refused_octets(payload)
        self.rejected(reason, None, "broker", at_ms, octets)
        self._write_down(self._store.outbox.add_reject, reason, None, "broker", at_ms, octets)

    def _write_down(self, method: Callable[..., None], *args: Any) -> None:
        """Write bookkeeping that may be lost with a crash, without waiting for the disk: a refusal must not hold up orders."""

        async def write() -> None:
            try:
                await self._store.write(method, *args, lazy=True)
            except OutboxError as error:
                event(_LOG, logging.DEBUG, "bookkeeping_lost", reason=type(error).__name__)

        task = asyncio.get_running_loop().create_task(write(), name="orders bookkeeping")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def rejected(self, reason: str, node: int | None, link: str, at_ms: int, data: bytes) -> None:
        """Called for each refused document that is kept; publisher.py replaces it by its own."""

    # Which releases are named by an order, for releases.py.

    def manifest_of(self, node: int, release: bytes) -> "Manifest | None":
        """The manifest of the node's open update order, where its body's digest begins with `release`; None where it has no such order."""
        found = (manifest for manifest in self._manifests(self._queue.of_node(node)) if manifest.digest.startswith(release))
        return next(found, None)

    def releases(self) -> set[bytes]:
        """Digests of the bodies that open update orders name."""
        return {manifest.digest for manifest in self._manifests(self._queue)}

    async def wait_releases(self) -> set[bytes]:
        """The same, once the orders of before the start are known."""
        await self._loaded.wait()
        return self.releases()

    def _manifests(self, known: Iterable[OpenOrder]) -> "Iterator[Manifest]":
        """A node fetches until its order's end and not beyond (WIRE.md 17.4)."""
        wall_s = self._wall_s()
        return (each.manifest for each in known if each.manifest is not None and each.queued.not_after > wall_s)

    # Sending, answers, expiry.

    async def run(self) -> None:
        """Send what is due, take answers, close what expired; until cancelled."""
        for queued in await self._store.read(self._store.outbox.open_orders):
            self._queue.add(queued)
        self._loaded.set()
        self.events_changed.set()
        while True:
            self._wake.clear()
            try:
                while not self._answers.empty():
                    await self.note(*self._answers.get_nowait())
                await self._expire()
                pause_s = await self._send_due()
            except OutboxError as error:
                event(_LOG, logging.WARNING, "orders_wait_for_disk", reason=type(error).__name__)
                pause_s = 5.0
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _send_due(self) -> float:
        """Send every order that is due, lowest ids first, none past its end; return the seconds until the next may be (at most 5)."""
        now_s, wall_s = _loop_s(), self._wall_s()
        next_s = now_s + 5.0
        blocked: set[int] = set()
        for known in self._queue:
            if not known.is_unanswered or known.queued.not_after <= wall_s:
                continue
            node = known.queued.node
            due_s = self._queue.due_s(known, now_s)
            if node not in blocked and due_s <= now_s:
                await self._send(known)
                due_s = known.due_s
            if known.attempts < _HEAD_ATTEMPTS:
                blocked.add(node)
            next_s = min(next_s, max(due_s, now_s))
        return max(0.05, next_s - now_s)

    async def _send(self, known: OpenOrder) -> None:
        queued = known.queued
        if not self._gate.is_served(queued.node) or not self._downlinks.send(queued.node, queued.frame):
            known.due_s = _loop_s() + _ABSENT_RETRY_S
            known.is_absent = True
            return
        known.is_absent = False
        known.attempts += 1
        known.due_s = _loop_s() + known.backoff.next_s()
        at_ms = int(self._wall_s() * 1000)
        self._metrics.count("order_sends")
        self._write_down(self._store.outbox.order_sent, queued.order_id, at_ms)
        if known.state == orders.QUEUED:
            known.state = orders.SENT
            try:
                await self._note_sent(queued, at_ms)
            except OutboxError:
                if known.state == orders.SENT:  # the node has not answered meanwhile
                    known.state = orders.QUEUED  # noted with the next sending
                raise

    async def _note_sent(self, queued: QueuedOrder, at_ms: int) -> None:
        """Write down that an order is on its way, and what it will bring. Raises OutboxError."""
        outbox = self._store.outbox
        if queued.verb == orders.RESEND:
            first_n, last_n = _resend_range(queued)
            await self._store.write(outbox.expect_resend, queued.node, queued.epoch, first_n, last_n, queued.not_after * 1000)
        evidence = {"by": "gateway", "link": self._downlinks.link_of(queued.node)}
        await self._set_state(queued.order_id, orders.SENT, at_ms, evidence)

    async def _set_state(self, order_id: int, state: int, at_ms: int, evidence: dict[str, Any], **how: bool) -> bool:
        text = json.dumps(evidence, separators=(",", ":"))
        is_news: bool = await self._store.write(lambda: self._store.outbox.set_order_state(order_id, state, at_ms, text, **how))
        if is_news:
            self._metrics.count("order_states", state=order_words.STATES.get(state, "other"))
            self.events_changed.set()
        return is_news

    async def note(self, record: Record, at_ms: int) -> bool:
        """Take a signed order_state record. Return False when this gateway never had that order (another one did).

        Idempotent: the publisher calls it again for each stored record, so that a crash between the commit and
        `frames_committed` loses no answer. Raises OutboxError.
        """
        order_id, state = record.value("order_id"), record.value("state")
        if order_id is None or state is None or state not in order_words.STATES or state < orders.ACCEPTED:
            return False
        queued = await self._store.read(self._store.outbox.get_order, order_id)
        if queued is None or queued.node != record.node:
            return False
        known = self._queue.get(order_id)
        if known is not None:
            known.state = max(known.state, state)
            if state >= orders.VERIFIED:
                self._queue.remove(known)
        if state <= queued.state and queued.state != orders.EXPIRED:
            return True
        if await self._set_state(order_id, state, at_ms, order_evidence(record), overrule=True):
            event(_LOG, logging.INFO, "order_state", order=order_id, state=order_words.STATES[state], node=hex8(record.node))
            self._wake.set()
        return True

    async def _expire(self) -> None:
        """Close orders past their end: at once when never sent, after a grace when the node did not answer."""
        now_s = self._wall_s()
        for known in self._queue:
            late_s = now_s - known.queued.not_after
            if known.state == orders.QUEUED:
                is_over = late_s >= 0
            elif known.state == orders.SENT:
                is_over = late_s >= _UNANSWERED_GRACE_S
            else:
                is_over = late_s >= _FORGET_S
            if not is_over:
                continue
            evidence = {"by": "gateway", "attempts": known.attempts, "answered": not known.is_unanswered}
            await self._set_state(known.queued.order_id, orders.EXPIRED, int(now_s * 1000), evidence)
            self._queue.remove(known)

    @property
    def open_count(self) -> int:
        """Orders that have not reached their end."""
        return len(self._queue)


def _resend_range(queued: QueuedOrder) -> tuple[int, int]:
    order = orders.decode_order(queued.order_id, cose.decode(queued.frame).payload)
    return order.args[0], order.args[1]


def _loop_s() -> float:
    return asyncio.get_running_loop().time()
