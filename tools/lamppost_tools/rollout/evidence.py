"""What a network's broker tells of the nodes while a roll-out watches: health, lamp faults, refusals, order states. Bounded; never raises.

Whoever may publish there could say anything: a false word can halt a roll-out, which fails safe. What is believed of an order is what a
gateway says of a node's signed record; whether a record came before an update or after it is told by its number, not by when it came.
"""

import json
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from lamppost_tools.rollout.rules import Baseline, Health, Since

#: The node's own words of an update, and the gateway's last one.
_NODE_STATES = ("accepted", "applied", "verified", "reverted", "expired", "refused")
_KEPT = 3  # a fault, or less heap, counts once it stands in so many records on end: what starts anew may have it in one
_REJECTS_KEPT = 1000
_MOST_NODES = 100_000  # documents of more are not looked at
_MOST_ORDERS = 200_000

Place = tuple[int, int]


@dataclass(frozen=True)
class OrderState:
    """An order's state: by a node's record at `place`, or (place None) by a gateway. `reason`: why refused or reverted."""

    node: str
    state: str
    reason: str = ""
    place: Place | None = None


@dataclass
class _Node:
    gateway: str = ""
    since_s: float = 0.0
    health: deque[Health] = field(default_factory=lambda: deque(maxlen=_KEPT))
    lamps: dict[str, deque[tuple[Place, frozenset[str]]]] = field(default_factory=dict)
    rejected_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REJECTS_KEPT))


class Evidence:
    """`take` every message below the network's root; then ask. Times are unix seconds as the caller has them."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._orders: dict[int, OrderState] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        """The authority's answers by request id; only of `asked`."""
        self.asked: set[str] = set()

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """Note one message; `topic` without the network's root."""
        try:
            document = json.loads(payload)
            self._take(topic.split("/"), document, now_s)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            return  # nothing that tells anything

    def _take(self, topic: list[str], document: dict[str, Any], now_s: float) -> None:
        match topic:
            case ["node", name, "status"]:
                self._node(name, now_s).gateway = str(document["gateway"])
            case ["node", name, "record", "node"]:
                node, health = self._node(name, now_s), Health.of(document)
                if not node.health or health.place > node.health[-1].place:
                    node.health.append(health)
            case ["node", name, "record", fixture] if fixture.partition(".")[0] == "lamp":
                place = int(document["epoch"]), int(document["n"])
                records = self._node(name, now_s).lamps.setdefault(fixture, deque(maxlen=_KEPT))
                if not records or place > records[-1][0]:
                    records.append((place, frozenset(document["values"]["faults"].get("words", ()))))
            case ["gateway", _, "reject"] if document["node"] is not None:
                self._node(document["node"], now_s).rejected_at_s.append(now_s)
            case ["order", "response"] if document["request_id"] in self.asked:
                self.answers[document["request_id"]] = document
            case ["order", number, "state"]:
                self._take_state(int(number), document)

    def _take_state(self, order_id: int, document: dict[str, Any]) -> None:
        evidence = document["evidence"]
        is_nodes = evidence.get("by") == "node" and document["state"] in _NODE_STATES
        place = (int(evidence["epoch"]), int(evidence["n"])) if is_nodes else None
        known = self._orders.get(order_id)
        if known is not None and known.place is not None and (place is None or place <= known.place):
            return  # the node's own newer word stands
        if known is None and len(self._orders) >= _MOST_ORDERS:
            return
        self._orders[order_id] = OrderState(str(document["node"]), str(document["state"]), str(evidence.get("reason", "")), place)

    def _node(self, name: str, now_s: float) -> _Node:
        node = self._nodes.get(name)
        if node is None:
            node = _Node(since_s=now_s)
            if len(self._nodes) < _MOST_NODES:
                self._nodes[name] = node
        return node

    def gateways(self) -> dict[str, str]:
        """Node to the gateway that heard it last, where one is known."""
        return {name: node.gateway for name, node in self._nodes.items() if node.gateway}

    def order(self, order_id: int) -> OrderState | None:
        """The newest word of an order."""
        return self._orders.get(order_id)

    def baseline(self, name: str, now_s: float) -> Baseline | None:
        """What is known of a node before its update; None while no record of its health has come."""
        node = self._nodes.get(name)
        if node is None or not node.health:
            return None
        faults = frozenset(fault for records in node.lamps.values() for _, found in records for fault in found)
        hours = max(1.0, (now_s - node.since_s) / 3600)
        heaps_kb = [health.heap_free_kb for health in node.health if health.heap_free_kb is not None]
        health = replace(node.health[-1], heap_free_kb=min(heaps_kb, default=None))
        return Baseline(health, faults, len(node.rejected_at_s) / hours)

    def since(self, name: str, place: Place, confirmed_at_s: float, now_s: float) -> Since:
        """What was heard of a node after the record at `place`, which confirmed its release at `confirmed_at_s`."""
        node = self._nodes.get(name)
        if node is None:
            return Since()
        after = [health for health in node.health if health.place > place]
        heaps_kb = [health.heap_free_kb for health in after if health.heap_free_kb is not None]
        most_kb = max(heaps_kb) if len(heaps_kb) == _KEPT else None
        return Since(
            replace(after[-1], heap_free_kb=most_kb) if after else None,
            frozenset(fault for records in node.lamps.values() for fault in _lasting(records, place)),
            sum(at_s > confirmed_at_s for at_s in node.rejected_at_s),
            max(0.0, now_s - confirmed_at_s) / 3600,
        )


def _lasting(records: deque[tuple[Place, frozenset[str]]], place: Place) -> frozenset[str]:
    """Faults in each of a lamp's last records, once there are enough of them after `place`."""
    after = [found for at, found in records if at > place]
    return frozenset.intersection(*after) if len(after) == _KEPT else frozenset()
