"""The door to the cabinets: FIFOs for the nodes' programs, one control socket for the bench. One thread, no polling; a cable has its own.

`python -m bench.peripherals.server --seed 1 --control SOCKET --node NAME:WIRING:FOLDER ...` prints `ready` and serves until SIGTERM or the
`stop` order. `--cable NAME:FOLDER` lays a serial cable from FOLDER/NAME.device to FOLDER/NAME.host. A program's death is seen as the
hang-up of its request FIFO and releases its pins; half a line left by a kill is void (the next program begins with CAN). control.py
documents the orders.
"""

import argparse
import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.cable import Cable

from .cabinet import Cabinet
from .control import Control
from .ether import Ether
from .street import Street
from .wirings import WIRINGS

_MAX_LINE_BYTES = 4096
_CANCEL = b"\x18"
_REMEMBERED = 256


class Door:
    """One node's two FIFOs and the process behind them."""

    def __init__(self, cabinet: Cabinet, folder: Path, selector: selectors.BaseSelector) -> None:
        self.cabinet = cabinet
        self.pid: int | None = None
        self._selector = selector
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = folder / "request", folder / "answer"
        for path in self._paths:
            if not path.is_fifo():
                path.unlink(missing_ok=True)
                os.mkfifo(path, 0o600)
        self._pending = b""
        self._request = os.open(self._paths[0], os.O_RDONLY | os.O_NONBLOCK)
        # Read and write: opening must not wait for the program, and its death must not become SIGPIPE.
        self._answer = os.open(self._paths[1], os.O_RDWR | os.O_NONBLOCK)
        selector.register(self._request, selectors.EVENT_READ, self.on_request)

    def on_request(self, now_s: float) -> None:
        try:
            data = os.read(self._request, 65536)
        except BlockingIOError:
            return  # the hang-up that woke us is over: a successor has the FIFO open and will say hello
        if not data:
            self._hang_up(now_s)
            return
        self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            if line and not line.endswith(_CANCEL):
                self._reply(self._take(line, now_s))
        if len(self._pending) > _MAX_LINE_BYTES:
            self._pending = b""

    def _take(self, line: bytes, now_s: float) -> bytes:
        words = line.split()
        if words and words[0] in (b"hello", b"again") and len(words) == 3:
            pid = int(words[2]) if words[2].isdigit() else 0
            self.pid = pid or self.pid
            cause = self.cabinet.start(now_s) if words[0] == b"hello" else 0
            return b"hello %s %d %s" % (words[1], cause, self.cabinet.unique_id.hex().encode())
        return self.cabinet.handle(line, now_s)

    def _reply(self, answer: bytes) -> None:
        # A full FIFO means that nobody has read for long: the asker is dead and its answer is worth nothing.
        with contextlib.suppress(BlockingIOError):
            os.write(self._answer, answer + b"\n")

    def _hang_up(self, now_s: float) -> None:
        """The last writer is gone. A FIFO end stays at end of file until it is opened anew."""
        self.cabinet.release(now_s)
        self.pid = None
        self._pending = b""
        self._selector.unregister(self._request)
        # New ends before the old are closed, so that a program starting just now never meets a FIFO without a reader.
        request = os.open(self._paths[0], os.O_RDONLY | os.O_NONBLOCK)
        os.close(self._request)
        self._request = request
        self._selector.register(request, selectors.EVENT_READ, self.on_request)

    def kill(self) -> bool:
        """SIGKILL to the program; False when it is not running or its pid is unknown."""
        if self.pid is None or not self.cabinet.is_running:
            return False
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        self._selector.unregister(self._request)
        os.close(self._request)
        os.close(self._answer)


class Server:
    """Cabinets, doors and the control socket on one selector."""

    def __init__(self, street: Street, control_path: Path, clock_s: Callable[[], float]) -> None:
        self.street = street
        self.ether = Ether(street.seed)
        self.doors: dict[str, Door] = {}
        self.cables: dict[str, Cable] = {}
        self._clock_s = clock_s
        self._selector = selectors.DefaultSelector()
        self._is_stopping = False
        self._control = Control(self)
        control_path.unlink(missing_ok=True)
        self._control_path = control_path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(control_path))
        self._listener.listen()
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)

    def add(self, name: str, wiring: str, folder: Path) -> None:
        """Raises KeyError for an unknown wiring, ValueError for a name taken."""
        if name in self.doors:
            raise ValueError(f"node {name} twice")
        self.doors[name] = Door(Cabinet(name, wiring, self.street, self._clock_s(), self.ether), folder, self._selector)

    def lay(self, name: str, folder: Path) -> None:
        """A cable; nobody has its ends yet."""
        self.cables[name] = Cable(folder, name, seed=self.street.seed, most_kept=_REMEMBERED)

    def stop(self) -> None:
        self._is_stopping = True

    def stop_on(self, *signals: int) -> None:
        """Stop at these signals, between two steps: an exception in the midst of one would leave a door half open."""
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno())
        for number in signals:
            signal.signal(number, lambda *_: None)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda now_s: self.stop())

    def now_s(self) -> float:
        return self._clock_s()

    def run(self) -> None:
        """Serve until stop(); then remove the control socket."""
        try:
            while not self._is_stopping:
                self.step()
        finally:
            for door in self.doors.values():
                door.close()
            for cable in self.cables.values():
                cable.close()
            self._listener.close()
            self._control_path.unlink(missing_ok=True)

    def step(self) -> None:
        """Wait for the next request, order or watchdog, and answer it."""
        due_s = [door.cabinet.watchdog_due_s for door in self.doors.values() if door.cabinet.watchdog_due_s is not None]
        timeout_s = max(0.0, min(due_s) - self._clock_s()) if due_s else None
        for key, _ in self._selector.select(timeout_s):
            key.data(self._clock_s())
        now_s = self._clock_s()
        for door in self.doors.values():
            due = door.cabinet.watchdog_due_s
            # A feed may have been waiting while this process was not scheduled: look once more before the bite.
            if due is not None and due <= now_s and not self._has_request(door):
                door.cabinet.watchdog_bites()
                door.kill()

    def _has_request(self, door: Door) -> bool:
        return any(key.data == door.on_request for key, _ in self._selector.select(0))

    def _on_connection(self, now_s: float) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        pending = bytearray()

        def on_order(at_s: float) -> None:
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            pending.extend(data)
            if not data or len(pending) > 1 << 20:
                self._selector.unregister(connection)
                connection.close()
                return
            while (end := pending.find(b"\n")) >= 0:
                answer = self._control.answer(bytes(pending[:end]), at_s)
                del pending[: end + 1]
                connection.setblocking(True)
                connection.settimeout(2)  # a log can exceed the socket's buffer; a reader that sleeps is cut off
                try:
                    connection.sendall(answer + b"\n")
                except OSError:
                    self._selector.unregister(connection)
                    connection.close()
                    return
                connection.setblocking(False)

        self._selector.register(connection, selectors.EVENT_READ, on_order)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.peripherals.server", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket to make")
    parser.add_argument("--start-unix", type=float, help="the street's time at the start; default: now")
    parser.add_argument("--time-factor", type=float, default=1.0, help="street seconds a second")
    parser.add_argument("--node", action="append", default=[], metavar="NAME:WIRING:FOLDER", help=f"wirings: {', '.join(WIRINGS)}")
    parser.add_argument("--cable", action="append", default=[], metavar="NAME:FOLDER", help="a serial cable between two programs")
    options = parser.parse_args(arguments)
    started_s = time.monotonic()
    start_unix_s = time.time() if options.start_unix is None else options.start_unix
    street = Street(options.seed, start_unix_s, options.time_factor)
    server = Server(street, options.control, lambda: time.monotonic() - started_s)
    for text in options.node:
        name, _, rest = text.partition(":")
        wiring, _, folder = rest.partition(":")
        if not (name and folder and wiring in WIRINGS):
            parser.error(f"--node {text}: want NAME:WIRING:FOLDER, wiring one of {', '.join(WIRINGS)}")
        server.add(name, wiring, Path(folder))
    for text in options.cable:
        name, _, folder = text.partition(":")
        server.lay(name, Path(folder))
    server.stop_on(signal.SIGTERM, signal.SIGINT)
    print("ready", flush=True)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
