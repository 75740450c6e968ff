"""Whole days in seconds: the firmware's bytecode on this machine's interpreter, in lock-step with its street, in virtual time.

A lamp with every line down, and a bin through a month of filling and emptying; each twice, the same to the octet. `make test` takes
an hour of a lamp's life and a bin's month at 720 times its pace; `make soak` both months at their own, day by day. The same on RISC-V:
test_rv32_lock_step.py.
"""

import datetime
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from bench.lock_step import first_difference
from bench.peripherals.cabinet import BIN_DEPTH_MM, BIN_FULL_MM
from lamppost_protocol import kinds, orders
from lamppost_protocol.kinds import LAMP
from street.lamp_oracle import NIGHT, NightOracle
from street.lone_node import NETWORK, LoneNode

PARIS = NightOracle(48.8566, 2.3522, "Europe/Paris")
PLACE = {"network": NETWORK, "latitude_udeg": 48_856_600, "longitude_udeg": 2_352_200, "utc_offset_s": 3600, "dst": "eu"}
MARCH_15_2027 = 1_805_112_000
"""Noon of a Monday: the clocks change on the 28th."""
ROOMY_HEAP_BYTES = 512 << 10
"""Of an emulated board: collecting a chip's full heap takes half of a month's instructions, and other tests count it."""
_HOUR_S, _DAY_S = 3600, 86400
Outcome = TypeVar("Outcome")


def twice(run: Callable[[Path], tuple[str, Outcome]], folder: Path) -> Outcome:
    """The same run on both of a machine's cores; what it found. Raises AssertionError unless every exchange was the same."""
    with ThreadPoolExecutor(2) as pool:
        folders = folder / "first", folder / "second"
        first, second = pool.map(run, folders)
    assert first == second, first_difference(*folders)
    return first[1]


def live(folder: Path, image: dict[str, bytes], start_unix: int, seconds: int, on_vm: bool = True) -> tuple[str, int]:
    """A lamp gets its time and schedule, then nothing for `seconds`; (digest of all exchanges, levels checked)."""
    report_s = 900 if on_vm else _HOUR_S
    config = {**PLACE, "report_s": report_s, "health_s": 3600, "fixtures": [{"kind": "lamp", "instance": 0, "sample_s": 60}]}
    with LoneNode(folder, image, config, "lamp", start_unix, seed=1, table_kb=8, on_vm=on_vm, heap_bytes=ROOMY_HEAP_BYTES) as node:
        board, city, lamp = node.board, node.city, node.cabinet.lamp
        assert lamp is not None
        board.power_on()
        board.run(8)
        assert [permille for _, permille, _ in lamp.log] == [1000], "without time and schedule it is lit"
        city.order(board.now_s, orders.SCHEDULE, LAMP, [NIGHT])
        board.run(20)
        assert (orders.APPLIED, 0) in city.states(1), board.describe("schedule not applied")
        city.is_silent = city.is_deaf = True
        city.quiet_limit_ms = 3_600_000
        begin_s, end_s = 20 + 60, 20 + seconds
        levels: list[tuple[float, int]] = []
        for until_s in [*range(_HOUR_S, end_s, _HOUR_S), end_s]:
            assert board.run(until_s)
            levels += [(start_unix + at_s, permille) for at_s, permille, _ in lamp.log if not levels or start_unix + at_s > levels[-1][0]]
        assert node.cabinet.starts == 1, board.describe("it started anew")
        return board.digest, PARIS.check(levels, start_unix + begin_s, start_unix + end_s)


@pytest.mark.timeout(600)
def test_a_lamp_through_dusk_with_its_line_down(tmp_path: Path, lock_step_image: dict[str, bytes]) -> None:
    """From the last hour of day into the night: the level astral and the zone database want, and the same octets twice."""
    sunset = int(PARIS.sunset_unix_s(datetime.date(2027, 3, 15)))
    assert twice(lambda folder: live(folder, lock_step_image, sunset - 1800, _HOUR_S), tmp_path) > 10


@pytest.mark.soak
@pytest.mark.timeout(2 * _HOUR_S)
def test_a_lamp_lives_thirty_days_with_its_line_down(tmp_path: Path, lock_step_image: dict[str, bytes]) -> None:
    """Thirty nights, the change to summer time among them, and the same octets twice."""
    assert twice(lambda folder: live(folder, lock_step_image, MARCH_15_2027, 30 * _DAY_S), tmp_path) > 30 * 100


#: (hour of the bin's month, fault or None to end them all): each is over before the next begins.
BIN_FAULTS = ((80, "no_echo"), (100, None), (160, "unplugged"), (190, None), (260, "temperature_unplugged"), (280, None),
              (360, "noisy"), (380, None), (460, "tilt"), (480, None), (560, "fire"), (580, None))  # fmt: skip
_MONTH_HOURS = 720
_SETTLE_S = 15
_DOUBT = {"no_echo": kinds.NO_ECHO, "unplugged": kinds.SENSOR_FAULT, "temperature_unplugged": kinds.UNCOMPENSATED, "noisy": kinds.SPREAD}
_FIRE, _TILT, _EMPTIED = 2, 4, 8


@dataclass(frozen=True)
class Pace:
    """How fast the bin's month passes: `factor` street seconds a second of the node's."""

    factor: int
    report_s: int

    def at_s(self, hour: float) -> float:
        """The node's time of an hour of the month."""
        return hour * _HOUR_S / self.factor


def fill(folder: Path, image: dict[str, bytes], pace: Pace, on_vm: bool = True) -> tuple[str, dict[str, int]]:
    """A bin's month; (digest of all exchanges, how often each thing was seen)."""
    config = {**PLACE, "report_s": pace.report_s, "health_s": 600, "fixtures": [{"kind": "bin", "instance": 0, "watch_s": 5}]}
    seen: dict[str, int] = {}
    with LoneNode(folder, image, config, "bin", MARCH_15_2027, seed=1, table_kb=8, on_vm=on_vm, heap_bytes=ROOMY_HEAP_BYTES) as node:
        board, city, cabinet, street = node.board, node.city, node.cabinet, node.street
        street.set_time(0, time_factor=pace.factor)
        # A day's warmth in two minutes would be a fire.
        street.overrides.update(temperature_c=12.0, humidity_percent=60.0)
        board.power_on()
        for hour, fault in BIN_FAULTS:
            assert board.run(pace.at_s(hour))
            if fault is None:
                cabinet.clear_fault(None, board.now_s)
            else:
                cabinet.set_fault(fault, None, board.now_s)
        assert board.run(pace.at_s(_MONTH_HOURS))
        assert sorted(city.records) == list(range(1, max(city.records) + 1)), "a number is missing"
        for unix, (quality, *values) in city.of_kind(kinds.BIN):
            _check_bin(node, pace, unix - MARCH_15_2027, quality, values, seen)
        assert node.cabinet.starts == 1, board.describe("it started anew")
        return board.digest, seen


def _fault_at(pace: Pace, now_s: float) -> tuple[str | None, float]:
    """The fault that is there, and since when that has been so."""
    return next(((fault, pace.at_s(hour)) for hour, fault in reversed(BIN_FAULTS) if pace.at_s(hour) <= now_s), (None, 0.0))


def _check_bin(node: LoneNode, pace: Pace, now_s: float, quality: int, values: list[Any], seen: dict[str, int]) -> None:
    fault, since_s = _fault_at(pace, now_s)
    distance_mm, percent, _, flags = values
    if now_s - since_s < _SETTLE_S:
        return
    for bit, cause in ((_FIRE, "fire"), (_TILT, "tilt")):
        if now_s - since_s > 60 and distance_mm is not None:
            assert bool(flags & bit) == (fault == cause), f"flags {flags} at {now_s} with {fault}"
    seen["emptied"] = seen.get("emptied", 0) + bool(flags & _EMPTIED)
    if distance_mm is None and quality == kinds.GOOD:
        return  # an alarm's record carries no distance
    if fault == "noisy" and quality == kinds.GOOD:
        return  # readings that disagree at random may agree once
    seen[str(fault)] = seen.get(str(fault), 0) + 1
    if fault in _DOUBT:
        assert quality == _DOUBT[fault], f"quality {quality} at {now_s} with {fault}"
    if quality == kinds.GOOD:
        # A burst lasts a second or two, in which the street's bin fills for half an hour; just then it may be emptied.
        true = [node.cabinet.distance_mm(now_s - back_s) for back_s in (0.0, 1.0, 2.0, 3.0, 4.0)]
        assert min(true) - 40 <= distance_mm <= max(true) + 40, f"{distance_mm} mm at {now_s}, truly {true}"
        span_mm = BIN_DEPTH_MM - BIN_FULL_MM
        wanted = [max(0, min(100, round(100 * (BIN_DEPTH_MM - each) / span_mm))) for each in true]
        assert min(wanted) - 5 <= percent <= max(wanted) + 5
        seen["good"] = seen.get("good", 0) + 1


def check_month(seen: dict[str, int]) -> None:
    """What a month must have shown."""
    print(seen)
    assert seen["good"] > 80
    assert seen["emptied"] >= 7, "collected every third day"
    assert all(seen.get(fault, 0) >= 2 for fault in _DOUBT)


@pytest.mark.timeout(600)
def test_a_bin_through_a_month_of_filling_and_emptying(tmp_path: Path, lock_step_image: dict[str, bytes]) -> None:
    """Every good record is the truth, every fault has its quality, each emptying is told, nothing is lost; the same octets twice."""
    check_month(twice(lambda folder: fill(folder, lock_step_image, Pace(720, 20)), tmp_path))


@pytest.mark.soak
@pytest.mark.timeout(2 * _HOUR_S)
def test_a_bin_lives_a_month_at_its_own_pace(tmp_path: Path, lock_step_image: dict[str, bytes]) -> None:
    """The same, with a look at fire and tilt every five seconds of thirty days."""
    check_month(twice(lambda folder: fill(folder, lock_step_image, Pace(1, 1800)), tmp_path))
