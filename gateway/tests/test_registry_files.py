"""Registry and hop keys: read whole, refused whole, never older, never shown."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway import log
from lamppost_gateway.errors import RegistryError
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.registry import Registry
from street.gateway_rig import NETWORK, City, SenderNode


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path, [SenderNode(1, 1), SenderNode(2, 1)])


def registry(city: City) -> Registry:
    return Registry(NETWORK, city.folder / "registry.json", city.folder / "hop-keys.json", Metrics())


def edit(path: Path, change: Any) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_reads_nodes_and_keys(city: City) -> None:
    """Every enrolled node is known with its key; strangers are None."""
    known = registry(city)
    known.load()
    entry = known.node(1)
    assert entry is not None
    assert (entry.epoch, entry.fixtures, entry.asset, entry.revoked) == (1, ("lamp",), "pole 1", False)
    assert entry.public_key == city.nodes[1].public_key
    assert known.hop_key(2) is not None
    assert known.node(3) is None
    assert known.hop_key(3) is None


def test_changes_are_seen_and_an_older_file_is_refused(city: City) -> None:
    """A restored backup must not bring a revoked node back."""
    known = registry(city)
    known.load()
    assert known.refresh() is False
    city.revoked.add(1)
    city.write()
    assert known.refresh() is True
    entry = known.node(1)
    assert entry is not None
    assert entry.revoked
    city.revoked.clear()
    city.write(version=1)
    assert known.refresh() is False
    entry = known.node(1)
    assert entry is not None
    assert entry.revoked
    assert known.version == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(network="00000001"),
        lambda d: d.update(version="1"),
        lambda d: d.update(version=True),
        lambda d: d.pop("nodes"),
        lambda d: d["nodes"].update({"1": {}}),
        lambda d: d["nodes"].update({"00000000": d["nodes"]["00000001"]}),
        lambda d: d["nodes"]["00000001"].update(epoch=0),
        lambda d: d["nodes"]["00000001"].update(public_key="00" * 64),
        lambda d: d["nodes"]["00000001"].update(public_key="zz"),
        lambda d: d["nodes"]["00000001"].update(revoked="no"),
        lambda d: d["nodes"]["00000001"].update(fixtures="lamp"),
        lambda d: d["nodes"]["00000001"].update(listens="never"),
    ],
)
def test_a_damaged_or_foreign_registry_changes_nothing(city: City, change: Any) -> None:
    """The last good registry stays in force, whole."""
    known = registry(city)
    known.load()
    city.write()
    edit(city.folder / "registry.json", change)
    assert known.refresh(force=True) is False
    assert known.version == 1
    assert set(known.nodes()) == {1, 2}


def test_a_node_listens_in_its_windows_unless_its_entry_says_always(city: City) -> None:
    city.always.add(1)
    city.write()
    edit(city.folder / "registry.json", lambda d: d["nodes"]["00000002"].pop("listens"))
    known = registry(city)
    known.load()
    assert {node: entry.listens_always for node, entry in known.nodes().items()} == {1: True, 2: False}


def test_every_truncation_is_refused_or_whole(city: City) -> None:
    """A half-written file is never half believed."""
    known = registry(city)
    known.load()
    path = city.folder / "registry.json"
    text = path.read_text()
    for length in range(0, len(text), 7):
        path.write_text(text[:length])
        with pytest.raises(RegistryError):
            known.load()
    assert set(known.nodes()) == {1, 2}


def test_hop_keys_open_to_others_are_refused_and_never_shown(city: City) -> None:
    """Mode, shape and absence; no message quotes a key (R37)."""
    known = registry(city)
    path = city.folder / "hop-keys.json"
    secrets = [key.decode() for node in city.nodes.values() for key in node.key_patterns() if len(key) == 64]
    path.chmod(0o644)
    with pytest.raises(RegistryError, match="chmod 600") as caught:
        known.load()
    assert not any(secret in str(caught.value) for secret in secrets)
    path.chmod(0o600)
    good = path.read_text()
    for bad in (good[:-5], good.replace('"', "'"), good.replace('": "', '": "0', 1), "[]", '{"1": "00"}'):
        path.write_text(bad)
        with pytest.raises(RegistryError) as caught:
            known.load()
        shown = str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__dict__)
        assert not any(secret in shown for secret in secrets)
    path.unlink()
    known.load()
    assert known.hop_key(1) is None
    path.write_text(good)
    path.chmod(0o400)
    known.load()
    assert not any(secret in repr(vars(known)) for secret in secrets)


def test_a_refused_file_warns_once_and_tells_when_it_is_good_again(city: City) -> None:
    """Not one line a second for as long as it lasts."""
    stream = io.StringIO()
    log.set_up("info", stream)
    known = registry(city)
    known.load()
    (city.folder / "registry.json").write_text("{")
    for _ in range(5):
        known.refresh(force=True)
    city.write()
    known.refresh()
    lines = [line for line in stream.getvalue().splitlines() if "event=registry" in line]
    assert [line.split("event=")[1].split()[0] for line in lines] == ["registry_failed", "registry_recovered", "registry_loaded"]
    assert "failures=5" in lines[1]


def test_hop_keys_closed_after_the_advice_are_read_without_a_signal(city: City) -> None:
    """chmod changes no content: a gateway that asked for it must notice all the same."""
    known = registry(city)
    hop_keys = city.folder / "hop-keys.json"
    hop_keys.chmod(0o644)
    with pytest.raises(RegistryError, match="chmod 600"):
        known.load()
    assert known.refresh() is False
    hop_keys.chmod(0o600)
    assert known.refresh() is True
    assert known.hop_key(1) is not None
