"""A town for whole-system tests: authority, registry, real nodes on cables, modelled hardware, gateways, perhaps a broker.

Nothing starts by itself except the hardware: the test says what runs. `serve_time` answers hellos the way the authority does, straight
on the cable, so that a test about gateways or brokers does not wait for them.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.cable import DEVICE, Cable
from bench.deadline import DEADLINE_S, wait_for
from bench.program import Program
from lamppost_gateway.topics import hex8
from lamppost_protocol import hello, slip
from lamppost_protocol.errors import RemoteError
from lamppost_tools.node.config import node_config
from lamppost_tools.node.enrol import FLASH_FOLDER, KeySource, enrol_node
from lamppost_tools.node.registry import Registry

from street.broker import Broker, Subscriber, python_path
from street.command_key import CommandKey
from street.models import ask_models
from street.street_gateway import StreetGateway
from street.street_node import IMAGES, PACE, NodeSpec, Place, Runner, StreetNode

NETWORK = 0x00C0FFEE
_PLACE = {"latitude_deg": 52.52, "longitude_deg": 13.405, "utc_offset_s": 3600, "dst": "eu"}


class Town:
    """A context manager: leaving ends every process. `hosts`: gateways that hear each cable. `runner`: makes what each node runs on."""

    def __init__(
        self,
        folder: Path,
        runner: Callable[[NodeSpec, Place], Runner],
        specs: Sequence[NodeSpec],
        seed: int,
        hosts: Sequence[str] = ("g1",),
        is_connected: bool = False,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.network = NETWORK
        self.registry = Registry(folder / "registry" / "registry.json")
        self.key = CommandKey(folder / "authority", NETWORK, self.registry.path)
        self.gateways: dict[str, StreetGateway] = {}
        self.nodes: dict[int, StreetNode] = {}
        self.cables: dict[int, Cable] = {}
        self.broker = Broker(folder) if is_connected else None
        self.subscriber: Subscriber | None = None
        self.deadline_s = deadline_s
        self.without_time: set[int] = set()
        """Nodes whose hellos are not answered."""
        self._hosts = hosts
        self._time_threads: list[threading.Thread] = []
        self._is_over = threading.Event()
        (folder / "cables").mkdir()
        (folder / "registry").mkdir(exist_ok=True)
        bench = ["-m", "bench.peripherals.server", "--seed", str(seed), "--control", str(folder / "control")]
        for number, spec in enumerate(specs):
            name = hex8(spec.node)
            config, _ = node_config({**_PLACE, **PACE, **spec.pace, "fixtures": spec.fixtures}, NETWORK)
            enrol_node(self.registry, folder / "nodes", self.key.public_path, config, spec.node, f"pole {number}", KeySource())
            bench += ["--node", f"{name}:{IMAGES[spec.image].wiring}:{folder / 'exchange' / name}"]
            cable = Cable(folder / "cables", name, hosts, seed + number)
            self.cables[spec.node] = cable
            flash = folder / "nodes" / name / FLASH_FOLDER
            place = Place(flash, folder / "exchange" / name, cable.path(DEVICE), folder / f"node-{name}.log")
            self.nodes[spec.node] = StreetNode(spec, runner(spec, place), flash, cable, NETWORK)
        (folder / "exchange").mkdir(exist_ok=True)
        self.bench = Program(
            "bench", [sys.executable, *bench], folder / "bench.log", {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}
        )
        self.bench.start()
        self.bench.wait_for_line("ready")
        if self.broker is not None:
            self.broker.start()
            self.subscriber = Subscriber(self.broker.port, NETWORK)
            self.subscriber.wait_listening()

    def __enter__(self) -> "Town":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for node in self.nodes.values():
            node.kill()
        for gateway in self.gateways.values():
            gateway.close()
        if self.subscriber is not None:
            self.subscriber.close()
        if self.broker is not None:
            self.broker.kill()
        self.bench.kill()
        for cable in self.cables.values():
            with cable.changes:
                pass  # wakes the thread that answers hellos, which then sees that it is over
        for thread in self._time_threads:
            thread.join(5)
        for cable in self.cables.values():
            cable.close()

    def add_gateway(
        self, name: str = "g1", network: int = NETWORK, registry: Path | None = None, program: str = "", more: str = ""
    ) -> StreetGateway:
        """Make a gateway on the cables' ends named `name` (of those plugged in); it is not started."""
        links = {hex8(node): cable.path(name) for node, cable in self.cables.items() if name in self._hosts}
        port = self.broker.port if self.broker is not None else 9  # discard: no broker answers there
        path = registry or self.registry.path
        gateway = StreetGateway(self.folder / name, name, network, self.key.public_key, path, links, port, program)
        if more:
            gateway.write_config(more)
        self.gateways[name] = gateway
        return gateway

    def serve_time(self) -> None:
        """From now on answer every hello that carries a nonce with a beacon of the authority's present time."""
        for node, cable in self.cables.items():
            thread = threading.Thread(target=self._answer_hellos, args=(node, cable), name=f"time-{hex8(node)}", daemon=True)
            thread.start()
            self._time_threads.append(thread)

    def _answer_hellos(self, node: int, cable: Cable) -> None:
        taken = len(cable.up)
        decoder = slip.Decoder()
        while not self._is_over.is_set():
            try:
                cable.changes.wait(lambda taken=taken: len(cable.up) > taken or self._is_over.is_set(), "message", 1.0)
            except TimeoutError:
                continue
            new, taken = cable.up[taken:], len(cable.up)
            for message_type, body in decoder.feed(b"".join(slip.END + piece for piece in new)):
                if message_type == slip.HELLO:
                    self._answer_hello(node, cable, body)

    def _answer_hello(self, node: int, cable: Cable, body: bytes) -> None:
        try:
            nonce = hello.decode_hello(body).nonce
        except RemoteError:
            return
        if nonce is not None and node not in self.without_time:
            self.nodes[node].say(self.key.beacon(node, 1, nonce))

    def ask_bench(self, **order: Any) -> dict[str, Any]:
        """One order to the modelled hardware."""
        return ask_models(self.folder / "control", **order)

    def cut_power(self, node: int) -> None:
        """End the power of a node and of all hardware that hangs on it, at this instant."""
        self.nodes[node].kill()
        self.ask_bench(op="power_cut", node=hex8(node))

    def let_pass(self, seconds: float) -> None:
        """Let the street live on, to a random instant: the only wait that is for no event."""
        self._is_over.wait(seconds)

    def obey(self, node: int, frame: bytes, is_so: Any, what: Any) -> None:
        """Say a frame to a node until `is_so()`: its line has no flow control, so what it cannot take is lost, and gateways repeat."""

        def is_done() -> bool:
            self.nodes[node].say(frame)
            return bool(is_so())

        wait_for(is_done, what, self.deadline_s, every_s=2.0)

    def lamp(self, node: int) -> dict[str, Any]:
        """The true state of a node's lamp."""
        state: dict[str, Any] = self.ask_bench(op="state", node=hex8(node))["nodes"][hex8(node)]["lamp"]
        return state

    def lamp_log(self, node: int) -> list[tuple[float, int]]:
        """Every change of a node's lamp: (unix s by this machine's clock, level in permille), oldest first."""
        answer = self.ask_bench(op="lamp_log", node=hex8(node))
        bench_to_unix_s = time.time() - answer["now_s"]
        return [(at_s + bench_to_unix_s, level) for at_s, level, _ in answer["log"]]

    def wait_until(self, is_so: Any, what: Any, deadline_s: float | None = None) -> Any:
        """Ask until `is_so()`; on failure tell the seed and what the nodes said."""
        try:
            return wait_for(is_so, what, deadline_s or self.deadline_s)
        except TimeoutError as error:
            said = {hex8(node): [*street_node.logs()[-8:], street_node.program.said()[-500:]] for node, street_node in self.nodes.items()}
            raise TimeoutError(f"{error}; seed {self.seed}; nodes said {said}") from None

    def wait_stored(self, node: int, gateway: str = "g1", more_than: int = 0, deadline_s: float | None = None) -> dict[int, int]:
        """Wait until a gateway holds more than so many records of a node."""

        def is_so() -> dict[int, int] | None:
            stored = self.gateways[gateway].stored(node)
            return stored if len(stored) > more_than else None

        found: dict[int, int] = self.wait_until(is_so, f"more than {more_than} records of {hex8(node)} at {gateway}", deadline_s)
        return found
