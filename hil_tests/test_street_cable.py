"""Cables as they are: pulled and plugged, noisy, with a stranger at the end, heard by two gateways (R10, R17, R34)."""

import json
from collections.abc import Callable

import pytest
from bench.deadline import wait_for
from lamppost_protocol.es256_host import generate_private_key, public_key
from street.street_node import NodeSpec, StreetNode
from street.town import Town

NODE, OTHER = 0xC1, 0xC2


def is_all_stored(town: Town, node: StreetNode, gateway: str = "g1", newest: int | None = None) -> bool:
    """Whether a gateway holds 1 .. newest (default: the newest on the cable) of a node."""
    newest = max(node.records(), default=0) if newest is None else newest
    return newest > 0 and set(range(1, newest + 1)) <= set(town.gateways[gateway].stored(node.node))


def test_pulled_and_plugged(town: Callable[..., Town]) -> None:
    """Either end pulled while reporting: the gateway says so, the other line goes on, and nothing is missing afterwards."""
    street = town(NodeSpec(NODE), NodeSpec(OTHER))
    gateway = street.add_gateway()
    gateway.start()
    street.serve_time()
    for node in street.nodes.values():
        node.start()
    node, cable, name = street.nodes[NODE], street.cables[NODE], street.nodes[NODE].id
    street.wait_stored(NODE)
    cable.pull("g1")
    wait_for(lambda: not {link["name"]: link["up"] for link in gateway.status()["links"]}[name], "link down in the status")
    newest = max(node.records())
    street.wait_stored(OTHER, more_than=len(gateway.stored(OTHER)))
    street.wait_until(lambda: max(node.records()) > newest, "records of the node while nobody listens")
    assert gateway.counted("link_lost", link=name) == 1
    cable.plug("g1")
    gateway.wait_links_up()
    newest = max(node.records())
    street.wait_until(lambda: is_all_stored(street, node, newest=newest), "everything said meanwhile")
    cable.pull("device")
    cable.plug("device")
    stored = len(gateway.stored(NODE))
    street.wait_stored(NODE, more_than=stored)
    assert gateway.counted("link_opened", link=name) == 2


def endure_noise(street: Town, bit_error_rate: float, damaged: int) -> None:
    """Let bits turn over both ways until so many messages were damaged; nothing wrong may be stored, and all of it arrives afterwards."""
    gateway = street.add_gateway()
    gateway.start()
    street.serve_time()
    for node in street.nodes.values():
        node.start()
    for node in street.nodes.values():
        street.wait_stored(node.node)
        node.cable.noise(bit_error_rate)
    street.wait_until(
        lambda: gateway.counted("serial_errors", kind="bad_crc") >= damaged, "messages damaged on their way to the gateway", 600
    )
    for node in street.nodes.values():
        node.cable.noise(0.0)
        print("bits turned over:", node.cable.flipped_bits)
    for node in street.nodes.values():
        newest = max(node.records())
        street.wait_until(lambda node=node, newest=newest: is_all_stored(street, node, newest=newest), "every record in spite of the noise")
        said = {sent.data for sent in node.sent()}
        assert all(row[-1] in said for row in gateway.rows() if row[1] == node.node)
        assert [n for n, times in gateway.stored(node.node).items() if times > 1] == []
        assert street.lamp(node.node)["min_level_permille"] == 1000
    assert gateway.counted("rejected", reason="bad_signature") == 0  # the CRC finds it before a signature is checked


def test_noise(town: Callable[..., Town]) -> None:
    """One bit in a thousand."""
    endure_noise(town(NodeSpec(NODE), NodeSpec(OTHER)), 1e-3, 2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("bit_error_rate", "damaged"), [(1e-4, 20), (1e-3, 100)])
def test_long_noise(town: Callable[..., Town], bit_error_rate: float, damaged: int) -> None:
    """Both rates, for longer."""
    endure_noise(town(NodeSpec(NODE), NodeSpec(OTHER)), bit_error_rate, damaged)


def test_a_stranger_and_a_wrong_key(town: Callable[..., Town]) -> None:
    """A node nobody enrolled and one whose key is another's: refused by name and never acknowledged, so they keep what they owe."""
    street = town(NodeSpec(NODE), NodeSpec(OTHER))
    document = json.loads(street.registry.path.read_text())
    genuine = json.dumps(document)
    stranger, impostor = street.nodes[NODE], street.nodes[OTHER]
    del document["nodes"][stranger.id]
    document["nodes"][impostor.id]["public_key"] = public_key(generate_private_key()).hex()
    document["version"] += 1
    street.registry.path.write_text(json.dumps(document))
    gateway = street.add_gateway()
    gateway.start()
    for node in street.nodes.values():
        node.start()
    for reason, node in (("unknown_node", stranger), ("bad_signature", impostor)):
        street.wait_until(lambda reason=reason: gateway.counted("rejected", reason=reason), reason)
        wait_for(
            lambda reason=reason, node=node: (reason, node.id) in {(item["reason"], item["node"]) for item in gateway.rejects()}, reason
        )
        assert node.acknowledged() == set()
    assert gateway.rows() == []
    street.registry.path.write_text(json.dumps({**json.loads(genuine), "version": document["version"] + 1}))
    for node in street.nodes.values():
        street.wait_until(lambda node=node: {1, 2} <= set(gateway.stored(node.node)), lambda node=node: f"what {node.id} had to keep")


def test_two_gateways_hear_one_node(town: Callable[..., Town]) -> None:
    """A forked cable: both publish every record under the same (node, epoch, n); either may die and the other has it all."""
    street = town(NodeSpec(NODE), hosts=("g1", "g2"), is_connected=True)
    node, subscriber = street.nodes[NODE], street.subscriber
    assert subscriber is not None
    first, second = street.add_gateway("g1"), street.add_gateway("g2")
    first.start()
    second.start()
    street.serve_time()
    node.start()

    def told(gateway: str) -> dict[tuple[str, int, int], object]:
        found = {}
        for document in subscriber.documents("record"):
            if document["gateway"] == gateway:
                found[(document["node"], document["epoch"], document["n"])] = (document["fixture"], document["values"])
        return found

    subscriber.wait(
        lambda: len(told("g1")) > 3 and len(told("g2")) > 3, lambda: f"records from both, but {len(told('g1'))}, {len(told('g2'))}"
    )
    both = set(told("g1")) & set(told("g2"))
    assert both
    assert all(told("g1")[key] == told("g2")[key] for key in both)
    first.kill()
    newest = max(node.records())
    street.wait_until(lambda: max(second.stored(NODE)) > newest, "records at the second while the first is dead")
    first.start()
    first.wait_links_up()
    second.kill()
    newest = max(node.records())
    street.wait_until(lambda: max(first.stored(NODE)) > newest, "records at the first while the second is dead")
    # What one gateway acknowledged is free at the node: only together do they hold everything, each number as the node signed it.
    newest = max(first.stored(NODE))
    assert set(range(1, newest + 1)) <= set(first.stored(NODE)) | set(second.stored(NODE))
    numbers = {key[2] for name in ("g1", "g2") for key in told(name)}
    subscriber.wait(
        lambda: set(range(1, newest + 1)) <= {key[2] for name in ("g1", "g2") for key in told(name)}, f"1..{newest}, not {numbers}"
    )
