"""The node's flash queue: a ring of records, numbered when written, kept until their space is needed.

Role: step 3 of a frame's journey. A record gets its number `n` here and is handed out only once it is durable, so numbers are
contiguous for ever within a key epoch, and go on in the next one: what an earlier epoch left is taken over with its numbers (WIRE.md 16).
A record cut short by a power cut was never handed out and its number is used again; one that was damaged may have been, so its number is
not, and a gap record says so.

Files: `head/<epoch>.<n>`, one per new record, small enough for littlefs to keep inside its directory; then, a batch at a time,
`spool/<epoch>.<first n>.<level>`, at most one segment's octets each, appended to only while newest. Appending to a file costs
littlefs an erased block and half a block copied each time, a small file a tenth of that: what makes flash last (test_flash_wear.py).
`level` says how often a segment was thinned: 0 whole, 1 every other ordinary record dropped, 2 again, 3 only what must outlive history.
A thinned file is written beside the old one and then replaces it, so at boot the higher level of two is the true one.

Acknowledging moves a cursor, persisted lazily (a lost cursor costs a resend, nothing else). What is dropped while still owed is
declared first, in a gap record, then dropped: a power cut between the two leaves a record too many, never a silent loss.

Not here: sending (uplink.py), clocks, signatures. Writes flash in `append`, `save_cursor` and whatever `append` needs for room.
"""

from lamppost_protocol import kinds

from lamppost_node import stored
from lamppost_node.flash import Flash
from lamppost_node.settings import Settings
from lamppost_node.spool_head import FOLDER as HEAD_FOLDER
from lamppost_node.spool_head import Head
from lamppost_node.stored import KEEP, Stored
from lamppost_node.thinning import GAP_KIND, KEPT_ONLY, NOTHING, Loss, thin

FOLDER = "spool"
_HEAD_RECORDS = 16
_CURSOR = "cursor"
_LAST_LEVEL = 3


class Spool:
    """The ring. `open` before anything else. Counters: `damaged` records found unreadable, `dropped` records lost while owed."""

    def __init__(self, flash: Flash, settings: Settings, epoch: int, capacity_bytes: int, buffer: bytearray):
        """`buffer`: one segment's octets, made at start and owned by the spool from now on; its length is the segment size."""
        segment_bytes = len(buffer)
        self._flash = flash
        self._settings = settings
        self._epoch = epoch
        self._capacity_bytes = max(capacity_bytes, 4 * segment_bytes)
        self._segment_bytes = segment_bytes
        self._buffer = buffer
        self._view = memoryview(self._buffer)
        self._segments: list[list[int]] = []  # [first n, bytes, level], oldest first
        self._head = Head(flash, epoch)  # the newest records, not yet in a segment
        self._loaded = -1  # first n of the segment in the buffer, -1 for none
        self._loaded_bytes = 0
        self._walk_offset = 0  # every record before it has a number below _walk_n
        self._walk_n = 0
        self._is_sealed = True  # the newest segment must not be appended to
        self._saved_cursor = 0
        self.cursor = 0
        self.next_n = 1
        self.damaged = 0
        self.dropped = 0
        self.refused = 0

    def open(self, lowest_next_n: int = 1) -> None:
        """Recover from flash. `lowest_next_n`: no number below it may be given out when flash knows nothing of this epoch.

        Raises OSError when the flash cannot be read or written at all; then there is no spool.
        """
        self._flash.make_folder(FOLDER)
        for folder in (FOLDER, HEAD_FOLDER):
            self._take_over(folder)
        mark, is_known = self._load_cursor()
        self._find_segments()
        free_bytes = self._flash.free_bytes()
        if free_bytes is not None:
            # Thinned segments fill half a block, and counters and settings must always find one: plan with half of what there is.
            room_bytes = free_bytes + len(self._segments) * self._segment_bytes
            self._capacity_bytes = min(self._capacity_bytes, max(room_bytes // 2, 4 * self._segment_bytes))
        expected = self._recover_newest()
        holes = self._head.load(expected)
        self.damaged += self._head.damaged
        if self._head.entries:
            self.next_n = self._head.entries[-1][0] + 1
        elif not self._segments and not is_known:
            expected = 1
            self.next_n = max(1, lowest_next_n)
        elif self.cursor >= expected or (mark and (not self._segments or self._segments[-1][0] < mark)):
            # Whole segments that were surely written are gone: skip every number they can have held.
            self.next_n = max(self.next_n, mark, self.cursor + 1) + self._segment_bytes // stored.MIN_RECORD_BYTES
        missing_from, missing_to = max(expected, self.cursor + 1), self._head_first() - 1
        if missing_from <= missing_to:
            self._is_sealed = True
            if self._segments and self._segments[-1][2] == 0:
                self._repair(len(self._segments) - 1)
            else:
                self._declare(missing_from, missing_to, missing_to - missing_from + 1, kinds.GAP_FLASH_CORRUPT, None, None)
        if holes:
            # In a segment that says it is not whole, so that the hole is not found, and declared, once more.
            self._declare(holes[0], holes[-1], len(holes), kinds.GAP_FLASH_CORRUPT, None, None)
            self._is_sealed = True
            self._flush(1)

    def _take_over(self, folder: str) -> None:
        """Files of an earlier epoch get this one's names: records are signed when they are sent. Cut off, the next start goes on."""
        prefix = _epoch_text(self._epoch)
        for name in self._flash.names(folder):
            if len(name) > 9 and name[8] == "." and name[:8] < prefix:
                self._flash.rename(folder + "/" + name, folder + "/" + prefix + name[8:])

    def _load_cursor(self) -> tuple[int, bool]:
        value = self._settings.load(_CURSOR)
        if isinstance(value, list) and len(value) == 3 and value[0] <= self._epoch:
            self.cursor = self._saved_cursor = value[1]
            return value[2], True
        return 0, False

    def _find_segments(self) -> None:
        prefix = _epoch_text(self._epoch)
        for name in self._flash.names(FOLDER):
            parts = name.split(".")
            if len(parts) != 3 or parts[0] != prefix:
                self._flash.remove(FOLDER + "/" + name)  # a later epoch's: its key is gone, nobody could verify it
                continue
            first, level = int(parts[1], 16), int(parts[2])
            if self._segments and self._segments[-1][0] == first:
                self._flash.remove(self._name(first, self._segments[-1][2]))  # names are sorted: the higher level comes last
                self._segments.pop()
            self._segments.append([first, self._flash.size_bytes(FOLDER + "/" + name), level])

    def _recover_newest(self) -> int:
        """Walk the newest segment and set next_n; returns the first number that is not accounted for (= next_n when none is)."""
        if not self._segments:
            return 1
        first, _, level = self._segments[-1]
        self._load(len(self._segments) - 1)
        offset, n, last_good, end = 0, first - 1, first - 1, 0
        self._is_sealed = level > 0
        while True:
            found, after, good_n = stored.inspect(self._view, offset, self._loaded_bytes)
            if found == stored.GOOD:
                n = last_good = good_n
                end = after
            elif found == stored.DAMAGED:
                self.damaged += 1
                self._is_sealed = True
                n += 1
            else:
                if found == stored.LOST:
                    self.damaged += 1
                    n += (self._loaded_bytes - offset) // stored.MIN_RECORD_BYTES + 1
                if offset < self._loaded_bytes:
                    self._is_sealed = True
                break
            offset = after
        self.next_n = n + 1
        if end == 0:
            self._flash.remove(self._name(first, level))
            self._segments.pop()
            self._loaded = -1
        # Damage between good records is found and declared when it is read; how much can be behind the last one is known only here.
        return last_good + 1

    # -- writing ---------------------------------------------------------------------------------------------------------------

    def append(
        self,
        power_up: int,
        t: int | None,
        monotonic_ms: int,
        uncertainty_s: int | None,
        flags: int,
        kind: int,
        q: int,
        values: list[int | None],
    ) -> int:
        """Write one record; returns its number once it is durable. May rewrite a segment for room. Raises OSError."""
        self._make_room()
        return self._write(Stored(self.next_n, power_up, t, monotonic_ms, uncertainty_s, flags, kind, q, values))

    def _write(self, record: Stored) -> int:
        data = stored.encode(record)
        n: int = record.n
        if len(self._head.entries) >= 4 * _HEAD_RECORDS:
            self._flush()  # refused for long: no more until there is room
        self._head.write(n, data)
        self.next_n = n + 1
        if len(self._head.entries) >= _HEAD_RECORDS or self._head.size_bytes() >= self._segment_bytes // 4:
            try:
                self._flush()
            except OSError:
                self.refused += 1  # the records are safe where they are
        return n

    def _flush(self, level: int = 0) -> None:
        """Move the head into segments. A power cut anywhere leaves each record in one place or in both. Raises OSError."""
        while self._head.entries:
            entries = self._head.entries
            newest = self._segments[-1] if self._segments else None
            if newest is not None and not self._is_sealed and newest[1] + len(entries[0][1]) <= self._segment_bytes:
                used = newest[1]
            else:
                newest, used = None, 0
            count, size = 0, 0
            while count < len(entries) and (count == 0 or used + size + len(entries[count][1]) <= self._segment_bytes):
                size += len(entries[count][1])
                count += 1
            data = b"".join([entry[1] for entry in entries[:count]])
            first = entries[0][0]
            if newest is None:
                self._flash.replace(self._name(first, level), data)
                self._segments.append([first, size, level])
                self._is_sealed = level > 0
                self._settings.is_kept(_CURSOR, [self._epoch, self.cursor, first])
                self._saved_cursor = self.cursor
            else:
                # Until it is known to be whole, nothing may be written behind it.
                self._is_sealed = True
                self._flash.append(self._name(newest[0], newest[2]), data)
                self._is_sealed = False
                if self._loaded == newest[0] and self._loaded_bytes == used:
                    self._buffer[used : used + size] = data
                    self._loaded_bytes += size
                newest[1] += size
            self.refused += self._head.drop(count)

    def acknowledge(self, n: int) -> None:
        """Everything up to `n` is in the gateway's hands. Only moves forward; does not write flash."""
        if self.cursor < n < self.next_n:
            self.cursor = n

    def save_cursor(self) -> None:
        """Persist the cursor when it moved; a refusal is counted by settings and costs a resend after the next boot."""
        if self.cursor == self._saved_cursor or not self._segments:
            return
        if self._settings.is_kept(_CURSOR, [self._epoch, self.cursor, self._segments[-1][0]]):
            self._saved_cursor = self.cursor

    # -- reading ---------------------------------------------------------------------------------------------------------------

    def owed(self) -> int:
        """Upper bound of the records not yet acknowledged."""
        return self.next_n - 1 - self.cursor

    def used_bytes(self) -> int:
        """Bytes of all segments."""
        total = 0
        for segment in self._segments:
            total += segment[1]
        return total + self._head.size_bytes()

    def _head_first(self) -> int:
        return self._head.first_n(self.next_n)

    def capacity_records(self) -> int:
        """About how many records fit, at the mean size of those present (32 bytes when empty)."""
        count = self.next_n - self._segments[0][0] if self._segments else 0
        mean_bytes = self.used_bytes() // count if count > 0 else 32
        return self._capacity_bytes // max(mean_bytes, stored.MIN_RECORD_BYTES)

    def oldest_n(self) -> int:
        """The oldest number still on flash, next_n when there is none."""
        return self._segments[0][0] if self._segments else self._head_first()

    def read_from(self, n: int) -> Stored | None:
        """The record with the smallest number >= n, None when there is none. Reads flash; damage found is declared in a gap record.

        Raises OSError when the flash cannot be read.
        """
        if n < self._head_first():
            index = self._index(n)
            while index < len(self._segments):
                self._load(index)
                record = self._walk(index, n)
                if record is not None:
                    return record
                index += 1
        return self._head.read_from(n)

    def _index(self, n: int) -> int:
        index = len(self._segments) - 1
        while index > 0 and self._segments[index][0] > n:
            index -= 1
        return max(index, 0)

    def _last_n(self, index: int) -> int:
        return self._segments[index + 1][0] - 1 if index + 1 < len(self._segments) else self._head_first() - 1

    def _load(self, index: int) -> None:
        first, _, level = self._segments[index]
        if self._loaded != first:
            self._loaded = -1
            self._loaded_bytes = self._flash.read_into(self._name(first, level), self._view)
            self._loaded = first
            self._walk_offset = 0
            self._walk_n = first

    def _walk(self, index: int, n: int) -> Stored | None:
        last = self._last_n(index)
        if n < self._walk_n:
            self._walk_offset = 0
            self._walk_n = self._segments[index][0]
        is_damaged = False
        while True:
            found, after, found_n = stored.inspect(self._view, self._walk_offset, self._loaded_bytes)
            if found == stored.GOOD and found_n <= last:
                is_damaged = is_damaged or (self._segments[index][2] == 0 and found_n > self._walk_n)
                record = stored.decode(self._view, self._walk_offset, after, found_n) if found_n >= n else None
                if record is not None:
                    break
                self._walk_n = found_n + 1
            elif found == stored.DAMAGED:
                is_damaged = True
            else:
                is_damaged = is_damaged or found == stored.LOST
                record = None
                if self._segments[index][2] == 0 and self._walk_n <= last:
                    is_damaged = True
                break
            self._walk_offset = after
        if is_damaged:
            self._repair(index)
            self._load(index)
            return self._walk(index, n)
        return record

    # -- making room -----------------------------------------------------------------------------------------------------------

    def _repair(self, index: int) -> None:
        """Declare what a damaged segment lost and rewrite it without the damage, marked as no longer whole."""
        self.damaged += 1
        self._compact(index, max(1, self._segments[index][2]), 1, kinds.GAP_FLASH_CORRUPT)

    def _make_room(self) -> None:
        turns = 0
        while self.used_bytes() + self._segment_bytes > self._capacity_bytes and len(self._segments) > 1 and turns < 16:
            turns += 1
            level = self._segments[0][2]
            if self._last_n(0) <= self.cursor:
                self._remove(0)
                continue
            older_half = max(1, len(self._segments) // 2)
            index = self._first_below(older_half, 1)
            if index < 0:
                index = self._first_below(older_half, 2)
            if index < 0:
                index = self._first_below(older_half, _LAST_LEVEL)
            if index >= 0:
                level = self._segments[index][2] + 1
                self._compact(index, level, 2 if level < _LAST_LEVEL else KEPT_ONLY, kinds.GAP_THINNED)
                self._merge(index)
            else:
                self._compact(0, level, NOTHING, kinds.GAP_SPOOL_FULL)
                self._remove(0)

    def _first_below(self, count: int, level: int) -> int:
        for index in range(min(count, len(self._segments) - 1)):
            if self._segments[index][2] < level:
                return index
        return -1

    def _compact(self, index: int, level: int, one_of: int, reason: int) -> None:
        """Thin a segment (`thinning.thin`), declare in one gap record what that loses, then rewrite it."""
        self._load(index)
        self._loaded = -1  # the buffer is edited in place; it is nobody's copy until the rewrite is done
        if index == len(self._segments) - 1:
            self._is_sealed = True  # the gap record must not land in the file that is about to be replaced
        first, _, old_level = self._segments[index]
        loss = Loss(self.cursor)
        size = thin(self._view, self._loaded_bytes, first, self._last_n(index), old_level == 0, one_of, loss)
        if loss.count:
            self._declare(loss.first, loss.last, loss.count, reason, loss.from_s, loss.to_s)
        self._rewrite(index, size, level)

    def _rewrite(self, index: int, size: int, level: int) -> None:
        """Replace segment `index` by the first `size` octets of the buffer. The old file goes only after the new one is there."""
        first, _, old_level = self._segments[index]
        self._flash.replace(self._name(first, level), self._view[:size])
        if level != old_level:
            self._flash.remove(self._name(first, old_level))
        self._segments[index] = [first, size, level]
        if index == len(self._segments) - 1:
            self._is_sealed = True

    def _merge(self, index: int) -> None:
        """Join a small thinned segment to the one before it, so that the number of files stays bounded."""
        if index == 0:
            return
        _, size, level = self._segments[index - 1]
        added = self._segments[index][1]
        # The newest of the two must not be the one being appended to; its first number bounds the walk of the merged one.
        if not level or index + 1 >= len(self._segments) or size + added > self._segment_bytes:
            return
        last = self._last_n(index - 1)
        self._load(index - 1)
        # Octets behind the last valid number (an earlier merge that was cut short) must not come to life again.
        offset = 0
        while True:
            found, after, n = stored.inspect(self._view, offset, self._loaded_bytes)
            if found != stored.GOOD or n > last:
                break
            offset = after
        self._loaded = -1
        added = self._flash.read_into(self._name(self._segments[index][0], self._segments[index][2]), self._view[offset:])
        self._rewrite(index - 1, offset + added, max(level, self._segments[index][2]))
        self._remove(index)

    def _remove(self, index: int) -> None:
        first, _, level = self._segments[index]
        if self._loaded == first:
            self._loaded = -1
        self._flash.remove(self._name(first, level))
        self._segments.pop(index)

    def _declare(self, first: int, last: int, lost: int, reason: int, from_s: int | None, to_s: int | None) -> None:
        """Append a gap record, in room of its own: it must not itself wait for room."""
        self.dropped += lost
        values = [first, last, lost, reason, from_s, to_s]
        self._write(Stored(self.next_n, 0, None, 0, None, KEEP, GAP_KIND, kinds.GOOD, values))

    def _name(self, first: int, level: int) -> str:
        return FOLDER + "/" + _epoch_text(self._epoch) + "." + "%012x" % first + "." + str(level)


def _epoch_text(epoch: int) -> str:
    return "%08x" % epoch
