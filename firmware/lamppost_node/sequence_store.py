"""Counters that must survive everything: each in two checked copies, the larger one counts.

`counters/<name>.0` and `.1` hold crc32 and CBOR [epoch, value]. Provisioning writes the first copies of `tx`. When no copy of it
can be read the counter is lost: nothing is signed under that key any more, the hello says so and the node waits to be re-keyed.
It never guesses. A copy of flash must never be put back onto a node, for the same reason.
"""

from lamppost_protocol.errors import LocalError
from lamppost_protocol.sequence import Sequence

from lamppost_node.flash import Flash
from lamppost_node.settings import unwrap, wrap

FOLDER = "counters"


class Counter:
    """One number on flash, kept twice. `damaged` counts copies that could not be read."""

    def __init__(self, flash: Flash, name: str, epoch: int):
        self._flash = flash
        self._names = (FOLDER + "/" + name + ".0", FOLDER + "/" + name + ".1")
        self._epoch = epoch
        self.damaged = 0

    def read(self) -> int | None:
        """The larger of the readable copies of this epoch; None when there is none. Never raises."""
        highest = None
        for name in self._names:
            try:
                data = self._flash.read(name)
                if data is None:
                    continue
                value = unwrap(data)
            except (OSError, ValueError):
                self.damaged += 1
                continue
            if not isinstance(value, list) or len(value) != 2 or value[0] != self._epoch or not isinstance(value[1], int):
                continue
            if highest is None or value[1] > highest:
                highest = value[1]
        return highest

    def write(self, value: int) -> None:
        """Write both copies; both durable when this returns. Raises OSError: then the value must not be relied upon."""
        data = wrap([self._epoch, value])
        self._flash.make_folder(FOLDER)
        for name in self._names:
            self._flash.replace(name, data)


class SequenceStore:
    """The counter `tx` of this node's frames. `is_lost`: no number may be taken any more."""

    def __init__(self, flash: Flash, epoch: int):
        self._counter = Counter(flash, "tx", epoch)
        self.reserved: int | None = self._counter.read()
        self._sequence: Sequence | None = None
        if self.reserved is not None:
            self._sequence = Sequence(self._counter.read, self._counter.write)

    @property
    def is_lost(self) -> bool:
        """Whether the node must stay silent under this key."""
        return self._sequence is None

    def take(self) -> int:
        """A number never used before. Writes flash once in 64. Raises OSError (flash refused), LocalError (lost or exhausted)."""
        if self._sequence is None:
            raise LocalError("replayed", "counter store lost: the node must be re-keyed")
        try:
            return self._sequence.take()
        except LocalError:
            self._sequence = None
            raise

    def state(self) -> int | None:
        """What `resume` takes after a deep sleep: the next number of the block that flash has reserved."""
        return None if self._sequence is None else self._sequence.state()

    def resume(self, state: int | None) -> None:
        """Go on within that block. Raises LocalError where flash says otherwise."""
        if self._sequence is not None:
            self._sequence.resume(state)
