"""Enrolment: files, modes, uniqueness, and that a bad generator or a clash leaves nothing behind."""

import stat
from pathlib import Path

import pytest
from lamppost_protocol import cbor
from lamppost_protocol.es256_host import HostVerifier, public_key
from lamppost_protocol.p256 import Signer
from lamppost_tools.durable import read_json
from lamppost_tools.enrol import KeySource, enrol_node
from lamppost_tools.errors import RefusedError, ToolError, UsageError
from lamppost_tools.node_config import config_of_fixtures, load_node_config, node_config
from lamppost_tools.registry import Registry

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
    ],
)
def test_bad_node_toml_is_told(raw):
    """What a node could not read is refused with words, before any key is made."""
    with pytest.raises(UsageError):
        node_config(raw, NETWORK)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a = ", b""])
def test_unreadable_node_toml_is_told(tmp_path, text):
    """Broken files are named."""
    path = tmp_path / "node.toml"
    path.write_bytes(text)
    with pytest.raises(ToolError, match=r"node\.toml"):
        load_node_config(path, NETWORK)
