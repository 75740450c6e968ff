"""What a board's self-test says, judged: every value of every fixture against its profile's range, and what a fixture complains of.

A value that is missing without a reason, a quality other than good, a fault bit: each is a sentence. Two things are no fault on a bench:
the time is unknown, and no schedule has come yet. A particle sensor needs half a minute to settle; what it did not say is not judged.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from lamppost_protocol.kinds import GOOD, QUALITIES, WARMING_UP
from lamppost_protocol.profiles import LAMP_FAULTS, by_name

_NO_FAULT_HERE = {"schedule_missing", "clock_unknown"}
_NOT_SAID = {"faults", "cause", "method", "flags"}


@dataclass
class Judgement:
    """`measured` by fixture, in the profile's units; `wrong` and `not_judged` in words."""

    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    not_judged: list[str] = field(default_factory=list)


def judge(lines: str, fixtures: list[str]) -> Judgement:
    """`lines`: what lamppost_node.self_test printed. `fixtures`: the names that must be there, as `lamp`, `lamp.1`."""
    found = Judgement()
    last: dict[str, dict[str, Any]] = {}
    complaints: list[str] = []
    is_ended = False
    for line in lines.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            found.wrong.append(f"the self-test said {line[:80]!r}")
            continue
        if "end" in told:
            is_ended = True
        elif "error" in told:
            found.wrong.append(f"{told['fixture']}: {told['error']}")
        elif "quality" in told:
            if last.get(told["fixture"], {}).get("quality") != GOOD or told["quality"] == GOOD:
                last[told["fixture"]] = told
        elif "log" in told:
            complaints.append(told["log"])
        elif told.get("errors"):
            found.wrong.extend(f"configuration: {text}" for text in told["errors"])
    if not is_ended:
        found.wrong.append("the self-test did not come to its end")
    for name in fixtures:
        if name not in last:
            found.wrong.append(f"{name}: no record")
        else:
            _judge_record(name, last[name], found)
    if found.wrong:
        found.wrong.extend(f"said: {text}" for text in complaints[-6:])
    return found


def _judge_record(name: str, told: dict[str, Any], found: Judgement) -> None:
    profile = by_name(name.partition(".")[0])
    values = dict(zip([column.name for column in profile.columns], told["values"], strict=False))
    found.measured[name] = {"quality": QUALITIES[told["quality"]], **values}
    is_warming_up = told["quality"] == WARMING_UP
    if is_warming_up:
        found.not_judged.append(f"{name}: still warming up, its particles were not seen")
    elif told["quality"] != GOOD:
        found.wrong.append(f"{name}: {QUALITIES[told['quality']].replace('_', ' ')}")
    for column in profile.columns:
        value = values.get(column.name)
        if value is None:
            if told["quality"] == GOOD and column.name not in _NOT_SAID:
                found.wrong.append(f"{name}: no {column.name.replace('_', ' ')}")
        elif not column.low <= value <= column.high:
            found.wrong.append(f"{name}: {column.name.replace('_', ' ')} is {value}, not {column.low} to {column.high}")
    if profile.name == "lamp":
        faults = {LAMP_FAULTS[bit] for bit in range(len(LAMP_FAULTS)) if (values.get("faults") or 0) >> bit & 1}
        found.wrong.extend(f"{name}: {fault.replace('_', ' ')}" for fault in sorted(faults - _NO_FAULT_HERE))
