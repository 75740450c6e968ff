"""Records leave the node: each is sent until an acknowledgement covers it. Step 5 of a frame's journey.

Order of sending: alarms, each alone; then what is newer than anything sent (live); then the oldest owed (back-fill); then ranges an
order asked for again. Every transmission is newly signed with a fresh `tx`. Waiting, doubling and jitter are `arq.SendWindow`'s.
"""

import asyncio
import os

from lamppost_protocol import kinds, slip
from lamppost_protocol.arq import RESEND_MS, SendWindow
from lamppost_protocol.errors import LocalError
from lamppost_protocol.frames import Acknowledgement, frame_digest

from lamppost_node.framer import Framer
from lamppost_node.sampler import Sampler
from lamppost_node.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamppost_node.interfaces import Line
    from lamppost_node.services import Services

TASK = "uplink"
_LIVE_RECORDS = 4
_SLEEP_MS = 1000
_SAVE_CURSOR_MS = 300_000
_MAX_RANGES = 8
_MOST_FORGOTTEN = 1024  # at once: a bit each
_RANGE_TRIES = 10


class Uplink:
    """Owns the send window. `is_silenced`: the counter is gone, nothing is signed any more."""

    def __init__(
        self,
        node: "Services",
        spool: Spool,
        framer: Framer,
        sampler: Sampler,
        link: "Line",
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
        self._window = SendWindow(spool.cursor + 1, spool.next_n)
        self._saved_ms = 0
        self._ranges: list[list[int]] = []  # [next n, last n, tries]
        self._range_digest = b""
        self._range_end = 0
        self._range_due_ms = 0
        self.is_silenced = False
        self.frames_sent = 0

    def oldest_owed(self) -> int:
        """The smallest number not known to be acknowledged; next_n when nothing is owed."""
        return self._window.highest + 1

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Apply a verified acknowledgement. Raises LocalError when it covers records never written."""
        digest = acknowledgement.digest
        self._window.acknowledge(acknowledgement.highest, acknowledgement.bitmap, digest, self._spool.next_n)
        self._spool.acknowledge(self._window.highest)
        if self._ranges and digest == self._range_digest:
            self._advance_range(self._range_end + 1)
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
            if now_ms - self._saved_ms >= _SAVE_CURSOR_MS:
                self._saved_ms = now_ms
                self._spool.save_cursor()
            if not await self._send_one(now_ms):
                await self._pause()

    async def _pause(self) -> None:
        self._sampler.written.clear()
        due_ms = self._window.due_ms()
        wait_ms = _SLEEP_MS
        if due_ms is not None:
            wait_ms = max(10, min(wait_ms, due_ms - self._node.clock.monotonic_ms()))
        try:
            await asyncio.wait_for(self._sampler.written.wait(), wait_ms / 1000)
        except asyncio.TimeoutError:
            pass

    async def _send_one(self, now_ms: int) -> bool:
        """Send what is most urgent; False when there is nothing to send now."""
        self._window.expire(now_ms)
        alarm_n = self._next_alarm()
        if alarm_n:
            return await self._send(alarm_n, 1, now_ms)
        job = self._window.take(now_ms, self._spool.next_n, self._max_records, _LIVE_RECORDS)
        if job is not None:
            return await self._send(job[0], job[1], now_ms)
        return await self._send_range(now_ms)

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

    async def _send(self, n: int, count: int, now_ms: int) -> bool:
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
            frame = self._framer.build(first, count, self.oldest_owed())
        except LocalError as error:
            if error.reason == "bad_payload":
                self._give_up(first.n)
                return True
            self._stop(error)
            return False
        await asyncio.sleep(0)
        self._window.sent(frame.n, frame.count, frame_digest(frame.data), now_ms, _jitter_permille())
        await self._link.send(slip.FRAME, frame.data)
        self.frames_sent += 1
        return True

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
        if not self._ranges or now_ms < self._range_due_ms:
            return False
        entry = self._ranges[0]
        first = self._spool.read_from(entry[0])
        if first is None or first.n > entry[1] or entry[2] >= _RANGE_TRIES:
            self._ranges.pop(0)
            return True
        entry[2] += 1
        await asyncio.sleep(0)
        try:
            frame = self._framer.build(first, min(self._max_records, entry[1] - first.n + 1), self.oldest_owed())
        except LocalError as error:
            if error.reason == "bad_payload":
                self._advance_range(first.n + 1)
                return True
            self._stop(error)
            return False
        self._range_digest = frame_digest(frame.data)
        self._range_end = frame.n + frame.count - 1
        self._range_due_ms = now_ms + RESEND_MS * entry[2]
        await self._link.send(slip.FRAME, frame.data)
        self.frames_sent += 1
        return True

    def _advance_range(self, n: int) -> None:
        self._range_due_ms = 0
        self._range_digest = b""
        if n > self._ranges[0][1]:
            self._ranges.pop(0)
        else:
            self._ranges[0][0] = n
            self._ranges[0][2] = 0


def _jitter_permille() -> int:
    octets = os.urandom(2)
    return (octets[0] << 8 | octets[1]) * 1000 // 65535
