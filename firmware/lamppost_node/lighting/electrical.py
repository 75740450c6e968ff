"""What the measured power says about the lamp: faults judged slowly enough to be believed, never acting on the light.

Rules: expected power by straight lines over the lamp's table; low and high beyond +-15 %, failed below 20 %; judged only from 60 s
after the last change of level and at 30 % level or more; a fault is set when N of the last M samples show it and cleared when none
does. Relay failure: power though the relay is open, at night; day burner: the same while the sun is up. Cycling: lit and unlit
more than three times in ten minutes at a level that did not change. Ref: OMA 3416 resources 5, 9, 10, 11 and 3418 resources 12,
15.
"""

from lamppost_protocol.compat import const

LAMP_FAILURE = 1
LOW_POWER = 2
HIGH_POWER = 4
DAY_BURNER = 8
CYCLING = 16
METER_MISSING = 32
SCHEDULE_MISSING = 64
RELAY_FAILURE = 128
CONTROL_FAULT = 256
CLOCK_UNKNOWN = 512

#: Those that send a record alone and at once when they appear.
ALARMS = LAMP_FAILURE | LOW_POWER | HIGH_POWER | DAY_BURNER | CYCLING | RELAY_FAILURE | CONTROL_FAULT

#: The faults this file judges; the lamp adds the others.
_JUDGED = (LAMP_FAILURE, LOW_POWER, HIGH_POWER, DAY_BURNER, METER_MISSING, RELAY_FAILURE)

_LEVEL_PERMILLE = const(300)
_DEVIATION_PERMILLE = const(150)
_FAILED_PERMILLE = const(200)
_BURNING_PERMILLE = const(200)
_CYCLES = const(4)
_CYCLE_WINDOW_MS = const(600000)


class Electrical:
    """Faults of one lamp from samples of its meter. Powers in 0.1 W, times in monotonic milliseconds."""

    def __init__(self, nominal_dw: int, warm_up_ms: int, needed: int, of: int):
        """needed of `of` (1..16) samples set a fault; nominal_dw is the power at full level."""
        self._nominal_dw = nominal_dw
        self._warm_up_ms = warm_up_ms
        self._needed = needed
        self._mask = (1 << of) - 1
        self._histories = [0] * len(_JUDGED)
        self._changed_ms = 0
        self._was_lit: bool | None = None
        self._lit_ms: list[int] = [-_CYCLE_WINDOW_MS] * _CYCLES
        self._lit_next = 0
        self.faults = 0

    def level_changed(self, now_ms: int) -> None:
        """The level moves: judge nothing until the warm-up is over."""
        self._changed_ms = now_ms
        self._was_lit = None

    def is_warming_up(self, now_ms: int) -> bool:
        """Whether too little time passed since the last change of level to judge the power."""
        return now_ms - self._changed_ms < self._warm_up_ms

    def sample(self, now_ms: int, level_permille: int, power_dw: int | None, expected_dw: int, is_sun_up: bool) -> int:
        """Take one sample (power None: the meter gave nothing) and return the faults, a mask. Allocates next to nothing."""
        if power_dw is None:
            self._note(METER_MISSING, True)
            return self.faults
        self._note(METER_MISSING, False)
        self._count_cycles(now_ms, level_permille, power_dw, expected_dw)
        if self.is_warming_up(now_ms):
            return self.faults
        if level_permille >= _LEVEL_PERMILLE:
            failed = power_dw * 1000 < expected_dw * _FAILED_PERMILLE
            self._note(LAMP_FAILURE, failed)
            self._note(LOW_POWER, not failed and power_dw * 1000 < expected_dw * (1000 - _DEVIATION_PERMILLE))
            self._note(HIGH_POWER, power_dw * 1000 > expected_dw * (1000 + _DEVIATION_PERMILLE))
        is_burning = level_permille == 0 and power_dw * 1000 > self._nominal_dw * _BURNING_PERMILLE
        self._note(DAY_BURNER, is_burning and is_sun_up)
        self._note(RELAY_FAILURE, is_burning and not is_sun_up)
        return self.faults

    def _note(self, fault: int, is_seen: bool) -> None:
        index = _JUDGED.index(fault)
        history = (self._histories[index] << 1 | (1 if is_seen else 0)) & self._mask
        self._histories[index] = history
        if history == 0:
            self.faults &= ~fault
            return
        seen = 0
        while history:
            seen += history & 1
            history >>= 1
        if seen >= self._needed:
            self.faults |= fault

    def _count_cycles(self, now_ms: int, level_permille: int, power_dw: int, expected_dw: int) -> None:
        if level_permille < _LEVEL_PERMILLE:
            return
        if power_dw * 1000 < expected_dw * _FAILED_PERMILLE:
            is_lit = False
        elif power_dw * 2 > expected_dw:
            is_lit = True
        else:
            return
        if self._was_lit is False and is_lit:
            self._lit_ms[self._lit_next] = now_ms
            self._lit_next = (self._lit_next + 1) % _CYCLES
        self._was_lit = is_lit
        if now_ms - self._lit_ms[self._lit_next] < _CYCLE_WINDOW_MS:
            self.faults |= CYCLING
        elif now_ms - self._lit_ms[self._lit_next - 1] >= _CYCLE_WINDOW_MS:
            self.faults &= ~CYCLING
