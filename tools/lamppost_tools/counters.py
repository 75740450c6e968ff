"""The authority's counters on disk: persisted with fsync before a number is used, so none is ever used twice.

Orders and beacons count apart. A lost counter file is never replaced by a guess: the authority refuses to start.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from lamppost_tools.durable import OWNER_ONLY_MODE, read_json, write_json
from lamppost_tools.errors import RefusedError

MAX_COUNTER = 2**32 - 1


class CounterFile:
    """Named counters in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = self._read()

    @staticmethod
    def create(path: Path, names: tuple[str, ...]) -> None:
        """Make the file with every counter at 0."""
        write_json(path, {name: 0 for name in names}, OWNER_ONLY_MODE)

    def take(self, name: str, at_least: int = 1) -> int:
        """The next value: above every one taken before and not below `at_least`. Durable when this returns.

        Raises RefusedError when the counter is used up (2**32 - 1): a new command key is needed then.
        """
        value = max(self._last[name] + 1, at_least)
        if value > MAX_COUNTER:
            raise RefusedError(f"counter {name} is used up", "make a new command key: lamppost authority init")
        changed = dict(self._last)
        changed[name] = value
        write_json(self._path, changed, OWNER_ONLY_MODE)
        self._last = changed
        return value

    def _read(self) -> dict[str, int]:
        advice = (
            "the counters are lost, and signing with a guessed one could repeat an order: "
            "make a new key with `lamppost authority init` and enrol its public key at the nodes"
        )
        value = read_json(self._path, advice)
        if not isinstance(value, dict) or not value:
            raise RefusedError(f"{self._path} holds no counters", advice)
        for name in ("order", "beacon"):
            if type(value.get(name)) is not int or not 0 <= value[name] <= MAX_COUNTER:
                raise RefusedError(f"{self._path} holds no valid counter {name!r}", advice)
        return {"order": value["order"], "beacon": value["beacon"]}


class FolderLock:
    """Held while one process uses the state folder; a second one is refused, for two would repeat counters."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, OWNER_ONLY_MODE)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise RefusedError(f"another authority is using {self._path.parent}", "stop it first; one signer per state folder") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)
