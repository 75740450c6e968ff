"""What came of the cuts of one script: figures, faults, and for each fault the command that shows it again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cuts.promises import KINDS

Cut = tuple[int, str]


@dataclass
class Outcome:
    """One script's figures and what was not kept. `told`: the lines of a replayed case. `target`: None for the unix port's own littlefs."""

    script: str
    operations: int = 0
    cuts: int = 0
    pairs: int = 0
    took_ms: int = 0
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    failures: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    target: str | None = None

    def add(self, faults: Sequence[tuple[str, str]], first: Cut | None, second: Cut | None = None) -> None:
        """Count what one case did not keep."""
        for kind, words in faults:
            self.faults[kind] += 1
            self.failures.append({"fault": kind, "words": words, "first": first, "second": second})

    def is_kept(self) -> bool:
        """Whether every word was kept."""
        return not any(self.faults.values())

    def report(self, pairs: str | None) -> str:
        """What was not kept, each with the command that replays it."""
        lines = []
        for failure in self.failures:
            command = f"python hil_tests/cuts/sweep.py{f' --target {self.target}' if self.target else ''} --script {self.script}"
            if failure["first"]:
                command += f" --cut {failure['first'][0]} --mode {failure['first'][1]}"
            if failure["second"]:
                command += f" --second {failure['second'][0]} --second-mode {failure['second'][1]} --pairs {pairs}"
            lines.append(f"{self.script}: {failure['fault']}: {failure['words']}\n    {command}")
        return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """The figures, one row a script and their sum."""
    heads = ("script", "operations", "cuts", "pairs of cuts", *KINDS, "s")
    rows = [
        (o.script, str(o.operations), str(o.cuts), str(o.pairs), *(str(o.faults[kind]) for kind in KINDS), f"{o.took_ms / 1000:.0f}")
        for o in outcomes
    ]
    rows.append(("all", *(str(sum(int(row[column]) for row in rows)) for column in range(1, len(heads)))))
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows))
