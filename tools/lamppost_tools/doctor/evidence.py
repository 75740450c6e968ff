"""What is known of one node, wherever it was learnt: from what a gateway kept, or from the board itself. Rules read nothing else.

Every field may be unknown; a rule that needs an unknown one says nothing, and is named as not judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reading:
    """One record. `at_s`: unix seconds, by its frame's receipt where the node did not know the time; `values` by column name, as sent."""

    at_s: float
    fixture: str
    quality: str
    values: Mapping[str, int | None]


@dataclass(frozen=True)
class Evidence:
    """`source` in words. Lists are oldest first; None: not known from there.

    `dated`: of each frame, whether its node knew the time. `refused`: frames that claimed to be the node's, by reason. `health`: the node's
    own records. `board`: what a board told on its console (`doctor/board.py`).
    """

    node: str
    source: str
    dated: list[bool] | None = None
    refused: Mapping[str, int] | None = None
    readings: list[Reading] | None = None
    board: Mapping[str, Any] | None = None
    newest_version: int | None = None
    expected_network: int | None = None

    def health(self) -> list[Reading] | None:
        """The node's records about itself."""
        return None if self.readings is None else [one for one in self.readings if one.fixture == "node"]

    def fixtures(self) -> dict[str, list[Reading]] | None:
        """Each fixture's records."""
        if self.readings is None:
            return None
        found: dict[str, list[Reading]] = {}
        for one in self.readings:
            if one.fixture.partition(".")[0] in ("lamp", "bin", "air"):
                found.setdefault(one.fixture, []).append(one)
        return found
