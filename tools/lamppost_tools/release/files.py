"""A release on disk, three files side by side: NAME is the body, NAME.json its description for people, NAME.cose its signed manifest.

Body and description come from the same two folders of firmware with the same octets, whoever builds them; the manifest comes from the
authority. Ref: protocol/WIRE.md section 17.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamppost_protocol import cose, releases
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostVerifier
from lamppost_protocol.releases import Manifest

from lamppost_tools.authority.public import AuthorityPublic
from lamppost_tools.durable import write_file
from lamppost_tools.errors import MissingError, RefusedError
from lamppost_tools.signed_document import canonical_json

FORMAT = "lamppost release 1"
_ANEW = "build it again: lamppost release build"


@dataclass(frozen=True)
class Release:
    """What stands on disk and fits together. `signed`: the manifest's octets, None before the authority has signed."""

    path: Path
    body: bytes
    description: dict[str, Any]
    signed: bytes | None

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    def manifest(self, sequence: int) -> Manifest:
        """What the authority is to sign."""
        about = self.description
        return Manifest(sequence, bytes.fromhex(about["base"]), about["version"], about["heap_bytes"], len(self.body), self.digest)

    def told(self) -> Manifest | None:
        """The manifest, whoever signed it; None where it is not signed. Raises RefusedError where it is another release's."""
        if self.signed is None:
            return None
        try:
            message = cose.decode(self.signed)
            manifest: Manifest = releases.decode_manifest(message.tx, message.payload)
        except ProtocolError as error:
            raise RefusedError(f"{signature_path(self.path)} is no manifest: {error}", _ANEW) from None
        if manifest != self.manifest(manifest.sequence):
            raise RefusedError(f"{signature_path(self.path)} is the manifest of another release", _ANEW)
        return manifest

    def verified(self, authority: AuthorityPublic) -> Manifest:
        """The manifest, if this authority signed it and it is that of this body. Raises RefusedError."""
        if self.signed is None:
            raise RefusedError(f"{signature_path(self.path)} is missing: nobody has signed this release", "lamppost release sign")
        try:
            manifest: Manifest = releases.open_manifest(
                self.signed, HostVerifier(authority.public_key), authority.network, authority.issuer
            )
        except ProtocolError as error:
            raise RefusedError(f"{signature_path(self.path)} is not signed by this authority: {error}", "ask who made it") from None
        self.told()
        return manifest


def description_path(path: Path) -> Path:
    """Where a release's description stands."""
    return path.with_name(path.name + ".json")


def signature_path(path: Path) -> Path:
    """Where its signed manifest stands."""
    return path.with_name(path.name + ".cose")


def describe(files: Mapping[str, bytes], body: bytes, base: bytes, version: str, heap_bytes: int) -> dict[str, Any]:
    """The description of a body made of these files."""
    return {
        "format": FORMAT,
        "version": version,
        "base": base.hex(),
        "heap_bytes": heap_bytes,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "files": {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in sorted(files.items())},
    }


def write_release(path: Path, body: bytes, description: dict[str, Any]) -> None:
    """Write body and description. Raises RefusedError when there is a release already."""
    for there in (path, description_path(path), signature_path(path)):
        if there.exists():
            raise RefusedError(f"{there} exists already", "give another --out: a release is made anew, never changed")
    write_file(path, body)
    write_file(description_path(path), canonical_json(description))


def read_release(path: Path) -> Release:
    """Body, description and, where there is one, signed manifest. Raises MissingError, RefusedError where they do not fit each other."""
    try:
        body, text = path.read_bytes(), description_path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingError(f"{error.filename} does not exist", "give the file that `lamppost release build --out` made") from None
    signed = signature_path(path).read_bytes() if signature_path(path).exists() else None
    try:
        about = json.loads(text)
        made = describe(files_of(body), body, bytes.fromhex(about["base"]), about["version"], about["heap_bytes"])
        releases.encode_manifest(Release(path, body, made, None).manifest(1))
    except (ValueError, KeyError, TypeError, ProtocolError) as error:
        raise RefusedError(f"{path} and {description_path(path).name} are no release: {error}", _ANEW) from None
    if made != about:
        wrong = next((name for name in made["files"] if made["files"][name] != about.get("files", {}).get(name)), path.name)
        raise RefusedError(f"{wrong} is not as {description_path(path).name} has it", _ANEW)
    return Release(path, body, about, signed)


def files_of(body: bytes) -> dict[str, bytes]:
    """Name and content of each file in a body. Raises RemoteError for what is none."""
    stream = io.BytesIO(body)
    return {name: stream.read(size) for name, size in releases.files_of(stream.read, len(body))}
