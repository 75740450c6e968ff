"""Records become one signed frame. Step 4 of a frame's journey.

Times: all records of a frame have one base. Records dated in unix seconds, or datable because the clock was set later in the same
power-up, share a frame; records that only know their age go into another; one whose time is lost fits either. Signing is
synchronous bytecode (3 ms on the unix port, about 150 ms on an ESP32): callers let other tasks run before and after.
"""

import gc

from lamppost_protocol import cbor, frames
from lamppost_protocol.errors import LocalError, ProtocolError
from lamppost_protocol.limits import MAX_PAYLOAD_BYTES
from lamppost_protocol.records import MAX_DT_S, check_record, encode_uplink

from lamppost_node.clock import Clock
from lamppost_node.identity import Identity
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.spool import Spool
from lamppost_node.stored import ALARM, Stored

#: n, behind (up to 9 octets each), base time, clock (up to 6), array head: what a payload needs besides its records.
_HEAD_BYTES = 32

_LOST, _DATED, _AGED = 0, 1, 2


class Frame:
    """A signed frame: `data`, and the `count` records from `n` that it carries."""

    def __init__(self, data: bytes, n: int, count: int):
        self.data = data
        self.n = n
        self.count = count


class Draft:
    """Records that go into one frame. `most_bytes`: its payload's length at most; `count` records from `n`."""

    def __init__(self, taken: list[Stored], bodies: list[list[int | None]], mode: int, most_bytes: int):
        self.taken = taken
        self.bodies = bodies
        self.mode = mode
        self.most_bytes = most_bytes
        self.n = taken[0].n
        self.count = len(bodies)


class Framer:
    """Builds frames from the spool. Keeps nothing but counters: `unsendable` records that are not of the wire's form."""

    def __init__(self, identity: Identity, sequence: SequenceStore, spool: Spool, clock: Clock, power_up: int):
        self._identity = identity
        self._sequence = sequence
        self._spool = spool
        self._clock = clock
        self._power_up = power_up
        self.unsendable = 0

    def draft(self, first: Stored, max_count: int, most_bytes: int = MAX_PAYLOAD_BYTES) -> Draft:
        """`first` and the records directly behind it, as many as fit together into `most_bytes` of payload; `first` in any case.

        Raises LocalError `bad_payload`: the first record is not of the wire's form.
        """
        most_bytes = min(most_bytes, MAX_PAYLOAD_BYTES)
        taken: list[Stored] = [first]
        bodies: list[list[int | None]] = []
        size = _HEAD_BYTES
        mode = _LOST
        while True:
            record = taken[-1]
            mode_of = self._mode(record)
            body: list[int | None] = [record.kind, None, record.q]
            body.extend(record.values)
            size_of = len(cbor.encode(body)) + 4  # dt takes up to 5 octets instead of one
            is_bad = not self._is_sendable(body)
            if is_bad and len(taken) == 1:
                self.unsendable += 1
                raise LocalError("bad_payload", "record not of the wire's form")
            is_other = mode != _LOST and mode_of != _LOST and mode_of != mode
            if len(taken) > 1 and (is_bad or is_other or size + size_of > most_bytes or record.flags & ALARM):
                taken.pop()
                break
            bodies.append(body)
            size += size_of
            mode = mode or mode_of
            if len(taken) >= max_count or record.flags & ALARM:
                break
            following = self._spool.read_from(record.n + 1)
            if following is None or following.n != record.n + 1:
                break
            taken.append(following)
        return Draft(taken, bodies, mode, size)

    def build(self, draft: Draft, oldest_owed: int) -> Frame:
        """The frame of a draft. Signs; writes flash once in 64 frames. Raises LocalError (no signing any more) and OSError."""
        bodies = draft.bodies
        base, clock_s = self._stamp(draft.taken, bodies, draft.mode)
        behind = max(0, draft.n - oldest_owed)
        payload = encode_uplink(draft.n, behind, base, clock_s, bodies)
        tx = self._sequence.take()
        # A signature churns some 200 KB through the collector; starting from a clean heap keeps it from splitting one.
        gc.collect()
        identity = self._identity
        data = frames.seal(identity.signer, frames.UPLINK, identity.network, identity.node, identity.epoch, identity.node, tx, payload)
        return Frame(data, draft.n, len(bodies))

    def _is_sendable(self, body: list[int | None]) -> bool:
        try:
            check_record(body, True)
        except ProtocolError:
            return False
        return True

    def _mode(self, record: Stored) -> int:
        if record.t is not None:
            return _DATED
        if record.power_up == 0 or record.power_up != self._power_up:
            return _LOST
        return _AGED if self._clock.now() is None else _DATED

    def _stamp(self, taken: list[Stored], bodies: list[list[int | None]], mode: int) -> tuple[int | None, int | None]:
        """Fill in every dt; returns (base time, largest uncertainty) or (None, None) when ages are sent."""
        now, now_ms = self._clock.now(), self._clock.monotonic_ms()
        times: list[int | None] = []
        clock_s = 0
        for record in taken:
            mode_of = self._mode(record)
            if mode_of == _LOST:
                times.append(None)
            elif record.t is not None:
                times.append(record.t)
                clock_s = max(clock_s, record.uncertainty_s or 0)
            else:
                age_ms = max(0, now_ms - record.monotonic_ms)
                if mode == _AGED or now is None:
                    times.append(-min(age_ms // 1000, MAX_DT_S))
                else:
                    times.append(now - age_ms // 1000)
                    clock_s = max(clock_s, (self._clock.uncertainty_s() or 0) + age_ms * self._clock.age_ppm // 1_000_000_000)
        known = [time for time in times if time is not None]
        base = min(known) if known and mode == _DATED else None
        for index in range(len(bodies)):
            time = times[index]
            if time is not None:
                dt = time - base if base is not None else time
                bodies[index][1] = dt if -MAX_DT_S <= dt <= MAX_DT_S else None
        return base, None if base is None else clock_s
