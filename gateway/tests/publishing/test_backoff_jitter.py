"""Waiting times between attempts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_gateway.backoff import Backoff


@given(st.floats(0.01, 10), st.floats(1, 100), st.integers(0, 2**32))
def test_waits_double_within_jitter_up_to_the_cap(first_s: float, factor: float, seed: int) -> None:
    """Each wait lies between a quarter of its ceiling and the ceiling, and the ceiling never passes the cap."""
    cap_s = first_s * factor
    backoff = Backoff(first_s, cap_s, random.Random(seed))
    ceiling_s = first_s
    for _ in range(20):
        wait_s = backoff.next_s()
        assert ceiling_s / 4 <= wait_s <= ceiling_s
        ceiling_s = min(cap_s, ceiling_s * 2)
    backoff.reset()
    assert backoff.next_s() <= first_s
    assert backoff.attempts == 1


def test_peers_do_not_return_together() -> None:
    """A hundred gateways that lost the same broker spread their return over the whole range."""
    waits = [Backoff(8, 8, random.Random(seed)).next_s() for seed in range(100)]
    assert max(waits) - min(waits) > 4
    assert len({round(wait, 1) for wait in waits}) > 30


@pytest.mark.parametrize(("first_s", "cap_s"), [(0, 1), (-1, 1), (2, 1)])
def test_impossible_settings_are_refused(first_s: float, cap_s: float) -> None:
    """A wait of zero would hammer the peer."""
    with pytest.raises(ValueError, match="first_s"):
        Backoff(first_s, cap_s)
