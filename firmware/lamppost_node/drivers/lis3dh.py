"""LIS3DH three-axis accelerometer (STMicroelectronics), I2C 18h (19h with SA0 high), used as a tilt sensor.

Ref: "LIS3DH" datasheet, DocID17530 Rev 2 (December 2016): section 3.2.1 (modes), table 4 (sensitivity), 6.1.1 (I2C,
auto-increment), section 8 (WHO_AM_I 0Fh, CTRL_REG1 20h, CTRL_REG4 23h, OUT_X_L 28h .. OUT_Z_H 2Dh).
Low-power mode gives 8 bits, left-justified in each 16-bit output: the high byte is the reading, 16 mg a digit at +-2 g.
"""

from ..ticks import sleep_ms
from .errors import BadChecksum, NoAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from machine import I2C

ADDRESS = 0x18

_WHO_AM_I = 0x0F
_IDENTITY = 0x33
_CTRL_REG1 = 0x20
_CTRL_REG4 = 0x23
_OUT_X_L = 0x28
_AUTO_INCREMENT = 0x80
_MG_PER_DIGIT = 16
_LOW_POWER_AXES = 0x0F  # LPen, Zen, Yen, Xen
_FULL_SCALE_2G = 0x80  # BDU: both bytes of an axis from one measurement; FS 00, HR 0

RATE_1_HZ = 0x10
RATE_10_HZ = 0x20


class LIS3DH:
    """One sensor on a shared bus, measuring by itself at `rate` (RATE_1_HZ or RATE_10_HZ, 2 and 3 uA)."""

    def __init__(self, i2c: "I2C", address: int = ADDRESS, rate: int = RATE_10_HZ):
        self._i2c = i2c
        self._address = address
        self._control = rate | _LOW_POWER_AXES
        self._first_ms = 1100 if rate == RATE_1_HZ else 110
        self._one = bytearray(1)
        self._out = bytearray(6)

    async def read(self) -> tuple[int, int, int]:
        """(x_mg, y_mg, z_mg), each -2048..2032, at most one period old.

        A sensor found not configured (first call, or it lost power in between) is configured first and waited for: one period more.
        Raises NoAnswer (not acknowledged), BadChecksum (another chip answers at the address).
        """
        if self._register(_CTRL_REG1) != self._control:
            self._configure()
            await sleep_ms(self._first_ms)
        out = self._out
        self._read_into(_OUT_X_L | _AUTO_INCREMENT, out)
        return _signed(out[1]) * _MG_PER_DIGIT, _signed(out[3]) * _MG_PER_DIGIT, _signed(out[5]) * _MG_PER_DIGIT

    def _configure(self) -> None:
        if self._register(_WHO_AM_I) != _IDENTITY:
            raise BadChecksum("not_a_lis3dh")
        self._write(_CTRL_REG4, _FULL_SCALE_2G)
        self._write(_CTRL_REG1, self._control)

    def _register(self, register: int) -> int:
        self._read_into(register, self._one)
        return self._one[0]

    def _read_into(self, register: int, buffer: bytearray) -> None:
        try:
            self._i2c.readfrom_mem_into(self._address, register, buffer)
        except OSError:
            raise NoAnswer("not_acknowledged")

    def _write(self, register: int, value: int) -> None:
        self._one[0] = value
        try:
            self._i2c.writeto_mem(self._address, register, self._one)
        except OSError:
            raise NoAnswer("not_acknowledged")


def _signed(byte: int) -> int:
    return byte - 256 if byte & 0x80 else byte
