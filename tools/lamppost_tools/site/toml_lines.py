"""On which line of a TOML file each value stands, down into arrays and inline tables: what a mistake is reported with.

The text must be one that `tomllib` accepts; what it means is tomllib's to say, here only places are found.
"""

import bisect
import re
import tomllib

#: A way into a document: keys, and positions in arrays.
Where = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\n]+")


def toml_lines(text: str) -> dict[Where, int]:
    """Line, from 1, of every key, table and array item of a valid TOML text; of a table written in several places, the first."""
    return _Scanner(text).lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._lists: dict[Where, int] = {}  # arrays of tables: how many items so far
        self.lines: dict[Where, int] = {}
        table: Where = ()
        self._skip(_BLANK)
        while self._at < len(text):
            if text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"not TOML at character {self._at}")
        self._at = found.end()
        return found[0]

    def _is_next(self, mark: str) -> bool:
        """Whether `mark` stands here; then it is passed."""
        is_here = self._text.startswith(mark, self._at)
        self._at += len(mark) * is_here
        return is_here

    def _note(self, where: Where, at: int) -> None:
        line = bisect.bisect_left(self._ends, at) + 1
        for depth in range(1, len(where) + 1):
            self.lines.setdefault(where[:depth], line)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while not keys or self._is_next("."):
            self._skip(_SPACE)
            token = self._skip(_KEY)
            keys.append(next(iter(tomllib.loads(f"{token} = 0"))))
            self._skip(_SPACE)
        return keys

    def _header(self) -> Where:
        at = self._at
        is_list = self._is_next("[[")
        self._at += not is_list
        *parents, name = self._keys()
        self._at += 2 if is_list else 1
        where: Where = ()
        for key in parents:
            where = self._newest((*where, key))
        where = (*where, name)
        if is_list:
            self._lists[where] = self._lists.get(where, 0) + 1
        where = self._newest(where)
        self._note(where, at)
        return where

    def _newest(self, where: Where) -> Where:
        return (*where, self._lists[where] - 1) if where in self._lists else where

    def _pair(self, table: Where) -> None:
        at = self._at
        where = (*table, *self._keys())
        self._note(where, at)
        self._at += 1  # =
        self._skip(_SPACE)
        self._value(where)

    def _value(self, where: Where) -> None:
        if self._is_next("["):
            self._array(where)
        elif self._is_next("{"):
            self._inline(where)
        elif self._text[self._at] in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_PLAIN)

    def _array(self, where: Where) -> None:
        count = 0
        self._skip(_BLANK)
        while not self._is_next("]"):
            self._note((*where, count), self._at)
            self._value((*where, count))
            count += 1
            self._skip(_BLANK)
            self._is_next(",")
            self._skip(_BLANK)

    def _inline(self, where: Where) -> None:
        self._skip(_BLANK)
        while not self._is_next("}"):
            self._pair(where)
            self._skip(_BLANK)
            self._is_next(",")
            self._skip(_BLANK)
