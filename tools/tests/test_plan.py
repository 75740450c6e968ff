"""Each number of a plan against another reckoning: the firmware's own code, the real outbox, real littlefs, a formula written anew."""

import dataclasses
import datetime
import json
import math
from pathlib import Path

import astral
import astral.sun
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from lamppost_gateway.outbox import Outbox
from lamppost_gateway.outbox_rows import NewFrame, NodeState
from lamppost_node import stored
from lamppost_node.fixtures.lamp_keys import KEYS
from lamppost_node.lighting.lamp_curves import power_curve
from lamppost_node.lighting.schedule import NightSun, evaluate
from lamppost_node.local_time import utc_offset_s
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import cose, kinds, records, schedule
from lamppost_protocol.airtime import BARE
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.regions import Radio, check_radio
from lamppost_tools.plan import air as plan_air
from lamppost_tools.plan import store as plan_store
from lamppost_tools.plan import supply as plan_supply
from lamppost_tools.plan.frames import ORDINARY, streams
from lamppost_tools.plan.light import night_levels, nights, power_w, sun_times_s
from lamppost_tools.plan.plan import make_plan
from lamppost_tools.site.file import load_site
from lamppost_tools.site.new import answers, site_text, write_site
from lamppost_tools.site.site import BATTERY
from test_flash_wear import Day, new_flash

BERLIN = {"latitude_deg": 52.52, "longitude_deg": 13.405, "utc_offset_s": 3600, "dst": "eu"}
NIGHT = [1, 100, [[127, [1, 0, 100], [0, 1380, 50], [0, 300, 100], [2, 0, 0]]], []]
NEW_YEAR = datetime.date(2027, 1, 1)
DAY_S = 86_400


def lamp_config(**more):
    return {**BERLIN, "report_s": 60, "fixtures": [{"kind": "lamp", "instance": 0}], **more}


# -- light ---------------------------------------------------------------------------------------------------------------------


@example(datetime.date(2026, 11, 15), -58.0, -59.0)
@example(datetime.date(2026, 5, 9), 48.5, 67.5)
@given(st.dates(datetime.date(2026, 1, 1), datetime.date(2036, 12, 31)), st.floats(-60, 60), st.floats(-179, 179))
def test_the_sun_is_where_astral_has_it(day, latitude_deg, longitude_deg):
    """Sunrise and sunset within a minute, up to 60 degrees."""
    observer = astral.Observer(latitude_deg, longitude_deg)
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    # Not astral's sunrise and sunset: their dates are UTC's, and near midnight they miss one.
    directions = (astral.SunDirection.RISING, astral.SunDirection.SETTING)
    for ours_s, direction in zip(sun_times_s(day, latitude_deg, longitude_deg), directions, strict=True):
        near = [astral.sun.time_of_transit(observer, day + datetime.timedelta(days=days), 90.833, direction, False) for days in (-1, 0, 1)]
        assert min(abs((found - midnight).total_seconds() - ours_s) for found in near) < 60


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(0), st.integers(0, 1439), st.integers(0, 100)),
        st.tuples(st.sampled_from([1, 2]), st.integers(-240, 240), st.integers(0, 100)),
    ).map(list),
    min_size=1, max_size=6,
)  # fmt: skip
DATES = st.integers(101, 1231).filter(lambda value: value % 100 <= 28 and value % 100)


@st.composite
def schedules(draw):
    """Any schedule that the check accepts."""
    week = [[draw(st.integers(1, 127)), *draw(STEPS)] for _ in range(draw(st.integers(0, 2)))]
    exceptions = [[draw(DATES), draw(DATES), *draw(STEPS)] for _ in range(draw(st.integers(0, 1)))]
    value = [1, draw(st.integers(0, 100)), week, exceptions]
    try:
        schedule.check_schedule(value)
    except RemoteError:
        assume(False)
    return value


@given(
    schedules(),
    st.dates(datetime.date(2026, 1, 1), datetime.date(2035, 12, 31)),
    st.floats(-60, 60),
    st.floats(-170, 170),
    st.sampled_from(["none", "eu", "us"]),
)
def test_a_nights_levels_are_the_firmwares(value, day, latitude_deg, longitude_deg, dst):
    """Through the night the level is what the node's own code says, but for minutes around a step by the sun."""
    place = {"latitude_deg": latitude_deg, "longitude_deg": longitude_deg, "utc_offset_s": round(longitude_deg / 15) * 3600, "dst": dst}
    days = (day - datetime.date(1970, 1, 1)).days
    noon_local = days * DAY_S + DAY_S // 2
    offset_s = utc_offset_s(noon_local - place["utc_offset_s"], place["utc_offset_s"], dst)
    sun = NightSun(round(latitude_deg * 1e6), round(longitude_deg * 1e6))
    levels = night_levels(value, day, place)
    wrong_s = 0
    for second in range(30, DAY_S, 120):
        ours = [level for begin, level in levels if begin <= second][-1]
        wrong_s += 120 * (evaluate(value, noon_local - offset_s + second, offset_s, sun).level_percent != ours)
    assert wrong_s <= 120 * 6


@pytest.mark.parametrize(("latitude_deg", "longitude_deg", "offset_h"), [(69.65, 18.96, 1), (78.22, 15.6, 1), (-77.85, 166.7, 12)])
@pytest.mark.parametrize("day", [datetime.date(2027, 6, 21), datetime.date(2027, 12, 21)])
def test_where_the_sun_does_not_rise_or_set(latitude_deg, longitude_deg, offset_h, day):
    """Polar night and polar day: lit throughout or not at all, as by the node."""
    place = {"latitude_deg": latitude_deg, "longitude_deg": longitude_deg, "utc_offset_s": offset_h * 3600, "dst": "none"}
    noon = (day - datetime.date(1970, 1, 1)).days * DAY_S + DAY_S // 2
    sun = NightSun(round(latitude_deg * 1e6), round(longitude_deg * 1e6))
    levels = night_levels(NIGHT, day, place)
    for second in range(60, DAY_S, 600):
        ours = [level for begin, level in levels if begin <= second][-1]
        assert ours == evaluate(NIGHT, noon - offset_h * 3600 + second, offset_h * 3600, sun).level_percent


@pytest.mark.parametrize("level", range(0, 101, 5))
def test_power_is_the_firmwares_curve(level):
    """Between the points as the node expects it of its meter, within its rounding."""
    complete = {key: default for key, default, _, _ in KEYS}
    expected = 0.0 if level == 0 else power_curve(complete).at(max(level, 10) * 10) / 10
    assert power_w({}, level) == pytest.approx(expected, abs=0.1)
    assert power_w({"relay": 0}, 0) == 13.2


def test_a_years_energy_by_hand():
    """A lamp lit from sunset to sunrise in Berlin: 60 W for the dark hours that astral counts."""
    found = nights({}, [1, 100, [[127, [1, 0, 100], [2, 0, 0]]], []], BERLIN, NEW_YEAR)
    observer, dark_s = astral.Observer(52.52, 13.405), 0.0
    for count in range(365):
        day = NEW_YEAR + datetime.timedelta(days=count)
        sunset = astral.sun.sunset(observer, day)
        dark_s += (astral.sun.sunrise(observer, day + datetime.timedelta(days=1)) - sunset).total_seconds()
    assert found.lit_h * 365 == pytest.approx(dark_s / 3600, rel=0.002)
    assert found.mean_wh == pytest.approx(60 * found.lit_h)
    assert found.changes == pytest.approx(2, abs=0.01)
    assert found.least_wh < 60 * 7.3 < 60 * 16.3 < found.most_wh
    dark_all_year = nights({}, [1, 0, [], []], BERLIN, NEW_YEAR)
    assert (dark_all_year.mean_wh, dark_all_year.lit_h) == (0, 0)
    assert nights({"safe_level_percent": 50}, None, BERLIN, NEW_YEAR).mean_wh == 34 * 24


# -- frames --------------------------------------------------------------------------------------------------------------------


def test_records_a_day_by_hand():
    """Periods of fixture, node and health; changes of level on top."""
    config = lamp_config(
        health_s=900, fixtures=[{"kind": "lamp", "instance": 0, "report_s": 0}, {"kind": "bin", "instance": 0, "report_s": 600}]
    )
    found = {stream.name: stream.records_a_day for stream in streams(config, {"lamp": 4.0})}
    assert found == {"lamp": 1440 + 4, "bin": 144, "node": 96}
    assert [stream.records_a_day for stream in streams({"fixtures": []}, {})] == [96]


@pytest.mark.parametrize("kind", ["lamp", "bin", "air"])
def test_octets_of_a_frame_and_of_a_stored_record(kind):
    """The frame decodes to one whole ordinary record; the stored form is as long as the firmware's own."""
    stream = streams(lamp_config(fixtures=[{"kind": kind, "instance": 0}]), {})[0]
    message = cose.decode(stream.frame)
    uplink = records.decode_uplink(message.payload)
    profile, values = ORDINARY[kind]
    assert uplink.records == [[profile, 0, 0, *values]]
    assert len(message.proof) == 64
    assert len(stream.frame) + 7 <= stream.line_bytes <= len(stream.frame) + 7 + 8
    kept = stored.Stored(1_000_000, 20, 1_800_000_000, 1_000_000_000, 3, 0, profile, kinds.GOOD, values)
    assert stream.stored_bytes == len(stored.encode(kept))


# -- store ---------------------------------------------------------------------------------------------------------------------


class _Flash:
    """A flash of files in memory, without room to worry about."""

    def __init__(self):
        self.files = {}

    def read(self, name):
        return self.files.get(name)

    def read_into(self, name, buffer):
        data = self.files[name][: len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def replace(self, name, data):
        self.files[name] = bytes(data)

    write = replace

    def append(self, name, data):
        self.files[name] += bytes(data)

    def remove(self, name):
        del self.files[name]

    def names(self, folder):
        return sorted(name.split("/")[1] for name in self.files if name.startswith(folder + "/"))

    def size_bytes(self, name):
        return len(self.files.get(name, b""))

    def free_bytes(self):
        return None

    def make_folder(self, folder):
        pass


def test_the_spool_thins_when_the_plan_says():
    """The firmware's own spool, nobody acknowledging: the first record is lost within five percent of the hours planned."""
    config = lamp_config(report_s=60, health_s=86_400)
    hours = plan_store.spool_hours(streams(config, {}), 65_536)
    flash = _Flash()
    spool = Spool(flash, Settings(flash), 1, 65_536, bytearray(plan_store.SEGMENT_BYTES))
    spool.open()
    minutes = 0
    while not spool.dropped:
        spool.append(20, 1_800_000_000, 1_000_000_000, 3, 0, kinds.LAMP, 0, ORDINARY["lamp"][1])
        minutes += 1
    assert minutes / 60 == pytest.approx(hours, rel=0.05)


@pytest.mark.parametrize("frame_bytes", [100, 120, 140, 160])
def test_a_row_of_the_real_outbox(tmp_path, frame_bytes):
    """Frames of this length in the gateway's outbox take the disk that is planned, or a little less."""
    outbox = Outbox(tmp_path / "outbox.db")
    count = 4000
    rows = [
        NewFrame(0x100 + i % 20, 1, i // 20 + 1, i // 20 + 1, 1, 1, 1_800_000_000_000, f"line{i % 20}", False, False, bytes(frame_bytes))
        for i in range(count)
    ]
    states = [NodeState(0x100 + i, 1, 0, 0, 0, 0) for i in range(20)]
    outbox.transact([lambda: outbox.commit_frames(rows, states)])
    used = outbox.bytes_used() / count
    outbox.close()
    assert 0.85 * plan_store.row_bytes(frame_bytes) < used < 1.02 * plan_store.row_bytes(frame_bytes)


def test_flash_years_by_hand():
    """Ten years of two records a minute wore the worst block 9,240 times of 100,000 (README): the plan says no longer."""
    measured_years = 10 * 100_000 / 9_240
    assert 0.8 * measured_years < plan_store.flash_years(2880) < measured_years


@pytest.mark.parametrize("every_min", [15, 60])
def test_erases_of_a_slow_node_on_real_littlefs(every_min):
    """A day of everything a node writes, two records each quarter of an hour or hour: no more erased blocks than planned, nor half."""
    chip, flash = new_flash()
    day = Day(flash, every_min)
    day.run()
    before = sum(chip.erases)
    day.run()
    planned = plan_store.ERASES_A_RECORD * 2 * 1440 / every_min + plan_store.ERASES_A_DAY
    assert planned / 2 < sum(chip.erases) - before <= planned


# -- air -----------------------------------------------------------------------------------------------------------------------

EU868 = Radio("EU868", (868_100_000,), 125_000, 9, 1, BARE, 14, 0, 0)


def semtech_us(octets, spreading_factor, bandwidth_hz):
    """AN1200.13 in floating point, 4/5, eight symbols of preamble, header and CRC on."""
    symbol_us = 2**spreading_factor / bandwidth_hz * 1e6
    slow = 2 * (symbol_us >= 16_000)
    payload = 8 + max(math.ceil((8 * octets - 4 * spreading_factor + 44) / (4 * (spreading_factor - slow))) * 5, 0)
    return (8 + 4.25 + payload) * symbol_us


@pytest.mark.parametrize("spreading_factor", [7, 9, 12])
@pytest.mark.parametrize("kind", ["lamp", "bin", "air"])
def test_airtime_of_a_day(kind, spreading_factor):
    """Records a day times the formula on the octets that fly: head 6, tx 3, payload, signature."""
    config = lamp_config(report_s=900, health_s=3600, fixtures=[{"kind": kind, "instance": 0}])
    sent = streams(config, {})
    expected_us = sum(
        stream.records_a_day * semtech_us(6 + 3 + len(cose.decode(stream.frame).payload) + 64, spreading_factor, 125_000) for stream in sent
    )
    found = plan_air.air(sent, 4, EU868._replace(spreading_factor=spreading_factor), EU868)
    assert found.frames_us == pytest.approx(expected_us, rel=1e-5)
    assert found.packets_a_frame == 1
    hello_bytes = len(bytes.fromhex("93a30a0b0c0d860100480102030405060708")) + 2 * 5 + 6  # WIRE.md 12's example, with long numbers
    assert found.hellos_us == pytest.approx(4 * semtech_us(hello_bytes, spreading_factor, 125_000), rel=1e-5)
    beacon_bytes = 6 + 4 + 4 + 1 + 5 + 9 + 64  # head, issuer, tx, an array of the time and the nonce, signature
    assert found.beacons_us == pytest.approx(4 * semtech_us(beacon_bytes, EU868.spreading_factor, 125_000), rel=1e-5)
    assert found.uplink_us == found.frames_us + found.hellos_us


def test_a_frame_in_pieces_costs_every_piece():
    """AS923's 400 ms at SF10: several packets a frame, each below the dwell, together longer than one."""
    radio = Radio("AS923", (923_200_000,), 125_000, 10, 1, BARE, 14, 0, 0)
    sent = streams(lamp_config(report_s=900), {})
    found = plan_air.air(sent, 0, radio, radio)
    assert found.packets_a_frame > 3
    assert found.uplink_us > plan_air.air(sent, 0, EU868._replace(spreading_factor=10), EU868).uplink_us


def test_the_laws_allowance_of_a_day():
    """EU868: 36 s an hour less a fifth for a channel, once for two of the same sub-band, more for another; US915 at 500 kHz: none."""
    hour_us = 36e6 * 0.8
    for channels, expected in (((868_100_000,), 1), ((868_100_000, 868_300_000), 1), ((868_100_000, 869_525_000), 11)):
        assert plan_air.allowance_us(check_radio(EU868._replace(channels_hz=channels))) == pytest.approx(24 * hour_us * expected)
    us915 = Radio("US915", (903_000_000,), 500_000, 9, 1, BARE, 14, 0, 0)
    assert plan_air.allowance_us(check_radio(us915)) is None


def test_packets_that_meet_another():
    """A channel half full loses 1 - exp(-1) of its packets; half of that traffic a channel, 1 - exp(-0.5)."""
    assert plan_air.lost_percent(DAY_S * 1e6 / 2, 1) == pytest.approx(63.212, abs=0.001)
    assert plan_air.lost_percent(DAY_S * 1e6 / 2, 2) == pytest.approx(39.347, abs=0.001)
    assert plan_air.lost_percent(0, 1) == 0


@given(st.floats(1e4, 2e6), st.integers(1, 5000), st.integers(1, 8), st.floats(1, 60))
def test_an_interval_for_a_fleet_is_the_loss_turned_round(frame_us, nodes, channels, percent):
    """A fleet that sends at that interval loses that share."""
    interval_s = plan_air.frame_interval_s(frame_us, nodes, channels, percent)
    assert plan_air.lost_percent(nodes * DAY_S / interval_s * frame_us, channels) == pytest.approx(percent)


# -- supply --------------------------------------------------------------------------------------------------------------------


def test_a_battery_by_hand():
    """A bin on LoRa, always awake: 24 h of chip, ranger and receiver and a minute of sending; of its battery four fifths, and time."""
    found = plan_supply.supply([("bin", 900, False)], 60e6, 22, 19_000, plan_supply.SX1262)
    assert found.awake_mah[1] == pytest.approx(24 * (44 + 8 + 5.3) + 118 / 60)
    assert found.awake_years[0] == pytest.approx(0.8 * 19_000 / (found.awake_mah[1] * 365.25 + 0.02 * 19_000))
    on_cable = plan_supply.supply([("bin", 900, False)], None, 14, 19_000, plan_supply.SX1262)
    assert on_cable.awake_mah[0] == pytest.approx(24 * 35)


def test_a_sleeping_day_by_hand():
    """Four reports an hour, each its own frame, once a day a record of its own, four questions: every state's seconds and mAh."""
    day = plan_supply.cycle(report_s=900, sleep_s=900, health_s=86_400, beacon_s=21_600, gather_s=0, burst=7)
    assert day[:5] == (96, 96, 1, 97, 4)
    found = {state.name: state for state in plan_supply.states(day, plan_supply.Air(0.8, 0.3, 0.25, 14, plan_supply.SX1262))}
    awake_s = 96 * (1.5 + 0.15 + 0.7 + 7 * 0.3) + 5 * 1.65 + 101 * (0.3 + 0.8 + 4 + 0.3 + 4 + 0.25)
    assert found["awake"].seconds == pytest.approx(awake_s)
    assert found["awake"].mah == pytest.approx((awake_s / 3600 * 27.6, awake_s / 3600 * 44.6))
    assert found["sending"].mah[1] == pytest.approx(101 * 0.8 / 3600 * 45)
    assert found["listening"].seconds == pytest.approx(101 * (0.3 + 6 * 0.25))
    assert found["asleep"].mah[1] == pytest.approx((86_400 - awake_s) / 3600 * 0.01016)
    assert found["sensors"].mah[1] == pytest.approx(awake_s / 3600 * 8 + 24 * 0.004)


@pytest.mark.parametrize(("report_s", "sleep_s", "looks"), [(900, 900, 96), (900, 600, 192), (3600, 900, 96), (900, 3600, 96)])
def test_looks_of_a_day(report_s, sleep_s, looks):
    """A report is a look, and as many lie between two as `sleep_s` asks for."""
    assert plan_supply.cycle(report_s, sleep_s, 86_400, 86_400, 900, 7).looks == looks


@pytest.mark.parametrize(("power_dbm", "ma"), [(22, 118), (14, 45), (13, 90), (16, 95), (17, 58), (18, 102), (21, 118), (-9, 90)])
def test_current_of_a_power(power_dbm, ma):
    """The PA is set for four powers; every other is sent with the setting for 22 dBm, turned down."""
    assert plan_supply.SX1262.sending_ma(power_dbm) == ma


def test_an_air_stations_fan():
    """It runs 35 s of each quarter of an hour, always when reports are near or it may not rest."""
    assert plan_supply.sensor_ma("air", 900, True) == pytest.approx(35 / 900 * 100 + (1 - 35 / 900) * 0.2)
    assert plan_supply.sensor_ma("air", 60, True) == plan_supply.sensor_ma("air", 900, False) == 100


# -- the whole -----------------------------------------------------------------------------------------------------------------


def site_of(path: Path, **given_answers):
    found = answers({name: str(value) for name, value in given_answers.items()}, None)
    return write_site(path, site_text(found), True)


def value(figures, name):
    return next(figure.value for figure in figures if figure.name == name)


@given(st.integers(1, 40), st.sampled_from(["lamp", "bin", "air"]), st.sampled_from(["serial", "lora"]), st.integers(1, 86_400))
def test_the_street_is_the_sum_of_its_nodes(tmp_path_factory, count, kind, link, report_s):
    """Frames, energy, airtime and the outbox's hours follow from one node's times their number; every number names its source."""
    path = tmp_path_factory.mktemp("site") / "site.toml"
    plan = make_plan(site_of(path, nodes=count, kind=kind, link=link, report=report_s), NEW_YEAR)
    assert [len(group.assets) for group in plan.groups] == [count]
    one = plan.groups[0].figures
    frames = value(one, "frames_a_day")
    assert value(plan.street, "frames_a_day") == pytest.approx(count * frames)
    assert value(plan.street, "gateway_percent") == pytest.approx(count * frames / DAY_S / 500 * 100)
    if kind == "lamp":
        assert value(plan.street, "lamps_kwh_a_year") == pytest.approx(count * value(one, "lamp_mean_wh") * 365 / 1000)
    assert all(figure.source for figure in [*one, *plan.street])
    over = {"law_percent": 100, "gateway_law_percent": 100, "collisions_percent": 30}
    is_over = any(figure.value > over[figure.name] for figure in [*one, *plan.street] if figure.name in over)
    assert bool(plan.unfit) == is_over


@pytest.mark.parametrize(("radio", "listening_ma", "sending_ma"), [("sx1262", 5.3, 45), ("sx1276", 11.5, 87)])
def test_a_battery_is_reckoned_with_the_nodes_own_radio(tmp_path, radio, listening_ma, sending_ma):
    """A sleeping bin's receive windows and packets, by the currents of the radio that its file names."""
    site = site_of(tmp_path / "site.toml", kind="bin", link="lora", radio=radio)
    config = dict(site.nodes[0].config, fixtures=[{**site.nodes[0].config["fixtures"][0], "sleep_s": 900}])
    sleeper = dataclasses.replace(site.nodes[0], config=config, supply=BATTERY, battery_mah=19_000)
    figures = make_plan(dataclasses.replace(site, nodes=[sleeper]), NEW_YEAR).groups[0].figures
    for state, ma in (("listening", listening_ma), ("sending", sending_ma)):
        assert value(figures, f"{state}_mah_a_day") == pytest.approx(value(figures, f"{state}_s_a_day") / 3600 * ma)


def test_nodes_that_differ_are_told_apart(tmp_path):
    """One node of three reports more often: two groups, the file's order."""
    site = site_of(tmp_path / "site.toml", nodes=3)
    site.nodes[1].config["report_s"] = 10
    plan = make_plan(site, NEW_YEAR)
    assert [group.assets for group in plan.groups] == [["lamp 1", "lamp 3"], ["lamp 2"]]
    assert value(plan.groups[1].figures, "spool_hours") < value(plan.groups[0].figures, "spool_hours") / 5


def test_a_gateway_that_is_too_small_is_said(tmp_path):
    """More than the measured limit of frames a second does not fit."""
    site = site_of(tmp_path / "site.toml", nodes=500, report=1)
    site = dataclasses.replace(site, nodes=site.nodes * 2)
    assert any("one gateway" in words for words in make_plan(site, NEW_YEAR).unfit)


def test_a_fleet_too_large_for_its_channel_is_told(tmp_path):
    """Bins every minute on one channel: what share meets, and what interval would do; ten times the nodes, ten times it."""
    plan = make_plan(site_of(tmp_path / "site.toml", nodes=200, kind="bin", link="lora", report=60), NEW_YEAR)
    assert value(plan.street, "collisions_percent") > 30
    least_s = value(plan.street, "least_interval_1x_s")
    assert value(plan.street, "least_interval_10x_s") == pytest.approx(10 * least_s)
    assert least_s > value(plan.street, "frame_interval_s")
    assert any(f"only every {least_s:.0f} s" in line for line in plan.unfit)


def test_the_command(tmp_path, lamppost):
    """Words within 80 columns, JSON with every source, exit codes 0, 1 when it does not fit, 1 for mistakes, 2, 3."""
    path = tmp_path / "site.toml"
    site_of(path, nodes=2, kind="lamp")
    done = lamppost("plan", str(path), "--from", "2027-01-01", NO_COLOR="1", COLUMNS="80", TERM="xterm")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[" not in text
    document = json.loads(lamppost("plan", str(path), "--from", "2027-01-01", "--json").stdout)
    assert document["fits"] is True
    figures = [*document["groups"][0]["figures"].values(), *document["street"].values()]
    assert all(set(figure) == {"value", "unit", "source"} and figure["source"] for figure in figures)
    assert [lamppost("plan", str(path), "--from", day).returncode for day in ("tomorrow", "1999-12-31", "2099-01-01")] == [2, 2, 2]
    assert lamppost("plan", str(tmp_path / "nowhere.toml")).returncode == 3
    site_of(path, link="lora", report=10)
    over = lamppost("plan", str(path))
    assert (over.returncode, b"does not fit" in over.stdout) == (1, True)
    path.write_text(load_text_with_a_battery(path))
    text = lamppost("plan", str(path)).stdout.decode()
    assert "always awake" in text
    assert max(map(len, text.splitlines())) <= 80
    site_of(path, link="lora", report=900, kind="bin")
    sleeping = load_text_with_a_battery(path).replace('kind = "bin"', 'kind = "bin", sleep_s = 900', 1)
    path.write_text(sleeping)
    text = lamppost("plan", str(path)).stdout.decode()
    assert "deep sleep: mAh a day" in text
    assert "always awake" not in text
    assert max(map(len, text.splitlines())) <= 80
    path.write_text("name = 7\n")
    assert lamppost("plan", str(path)).returncode == 1


def load_text_with_a_battery(path):
    """The file with its first node on a battery."""
    assert load_site(path).nodes
    return path.read_text().replace("[[node]]", '[[node]]\nsupply = "battery"\nbattery_mah = 19000', 1)
