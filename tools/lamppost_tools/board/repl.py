"""A board at the end of a port: its raw REPL through mpremote's transport, and every way in which that fails as a sentence.

mpremote's own way in waits once and prints what it read. Here a board that is busy is interrupted again and again until a deadline, for
some take the first interrupt for themselves (micropython issue 16142); nothing is printed, since several boards are worked on at once.
"""

import errno
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from lamppost_tools.errors import DeadlineError, MissingError, RefusedError
from lamppost_tools.terminal import harmless

_READ_S = 3.0  # one read of the transport, whose handshakes have no other limit
_ENTER_S = 30.0  # into the raw REPL, all attempts together
_FIRST_ATTEMPT_S = 1.0
_EXEC_S = 60.0
_BACK_S = 10.0  # a chip whose USB is its own takes its port away while it resets
_RAW = b"raw REPL; CTRL-B to exit\r\n"
_WRITE = "lamppost flash, with a kit that has an image for this chip, writes MicroPython"
_ERRNO = re.compile(r"OSError: (?:\[Errno )?(\d+)")
#: What a chip's ROM says that found no program, or waits for one. Ref: Espressif, esptool documentation, "Boot Mode Selection".
_ROM_WORDS = (b"invalid header: 0x", b"waiting for download")
_AGAIN = "plug it in again and repeat the command: it goes on where it stopped"


class NoInterpreterError(DeadlineError):
    """What is at the port is no MicroPython, or one that nothing stops."""


class Board:
    """`port`: a path or URL that pyserial opens. Use `entered` before anything else, `close` in the end."""

    def __init__(self, port: str) -> None:
        """Opens the port. Raises MissingError."""
        self.port = port
        try:
            self.transport = SerialTransport(port, timeout=_READ_S)
        except (TransportError, OSError):
            raise MissingError(
                f"{port} cannot be opened", "is it plugged in, is no other program using it, are you in the group that owns it?"
            ) from None
        self.transport.is_pty = True  # whatever the port: its reads wait for an answer, instead of looking every 10 ms
        try:
            self.transport.serial.write_timeout = _READ_S
        except NotImplementedError:  # a port on the network has none
            self.transport.serial.write_timeout = None
        self._heard = b""  # in this attempt to enter

    def enter(self, deadline_s: float = _ENTER_S) -> None:
        """Into the raw REPL by a soft reset: what runs is interrupted, main.py does not run.

        Raises NoInterpreterError, at once where the chip's ROM says that it has no program, DeadlineError, MissingError.
        """
        ends_s = time.monotonic() + deadline_s
        attempt_s = _FIRST_ATTEMPT_S
        with self._in_words():
            while not self._is_entered(min(ends_s, time.monotonic() + attempt_s)):
                if any(words in self._heard for words in _ROM_WORDS):
                    raise NoInterpreterError(f"{self.port}: the chip has no program to run", _WRITE)
                if time.monotonic() >= ends_s:
                    raise NoInterpreterError(
                        f"{self.port}: the board does not let go of its program within {deadline_s:.0f} s",
                        f"press its reset button and repeat the command; if that changes nothing: {_WRITE}",
                    )
                attempt_s *= 2
            self.transport.in_raw_repl = True

    def exec(self, code: str, deadline_s: float = _EXEC_S) -> str:
        """Run code to its end; what it printed. Raises RefusedError with the board's last line, DeadlineError, MissingError."""
        with self._in_words():
            out, failure = self.transport.exec_raw(code, timeout=deadline_s)
            if failure:
                raise TransportExecError(out, failure.decode(errors="replace"))
            return str(out.decode(errors="replace")).replace("\r\n", "\n")
        raise AssertionError

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """For the transport's own file operations: what they raise becomes a sentence."""
        with self._in_words():
            yield

    def reset(self) -> None:
        """As after power-on; the port is closed, for some boards take it away for a moment."""
        with self._in_words(), suppress(TransportError, OSError):
            self.transport.exec_raw_no_follow("import machine\nmachine.reset()")
        self.close()

    def says(self, words: bytes, within_s: float) -> bool:
        """Whether the board says these words within so many seconds; returns as soon as it does."""
        with self._in_words():
            return self._read_until(words, time.monotonic() + within_s).endswith(words)
        raise AssertionError

    def await_prompt(self, within_s: float) -> None:
        """Wait for its prompt, asking by empty lines: what runs is not interrupted. Returns with it, or when time is over."""
        ends_s = time.monotonic() + within_s
        with self._in_words():
            while time.monotonic() < ends_s:
                self.transport.serial.write(b"\r\n")
                if self.says(b">>> ", min(1.0, within_s)):
                    return

    def close(self) -> None:
        """Give the port back; a board in the raw REPL goes to its prompt. Never raises."""
        with suppress(OSError, serial.SerialException):
            if self.transport.in_raw_repl:
                self.transport.exit_raw_repl()
        with suppress(OSError, serial.SerialException):
            self.transport.serial.close()

    def _is_entered(self, ends_s: float) -> bool:
        line = self.transport.serial
        self._heard = b""
        line.write(b"\r\x03\x03")
        self._read_until(b"\x00 never", min(ends_s, time.monotonic() + 0.1))
        line.write(b"\r\x01")
        if not self._read_until(_RAW + b">", ends_s).endswith(_RAW + b">"):
            return False
        line.write(b"\x04")
        if not self._read_until(b"soft reboot\r\n", ends_s + 5).endswith(b"soft reboot\r\n"):
            return False
        return self._read_until(_RAW, ends_s + 10).endswith(_RAW)

    def _read_until(self, ending: bytes, ends_s: float) -> bytes:
        line = self.transport.serial
        said = bytearray()
        before_s, line.timeout = line.timeout, 0.05
        try:
            while not said.endswith(ending) and time.monotonic() < ends_s:
                said += line.read(1)
        finally:
            line.timeout = before_s
        self._heard += bytes(said)
        return bytes(said)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except TransportExecError as error:
            raise self._refusal(error.error_output) from None
        except (TransportError, struct.error, ValueError, SyntaxError):
            self._require_cable()
            raise DeadlineError(f"{self.port}: the board stopped answering, or noise is on the line", "repeat the command") from None
        except OSError as error:
            self._require_cable()
            raise self._flash_refusal(error.errno or 0) from None

    def _require_cable(self) -> None:
        """Raises MissingError when the port itself is gone."""
        try:
            self.transport.serial.in_waiting  # noqa: B018  asking is what fails
            self.transport.serial.write(b"")
        except (OSError, serial.SerialException, TypeError):
            raise MissingError(f"{self.port}: the board is gone", _AGAIN) from None

    def _refusal(self, traceback: str) -> Exception:
        number = _ERRNO.findall(traceback)
        if number:
            return self._flash_refusal(int(number[-1]))
        last = harmless((traceback.strip().splitlines() or ["no words"])[-1][:120])
        return RefusedError(f"{self.port}: the board says {last}", "repeat the command; if it says so again, erase the board")

    def _flash_refusal(self, number: int) -> Exception:
        if number == errno.ENOSPC:
            next_step = "save what you need (mpremote cp), then empty it: mpremote rm -r :/, or lamppost flash --erase"
            return RefusedError(f"{self.port}: the board's flash is full", next_step)
        name = errno.errorcode.get(number, str(number))
        return RefusedError(
            f"{self.port}: the board's file system refuses to work ({name})",
            "it is damaged, or was never made: lamppost flash --erase, then repeat the command",
        )


def reopened(port: str) -> Board:
    """The board that was just reset, once its port is back. Raises MissingError."""
    ends_s = time.monotonic() + _BACK_S
    while True:
        try:
            return Board(port)
        except MissingError:
            if time.monotonic() >= ends_s:
                raise
            time.sleep(0.1)
