"""ADE7953 single-phase energy meter, I2C 0x38, current channel A.

Ref: Analog Devices ADE7953 datasheet rev. B: tables 13 to 16 (registers; 8 bit at 0xx, 16 at 1xx, 24 at 2xx, the same as
sign-extended 32 bit at 3xx), "Required Register Setting" (0FE = AD, at once 120 = 0030), LCYCMODE bit 6 (RSTREAD: energy
is cleared by reading). Register address two bytes, values big-endian.
Scale (hardware dividers as on Shelly 2.5; figures as in ESPHome): 26000 a volt, 100000 an ampere, 154 a watt, energy 154 x 154
counts a watt hour (that is the full-scale 206.9 kHz of the datasheet within 1 %).
Without the required setting the model measures 3 % too much power: our choice, so that a driver which leaves it out is found.
Faults: unplugged, meter_offset (value: W too much, as another load behind the meter makes it), stuck (measurements keep their
last value). Gains, calibration, no-load threshold, channel B, pulse outputs and interrupts are not modelled.
"""

from collections.abc import Callable
from typing import NamedTuple

from .bus import I2CModel
from .street import uniform

ADDRESS = 0x38
COUNTS_PER_V = 26000
COUNTS_PER_A = 100000
COUNTS_PER_W = 154
COUNTS_PER_WH = 154 * 154
_VERSION = 0x702
_DEFAULTS = {0x004: 0x40, 0x100: 0xFFFF, 0x101: 0xFFFF, 0x102: 0x8004, 0x380: 0x400000, 0x381: 0x400000, 0x382: 0x400000}
_RSTREAD = 0x40
_LOCKED = 0x120
_UNLOCK = 0x0FE


class Supply(NamedTuple):
    """The truth at the meter's terminals."""

    voltage_v: float
    current_a: float
    active_power_w: float
    power_factor: float
    energy_wh: float


def width_bytes(register: int) -> int:
    """Bytes of a register, from its address."""
    return 1 if register >= 0x700 else 1 + (register >> 8 & 3)


class ADE7953(I2CModel):
    """`supply` gives the truth at a bench time; its energy never decreases."""

    def __init__(self, seed: int, supply: Callable[[float], Supply]) -> None:
        super().__init__()
        self._seed = seed
        self._supply = supply
        self._offset_wh = 0.0
        self._offset_since_s = 0.0
        self._frozen: Supply | None = None
        self.power_on(0.0)

    def power_on(self, now_s: float) -> None:
        self._registers: dict[int, int] = dict(_DEFAULTS)
        self._register = 0
        self._last_write: tuple[int, int] = (0, 0)
        self._energy_from_wh = self._supply(now_s).energy_wh + self._offset_wh

    def answer(self, written: bytes | None, read_bytes: int | None, now_s: float) -> bytes:
        self._count_offset(now_s)
        if written and len(written) >= 2:
            self._register = int.from_bytes(written[:2], "big")
            if len(written) > 2:
                self._write(self._register, int.from_bytes(written[2:], "big"), len(written) - 2)
        if read_bytes is None:
            return b""
        width = width_bytes(self._register)
        value = self._read(self._register, now_s) & ((1 << 8 * width) - 1)
        return value.to_bytes(width, "big")[:read_bytes] + b"\xff" * (read_bytes - width)

    def _write(self, register: int, value: int, length: int) -> None:
        if length != width_bytes(register):
            return
        unlocked = self._last_write == (_UNLOCK, 0xAD)
        self._last_write = (register, value)
        if register == _LOCKED and not unlocked:
            return
        if 0x200 <= register < 0x300:
            register |= 0x300
            value = _signed24(value)
        self._registers[register] = value

    def _count_offset(self, now_s: float) -> None:
        """A meter that reads too much also counts too much."""
        self._offset_wh += self.faults.get("meter_offset", 0.0) * (now_s - self._offset_since_s) / 3600
        self._offset_since_s = now_s

    def _measured(self, now_s: float) -> Supply:
        if "stuck" in self.faults and self._frozen is not None:
            return self._frozen
        true = self._supply(now_s)
        gain = 1 + 0.002 * (uniform(self._seed, 60, int(now_s * 10)) - 0.5)
        if self._registers.get(_LOCKED) != 0x30:
            gain *= 1.03
        power_w = true.active_power_w * gain + self.faults.get("meter_offset", 0.0)
        # Another load behind the meter: current belongs to power, or the offset would show as an impossible power factor.
        current_a = power_w / (true.voltage_v * true.power_factor)
        self._frozen = Supply(true.voltage_v, current_a, power_w, true.power_factor, true.energy_wh + self._offset_wh)
        return self._frozen

    def _read(self, register: int, now_s: float) -> int:
        if register == _VERSION:
            return 0x03
        if 0x200 <= register < 0x300:
            register |= 0x300
        measured = self._measured(now_s)
        if register == 0x31C:
            return round(measured.voltage_v * COUNTS_PER_V)
        if register == 0x31A:
            return round(measured.current_a * COUNTS_PER_A)
        if register == 0x312:
            return round(measured.active_power_w * COUNTS_PER_W)
        if register == 0x310:
            return round(measured.voltage_v * measured.current_a * COUNTS_PER_W)
        if register == 0x10A:
            return round(measured.power_factor * 0x7FFF)
        if register == 0x10E:
            return 4474  # 223750 / (4474 + 1) = 50 Hz
        if register == 0x31E:
            return self._energy(measured.energy_wh)
        return self._registers.get(register, 0)

    def _energy(self, energy_wh: float) -> int:
        counts = int((energy_wh - self._energy_from_wh) * COUNTS_PER_WH)
        if self._registers[0x004] & _RSTREAD:
            self._energy_from_wh += counts / COUNTS_PER_WH
        return _signed24(counts & 0xFFFFFF)


def _signed24(value: int) -> int:
    value &= 0xFFFFFF
    return value - 0x1000000 if value & 0x800000 else value
