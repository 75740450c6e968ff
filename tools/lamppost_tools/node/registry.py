"""The registry of one network: who is known, with public keys; and the hop keys, a secret file beside it.

`registry.json` is public data, `hop-keys.json` has mode 0600. Both are replaced by an atomic rename under one lock, the
secret file first, so that a gateway re-reading them never meets a known node without its hop key.

A re-key (WIRE.md 16) is three steps, each one write: `begin_rekey` adds the next epoch's key as `next`; `promote` makes it the entry's own
and the old one `previous`; `retire` moves that to `past`, where it only explains what was archived. Between first and last both are
valid, and hop keys of both stand under `<node>.<epoch>`.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lamppost_tools.durable import OWNER_ONLY_MODE, read_json, require_owner_only, write_json
from lamppost_tools.errors import MissingError, RefusedError

HOP_KEYS_NAME = "hop-keys.json"
_ADVICE = "check --registry (the demo keeps it in DIR/gateway/registry.json)"


class Registry:
    """One network's registry file and the hop keys beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hop_keys_path = path.with_name(HOP_KEYS_NAME)

    def load(self) -> dict[str, Any]:
        """The whole document. Raises MissingError when absent, RefusedError when it is not a registry."""
        document = read_json(self.path, _ADVICE)
        nodes = document.get("nodes") if isinstance(document, dict) else None
        if not isinstance(nodes, dict) or not _is_hex(document.get("network"), 8):
            raise RefusedError(f"{self.path} is not a registry", _ADVICE)
        for name, entry in nodes.items():
            if not _is_hex(name, 8) or not _is_entry(entry):
                raise RefusedError(f"{self.path}: node {name[:16]!r} is damaged", "bring back the last good copy of this file")
        loaded: dict[str, Any] = document
        return loaded

    def nodes(self) -> dict[str, Any]:
        """Entries by node id (8 hex digits)."""
        nodes: dict[str, Any] = self.load()["nodes"]
        return nodes

    def network(self) -> int:
        """The network id."""
        return int(self.load()["network"], 16)

    def add(
        self, network: int, node: int, entry: dict[str, Any], hop_key: bytes, replaces: str | None = None, at: int | None = None
    ) -> None:
        """Add a node and its hop key. `replaces`: id of the node that ends with it (unix s), revoked in the same write.

        Raises RefusedError when the id, the key, the network or what is replaced does not fit.
        """
        name = f"{node:08x}"
        with self._locked():
            document = self._load_or_new(network)
            if document["network"] != f"{network:08x}":
                raise RefusedError(
                    f"{self.path} belongs to network {document['network']}, not {network:08x}",
                    "leave out --network, or give another --registry",
                )
            if name in document["nodes"]:
                raise RefusedError(f"node {name} is in the registry already", "leave out --id to get a free one")
            if any(entry["public_key"] in all_keys(other).values() for other in document["nodes"].values()):
                raise RefusedError("this key is in the registry already", "the key generator repeats itself: stop here")
            hop_keys = self._load_hop_keys()
            if hop_key.hex() in hop_keys.values():
                raise RefusedError("this hop key is in use already", "the key generator repeats itself: stop here")
            hop_keys[name] = hop_key.hex()
            document["nodes"][name] = entry
            if replaces is not None:
                old = _entry_of(document, replaces)
                if old.get("asset") != entry["asset"] or "replaced_by" in old:
                    raise RefusedError(f"node {replaces} is not the one to be replaced", "`lamppost node list` shows who is what")
                entry["replaces"], old["replaced_by"] = replaces, name
                _mark_revoked(old, "replaced", at)
            write_json(self.hop_keys_path, hop_keys, OWNER_ONLY_MODE)
            self._store(document)
            if replaces is not None:
                self._drop_hop_keys(replaces)

    def revoke(self, node: int, reason: str = "revoked", at: int | None = None) -> dict[str, Any]:
        """Mark a node revoked, with reason and date (unix s), and drop its hop keys; its entry stays. A first reason and date stay too.

        Raises RefusedError for an unknown node.
        """
        name = f"{node:08x}"
        with self._locked():
            document = self.load()
            entry = _entry_of(document, name)
            _mark_revoked(entry, reason, at)
            self._store(document)
            self._drop_hop_keys(name)
        return entry

    def reconfigure(self, node: int, settings: dict[str, Any]) -> dict[str, Any]:
        """What the entry says of the node's configuration is this from now on (`registered_settings`). The entry. Raises RefusedError."""
        with self._locked():
            document = self.load()
            entry = _entry_of(document, f"{node:08x}")
            if {name: entry[name] for name in ("fixtures", "listens", "configuration") if name in entry} != settings:
                entry.pop("listens", None)
                entry.update(settings)
                self._store(document)
        return entry

    def begin_rekey(self, node: int, epoch: int, public_key: bytes, hop_key: bytes, unit: str) -> None:
        """Both epochs are valid from now on. An earlier `next`, to which no board ever switched, gives way.

        Raises RefusedError for a node that is unknown or revoked, an epoch that is not new, keys that are.
        """
        name = f"{node:08x}"
        with self._locked():
            document = self.load()
            entry = _entry_of(document, name)
            if entry.get("revoked") or "previous" in entry:
                raise RefusedError(
                    f"node {name} is {'revoked' if entry.get('revoked') else 'being re-keyed'}", "lamppost node list shows it"
                )
            if epoch <= max(all_keys(entry)):
                raise RefusedError(f"node {name} had an epoch {epoch} already", "repeat the command")
            if any(public_key.hex() in all_keys(other).values() for other in document["nodes"].values()):
                raise RefusedError("this key is in the registry already", "the key generator repeats itself: stop here")
            hop_keys = self._load_hop_keys()
            if hop_key.hex() in hop_keys.values():
                raise RefusedError("this hop key is in use already", "the key generator repeats itself: stop here")
            if name in hop_keys:
                hop_keys[f"{name}.{entry['epoch']}"] = hop_keys[name]
            hop_keys.pop(f"{name}.{entry.get('next', {}).get('epoch')}", None)
            hop_keys[f"{name}.{epoch}"] = hop_key.hex()
            entry["next"] = {"epoch": epoch, "public_key": public_key.hex()}
            entry["unit"] = unit
            write_json(self.hop_keys_path, hop_keys, OWNER_ONLY_MODE)
            self._store(document)

    def promote(self, node: int) -> dict[str, Any]:
        """The board has switched: orders are for the next epoch from now on; the old one stays valid. The entry."""
        name = f"{node:08x}"
        with self._locked():
            document = self.load()
            entry = _entry_of(document, name)
            following = entry.pop("next")
            entry["previous"] = {"epoch": entry["epoch"], "public_key": entry["public_key"]}
            entry.update(following)
            hop_keys = self._load_hop_keys()
            hop_keys[name] = hop_keys[f"{name}.{entry['epoch']}"]
            write_json(self.hop_keys_path, hop_keys, OWNER_ONLY_MODE)
            self._store(document)
        return entry

    def retire(self, node: int, at: int) -> dict[str, Any]:
        """A gateway has a frame of the newer epoch: the old one has ended (unix s). The entry."""
        name = f"{node:08x}"
        with self._locked():
            document = self.load()
            entry = _entry_of(document, name)
            entry.setdefault("past", []).append({**entry.pop("previous"), "until": at})
            self._store(document)
            self._drop_hop_keys(name, {name: self._load_hop_keys()[name]})
        return entry

    def _drop_hop_keys(self, name: str, kept: dict[str, str] | None = None) -> None:
        hop_keys = self._load_hop_keys()
        left = {other: key for other, key in hop_keys.items() if other.partition(".")[0] != name} | (kept or {})
        if left != hop_keys:
            write_json(self.hop_keys_path, left, OWNER_ONLY_MODE)

    def _store(self, document: dict[str, Any]) -> None:
        document["version"] = int(document.get("version", 0)) + 1
        write_json(self.path, document)

    def _load_or_new(self, network: int) -> dict[str, Any]:
        try:
            return self.load()
        except MissingError:
            return {"version": 0, "network": f"{network:08x}", "nodes": {}}

    def _load_hop_keys(self) -> dict[str, str]:
        return load_hop_keys(self.hop_keys_path) if self.hop_keys_path.exists() else {}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self.path.with_name(".registry.lock"), os.O_RDWR | os.O_CREAT, OWNER_ONLY_MODE)
        except FileNotFoundError:
            raise MissingError(f"the folder {self.path.parent} does not exist", _ADVICE) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def valid_keys(entry: dict[str, Any]) -> dict[int, str]:
    """Public keys in hex by the epoch each is valid in: one, or two while the node is re-keyed."""
    return {int(key["epoch"]): str(key["public_key"]) for key in (entry, entry.get("next"), entry.get("previous")) if key is not None}


def all_keys(entry: dict[str, Any]) -> dict[int, str]:
    """The same, with those of epochs that have ended: for what was archived, and so that no epoch comes twice."""
    return {**{int(key["epoch"]): str(key["public_key"]) for key in entry.get("past", ())}, **valid_keys(entry)}


def load_hop_keys(path: Path) -> dict[str, str]:
    """Hop keys in hex by node id, and by `<id>.<epoch>` while a node is re-keyed.

    Raises MissingError, or RefusedError when others can read it or it is something else.
    """
    require_owner_only(path)
    keys = read_json(path, _ADVICE)
    if not isinstance(keys, dict) or not all(_is_hop_name(name) and _is_hex(key, 64) for name, key in keys.items()):
        raise RefusedError(f"{path} does not hold hop keys", "the gateway's hop-keys.json is meant")
    return keys


def _entry_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    entry: dict[str, Any] | None = document["nodes"].get(name)
    if entry is None:
        raise RefusedError(f"node {name} is not in the registry", "lamppost node list shows who is")
    return entry


def _mark_revoked(entry: dict[str, Any], reason: str, at: int | None) -> None:
    if entry.get("revoked"):
        return
    entry.update(revoked=True, reason=reason)
    if at is not None:
        entry["revoked_at"] = at


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("revoked", False), bool):
        return False
    fixtures, past = entry.get("fixtures", []), entry.get("past", [])
    keys = [entry, *(entry[other] for other in ("next", "previous") if other in entry), *(past if isinstance(past, list) else [None])]
    return isinstance(fixtures, list) and all(isinstance(name, str) for name in fixtures) and all(_is_key(key) for key in keys)


def _is_key(key: Any) -> bool:
    if not isinstance(key, dict) or isinstance(key.get("epoch"), bool) or not isinstance(key.get("epoch"), int):
        return False
    return _is_hex(key.get("public_key"), 128)


def _is_hop_name(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[0-9a-f]{8}(\.[1-9][0-9]{0,9})?", name) is not None


def _is_hex(text: Any, digits: int) -> bool:
    return isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) is not None
