"""The replay window on `tx`: each number once, and nothing below the window. Ref: RFC 8613 section 7.4, RFC 4303 section 3.4.3.

`check` before the signature, because it is cheap; `accept` only once the signature is verified and the row is in the transaction:
a forged frame must not be able to move the window.
"""

from .errors import RemoteError
from .limits import REPLAY_WINDOW

_MASK = (1 << REPLAY_WINDOW) - 1


class ReplayWindow:
    """`highest`: largest tx accepted, 0 for none. `bitmap`: bit i = highest - i was accepted. The two fields persist it."""

    def __init__(self, highest: int = 0, bitmap: int = 0) -> None:
        self.highest = highest
        self.bitmap = bitmap

    def check(self, tx: int) -> None:
        """Return when `tx` (1 ..) was never accepted and is not below the window; else RemoteError `replayed` or `too_old`."""
        age = self.highest - tx
        if age < 0:
            return
        if age >= REPLAY_WINDOW:
            raise RemoteError("too_old", "tx below the window")
        if self.bitmap >> age & 1:
            raise RemoteError("replayed", "tx accepted before")

    def accept(self, tx: int) -> None:
        """Record `tx` as accepted. Raises as `check` does."""
        self.check(tx)
        age = self.highest - tx
        if age < 0:
            self.bitmap = (self.bitmap << -age | 1) & _MASK if -age < REPLAY_WINDOW else 1
            self.highest = tx
        else:
            self.bitmap |= 1 << age
