"""Waiting with a deadline: every wait of a test ends, and says what it waited for."""

import threading
import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 80.0
"""Generous: the machine may be shared by many, and who resends may wait a minute. A test that waits this long fails for another reason."""


class Deadline:
    """A moment after which waiting is over."""

    def __init__(self, seconds: float = DEADLINE_S) -> None:
        self._end_s = time.monotonic() + seconds
        self.seconds = seconds

    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._end_s


def wait_for(is_so: Callable[[], Any], what: str | Callable[[], str], deadline_s: float = DEADLINE_S, every_s: float = 0.05) -> Any:
    """Ask until `is_so()` is true and return its value: for what tells nobody that it changed (files, other programs' answers).

    Raises TimeoutError with `what`, which may be a function telling what was seen last.
    """
    deadline = Deadline(deadline_s)
    never = threading.Event()
    while not (found := is_so()):
        if deadline.is_over:
            raise TimeoutError(f"no {what() if callable(what) else what} in {deadline_s:.0f} s")
        never.wait(min(every_s, deadline.left_s()))
    return found


class Changes:
    """Something that several threads watch and change: `note` what changed, `wait` until it is as wanted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def __enter__(self) -> "Changes":
        self._condition.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._condition.notify_all()
        self._condition.release()

    def wait(self, is_so: Callable[[], Any], what: str | Callable[[], str], deadline_s: float = DEADLINE_S) -> Any:
        """Wait until `is_so()`, evaluated while nothing changes; return its value. Raises TimeoutError with `what`."""
        with self._condition:
            found = self._condition.wait_for(is_so, deadline_s)
            if not found:
                raise TimeoutError(f"no {what() if callable(what) else what} in {deadline_s:.0f} s")
            return found
