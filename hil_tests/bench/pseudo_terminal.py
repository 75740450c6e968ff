"""Raw pseudo-terminals of this machine, for programs that open a serial port by its path."""

import contextlib
import os
import tempfile
import tty
from pathlib import Path


class Terminal:
    """`near` is our end, which does not block, `far` what a program gets that opens `path`; both stay open here until `close`.

    The path is a link that goes before the terminal does. A terminal's number is soon another one's, and a program that comes back to it,
    for its cable was pulled, would take octets from whoever has it then.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Put its link at `path`, in place of one that is there; None: somewhere."""
        self.near, self.far = os.openpty()
        tty.setraw(self.far)
        os.set_blocking(self.near, False)
        self._folder = None if path is not None else Path(tempfile.mkdtemp(prefix="terminal-"))
        self.path = path if path is not None else self._folder / "line"
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self.far))
        fresh.replace(self.path)

    def close(self) -> None:
        """Remove it, name first. Safe to call twice."""
        if self.near < 0:
            return
        self.path.unlink(missing_ok=True)
        if self._folder is not None:
            self._folder.rmdir()
        for descriptor in (self.near, self.far):
            os.close(descriptor)
        self.near = self.far = -1


class TerminalPort:
    """A console's port (console.Port): our end of a terminal. It outlives whoever has the far end open, until `end`."""

    def __init__(self, path: Path | None = None) -> None:
        self._terminal = Terminal(path)

    @property
    def far_path(self) -> Path:
        """What the program opens."""
        return self._terminal.path

    def fileno(self) -> int:
        return self._terminal.near

    def read(self) -> bytes:
        try:
            return os.read(self._terminal.near, 4096)
        except OSError:
            return b""

    def write(self, data: bytes) -> int:
        try:
            return os.write(self._terminal.near, data)
        except OSError:
            return 0

    def write_far(self, data: bytes) -> None:
        """As if whoever has the far end open had written it, behind all he wrote."""
        os.write(self._terminal.far, data)

    def forget(self) -> None:
        """Throw away what nobody has read in either direction: the device is new."""
        os.set_blocking(self._terminal.far, False)
        for descriptor in (self._terminal.near, self._terminal.far):
            with contextlib.suppress(OSError):
                while os.read(descriptor, 4096):
                    pass
        os.set_blocking(self._terminal.far, True)

    def close(self) -> None:
        """A console lets go of it; the terminal stays."""

    def end(self) -> None:
        """Remove the terminal."""
        self._terminal.close()
