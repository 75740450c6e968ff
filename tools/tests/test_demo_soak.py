"""A street under seeded mishaps: cables pulled, nodes and gateway killed, power cut, broker gone, noise. Nothing may be lost."""

import os
import random
import socket
import time
from pathlib import Path

import pytest
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.demo.layout import WIRED, Checkout, Layout
from lamppost_tools.demo.proof import numbers_said
from lamppost_tools.demo.street import WITNESS_ID, Street
from lamppost_tools.demo.witness import Seen, Witness, is_contiguous, says_the_same
from lamppost_tools.frame.input import load_ring

RUN_S = float(os.environ.get("LAMPPOST_SOAK_S", "120"))
MISHAPS = ("unplug", "kill_node", "power_cut", "kill_gateway", "broker", "noise")


def mishap(street: Street, chance: random.Random) -> str:
    """Let one thing go wrong and come back."""
    what, node = chance.choice(MISHAPS), chance.choice(WIRED)
    pause_s = chance.uniform(0.5, 4.0)
    if what == "unplug":
        street.ask_bench(op="pull", cable=node.name)
        time.sleep(pause_s)
        street.ask_bench(op="plug", cable=node.name)
    elif what == "kill_node":
        street.ask_bench(op="kill", node=node.name)
    elif what == "power_cut":
        street.ask_bench(op="power_cut", node=node.name)
    elif what == "kill_gateway":
        street.restart_gateway()
    elif what == "broker":
        street.kill_broker()
        time.sleep(pause_s)
        street.start_broker(WITNESS_ID)
    else:
        street.say(node.name, chance.randbytes(chance.randrange(400)))
    return f"{what} {node.name}"


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_whatever_happens(tmp_path: Path, seed: int) -> None:
    """Every record that a node said on its line reaches the city as signed, none is missing, and no lamp was ever dark."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chance = random.Random(seed)
    layout, checkout = Layout(tmp_path / "s", port), Checkout()
    layout.prepare()
    checkout.compile_image(layout.image)
    done: list[str] = []
    with Street(checkout, layout, seed) as street:
        street.start_broker()
        witness = Witness(BrokerSettings(port=port), layout.network, load_ring(layout.registry.path, layout.public, None))
        try:
            assert witness.start(10)
            street.start_services()
            street.start_nodes()
            end_s = time.monotonic() + RUN_S
            while time.monotonic() < end_s:
                time.sleep(chance.uniform(2.0, 5.0))
                done.append(mishap(street, chance))
            said = {node.id: numbers_said(street, node.name) for node in WIRED}

            def is_whole(seen: Seen) -> bool:
                known = {node: seen.numbers.get(node, set()) for node in said}
                return all(said[node] <= known[node] and is_contiguous(known[node]) for node in said)

            assert witness.wait(is_whole, 60), (seed, done)
            assert witness.look(lambda seen: all(says_the_same(seen, document) for document in seen.records.values()))
            assert witness.look(lambda seen: seen.unverified) == 0
            assert street.troubled() == [], (seed, done)
            for state in street.ask_bench(op="state")["nodes"].values():
                assert state.get("lamp") is None or state["lamp"]["min_level_permille"] == 1000, (seed, done)
        finally:
            witness.stop()
