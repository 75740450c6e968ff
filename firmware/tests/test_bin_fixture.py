"""The bin on its three buses, fed with datasheet bytes over virtual time."""

from collections.abc import Callable
from typing import Any

import pytest
from fake_buses import FakeI2c, FakeNode, StreamUart, now_ms, run_fixture
from hypothesis import given
from hypothesis import strategies as st
from lamppost_node.drivers.a02yyuw import A02YYUW
from lamppost_node.drivers.crc8 import crc8
from lamppost_node.drivers.lis3dh import LIS3DH
from lamppost_node.drivers.sht4x import SHT4x
from lamppost_node.fixtures import bin_keys
from lamppost_node.fixtures.bin import (
    FLAG_COVER_OPEN,
    FLAG_EMPTIED,
    FLAG_FIRE,
    FLAG_FULL,
    FLAG_TILT,
    Bin,
    compensated_mm,
    fill_percent,
    is_beyond,
    median,
    remember_rise,
    spread_mm,
    square_root,
)
from lamppost_protocol import kinds
from lamppost_protocol.profiles import PROFILES
from lamppost_protocol.records import check_record

DEFAULTS = {**{key: default for key, default, _, _ in bin_keys.KEYS}, "height_mm": 1200, "full_mm": 200}


class Street:
    """What the three sensors see, as functions of milliseconds; None is a sensor that is not there."""

    def __init__(self) -> None:
        self.distance: Callable[[int], int | None] = lambda ms: 700
        self.celsius: Callable[[int], float | None] = lambda ms: 20.0
        self.gravity: Callable[[int], tuple[int, int, int] | None] = lambda ms: (0, 0, 1008)
        self.damage = False

    def frame(self, ms: int) -> bytes:
        distance = self.distance(ms)
        if distance is None:
            return b""
        body = bytes([0xFF, distance >> 8, distance & 0xFF])
        return body + bytes([(sum(body) + self.damage) & 0xFF])


class Thermometer:
    def __init__(self, street: Street):
        self.street = street
        self.noise = 0

    def write(self, data: bytes) -> None:
        self.noise ^= 1  # a sensor that repeats itself to the last bit is taken for stuck
        if self.street.celsius(now_ms()) is None:
            raise OSError(19)

    def read(self, count: int) -> bytes:
        celsius = self.street.celsius(now_ms())
        assert celsius is not None
        raw = round((celsius + 45) * 65535 / 175) ^ self.noise
        word = raw.to_bytes(2, "big")
        return word + bytes([crc8(word, 0, 2)]) + b"\x80\x00\xa2"


class Accelerometer:
    def __init__(self, street: Street):
        self.street = street
        self.registers = {0x0F: 0x33, 0x20: 0x07}
        self.at = 0

    def write(self, data: bytes) -> None:
        if self.street.gravity(now_ms()) is None:
            raise OSError(19)
        self.at = data[0]
        if len(data) == 2:
            self.registers[self.at] = data[1]

    def read(self, count: int) -> bytes:
        if self.at == 0xA8:
            gravity = self.street.gravity(now_ms())
            assert gravity is not None
            return bytes(byte for mg in gravity for byte in (0, (mg // 16) & 0xFF))
        return bytes([self.registers.get(self.at, 0)])


def run_bin(street: Street, for_s: float, node: "FakeNode | None" = None, **config: int) -> FakeNode:
    node = node or FakeNode()

    def make() -> Bin:
        i2c = FakeI2c({0x44: Thermometer(street), 0x18: Accelerometer(street)})
        uart = StreamUart(100, street.frame)
        return Bin(A02YYUW(uart), SHT4x(i2c), LIS3DH(i2c), {**DEFAULTS, "report_s": 60, **config}, node, 0)

    run_fixture(make, for_s)
    for _, kind, q, values, _ in node.records:
        check_record([kind, 0, q, *values], True)
        for column, value in zip(PROFILES[kinds.BIN].columns, values, strict=True):
            assert value is None or column.low <= value <= column.high
    return node


def reports(node: FakeNode) -> list[tuple[int, tuple[Any, ...]]]:
    return [(q, values) for _, _, q, values, alarm in node.records if not alarm]


def test_a_standing_bin_reports_its_level() -> None:
    """Distance, fill, temperature and no flags, at once after start and then every interval."""
    node = run_bin(Street(), 125)
    assert reports(node) == [(kinds.GOOD, (700, 50, 200, 0))] * 3
    assert [at // 1000 for at, *_ in node.records] == [0, 60, 120]
    assert node.records[0][1] == kinds.kind_of(kinds.BIN, 0)
    assert max(later - earlier for earlier, later in zip(node.alive_ms, node.alive_ms[1:], strict=False)) <= 10_000


@pytest.mark.parametrize(("celsius", "distance_mm"), [(-10, 663), (0, 676), (20, 700), (40, 723)])
def test_the_air_inside_decides_the_distance(celsius: int, distance_mm: int) -> None:
    """The sensor's 700 mm at 20 C are fewer in the cold and more in the heat."""
    street = Street()
    street.celsius = lambda ms: celsius
    assert reports(run_bin(street, 10))[0][1][0] == distance_mm


def test_a_missing_thermometer_costs_its_column_and_the_compensation() -> None:
    """Distance as the sensor says, temperature null, code uncompensated; told once in the log."""
    street = Street()
    street.celsius = lambda ms: None
    node = run_bin(street, 130)
    assert reports(node) == [(kinds.UNCOMPENSATED, (700, 50, None, 0))] * 3
    assert [line for line in node.lines if "thermometer" in line] == ["bin: thermometer not_acknowledged"]


def test_no_echo_is_a_value() -> None:
    """A sensor that sees nothing gives a record with nulls and its code, once per interval."""
    street = Street()
    street.distance = lambda ms: 0
    assert reports(run_bin(street, 125)) == [(kinds.NO_ECHO, (None, None, 200, 0))] * 3


def test_silence_and_damage_are_sensor_faults() -> None:
    """Unplugged or garbled: a record with nulls and its code, quickly, and not more often than the interval."""
    for damage in (False, True):
        street = Street()
        if damage:
            street.damage = True
        else:
            street.distance = lambda ms: None
        node = run_bin(street, 125)
        assert reports(node) == [(kinds.SENSOR_FAULT, (None, None, 200, 0))] * 3
        assert node.records[0][0] < 3000


def test_a_sensor_plugged_in_again_is_told() -> None:
    """Faults end by themselves, and the log says so."""
    street = Street()
    street.distance = lambda ms: None if ms < 30_000 else 700
    node = run_bin(street, 70)
    assert [q for q, _ in reports(node)] == [kinds.SENSOR_FAULT, kinds.GOOD]
    assert node.lines == ["bin: ranger silent", "bin: ranger answers again"]


def test_a_ranger_stuck_at_one_number_is_stale() -> None:
    """The very same millimetre while the air warms by five degrees: sent, marked, no emptying concluded from it."""
    street = Street()
    street.celsius = lambda ms: 10.0 + ms / 60_000  # a degree a minute
    codes = [q for q, _ in reports(run_bin(street, 545))]
    assert codes == [kinds.GOOD] * 5 + [kinds.STALE] * 5
    street.distance = lambda ms: round(700 * (1 - 0.0017 * ms / 60_000)) + ms // 100 % 2
    assert {q for q, _ in reports(run_bin(street, 545))} == {kinds.GOOD}


def test_stray_echoes_do_not_move_the_level() -> None:
    """One reading in seven is wild, one is without echo: the median stands."""
    street = Street()
    street.distance = lambda ms: (690, 4000, 700, 0, 705, 700, 695)[ms // 100 % 7]
    assert reports(run_bin(street, 5)) == [(kinds.GOOD, (700, 50, 200, 0))]


def test_sloped_waste_is_told_by_its_spread() -> None:
    """When the middle of a burst is wide the level is sent with the code spread."""
    street = Street()
    street.distance = lambda ms: (500, 620, 700, 810, 900, 560, 760)[ms // 100 % 7]
    q, values = reports(run_bin(street, 5))[0]
    assert q == kinds.SPREAD
    assert values[0] == 700


def test_a_minority_of_echoes_is_no_level() -> None:
    """Three of seven heard is no majority."""
    street = Street()
    street.distance = lambda ms: (700, 0, 0, 700, 0, 0, 700)[ms // 100 % 7] if ms else 0
    assert reports(run_bin(street, 5))[0][0] == kinds.NO_ECHO


def test_an_echo_from_beyond_the_bottom_is_an_open_cover() -> None:
    """Out of range, distance kept, no fill, its flag; gone when the cover is shut."""
    street = Street()
    street.distance = lambda ms: 2500 if ms < 30_000 else 700
    assert reports(run_bin(street, 65)) == [
        (kinds.OUT_OF_RANGE, (2500, None, 200, FLAG_COVER_OPEN)),
        (kinds.GOOD, (700, 50, 200, 0)),
    ]


def test_full_holds_until_clearly_below() -> None:
    """The flag comes at the threshold and stays within five percent of it."""
    street = Street()
    # 85 %, 81 %, 79 %: height 1200, full 200.
    street.distance = lambda ms: 350 if ms < 30_000 else 390 if ms < 90_000 else 410
    flags = [values[3] for _, values in reports(run_bin(street, 125))]
    assert flags == [FLAG_FULL, FLAG_FULL, 0]


def test_emptying_is_told_once_when_two_bursts_agree() -> None:
    """A drop of more than thirty percent, seen twice; a single low burst is not an emptying."""
    street = Street()
    levels = [300, 1100, 310, 1150, 1150, 1150, 1100]
    street.distance = lambda ms: levels[min(len(levels) - 1, (ms + 30_000) // 60_000)]
    flags = [values[3] & FLAG_EMPTIED for _, values in reports(run_bin(street, 365))]
    assert flags == [0, 0, 0, 0, FLAG_EMPTIED, 0, 0]


def test_a_fire_is_sent_at_once_and_its_end_is_told() -> None:
    """Above 60 C: an alarm within two looks, no second one while it burns, a plain record at its end."""
    street = Street()
    street.celsius = lambda ms: 90.0 if 100_000 <= ms < 200_000 else 25.0
    node = run_bin(street, 400, report_s=3600)
    alarms = [(at, values[3]) for at, _, _, values, alarm in node.records if alarm]
    assert len(alarms) == 1
    assert 100_000 <= alarms[0][0] <= 111_000
    assert alarms[0][1] == FLAG_FIRE
    assert node.records[-1][3][3] == 0
    assert not node.records[-1][4]
    assert 200_000 <= node.records[-1][0] <= 275_000


def test_a_fast_rise_is_a_fire_below_sixty_degrees() -> None:
    """Six degrees within a minute from a winter's bin is a fire long before 60 C; four are the sun."""
    for rise, expected in ((6.0, 1), (4.0, 0)):
        street = Street()
        street.celsius = lambda ms, rise=rise: 0.0 + min(1.0, max(0.0, (ms - 60_000) / 50_000)) * rise
        node = run_bin(street, 200, report_s=3600)
        assert sum(alarm for *_, alarm in node.records) == expected


def test_one_wrong_reading_calls_nobody() -> None:
    """A single look at 80 C is not an alarm."""
    street = Street()
    street.celsius = lambda ms: 80.0 if 50_000 <= ms < 54_000 else 20.0
    assert not any(alarm for *_, alarm in run_bin(street, 200, report_s=3600).records)


def test_a_burnt_thermometer_does_not_end_the_fire() -> None:
    """The flag stays when the sensor goes silent while it burns."""
    street = Street()
    street.celsius = lambda ms: 20.0 if ms < 50_000 else 90.0 if ms < 100_000 else None
    node = run_bin(street, 320, report_s=300)
    assert node.records[-1][3][2:] == (None, FLAG_FIRE)


def test_a_fallen_bin_is_sent_at_once_and_its_righting_is_told() -> None:
    """More than 45 degrees for more than ten seconds; clear when upright again as long."""
    street = Street()
    street.gravity = lambda ms: (1008, 0, 96) if 50_000 <= ms < 100_000 else (0, 0, 1008)
    node = run_bin(street, 150, report_s=3600)
    alarms = [(at, values[3]) for at, _, _, values, alarm in node.records if alarm]
    assert len(alarms) == 1
    assert 60_000 < alarms[0][0] <= 72_000
    assert alarms[0][1] == FLAG_TILT
    assert node.records[-1][3][3] == 0
    assert 110_000 < node.records[-1][0] <= 122_000


@pytest.mark.parametrize(
    "gravity",
    [
        lambda ms: (1008, 0, 96) if 50_000 <= ms < 58_000 else (0, 0, 1008),  # lifted and set down
        lambda ms: (640, 0, 784),  # 39 degrees, for ever
        lambda ms: (2000, 0, 96) if ms > 50_000 else (0, 0, 1008),  # being hit, not lying
        lambda ms: None,
    ],
)
def test_what_is_no_fallen_bin(gravity: Callable[[int], Any]) -> None:
    """Short tilts, slopes, blows and a missing accelerometer raise no alarm."""
    street = Street()
    street.gravity = gravity
    node = run_bin(street, 150, report_s=3600)
    assert not any(alarm for *_, alarm in node.records)
    assert len(node.records) == 1


def test_an_alarm_the_flash_refused_is_tried_again() -> None:
    """The edge is told when it can be told."""
    node = FakeNode()

    def gravity(ms: int) -> tuple[int, int, int]:
        node.refuse_flash = ms < 120_000
        return (1008, 0, 0) if ms >= 50_000 else (0, 0, 1008)

    street = Street()
    street.gravity = gravity
    run_bin(street, 150, node, report_s=3600)
    assert [alarm for *_, alarm in node.records] == [True]
    assert 120_000 <= node.records[0][0] <= 126_000


@given(st.integers(0, 10**13))
def test_square_root_is_the_nearest(value: int) -> None:
    """Within half of the root."""
    root = square_root(value)
    assert (2 * root - 1) ** 2 <= 4 * value <= (2 * root + 1) ** 2 or value == 0


@given(st.integers(31, 4500), st.integers(-4000, 8500))
def test_compensation_is_the_formula_rounded(distance_mm: int, centi_c: int) -> None:
    """Never more than a millimetre from c(t) / c(20 C)."""
    exact = distance_mm * ((1 + centi_c / 27315) / (1 + 20 / 273.15)) ** 0.5
    assert abs(compensated_mm(distance_mm, centi_c) - exact) <= 1


def test_fill_at_its_ends_and_between() -> None:
    """Clamped to 0..100, rounded to nearest; an impossible geometry does not divide by zero."""
    assert [fill_percent(d, 1200, 200) for d in (1300, 1200, 1195, 700, 205, 200, 31)] == [0, 0, 1, 50, 100, 100, 100]
    assert fill_percent(500, 400, 400) == 0


def test_median_and_spread_of_small_bursts() -> None:
    """Odd and even counts; one stray at each end of seven is left out of the spread."""
    assert median([5]) == 5
    assert median([1, 2, 3, 4]) == 2
    assert spread_mm([7]) == 0
    assert spread_mm([1, 10, 11, 12, 13, 14, 4000]) == 4


@pytest.mark.parametrize(("degrees", "beyond"), [(0, False), (44, False), (46, True), (90, True), (135, True), (180, True)])
def test_angle_against_forty_five_degrees(degrees: int, beyond: bool) -> None:
    """Obtuse angles count although their cosine squared is large."""
    import math

    lean = (round(1000 * math.sin(math.radians(degrees))), 0, round(1000 * math.cos(math.radians(degrees))))
    assert is_beyond(lean, (0, 0, 1000), 5000) is beyond


def test_rise_looks_back_one_minute() -> None:
    """The lowest reading older than the window is forgotten."""
    past: list[tuple[int, int]] = []
    assert remember_rise(past, 0, 1000) == 0
    assert remember_rise(past, 60_000, 1600) == 600
    assert remember_rise(past, 61_000, 1600) == 0
