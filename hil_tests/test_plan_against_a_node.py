"""A plan against the node it is about: this tree's firmware on MicroPython for an hour of virtual time, its gateway hearing all."""

import dataclasses
import datetime
from pathlib import Path

import pytest
from bench.peripherals.sx1262_setup import RX, TX
from lamppost_protocol import cose
from lamppost_protocol.kinds import LAMP
from lamppost_protocol.profiles import LAMP_CAUSES
from lamppost_protocol.records import encode_uplink
from lamppost_tools.node.config import node_config
from lamppost_tools.node.enrol import checked_value
from lamppost_tools.plan.frames import streams
from lamppost_tools.plan.plan import make_plan
from lamppost_tools.site.file import load_site
from lamppost_tools.site.new import answers, site_text, write_site
from lamppost_tools.site.site import BATTERY
from street.lone_node import NETWORK, LoneAirNode, LoneNode, image_files
from street.node_device import STATE
from street.street_node import missing_programs

MARCH_15_2027_NOON = 1_805_112_000
_HOURS = 1


@pytest.fixture(scope="module")
def image() -> dict[str, bytes]:
    """This tree's firmware and the lock-step `machine`."""
    reason = missing_programs()
    if reason:
        pytest.skip(f"{reason}: make setup")
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "report_s"), [("lamp", 20), ("bin", 30)])
def test_a_node_sends_what_its_plan_says(tmp_path: Path, image: dict[str, bytes], kind: str, report_s: int) -> None:
    """Records, frames and their octets in an hour: never more than planned, and nearly as many; the lamp by the site's schedule."""
    given = {"kind": kind, "report": str(report_s), "latitude": "48.8566", "longitude": "2.3522", "utc_offset": "+1"}
    site = write_site(tmp_path / "site.toml", site_text(answers(given, None)), False)
    assert load_site(tmp_path / "site.toml") == site
    node, plan = site.nodes[0], make_plan(site, datetime.date(2027, 3, 15))
    config = node_config(node.config, NETWORK)[0]
    planned = {figure.name: figure.value for figure in plan.groups[0].figures}
    schedules = {f"{STATE}/settings/{name}.schedule": checked_value(value) for name, value in node.schedules.items()}
    with LoneNode(tmp_path / "node", {**image, **schedules}, config, kind, MARCH_15_2027_NOON, seed=1, on_vm=True) as lone:
        board, city = lone.board, lone.city
        city.quiet_limit_ms = 1_000
        board.power_on()
        board.run(60)
        board.run(300)
        records, frames = len(city.records), len(city.heard)
        for hour in range(1, _HOURS + 1):
            assert board.run(300 + hour * 3600)
        assert lone.cabinet.starts == 1, board.describe("it started anew")
        if kind == "lamp":
            _, (*_, cause, faults) = city.of_kind(LAMP)[-1]
            assert (LAMP_CAUSES[cause], faults) == ("weekly", 0), "it follows the schedule that enrolment put there"
        heard = [uplink for _, uplink in city.heard[frames:]]
        records, frames = len(city.records) - records, len(heard)
    share = _HOURS / 24
    payloads = [len(encode_uplink(*uplink)) for uplink in heard]
    sent = streams(node.config, {})
    mean_planned = sum(stream.records_a_day * len(cose.decode(stream.frame).payload) for stream in sent) / planned["records_a_day"]
    mean_bytes = sum(payloads) / len(payloads)
    print(f"{kind}: {records} records, {frames} frames, {mean_bytes:.1f} octets of payload")
    print(f"planned: {planned['frames_a_day'] * share:.1f} frames, {mean_planned:.1f} octets, of a lit lamp after a year")
    assert 0.95 * share * planned["records_a_day"] <= records <= share * planned["records_a_day"] + 2
    assert 0.9 * records <= frames <= share * planned["frames_a_day"] + 2
    assert 0.6 * mean_planned < mean_bytes <= mean_planned  # young numbers are short, and a lamp by day has little to tell


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("report_s", "sleep_s"), [(900, 900), (1800, 600)])
def test_a_sleeping_day_is_what_its_plan_says(tmp_path: Path, image: dict[str, bytes], report_s: int, sleep_s: int) -> None:
    """Seconds awake, sending and listening of six hours by the models: never more than planned, and not much less. The plan has a wake-up
    take 1.5 s and a signature 0.3 s; here code takes no time, so what is compared is the rest."""
    given = {"kind": "bin", "link": "lora", "report": str(report_s)}
    site = write_site(tmp_path / "site.toml", site_text(answers(given, None)), False)
    config = {
        **site.nodes[0].config, "health_s": 86_400, "beacon_s": 21_600, "sleep_drift_ppm": 100,
        "fixtures": [{**site.nodes[0].config["fixtures"][0], "sleep_s": sleep_s}],
        "lora": {**site.nodes[0].config["lora"], "gather_s": 0, "spread_s": 0, "fastest_spreading_factor": 9, "least_power_dbm": 14},
    }  # fmt: skip
    sleeper = dataclasses.replace(site.nodes[0], config=config, supply=BATTERY, battery_mah=19_000)
    plan = make_plan(dataclasses.replace(site, nodes=[sleeper]), datetime.date(2027, 3, 15))
    planned = {figure.name: figure.value for figure in plan.groups[0].figures}
    raw = node_config(config, NETWORK)[0]
    with LoneAirNode(tmp_path / "node", image, raw, MARCH_15_2027_NOON, 1, on_vm=True, x_m=2000.0, wiring="bin_battery") as lone:
        board, radio = lone.board, lone.cabinet.radio
        assert radio is not None
        board.power_on()
        lone.run_until(lambda: board.is_asleep, 200, "sleep")

        def spent() -> tuple[float, float, float, float]:
            return board.now_s, board.now_s - board.asleep_s, radio.mode_s.get(TX, 0.0), radio.mode_s.get(RX, 0.0)

        def at_a_wake_up() -> tuple[float, ...]:
            lone.run_until(lambda: board.is_asleep, 200, "sleep")
            lone.run_until(lambda: not board.is_asleep, 2 * report_s, "wake-up")
            return spent()

        before, wakes, frames = at_a_wake_up(), lone.cabinet.sleeps, len(lone.citizen.heard)
        lone.run(board.now_s + 6 * 3600)
        after = at_a_wake_up()
        wakes, frames = lone.cabinet.sleeps - wakes, len(lone.citizen.heard) - frames
    passed_s, awake_s, sent_s, listened_s = (last - first for first, last in zip(before, after, strict=True))
    share = passed_s / 86_400
    no_time_s = wakes * 1.5 + frames * 0.3
    print(f"in {passed_s / 3600:.1f} h {wakes} wake-ups and {frames} frames: awake {awake_s:.0f} s")
    print(f"sending {sent_s:.1f} s, listening {listened_s:.1f} s")
    print("planned: " + ", ".join(f"{name} {planned[name + '_s_a_day'] * share:.1f} s" for name in ("awake", "sending", "listening")))
    assert awake_s <= planned["awake_s_a_day"] * share <= 2 * awake_s + no_time_s
    assert 0.8 * planned["sending_s_a_day"] * share <= sent_s <= 1.02 * planned["sending_s_a_day"] * share
    assert listened_s <= planned["listening_s_a_day"] * share <= 2 * listened_s
