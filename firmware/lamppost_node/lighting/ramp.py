"""A level on its way: straight from where it was to where it shall be, at a given speed."""


class Ramp:
    """Level in permille (0..1000) as a function of monotonic milliseconds. Integers; nothing accumulates, so nothing drifts."""

    def __init__(self, permille: int):
        self._from_permille = permille
        self.target_permille = permille
        self._begun_ms = 0
        self._duration_ms = 0

    def jump(self, permille: int) -> None:
        """Be at `permille` at once."""
        self._from_permille = permille
        self.target_permille = permille
        self._duration_ms = 0

    def begin(self, permille: int, now_ms: int, duration_ms: int) -> None:
        """Go from the present level to `permille` within `duration_ms` (0: at once)."""
        self._from_permille = self.permille(now_ms)
        self.target_permille = permille
        self._begun_ms = now_ms
        self._duration_ms = duration_ms

    def permille(self, now_ms: int) -> int:
        """The level now."""
        elapsed_ms = now_ms - self._begun_ms
        if elapsed_ms >= self._duration_ms or elapsed_ms < 0:
            return self.target_permille
        return self._from_permille + (self.target_permille - self._from_permille) * elapsed_ms // self._duration_ms

    def is_done(self, now_ms: int) -> bool:
        """Whether the target is reached."""
        elapsed_ms = now_ms - self._begun_ms
        return elapsed_ms >= self._duration_ms or elapsed_ms < 0
