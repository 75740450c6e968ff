"""Logging: one event per line as key=value, peer text made harmless, one warning per trouble.

First failure of a cycle warns, repeats are debug, the recovery is one info line with the count.
Keys and full payloads are never logged; whoever logs passes lengths, ids and reasons only.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

_PEER_LIMIT_CHARS = 80  # enough for any sane log line of a node; a longer one is cut and says so


def room(name: str) -> logging.Logger:
    """The logger of one room of the gateway, below `lamppost`."""
    return logging.getLogger(f"lamppost.{name}")


def peer(text: str | bytes, limit: int = _PEER_LIMIT_CHARS) -> str:
    """Text from outside, safe on one log line: printable ASCII only, cut to `limit` characters."""
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "replace")
    cut = len(text) > limit
    safe = "".join(c if " " <= c <= "~" else "?" for c in text[:limit])
    return safe + "..." if cut else safe


def value(item: object) -> str:
    """One value of a key=value line; quoted when it holds a space, quote or equals sign."""
    text = f"{item:.3f}" if isinstance(item, float) else str(item)
    text = "".join(c if c >= " " and c != "\x7f" else "?" for c in text)
    if text == "" or any(c in text for c in ' ="'):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def event(log: logging.Logger, level: int, name: str, **fields: object) -> None:
    """Log `name key=value ...`; formats nothing when the level is off."""
    if log.isEnabledFor(level):
        log.log(level, "%s", " ".join([name, *(f"{key}={value(item)}" for key, item in fields.items())]))


class Trouble:
    """One cycle of failure and recovery of one thing, such as a link or the disk."""

    def __init__(self, log: logging.Logger, name: str, **fields: object) -> None:
        self._log = log
        self._name = name
        self._fields = fields
        self.count = 0

    def failed(self, **fields: object) -> None:
        """A failure: warns the first time, debug while it lasts."""
        self.count += 1
        level = logging.WARNING if self.count == 1 else logging.DEBUG
        event(self._log, level, f"{self._name}_failed", **self._fields, **fields)

    def recovered(self, **fields: object) -> None:
        """It works (again): one info line with the number of failures, silent when there were none."""
        if self.count:
            event(self._log, logging.INFO, f"{self._name}_recovered", **self._fields, failures=self.count, **fields)
            self.count = 0


def set_up(level: str = "info", stream: TextIO | None = None) -> None:
    """Send all events to `stream` (standard error when None); called once by the program, never by a library."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s level=%(levelname)s room=%(name)s event=%(message)s"))
    root = logging.getLogger("lamppost")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level.upper())
