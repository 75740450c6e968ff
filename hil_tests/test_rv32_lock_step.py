"""The firmware on RISC-V in lock-step with its street: a dusk with the line down, and evenings of chaos.

A virtual hour costs some twenty times here what it costs on this machine's own interpreter, for the board counts every instruction of
every tick; whole months run there (test_whole_days.py).
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
