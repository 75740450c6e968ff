"""MicroPython on bare metal under QEMU: `qemu-rv32` (the instruction set of ESP32-C3 and C6) and `qemu-arm` (Cortex-M3).

The interpreter is `make qemu-firmware`'s; its folder's README says what it adds to MicroPython and how it is run. A device's folder is
QEMU's working directory: flash image, FIFOs and logs are there, because the firmware under test can open files of this machine.
Its lines are pseudo-terminals that QEMU opens by path, as `emulator.py` tells. `Machine.command` is the one place that knows QEMU's words.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from littlefs import LittleFS

from bench.flash_chip import HALF
from bench.peripherals.client import SHIM
from bench.rom_image import ROM_FOLDER, rom_image
from bench.targets.emulator import EmulatorDevice
from bench.targets.target import (
    BENCH,
    CONSOLE,
    CUTS,
    DEEP_SLEEP,
    FILES,
    FLASH,
    INSTRUCTION_COUNT,
    LINE,
    MODELS,
    POWER,
    PREPARE,
    RESET,
    ROM,
    VIRTUAL_TIME,
    Setup,
    Target,
    VirtualClock,
)

_ROOT = Path(__file__).resolve().parents[3]
_BLOCK_BYTES, _BLOCKS, _PAGE_BYTES = 4096, 512, 256
_ROM_BLOCKS = 48  # behind the file system
_BANK_BYTES = 32 << 20  # the whole pflash bank of QEMU's `virt`; sparse
_CAPABILITIES = frozenset({CONSOLE, FILES, FLASH, LINE, POWER, RESET, DEEP_SLEEP, MODELS, ROM, PREPARE, CUTS, BENCH})
CUT_STATUS = 77
"""With which QEMU ends when power fails in a flash operation."""


@dataclass(frozen=True)
class Machine:
    """How one of QEMU's boards is given its interpreter, flash and second serial line."""

    name: str
    program: str
    folder: str
    board: tuple[str, ...]
    firmware_option: str
    line: tuple[str, ...]
    flash: tuple[str, ...]
    flash_bytes: int
    arguments: tuple[str, ...] = ()
    more: frozenset[str] = field(default_factory=frozenset)

    def command(
        self, firmware: Path, console: str, words: Sequence[str] = (), line: Path | None = None, clock: VirtualClock | None = None
    ) -> list[str]:
        """QEMU, started in the folder of `flash.bin`. `console`: QEMU's words for where it prints; `words` go to the interpreter."""
        told = ",".join(f"arg={word.replace(',', ',,')}" for word in (firmware.name, *self.arguments, *words))
        command = [
            self.program,
            *self.board,
            *("-display", "none", "-monitor", "none", "-nodefaults"),
            *("-chardev", f"{console},id=console", "-serial", "chardev:console"),
            *("-semihosting-config", f"enable=on,target=native,{told}"),
            *self.flash,
            *(self.firmware_option, str(firmware)),
        ]
        if line is not None:
            command += ["-chardev", f"serial,id=line,path={os.path.realpath(line)}", *self.line]
        if clock is not None:
            sleep = "off" if clock.skips_waits else "on"
            command += ["-icount", f"shift={clock.shift},sleep={sleep}", "-rtc", f"base={clock.start},clock=vm"]
        return command


RV32 = Machine(
    "qemu-rv32",
    "qemu-system-riscv32",
    "rv32",
    ("-machine", "virt"),
    "-bios",  # with a pflash drive QEMU 7.2 does not load -kernel
    ("-device", "pci-serial,chardev=line"),
    ("-drive", "if=pflash,unit=1,format=raw,cache=unsafe,file=flash.bin"),  # unsafe for this machine's power loss, never for a SIGKILL
    _BANK_BYTES,
    more=frozenset({VIRTUAL_TIME, INSTRUCTION_COUNT}),
)
ARM = Machine(
    "qemu-arm",
    "qemu-system-arm",
    "arm",
    ("-machine", "mps2-an385"),
    "-kernel",
    ("-serial", "chardev:line"),
    (),
    _BLOCK_BYTES * (_BLOCKS + _ROM_BLOCKS),
    arguments=("flash=flash.bin",),
)


class Qemu(Target):
    """One of the two machines. The interpreter: BENCH_QEMU_IMAGES/<folder>/firmware.elf, else build/qemu/<folder>/firmware.elf."""

    slowness = 6.0
    machine_sources = (SHIM / "emulated" / "machine.py", SHIM / "machine_models.py", SHIM / "machine_extra.py")

    def __init__(self, machine: Machine) -> None:
        self.name = machine.name
        self.capabilities = _CAPABILITIES | machine.more
        self._machine = machine
        images = Path(os.environ.get("BENCH_QEMU_IMAGES") or _ROOT / "build" / "qemu")
        self.firmware = images.resolve() / machine.folder / "firmware.elf"

    def missing(self) -> str | None:
        if shutil.which(self._machine.program) is None:
            return f"no {self._machine.program}: make deps"
        if not self.firmware.exists():
            return f"no {self.firmware}: make qemu-firmware"
        return None

    def image(self) -> str:
        return f"{self.firmware} sha256 {hashlib.sha256(self.firmware.read_bytes()).hexdigest()[:12]}"

    def device(self, setup: Setup, words: Sequence[str] = ()) -> "QemuDevice":
        """`words`: more for the interpreter, as its README lists them."""
        return QemuDevice(self._machine, self.firmware, setup, self.image(), words)


class QemuDevice(EmulatorDevice):
    """`flash`: the image that outlives power. With a clock, qemu-arm's ticks run by it, its wall clock stays this machine's."""

    def __init__(self, machine: Machine, firmware: Path, setup: Setup, image: str, words: Sequence[str] = ()) -> None:
        super().__init__(setup, image)
        self._machine, self._firmware = machine, firmware
        self._words = list(words)
        self._folder = setup.folder / f"{setup.name}.qemu"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.flash = self._folder / "flash.bin"
        files = dict(setup.files)
        if setup.exchange is not None:
            machine_files = setup.machine_files
            if machine_files is None:
                machine_files = {source.name: source.read_bytes() for source in Qemu.machine_sources}
            files.update({f"/lib/{name}": content for name, content in machine_files.items()})
            (self._folder / "exchange").symlink_to(setup.exchange)
            self._words.append("exchange=exchange")
        if setup.unique_id is not None:
            self._words.append(f"id={setup.unique_id.hex()}")
        if setup.heap_bytes is not None:
            self._words.append(f"heap={setup.heap_bytes}")
        with self.flash.open("wb") as flash:
            if files:
                flash.write(file_system(files))
            flash.truncate(machine.flash_bytes)

    def command(self) -> list[str]:
        console = f"serial,path={self._terminal.far_path}"
        return self._machine.command(self._firmware, console, self._words, self.setup.line, self.setup.clock)

    def cut_after(self, operations: int, mode: str = HALF) -> None:
        with self.console.raw_repl(soft_reset=False) as repl:
            repl.exec(f"import bench\nbench.cut_after({operations}, bench.{mode.upper()})")

    def flash_operations(self) -> int:
        with self.console.raw_repl(soft_reset=False) as repl:
            return int(repl.exec("import bench\nprint(bench.ops())"))

    def ended(self, deadline_s: float) -> bool:
        return self.status(deadline_s) == CUT_STATUS

    @property
    def flash_image(self) -> Path:
        return self.flash

    def instructions(self) -> int:
        if self.setup.clock is None:
            raise ValueError("instructions are counted only where Setup.clock is given")
        with self.console.raw_repl(soft_reset=False) as repl:
            return int(repl.exec("import bench\nprint(bench.instret())"))


def file_system(files: dict[str, bytes]) -> bytes:
    """A littlefs image, as the interpreter mounts it, with these files (absolute paths); those below /rom in a ROMFS image behind it."""
    rom = {path: content for path, content in files.items() if path.startswith(ROM_FOLDER)}
    system = LittleFS(block_size=_BLOCK_BYTES, block_count=_BLOCKS, read_size=_PAGE_BYTES, prog_size=_PAGE_BYTES)
    for path in [path for path in files if path not in rom]:
        parent = path.rpartition("/")[0]
        if parent:
            system.makedirs(parent, exist_ok=True)
        with system.open(path, "wb") as file:
            file.write(files[path])
    return bytes(system.context.buffer) + (rom_image(rom) if rom else b"")
