"""The firmware on RISC-V in lock-step with its street: dusk and whole months with the line down, a bin's month, evenings of chaos.

The board counts every instruction of every tick (`-icount`): a lamp's hour costs some five times here what it costs on this machine's own
interpreter, its thirty days most of an hour of a core, twice. What a month must show is in test_whole_days.py.
"""

import datetime
from pathlib import Path

import pytest
from bench.lock_step import first_difference
from bench.targets.qemu import RV32
from bench.targets.target import Target
from lamppost_protocol import orders
from lamppost_protocol.kinds import LAMP
from street.lamp_oracle import NIGHT, NightOracle
from street.lone_node import NETWORK, LoneNode, image_files
from test_chaos_nights import run_seed
from test_whole_days import MARCH_15_2027, Pace, check_month, fill, live, twice

PARIS = NightOracle(48.8566, 2.3522, "Europe/Paris")
TICKS_WRAP_MS = 1 << 30
CONFIG = {
    "network": NETWORK, "latitude_udeg": 48_856_600, "longitude_udeg": 2_352_200, "utc_offset_s": 3600, "dst": "eu",
    "report_s": 900, "health_s": 3600, "fixtures": [{"kind": "lamp", "instance": 0, "sample_s": 60}],
}  # fmt: skip


pytestmark = pytest.mark.needs("virtual_time", "models")


@pytest.fixture(scope="module")
def rom_image() -> dict[str, bytes]:
    """This tree's firmware for a board that runs it in place."""
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step", is_rom=True)


@pytest.fixture
def image(target: Target, rom_image: dict[str, bytes]) -> dict[str, bytes]:
    """The same for the board that is the one target in lock-step."""
    assert target.name == RV32.name
    return rom_image


def dusk(folder: Path, image: dict[str, bytes]) -> tuple[str, int]:
    """Four minutes of daylight, in which the board's ticks wrap, and three of night; (digest of all exchanges, levels checked)."""
    sunset = PARIS.sunset_unix_s(datetime.date(2027, 3, 15))
    start = int(sunset) - 240
    with LoneNode(folder, image, CONFIG, "lamp", start, seed=1, up_ms=TICKS_WRAP_MS - 100_000) as node:
        board, city, lamp = node.board, node.city, node.cabinet.lamp
        assert lamp is not None
        board.power_on()
        board.run(8)
        assert city.hellos, board.describe("no hello")
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
        return board.digest, PARIS.check(levels, start + 70, start + 420)


@pytest.mark.timeout(300)
def test_a_dusk_with_the_line_down_twice(tmp_path: Path, image: dict[str, bytes]) -> None:
    """The lamp follows what astral and the time zone database say, and both runs exchange the same octets."""
    first, second = (dusk(tmp_path / name, image) for name in ("first", "second"))
    assert first[1] > 10
    assert first == second, first_difference(tmp_path / "first", tmp_path / "second")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [2, 5, 8, 9])
def test_no_lamp_is_dark_without_cause_on_riscv(tmp_path: Path, image: dict[str, bytes], seed: int) -> None:
    """Evenings of chaos, with resets, power cuts and watchdog bites among them: here code takes time, a boot a second of it."""
    _, counts = run_seed(tmp_path / "chaos", image, seed, 480, on_vm=False)
    print(counts)
    assert counts["checked"] > 200
    assert counts["starts"] > 1


@pytest.mark.timeout(300)
def test_a_watchdog_bite_replays_to_the_octet(tmp_path: Path, image: dict[str, bytes]) -> None:
    """The same exchanges at the same times, over a bite and a reset."""
    first, second = (run_seed(tmp_path / name, image, 8, 200, on_vm=False) for name in ("first", "second"))
    assert first[1]["bites"] == 1
    assert first == second, first_difference(tmp_path / "first", tmp_path / "second")


@pytest.mark.timeout(600)
def test_a_bin_through_a_month_of_filling_and_emptying_on_riscv(tmp_path: Path, image: dict[str, bytes]) -> None:
    """At 720 times its pace, six faults on the way."""
    check_month(twice(lambda folder: fill(folder, image, Pace(720, 20), on_vm=False), tmp_path))


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_a_lamp_lives_thirty_days_with_its_line_down_on_riscv(tmp_path: Path, image: dict[str, bytes]) -> None:
    """Thirty nights with the change to summer time, in which the board's ticks wrap twice."""
    month_s = 30 * 86400
    assert twice(lambda folder: live(folder, image, MARCH_15_2027, month_s, on_vm=False), tmp_path) > 30 * 100


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_a_bin_lives_a_month_at_its_own_pace_on_riscv(tmp_path: Path, image: dict[str, bytes]) -> None:
    """The same as the first, with a look at fire and tilt every five seconds of thirty days."""
    check_month(twice(lambda folder: fill(folder, image, Pace(1, 1800), on_vm=False), tmp_path))
