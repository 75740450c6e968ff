"""Making a node known: keys from the operating system's generator, the node's flash folder, the registry entry.

The private key exists once, in the flash folder (mode 0600): copy the folder to the node, then delete it. Steps: write the
folder under a temporary name, add to the registry (where ids and keys are checked to be new), give the folder its name.
"""

import binascii
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lamppost_protocol import cbor, p256_tables
from lamppost_protocol.es256_host import generate_private_key, public_key

from lamppost_tools.authority_public import read_authority_public
from lamppost_tools.durable import OWNER_ONLY_MODE, sync_folder, write_file
from lamppost_tools.errors import RefusedError
from lamppost_tools.node_config import fixture_names
from lamppost_tools.registry import Registry

FLASH_FOLDER = "lamppost"
FIRST_EPOCH = 1
_KEY_BYTES = 32
_TEETH, _BLOCKS = 5, 2  # the 2 KB tables, which every target can hold in its heap
_LARGEST_NODE_ID = 2**32 - 1


class KeySource:
    """Random keys that are checked before use: a generator that repeats or stands still stops the enrolment.

    `draw(count)` gives that many random octets. Known bad keys of other systems came from images that carried their
    first boot's keys, hence nothing is ever made on a node and every draw is compared with all earlier ones of this run.
    """

    def __init__(self, draw: Callable[[int], bytes] = secrets.token_bytes, private: Callable[[], bytes] = generate_private_key) -> None:
        self._draw = draw
        self._private = private
        self._seen: set[bytes] = set()

    def private_key(self) -> bytes:
        """A fresh P-256 private key, 32 octets. Raises RefusedError when the generator misbehaves."""
        return self._checked(self._private())

    def hop_key(self) -> bytes:
        """A fresh hop key, 32 octets. Raises RefusedError when the generator misbehaves."""
        return self._checked(self._draw(_KEY_BYTES))

    def _checked(self, key: bytes) -> bytes:
        if len(key) != _KEY_BYTES or len(set(key)) < 8 or key in self._seen:
            raise RefusedError("the random generator gave a repeated or degenerate key", "make no keys on this machine; tell its keeper")
        self._seen.add(key)
        return key


def enrol_node(
    registry: Registry,
    nodes_folder: Path,
    authority_public: Path,
    config: dict[str, Any],
    node: int | None,
    asset: str | None,
    keys: KeySource,
    schedules: Mapping[str, list[Any]] | None = None,
) -> dict[str, Any]:
    """Enrol one node. Returns {"node", "epoch", "fixtures", "flash_folder", ...}, no secret. Raises ToolError.

    `node` None draws a free id. `schedules` by fixture name: what a lamp follows from its first start on, until an order brings
    another. The command key that the node will obey comes from the authority's public file.
    """
    authority = read_authority_public(authority_public)
    network = authority.network
    node = _free_id(registry) if node is None else node
    name = f"{node:08x}"
    final = nodes_folder / name
    if final.exists():
        raise RefusedError(f"{final} exists already", "an enrolled node keeps its keys: choose another id, or move it away")
    private_key, hop_key = keys.private_key(), keys.hop_key()
    entry = {
        "epoch": FIRST_EPOCH,
        "public_key": public_key(private_key).hex(),
        "fixtures": fixture_names(config),
        "asset": asset,
        "revoked": False,
    }
    identity = {
        "network": network, "node": node, "epoch": FIRST_EPOCH, "private_key": private_key, "hop_key": hop_key,
        "issuer": authority.issuer.to_bytes(4, "big"), "command_key": authority.public_key,
    }  # fmt: skip
    nodes_folder.mkdir(parents=True, exist_ok=True)
    fresh = nodes_folder / f".{name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _write_flash(fresh, identity, config, schedules or {})
        registry.path.parent.mkdir(parents=True, exist_ok=True)
        registry.add(network, node, entry, hop_key)
        fresh.rename(final)
        sync_folder(nodes_folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return {
        "node": name, "network": f"{network:08x}", "epoch": FIRST_EPOCH, "fixtures": entry["fixtures"], "asset": asset,
        "flash_folder": str(final / FLASH_FOLDER), "registry": str(registry.path),
    }  # fmt: skip


def _write_flash(folder: Path, identity: dict[str, Any], config: dict[str, Any], schedules: Mapping[str, list[Any]]) -> None:
    flash = folder / FLASH_FOLDER
    for part in ("tables", "counters", "settings"):
        (flash / part).mkdir(parents=True)
    folder.chmod(0o700)
    key = identity["command_key"]
    x, y = int.from_bytes(key[:32], "big"), int.from_bytes(key[32:], "big")
    write_file(flash / "tables" / "generator.tbl", p256_tables.build_generator_table(_TEETH, _BLOCKS))
    write_file(flash / "tables" / "command.tbl", p256_tables.build_table(x, y, _TEETH, _BLOCKS))
    write_file(flash / "config.cbor", cbor.encode(config))
    write_file(flash / "identity.cbor", cbor.encode(identity), OWNER_ONLY_MODE)
    for copy in ("tx.0", "tx.1"):
        write_file(flash / "counters" / copy, checked_value([identity["epoch"], 0]))
    for name, schedule in schedules.items():
        write_file(flash / "settings" / f"{name}.schedule", checked_value(schedule))


def checked_value(value: object) -> bytes:
    """A small value as the node keeps its own: crc32, 4 octets big-endian, then CBOR."""
    body: bytes = cbor.encode(value)
    return binascii.crc32(body).to_bytes(4, "big") + body


def _free_id(registry: Registry) -> int:
    known = registry.nodes() if registry.path.exists() else {}
    while True:
        node = secrets.randbelow(_LARGEST_NODE_ID) + 1
        if f"{node:08x}" not in known:
            return node
