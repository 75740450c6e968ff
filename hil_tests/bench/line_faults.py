"""What a bad line does to octets: turns bits over, drops, inserts, doubles, holds back and splits, all from one seed.

A serial line keeps order: what is held back holds back everything behind it. Knows octets only.
"""

import random
from dataclasses import dataclass

LONGEST_HOLD_S = 0.2
LONGEST_BURST = 16


@dataclass(frozen=True)
class LineFaults:
    """How likely each fault is, 0 .. 1: `flip` for each bit, the others for each octet.

    `burst` starts a run of up to LONGEST_BURST random octets in place of the true ones; `hold` stops the line for up to
    LONGEST_HOLD_S; `split` only parts what would have been read at once.
    """

    flip: float = 0.0
    drop: float = 0.0
    insert: float = 0.0
    double: float = 0.0
    burst: float = 0.0
    hold: float = 0.0
    split: float = 0.0


@dataclass(frozen=True)
class Piece:
    """Octets that come out of the line together, `after_s` seconds behind the piece before them."""

    data: bytes
    after_s: float


class FaultyLine:
    """One direction of a line under LineFaults; `counts` says how often each fault happened."""

    def __init__(self, faults: LineFaults, seed: int) -> None:
        self.faults = faults
        self.counts = dict.fromkeys(("flip", "drop", "insert", "double", "burst", "hold", "split"), 0)
        self._source = random.Random(seed)

    def carry(self, data: bytes) -> tuple[list[Piece], bool]:
        """Send octets through the line: the pieces that come out, and whether any octet is not as it was."""
        pieces: list[Piece] = []
        out = bytearray()
        after_s = 0.0
        burst = 0
        is_damaged = False
        for octet in data:
            if self._happens("hold"):
                pieces.append(Piece(bytes(out), after_s))
                out.clear()
                after_s = self._source.uniform(0.0, LONGEST_HOLD_S)
            elif self._happens("split"):
                pieces.append(Piece(bytes(out), after_s))
                out.clear()
                after_s = 0.001
            if not burst and self._happens("burst"):
                burst = self._source.randint(1, LONGEST_BURST)
            came = self._octet(octet, burst > 0)
            burst = max(0, burst - 1)
            is_damaged = is_damaged or came != bytes((octet,))
            out += came
        pieces.append(Piece(bytes(out), after_s))
        return [piece for piece in pieces if piece.data or piece.after_s], is_damaged

    def _octet(self, octet: int, is_burst: bool) -> bytes:
        if is_burst:
            return self._source.randbytes(1)
        if self._happens("drop"):
            return b""
        for bit in range(8):
            if self._happens("flip"):
                octet ^= 1 << bit
        came = bytes((octet,))
        if self._happens("double"):
            came += came
        if self._happens("insert"):
            came += self._source.randbytes(1)
        return came

    def _happens(self, fault: str) -> bool:
        chance: float = getattr(self.faults, fault)
        if not chance or self._source.random() >= chance:
            return False
        self.counts[fault] += 1
        return True
