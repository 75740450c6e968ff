"""How far a roll-out is: nothing but what its journal says, entry by entry. Pure; what comes next is decided in brake.py."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from lamppost_tools.rollout.evidence import Place
from lamppost_tools.rollout.rules import CAME_BACK, Baseline, Health, Limits

#: How an order ends. `lost`: no word of its end came although its time is over.
VERIFIED, EXPIRED, LOST = "verified", "expired", "lost"
ENDS = (VERIFIED, *CAME_BACK, EXPIRED, LOST)
#: A fetch can be taken back in these; later the node tries the release out and says itself how that ended.
FETCHING = ("", "queued", "sent", "accepted")


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds, and how many nodes have an open order at a time."""

    soak_s: int = 86_400
    order_s: int = 86_400
    baseline_s: int = 7_200
    silence_s: int = 7_200
    at_once: int = 50


#: Where nodes on LoRa are among them: their health comes a few times a day, and a gateway's airtime gives some releases an hour.
AIR_PACE = Pace(order_s=7 * 86_400, baseline_s=86_400, silence_s=86_400)


@dataclass
class NodeCourse:
    """One node's way through it. `left_out`: why it gets no order; `is_known`: that is as it should be. `not_after`: unix seconds."""

    stage: int
    baseline: Baseline | None = None
    left_out: str = ""
    is_known: bool = False
    requests: int = 0
    request_id: str = ""
    requested_at_s: float = 0.0
    order_id: int = 0
    not_after: int = 0
    state: str = ""
    reason: str = ""
    place: Place | None = None
    confirmed_at_s: float = 0.0
    moved: list[str] = field(default_factory=list)
    is_forgiven: bool = False
    is_cancelled: bool = False
    may_repeat: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is expected of it in its stage."""
        return bool(self.left_out) or self.state in ENDS

    @property
    def is_open(self) -> bool:
        """Whether it was asked for and has not ended."""
        return bool(self.request_id) and not self.is_settled

    @property
    def came_back(self) -> bool:
        """Whether it went back or refused, of itself and not because the order was taken back."""
        return self.state in CAME_BACK and not (self.is_cancelled and self.reason == "cancelled")

    @property
    def is_absent(self) -> bool:
        """Whether nothing can be said of it, and nobody knows why."""
        return (bool(self.left_out) and not self.is_known) or self.state in (EXPIRED, LOST)


class Course:
    """The state that a journal's entries lead to."""

    def __init__(self) -> None:
        self.rollout = ""
        self.manifest = ""
        self.version = ""
        self.sequence = 0
        self.digest = ""
        self.pace = Pace()
        self.limits = Limits()
        self.stages: list[list[str]] = []
        self.nodes: dict[str, NodeCourse] = {}
        self.stage = 0
        self.stage_since_s = 0.0
        self.soak_since_s: float | None = None
        self.halted = ""
        self.next_step = ""
        self.is_done = False

    @classmethod
    def of(cls, entries: list[dict[str, Any]]) -> Self:
        """Where a journal's entries lead. Raises KeyError, TypeError, ValueError for what is no roll-out's journal."""
        course = cls()
        for entry in entries:
            course.apply(entry)
        return course

    @property
    def is_over(self) -> bool:
        return self.is_done or bool(self.halted)

    def in_stage(self) -> list[tuple[str, NodeCourse]]:
        """The nodes of the stage that goes on."""
        return [(name, self.nodes[name]) for name in self.stages[self.stage]]

    def open_nodes(self) -> list[tuple[str, NodeCourse]]:
        """Nodes with an order that has not ended, of any stage."""
        return [(name, node) for name, node in self.nodes.items() if node.is_open]

    def apply(self, entry: dict[str, Any]) -> None:
        """Take one entry into account."""
        step, at_s = entry["step"], float(entry["at"])
        node = self.nodes[entry["node"]] if "node" in entry else NodeCourse(0)
        match step:
            case "start":
                self._start(entry)
            case "baseline":
                node.baseline = baseline_of(entry)
            case "left_out":
                node.left_out, node.is_known = entry["why"], entry["is_known"]
            case "request":
                node.request_id, node.requested_at_s = entry["request_id"], at_s
                node.requests += 1
            case "ordered":
                node.order_id, node.not_after = entry["order_id"], entry["not_after"]
            case "state":
                node.state, node.reason = entry["state"], entry["reason"]
                node.place = None if entry["n"] is None else (entry["epoch"], entry["n"])
                if node.state == VERIFIED:
                    node.confirmed_at_s = at_s
            case "moved":
                node.moved = list(entry["what"])
            case "cancel":
                node.is_cancelled = True
            case "again":
                node.request_id, node.order_id, node.state, node.reason, node.place = "", 0, "", "", None
                node.left_out, node.is_cancelled, node.may_repeat = "", False, False
            case "soak":
                self.soak_since_s = at_s
            case "clear":
                self.stage += 1
                self.soak_since_s = None
            case "halt":
                self.halted, self.next_step = entry["why"], entry["next"]
            case "resume":
                self._resume(entry)
            case "done":
                self.is_done = True
            case _:
                raise ValueError(f"no step of a roll-out: {step}")
        if step in ("start", "clear", "resume"):
            self.stage_since_s = at_s

    def _start(self, entry: dict[str, Any]) -> None:
        self.rollout, self.manifest = entry["rollout"], entry["manifest"]
        self.version, self.sequence, self.digest = entry["version"], entry["sequence"], entry["digest"]
        self.pace, self.limits = Pace(**entry["pace"]), Limits(**entry["limits"])
        self.stages = entry["stages"]
        self.nodes = {name: NodeCourse(number) for number, stage in enumerate(self.stages) for name in stage}

    def _resume(self, entry: dict[str, Any]) -> None:
        self.halted = self.next_step = ""
        self.soak_since_s = None
        for name, node in self.nodes.items():
            if name in entry["leave_out"]:
                node.left_out, node.is_known = "by the operator", True
            elif node.is_absent or node.is_cancelled:
                node.may_repeat = True
            if entry["accept"]:
                node.is_forgiven = node.is_forgiven or node.came_back or bool(node.moved)


def facts_of(baseline: Baseline) -> dict[str, Any]:
    """A baseline as it stands in a journal."""
    return {
        "health": asdict(baseline.health),
        "faults": sorted(baseline.faults),
        "gateway_rejects_per_h": round(baseline.gateway_rejects_per_h, 3),
    }


def baseline_of(entry: dict[str, Any]) -> Baseline:
    """The reverse."""
    return Baseline(Health(**entry["health"]), frozenset(entry["faults"]), float(entry["gateway_rejects_per_h"]))
