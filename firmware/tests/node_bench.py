"""A real node on the real MicroPython with the modelled peripherals, and a gateway's end of its line, for the integration tests.

Everything is real but the hardware: VM, firmware, keys, frames, files, a pty. `Gateway` here is a plain peer that verifies, counts
and answers; it is not the product's gateway.
"""

import binascii
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import tty
from pathlib import Path

import make_image
from lamppost_protocol import beacons, cbor, cose, frames, hello, orders, slip
from lamppost_protocol.arq import ReceiveWindow
from lamppost_protocol.es256_host import HostSigner, HostVerifier, generate_private_key, public_key
from lamppost_protocol.hop import HopKey
from lamppost_protocol.p256_tables import build_generator_table, build_table
from lamppost_protocol.records import Uplink, decode_uplink

ROOT = Path(__file__).resolve().parents[2]
NETWORK, NODE, EPOCH, ISSUER = 0x10, 0x0A0B0C0D, 1, b"\x00\x00\x00\x63"
LAMP_ONLY = {"fixtures": [{"kind": "lamp", "instance": 0}], "hello_s": 5}
NO_FIXTURE = {"fixtures": [], "hello_s": 5, "health_s": 1}


def micropython() -> str | None:
    """The VM to test on, or None."""
    return (
        os.environ.get("MICROPYTHON") or shutil.which("micropython", path=str(Path(sys.executable).parent)) or shutil.which("micropython")
    )


@functools.cache
def image() -> Path:
    """The bytecode image with the bench's `machine`, compiled once a session beside the other build products."""
    out = ROOT / "build/test-image"
    make_image.make_image(out, with_bench_machine=True)
    return out


def wrapped(value: object) -> bytes:
    """What the firmware's settings hold: crc32 and CBOR."""
    body = cbor.encode(value)
    return binascii.crc32(body).to_bytes(4, "big") + body


class Keys:
    """One node's and its authority's keys, made once a session: tables take a few milliseconds."""

    def __init__(self) -> None:
        self.private = generate_private_key()
        self.command_private = generate_private_key()
        self.hop = os.urandom(32)
        self.public = public_key(self.private)
        self.command_public = public_key(self.command_private)
        self.generator_table = build_generator_table(5, 2)
        x, y = self.command_public[:32], self.command_public[32:]
        self.command_table = build_table(int.from_bytes(x, "big"), int.from_bytes(y, "big"), 5, 2)


def provision(folder: Path, keys: Keys, configuration: dict | None) -> None:
    """Write a node's flash folder as the provisioning tool does."""
    (folder / "tables").mkdir(parents=True)
    (folder / "counters").mkdir()
    identity = {
        "network": NETWORK,
        "node": NODE,
        "epoch": EPOCH,
        "private_key": keys.private,
        "hop_key": keys.hop,
        "issuer": ISSUER,
        "command_key": keys.command_public,
    }
    (folder / "identity.cbor").write_bytes(cbor.encode(identity))
    (folder / "tables/generator.tbl").write_bytes(keys.generator_table)
    (folder / "tables/command.tbl").write_bytes(keys.command_table)
    for copy in ("0", "1"):
        (folder / f"counters/tx.{copy}").write_bytes(wrapped([EPOCH, 0]))
    if configuration is not None:
        (folder / "config.cbor").write_bytes(cbor.encode(configuration))


class Gateway:
    """The far end of one line: verifies every frame, keeps what it heard, acknowledges, answers hellos with beacons."""

    def __init__(self, fd: int, keys: Keys):
        self._fd = fd
        self._keys = keys
        self._decoder = slip.Decoder()
        self._verifier = HostVerifier(keys.public)
        self._command = HostSigner(keys.command_private)
        self._hop = HopKey(keys.hop)
        self.window = ReceiveWindow()
        self.is_acknowledging = True
        self.is_giving_time = True
        self.unix = 1_790_000_000
        self.hellos: list[hello.Hello] = []
        self.logs: list[str] = []
        self.uplinks: list[Uplink] = []
        self.txs: list[int] = []
        self.records: dict[int, list] = {}
        self.conflicts: list[int] = []
        self.next_order = 1

    def send(self, frame: bytes) -> None:
        os.write(self._fd, slip.encode(slip.FRAME, frame))

    def order(self, verb: int, target: int, args: list, order_id: int | None = None, life: tuple[int, int] | None = None) -> bytes:
        """Sign and send an order; returns the frame."""
        if order_id is None:
            order_id, self.next_order = self.next_order, self.next_order + 1
        first, last = life or (self.unix - 10, self.unix + 3600)
        kid = int.from_bytes(ISSUER, "big")
        frame = frames.seal(
            self._command, frames.ORDER, NETWORK, NODE, EPOCH, kid, order_id, orders.encode_order(first, last, verb, target, args)
        )
        self.send(frame)
        return frame

    def beacon(self, nonce: bytes | None) -> None:
        """Sign and send the time: to the node with its nonce, or to all."""
        node, epoch = (NODE, EPOCH) if nonce is not None else (0, 0)
        kid = int.from_bytes(ISSUER, "big")
        payload = beacons.encode_beacon(self.unix, nonce)
        self.send(frames.seal(self._command, frames.BEACON, NETWORK, node, epoch, kid, self.unix & 0xFFFFFFFF, payload))

    def poll(self, wait_s: float) -> None:
        """Take what comes within `wait_s` at most, returning after the first chunk."""
        if not select.select([self._fd], [], [], wait_s)[0]:
            return
        data = os.read(self._fd, 4096)
        for message_type, body in self._decoder.feed(data):
            if message_type == slip.HELLO:
                self.hellos.append(hello.decode_hello(body))
                if self.is_giving_time and self.hellos[-1].nonce is not None:
                    self.beacon(self.hellos[-1].nonce)
            elif message_type == slip.LOG:
                self.logs.append(body.decode())
            elif message_type == slip.FRAME:
                self._take_frame(body)

    def _take_frame(self, body: bytes) -> None:
        message = cose.decode(body)
        payload = frames.open_signed(message, self._verifier, frames.UPLINK, NETWORK, NODE, EPOCH)
        uplink = decode_uplink(payload)
        self.txs.append(message.tx)
        self.uplinks.append(uplink)
        for index, record in enumerate(uplink.records):
            # What makes a record itself: its kind, quality and values; its time may be sent as an age.
            content = [record[0], *record[2:]]
            if self.records.setdefault(uplink.n + index, content) != content:
                self.conflicts.append(uplink.n + index)
        if self.is_acknowledging:
            window = self.window
            window.note(uplink.n, len(uplink.records), uplink.behind)
            digest = frames.frame_digest(body)
            self.send(frames.seal_acknowledgement(self._hop, NETWORK, NODE, EPOCH, window.highest, window.bitmap32(), digest))

    def wait(self, condition, what: str, deadline_s: float = 20.0) -> None:  # type: ignore[no-untyped-def]
        """Poll until `condition()` holds; fails naming `what` and what was heard last."""
        end = time.monotonic() + deadline_s
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {what} in {deadline_s} s; heard {self.hellos[-1:]} {self.logs[-8:]} {self.uplinks[-3:]}")
            self.poll(min(left, 0.2))

    def states(self, order_id: int) -> list[tuple[int, int]]:
        """(state, reason) of every record about an order, in the order of their numbers."""
        found = [self.records[n] for n in sorted(self.records) if self.records[n][0] == 5 and self.records[n][2] == order_id]
        return [(record[3], record[4]) for record in found]


class NodeBench:
    """One node: flash folder, line, peripherals server and VM process. `start`, `kill`, `close`."""

    def __init__(self, folder: Path, keys: Keys, configuration: dict | None, wiring: str = "lamp"):
        """Flash lies in `folder/lamppost`; it is provisioned when it is not there yet."""
        vm = micropython()
        assert vm is not None
        self._vm = vm
        self._image = image()
        self.folder = folder
        self.flash = folder / "lamppost"
        self.keys = keys
        if not self.flash.exists():
            provision(self.flash, keys, configuration)
        self.master, self._slave = os.openpty()
        tty.setraw(self.master)
        tty.setraw(self._slave)
        self._line = folder / "line"  # goes before the terminal does: its number is soon another one's
        self._line.symlink_to(os.ttyname(self._slave))
        self.gateway = Gateway(self.master, keys)
        self.process: subprocess.Popen[bytes] | None = None
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / "hil_tests"), str(ROOT / "protocol")]))
        self._server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.peripherals.server",
                "--control",
                str(folder / "control"),
                "--node",
                f"n1:{wiring}:{folder / 'exchange'}",
            ],
            env=environment,
            stdout=subprocess.PIPE,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline().strip() == b"ready"

    def start(self) -> None:
        """Power on."""
        environment = dict(
            os.environ,
            MICROPYPATH=f"{self._image}:.frozen",
            BENCH_EXCHANGE=str(self.folder / "exchange"),
            BENCH_LINE=str(self._line),
            LAMPPOST_STATE=str(self.flash),
        )
        self.output = (self.folder / "console").open("ab")
        self.process = subprocess.Popen(
            [self._vm, "-X", "heapsize=272k", str(self._image / "main.py")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def kill(self) -> None:
        """The power goes, from the program's point of view."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.output.close()
            self.process = None

    def wait_for_exit(self, deadline_s: float) -> int:
        """The program's own exit status."""
        assert self.process is not None
        end = time.monotonic() + deadline_s
        while self.process.poll() is None and time.monotonic() < end:
            self.gateway.poll(0.05)
        status = self.process.poll()
        assert status is not None, "still running"
        return status

    def console(self) -> str:
        """What the VM printed: nothing, unless something is badly wrong."""
        path = self.folder / "console"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        self.kill()
        self._server.terminate()
        self._server.wait(10)
        if self._server.stdout is not None:
            self._server.stdout.close()
        self._line.unlink()
        os.close(self.master)
        os.close(self._slave)
