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
from typing import TYPE_CHECKING, Any, Literal

from lamppost_gateway import documents
from lamppost_gateway.backoff import Backoff
from lamppost_gateway.broker import BrokerError, Connection, Connector, is_refusal
from lamppost_gateway.errors import OutboxError
from lamppost_gateway.log import Trouble, event, room
from lamppost_gateway.mqtt_messages import Incoming, Outgoing, json_message
from lamppost_gateway.outbox_rows import OrderEvent, OutboxCounts
from lamppost_gateway.publisher_feeds import ORDER_EXPIRY_S, Hints, health_message, health_numbers
from lamppost_gateway.publisher_lanes import Lanes, wait
from lamppost_gateway.publisher_sender import Sender
from lamppost_gateway.topics import Topics, hex8

if TYPE_CHECKING:
    from lamppost_protocol.hello import Hello

    from lamppost_gateway.config import Config
    from lamppost_gateway.downlinks import Downlinks
    from lamppost_gateway.metrics import Metrics
    from lamppost_gateway.orders import Orders
    from lamppost_gateway.registry import Registry
    from lamppost_gateway.releases import Releases
    from lamppost_gateway.store import Store
    from lamppost_gateway.verifier import VerifiedFrame

_LOG = room("publisher")

State = Literal["off", "connecting", "connected"]

_PAGE_ROWS = 500
_PUBACK_LIMIT_S = 20.0  # a broker that is silent for that long on a message is taken for dead
_STEADY_S = 30.0  # a connection that held this long starts the waiting times anew
_HEALTH_EVERY_S = 30.0
_DISK_RETRY_S = 1.0
_POLL_S = 5.0  # safety net for wake-ups
_REFILL_S = 2100


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
        releases: "Releases",
        wall_s: Callable[[], float] = time.time,
        puback_limit_s: float = _PUBACK_LIMIT_S,
        backoff: Backoff | None = None,
    ) -> None:
        self._gateway = config.gateway.id
        self._store = store
        self._metrics = metrics
        self._orders = orders
        self._downlinks = downlinks
        self._releases = releases
        self._wall_s = wall_s
        self._puback_limit_s = puback_limit_s
        self._topics = Topics(config.gateway.network, self._gateway)
        self._connector = Connector(
            config.broker,
            f"lamppost-{hex8(config.gateway.network)}-{self._gateway}",
            health_message(self._topics, self._gateway, "offline", None),
            config.outbox.in_flight,
        )
        self._backoff = backoff or Backoff(0.25, 30.0)
        self._hints = Hints(self._topics, self._gateway, registry, metrics, config.gateway.network)
        self._lanes = Lanes(config, self._topics, store, orders, metrics, wall_s)
        self._is_forgotten = False
        self._connection: Connection | None = None
        self._counts: OutboxCounts | None = None
        self._trouble = Trouble(_LOG, "broker", host=config.broker.host, port=config.broker.port)
        self.state: State = "off"
        self.last_error: str | None = None
        orders.rejected = self.rejected  # type: ignore[method-assign]

    # What the receiver tells; none of these blocks.

    def frames_committed(self, frames: "Sequence[VerifiedFrame]") -> None:
        """Frames are in the outbox: send them."""
        self._lanes.frames_committed(frames)

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
        count = await self._lanes.refill(since_ms)
        event(_LOG, logging.INFO, "resync", since_ms=since_ms, frames=count)
        return {"frames": count}

    # The connection.

    async def run(self) -> None:
        """Publish until cancelled; then say so on the health topic and keep what was confirmed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_numbers(), name="publisher numbers")
            # In this task: a group cancels its own only once, and aiomqtt's `wait_for` may swallow that (CPython #86296).
            await self._run_connections()

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
            self.state = "connecting"
            self._metrics.count("broker_losses")
            if _loop_s() - since_s > _STEADY_S:
                self._backoff.reset()
            pause_s = self._backoff.next_s()
            self._trouble.failed(reason=self.last_error, retry_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _serve(self, connection: Connection) -> None:
        """Use one connection until it fails, which raises BrokerError."""
        self._connection = connection
        sender = Sender(connection, self._metrics, self._puback_limit_s)
        await self._subscribe(connection, self._topics.order_signed, self._topics.beacon_signed, self._topics.releases)
        self._releases.broker_connected()
        self.state = "connected"
        self.last_error = None
        self._metrics.count("broker_connects")
        self._metrics.gauge("broker_connected", 1)
        self._trouble.recovered(protocol=connection.protocol)
        self._is_forgotten = self._is_forgotten or not connection.is_session_present
        await self._refill()
        jobs = {
            "lanes": self._lanes.run(sender),
            "marks": self._lanes.run_marks(),
            "incoming": self._run_incoming(connection),
            "releases": self._run_releases(connection),
            "hints": self._run_hints(sender),
            "events": self._run_events(sender),
            "health": self._run_health(sender),
            "watch": sender.run_watch(),
        }
        try:
            async with _first_failure_only(), asyncio.TaskGroup() as group:
                for name, job in jobs.items():
                    group.create_task(job, name=f"publisher {name}")
        except asyncio.CancelledError:
            await self._say_goodbye(sender)
            raise
        finally:
            sender.close()
            await self._lanes.flush_marks(limit_s=1.0, lazy=False)

    async def _subscribe(self, connection: Connection, *topics: str) -> None:
        """Raises BrokerError when the broker does not answer; what it refuses by its rights is told, and goes unheard."""
        try:
            codes = await connection.subscribe([(topic, 1) for topic in topics])
        except Exception as error:
            raise BrokerError(f"cannot subscribe: {error}") from error
        for topic, code in zip(topics, codes, strict=False):
            number: Any = getattr(code, "value", code)  # MQTT 5 has objects here, 3.1.1 numbers
            if is_refusal(int(number)):
                event(_LOG, logging.WARNING, "subscription_refused", topic=topic, advice="see gateway/MQTT.md for the rights it needs")

    async def _refill(self) -> None:
        """Send again what a broker that lost our session had confirmed; when the disk cannot note it now, later."""
        if not self._is_forgotten:
            return
        try:
            count = await self._lanes.refill(int((self._wall_s() - _REFILL_S) * 1000))
        except OutboxError as error:
            event(_LOG, logging.WARNING, "refill_waits_for_disk", reason=type(error).__name__)
            return
        self._is_forgotten = False
        if count:
            self._metrics.count("broker_refills")
            event(_LOG, logging.WARNING, "broker_forgot", frames_sent_again=count)

    async def _say_goodbye(self, sender: Sender) -> None:
        """Publish health "stopped": the last will is not sent after a graceful end."""
        try:
            async with asyncio.timeout(0.5):
                message = health_message(self._topics, self._gateway, "stopped", int(self._wall_s() * 1000))
                await sender.send_all([message])
        except (BrokerError, TimeoutError):
            pass  # the last will says it then

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
                elif message.topic.startswith(self._topics.release("")):
                    await self._releases.take(message.topic.removeprefix(self._topics.release("")), message.payload)
                return
            except OutboxError as error:
                event(_LOG, logging.WARNING, "order_waits_for_disk", reason=type(error).__name__)
                await asyncio.sleep(_DISK_RETRY_S)

    async def _run_releases(self, connection: Connection) -> None:
        """Ask again for what the broker retains of a release that an order names and that is not here: full disk, rot, let go of."""
        while True:
            await asyncio.sleep(_POLL_S)
            for digest in self._releases.missing(_loop_s()):
                await self._subscribe(connection, self._topics.release(digest))

    async def _run_hints(self, sender: Sender) -> None:
        while True:
            await self._hints.ready.wait()
            while (message := self._hints.take()) is not None:
                await sender.send_all([message])

    async def _run_events(self, sender: Sender) -> None:
        """Publish order states and losses from the outbox, each marked after its PUBACK."""
        while True:
            self._orders.events_changed.clear()
            try:
                await self._refill()
                await self._send_events(sender)
            except OutboxError as error:
                event(_LOG, logging.WARNING, "events_wait_for_disk", reason=type(error).__name__)
            await wait(self._orders.events_changed, _POLL_S)

    async def _send_events(self, sender: Sender) -> None:
        outbox = self._store.outbox
        while events := await self._store.read(outbox.pending_order_events, _PAGE_ROWS):
            await sender.send_all([self._event_message(item) for item in events])
            await self._store.write(outbox.order_events_published, [item.id for item in events])
        while losses := await self._store.read(outbox.pending_losses, _PAGE_ROWS):
            sent = [documents.loss_document(loss, self._gateway) for loss in losses]
            await sender.send_all([json_message(self._topics.loss, item) for item in sent])
            await self._store.write(outbox.losses_published, [loss.id for loss in losses])

    def _event_message(self, item: OrderEvent) -> Outgoing:
        document = documents.order_state_document(
            item.order_id, item.node, item.state, item.at_ms, self._gateway, documents.parse_evidence(item.evidence)
        )
        return json_message(self._topics.order_state(item.order_id), document, retain=True, expiry_s=ORDER_EXPIRY_S)

    async def _run_health(self, sender: Sender) -> None:
        while True:
            at_ms = int(self._wall_s() * 1000)
            numbers = health_numbers(self._counts, at_ms, self._orders.open_count, len(self._downlinks.nodes()))
            message = health_message(self._topics, self._gateway, "online", at_ms, numbers)
            await sender.send_all([message])
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


def _loop_s() -> float:
    return asyncio.get_running_loop().time()
