"""SHT40 / SHT41 / SHT45 temperature and humidity sensor (Sensirion), I2C 44h (45h, 46h by part number).

Ref: Sensirion "Datasheet SHT4x", version 7.1: section 3.1 (timing), 4.4 (checksum), 4.5 (commands), 4.6 (conversion), 4.7 (serial).
One command byte; after the command's time six bytes: word, CRC-8, word, CRC-8. Before that time the sensor does not acknowledge.
"""

from ..ticks import sleep_ms
from .crc8 import crc8
from .errors import BadChecksum, NoAnswer, SensorFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from machine import I2C

ADDRESS = 0x44

_MEASURE_HIGH = b"\xfd"
_READ_SERIAL = b"\x89"
_SOFT_RESET = b"\x94"
_MEASURE_MS = 10
"""8.3 ms at most by the datasheet, made 9; one more since a millisecond tick may be nearly over when the wait begins."""
_SHORT_MS = 2
STUCK_READS = 16
"""So many equal answers in a row, to the last of 32 bits, are a sensor that hangs: its noise (repeatability 0.04 C, table 1) is
fifteen steps wide."""


class SHT4x:
    """One sensor on a shared bus."""

    def __init__(self, i2c: "I2C", address: int = ADDRESS):
        self._i2c = i2c
        self._address = address
        self._answer = bytearray(6)
        self._last = bytearray(6)
        self._repeats = 0

    async def read(self) -> tuple[int, int]:
        """(temperature_centi_c -4500..13000, humidity_centi_percent 0..10000), high precision.

        Raises NoAnswer (address or data not acknowledged), BadChecksum (CRC of either word), SensorFault (stuck: the STUCK_READS-th
        equal answer and those after it).
        """
        await self._ask(_MEASURE_HIGH, _MEASURE_MS)
        answer = self._answer
        self._repeats = self._repeats + 1 if answer == self._last else 1
        self._last[:] = answer
        if self._repeats >= STUCK_READS:
            raise SensorFault("stuck")
        return temperature_centi_c(answer[0] * 256 + answer[1]), humidity_centi_percent(answer[3] * 256 + answer[4])

    async def read_serial(self) -> int:
        """The sensor's serial number, 0..2^32-1; raises as `read`. Ref: section 4.7."""
        await self._ask(_READ_SERIAL, _SHORT_MS)
        answer = self._answer
        return answer[0] << 24 | answer[1] << 16 | answer[3] << 8 | answer[4]

    async def reset(self) -> None:
        """Soft reset, ready 1 ms later (section 3.1); raises NoAnswer."""
        self._write(_SOFT_RESET)
        await sleep_ms(_SHORT_MS)

    async def _ask(self, command: bytes, wait_ms: int) -> None:
        """Leave the checked six bytes of the answer in `_answer`."""
        self._write(command)
        await sleep_ms(wait_ms)
        answer = self._answer
        try:
            self._i2c.readfrom_into(self._address, answer)
        except OSError:
            raise NoAnswer("not_acknowledged")
        if crc8(answer, 0, 2) != answer[2] or crc8(answer, 3, 5) != answer[5]:
            raise BadChecksum("bad_crc")

    def _write(self, command: bytes) -> None:
        try:
            self._i2c.writeto(self._address, command)
        except OSError:
            raise NoAnswer("not_acknowledged")


def temperature_centi_c(raw: int) -> int:
    """0.01 C, rounded to nearest: -45 + 175 * raw / 65535; divided by 5, so that nothing leaves 31 bits. Ref: section 4.6."""
    return (7000 * raw + 13107) // 26214 - 4500


def humidity_centi_percent(raw: int) -> int:
    """0.01 % relative humidity, rounded and clamped to 0..10000: -6 + 125 * raw / 65535. Ref: section 4.6."""
    value = (5000 * raw + 13107) // 26214 - 600
    return 0 if value < 0 else min(value, 10_000)
