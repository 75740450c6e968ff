"""A real board with MicroPython on a serial port of this machine: `serial:/dev/ttyUSB0`.

The port is its console; what is wired to its second UART the bench does not know. The board always has power, so nothing here can cut it.
Whatever lies on its flash is written over by tests that deploy.
Never tried on silicon: what is written here follows the documents of mpremote, pyserial and MicroPython's esp32 port.
"""

import contextlib
import os
from pathlib import Path

import serial

from bench.console import ConsoleError
from bench.targets.target import CONSOLE, DEEP_SLEEP, FILES, FLASH, RESET, Device, Setup, Target

_BAUD = 115200


class Board(Target):
    """`argument`: what stands behind `serial:`."""

    name = "serial"
    capabilities = frozenset({CONSOLE, FILES, FLASH, RESET, DEEP_SLEEP})
    slowness = 10.0
    is_single = True

    def __init__(self, argument: str) -> None:
        self._port = argument

    def missing(self) -> str | None:
        if not self._port:
            return "no port: give it as serial:/dev/ttyUSB0"
        if not os.access(self._port, os.R_OK | os.W_OK):
            return f"no access to {self._port}: is it plugged in, and are you in the group that owns it?"
        return None

    def image(self) -> str:
        return f"what is on the board at {self._port}: its own words are at the start of the run"

    def device(self, setup: Setup) -> Device:
        return BoardDevice(self._port, setup, self.image())


class BoardDevice(Device):
    """The board on the port; `Setup.files` and `machine_files` cannot be prepared on it and must be empty."""

    def __init__(self, port: str, setup: Setup, image: str) -> None:
        assert not setup.files, "a board is deployed, not prepared"
        super().__init__(setup, image)
        self._path = port
        self._port: _SerialPort | None = None

    def start(self) -> None:
        """Open the port and reset the board by its program: the reset line of an adapter is not there on every board."""
        assert self._port is None
        self._port = _SerialPort(self._path)
        self.console.attach(self._port)
        with self.console.raw_repl(soft_reset=False) as repl, contextlib.suppress(ConsoleError):
            repl.run("import machine\nmachine.reset()")

    def stop(self) -> None:
        if self._port is not None:
            self.console.detach()
            self._port = None

    @property
    def is_running(self) -> bool:
        return self._port is not None


class _SerialPort:
    """console.Port on pyserial, which only opens and configures."""

    def __init__(self, path: str) -> None:
        self._serial = serial.Serial(str(Path(path)), _BAUD, timeout=0, write_timeout=0, exclusive=True)

    def fileno(self) -> int:
        return int(self._serial.fileno())

    def read(self) -> bytes:
        return os.read(self._serial.fileno(), 4096)

    def write(self, data: bytes) -> int:
        try:
            return os.write(self._serial.fileno(), data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._serial.close()
