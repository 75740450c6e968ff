"""The request lines of a node's program: text to the models of its cabinet and back.

Request lines (text, one line each) and their answers `ok[ data]` or `err <errno>`:
  pin N in PULL | pin N out [0|1] | pin N set 0|1 | pin N get      pwm N FREQ_HZ DUTY_U16 | free N      adc N ATTENUATION
  uart N init BAUD RXBUF | any | read MAX | write HEX | deinit      i2c BUS ADDRESS [wHEX] [rCOUNT] | scan BUS      spi N HEX
  wdt TIMEOUT_MS | feed      rtc [UNIX_S]      mem [START HEX]      reset      deepsleep MS      nop
Numbers are decimal, but an I2C address is hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .bus import EINVAL, ENODEV, ETIMEDOUT, BusError
from .e22 import E22
from .wirings import (
    DIMMER_PIN,
    PHOTOCELL_PIN,
    RADIO_SPI,
    RELAY_PIN,
    SENSOR_I2C,
    SENSOR_SUPPLY_PIN,
    SENSOR_UART,
)

if TYPE_CHECKING:
    from .cabinet import Cabinet

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET = 1, 2, 3, 4
_RTC_MEMORY_BYTES = 2048
_FULL_SCALE_UV = (950000, 1250000, 1750000, 2450000)  # by attenuation 0, 2.5, 6, 11 dB


class Requests:
    """Answers the lines of one cabinet's program."""

    def __init__(self, cabinet: Cabinet) -> None:
        self._cabinet = cabinet
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
            "deepsleep": self._deepsleep,
            "nop": lambda words, now_s: "",
        }

    def answer(self, line: bytes, now_s: float) -> bytes:
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
            return str(self._level(pin, now_s))
        if action == "in":
            self._cabinet.latch.pop(pin, None)
            self._drive(pin, None, now_s)
        elif action in ("out", "set"):
            level = self._cabinet.latch.get(pin, 0) if len(words) < 3 else int(words[2])
            self._cabinet.latch[pin] = 1 if level else 0
            self._drive(pin, self._cabinet.latch[pin], now_s)
        else:
            raise ValueError(action)
        return ""

    def _level(self, pin: int, now_s: float) -> int:
        """What the pin reads: the radio's outputs, else its own latch."""
        output = self._cabinet.radio_outputs.get(pin)
        return self._cabinet.latch.get(pin, 0) if output is None else output(now_s)

    def _drive(self, pin: int, level: int | None, now_s: float) -> None:
        if pin in self._cabinet.radio_inputs:
            self._cabinet.radio_inputs[pin](1 if level is None else level, now_s)
        if pin == SENSOR_SUPPLY_PIN:
            self._cabinet.feed_sensor(bool(level), now_s)
        if self._cabinet.lamp is None:
            return
        if pin == RELAY_PIN:
            self._cabinet.lamp.set_relay(now_s, bool(level))
        elif pin == DIMMER_PIN:
            self._cabinet.lamp.set_pwm(now_s, None if level is None else 65535 * level, "pin")

    def _pwm(self, words: list[str], now_s: float) -> str:
        pin, freq_hz, duty = (int(word) for word in words)
        if not (1 <= freq_hz <= 40_000_000 and 0 <= duty <= 65535):
            raise ValueError(words)
        if self._cabinet.lamp is not None and pin == DIMMER_PIN:
            self._cabinet.lamp.set_pwm(now_s, duty)
        return ""

    def _free(self, words: list[str], now_s: float) -> str:
        if self._cabinet.lamp is not None and int(words[0]) == DIMMER_PIN:
            self._cabinet.lamp.set_pwm(now_s, None, "released")
        return ""

    def _adc(self, words: list[str], now_s: float) -> str:
        """Only the photocell is wired: 0 V in the dark, 0.6 V a decade from 0.1 lx on. Full scale by attenuation."""
        full_uv = _FULL_SCALE_UV[int(words[1])]
        voltage_uv = 0
        if int(words[0]) == PHOTOCELL_PIN:
            voltage_uv = photocell_uv(self._cabinet.street.illuminance_lx(self._cabinet.street.unix_s(now_s)))
        voltage_uv = min(voltage_uv, full_uv)
        return f"{voltage_uv * 65535 // full_uv} {voltage_uv}"

    def _uart(self, words: list[str], now_s: float) -> str:
        number, action = int(words[0]), words[1]
        model = self._cabinet.uart if number == SENSOR_UART else None
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
        if "bus_stuck" in self._cabinet.faults:
            raise BusError(ETIMEDOUT)
        model = self._cabinet.i2c.get(int(words[1], 16)) if int(words[0]) == SENSOR_I2C else None
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
        if "bus_stuck" in self._cabinet.faults:
            raise BusError(ETIMEDOUT)
        present = self._cabinet.i2c if int(words[0]) == SENSOR_I2C else {}
        return " ".join(f"{address:02x}" for address in sorted(present) if "unplugged" not in present[address].faults)

    def _spi(self, words: list[str], now_s: float) -> str:
        written = bytes.fromhex(words[1]) if len(words) > 1 else b""
        radio = self._cabinet.radio
        if radio is not None and not isinstance(radio, E22) and int(words[0]) == RADIO_SPI:
            return radio.transfer(written, now_s).hex()
        return "ff" * len(written)

    def _wdt(self, words: list[str], now_s: float) -> str:
        self._cabinet.watchdog_s = int(words[0]) / 1000
        self._cabinet.watchdog_due_s = now_s + self._cabinet.watchdog_s
        return ""

    def _feed(self, words: list[str], now_s: float) -> str:
        if self._cabinet.watchdog_due_s is not None:
            self._cabinet.watchdog_due_s = now_s + self._cabinet.watchdog_s
        return ""

    def _rtc(self, words: list[str], now_s: float) -> str:
        if words:
            self._cabinet.rtc_offset_s = int(words[0]) - now_s
            return ""
        return str(int(now_s + self._cabinet.rtc_offset_s))

    def _mem(self, words: list[str], now_s: float) -> str:
        if not words:
            return self._cabinet.rtc_memory.hex()
        start = int(words[0])
        data = bytes.fromhex(words[1]) if len(words) > 1 else b""
        if start > len(self._cabinet.rtc_memory) or start + len(data) > _RTC_MEMORY_BYTES:
            raise ValueError(start)
        self._cabinet.rtc_memory = self._cabinet.rtc_memory[:start] + data
        return ""

    def _reset(self, words: list[str], now_s: float) -> str:
        """The program ends itself right after this line."""
        self._cabinet.resets += 1
        self._cabinet.release(now_s)
        self._cabinet.next_cause = HARD_RESET
        return ""

    def _deepsleep(self, words: list[str], now_s: float) -> str:
        """The program ends itself right after this line and starts again when its time is over."""
        if int(words[0]) < 0:
            raise ValueError(words)
        self._cabinet.sleep(now_s)
        return ""


def photocell_uv(illuminance_lx: float) -> int:
    """0.6 V a decade above 0.1 lx: 35 lx give 1.53 V, 100,000 lx 3.6 V (beyond the converter)."""
    value = illuminance_lx * 10
    decades = 0.0
    while value >= 10:
        value /= 10
        decades += 1
    return int(600000 * (decades + max(0.0, value - 1) / 9))
