"""Reset, watchdog and power cut in the middle of reporting, on every target: no lamp below its safe level, no number used twice (R04)."""

import random
from collections.abc import Callable

import pytest
from bench.targets.target import Target
from lamppost_protocol import hello, orders
from lamppost_protocol.kinds import AIR, NODE, split_kind
from street.accounts import check_numbers, check_outbox, obey, settle
from street.node_device import NodeDevice
from street.street_node import NodeSpec, StreetNode
from street.town import Town

LIGHT = 0xF1
_BOOTS, _RESET_CAUSE = 1, 2  # columns of profile node
PWRON_RESET, HARD_RESET, WDT_RESET = 1, 2, 3
#: Runs the very image, with a watchdog that bites soon and a line that hangs for ever in the midst of its third frame (message type 1).
HANGING = """
from lamppost_node import app, health
from lamppost_node.links import serial
health.WATCHDOG_MS = 4000
health.FEED_MS = 500
send = serial.SerialLink.send
frames = []
async def hanging(self, kind, body, *more):
    if kind == 1:
        frames.append(kind)
        if len(frames) == 3:
            print("hangs")
            while True:
                pass
    return await send(self, kind, body, *more)
serial.SerialLink.send = hanging
app.main(bytearray(4096))
"""


def device_of(node: StreetNode) -> NodeDevice:
    assert isinstance(node.program, NodeDevice)
    return node.program


def begin(street: Town) -> StreetNode:
    """A gateway, the time, the node, and two records stored."""
    street.add_gateway().start()
    street.serve_time()
    node = street.nodes[LIGHT]
    node.start()
    street.wait_stored(LIGHT, more_than=1)
    return node


def causes(node: StreetNode) -> list[int]:
    """What each health record says of the last reset."""
    return [values[_RESET_CAUSE] for values in node.values(NODE)]


def check(street: Town, node: StreetNode) -> None:
    """Everything arrives, once, and the lamp was at its safe level all along."""
    settle(street)
    check_numbers(node)
    check_outbox(street)
    assert min(level for _, level in street.lamp_log(LIGHT)) == 1000


@pytest.mark.needs("line", "models", "reset")
def test_reset_in_the_middle_of_reporting(target: Target, target_town: Callable[..., Town]) -> None:
    """machine.reset from the console: the node comes up by itself, says why, and goes on where it was."""
    street = target_town(NodeSpec(LIGHT))
    node = begin(street)
    first = len(node.hellos())
    device_of(node).reset()
    street.wait_until(lambda: len(node.hellos()) > first and HARD_RESET in causes(node), lambda: f"reset told as cause, not {causes(node)}")
    check(street, node)


@pytest.mark.needs("line", "models", "reset")
def test_the_watchdog_ends_a_hung_node(target: Target, target_town: Callable[..., Town]) -> None:
    """A loop without end in the midst of a frame: the watchdog bites, the node comes up, says so, and nothing is missing."""
    street = target_town(NodeSpec(LIGHT))
    node = begin(street)
    console = device_of(node).device.console
    with console.raw_repl(deadline_s=target.deadline_s()) as repl:
        mark = console.mark()
        repl.run(HANGING)
    console.expect("hangs", mark, target.deadline_s())
    street.wait_until(lambda: WDT_RESET in causes(node), lambda: f"watchdog told as cause, not {causes(node)}")
    check(street, node)


@pytest.mark.needs("line", "models", "power", "flash")
def test_power_cut_in_the_middle_of_reporting(target: Target, target_town: Callable[..., Town], seed: int) -> None:
    """Cut twice at random instants, dimmed by an order before the second: bright until the order is known to hold again, nothing lost."""
    source = random.Random(seed)
    street = target_town(NodeSpec(LIGHT))
    node = begin(street)
    for is_dimmed in (False, True):
        if is_dimmed:
            obey(street, node, orders.LEVEL, [40, 0], street.key.unix() + 36_000)
        street.let_pass(source.uniform(0.0, 2.0) * target.slowness)
        said = len(node.hellos())
        street.cut_power(LIGHT)
        check_numbers(node)
        check_outbox(street)
        street.wait_until(lambda: street.lamp(LIGHT)["level_permille"] == 1000, "light without power at the controller")
        if is_dimmed:
            street.without_time.add(LIGHT)
        node.start()
        street.wait_until(lambda said=said: len(node.hellos()) > said, "hello after the cut")
    assert street.lamp(LIGHT)["level_permille"] == 1000, "dimmed without knowing the time"
    assert causes(node)[-1] == PWRON_RESET
    street.without_time.clear()
    street.wait_until(lambda: street.lamp(LIGHT)["level_permille"] == 400, "the order that still holds, once the time is known")
    settle(street)
    check_numbers(node)
    check_outbox(street)
    assert min(level for _, level in street.lamp_log(LIGHT)) == 400


@pytest.mark.needs("line", "models", "power", "flash")
def test_three_short_lives_end_in_safe_mode_with_light(target: Target, target_town: Callable[..., Town]) -> None:
    """Cut before their good minute three times, the fourth start has the lamp lit, the link up and no other fixture."""
    street = target_town(NodeSpec(LIGHT, "station"))
    node = street.nodes[LIGHT]
    street.add_gateway().start()
    street.serve_time()
    for life in range(4):
        said = len(node.hellos())
        node.start()
        street.wait_until(lambda said=said: len(node.hellos()) > said, f"hello of life {life + 1}")
        state = node.hellos()[-1].state
        assert state == (hello.RUNNING if life < 3 else hello.SAFE_MODE)
        if life < 3:
            street.cut_power(LIGHT)

    def health_of_safe_mode() -> int:
        """The number of the first health record of the fourth boot, 0 while there is none."""
        found = [n for n, content in node.records().items() if content[0] == NODE and content[2 + _BOOTS] == 4]
        return min(found, default=0)

    first = street.wait_until(health_of_safe_mode, "health record of the fourth boot")
    assert AIR not in {split_kind(content[0])[0] for n, content in node.records().items() if n >= first}
    assert any("safe mode" in line for line in node.logs())
    check(street, node)
