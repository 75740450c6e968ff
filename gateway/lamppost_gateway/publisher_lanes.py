"""The two lanes from the outbox to the broker: which row goes next, what messages it becomes, when it is marked.

`live` holds what arrived since the connection began, in order of arrival; `backfill` holds what waited on the gateway's
disk or on the node, in order of arrival too, paced, marked late. A node's order is kept within each lane.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lamppost_protocol import kinds
from lamppost_protocol.errors import ProtocolError

from lamppost_gateway import documents
from lamppost_gateway.errors import OutboxError
from lamppost_gateway.log import event, room
from lamppost_gateway.mqtt_messages import Outgoing, json_message
from lamppost_gateway.outbox_rows import StoredFrame
from lamppost_gateway.publisher_feeds import ORDER_EXPIRY_S, ForeignStates, NodeStatus
from lamppost_gateway.publisher_sender import Sender
from lamppost_gateway.topics import Topics, hex8

if TYPE_CHECKING:
    from lamppost_gateway.config import Config
    from lamppost_gateway.metrics import Metrics
    from lamppost_gateway.orders import Orders
    from lamppost_gateway.store import Store
    from lamppost_gateway.verifier import VerifiedFrame

_LOG = room("publisher")

_PAGE_ROWS = 500
_MARK_EVERY_S = 0.2
_POLL_S = 5.0  # safety net for wake-ups
_FRAME_TYPE = 'application/cose; cose-type="cose-sign1"'


class _Row:
    """A row on its way: how many of its messages wait for their PUBACK."""

    __slots__ = ("id", "lane", "received_at_ms", "waiting")

    def __init__(self, row: StoredFrame, lane: str) -> None:
        self.id = row.id
        self.lane = lane
        self.received_at_ms = row.received_at_ms
        self.waiting = 0


class Lanes:
    """Rows on their way. Holds at most two pages of 500 and what is in flight, whatever the outbox holds."""

    def __init__(
        self,
        config: "Config",
        topics: Topics,
        store: "Store",
        orders: "Orders",
        metrics: "Metrics",
        wall_s: Callable[[], float],
    ) -> None:
        self._gateway = config.gateway.id
        self._topics = topics
        self._store = store
        self._orders = orders
        self._metrics = metrics
        self._wall_s = wall_s
        self._late_ms = config.outbox.late_s * 1000
        self._drain_per_s = config.outbox.drain_per_s
        self._node_status = NodeStatus(topics, self._gateway)
        self._foreign = ForeignStates()
        self._live_ready = asyncio.Event()
        self._backfill_ready = asyncio.Event()
        self._ready = asyncio.Event()
        self._done: list[int] = []
        self._is_rewound = False

    def frames_committed(self, frames: "Sequence[VerifiedFrame]") -> None:
        """Frames are in the outbox: send them. Does not block."""
        for frame in frames:
            (self._backfill_ready if frame.late else self._live_ready).set()
        self._ready.set()

    async def refill(self, since_ms: int) -> int:
        """Put what was confirmed since then back into the queue, as back-fill; return how many. Raises OutboxError."""
        await self.flush_marks(lazy=False)
        count = await self._store.write(self._store.outbox.unpublish_since, since_ms)
        self._node_status.forget()
        self._is_rewound = True
        self._ready.set()
        return count

    async def run(self, sender: Sender) -> None:
        """Send rows over one connection until cancelled. Raises BrokerError and OutboxError."""
        outbox = self._store.outbox
        unmarked = set(self._done)  # confirmed on an earlier connection, but the disk has not taken it yet
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
                unmarked.clear()
            if self._live_ready.is_set():
                self._live_ready.clear()
                while live := await self._store.read(outbox.next_live, live_id, _PAGE_ROWS):
                    for row in live:
                        await self._send_row(sender, row, "live")
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
                backfill_id = row.id
                if row.id in unmarked:
                    continue
                await self._send_row(sender, row, "backfill")
                next_backfill_s += 1 / self._drain_per_s
            if self._live_ready.is_set():
                continue
            if page:
                # Not under 10 ms: at 1,000 frames a second ten go at once instead of one per wake-up.
                await wait(self._ready, max(0.01, next_backfill_s - now_s))
            elif is_backfill_dry and not await wait(self._ready, _POLL_S):
                self._live_ready.set()
                self._backfill_ready.set()

    async def _send_row(self, sender: Sender, stored: StoredFrame, lane: str) -> None:
        row = _Row(stored, lane)
        messages = await self._messages_of(stored, lane)
        row.waiting = len(messages)

        def taken() -> None:
            row.waiting -= 1
            if row.waiting == 0:
                self._row_done(row)

        for message in messages:
            await sender.send(message, taken)

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
        return [json_message(self._topics.order_state(order_id), document, retain=True, expiry_s=ORDER_EXPIRY_S)]

    async def run_marks(self) -> None:
        """Write down what is confirmed, five times a second, until cancelled."""
        while True:
            await asyncio.sleep(_MARK_EVERY_S)
            await self.flush_marks()

    async def flush_marks(self, limit_s: float = 30.0, lazy: bool = True) -> None:
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


async def wait(ready: asyncio.Event, pause_s: float) -> bool:
    """Wait for the event, at most `pause_s`; tell whether it came."""
    try:
        async with asyncio.timeout(pause_s):
            await ready.wait()
    except TimeoutError:
        return False
    return True


def _loop_s() -> float:
    return asyncio.get_running_loop().time()
