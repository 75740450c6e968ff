"""Orders in the outbox: queued for absent nodes, every step of their life kept until it is published.

Part of `outbox.Outbox`; runs on the writer thread, inside its transactions. Knows nothing of keys or links.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lamppost_gateway.migrations import Connection
from lamppost_gateway.outbox_rows import OrderEvent, QueuedOrder

QUEUED, SENT, ACCEPTED, APPLIED, VERIFIED, REVERTED, EXPIRED, REFUSED = range(1, 9)
_OPEN = (QUEUED, SENT, ACCEPTED, APPLIED)
_COLUMNS = "order_id, node, epoch, not_before, not_after, verb, frame, state, at_ms, attempts, sent_at_ms"


class OrderTable:
    """The tables order_queue and order_event."""

    _connection: Connection

    def put_order(self, order: QueuedOrder) -> bool:
        """Queue a signed order and note its first event; False, and nothing changed, when its id is known already."""
        if self.get_order(order.order_id) is not None:
            return False
        self._connection.execute(
            f"INSERT INTO order_queue ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                order.order_id,
                order.node,
                order.epoch,
                order.not_before,
                order.not_after,
                order.verb,
                order.frame,
                order.state,
                order.at_ms,
                order.attempts,
                order.sent_at_ms,
            ),
        )
        self._note(order.order_id, order.node, order.state, order.at_ms, "{}")
        return True

    def get_order(self, order_id: int) -> QueuedOrder | None:
        """The order with this id, whatever its state."""
        for order in self._orders("WHERE order_id = ?", (order_id,)):
            return order
        return None

    def open_orders(self, node: int | None = None) -> list[QueuedOrder]:
        """Orders that are not at their end (states 1 to 4), by order id; of one node or of all."""
        where = f"WHERE state IN {_OPEN}"
        if node is None:
            return self._orders(where, ())
        return self._orders(f"{where} AND node = ?", (node,))

    def recent_orders(self, limit: int) -> list[QueuedOrder]:
        """The newest orders of any state, newest first."""
        return self._orders("", (limit,), "ORDER BY order_id DESC LIMIT ?")

    def _orders(self, where: str, parameters: Sequence[Any], order: str = "ORDER BY order_id") -> list[QueuedOrder]:
        rows: Iterable[Any] = self._connection.execute(f"SELECT {_COLUMNS} FROM order_queue {where} {order}", tuple(parameters))
        return [QueuedOrder(*row) for row in rows]

    def order_sent(self, order_id: int, at_ms: int) -> None:
        """The order went out once more; its state stays."""
        self._connection.execute("UPDATE order_queue SET attempts = attempts + 1, sent_at_ms = ? WHERE order_id = ?", (at_ms, order_id))

    def set_order_state(self, order_id: int, state: int, at_ms: int, evidence: str = "{}", *, overrule: bool = False) -> bool:
        """Move an order on and note the event; False when it is unknown, unchanged, at its end or would go back.

        Verified is no end: the lease is still to be reverted, so 5 may become 6. With `overrule` (the node's own signed
        word) an order that this gateway took for expired, as nothing was heard of it, gets its true state after all.
        """
        order = self.get_order(order_id)
        if order is None or state == order.state:
            return False
        is_overruled = overrule and order.state == EXPIRED and state >= ACCEPTED
        if not is_overruled and (state < order.state or order.state in (REVERTED, EXPIRED, REFUSED)):
            return False
        self._connection.execute("UPDATE order_queue SET state = ?, at_ms = ? WHERE order_id = ?", (state, at_ms, order_id))
        self._note(order_id, order.node, state, at_ms, evidence)
        return True

    def _note(self, order_id: int, node: int, state: int, at_ms: int, evidence: str) -> None:
        self._connection.execute(
            "INSERT INTO order_event (order_id, node, state, at_ms, evidence) VALUES (?, ?, ?, ?, ?)",
            (order_id, node, state, at_ms, evidence),
        )

    def pending_order_events(self, limit: int) -> list[OrderEvent]:
        """Events not yet confirmed by the broker, oldest first."""
        rows = self._connection.execute(
            "SELECT id, order_id, node, state, at_ms, evidence FROM order_event WHERE published = 0 ORDER BY id LIMIT ?",
            (limit,),
        )
        return [OrderEvent(*row) for row in rows]

    def order_events_published(self, ids: Sequence[int]) -> None:
        """The broker confirmed these events."""
        self._connection.executemany("UPDATE order_event SET published = 1 WHERE id = ?", [(i,) for i in ids])

    def prune_orders(self, before_ms: int) -> None:
        """Forget orders that ended before then and whose events are all published."""
        self._connection.execute(
            f"DELETE FROM order_queue WHERE state NOT IN {_OPEN} AND at_ms < ? AND order_id NOT IN"
            " (SELECT order_id FROM order_event WHERE published = 0)",
            (before_ms,),
        )
        self._connection.execute("DELETE FROM order_event WHERE published = 1 AND at_ms < ?", (before_ms,))
