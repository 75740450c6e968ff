"""Which refused frames are kept for the operator: all of an incident's beginning, a sample of a flood.

Every refusal is counted; the bytes of one reason on one link are kept in a burst of 50 and then one per 10 s, so that a
stranger who shouts cannot push the interesting ones out of the ledger or wear the disk.
"""

from __future__ import annotations

from collections import deque

_BURST = 50
_REFILL_MS = 10_000
_MAX_WAITING = 512
_MAX_SORTS = 512

#: reason, node, link, when, octets, and how a radio heard it.
Refused = tuple[str, int | None, str, int, bytes, str | None]


class RejectSample:
    """A bounded list of refusals waiting to be stored."""

    def __init__(self) -> None:
        self._waiting: deque[Refused] = deque(maxlen=_MAX_WAITING)
        self._tokens: dict[tuple[str, str], tuple[int, int]] = {}

    def offer(self, refused: Refused) -> bool:
        """Keep it if its reason and link have a token left; return whether it is kept."""
        reason, _, link, at_ms, _, _ = refused
        key = (reason, link)
        tokens, since_ms = self._tokens.get(key, (_BURST, at_ms))
        gained = max(0, at_ms - since_ms) // _REFILL_MS
        if gained:
            tokens, since_ms = min(_BURST, tokens + gained), since_ms + gained * _REFILL_MS
        elif at_ms < since_ms:
            since_ms = at_ms  # the clock was set back
        if tokens == 0 or (key not in self._tokens and len(self._tokens) >= _MAX_SORTS):
            return False
        self._tokens[key] = (tokens - 1, since_ms)
        self._waiting.append(refused)
        return True

    def take(self) -> list[Refused]:
        """All that waits, oldest first; the list is empty afterwards."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
