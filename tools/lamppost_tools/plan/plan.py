"""What a street will cost before anyone climbs a ladder: its nodes, alike ones together, and their sum. Every number names its source."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from lamppost_protocol import slip
from lamppost_protocol.radio_limits import E22, RADIOS
from lamppost_protocol.regions import Radio, check_radio

from lamppost_tools.node.config_keys import LORA_KEYS
from lamppost_tools.plan import supply
from lamppost_tools.plan.air import Air, air, allowance_us, frame_interval_s, lost_percent
from lamppost_tools.plan.figures import DAY_S, Figure
from lamppost_tools.plan.frames import Stream, acknowledgement, setting, streams, time_line_bytes
from lamppost_tools.plan.light import Nights, nights
from lamppost_tools.plan.store import flash_years, outbox_bytes_a_day, spool_hours
from lamppost_tools.site.site import BATTERY, LORA, Site, SiteNode

#: Frames a second that a gateway was shown to carry, on 100 lines; `make bench` takes the figure anew on the machine it runs on.
GATEWAY_FRAMES_A_SECOND = 500
_GATEWAY_SOURCE = "measured limit on 100 lines: python hil_tests/benchmarks/run.py --only paced; run it on the cabinet's machine"
_LINE_BAUD = 115_200
_AIR_BEACON_S = 21_600  # the firmware's default on LoRa
_BITS_AN_OCTET = 10

_PERIODS = "report_s, health_s and the schedule's changes of level; alarms, orders and repeats come on top"
_ONE_A_FRAME = "each record in a frame of its own; those of one instant share one, on LoRa those of gather_s"
_CODEC = "the protocol's encoder on full records, as of a lit lamp after a year; SLIP, acknowledgements, questions for the time"
_AIRTIME = (
    "SX1261/2 datasheet 6.1.4 on the packets of WIRE.md 12, full records, a frame each: those that gather take less; a hello each beacon_s"
)
_SPOOL = "octets of the node's record form against spool_bytes less a segment; the flash must have twice spool_bytes free"
_WEAR = "erases counted on littlefs by firmware/tests/test_flash_wear.py, worst block, 2 MB partition, 100,000 erases"
_OUTBOX = "rows of that size in the outbox's pages against [gateway] outbox_mb, nothing delivered"
_LIGHT = "schedule, sun and power_*_dw of the file, 365 nights; ramps and stagger left out"
_AWAKE = (
    "ESP32 datasheet, second hand: modem-sleep 27 to 44 mA; radio: SX1262 5.3 mA receiving, 14 dBm 45 mA, 22 dBm 118 mA, SX1276 11.5 mA "
    "receiving, 87 mA sending; A02YYUW 8 mA, PMS5003 100 mA"
)
_CYCLE = (
    "sleep_s, report_s, health_s, gather_s, beacon_s; 1.5 s a wake-up (make bench, rv32, ROMFS); answered in the last window of WIRE.md "
    "14.2; nothing repeated"
)
_STATE = (
    "those seconds; ESP32 datasheet: deep sleep 10 uA, modem-sleep 44 mA; SX1262 datasheet: sleep 160 nA, standby 0.6 mA, receiving 5.3 "
    "mA, sending by power; SX1276 datasheet: 200 nA, 1.6, 11.5, 87 mA; A02YYUW 8 mA, LIS3DH 3 uA; second hand"
)
_BATTERY = "assumed: 80 % of the capacity is usable, 2 % of it goes by itself in a year, 20 C; the regulator's loss is left out"
_ALOHA = "pure ALOHA, 1 - exp(-2 G), Abramson 1970: nobody listens first, no packet survives another"
_FLEET = "pure ALOHA turned round, for frames as long as the mean of these nodes'; an answer counts where it shares their channels"
#: Packets that may meet another: what a street is planned for, and above which most of the airtime goes into saying it again.
_LOST_PERCENT, _MOST_LOST_PERCENT = 10, 30
_FLEETS = (1, 10)


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
        cost = _cost(nodes[0], site, first)
        costs.append((cost, nodes))
        groups.append(Group([node.asset for node in nodes], _what(nodes[0]), _figures(nodes[0], cost, unfit)))
    return Plan(groups, _street(site, costs, unfit), unfit, _unknown(site))


def _what(node: SiteNode) -> str:
    kinds = ", ".join(fixture["kind"] for fixture in node.config["fixtures"])
    link = f"LoRa SF{node.spreading_factor}" if node.spreading_factor else "LoRa" if node.link == LORA else "cable"
    return f"{kinds}; {link}; {node.supply}"


def _cost(node: SiteNode, site: Site, first: datetime.date) -> _Cost:
    lamps = {}
    for fixture in node.config["fixtures"]:
        if fixture["kind"] == "lamp":
            name = "lamp" if not fixture["instance"] else f"lamp.{fixture['instance']}"
            lamps[name] = nights(fixture, node.schedules.get(name), node.config, first)
    sent = streams(node.config, {name: lamp.changes for name, lamp in lamps.items()})
    radio, downlink = site.radio, site.downlink
    if node.link != LORA or radio is None or downlink is None:
        return _Cost(sent, lamps, None)
    used = radio._replace(spreading_factor=node.spreading_factor or radio.spreading_factor)
    return _Cost(sent, lamps, air(sent, DAY_S / _air_beacon_s(node), used, downlink))


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
    if cost.air is not None and all(fixture["kind"] == "bin" and fixture.get("sleep_s") for fixture in node.config["fixtures"]):
        return _sleeping_figures(node, cost, cost.air, capacity_mah)
    kinds = []
    for fixture in node.config["fixtures"]:
        kind = fixture["kind"]
        report_s = setting(fixture, "report_s", kind) or setting(node.config, "report_s")
        kinds.append((kind, report_s, kind == "air" and bool(setting(fixture, "duty_cycle", "air"))))
    radio = supply.RADIOS[_chip(node)]
    found = supply.supply(kinds, None if cost.air is None else cost.air.uplink_us, _lora(node, "power_dbm"), capacity_mah, radio)
    return [
        Figure("most_mah_a_day", "mAh a day, always awake, at most", found.awake_mah[1], "mAh", _AWAKE),
        Figure("least_mah_a_day", "mAh a day, always awake, at least", found.awake_mah[0], "mAh", _AWAKE),
        Figure("least_battery_years", "battery lasts, at least", found.awake_years[0], "years", _BATTERY),
        Figure("most_battery_years", "battery lasts, at most", found.awake_years[1], "years", _BATTERY),
    ]


def _sleeping_figures(node: SiteNode, cost: _Cost, spent: Air, capacity_mah: int) -> list[Figure]:
    config, fixture = node.config, node.config["fixtures"][0]
    report_s = setting(fixture, "report_s", "bin") or setting(config, "report_s")
    day = supply.cycle(
        report_s, fixture["sleep_s"], setting(config, "health_s"), _air_beacon_s(node), _lora(node, "gather_s"),
        setting(fixture, "burst", "bin"),
    )  # fmt: skip
    frames = cost.records_a_day
    symbol_s = 2 ** _lora(node, "downlink_spreading_factor") / _lora(node, "downlink_bandwidth_hz")
    window_s = supply.WINDOW_S + supply.WINDOW_SYMBOLS * symbol_s
    answer_s = spent.acknowledgements_us / 1e6 / frames
    radio = supply.RADIOS[_chip(node)]
    found = supply.states(day, supply.Air(spent.frames_us / 1e6 / frames, answer_s, window_s, _lora(node, "power_dbm"), radio))
    least, most = (sum(state.mah[i] for state in found) for i in (0, 1))
    figures = []
    for state in found:
        figures.append(Figure(f"{state.name}_s_a_day", f"{state.label}: a day, at most", state.seconds, "s", _CYCLE))
        figures.append(Figure(f"{state.name}_mah_a_day", f"{state.label}: mAh a day, at most", state.mah[1], "mAh", _STATE))
    return [
        *figures,
        Figure("most_mah_a_day", "mAh a day, all of it, at most", most, "mAh", _STATE),
        Figure("least_mah_a_day", "mAh a day, with a chip at 27 mA", least, "mAh", _STATE),
        Figure("least_battery_years", "battery lasts, at least", supply.years(capacity_mah, most), "years", _BATTERY),
        Figure("most_battery_years", "battery lasts, with that chip", supply.years(capacity_mah, least), "years", _BATTERY),
    ]


def _air_beacon_s(node: SiteNode) -> int:
    found: int = node.config.get("beacon_s", _AIR_BEACON_S)
    return found


def _chip(node: SiteNode) -> str:
    """The radio's name in the configuration."""
    found: str = node.config.get("radio", RADIOS[0])
    return found


def _lora(node: SiteNode, name: str) -> int:
    """A key of the node's map `lora`: as written, else the firmware's default; 0 on a cable."""
    default = next(key.default for key in LORA_KEYS if key.name == name)
    value: int | None = node.config["lora"].get(name, default) if "lora" in node.config else 0
    return value or 0


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
    shared = [(cost.air, cost.records_a_day, len(nodes)) for cost, nodes in costs if cost.air is not None]
    if shared and site.radio is not None and site.downlink is not None:
        found += _shared_air(shared, site.radio, site.downlink, unfit)
    return found


def _shared_air(shared: list[tuple[Air, float, int]], radio: Radio, downlink: Radio, unfit: list[str]) -> list[Figure]:
    uplink_us = sum(spent.uplink_us * count for spent, _, count in shared)
    answers_us = sum(spent.answers_us * count for spent, _, count in shared)
    nodes, frames = sum(count for _, _, count in shared), sum(records * count for _, records, count in shared)
    channels = len(radio.channels_hz)
    heard_us = uplink_us + (answers_us if downlink.channels_hz[0] in radio.channels_hz else 0)
    busy = 100 * heard_us / (DAY_S * 1e6 * channels)
    lost = lost_percent(heard_us, channels)
    found = [
        Figure("channel_percent", "of the nodes' channels' time", busy, "%", _AIRTIME),
        Figure("collisions_percent", "packets that meet another", lost, "%", _ALOHA),
        Figure("frame_interval_s", "between a node's frames now, mean", DAY_S * nodes / frames, "s", _ONE_A_FRAME),
    ]
    for times in _FLEETS:
        least_s = frame_interval_s(heard_us / frames, nodes * times, channels, _LOST_PERCENT)
        label = f"{nodes * times:,} nodes: each a frame every, {_LOST_PERCENT} % meeting"
        found.append(Figure(f"least_interval_{times}x_s", label, least_s, "s", _FLEET))
    if lost > _MOST_LOST_PERCENT:
        least_s = frame_interval_s(heard_us / frames, nodes, channels, _LOST_PERCENT)
        unfit.append(f"on the air {lost:.0f} % of packets meet another; more channels, or a frame of each node only every {least_s:.0f} s")
    answers_allowance_us = allowance_us(check_radio(downlink))
    if answers_allowance_us is not None:
        percent = 100 * answers_us / answers_allowance_us
        found.append(Figure("gateway_law_percent", "of the law's airtime for the gateway's answers", percent, "%", "as for a node"))
        if percent > 100:
            unfit.append(f"the gateway's answers take {percent:.0f} % of the airtime the law gives it; use more gateways, or report less")
    return found


def _unknown(site: Site) -> list[str]:
    found = ["alarms, orders, repeats on a bad line", "what log lines take of a cable"]
    if any(node.link == LORA for node in site.nodes):
        found.append("range: no radio of this project has sent yet, so no figure says whether a gateway hears it")
    if any(node.supply == BATTERY for node in site.nodes):
        found.append("the regulator's loss, and what cold takes of a battery beyond the fifth that is assumed")
        if any(_chip(node) == E22 for node in site.nodes):
            found.append("what an E22 module's own chip draws: the currents are those of the SX1262 in it")
        found.append("what a lamp, its relay and its meter draw, should one hang on a battery")
    return found
