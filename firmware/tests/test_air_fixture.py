"""The air station on its two buses, fed with datasheet bytes over virtual time."""

from typing import Any

import pytest
from fake_buses import FakeI2c, FakeNode, FakeUart, now_ms, run_fixture
from hypothesis import given
from hypothesis import strategies as st
from lamppost_node.drivers.crc8 import crc8
from lamppost_node.drivers.pms5003 import PMS5003
from lamppost_node.drivers.sht4x import SHT4x
from lamppost_node.fixtures import air_keys
from lamppost_node.fixtures.air import METHOD_EPA_BARKJOHN_2021, METHOD_NONE, Air, correct
from lamppost_protocol import kinds
from lamppost_protocol.profiles import PROFILES
from lamppost_protocol.records import check_record

DEFAULTS = {key: default for key, default, _, _ in air_keys.KEYS}
READ, SLEEP, WAKE = "424de200000171", "424de400000173", "424de400010174"


class Counter(FakeUart):
    """A PMS5003 that is asleep until woken, and notes when it was told what."""

    def __init__(self) -> None:
        super().__init__()
        self.masses = (10, 20, 30)
        self.error_code = 0
        self.absent = lambda ms: False
        self.damage = False
        self.is_awake = False
        self.told: list[tuple[int, str]] = []

    def write(self, data: bytes) -> int:
        if self.absent(now_ms()):
            self.is_awake = False
            return len(data)
        self.told.append((now_ms(), data.hex()))
        if data.hex() == WAKE:
            self.is_awake = True
        if data.hex() == SLEEP:
            self.is_awake = False
        if data.hex() == READ and self.is_awake:
            words = (*self.masses, *self.masses, 900 + len(self.told), 0, 0, 0, 0, 0, 0x9700 | self.error_code)
            body = b"\x42\x4d\x00\x1c" + b"".join(word.to_bytes(2, "big") for word in words)
            self.waiting += body + ((sum(body) + self.damage) & 0xFFFF).to_bytes(2, "big")
        return len(data)


class Climate:
    def __init__(self, raw_humidity: int = 29360):
        self.raw_humidity = raw_humidity
        self.absent = False
        self.noise = 0

    def write(self, data: bytes) -> None:
        if self.absent:
            raise OSError(19)

    def read(self, count: int) -> bytes:
        self.noise ^= 1
        humidity = (self.raw_humidity ^ self.noise).to_bytes(2, "big")
        return b"\x66\x66\x93" + humidity + bytes([crc8(humidity, 0, 2)])


def run_air(counter: Counter, climate: Climate, for_s: float, node: "FakeNode | None" = None, **config: int) -> FakeNode:
    node = node or FakeNode()
    i2c = FakeI2c({0x44: climate})
    run_fixture(lambda: Air(PMS5003(counter), SHT4x(i2c), {**DEFAULTS, **config}, node, 0), for_s)
    for _, kind, q, values, alarm in node.records:
        assert not alarm
        check_record([kind, 0, q, *values], True)
        for column, value in zip(PROFILES[kinds.AIR].columns, values, strict=True):
            assert value is None or column.low <= value <= column.high
    return node


def reports(node: FakeNode) -> list[tuple[int, int, tuple[Any, ...]]]:
    return [(at // 1000, q, values) for at, _, q, values, _ in node.records]


# 20 ug/m3 at 50.0 %: 0.524 * 20 - 0.0862 * 50 + 5.75 = 11.92
GOOD = (10, 20, 30, 119, 250, 500, METHOD_EPA_BARKJOHN_2021, 0)
WARMING = (None, None, None, None, 250, 500, METHOD_NONE, 0)


def test_the_first_record_waits_for_nothing_and_the_first_masses_for_the_fan() -> None:
    """At once: warming up, climate only. After thirty seconds: the masses, not a quarter of an hour later."""
    node = run_air(Counter(), Climate(), 40)
    assert [(q, values) for _, q, values in reports(node)] == [(kinds.WARMING_UP, WARMING), (kinds.GOOD, GOOD)]
    assert node.records[0][0] < 100
    assert 30_000 <= node.records[1][0] <= 34_000


def test_asked_before_the_fan_has_settled_it_says_so() -> None:
    """A short interval gives warming-up records for thirty seconds and never a mass before."""
    node = run_air(Counter(), Climate(), 61, report_s=10, samples=1)
    assert [(at, q) for at, q, _ in reports(node)] == [
        (0, kinds.WARMING_UP),
        (10, kinds.WARMING_UP),
        (20, kinds.WARMING_UP),
        (30, kinds.GOOD),
        (40, kinds.GOOD),
        (50, kinds.GOOD),
        (60, kinds.GOOD),
    ]


def test_between_far_reports_the_sensor_sleeps_and_settles_again() -> None:
    """Awake at most a minute in fifteen, awake at least thirty seconds before each question, every later record good."""
    counter = Counter()
    node = run_air(counter, Climate(), 3700)
    assert [q for _, q, _ in reports(node)] == [kinds.WARMING_UP] + [kinds.GOOD] * 5
    asleep_ms, since_ms, awake_since = 0, None, 0
    for at_ms, command in counter.told:
        if command == SLEEP:
            since_ms = at_ms
        elif command == WAKE:
            asleep_ms += at_ms - since_ms if since_ms is not None else 0
            since_ms, awake_since = None, at_ms
        elif command == READ:
            assert at_ms - awake_since >= 30_000
    assert asleep_ms > 0.9 * 3_600_000


def test_duty_cycle_can_be_switched_off() -> None:
    """With duty_cycle 0 the sensor is never told to sleep."""
    counter = Counter()
    run_air(counter, Climate(), 1000, duty_cycle=0)
    assert SLEEP not in [command for _, command in counter.told]


def test_a_missing_hygrometer_leaves_the_raw_masses() -> None:
    """No correction without humidity: method 0, corrected null, code uncompensated, masses kept."""
    climate = Climate()
    climate.absent = True
    node = run_air(Counter(), climate, 40)
    assert reports(node)[-1][1:] == (kinds.UNCOMPENSATED, (10, 20, 30, None, None, None, METHOD_NONE, 0))
    assert node.lines == ["air: thermometer not_acknowledged"]


def test_a_missing_counter_leaves_the_climate() -> None:
    """Unplugged: one sensor-fault record per interval, climate kept; plugged in again: warming up before the next mass."""
    counter = Counter()
    counter.absent = lambda ms: 55_000 < ms < 115_000
    node = run_air(counter, Climate(), 200, report_s=20, samples=1)
    codes = [(at, q) for at, q, _ in reports(node)]
    assert [q for at, q in codes if 30 <= at <= 55] == [kinds.GOOD, kinds.GOOD]
    assert [q for at, q in codes if 56 <= at <= 114] == [kinds.SENSOR_FAULT] * 3
    back = [(at, q) for at, q in codes if at >= 115]
    assert back[0][1] == kinds.SENSOR_FAULT  # asked while it still slept, and woken then
    assert back[1][1] == kinds.WARMING_UP
    first_good = next(at for at, q in back if q == kinds.GOOD)
    woken = next(at_ms for at_ms, command in counter.told if command == WAKE and at_ms > 115_000)
    assert first_good * 1000 - woken >= 30_000
    assert all(values[4] == 250 for _, _, values in reports(node))
    assert node.lines == ["air: counter silent", "air: counter answers again"]


def test_damaged_frames_are_a_sensor_fault_without_a_new_warm_up() -> None:
    """A bad checksum says nothing about the fan."""
    counter = Counter()
    counter.damage = True
    node = run_air(counter, Climate(), 45, report_s=10, samples=1)
    assert reports(node)[-1][1] == kinds.SENSOR_FAULT
    assert [command for _, command in counter.told].count(WAKE) == 1


def test_the_sensors_own_error_code_is_believed() -> None:
    """A laser or fan that reports itself broken gives no masses."""
    counter = Counter()
    counter.error_code = 3
    node = run_air(counter, Climate(), 45)
    assert reports(node)[-1][1:] == (kinds.SENSOR_FAULT, WARMING)
    assert node.lines == ["air: counter error_3"]


def test_masses_beyond_the_sensors_range_are_sent_and_marked() -> None:
    """501 is kept and corrected, 570 is kept without a correction, what no air holds is null."""
    expected = {
        (501, 501, 501): ((501, 501, 501), METHOD_EPA_BARKJOHN_2021),
        (400, 570, 600): ((400, 570, 600), METHOD_NONE),
        (400, 450, 20000): ((400, 450, None), METHOD_EPA_BARKJOHN_2021),
    }
    for masses, (sent, method) in expected.items():
        counter = Counter()
        counter.masses = masses
        _, q, values = reports(run_air(counter, Climate(), 40))[-1]
        assert (q, values[:3], values[6]) == (kinds.OUT_OF_RANGE, sent, method)


def test_running_hours_count_the_laser_not_the_clock() -> None:
    """Hours come from awake time, reach flash at most hourly, and continue after a restart."""
    node = FakeNode()
    node.stored["air_running"] = 7200 - 60
    run_air(Counter(), Climate(), 3 * 3600 + 100, node, duty_cycle=0)
    assert [(value - 7140) // 100 for _, _, value in node.saves] == [36, 72, 108]
    assert reports(node)[0][2][7] == 1
    assert reports(node)[-1][2][7] == 4
    slept = FakeNode()
    run_air(Counter(), Climate(), 3 * 3600, slept)
    assert reports(slept)[-1][2][7] == 0


def test_a_flash_that_refuses_does_not_stop_the_air() -> None:
    """A failed save of the hours is not this fixture's trouble."""
    node = FakeNode()

    class Refusing:
        def load(self, name: str) -> Any:
            return "not a number"

        def save(self, name: str, value: Any) -> None:
            raise OSError(5)

    node.settings = Refusing()  # type: ignore[assignment]
    run_air(Counter(), Climate(), 4000, node, duty_cycle=0)
    assert reports(node)[-1][2][7] == 1


@pytest.mark.parametrize(
    ("pm25", "permille", "deci"),
    [(0, 0, 58), (0, 667, 0), (0, 1000, 0), (35, 500, 198), (100, 350, 551), (569, 1000, 2953)],
)
def test_the_correction_at_published_points(pm25: int, permille: int, deci: int) -> None:
    """0.524 PM - 0.0862 RH + 5.75, worked out by hand; never negative."""
    assert correct(pm25, permille) == (deci, METHOD_EPA_BARKJOHN_2021)


@given(st.integers(0, 569), st.integers(0, 1000))
def test_the_integer_correction_is_the_formula_rounded(pm25: int, permille: int) -> None:
    """Within half a tenth of the published formula, within 31 bits."""
    corrected, method = correct(pm25, permille)
    exact = 10 * (0.524 * pm25 - 0.0862 * permille / 10 + 5.75)
    assert method == METHOD_EPA_BARKJOHN_2021
    assert corrected is not None
    assert abs(corrected - max(0.0, exact)) <= 0.5 + 1e-6
    assert 52_400 * pm25 + 580_000 < 1 << 30


@pytest.mark.parametrize(("pm25", "permille"), [(None, 500), (20, None), (570, 500), (20, 1001), (-1, 500)])
def test_no_correction_outside_its_range(pm25: "int | None", permille: "int | None") -> None:
    """Method 0 and null, not an extrapolation."""
    assert correct(pm25, permille) == (None, METHOD_NONE)
