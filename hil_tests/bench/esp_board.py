"""A board with an Espressif chip on the bench: its ROM loader, its flash, and the device that it is once its flash holds an interpreter.

One port is all of it, as on a board: in download mode the loader answers there, else what the flash holds runs, and that is a target's
device whose console the port then is. What a person does at the board are `hold_boot_and_reset` and `tap_reset`. A pseudo-terminal has no
RTS and no DTR, so there nothing but a hand brings the board into its loader; a port with lines (network_port.py) does it by `set_lines`.
"""

import contextlib
import os
import select
import threading
import time
from collections.abc import Sequence

from bench.esp_rom import RomLoader
from bench.pseudo_terminal import Terminal
from bench.targets.target import Device

_READ_BYTES = 4096
#: The capacitor at EN: BOOT is looked at so long after a reset is let go of. 10 kOhm and 10 uF, the remedy where lines are set one by one
#: and late, as over a network. Ref: esptool documentation, "Boot Mode Selection", automatic bootloader.
_RISE_S = 0.08
_CONSOLE_BAUD = 115_200
_REPEAT_S = 0.3  # a ROM that finds no program says so, and its watchdog makes it look again


class EspBoard:
    """A context manager. `interpreters`: with which of them in its flash, where the chip looks, the board is `device`."""

    def __init__(self, rom: RomLoader, interpreters: Sequence[bytes] = (), device: Device | None = None) -> None:
        self.rom = rom
        self.device = device
        self._interpreters = interpreters
        rom.leave = self._boot
        self._console = -1
        self._stack = contextlib.ExitStack()
        self._terminal = Terminal()
        self.path = str(self._terminal.path)
        self._wake_read, self._wake_write = os.pipe()
        self._hands: list[str] = []
        self._lines = (False, False)
        self._is_held = False
        self._rises_s: float | None = None
        self.is_in_loader = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "EspBoard":
        self._boot()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do("end")
        self._thread.join(10)
        self._let_go()
        self._terminal.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def hold_boot_and_reset(self) -> None:
        """What a person does with two buttons: the chip waits in its loader."""
        self._do("boot")

    def tap_reset(self) -> None:
        """The reset button."""
        self._do("reset")

    def holds(self, image: bytes) -> bool:
        """Whether the flash holds it, octet by octet, where the chip looks for a program."""
        at = self.rom.chip.boots_at
        return bytes(self.rom.flash[at : at + len(image)]) == image

    def set_lines(self, dtr: bool, rts: bool) -> None:
        """The lines of its USB bridge, True where asserted, through the two transistors of Espressif's boards: RTS alone holds the reset,
        DTR alone holds BOOT, both together nothing. Ref: ESP32-DevKitC schematics; esptool documentation, "Boot Mode Selection".
        """
        self._lines = (dtr, rts)
        self._do("lines")

    def _do(self, hand: str) -> None:
        self._hands.append(hand)
        os.write(self._wake_write, b"\0")

    def _take_hand(self, hand: str) -> None:
        if hand == "boot":
            self._download()
        elif hand == "reset":
            self._boot()
        elif hand == "lines":
            is_held = self._lines == (False, True)
            if is_held and not self._is_held:
                self._let_go()
                self.is_in_loader = False
            elif self._is_held and not is_held:
                self._rises_s = time.monotonic() + _RISE_S
            self._is_held = is_held

    def _rise(self) -> None:
        self._rises_s = None
        if not self._is_held:
            (self._download if self._lines == (True, False) else self._boot)()

    def _boot(self) -> None:
        self.is_in_loader = False
        self._let_go()
        if self.device is not None and any(self.holds(image) for image in self._interpreters):
            self.device.start()
            self._console = os.open(self._stack.enter_context(self.device.console.lent()), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def _download(self) -> None:
        self._let_go()
        self.rom.enter()
        self.is_in_loader = True
        self._say(b"rst:0x1 (POWERON),boot:0x4 (DOWNLOAD(USB/UART0/1))\r\nwaiting for download\r\n")

    def _let_go(self) -> None:
        if self._console >= 0:
            os.close(self._console)
            self._console = -1
        self._stack.close()
        if self.device is not None and self.device.is_running:
            self.device.stop()

    def _say(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._terminal.near, data) :]
            except BlockingIOError:
                return  # nobody listens, and a UART does not wait

    def _run(self) -> None:
        while "end" not in self._hands:
            if self._rises_s is not None and time.monotonic() >= self._rises_s:
                self._rise()
            readers = [self._terminal.near, self._wake_read] + ([self._console] if self._console >= 0 else [])
            wait_s = _REPEAT_S if self._rises_s is None else max(0.0, self._rises_s - time.monotonic())
            ready = select.select(readers, [], [], wait_s)[0]
            if self._wake_read in ready:
                os.read(self._wake_read, 1)
                if self._hands and self._hands[0] != "end":
                    self._take_hand(self._hands.pop(0))
                continue
            if not ready and self._console < 0 and not self.is_in_loader and not self._is_held and self._rises_s is None:
                self._say(b"invalid header: 0xffffffff\r\n")
            if self._console >= 0 and self._console in ready:
                with contextlib.suppress(OSError):
                    self._say(os.read(self._console, _READ_BYTES))
            if self._terminal.near in ready:
                self._hear(os.read(self._terminal.near, _READ_BYTES))

    def _hear(self, data: bytes) -> None:
        if self.is_in_loader:
            self._say(self.rom.feed(data))
        while self._console >= 0 and self.rom.host_baud in (None, _CONSOLE_BAUD) and data:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._console, data) :]
