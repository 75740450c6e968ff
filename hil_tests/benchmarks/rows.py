"""A figure as a row: measured, limit, ratio, goal, met or missed and by how much."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure. `judged` is the number that must not exceed `goal` (not fall below it with `at_least`); None: nothing to judge."""

    name: str
    measured: float | None
    unit: str
    limit: float | None = None
    limit_name: str = ""
    goal: float | None = None
    goal_text: str = ""
    judged: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Measured over limit."""
        if self.measured is None or not self.limit:
            return None
        return self.measured / self.limit

    @property
    def verdict(self) -> str:
        """`met`, `missed by N %`, or `` where there is no goal."""
        if self.goal is None or self.judged is None:
            return ""
        excess = self.goal / self.judged - 1 if self.at_least else self.judged / self.goal - 1
        return "met" if excess <= 0 else f"missed by {excess:.0%}"

    def document(self) -> dict[str, Any]:
        """The row for --json."""
        return {**asdict(self), "ratio": self.ratio, "verdict": self.verdict}


def against_limit(name: str, measured: float, unit: str, limit: float, limit_name: str, most: float | None, note: str = "") -> Row:
    """A row whose goal is `most` times the limit; None: shown only."""
    text = f"<= {most:g} x" if most else ""
    return Row(name, measured, unit, limit, limit_name, most, text, measured / limit if most else None, note=note)


def at_most(name: str, measured: float, unit: str, goal: float, note: str = "", limit: float | None = None, limit_name: str = "") -> Row:
    """A row whose goal is a number of its own unit."""
    return Row(name, measured, unit, limit, limit_name, goal, f"<= {shown(goal)} {unit}", measured, note=note)


def at_least(name: str, measured: float, unit: str, goal: float, note: str = "", limit: float | None = None, limit_name: str = "") -> Row:
    """A row whose goal is a number not to fall below."""
    return Row(name, measured, unit, limit, limit_name, goal, f">= {shown(goal)} {unit}", measured, at_least=True, note=note)


def told(name: str, note: str, measured: float | None = None, unit: str = "") -> Row:
    """A row without a goal, or one that says where its number is to be had."""
    return Row(name, measured, unit, note=note)


def shown(number: float | None) -> str:
    """A number with three digits, or a dash."""
    if number is None:
        return "-"
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def table(rows: list[Row]) -> str:
    """All rows as aligned text."""
    head = ("figure", "measured", "limit", "ratio", "goal", "")
    lines = [head]
    for row in rows:
        measured = f"{shown(row.measured)} {row.unit}".strip() if row.measured is not None else "-"
        limit = f"{shown(row.limit)} ({row.limit_name})" if row.limit is not None else "-"
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        lines.append((row.name, measured, limit, ratio, row.goal_text or "-", row.verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    out = []
    for number, line in enumerate(lines):
        out.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number and rows[number - 1].note:
            out.append(f"    {rows[number - 1].note}")
    return "\n".join(out)
