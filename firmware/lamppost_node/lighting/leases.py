"""Order leases: levels the authority asked for, each from `not_before` until `not_after`, kept on flash across reboots.

One lease at most governs: the highest order id among those whose time has come. When it begins, every older lease whose time has
also come ends as superseded and never returns. While the time is unknown none governs and none changes: the light wins over the
order.
"""

from lamppost_protocol import orders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamppost_protocol.orders import Order

    from lamppost_node.settings import Settings

#: Leases waiting or running on one lamp; each order is one, and an operator plans no more nights ahead by single orders.
MAX_LEASES = 8


class Lease:
    """One order's hold on the lamp. `state` is orders.ACCEPTED until the level was reached, then APPLIED, then VERIFIED."""

    def __init__(self, order_id: int, not_before: int, not_after: int, level_percent: int, ramp_s: int, state: int):
        self.order_id = order_id
        self.not_before = not_before
        self.not_after = not_after
        self.level_percent = level_percent
        self.ramp_s = ramp_s
        self.state = state


class FullError(Exception):
    """MAX_LEASES are kept already."""


class Leases:
    """The leases of one lamp, under one name in the settings."""

    def __init__(self, settings: "Settings", name: str):
        self._settings = settings
        self._name = name
        self._leases = _decode(settings.load(name))
        self.governing: Lease | None = None

    def __len__(self) -> int:
        return len(self._leases)

    def accept(self, order: "Order") -> None:
        """Keep a LEVEL order. Writes flash; raises OSError (flash refused: nothing is kept) or FullError."""
        if len(self._leases) >= MAX_LEASES:
            raise FullError
        lease = Lease(order.order_id, order.not_before, order.not_after, order.args[0], order.args[1], orders.ACCEPTED)
        leases = list(self._leases)
        leases.append(lease)
        self._keep(leases)

    def find(self, order_id: int) -> Lease | None:
        """The lease of that order while it waits or runs."""
        for lease in self._leases:
            if lease.order_id == order_id:
                return lease
        return None

    def drop(self, lease: Lease) -> None:
        """Forget a lease (cancelled). Writes flash; raises OSError (flash refused: it stays)."""
        self._keep([kept for kept in self._leases if kept is not lease])
        if self.governing is lease:
            self.governing = None

    def mark(self, lease: Lease, state: int) -> None:
        """Note how far the lease came. Writes flash; a refusal only costs that it may be reported again after a reboot."""
        lease.state = state
        self._settings.is_kept(self._name, _encode(self._leases))

    def step(self, unix: int | None) -> list[tuple[Lease, int]]:
        """Set `governing` for this instant and return the leases that ended with their reason (orders.LEASE_ENDED, SUPERSEDED).

        unix None: time unknown; nothing governs, nothing ends. Allocates and writes flash only when a lease ends.
        """
        governing = None
        if unix is None:
            self.governing = None
            return _NONE
        changes = False
        for lease in self._leases:
            if lease.not_after <= unix:
                changes = True
            elif lease.not_before <= unix:
                if governing is not None:
                    changes = True
                if governing is None or lease.order_id > governing.order_id:
                    governing = lease
        self.governing = governing
        return self._end(unix) if changes else _NONE

    def _end(self, unix: int) -> list[tuple[Lease, int]]:
        ended = []
        kept = []
        for lease in self._leases:
            if lease.not_after <= unix:
                ended.append((lease, orders.LEASE_ENDED))
            elif lease.not_before <= unix and lease is not self.governing:
                ended.append((lease, orders.SUPERSEDED))
            else:
                kept.append(lease)
        self._leases = kept
        self._settings.is_kept(self._name, _encode(kept))
        return ended

    def _keep(self, leases: list[Lease]) -> None:
        self._settings.save(self._name, _encode(leases))
        self._leases = leases


_NONE: list[tuple[Lease, int]] = []


def _encode(leases: list[Lease]) -> list[list[int]]:
    return [[lease.order_id, lease.not_before, lease.not_after, lease.level_percent, lease.ramp_s, lease.state] for lease in leases]


def _decode(value: object) -> list[Lease]:
    """The leases in a stored value; what is not one is left out, since a lease that is lost only means more light."""
    leases = []
    if isinstance(value, list):
        for fields in value[:MAX_LEASES]:
            if _is_lease(fields):
                leases.append(Lease(fields[0], fields[1], fields[2], fields[3], fields[4], fields[5]))
    return leases


def _is_lease(fields: "Any") -> bool:
    if not isinstance(fields, list) or len(fields) != 6:
        return False
    for field in fields:
        if not _is_uint(field):
            return False
    return bool(fields[1] < fields[2] and fields[3] <= 100 and fields[4] <= orders.MAX_RAMP_S)


def _is_uint(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
