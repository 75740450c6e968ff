"""A street on the air for whole-system tests: nodes and bridges on one simulated ether, real gateways, broker and authority.

The boards run in lock-step with their radios (bench/shared_air.py), so windows of 50 ms hold however busy this machine is; a bridge's line
is a terminal that its gateway opens. The nodes' only link is the air.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.program import Program
from bench.shared_air import SharedAir
from lamppost_gateway.topics import hex8
from lamppost_protocol import releases
from lamppost_protocol.es256_host import HostSigner
from lamppost_tools.node.config import node_config
from lamppost_tools.node.enrol import FLASH_FOLDER, KeySource, enrol_node, write_bridge_flash
from lamppost_tools.node.registry import Registry

from street.broker import Broker, Subscriber, python_path
from street.command_key import CommandKey
from street.node_device import state_files
from street.street_gateway import StreetGateway
from street.street_node import LAMP, PACE

NETWORK = 0x00C0FFEE
UPLINK_HZ, DOWNLINK_HZ = 868_100_000, 869_525_000
LORA = {
    "region": "EU868", "channels_hz": [UPLINK_HZ], "spreading_factor": 7, "fastest_spreading_factor": 7, "downlink_hz": DOWNLINK_HZ,
    "downlink_spreading_factor": 7, "spread_s": 0, "resend_s": 1, "gather_s": 0,
}  # fmt: skip
AIR = f"""[air]
region = "EU868"
uplink_channels_hz = [{UPLINK_HZ}]
uplink_spreading_factors = [7]
downlink_hz = {DOWNLINK_HZ}
downlink_spreading_factor = 7
"""
#: The same with E22 modules everywhere.
E22_UPLINK_HZ, E22_DOWNLINK_HZ = 866_125_000, 867_125_000
E22_LORA = {
    **LORA, "channels_hz": [E22_UPLINK_HZ], "downlink_hz": E22_DOWNLINK_HZ, "bandwidth_hz": 500_000, "downlink_bandwidth_hz": 500_000,
    "spreading_factor": 11, "fastest_spreading_factor": 11, "downlink_spreading_factor": 11, "power_dbm": 13, "least_power_dbm": 10,
}  # fmt: skip
E22_AIR = f"""[air]
radio = "e22"
region = "EU868"
uplink_channels_hz = [{E22_UPLINK_HZ}]
uplink_spreading_factors = [11]
uplink_bandwidth_hz = 500000
downlink_hz = {E22_DOWNLINK_HZ}
downlink_spreading_factor = 11
downlink_bandwidth_hz = 500000
power_dbm = 13
"""
_PLACE = {"latitude_deg": 52.52, "longitude_deg": 13.405, "utc_offset_s": 3600, "dst": "eu"}


class AirTown:
    """A context manager. `nodes`: node id to (wiring, fixtures, whether it listens always), a fixture by its kind or as its map.
    `hosts`: gateways, each with a bridge. `is_e22`: all radios are E22 modules.
    """

    def __init__(
        self, folder: Path, image: Mapping[str, bytes], nodes: dict[int, tuple[str, list[Any], bool]], seed: int,
        hosts: tuple[str, ...] = ("g1",), is_e22: bool = False,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.is_e22 = is_e22
        radio = "e22" if is_e22 else "sx1262"
        self.registry = Registry(folder / "registry" / "registry.json")
        self.key = CommandKey(folder / "authority", NETWORK, self.registry.path)
        self.gateways: dict[str, StreetGateway] = {}
        self.broker = Broker(folder)
        self.air = SharedAir(folder / "air", seed)
        self.cabinets: dict[str, Any] = {}
        (folder / "registry").mkdir(exist_ok=True)
        (folder / "lines").mkdir()
        for number, host in enumerate(hosts):
            files = {**image, **state_files(write_bridge_flash(folder / f"bridge-{host}", 1_800, radio))}
            self.cabinets[host] = self.air.add(f"bridge-{host}", "e22" if is_e22 else "radio", files, self.line(host), 400.0 * number)
        for node, (wiring, fixtures, is_always) in nodes.items():
            raw_fixtures = [
                {**LAMP} if one == "lamp" else {"kind": one, "instance": 0} if isinstance(one, str) else one for one in fixtures
            ]
            lora = {**(E22_LORA if is_e22 else LORA), "listens_always": int(is_always)}
            raw = {**_PLACE, **PACE, "report_s": 5, "health_s": 30, "radio": radio, "lora": lora, "fixtures": raw_fixtures}
            config, _ = node_config(raw, NETWORK)
            enrol_node(self.registry, folder / "nodes", self.key.public_path, config, node, hex8(node), KeySource())
            files = {**image, **state_files(folder / "nodes" / hex8(node) / FLASH_FOLDER)}
            self.cabinets[hex8(node)] = self.air.add(hex8(node), wiring, files, None, 200.0)
        self.broker.start()
        authority = ["-m", "lamppost_tools", "authority", "run", "--state", str(folder / "authority")]
        self.authority = Program(
            "authority", [sys.executable, *authority, "--broker-port", str(self.broker.port)], folder / "authority.log",
            {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self.authority.start()
        self.subscriber = Subscriber(self.broker.port, NETWORK)
        self.subscriber.wait_listening()

    def __enter__(self) -> "AirTown":
        return self

    def __exit__(self, *_: object) -> None:
        self.air.end()
        for gateway in self.gateways.values():
            gateway.close()
        self.subscriber.close()
        self.authority.kill()
        self.broker.kill()

    def line(self, host: str) -> Path:
        """The port at which a gateway finds its bridge."""
        return self.folder / "lines" / host

    def add_gateway(self, name: str = "g1", program: str = "") -> StreetGateway:
        """Make a gateway with its bridge; it is not started. Its antenna has sent nothing yet."""
        gateway = StreetGateway(self.folder / name, name, NETWORK, self.key.public_key, self.registry.path, {}, self.broker.port, program)
        modem = f'[[air.modem]]\nname = "roof"\ntype = "bridge"\npath = "{self.line(name)}"\n'
        air, channel_hz, factor = (E22_AIR, E22_UPLINK_HZ, 11) if self.is_e22 else (AIR, UPLINK_HZ, 7)
        gateway.write_config(f"{air}{modem}channel_hz = {channel_hz}\nspreading_factor = {factor}\n")
        done = gateway.command("airtime", "--unspent")
        assert done.returncode == 0, done.stderr
        self.gateways[name] = gateway
        return gateway

    def order(self, node: int, verb: int, target: int, arguments: list[Any]) -> int:
        """An order of the authority's, given to the broker; its id."""
        order_id, frame = self.key.order(node, verb, target, arguments)
        self.subscriber.publish("order/signed", self.key.document(node, order_id, frame))
        return order_id

    def release(self, body: bytes, base: bytes, version: str) -> bytes:
        """A release's signed manifest; the broker has its body."""
        digest = hashlib.sha256(body).digest()
        self.subscriber.retain(f"release/{digest.hex()}", body)
        manifest = releases.Manifest(5, base, version, 0, len(body), digest)
        return releases.seal_manifest(HostSigner(self.key.private_key), NETWORK, self.key.issuer, manifest)

    def states(self, order_id: int) -> list[str]:
        """States of an order as the broker was told."""
        return [document["state"] for document in self.subscriber.documents("order", str(order_id), "state")]

    def describe(self) -> str:
        """What everybody said last, for a failure's message."""
        said = {name: board.console.read_bytes()[-400:].decode(errors="replace") for name, board in self.air.boards.items()}
        logs = [gateway.log()[-1500:] for gateway in self.gateways.values()]
        return f"the air at {self.air.now_s():.1f} s {self.air.failure}; {said} {logs}"
