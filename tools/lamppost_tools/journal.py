"""What was done, line by line, each durable before the next step begins: one file of JSON lines. No line holds a key."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamppost_tools.durable import append_line
from lamppost_tools.errors import RefusedError


class JournalFile:
    """`entries`: the lines so far, each with `at` (unix seconds) and `step`. `now` gives unix seconds."""

    def __init__(self, path: Path, now: Callable[[], float], next_step: str, is_read_only: bool = False) -> None:
        """Reads it, cutting off a line that was never finished. Raises RefusedError with `next_step` for a line that is no entry.

        `is_read_only`: another process may be writing, so nothing is cut off or made.
        """
        self.path = path
        self._now = now
        self.entries: list[dict[str, Any]] = []
        if not is_read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                entry["step"]
            except (ValueError, TypeError, KeyError):
                raise RefusedError(f"{path}:{number}: not a line of a journal", next_step) from None
            self.entries.append(entry)
        if len(whole) < len(data) and not is_read_only:
            with path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())

    def note(self, step: str, **facts: Any) -> dict[str, Any]:
        """Append one entry, durable when this returns it."""
        entry = {"at": int(self._now()), "step": step, **facts}
        append_line(self.path, json.dumps(entry, sort_keys=True))
        self.entries.append(entry)
        return entry
