"""The adapter between the bench and this project: a node's files on a target's device, as the runner of a StreetNode."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.targets.target import PREPARE, ROM, Device, Setup, Target

from street.deploy import install
from street.street_node import NodeSpec, Place, firmware

#: Where each part of an image lives on a device; the library in ROMFS where the device has it.
LIBRARY, ROM_LIBRARY, STATE = "/lib", "/rom", "/lamppost"
#: What an ESP32 starts with (design.md: 110 KB). Where bytecode is loaded into it, more, and less than its heap can grow to.
HEAP_BYTES, ROOMY_HEAP_BYTES = 112 << 10, 176 << 10
#: A running node's watchdog goes on when its program is interrupted: a technician who takes his time has to feed it.
FEED = "import machine\nmachine.WDT(timeout=60000).feed()"


@dataclass(frozen=True)
class Image:
    """The firmware of this tree: files by their path on the device, and the bytecode of the target's stand-ins for `machine`.

    `library`: the folder in which the packages lie.
    """

    library: str
    files: Mapping[str, bytes]
    machine_files: Mapping[str, bytes]


def build_target_image(folder: Path, target: Target) -> Image:
    """Compile this tree's firmware as `make_image.py` does, and the target's stand-ins the same way."""
    is_rom = ROM in target.capabilities
    files = compiled_firmware(folder / "image", is_rom)
    return Image(ROM_LIBRARY if is_rom else LIBRARY, files, compile_for_device(folder / target.name / "machine", target.machine_sources))


def compiled_firmware(folder: Path, is_rom: bool) -> dict[str, bytes]:
    """This tree's firmware by path on a device: main.py, and the packages as files or, `is_rom`, as ROMFS."""
    make = firmware()
    make.make_image(folder)
    files = {"/main.py": (folder / "main.py").read_bytes()}
    if is_rom:
        return files | {f"{ROM_LIBRARY}/{name}": content for name, content in make.rom_files(folder).items()}
    return files | {f"{LIBRARY}/{name}": content for name, content in make.library_files(folder).items()}


def compile_for_device(folder: Path, sources: Sequence[Path]) -> dict[str, bytes]:
    """Bytecode of more modules, made as the image's are, by file name."""
    jobs = [(source, folder / f"{source.stem}.mpy") for source in sources]
    firmware().make_bytecode(jobs, folder)
    return {target.name: target.read_bytes() for _, target in jobs}


def state_files(flash: Path) -> dict[str, bytes]:
    """What enrolment wrote for a node's flash, by its path on the device."""
    return {f"{STATE}/{path.relative_to(flash).as_posix()}": path.read_bytes() for path in sorted(flash.rglob("*")) if path.is_file()}


class NodeDevice:
    """A node on a device. Its first start deploys it: prepared where the target can, else by a technician's hand."""

    def __init__(self, target: Target, image: Image, place: Place, name: str, is_prepared: bool | None = None) -> None:
        self._target = target
        self.image_files = dict(image.files)
        self._state_files = state_files(place.flash)
        self._is_prepared = PREPARE in target.capabilities if is_prepared is None else is_prepared
        self._start = 0
        self.started_s = 0.0
        """When power came on last, by this machine's monotonic clock."""
        self.device: Device = target.device(
            Setup(
                place.log.parent / f"device-{name}",
                name,
                place.line,
                place.exchange,
                {**self.image_files, **self._state_files} if self._is_prepared else {},
                image.machine_files,
                HEAP_BYTES if ROM in target.capabilities else ROOMY_HEAP_BYTES,
            )
        )

    def start(self) -> None:
        """Power on, deployed."""
        self._start = self.device.console.mark()
        self.started_s = time.monotonic()
        self.device.start()
        if not self._is_prepared:
            self.install({**self.image_files, **self._state_files})
            self._is_prepared = True
            self.reset()

    def update(self) -> list[str]:
        """Install what differs of the image, and never of its state: counters put back would be used twice. The paths written."""
        return self.install(self.image_files, FEED)

    def install(self, files: Mapping[str, bytes], between: str = "") -> list[str]:
        """Install what differs through the transport; the paths written. Leaves the device in its friendly REPL."""
        with self.device.console.raw_repl(deadline_s=self._target.deadline_s()) as repl:
            return install(repl, files, between)

    def reset(self) -> None:
        """machine.reset from the console: it comes up as after power-on."""
        with self.device.console.raw_repl(soft_reset=False, deadline_s=self._target.deadline_s()) as repl:
            self._start = self.device.console.mark()
            self.started_s = time.monotonic()
            repl.run("import machine\nmachine.reset()")

    def kill(self) -> None:
        """Power off at this instant; nothing when it is off."""
        if self.device.is_running:
            self.device.stop()

    @property
    def is_running(self) -> bool:
        """Whether it has power."""
        return self.device.is_running

    def said(self) -> str:
        """What it printed since its start."""
        return self.device.console.said(self._start)

    def close(self) -> None:
        """Off the bench."""
        self.device.close()


def runner_on(
    target: Target, image: Image, made: list[NodeDevice], is_prepared: bool | None = None
) -> Callable[[NodeSpec, Place], NodeDevice]:
    """A Town's runner that makes NodeDevices and notes them in `made`, whose owner closes them."""

    def make(spec: NodeSpec, place: Place) -> NodeDevice:
        made.append(NodeDevice(target, image, place, f"{spec.node:08x}", is_prepared))
        return made[-1]

    return make
