"""The `lamppost` command as a person meets it: help everywhere, exit codes, next steps, and never a secret."""

import base64
import json
from pathlib import Path

import pytest
import typer.main
from lamppost_protocol import cbor
from lamppost_tools.cli import app
from lamppost_tools.durable import read_json

COMMANDS = [
    ["authority", "init"], ["authority", "run"], ["authority", "ticket"],
    ["node", "enrol"], ["node", "bridge"], ["node", "list"], ["node", "revoke"],
    ["node", "rekey"], ["node", "decommission"], ["node", "reset"],
    ["order", "dim"], ["order", "cancel"], ["order", "schedule"], ["order", "resend"], ["order", "show"], ["order", "update"],
    ["order", "configure"],
    ["release", "build"], ["release", "sign"], ["release", "check"], ["release", "publish"],
    ["rollout", "start"], ["rollout", "resume"], ["rollout", "status"], ["rollout", "halt"],
    ["frame", "decode"], ["demo"], ["site", "check"], ["site", "new"], ["plan"],
    ["kit", "init-key"], ["kit", "build"], ["kit", "verify"], ["technician", "init"],
    ["technician", "check-record"], ["commission"], ["flash"], ["doctor"], ["monitor"], ["service"],
]  # fmt: skip


def all_commands(command, path=()):
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from all_commands(child, (*path, name))
    else:
        yield path, command


def test_every_command_is_here():
    """The list above is the whole program."""
    assert sorted(path for path, _ in all_commands(typer.main.get_command(app))) == sorted(tuple(c) for c in COMMANDS)


def test_every_command_speaks_to_machines():
    """No command without --json."""
    commands = all_commands(typer.main.get_command(app))
    assert [path for path, command in commands if not any("--json" in one.opts for one in command.params)] == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_everywhere_with_an_example(path):
    """Every command explains itself, each option included, and shows one way to call it."""
    command = dict(all_commands(typer.main.get_command(app)))[tuple(path)]
    assert command.help
    assert f"lamppost {' '.join(path)}" in (command.epilog or "") or "lamppost" in (command.epilog or "")
    assert "Example:" in (command.epilog or "")
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name in ("help", "is_json"), parameter.name


@pytest.mark.parametrize(("words", "shown"), [(("node", "enrol"), "[[fixtures]]"), (("order", "schedule"), "[[week]]")])
def test_help_shows_toml_tables_as_they_are_written(lamppost, words, shown):
    """What looks like markup to the help's printer reaches the reader all the same."""
    assert shown.encode() in lamppost(*words, "--help", NO_COLOR="1").stdout


def test_help_runs_without_colour_when_told(lamppost):
    """NO_COLOR is honoured, and help ends with 0."""
    done = lamppost("order", "dim", "--help", NO_COLOR="1", TERM="xterm-256color", FORCE_COLOR="")
    assert done.returncode == 0
    assert b"\x1b[3" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["frame", "decode", "c0ffee"], 1, b"refused"),
        (["frame", "decode", "abc"], 2, b"odd number"),
        (["frame", "decode", "no-such-file"], 3, b"neither hex nor a file"),
        (["order", "dim", "a001"], 2, b"LEVEL"),
        (["order", "dim", "a001", "101"], 2, b"less than or equal to 100"),
        (["order", "dim", "a001", "30"], 2, b"which network"),
        (["order", "dim", "a001", "30", "--for", "soon", "--network", "cafe"], 2, b"--for"),
        (["order", "show", "1", "--network", "cafe", "--broker-port", "1"], 3, b"cannot be reached"),
        (["order", "show", "1", "--city", "nowhere.toml"], 3, b"does not exist"),
        (["order", "schedule", "a001", "nowhere.toml", "--network", "cafe"], 3, b"does not exist"),
        (["order", "configure", "--site", "nowhere.toml", "--registry", "nowhere.json", "--network", "cafe"], 3, b"does not exist"),
        (["authority", "run", "--state", "nowhere"], 3, b"authority init"),
        (["node", "list", "--registry", "nowhere.json"], 3, b"nowhere.json"),
        (["node", "enrol", "--registry", "r.json", "--authority-key", "a.json", "--nodes", "n"], 2, b"--config"),
        (["demo", "--json"], 2, b"--once"),
        (["order", "show", "1", "--city", "."], 3, b"Is a directory"),
        (["order", "schedule", "a001", ".", "--network", "cafe"], 3, b"Is a directory"),
        (["authority", "init", "--state", "damaged.json/authority"], 3, b"Not a directory"),
        (
            ["node", "enrol", "--registry", "r.json", "--authority-key", "list.json", "--nodes", "n", "--fixture", "lamp"],
            1,
            b"authority-public.json",
        ),
        (["node", "list", "--registry", "damaged.json"], 1, b"'x' is damaged"),
        (["frame", "decode", "00", "--registry", "damaged.json"], 1, b"'x' is damaged"),
        (["frame", "decode", "00", "--authority-key", "list.json"], 1, b"authority-public.json"),
        (["frame", "decode", "00", "--hop-keys", "list.json"], 1, b"hop-keys.json"),
    ],
)
def test_errors_say_what_to_do_next(lamppost, tmp_path, monkeypatch, arguments, code, words):
    """A mistake gets its exit code and a sentence, never a traceback."""
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[]")
    Path("list.json").chmod(0o600)
    Path("damaged.json").write_text('{"network": "0000cafe", "version": 1, "nodes": {"x": 1}}')
    done = lamppost(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


def test_errors_are_json_where_asked(lamppost):
    """With --json an error is a document too."""
    done = lamppost("order", "show", "1", "--network", "cafe", "--broker-port", "1", "--json")
    assert done.returncode == 3
    assert set(json.loads(done.stdout)) == {"error", "next_step"}


def test_a_city_from_the_command_line(lamppost, tmp_path, monkeypatch):
    """init, enrol, list, revoke and decode work together, as words and as JSON, and show no secret in either form."""
    monkeypatch.chdir(tmp_path)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)
    Path("lamp.toml").write_text('asset = "post 14"\nlatitude_deg = 52.5\n[[fixtures]]\nkind = "lamp"\n')
    common = ["--registry", "gateway/registry.json"]
    enrol = ["node", "enrol", *common, "--authority-key", "authority/authority-public.json", "--nodes", "nodes"]
    runs = [
        lamppost("authority", "init", "--state", "authority", "--network", "cafe", "--passphrase-file", str(passphrase)),
        lamppost(*enrol, "--config", "lamp.toml", "--id", "a001"),
        lamppost(*enrol, "--fixture", "air", "--fixture", "lamp", "--id", "a002", "--json"),
        lamppost(*enrol, "--fixture", "air", "--id", "a002"),
        lamppost("node", "list", *common),
        lamppost("node", "list", *common, "--json"),
        lamppost("node", "revoke", "a001", *common),
        lamppost("node", "revoke", "dead", *common),
        lamppost("frame", "decode", "nodes/0000a001/lamppost/identity.cbor"),
        lamppost("frame", "decode", "-", "--json", data=Path("nodes/0000a002/lamppost/identity.cbor").read_bytes()),
        lamppost("authority", "init", "--state", "authority"),
    ]
    assert [done.returncode for done in runs] == [0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1]
    assert json.loads(runs[2].stdout)["fixtures"] == ["air", "lamp"]
    assert json.loads(runs[5].stdout)["nodes"]["0000a001"]["asset"] == "post 14"
    secrets = {b"correct horse battery staple"}
    for node in ("0000a001", "0000a002"):
        identity = cbor.decode(Path("nodes", node, "lamppost", "identity.cbor").read_bytes())
        secrets |= {identity["private_key"], identity["hop_key"]}
    told = b"".join(done.stdout + done.stderr for done in runs) + Path("gateway/registry.json").read_bytes()
    for secret in secrets:
        for form in (secret, secret.hex().encode(), secret.hex()[:16].encode(), base64.b64encode(secret)[:16]):
            assert form not in told
    assert read_json(Path("gateway/registry.json"), "")["version"] == 3


def test_no_secret_in_objects_that_errors_might_show(city):
    """Whoever prints an authority, a key ring or a hop key sees no key."""
    import time

    from lamppost_tools.authority.authority import open_authority
    from lamppost_tools.authority.settings import load_settings
    from lamppost_tools.frame.input import load_ring

    authority = open_authority(city.authority, load_settings(city.authority), lambda: int(time.time()))
    ring = load_ring(city.registry.path, city.public, city.registry.hop_keys_path)
    assert len(ring.hop_keys) == 2
    shown = repr(authority) + repr(ring) + str(vars(authority))
    for key in ring.hop_keys.values():
        assert key.hex() not in shown
        assert repr(key) not in shown
