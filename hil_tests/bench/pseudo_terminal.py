"""A raw pseudo-terminal of this machine, for a program that opens a serial port by its path."""

import contextlib
import os
import tty


class TerminalPort:
    """A console's port (console.Port): our end of it. It outlives whoever has the far end open, until `end`."""

    def __init__(self) -> None:
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)

    @property
    def far_path(self) -> str:
        """What the program opens."""
        return os.ttyname(self._far)

    def fileno(self) -> int:
        return self._near

    def read(self) -> bytes:
        try:
            return os.read(self._near, 4096)
        except OSError:
            return b""

    def write(self, data: bytes) -> int:
        try:
            return os.write(self._near, data)
        except OSError:
            return 0

    def write_far(self, data: bytes) -> None:
        """As if whoever has the far end open had written it, behind all he wrote."""
        os.write(self._far, data)

    def forget(self) -> None:
        """Throw away what nobody has read in either direction: the device is new."""
        os.set_blocking(self._far, False)
        for descriptor in (self._near, self._far):
            with contextlib.suppress(OSError):
                while os.read(descriptor, 4096):
                    pass
        os.set_blocking(self._far, True)

    def close(self) -> None:
        """A console lets go of it; the terminal stays."""

    def end(self) -> None:
        """Remove the terminal."""
        for descriptor in (self._near, self._far):
            os.close(descriptor)
