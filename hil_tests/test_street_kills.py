"""Nodes, gateway and broker killed at random instants: no number is reused, nothing acknowledged is lost, no lamp goes dark (R01, R04)."""

import random
import time
from collections.abc import Callable

import pytest
from lamppost_protocol import orders
from street.accounts import check_numbers, check_outbox, obey, settle
from street.street_node import NodeSpec, StreetNode
from street.town import Town

PLAIN, DIMMED = 0xA1, 0xA2
SCHEDULE_PERCENT, LEASE_PERCENT = 60, 30


def kill_nodes(town: Town, seed: int, rounds: int) -> None:
    """Both nodes live and die `rounds` times; one has a schedule and a lease that dim it, the other has nothing.

    In some lives they are not told the time: then the dimmed one must be at full light as well, whatever is on its flash.
    """
    source = random.Random(seed)
    plain, dimmed = town.nodes[PLAIN], town.nodes[DIMMED]
    town.add_gateway().start()
    town.serve_time()
    for node in town.nodes.values():
        node.start()
    end = town.key.unix() + 36_000
    obey(town, dimmed, orders.SCHEDULE, [[1, SCHEDULE_PERCENT, [], []]], end)
    obey(town, dimmed, orders.LEVEL, [LEASE_PERCENT, 0], end)
    assert town.lamp(DIMMED)["level_permille"] == LEASE_PERCENT * 10
    timeless: list[tuple[float, float]] = []
    started_s = time.time()
    for number in range(rounds):
        victims = [plain, dimmed] if number == 0 else source.choice(([plain], [dimmed], [plain, dimmed]))
        for node in victims:
            node.kill()
            if node is dimmed and DIMMED in town.without_time:
                timeless.append((started_s, time.time()))
            if source.random() < 0.8:
                node.forget_bad_boots()
            check_numbers(node)
            town.without_time.discard(node.node)
            if source.random() < 0.4:
                town.without_time.add(node.node)
            node.start()
        if dimmed in victims:
            town.wait_until(lambda: town.lamp(DIMMED)["level_permille"] == 1000 or DIMMED not in town.without_time, "light")
            started_s = time.time()
        town.let_pass(source.uniform(0.0, 2.0))
        check_outbox(town)
    town.without_time.clear()
    for node in town.nodes.values():
        node.kill()
        node.forget_bad_boots()
        node.start()
    settle(town)
    for node in town.nodes.values():
        check_numbers(node)
    check_outbox(town)
    town.wait_until(lambda: town.lamp(DIMMED)["level_permille"] == LEASE_PERCENT * 10, "the lease after the last restart")
    assert min(level for _, level in town.lamp_log(PLAIN)) == 1000
    log = town.lamp_log(DIMMED)
    assert min(level for _, level in log) == LEASE_PERCENT * 10
    dark = [(at_s, level) for at_s, level in log for first_s, last_s in timeless if level < 1000 and first_s < at_s < last_s - 0.01]
    assert dark == [], f"dimmed in a life without the time, {timeless}"


def test_nodes_killed_at_random_instants(town: Callable[..., Town], seed: int) -> None:
    """Twelve kills: numbers and counters unique, spool whole, gateway contiguous, no lamp below what a valid order allows."""
    kill_nodes(town(NodeSpec(PLAIN), NodeSpec(DIMMED)), seed, 12)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_nodes_killed_two_hundred_times(town: Callable[..., Town], seed: int) -> None:
    """The same, 200 times."""
    kill_nodes(town(NodeSpec(PLAIN), NodeSpec(DIMMED)), seed, 200)


def kill_services(town: Town, seed: int, rounds: int) -> None:
    """Gateway and broker die at random instants while nodes report; in the end the subscriber knows every record the gateway took."""
    source = random.Random(seed)
    gateway = town.add_gateway()
    broker, subscriber = town.broker, town.subscriber
    assert broker is not None
    assert subscriber is not None
    gateway.start()
    town.serve_time()
    for node in town.nodes.values():
        node.start()
    for node in town.nodes.values():
        town.wait_stored(node.node)
    kills = {"gateway": 0, "broker": 0}
    for number in range(rounds):
        town.let_pass(source.uniform(0.1, 1.0))
        victims = (["broker"], ["gateway"])[number] if number < 2 else source.choice((["gateway"], ["broker"], ["gateway", "broker"]))
        for victim in victims:
            kills[victim] += 1
            (gateway if victim == "gateway" else broker).kill()
        town.let_pass(source.uniform(0.0, 0.5))
        check_outbox(town)
        if "broker" in victims:
            broker.start(first=subscriber.NAME)
            subscriber.wait_listening()
        if "gateway" in victims:
            gateway.start()
            gateway.wait_links_up()
    settle(town)
    check_outbox(town)
    for node in town.nodes.values():
        acknowledged = node.acknowledged()
        assert acknowledged
        # Up to the newest acknowledged number without a hole, also what a later acknowledgement covers and back-fill still carries.
        owed = set(range(1, max(acknowledged) + 1))

        def missing(node: StreetNode = node, owed: set[int] = owed) -> list[int]:
            return sorted(owed - told(town, node))

        subscriber.wait(lambda: not missing(), lambda node=node: f"numbers {missing()} of {node.id} at the subscriber after {kills}")


def told(town: Town, node: StreetNode) -> set[int]:
    """Record numbers in the raw frames the subscriber got; each frame is octet for octet one that the node sent."""
    assert town.subscriber is not None
    by_data = {sent.data: sent for sent in node.sent()}
    numbers: set[int] = set()
    for data in town.subscriber.frames(node.node):
        sent = by_data[data]
        numbers.update(range(sent.n, sent.n + len(sent.contents)))
    return numbers


def test_gateway_and_broker_killed_at_random_instants(town: Callable[..., Town], seed: int) -> None:
    """Five rounds: everything acknowledged reaches the subscriber, octet for octet, without a hole."""
    kill_services(town(NodeSpec(PLAIN), NodeSpec(0xA3, "station"), is_connected=True), seed, 5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_gateway_and_broker_killed_a_hundred_times(town: Callable[..., Town], seed: int) -> None:
    """The same, 100 times."""
    kill_services(town(NodeSpec(PLAIN), NodeSpec(0xA3, "station"), is_connected=True), seed, 100)
