"""The board: the only file with pin numbers, and the one place where `machine` objects are made.

Wiring of the reference board (ESP32-WROOM-32): UART 0 is the technician's, UART 1 the protocol line, UART 2 the one serial sensor,
I2C 0 everything else. The lamp's outputs fail bright: PWM input open = full light, relay at rest = lamp powered; so the pins are chosen
among those that float at reset (no strapping pin, no boot-time output). Ref: ESP32 datasheet v4.7, sections 2.2 and 2.4.

Buses are made when first asked for and then kept, so that a fault on one touches only whoever uses it.
"""

import os

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

_RADIO_SPI = 2
_RADIO_HZ = 8_000_000
_RADIO_SCK_PIN = 18
_RADIO_MOSI_PIN = 23
_RADIO_MISO_PIN = 19
_RADIO_NSS_PIN = 4
_RADIO_NRESET_PIN = 13
_RADIO_BUSY_PIN = 35
_RADIO_DIO1_PIN = 36


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
        """The UART of the one serial sensor. Raises ValueError for a second one: the board has no more."""
        if instance != 0:
            raise ValueError("one serial sensor a board")
        return self._once("sensor", lambda: machine.UART(_SENSOR_UART, _SENSOR_BAUD, tx=_SENSOR_TX_PIN, rx=_SENSOR_RX_PIN, rxbuf=256))

    def i2c(self, instance: int = 0) -> machine.I2C:
        """The shared I2C bus, the same for every instance."""
        return self._once(
            "i2c",
            lambda: machine.I2C(0, scl=machine.Pin(_I2C_SCL_PIN), sda=machine.Pin(_I2C_SDA_PIN), freq=_I2C_HZ),
        )

    def radio(self) -> "tuple[machine.SPI, machine.Pin, machine.Pin, machine.Pin, machine.Pin]":
        """The LoRa radio's bus and its pins NSS, NRESET, BUSY and DIO1, as drivers.sx126x takes them."""
        return self._once("radio", self._make_radio)

    def _make_radio(self) -> "tuple[machine.SPI, machine.Pin, machine.Pin, machine.Pin, machine.Pin]":
        pin = machine.Pin
        spi = machine.SPI(_RADIO_SPI, _RADIO_HZ, sck=pin(_RADIO_SCK_PIN), mosi=pin(_RADIO_MOSI_PIN), miso=pin(_RADIO_MISO_PIN))
        outputs = pin(_RADIO_NSS_PIN, pin.OUT, value=1), pin(_RADIO_NRESET_PIN, pin.OUT, value=1)
        inputs = pin(_RADIO_BUSY_PIN, pin.IN), pin(_RADIO_DIO1_PIN, pin.IN)
        return (spi,) + outputs + inputs  # noqa: RUF005 (no [*a] in MicroPython)

    def reset_cause(self) -> int:
        """What `machine.reset_cause` says; on an ESP32 a brown-out looks like power-on."""
        return machine.reset_cause()

    def reset(self) -> None:
        """Restart the chip; does not return."""
        machine.reset()
