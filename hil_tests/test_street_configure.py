"""A configuration changed from the desk: real nodes, gateway, broker and authority, and the command that an operator types."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.program import Program
from lamppost_protocol import cbor, orders
from lamppost_protocol.kinds import ORDER_STATE
from street.broker import python_path
from street.street_node import LAMP, PACE, NodeSpec
from street.town import Town
from test_street_rollout import FIRST, SECOND, Desk, living

SITE = """
name = "street"
[place]
latitude_deg = 52.52
longitude_deg = 13.405
utc_offset_s = 3600
dst = "eu"
{nodes}
"""
NODES = """
[[node]]
asset = "pole {number}"
{own}
link = {{ kind = "serial", port = "/dev/ttyUSB{number}" }}
fixtures = [{{ {lamp}, wiring = {{ pwm_pin = 25, relay_pin = 26, scl_pin = 22, sda_pin = 21 }} }}]
"""


class Office(Desk):
    """The same desk, with a site file."""

    def __init__(self, town: Town, image: Path) -> None:
        super().__init__(town, image)
        self.site = town.folder / "site.toml"
        self.where = ["--network", self.network, "--broker-port", str(self.port)]

    def write_site(self, own: dict[str, int], lamp: dict[str, int]) -> None:
        """What the street is to have; both nodes alike."""
        fixture = ", ".join(f"{key} = {json.dumps(value)}" for key, value in {**LAMP, **lamp}.items() if key != "instance")
        lines = "\n".join(f"{key} = {value}" for key, value in {**PACE, **own}.items())
        nodes = "".join(NODES.format(number=number, own=lines, lamp=fixture) for number in range(2))
        self.site.write_text(SITE.format(nodes=nodes))

    def configure(self, asset: str, *more: str, deadline_s: float = 200) -> subprocess.CompletedProcess[str]:
        """The operator's command."""
        command = ["order", "configure", "--site", self.site, "--asset", asset, "--registry", self.registry, *self.where, *more]
        return self.lamppost(*command, deadline_s=deadline_s)

    def held(self, node: int) -> dict[str, Any]:
        """What the registry says that a node has."""
        configuration: dict[str, Any] = json.loads(self.registry.read_text())["nodes"][f"{node:08x}"]["configuration"]
        return configuration


@pytest.fixture
def office(town: Callable[..., Town], image: Path) -> Iterator[tuple[Office, Town]]:
    """Two lamps that live, and a desk."""
    made = town(NodeSpec(FIRST), NodeSpec(SECOND), is_connected=True)
    assert made.broker is not None
    run = ["-m", "lamppost_tools", "authority", "run", "--state", str(made.folder / "authority"), "--broker-port", str(made.broker.port)]
    authority = Program("authority", [sys.executable, *run], made.folder / "authority.log", {"PYTHONPATH": python_path()})
    with living(made, authority):
        yield Office(made, image), made


def states(town: Town, node: int, order_id: int) -> list[int]:
    """A node's own signed words of an order."""
    return [values[1] for values in town.nodes[node].values(ORDER_STATE) if values[0] == order_id]


def on_trial(town: Town, node: int) -> int:
    """How many of its starts were a trial's."""
    return sum(line.endswith("configuration trial") for line in town.nodes[node].logs())


def test_a_change_is_told_signed_tried_and_verified_and_a_forbidden_one_is_not(office: tuple[Office, Town]) -> None:
    """Power goes once in the trial; the registry learns of it; what is for a visit the authority refuses, and the node, were it signed."""
    desk, town = office
    desk.write_site({"report_s": 10, "health_s": 10}, {"safe_level_percent": 100})
    told = desk.configure("pole 0", "--dry-run", "--json")
    assert told.returncode == 0, told.stdout
    changes = ["health_s: 1 -> 10", "report_s: 1 -> 10"]
    assert json.loads(told.stdout) == {"node": f"{FIRST:08x}", "asset": "pole 0", "changes": changes}

    desk.write_site({"report_s": 10, "health_s": 10}, {"safe_level_percent": 60, "control_100_mv": 8000})
    refused = desk.configure("pole 0")
    assert refused.returncode == 1
    words = " ".join(refused.stderr.split())
    for said in ("only_by_cable", "lamp.control_100_mv: 10000 -> 8000", "lamp.safe_level_percent: 60, the city's least is 100"):
        assert said in words, words
    assert town.nodes[FIRST].values(ORDER_STATE) == []

    desk.write_site({"report_s": 10, "health_s": 10}, {})
    waiting = desk.configure("pole 0", "--no-wait", "--json")
    assert waiting.returncode == 0, waiting.stdout
    order_id = json.loads(waiting.stdout.splitlines()[-1])["order_id"]
    town.wait_until(lambda: on_trial(town, FIRST) == 1, "start of the trial")
    town.cut_power(FIRST)
    town.wait_until(lambda: on_trial(town, FIRST) == 2, "second start of the trial")
    town.wait_until(lambda: orders.VERIFIED in states(town, FIRST, order_id), "verified", 150)
    assert orders.REVERTED not in states(town, FIRST, order_id)
    town.wait_until(lambda: desk.held(FIRST)["health_s"] == 10, "registry that knows")
    assert (town.nodes[FIRST].flash / "config.cbor").read_bytes()[4:] == cbor.encode(desk.held(FIRST))
    assert json.loads(desk.configure("pole 0", "--dry-run", "--json").stdout)["changes"] == []
    assert desk.held(SECOND)["health_s"] == 1

    order_id, frame = town.key.order(FIRST, orders.CONFIGURE, 0, [cbor.encode({**desk.held(FIRST), "bridge": 1})], order_id=order_id + 100)
    town.obey(FIRST, frame, lambda: states(town, FIRST, order_id), "refusal")
    assert town.nodes[FIRST].values(ORDER_STATE)[-1][:3] == [order_id, orders.REFUSED, orders.ONLY_BY_CABLE]


def test_one_with_which_a_node_does_not_stay_up_comes_back_reverted(office: tuple[Office, Town]) -> None:
    """The operator's command ends with 1 and the reason; the node runs what it had, and so says the registry."""
    desk, town = office
    desk.write_site({"health_s": 10}, {})
    before = (town.nodes[SECOND].flash / "config.cbor").read_bytes()
    command = [sys.executable, "-m", "lamppost_tools", "order", "configure", "--site", desk.site, "--asset", "pole 1"]
    program = Program(
        "operator",
        [*map(str, command), "--registry", str(desk.registry), *desk.where, "--json"],
        town.folder / "operator.log",
        {"PYTHONPATH": python_path()},
    )
    program.start()
    for starts in (1, 2):
        town.wait_until(lambda starts=starts: on_trial(town, SECOND) == starts, f"start {starts} of the trial")
        town.cut_power(SECOND)
    town.wait_until(lambda: not program.is_running, "end of the command", 90)
    said = [json.loads(line) for line in program.said().splitlines() if line.startswith("{")]
    assert said[0]["changes"] == ["health_s: 1 -> 10"]
    assert "ended reverted" in said[-1]["error"]
    assert (said[-2]["state"], said[-2]["evidence"]["reason"]) == ("reverted", "trial_failed")
    assert (town.nodes[SECOND].flash / "config.cbor").read_bytes()[-len(before) :] == before
    assert not (town.nodes[SECOND].flash / "config.trial").exists()
    assert desk.held(SECOND)["health_s"] == 1
