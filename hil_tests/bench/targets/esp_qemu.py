"""MicroPython's ESP32-C3 port in Espressif's QEMU, both the user's own: `esp-qemu:PROGRAM,FLASH_IMAGE[,MACHINE]`.

PROGRAM is Espressif's `qemu-system-riscv32` (or `-xtensa`), FLASH_IMAGE a whole flash with MicroPython on it, padded to 2, 4, 8 or
16 MiB; each device works on a copy. MACHINE is `esp32c3` unless given. README.md tells how to make them. Neither can be had from a
package here, so this was never run: the options are those of Espressif's documentation.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from bench.pseudo_terminal import TerminalPort
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


class EspDevice(Device):
    """`flash`: this device's copy of the image."""

    def __init__(self, program: str, flash: Path, machine: str, setup: Setup, image: str) -> None:
        assert not setup.files, "this target is deployed, not prepared"
        super().__init__(setup, image)
        self.flash = setup.folder / f"{setup.name}.flash.bin"
        shutil.copyfile(flash, self.flash)
        self._terminal = TerminalPort()
        self._log = (setup.folder / f"{setup.name}.emulator.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            program,
            *("-machine", machine, "-display", "none", "-monitor", "none"),
            *("-drive", f"file={self.flash},if=mtd,format=raw"),
            *("-chardev", f"serial,id=console,path={self._terminal.far_path}", "-serial", "chardev:console"),
        ]

    def start(self) -> None:
        assert self._process is None
        self._terminal.forget()
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0)
        self.console.attach(self._terminal)

    def stop(self) -> None:
        if self._process is not None:
            self.console.detach()
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def cut_power(self) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        super().close()
        self._terminal.end()
        self._log.close()
