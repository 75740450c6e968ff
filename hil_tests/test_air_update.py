"""Signed updates over the air, in virtual time: a lamp that always listens and a bin that sleeps fetch, try and confirm a release, with
lost packets and a power cut on the way. The city speaks WIRE.md; the product's gateway does in gateway/tests/test_air_releases.py.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench.lock_step import HALF
from bench.peripherals.ether import Emission
from bench.rom_image import ROM_FOLDER
from lamppost_protocol import orders, releases
from lamppost_protocol.kinds import BIN, ORDER_STATE
from lamppost_protocol.kinds import NODE as HEALTH
from street.lone_node import NETWORK, NODE, LoneAirNode
from street.node_device import LIBRARY, ROM_LIBRARY
from street.release import Changes, base_of, body_of
from street.updated_node import boot_record, told

START_UNIX = 1_805_112_000
SEED = int(os.environ.get("LAMPPOST_SEED", "20261127"))
LORA = {
    "region": "EU868",
    "channels_hz": [868_100_000, 868_300_000, 868_500_000],
    "downlink_hz": 869_525_000,
    "spread_s": 20,
    "gather_s": 0,
}
E22_LORA = {
    "channels_hz": [866_125_000], "downlink_hz": 867_125_000, "bandwidth_hz": 500_000, "downlink_bandwidth_hz": 500_000,
    "spreading_factor": 11, "fastest_spreading_factor": 11, "downlink_spreading_factor": 11, "power_dbm": 13, "least_power_dbm": 10,
}  # fmt: skip
CONFIG = {"network": NETWORK, "health_s": 300, "lora": LORA}
LAMP = {"wiring": "lamp_radio", "fixtures": [{"kind": "lamp", "instance": 0}]}
SLEEPER = {"wiring": "bin_battery", "fixtures": [{"kind": "bin", "instance": 0, "sleep_s": 300, "report_s": 300}]}
VERSION: Changes = {"lamppost_node/version.py": 'VERSION = "lamppost 0.2.0"\nVERSION_NUMBER = 0x0200\n'}
VERSION_NUMBER = 0x0200
_BOOTS, _FIRMWARE = 3, 14  # of a record of profile node, behind its kind and quality
Make = Callable[..., "AirNode"]


class AirNode(LoneAirNode):
    """A node on the air with its releases."""

    def __init__(
        self, folder: Path, image: dict[str, bytes], config: dict[str, Any], wiring: str, seed: int, x_m: float, **board: Any
    ) -> None:  # fmt: skip
        super().__init__(folder / "node", image, config, START_UNIX, seed, x_m=x_m, wiring=wiring, **board)
        self.folder = folder
        self.draw = random.Random(seed)
        self.base = base_of(image, ROM_LIBRARY if any(path.startswith(ROM_FOLDER) for path in image) else LIBRARY)

    def order(self, changes: Changes, order_id: int, life_s: int = 86_400, filling: int = 0) -> bytes:
        """Order a release of these changes and so many octets of no use; its body."""
        changes = (
            {**changes, "lamppost_node/novelty.py": "WORDS = bytes(" + repr(random.Random(1).randbytes(filling)) + ")\n"}
            if filling
            else changes
        )
        body: bytes = body_of(self.folder / f"release-{order_id}", changes)
        manifest = self.city.release(body, self.base, order_id, "0.2.0")
        now = int(START_UNIX + self.board.now_s)
        self.air.order(NODE, order_id, (now - 10, now + life_s), orders.UPDATE, 0, [manifest])
        return body

    def states(self, order_id: int) -> list[str]:
        """What it said of an order."""
        found = [record for _, record in sorted(self.citizen.records.items()) if record[0] == ORDER_STATE and record[2] == order_id]
        return [told(record[3], record[4]) for record in found]

    def until_told(self, order_id: int, state: str, deadline_s: float) -> None:
        self.run_until(lambda: state in self.states(order_id), deadline_s, f"{state}, only {self.states(order_id)}")

    def health(self) -> list[list[int]]:
        return [record for record in self.citizen.records.values() if record[0] == HEALTH]

    def until_runs(self, version_number: int) -> None:
        """Until a record of its health says this."""
        self.run_until(lambda: any(record[_FIRMWARE] == version_number for record in self.health()), 2_000, "record of the release")

    def loses(self, share: float) -> None:
        """So many packets are lost either way once it has its order: the city says that only once."""
        self.run_until(lambda: any(record[0] == ORDER_STATE for record in self.citizen.records.values()), 6_000, "order that was heard")
        self.air.loses = lambda: self.draw.random() < share

    def begin(self) -> None:
        """Power, the time, a good minute."""
        self.board.power_on()
        self.run_until(lambda: self.citizen.hellos, 300, "hello")
        self.run(self.board.now_s + 70)


@pytest.fixture
def make(tmp_path: Path, lock_step_image: dict[str, bytes]) -> Make:
    def made(kind: dict[str, Any], x_m: float = 600.0, radio: str = "sx1262", report_s: int = 60, **lora: object) -> AirNode:
        config = {**CONFIG, "report_s": report_s, "radio": radio, "lora": {**LORA, **lora}, "fixtures": kind["fixtures"]}
        return AirNode(tmp_path, lock_step_image, config, kind["wiring"], SEED, x_m, on_vm=True)

    return made


def test_a_lamp_that_listens_always_takes_a_release(make: Make) -> None:
    """A tenth of all packets lost either way, the power cut in the middle: fetched on from there, tried, confirmed; lit all the time."""
    with make(LAMP, listens_always=1) as node:
        node.begin()
        body = node.order(VERSION, 5, filling=4_000)
        node.loses(0.1)
        wants = node.citizen.wants
        node.run_until(lambda: wants and wants[-1][1].first >= 800, 900, "half of it")
        node.board.cut_power()
        node.board.wait(5)
        kept = wants[-1][1].first
        before = len(wants)
        node.board.power_on()
        node.run_until(lambda: len(wants) > before, 900, "want behind the cut")
        assert wants[before][1].first >= kept
        node.until_told(5, "verified", 2_000)
        assert boot_record(node.board) == (1, 0, 0)
        node.until_runs(VERSION_NUMBER)
        assert node.cabinet.lamp.min_level_permille == 1000
        assert node.states(5)[-1] == "verified"
        pieces = -(-len(body) // releases.PIECE_BYTES)
        print(f"{pieces} pieces by {len(wants)} wants and {node.air.pieces} packets, {node.board.now_s:.0f} s")
        assert node.air.pieces < 3 * pieces
        assert node.air.refused == {}


def test_a_bin_that_sleeps_takes_a_release(make: Make) -> None:
    """Awake while pieces come, asleep where none do, awake through its trial, whose starts are no wake-ups; then it sleeps as before."""
    with make(SLEEPER, gather_s=2_700) as node:
        node.begin()
        node.run_until(lambda: node.board.is_asleep, 900, "sleep")
        node.order(VERSION, 5, filling=4_000)
        node.loses(0.1)
        wants = node.citizen.wants
        node.run_until(lambda: wants and wants[-1][1].first >= 400, 2_000, "half of it")
        # Nobody has the body any more: three wants, then sleep, and one want at each waking.
        bodies, node.air.bodies = node.air.bodies, {}
        node.run_until(lambda: node.board.is_asleep, 300, "sleep while nothing comes")
        at, sleeps = len(wants), node.cabinet.sleeps
        node.run(node.board.now_s + 1_800)
        assert 1 <= len(wants) - at <= node.cabinet.sleeps - sleeps + 1
        node.board.cut_power()
        node.board.wait(20)
        node.air.bodies = bodies
        node.board.power_on()
        node.until_told(5, "applied", 9_000)
        node.run_until(lambda: boot_record(node.board)[1] == 1, 100, "trial")
        starts, begin_s = set(), node.board.now_s
        while "verified" not in node.states(5):
            # Nobody answers at first, when it has lived its good minute.
            node.air.is_silent = node.board.now_s < begin_s + 200
            assert node.board.now_s < begin_s + 1_700
            node.run(node.board.now_s + 2)
            starts.add(boot_record(node.board)[2])
        assert starts == {0, 1}, "starts of the trial"
        assert boot_record(node.board) == (1, 0, 0)
        assert {health[_BOOTS] for health in node.health()} <= {1, 2, 3}, "the power cut's start, and the trial's"
        sleeps = node.cabinet.sleeps
        node.run_until(lambda: node.cabinet.sleeps >= sleeps + 3, 2_000, "sleeps under the release")
        node.until_runs(VERSION_NUMBER)
        assert [record[0] for _, record in sorted(node.citizen.records.items())][-5:].count(BIN) >= 1
        node.air.loses = lambda: False
        node.run_until(lambda: node.citizen.window.highest == max(node.citizen.records), 6_000, "every record of before")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_lamp_with_an_e22_takes_a_release(make: Make) -> None:
    """A piece fits such a module's packet; the city's answers begin to the instant."""
    with make({"wiring": "lamp_e22", "fixtures": LAMP["fixtures"]}, radio="e22", report_s=300, **E22_LORA) as node:
        node.begin()
        body = node.order(VERSION, 5, filling=4_000)
        node.loses(0.1)
        node.until_told(5, "verified", 9_000)
        assert node.air.pieces < 3 * -(-len(body) // releases.PIECE_BYTES)
        assert node.cabinet.lamp.min_level_permille == 1000


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", [LAMP, SLEEPER], ids=["lamp", "bin"])
def test_twenty_kilobytes_through_losses_and_power_cuts(make: Make, kind: dict[str, Any]) -> None:
    """A third of all packets lost, 2 km away at SF9, the power cut at any moment: verified, within the law's airtime, never dark."""
    with make(kind, x_m=2_000.0, report_s=300, spreading_factor=9, fastest_spreading_factor=9, listens_always=int(kind is LAMP)) as node:
        sent: list[tuple[float, float]] = []
        begin = node.air.ether.begin

        def note(emission: Emission, now_s: float) -> None:
            if emission.station is not node.air.station:
                sent.append((emission.start_s, emission.end_s))
            begin(emission, now_s)

        node.air.ether.begin = note  # type: ignore[method-assign]
        node.begin()
        body = node.order(VERSION, 5, life_s=3 * 86_400, filling=20_000)
        node.loses(0.3)
        cuts = 0
        while "verified" not in node.states(5):
            assert node.board.now_s < 2 * 86_400
            if not node.run(node.board.now_s + node.draw.uniform(100, 3_000)) or (cuts < 12 and node.draw.random() < 0.5):
                cuts += 1
                if node.board.is_running:
                    node.board.cut_power()
                node.board.wait(node.draw.uniform(1, 300))
                node.board.power_on()
            elif cuts < 12:
                node.board.suffer(f"cut {node.draw.randint(1, 40)} {HALF}")
        pieces = -(-len(body) // releases.PIECE_BYTES)
        print(f"{pieces} pieces by {len(node.citizen.wants)} wants, {node.air.pieces} sent, {cuts} cuts, {node.board.now_s / 3600:.1f} h")
        assert boot_record(node.board) == (1, 0, 0)
        assert cuts > 3
        hours = (sum(min(end_s, at_s + 3600) - begin_s for begin_s, end_s in sent if at_s <= begin_s < at_s + 3600) for at_s, _ in sent)
        assert 2 < max(hours) <= 36
        if kind is LAMP:
            assert node.cabinet.lamp.min_level_permille == 1000
