"""A device's console on the bench: a pseudo-terminal for mpremote's transport, and a log of everything the device ever said.

Between the device's port and the terminal runs a thread. It never blocks the device: while nobody holds the raw REPL, what the
device prints goes to the log only. What fails here tells what was wanted, the last words of the device, the log, and which image ran.
"""

import contextlib
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from bench.deadline import DEADLINE_S, Changes
from bench.pseudo_terminal import Terminal

_READ_BYTES = 4096
_LAST_WORDS_BYTES = 800
_QUIET_S = 5.0  # one read of the transport, whose handshakes have no other limit; its own limits have this resolution
_TRIES = 3


class Port(Protocol):
    """The device's end: what a console is plugged into. Calls come from the console's thread, `close` from anywhere, after it."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when the device has said something; it may change after any `read`."""

    def read(self) -> bytes:
        """What it said, perhaps nothing. Must not block."""

    def write(self, data: bytes) -> int:
        """Octets taken, perhaps none. Must not block."""

    def close(self) -> None:
        """Let go of it."""


class ConsoleError(AssertionError):
    """The device did not do what was expected of its console."""


class DeviceError(ConsoleError):
    """Code ended with an exception on the device; `traceback` is the device's."""

    def __init__(self, text: str, traceback: str) -> None:
        super().__init__(text)
        self.traceback = traceback


class Console:
    """Owns its thread and terminal until `close`. `image`: which interpreter and which files run, in words, for failures."""

    def __init__(self, log: Path, image: str) -> None:
        self.log_path = log
        self.image = image
        self.changes = Changes()
        self._said = bytearray()
        self._port: Port | None = None
        self._pending = b""  # towards the device
        self._is_held = False
        self._is_closed = False
        self._terminal = Terminal(log.with_name(log.name + ".terminal"))
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"console-{log.stem}", daemon=True)
        self._thread.start()

    def attach(self, port: Port) -> None:
        """Plug it into a device that has just been given power."""
        with self.changes:
            assert self._port is None
            self._port = port
        self._wake()

    def detach(self) -> None:
        """Pull it; the port is closed when this returns. Nothing when it is not plugged."""
        with self.changes:
            port, self._port = self._port, None
            self._pending = b""
        self._wake()
        if port is not None:
            port.close()

    def close(self) -> None:
        """End the thread. Safe to call twice."""
        if self._is_closed:
            return
        self.detach()
        self._is_closed = True
        self._wake()
        self._thread.join(5)
        self._terminal.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # -- what it said ---------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """A place in what it said: now."""
        with self.changes:
            return len(self._said)

    def said(self, since: int = 0) -> str:
        """Everything it said since a mark."""
        with self.changes:
            return self._said[since:].decode(errors="replace")

    def expect(self, words: str, since: int = 0, deadline_s: float = DEADLINE_S) -> None:
        """Wait until it has said `words` since a mark. Raises ConsoleError."""
        wanted = words.encode()
        try:
            self.changes.wait(lambda: self._said.find(wanted, since) >= 0, "", deadline_s)
        except TimeoutError:
            raise ConsoleError(self.report(f"the words {words!r} within {deadline_s:.0f} s")) from None

    def report(self, expected: str) -> str:
        """What a person wants to see when this did not come."""
        last = bytes(self._said[-_LAST_WORDS_BYTES:]).decode(errors="backslashreplace")
        return f"expected {expected}\nlast said: {last!r}\nlog: {self.log_path}\nimage: {self.image}"

    # -- the raw REPL ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lent(self) -> Iterator[str]:
        """The terminal's path, for any program that speaks to a board: `mpremote connect <path>`. One holder at a time."""
        with self.changes:
            assert not self._is_held, "somebody holds the console"
            self._is_held = True
        try:
            yield str(self._terminal.path)
        finally:
            with self.changes:
                self._is_held = False

    @contextlib.contextmanager
    def raw_repl(self, soft_reset: bool = True, deadline_s: float = DEADLINE_S) -> Iterator["Repl"]:
        """The raw REPL, as mpremote enters it: whatever runs is interrupted, a soft reset clears the heap, main.py does not run.

        Leaving gives the console back; what runs then is up to the device (a friendly REPL, or what `Repl.run` started).
        """
        with self.lent() as path:
            # Not exclusive: that lock would outlive its owner in whatever another thread is just starting, until it has started.
            transport = SerialTransport(path, exclusive=False, timeout=min(_QUIET_S, deadline_s))
            transport.is_pty = True  # the name does not tell: its reads wait, instead of looking every 10 ms
            try:
                self._enter(transport, soft_reset, deadline_s)
                yield Repl(self, transport)
            finally:
                if transport.in_raw_repl:
                    transport.exit_raw_repl()
                transport.serial.close()

    def _enter(self, transport: SerialTransport, soft_reset: bool, deadline_s: float) -> None:
        """Again while the device lives: one that started anew at the first Ctrl-C has not heard the rest of the handshake."""
        for attempt in range(_TRIES):
            mark = self.mark()
            try:
                transport.enter_raw_repl(soft_reset=soft_reset, timeout_overall=deadline_s)
                return
            except TransportError as error:
                if attempt == _TRIES - 1 or not self.said(mark):
                    raise ConsoleError(self.report(f"a raw REPL within {deadline_s:.0f} s ({error})")) from None

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"\x00")

    def _run(self) -> None:
        with self.log_path.open("ab", buffering=0) as log:
            while not self._is_closed:
                port = self._port
                device = port.fileno() if port is not None else -1
                readers = [self._wake_read, self._terminal.near] + ([device] if device >= 0 else [])
                writers = [device] if device >= 0 and self._pending else []
                try:
                    readable, writable, _ = select.select(readers, writers, [], 1.0)
                except (OSError, ValueError):
                    continue  # detached meanwhile
                if self._wake_read in readable:
                    os.read(self._wake_read, _READ_BYTES)
                if self._terminal.near in readable:
                    self._pending += self._read_terminal()
                if port is None or port is not self._port:
                    continue
                if device in readable:
                    self._heard(port.read(), log.write)
                if self._pending and (writable or self._terminal.near in readable):
                    self._pending = self._pending[port.write(self._pending) :]

    def _read_terminal(self) -> bytes:
        try:
            return os.read(self._terminal.near, _READ_BYTES)
        except OSError:
            return b""

    def _heard(self, data: bytes, keep: "object") -> None:
        if not data:
            return
        assert callable(keep)
        keep(data)
        with self.changes:
            self._said += data
            is_held = self._is_held
        while is_held and data:
            try:
                data = data[os.write(self._terminal.near, data) :]
            except BlockingIOError:
                select.select([], [self._terminal.near], [], 0.2)
                is_held = self._is_held


class Repl:
    """A held raw REPL. `transport` is mpremote's own, for its file operations."""

    def __init__(self, console: Console, transport: SerialTransport) -> None:
        self._console = console
        self.transport = transport

    def exec(self, code: str, deadline_s: float = DEADLINE_S) -> str:
        """Run code to its end; what it printed. Raises DeviceError with the device's traceback, ConsoleError when it does not end."""
        try:
            out, traceback = self.transport.exec_raw(code, timeout=deadline_s)
        except TransportError as error:
            raise ConsoleError(self._console.report(f"the end of {code[:200]!r} within {deadline_s:.0f} s ({error})")) from None
        if traceback:
            words = traceback.decode(errors="replace")
            raise DeviceError(f"{words}\nlog: {self._console.log_path}\nimage: {self._console.image}", words)
        return str(out.decode(errors="replace")).replace("\r\n", "\n")

    def run(self, code: str) -> None:
        """Start code that does not end, and leave it running: the console must be left afterwards."""
        try:
            self.transport.exec_raw_no_follow(code)
        except TransportExecError as error:
            raise DeviceError(self._console.report(f"{code[:200]!r} to start"), error.error_output) from None
        except TransportError as error:
            raise ConsoleError(self._console.report(f"{code[:200]!r} to start ({error})")) from None
        self.transport.in_raw_repl = False
