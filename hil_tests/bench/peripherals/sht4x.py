"""SHT4x temperature and humidity sensor, I2C 0x44.

Ref: Sensirion SHT4x datasheet v6, sections 4.4 to 4.9: one-byte commands; an address NACK while measuring or with nothing
to give; six bytes T CRC RH CRC; T = -45 + 175 raw/65535, RH = -6 + 125 raw/65535; CRC-8 polynomial 31, start FF.
Faults: unplugged, bad_crc, stuck (the first reading for ever). Accuracy limits are not modelled, noise is.
"""

from collections.abc import Callable

from .bus import ENODEV, BusError, I2CModel
from .street import uniform

ADDRESS = 0x44
# Command: duration in s (datasheet maximum), heater rise in K.
_MEASURE = {
    0xFD: (0.0083, 0.0),
    0xF6: (0.0045, 0.0),
    0xE0: (0.0016, 0.0),
    0x39: (1.1, 60.0),
    0x32: (0.11, 20.0),
    0x2F: (1.1, 35.0),
    0x24: (0.11, 12.0),
    0x1E: (1.1, 7.0),
    0x15: (0.11, 2.5),
}
_SERIAL = 0x89
_RESET = 0x94
_RESET_S = 0.001


def crc8(data: bytes) -> int:
    """Sensirion's CRC-8 of a word; BEEF gives 92."""
    crc = 0xFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = ((crc << 1) ^ 0x31 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def words(*values: int) -> bytes:
    """Each 16-bit word big-endian with its CRC."""
    return b"".join(value.to_bytes(2, "big") + bytes((crc8(value.to_bytes(2, "big")),)) for value in values)


class SHT4x(I2CModel):
    """`temperature_c` and `humidity_percent` give the truth at a bench time."""

    def __init__(self, seed: int, temperature_c: Callable[[float], float], humidity_percent: Callable[[float], float]) -> None:
        super().__init__()
        self._seed = seed
        self._temperature_c = temperature_c
        self._humidity_percent = humidity_percent
        self._answer: bytes | None = None
        self._stuck: bytes | None = None
        self.power_on(0.0)

    def power_on(self, now_s: float) -> None:
        self._busy_until_s = 0.0
        self._answer = None

    def answer(self, written: bytes | None, read_bytes: int | None, now_s: float) -> bytes:
        if now_s < self._busy_until_s:
            raise BusError(ENODEV)
        if written is not None:
            self._command(written, now_s)
        if read_bytes is None:
            return b""
        if self._answer is None or now_s < self._busy_until_s:
            raise BusError(ENODEV)
        data, self._answer = self._answer, None
        if "bad_crc" in self.faults:
            data = data[:2] + bytes((data[2] ^ 0x01,)) + data[3:]
        return data[:read_bytes] + b"\xff" * (read_bytes - len(data))

    def _command(self, written: bytes, now_s: float) -> None:
        self._answer = None
        code = written[0] if len(written) == 1 else None
        if code == _SERIAL:
            serial = self._seed & 0xFFFFFFFF
            self._answer = words(serial >> 16, serial & 0xFFFF)
        elif code == _RESET:
            self._busy_until_s = now_s + _RESET_S
        elif code in _MEASURE:
            duration_s, heat_c = _MEASURE[code]
            self._busy_until_s = now_s + duration_s
            self._answer = self._measure(now_s, heat_c)
        elif written:
            raise BusError(ENODEV)  # the chip does not acknowledge a command it does not know

    def _measure(self, now_s: float, heat_c: float) -> bytes:
        if "stuck" not in self.faults:
            self._stuck = None
        elif self._stuck is not None:
            return self._stuck
        index = int(now_s * 1000)
        temperature_c = self._temperature_c(now_s) + heat_c + 0.04 * (uniform(self._seed, 30, index) - 0.5)
        humidity = self._humidity_percent(now_s) + 0.1 * (uniform(self._seed, 31, index) - 0.5)
        raw_temperature = min(65535, max(0, round((temperature_c + 45) * 65535 / 175)))
        raw_humidity = min(65535, max(0, round((humidity + 6) * 65535 / 125)))
        data = words(raw_temperature, raw_humidity)
        if "stuck" in self.faults:
            self._stuck = data
        return data
