"""The bench's lamp, meter, cabinet and street in virtual time: power and energy, faults, what survives what, plausible values."""

import datetime
import json

import pytest
from astral import Observer
from astral.sun import elevation
from bench.peripherals import ade7953
from bench.peripherals.bus import ENODEV, BusError
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.requests import PWRON_RESET, WDT_RESET, photocell_uv
from bench.peripherals.street import OVERRIDES, Street, sun_elevation_deg
from bench.peripherals.wirings import WIRINGS
from hypothesis import given, settings
from hypothesis import strategies as st

NOON_UNIX_S = 1_750_000_000  # 2025-06-15 15:06 UTC


def cabinet(wiring: str) -> Cabinet:
    made = Cabinet("n", wiring, Street(7, NOON_UNIX_S))
    assert made.start(0.0) == PWRON_RESET
    return made


def ask(made: Cabinet, line: str, now_s: float) -> str:
    answer = made.handle(line.encode(), now_s).decode()
    assert answer.startswith("ok"), f"{line}: {answer}"
    return answer[3:]


def octets(made: Cabinet, line: str, now_s: float) -> bytes:
    return bytes.fromhex(ask(made, line, now_s))


def watts(made: Cabinet, now_s: float) -> float:
    return int.from_bytes(octets(made, "i2c 0 38 w0312 r4", now_s), "big", signed=True) / ade7953.COUNTS_PER_W


def with_meter_set_up(wiring: str = "lamp") -> Cabinet:
    made = cabinet(wiring)
    ask(made, "i2c 0 38 w00fead", 0.0)
    ask(made, "i2c 0 38 w01200030", 0.0)
    return made


# -- lamp and ADE7953 ---------------------------------------------------------------------------------------------------


def test_meter_registers() -> None:
    """Defaults, widths by address, 24-bit and 32-bit forms of the same value, the required setting and its lock."""
    made = cabinet("lamp")
    assert octets(made, "i2c 0 38 w0004 r1", 0.0) == b"\x40"
    assert octets(made, "i2c 0 38 w0102 r2", 0.0) == b"\x80\x04"
    assert octets(made, "i2c 0 38 w0281 r3", 0.0) == b"\x40\x00\x00"
    assert octets(made, "i2c 0 38 w0381 r4", 0.0) == b"\x00\x40\x00\x00"
    ask(made, "i2c 0 38 w01200030", 0.0)
    assert octets(made, "i2c 0 38 w0120 r2", 0.0) == b"\x00\x00"
    assert 61 < watts(made, 60.0) < 63  # 3 % high without the setting
    ask(made, "i2c 0 38 w00fead", 60.0)
    ask(made, "i2c 0 38 w01200030", 60.0)
    assert octets(made, "i2c 0 38 w0120 r2", 60.0) == b"\x00\x30"
    assert abs(watts(made, 61.0) - 60) < 0.2
    voltage_v = int.from_bytes(octets(made, "i2c 0 38 w031c r4", 61.0), "big") / ade7953.COUNTS_PER_V
    current_a = int.from_bytes(octets(made, "i2c 0 38 w031a r4", 61.0), "big") / ade7953.COUNTS_PER_A
    power_factor = int.from_bytes(octets(made, "i2c 0 38 w010a r2", 61.0), "big") / 0x7FFF
    assert 225 < voltage_v < 235
    assert abs(voltage_v * current_a * power_factor - 60) < 0.5


def test_energy_is_cleared_by_reading_and_adds_up() -> None:
    """An hour at full light is 60 Wh, however it is read; RSTREAD off leaves the register alone."""
    made = with_meter_set_up()
    counts = 0
    for minute in range(1, 61):
        counts += int.from_bytes(octets(made, "i2c 0 38 w031e r4", 60.0 * minute), "big")
    assert abs(counts / ade7953.COUNTS_PER_WH - 60) < 0.1
    ask(made, "i2c 0 38 w000400", 3600.0)
    octets(made, "i2c 0 38 w031e r4", 3660.0)
    assert abs(int.from_bytes(octets(made, "i2c 0 38 w021e r3", 3720.0), "big") / ade7953.COUNTS_PER_WH - 2) < 0.01


def test_power_follows_the_level_with_a_lag() -> None:
    """Half level ends at 34 W after some seconds, standby at 8 W, an open relay at nothing at once."""
    made = with_meter_set_up()
    ask(made, "pwm 25 1000 32768", 10.0)
    assert watts(made, 10.1) > 55
    assert abs(watts(made, 12.0) - (34 + 26 / 2.718)) < 0.5
    assert abs(watts(made, 25.0) - 34) < 0.2
    ask(made, "pwm 25 1000 0", 25.0)
    assert abs(watts(made, 45.0) - 8) < 0.1
    ask(made, "pin 26 out 1", 45.0)
    assert watts(made, 45.1) == 0


def test_energy_follows_the_settling_power() -> None:
    """Energy is the integral of the power shown, lag included: 60 W for 10 s, then 20 s on the way to 34 W."""
    made = cabinet("lamp")
    assert made.lamp is not None
    ask(made, "pwm 25 1000 32768", 10.0)
    expected_wh = (60 * 10 + 34 * 20 + 26 * 2) / 3600
    assert abs(made.lamp.supply(30.0).energy_wh - expected_wh) < 0.0005


def test_meter_and_lamp_faults() -> None:
    """Dead light, welded relay, a meter that reads too much, sticks, or is gone."""
    made = with_meter_set_up()
    assert made.lamp is not None
    made.set_fault("lamp_failed", None, 5.0)
    assert abs(watts(made, 25.0) - 8) < 0.1
    assert made.lamp.level_permille == 1000
    assert not made.lamp.is_lit
    made.clear_fault("lamp_failed", 25.0)
    made.set_fault("relay_welded", None, 25.0)
    ask(made, "pin 26 out 1", 25.0)
    assert abs(watts(made, 60.0) - 60) < 0.2
    ask(made, "pin 26 set 0", 60.0)
    made.set_fault("meter_offset", None, 60.0)
    assert abs(watts(made, 61.0) - 75) < 0.2
    made.clear_fault(None, 61.0)
    made.set_fault("meter_stuck", None, 61.0)
    stuck_w = watts(made, 62.0)
    ask(made, "pwm 25 1000 20000", 62.0)
    assert watts(made, 99.0) == stuck_w
    made.set_fault("meter_unplugged", None, 99.0)
    assert made.handle(b"i2c 0 38 w0312 r4", 99.0) == b"err 19"


def test_released_pins_mean_full_light_and_the_log_tells_all() -> None:
    """Whatever way the program goes, the lamp burns; each change of level is logged with its time and cause."""
    made = cabinet("lamp")
    assert made.lamp is not None
    ask(made, "pwm 25 1000 19661", 1.0)
    ask(made, "pin 26 out 1", 2.0)
    made.release(3.0)
    ask(made, "pwm 25 1000 6554", 4.0)
    ask(made, "free 25", 5.0)
    ask(made, "pin 25 out 0", 6.0)
    ask(made, "pin 25 in -1", 7.0)
    ask(made, "reset", 8.0)
    assert list(made.lamp.log) == [
        (0.0, 1000, "start"),
        (1.0, 300, "pwm"),
        (2.0, 0, "relay"),
        (3.0, 1000, "released"),
        (4.0, 100, "pwm"),
        (5.0, 1000, "released"),
        (6.0, 0, "pin"),
        (7.0, 1000, "pin"),
    ]
    assert (made.lamp.min_level_permille, made.lamp.min_level_since_s) == (0, 2.0)
    made.lamp.forget_minimum(8.0)
    assert made.lamp.min_level_permille == 1000


# -- cabinet and street -------------------------------------------------------------------------------------------------


def test_power_cut_forgets_what_a_reset_keeps() -> None:
    """RTC memory and time, the meter's setting: kept by a reset, gone with the power."""
    made = with_meter_set_up()
    ask(made, "mem 0 c0ffee", 1.0)
    ask(made, "rtc 1750000000", 1.0)
    assert made.start(11.0) == 2
    assert ask(made, "mem", 11.0) == "c0ffee"
    assert ask(made, "rtc", 11.0) == "1750000010"
    made.watchdog_bites()
    assert made.start(12.0) == WDT_RESET
    made.cut_power(13.0)
    assert made.start(14.0) == PWRON_RESET
    assert ask(made, "mem", 14.0) == ""
    assert ask(made, "rtc", 14.0) == "946684801"
    assert octets(made, "i2c 0 38 w0120 r2", 14.0) == b"\x00\x00"


def test_stuck_bus_times_out() -> None:
    """A bus held low is another error than a missing chip."""
    made = cabinet("lamp")
    made.set_fault("bus_stuck", None, 0.0)
    assert made.handle(b"i2c 0 38 w0312 r4", 1.0) == b"err 110"
    assert made.handle(b"scan 0", 1.0) == b"err 110"


@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_fault_of_every_wiring_can_be_set_and_cleared(wiring: str) -> None:
    """No fault is a name without an effect's home; an unknown one is refused."""
    made = cabinet(wiring)
    for name in made.fault_table:
        made.set_fault(name, None, 1.0)
        assert name in made.faults
    json.dumps(made.state(1.0))
    made.clear_fault(None, 2.0)
    assert made.faults == {}
    assert all(not home for home in made._fault_homes.values())
    with pytest.raises(KeyError):
        made.set_fault("nonsense", None, 3.0)
    with pytest.raises(KeyError):
        made.set("nonsense", 1)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.from_regex(rb"(pin|pwm|adc|uart|i2c|scan|spi|wdt|rtc|mem|free) [0-9a-f]{1,3}( [-a-z0-9]{1,6}){0,4}", fullmatch=True),
        ),
        max_size=20,
    )
)
def test_any_bytes_get_an_answer(lines: list[bytes]) -> None:
    """A garbled request is an error to the asker, never the bench's end."""
    made = Cabinet("n", "air_lamp", Street(1, NOON_UNIX_S))
    for number, line in enumerate(lines):
        assert made.handle(line.replace(b"\n", b" "), number).startswith((b"ok", b"err "))


def test_same_seed_same_street() -> None:
    """Everything comes from seed and time; another seed is another day."""
    first, second, other = (Street(seed, NOON_UNIX_S) for seed in (3, 3, 4))
    for hour in range(0, 200, 7):
        assert first.state(3600.0 * hour) == second.state(3600.0 * hour)
    assert first.state(0.0) != other.state(0.0)


def test_time_can_run_faster_and_jump_without_a_step_elsewhere() -> None:
    """Street time is continuous over a change of factor."""
    street = Street(1, NOON_UNIX_S)
    street.set_time(10.0, time_factor=60)
    assert street.unix_s(10.0) == NOON_UNIX_S + 10
    assert street.unix_s(11.0) == NOON_UNIX_S + 70
    street.set_time(11.0, unix_s=0)
    assert street.unix_s(12.0) == 60


@pytest.mark.parametrize(("latitude_deg", "longitude_deg"), [(48.8566, 2.3522), (-33.87, 151.2), (69.65, 18.96)])
def test_sun_stands_where_astral_says(latitude_deg: float, longitude_deg: float) -> None:
    """Independent oracle, within a tenth of a degree over two years."""
    for step in range(60):
        unix_s = NOON_UNIX_S + step * 12.3 * 86400
        when = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
        expected = elevation(Observer(latitude_deg, longitude_deg), when, with_refraction=False)
        assert abs(sun_elevation_deg(unix_s, latitude_deg, longitude_deg) - expected) < 0.1


def test_the_street_stays_plausible_for_a_year() -> None:
    """Ranges of every value; the photocell tells day from night at lamp thresholds."""
    street = Street(11, NOON_UNIX_S)
    for hour in range(0, 366 * 24, 5):
        now = street.state(3600.0 * hour)
        assert -20 < now["temperature_c"] < 40
        assert 15 <= now["humidity_percent"] <= 99
        assert 0 < now["pm25_ug_m3"] < 60
        assert 225 < now["mains_voltage_v"] < 235
        assert (now["illuminance_lx"] > 100) == (now["sun_elevation_deg"] > -1.72)
    assert photocell_uv(0.05) == 0 < photocell_uv(35) < photocell_uv(70) < photocell_uv(1e5)


def test_waste_rises_and_is_collected() -> None:
    """Never falls but by a collection, at least one in three days; a bin can be full."""
    street = Street(5, NOON_UNIX_S)
    heights = [street.waste_mm(NOON_UNIX_S + 3600 * hour, 3, 940) for hour in range(24 * 30)]
    falls = [hour for hour in range(1, len(heights)) if heights[hour] < heights[hour - 1]]
    assert 9 <= len(falls) <= 11
    assert max(heights) > 500
    assert max(heights) <= 940


def test_overrides_fix_the_truth() -> None:
    """Every name in OVERRIDES is obeyed."""
    street = Street(5, NOON_UNIX_S)
    for name in OVERRIDES:
        street.overrides[name] = 17.25
    assert {name: street.state(99.0)[name] for name in OVERRIDES} == dict.fromkeys(OVERRIDES, 17.25)


def test_bus_error_carries_its_errno() -> None:
    """What the node's driver will see in its OSError."""
    assert BusError(ENODEV).errno == 19
