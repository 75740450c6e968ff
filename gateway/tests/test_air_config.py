"""The air in the configuration: held against the law with its paragraph, and against what the modems hear, each problem with its line."""

import subprocess
import sys
from pathlib import Path

import pytest
from lamppost_gateway import config
from lamppost_gateway.airtime_accounts import FILE
from lamppost_gateway.errors import ConfigError
from lamppost_protocol.es256_host import public_key
from lamppost_protocol.radio_limits import E22_WRAP

AUTHORITY_KEY = public_key(bytes(31) + b"\x01").hex()
GATEWAY = f"""[gateway]
id = "g1"
network = "0a0b0c0d"
state_dir = "state"
authority_public_key = "{AUTHORITY_KEY}"
"""
AIR = {
    "region": '"EU868"', "uplink_channels_hz": "[868100000]", "uplink_spreading_factors": "[9]", "downlink_hz": "869525000",
    "downlink_spreading_factor": "9", "power_dbm": "27",
}  # fmt: skip
BRIDGE = {"name": '"roof"', "type": '"bridge"', "path": '"/dev/ttyUSB0"', "channel_hz": "868100000", "spreading_factor": "9"}
FORWARDER = {"name": '"mast"', "type": '"forwarder"', "port": "1700"}


def text_of(air: dict[str, str], *modems: dict[str, str]) -> str:
    lines = [GATEWAY, "[air]", *(f"{key} = {value}" for key, value in {**AIR, **air}.items())]
    for modem in modems:
        lines += ["[[air.modem]]", *(f"{key} = {value}" for key, value in modem.items())]
    return "\n".join(lines) + "\n"


def problems_of(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "gateway.toml", folder)
    return [str(problem) for problem in caught.value.problems]


def test_a_lawful_air_is_taken(tmp_path: Path) -> None:
    """27 dBm on 869.525 MHz; the bridge's port stands relative to the state folder, and its settings are what it is told."""
    air = config.parse(text_of({}, {**BRIDGE, "path": '"ports/roof"'}, FORWARDER), "gateway.toml", tmp_path).air
    assert air is not None
    assert (air.band.name, air.most_packet_bytes) == ("P", 255)
    assert air.modem[0].path == tmp_path / "state" / "ports/roof"
    assert tuple(air.listen_of(air.modem[0])) == (868_100_000, 9, 125_000)


@pytest.mark.parametrize(
    ("air", "key", "words"),
    [
        ({"power_dbm": "30"}, "power_dbm", "band P); set power_dbm to 29 at most"),
        ({"downlink_hz": "868100000"}, "power_dbm", "ETSI EN 300 220-2 V3.2.1, 4.3.3 and annex B, band M"),
        ({"downlink_hz": "869300000"}, "downlink_hz", "lies in no allowed band"),
        ({"uplink_channels_hz": "[868650000]"}, "uplink_channels_hz", "lies in no allowed band"),
        (
            {
                "region": '"AS923"', "downlink_hz": "923200000", "downlink_spreading_factor": "12", "uplink_channels_hz": "[923400000]",
                "power_dbm": "14",
            },
            "downlink_spreading_factor", "RP002",
        ),
        (
            {"region": '"AS923-JP"', "downlink_hz": "921000000", "uplink_channels_hz": "[921200000]", "power_dbm": "13"},
            "listen_ms", "ARIB STD-T108",
        ),
        ({"region": '"US915"', "downlink_hz": "915000000", "uplink_channels_hz": "[914000000]"}, "downlink_bandwidth_hz", "15.247"),
    ],
)  # fmt: skip
def test_an_unlawful_air_is_told_with_its_paragraph_and_line(tmp_path: Path, air: dict[str, str], key: str, words: str) -> None:
    text = text_of(air, FORWARDER)
    problem = next(problem for problem in problems_of(text, tmp_path) if f"air.{key}:" in problem)
    assert words in problem
    if key in {**AIR, **air}:
        number = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"{key} ="))
        assert problem.startswith(f"line {number}: ")


def test_where_the_law_wants_it_bridges_listen_before_they_send(tmp_path: Path) -> None:
    """Japan, which is refused without: 5 ms, and not by a packet forwarder, which cannot be told to."""
    japan = {
        "region": '"AS923-JP"', "downlink_hz": "921000000", "uplink_channels_hz": "[921200000]", "power_dbm": "13", "listen_ms": "5",
    }  # fmt: skip
    bridge = {**BRIDGE, "channel_hz": "921200000"}
    air = config.parse(text_of(japan, bridge), "gateway.toml", tmp_path).air
    assert air is not None
    assert (air.band.name, air.listen_ms, air.busy_dbm) == ("JP", 5, -80)
    assert any("cannot be told to listen" in problem for problem in problems_of(text_of(japan, bridge, FORWARDER), tmp_path))


@pytest.mark.parametrize(
    ("air", "modems", "words"),
    [
        ({"uplink_channels_hz": "[868100000, 868300000]"}, (BRIDGE,), "no modem hears 868300000 Hz at SF9"),
        ({"uplink_spreading_factors": "[7, 9]"}, (BRIDGE,), "no modem hears 868100000 Hz at SF7"),
        ({}, (BRIDGE, {**BRIDGE, "name": '"other"'}), "two modems share the path /dev/ttyUSB0"),
        ({}, (FORWARDER, {**FORWARDER, "name": '"other"'}), "two modems share the port 1700"),
        ({}, (FORWARDER, {**FORWARDER, "port": "1701"}), "two modems share the name mast"),
        ({}, ({**FORWARDER, "host": '"0.0.0.0"'},), "name the concentrator's address"),
        ({}, ({**FORWARDER, "addresses": '["roof.local"]'},), "does not appear to be an IPv4 or IPv6 address"),
        ({}, ({**BRIDGE, "spreading_factor": "13"},), "less than or equal to 12"),
        ({}, ({"name": '"roof"', "type": '"bridge"'},), "a bridge needs path, channel_hz and spreading_factor"),
        ({}, ({**FORWARDER, "channel_hz": "868100000"},), "are a bridge's"),
        ({}, (), "Field required"),
        ({"name": '"mast"'}, (FORWARDER,), ""),
    ],
)
def test_modems_that_do_not_fit_are_told(tmp_path: Path, air: dict[str, str], modems: tuple[dict[str, str], ...], words: str) -> None:
    text = text_of(air, *modems)
    if not words:
        assert config.parse(text, "gateway.toml", tmp_path).air is not None
        text += '[[link]]\nname = "mast"\npath = "/dev/ttyUSB1"\n'
        words = "a link has this name too: mast"
    assert any(words in problem for problem in problems_of(text, tmp_path))


def test_a_new_antenna_is_begun_by_hand(tmp_path: Path) -> None:
    """`airtime` refuses without the word, then writes an account at 0 for each modem; without [air] there is none to begin."""
    path = tmp_path / "gateway.toml"
    for text, words, status in ((GATEWAY, ["--unspent"], 2), (text_of({}, BRIDGE, FORWARDER), [], 1), ("", ["--unspent"], 0)):
        if text:
            path.write_text(text)
        command = [sys.executable, "-m", "lamppost_gateway", "airtime", *words, "-c", str(path)]
        assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == status
    assert (tmp_path / "state" / FILE).read_text() == '{"roof/P": 0, "mast/P": 0}'


E22 = {
    "radio": '"e22"', "uplink_channels_hz": "[866125000]", "uplink_spreading_factors": "[11]", "uplink_bandwidth_hz": "500000",
    "downlink_hz": "867125000", "downlink_spreading_factor": "11", "downlink_bandwidth_hz": "500000", "power_dbm": "13",
}  # fmt: skip
E22_BRIDGE = {**BRIDGE, "channel_hz": "866125000", "spreading_factor": "11"}


def test_a_lawful_air_of_e22s_is_taken(tmp_path: Path) -> None:
    """Its packets are shorter by their length, and last longer."""
    air = config.parse(text_of(E22, E22_BRIDGE), "gateway.toml", tmp_path).air
    assert air is not None
    assert (air.band.name, air.most_packet_bytes, air.wrap) == ("L", 239, E22_WRAP)


@pytest.mark.parametrize(
    ("air", "modem", "words"),
    [
        ({"downlink_hz": "866125000"}, E22_BRIDGE, "air.downlink_hz: an uplink channel"),
        ({"downlink_hz": "867500000"}, E22_BRIDGE, "air.downlink_hz: 867500000 Hz, where an e22 cannot be tuned"),
        ({"downlink_spreading_factor": "9"}, E22_BRIDGE, "air.downlink_spreading_factor: 9, and an e22 has 11"),
        ({"uplink_spreading_factors": "[7, 11]"}, E22_BRIDGE, "air.uplink_spreading_factors: 7, and an e22 has 11"),
        ({"power_dbm": "9"}, E22_BRIDGE, "air.power_dbm: 9, and an e22 has 10 to 22"),
        ({}, FORWARDER, "air.modem.0.type: a concentrator hears no e22"),
    ],
)
def test_what_an_e22_has_not_is_told(tmp_path: Path, air: dict[str, str], modem: dict[str, str], words: str) -> None:
    """With the gateway's own key."""
    problems = problems_of(text_of({**E22, **air}, modem), tmp_path)
    assert any(words in problem for problem in problems), problems


SX1276_BRIDGE = {**BRIDGE, "radio": '"sx1276"'}


@pytest.mark.parametrize(
    ("air", "modem", "words"),
    [
        ({}, SX1276_BRIDGE, "air.power_dbm: 27, and an sx1276 has 2 to 17: the bridge roof; set power_dbm to 2 to 17"),
        (
            {"power_dbm": "14", "downlink_spreading_factor": "6"},
            SX1276_BRIDGE,
            "air.downlink_spreading_factor: 6, and an sx1276 has 7 to 12: the bridge roof",
        ),
        (
            {"power_dbm": "14", "uplink_spreading_factors": "[6]"},
            {**SX1276_BRIDGE, "spreading_factor": "6"},
            "air.modem.0.spreading_factor: 6, and an sx1276 has 7 to 12",
        ),
        ({}, {**FORWARDER, "radio": '"sx1262"'}, "path, channel_hz, spreading_factor and radio are a bridge's"),
        (E22, {**E22_BRIDGE, "radio": '"sx1262"'}, "air.modem.0.radio: every modem has an e22"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:40],
)
def test_what_a_bridges_chip_has_not_is_told(tmp_path: Path, air: dict[str, str], modem: dict[str, str], words: str) -> None:
    """At the desk, and not by the bridge, answer by answer."""
    assert [problem for problem in problems_of(text_of(air, modem), tmp_path) if words in problem]


def test_a_bridge_with_an_sx1276_is_taken(tmp_path: Path) -> None:
    """Where it can send what it is asked for."""
    air = config.parse(text_of({"power_dbm": "14"}, SX1276_BRIDGE), "gateway.toml", tmp_path).air
    assert air is not None
    assert air.modem[0].radio == "sx1276"
