"""LIS3DH accelerometer, I2C 0x18 (SA0 low).

Ref: ST LIS3DH datasheet DocID17530 rev 2, sections 6 and 8: WHO_AM_I 0F = 33; sub-address bit 7 = auto-increment;
CTRL_REG1 20 (data rate, LPen, axes; 07 after power-on = power-down), CTRL_REG4 23 (BDU, FS, HR), STATUS 27, OUT 28..2D
little-endian, left-justified. Sensitivity by mode: 12 bit 1 mg, 10 bit 4 mg, 8 bit 16 mg a digit at 2 g.
Faults: unplugged, stuck (the outputs keep what they had). No FIFO, no interrupts, no self-test.
"""

import math
from collections.abc import Callable

from .bus import I2CModel
from .street import uniform

ADDRESS = 0x18
_WHO_AM_I = 0x0F
_CTRL_REG1 = 0x20
_CTRL_REG4 = 0x23
_STATUS = 0x27
_OUT_X_L = 0x28
_WRITABLE = frozenset((*range(0x1E, 0x27), 0x2E, 0x30, 0x32, 0x33, 0x34, 0x36, 0x37, 0x38, 0x3A, 0x3B, 0x3C, 0x3D))
# Gravity on 12, 10 and 8 bits at 2, 4, 8, 16 g: mg a digit.
_MG_PER_DIGIT = {12: (1, 2, 4, 12), 10: (4, 8, 16, 48), 8: (16, 32, 64, 192)}


class LIS3DH(I2CModel):
    """Upright is z = +1 g; `tilt_deg` gives the lean about the x axis at a bench time."""

    def __init__(self, seed: int, tilt_deg: Callable[[float], float]) -> None:
        super().__init__()
        self._seed = seed
        self._tilt_deg = tilt_deg
        self.power_on(0.0)

    def power_on(self, now_s: float) -> None:
        self._pointer = 0
        self._registers = bytearray(128)
        self._registers[_WHO_AM_I] = 0x33
        self._registers[_CTRL_REG1] = 0x07

    def answer(self, written: bytes | None, read_bytes: int | None, now_s: float) -> bytes:
        if written:
            self._pointer = written[0]
            for octet in written[1:]:
                if self._pointer & 0x7F in _WRITABLE:
                    self._registers[self._pointer & 0x7F] = octet
                self._step()
        if read_bytes is None:
            return b""
        self._sample(now_s)
        data = bytearray()
        for _ in range(read_bytes):
            data.append(self._registers[self._pointer & 0x7F])
            self._step()
        return bytes(data)

    def _step(self) -> None:
        if self._pointer & 0x80:
            self._pointer = 0x80 | (self._pointer + 1) & 0x7F

    def _sample(self, now_s: float) -> None:
        control = self._registers[_CTRL_REG1]
        if not control >> 4 or "stuck" in self.faults:
            return  # powered down: outputs keep what they had
        high_resolution = self._registers[_CTRL_REG4] & 0x08
        bits = 8 if control & 0x08 else 12 if high_resolution else 10
        mg_per_digit = _MG_PER_DIGIT[bits][self._registers[_CTRL_REG4] >> 4 & 3]
        tilt = math.radians(self._tilt_deg(now_s))
        index = int(now_s * 100)
        for axis, true_mg in enumerate((0.0, 1000 * math.sin(tilt), 1000 * math.cos(tilt))):
            noisy_mg = true_mg + 12 * (uniform(self._seed, 40 + axis, index) - 0.5)
            limit = 1 << (bits - 1)
            digits = min(limit - 1, max(-limit, round(noisy_mg / mg_per_digit)))
            enabled = control >> axis & 1
            raw = (digits << (16 - bits) & 0xFFFF) if enabled else 0
            self._registers[_OUT_X_L + 2 * axis] = raw & 0xFF
            self._registers[_OUT_X_L + 2 * axis + 1] = raw >> 8
        self._registers[_STATUS] = 0x0F
