"""kill -9 at random instants under load loses nothing acknowledged and stores nothing twice (R01)."""

from pathlib import Path

import pytest
from street.kill_rounds import KillRounds

ROUNDS = 20

# the planted bug: acknowledges a batch, then commits it
ACKNOWLEDGE_FIRST = """
import asyncio
from lamppost_gateway import receiver
from lamppost_gateway.__main__ import main
real = receiver.Receiver._commit
async def late(self, frames, tried):
    async def soon():
        await asyncio.sleep(0.05)
        await real(self, frames, tried)
    self.later = getattr(self, "later", set())
    self.later.add(asyncio.create_task(soon()))
receiver.Receiver._commit = late
main()
"""


def play(folder: Path, seed: int, rounds: int, program: tuple[str, ...] = ("-m", "lamppost_gateway")) -> KillRounds:
    bench = KillRounds(folder, seed, program=program)
    try:
        bench.run(rounds)
    finally:
        bench.close()
    return bench


def test_kills_lose_nothing_acknowledged_and_store_nothing_twice(tmp_path: Path) -> None:
    """Twenty seeded rounds on three lines; `street.kill_rounds` runs as many as are asked for."""
    result = play(tmp_path, 1, ROUNDS).result
    assert result.lost == [], result
    assert result.twice == [], result
    assert result.broken == [], result
    assert result.acknowledged > 20 * ROUNDS
    assert result.resent_frames > 0


@pytest.mark.soak
def test_the_planted_bug_acknowledge_before_commit_is_caught(tmp_path: Path) -> None:
    """The same rounds find losses in a gateway that acknowledges too early."""
    result = play(tmp_path, 2, 6, ("-c", ACKNOWLEDGE_FIRST)).result
    assert result.lost != []


@pytest.mark.soak
@pytest.mark.timeout(20_000)
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    """Ten seeds of a thousand rounds."""
    result = play(tmp_path, seed, 1_000).result
    assert (result.lost, result.twice, result.broken) == ([], [], [])
