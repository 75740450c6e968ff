"""What of a node's configuration the authority signs: every key decided, every bound kept, every refusal in words (promises 2 and 3)."""

import json
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lamppost_protocol import cbor, cose, orders
from lamppost_tools.authority.authority import Authority, open_authority
from lamppost_tools.authority.settings import load_settings
from lamppost_tools.durable import read_json
from lamppost_tools.errors import RefusedError
from lamppost_tools.node.config import node_config
from lamppost_tools.node.config_keys import FIXTURE_KEYS, LORA_KEYS, NODE_KEYS
from lamppost_tools.node.enrol import registered_settings
from lamppost_tools.order.configuration import wanted_configuration
from lamppost_tools.order.configuration_rules import LEAST_LIGHT, RULES, Cable, OneOf, Within, agree_configuration, check_room
from lamppost_tools.order.refusal import RequestRefusedError

NETWORK, NODE, NOW_S = 0xCAFE, "0000a001", 1_800_000_000
LIMIT, NUMBERS = "configurations_per_hour_per_node", count()
SCHEMAS = Path(__file__).resolve().parents[2] / "gateway" / "lamppost_gateway" / "schema_mqtt"
PLACE = {"latitude_deg": 52.52, "longitude_deg": 13.405, "utc_offset_s": 3600, "dst": "eu"}
LORA = {"region": "EU868", "channels_hz": [868_100_000, 868_300_000], "downlink_hz": 869_525_000}
LAMP = node_config({**PLACE, "fixtures": [{"kind": "lamp", "safe_level_percent": 100}]}, NETWORK)[0]
STREET = node_config({**PLACE, "fixtures": [{"kind": "lamp"}, {"kind": "lamp", "instance": 1}, {"kind": "air"}]}, NETWORK)[0]
RADIO_LAMP = node_config({**PLACE, "lora": LORA, "fixtures": [{"kind": "lamp"}]}, NETWORK)[0]
SLEEPER = node_config({**PLACE, "lora": LORA, "report_s": 900, "fixtures": [{"kind": "bin", "sleep_s": 60}]}, NETWORK)[0]
#: (part of RULES, a configuration that has it, its map in there)
PARTS: list[tuple[str, dict[str, Any], Any]] = [
    ("", LAMP, lambda config: config),
    ("lora", RADIO_LAMP, lambda config: config["lora"]),
    ("lamp", LAMP, lambda config: config["fixtures"][0]),
    ("bin", node_config({"fixtures": [{"kind": "bin"}]}, NETWORK)[0], lambda config: config["fixtures"][0]),
    ("air", STREET, lambda config: config["fixtures"][2]),
]
KEYS = {"": NODE_KEYS, "lora": LORA_KEYS, **FIXTURE_KEYS}
#: What is no whole number, and so stands in no table of ranges.
TEXTS = {"": {"dst", "radio"}, "lora": {"", "region", "channels_hz"}, **{kind: {""} for kind in FIXTURE_KEYS}}


def changed(held: dict[str, Any], where: Any, **values: Any) -> dict[str, Any]:
    """A request for that configuration with other values in one of its maps; ... takes a key away."""
    asked = deepcopy(held)
    part = where(asked)
    for name, value in values.items():
        part.pop(name, None)
        if value is not ...:
            part[name] = value
    return asked


def refusal(asked: Any, held: Any, least_light_percent: int = 20) -> tuple[str, str]:
    """(reason, detail), which must be there."""
    with pytest.raises(RequestRefusedError) as caught:
        agree_configuration(asked, held, least_light_percent)
    return caught.value.reason, caught.value.detail


def test_every_key_is_decided():
    """A new key of the firmware stands in its table of ranges (test_node_keys.py), and has to be decided here; none is left over."""
    for part, keys in KEYS.items():
        assert set(RULES[part]) == {key.name for key in keys} | TEXTS[part], part
    assert set(RULES) == set(KEYS)


def test_bounds_are_within_what_the_node_takes():
    """Nothing that the authority signs is out of the node's own ranges; no bound is the wrong way round."""
    for part, keys in KEYS.items():
        for key in keys:
            rule = RULES[part][key.name]
            if isinstance(rule, Within):
                assert key.low <= rule.low <= rule.high <= key.high, (part, key.name)
                assert rule.low <= (rule.asleep_low or rule.low) <= rule.high
                assert key.low == 0 or not rule.zero


@pytest.mark.parametrize(("part", "held", "where"), PARTS, ids=[part or "node" for part, _, _ in PARTS])
def test_what_is_for_the_cable_is_refused_key_by_key(part, held, where):
    """Each such key alone, however little it changes: named, with its old and its new value, and why."""
    for key in KEYS[part]:
        rule = RULES[part][key.name]
        if not isinstance(rule, Cable):
            continue
        now = where(held).get(key.name, key.default)
        other = key.high if now != key.high else key.low
        reason, detail = refusal(changed(held, where, **{key.name: other}), held)
        assert reason == "only_by_cable", key.name
        assert f"{key.name}: {'none' if now is None else now} -> {other} ({rule.why})" in detail


@pytest.mark.parametrize(("part", "held", "where"), PARTS, ids=[part or "node" for part, _, _ in PARTS])
def test_bounds_hold_at_both_ends(part, held, where):
    """The bounds themselves are signed where the radio's law and chip have them, one beyond is not, and no other type."""
    for key in KEYS[part]:
        rule = RULES[part][key.name]
        if not isinstance(rule, Within):
            continue
        now = where(held).get(key.name, key.default)
        for value in (rule.low - 1, rule.high + 1, "10", True, 10.5, None, [10], {"a": 1}, 10**5000):
            if value == now or (rule.zero == "allowed" and value == 0):
                continue
            assert refusal(changed(held, where, **{key.name: value}), held)[0] == "out_of_bounds", (key.name, value)
        if part != "lora" and rule.zero != "fixed":
            for value in (rule.low, rule.high):
                assert where(agree_configuration(changed(held, where, **{key.name: value}), held, 20)).get(key.name, now) == value


def test_radio_link_and_fixtures_are_for_the_cable():
    """Text keys and whole parts: another radio, another channel, a radio that comes or goes, another lamp, none, one twice."""
    node = PARTS[0][2]
    lora = PARTS[1][2]
    for held, asked, word in (
        (LAMP, changed(LAMP, node, radio="sx1276"), "radio: sx1262 -> sx1276"),
        (LAMP, changed(LAMP, node, lora=LORA), "lora: comes"),
        (RADIO_LAMP, changed(RADIO_LAMP, node, lora=...), "lora: goes"),
        (RADIO_LAMP, changed(RADIO_LAMP, lora, region="US915"), "lora.region"),
        (RADIO_LAMP, changed(RADIO_LAMP, lora, channels_hz=[868_100_000]), "lora.channels_hz"),
        (STREET, {**STREET, "fixtures": STREET["fixtures"][1:]}, "fixtures: air, lamp, lamp.1 -> air, lamp.1"),
        (LAMP, {**LAMP, "fixtures": []}, "fixtures"),
        (LAMP, {**LAMP, "fixtures": LAMP["fixtures"] * 2}, "fixtures: lamp -> lamp, lamp"),
        (LAMP, {**LAMP, "fixtures": [{"kind": "lamp", "instance": 1}]}, "fixtures: lamp -> lamp.1"),
    ):
        reason, detail = refusal(asked, held)
        assert reason == "only_by_cable"
        assert word in detail


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"fixtures": 5}, {"fixtures": [5]}, {"fixtures": None}, {**LAMP, "lora": 5}, {**LAMP, "colour": 1}, {**LAMP, "": 1},
        changed(LAMP, PARTS[2][2], colour=1), changed(LAMP, PARTS[2][2], **{"a.report_s": 1}),
    ],
)  # fmt: skip
def test_a_request_of_any_shape_is_refused_not_a_crash(asked):
    """What is no configuration, and keys that there are not."""
    assert refusal(asked, LAMP)[0] == "bad_configuration"


def test_all_that_is_wrong_is_told_at_once():
    """An operator corrects his site file once."""
    asked = changed(changed(LAMP, PARTS[2][2], relay=0, safe_level_percent=40), PARTS[0][2], spool_bytes=16_384, report_s=5)
    reason, detail = refusal(asked, LAMP, 80)
    assert reason == "only_by_cable"
    assert detail.split("; ") == [
        "lamp.relay: 1 -> 0 (what the lamp gets)",
        "spool_bytes: 524288 -> 16384 (a smaller ring loses what nobody has acknowledged yet)",
        "report_s: 60 -> 5 (by order 10 to 3600)",
        "lamp.safe_level_percent: 40, the city's least is 80 (min_safe_level_percent)",
    ]


@pytest.mark.parametrize("key", LEAST_LIGHT)
def test_no_lamp_is_told_to_be_darker_in_doubt_than_the_city_allows(key):
    """Whatever the node was enrolled with: not by a change, and not by leaving as it is what the policy no longer allows."""
    lamp = PARTS[2][2]
    assert refusal(changed(LAMP, lamp, **{key: 99}), LAMP, 100)[0] == "below_safe_level"
    assert refusal(changed(LAMP, lamp, **{key: 59}), LAMP, 60)[0] == "below_safe_level"
    assert lamp(agree_configuration(changed(LAMP, lamp, **{key: 60}), LAMP, 60))[key] == 60
    dim = changed(LAMP, lamp, **{key: 50})
    assert refusal(changed(dim, PARTS[0][2], health_s=60), dim, 100)[0] == "below_safe_level"


def test_what_is_signed_is_the_enrolled_one_with_the_changes_in_it():
    """A key that the request leaves out becomes its default; what only looks different, and all that is not changed, stays as it was."""
    held = changed(changed(LAMP, PARTS[2][2], report_s=30, ramp_up_percent_per_s=50), PARTS[0][2], health_s=60)
    asked = {**changed(LAMP, PARTS[2][2], report_s=30.0, floor_percent=10, stagger_s=20), "beacon_s": 3600, "radio": "sx1262"}
    agreed = agree_configuration(asked, held, 100)
    wanted = changed(LAMP, PARTS[2][2], report_s=30, stagger_s=20)
    assert agreed == wanted
    assert type(agreed["fixtures"][0]["report_s"]) is int
    assert held["health_s"] == 60
    again = agree_configuration(held, held, 100)
    assert cbor.encode(again) == cbor.encode(held)


def test_a_battery_is_not_emptied_by_order():
    """A node that sleeps keeps its long periods; whether it sleeps at all is for the cable."""
    own, fixture = PARTS[0][2], PARTS[2][2]
    assert "by order 300 to 3600 on a node that sleeps" in refusal(changed(SLEEPER, own, report_s=299), SLEEPER)[1]
    assert agree_configuration(changed(SLEEPER, own, report_s=300), SLEEPER, 100)["report_s"] == 300
    assert agree_configuration(changed(LAMP, own, report_s=10), LAMP, 100)["report_s"] == 10
    assert refusal(changed(SLEEPER, fixture, sleep_s=0), SLEEPER)[0] == "out_of_bounds"
    assert refusal(changed(SLEEPER, fixture, sleep_s=...), SLEEPER)[0] == "out_of_bounds"
    assert agree_configuration(changed(SLEEPER, fixture, sleep_s=120), SLEEPER, 100)["fixtures"][0]["sleep_s"] == 120
    awake = changed(SLEEPER, fixture, sleep_s=0)
    assert refusal(changed(awake, fixture, sleep_s=120), awake)[1].endswith("(0 comes and goes by cable only)")
    # the defaults of a node on the air are its own
    assert refusal(changed(SLEEPER, own, hello_s=60), SLEEPER)[1].startswith("hello_s: 3600 -> 60")


def test_a_radio_stays_lawful_and_within_its_chip():
    """Each key within its bounds, and together still nothing that the law or the chip has not."""
    lora = PARTS[1][2]
    assert lora(agree_configuration(changed(RADIO_LAMP, lora, gather_s=60, spread_s=120), RADIO_LAMP, 100))["gather_s"] == 60
    reason, detail = refusal(changed(RADIO_LAMP, lora, least_power_dbm=20), RADIO_LAMP)
    assert (reason, "least_power_dbm" in detail) == ("bad_configuration", True)
    chip = changed(RADIO_LAMP, PARTS[0][2], radio="sx1276")
    reason, detail = refusal(changed(chip, lora, least_power_dbm=-9), chip)
    assert (reason, "sx1276" in detail) == ("bad_configuration", True)


def test_what_does_not_fit_an_order_or_the_air_says_what_to_do():
    """900 octets in a frame; over the air what 16 packets of the downlink's settings carry."""
    check_room(900, LAMP)
    asia = {"region": "AS923", "channels_hz": [923_200_000], "downlink_hz": 923_400_000, "downlink_spreading_factor": 10, "power_dbm": 13}
    slow = {**RADIO_LAMP, "lora": asia}  # 400 ms are 24 octets: 16 pieces of 15, less issuer, number and signature
    check_room(168, slow)
    for octets, config in ((901, LAMP), (901, RADIO_LAMP), (169, slow)):
        with pytest.raises(RequestRefusedError, match="leave out of the site file"):
            check_room(octets, config)


# -- the authority -------------------------------------------------------------------------------------------------------------------


def enrolled(city) -> dict[str, Any]:
    """What the registry says that the lamp's node has."""
    return city.registry.nodes()[NODE]["configuration"]


class Clock:
    """Unix seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> int:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(city, clock) -> Authority:
    return open_authority(city.authority, load_settings(city.authority), clock)


def limited(city, clock: Clock, most: int) -> Authority:
    """An authority that signs so many configurations an hour for one node."""
    path = city.authority / "authority.toml"
    lines = [f"{LIMIT} = {most}" if line.startswith(LIMIT) else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    return open_authority(city.authority, load_settings(city.authority), clock)


def ask(authority: Authority, **fields: Any) -> tuple[dict, dict | None]:
    """One request for the lamp's node."""
    return authority.answer_request(json.dumps({"request_id": f"r{next(NUMBERS)}", "node": NODE, **fields}).encode())


def configure(authority: Authority, city, **fields: Any) -> tuple[dict, dict | None]:
    """Ask for the node's own configuration with these keys in it."""
    return ask(authority, verb="configure", configuration={**enrolled(city), **fields})


def check_schema(name: str, document: dict | None) -> None:
    jsonschema.validate(document, json.loads((SCHEMAS / f"{name}.json").read_text()))


def order_of(signed: dict) -> orders.Order:
    message = cose.decode(bytes.fromhex(signed["frame"]))
    return orders.decode_order(message.tx, message.payload)


def test_it_is_signed_for_the_node_and_the_documents_are_as_documented(authority, city):
    """The whole configuration in one octet string, to the node itself."""
    document = {"v": 1, "request_id": "c", "node": NODE, "verb": "configure", "configuration": {**enrolled(city), "health_s": 120}}
    check_schema("order-request", document)
    response, signed = authority.answer_request(json.dumps(document).encode())
    check_schema("order-response", response)
    check_schema("order-signed", signed)
    order = order_of(signed)
    assert (order.verb, order.target, order.not_after) == (orders.CONFIGURE, 0, NOW_S + 86_400)
    assert cbor.decode(order.args[0]) == {**enrolled(city), "health_s": 120}
    with pytest.raises(jsonschema.ValidationError):
        check_schema("order-request", {**document, "configuration": []})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"configuration": None}, "bad_request"),
        ({"configuration": [1]}, "bad_request"),
        ({"configuration": {"network": NETWORK, "fixtures": []}}, "only_by_cable"),
        ({"configuration": {"network": NETWORK, "fixtures": [{"kind": "lamp", "control_100_mv": 0}]}}, "only_by_cable"),
        ({"configuration": {"network": NETWORK, "fixtures": [{"kind": "lamp", "safe_level_percent": 99}]}}, "below_safe_level"),
        ({"configuration": {"network": NETWORK, "fixtures": [{"kind": "lamp"}], "report_s": 86_400}}, "out_of_bounds"),
        ({"configuration": {"network": NETWORK, "fixtures": [{"kind": "lamp"}], "colour": 1}}, "bad_configuration"),
    ],
)  # fmt: skip
def test_a_refused_configuration_costs_no_counter(authority, city, fields, reason):
    """As every refusal: nothing signed, nothing logged, nothing counted."""
    response, signed = ask(authority, verb="configure", **fields)
    assert (response.get("reason"), signed) == (reason, None), response
    assert read_json(city.authority / "counters.json", "")["order"] == 0
    assert not (city.authority / "signed-orders.jsonl").exists()


def test_a_node_whose_configuration_nobody_kept_gets_none(authority, city):
    """One that was enrolled before there were such orders: a visit tells the registry."""
    document = city.registry.load()
    kept = document["nodes"][NODE].pop("configuration")
    city.registry.path.write_text(json.dumps(document))
    assert ask(authority, verb="configure", configuration=kept)[0]["reason"] == "unknown_configuration"
    city.registry.reconfigure(0xA001, registered_settings(kept))
    assert ask(authority, verb="configure", configuration=kept)[1] is not None


def test_restarts_by_order_are_limited_over_a_restart_of_the_authority(city, clock):
    """Each configuration is a start of the node: so many an hour, and none where the limit is 0."""
    authority = limited(city, clock, 2)
    assert [configure(authority, city)[0].get("reason") for _ in range(3)] == [None, None, "too_often"]
    again = open_authority(city.authority, load_settings(city.authority), clock)
    assert configure(again, city)[0]["reason"] == "too_often"
    assert ask(again, verb="level", level_percent=50)[1] is not None
    clock.now_s += 3601
    assert configure(again, city)[1] is not None
    assert configure(limited(city, clock, 0), city)[0]["reason"] == "too_often"


def state(signed: dict, word: str = "verified", **other: Any) -> bytes:
    return json.dumps({"v": 1, "order_id": signed["order_id"], "node": signed["node"], "state": word, **other}).encode()


def test_the_registry_learns_what_is_verified_and_nothing_else(authority, city, clock):
    """Only the newest one signed for that node; again from the log after a restart, and once."""
    _, first = configure(authority, city, health_s=120)
    _, second = configure(authority, city, health_s=130)
    for said in (state(first), state(second, "applied"), state(second, node="0000a002"), b"", b"[]", b"7", b'{"node": 5}'):
        assert authority.note_state(said) is None
    assert "health_s" not in enrolled(city)
    restarted = open_authority(city.authority, load_settings(city.authority), clock)
    assert restarted.note_state(state(second)) == NODE
    assert enrolled(city)["health_s"] == 130
    city.registry.reconfigure(0xA001, registered_settings({**enrolled(city), "health_s": 10}))  # a visit, later
    assert restarted.note_state(state(second)) is None
    assert enrolled(city)["health_s"] == 10


def test_a_false_word_of_a_gateway_undoes_no_visit(authority, city):
    """What only a visit may change was changed by one: a "verified" of before it changes nothing."""
    _, signed = configure(authority, city, health_s=120)
    visited = deepcopy(enrolled(city))
    visited["fixtures"][0]["control_100_mv"] = 9000
    city.registry.reconfigure(0xA001, registered_settings(visited))
    assert authority.note_state(state(signed)) is None
    assert enrolled(city) == visited
    assert configure(authority, city, health_s=120)[1] is not None


def test_the_desk_tells_what_would_change_and_what_it_does_not_know(city, tmp_path):
    """Made from the site file as commissioning makes it; the node is found by its asset, in this network's registry alone."""
    site = tmp_path / "site.toml"
    places = "\n".join(f"{key} = {json.dumps(value)}" for key, value in PLACE.items())
    site.write_text(f"""name = "street"
[place]
{places}
[[node]]
asset = "lamp 1"
health_s = 120
link = {{ kind = "serial", port = "/dev/ttyUSB0" }}
fixtures = [{{ kind = "lamp", report_s = 30, wiring = {{ pwm_pin = 25, relay_pin = 26, scl_pin = 22, sda_pin = 21 }} }}]
""")
    with pytest.raises(RefusedError, match="knows 0 nodes of 'lamp 1'"):
        wanted_configuration(site, "lamp 1", city.registry.path, NETWORK)
    document = city.registry.load()
    document["nodes"][NODE]["asset"] = "lamp 1"
    document["nodes"][NODE]["configuration"] = LAMP
    city.registry.path.write_text(json.dumps(document))
    wanted = wanted_configuration(site, "lamp 1", city.registry.path, NETWORK)
    assert (wanted.node, wanted.changes) == (NODE, ["health_s: 900 -> 120", "lamp.report_s: 0 -> 30"])
    assert wanted.configuration == node_config({**PLACE, "health_s": 120, "fixtures": [{"kind": "lamp", "report_s": 30}]}, NETWORK)[0]
    with pytest.raises(RefusedError, match="belongs to network 0000cafe, not 0000beef"):
        wanted_configuration(site, None, city.registry.path, 0xBEEF)
    del document["nodes"][NODE]["configuration"]
    city.registry.path.write_text(json.dumps(document))
    with pytest.raises(RefusedError, match="enrolled before"):
        wanted_configuration(site, "lamp 1", city.registry.path, NETWORK)


def test_texts_have_their_words():
    """Daylight saving's law may change for a whole city at once."""
    rule = RULES[""]["dst"]
    assert isinstance(rule, OneOf)
    assert agree_configuration({**LAMP, "dst": "none"}, LAMP, 100)["dst"] == "none"
    for value in ("mars", 1, None, ["eu"]):
        assert refusal({**LAMP, "dst": value}, LAMP)[0] == "out_of_bounds"
