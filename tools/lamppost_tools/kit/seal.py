"""A kit is a folder whose every octet is vouched for: `manifest.json` names each file with size and SHA-256, `manifest.cose` signs it.

The key that verifies comes from the technician's own settings, never from the kit. What was verified is what is used: `open_kit` reads
each file once and hands out its content, so nobody can change a file between the look and the use.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamppost_tools.errors import MissingError, RefusedError
from lamppost_tools.signed_document import KIT, canonical_json, sign_document, verify_document

MANIFEST, SIGNATURE = "manifest.json", "manifest.cose"
FORMAT = "lamppost kit 1"
_NEXT = "do not use this kit: fetch it again from where it was made"
_MAX_FILE_BYTES = 64 << 20  # a wheel or an image; nothing larger belongs into a kit


@dataclass(frozen=True)
class Kit:
    """A verified kit. `files`: content by name below its folder; `manifest`: what was signed."""

    manifest: dict[str, Any]
    files: Mapping[str, bytes]

    def below(self, folder: str) -> dict[str, bytes]:
        """Content by name below `folder`."""
        return {name.removeprefix(folder + "/"): data for name, data in self.files.items() if name.startswith(folder + "/")}


def seal(files: Mapping[str, bytes], about: Mapping[str, Any], private_key: bytes) -> dict[str, bytes]:
    """The two files that vouch for `files`. `about` stands in the manifest beside them."""
    entries = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    manifest = canonical_json({"format": FORMAT, **about, "files": entries})
    return {MANIFEST: manifest, SIGNATURE: sign_document(KIT, manifest, private_key)}


def open_kit(folder: Path, public: bytes) -> Kit:
    """The kit in `folder`, if `public` (64 octets) signed it as it is. Raises MissingError, RefusedError naming the file."""
    if not folder.is_dir():
        raise MissingError(f"{folder} is no folder", "give the kit's folder, as `lamppost kit build --out` made it")
    there = _names(folder)
    for name in (MANIFEST, SIGNATURE):
        if name not in there:
            raise RefusedError(f"{name} is missing", _NEXT)
    manifest = _read(folder, MANIFEST)
    try:
        document = verify_document(KIT, manifest, _read(folder, SIGNATURE), public)
    except RefusedError as error:
        raise RefusedError(
            f"{MANIFEST} is not what {SIGNATURE} signs with your kit key: {error.what}",
            "the kit was changed, or made by somebody else: " + _NEXT,
        ) from None
    if document.get("format") != FORMAT:
        raise RefusedError(f"{MANIFEST} is not of the form {FORMAT!r}", "use the `lamppost` that stands in the kit")
    entries: dict[str, dict[str, Any]] = document["files"]
    for name in sorted(set(entries) - there):
        raise RefusedError(f"{name} is missing", _NEXT)
    for name in sorted(there - set(entries) - {MANIFEST, SIGNATURE}):
        raise RefusedError(f"{name} does not belong to the kit", "remove it, and ask who put it there")
    files = {}
    for name, entry in sorted(entries.items()):
        data = _read(folder, name)
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise RefusedError(f"{name} was changed", _NEXT)
        files[name] = data
    return Kit(document, files)


def _names(folder: Path) -> set[str]:
    found = set()
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise RefusedError(f"{relative} is no plain file", _NEXT)
            if path.is_file():
                found.add(relative)
    return found


def _read(folder: Path, name: str) -> bytes:
    with (folder / name).open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise RefusedError(f"{name} is larger than {_MAX_FILE_BYTES >> 20} MiB", _NEXT)
    return data
