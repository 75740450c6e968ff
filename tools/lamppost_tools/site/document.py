"""A site file being checked: its values, the line of each, and what was found wrong so far."""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from lamppost_tools.site.toml_lines import Where, toml_lines


class Problem(NamedTuple):
    """One mistake (or remark): in which file, on which line (None: the whole file), what it is, and what to do about it."""

    file: str
    line: int | None
    what: str
    fix: str


class Document:
    """The parsed file with its lines, and the mistakes found in it so far."""

    def __init__(self, text: str, source: str, folder: Path) -> None:
        """Raises tomllib.TOMLDecodeError."""
        self.values: dict[str, Any] = tomllib.loads(text)
        self.source = source
        self.folder = folder
        self._lines = toml_lines(text)
        self.problems: list[Problem] = []
        self.remarks: list[Problem] = []

    def line(self, where: Where) -> int | None:
        """Where the value stands, or the nearest table around it."""
        for length in range(len(where), 0, -1):
            if (line := self._lines.get(where[:length])) is not None:
                return line
        return None

    def wrong(self, where: Where, what: str, fix: str) -> None:
        """Note a mistake."""
        self.problems.append(Problem(self.source, self.line(where), what, fix))

    def remark(self, where: Where, what: str, fix: str) -> None:
        """Note what is no mistake but should be known."""
        self.remarks.append(Problem(self.source, self.line(where), what, fix))


def in_words(problem: Problem) -> str:
    """`site.toml:14: what is wrong`."""
    place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return f"{place}: {problem.what}"
