"""A new configuration by signed order, in virtual time: tried, and then for good or not at all; never a lamp the darker for it.

What the authority signs at all is `tools/tests/test_configure_rules.py`; here a node is also told what nobody should sign.
"""

import random
from binascii import crc32
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bench.lock_step import HALF, WHOLE
from lamppost_protocol import cbor, orders
from lamppost_protocol.kinds import NODE
from street.node_device import STATE
from street.updated_node import CONFIG, UpdatedNode

_DIGEST = 1 + 11  # of a health record, behind its quality
NEW = {**CONFIG, "health_s": 20}
FORMER, CHANGED = cbor.encode(CONFIG), cbor.encode(NEW)
LORA = {"region": "EU868", "channels_hz": [868_100_000], "downlink_hz": 869_525_000}
#: What only a visit may change, as far as a node knows it.
BY_CABLE = {
    "network": {**NEW, "network": CONFIG["network"] + 1},
    "no network": {name: value for name, value in NEW.items() if name != "network"},
    "bridge": {**NEW, "bridge": 1},
    "link": {**NEW, "lora": LORA},
    "another lamp": {**NEW, "fixtures": [*NEW["fixtures"], {"kind": "lamp", "instance": 1}]},
    "another number": {**NEW, "fixtures": [{"kind": "lamp", "instance": 1}]},
    "no lamp": {**NEW, "fixtures": []},
}
Make = Callable[..., UpdatedNode]


@pytest.fixture
def make(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> Iterator[Make]:
    """Makes nodes that have lived a good minute."""
    with ExitStack() as stack:

        def made(name: str = "n", **options: object) -> UpdatedNode:
            node = stack.enter_context(UpdatedNode(tmp_path / name, lock_step_image, seed, **options))
            node.begin()
            return node

        yield made


def configure(node: UpdatedNode, data: bytes = CHANGED) -> int:
    """Order that map; the order's id."""
    return node.city.order(node.board.now_s, orders.CONFIGURE, 0, [data])


def digest(node: UpdatedNode) -> int:
    """Of the configuration that its last health record names."""
    return node.city.of_kind(NODE)[-1][1][_DIGEST]


def on_flash(node: UpdatedNode) -> dict[str, bytes]:
    """Its files of configurations; of those behind a checksum the map."""
    system = node.flash()
    names = [name for name in system.listdir(STATE) if name.startswith("config.")]
    found = {name: system.open(f"{STATE}/{name}", "rb").read() for name in names}
    return {name: data[4:] if name != "config.trial" else b"" for name, data in found.items()}


def start_anew(node: UpdatedNode) -> None:
    """Power off and on again, and a health record of the new start."""
    if node.board.is_running:
        node.board.cut_power()
    node.board.wait(1)
    known = len(node.city.of_kind(NODE))
    node.board.power_on()
    node.until(lambda: len(node.city.of_kind(NODE)) > known, 60, "health record")


def test_a_configuration_is_tried_and_then_the_nodes_own(make: Make) -> None:
    """The node's word comes under the new one, when that has proved itself; it is then what a start finds, and what is fallen back to."""
    node = make()
    order_id = configure(node)
    node.until_told(order_id, "applied")
    node.run(20)
    assert on_flash(node)["config.cbor"] == FORMER
    node.until_told(order_id, "verified", 120)
    assert node.states(order_id) == ["accepted", "applied", "verified"]
    assert digest(node) == crc32(CHANGED)
    node.run(2)
    assert on_flash(node) == {"config.cbor": CHANGED, "config.good": CHANGED}
    start_anew(node)
    assert digest(node) == crc32(CHANGED)
    assert node.cabinet.lamp.min_level_permille == 1000


def test_one_that_reaches_no_gateway_is_taken_back(make: Make) -> None:
    """Half an hour without an acknowledgement: the former one runs, by itself, and says so when it is heard again."""
    node = make()
    order_id = configure(node)
    node.city.loses = lambda: "applied" in node.states(order_id)  # the line is gone before the trial begins
    node.until_told(order_id, "applied")
    node.run(1750)
    assert on_flash(node)["config.cbor"] == FORMER
    assert "config.trial" in on_flash(node)
    node.run(150)
    node.city.loses = lambda: False
    node.until_told(order_id, "reverted trial_failed", 1200)
    assert digest(node) == crc32(FORMER)
    assert on_flash(node) == {"config.cbor": FORMER, "config.good": FORMER}
    assert node.cabinet.lamp.min_level_permille == 1000
    node.run(60)  # until it has asked for the time again
    node.until_told(configure(node), "verified", 200)


def test_one_with_which_the_node_does_not_stay_up_is_taken_back(make: Make) -> None:
    """Two starts that end before their minute, whatever ends them; the third is the former one's, and no safe mode."""
    node = make()
    order_id = configure(node)
    node.until_told(order_id, "applied")
    node.until(lambda: len(node.city.hellos) > 1 and digest(node) == crc32(CHANGED), 60, "start with it")
    start_anew(node)
    assert digest(node) == crc32(CHANGED)
    start_anew(node)
    assert digest(node) == crc32(FORMER)
    node.until_told(order_id, "reverted trial_failed", 60)
    assert node.city.hellos[-1][1].state == 0
    node.run(70)
    assert on_flash(node) == {"config.cbor": FORMER, "config.good": FORMER}
    assert node.cabinet.lamp.min_level_permille == 1000


@pytest.mark.parametrize("what", BY_CABLE)
def test_what_a_visit_is_for_is_refused_by_the_node_too(make: Make, what: str) -> None:
    """Under the city's own signature: nothing is written, nothing restarts."""
    node = make()
    order_id = configure(node, cbor.encode(BY_CABLE[what]))
    node.until_told(order_id, "refused only_by_cable", 60)
    assert node.states(order_id) == ["refused only_by_cable"]
    assert on_flash(node) == {"config.cbor": FORMER, "config.good": FORMER}


def test_a_newer_one_takes_the_place_of_a_trial_and_so_does_a_technician(make: Make) -> None:
    """Each order's end is told, once its place is taken; what a technician wrote at the console is what runs."""
    node = make()
    first = configure(node)
    node.until_told(first, "applied")
    node.until(lambda: digest(node) == crc32(CHANGED), 60, "start with the first")
    other = cbor.encode({**CONFIG, "health_s": 25})
    second = configure(node, other)
    node.until_told(second, "applied")
    assert node.states(first)[-1] == "reverted superseded"
    node.until(lambda: digest(node) == crc32(other), 60, "start with the second")
    node.board.cut_power()
    by_hand = cbor.encode({**CONFIG, "health_s": 35})

    def write(system: object) -> None:
        with system.open(f"{STATE}/config.cbor", "wb") as file:
            file.write(by_hand)

    node.change_flash(write)
    start_anew(node)
    node.until_told(second, "reverted superseded", 60)
    assert digest(node) == crc32(by_hand)
    node.run(2)
    assert "config.trial" not in on_flash(node)


def test_the_one_that_runs_already_is_verified_by_a_trial_too(make: Make) -> None:
    """An absolute state: told again, it is proved again."""
    node = make()
    order_id = configure(node, FORMER)
    node.until_told(order_id, "verified", 200)
    assert digest(node) == crc32(FORMER)


def is_cut_survived(node: UpdatedNode, phase: str, operation: int, mode: int) -> bool:
    """Cut the power in a flash operation of that phase, and see it end as it does uncut; False: the phase has not so many."""
    fault = f"cut {operation} {mode}"
    order_id = configure(node)
    if phase == "store":
        node.board.suffer(fault)
    elif phase == "trial":
        node.board.suffer_at_start(fault, 1)
    else:
        node.city.loses = lambda: "applied" in node.states(order_id)
        node.board.suffer_at_start(fault, 2)  # the start that ends the trial
        node.run(1900)
        node.city.loses = lambda: False
    if phase == "store":
        node.run(60)
        if not node.states(order_id) and "config.trial" not in on_flash(node):
            assert node.cuts  # counted, and the power went before it was kept: as any order, it needs another
            order_id = configure(node)
    node.until_told(order_id, "reverted trial_failed" if phase == "return" else "verified", 4000)
    was_cut = node.cuts > 0
    node.until(
        lambda: "config.trial" not in on_flash(node), 120, "end of the trial"
    )  # told before it is forgotten: it may prove itself twice
    node.run(60)
    kept = FORMER if phase == "return" else CHANGED
    assert on_flash(node) == {"config.cbor": kept, "config.good": kept}
    assert not {state.split()[0] for state in node.states(order_id)} & {
        "refused",
        "expired",
        "verified" if phase == "return" else "reverted",
    }
    start_anew(node)
    assert digest(node) == crc32(kept)
    node.run(60)  # until it knows the time
    node.until_told(configure(node, cbor.encode({**CONFIG, "health_s": 22})), "verified", 300)
    assert node.cabinet.lamp.min_level_permille == 1000
    return was_cut


PHASES = ("store", "trial", "return")


@pytest.mark.parametrize("phase", PHASES)
def test_a_power_cut_within_a_flash_operation(make: Make, seed: int, phase: str) -> None:
    """One of the sweep below."""
    draw = random.Random(seed)
    operation, mode = draw.randint(1, 12), draw.choice((HALF, WHOLE))
    print(phase, operation, mode)
    assert is_cut_survived(make(), phase, operation, mode)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("mode", [HALF, WHOLE], ids=["half", "whole"])
def test_a_power_cut_within_every_flash_operation(
    tmp_path: Path, lock_step_image: dict[str, bytes], seed: int, phase: str, mode: int
) -> None:
    """From the order to the trial, in the trial until it is confirmed, in the return from a failed one: always one of the two, whole."""
    operation = 0
    was_cut = True
    while was_cut:
        operation += 1
        with UpdatedNode(tmp_path / str(operation), lock_step_image, seed) as node:
            node.begin()
            try:
                was_cut = is_cut_survived(node, phase, operation, mode)
            except AssertionError as error:
                raise AssertionError(f"{phase}, operation {operation}, mode {mode}: {error}") from error
    print(f"{phase}: {operation - 1} operations cut, mode {mode}")
    assert operation > 12
