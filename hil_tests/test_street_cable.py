"""Cables as they are: pulled and plugged, noisy, with a stranger at the end, heard by two gateways (R10, R17, R34)."""

import json
from collections.abc import Callable

import pytest
from bench.deadline import wait_for
from bench.line_faults import LineFaults
from lamppost_protocol import slip
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


def endure(street: Town, faults: LineFaults, damaged: int) -> None:
    """Let the lines be bad both ways until so many messages were damaged; nothing wrong is stored, and all of it arrives afterwards."""
    gateway = street.add_gateway()
    gateway.start()
    street.serve_time()
    for node in street.nodes.values():
        node.start()
    for node in street.nodes.values():
        street.wait_stored(node.node)
        node.cable.spoil(faults)
    street.wait_until(lambda: sum(sum(node.cable.up_damaged) for node in street.nodes.values()) >= damaged, "damaged messages", 600)
    for node in street.nodes.values():
        print("faults up and down:", node.cable.spoil(None))
        check_resynchronisation(node)
    for node in street.nodes.values():
        newest = max(node.records())
        street.wait_until(lambda node=node, newest=newest: is_all_stored(street, node, newest=newest), "every record in spite of the line")
        said = {sent.data for sent in node.sent()}
        assert all(row[-1] in said for row in gateway.rows() if row[1] == node.node)
        assert [n for n, times in gateway.stored(node.node).items() if times > 1] == []
        assert street.lamp(node.node)["min_level_permille"] == 1000
    assert gateway.counted("serial_errors") > 0
    assert gateway.counted("rejected", reason="bad_signature") == 0  # the CRC finds it before a signature is checked


def check_resynchronisation(node: StreetNode) -> None:
    """Whole messages come out of what the line made of them, but for those it hit and at most the one behind each."""
    with node.cable.changes:
        messages, damaged, heard = list(node.cable.up), list(node.cable.up_damaged), bytes(node.cable.heard_up)
    came = slip.Decoder().feed(heard)
    for number, message in enumerate(messages):
        if not damaged[number] and not (number and damaged[number - 1]):
            (meant,) = slip.Decoder().feed(slip.END + message)
            assert meant in came, f"message {number} was not hit, and neither was the one before it"


#: One kind of fault at a time and all together; rates for lines nobody would leave as they are.
BAD_LINES = {
    "1e-4": LineFaults(flip=1e-4),
    "1e-3": LineFaults(flip=1e-3),
    "drop": LineFaults(drop=0.002),
    "insert": LineFaults(insert=0.002),
    "double": LineFaults(double=0.002),
    "burst": LineFaults(burst=0.001),
    "hold": LineFaults(hold=0.002, split=0.05, flip=1e-4),
    "all": LineFaults(flip=1e-4, drop=0.0005, insert=0.0005, double=0.0005, burst=0.0002, hold=0.001, split=0.02),
}


@pytest.mark.parametrize("name", ["1e-3", "all"])
def test_bad_lines(town: Callable[..., Town], name: str) -> None:
    """Bits turned over, octets lost, added, doubled, held back and parted: nothing is lost and nothing wrong is believed."""
    endure(town(NodeSpec(NODE), NodeSpec(OTHER)), BAD_LINES[name], 4)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(BAD_LINES))
def test_bad_lines_for_long(town: Callable[..., Town], name: str) -> None:
    """Every kind of bad line, for longer."""
    endure(town(NodeSpec(NODE), NodeSpec(OTHER)), BAD_LINES[name], 100)


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
