"""A technician's bench for tests: blank boards of a target on ports, modelled hardware behind them, his kit, his folder, a site file.

Real all of it but the hardware: the kit is built from this tree and sealed, the tool is the product's, a gateway may listen on the lines.
A `Lead` is the cable between the tool's port and the board's console: it can be pulled after any octet, and then the port is gone.
"""

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cable import DEVICE, Cable
from bench.deadline import wait_for
from bench.peripherals.cabinet import unique_id
from bench.program import Program
from bench.pseudo_terminal import Terminal
from bench.targets.target import ROM, Device, Setup, Target
from lamppost_protocol import cbor
from lamppost_protocol.es256_host import public_key
from lamppost_tools.authority.public import read_authority_public
from lamppost_tools.board.repl import Board
from lamppost_tools.commission.steps import Bench, Order, Outcome, commission
from lamppost_tools.kit.seal import Kit, seal
from lamppost_tools.life.visit import Desk
from lamppost_tools.node.enrol import KeySource
from lamppost_tools.node.registry import Registry
from lamppost_tools.site.file import node_of_site
from lamppost_tools.technician.settings import init_technician, load_technician

from street.broker import python_path
from street.command_key import CommandKey
from street.models import ask_models
from street.node_device import HEAP_BYTES, ROOMY_HEAP_BYTES, Image
from street.street_gateway import StreetGateway
from street.street_node import firmware

NETWORK = 0x00C0FFEE
KIT_KEY = b"\x07" * 31 + b"\x01"
_FIXTURES = {"lamp": ("lamp",), "bin": ("bin",), "air_lamp": ("air", "lamp")}
_HEAD = """name = "Test street"
[place]
latitude_deg = 52.52
longitude_deg = 13.405
utc_offset_s = 3600
dst = "eu"
[defaults]
report_s = 1
health_s = 1
hello_s = 5
[defaults.lamp]
schedule = "night"
[schedule.night]
default_level = 100
[[schedule.night.week]]
days = "all"
steps = [["sunset", 100], ["23:00", 60], ["sunrise", 0]]
"""


def make_kit(out: Path) -> Path:
    """A sealed kit with this tree's firmware, compiled beside the other build products; how a whole one is made: test_kit.py."""
    make, image = firmware(), Path(__file__).resolve().parents[2] / "build" / "kit-image"
    make.make_image(image)
    make.make_romfs_image(image, out.with_suffix(".romfs"))
    library = {f"lib/{name}": content for name, content in make.library_files(image).items()}
    parts = {"main.py": (image / "main.py").read_bytes(), "node.romfs": out.with_suffix(".romfs").read_bytes(), **library}
    files = {f"firmware/{name}": content for name, content in parts.items()}
    for name, content in {**files, **seal(files, {"lamppost": "0.1.0"}, KIT_KEY)}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return out


class Workbench:
    """A context manager. `wirings`: asset name to its wiring on the bench. Nothing is powered by itself but the models."""

    def __init__(self, folder: Path, target: Target, image: Image, kit: Kit, wirings: Mapping[str, str], seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.target = target
        self.kit = kit
        self.port_modules = frozenset(image.machine_files)
        self.registry = Registry(folder / "registry" / "registry.json")
        self.key = CommandKey(folder / "authority", NETWORK, self.registry.path)
        init_technician(
            folder / "technician", "R. Laub", public_key(KIT_KEY), read_authority_public(self.key.public_path), self.registry.path, None
        )
        self.technician = load_technician(folder / "technician")
        self.site = folder / "site.toml"
        self.site.write_text(_HEAD + "".join(_node(number, *row) for number, row in enumerate(wirings.items())))
        for part in ("cables", "exchange", "registry"):
            (folder / part).mkdir(exist_ok=True)
        self.devices: dict[str, Device] = {}
        self.cables: dict[str, Cable] = {}
        self.told: list[tuple[str, str, str]] = []
        words = ["-m", "bench.peripherals.server", "--seed", str(seed), "--control", str(folder / "control")]
        for number, (asset, wiring) in enumerate(wirings.items()):
            name = f"{0xB0 + number:08x}"
            words += ["--node", f"{name}:{wiring}:{folder / 'exchange' / name}"]
            self.cables[asset] = Cable(folder / "cables", name, ("g1",), seed + number)
            self.devices[asset] = target.device(
                Setup(
                    folder / f"device-{name}", name, self.cables[asset].path(DEVICE), folder / "exchange" / name, {}, image.machine_files,
                    HEAP_BYTES if ROM in target.capabilities else ROOMY_HEAP_BYTES, unique_id=unique_id(seed, name),
                )
            )  # fmt: skip
        self.models = Program(
            "bench", [sys.executable, *words], folder / "bench.log", {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}
        )
        self.models.start()
        self.models.wait_for_line("ready")
        self.gateway: StreetGateway | None = None

    def __enter__(self) -> "Workbench":
        return self

    def __exit__(self, *_: object) -> None:
        for device in self.devices.values():
            device.close()
        if self.gateway is not None:
            self.gateway.close()
        self.models.kill()
        for cable in self.cables.values():
            cable.close()

    def fault(self, asset: str, fault: str) -> None:
        """Break a part of a board's hardware."""
        ask_models(self.folder / "control", op="fault", node=self.devices[asset].setup.name, fault=fault)

    def mend(self, asset: str) -> None:
        """Whole again."""
        ask_models(self.folder / "control", op="clear", node=self.devices[asset].setup.name)

    def lamp_log(self, asset: str) -> list[tuple[float, int, str]]:
        """(bench time in s, level in permille, cause) of every change of a board's lamp."""
        log: list[tuple[float, int, str]] = ask_models(self.folder / "control", op="lamp_log", node=self.devices[asset].setup.name)["log"]
        return log

    def power_on(self) -> None:
        """Every board, at once."""
        for device in self.devices.values():
            device.start()

    def start_gateway(self) -> Path:
        """A gateway on all lines; its status socket."""
        links = {f"line-{number}": cable.path("g1") for number, cable in enumerate(self.cables.values())}
        self.gateway = StreetGateway(self.folder / "g1", "g1", NETWORK, self.key.public_key, self.registry.path, links, 9)
        self.gateway.start()
        return self.folder / "g1" / "status.sock"

    def frames(self, asset: str) -> int:
        """Frames of an asset's node that the gateway has verified."""
        assert self.gateway is not None
        return sum(int(node["frames"]) for node in self.gateway.status()["nodes"] if node["asset"] == asset)

    def wait_until(self, is_so: Callable[[], object], what: str) -> None:
        """Ask until it is so. Raises TimeoutError."""
        wait_for(is_so, what, self.target.deadline_s())

    def bench(self, gateway_status: Path | None = None, keys: KeySource | None = None, boot_s: float = 0.2) -> Bench:
        """What `commission` takes; what it tells is kept in `told`."""

        def tell(order: Order, step: str, detail: str) -> None:
            self.told.append((order.asset, step, detail))

        proof_s = self.target.deadline_s(30)
        return Bench(
            self.technician,
            self.kit,
            self.registry,
            keys or KeySource(),
            gateway_status,
            tell,
            proof_s,
            boot_s,
            self.port_modules,
        )

    def desk(self, gateway_status: Path | None = None, keys: KeySource | None = None, boot_s: float = 0.2) -> Desk:
        """What the technician takes along to a node's console; what he is told is kept in `told`."""

        def tell(step: str, detail: str) -> None:
            self.told.append(("", step, detail))

        return Desk(self.technician, self.registry, keys or KeySource(), gateway_status, tell, self.target.deadline_s(30), boot_s)

    def order(self, asset: str, port: str, is_replacing_keys: bool = False) -> Order:
        """One board, as the command makes it from the site file."""
        config, _, node, schedules = node_of_site(self.site, asset, NETWORK)
        return Order(port, asset, config, node, schedules, 12, is_replacing_keys)


class Lead:
    """Between a lent console at `far` and a port at `path`. After `pull_after` octets towards the board the port hangs up."""

    def __init__(self, far: str, pull_after: int | None = None) -> None:
        self._terminal = Terminal(Path(far + ".lead"))
        os.set_blocking(self._terminal.near, True)
        self._far = os.open(far, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._left = pull_after
        self.path = str(self._terminal.path)
        self.passed = 0
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        near = self._terminal.near
        while True:
            ready = select.select([near, self._far, self._wake_read], [], [])[0]
            if self._wake_read in ready:
                break
            if self._far in ready:
                with contextlib.suppress(OSError):
                    os.write(near, os.read(self._far, 4096))
            if near in ready:
                data = os.read(near, 4096)
                if self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                self.passed += len(data)
                while data:
                    with contextlib.suppress(BlockingIOError):
                        data = data[os.write(self._far, data) :]
                if self._left is not None and self._left <= 0:
                    break
        self._terminal.close()
        os.close(self._far)

    def end(self) -> None:
        """Pull it, if it is still there."""
        os.write(self._wake_write, b"\0")
        self._thread.join(10)
        os.close(self._wake_read)
        os.close(self._wake_write)


@contextlib.contextmanager
def lead(device: Device, pull_after: int | None = None) -> Iterator[Lead]:
    """The cable to a board's console."""
    with device.console.lent() as path:
        made = Lead(path, pull_after)
        try:
            yield made
        finally:
            made.end()


def once(bench: Workbench, board: str, status: Path | None = None, **changes: Any) -> Outcome:
    """Commission the board that was laid out for the asset `board`; `changes` to what is asked (asset, keys ...)."""
    keys = changes.pop("keys", None)
    with lead(bench.devices[board]) as cable:
        return commission(bench.bench(status, keys), replace(bench.order(board, cable.path), **changes))


def private_parts(bench: Workbench, asset: str) -> tuple[bytes, bytes]:
    """The private key and the hop key that lie on a board."""
    with lead(bench.devices[asset]) as cable:
        board = Board(cable.path)
        board.enter()
        identity = cbor.decode(bytes(board.transport.fs_readfile("/lamppost/identity.cbor")))
        board.close()
    return identity["private_key"], identity["hop_key"]


def run_on(bench: Workbench, asset: str, code: str) -> str:
    """What code prints on a board."""
    with lead(bench.devices[asset]) as cable:
        board = Board(cable.path)
        board.enter()
        try:
            return board.exec(code)
        finally:
            board.close()


def _node(number: int, asset: str, wiring: str) -> str:
    fixtures = ", ".join(f'{{ kind = "{kind}" }}' for kind in _FIXTURES[wiring])
    return f'[[node]]\nasset = "{asset}"\nlink = {{ kind = "serial", port = "/dev/ttyS{number}" }}\nfixtures = [{fixtures}]\n'
