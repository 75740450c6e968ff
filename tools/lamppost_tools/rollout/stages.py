"""Which nodes come first: stages that depend on nothing but the release, the nodes and what is known of their gateways. Pure."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from lamppost_tools.errors import UsageError

_STAGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)%|([0-9]+)")


def parse_stages(text: str) -> list[str]:
    """The stages in `1%,10%,100%` or `2,20,100%`. Raises UsageError unless they rise and end with 100%."""
    stages = [part.strip() for part in text.split(",")]
    advice = "for example --stages 1%,10%,100%: how many of the nodes are to have it after each stage"
    if any(not _STAGE.fullmatch(stage) for stage in stages) or stages[-1] != "100%":
        raise UsageError(f"--stages {text!r}: numbers or percentages, the last one 100%", advice)
    return stages


def pick_stages(nodes: Iterable[str], gateways: Mapping[str, str], stages: list[str], digest: bytes) -> list[list[str]]:
    """The nodes of each stage, none twice and none left out; a stage for which nobody is left is empty and falls away.

    Within a gateway the order is that of SHA-256 of the release's digest and the node, so another release tries others first. The gateways
    take turns, those with more nodes first, so a stage is spread over as many of them as it has nodes. Nodes of which no gateway is known
    count as those of one more.
    """
    groups: dict[str, list[str]] = {}
    for node in sorted(set(nodes), key=lambda node: hashlib.sha256(digest + node.encode()).digest()):
        groups.setdefault(gateways.get(node, ""), []).append(node)
    turns = sorted(groups.values(), key=lambda group: (-len(group), group[0]))
    order = [group[turn] for turn in range(max(map(len, turns), default=0)) for group in turns if turn < len(group)]
    picked: list[list[str]] = []
    done = 0
    for stage in stages:
        upto = max(done, min(len(order), _count(stage, len(order))))
        if upto > done:
            picked.append(order[done:upto])
        done = upto
    return picked


def _count(stage: str, nodes: int) -> int:
    """How many nodes a stage ends with: a percentage is rounded up, so that 1 % of a street is a node."""
    if not stage.endswith("%"):
        return int(stage)
    whole, _, fraction = stage[:-1].partition(".")
    scale: int = 10 ** len(fraction)
    return -(-nodes * int(whole + fraction) // (100 * scale))
