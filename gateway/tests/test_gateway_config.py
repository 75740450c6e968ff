"""The configuration file: every problem at once with its line, secrets only by file, nothing secret in a message."""

import os
from pathlib import Path

import pytest
from lamppost_gateway import config, config_example
from lamppost_gateway.config_air import AirConfig, ModemConfig
from lamppost_gateway.errors import ConfigError
from lamppost_protocol.es256_host import public_key
from street.gateway_rig import City, SenderNode

AUTHORITY_KEY = public_key(bytes(31) + b"\x01").hex()
GOOD = f"""[gateway]
id = "g1"
network = "0a0b0c0d"
state_dir = "state"
authority_public_key = "{AUTHORITY_KEY}"
[[link]]
name = "line0"
path = "/dev/ttyUSB0"
[[link]]
name = "line1"
path = "ports/b"
baud = 9600
"""


def problems_of(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "gateway.toml", folder)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_and_paths(tmp_path: Path) -> None:
    """Everything but identity has a default; relative paths hang below the state folder."""
    read = config.parse(GOOD, "gateway.toml", tmp_path)
    assert read.gateway.network == 0x0A0B0C0D
    assert read.gateway.state_dir == tmp_path / "state"
    assert read.gateway.registry == tmp_path / "state/registry.json"
    assert read.outbox_path == tmp_path / "state/outbox.db"
    assert read.status.socket == tmp_path / "state/status.sock"
    assert [link.path for link in read.links] == [Path("/dev/ttyUSB0"), tmp_path / "state/ports/b"]
    assert (read.links[0].baud, read.links[1].baud) == (115_200, 9_600)
    assert (read.outbox.commit_window_ms, read.rejects.keep_days, read.outbox.drain_per_s) == (20, 7, 1_000)
    assert read.broker.password() is None


def test_all_problems_come_at_once_each_with_its_line(tmp_path: Path) -> None:
    """One run tells everything that has to be mended."""
    text = """[gateway]
id = "Not Good"
network = "xyz"
authority_public_key = "00"

[[link]]
name = "line0"
path = "/dev/a"
baud = 7
[[link]]
nmae = "line1"
path = "/dev/b"

[outbox]
commit_window_ms = "soon"
[brocker]
host = "x"
"""
    found = problems_of(text, tmp_path)
    for line, key in (
        (2, "gateway.id"),
        (3, "gateway.network"),
        (4, "gateway.authority_public_key"),
        (9, "link.0.baud"),
        (11, "link.1.nmae"),
        (10, "link.1.name"),
        (15, "outbox.commit_window_ms"),
        (16, "brocker"),
    ):
        assert any(text.startswith(f"line {line}: {key}:") for text in found), (line, key, found)
    assert len(found) == 8


def test_toml_mistakes_name_the_line(tmp_path: Path) -> None:
    """A file that is not TOML at all."""
    [found] = problems_of("[gateway]\nid = \n", tmp_path)
    assert found.startswith("line 2: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('name = "line1"', 'name = "line0"'), "share the name"),
        (('path = "ports/b"', 'path = "/dev/ttyUSB0"'), "share the path"),
        (("[gateway]", '[broker]\nca = "ca.pem"\n[gateway]'), "without tls"),
        (("[gateway]", '[broker]\ntls = true\ncert = "c.pem"\n[gateway]'), "belong together"),
        (("[gateway]", '[broker]\npassword_file = "missing"\n[gateway]'), "No such file"),
    ],
)
def test_rules_between_keys(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    """What no single key can show."""
    [found] = problems_of(GOOD.replace(*change), tmp_path)
    assert expected in found


@pytest.mark.parametrize(("mode", "is_good"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o700, False)])
def test_secret_files_must_be_closed_to_others(tmp_path: Path, mode: int, is_good: bool) -> None:
    """0600 and 0400 pass; anything wider is refused with the command that mends it, and without the content."""
    secret = tmp_path / "state/password"
    secret.parent.mkdir()
    secret.write_text("hunter2\n")
    secret.chmod(mode)
    text = GOOD + '[broker]\nusername = "g1"\npassword_file = "password"\n'
    if is_good:
        read = config.parse(text, "gateway.toml", tmp_path)
        assert read.broker.password() == "hunter2"
        assert "hunter2" not in repr(read)
    else:
        [found] = problems_of(text, tmp_path)
        assert "chmod 600" in found
        assert found.startswith("line 15: ")
        assert "hunter2" not in found


def test_a_password_typed_into_the_file_is_not_repeated(tmp_path: Path) -> None:
    """The key is refused and its value shown nowhere (R37)."""
    with pytest.raises(ConfigError) as caught:
        config.parse(GOOD + '[broker]\npassword = "hunter2"\nport = "hunter2"\n', "gateway.toml", tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.problems)
    assert caught.value.__cause__ is None


def test_the_example_names_every_key_with_its_default(tmp_path: Path) -> None:
    """What `lamppost-gateway example` prints, with the required keys filled in, is the default configuration."""
    required = {"id": '"g1"', "network": '"0a0b0c0d"', "authority_public_key": f'"{AUTHORITY_KEY}"', "name": '"a"', "path": '"/dev/a"'}
    lines = []
    required |= {"region": '"EU868"', "uplink_channels_hz": "[868100000]", "uplink_spreading_factors": "[9]", "downlink_hz": "869525000"}
    required |= {"downlink_spreading_factor": "9", "type": '"forwarder"'}
    for line in config_example.example().splitlines():
        if line.startswith("#["):
            line = line[1:]
            required["name"] = '"roof"'
        elif line.startswith("#") and not line.startswith("# "):
            key, _, value = line[1:].partition(" =")
            if "# unset" in value:
                continue
            line = f"{key} = {value.strip() or required[key]}"
        lines.append(line)
    full = config.parse("\n".join(lines), "example", tmp_path)
    short = config.parse(GOOD, "short", tmp_path)
    for section in ("broker", "outbox", "metrics", "rejects"):
        assert getattr(full, section) == getattr(short, section)
    assert full.air is not None
    assert full.air == AirConfig(
        region="EU868", uplink_channels_hz=[868_100_000], uplink_spreading_factors=[9], downlink_hz=869_525_000,
        downlink_spreading_factor=9, modem=[ModemConfig(name="roof", type="forwarder")],
    )  # fmt: skip
    models = (config.GatewayConfig, config.LinkConfig, AirConfig, ModemConfig)
    assert all(f.description for m in models for f in m.model_fields.values())


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A missing file and one that is not text."""
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(tmp_path / "bad.toml")


def test_state_dir_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root keeps its state under /var/lib, everybody else under XDG_STATE_HOME."""
    monkeypatch.setenv("XDG_STATE_HOME", "/tmp/xdg")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert config.default_state_dir() == Path("/tmp/xdg/lamppost")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.default_state_dir() == Path("/var/lib/lamppost")


def test_the_rigs_configuration_is_good(tmp_path: Path) -> None:
    """Guards the other tests."""
    city = City(tmp_path / "state", [SenderNode(1, 1)])
    assert config.load(city.write_config([tmp_path / "tty"])).gateway.id == "g1"


def test_an_authority_key_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    """A mistyped digit is a sentence of `check`, not a traceback of `run`."""
    (problem,) = problems_of(GOOD.replace(AUTHORITY_KEY, "ab" * 64), tmp_path)
    assert problem.startswith("line 5: gateway.authority_public_key: ")
    assert "authority-public.json" in problem
