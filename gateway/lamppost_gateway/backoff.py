"""Waiting times between attempts: doubling, capped, with full jitter, so that a thousand peers do not return at once.

Ref: "Exponential Backoff And Jitter" (AWS architecture blog, 2015), the full-jitter form with a floor.
"""

import random

_SHARED = random.Random()  # a generator of its own for each of 600 (300 lines) would take 1.6 MB


class Backoff:
    """Gives the next waiting time in seconds; `reset` after the first success.

    `first_s` > 0 is the ceiling of the first wait, doubled after each wait up to `cap_s` >= `first_s`. Each wait is
    drawn evenly between a quarter of the ceiling and the ceiling: never zero, so a peer that refuses at once is not
    hammered. `source` gives the randomness (a seeded one in tests).
    """

    def __init__(self, first_s: float = 0.5, cap_s: float = 60.0, source: random.Random | None = None) -> None:
        if not 0 < first_s <= cap_s:
            raise ValueError(f"first_s must be above 0 and at most cap_s: {first_s} {cap_s}")
        self._first_s = first_s
        self._cap_s = cap_s
        self._ceiling_s = first_s
        self._source = source or _SHARED
        self.attempts = 0

    def next_s(self) -> float:
        """Return the seconds to wait now, at most `cap_s`, and raise the ceiling of the next wait."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(self._cap_s, ceiling_s * 2)
        self.attempts += 1
        return self._source.uniform(ceiling_s / 4, ceiling_s)

    def reset(self) -> None:
        """Start again at `first_s`."""
        self._ceiling_s = self._first_s
        self.attempts = 0
