"""The board: the only file with pin numbers, and the one place where `machine` objects are made.

Wiring of the reference board (ESP32-WROOM-32): UART 0 is the technician's, UART 1 the protocol line, UART 2 the one serial sensor or,
on the radio's connector, an E22; I2C 0 everything else. The lamp's outputs fail bright: PWM input open = full light, relay at rest = lamp
powered; so the pins are chosen among those that float at reset (no strapping pin, no boot-time output). Ref: ESP32 datasheet v4.7,
sections 2.2 and 2.4.

Buses are made when first asked for and then kept, so that a fault on one touches only whoever uses it.
"""

import os
import time

import machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Made = TypeVar("Made")

#: (PWM pin, relay pin) of lamp 0 and lamp 1.
_LAMP_PINS = ((25, 26), (27, 14))
_LAMP_PWM_HZ = 1000
_FULL_U16 = 65535

_LINE_UART = 1
_LINE_BAUD = 115200
_LINE_TX_PIN = 17
_LINE_RX_PIN = 16
_LINE_RX_BYTES = 2048  # a frame and its neighbour wait while 0.2 s of signature arithmetic runs: 115200 baud fills 2,300

_SENSOR_UART = 2
_SENSOR_BAUD = 9600
_SENSOR_TX_PIN = 33
_SENSOR_RX_PIN = 32

_I2C_SCL_PIN = 22
_I2C_SDA_PIN = 21
_I2C_HZ = 100_000  # long leads in a cabinet door

#: Enables a switch that feeds the serial sensor: pulled down, so off in deep sleep, and low at reset as this strapping pin must be.
_SENSOR_SUPPLY_PIN = 12

_RADIO_SPI = 2
_RADIO_HZ = 8_000_000
_RADIO_SCK_PIN = 18
_RADIO_MOSI_PIN = 23
_RADIO_MISO_PIN = 19
_RADIO_NSS_PIN = 4
_RADIO_NRESET_PIN = 13
_RADIO_BUSY_PIN = 35
_RADIO_DIO_PIN = 36
_MODULE_RX_BYTES = 512  # two longest packets wait while a signature is made


class Board:
    """Makes and keeps the hardware objects. Every method raises what the hardware raises, except `release_lamp`."""

    def __init__(self) -> None:
        self._made: dict[object, Any] = {}

    def _once(self, key: object, make: "Callable[[], Made]") -> "Made":
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def flash_root(self) -> str:
        """The folder of all durable state: `/lamppost` on a chip, LAMPPOST_STATE where the runtime has an environment."""
        getenv = getattr(os, "getenv", None)
        return (getenv("LAMPPOST_STATE") if getenv else None) or "/lamppost"

    def watchdog(self, timeout_ms: int) -> machine.WDT:
        """Start the watchdog; it cannot be stopped again."""
        return self._once("watchdog", lambda: machine.WDT(timeout=timeout_ms))

    def release_lamp(self) -> None:
        """Full light on every lamp output, whatever else is broken. Never raises."""
        for instance in range(len(_LAMP_PINS)):
            try:
                self.lamp_relay(instance).value(0)
            except Exception:
                pass  # the coil stays at rest without us
            try:
                self.lamp_pwm(instance).duty_u16(_FULL_U16)
            except Exception:
                pass  # an input left open is full light

    def lamp_pwm(self, instance: int = 0) -> machine.PWM:
        """The 0-10 V output: duty 65535 = 10 V = full light, which is also how it starts."""
        pin = _LAMP_PINS[instance][0]
        return self._once(("pwm", instance), lambda: machine.PWM(machine.Pin(pin), freq=_LAMP_PWM_HZ, duty_u16=_FULL_U16))

    def lamp_relay(self, instance: int = 0) -> machine.Pin:
        """The relay's coil: 1 opens the normally closed contact and switches the lamp off; starts at rest."""
        pin = _LAMP_PINS[instance][1]
        return self._once(("relay", instance), lambda: machine.Pin(pin, machine.Pin.OUT, value=0))

    def line(self) -> machine.UART:
        """The protocol's UART, for asyncio streams."""
        return self._once(
            "line",
            lambda: machine.UART(_LINE_UART, _LINE_BAUD, tx=_LINE_TX_PIN, rx=_LINE_RX_PIN, rxbuf=_LINE_RX_BYTES, timeout=0),
        )

    def sensor_uart(self, instance: int = 0) -> machine.UART:
        """The UART of the one serial sensor, which is fed from now on. Raises ValueError for a second one: the board has no more."""
        if instance != 0:
            raise ValueError("one serial sensor a board")
        self._once("sensor supply", lambda: machine.Pin(_SENSOR_SUPPLY_PIN, machine.Pin.OUT, value=1))
        return self._once("sensor", lambda: machine.UART(_SENSOR_UART, _SENSOR_BAUD, tx=_SENSOR_TX_PIN, rx=_SENSOR_RX_PIN, rxbuf=256))

    def i2c(self, instance: int = 0) -> machine.I2C:
        """The shared I2C bus, the same for every instance."""
        return self._once(
            "i2c",
            lambda: machine.I2C(0, scl=machine.Pin(_I2C_SCL_PIN), sda=machine.Pin(_I2C_SDA_PIN), freq=_I2C_HZ),
        )

    def radio(self) -> "tuple[machine.SPI, machine.Pin, machine.Pin, machine.Pin, machine.Pin]":
        """The LoRa radio's bus and its pins NSS, NRESET, BUSY and DIO: DIO1 of an SX126x, DIO0 of an SX127x, which has no BUSY."""
        return self._once("radio", self._make_radio)

    def _make_radio(self) -> "tuple[machine.SPI, machine.Pin, machine.Pin, machine.Pin, machine.Pin]":
        pin = machine.Pin
        spi = machine.SPI(_RADIO_SPI, _RADIO_HZ, sck=pin(_RADIO_SCK_PIN), mosi=pin(_RADIO_MOSI_PIN), miso=pin(_RADIO_MISO_PIN))
        outputs = pin(_RADIO_NSS_PIN, pin.OUT, value=1), pin(_RADIO_NRESET_PIN, pin.OUT, value=1)
        inputs = pin(_RADIO_BUSY_PIN, pin.IN), pin(_RADIO_DIO_PIN, pin.IN)
        return (spi,) + outputs + inputs  # noqa: RUF005 (no [*a] in MicroPython)

    def radio_module(self) -> "tuple[machine.UART, machine.Pin, machine.Pin, machine.Pin]":
        """An E22 in place of a chip, on the same connector: its UART on MOSI and MISO, M0 and M1 on NSS and NRESET, AUX on DIO. Ask once.

        Raises ValueError where a sensor has the UART: the chip has no other.
        """
        if "sensor" in self._made:
            raise ValueError("the sensor has the UART")
        pin = machine.Pin
        uart = machine.UART(_SENSOR_UART, _SENSOR_BAUD, tx=_RADIO_MOSI_PIN, rx=_RADIO_MISO_PIN, rxbuf=_MODULE_RX_BYTES)
        modes = pin(_RADIO_NSS_PIN, pin.OUT, value=1), pin(_RADIO_NRESET_PIN, pin.OUT, value=1)
        return (uart,) + modes + (pin(_RADIO_DIO_PIN, pin.IN),)  # noqa: RUF005 (no [*a] in MicroPython)

    def unit(self) -> bytes:
        """The chip's own number, as its maker burned it in: 6 octets on an ESP32."""
        return machine.unique_id()

    def reset_cause(self) -> int:
        """What `machine.reset_cause` says; on an ESP32 a brown-out looks like power-on."""
        return machine.reset_cause()

    def is_waking(self) -> bool:
        """Whether this start is the end of a deep sleep."""
        return machine.reset_cause() == machine.DEEPSLEEP_RESET

    def rtc_memory(self) -> bytes:
        """What `keep_in_rtc` kept: through sleeps and resets, not through a power cut; behind one it may be anything."""
        return machine.RTC().memory()

    def keep_in_rtc(self, data: bytes) -> None:
        """Keep up to 2,048 octets in place of what was there."""
        machine.RTC().memory(data)

    def rtc_ms(self) -> int:
        """Milliseconds of the clock that runs on in deep sleep, from any origin: an ESP32's RTC timer, behind `time`."""
        return time.time_ns() // 1_000_000

    def sleep(self, duration_ms: int) -> None:
        """Deep sleep for so long, then start anew; does not return. Pins float and the watchdog is off meanwhile."""
        machine.deepsleep(duration_ms)

    def reset(self) -> None:
        """Restart the chip; does not return."""
        machine.reset()
