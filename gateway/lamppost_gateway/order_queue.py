"""The open orders in memory: by id, by node, when each is due, and which nodes first wait for the time."""

from collections.abc import Iterator

from lamppost_protocol import cose, orders, releases
from lamppost_protocol.errors import RemoteError

from lamppost_gateway.backoff import Backoff
from lamppost_gateway.outbox_rows import QueuedOrder

_RESEND_CAP_S = 300.0
_HOLD_S = 8.0  # a node that asks for the time gets this long to hear it before it gets orders it would refuse
_HOLD_AFTER_BEACON_S = 1.0  # for verifying the beacon
_HOLD_MOST_S = 60.0


class OpenOrder:
    """An order that has not reached its end."""

    def __init__(self, queued: QueuedOrder, resend_first_s: float) -> None:
        self.queued = queued
        self.state = queued.state
        self.attempts = queued.attempts
        self.due_s = 0.0
        self.is_absent = False
        """It was due and could not be sent: it is due again as soon as its node is heard."""
        self.backoff = Backoff(resend_first_s, _RESEND_CAP_S)
        self.manifest = _manifest(queued) if queued.verb == orders.UPDATE else None
        """What an update order names; None of any other, and of one that no node would take."""

    @property
    def is_unanswered(self) -> bool:
        return self.state in (orders.QUEUED, orders.SENT)


class OrderQueue:
    """What `orders.py` still has to do. Times are the loop's seconds; a method costs what one node's orders cost."""

    def __init__(self, resend_first_s: float) -> None:
        self._resend_first_s = resend_first_s
        self._open: dict[int, OpenOrder] = {}
        self._by_node: dict[int, dict[int, OpenOrder]] = {}
        self._hold: dict[int, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenOrder]:
        """All open orders, lowest id first, as they are now."""
        return iter([self._open[order_id] for order_id in sorted(self._open)])

    def get(self, order_id: int) -> OpenOrder | None:
        """The open order with this id."""
        return self._open.get(order_id)

    def of_node(self, node: int) -> list[OpenOrder]:
        """The node's open orders, in no order."""
        return list(self._by_node.get(node, {}).values())

    def add(self, queued: QueuedOrder) -> None:
        """Take an order that the outbox holds."""
        known = OpenOrder(queued, self._resend_first_s)
        self._open[queued.order_id] = known
        self._by_node.setdefault(queued.node, {})[queued.order_id] = known

    def remove(self, known: OpenOrder) -> None:
        """Forget an order that is at its end."""
        order_id, node = known.queued.order_id, known.queued.node
        self._open.pop(order_id, None)
        siblings = self._by_node.get(node, {})
        siblings.pop(order_id, None)
        if not siblings:
            self._by_node.pop(node, None)
            self._hold.pop(node, None)

    def asks_for_time(self, node: int, now_s: float) -> None:
        """The node's hello carries a nonce: hold its orders a little; never for longer than a minute on end."""
        if node not in self._by_node:
            return
        since_s, until_s = self._hold.get(node, (now_s, now_s))
        if now_s - until_s > _HOLD_MOST_S:
            since_s = now_s  # long ago: the node has started anew
        self._hold[node] = (since_s, min(now_s + _HOLD_S, since_s + _HOLD_MOST_S))

    def has_time(self, node: int) -> None:
        """The node's hello asks for nothing."""
        self._hold.pop(node, None)

    def beacon_sent(self, node: int, now_s: float) -> bool:
        """What the node asked for is on its way; tell whether orders were held for it."""
        if node not in self._hold:
            return False
        self._hold[node] = (self._hold[node][0], now_s + _HOLD_AFTER_BEACON_S)
        return True

    def due_s(self, known: OpenOrder, now_s: float) -> float:
        """When the order may be sent next."""
        since_s, until_s = self._hold.get(known.queued.node, (now_s, 0.0))
        return max(known.due_s, until_s) if now_s - since_s < _HOLD_MOST_S else known.due_s


def _manifest(queued: QueuedOrder) -> releases.Manifest | None:
    """The release that an update order names. The order's signature, checked before it was queued, is over all of this."""
    try:
        order = orders.decode_order(queued.order_id, cose.decode(queued.frame).payload)
        message = cose.decode(order.args[0])
        return releases.decode_manifest(message.tx, message.payload)
    except (RemoteError, TypeError, IndexError):
        return None
