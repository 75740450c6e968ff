"""The airtime ledger: what a sub-band or a hopping channel may still be used for. WIRE.md section 13.

The law counts airtime in any window of its length (EN 300 220-1: one hour), wherever that begins. So nothing here starts anew on the
hour: what was sent counts until a window has passed since its end. It is kept in slots of a sixtieth of the window, each released as a
whole, late and never early: some 2 % of the allowance is lost, and memory and time are constant.

Three things make it err on the safe side only:
 - A clock. `now_ms` is monotonic: the setting of a wall clock does not touch it, and it does not wrap. Where it jumps back all the same,
   no time passes until it is where it was before. Against one that jumps ahead there is no defence.
 - A restart. How long the power was off is not known, so what was spent before counts as spent at the start, in full; a ledger without
   an account starts spent. Starting empty would let a node that keeps restarting transmit without end. The account is stored ahead of
   what is sent, an eighth of the allowance at a time, so that flash is written a few times an hour at most.
 - A start that is late, while the radio wakes or waits for a free channel: START_SLACK_MS, or what the caller says, are counted in.
"""

from .errors import LocalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HOUR_MS = 3600000
#: A transmission begins at most this much after `spend` granted it, unless the ledger is made for more.
START_SLACK_MS = 1000
#: Slots of a window: the price of one more is a word of memory, that of one fewer a sixtieth of the allowance's return, later.
SLOTS = 60


class Ledger:
    """An allowance of airtime in any window, with a part of it kept for what is urgent: alarms and acknowledgements."""

    def __init__(
        self,
        allowance_us: int,
        window_ms: int = HOUR_MS,
        reserve_us: int = 0,
        kept_us: int | None = None,
        keep: "Callable[[int], None] | None" = None,
        slots: int = SLOTS,
        slack_ms: int = START_SLACK_MS,
    ) -> None:
        """`kept_us`: what `keep` last stored; None when that is lost, 0 only when nothing was sent for a window: at the bench.

        slack_ms: how late after its charge a transmission may begin. `keep(us)` stores a number and returns only when that is durable;
        `spend` may call it, before it grants.
        """
        self.allowance_us = allowance_us
        self.reserve_us = reserve_us
        self._keep = keep
        self._ahead_us = allowance_us // 8
        self._slots = slots
        self._slot_ms = (window_ms + slots - 1) // slots
        # Slots that may be charged at once: a window's, and those into which the longest transmission of all reaches.
        self._slack_ms = slack_ms
        longest_ms = allowance_us // 1000 + 1 + slack_ms
        self._charged = [0] * (slots + 2 + longest_ms // self._slot_ms + 1)
        self._slot = 0  # the present one, counted from the start
        self._into_ms = 0
        self._oldest = -slots  # the first that still counts
        self._last_ms: int | None = None
        self.spent_us = allowance_us if kept_us is None or kept_us > allowance_us else kept_us
        self._kept_us = self.spent_us
        self._charged[0] = self.spent_us

    def wait_ms(self, airtime_us: int, now_ms: int, is_urgent: bool = False) -> int:
        """Return 0 when `airtime_us` may be sent now, else after how many milliseconds, if nothing else is sent.

        Raises LocalError("too_long") for what the allowance (without the reserve, unless urgent) never covers.
        """
        self._pass_time(now_ms)
        most_us = self.allowance_us - (0 if is_urgent else self.reserve_us)
        if airtime_us > most_us:
            raise LocalError("too_long", "more airtime than the law gives in a window")
        excess_us = self.spent_us + airtime_us - most_us
        slot = self._oldest
        while excess_us > 0:
            excess_us -= self._charged[slot % len(self._charged)]
            slot += 1
        if slot == self._oldest:
            return 0
        return (slot + self._slots - self._slot) * self._slot_ms - self._into_ms

    def spend(self, airtime_us: int, now_ms: int, is_urgent: bool = False) -> None:
        """Charge a transmission that begins now, or at most `slack_ms` later. May write flash.

        Raises LocalError: "overdrawn" when `wait_ms` is not 0, "too_long" as there. What `keep` raises passes, and nothing is charged.
        """
        if self.wait_ms(airtime_us, now_ms, is_urgent) > 0:
            raise LocalError("overdrawn", "airtime spent")
        spent_us = self.spent_us + airtime_us
        if spent_us > self._kept_us or spent_us + 2 * self._ahead_us < self._kept_us:
            # Ahead, but not into the reserve: an alarm after a restart still finds it.
            kept_us = min(spent_us + self._ahead_us, self.allowance_us - (0 if is_urgent else self.reserve_us))
            if self._keep is not None:
                self._keep(kept_us)
            self._kept_us = kept_us
        self.spent_us = spent_us
        # It counts until a window after its end, so it stands in the slot in which it ends.
        end_ms = self._into_ms + self._slack_ms + (airtime_us + 999) // 1000
        self._charged[(self._slot + end_ms // self._slot_ms) % len(self._charged)] += airtime_us

    def state(self) -> list:  # type: ignore[type-arg]
        """Return what `resume` takes: all that is charged, and the moment up to which time has passed."""
        return [self._last_ms, self._slot, self._into_ms, self._oldest, self.spent_us, self._kept_us, self._charged]

    def resume(self, state: list) -> None:  # type: ignore[type-arg]
        """Go on after a pause that RAM does not survive; `now_ms` must have counted no more of it than has passed.

        Raises LocalError("overdrawn") where the state does not fit the account that is stored: it is not of this ledger.
        """
        last_ms, slot, into_ms, oldest, spent_us, kept_us, charged = state
        if kept_us != self._kept_us or len(charged) != len(self._charged) or sum(charged) != spent_us:
            raise LocalError("overdrawn", "not this account")
        self._last_ms, self._slot, self._into_ms, self._oldest = last_ms, slot, into_ms, oldest
        self.spent_us = spent_us
        self._charged = charged

    def _pass_time(self, now_ms: int) -> None:
        if self._last_ms is None:
            self._last_ms = now_ms
        passed_ms = now_ms - self._last_ms
        if passed_ms <= 0:
            return
        self._last_ms = now_ms
        self._into_ms += passed_ms
        self._slot += self._into_ms // self._slot_ms
        self._into_ms %= self._slot_ms
        # A slot is released when a whole window has passed since its end.
        first = self._slot - self._slots
        released = min(first - self._oldest, len(self._charged))
        for i in range(released):
            at = (self._oldest + i) % len(self._charged)
            self.spent_us -= self._charged[at]
            self._charged[at] = 0
        self._oldest = first
