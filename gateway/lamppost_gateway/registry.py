"""Who is known: nodes with their public keys, and the hop keys of those this gateway serves.

Two files, written whole and renamed into place by `lamppost node`: `registry.json` (public) and `hop-keys.json` (mode 0600). While a node
is re-keyed (WIRE.md 16) its entry has a second key, `next` or `previous`, and its hop keys stand under `<node>.<epoch>` too. The files are
read again when they change or on SIGHUP. A file that is older, foreign or damaged is refused and what is known stays.
Trust comes from here alone: algorithm, key and epoch are the entry's, never the message's.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamppost_protocol.errors import LocalError
from lamppost_protocol.es256_host import HostVerifier
from lamppost_protocol.hop import HopKey

from lamppost_gateway.config import read_secret
from lamppost_gateway.errors import ConfigError, RegistryError
from lamppost_gateway.log import Trouble, event, room
from lamppost_gateway.store import Metrics

_MAX_FILE_BYTES = 64 << 20
_log = room("registry")


@dataclass(frozen=True, slots=True)
class NodeKey:
    """A node's public key, and the one epoch in which it is valid."""

    epoch: int
    public_key: bytes
    verifier: HostVerifier = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One node. `keys`: two while it is re-keyed (WIRE.md 16), the newer one first; `epoch`: which of them orders are for.

    listens_always: over the air at any time, else in its windows only (WIRE.md 14.2).
    """

    node: int
    epoch: int
    keys: tuple[NodeKey, ...]
    fixtures: tuple[str, ...]
    asset: str | None
    revoked: bool
    listens_always: bool

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs in which it may speak, as far as the registry says."""
        return tuple(key.epoch for key in self.keys)

    @property
    def public_key(self) -> bytes:
        """The key of `epoch`."""
        return next(key.public_key for key in self.keys if key.epoch == self.epoch)


class Registry:
    """The known nodes of one network. `load` at the start, `refresh` now and then."""

    def __init__(self, network: int, path: Path, hop_keys_path: Path, metrics: Metrics) -> None:
        self.network = network
        self.version = -1
        self._path = path
        self._hop_keys_path = hop_keys_path
        self._metrics = metrics
        self._nodes: dict[int, NodeEntry] = {}
        self._hop_keys: dict[tuple[int, int | None], HopKey] = {}
        self._stamps: tuple[object, object] = (None, None)
        self._trouble = Trouble(_log, "registry", path=path)

    def node(self, node: int) -> NodeEntry | None:
        """The entry of a node, None for a stranger."""
        return self._nodes.get(node)

    def nodes(self) -> Mapping[int, NodeEntry]:
        """All entries."""
        return self._nodes

    def hop_key(self, node: int, epoch: int | None = None) -> HopKey | None:
        """The key to acknowledge `node` with in one epoch (None: in the entry's own), None when this gateway does not serve it."""
        found = self._hop_keys.get((node, epoch))
        if found is None and (entry := self._nodes.get(node)) is not None and epoch == entry.epoch:
            found = self._hop_keys.get((node, None))
        return found

    def load(self) -> None:
        """Read both files. Raises RegistryError, with what was known before unchanged and no key in its text."""
        self._stamps = (_stamp(self._path), _stamp(self._hop_keys_path))
        version, nodes = self._read_nodes()
        hop_keys = self._read_hop_keys()
        if version < self.version:
            raise RegistryError("older", f"version {version} after {self.version}")
        self.version, self._nodes, self._hop_keys = version, nodes, hop_keys
        self._metrics.gauge("nodes_known", len(nodes))

    def refresh(self, force: bool = False) -> bool:
        """Read again when a file changed (or `force`); return whether anything new is in force. Never raises."""
        if not force and self._stamps == (_stamp(self._path), _stamp(self._hop_keys_path)):
            return False
        try:
            self.load()
        except RegistryError as error:
            self._trouble.failed(reason=error)
            self._metrics.count("registry_refused")
            return False
        self._trouble.recovered()
        self._metrics.count("registry_reloads")
        event(_log, logging.INFO, "registry_loaded", version=self.version, nodes=len(self._nodes))
        return True

    def _read_nodes(self) -> tuple[int, dict[int, NodeEntry]]:
        try:
            text = self._path.read_text(encoding="utf-8") if _size(self._path) <= _MAX_FILE_BYTES else None
        except OSError as error:
            raise RegistryError("unreadable", f"{self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise RegistryError("damaged", f"{self._path}: not text") from None
        if text is None:
            raise RegistryError("too_long", str(self._path))
        document = _json(text, self._path)
        version, network, raw = document.get("version"), document.get("network"), document.get("nodes")
        if isinstance(version, bool) or not isinstance(version, int) or version < 0 or not isinstance(raw, dict):
            raise RegistryError("damaged", f"{self._path}: no version or no nodes")
        if network != f"{self.network:08x}":
            raise RegistryError("foreign", f"{self._path} is for another network")
        return version, {entry.node: entry for entry in (self._entry(name, item) for name, item in raw.items())}

    def _entry(self, name: str, item: Any) -> NodeEntry:
        where = f"{self._path}: node {name[:16]!r}"
        if not re.fullmatch(r"[0-9a-f]{8}", name) or int(name, 16) == 0 or not isinstance(item, dict):
            raise RegistryError("damaged", f"{where}: not a node entry")
        fixtures = item.get("fixtures", [])
        asset, revoked = item.get("asset"), item.get("revoked", False)
        node = int(name, 16)
        keys = [self._key(node, item, where)]
        epoch = keys[0].epoch
        for other in ("next", "previous"):
            if item.get(other) is not None:
                keys.append(self._key(node, item[other], f"{where}: {other}"))
        keys.sort(key=lambda key: -key.epoch)
        if len(keys) > 2 or len({key.epoch for key in keys}) < len(keys):
            raise RegistryError("damaged", f"{where}: more than two keys, or two of one epoch")
        if not isinstance(fixtures, list) or not all(isinstance(f, str) for f in fixtures):
            raise RegistryError("damaged", f"{where}: fixtures")
        if not isinstance(revoked, bool):
            raise RegistryError("damaged", f"{where}: revoked")
        listens = item.get("listens", "windows")
        if listens not in ("windows", "always"):
            raise RegistryError("damaged", f"{where}: listens")
        asset = asset if asset is None or isinstance(asset, str) else json.dumps(asset)
        return NodeEntry(node, epoch, tuple(keys), tuple(fixtures), asset, revoked, listens == "always")

    def _key(self, node: int, item: Any, where: str) -> NodeKey:
        epoch, key = (item.get("epoch"), item.get("public_key")) if isinstance(item, dict) else (None, None)
        if isinstance(epoch, bool) or not isinstance(epoch, int) or not 1 <= epoch <= 0xFFFFFFFF:
            raise RegistryError("damaged", f"{where}: epoch")
        public_key = _hex(key, 64)
        if public_key is None:
            raise RegistryError("damaged", f"{where}: public_key is not 128 hex digits")
        entry = self._nodes.get(node)
        for known in entry.keys if entry is not None else ():
            if (known.epoch, known.public_key) == (epoch, public_key):
                return known
        try:
            return NodeKey(epoch, public_key, HostVerifier(public_key))
        except LocalError:
            raise RegistryError("damaged", f"{where}: public_key is not on the curve") from None

    def _read_hop_keys(self) -> dict[tuple[int, int | None], HopKey]:
        if not self._hop_keys_path.exists():
            return {}  # a gateway that only listens acknowledges nothing
        try:
            text = read_secret(self._hop_keys_path)
        except ConfigError as error:
            raise RegistryError("hop_keys", "; ".join(p.text for p in error.problems)) from None
        keys: dict[tuple[int, int | None], HopKey] = {}
        for name, item in _json(text, self._hop_keys_path).items():
            key = _hex(item, 32)
            named = re.fullmatch(r"([0-9a-f]{8})(?:\.([1-9][0-9]{0,9}))?", name)
            if named is None or key is None:
                raise RegistryError("hop_keys", f"{self._hop_keys_path}: an entry is not a node, or one in an epoch, with 64 hex digits")
            keys[(int(named[1], 16), int(named[2]) if named[2] else None)] = HopKey(key)
        return keys


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # the exception itself would quote the file
        raise RegistryError("damaged", f"{path}: not JSON") from None
    if not isinstance(document, dict):
        raise RegistryError("damaged", f"{path}: not an object")
    return document


def _hex(value: object, length: int) -> bytes | None:
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * length}}}", value):
        return None
    return bytes.fromhex(value)


def _size(path: Path) -> int:
    return path.stat().st_size


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_ctime_ns  # ctime: a mode that was mended
