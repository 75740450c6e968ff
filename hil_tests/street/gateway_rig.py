"""A small city for gateway tests: real keys, real frames, real ptys, and a gateway process that can be killed.

The nodes here are plain CPython senders that follow WIRE.md; the firmware itself is exercised elsewhere.
"""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Sequence
from pathlib import Path

from lamppost_protocol import arq, cose, frames, hello, kinds, records, slip
from lamppost_protocol.es256_host import HostSigner, public_key
from lamppost_protocol.hop import HopKey

NETWORK = 0x0A0B0C0D
_ORDER_LIMIT = 1 << 255  # below the curve's order, so any number under it and above 0 is a private key


class SenderNode:
    """A node's sending side: signs records and keeps account of what is acknowledged."""

    def __init__(self, node: int, seed: int, network: int = NETWORK, epoch: int = 1) -> None:
        source = random.Random(f"{seed}-{node}")
        self._private_key = source.randrange(1, _ORDER_LIMIT).to_bytes(32, "big")
        self.signer = HostSigner(self._private_key)
        self.public_key = public_key(self._private_key)
        self.hop_key_bytes = source.randbytes(32)
        self.hop_key = HopKey(self.hop_key_bytes)
        self.node = node
        self.network = network
        self.epoch = epoch
        self.tx = 0
        self.n = 0
        self.window = arq.SendWindow(1, 1)
        self.sent: dict[bytes, tuple[int, int]] = {}

    def key_patterns(self) -> list[bytes]:
        """Octets and hex text that must never leave the node or the key files."""
        return [key for raw in (self._private_key, self.hop_key_bytes) for key in (raw, raw.hex().encode())]

    def frame(
        self,
        count: int = 1,
        *,
        n: int | None = None,
        behind: int = 0,
        t: int | None = None,
        tx: int | None = None,
        kind: int = kinds.LAMP,
        items: Sequence[Sequence[int | None]] | None = None,
        direction: int = frames.UPLINK,
        network: int | None = None,
        epoch: int | None = None,
        signer: HostSigner | None = None,
    ) -> bytes:
        """A freshly signed frame; without `n` its records get the next numbers."""
        if n is None:
            n = self.n + 1
            self.n += count
        if tx is None:
            self.tx += 1
            tx = self.tx
        at_s = int(time.time()) if t is None else t
        content: list[list[int | None]] = [[kind, 0, 0, 100, 100, 470 + i, 2301, 210, 950, 12345] for i in range(count)]
        if items is not None:
            content = [list(item) for item in items]
        payload = records.encode_uplink(n, behind, at_s, 2, content)
        data = frames.seal(
            signer or self.signer,
            direction,
            self.network if network is None else network,
            self.node,
            self.epoch if epoch is None else epoch,
            self.node,
            tx,
            payload,
        )
        self.sent[frames.frame_digest(data)] = (n, count)
        return data

    def hello(self, nonce: bytes | None = None, network: int | None = None) -> bytes:
        """The body of a hello."""
        network = self.network if network is None else network
        return hello.encode_hello(hello.Hello(network, self.node, self.epoch, 0, nonce, 1, self.n + 1, "rig-1"))

    def acknowledged(self, data: bytes) -> frames.Acknowledgement:
        """The content of an acknowledgement meant for this node. Raises RemoteError for any other octets."""
        return frames.open_acknowledgement(cose.decode(data), self.hop_key, self.network, self.node, self.epoch)


class City:
    """State folder of one gateway with registry, hop keys and configuration."""

    def __init__(self, folder: Path, nodes: Sequence[SenderNode], seed: int = 1) -> None:
        self.folder = folder
        self.nodes = {node.node: node for node in nodes}
        source = random.Random(f"authority-{seed}")
        self.authority_key = source.randrange(1, _ORDER_LIMIT).to_bytes(32, "big")
        self.version = 0
        self.revoked: set[int] = set()
        self.always: set[int] = set()
        """Nodes that listen over the air at any time."""
        self.next: dict[int, SenderNode] = {}
        self.previous: dict[int, SenderNode] = {}
        """The other epoch of nodes that are being re-keyed."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self, version: int | None = None) -> None:
        """Write registry and hop keys as the provisioning tool does: whole, renamed into place."""
        self.version = self.version + 1 if version is None else version
        document = {
            "version": self.version,
            "network": f"{NETWORK:08x}",
            "nodes": {
                f"{node.node:08x}": {
                    "epoch": node.epoch,
                    "public_key": node.public_key.hex(),
                    "fixtures": ["lamp"],
                    "asset": "pole 1",
                    "revoked": node.node in self.revoked,
                    "listens": "always" if node.node in self.always else "windows",
                    **{
                        field: {"epoch": others[node.node].epoch, "public_key": others[node.node].public_key.hex()}
                        for field, others in (("next", self.next), ("previous", self.previous))
                        if node.node in others
                    },
                }
                for node in self.nodes.values()
            },
        }
        _replace(self.folder / "registry.json", json.dumps(document), 0o644)
        keys = {f"{node.node:08x}": node.hop_key_bytes.hex() for node in self.nodes.values()}
        others = [*self.next.values(), *self.previous.values()]
        keys.update({f"{node.node:08x}.{node.epoch}": node.hop_key_bytes.hex() for node in others})
        _replace(self.folder / "hop-keys.json", json.dumps(keys), 0o600)

    def config_text(self, links: Sequence[Path], broker_port: int = 9, more: str = "") -> str:
        """A configuration; port 9 (discard) means no broker answers."""
        lines = [
            "[gateway]",
            'id = "g1"',
            f'network = "{NETWORK:08x}"',
            f'state_dir = "{self.folder}"',
            f'authority_public_key = "{public_key(self.authority_key).hex()}"',
            "[broker]",
            f"port = {broker_port}",
        ]
        for number, path in enumerate(links):
            lines += ["[[link]]", f'name = "line{number}"', f'path = "{path}"']
        return "\n".join(lines) + "\n" + more

    def write_config(self, links: Sequence[Path], broker_port: int = 9, more: str = "") -> Path:
        """Write `gateway.toml` and return its path."""
        path = self.folder / "gateway.toml"
        path.write_text(self.config_text(links, broker_port, more))
        return path


def _replace(path: Path, text: str, mode: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    new.rename(path)


class PtyLine:
    """A serial line whose far end the test holds; `path` is a link that survives unplugging."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = -1
        self._decoder = slip.Decoder()
        self._messages: list[tuple[int, bytes]] = []
        self.plug()

    def plug(self) -> None:
        """Give the path a fresh pty."""
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        os.close(slave)
        os.set_blocking(self.master, False)
        self._decoder = slip.Decoder()
        self._messages.clear()

    def unplug(self) -> None:
        """Take the port away, path and all."""
        self.path.unlink(missing_ok=True)
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def send(self, message_type: int, body: bytes) -> None:
        """One message towards the gateway; blocks while the line is full, at most 10 s."""
        self.send_raw(slip.encode(message_type, body))

    def send_raw(self, data: bytes) -> None:
        """Any octets towards the gateway."""
        view = memoryview(data)
        end_s = time.monotonic() + 10
        while view:
            try:
                view = view[os.write(self.master, view) :]
            except BlockingIOError:
                if time.monotonic() > end_s:
                    raise TimeoutError("the gateway does not read") from None
                select.select([], [self.master], [], 0.05)

    def take(self) -> list[tuple[int, bytes]]:
        """Messages that have come from the gateway; does not wait."""
        while True:
            try:
                data = os.read(self.master, 65_536)
            except (BlockingIOError, OSError):
                break
            if not data:
                break
            self._messages += self._decoder.feed(data)
        messages, self._messages = self._messages, []
        return messages

    def wait(self, deadline_s: float = 10.0) -> list[tuple[int, bytes]]:
        """At least one message from the gateway. Raises TimeoutError."""
        end_s = time.monotonic() + deadline_s
        while True:
            if messages := self.take():
                return messages
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("nothing from the gateway")
            select.select([self.master], [], [], min(left_s, 0.2))


class GatewayProcess:
    """`lamppost-gateway run` as a process of its own, ready when systemd would take it for ready."""

    def __init__(self, config: Path, log_path: Path, program: Sequence[str] = ("-m", "lamppost_gateway")) -> None:
        self._config = config
        self.log_path = log_path
        self._program = tuple(program)
        self._process: subprocess.Popen[bytes] | None = None
        self.notes: list[str] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify_path = config.parent / "notify.sock"
        self._notify_path.unlink(missing_ok=True)
        self._notify.bind(str(self._notify_path))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, deadline_s: float = 20.0, **environment: str) -> float:
        """Start and wait for READY=1; return the seconds it took. Raises RuntimeError with the log's end."""
        started_s = time.monotonic()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._program, "run", "-c", str(self._config)],
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(self._notify_path), **environment},
            )
        try:
            self.wait_note("READY=1", deadline_s)
        except TimeoutError:
            raise RuntimeError(self.log_path.read_text(errors="replace")[-3000:]) from None
        return time.monotonic() - started_s

    def wait_note(self, text: str, deadline_s: float) -> None:
        """Wait for a line to the service manager. Raises TimeoutError, also when the process has died."""
        end_s = time.monotonic() + deadline_s
        self._notify.settimeout(0.1)
        while time.monotonic() < end_s:
            try:
                note = self._notify.recv(256).decode()
            except TimeoutError:
                if self._process is None or self._process.poll() is not None:
                    break
                continue
            self.notes.append(note)
            if note == text:
                return
        raise TimeoutError(text)

    def signal(self, number: int) -> None:
        """Send a signal."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def stop(self, deadline_s: float = 5.0) -> int:
        """SIGTERM; return the exit status. Raises subprocess.TimeoutExpired after `deadline_s`."""
        assert self._process is not None
        self.signal(signal.SIGTERM)
        return self._process.wait(deadline_s)

    def close(self) -> None:
        """End everything."""
        self.kill()
        self._notify.close()
