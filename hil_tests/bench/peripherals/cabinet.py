"""One node's hardware: its models, their faults, the truth behind them, and what survives its program.

Deterministic: time comes with every call, nothing reads a clock. server.py is one door to it, a test calls it directly.
"""

import hashlib
from collections.abc import Callable

from .a02yyuw import A02YYUW
from .ade7953 import ADDRESS as ADE7953_ADDRESS
from .ade7953 import ADE7953
from .bus import I2CModel, UartModel
from .e22 import E22
from .ether import Ether, Station
from .lamp import Lamp
from .lis3dh import ADDRESS as LIS3DH_ADDRESS
from .lis3dh import LIS3DH
from .pms5003 import PMS5003
from .requests import DEEPSLEEP_RESET, HARD_RESET, PWRON_RESET, WDT_RESET, Requests
from .sht4x import ADDRESS as SHT4X_ADDRESS
from .sht4x import SHT4x
from .street import Street, uniform
from .sx1262 import SX1262
from .sx1276 import SX1276
from .wirings import COMMON_FAULTS, RADIO_BUSY_PIN, RADIO_DIO_PIN, RADIO_NRESET_PIN, RADIO_NSS_PIN, WIRINGS

# From the sensor under the lid to the floor; the bin counts as full at FULL_MM below the sensor.
BIN_DEPTH_MM = 1000
BIN_FULL_MM = 150
_LID_OPEN_MM = 2500
_RTC_2000_UNIX_S = 946684800
SETTINGS = ("waste_mm", "tilt_deg", "lid", "x_m", "y_m")


def unique_id(seed: int, name: str) -> bytes:
    """A chip's own number of six octets: locally administered, as a made-up MAC must be."""
    return b"\x02" + _digest(seed, name)[8:13]


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


class Cabinet:
    """All hardware of one node. `name` only seeds it; `wiring` is a key of WIRINGS (KeyError otherwise); `ether`: shared by radios."""

    def __init__(self, name: str, wiring: str, street: Street, now_s: float = 0.0, ether: Ether | None = None) -> None:
        parts, faults = WIRINGS[wiring]
        self.name = name
        self.wiring = wiring
        self.street = street
        self.fault_table = {**faults, **COMMON_FAULTS}
        self.faults: dict[str, float] = {}
        self.settings: dict[str, float] = {}
        self.seed = int.from_bytes(_digest(street.seed, name)[:8], "big")
        self.unique_id = unique_id(street.seed, name)

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
        self.radio: SX1262 | SX1276 | E22 | None = None
        self.radio_outputs: dict[int, Callable[[float], int]] = {}
        self.radio_inputs: dict[int, Callable[[int, float], None]] = {}
        """By pin; not driven, each is pulled up."""
        if "radio" in parts:
            ppm = 2.0 - 4.0 * uniform(self.seed, 80, 0)  # a TCXO
            self.radio = sx1262 = SX1262(self.seed, ether or Ether(street.seed), Station(name), ppm)
            self.radio_outputs = {RADIO_BUSY_PIN: sx1262.busy, RADIO_DIO_PIN: sx1262.dio1}
            self.radio_inputs = {RADIO_NSS_PIN: sx1262.select, RADIO_NRESET_PIN: sx1262.reset}
        if "sx1276" in parts:
            ppm = 10.0 - 20.0 * uniform(self.seed, 80, 0)  # a crystal
            self.radio = sx1276 = SX1276(self.seed, ether or Ether(street.seed), Station(name), ppm)
            self.radio_outputs = {RADIO_BUSY_PIN: sx1276.dio1, RADIO_DIO_PIN: sx1276.dio0}
            self.radio_inputs = {RADIO_NSS_PIN: sx1276.select, RADIO_NRESET_PIN: sx1276.reset}
        if "e22" in parts:
            ppm = 10.0 - 20.0 * uniform(self.seed, 80, 0)
            self.radio = self.uart = e22 = E22(self.seed, ether or Ether(street.seed), Station(name), ppm)
            self.radio_outputs = {RADIO_DIO_PIN: e22.aux}
            self.radio_inputs = {RADIO_NSS_PIN: e22.m0, RADIO_NRESET_PIN: e22.m1}
        self._has_switch = "supply_switch" in parts
        self.sensor_fed_s = 0.0
        """For how long a switched sensor had its supply, up to when it was last switched off."""
        self._fed_since_s: float | None = None
        if self._has_switch and self.uart is not None:
            self.uart.power_off(now_s)
        self._fault_homes: dict[str, dict[str, float]] = {"bin": self._bin_faults, "cabinet": self._own_faults}
        if self.lamp is not None:
            self._fault_homes["lamp"] = self.lamp.faults
        if self.uart is not None:
            self._fault_homes["uart"] = self.uart.faults
        if self.radio is not None:
            self._fault_homes["radio"] = self.radio.faults
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
        self.sleeps = 0
        self.next_cause = PWRON_RESET
        self.latch: dict[int, int] = {}
        self.watchdog_s = 0.0
        self.watchdog_due_s: float | None = None
        self.rtc_memory = b""
        self.rtc_offset_s = _RTC_2000_UNIX_S - now_s
        self._requests = Requests(self)

    def handle(self, line: bytes, now_s: float) -> bytes:
        """One request line without its end to one answer line without its end; requests.py documents both. Never raises."""
        return self._requests.answer(line, now_s)

    # -- power and life ---------------------------------------------------------------------------------------------

    def start(self, now_s: float) -> int:
        """The chip comes out of reset with all pins released: the cause the program will read."""
        self.release(now_s)
        cause, self.next_cause = self.next_cause, HARD_RESET
        if cause == PWRON_RESET:  # waking from a deep sleep is none: all chips kept their supply
            for chip in self.i2c.values():
                chip.power_on(now_s)
            if self.uart is not None and not self._has_switch:
                self.uart.power_on(now_s)
            if self.radio is not None and self.radio is not self.uart:
                self.radio.power_on(now_s)
        self.is_running = True
        self.starts += 1
        return cause

    def release(self, now_s: float) -> None:
        """The program is dead: no pin is driven, so the lamp burns; the watchdog stops with it."""
        self.is_running = False
        self.watchdog_due_s = None
        self.latch.clear()
        if self.lamp is not None:
            self.lamp.set_pwm(now_s, None, "released")
            self.lamp.set_relay(now_s, False, "released")
        if self.uart is not None:
            self.uart.close()
        self.feed_sensor(False, now_s)
        for drive in self.radio_inputs.values():
            drive(1, now_s)

    def feed_sensor(self, is_fed: bool, now_s: float) -> None:
        """The switch of the UART's sensor, where there is one."""
        if not self._has_switch or self.uart is None or is_fed == (self._fed_since_s is not None):
            return
        if is_fed:
            self._fed_since_s = now_s
            self.uart.power_on(now_s)
        elif self._fed_since_s is not None:
            self.sensor_fed_s += now_s - self._fed_since_s
            self._fed_since_s = None
            self.uart.power_off(now_s)

    def sleep(self, now_s: float) -> None:
        """Deep sleep begins: pins float, the watchdog is off, and the RTC's memory stays."""
        self.sleeps += 1
        self.release(now_s)
        self.next_cause = DEEPSLEEP_RESET

    def watchdog_bites(self) -> None:
        """The caller kills the program now; its next start says WDT_RESET."""
        self.watchdog_kills += 1
        self.watchdog_due_s = None
        self.next_cause = WDT_RESET

    def cut_power(self, now_s: float) -> None:
        """Everything volatile is gone; the caller kills the program."""
        self.release(now_s)
        self.next_cause = PWRON_RESET
        self.rtc_memory = b""
        self.rtc_offset_s = _RTC_2000_UNIX_S - now_s

    # -- faults and settings ----------------------------------------------------------------------------------------

    def set_fault(self, name: str, value: float | None, now_s: float) -> None:
        """Raises KeyError for a fault this wiring does not have."""
        fault = self.fault_table[name]
        self._advance(now_s)
        given = fault.default if value is None else float(value)
        self.faults[name] = self._fault_homes[fault.part][fault.name] = given
        self._advance(now_s)
        if self.lamp is not None:
            self.lamp.note(now_s, "fault")

    def clear_fault(self, name: str | None, now_s: float) -> None:
        """One fault, or all with None. Raises KeyError for an unknown one."""
        self._advance(now_s)
        for each in list(self.faults) if name is None else [name]:
            fault = self.fault_table[each]
            self.faults.pop(each, None)
            self._fault_homes[fault.part].pop(fault.name, None)
        self._advance(now_s)
        if self.lamp is not None:
            self.lamp.note(now_s, "fault")

    def _advance(self, now_s: float) -> None:
        """What happened before a change must not be made by it."""
        if self.lamp is not None:
            self.lamp.advance(now_s)
        if self.uart is not None:
            self.uart.advance(now_s)
        if self.radio is not None:
            self.radio.advance(now_s)

    def set(self, what: str, value: float | None) -> None:
        """Fix a true value (SETTINGS), or give it back to the street with None. Raises KeyError for an unknown one."""
        if what not in SETTINGS:
            raise KeyError(what)
        if value is None:
            self.settings.pop(what, None)
        else:
            self.settings[what] = float(value)
        if self.radio is not None:
            self.radio.station.x_m, self.radio.station.y_m = self.settings.get("x_m", 0.0), self.settings.get("y_m", 0.0)

    # -- the truth --------------------------------------------------------------------------------------------------

    def temperature_c(self, now_s: float) -> float:
        """Air at the sensor: a bin's inside is a little warmer than the street, and hot when it burns."""
        inside_c = 2.0 if self.wiring.startswith("bin") else 0.0
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
        if self.wiring.startswith("bin"):
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
