"""What this node knows of the authority's orders: the highest counter obeyed and how the last few ended.

The counter is on flash, in two copies, before an order is acted upon. A repeated order is answered by telling its last state again.
"""

from lamppost_protocol import orders

from lamppost_node.flash import Flash
from lamppost_node.sequence_store import Counter
from lamppost_node.settings import Settings

_STATES = "orders"
_REMEMBERED = 8


class OrderLedger:
    """`is_lost`: the counter cannot be read, so no order can be told from an old one and none is obeyed."""

    def __init__(self, flash: Flash, settings: Settings, epoch: int, is_new_node: bool):
        """`is_new_node`: nothing was ever sent under this epoch, so a missing counter is a new one."""
        self._counter = Counter(flash, "order", epoch)
        self._settings = settings
        highest = self._counter.read()
        if highest is None and is_new_node:
            try:
                self._counter.write(0)
                highest = 0
            except OSError:
                pass
        self.is_lost = highest is None
        self.highest = highest or 0
        value = settings.load(_STATES)
        self._states: list[list[int | None]] = value if isinstance(value, list) else []

    def advance(self, order_id: int) -> None:
        """Make `order_id` the highest, on flash. Raises OSError: then the order must not be acted upon."""
        self._counter.write(order_id)
        self.highest = order_id

    def note(self, values: list[int | None]) -> None:
        """Remember the values of an order state record; the newest eight orders are kept. Writes flash."""
        self._states = [entry for entry in self._states if entry[0] != values[0]][1 - _REMEMBERED :]
        self._states.append(values)
        self._settings.is_kept(_STATES, self._states)

    def last_values(self, order_id: int) -> list[int | None] | None:
        """The last order state record of an order, None when it is not remembered."""
        for entry in self._states:
            if entry[0] == order_id:
                return entry
        return None

    def is_ended(self, order_id: int) -> bool:
        """Whether the last known state of an order is a final one."""
        values = self.last_values(order_id)
        return values is not None and values[1] in (orders.REVERTED, orders.EXPIRED, orders.REFUSED)
