"""A NOR flash chip as a MicroPython block device, whose power goes in the middle of any operation. Runs on MicroPython.

The capability `cuts` of a target: `ops()`, how many program and erase operations there were, and `cut_after(k, mode)`, the power goes
at operation k, which is then not done, half done or wholly done. Besides, this chip can keep a journal of its operations, so that one
run gives the image of every possible cut.

Modelled: programming clears bits, erasing sets a block, both work from the front. Not modelled: cells between 0 and 1, wear, bit rot.
"""

NONE, HALF, WHOLE = "none", "half", "whole"
MODES = (NONE, HALF, WHOLE)


class PowerCut(Exception):  # noqa: N818 - not an error: an event
    """The power is gone: nothing after this runs until a restart."""


class FlashChip:
    """`image` is the chip's content, a bytearray handed over by the caller, of whole blocks."""

    def __init__(self, image: bytearray, block_bytes: int = 4096, keeps_journal: bool = False):
        self.image = image
        self.block_bytes = block_bytes
        #: (start, octets from there after the operation) of each operation so far; empty without a journal.
        self.journal: list[tuple[int, bytes]] = []
        self._keeps_journal = keeps_journal
        self._ops = 0
        self._cut_at = -1
        self._mode = HALF
        self._is_off = False
        self._erased = b"\xff" * block_bytes

    def ops(self) -> int:
        """Program and erase operations begun so far."""
        return self._ops

    def cut_after(self, k: int, mode: str = HALF) -> None:
        """The power goes at operation `k` (counted from 0 as `ops` does), of which nothing, the first half or the whole gets done."""
        self._cut_at, self._mode = k, mode

    def _change(self, start: int, octets: bytes) -> None:
        if self._is_off:
            raise PowerCut
        if self._ops == self._cut_at:
            self._is_off = True
            done = done_octets(octets, self._mode)
            self.image[start : start + len(done)] = done
            raise PowerCut
        self._ops += 1
        self.image[start : start + len(octets)] = octets
        if self._keeps_journal:
            self.journal.append((start, octets))

    def readblocks(self, block: int, buffer: "bytearray | memoryview", offset: int = 0) -> None:
        """Read len(buffer) octets, `offset` octets into `block`."""
        if self._is_off:
            raise PowerCut
        start = block * self.block_bytes + offset
        buffer[:] = self.image[start : start + len(buffer)]

    def writeblocks(self, block: int, buffer: "bytes | memoryview", offset: int = 0) -> None:
        """Program, `offset` octets into `block`: bits only ever go from one to zero."""
        start = block * self.block_bytes + offset
        count = len(buffer)
        before = int.from_bytes(self.image[start : start + count], "little")
        self._change(start, (before & int.from_bytes(buffer, "little")).to_bytes(count, "little"))

    def ioctl(self, operation: int, argument: int) -> int:
        """MicroPython's block device protocol: count, size, erase; the rest needs nothing done."""
        if operation == 4:
            return len(self.image) // self.block_bytes
        if operation == 5:
            return self.block_bytes
        if operation == 6:
            self._change(argument * self.block_bytes, self._erased)
        return 0


def done_octets(octets: bytes, mode: str) -> bytes:
    """What a cut operation in `mode` gets onto the chip of `octets`."""
    if mode == NONE:
        return b""
    return octets if mode == WHOLE else octets[: len(octets) // 2]
