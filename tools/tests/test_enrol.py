"""Enrolment: files, modes, uniqueness, and that a bad generator or a clash leaves nothing behind."""

import re
import stat
from pathlib import Path

import pytest
from lamppost_node import config as firmware_config
from lamppost_node.settings import unwrap
from lamppost_protocol import cbor
from lamppost_protocol.es256_host import HostVerifier, public_key
from lamppost_protocol.p256 import Signer
from lamppost_tools.durable import read_json
from lamppost_tools.errors import RefusedError, ToolError, UsageError
from lamppost_tools.node.cli import set_listening
from lamppost_tools.node.config import config_of_fixtures, load_node_config, node_config
from lamppost_tools.node.enrol import KeySource, enrol_node, write_bridge_flash
from lamppost_tools.node.registry import Registry, all_keys, valid_keys

NETWORK = 0xCAFE


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_flash_folder_and_modes(city):
    """A node's folder holds identity, configuration, tables and counters; secrets are for their owner only."""
    flash = city.nodes / "0000a001" / "lamppost"
    assert sorted(str(p.relative_to(flash)) for p in flash.rglob("*") if p.is_file()) == [
        "config.cbor", "counters/tx.0", "counters/tx.1", "identity.cbor", "tables/command.tbl", "tables/generator.tbl",
    ]  # fmt: skip
    assert mode(flash / "identity.cbor") == 0o600
    assert mode(flash.parent) == 0o700
    assert mode(city.registry.hop_keys_path) == 0o600
    assert mode(city.authority) == 0o700
    assert mode(city.authority / "key.pem") == 0o600


def test_identity_belongs_to_the_registry_entry(city):
    """The key in the node's flash signs what the registry's public key verifies, with the tables that were written."""
    flash = city.nodes / "0000a001" / "lamppost"
    identity = cbor.decode((flash / "identity.cbor").read_bytes())
    entry = city.registry.nodes()["0000a001"]
    signer = Signer(identity["private_key"], (flash / "tables" / "generator.tbl").read_bytes())
    HostVerifier(bytes.fromhex(entry["public_key"])).verify(b"hello", signer.sign(b"hello"))
    authority = read_json(city.public, "")
    assert identity["command_key"].hex() == authority["public_key"]
    assert identity["issuer"].hex() == authority["issuer"]
    assert (identity["network"], identity["node"], identity["epoch"]) == (NETWORK, 0xA001, 1)
    assert read_json(city.registry.hop_keys_path, "")["0000a001"] == identity["hop_key"].hex()


def test_registry_counts_versions_and_holds_no_secret(city):
    """Each change raises the version by one; no private or hop key is in the public file."""
    assert city.registry.load()["version"] == 2
    text = city.registry.path.read_text()
    for node in ("0000a001", "0000a002"):
        identity = cbor.decode((city.nodes / node / "lamppost" / "identity.cbor").read_bytes())
        assert identity["private_key"].hex() not in text
        assert identity["hop_key"].hex() not in text


def test_ids_and_keys_are_unique(city):
    """Two nodes never share an id, a key or a hop key."""
    with pytest.raises(RefusedError, match="exists already"):
        city.enrol(0xA001, ["lamp"])
    (city.nodes / "0000a001").rename(city.nodes / "shipped")
    with pytest.raises(RefusedError, match="in the registry already"):
        city.enrol(0xA001, ["lamp"])
    assert not list(city.nodes.glob(".*"))
    hop_keys = read_json(city.registry.hop_keys_path, "")
    assert len(set(hop_keys.values())) == 2


def test_generated_ids_are_free(city):
    """Without --id a node gets one that nobody has."""
    made = enrol_node(city.registry, city.nodes, city.public, config_of_fixtures(["air"], NETWORK), None, "post 9", KeySource())
    assert made["node"] not in ("0000a001", "0000a002")
    assert city.registry.nodes()[str(made["node"])]["asset"] == "post 9"


def test_a_node_on_lora_starts_with_its_airtime_unspent(city):
    """The account of each sub-band it may use is 0, in the node's own form; one on a cable has none."""
    lora = {"region": "EU868", "channels_hz": [868100000, 868300000, 867100000], "downlink_hz": 869525000}
    config, _ = node_config({"lora": lora, "fixtures": [{"kind": "bin"}]}, NETWORK)
    made = enrol_node(city.registry, city.nodes, city.public, config, 9, None, KeySource())
    settings = Path(made["flash_folder"]) / "settings"
    assert {path.name: unwrap(path.read_bytes()) for path in settings.iterdir()} == {"airtime.L": 0, "airtime.M": 0}
    assert not list((city.nodes / "0000a001" / "lamppost" / "settings").iterdir())
    values = firmware_config.check(cbor.decode((settings.parent / "config.cbor").read_bytes()), lambda kind: ())
    assert values["lora"]["channels_hz"] == lora["channels_hz"]


@pytest.mark.parametrize("listens", ["always", "windows", None])
def test_the_registry_knows_when_a_node_on_lora_listens(city, listens):
    """Entry and configuration say the same; a node on a cable has neither, and cannot be given it."""
    lora = {"region": "EU868", "channels_hz": [868100000], "downlink_hz": 869525000}
    config, _ = node_config({"lora": lora, "fixtures": [{"kind": "bin"}]}, NETWORK)
    if listens is not None:
        set_listening(config, listens)
    made = enrol_node(city.registry, city.nodes, city.public, config, 9, None, KeySource())
    assert city.registry.nodes()[str(made["node"])]["listens"] == (listens or "windows")
    flash = cbor.decode((Path(made["flash_folder"]) / "config.cbor").read_bytes())
    assert flash["lora"].get("listens_always", 0) == (1 if listens == "always" else 0)
    assert "listens" not in city.registry.nodes()["0000a001"]
    for wrong, words in (("never", "always or windows"), ("always", "no [lora]")):
        with pytest.raises(UsageError, match=re.escape(words)):
            set_listening({"fixtures": []}, wrong)


def test_a_bridge_has_a_configuration_and_no_key(tmp_path):
    """The firmware takes it as a radio; a second time is refused."""
    flash = write_bridge_flash(tmp_path, 0)
    assert [path.name for path in flash.rglob("*")] == ["config.cbor"]
    values = firmware_config.check(cbor.decode((flash / "config.cbor").read_bytes()), lambda kind: ())
    assert (values["bridge"], values["tcxo_mv"], values["fixtures"]) == (1, 0, [])
    with pytest.raises(RefusedError):
        write_bridge_flash(tmp_path, 0)


def test_a_bridge_is_told_its_chip(tmp_path):
    """The firmware loads that driver; a chip without one is refused, and nothing is written."""
    with pytest.raises(UsageError, match="no such chip"):
        write_bridge_flash(tmp_path, 0, "sx1272")
    flash = write_bridge_flash(tmp_path, 0, "sx1276")
    assert firmware_config.check(cbor.decode((flash / "config.cbor").read_bytes()), lambda kind: ())["radio"] == "sx1276"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels_hz": [866_625_000]}, "lora.channels_hz: 866625000 Hz, where an e22 cannot be tuned"),
        ({"downlink_hz": 866_125_000}, "lora.downlink_hz: an uplink channel"),
        ({"channels_hz": [868_125_000]}, "lies in no allowed band"),
        ({"region": "IN865"}, "500000 Hz of bandwidth"),
        ({"region": "AS923-JP", "channels_hz": [921_125_000], "downlink_hz": 922_125_000}, "500000 Hz of bandwidth"),
        ({"spreading_factor": 12, "fastest_spreading_factor": 11}, "lora.spreading_factor: 12, and an e22 has 11"),
        ({"least_power_dbm": 2}, "lora.least_power_dbm: 2, and an e22 has 10 to 22"),
    ],
)
def test_what_an_e22_does_not_have_is_refused(change, words):
    """With the key, or the law's paragraph; and beside a sensor on the UART that it needs, with the pins."""
    lora = {
        "region": "EU868", "channels_hz": [866_125_000], "downlink_hz": 867_125_000, "bandwidth_hz": 500_000,
        "downlink_bandwidth_hz": 500_000, "spreading_factor": 11, "fastest_spreading_factor": 11, "downlink_spreading_factor": 11,
        "power_dbm": 13, "least_power_dbm": 10,
    }  # fmt: skip
    lamp = {"radio": "e22", "lora": lora, "fixtures": [{"kind": "lamp"}]}
    assert firmware_config.check(node_config(lamp, NETWORK)[0], lambda kind: ())["radio"] == "e22"
    with pytest.raises(UsageError, match=re.escape(words)):
        node_config({**lamp, "lora": {**lora, **change}}, NETWORK)
    with pytest.raises(UsageError, match=r"bin's sensor and an e22 need one UART.*GPIO 33 and GPIO 32"):
        node_config({**lamp, "fixtures": [{"kind": "bin"}]}, NETWORK)


@pytest.mark.parametrize(
    ("radio", "change", "words"),
    [
        ("sx1276", {"fastest_spreading_factor": 6}, "lora.fastest_spreading_factor: 6, and an sx1276 has 7 to 12"),
        ("sx1276", {"downlink_spreading_factor": 5}, "lora.downlink_spreading_factor"),
        ("sx1276", {"least_power_dbm": -3}, "lora.least_power_dbm: -3, and an sx1276 has 2 to 17"),
        ("sx1272", {}, "radio: one of sx1262, sx1276, e22"),
        ("e22", {}, "lora.spreading_factor: 9, and an e22 has 11"),
        ("sx1262", {"fastest_spreading_factor": 6, "least_power_dbm": -3}, None),
        ("sx1276", {}, None),
    ],
)
def test_what_the_chip_does_not_have_is_refused(radio, change, words):
    """Here and by the firmware alike; what it has is taken."""
    lora = {"region": "EU868", "channels_hz": [868100000], "downlink_hz": 869525000, **change}
    raw = {"radio": radio, "lora": lora, "fixtures": [{"kind": "bin"}]}
    if words is None:
        assert firmware_config.check(node_config(raw, NETWORK)[0], lambda kind: ())["radio"] == radio
        return
    with pytest.raises(UsageError, match=re.escape(words)):
        node_config(raw, NETWORK)
    with pytest.raises(firmware_config.ConfigError, match=r"radio|lora"):
        firmware_config.check(raw, lambda kind: ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"region": "EU686"}, "no rules for EU686"),
        ({"power_dbm": 20}, "band M"),
        ({"downlink_hz": None}, "downlink_hz"),
        ({"channels_hz": [1]}, "no allowed band"),
        ({"spreding_factor": 9}, "spreding_factor: unknown key"),
        ({"spreading_factor": 8, "fastest_spreading_factor": 9}, "must not be above"),
        ({"resend_s": 0}, "from 1 to 3,600"),
        ({"channels_hz": []}, "channels_hz"),
    ],
)
def test_an_unlawful_or_wrong_radio_is_not_enrolled(change, words):
    """The key, or the paragraph of the law, stands in the message."""
    lora = {"region": "EU868", "channels_hz": [868100000], "downlink_hz": 869525000, **change}
    lora = {name: value for name, value in lora.items() if value is not None}
    with pytest.raises(UsageError, match=re.escape(words)):
        node_config({"lora": lora, "fixtures": [{"kind": "bin"}]}, NETWORK)


@pytest.mark.parametrize("draw", [lambda count: bytes(count), lambda count: b"\xaa\x55" * (count // 2)])
def test_degenerate_generator_is_refused(city, draw):
    """A generator that stands still makes no keys, and nothing is left on disk."""
    before = city.registry.load()
    with pytest.raises(RefusedError, match="generator"):
        enrol_node(city.registry, city.nodes, city.public, config_of_fixtures(["lamp"], NETWORK), 5, None, KeySource(draw=draw))
    assert city.registry.load() == before
    assert not (city.nodes / "00000005").exists()


def test_repeating_generator_is_refused(city):
    """The same private key twice is refused within a run and, through the registry, across runs."""
    key = bytes(range(1, 33))
    keys = KeySource(private=lambda: key)
    config = config_of_fixtures(["lamp"], NETWORK)
    enrol_node(city.registry, city.nodes, city.public, config, 5, None, keys)
    with pytest.raises(RefusedError, match="generator"):
        enrol_node(city.registry, city.nodes, city.public, config, 6, None, keys)
    with pytest.raises(RefusedError, match="key is in the registry already"):
        enrol_node(city.registry, city.nodes, city.public, config, 6, None, KeySource(private=lambda: key))
    assert public_key(key).hex() not in str(city.registry.nodes().get("00000006"))
    assert not (city.nodes / "00000006").exists()


def test_foreign_network_is_refused(city, tmp_path):
    """A registry of another network takes no node of this one."""
    other = Registry(tmp_path / "other" / "registry.json")
    other.path.parent.mkdir()
    other.add(0xBEEF, 1, {"epoch": 1, "public_key": "00" * 64, "fixtures": []}, bytes(range(32)))
    with pytest.raises(RefusedError, match="belongs to network 0000beef"):
        enrol_node(other, city.nodes, city.public, config_of_fixtures(["lamp"], NETWORK), 2, None, KeySource())


def test_revoke_keeps_history_and_drops_the_hop_key(city):
    """A revoked node stays in the registry, marked; its acknowledgement key is gone; others are untouched."""
    city.registry.revoke(0xA001)
    assert city.registry.nodes()["0000a001"]["revoked"] is True
    assert list(read_json(city.registry.hop_keys_path, "")) == ["0000a002"]
    assert city.registry.load()["version"] == 3
    with pytest.raises(RefusedError, match="not in the registry"):
        city.registry.revoke(0xDEAD)


def test_what_became_of_a_node_stands_in_the_registry(city):
    """Reason and date of its end stay the first ones; who took its place, and whose place it has: one write for both."""
    entry = {**city.registry.nodes()["0000a002"], "public_key": "ab" * 64, "asset": "post 9"}
    version = city.registry.load()["version"]
    with pytest.raises(RefusedError, match="not the one to be replaced"):
        city.registry.add(NETWORK, 0xA003, dict(entry), bytes(range(32)), "0000a001", 7)
    assert (city.registry.load()["version"], "0000a003" in city.registry.nodes()) == (version, False)
    city.registry.add(NETWORK, 0xA003, {**entry, "asset": city.registry.nodes()["0000a001"]["asset"]}, bytes(range(32)), "0000a001", 7)
    assert city.registry.load()["version"] == version + 1
    city.registry.revoke(0xA001, "lost", 9)
    nodes = city.registry.nodes()
    old, new = nodes["0000a001"], nodes["0000a003"]
    assert (old["revoked"], old["reason"], old["revoked_at"], old["replaced_by"]) == (True, "replaced", 7, "0000a003")
    assert (new["revoked"], new["replaces"]) == (False, "0000a001")
    assert sorted(read_json(city.registry.hop_keys_path, "")) == ["0000a002", "0000a003"]


def test_no_epoch_comes_twice(city):
    """Two keys while a node is re-keyed, one again afterwards; an epoch or a key that was there is refused, and so is a revoked node."""
    registry, key, hop_key = city.registry, bytes.fromhex("cd" * 64), bytes(range(32))
    first = registry.nodes()["0000a001"]["public_key"]
    with pytest.raises(RefusedError, match="epoch 1 already"):
        registry.begin_rekey(0xA001, 1, key, hop_key, "00")
    registry.begin_rekey(0xA001, 2, key, hop_key, "00")
    with pytest.raises(RefusedError, match="key is in the registry"):
        registry.begin_rekey(0xA001, 3, key, bytes(32), "00")
    assert valid_keys(registry.nodes()["0000a001"]) == {1: first, 2: key.hex()}
    assert {"0000a001", "0000a001.1", "0000a001.2"} <= set(read_json(registry.hop_keys_path, ""))
    registry.begin_rekey(0xA001, 3, bytes.fromhex("ef" * 64), bytes(32), "00")  # nobody ever switched to 2
    assert set(valid_keys(registry.nodes()["0000a001"])) == {1, 3}
    assert registry.promote(0xA001)["epoch"] == 3
    assert set(valid_keys(registry.nodes()["0000a001"])) == {1, 3}
    with pytest.raises(RefusedError, match="being re-keyed"):
        registry.begin_rekey(0xA001, 4, key, hop_key, "00")
    entry = registry.retire(0xA001, 11)
    assert (set(valid_keys(entry)), set(all_keys(entry)), entry["past"][0]["until"]) == ({3}, {1, 3}, 11)
    assert {name: value for name, value in read_json(registry.hop_keys_path, "").items() if "a001" in name} == {"0000a001": "00" * 32}
    registry.revoke(0xA001)
    with pytest.raises(RefusedError, match="revoked"):
        registry.begin_rekey(0xA001, 4, key, hop_key, "00")


def test_wide_open_hop_keys_are_refused(city):
    """Hop keys that others could read stop the enrolment."""
    city.registry.hop_keys_path.chmod(0o644)
    with pytest.raises(RefusedError, match="can be reached"):
        city.enrol(0xA003, ["lamp"])
    assert "0000a003" not in city.registry.nodes()


def test_node_toml(tmp_path):
    """A node's TOML becomes the map the firmware reads: microdegrees, integers, instances."""
    path = tmp_path / "node.toml"
    path.write_text(
        'asset = "post 14"\nlatitude_deg = 52.52\nlongitude_deg = -13.405\ndst = "eu"\nreport_s = 30\n'
        '[[fixtures]]\nkind = "lamp"\nfloor_percent = 20\n[[fixtures]]\nkind = "lamp"\ninstance = 1\nmeter = false\n'
    )
    config, asset = load_node_config(path, NETWORK)
    assert asset == "post 14"
    assert config == {
        "network": NETWORK, "latitude_udeg": 52520000, "longitude_udeg": -13405000, "dst": "eu", "report_s": 30,
        "fixtures": [{"kind": "lamp", "instance": 0, "floor_percent": 20}, {"kind": "lamp", "instance": 1, "meter": 0}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"fixtures": [{"kind": "fountain"}]},
        {"fixtures": [{"kind": "lamp"}, {"kind": "lamp"}]},
        {"fixtures": [{"kind": "lamp", "instance": 16}]},
        {"fixtures": [{"kind": "lamp", "floor_percent": 0.5}]},
        {"fixtures": [{"kind": "lamp"}], "latitude_deg": 91},
        {"fixtures": [{"kind": "lamp"}], "latitude_deg": "north"},
        {"fixtures": [{"kind": "lamp"}], "dst": "mars"},
        {"fixtures": [{"kind": "lamp"}], "report_s": True},
        {"fixtures": [{"kind": "lamp"}], "colour": 1},
        {"fixtures": [{"kind": "lamp", "name": "Straße"}]},
        {"fixtures": "lamp"},
        {"fixtures": [{"kind": "lamp", "sleep_s": 600}]},
        {"fixtures": [{"kind": "bin", "sleep_s": 600}, {"kind": "lamp"}]},
    ],
)
def test_bad_node_toml_is_told(raw):
    """What a node could not read is refused with words, before any key is made."""
    with pytest.raises(UsageError):
        node_config(raw, NETWORK)


def test_who_sleeps_has_a_radio_and_windows(tmp_path):
    """A sleeping bin on a cable, or one that should always listen, would never be told anything: refused before any key is made."""
    path = tmp_path / "node.toml"
    path.write_text('[[fixtures]]\nkind = "bin"\nsleep_s = 600\n')
    with pytest.raises(UsageError, match=r"node\.toml: sleep_s without \[lora\]"):
        load_node_config(path, NETWORK)
    path.write_text(path.read_text() + '[lora]\nregion = "EU868"\nchannels_hz = [868100000]\ndownlink_hz = 869525000\n')
    config, _ = load_node_config(path, NETWORK)
    with pytest.raises(UsageError, match="this node sleeps"):
        set_listening(config, "always")
    set_listening(config, "windows")


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a = ", b""])
def test_unreadable_node_toml_is_told(tmp_path, text):
    """Broken files are named."""
    path = tmp_path / "node.toml"
    path.write_bytes(text)
    with pytest.raises(ToolError, match=r"node\.toml"):
        load_node_config(path, NETWORK)
