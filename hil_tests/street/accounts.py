"""What must hold of any street whatever was done to it: no number used twice, nothing acknowledged lost, no hole left at the end."""

from lamppost_protocol import orders
from lamppost_protocol.kinds import GAP, LAMP, ORDER_STATE

from street.street_node import StreetNode
from street.town import Town


def check_numbers(node: StreetNode) -> None:
    """No `tx` twice, no record number with two contents."""
    by_tx: dict[int, list[bytes]] = {}
    for sent in node.sent():
        by_tx.setdefault(sent.tx, []).append(sent.data)
    twice = {tx: [data.hex() for data in frames] for tx, frames in by_tx.items() if len(frames) > 1}
    assert twice == {}, f"a tx of {node.id} was used twice: {twice}"
    node.records()


def check_outbox(town: Town, gateway: str = "g1") -> None:
    """Every acknowledged record is stored, none twice, and the file is whole."""
    found = town.gateways[gateway]
    assert found.integrity() == "ok"
    for node in town.nodes.values():
        stored = found.stored(node.node)
        assert [n for n, times in stored.items() if times > 1] == [], "stored twice"
        assert node.acknowledged() - set(stored) == set(), f"acknowledged, not stored, of {node.id}"


def settle(town: Town, gateway: str = "g1") -> None:
    """Wait until the gateway holds every number up to the newest the node had when asked, without a hole and without a gap record."""
    for node in town.nodes.values():
        newest = max(node.records(), default=0)

        def missing(node: StreetNode = node, newest: int = newest) -> list[int]:
            return sorted(set(range(1, newest + 1)) - set(town.gateways[gateway].stored(node.node)))

        town.wait_until(lambda: not missing(), lambda node=node: f"numbers {missing()} of {node.id}")
        assert not any(content[0] == GAP for content in node.records().values()), "a node declared records lost"


def obey(town: Town, node: StreetNode, verb: int, arguments: list[object], end: int) -> None:
    """Wait until the node knows the time, give it an order that lives until `end`, and wait until it says that it is applied."""
    town.wait_until(lambda: node.knows_time, f"time at {node.id}")
    order_id, frame = town.key.order(node.node, verb, LAMP, arguments, (town.key.unix() - 60, end))
    node.say(frame)

    def is_applied() -> bool:
        told = [values[1] for values in node.values(ORDER_STATE) if values[0] == order_id]
        assert orders.REFUSED not in told
        return orders.APPLIED in told

    town.wait_until(is_applied, f"order {order_id} applied by {node.id}")
