"""ADE7953 single-phase energy meter (Analog Devices), current channel A, on I2C.

Ref: ADE7953 data sheet Rev. C: "I2C Interface" (figures 70, 71: 16-bit register address, then data, most significant byte first),
"ADE7953 Power-Up Procedure, Required Register Setting" (the unlock), tables 13 (8-bit), 14 (16-bit) and 15 (24/32-bit registers;
the upper 8 of 32 bits are sign extension), table 17 (LCYCMODE: energy registers reset when read), "Active Energy Calculation"
(206.9 kHz at full scale; 24-bit register), "Power Factor" (PFA: 0x7FFF is 1), "Period Measurement" (223.75 kHz ticks).

What a bit is worth depends on the board's divider and shunt; DEFAULT_CALIBRATION is that of a common front end (347 V and 90 A full
scale). A production board has its own, in the node's configuration.
"""

from collections import namedtuple

from lamppost_protocol.compat import const

from .errors import BadChecksum, NoAnswer, SensorFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from machine import I2C

ADDRESS = 0x38

# The register's size in bytes follows from its address: 0x0xx 1, 0x1xx 2, 0x2xx 3, 0x3xx 4.
_VRMS = const(b"\x03\x1c")
_IRMSA = const(b"\x03\x1a")
_AWATT = const(b"\x03\x12")
_AENERGYA = const(b"\x03\x1e")
_PFA = const(b"\x01\x0a")
_PERIOD = const(b"\x01\x0e")
_REQUIRED = const(b"\x01\x20")
_REQUIRED_VALUE = const(0x0030)
_UNLOCK = const(b"\x00\xfe\xad")
_SET_REQUIRED = const(b"\x01\x20\x00\x30")

_PERIOD_TICK_MHZ = const(223750000)  # 223.75 kHz in mHz
_UNITY_POWER_FACTOR = const(0x7FFF)
_MAX_24_BIT = const(0xFFFFFF)
_MIN_VOLTAGE_DV = const(500)
_MAX_VOLTAGE_DV = const(3300)
_MAX_NEGATIVE_DW = const(-10)

#: Least significant bits per volt, per ampere, per watt and per watt-hour. A reversed current transformer has power and energy
#: negative.
Calibration = namedtuple("Calibration", ("per_volt", "per_ampere", "per_watt", "per_watt_hour"))
DEFAULT_CALIBRATION = Calibration(26000, 100000, 154, 23716)

#: voltage 0.1 V, current mA, active power 0.1 W, |power factor| 0..1000, energy in Wh since the driver was made.
Electrical = namedtuple("Electrical", ("voltage_dv", "current_ma", "active_power_dw", "power_factor_permille", "energy_wh"))


class ADE7953:
    """One meter on a shared bus. The chip is set up at the first reading and again whenever it is found restarted."""

    def __init__(self, i2c: "I2C", address: int = ADDRESS, calibration: Calibration = DEFAULT_CALIBRATION):
        self._i2c = i2c
        self._address = address
        self._calibration = calibration
        self._word = bytearray(2)
        self._long = bytearray(4)
        self._energy_rest = 0
        self._is_known = False
        self.energy_wh = 0
        self.restarts = 0
        """How often the chip was found to have lost its setting, and so up to one reading's worth of energy."""

    def read(self) -> Electrical:
        """Return one Electrical. About 4 ms on a 100 kHz bus.

        Raises NoAnswer (not acknowledged), BadChecksum (another chip, or a stuck bus), SensorFault (implausible, no_voltage,
        reversed).
        """
        self._set_up()
        self._add_energy(self._signed_24(_AENERGYA))  # at once: reading it reset it, and what follows may fail
        voltage_dv = self._unsigned_24(_VRMS) * 10 // self._calibration.per_volt
        current_ma = self._unsigned_24(_IRMSA) * 1000 // self._calibration.per_ampere
        power_dw = _divide(self._signed_24(_AWATT) * 10, self._calibration.per_watt)
        power_factor = self._signed_16(_PFA)
        if voltage_dv < _MIN_VOLTAGE_DV:
            raise SensorFault("no_voltage")
        if power_dw < _MAX_NEGATIVE_DW:
            raise SensorFault("reversed")
        apparent_dw = voltage_dv * current_ma // 1000
        if voltage_dv > _MAX_VOLTAGE_DV or power_dw > apparent_dw + apparent_dw // 10 + 20:
            raise SensorFault("implausible")
        permille = min(1000, _divide(abs(power_factor) * 1000, _UNITY_POWER_FACTOR))
        return Electrical(voltage_dv, current_ma, max(0, power_dw), permille, self.energy_wh)

    def read_frequency_mhz(self) -> int:
        """Return the line's frequency in millihertz (0.001 Hz). Raises as `read`."""
        self._set_up()
        self._read(_PERIOD, self._word)
        return _PERIOD_TICK_MHZ // ((self._word[0] << 8 | self._word[1]) + 1)

    def _set_up(self) -> None:
        """Make the required register setting unless it is there, and read it back: that also proves that a meter answers."""
        if self._required() == _REQUIRED_VALUE:
            self._is_known = True
            return
        if self._is_known:
            self.restarts += 1
            self._is_known = False
        self._write(_UNLOCK)
        self._write(_SET_REQUIRED)
        if self._required() != _REQUIRED_VALUE:
            raise BadChecksum("not_an_ade7953")
        self._is_known = True

    def _required(self) -> int:
        self._read(_REQUIRED, self._word)
        return self._word[0] << 8 | self._word[1]

    def _add_energy(self, bits: int) -> None:
        """Count what the register gathered since the last reading, which reset it; whole watt-hours, the rest is kept."""
        per_watt_hour = self._calibration.per_watt_hour
        if per_watt_hour < 0:
            bits = -bits
            per_watt_hour = -per_watt_hour
        if bits > 0:
            self._energy_rest += bits
            self.energy_wh += self._energy_rest // per_watt_hour
            self._energy_rest %= per_watt_hour

    def _unsigned_24(self, register: bytes) -> int:
        value = self._unsigned_32(register)
        if value > _MAX_24_BIT:
            raise BadChecksum("not_24_bit")
        return value

    def _signed_24(self, register: bytes) -> int:
        value = self._unsigned_32(register)
        if value >= 0xFF800000:
            return value - 0x100000000
        if value > 0x7FFFFF:
            raise BadChecksum("not_24_bit")
        return value

    def _unsigned_32(self, register: bytes) -> int:
        self._read(register, self._long)
        return int.from_bytes(self._long, "big")

    def _signed_16(self, register: bytes) -> int:
        self._read(register, self._word)
        value = self._word[0] << 8 | self._word[1]
        return value - 0x10000 if value & 0x8000 else value

    def _read(self, register: bytes, buffer: bytearray) -> None:
        try:
            self._i2c.writeto(self._address, register, False)
            self._i2c.readfrom_into(self._address, buffer)
        except OSError:
            raise NoAnswer("not_acknowledged") from None

    def _write(self, data: bytes) -> None:
        try:
            self._i2c.writeto(self._address, data)
        except OSError:
            raise NoAnswer("not_acknowledged") from None


def _divide(value: int, divisor: int) -> int:
    """value / divisor rounded to nearest."""
    if divisor < 0:
        value = -value
        divisor = -divisor
    return (2 * value + divisor) // (2 * divisor)
