"""What a target is: something that runs MicroPython, and what it can do. A test asks for capabilities, never for a target.

A `Target` describes one kind of machine and makes `Device`s of it. A device has a console; whatever else it has, the target's
`capabilities` say, and each capability names the methods or the part of `Setup` that stand for it:

| capability          | means                                                                                                        |
|---------------------|--------------------------------------------------------------------------------------------------------------|
| `console`           | `device.console`: a raw REPL for mpremote's transport                                                        |
| `files`             | the console can write files                                                                                  |
| `flash`             | files outlive the end of power                                                                               |
| `line`              | `Setup.line`: a second serial line, `machine.UART(1)` on the device                                          |
| `power`             | `device.cut_power()` at any instant, `device.start()` again                                                  |
| `reset`             | `machine.reset`, a watchdog, `machine.reset_cause`; the device comes up again by itself                      |
| `deep_sleep`        | `machine.deepsleep(ms)`, which ends in a start with RTC().memory() kept and DEEPSLEEP_RESET its cause        |
| `models`            | `Setup.exchange`: pins and buses of `machine` reach the bench's models                                       |
| `rom`               | files below `/rom` lie in a ROMFS partition, from which bytecode runs in place; mpremote deploys it as one image |
| `prepare`           | `Setup.files`: files that are there before the first start, without a deployment                             |
| `processes`         | devices are ordinary processes of this machine: dozens at once, and their files are files                    |
| `virtual_time`      | `Setup.clock`: time runs by instructions, as fast as it can, the same every time                             |
| `instruction_count` | `device.instructions()`, where `Setup.clock` is given: without it there is nothing that counts               |
| `cuts`              | `device.cut_after(k, mode)`: power fails in the k-th flash operation from now; what follows it there   |
| `bench`             | the interpreter's own module `bench`: hil_tests/qemu/README.md lists what is in it                           |
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.console import Console, ConsoleError
from bench.deadline import DEADLINE_S, Deadline
from bench.flash_chip import HALF

CONSOLE, FILES, FLASH, LINE, POWER, RESET, MODELS = "console", "files", "flash", "line", "power", "reset", "models"
ROM, PREPARE, PROCESSES, DEEP_SLEEP = "rom", "prepare", "processes", "deep_sleep"
VIRTUAL_TIME, INSTRUCTION_COUNT, CUTS, BENCH = "virtual_time", "instruction_count", "cuts", "bench"
CAPABILITIES = frozenset(
    {CONSOLE, FILES, FLASH, LINE, POWER, RESET, DEEP_SLEEP, MODELS, ROM, PREPARE, PROCESSES, VIRTUAL_TIME, INSTRUCTION_COUNT, CUTS, BENCH}
)


@dataclass(frozen=True)
class VirtualClock:
    """Time by instructions: 2 ** `shift` ns each, from `start` (ISO 8601, UTC).

    `skips_waits`: a wait takes no time of this machine. A prompt that idles then races through the years: for what runs by itself.
    """

    shift: int = 4
    start: str = "2026-06-01T20:00:00"
    skips_waits: bool = True


@dataclass(frozen=True)
class Setup:
    """One device on the bench. `folder`: its own, for logs and flash; everything else may be left out.

    `line`: path of the terminal behind its second UART. `exchange`: folder of the models' FIFOs. `files`: absolute path on the device
    to content. `heap_bytes`: of 32-bit objects; the unix port's have 64 and get twice as much. `machine_files`: bytecode of the target's
    stand-ins for `machine`, by file name, in place of their sources. `unique_id`: the chip's own number, 1 to 8 octets, where the models
    do not give it.
    """

    folder: Path
    name: str = "device"
    line: Path | None = None
    exchange: Path | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    machine_files: Mapping[str, bytes] | None = None
    heap_bytes: int | None = None
    clock: VirtualClock | None = None
    unique_id: bytes | None = None


class BenchBrokenError(AssertionError):
    """The target does not start: no test can say anything about the firmware."""


class Device(ABC):
    """One machine. Without power when made."""

    def __init__(self, setup: Setup, image: str) -> None:
        setup.folder.mkdir(parents=True, exist_ok=True)
        self.setup = setup
        self.console = Console(setup.folder / f"{setup.name}.console", image)

    @abstractmethod
    def start(self) -> None:
        """Give it power (a board that always has it: reset it) and return at once; it boots as boards do, main.py included."""

    @abstractmethod
    def stop(self) -> None:
        """Take it off the bench at any instant; where power can be cut, that is how. Safe when it is not running."""

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether it has power."""

    @property
    def process_id(self) -> int | None:
        """The process to kill, where it is one."""
        return None

    def cut_power(self) -> None:
        """Take its power away at this instant: nothing that is not on flash survives. Only with `power`."""
        raise NotImplementedError

    def instructions(self) -> int:
        """Instructions executed since power came on. Only with `instruction_count`; needs the raw REPL to be free.

        Raises ValueError without `Setup.clock`.
        """
        raise NotImplementedError

    def cut_after(self, operations: int, mode: str = HALF) -> None:
        """Let power fail in the flash operation so many from now, >= 1. Only with `cuts`; needs the raw REPL to be free.

        `mode`, as in flash_chip.py: nothing of that operation is done, its first half, or the whole.
        """
        raise NotImplementedError

    def flash_operations(self) -> int:
        """Flash operations since it came up. Only with `cuts`; needs the raw REPL to be free."""
        raise NotImplementedError

    def ended(self, deadline_s: float) -> bool:
        """Wait until power is gone by itself; whether it was `cut_after` that took it. Only with `cuts`. Raises ConsoleError.

        All that was said until then is then in the console's log.
        """
        raise NotImplementedError

    @property
    def flash_image(self) -> Path:
        """What is on its flash while it has no power, a file to copy from and to. Only with `cuts`."""
        raise NotImplementedError

    def close(self) -> None:
        """Off, and its console with it."""
        self.stop()
        self.console.close()


class Target(ABC):
    """One kind of machine. `slowness`: how many times longer than on the unix port a device may take for the same."""

    name: str
    capabilities: frozenset[str]
    slowness: float = 1.0
    is_single: bool = False
    """There is one device of it, so tests cannot run side by side."""
    machine_sources: tuple[Path, ...] = ()
    """What stands in for the chip's `machine`, where it is not the chip's own."""

    @abstractmethod
    def missing(self) -> str | None:
        """Why this machine cannot run it and what to do about that, or None. Quick, changes nothing."""

    @abstractmethod
    def image(self) -> str:
        """Which interpreter runs: its file and a digest of it."""

    @abstractmethod
    def device(self, setup: Setup) -> Device:
        """A device without power."""

    def deadline_s(self, seconds: float = DEADLINE_S) -> float:
        """A deadline of the unix port in this target's time."""
        return seconds * self.slowness

    def deadline(self, seconds: float = DEADLINE_S) -> Deadline:
        """The same as an object."""
        return Deadline(self.deadline_s(seconds))

    def prove(self, folder: Path) -> str:
        """Start a blank device once and talk to it: its own words about itself. Raises BenchBrokenError with the cause."""
        device = None
        try:
            device = self.device(Setup(folder, "prove"))
            device.start()
            with device.console.raw_repl(deadline_s=self.deadline_s(20)) as repl:
                return repl.exec("import sys, gc\ngc.collect()\nprint(sys.version, gc.mem_alloc() + gc.mem_free())").strip()
        except (ConsoleError, OSError) as error:
            raise BenchBrokenError(f"{self.name} does not start: {error}") from None
        finally:
            if device is not None:
                device.close()
