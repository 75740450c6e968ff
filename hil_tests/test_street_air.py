"""A street on the air, whole: firmware of nodes and bridges, radio models on one ether, real gateways, broker and authority."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.deadline import wait_for
from lamppost_protocol import orders
from lamppost_protocol.kinds import LAMP
from street.air_town import AirTown
from street.node_device import LIBRARY
from street.release import base_of, body_of
from street.street_node import LAMP as LAMP_KEYS

BIN, LAMP_NODE = 0xB0, 0xA0


@pytest.fixture
def air_town(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> Iterator[Callable[..., AirTown]]:
    with ExitStack() as stack:

        def make(nodes: dict[int, tuple[str, list[Any], bool]], hosts: tuple[str, ...] = ("g1",), is_e22: bool = False) -> AirTown:
            return stack.enter_context(AirTown(tmp_path, lock_step_image, nodes, seed, hosts, is_e22))

        yield make


def until(town: AirTown, is_so: Callable[[], Any], what: str, deadline_s: float = 240.0) -> Any:
    return wait_for(is_so, lambda: f"{what}: {town.describe()}", deadline_s)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_bin_and_a_lamp_by_radio_to_the_city(air_town: Callable[..., AirTown]) -> None:
    """The bin's and the lamp's readings reach the broker verified, both know the time, and an order to the lamp ends at "verified"."""
    town = air_town({BIN: ("bin_radio", ["bin"], False), LAMP_NODE: ("lamp_radio", ["lamp"], True)})
    gateway = town.add_gateway()
    gateway.start()
    town.air.start()
    until(town, lambda: gateway.status()["modems"][0]["listening"], "a bridge that listens")
    for node, fixture in ((BIN, "bin"), (LAMP_NODE, "lamp")):
        until(
            town, lambda node=node, fixture=fixture: [
                each for each in town.subscriber.documents("node", f"{node:08x}", "record", fixture) if each["time"] is not None
            ], f"a dated record of {node:08x}",
        )  # fmt: skip
    order_id = town.order(LAMP_NODE, orders.LEVEL, LAMP, [40, 1])
    until(town, lambda: "verified" in town.states(order_id), "a verified order")
    states = town.states(order_id)
    assert states == sorted(set(states), key=states.index)
    status = gateway.status()
    signals = {each["node"]: each["signal"] for each in status["nodes"]}
    assert {each["link"] for each in status["nodes"]} == {"air"}
    assert signals[f"{BIN:08x}"]["spreading_factor"] == 7
    assert signals[f"{LAMP_NODE:08x}"]["modem"] == "roof"
    assert 0 < status["modems"][0]["airtime_spent_permille"] < 300
    assert gateway.counted("radio_sent", result="sent") + gateway.counted("radio_sent", result="unanswered") > 3
    shown = gateway.command("status")
    assert "868.100 MHz SF7" in shown.stdout
    assert "SF7 +" in shown.stdout


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_bin_and_a_lamp_take_a_release_by_radio(
    air_town: Callable[..., AirTown], lock_step_image: dict[str, bytes], tmp_path: Path
) -> None:
    """The body from the broker, pieces by the gateway's bridge, a power cut on the way: both end at "verified" and run the release."""
    fixtures = {"kind": "bin", "instance": 0, "report_s": 60, "sleep_s": 10}, {**LAMP_KEYS, "report_s": 60}
    town = air_town({BIN: ("bin_battery", [fixtures[0]], False), LAMP_NODE: ("lamp_radio", [fixtures[1]], True)})
    gateway = town.add_gateway()
    gateway.start()
    town.air.start()
    until(town, lambda: gateway.status()["modems"][0]["listening"], "a bridge that listens")
    number = "WORDS = bytes(" + repr(random.Random(1).randbytes(4_000)) + ")\n"
    changes = {
        "lamppost_node/version.py": 'VERSION = "lamppost 0.2.0"\nVERSION_NUMBER = 0x0200\n', "lamppost_node/novelty.py": number
    }  # fmt: skip
    manifest = town.release(body_of(tmp_path / "release", changes), base_of(lock_step_image, LIBRARY), "0.2.0")
    for node in (BIN, LAMP_NODE):
        until(
            town, lambda node=node: [
                each for each in town.subscriber.documents("node", f"{node:08x}", "record") if each["time"] is not None
            ], f"a dated record of {node:08x}",
        )  # fmt: skip
    orders_of = {node: town.order(node, orders.UPDATE, 0, [manifest]) for node in (BIN, LAMP_NODE)}
    until(
        town, lambda: any(each["offset"] > 1_000 for each in gateway.status()["releases"]["fetches"] if each["node"] == f"{LAMP_NODE:08x}"),
        "half of it at the lamp",
    )  # fmt: skip
    board = town.air.boards[f"{LAMP_NODE:08x}"]
    town.air.order(lambda: (board.cut_power(), board.power_on())[0])
    for node, order_id in orders_of.items():
        until(town, lambda order_id=order_id: "verified" in town.states(order_id), f"a verified update of {node:08x}", 900)
        until(
            town, lambda node=node: [
                each for each in town.subscriber.documents("node", f"{node:08x}", "record", "node")
                if each["fixture"] == "node" and each["values"]["firmware_version"]["value"] == 0x0200
            ], f"a record of the release by {node:08x}",
        )  # fmt: skip
    assert town.cabinets[f"{LAMP_NODE:08x}"].lamp.min_level_permille == 1000
    assert gateway.counted("radio_downlinks", kind="piece") >= 2 * 21
    assert gateway.counted("radio_sent", result="too_late") == 0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_lamp_by_e22_to_the_city(air_town: Callable[..., AirTown]) -> None:
    """Modules at both ends: the lamp's readings reach the broker verified and dated, an order ends at "verified", no answer is too late."""
    town = air_town({LAMP_NODE: ("lamp_e22", ["lamp"], False)}, is_e22=True)
    gateway = town.add_gateway()
    gateway.start()
    town.air.start()
    until(town, lambda: gateway.status()["modems"][0]["listening"], "a bridge that listens")
    until(
        town, lambda: [
            each for each in town.subscriber.documents("node", f"{LAMP_NODE:08x}", "record", "lamp") if each["time"] is not None
        ], "a dated record",
    )  # fmt: skip
    order_id = town.order(LAMP_NODE, orders.LEVEL, LAMP, [40, 1])
    until(town, lambda: "verified" in town.states(order_id), "a verified order")
    status = gateway.status()
    (signal,) = [each["signal"] for each in status["nodes"]]
    assert (signal["spreading_factor"], signal["modem"]) == (11, "roof")
    assert 0 < status["modems"][0]["airtime_spent_permille"] < 1000
    assert gateway.counted("radio_sent", result="too_late") == gateway.counted("radio_sent", result="radio_fault") == 0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_bin_on_a_battery_sleeps_between_its_reports(air_town: Callable[..., AirTown]) -> None:
    """Asleep most of the time, it is reached by an order behind a report; every record of its one power-up comes to the broker."""
    town = air_town({BIN: ("bin_battery", [{"kind": "bin", "instance": 0, "report_s": 20, "sleep_s": 10}], False)})
    cabinet = town.cabinets[f"{BIN:08x}"]
    gateway = town.add_gateway()
    gateway.start()
    town.air.start()
    until(town, lambda: gateway.status()["modems"][0]["listening"], "a bridge that listens")
    until(town, lambda: cabinet.sleeps >= 4, "sleeps behind its first minute")
    order_id = town.order(BIN, orders.RESEND, 0, [1, 1])
    until(town, lambda: "applied" in town.states(order_id), "an order that reached it")
    slept = cabinet.sleeps
    until(town, lambda: cabinet.sleeps >= slept + 4, "more sleeps")

    def records(fixture: str) -> list[dict[str, Any]]:
        return [each for each in town.subscriber.documents(f"{BIN:08x}", "record") if each["fixture"] == fixture]

    last = records("bin")[-1]["n"]
    known = {each["n"] for fixture in ("bin", "node", "order_state") for each in records(fixture)}
    assert known >= set(range(1, last + 1))
    assert {each["values"]["boots"]["value"] for each in records("node")} == {1}
    assert all(each["time"] is not None for each in records("bin")[3:])
    assert gateway.counted("radio_sent", result="too_late") == 0
