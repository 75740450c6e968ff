"""What a node said before its power went, and whether what it finds afterwards keeps its word. Runs on MicroPython and CPython.

Everything is one list of JSON values, a verb first, said at the moment it became true:

    writing ROOM VALUE, written ROOM VALUE        a value kept on flash: from `writing` on it is the old or the new one
    found ROOM VALUE                              what stands there after power-up
    handed N VALUE, acknowledged N                a record was numbered and could be sent; the gateway has all up to N
    record N VALUE, gap FIRST LAST REASON, read NEXT CURSOR     all the spool holds, `read` last
    taken TX                                      a number a frame was signed with
    acting ID, acted ID, highest ID IS_LOST       an order about to be counted, carried out; the counter found
    epoch EPOCH, rekeying                         whose keys it has; from now on it may be the next epoch's
    booting, booted COUNT IS_SAFE, confirming, confirmed        the boot-loop guard
    left NAME                                     a half-written file that nothing will ever remove or overwrite
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Kinds of fault: every figure that has to be 0.
MOUNT, RECORD, COUNTER, VALUE, LITTER = "mounts failed", "records lost", "counters reused", "values neither old nor new", "files left"
KINDS = (MOUNT, RECORD, COUNTER, VALUE, LITTER)

_GAP_FLASH_CORRUPT = 2
_SAFE_MODE_AFTER = 3


class Promises:
    """Hears all that is said, over any number of lives. `faults`: (kind, words) for each word not kept."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []
        self._values: dict[str, list[object]] = {}  # room -> [value, values on their way ...]
        self._handed: dict[int, int] = {}
        self._records: dict[int, int] = {}
        self._declared: list[tuple[int, int]] = []
        self._acknowledged = 0
        self._highest_n = 0
        self._taken = 0
        self._acted = 0
        self._boots = 0
        self._epoch = 0
        self._may_be_next = True
        self._unconfirmed = (0, 0)  # at least, at most, not counting the one under way

    def copy(self) -> "Promises":
        """As far as said until now, to go on from more than once."""
        other = Promises()
        for room in self._values:
            other._values[room] = list(self._values[room])
        other._handed = dict(self._handed)
        other._acknowledged = self._acknowledged
        other._highest_n = self._highest_n
        other._taken = self._taken
        other._acted = self._acted
        other._boots = self._boots
        other._epoch = self._epoch
        other._may_be_next = self._may_be_next
        other._unconfirmed = self._unconfirmed
        return other

    def hear(self, words: "list[Any]") -> None:
        """One list as above. Raises AttributeError for a verb that is none."""
        getattr(self, "_" + words[0] + "_said")(*words[1:])

    def broken(self, kind: str, words: str) -> None:
        """Note a fault."""
        self.faults.append((kind, words))

    def _writing_said(self, room: str, value: object) -> None:
        self._values[room].append(value)

    def _written_said(self, room: str, value: object) -> None:
        self._values[room] = [value]

    def _found_said(self, room: str, value: object) -> None:
        if room in self._values and value not in self._values[room]:
            self.broken(VALUE, f"{room} is {value}, not one of {self._values[room]}")
        self._values[room] = [value]

    def _handed_said(self, n: int, value: int) -> None:
        if n <= self._highest_n:
            self.broken(COUNTER, f"record {n} numbered again, {self._highest_n} was handed out")
        self._handed[n] = value
        self._highest_n = max(n, self._highest_n)

    def _acknowledged_said(self, n: int) -> None:
        self._acknowledged = max(self._acknowledged, n)

    def _record_said(self, n: int, value: int) -> None:
        self._records[n] = value

    def _gap_said(self, first: int, last: int, reason: int) -> None:
        self._declared.append((first, last))
        if reason == _GAP_FLASH_CORRUPT:
            self.broken(RECORD, f"{first} to {last} declared corrupt: a power cut corrupts nothing")

    def _read_said(self, next_n: int, cursor: int) -> None:
        if next_n <= self._highest_n:
            self.broken(COUNTER, f"the next record would be {next_n}, {self._highest_n} was handed out")
        if cursor > self._acknowledged:
            self.broken(RECORD, f"the cursor is {cursor}, acknowledged was {self._acknowledged}")
        for n in self._handed:
            if n in self._records:
                if self._records[n] != self._handed[n]:
                    self.broken(RECORD, f"record {n} says {self._records[n]}, it was {self._handed[n]}")
            elif n > self._acknowledged and not self._is_declared(n):
                self.broken(RECORD, f"record {n} is gone")
        # One that was written and not handed out may be sent from now on.
        for n in self._records:
            if n not in self._handed:
                self._handed[n] = self._records[n]
                self._highest_n = max(n, self._highest_n)
        self._records = {}
        self._declared = []

    def _is_declared(self, n: int) -> bool:
        for first, last in self._declared:
            if first <= n <= last:
                return True
        return False

    def _taken_said(self, tx: int) -> None:
        if tx <= self._taken:
            self.broken(COUNTER, f"tx {tx} taken again, {self._taken} was used")
        self._taken = max(tx, self._taken)

    def _acted_said(self, order_id: int) -> None:
        if order_id <= self._acted:
            self.broken(COUNTER, f"order {order_id} carried out again, {self._acted} was")
        self._acted = max(order_id, self._acted)

    def _highest_said(self, order_id: int, is_lost: bool) -> None:
        if is_lost:
            self.broken(COUNTER, "a counter is lost")
        if order_id < self._acted:
            self.broken(COUNTER, f"the order counter is {order_id}, {self._acted} was carried out")

    def _rekeying_said(self) -> None:
        self._may_be_next = True

    def _epoch_said(self, epoch: int) -> None:
        if epoch < self._epoch or (epoch > self._epoch and not self._may_be_next):
            self.broken(COUNTER, f"the node is in epoch {epoch}, it was in {self._epoch}")
        if epoch > self._epoch:
            self._epoch, self._may_be_next = epoch, False
            self._taken = self._acted = 0  # a new key: nothing of the old one verifies

    def _booting_said(self) -> None:
        self._unconfirmed = (self._unconfirmed[0], self._unconfirmed[1] + 1)

    def _booted_said(self, count: int, is_safe: bool) -> None:
        if count <= self._boots:
            self.broken(COUNTER, f"power-up {count} counted again, {self._boots} was")
        self._boots = max(count, self._boots)
        least, most = self._unconfirmed
        if is_safe and most - 1 < _SAFE_MODE_AFTER:
            self.broken(VALUE, f"safe mode after {most - 1} unconfirmed boots at most")
        if not is_safe and least >= _SAFE_MODE_AFTER:
            self.broken(VALUE, f"no safe mode after {least} unconfirmed boots at least")
        self._unconfirmed = (least + 1, most)

    def _confirming_said(self) -> None:
        self._unconfirmed = (0, self._unconfirmed[1])

    def _confirmed_said(self) -> None:
        self._unconfirmed = (0, 0)

    def _left_said(self, name: str) -> None:
        self.broken(LITTER, name)
