"""One node's hardware: its models, their faults, the truth behind them, and what survives its program.

Deterministic: time comes with every call, nothing reads a clock. server.py is one door to it, a test calls it directly.
"""

import hashlib

from .a02yyuw import A02YYUW
from .ade7953 import ADDRESS as ADE7953_ADDRESS
from .ade7953 import ADE7953
from .bus import I2CModel, UartModel
from .ether import Ether, Station
from .lamp import Lamp
from .lis3dh import ADDRESS as LIS3DH_ADDRESS
from .lis3dh import LIS3DH
from .pms5003 import PMS5003
from .requests import HARD_RESET, PWRON_RESET, WDT_RESET, Requests
from .sht4x import ADDRESS as SHT4X_ADDRESS
from .sht4x import SHT4x
from .street import Street, uniform
from .sx1262 import SX1262
from .wirings import COMMON_FAULTS, WIRINGS

# From the sensor under the lid to the floor; the bin counts as full at FULL_MM below the sensor.
BIN_DEPTH_MM = 1000
BIN_FULL_MM = 150
_LID_OPEN_MM = 2500
_RTC_2000_UNIX_S = 946684800
SETTINGS = ("waste_mm", "tilt_deg", "lid", "x_m", "y_m")


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
        self.radio: SX1262 | None = None
        if "radio" in parts:
            ppm = 2.0 - 4.0 * uniform(self.seed, 80, 0)  # a TCXO
            self.radio = SX1262(self.seed, ether or Ether(street.seed), Station(name), ppm)
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
        if cause == PWRON_RESET:
            for chip in self.i2c.values():
                chip.power_on(now_s)
            if self.uart is not None:
                self.uart.power_on(now_s)
            if self.radio is not None:
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
        if self.radio is not None:
            self.radio.select(1, now_s)

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
