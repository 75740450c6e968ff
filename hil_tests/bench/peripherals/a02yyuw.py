"""A02YYUW ultrasonic distance sensor, UART output, processed-value mode.

Ref: DFRobot SEN0311 page: 9600 8N1, frame FF H L SUM, SUM = low byte of FF + H + L, distance in mm, RX pin high or open
gives a filtered value every 100 to 300 ms. Range 30..4500 mm. Without echo the value is 0.
The model converts time of flight at a fixed 343.2 m/s (20 degC): the reading is uncompensated, as the driver must assume.
Faults: no_echo (value: what is sent instead of 0), bad_checksum, stuck, unplugged, noisy (value: spread in mm).
"""

import math
from collections.abc import Callable

from .bus import UartModel
from .street import uniform

FIXED_SPEED_M_S = 343.2
_PERIOD_S = 0.2
_START_S = 0.5
"""From its supply to its first frame: nothing is published, and this is a guess."""
_BLIND_MM = 30
_RANGE_MM = 4500


def frame(distance_mm: int) -> bytes:
    """The four bytes for 0..65535 mm."""
    high, low = distance_mm >> 8, distance_mm & 0xFF
    return bytes((0xFF, high, low, (0xFF + high + low) & 0xFF))


def sound_speed_m_s(temperature_c: float) -> float:
    return 331.3 * math.sqrt(1 + temperature_c / 273.15)


class A02YYUW(UartModel):
    """`distance_mm` and `temperature_c` give the truth at a bench time."""

    def __init__(self, seed: int, distance_mm: Callable[[float], float], temperature_c: Callable[[float], float]) -> None:
        super().__init__()
        self._seed = seed
        self._distance_mm = distance_mm
        self._temperature_c = temperature_c
        self._frame_number = 0
        self._stuck_mm: int | None = None
        self._has_supply = True

    def power_on(self, now_s: float) -> None:
        self._has_supply = True
        self._frame_number = int((now_s + _START_S) / _PERIOD_S) + 1

    def power_off(self, now_s: float) -> None:
        self._has_supply = False

    def advance(self, now_s: float) -> None:
        if not self._has_supply:
            return
        while self._frame_number * _PERIOD_S <= now_s:
            if self.is_full() or not self._port_baud:
                self._frame_number = int(now_s / _PERIOD_S) + 1
                return
            start_s = self._frame_number * _PERIOD_S
            # 200 ms nominal, 100 ms either way from one frame to the next.
            start_s += 0.05 * (uniform(self._seed, 20, self._frame_number) - 0.5)
            self.send(start_s, self._next_frame(start_s))
            self._frame_number += 1

    def _next_frame(self, start_s: float) -> bytes:
        data = bytearray(frame(self.reading_mm(start_s)))
        if "bad_checksum" in self.faults:
            data[3] ^= 0x5A
        return bytes(data)

    def reading_mm(self, now_s: float) -> int:
        """What the sensor says, faults included."""
        if "no_echo" in self.faults:
            return int(self.faults["no_echo"])
        if "stuck" not in self.faults:
            self._stuck_mm = None
        elif self._stuck_mm is not None:
            return self._stuck_mm
        index = int(now_s / _PERIOD_S)
        distance_mm = self._distance_mm(now_s) * FIXED_SPEED_M_S / sound_speed_m_s(self._temperature_c(now_s))
        spread_mm = self.faults.get("noisy", 3.0)
        distance_mm += spread_mm * (uniform(self._seed, 21, index) - 0.5)
        reading_mm = 0 if distance_mm > _RANGE_MM else max(_BLIND_MM, round(distance_mm))
        if "stuck" in self.faults:
            self._stuck_mm = reading_mm
        return reading_mm
