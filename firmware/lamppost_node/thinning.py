"""What goes when the spool is full: the arithmetic of thinning one segment in place. Pure: octets in a buffer, no files."""

from lamppost_protocol import kinds

from lamppost_node import stored
from lamppost_node.stored import KEEP

GAP_KIND = kinds.kind_of(kinds.GAP)
#: Instead of "one of how many ordinary records stays": none of them; nothing at all.
KEPT_ONLY = 0
NOTHING = -1


class Loss:
    """What a rewrite loses of the records still owed (numbers above `cursor`): range, count and span of time."""

    def __init__(self, cursor: int):
        self._cursor = cursor
        self.first = 0
        self.last = 0
        self.count = 0
        self.from_s: int | None = None
        self.to_s: int | None = None

    def add(self, first: int, last: int, count: int | None) -> None:
        """Lose first .. last, or `count` records somewhere among them; nothing when the range is empty or acknowledged."""
        first = max(first, self._cursor + 1)
        if first > last:
            return
        self.count += last - first + 1 if count is None else min(count, last - first + 1)
        self.first = self.first or first
        self.last = max(self.last, last)

    def add_record(self, record: stored.Stored, is_gap: bool) -> None:
        """Lose one record, still owed or not. A gap record lost hands on what it told, so that they do not fill the ring themselves."""
        if record.n <= self._cursor:
            return
        self.add(record.n, record.n, None)
        self._note_time(record.t)
        values = record.values
        if is_gap and len(values) == 6 and values[0] is not None and values[1] is not None:
            self.first = min(self.first, values[0])
            self.last = max(self.last, values[1])
            self.count += values[2] or 0
            self._note_time(values[4])
            self._note_time(values[5])

    def _note_time(self, t: int | None) -> None:
        if t is not None:
            self.from_s = t if self.from_s is None else min(self.from_s, t)
            self.to_s = t if self.to_s is None else max(self.to_s, t)


def thin(view: memoryview, size: int, first: int, last: int, is_whole: bool, one_of: int, loss: Loss) -> int:
    """Move what stays of a segment to the front of `view`; returns how many octets that is and adds the rest to `loss`.

    The segment has `size` octets and holds numbers first .. last. `is_whole`: it was never thinned, so every number without a record
    is a loss. Of its ordinary records one of `one_of` stays; what is flagged KEEP stays, but KEPT_ONLY takes gap records along into
    the loss, which the caller declares anew, and NOTHING keeps nothing.
    """
    read, write, ordinal, expected, damaged = 0, 0, 0, first, 0
    while True:
        found, after, n = stored.inspect(view, read, size)
        if found == stored.END or (found == stored.GOOD and n > last):
            break
        record = stored.decode(view, read, after, n) if found == stored.GOOD else None
        if record is None:
            damaged += 1
        else:
            if is_whole or damaged:
                loss.add(expected, n - 1, None if is_whole else damaged)
            expected, damaged = n + 1, 0
            is_gap = record.kind == GAP_KIND and one_of <= KEPT_ONLY
            if record.flags & KEEP:
                is_kept = one_of != NOTHING and not is_gap
            else:
                is_kept = one_of > 0 and ordinal % one_of == 0
                ordinal += 1
            if is_kept:
                # Through a copy: the two places may overlap.
                view[write : write + after - read] = bytes(view[read:after])
                write += after - read
            else:
                loss.add_record(record, is_gap)
        read = after
    if is_whole or damaged:
        loss.add(expected, last, None if is_whole else damaged)
    return write
