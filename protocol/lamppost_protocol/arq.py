"""Custody of records over a lossy link: sent until acknowledged, counted once. WIRE.md section 8.

Both windows are plain state machines: time is an argument, nothing is read or written here. A record is *owed* from the moment
it has a number until an acknowledgement covers it or a gap record declares it lost.
"""

from collections import namedtuple

from .errors import LocalError
from .limits import MAX_N

BITMAP_BITS = 32
_KEPT_BITS = 256

#: How long to wait for an answer: resend_ms, doubled with each silence up to most_ms (alarm_most_ms: while an alarm is on its way). Of that
#: sure_permille are waited in any case and up to jitter_permille by chance, both 0 .. 1000. frames: on their way at once, while somebody
#: answers.
Waits = namedtuple("Waits", ("frames", "resend_ms", "most_ms", "alarm_most_ms", "sure_permille", "jitter_permille"))

#: Longest sure wait on a serial line: a gateway that returns is found within a minute.
MAX_RESEND_MS = 40000
#: Serial gateways commit in batches of about 20 ms, so a few in flight keep the line busy; the first wait covers a commit window, a slow
#: SD card's fsync (100 ms) and the line, with room to spare.
SERIAL_WAITS = Waits(4, 2000, MAX_RESEND_MS, MAX_RESEND_MS, 1000, 500)


def air_waits(resend_ms: int) -> Waits:
    """Over the air, WIRE.md section 14.4: behind the last receive window a time by chance alone, `resend_ms` at first, an hour at most."""
    return Waits(1, resend_ms, 3600000, 600000, 0, 1000)


class ReceiveWindow:
    """The gateway's account of one node's records: `highest` contiguous n, and `bitmap` of those above (bit i = highest+1+i)."""

    def __init__(self, highest: int = 0, bitmap: int = 0) -> None:
        self.highest = highest
        self.bitmap = bitmap

    def note(self, n: int, count: int, behind: int) -> int:
        """Account for records n .. n+count-1 of a verified frame; return a mask whose bit i says record n+i is new.

        `behind` is the node's signed word that all below n-behind is acknowledged or declared lost: the account starts there when
        it is younger than the node, and passes over what a gap record declares lost.
        """
        base = n - behind - 1
        if base > self.highest:
            self.bitmap >>= base - self.highest
            self.highest = base
        fresh = 0
        for i in range(count):
            at = n + i - self.highest - 1
            if at >= 0 and not self.bitmap >> at & 1:
                fresh |= 1 << i
                self.bitmap |= 1 << at
        while self.bitmap & 1:
            self.bitmap >>= 1
            self.highest += 1
        return fresh

    def bitmap32(self) -> int:
        """Return the bitmap as an acknowledgement carries it: the 32 records above `highest`."""
        return self.bitmap & 0xFFFFFFFF


class SendWindow:
    """The node's side: which records are owed, which are on their way, what to send next.

    Records newer than any sent go first (the live lane); then the oldest owed that is not on its way (the back-fill). What was on
    its way for too long is owed again. While nothing answers, one frame at a time is tried, ever more rarely.
    """

    def __init__(self, oldest: int, next_n: int, waits: Waits = SERIAL_WAITS) -> None:
        """`oldest`: smallest n not known to be acknowledged; `next_n`: the number the next record will get."""
        self._waits = waits
        self.highest = oldest - 1
        self._acked = 0  # bit i = highest+1+i is acknowledged
        self._sent_high = next_n - 1  # everything up to here is back-fill after a start
        self._in_flight: list[tuple[int, int, int, bytes, int]] = []  # n, count, due_ms, digest, 1 for an alarm
        # Waits that ran out since the last acknowledgement: all of them, and those of alarms, which wait by these alone.
        self._silent = 0
        self._alarm_silent = 0
        #: Whether an acknowledgement has named a frame of this start, which a deep sleep begins anew.
        self.is_answered = False

    def is_owed(self, n: int) -> bool:
        """Return whether record `n` (already numbered) still has to be acknowledged."""
        at = n - self.highest - 1
        return at >= 0 and not self._acked >> at & 1

    def owed(self, next_n: int) -> int:
        """Return how many records below `next_n` are owed."""
        count = next_n - 1 - self.highest
        acked = self._acked
        while acked:
            count -= acked & 1
            acked >>= 1
        return count

    def take(self, now_ms: int, next_n: int, max_count: int, live_count: int = 4) -> tuple[int, int, bool] | None:
        """Return (n, count, is_live) of the records to send now, count <= max_count, or None when there is nothing to do yet.

        Follow it by `sent` once the frame is on the line. `live_count`: how many of the newest a live frame takes at most.
        """
        self.expire(now_ms)
        if len(self._in_flight) >= (self._waits.frames if self._silent == 0 else 1):
            return None
        newest = next_n - 1
        if newest > self._sent_high:
            first = max(self._sent_high + 1, newest - live_count + 1)
            while first <= newest and not self.is_owed(first):
                first += 1
            if first <= newest:
                return first, min(newest - first + 1, max_count), True
        n = self.highest + 1
        while n <= newest:
            if self.is_owed(n) and not self.is_in_flight(n):
                return n, self._run(n, min(max_count, newest - n + 1)), False
            n += 1
        return None

    def sent(self, n: int, count: int, digest: bytes, now_ms: int, chance_permille: int, is_alarm: bool = False) -> None:
        """Note that records n .. n+count-1 went out in the frame with `digest`; chance_permille 0 .. 1000 spreads the resends.

        now_ms: from when an answer is waited for.
        """
        waits = self._waits
        silent, most_ms = (self._alarm_silent, waits.alarm_most_ms) if is_alarm else (self._silent, waits.most_ms)
        grown_ms = min(waits.resend_ms << min(silent, 8), most_ms)
        wait_ms = grown_ms * waits.sure_permille // 1000 + grown_ms * waits.jitter_permille // 1000 * chance_permille // 1000
        self._in_flight.append((n, count, now_ms + wait_ms, digest, int(is_alarm)))
        if n + count - 1 > self._sent_high:
            self._sent_high = n + count - 1

    def took(self, digest: bytes, line_ms: int) -> None:
        """Note that the frame with `digest` was so long on its way out: its answer is waited for from then on."""
        entries = self._in_flight
        self._in_flight = [
            (n, count, due_ms + (line_ms if name == digest else 0), name, alarm) for n, count, due_ms, name, alarm in entries
        ]

    def acknowledge(self, highest: int, bitmap: int, digest: bytes, next_n: int) -> bool:
        """Apply a verified acknowledgement; return whether it covered anything new. One for an older state changes nothing.

        Raises LocalError("bad_payload") when it claims records that were never written: the peer counts another node's records.
        """
        if highest >= next_n or highest > MAX_N:
            raise LocalError("bad_payload", "acknowledgement of records never written")
        before = (self.highest, self._acked)
        for entry in self._in_flight:
            if entry[3] == digest:
                self._mark(entry[0], entry[1])
                self.is_answered = True
        for i in range(BITMAP_BITS):
            if bitmap >> i & 1 and highest + 1 + i < next_n:
                self._mark(highest + 1 + i, 1)
        if highest > self.highest:
            self._acked >>= highest - self.highest
            self.highest = highest
        while self._acked & 1:
            self._acked >>= 1
            self.highest += 1
        self._silent = self._alarm_silent = 0
        self._in_flight = [e for e in self._in_flight if self._is_any_owed(e[0], e[1])]
        return (self.highest, self._acked) != before

    def forget(self, n: int, count: int) -> None:
        """Stop owing records n .. n+count-1: the spool no longer has them and a gap record says so."""
        self._mark(n, count)
        while self._acked & 1:
            self._acked >>= 1
            self.highest += 1

    def due_ms(self) -> int | None:
        """Return when the earliest wait runs out, or None when nothing is on its way."""
        due = None
        for entry in self._in_flight:
            if due is None or entry[2] < due:
                due = entry[2]
        return due

    def expire(self, now_ms: int) -> None:
        """Owe again what was on its way for too long."""
        waiting = [e for e in self._in_flight if e[2] > now_ms]
        if len(waiting) < len(self._in_flight):
            self._silent += 1
            self._alarm_silent += any([e[4] and e[2] <= now_ms for e in self._in_flight])
            self._in_flight = waiting

    def state(self) -> list:  # type: ignore[type-arg]
        """Return what `resume` takes. Of acknowledged records far above the first owed one it forgets: they are sent once more."""
        acked = (self._acked & (1 << _KEPT_BITS) - 1).to_bytes(_KEPT_BITS // 8, "big")
        return [self.highest, acked, self._sent_high, self._silent, self._alarm_silent, [list(entry) for entry in self._in_flight]]

    def resume(self, state: list) -> None:  # type: ignore[type-arg]
        """Go on after a pause that RAM does not survive, with due times of the same clock."""
        self.highest, acked, self._sent_high, self._silent, self._alarm_silent, in_flight = state
        self._acked = int.from_bytes(acked, "big")
        self._in_flight = [(n, count, due_ms, digest, alarm) for n, count, due_ms, digest, alarm in in_flight]

    def _mark(self, n: int, count: int) -> None:
        for i in range(count):
            at = n + i - self.highest - 1
            if at >= 0:
                self._acked |= 1 << at

    def is_in_flight(self, n: int) -> bool:
        """Return whether record `n` is on its way and not yet acknowledged."""
        for entry in self._in_flight:
            if entry[0] <= n < entry[0] + entry[1]:
                return True
        return False

    def _run(self, n: int, most: int) -> int:
        count = 1
        while count < most and self.is_owed(n + count) and not self.is_in_flight(n + count):
            count += 1
        return count

    def _is_any_owed(self, n: int, count: int) -> bool:
        for i in range(count):
            if self.is_owed(n + i):
                return True
        return False
