"""A serial cable for the demo: two pseudo-terminals joined by a thread, which can be unplugged, listened to and lied into.

Both programs open the slave ends through symlinks, `<name>.node` and `<name>.gateway`, as they would open a tty's stable
name. What crosses is cut at the END octets of SLIP, so that an injected message never lands inside another one.
"""

import contextlib
import os
import select
import threading
import tty
from collections import deque
from pathlib import Path

from lamppost_protocol import slip

_READ_BYTES = 4096
_RECORDED = 256  # messages remembered of each cable, node to gateway
_MAX_PENDING_BYTES = 1 << 16  # a reader that is absent loses what is above this, as a real line loses it


class Cable:
    """One cable; `plug` joins, `unplug` takes the gateway's end away. Owns its thread and file descriptors until `close`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.node_path = folder / f"{name}.node"
        self.gateway_path = folder / f"{name}.gateway"
        self._lock = threading.Lock()
        self._injected: deque[bytes] = deque()
        self._recorded: deque[bytes] = deque(maxlen=_RECORDED)
        self._is_closed = False
        self._wake_read, self._wake_write = os.pipe()
        self._node = _Terminal(self.node_path)
        self._gateway: _Terminal | None = _Terminal(self.gateway_path)
        self._retired: list[_Terminal] = []  # unplugged ends: only the thread that selects on them may close them
        self._retired_closed = threading.Event()
        self._up = _Cutter()
        self._thread = threading.Thread(target=self._run, name=f"cable-{name}", daemon=True)
        self._thread.start()

    def recorded(self) -> list[bytes]:
        """SLIP messages that crossed from node to gateway, oldest first, each with its END octets."""
        with self._lock:
            return list(self._recorded)

    def inject(self, line: bytes) -> None:
        """Say something to the gateway as if the node had said it, between two of its messages."""
        with self._lock:
            self._injected.append(line)
        self._wake()

    def unplug(self) -> None:
        """Take the gateway's end out: its port is gone."""
        with self._lock:
            gateway, self._gateway = self._gateway, None
            if gateway is None:
                return
            self._retired.append(gateway)
            self._retired_closed.clear()
        self._wake()
        self._retired_closed.wait(2)

    def plug(self) -> None:
        """Put the gateway's end in again, as a new port under the same name."""
        with self._lock:
            if self._gateway is None:
                self._gateway = _Terminal(self.gateway_path)
        self._wake()

    def close(self) -> None:
        """End the thread and remove both ends. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wake()
        self._thread.join(5)
        for end in (self._gateway, self._node, *self._retired):
            if end is not None:
                end.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"\x00")

    def _run(self) -> None:
        while not self._is_closed:
            with self._lock:
                gateway = self._gateway
                for retired in self._retired:
                    retired.close()
                self._retired.clear()
                self._retired_closed.set()
            node_end = self._node
            ends = [self._wake_read, node_end.master]
            if gateway is not None:
                ends.append(gateway.master)
            writers = [end.master for end in (node_end, gateway) if end is not None and end.pending]
            readable, writable, _ = select.select(ends, writers, [], 1.0)
            if self._wake_read in readable:
                os.read(self._wake_read, _READ_BYTES)
            with self._lock:
                # As it is now: what comes after `plug` returned must not be lost because this thread was waiting before.
                gateway = self._gateway
            if node_end.master in readable:
                pieces = self._up.feed(node_end.read())
                with self._lock:
                    self._recorded.extend(slip.END + piece for piece in pieces if piece != slip.END)
                if gateway is not None:
                    gateway.push(b"".join(pieces))
            if gateway is not None:
                if gateway.master in readable:
                    node_end.push(gateway.read())
                self._push_injected(gateway)
            for end in (node_end, gateway):
                if end is not None and end.master in writable:
                    end.flush()

    def _push_injected(self, gateway: "_Terminal") -> None:
        with self._lock:
            lines = list(self._injected)
            self._injected.clear()
        for line in lines:
            gateway.push(line)


class _Cutter:
    """Lets octets pass in pieces that end with END, so that whatever is said between two pieces breaks no message."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Pieces completed by `data`, each up to and with an END."""
        *whole, self._pending = (self._pending + data).split(slip.END)
        if len(self._pending) > _MAX_PENDING_BYTES:
            self._pending = b""
        return [piece + slip.END for piece in whole]


class _Terminal:
    """A raw pseudo-terminal with a symlink to its slave end. The slave stays open here, so a reader's leaving is no error."""

    def __init__(self, link: Path) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self.master)
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self._link = link
        self.pending = b""
        fresh = link.with_name(link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(link)

    def read(self) -> bytes:
        try:
            return os.read(self.master, _READ_BYTES)
        except OSError:
            return b""

    def push(self, data: bytes) -> None:
        self.pending += data
        if len(self.pending) > _MAX_PENDING_BYTES:
            self.pending = self.pending[-_MAX_PENDING_BYTES:]
        self.flush()

    def flush(self) -> None:
        if self.pending:
            try:
                self.pending = self.pending[os.write(self.master, self.pending) :]
            except BlockingIOError:
                pass
            except OSError:
                self.pending = b""

    def close(self) -> None:
        self._link.unlink(missing_ok=True)
        for descriptor in (self.master, self._slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)
