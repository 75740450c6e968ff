"""The counter `tx`: fresh for every frame under one key, for ever, whatever the power does. Ref: RFC 8613 appendix B.1.1.

Numbers are reserved in blocks, the bound written before its first use, so flash is written once per block. After power-up the first
number is the stored bound plus a slack of one block: a reservation made on the way that the flash lost still cannot lead to a
repeat. The first one after power-up has no such margin, so the store keeps two copies and `read` returns the larger.
"""

from .errors import LocalError
from .limits import MAX_TX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 64
SLACK = 64


class Sequence:
    """A counter over a store. Reserves lazily: a node that boots and dies in a loop without sending writes nothing."""

    def __init__(self, read: "Callable[[], int | None]", write: "Callable[[int], None]", block: int = BLOCK, slack: int = SLACK) -> None:
        """`read()` returns the stored bound, or None when the store is lost; `write(bound)` returns only when it is durable.

        Raises LocalError("replayed") when the store is lost: this key must never sign again; say so in a hello and await a new one.
        """
        bound = read()
        if bound is None:
            raise LocalError("replayed", "counter store lost: the node must be re-keyed")
        self._write = write
        self._block = block
        self._next = bound + slack if bound + slack > 0 else 1
        self._bound = self._next
        self._stored = bound

    def take(self) -> int:
        """Return the next tx (1 .. MAX_TX). May write flash. Raises LocalError("replayed") when exhausted: re-key.

        An exception from `write` passes through and uses up no number.
        """
        if self._next > MAX_TX:
            raise LocalError("replayed", "counter exhausted: the node must be re-keyed")
        if self._next >= self._bound:
            bound = self._next + self._block
            self._write(bound if bound <= MAX_TX else MAX_TX + 1)
            self._bound = self._stored = bound
        tx = self._next
        self._next += 1
        return tx

    def state(self) -> int | None:
        """Return what `resume` takes after a pause that RAM does not survive: the next number, None when none was taken yet."""
        return self._next if self._next <= self._stored else None

    def resume(self, state: int | None) -> None:
        """Go on within the block that the store says is reserved. Whoever keeps a state must let it be resumed once at most.

        Raises LocalError("replayed") for a number outside that block: the state is older or newer than the store.
        """
        if state is None:
            return
        if not self._stored - self._block <= state <= self._stored:
            raise LocalError("replayed", "not of the block that is reserved")
        self._next = state
        self._bound = self._stored
