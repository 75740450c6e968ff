"""Readings become records: checked, stamped, numbered by the spool. Step 2 of a frame's journey.

A record's time is unix seconds when the clock is known, else milliseconds of this power-up, so that it can be dated later
when a beacon comes. A reading the flash refuses is counted and lost: it never had a number.
"""

import asyncio

from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.records import check_record

from lamppost_node.clock import Clock
from lamppost_node.health import Counters
from lamppost_node.spool import Spool
from lamppost_node.stored import ALARM, KEEP

#: Setting: 1 once the node keeps no new record, for its service ends.
LEAVING = "leaving"
_MAX_ALARMS = 16


class Sampler:
    """Writes records. `written` is set at every record; `alarms` are the numbers that must each go alone and at once; `awaited_n`: the
    newest one that somebody waits for, an order's state.
    """

    def __init__(self, clock: Clock, spool: Spool | None, power_up: int, counters: Counters):
        self._clock = clock
        self._spool = spool
        self.power_up = power_up
        self._counters = counters
        self.written = asyncio.Event()
        self.alarms: list[int] = []
        self.awaited_n = 0

    def emit(self, kind: int, q: int, values: "list[int | None] | tuple[int | None, ...]", is_alarm: bool, is_kept: bool) -> int:
        """Number and keep one record; 0 when the flash refused it or it is not a record. Writes flash. Never raises."""
        record: list[int | None] = [kind, 0, q]
        record.extend(values)
        now = self._clock.now()
        try:
            check_record(record, now is not None)
        except ProtocolError:
            self._counters.flash_faults += 1
            return 0
        if self._spool is None:
            self._counters.flash_faults += 1
            return 0
        flags = (ALARM | KEEP) if is_alarm else KEEP if is_kept else 0
        try:
            n = self._spool.append(
                self.power_up, now, self._clock.monotonic_ms(), self._clock.uncertainty_s(), flags, kind, q, list(values)
            )
        except OSError:
            self._counters.flash_faults += 1
            return 0
        if is_kept and not is_alarm:
            self.awaited_n = n
        if is_alarm and len(self.alarms) < _MAX_ALARMS:
            self.alarms.append(n)
        self.written.set()
        return n
