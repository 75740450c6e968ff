"""Clocks that jump: the gateway's does not matter to a node, and no jump of the authority's makes a lamp dark (R20)."""

from collections.abc import Callable

import pytest
from lamppost_protocol import orders
from lamppost_protocol.kinds import LAMP, ORDER_STATE
from street.street_node import NodeSpec, StreetNode
from street.town import Town

NODE = 0xD1
YEAR_S = 365 * 86400
DIM_PERCENT = 40
#: A gateway whose wall clock is this much off; its monotonic clock is sound, as on a machine without a battery.
WRONG_CLOCK = """
import time
right = time.time
time.time = lambda: right() + {offset_s}
from lamppost_gateway.__main__ import main
main()
"""


def answers(node: StreetNode, order_id: int) -> list[int]:
    """States the node has told of an order."""
    return [values[1] for values in node.values(ORDER_STATE) if values[0] == order_id]


def restart(town: Town, node: StreetNode) -> None:
    """The node starts anew, without its clock."""
    node.kill()
    node.forget_bad_boots()
    starts = len(node.hellos())
    node.start()
    town.wait_until(lambda: len(node.hellos()) > starts, "hello")


@pytest.mark.parametrize("offset_s", [-10 * YEAR_S, 10 * YEAR_S])
def test_a_gateway_with_a_wrong_clock(town: Callable[..., Town], offset_s: int) -> None:
    """Ten years off: records are stored with the node's own right time, and an order that has expired is not obeyed all the same."""
    street = town(NodeSpec(NODE))
    node = street.nodes[NODE]
    gateway = street.add_gateway(program=WRONG_CLOCK.format(offset_s=offset_s))
    gateway.start()
    street.serve_time()
    node.start()
    street.wait_until(lambda: node.knows_time, "time")
    stored = len(gateway.stored(NODE))
    street.wait_stored(NODE, more_than=stored)
    at_s = node.sent()[-1].t
    assert at_s is not None
    assert abs(at_s - street.key.unix()) <= 60
    expired, frame = street.key.order(NODE, orders.LEVEL, LAMP, [0, 0], (street.key.unix() - 7200, street.key.unix() - 60))
    street.obey(NODE, frame, lambda: answers(node, expired), "answer to the expired order")
    assert set(answers(node, expired)) == {orders.EXPIRED}
    assert street.lamp(NODE)["min_level_permille"] == 1000


def test_the_authority_clock_jumps(town: Callable[..., Town]) -> None:
    """Forward ends a lease into light; back is not believed, neither by broadcast nor after a restart; far orders are never obeyed."""
    street = town(NodeSpec(NODE))
    node, key = street.nodes[NODE], street.key
    street.add_gateway().start()
    street.serve_time()
    node.start()
    street.wait_until(lambda: node.knows_time, "time")
    end = key.unix() + 3600
    lease, frame = key.order(NODE, orders.LEVEL, LAMP, [DIM_PERCENT, 0], (key.unix() - 60, end))
    street.obey(NODE, frame, lambda: orders.APPLIED in answers(node, lease), "applied order")
    assert street.lamp(NODE)["level_permille"] == DIM_PERCENT * 10

    node.say(key.beacon(0, 0, None, unix=key.unix() - 10 * YEAR_S))
    late, frame = key.order(NODE, orders.LEVEL, LAMP, [0, 0], (key.unix() - 10 * YEAR_S - 60, key.unix() - 10 * YEAR_S + 60))
    street.obey(NODE, frame, lambda: answers(node, late), "answer to an order of ten years ago")
    assert set(answers(node, late)) == {orders.EXPIRED}
    assert street.lamp(NODE)["level_permille"] == DIM_PERCENT * 10

    key.offset_s = -YEAR_S  # a false time a year ago, truly signed, to a node that has just lost its clock
    restart(street, node)
    street.wait_until(lambda: any("not believed" in line for line in node.logs()), "refusal of a time below the floor")
    assert street.lamp(NODE)["level_permille"] == 1000
    assert not any(sent.t is not None and sent.t < key.unix() + YEAR_S // 2 for sent in node.sent())

    key.offset_s = 10 * YEAR_S
    restart(street, node)
    street.wait_until(lambda: node.knows_time, "time ten years ahead")
    street.wait_until(lambda: orders.REVERTED in answers(node, lease) or orders.EXPIRED in answers(node, lease), "end of the lease")
    street.wait_until(lambda: street.lamp(NODE)["level_permille"] == 1000, "light")
    levels = [level for _, level in street.lamp_log(NODE)]
    assert min(levels) == DIM_PERCENT * 10
