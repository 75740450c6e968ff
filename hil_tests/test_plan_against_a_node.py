"""A plan against the node it is about: this tree's firmware on MicroPython for an hour of virtual time, its gateway hearing all."""

import datetime
from pathlib import Path

import pytest
from lamppost_protocol import cose
from lamppost_protocol.kinds import LAMP
from lamppost_protocol.profiles import LAMP_CAUSES
from lamppost_protocol.records import encode_uplink
from lamppost_tools.enrol import checked_value
from lamppost_tools.node_config import node_config
from lamppost_tools.plan import make_plan
from lamppost_tools.plan_frames import streams
from lamppost_tools.site_file import load_site
from lamppost_tools.site_new import answers, site_text, write_site
from street.lone_node import NETWORK, LoneNode, image_files
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
