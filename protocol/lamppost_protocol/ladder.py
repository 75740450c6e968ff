"""Data rate and power by what was heard: a node's place on its ladder, and a gateway's advice. WIRE.md section 14.3.

A rung is a spreading factor and a power. The first is the slowest at full power; then every faster one at full power; then the fastest with
ever less power. Pure: no radio, no clock.
"""

from .errors import LocalError
from .frames import MAX_STEPS

#: Between two rungs of power.
POWER_STEP_DB = 3
#: A signal this far above what its spreading factor needs is left alone; what is beyond is given away, in steps.
_MARGIN_QDB = 40
_STEP_QDB = 4 * POWER_STEP_DB
#: Frames of which the best counts, and how many it takes before a node is sent towards faster and weaker.
_MOST_FRAMES = 20
_LEAST_FRAMES_UP = 4
#: Unanswered frames in a row after which a node sends at full power, and after which at its slowest.
_SILENT_FULL_POWER = 3
_SILENT_SLOWEST = 4


def above_need_qdb(spreading_factor: int, snr_qdb: int) -> int:
    """Return by how many quarters of dB a packet's signal to noise exceeds what its spreading factor, 5 .. 12, needs to be heard.

    Ref: SX1261/2 datasheet rev. 2.1, table 6-1: -2.5 dB at SF5, 2.5 dB less with each step, -20 dB at SF12.
    """
    return snr_qdb + 10 * (spreading_factor - 4)


class Ladder:
    """The node's end. Starts on the first rung, and after silence goes back there."""

    def __init__(self, slowest: int, fastest: int, most_dbm: int, least_dbm: int) -> None:
        """slowest >= fastest: spreading factors 12 .. 5; most_dbm >= least_dbm. Raises LocalError("too_long") where there is no rung."""
        if not 12 >= slowest >= fastest >= 5 or most_dbm < least_dbm:
            raise LocalError("too_long", "a ladder without rungs")
        self._slowest = slowest
        self._most_dbm = most_dbm
        self._least_dbm = least_dbm
        self._at_full_power = slowest - fastest
        self._last = self._at_full_power + (most_dbm - least_dbm + POWER_STEP_DB - 1) // POWER_STEP_DB
        self._place = 0
        self._silent = 0
        self._digest = b""

    def place(self) -> int:
        """Return which rung the next frame is sent on, from 0."""
        if self._silent >= _SILENT_SLOWEST:
            return 0
        return min(self._place, self._at_full_power) if self._silent >= _SILENT_FULL_POWER else self._place

    def spreading_factor(self) -> int:
        """Return the next frame's spreading factor."""
        return self._slowest - min(self.place(), self._at_full_power)

    def power_dbm(self) -> int:
        """Return the next frame's power."""
        return max(self._least_dbm, self._most_dbm - POWER_STEP_DB * max(0, self.place() - self._at_full_power))

    def sent(self, digest: bytes) -> None:
        """Note that the frame with this digest went out, on the rung that `place` gave."""
        self._place = self.place()
        self._silent += 1
        self._digest = digest

    def answered(self, digest: bytes, steps: int | None) -> None:
        """Apply a verified acknowledgement: its steps count once for a frame, and for the last one sent only."""
        self._silent = 0
        if digest == self._digest and steps is not None:
            self._place = min(max(self._place + steps, 0), self._last)
            self._digest = b""

    def state(self) -> list[object]:
        """Return what `resume` takes: the rung, the unanswered frames, the last one's digest."""
        return [self._place, self._silent, self._digest]

    def resume(self, state: list) -> None:  # type: ignore[type-arg]
        """Go on after a pause that RAM does not survive, with a state of the same ladder."""
        self._place, self._silent, self._digest = state


class Advice:
    """A gateway's end: the signal of one node's frames, and what to tell the node."""

    def __init__(self) -> None:
        self._above_qdb: list[int] = []

    def note(self, spreading_factor: int, snr_qdb: int) -> None:
        """A frame of this node was heard: its spreading factor 5 .. 12, signal to noise in quarters of dB (of pieces the weakest)."""
        self._above_qdb.append(above_need_qdb(spreading_factor, snr_qdb))
        if len(self._above_qdb) > _MOST_FRAMES:
            self._above_qdb.pop(0)

    def steps(self) -> int:
        """Return the steps to send, -MAX_STEPS .. MAX_STEPS. When they are not 0, what was heard before counts no longer."""
        if not self._above_qdb:
            return 0
        steps = (max(self._above_qdb) - _MARGIN_QDB) // _STEP_QDB
        if steps > 0 and len(self._above_qdb) < _LEAST_FRAMES_UP:
            return 0
        if steps:
            self._above_qdb = []
        return min(max(steps, -MAX_STEPS), MAX_STEPS)
