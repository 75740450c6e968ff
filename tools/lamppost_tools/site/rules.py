"""What a site file may say, table by table. Never stops at a mistake; what comes out is only used when there is none."""

from typing import Any

from lamppost_protocol import cbor
from lamppost_protocol.radio_limits import E22, RADIOS

from lamppost_tools.errors import UsageError
from lamppost_tools.node import config_keys
from lamppost_tools.node.air import downlink_of, radio_of
from lamppost_tools.node.config import node_config, sleeps
from lamppost_tools.node.config_keys import Key
from lamppost_tools.site.air import check_radio_table
from lamppost_tools.site.document import Document
from lamppost_tools.site.fixtures import KINDS, check_fixtures, fixture_keys
from lamppost_tools.site.place import check_place
from lamppost_tools.site.schedules import check_schedules
from lamppost_tools.site.site import BATTERY, LORA, MAINS, SERIAL, Site, SiteNode
from lamppost_tools.site.toml_lines import Where
from lamppost_tools.site.values import choice, dotted, hex_number, numbers, shown, table, tables, text, unknown_keys

#: Keys of a node's configuration that a street has in common and one node may set otherwise; place and network are the street's.
PACE_KEYS = {
    key.name: key for key in config_keys.NODE_KEYS if key.name not in ("network", "latitude_udeg", "longitude_udeg", "utc_offset_s")
}
_RADIO = "radio"
_TOP = ("name", "network", "place", "defaults", "schedule", "lora", "gateway", "node")
_NODE = ("asset", "id", "link", "supply", "battery_mah", "fixtures", "latitude_deg", "longitude_deg", _RADIO, *PACE_KEYS)
_LINK = ("kind", "port", "spreading_factor")
_MOST_MAH = 1_000_000
_OUTBOX_MB = Key("outbox_mb", 1024, 1, 1_000_000, "MB", "max_mb of the gateway's [outbox]")


def check_document(document: Document) -> Site | None:
    """The site, its mistakes noted in `document`; None when it is too damaged to have one."""
    values = document.values
    unknown_keys(document, (), values, _TOP)
    text(document, (), values, "name", "")
    network = hex_number(document, (), values, "network")
    place = check_place(document, ("place",), table(document, (), values, "place", is_required=True))
    schedules = check_schedules(document, table(document, (), values, "schedule"))
    defaults = table(document, (), values, "defaults")
    unknown_keys(document, ("defaults",), defaults, (_RADIO, *PACE_KEYS, *KINDS))
    pace = {**_chip(document, ("defaults",), defaults), **numbers(document, ("defaults",), defaults, PACE_KEYS)}
    fixtures: dict[str, dict[str, Any]] = {
        kind: fixture_keys(document, ("defaults", kind), table(document, ("defaults",), defaults, kind), kind, schedules) for kind in KINDS
    }
    gateway = table(document, (), values, "gateway")
    unknown_keys(document, ("gateway",), gateway, ("outbox_mb",))
    outbox_mb = numbers(document, ("gateway",), gateway, {"outbox_mb": _OUTBOX_MB}).get("outbox_mb", _OUTBOX_MB.default)
    listed = tables(document, (), values, "node")
    spreading_factors: dict[int, Where] = {}
    nodes = [_node(document, ("node", i), raw, place, pace, fixtures, schedules, spreading_factors) for i, raw in enumerate(listed)]
    if not listed and isinstance(values.get("node", []), list):
        document.wrong((), "no node", "add a [[node]] table for each piece of furniture")
    on_lora = [i for i, node in enumerate(nodes) if node.link == LORA]
    names: list[str] = [nodes[i].config.get(_RADIO, RADIOS[0]) for i in on_lora]
    for i, name in zip(on_lora, names, strict=True):
        if (name == E22) != (names[0] == E22):
            document.wrong(
                ("node", i, _RADIO), f"{dotted(('node', i))}: an {name} among nodes with an {names[0]}",
                "an e22 hears nothing but other e22s: give it a site file and a gateway of its own",
            )  # fmt: skip
    name = names[0] if names else str(pace.get(_RADIO, RADIOS[0]))
    lora = check_radio_table(document, values.get("lora"), spreading_factors, bool(on_lora), name)
    if lora is not None:
        for i in on_lora:
            nodes[i].config["lora"] = _own_lora(lora, nodes[i].spreading_factor)
            _fits(document, ("node", i), nodes[i].config)
    radio, downlink = (None, None) if lora is None else (radio_of(lora, name), downlink_of(lora, name))
    _doubles(document, nodes)
    return Site(str(values.get("name", "")), network, nodes, radio, downlink, int(outbox_mb or 0))


def _own_lora(lora: dict[str, Any], spreading_factor: int | None) -> dict[str, Any]:
    """What the nodes share, with the spreading factor that one of them sets: its slowest, and its fastest where that would be slower."""
    if spreading_factor is None:
        return lora
    own = {**lora, "spreading_factor": spreading_factor}
    if "fastest_spreading_factor" in own:
        own["fastest_spreading_factor"] = min(own["fastest_spreading_factor"], spreading_factor)
    return own


def _node(
    document: Document, where: Where, raw: dict[str, Any], place: dict[str, Any], pace: dict[str, Any],
    defaults: dict[str, dict[str, Any]], schedules: dict[str, list[Any]], spreading_factors: dict[int, Where],
) -> SiteNode:  # fmt: skip
    unknown_keys(document, where, raw, _NODE)
    asset = text(document, where, raw, "asset", None)
    number = hex_number(document, where, raw, "id")
    own = {**_chip(document, where, raw), **numbers(document, where, raw, PACE_KEYS)}
    here: dict[str, Any] = {**place, **{name: raw[name] for name in ("latitude_deg", "longitude_deg") if name in raw}}
    if here != place:
        here = check_place(document, where, here, set(raw))
    supply = choice(document, where, raw, "supply", MAINS, (MAINS, BATTERY))
    battery = Key("battery_mah", None, 1, _MOST_MAH, "mAh", "the battery's capacity")
    capacity_mah = numbers(document, where, raw, {"battery_mah": battery}).get("battery_mah")
    if supply == BATTERY and "battery_mah" not in raw:
        document.wrong((*where, "supply"), f"{dotted(where)}: battery_mah is missing", "add battery_mah, the battery's capacity")
    if raw.get("supply", MAINS) == MAINS and "battery_mah" in raw:
        document.wrong(
            (*where, "battery_mah"), f"{dotted((*where, 'battery_mah'))} without a battery", 'write supply = "battery", or leave it out'
        )
    link, port, spreading_factor = _link(document, where, raw, spreading_factors)
    fixtures, planned = check_fixtures(document, where, raw, defaults, schedules)
    config = {**here, **pace, **own, "fixtures": fixtures, "asset": asset}
    if link == SERIAL and sleeps(config):
        document.wrong((*where, "fixtures"), f"{dotted(where)}: sleep_s on a cable, which is listened to", "leave it out, or use lora")
    _fits(document, where, config)
    line = document.line(where) or 0
    return SiteNode(asset, number, line, config, planned, link, port, spreading_factor, supply, capacity_mah)


def _chip(document: Document, where: Where, raw: dict[str, Any]) -> dict[str, str]:
    """The board's radio chip, where it is named."""
    return {_RADIO: choice(document, where, raw, _RADIO, None, RADIOS)} if _RADIO in raw else {}


def _link(document: Document, where: Where, raw: dict[str, Any], spreading_factors: dict[int, Where]) -> tuple[str, str | None, int | None]:
    link = table(document, where, raw, "link")
    if "link" not in raw:
        document.wrong(where, f"{dotted((*where, 'link'))} is missing", 'add link = { kind = "serial", port = "/dev/serial/by-id/..." }')
        return SERIAL, None, None
    where = (*where, "link")
    unknown_keys(document, where, link, _LINK)
    kind = choice(document, where, link, "kind", None, (SERIAL, LORA))
    if link.get("kind") != kind:
        return SERIAL, None, None
    if kind == SERIAL:
        if "spreading_factor" in link:
            document.wrong((*where, "spreading_factor"), f"{dotted(where)}: a cable has no spreading factor", "leave it out")
        return SERIAL, text(document, where, link, "port", None), None
    if "port" in link:
        document.wrong((*where, "port"), f"{dotted(where)}: a radio has no port", "leave it out")
    factor = numbers(document, where, link, {"spreading_factor": SPREADING_FACTOR}).get("spreading_factor")
    if factor is not None:
        spreading_factors.setdefault(factor, (*where, "spreading_factor"))
    return LORA, None, factor


SPREADING_FACTOR = Key("spreading_factor", None, 5, 12, "", "the radio's spreading factor")


def _fits(document: Document, where: Where, config: dict[str, Any]) -> None:
    """What all that makes must be a configuration the node can read."""
    if document.problems:
        return
    try:
        octets = len(cbor.encode(node_config(config, 1)[0]))
    except UsageError as error:
        document.wrong(where, f"{dotted(where)}: {error.what}", error.next_step)
        return
    if octets > config_keys.MAX_CONFIG_BYTES:
        document.wrong(
            where,
            f"{dotted(where)}: a configuration of {octets} octets",
            f"a node reads {config_keys.MAX_CONFIG_BYTES}: leave out what is as by default",
        )


def _doubles(document: Document, nodes: list[SiteNode]) -> None:
    """Note ids, assets and ports that two nodes share."""
    ways: tuple[tuple[str, Where, str], ...] = (
        ("asset", ("asset",), "each piece of furniture has its own name"),
        ("id", ("id",), "leave it out: enrolment draws a free one"),
        ("port", ("link", "port"), "each node has a cable of its own"),
    )
    for name, way, fix in ways:
        first: dict[Any, int] = {}
        for i, node in enumerate(nodes):
            value = getattr(node, name)
            if not value:
                continue
            if value in first:
                told = f"{value:08x}" if isinstance(value, int) else shown(value)
                line = document.line(("node", first[value], *way))
                document.wrong(("node", i, *way), f"{name} {told} is on line {line} too", fix)
            first.setdefault(value, i)
