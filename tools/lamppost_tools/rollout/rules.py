"""When an updated node does worse than it did before: its own health, lamp and refusals then and now. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

#: How an update ends at a node that went back to what it ran before, or never took the release.
CAME_BACK = ("reverted", "refused")


@dataclass(frozen=True)
class Limits:
    """From which point on a node counts as moved, and how many nodes may, before the roll-out halts itself. Percentages 0 to 100."""

    more_boots: int = 1
    heap_drop_percent: int = 50  # a release's modules run from the heap, the base's in place: less of it is no fault by itself
    more_rejects: int = 20
    more_gateway_rejects: int = 20
    rejects_factor: int = 3
    more_task_restarts: int = 2
    max_moved: int = 0
    max_reverted: int = 0
    max_absent_percent: int = 10


@dataclass(frozen=True)
class Health:
    """One record `node` of a node. `place`: its key epoch and number. Counters of rejects and task restarts begin with each power-up.

    heap_free_kb: after a collection, when the record was made; None where it is not known, or not for long enough.
    """

    epoch: int
    n: int
    uptime_s: int = 0
    boots: int = 0
    heap_free_kb: float | None = None
    rejects: int = 0
    task_restarts: int = 0
    state: str = "running"
    firmware_version: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.n

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """That of a record document (gateway's schema_mqtt/record.json). Raises KeyError, TypeError for any other."""
        values = document["values"]

        def number(name: str) -> int:
            return int(values[name]["value"] or 0)

        heap_kb = values["heap_free"]["value"]
        return cls(
            int(document["epoch"]),
            int(document["n"]),
            number("uptime"),
            number("boots"),
            None if heap_kb is None else float(heap_kb),
            number("rejects"),
            number("task_restarts"),
            str(values["state"].get("word")),
            number("firmware_version"),
        )


def version_number(text: str) -> int:
    """major << 16 | minor << 8 | patch, as a record `node` carries it, of `0.2.0`; 0 for a version of another form."""
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        return 0
    return int(parts[0]) << 16 | int(parts[1]) << 8 | int(parts[2])


@dataclass(frozen=True)
class Baseline:
    """What was known of a node before its order: its newest health with the least free heap of its last records, every fault its lamps told
    of, refusals of its frames an hour.
    """

    health: Health
    faults: frozenset[str] = field(default_factory=frozenset)
    gateway_rejects_per_h: float = 0.0


@dataclass(frozen=True)
class Since:
    """What was heard of it since the release was confirmed: the same with the most free heap of its last records, once there are enough;
    its refusals as a count over `hours`.
    """

    health: Health | None = None
    faults: frozenset[str] = field(default_factory=frozenset)
    gateway_rejects: int = 0
    hours: float = 0.0


def moved(before: Baseline, since: Since, limits: Limits) -> list[str]:
    """What moved against the node, one sentence each; empty when nothing did."""
    found = list(_health_moved(before.health, since.health, limits)) if since.health is not None else []
    if new := sorted(since.faults - before.faults):
        found.append(f"new lamp faults: {', '.join(new)}")
    allowed = limits.more_gateway_rejects + limits.rejects_factor * before.gateway_rejects_per_h * max(1.0, since.hours)
    if since.gateway_rejects > allowed:
        found.append(
            f"gateways refused {since.gateway_rejects} of its frames in {since.hours:.1f} h, "
            f"{before.gateway_rejects_per_h:.1f} an hour before"
        )
    return found


def _health_moved(before: Health, now: Health, limits: Limits) -> Iterable[str]:
    if before.boots and now.boots > before.boots + 1 + limits.more_boots:  # 0: its count cannot be kept
        yield f"boots {before.boots} to {now.boots}: 1 is the update's, {limits.more_boots} more allowed"
    least_kb = (before.heap_free_kb or 0) * (100 - limits.heap_drop_percent) / 100
    if now.heap_free_kb is not None and now.heap_free_kb < least_kb:
        yield f"free heap {before.heap_free_kb:.1f} to {now.heap_free_kb:.1f} kB, {limits.heap_drop_percent} % less allowed"
    rate = before.rejects / max(before.uptime_s, 3600)
    if now.rejects > limits.more_rejects + limits.rejects_factor * rate * max(now.uptime_s, 3600):
        yield f"it refused {now.rejects} frames in {now.uptime_s} s, {before.rejects} in {before.uptime_s} s before"
    if now.task_restarts > before.task_restarts + limits.more_task_restarts:
        yield f"task restarts {before.task_restarts} to {now.task_restarts}, {limits.more_task_restarts} more allowed"
    if now.state != "running" and now.state != before.state:
        yield f"its state is {now.state}, {before.state} before"
