"""What was done to one board: one journal a chip, `journals/<unit>.jsonl`.

A journal is evidence, and says whose keys an unknown identity on the board may be. Where to go on is not read from it: board and registry
tell that themselves, so a journal that lost its end costs nothing but the telling.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamppost_tools.journal import JournalFile


class Journal(JournalFile):
    """`now` gives unix seconds."""

    def __init__(self, folder: Path, unit: str, now: Callable[[], float]) -> None:
        """As JournalFile; raises RefusedError."""
        super().__init__(folder / f"{unit}.jsonl", now, "move the file away and repeat the command: board and registry are looked at anew")

    def begun_flash(self) -> dict[str, Any] | None:
        """The entry of a writing of the interpreter that was decided and has not ended; anything noted since then has ended it."""
        return self.entries[-1] if self.entries and self.entries[-1]["step"] == "flash" else None

    def is_erased(self) -> bool:
        """Whether all flash was erased for the work that this command goes on with: since then nothing was noted as done."""
        since = [entry["step"] == "flashed" and entry["is_whole"] for entry in self.entries if entry["step"] in ("flashed", "done")]
        return bool(since and since[-1])

    def is_untested(self) -> bool:
        """Whether a configuration was written that no self-test has passed with since."""
        since = [entry for entry in self.entries if entry["step"] == "configure" or (entry["step"] == "test" and not entry["wrong"])]
        return bool(since and since[-1]["step"] == "configure")

    def nodes(self) -> set[str]:
        """Ids for which keys were made for this board."""
        return {entry["node"] for entry in self.entries if entry["step"] == "keys"}
