"""The newest records of the spool, each a small file of its own until a batch of them moves into a segment.

littlefs keeps a file of up to 128 octets inside its directory: writing one appends to a log, where appending to a larger file erases a
block and copies half of it. A file cut short was never handed out; a damaged one may have been, so its number stays taken by nothing.
"""

from lamppost_node import stored
from lamppost_node.flash import Flash

FOLDER = "head"


class Head:
    """`entries`: (number, octets) of the records here, oldest first; octets are empty where the record was damaged."""

    def __init__(self, flash: Flash, epoch: int):
        self._flash = flash
        self._prefix = "%08x" % epoch
        self.entries: list[tuple[int, bytes]] = []
        self.damaged = 0

    def load(self, expected: int) -> list[int]:
        """Take the files from number `expected` on, remove the others; returns numbers behind the first that are damaged or missing."""
        self._flash.make_folder(FOLDER)
        names = []
        for name in self._flash.names(FOLDER):
            parts = name.split(".")
            if len(parts) == 2 and parts[0] == self._prefix and int(parts[1], 16) >= expected:
                names.append(int(parts[1], 16))
            else:
                self._flash.remove(FOLDER + "/" + name)  # in a segment already, or of a later epoch
        holes: list[int] = []
        previous = 0
        for n in names:
            data = self._flash.read(self._name(n)) or b""
            found, after, found_n = stored.inspect(memoryview(data), 0, len(data))
            if found == stored.END and n == names[-1]:
                self._flash.remove(self._name(n))  # cut short: never handed out
                continue
            if previous:
                holes.extend(range(previous + 1, n))
            if found != stored.GOOD or after != len(data) or found_n != n:
                # It was given out, so its number is taken by nothing.
                self.damaged += 1
                holes.append(n)
                data = b""
            self.entries.append((n, data))
            previous = n
        return holes

    def first_n(self, next_n: int) -> int:
        """The oldest number here; `next_n` when there is none."""
        return self.entries[0][0] if self.entries else next_n

    def size_bytes(self) -> int:
        """Octets of all records here."""
        total = 0
        for entry in self.entries:
            total += len(entry[1])
        return total

    def write(self, n: int, data: bytes) -> None:
        """Keep one record: durable when this returns. Raises OSError: then it is not here, and a prefix on flash does no harm."""
        self._flash.write(self._name(n), data)
        self.entries.append((n, data))

    def read_from(self, n: int) -> stored.Stored | None:
        """The record with the smallest number >= n, None when there is none. Does not read flash."""
        for number, data in self.entries:
            if number >= n:
                record = stored.decode(memoryview(data), 0, len(data), number)
                if record is not None:
                    return record
        return None

    def drop(self, count: int) -> int:
        """Forget the `count` oldest, which are in a segment now; returns how many files flash refused to remove (the next boot does)."""
        refused = 0
        moved = self.entries[:count]
        self.entries = self.entries[count:]
        for n, _ in moved:
            try:
                self._flash.remove(self._name(n))
            except OSError:
                refused += 1
        return refused

    def _name(self, n: int) -> str:
        return FOLDER + "/" + self._prefix + "." + "%012x" % n
