"""MicroPython's ESP32-C3 port in Espressif's QEMU, both the user's own: `esp-qemu:PROGRAM,FLASH_IMAGE[,MACHINE]`.

PROGRAM is Espressif's `qemu-system-riscv32` (or `-xtensa`), FLASH_IMAGE a whole flash with MicroPython on it, padded to 2, 4, 8 or
16 MiB; each device works on a copy. MACHINE is `esp32c3` unless given. README.md tells how to make them. Neither can be had from a
package here, so this was never run: the options are those of Espressif's documentation.
"""

import hashlib
import shutil
from pathlib import Path

from bench.targets.emulator import EmulatorDevice
from bench.targets.target import CONSOLE, FILES, FLASH, POWER, RESET, Device, Setup, Target


class EspQemu(Target):
    """`argument`: what stands behind `esp-qemu:`."""

    name = "esp-qemu"
    capabilities = frozenset({CONSOLE, FILES, FLASH, POWER, RESET})
    slowness = 10.0

    def __init__(self, argument: str) -> None:
        self._program, _, rest = argument.partition(",")
        self._flash, _, machine = rest.partition(",")
        self._machine = machine or "esp32c3"

    def missing(self) -> str | None:
        if not (self._program and self._flash):
            return "give it as esp-qemu:PROGRAM,FLASH_IMAGE"
        if shutil.which(self._program) is None:
            return f"no program {self._program}"
        if not Path(self._flash).is_file():
            return f"no flash image {self._flash}"
        return None

    def image(self) -> str:
        return f"{self._flash} sha256 {hashlib.sha256(Path(self._flash).read_bytes()).hexdigest()[:12]}"

    def device(self, setup: Setup) -> Device:
        return EspDevice(self._program, Path(self._flash), self._machine, setup, self.image())


class EspDevice(EmulatorDevice):
    """`flash`: this device's copy of the image."""

    def __init__(self, program: str, flash: Path, machine: str, setup: Setup, image: str) -> None:
        assert not setup.files, "this target is deployed, not prepared"
        super().__init__(setup, image)
        self._program, self._machine = program, machine
        self.flash = setup.folder / f"{setup.name}.flash.bin"
        shutil.copyfile(flash, self.flash)

    def command(self) -> list[str]:
        return [
            self._program,
            *("-machine", self._machine, "-display", "none", "-monitor", "none"),
            *("-drive", f"file={self.flash},if=mtd,format=raw"),
            *("-chardev", f"serial,id=console,path={self._terminal.far_path}", "-serial", "chardev:console"),
        ]
