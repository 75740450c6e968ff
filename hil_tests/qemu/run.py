"""Starts an image of `build.py` in QEMU: the command line of each board, with its console and one more serial line.

Both lines are TCP sockets on loopback whose listening end is made here and handed over, so no port can be taken by somebody else.
QEMU waits for the console to be connected before the guest starts: nothing that a board prints while it boots is lost.
Traps: without `nodelay=on` each round trip takes 44 ms; QEMU looks at a pty instead of a socket only once a second until it is open.
"""

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / "build/qemu"
EMULATORS = {"rv32": "qemu-system-riscv32", "arm": "qemu-system-arm"}
FLASH_BYTES = {"rv32": 32 << 20, "arm": 2 << 20}
"""rv32: the whole pflash bank, which QEMU insists on; arm: what `bench.Flash` takes of a file. Sparse either way."""
_REPL_TIMEOUT_S = 30.0


class Board:
    """One board. `folder` holds its flash, which outlives every `kill` and `start`; `words` go to the image (arguments.h in `port/`)."""

    def __init__(self, target: str, folder: Path, words: Sequence[str] = (), icount: str | None = None) -> None:
        self._target = target
        self._folder = folder
        self._words = list(words)
        self._icount = icount
        self._process: subprocess.Popen[bytes] | None = None
        self._line_address: tuple[str, int] | None = None
        self.console: SerialTransport | None = None
        self.flash = folder / "flash.bin"
        if not self.flash.exists():
            with self.flash.open("wb") as flash:
                flash.truncate(FLASH_BYTES[target])

    def _command(self, console_fd: int, line_fd: int) -> list[str]:
        words = ["firmware", *self._words]
        if self._target == "arm":
            words.append(f"flash={self.flash}")
        semihosting = ",".join(["enable=on", "target=native", *(f"arg={word.replace(',', ',,')}" for word in words)])
        image = str(IMAGES / self._target / "firmware.elf")
        command = [EMULATORS[self._target], "-nographic", "-nodefaults", "-monitor", "none", "-semihosting-config", semihosting]
        command += ["-chardev", f"socket,id=console,fd={console_fd},server=on,wait=on,nodelay=on", "-serial", "chardev:console"]
        command += ["-chardev", f"socket,id=line,fd={line_fd},server=on,wait=off,nodelay=on"]
        if self._icount:
            command += ["-icount", self._icount]
        if self._target == "rv32":
            drive = str(self.flash).replace(",", ",,")
            command += ["-machine", "virt", "-device", "pci-serial,chardev=line"]
            return [*command, "-drive", f"if=pflash,unit=1,format=raw,file={drive}", "-bios", image]
        return [*command, "-machine", "mps2-an385", "-serial", "chardev:line", "-kernel", image]

    def start(self) -> None:
        """Switch power on; the guest boots as soon as the console is there, which it is on return."""
        assert self._process is None
        with socket.create_server(("127.0.0.1", 0)) as console, socket.create_server(("127.0.0.1", 0)) as line:
            self._line_address = line.getsockname()
            with (self._folder / "qemu.log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(console.fileno(), line.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    pass_fds=(console.fileno(), line.fileno()),
                )
            host, port = console.getsockname()
            self.console = SerialTransport(f"socket://{host}:{port}", timeout=_REPL_TIMEOUT_S)

    def repl(self, soft_reset: bool = True) -> SerialTransport:
        """The console in raw REPL, after Ctrl-C. Raises mpremote's TransportError when the board does not answer."""
        assert self.console is not None
        self.console.enter_raw_repl(soft_reset=soft_reset, timeout_overall=_REPL_TIMEOUT_S)
        return self.console

    def line(self) -> socket.socket:
        """The other end of UART(1); the caller closes it."""
        assert self._line_address is not None
        return socket.create_connection(self._line_address)

    def wait(self, deadline_s: float = _REPL_TIMEOUT_S) -> int:
        """Wait for QEMU to end and return its exit status. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        status = self._process.wait(deadline_s)
        self.kill()
        return status

    def kill(self) -> None:
        """Cut the power: SIGKILL. Nothing to do when it is off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self.console is not None:
            self.console.serial.close()
            self.console = None
