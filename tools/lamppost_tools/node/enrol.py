"""Making a node known: keys from the operating system's generator, the node's flash folder, the registry entry.

The private key exists once, in the flash folder (mode 0600): copy the folder to the node, then delete it. Steps: write the
folder under a temporary name, add to the registry (where ids and keys are checked to be new), give the folder its name.
"""

import binascii
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamppost_protocol import cbor, p256_tables
from lamppost_protocol.es256_host import generate_private_key, public_key
from lamppost_protocol.radio_limits import RADIOS

from lamppost_tools.authority.public import AuthorityPublic, read_authority_public
from lamppost_tools.durable import OWNER_ONLY_MODE, PUBLIC_MODE, sync_folder, write_file
from lamppost_tools.errors import RefusedError, UsageError
from lamppost_tools.node.air import accounts
from lamppost_tools.node.config import fixture_names
from lamppost_tools.node.registry import Registry

FLASH_FOLDER = "lamppost"
IDENTITY = "identity.cbor"
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


@dataclass(frozen=True)
class NewNode:
    """A node that nobody knows yet. `entry`: for the registry; `files`: of its flash folder, by name; IDENTITY holds its keys."""

    network: int
    node: int
    entry: dict[str, Any]
    hop_key: bytes = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def name(self) -> str:
        """8 hex digits."""
        return f"{self.node:08x}"


def make_node(
    authority: AuthorityPublic,
    config: dict[str, Any],
    node: int,
    asset: str | None,
    keys: KeySource,
    schedules: Mapping[str, list[Any]],
    unit: bytes | None = None,
) -> NewNode:
    """Keys, registry entry and flash files of a node. `unit`: the chip's own number, where the keys are made for one board.

    Raises RefusedError when the random generator misbehaves.
    """
    private_key, hop_key = keys.private_key(), keys.hop_key()
    entry = {
        "epoch": FIRST_EPOCH,
        "public_key": public_key(private_key).hex(),
        "asset": asset,
        "revoked": False,
        **registered_settings(config),
    }
    identity = {
        "network": authority.network, "node": node, "epoch": FIRST_EPOCH, "private_key": private_key, "hop_key": hop_key,
        "issuer": authority.issuer.to_bytes(4, "big"), "command_key": authority.public_key,
    }  # fmt: skip
    if unit is not None:
        entry["unit"] = unit.hex()
        identity["unit"] = unit
    files = {**settings_files(authority, config, schedules), **account_files(config), IDENTITY: cbor.encode(identity)}
    return NewNode(authority.network, node, entry, hop_key, files)


def registered_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a registry entry says of a node's configuration, by key; the whole of it, for the authority to hold a change against."""
    listens = {"listens": "always" if config["lora"].get("listens_always") else "windows"} if "lora" in config else {}
    return {"fixtures": fixture_names(config), **listens, "configuration": config}


def settings_files(authority: AuthorityPublic, config: dict[str, Any], schedules: Mapping[str, list[Any]]) -> dict[str, bytes]:
    """What a node's flash folder holds besides its keys, by name: nothing secret."""
    x, y = int.from_bytes(authority.public_key[:32], "big"), int.from_bytes(authority.public_key[32:], "big")
    return {
        "tables/generator.tbl": p256_tables.build_generator_table(_TEETH, _BLOCKS),
        "tables/command.tbl": p256_tables.build_table(x, y, _TEETH, _BLOCKS),
        "config.cbor": cbor.encode(config),
        **{f"counters/{copy}": checked_value([FIRST_EPOCH, 0]) for copy in ("tx.0", "tx.1")},
        **{f"settings/{name}.schedule": checked_value(schedule) for name, schedule in schedules.items()},
    }


def account_files(config: dict[str, Any]) -> dict[str, bytes]:
    """Airtime accounts at 0, by name: only for a board that has sent nothing within the last hour."""
    return {f"settings/{name}": checked_value(0) for name in (accounts(config["lora"]) if "lora" in config else ())}


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
    node = free_id(registry) if node is None else node
    final = nodes_folder / f"{node:08x}"
    if final.exists():
        raise RefusedError(f"{final} exists already", "an enrolled node keeps its keys: choose another id, or move it away")
    made = make_node(authority, config, node, asset, keys, schedules or {})
    nodes_folder.mkdir(parents=True, exist_ok=True)
    fresh = nodes_folder / f".{made.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _write_flash(fresh, made)
        registry.path.parent.mkdir(parents=True, exist_ok=True)
        registry.add(made.network, node, made.entry, made.hop_key)
        fresh.rename(final)
        sync_folder(nodes_folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return {
        "node": made.name, "network": f"{made.network:08x}", "epoch": FIRST_EPOCH, "fixtures": made.entry["fixtures"], "asset": asset,
        "flash_folder": str(final / FLASH_FOLDER), "registry": str(registry.path),
    }  # fmt: skip


def _write_flash(folder: Path, made: NewNode) -> None:
    flash = folder / FLASH_FOLDER
    for part in ("tables", "counters", "settings"):
        (flash / part).mkdir(parents=True)
    folder.chmod(0o700)
    for name, content in made.files.items():
        write_file(flash / name, content, OWNER_ONLY_MODE if name == IDENTITY else PUBLIC_MODE)


def checked_value(value: object) -> bytes:
    """A small value as the node keeps its own: crc32, 4 octets big-endian, then CBOR."""
    body: bytes = cbor.encode(value)
    return binascii.crc32(body).to_bytes(4, "big") + body


def write_bridge_flash(folder: Path, tcxo_mv: int, radio: str = RADIOS[0]) -> Path:
    """Write the flash content of a gateway's radio, which holds no key, and return its folder. Raises RefusedError where it exists, and
    UsageError for a chip that there is no driver for.
    """
    if radio not in RADIOS:
        raise UsageError(f"--radio {radio}: no such chip", f"one of {', '.join(RADIOS)}")
    flash = folder / FLASH_FOLDER
    if flash.exists():
        raise RefusedError(f"{flash} exists already", "give another --out")
    flash.mkdir(parents=True)
    write_file(flash / "config.cbor", cbor.encode({"bridge": 1, "radio": radio, "tcxo_mv": tcxo_mv, "fixtures": []}))
    return flash


def free_id(registry: Registry) -> int:
    """A random id that the registry does not know."""
    known = registry.nodes() if registry.path.exists() else {}
    while True:
        node = secrets.randbelow(_LARGEST_NODE_ID) + 1
        if f"{node:08x}" not in known:
            return node
