"""Records leave the node: each is sent until an acknowledgement covers it. Step 5 of a frame's journey.

Order of sending: alarms, each alone; then what is newer than anything sent (live); then the oldest owed (back-fill); then ranges an
order asked for again. Every transmission is newly signed with a fresh `tx`. Waiting, doubling and jitter are `arq.SendWindow`'s; what the
link allows, and whether records wait for company, is the link's.
"""

import asyncio
import os

from lamppost_protocol import kinds, slip
from lamppost_protocol.arq import SendWindow
from lamppost_protocol.errors import LocalError
from lamppost_protocol.frames import Acknowledgement, frame_digest

from lamppost_node.framer import Draft, Frame, Framer
from lamppost_node.sampler import Sampler
from lamppost_node.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_node.interfaces import Link
    from lamppost_node.services import Services

TASK = "uplink"
_LIVE_RECORDS = 4
_SLEEP_MS = 20_000
_FAR_MS = 86_400_000
_SAVE_CURSOR_MS = 300_000
_AIR_SAVE_CURSOR_MS = 3_600_000  # one frame at a time: a cursor lost repeats few, and flash has years to last
_MAX_RANGES = 8
_MOST_FORGOTTEN = 1024  # at once: a bit each
_RANGE_TRIES = 10
_RECORDS, _ALARM = 0, 1  # the two lanes: an alarm has airtime in reserve


class Uplink:
    """Owns the send window. `is_silenced`: the counter is gone, nothing is signed any more. `is_resting`: nothing is to be sent now."""

    def __init__(
        self,
        node: "Services",
        spool: Spool,
        framer: Framer,
        sampler: Sampler,
        link: "Link",
        max_records: int,
        restart: "Callable[[], None]",
    ):
        """`restart()` is asked for when the signer's table went bad in RAM: only a new start reads it from flash."""
        self._restart = restart
        self._node = node
        self._spool = spool
        self._framer = framer
        self._sampler = sampler
        self._link = link
        self._max_records = max_records
        # What is older than anything on flash was acknowledged or has been declared lost, however much that is.
        spool.acknowledge(spool.oldest_n() - 1)
        self._window = SendWindow(spool.cursor + 1, spool.next_n, link.waits)
        # Of records and of alarms: until when the link's airtime, or the start, holds them back, and since when airtime does.
        now_ms = node.clock.monotonic_ms()
        self._held_until_ms = [
            now_ms + link.spread_ms * _chance_permille() // 1000,
            now_ms + link.alarm_spread_ms * _chance_permille() // 1000,
        ]
        self._held_since_ms: list[int | None] = [None, None]
        self._gathered_n = 0
        self._gathered_ms = 0
        self._saved_ms = 0
        self._look_ms = 0
        self._ranges: list[list[int]] = []  # [next n, last n, tries]
        self._range_digest = b""
        self._range_end = 0
        self._range_due_ms = 0
        self.is_silenced = False
        self.is_resting = False
        self.frames_sent = 0
        node.rest.busy(TASK)

    def state(self) -> "list[Any]":
        """What `resume` takes after a deep sleep; the sampler's part of it too."""
        return [
            self._window.state(), self._held_until_ms, self._held_since_ms, self._gathered_n, self._gathered_ms, self._saved_ms,
            self._ranges, self._range_digest, self._range_end, self._range_due_ms,
            self.frames_sent, self._sampler.alarms, self._sampler.awaited_n,
        ]  # fmt: skip

    def resume(self, state: "list[Any]") -> None:
        """Go on: what is on its way, and what was held back and why. Raises LocalError where the spool has less than was acknowledged."""
        (
            window, self._held_until_ms, self._held_since_ms, self._gathered_n, self._gathered_ms, self._saved_ms, self._ranges,
            self._range_digest, self._range_end, self._range_due_ms, self.frames_sent, self._sampler.alarms, self._sampler.awaited_n,
        ) = state  # fmt: skip
        self._window.resume(window)
        if self._window.highest >= self._spool.next_n:
            raise LocalError("bad_payload", "acknowledgement of records never written")
        self._spool.acknowledge(self._window.highest)

    def is_heard(self) -> bool:
        """Whether an acknowledgement has named a frame that this start signed; a deep sleep begins a new one."""
        return self._window.is_answered

    def oldest_owed(self) -> int:
        """The smallest number not known to be acknowledged; next_n when nothing is owed."""
        return self._window.highest + 1

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Apply a verified acknowledgement. Raises LocalError when it covers records never written."""
        digest = acknowledgement.digest
        self._window.acknowledge(acknowledgement.highest, acknowledgement.bitmap, digest, self._spool.next_n)
        self._spool.acknowledge(self._window.highest)
        self._link.answered(digest, acknowledgement.steps)
        if self._ranges and digest == self._range_digest:
            self._advance_range(self._range_end + 1)
        self._sampler.written.set()

    def hurry(self, n: int) -> None:
        """Send record `n`, which is written, as an alarm is sent."""
        self._sampler.alarms.append(n)
        self._sampler.written.set()

    def resend(self, first_n: int, last_n: int) -> None:
        """Send a range again although it is acknowledged: what the spool still has of it. Raises ValueError with eight pending."""
        if len(self._ranges) >= _MAX_RANGES:
            raise ValueError("too many ranges")
        self._ranges.append([first_n, min(last_n, self._spool.next_n - 1), 0])
        self._sampler.written.set()

    async def run(self) -> None:
        """Send for ever; ends when the counter is lost. Raises OSError when the flash fails: restart it after a while."""
        while not self.is_silenced:
            self._node.alive(TASK)
            now_ms = self._node.clock.monotonic_ms()
            if now_ms - self._saved_ms >= (_SAVE_CURSOR_MS if self._link.gather_ms == 0 else _AIR_SAVE_CURSOR_MS):
                self._saved_ms = now_ms
                self._spool.save_cursor()
            self._sampler.written.clear()  # before looking: what is written meanwhile is looked for again
            if not await self._send_one(now_ms):
                await self._pause()
        self.is_resting = True
        self._node.rest.until(TASK, self._node.clock.monotonic_ms() + _FAR_MS)

    async def _pause(self) -> None:
        """Until something was written or acknowledged, or the time of something has come that `_send_one` found."""
        due_ms = self._window.due_ms()
        if due_ms is not None:
            self._look_at(due_ms)
        wait_ms = max(10, min(_SLEEP_MS, self._look_ms - self._node.clock.monotonic_ms()))
        self._node.rest.until(TASK, self._look_ms)
        self.is_resting = True
        try:
            await asyncio.wait_for(self._sampler.written.wait(), wait_ms / 1000)
        except asyncio.TimeoutError:
            pass
        self.is_resting = False
        self._node.rest.busy(TASK)

    async def _send_one(self, now_ms: int) -> bool:
        """Send what is most urgent; False when there is nothing to send now."""
        self._look_ms = now_ms + _FAR_MS
        self._window.expire(now_ms)
        alarm_n = self._next_alarm()
        if alarm_n and self._is_time(self._held_until_ms[_ALARM], now_ms):
            return await self._send(alarm_n, 1, now_ms, _ALARM)
        if not self._is_time(self._held_until_ms[_RECORDS], now_ms):
            return False
        live_records = self._max_records if self._link.gather_ms else _LIVE_RECORDS
        job = self._window.take(now_ms, self._spool.next_n, self._max_records, live_records)
        if job is None:
            return await self._send_range(now_ms)
        is_whole = job[1] >= self._max_records or job[0] <= self._sampler.awaited_n
        if not is_whole and not self._is_time(self._gathered_until_ms(job[0], now_ms), now_ms):
            # What was sent before and not answered does not wait for their company.
            job = self._window.take(now_ms, job[0], self._max_records, live_records)
            if job is None:
                return await self._send_range(now_ms)
        return await self._send(job[0], job[1], now_ms, _RECORDS)

    def _is_time(self, at_ms: int, now_ms: int) -> bool:
        """Whether this moment has come; if not, it is looked at again then."""
        if at_ms > now_ms:
            self._look_at(at_ms)
        return at_ms <= now_ms

    def _look_at(self, at_ms: int) -> None:
        self._look_ms = min(self._look_ms, at_ms)

    def _gathered_until_ms(self, n: int, now_ms: int) -> int:
        """Until when record `n` waits for others to share its frame; what an earlier power-up left has waited enough."""
        if self._link.gather_ms == 0:
            return now_ms
        if n != self._gathered_n:
            record = self._spool.read_from(n)
            is_ours = record is not None and record.n == n and record.power_up == self._sampler.power_up
            self._gathered_n = n
            self._gathered_ms = record.monotonic_ms + self._link.gather_ms if record is not None and is_ours else now_ms
        return self._gathered_ms

    def _next_alarm(self) -> int:
        """The first alarm that is owed and not on its way, 0 for none: one that nobody answered goes ahead of an outage's records too."""
        alarms = self._sampler.alarms
        index = 0
        while index < len(alarms):
            n = alarms[index]
            if not self._window.is_owed(n):
                alarms.pop(index)
            elif self._window.is_in_flight(n):
                index += 1
            else:
                return n
        return 0

    async def _send(self, n: int, count: int, now_ms: int, lane: int) -> bool:
        first = self._spool.read_from(n)
        if first is None or first.n >= n + count:
            # Thinned or damaged: the spool has declared it in a gap record, so it is owed no longer.
            end = first.n if first is not None else self._spool.next_n
            self._forget(n, min(end - n, _MOST_FORGOTTEN))
            await asyncio.sleep(0)  # a long hole must not starve the lamp
            return True
        if first.n > n:
            self._forget(n, first.n - n)
            count -= first.n - n
        await asyncio.sleep(0)
        try:
            draft = self._framer.draft(first, count, self._link.payload_bytes())
            frame = self._sign(draft, lane, now_ms)
        except LocalError:
            self._give_up(first.n)
            return True
        if frame is None:
            return False
        await asyncio.sleep(0)
        digest = frame_digest(frame.data)
        self._window.sent(frame.n, frame.count, digest, now_ms, _chance_permille(), lane == _ALARM)
        await self._put_out(frame.data, lane, now_ms)
        self._window.took(digest, self._node.clock.monotonic_ms() - now_ms)
        return True

    def _sign(self, draft: Draft, lane: int, now_ms: int) -> Frame | None:
        """The draft's frame; None when the airtime is spent, or nothing can be signed. Raises LocalError for what can never be sent."""
        delay_ms = self._link.delay_ms(draft.most_bytes, lane == _ALARM)
        if delay_ms > 0:
            self._held_until_ms[lane] = now_ms + delay_ms
            if self._held_since_ms[lane] is None:
                self._held_since_ms[lane] = now_ms
            self._look_at(now_ms + delay_ms)
            return None
        try:
            return self._framer.build(draft, self.oldest_owed())
        except LocalError as error:
            if error.reason == "bad_payload":
                raise
            self._stop(error)
            return None

    async def _put_out(self, data: bytes, lane: int, now_ms: int) -> None:
        since_ms, self._held_since_ms[lane] = self._held_since_ms[lane], None
        waited_s = 0 if since_ms is None else (now_ms - since_ms + 999) // 1000
        if await self._link.send(slip.FRAME, data, lane == _ALARM, waited_s):
            self.frames_sent += 1

    def _forget(self, n: int, count: int) -> None:
        self._window.forget(n, count)
        self._spool.acknowledge(self._window.highest)

    def _stop(self, error: LocalError) -> None:
        """Nothing can be signed: for good when the counter is gone, else until the restart that is asked for here."""
        self.is_silenced = error.reason == "replayed"
        self._node.log("uplink: silent, " + str(error))
        if not self.is_silenced:
            self._restart()

    def _give_up(self, n: int) -> None:
        """A record that can never be sent (another version's) is declared lost rather than left to block the others."""
        self._forget(n, 1)
        self._sampler.emit(kinds.kind_of(kinds.GAP), kinds.GOOD, (n, n, 1, kinds.GAP_FLASH_CORRUPT, None, None), False, True)

    async def _send_range(self, now_ms: int) -> bool:
        """Send one frame of a range asked for again, one at a time; what answers it is the digest, not the cursor."""
        if not self._ranges or not self._is_time(self._range_due_ms, now_ms):
            return False
        entry = self._ranges[0]
        first = self._spool.read_from(entry[0])
        if first is None or first.n > entry[1] or entry[2] >= _RANGE_TRIES:
            self._ranges.pop(0)
            return True
        await asyncio.sleep(0)
        try:
            draft = self._framer.draft(first, min(self._max_records, entry[1] - first.n + 1), self._link.payload_bytes())
            frame = self._sign(draft, _RECORDS, now_ms)
        except LocalError:
            self._advance_range(first.n + 1)
            return True
        if frame is None:
            return False
        entry[2] += 1
        self._range_digest = frame_digest(frame.data)
        self._range_end = frame.n + frame.count - 1
        self._range_due_ms = now_ms + self._link.waits.resend_ms * entry[2]
        await self._put_out(frame.data, _RECORDS, now_ms)
        return True

    def _advance_range(self, n: int) -> None:
        self._range_due_ms = 0
        self._range_digest = b""
        if n > self._ranges[0][1]:
            self._ranges.pop(0)
        else:
            self._ranges[0][0] = n
            self._ranges[0][2] = 0


def _chance_permille() -> int:
    octets = os.urandom(2)
    return (octets[0] << 8 | octets[1]) * 1000 // 65535
