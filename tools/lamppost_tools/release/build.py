"""Makes a release: the files of new firmware that differ from what technicians put on the boards."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamppost_protocol import releases
from lamppost_protocol.errors import ProtocolError

from lamppost_tools.errors import MissingError, RefusedError, UsageError
from lamppost_tools.kit.build import FIRMWARE, compile_firmware
from lamppost_tools.release.files import describe, write_release

_VERSION_FILE = "lamppost_node/version.mpy"
_VERSION = re.compile(rb"[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*")


def build_release(out: Path, base: Path, image: Path | None, version: str | None, heap_bytes: int) -> dict[str, Any]:
    """Write body and description; what is in them. `image` None: the checkout that this program runs from. Raises ToolError."""
    before = firmware_of(base)
    now = _compiled() if image is None else firmware_of(image)
    files = changed_files(before, now)
    version = _version_of(now, version)
    try:
        body = releases.encode_body(files.items())
        base_name = releases.base_of(sorted((name, hashlib.sha256(data).digest()) for name, data in before.items()))
        description = describe(files, body, base_name, version, heap_bytes)
        releases.encode_manifest(releases.Manifest(1, base_name, version, heap_bytes, len(body), hashlib.sha256(body).digest()))
    except ProtocolError as error:
        raise RefusedError(
            f"this makes no release: {error}", "at most 256 KiB may differ from the base, and a version has 16 letters"
        ) from None
    write_release(out, body, description)
    return description


def firmware_of(folder: Path) -> dict[str, bytes]:
    """The bytecode in a kit or in an image's folder, by name below its module path. Raises MissingError."""
    library = folder / FIRMWARE / "lib"
    root = library if library.is_dir() else folder
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for package in releases.PACKAGES
        for path in sorted((root / package).rglob("*.mpy"))
    }
    if _VERSION_FILE not in files:
        raise MissingError(f"{folder} holds no firmware", "give a kit, or the folder that firmware/make_image.py --out made")
    return files


def changed_files(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> dict[str, bytes]:
    """What is new or other in `now`. Raises RefusedError for what an update cannot carry, and when its version is the same."""
    changed = {name: data for name, data in now.items() if before.get(name) != data}
    for name in changed:
        if not releases.is_file_name(name):
            raise RefusedError(
                f"{name} differs, and no update may carry it", "such firmware needs a technician at the board: lamppost kit build"
            )
    if _VERSION_FILE not in changed:
        raise RefusedError("the new firmware says the same version as the base", "raise VERSION in firmware/lamppost_node/version.py")
    return changed


def _version_of(files: Mapping[str, bytes], version: str | None) -> str:
    """The version that the new firmware says of itself, which is the one a node tells when it runs."""
    found = _VERSION.findall(files[_VERSION_FILE])
    if version is None:
        if len(found) != 1:
            raise UsageError(f"{_VERSION_FILE} does not say its version plainly", "give it with --version")
        return str(found[0].decode())
    if version.encode() not in files[_VERSION_FILE]:
        raise UsageError(f"{_VERSION_FILE} does not say {version!r}", "give the version that firmware/lamppost_node/version.py says")
    return version


def _compiled() -> dict[str, bytes]:
    files = compile_firmware(Path(__file__).resolve().parents[3])
    return {name.removeprefix("lib/"): data for name, data in files.items() if name.startswith("lib/")}
