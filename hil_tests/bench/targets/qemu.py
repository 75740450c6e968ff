"""MicroPython on bare metal under QEMU: `qemu-rv32` (the instruction set of ESP32-C3 and C6) and `qemu-arm` (Cortex-M3).

The interpreter is `make qemu-firmware`'s; its folder's README says what it adds to MicroPython and how it is run. A device's folder is
QEMU's working directory: flash image, FIFOs and logs are there, because the firmware under test can open files of this machine.
Console and line are pseudo-terminals that QEMU opens by path, so a killed QEMU leaves them standing.
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from littlefs import LittleFS

from bench.peripherals.client import SHIM
from bench.pseudo_terminal import TerminalPort
from bench.targets.target import (
    CONSOLE,
    CUTS,
    FILES,
    FLASH,
    INSTRUCTION_COUNT,
    LINE,
    MODELS,
    POWER,
    PREPARE,
    RESET,
    VIRTUAL_TIME,
    Device,
    Setup,
    Target,
)

_ROOT = Path(__file__).resolve().parents[3]
_BLOCK_BYTES, _BLOCKS, _PAGE_BYTES = 4096, 512, 256
_BANK_BYTES = 32 << 20  # the whole pflash bank of QEMU's `virt`; sparse
_CAPABILITIES = frozenset({CONSOLE, FILES, FLASH, LINE, POWER, RESET, MODELS, PREPARE, VIRTUAL_TIME, CUTS})


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


RV32 = Machine(
    "qemu-rv32",
    "qemu-system-riscv32",
    "rv32",
    ("-machine", "virt"),
    "-bios",  # with a pflash drive QEMU 7.2 does not load -kernel
    ("-device", "pci-serial,chardev=line"),
    ("-drive", "if=pflash,unit=1,format=raw,file=flash.bin"),
    _BANK_BYTES,
    more=frozenset({INSTRUCTION_COUNT}),
)
ARM = Machine(
    "qemu-arm",
    "qemu-system-arm",
    "arm",
    ("-machine", "mps2-an385"),
    "-kernel",
    ("-serial", "chardev:line"),
    (),
    _BLOCK_BYTES * _BLOCKS,
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

    def device(self, setup: Setup) -> Device:
        return QemuDevice(self._machine, self.firmware, setup, self.image())


class QemuDevice(Device):
    """`flash`: the image that outlives power."""

    def __init__(self, machine: Machine, firmware: Path, setup: Setup, image: str) -> None:
        super().__init__(setup, image)
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
        with self.flash.open("wb") as flash:
            if files:
                flash.write(file_system(files))
            flash.truncate(machine.flash_bytes)
        self._log = (setup.folder / f"{setup.name}.emulator.log").open("ab")
        self._console_end = TerminalPort()
        self._command = self._make_command(machine, firmware, setup)
        self._process: subprocess.Popen[bytes] | None = None

    def _make_command(self, machine: Machine, firmware: Path, setup: Setup) -> list[str]:
        words = [firmware.name, *machine.arguments]
        if setup.exchange is not None:
            words.append("exchange=exchange")
        if setup.heap_bytes is not None:
            words.append(f"heap={setup.heap_bytes}")
        command = [
            machine.program,
            *machine.board,
            *("-display", "none", "-monitor", "none", "-nodefaults"),
            *("-chardev", f"serial,id=console,path={self._console_end.far_path}", "-serial", "chardev:console"),
            *("-semihosting-config", "enable=on,target=native," + ",".join(f"arg={word}" for word in words)),
            *machine.flash,
            *(machine.firmware_option, str(firmware)),
        ]
        if setup.line is not None:
            command += ["-chardev", f"serial,id=line,path={os.path.realpath(setup.line)}", *machine.line]
        if setup.clock is not None:
            command += ["-icount", f"shift={setup.clock.shift},sleep=off", "-rtc", f"base={setup.clock.start},clock=vm"]
        return command

    def start(self) -> None:
        assert self._process is None
        self._console_end.forget()
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0
        )
        self.console.attach(self._console_end)

    def stop(self) -> None:
        if self._process is not None:
            self.console.detach()
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def cut_power(self) -> None:
        self.stop()

    def cut_after(self, operations: int) -> None:
        with self.console.raw_repl(soft_reset=False) as repl:
            repl.exec(f"import bench\nbench.cut_after({operations})")

    def instructions(self) -> int:
        with self.console.raw_repl(soft_reset=False) as repl:
            return int(repl.exec("import bench\nprint(bench.instret())"))

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        super().close()
        self._console_end.end()
        self._log.close()


def file_system(files: dict[str, bytes]) -> bytes:
    """A littlefs image, as the interpreter mounts it, with these files (absolute paths)."""
    system = LittleFS(block_size=_BLOCK_BYTES, block_count=_BLOCKS, read_size=_PAGE_BYTES, prog_size=_PAGE_BYTES)
    for path, content in files.items():
        parent = path.rpartition("/")[0]
        if parent:
            system.makedirs(parent, exist_ok=True)
        with system.open(path, "wb") as file:
            file.write(content)
    return bytes(system.context.buffer)
