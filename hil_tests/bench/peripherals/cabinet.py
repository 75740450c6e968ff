"""One node's wiring: which model hangs on which pin and bus, its faults, and the request lines that reach them.

Deterministic: time comes with every call, nothing reads a clock. server.py is one door to it, a test calls it directly.

Request lines (text, one line each) and their answers `ok[ data]` or `err <errno>`:
  pin N in PULL | pin N out [0|1] | pin N set 0|1 | pin N get      pwm N FREQ_HZ DUTY_U16 | free N      adc N ATTENUATION
  uart N init BAUD RXBUF | any | read MAX | write HEX | deinit      i2c BUS ADDRESS [wHEX] [rCOUNT] | scan BUS      spi N HEX
  wdt TIMEOUT_MS | feed      rtc [UNIX_S]      mem [START HEX]      reset      nop
Numbers are decimal, but an I2C address is hexadecimal.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from .a02yyuw import A02YYUW
from .ade7953 import ADDRESS as ADE7953_ADDRESS
from .ade7953 import ADE7953
from .bus import EINVAL, ENODEV, ETIMEDOUT, BusError, I2CModel, UartModel
from .lamp import Lamp
from .lis3dh import ADDRESS as LIS3DH_ADDRESS
from .lis3dh import LIS3DH
from .pms5003 import PMS5003
from .sht4x import ADDRESS as SHT4X_ADDRESS
from .sht4x import SHT4x
from .street import Street

PWRON_RESET, HARD_RESET, WDT_RESET = 1, 2, 3

DIMMER_PIN = 25
RELAY_PIN = 26
PHOTOCELL_PIN = 34
SENSOR_UART = 2
SENSOR_I2C = 0

# From the sensor under the lid to the floor; the bin counts as full at FULL_MM below the sensor.
BIN_DEPTH_MM = 1000
BIN_FULL_MM = 150
_LID_OPEN_MM = 2500
_FIRE_C = 70.0
_TILT_DEG = 60.0
_NOISY_MM = 400.0
_METER_OFFSET_W = 15.0
_RTC_2000_UNIX_S = 946684800
_RTC_MEMORY_BYTES = 2048


class Fault(NamedTuple):
    """Where a fault of the cabinet goes: a model's own fault name, and its value when none is given."""

    part: str
    name: str
    default: float = 1.0


_LAMP_FAULTS = {
    "lamp_failed": Fault("lamp", "lamp_failed"),
    "relay_welded": Fault("lamp", "relay_welded"),
    "meter_offset": Fault("meter", "meter_offset", _METER_OFFSET_W),
    "meter_unplugged": Fault("meter", "unplugged"),
    "meter_stuck": Fault("meter", "stuck"),
}
_TEMPERATURE_FAULTS = {
    "temperature_bad_crc": Fault("temperature", "bad_crc"),
    "temperature_unplugged": Fault("temperature", "unplugged"),
    "temperature_stuck": Fault("temperature", "stuck"),
}
_UART_FAULTS = {name: Fault("uart", name) for name in ("bad_checksum", "stuck", "unplugged")}

# The whole table of wirings: parts and faults.
WIRINGS: dict[str, tuple[tuple[str, ...], dict[str, Fault]]] = {
    "lamp": (("lamp", "meter"), _LAMP_FAULTS),
    "bin": (
        ("distance", "temperature", "accelerometer"),
        {
            **_TEMPERATURE_FAULTS,
            **_UART_FAULTS,
            "no_echo": Fault("uart", "no_echo", 0.0),
            "noisy": Fault("uart", "noisy", _NOISY_MM),
            "fire": Fault("bin", "fire", _FIRE_C),
            "tilt": Fault("bin", "tilt", _TILT_DEG),
            "accelerometer_unplugged": Fault("accelerometer", "unplugged"),
            "accelerometer_stuck": Fault("accelerometer", "stuck"),
        },
    ),
    "air_lamp": (
        ("particles", "temperature", "lamp", "meter"),
        {**_LAMP_FAULTS, **_TEMPERATURE_FAULTS, **_UART_FAULTS, "fan": Fault("uart", "fan")},
    ),
}
_COMMON_FAULTS = {"bus_stuck": Fault("cabinet", "bus_stuck")}
SETTINGS = ("waste_mm", "tilt_deg", "lid")


class Cabinet:
    """All hardware of one node. `name` only seeds it; `wiring` is a key of WIRINGS (KeyError otherwise)."""

    def __init__(self, name: str, wiring: str, street: Street, now_s: float = 0.0) -> None:
        parts, faults = WIRINGS[wiring]
        self.name = name
        self.wiring = wiring
        self.street = street
        self.fault_table = {**faults, **_COMMON_FAULTS}
        self.faults: dict[str, float] = {}
        self.settings: dict[str, float] = {}
        digest = hashlib.sha256(f"{street.seed}:{name}".encode()).digest()
        self.seed = int.from_bytes(digest[:8], "big")
        self.unique_id = b"\x02" + digest[8:13]  # locally administered, as a made-up MAC must be

        self._bin_faults: dict[str, float] = {}
        self._own_faults: dict[str, float] = {}
        self.lamp = Lamp(lambda at_s: street.mains_voltage_v(street.unix_s(at_s)), now_s) if "lamp" in parts else None
        self.i2c: dict[int, I2CModel] = {}
        self.uart: UartModel | None = None
        if self.lamp is not None:
            self.i2c[ADE7953_ADDRESS] = ADE7953(self.seed, self.lamp.supply)
        if "temperature" in parts:
            self.i2c[SHT4X_ADDRESS] = SHT4x(self.seed, self.temperature_c, self.humidity_percent)
        if "accelerometer" in parts:
            self.i2c[LIS3DH_ADDRESS] = LIS3DH(self.seed, self.tilt_deg)
        if "distance" in parts:
            self.uart = A02YYUW(self.seed, self.distance_mm, self.temperature_c)
        if "particles" in parts:
            self.uart = PMS5003(self.seed, lambda at_s: street.pm25_ug_m3(street.unix_s(at_s)), self.humidity_percent)
        self._fault_homes: dict[str, dict[str, float]] = {"bin": self._bin_faults, "cabinet": self._own_faults}
        if self.lamp is not None:
            self._fault_homes["lamp"] = self.lamp.faults
        if self.uart is not None:
            self._fault_homes["uart"] = self.uart.faults
        for part, address in (
            ("meter", ADE7953_ADDRESS),
            ("temperature", SHT4X_ADDRESS),
            ("accelerometer", LIS3DH_ADDRESS),
        ):
            if address in self.i2c:
                self._fault_homes[part] = self.i2c[address].faults

        self.is_running = False
        self.starts = 0
        self.watchdog_kills = 0
        self.resets = 0
        self._next_cause = PWRON_RESET
        self._latch: dict[int, int] = {}
        self._watchdog_s = 0.0
        self.watchdog_due_s: float | None = None
        self._rtc_memory = b""
        self._rtc_offset_s = _RTC_2000_UNIX_S - now_s
        self._verbs: dict[str, Callable[[list[str], float], str]] = {
            "pin": self._pin,
            "pwm": self._pwm,
            "free": self._free,
            "adc": self._adc,
            "uart": self._uart,
            "i2c": self._i2c,
            "scan": self._scan,
            "spi": self._spi,
            "wdt": self._wdt,
            "feed": self._feed,
            "rtc": self._rtc,
            "mem": self._mem,
            "reset": self._reset,
            "nop": lambda words, now_s: "",
        }

    # -- power and life ---------------------------------------------------------------------------------------------

    def start(self, now_s: float) -> int:
        """The chip comes out of reset with all pins released: the cause the program will read."""
        self.release(now_s)
        cause, self._next_cause = self._next_cause, HARD_RESET
        if cause == PWRON_RESET:
            for chip in self.i2c.values():
                chip.power_on(now_s)
            if self.uart is not None:
                self.uart.power_on(now_s)
        self.is_running = True
        self.starts += 1
        return cause

    def release(self, now_s: float) -> None:
        """The program is dead: no pin is driven, so the lamp burns; the watchdog stops with it."""
        self.is_running = False
        self.watchdog_due_s = None
        self._latch.clear()
        if self.lamp is not None:
            self.lamp.set_pwm(now_s, None, "released")
            self.lamp.set_relay(now_s, False, "released")
        if self.uart is not None:
            self.uart.close()

    def watchdog_bites(self) -> None:
        """The caller kills the program now; its next start says WDT_RESET."""
        self.watchdog_kills += 1
        self.watchdog_due_s = None
        self._next_cause = WDT_RESET

    def cut_power(self, now_s: float) -> None:
        """Everything volatile is gone; the caller kills the program."""
        self.release(now_s)
        self._next_cause = PWRON_RESET
        self._rtc_memory = b""
        self._rtc_offset_s = _RTC_2000_UNIX_S - now_s

    # -- faults and settings ----------------------------------------------------------------------------------------

    def set_fault(self, name: str, value: float | None, now_s: float) -> None:
        """Raises KeyError for a fault this wiring does not have."""
        fault = self.fault_table[name]
        self._advance(now_s)
        given = fault.default if value is None else float(value)
        self.faults[name] = self._fault_homes[fault.part][fault.name] = given
        if self.lamp is not None:
            self.lamp.note(now_s, "fault")

    def clear_fault(self, name: str | None, now_s: float) -> None:
        """One fault, or all with None. Raises KeyError for an unknown one."""
        self._advance(now_s)
        for each in list(self.faults) if name is None else [name]:
            fault = self.fault_table[each]
            self.faults.pop(each, None)
            self._fault_homes[fault.part].pop(fault.name, None)
        if self.lamp is not None:
            self.lamp.note(now_s, "fault")

    def _advance(self, now_s: float) -> None:
        """What happened before a change must not be made by it."""
        if self.lamp is not None:
            self.lamp.advance(now_s)
        if self.uart is not None:
            self.uart.advance(now_s)

    def set(self, what: str, value: float | None) -> None:
        """Fix a true value (SETTINGS), or give it back to the street with None. Raises KeyError for an unknown one."""
        if what not in SETTINGS:
            raise KeyError(what)
        if value is None:
            self.settings.pop(what, None)
        else:
            self.settings[what] = float(value)

    # -- the truth --------------------------------------------------------------------------------------------------

    def temperature_c(self, now_s: float) -> float:
        """Air at the sensor: a bin's inside is a little warmer than the street, and hot when it burns."""
        inside_c = 2.0 if self.wiring == "bin" else 0.0
        return self.street.temperature_c(self.street.unix_s(now_s)) + inside_c + self._bin_faults.get("fire", 0.0)

    def humidity_percent(self, now_s: float) -> float:
        return self.street.humidity_percent(self.street.unix_s(now_s))

    def tilt_deg(self, now_s: float) -> float:
        return self._bin_faults.get("tilt", self.settings.get("tilt_deg", 1.5))

    def waste_mm(self, now_s: float) -> float:
        fixed = self.settings.get("waste_mm")
        if fixed is not None:
            return fixed
        return self.street.waste_mm(self.street.unix_s(now_s), self.seed % 1024, BIN_DEPTH_MM - 60)

    def distance_mm(self, now_s: float) -> float:
        """From the sensor to the waste, or to whatever is above an open lid."""
        return _LID_OPEN_MM if self.settings.get("lid") else BIN_DEPTH_MM - self.waste_mm(now_s)

    def state(self, now_s: float) -> dict[str, object]:
        """True values, not readings."""
        state: dict[str, object] = {
            "wiring": self.wiring,
            "running": self.is_running,
            "starts": self.starts,
            "watchdog_kills": self.watchdog_kills,
            "resets": self.resets,
            "faults": dict(self.faults),
        }
        if self.lamp is not None:
            state["lamp"] = self.lamp.state(now_s)
        if self.wiring == "bin":
            fill = self.waste_mm(now_s) / (BIN_DEPTH_MM - BIN_FULL_MM)
            state["bin"] = {
                "distance_mm": self.distance_mm(now_s),
                "fill_permille": round(1000 * min(1.0, fill)),
                "tilt_deg": self.tilt_deg(now_s),
            }
        if isinstance(self.uart, PMS5003):
            pm25 = self.street.pm25_ug_m3(self.street.unix_s(now_s))
            state["air"] = {"pm25_ug_m3": pm25, "pm25_cf1_ug_m3": self.uart.cf1_ug_m3(now_s)}
        if SHT4X_ADDRESS in self.i2c:
            state["temperature_c"] = self.temperature_c(now_s)
            state["humidity_percent"] = self.humidity_percent(now_s)
        return state

    # -- request lines ----------------------------------------------------------------------------------------------

    def handle(self, line: bytes, now_s: float) -> bytes:
        """One request line without its end to one answer line without its end. Never raises for any bytes."""
        words = line.decode("latin-1").split()
        try:
            answer = self._verbs[words[0]](words[1:], now_s)
        except BusError as fault:
            return b"err %d" % fault.errno
        except (KeyError, ValueError, IndexError, OverflowError):
            return b"err %d" % EINVAL
        return b"ok " + answer.encode() if answer else b"ok"

    def _pin(self, words: list[str], now_s: float) -> str:
        pin, action = int(words[0]), words[1]
        if action == "get":
            return str(self._latch.get(pin, 0))
        if action == "in":
            self._latch.pop(pin, None)
            self._drive(pin, None, now_s)
        elif action in ("out", "set"):
            level = self._latch.get(pin, 0) if len(words) < 3 else int(words[2])
            self._latch[pin] = 1 if level else 0
            self._drive(pin, self._latch[pin], now_s)
        else:
            raise ValueError(action)
        return ""

    def _drive(self, pin: int, level: int | None, now_s: float) -> None:
        if self.lamp is None:
            return
        if pin == RELAY_PIN:
            self.lamp.set_relay(now_s, bool(level))
        elif pin == DIMMER_PIN:
            self.lamp.set_pwm(now_s, None if level is None else 65535 * level, "pin")

    def _pwm(self, words: list[str], now_s: float) -> str:
        pin, freq_hz, duty = (int(word) for word in words)
        if not (1 <= freq_hz <= 40_000_000 and 0 <= duty <= 65535):
            raise ValueError(words)
        if self.lamp is not None and pin == DIMMER_PIN:
            self.lamp.set_pwm(now_s, duty)
        return ""

    def _free(self, words: list[str], now_s: float) -> str:
        if self.lamp is not None and int(words[0]) == DIMMER_PIN:
            self.lamp.set_pwm(now_s, None, "released")
        return ""

    def _adc(self, words: list[str], now_s: float) -> str:
        """Only the photocell is wired: 0 V in the dark, 0.6 V a decade from 0.1 lx on. Full scale by attenuation."""
        full_uv = (950000, 1250000, 1750000, 2450000)[int(words[1])]
        voltage_uv = 0
        if int(words[0]) == PHOTOCELL_PIN:
            voltage_uv = photocell_uv(self.street.illuminance_lx(self.street.unix_s(now_s)))
        voltage_uv = min(voltage_uv, full_uv)
        return f"{voltage_uv * 65535 // full_uv} {voltage_uv}"

    def _uart(self, words: list[str], now_s: float) -> str:
        number, action = int(words[0]), words[1]
        model = self.uart if number == SENSOR_UART else None
        if action == "init":
            baud, buffer_bytes = int(words[2]), int(words[3])
            if model is not None:
                model.open(baud, buffer_bytes, now_s)
            return ""
        if action == "any":
            return str(model.waiting(now_s)) if model is not None else "0"
        if action == "read":
            return model.read(int(words[2]), now_s).hex() if model is not None else ""
        if action == "write":
            data = bytes.fromhex(words[2]) if len(words) > 2 else b""
            if model is not None:
                model.write(data, now_s)
            return ""
        if action != "deinit":
            raise ValueError(action)
        if model is not None:
            model.close()
        return ""

    def _i2c(self, words: list[str], now_s: float) -> str:
        if "bus_stuck" in self._own_faults:
            raise BusError(ETIMEDOUT)
        model = self.i2c.get(int(words[1], 16)) if int(words[0]) == SENSOR_I2C else None
        written, read_bytes = None, None
        for word in words[2:]:
            if word[0] == "w":
                written = bytes.fromhex(word[1:])
            else:
                read_bytes = int(word[1:])
        if model is None:
            raise BusError(ENODEV)
        return model.transfer(written, read_bytes, now_s).hex()

    def _scan(self, words: list[str], now_s: float) -> str:
        if "bus_stuck" in self._own_faults:
            raise BusError(ETIMEDOUT)
        present = self.i2c if int(words[0]) == SENSOR_I2C else {}
        return " ".join(f"{address:02x}" for address in sorted(present) if "unplugged" not in present[address].faults)

    def _spi(self, words: list[str], now_s: float) -> str:
        return "ff" * (len(words[1]) // 2) if len(words) > 1 else ""

    def _wdt(self, words: list[str], now_s: float) -> str:
        self._watchdog_s = int(words[0]) / 1000
        self.watchdog_due_s = now_s + self._watchdog_s
        return ""

    def _feed(self, words: list[str], now_s: float) -> str:
        if self.watchdog_due_s is not None:
            self.watchdog_due_s = now_s + self._watchdog_s
        return ""

    def _rtc(self, words: list[str], now_s: float) -> str:
        if words:
            self._rtc_offset_s = int(words[0]) - now_s
            return ""
        return str(int(now_s + self._rtc_offset_s))

    def _mem(self, words: list[str], now_s: float) -> str:
        if not words:
            return self._rtc_memory.hex()
        start = int(words[0])
        data = bytes.fromhex(words[1]) if len(words) > 1 else b""
        if start > len(self._rtc_memory) or start + len(data) > _RTC_MEMORY_BYTES:
            raise ValueError(start)
        self._rtc_memory = self._rtc_memory[:start] + data
        return ""

    def _reset(self, words: list[str], now_s: float) -> str:
        """The program ends itself right after this line."""
        self.resets += 1
        self.release(now_s)
        self._next_cause = HARD_RESET
        return ""


def photocell_uv(illuminance_lx: float) -> int:
    """0.6 V a decade above 0.1 lx: 35 lx give 1.53 V, 100,000 lx 3.6 V (beyond the converter)."""
    value = illuminance_lx * 10
    decades = 0.0
    while value >= 10:
        value /= 10
        decades += 1
    return int(600000 * (decades + max(0.0, value - 1) / 9))
