"""What a street will cost before anyone climbs a ladder: its nodes, alike ones together, and their sum. Every number names its source."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from lamppost_protocol import slip
from lamppost_protocol.regions import Radio

from lamppost_tools.plan_air import Air, air, lost_percent
from lamppost_tools.plan_figures import DAY_S, Figure
from lamppost_tools.plan_frames import Stream, acknowledgement, setting, streams, time_line_bytes
from lamppost_tools.plan_light import Nights, nights
from lamppost_tools.plan_store import flash_years, outbox_bytes_a_day, spool_hours
from lamppost_tools.plan_supply import supply
from lamppost_tools.site import BATTERY, LORA, Site, SiteNode

#: Frames a second that a gateway was shown to carry, on 100 lines; `make bench` takes the figure anew on the machine it runs on.
GATEWAY_FRAMES_A_SECOND = 500
_GATEWAY_SOURCE = "measured limit on 100 lines: python hil_tests/benchmarks/run.py --only paced; run it on the cabinet's machine"
_LINE_BAUD = 115_200
_BITS_AN_OCTET = 10

_PERIODS = "report_s, health_s and the schedule's changes of level; alarms, orders and repeats come on top"
_ONE_A_FRAME = "the firmware sends each record at once, in a frame of its own; those of one instant share one"
_CODEC = "the protocol's encoder on full records, as of a lit lamp after a year; SLIP, acknowledgements, questions for the time"
_AIRTIME = (
    "SX1261/2 datasheet 6.1.4 on the packets of WIRE.md 12, full records; how the time is asked for on LoRa is not decided, so not counted"
)
_SPOOL = "octets of the node's record form against spool_bytes less a segment; the flash must have twice spool_bytes free"
_WEAR = "erases counted on littlefs by firmware/tests/test_flash_wear.py, worst block, 2 MB partition, 100,000 erases"
_OUTBOX = "rows of that size in the outbox's pages against [gateway] outbox_mb, nothing delivered"
_LIGHT = "schedule, sun and power_*_dw of the file, 365 nights; ramps and stagger left out"
_AWAKE = "ESP32 and SX1262 datasheets, second hand: modem-sleep 27 to 44 mA, receiver 4.6 mA, 22 dBm 118 mA; A02YYUW 8 mA, PMS5003 100 mA"
_ASLEEP = "the firmware has NO deep sleep: a bound, 10 uA between frames, 1.5 s awake for each (make bench, rv32, ROMFS), sensors cut off"
_ALOHA = "pure ALOHA, 1 - exp(-2 G), Abramson 1970: nobody listens first, no packet survives another"


class Group(NamedTuple):
    """Nodes that are alike in everything but their names, and what each of them costs."""

    assets: list[str]
    what: str
    figures: list[Figure]


class Plan(NamedTuple):
    """`groups` in the file's order; `street`: the sums; `unfit`: what does not work out; `unknown`: what no figure covers."""

    groups: list[Group]
    street: list[Figure]
    unfit: list[str]
    unknown: list[str]


class _Cost(NamedTuple):
    streams: list[Stream]
    lamps: dict[str, Nights]
    air: Air | None

    @property
    def records_a_day(self) -> float:
        return sum(stream.records_a_day for stream in self.streams)


def make_plan(site: Site, first: datetime.date) -> Plan:
    """The plan of a checked site; lamps are reckoned for the 365 nights from `first` on."""
    alike: dict[str, list[SiteNode]] = {}
    for node in site.nodes:
        key = repr(({**node.config, "asset": ""}, node.schedules, node.link, node.spreading_factor, node.supply, node.battery_mah))
        alike.setdefault(key, []).append(node)
    unfit: list[str] = []
    groups, costs = [], []
    for nodes in alike.values():
        cost = _cost(nodes[0], site.radio, first)
        costs.append((cost, nodes))
        groups.append(Group([node.asset for node in nodes], _what(nodes[0]), _figures(nodes[0], cost, unfit)))
    return Plan(groups, _street(site, costs, unfit), unfit, _unknown(site))


def _what(node: SiteNode) -> str:
    kinds = ", ".join(fixture["kind"] for fixture in node.config["fixtures"])
    link = f"LoRa SF{node.spreading_factor}" if node.spreading_factor else "LoRa" if node.link == LORA else "cable"
    return f"{kinds}; {link}; {node.supply}"


def _cost(node: SiteNode, radio: Radio | None, first: datetime.date) -> _Cost:
    lamps = {}
    for fixture in node.config["fixtures"]:
        if fixture["kind"] == "lamp":
            name = "lamp" if not fixture["instance"] else f"lamp.{fixture['instance']}"
            lamps[name] = nights(fixture, node.schedules.get(name), node.config, first)
    sent = streams(node.config, {name: lamp.changes for name, lamp in lamps.items()})
    if node.link != LORA or radio is None:
        return _Cost(sent, lamps, None)
    return _Cost(sent, lamps, air(sent, radio._replace(spreading_factor=node.spreading_factor or radio.spreading_factor)))


def _figures(node: SiteNode, cost: _Cost, unfit: list[str]) -> list[Figure]:
    records = cost.records_a_day
    found = [
        Figure("records_a_day", "records a day", records, "", _PERIODS),
        Figure("frames_a_day", "frames a day, at most", records, "", _ONE_A_FRAME),
    ]
    if cost.air is None:
        up = sum(stream.records_a_day * stream.line_bytes for stream in cost.streams)
        asked = DAY_S / setting(node.config, "beacon_s")
        octets = up + records * len(slip.encode(slip.FRAME, acknowledgement())) + asked * time_line_bytes()
        share = 100 * octets * _BITS_AN_OCTET / _LINE_BAUD / DAY_S
        found.append(Figure("line_bytes_a_day", "octets on the cable a day", octets, "", _CODEC))
        found.append(Figure("line_percent", "of the cable's time", share, "%", "115,200 baud, ten bits an octet"))
    else:
        found += _air_figures(node, cost.air, unfit)
    hours = spool_hours(cost.streams, setting(node.config, "spool_bytes"))
    found.append(Figure("spool_hours", "without a gateway until the spool thins", hours, "h", _SPOOL))
    found.append(Figure("flash_years", "flash lasts", flash_years(records), "years", _WEAR))
    for name, lamp in cost.lamps.items():
        for key, label, value in (
            ("mean", "a night, mean", lamp.mean_wh),
            ("least", "least", lamp.least_wh),
            ("most", "most", lamp.most_wh),
        ):
            found.append(Figure(f"{name}_{key}_wh", f"{name}: {label}", value, "Wh", _LIGHT))
        found.append(Figure(f"{name}_lit_h", f"{name}: lit a day, mean", lamp.lit_h, "h", _LIGHT))
    if node.supply == BATTERY and node.battery_mah is not None:
        found += _supply_figures(node, cost, node.battery_mah)
    return found


def _air_figures(node: SiteNode, spent: Air, unfit: list[str]) -> list[Figure]:
    found = [
        Figure("packets_a_frame", "packets a frame, at most", spent.packets_a_frame, "", "WIRE.md 12, the region's longest packet"),
        Figure("airtime_s_a_day", "airtime a day", spent.uplink_us / 1e6, "s", _AIRTIME),
    ]
    if spent.allowance_us is None:
        return [*found, Figure("law_percent", "of the law's airtime", None, "%", "the region's rule bounds it nowhere")]
    percent = 100 * spent.uplink_us / spent.allowance_us
    if percent > 100:
        unfit.append(f"{node.asset}: {percent:.0f} % of the airtime the law gives; report less often, or use a lower spreading factor")
    return [*found, Figure("law_percent", "of the law's airtime", percent, "%", "regions.py, less its reserve for alarms")]


def _supply_figures(node: SiteNode, cost: _Cost, capacity_mah: int) -> list[Figure]:
    kinds = []
    for fixture in node.config["fixtures"]:
        kind = fixture["kind"]
        report_s = setting(fixture, "report_s", kind) or setting(node.config, "report_s")
        kinds.append((kind, report_s, kind == "air" and bool(setting(fixture, "duty_cycle", "air"))))
    found = supply(kinds, cost.records_a_day, None if cost.air is None else cost.air.uplink_us, capacity_mah)
    return [
        Figure("awake_most_mah_a_day", "mAh a day, awake as today, at most", found.awake_mah[1], "mAh", _AWAKE),
        Figure("awake_least_mah_a_day", "mAh a day, awake, at least", found.awake_mah[0], "mAh", _AWAKE),
        Figure("awake_least_battery_years", "battery lasts awake, at least", found.awake_years[0], "years", _AWAKE),
        Figure("awake_most_battery_years", "battery lasts awake, at most", found.awake_years[1], "years", _AWAKE),
        Figure("asleep_mah_a_day", "mAh a day if it slept", found.asleep_mah, "mAh", _ASLEEP),
        Figure("asleep_battery_years", "battery would last", found.asleep_years, "years", _ASLEEP),
    ]


def _street(site: Site, costs: Sequence[tuple[_Cost, list[SiteNode]]], unfit: list[str]) -> list[Figure]:
    frames = sum(cost.records_a_day * len(nodes) for cost, nodes in costs)
    per_s = frames / DAY_S
    if per_s > GATEWAY_FRAMES_A_SECOND:
        unfit.append(f"{per_s:.0f} frames a second on one gateway, {GATEWAY_FRAMES_A_SECOND} were measured; use more gateways")
    outbox_h = site.outbox_mb * 1e6 / sum(outbox_bytes_a_day(cost.streams) * len(nodes) for cost, nodes in costs) * 24
    found = [
        Figure("nodes", "nodes", len(site.nodes), "", "the file"),
        Figure("frames_a_day", "frames a day, at most", frames, "", _ONE_A_FRAME),
        Figure("gateway_frames_a_second", "frames a second", per_s, "", _ONE_A_FRAME),
        Figure("gateway_percent", "of what one gateway carries", 100 * per_s / GATEWAY_FRAMES_A_SECOND, "%", _GATEWAY_SOURCE),
        Figure("outbox_hours", "without a broker until the gateway's disk is full", outbox_h, "h", _OUTBOX),
    ]
    lamps_wh = sum(lamp.mean_wh * len(nodes) for cost, nodes in costs for lamp in cost.lamps.values())
    if lamps_wh:
        found.append(Figure("lamps_kwh_a_night", "lamps: a night, mean", lamps_wh / 1000, "kWh", _LIGHT))
        found.append(Figure("lamps_kwh_a_year", "lamps: a year", lamps_wh * 365 / 1000, "kWh", _LIGHT))
    shared = [(cost.air, len(nodes)) for cost, nodes in costs if cost.air is not None]
    if shared and site.radio is not None:
        found += _shared_air(shared, len(site.radio.channels_hz), unfit)
    return found


def _shared_air(shared: list[tuple[Air, int]], channels: int, unfit: list[str]) -> list[Figure]:
    uplink_us = sum(spent.uplink_us * count for spent, count in shared)
    answers_us = sum(spent.acknowledgement_us * count for spent, count in shared)
    busy = 100 * (uplink_us + answers_us) / (DAY_S * 1e6 * channels)
    found = [
        Figure("channel_percent", "of the channels' time, both ways", busy, "%", _AIRTIME),
        Figure("collisions_percent", "packets that meet another", lost_percent(uplink_us + answers_us, channels), "%", _ALOHA),
    ]
    allowance_us = shared[0][0].allowance_us
    if allowance_us is not None:
        percent = 100 * answers_us / allowance_us
        found.append(Figure("gateway_law_percent", "of the law's airtime for the gateway's answers", percent, "%", "as for a node"))
        if percent > 100:
            unfit.append(
                f"the gateway's acknowledgements take {percent:.0f} % of the airtime the law gives it; use more gateways, or report less"
            )
    return found


def _unknown(site: Site) -> list[str]:
    found = ["alarms, orders, repeats on a bad line", "what log lines take of a cable"]
    if any(node.link == LORA for node in site.nodes):
        found.append("range: no radio of this project has sent yet, so no figure says whether a gateway hears it")
    if any(node.supply == BATTERY for node in site.nodes):
        found.append("the regulator's loss, cold, and the battery's own discharge")
        found.append("what a lamp, its relay and its meter draw, should one hang on a battery")
    return found
