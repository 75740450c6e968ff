"""The firmware on RISC-V in lock-step with its street: a dusk with the line down, twice.

Known gap: both boots exchange the same octets, but somewhere in the minutes of idling behind them the times of two runs part (not yet
understood), so only the boots are compared to the octet.

A virtual hour costs about a minute of this machine's time here, for the board counts every instruction of every tick; whole months run on
the interpreter of this machine (test_whole_days.py).
"""

import datetime
from pathlib import Path

import pytest
from bench.lock_step import missing
from lamppost_protocol import orders
from lamppost_protocol.kinds import LAMP
from street.lamp_oracle import NIGHT, NightOracle
from street.lone_node import NETWORK, LoneNode, image_files

PARIS = NightOracle(48.8566, 2.3522, "Europe/Paris")
CONFIG = {
    "network": NETWORK, "latitude_udeg": 48_856_600, "longitude_udeg": 2_352_200, "utc_offset_s": 3600, "dst": "eu",
    "report_s": 900, "health_s": 3600, "fixtures": [{"kind": "lamp", "instance": 0, "sample_s": 60}],
}  # fmt: skip


@pytest.fixture(scope="module")
def image() -> dict[str, bytes]:
    """This tree's firmware for the board."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step")


def dusk(folder: Path, image: dict[str, bytes]) -> tuple[str, int]:
    """Six minutes of daylight and four of night; (digest of the boot's exchanges, levels checked)."""
    sunset = PARIS.sunset_unix_s(datetime.date(2027, 3, 15))
    start = int(sunset) - 240
    with LoneNode(folder, image, CONFIG, "lamp", start, seed=1) as node:
        board, city, lamp = node.board, node.city, node.cabinet.lamp
        assert lamp is not None
        board.power_on()
        board.run(8)
        assert city.hellos, board.describe("no hello")
        digest = board.digest
        assert lamp.log[-1][1] == 1000, "without time and schedule it is lit"
        city.order(board.now_s, orders.SCHEDULE, LAMP, [NIGHT])
        board.run(14)
        assert (orders.APPLIED, 0) in city.states(1), board.describe("schedule not applied")
        city.is_silent = city.is_deaf = True
        city.quiet_limit_ms = 3_600_000
        board.run(70)
        assert lamp.log[-1][1] == 0, "by day the schedule says off"
        board.run(420)
        assert lamp.log[-1][1] == 1000, board.describe("not lit after sunset")
        levels = [(start + at_s, permille) for at_s, permille, _ in lamp.log]
        return digest, PARIS.check(levels, start + 70, start + 420)


@pytest.mark.days
@pytest.mark.timeout(300)
def test_a_dusk_with_the_line_down_twice(tmp_path: Path, image: dict[str, bytes]) -> None:
    """The lamp follows what astral and the time zone database say, and both boots exchange the same octets."""
    first, second = (dusk(tmp_path / name, image) for name in ("first", "second"))
    assert first[1] > 10
    assert first == second
