"""From the outbox to the city's broker: live frames first, back-fill paced, nothing marked before its PUBACK.

One row is one frame as it was heard plus one document per fresh record; it is marked published when the broker has
confirmed all of them. Two lanes: `live` holds what arrived since this connection began, in order of arrival;
`back-fill` holds what waited on the gateway's disk or on the node, in order of arrival, at most `drain_per_s` frames a
second, marked late. A node's order is kept within each lane. At least once: after a lost connection what was in flight,
and what was confirmed in the last second before a crash, is sent again with the same (node, epoch, n).

A broker that refuses a message (MQTT 5 reason code) loses nothing: the row stays, the connection is tried again later.
A broker that comes back without our session has forgotten things: what it confirmed in the last 35 minutes is sent
again (mosquitto's default writes its state every 30).

Holds at most two pages of 500 rows and `in_flight` messages in memory, whatever the outbox holds.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from lamppost_protocol import kinds
from lamppost_protocol.errors import ProtocolError

from lamppost_gateway import documents
from lamppost_gateway.backoff import Backoff
from lamppost_gateway.broker import BrokerError, Connection, Connector, Incoming, Outgoing, is_refusal, json_message
from lamppost_gateway.errors import OutboxError
from lamppost_gateway.log import Trouble, event, room
from lamppost_gateway.outbox_rows import OutboxCounts, StoredFrame
from lamppost_gateway.publisher_feeds import ForeignStates, Hints, NodeStatus, health_message
from lamppost_gateway.topics import Topics, hex8

if TYPE_CHECKING:
    from lamppost_protocol.hello import Hello

    from lamppost_gateway.config import Config
    from lamppost_gateway.downlinks import Downlinks
    from lamppost_gateway.metrics import Metrics
    from lamppost_gateway.orders import Orders
    from lamppost_gateway.registry import Registry
    from lamppost_gateway.store import Store
    from lamppost_gateway.verifier import VerifiedFrame

_LOG = room("publisher")

State = Literal["off", "connecting", "connected"]

_PAGE_ROWS = 500
_MARK_EVERY_S = 0.2
_PUBACK_LIMIT_S = 20.0  # a broker that is silent for that long on a message is taken for dead
_STEADY_S = 30.0  # a connection that held this long starts the waiting times anew
_HEALTH_EVERY_S = 30.0
_POLL_S = 5.0  # safety net for wake-ups
_REFILL_S = 2100
_ORDER_EXPIRY_S = 30 * 86400  # a broker that speaks MQTT 5 forgets old orders by itself
_FRAME_TYPE = 'application/cose; cose-type="cose-sign1"'


class _Row:
    """A row on its way: how many of its messages wait for their PUBACK."""

    __slots__ = ("id", "lane", "received_at_ms", "waiting")

    def __init__(self, row: StoredFrame, lane: str) -> None:
        self.id = row.id
        self.lane = lane
        self.received_at_ms = row.received_at_ms
        self.waiting = 0


class Publisher:
    """Carries stored frames, order states, losses, refusals, hellos and health to the broker; runs in the event loop."""

    def __init__(
        self,
        config: "Config",
        store: "Store",
        registry: "Registry",
        metrics: "Metrics",
        orders: "Orders",
        downlinks: "Downlinks",
        wall_s: Callable[[], float] = time.time,
        puback_limit_s: float = _PUBACK_LIMIT_S,
    ) -> None:
        self._gateway = config.gateway.id
        self._store = store
        self._metrics = metrics
        self._orders = orders
        self._downlinks = downlinks
        self._wall_s = wall_s
        self._puback_limit_s = puback_limit_s
        self._late_ms = config.outbox.late_s * 1000
        self._drain_per_s = config.outbox.drain_per_s
        self._topics = Topics(config.gateway.network, self._gateway)
        self._connector = Connector(
            config.broker,
            f"lamppost-{hex8(config.gateway.network)}-{self._gateway}",
            health_message(self._topics, self._gateway, "offline", None),
            config.outbox.in_flight,
        )
        self._backoff = Backoff(0.25, 30.0)
        self._hints = Hints(self._topics, self._gateway, registry, metrics, config.gateway.network)
        self._node_status = NodeStatus(self._topics, self._gateway)
        self._foreign = ForeignStates()
        self._live_ready = asyncio.Event()
        self._backfill_ready = asyncio.Event()
        self._ready = asyncio.Event()
        self._done: list[int] = []
        self._is_rewound = False
        self._refusal: asyncio.Future[None] | None = None
        self._connection: Connection | None = None
        self._counts: OutboxCounts | None = None
        self._trouble = Trouble(_LOG, "broker", host=config.broker.host, port=config.broker.port)
        self.state: State = "off"
        self.last_error: str | None = None
        orders.rejected = self.rejected  # type: ignore[method-assign]

    # What the receiver tells; none of these blocks.

    def frames_committed(self, frames: "Sequence[VerifiedFrame]") -> None:
        """Frames are in the outbox: send them."""
        for frame in frames:
            (self._backfill_ready if frame.late else self._live_ready).set()
        self._ready.set()

    def hello_heard(self, link: str, hello: "Hello") -> None:
        """Publish a hello of a node we know, so that the authority can answer its nonce."""
        self._hints.hello_heard(link, hello)

    def node_log(self, link: str, text: str) -> None:
        """A node's log line is not published: it is unsigned text from the street, and the receiver has logged it."""

    def rejected(self, reason: str, node: int | None, link: str, at_ms: int, data: bytes) -> None:
        """Publish a refusal, thinned under a flood."""
        self._hints.rejected(reason, node, link, at_ms, data)

    def summary(self) -> dict[str, Any]:
        """Return what `status` shows of the broker."""
        connection = self._connection
        return {
            "state": self.state,
            "protocol": None if connection is None else connection.protocol,
            "in_flight": 0 if connection is None else connection.in_flight,
            "last_error": self.last_error,
        }

    async def resync(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer the status socket: publish again, as back-fill, what was confirmed since unix ms `since_ms`.

        Raises ValueError or TypeError when the request has no such number.
        """
        since_ms = int(request.get("since_ms", -1))
        if since_ms < 0:
            raise ValueError("since_ms, unix milliseconds, is missing")
        await self._flush_marks()
        count = await self._store.write(self._store.outbox.unpublish_since, since_ms)
        self._is_rewound = True
        self._ready.set()
        event(_LOG, logging.INFO, "resync", since_ms=since_ms, frames=count)
        return {"frames": count}

    # The connection.

    async def run(self) -> None:
        """Publish until cancelled; then say so on the health topic and keep what was confirmed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_numbers(), name="publisher numbers")
            group.create_task(self._run_connections(), name="publisher connections")

    async def _run_connections(self) -> None:
        while True:
            self.state = "connecting"
            since_s = _loop_s()
            try:
                async with self._connector.connect() as connection:
                    since_s = _loop_s()
                    await self._serve(connection)
            except (BrokerError, OutboxError) as error:
                self.last_error = str(error)
            finally:
                self.state = "off"
                self._connection = None
                self._metrics.gauge("broker_connected", 0)
            self._metrics.count("broker_losses")
            if _loop_s() - since_s > _STEADY_S:
                self._backoff.reset()
            pause_s = self._backoff.next_s()
            self._trouble.failed(reason=self.last_error, retry_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _serve(self, connection: Connection) -> None:
        """Use one connection until it fails, which raises BrokerError."""
        self._connection = connection
        self._refusal = asyncio.get_running_loop().create_future()
        await self._begin(connection)
        self.state = "connected"
        self.last_error = None
        self._metrics.count("broker_connects")
        self._metrics.gauge("broker_connected", 1)
        self._trouble.recovered(protocol=connection.protocol)
        jobs = {
            "lanes": self._run_lanes(connection),
            "marks": self._run_marks(),
            "incoming": self._run_incoming(connection),
            "hints": self._run_hints(connection),
            "events": self._run_events(connection),
            "health": self._run_health(connection),
            "watch": self._run_watch(connection),
        }
        try:
            async with _first_failure_only(), asyncio.TaskGroup() as group:
                for name, job in jobs.items():
                    group.create_task(job, name=f"publisher {name}")
        except asyncio.CancelledError:
            await self._say_goodbye(connection)
            raise
        finally:
            await self._flush_marks(limit_s=1.0, lazy=False)

    async def _begin(self, connection: Connection) -> None:
        if not connection.is_session_present:
            since_ms = int((self._wall_s() - _REFILL_S) * 1000)
            count = await self._store.write(self._store.outbox.unpublish_since, since_ms)
            self._node_status.forget()
            if count:
                self._metrics.count("broker_refills")
                event(_LOG, logging.WARNING, "broker_forgot", frames_sent_again=count)
        try:
            await connection.subscribe([(self._topics.order_signed, 1), (self._topics.beacon_signed, 1)])
        except Exception as error:
            raise BrokerError(f"cannot subscribe: {error}") from error

    async def _run_watch(self, connection: Connection) -> None:
        """Raise BrokerError when the connection is lost, refused a message, or is silent for too long."""
        assert self._refusal is not None
        while True:
            await asyncio.wait((connection.lost, self._refusal), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            if self._refusal.done():
                self._refusal.result()
            connection.check()
            if connection.oldest_wait_s() > self._puback_limit_s:
                raise BrokerError(f"no PUBACK for {self._puback_limit_s:.0f} s")

    async def _say_goodbye(self, connection: Connection) -> None:
        """Publish health "stopped": the last will is not sent after a graceful end."""
        try:
            async with asyncio.timeout(0.5):
                message = health_message(self._topics, self._gateway, "stopped", int(self._wall_s() * 1000))
                await self._send_all(connection, [message])
        except (BrokerError, TimeoutError):
            pass  # the last will says it then

    # Lanes.

    async def _run_lanes(self, connection: Connection) -> None:
        outbox = self._store.outbox
        border_id = await self._store.read(outbox.newest_id)
        live_id, backfill_id = border_id, 0
        page: list[StoredFrame] = []
        is_backfill_dry = False
        next_backfill_s = _loop_s()
        self._live_ready.set()
        while True:
            self._ready.clear()
            if self._is_rewound:
                self._is_rewound = False
                border_id, backfill_id, page, is_backfill_dry = live_id, 0, [], False
            if self._live_ready.is_set():
                self._live_ready.clear()
                while live := await self._store.read(outbox.next_live, live_id, _PAGE_ROWS):
                    for row in live:
                        await self._send_row(connection, row, "live")
                    live_id = live[-1].id
            if self._backfill_ready.is_set():
                self._backfill_ready.clear()
                is_backfill_dry = False
            if not page and not is_backfill_dry:
                page = await self._store.read(outbox.next_backfill, border_id, backfill_id, _PAGE_ROWS)
                page.reverse()
                is_backfill_dry = not page
            now_s = _loop_s()
            next_backfill_s = max(next_backfill_s, now_s - 0.05)
            while page and next_backfill_s <= now_s and not self._live_ready.is_set():
                row = page.pop()
                await self._send_row(connection, row, "backfill")
                backfill_id = row.id
                next_backfill_s += 1 / self._drain_per_s
            if self._live_ready.is_set():
                continue
            if page:
                # Not under 10 ms: at 1,000 frames a second ten go at once instead of one per wake-up.
                await _wait(self._ready, max(0.01, next_backfill_s - now_s))
            elif is_backfill_dry and not await _wait(self._ready, _POLL_S):
                self._live_ready.set()
                self._backfill_ready.set()

    async def _send_row(self, connection: Connection, stored: StoredFrame, lane: str) -> None:
        row = _Row(stored, lane)
        messages = await self._messages_of(stored, lane)
        row.waiting = len(messages)

        for message in messages:
            await connection.wait_room()
            sent_s = time.monotonic()

            def acknowledged(code: int, topic: str = message.topic, sent_s: float = sent_s) -> None:
                if self._is_taken(code, topic, sent_s):
                    row.waiting -= 1
                    if row.waiting == 0:
                        self._row_done(row)

            connection.publish_soon(message, acknowledged)

    def _is_taken(self, code: int, topic: str, sent_s: float) -> bool:
        if is_refusal(code):
            self._metrics.count("publish_refused")
            if self._refusal is not None and not self._refusal.done():
                self._refusal.set_exception(BrokerError(f"broker refused {topic}: reason code 0x{code:02x}"))
            return False
        self._metrics.count("messages_published")
        self._metrics.observe("publish_s", time.monotonic() - sent_s)
        return True

    def _row_done(self, row: _Row) -> None:
        self._done.append(row.id)
        self._metrics.count("rows_published", lane=row.lane)
        if row.lane == "live":
            self._metrics.observe("live_s", max(0.0, self._wall_s() - row.received_at_ms / 1000))

    async def _messages_of(self, stored: StoredFrame, lane: str) -> list[Outgoing]:
        """Return all messages of a row. Signed octets that cannot be read go out all the same."""
        is_late = stored.late or (lane == "backfill" and self._wall_s() * 1000 - stored.received_at_ms > self._late_ms)
        node = stored.node
        about = (
            ("epoch", str(stored.epoch)),
            ("n", str(stored.n)),
            ("received_at", documents.iso(stored.received_at_ms) or ""),
            ("late", "true" if is_late else "false"),
            ("gateway", self._gateway),
        )
        messages = [Outgoing(self._topics.frame(node), stored.data, content_type=_FRAME_TYPE, properties=about)]
        try:
            records = documents.records_of(stored)
        except ProtocolError as error:
            self._metrics.count("unreadable_rows")
            event(_LOG, logging.ERROR, "row_unreadable", row=stored.id, node=hex8(node), reason=error.reason)
            return messages
        for record in records:
            document = documents.record_document(record, stored, self._gateway, late=is_late)
            messages.append(json_message(self._topics.record(node, record.fixture), document))
            if record.profile_id == kinds.ORDER_STATE:
                messages += await self._order_messages(record, stored)
            elif record.profile_id == kinds.GAP:
                reason = kinds.GAP_REASONS.get(record.value("reason") or 0, "other")
                self._metrics.count("records_declared_lost", max(0, record.value("lost") or 0), reason=reason)
        if lane == "live" and records:
            status = self._node_status.message(stored, records[-1])
            messages += [status] if status is not None else []
        return messages

    async def _order_messages(self, record: documents.Record, stored: StoredFrame) -> list[Outgoing]:
        """Return the state of an order that another gateway carried; that of our own goes by `_run_events`."""
        order_id, state = record.value("order_id"), record.value("state")
        if order_id is None or state is None:
            return []
        if await self._orders.note(record, stored.received_at_ms) or not self._foreign.is_news(order_id, record):
            return []
        evidence = documents.order_evidence(record)
        document = documents.order_state_document(order_id, record.node, state, stored.received_at_ms, self._gateway, evidence)
        return [json_message(self._topics.order_state(order_id), document, retain=True, expiry_s=_ORDER_EXPIRY_S)]

    async def _run_marks(self) -> None:
        while True:
            await asyncio.sleep(_MARK_EVERY_S)
            await self._flush_marks()

    async def _flush_marks(self, limit_s: float = 30.0, lazy: bool = True) -> None:
        """Write down which rows the broker confirmed; while the disk is full they wait here.

        `lazy`: with the next commit. A commit of their own would hold frames up for a window, acknowledgements with them.
        """
        ids, self._done = self._done, []
        if not ids:
            return
        try:
            async with asyncio.timeout(limit_s):
                await self._store.write(self._store.outbox.mark_published, ids, int(self._wall_s() * 1000), lazy=lazy)
        except (OutboxError, TimeoutError):
            self._done = ids + self._done
        except asyncio.CancelledError:
            self._done = ids + self._done  # marking twice does no harm, sending twice costs the city a duplicate
            raise

    # Everything else.

    async def _send_all(self, connection: Connection, messages: Sequence[Outgoing]) -> None:
        """Send and wait for every PUBACK. Raises BrokerError."""
        waiting = len(messages)
        all_taken = asyncio.Event()

        for message in messages:
            await connection.wait_room()
            sent_s = time.monotonic()

            def acknowledged(code: int, topic: str = message.topic, sent_s: float = sent_s) -> None:
                nonlocal waiting
                if self._is_taken(code, topic, sent_s):
                    waiting -= 1
                    if waiting == 0:
                        all_taken.set()

            connection.publish_soon(message, acknowledged)
        if messages:
            await connection.until_lost_or(all_taken.wait())

    async def _run_incoming(self, connection: Connection) -> None:
        while True:
            message = await connection.incoming.get()
            await self._take(message)
            connection.accept(message)
            if connection.dropped:
                self._metrics.count("incoming_dropped", connection.dropped)
                connection.dropped = 0

    async def _take(self, message: Incoming) -> None:
        while True:
            try:
                if message.topic == self._topics.order_signed:
                    await self._orders.take_order(message.payload)
                elif message.topic == self._topics.beacon_signed:
                    await self._orders.take_beacon(message.payload)
                return
            except OutboxError as error:
                event(_LOG, logging.WARNING, "order_waits_for_disk", reason=type(error).__name__)
                await asyncio.sleep(_POLL_S)

    async def _run_hints(self, connection: Connection) -> None:
        while True:
            await self._hints.ready.wait()
            while (message := self._hints.take()) is not None:
                await self._send_all(connection, [message])

    async def _run_events(self, connection: Connection) -> None:
        """Publish order states and losses from the outbox, each marked after its PUBACK."""
        outbox = self._store.outbox
        while True:
            self._orders.events_changed.clear()
            while events := await self._store.read(outbox.pending_order_events, _PAGE_ROWS):
                await self._send_all(connection, [self._event_message(item) for item in events])
                await self._store.write(outbox.order_events_published, [item.id for item in events])
            while losses := await self._store.read(outbox.pending_losses, _PAGE_ROWS):
                sent = [documents.loss_document(loss, self._gateway) for loss in losses]
                await self._send_all(connection, [json_message(self._topics.loss, item) for item in sent])
                await self._store.write(outbox.losses_published, [loss.id for loss in losses])
            await _wait(self._orders.events_changed, _POLL_S)

    def _event_message(self, item: Any) -> Outgoing:
        document = documents.order_state_document(
            item.order_id, item.node, item.state, item.at_ms, self._gateway, documents.parse_evidence(item.evidence)
        )
        return json_message(self._topics.order_state(item.order_id), document, retain=True, expiry_s=_ORDER_EXPIRY_S)

    async def _run_health(self, connection: Connection) -> None:
        while True:
            at_ms = int(self._wall_s() * 1000)
            numbers = health_numbers(self._counts, at_ms, self._orders.open_count, len(self._downlinks.nodes()))
            message = health_message(self._topics, self._gateway, "online", at_ms, numbers)
            await self._send_all(connection, [message])
            await asyncio.sleep(_HEALTH_EVERY_S)

    async def _run_numbers(self) -> None:
        """Keep the gauges of outbox and broker fresh, connected or not."""
        while True:
            try:
                counts = await self._store.read(self._store.outbox.counts)
            except OutboxError as error:
                event(_LOG, logging.DEBUG, "counts_failed", reason=type(error).__name__)
            else:
                self._counts = counts
                self._show(counts)
            await asyncio.sleep(1.0)

    def _show(self, counts: OutboxCounts) -> None:
        gauge = self._metrics.gauge
        gauge("outbox_frames", counts.frames)
        gauge("outbox_unpublished", counts.unpublished)
        oldest_ms = counts.oldest_unpublished_at_ms
        gauge("outbox_oldest_age_seconds", 0 if oldest_ms is None else max(0, self._wall_s() - oldest_ms / 1000))
        gauge("outbox_bytes", counts.bytes_used)
        gauge("outbox_limit_bytes", counts.bytes_limit)
        gauge("outbox_full_in_hours", float("nan") if counts.full_in_h is None else counts.full_in_h)
        gauge("open_orders", self._orders.open_count)
        gauge("in_flight", 0 if self._connection is None else self._connection.in_flight)


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


@asynccontextmanager
async def _first_failure_only() -> AsyncIterator[None]:
    """Turn a TaskGroup's group of failures into its first BrokerError or OutboxError; others pass as they are."""
    try:
        yield
    except* (BrokerError, OutboxError) as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _wait(ready: asyncio.Event, pause_s: float) -> bool:
    """Wait for the event, at most `pause_s`; tell whether it came."""
    try:
        async with asyncio.timeout(pause_s):
            await ready.wait()
    except TimeoutError:
        return False
    return True


def _loop_s() -> float:
    return asyncio.get_running_loop().time()
