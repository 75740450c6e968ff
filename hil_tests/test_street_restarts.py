"""Reconfigured, restarted, cut off and connected again, a gateway keeps every row it has (R39); the demo's nodes fit their heap."""

import random
from collections.abc import Callable

import pytest
from lamppost_protocol.kinds import AIR, BIN, LAMP, NODE, split_kind
from street.street_node import HEAP_KB, IMAGES, NodeSpec
from street.town import Town

LAMP_NODE = 0xF1
KINDS = {"lamp": LAMP, "bin": BIN, "air": AIR}
_HEAP_FREE_LOWEST = 4  # column of profile node
#: Settings pushed one after the other; None: a file that is no configuration.
SETTINGS = (
    "",
    "[outbox]\nretention_h = 1\n",
    None,
    "[outbox]\nmax_mb = 64\ncommit_window_ms = 5\n",
    "[rejects]\nkeep_days = 1\n",
    None,
    "[outbox]\ndrain_per_s = 10\nlate_s = 5\n",
)


def restart_again_and_again(street: Town, seed: int, rounds: int) -> None:
    """Change settings, restart softly or hard, take the broker away and bring it back; rows once stored never change."""
    source = random.Random(seed)
    gateway, broker, subscriber = street.add_gateway(), street.broker, street.subscriber
    assert broker is not None
    assert subscriber is not None
    gateway.start()
    street.serve_time()
    street.nodes[LAMP_NODE].start()
    street.wait_stored(LAMP_NODE)
    for number in range(rounds):
        before = gateway.rows()
        settings = SETTINGS[number % len(SETTINGS)]
        if source.random() < 0.3:
            broker.kill()
            broker.start(first=subscriber.NAME)
        if source.random() < 0.5:
            gateway.kill()
        else:
            assert gateway.stop() == 0
        if settings is None:
            gateway.config.write_text('[gateway\nid = "garbage')
            assert gateway.command("run").returncode == 2
            assert gateway.rows()[: len(before)] == before
        gateway.write_config(settings or "")
        gateway.start()
        assert gateway.rows()[: len(before)] == before, f"rows changed by {settings!r}"
        street.wait_stored(LAMP_NODE, more_than=len(gateway.stored(LAMP_NODE)))
        assert gateway.rows()[: len(before)] == before
    assert gateway.integrity() == "ok"
    assert [n for n, times in gateway.stored(LAMP_NODE).items() if times > 1] == []


def test_restarts_and_settings_touch_no_row(town: Callable[..., Town], seed: int) -> None:
    """Seven settings, two of them garbage."""
    restart_again_and_again(town(NodeSpec(LAMP_NODE), is_connected=True), seed, len(SETTINGS))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_thousand_restarts(town: Callable[..., Town], seed: int) -> None:
    """The number of the promise."""
    restart_again_and_again(town(NodeSpec(LAMP_NODE), is_connected=True), seed, 1000)


def test_the_three_images_fit_the_heap(town: Callable[..., Town]) -> None:
    """Each of the demo's nodes runs and reports all its fixtures in 272 KB of 64-bit objects; the least they had free is printed."""
    specs = [NodeSpec(0xF0 + number, image) for number, image in enumerate(IMAGES, 1)]
    assert len(specs) == 3
    street = town(*specs)
    street.add_gateway().start()
    street.serve_time()
    for node in street.nodes.values():
        assert f"heapsize={HEAP_KB}k" in node.program.command
        assert HEAP_KB <= 272
        node.start()
    for node in street.nodes.values():
        street.wait_until(lambda node=node: len(node.values(NODE)) >= 4 and node.knows_time, "health records of a node that knows the time")
        lowest_bytes = min(values[_HEAP_FREE_LOWEST] for values in node.values(NODE))
        print(f"{node.spec.image}: {lowest_bytes} bytes of {HEAP_KB} KB free at the least")
        assert lowest_bytes > 2_000
        expected = {KINDS[fixture["kind"]] for fixture in node.spec.fixtures} | {NODE}
        assert {split_kind(content[0])[0] for content in node.records().values()} >= expected
        assert not any("MemoryError" in line for line in node.logs())
