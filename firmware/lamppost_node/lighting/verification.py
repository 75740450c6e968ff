"""Whether the power moved as an order said: the difference between "the pin was set" and "the street changed".

Verified means: on two samples running, the measured power lies within the tolerance of what the lamp should take at the applied
level; and where that differs from what it should have taken before by more than the tolerance, at least half of that change was
measured.
"""

from lamppost_protocol.compat import const

VERIFIED = "verified"
FAILED = "failed"

_SAMPLES = const(2)


class PowerProof:
    """The proof of one order's level. Times are monotonic milliseconds, powers 0.1 W."""

    def __init__(self, tolerance_permille: int, tolerance_dw: int, settle_ms: int, window_ms: int):
        self._tolerance_permille = tolerance_permille
        self._tolerance_dw = tolerance_dw
        self._settle_ms = settle_ms
        self._window_ms = window_ms
        self._expected_before_dw = 0
        self._expected_dw = 0
        self._applied_ms = 0
        self._fitting = 0
        self.order_id = 0
        self.before_dw: int | None = None
        self.after_dw: int | None = None

    def begin(self, order_id: int, before_dw: int | None, expected_before_dw: int) -> None:
        """An order starts to move the lamp: remember the power measured (None: unknown) and expected before."""
        self.order_id = order_id
        self.before_dw = before_dw
        self._expected_before_dw = expected_before_dw
        self.after_dw = None
        self._fitting = -1

    def applied(self, expected_dw: int, now_ms: int) -> None:
        """The level is reached and should now take `expected_dw`: judge from here on."""
        self._expected_dw = expected_dw
        self._applied_ms = now_ms
        self._fitting = 0

    def is_judging(self) -> bool:
        """Whether samples are wanted."""
        return self._fitting >= 0 and self.order_id != 0

    def stop(self) -> None:
        """Judge no more: the order ended, or its judgement was taken."""
        self.order_id = 0
        self._fitting = -1

    def sample(self, now_ms: int, power_dw: int | None) -> str | None:
        """Take one measurement (None: the meter gave none). Returns VERIFIED, FAILED (the window is over) or None for go on."""
        if now_ms - self._applied_ms < self._settle_ms:
            return None
        if power_dw is not None:
            self.after_dw = power_dw
            self._fitting = self._fitting + 1 if self._fits(power_dw) else 0
            if self._fitting >= _SAMPLES:
                return VERIFIED
        if now_ms - self._applied_ms >= self._window_ms:
            return FAILED
        return None

    def _fits(self, power_dw: int) -> bool:
        tolerance_dw = max(self._tolerance_dw, self._expected_dw * self._tolerance_permille // 1000)
        if abs(power_dw - self._expected_dw) > tolerance_dw:
            return False
        should_move_dw = self._expected_dw - self._expected_before_dw
        if self.before_dw is None or abs(should_move_dw) <= tolerance_dw:
            return True
        moved_dw = power_dw - self.before_dw
        return 2 * moved_dw >= should_move_dw if should_move_dw > 0 else 2 * moved_dw <= should_move_dw
