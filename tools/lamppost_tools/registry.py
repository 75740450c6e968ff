"""The registry of one network: who is known, with public keys; and the hop keys, a secret file beside it.

`registry.json` is public data, `hop-keys.json` has mode 0600. Both are replaced by an atomic rename under one lock, the
secret file first, so that a gateway re-reading them never meets a known node without its hop key.
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

    def add(self, network: int, node: int, entry: dict[str, Any], hop_key: bytes) -> None:
        """Add a node and its hop key. Raises RefusedError when the id, the key or the network does not fit."""
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
            if any(other["public_key"] == entry["public_key"] for other in document["nodes"].values()):
                raise RefusedError("this key is in the registry already", "the key generator repeats itself: stop here")
            hop_keys = self._load_hop_keys()
            if hop_key.hex() in hop_keys.values():
                raise RefusedError("this hop key is in use already", "the key generator repeats itself: stop here")
            hop_keys[name] = hop_key.hex()
            document["nodes"][name] = entry
            write_json(self.hop_keys_path, hop_keys, OWNER_ONLY_MODE)
            self._store(document)

    def revoke(self, node: int) -> dict[str, Any]:
        """Mark a node revoked and drop its hop key; its entry stays. Raises RefusedError for an unknown node."""
        name = f"{node:08x}"
        with self._locked():
            document = self.load()
            entry: dict[str, Any] | None = document["nodes"].get(name)
            if entry is None:
                raise RefusedError(f"node {name} is not in the registry", "lamppost node list shows who is")
            entry["revoked"] = True
            self._store(document)
            hop_keys = self._load_hop_keys()
            if hop_keys.pop(name, None) is not None:
                write_json(self.hop_keys_path, hop_keys, OWNER_ONLY_MODE)
        return entry

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


def load_hop_keys(path: Path) -> dict[str, str]:
    """Hop keys in hex by node id. Raises MissingError, or RefusedError when others can read it or it is something else."""
    require_owner_only(path)
    keys = read_json(path, _ADVICE)
    if not isinstance(keys, dict) or not all(_is_hex(name, 8) and _is_hex(key, 64) for name, key in keys.items()):
        raise RefusedError(f"{path} does not hold hop keys", "the gateway's hop-keys.json is meant")
    return keys


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or isinstance(entry.get("epoch"), bool) or not isinstance(entry.get("epoch"), int):
        return False
    fixtures = entry.get("fixtures", [])
    return isinstance(fixtures, list) and all(isinstance(name, str) for name in fixtures) and _is_hex(entry.get("public_key"), 128)


def _is_hex(text: Any, digits: int) -> bool:
    return isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) is not None
