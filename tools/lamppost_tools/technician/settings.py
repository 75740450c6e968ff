"""A technician's own folder: whom to trust (`technician.toml`), the key that signs commissioning records, journals, records, labels.

The kit's key and the authority's stand here, put in once at the desk: a stick or a site file cannot bring others.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostVerifier, public_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamppost_tools.authority.public import AuthorityPublic
from lamppost_tools.durable import PUBLIC_MODE, read_json, write_file, write_json
from lamppost_tools.errors import MissingError, RefusedError, UsageError
from lamppost_tools.key_file import load_key, read_passphrase, save_key
from lamppost_tools.node.enrol import KeySource
from lamppost_tools.signed_document import fingerprint

SETTINGS_NAME, KEY_NAME, PUBLIC_NAME = "technician.toml", "key.pem", "technician-public.json"
_ADVICE = "lamppost technician init --help"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=80)
    kit_key: str = Field(pattern=r"^[0-9a-f]{128}$")
    registry: Path
    network: str = Field(pattern=r"^[0-9a-f]{8}$")
    issuer: str = Field(pattern=r"^[0-9a-f]{8}$")
    authority_key: str = Field(pattern=r"^[0-9a-f]{128}$")
    passphrase_file: Path | None = None


@dataclass(frozen=True)
class Technician:
    """Who commissions, whom he trusts, and where his papers go."""

    folder: Path
    name: str
    kit_key: bytes
    registry: Path
    authority: AuthorityPublic
    passphrase_file: Path | None

    def private_key(self) -> bytes:
        """The key that signs his records. Raises MissingError, RefusedError."""
        passphrase = None if self.passphrase_file is None else read_passphrase(self.passphrase_file)
        return load_key(self.folder / KEY_NAME, passphrase)


def read_kit_key(path: Path) -> bytes:
    """The public key in `kit-public.json`. Raises MissingError, RefusedError."""
    document = read_json(path, "`lamppost kit init-key` makes kit-public.json; have it from whoever makes your kits, not from a kit")
    try:
        key = bytes.fromhex(document["kit_key"])
        HostVerifier(key)
    except (KeyError, TypeError, ValueError, ProtocolError):
        raise RefusedError(f"{path} holds no kit key", "give kit-public.json") from None
    return key


def read_technician_public(path: Path) -> tuple[str, bytes]:
    """(name, public key) in a `technician-public.json`. Raises MissingError, RefusedError."""
    document = read_json(path, "`lamppost technician init` makes technician-public.json; have it from the technician himself")
    try:
        key = bytes.fromhex(document["technician_key"])
        HostVerifier(key)
    except (KeyError, TypeError, ValueError, ProtocolError):
        raise RefusedError(f"{path} holds no technician's key", "give technician-public.json") from None
    return str(document.get("name", "")), key


def init_technician(
    folder: Path, name: str, kit_key: bytes, authority: AuthorityPublic, registry: Path, passphrase_file: Path | None
) -> dict[str, str]:
    """Make the folder (mode 0700); what others need to check his records. Raises RefusedError when a key is there already."""
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    private_key = KeySource().private_key()
    save_key(folder / KEY_NAME, private_key, passphrase)
    public = authority.document()
    lines = [
        f"name = {_quoted(name)}",
        f"registry = {_quoted(str(registry.resolve()))}",
        "# Pinned at the desk: compare with their owners, never with what comes on a stick.",
        f'kit_key = "{kit_key.hex()}"',
        f'network = "{public["network"]}"',
        f'issuer = "{public["issuer"]}"',
        f'authority_key = "{public["public_key"]}"',
    ]
    if passphrase_file is not None:
        lines.append(f"passphrase_file = {_quoted(str(passphrase_file.resolve()))}")
    write_file(folder / SETTINGS_NAME, ("\n".join(lines) + "\n").encode(), PUBLIC_MODE)
    own = {"name": name, "technician_key": public_key(private_key).hex()}
    write_json(folder / PUBLIC_NAME, own)
    return {**own, "fingerprint": fingerprint(public_key(private_key)), "public_file": str(folder / PUBLIC_NAME)}


def load_technician(folder: Path) -> Technician:
    """Read `technician.toml`. Raises MissingError, or UsageError naming every wrong key at once."""
    path = folder / SETTINGS_NAME
    try:
        found = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        HostVerifier(bytes.fromhex(found.kit_key))
        HostVerifier(bytes.fromhex(found.authority_key))
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist", _ADVICE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", _ADVICE) from None
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise UsageError("\n".join([f"{path} has {len(lines)} error(s):", *lines]), _ADVICE) from None
    except ProtocolError:
        raise UsageError(f"{path}: a key is no point of P-256", _ADVICE) from None
    authority = AuthorityPublic(int(found.network, 16), int(found.issuer, 16), bytes.fromhex(found.authority_key))
    return Technician(folder, found.name, bytes.fromhex(found.kit_key), found.registry, authority, found.passphrase_file)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's."""
    return json.dumps(text)
