"""What emulated devices share: a process of this machine whose console is a pseudo-terminal of ours, opened by its path.

Why no socket and no `-chardev pty`: a TCP line without `nodelay=on` takes 44 ms a round trip, and at a terminal of its own QEMU looks only
once a second until somebody opens it. Ours is open all along, so nothing that is printed while it boots is lost, and it outlives
whoever is killed.
"""

import subprocess
from abc import abstractmethod
from pathlib import Path

from bench.console import ConsoleError
from bench.pseudo_terminal import TerminalPort
from bench.targets.target import Device, Setup

_POWER_GONE = "-- no power --\r\n"


class EmulatorDevice(Device):
    """`_folder`: where the emulator runs."""

    _folder: Path | None = None

    def __init__(self, setup: Setup, image: str) -> None:
        super().__init__(setup, image)
        self._log = (setup.folder / f"{setup.name}.emulator.log").open("ab")
        self._terminal = TerminalPort(setup.folder / f"{setup.name}.emulator")
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The emulator and its words, the console on the far end of `_terminal`."""

    def start(self) -> None:
        assert self._process is None
        self._terminal.forget()
        self._process = subprocess.Popen(
            self.command(), cwd=self._folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0
        )
        self.console.attach(self._terminal)

    def stop(self) -> None:
        if self._process is not None:
            self.console.detach()
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def cut_power(self) -> None:
        self.stop()

    def status(self, deadline_s: float) -> int:
        """Wait until the emulator ends by itself; its exit status. All it printed is then in the console's log. Raises ConsoleError."""
        assert self._process is not None
        try:
            status = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise ConsoleError(self.console.report(f"the end of the emulator within {deadline_s:.0f} s")) from None
        mark = self.console.mark()
        self._terminal.write_far(_POWER_GONE.encode())  # behind everything the emulator wrote
        self.console.expect(_POWER_GONE, mark)
        self.stop()
        return status

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        super().close()
        self._terminal.end()
        self._log.close()
