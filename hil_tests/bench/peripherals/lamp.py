"""A street lamp's driver: 0-10 V input, normally closed relay in its supply, and what the two make of its power.

Ref: IEC 60929 annex E (the driver sources the control current, so an open control pair means full light).
PWM duty 0..65535 gives 0..10 V gives level 0..1000 permille, linear, 0 = standby. No PWM (process dead, pin released,
chip in reset) = floating = 1000. Relay pin high opens the relay, released or low leaves the lamp powered.
Power goes from 8 W standby to 60 W and settles towards a new value with a time constant of 2 s.
Faults: lamp_failed (light gone, power falls to standby while the level is on), relay_welded (the relay cannot open).
"""

import math
from collections import deque
from collections.abc import Callable

from .ade7953 import Supply

NOMINAL_W = 60.0
STANDBY_W = 8.0
SETTLING_S = 2.0
_LOG_ENTRIES = 20000


class Lamp:
    """`voltage_v` gives the mains at a bench time. Every change of level is logged: a lamp that went dark cannot hide it."""

    def __init__(self, voltage_v: Callable[[float], float], now_s: float = 0.0) -> None:
        self.faults: dict[str, float] = {}
        self._voltage_v = voltage_v
        self._duty: int | None = None
        self._relay_high = False
        self._power_w = NOMINAL_W
        self._energy_wh = 0.0
        self._at_s = now_s
        self.log: deque[tuple[float, int, str]] = deque([(now_s, 1000, "start")], maxlen=_LOG_ENTRIES)
        self.min_level_permille = 1000
        self.min_level_since_s = now_s

    @property
    def is_relay_open(self) -> bool:
        return self._relay_high and "relay_welded" not in self.faults

    @property
    def level_permille(self) -> int:
        """What the driver is told, 0 when it has no supply."""
        if self.is_relay_open:
            return 0
        return 1000 if self._duty is None else (self._duty * 1000 + 32767) // 65535

    @property
    def is_lit(self) -> bool:
        return self.level_permille > 0 and "lamp_failed" not in self.faults

    def set_pwm(self, now_s: float, duty_u16: int | None, cause: str = "pwm") -> None:
        """None: the pin no longer drives the input."""
        self.advance(now_s)
        self._duty = duty_u16
        self.note(now_s, cause)

    def set_relay(self, now_s: float, is_high: bool, cause: str = "relay") -> None:
        self.advance(now_s)
        self._relay_high = is_high
        self.note(now_s, cause)

    def note(self, now_s: float, cause: str) -> None:
        """Log the level if it changed."""
        level_permille = self.level_permille
        if level_permille != self.log[-1][1]:
            self.log.append((now_s, level_permille, cause))
            if level_permille < self.min_level_permille:
                self.min_level_permille = level_permille
                self.min_level_since_s = now_s

    def forget_minimum(self, now_s: float) -> None:
        """Start watching the lowest level anew from the present one."""
        self.min_level_permille = self.level_permille
        self.min_level_since_s = now_s

    def _target_w(self) -> float:
        if self.is_relay_open:
            return 0.0
        if not self.is_lit:
            return STANDBY_W
        return STANDBY_W + (NOMINAL_W - STANDBY_W) * self.level_permille / 1000

    def advance(self, now_s: float) -> None:
        """Let power settle and energy add up until now; call it before anything changes the target."""
        passed_s = now_s - self._at_s
        if passed_s <= 0:
            return
        self._at_s = now_s
        target_w = self._target_w()
        if target_w == 0:
            self._power_w = 0.0
            return
        excess_w = self._power_w - target_w
        decay = math.exp(-passed_s / SETTLING_S)
        self._energy_wh += (target_w * passed_s + excess_w * SETTLING_S * (1 - decay)) / 3600
        self._power_w = target_w + excess_w * decay

    def supply(self, now_s: float) -> Supply:
        """The truth a meter in the lamp's supply would find."""
        self.advance(now_s)
        voltage_v = self._voltage_v(now_s)
        if self.is_relay_open:
            return Supply(voltage_v, 0.0, 0.0, 1.0, self._energy_wh)
        power_factor = min(0.97, 0.42 + 0.56 * math.sqrt(self._power_w / NOMINAL_W))
        current_a = self._power_w / (voltage_v * power_factor)
        return Supply(voltage_v, current_a, self._power_w, power_factor, self._energy_wh)

    def state(self, now_s: float) -> dict[str, float | bool]:
        supply = self.supply(now_s)
        return {
            "level_permille": self.level_permille,
            "lit": self.is_lit,
            "relay_open": self.is_relay_open,
            "power_w": supply.active_power_w,
            "voltage_v": supply.voltage_v,
            "energy_wh": supply.energy_wh,
            "min_level_permille": self.min_level_permille,
            "min_level_since_s": self.min_level_since_s,
        }
