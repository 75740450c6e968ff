"""The authority's counters on disk: persisted with fsync before a number is used, so none is ever used twice.

Orders, beacons and releases count apart. A lost counter file is never replaced by a guess: the authority refuses to start.
"""

from pathlib import Path

from lamppost_tools.durable import OWNER_ONLY_MODE, FileLock, read_json, write_json
from lamppost_tools.errors import RefusedError

MAX_COUNTER = 2**32 - 1
#: A folder of before there were releases has no counter of them: it begins at 0.
COUNTERS = ("order", "beacon", "release")


class CounterFile:
    """Named counters in one JSON file. Several processes may take from it, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = self._read()

    def last(self, name: str) -> int:
        """The highest value taken when this was opened or last taken from."""
        return self._last[name]

    @staticmethod
    def create(path: Path, names: tuple[str, ...]) -> None:
        """Make the file with every counter at 0."""
        write_json(path, {name: 0 for name in names}, OWNER_ONLY_MODE)

    def take(self, name: str, at_least: int = 1) -> int:
        """The next value: above every one taken before and not below `at_least`. Durable when this returns.

        Raises RefusedError when the counter is used up (2**32 - 1): a new command key is needed then.
        """
        with FileLock(self._path.with_suffix(".lock")):
            known = self._read()
            changed = {one: max(known[one], self._last[one]) for one in COUNTERS}
            value = changed[name] = max(changed[name] + 1, at_least)
            if value > MAX_COUNTER:
                raise RefusedError(f"counter {name} is used up", "make a new command key: lamppost authority init")
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
        value.setdefault("release", 0)
        for name in COUNTERS:
            if type(value.get(name)) is not int or not 0 <= value[name] <= MAX_COUNTER:
                raise RefusedError(f"{self._path} holds no valid counter {name!r}", advice)
        return {name: value[name] for name in COUNTERS}


class FolderLock(FileLock):
    """Held while one process uses the state folder; a second one is refused, for two would repeat counters."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, f"another authority is using {path.parent}", "stop it first; one signer per state folder")
