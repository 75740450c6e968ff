"""Wheels for a laptop without a network: our own, built here, and those of the libraries it needs, out of a folder the user has.

A library's wheel is taken only when it is the very file that `.ci/requirements.lock` has a digest of. One that is published as source alone
(esptool) is taken as that, by the same digests, and made a wheel here, so that the laptop needs nothing to build with. What is not there
is named.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from lamppost_tools.errors import MissingError, RefusedError

_DISTRIBUTION = "lamppost"
_EXTRA = "technician"
_SOURCE_DATE_S = 315_532_800  # 1980-01-01, the first day that a zip file knows
_SOURCES = ("pyproject.toml", "README.md", "LICENSE")
_PACKAGES = ("protocol/lamppost_protocol", "gateway/lamppost_gateway", "tools/lamppost_tools")


@dataclass(frozen=True)
class Library:
    """One library that the tool needs, at the version that is installed here."""

    name: str
    version: str
    licence: str
    licence_files: dict[str, bytes]


def build_wheel(root: Path) -> tuple[str, bytes]:
    """Our wheel's file name and content: the same sources give the same octets. Raises MissingError when it cannot be built."""
    with TemporaryDirectory() as folder:
        tree, out = Path(folder, "tree"), Path(folder, "out")
        for name in _SOURCES:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, tree / name)
        for name in _PACKAGES:
            shutil.copytree(root / name, tree / name, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # modes stand in a wheel
        return _build(tree, out)


def _build(tree: Path, out: Path) -> tuple[str, bytes]:
    """The wheel of the sources in `tree`. Raises MissingError."""
    out.mkdir()
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_SOURCE_DATE_S), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        umask=0o022,
    )
    made = list(out.glob("*.whl"))
    if done.returncode or len(made) != 1:
        raise MissingError(f"the wheel could not be built: {done.stderr.strip()[-300:]}", "pip install setuptools")
    return made[0].name, made[0].read_bytes()


def libraries() -> list[Library]:
    """All that `lamppost[technician]` needs on this machine, by name, itself left out. Raises MissingError for what is not installed."""
    found: dict[str, Library] = {}
    todo = [(_DISTRIBUTION, _EXTRA)]
    seen = set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise MissingError(f"the library {name} is not installed", "pip install 'lamppost[technician]'") from None
        if name != _DISTRIBUTION:
            found[name] = _library(name, distribution)
        todo.extend(_needed(distribution, extra))
    return [found[name] for name in sorted(found)]


def find_wheels(folder: Path, wanted: list[Library], lock: Path) -> tuple[dict[str, bytes], list[str]]:
    """Wheels by file name, and which libraries have none in `folder`. Raises RefusedError for a file that the lock does not know."""
    digests = locked_digests(lock)
    wheels, missing = {}, []
    for library in wanted:
        name = f"{library.name}=={library.version}"
        stem = f"{library.name.replace('-', '_')}-{library.version}"
        named = sorted(path for path in folder.iterdir() if path.name.lower().startswith(stem.lower()))
        wheel_paths = [path for path in named if path.suffix == ".whl" and path.name[len(stem)] == "-"]
        source_paths = [path for path in named if path.name[len(stem) :] == ".tar.gz"]
        if not wheel_paths and not source_paths:
            missing.append(name)
        for path in wheel_paths or source_paths:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() not in digests.get(name, set()):
                raise RefusedError(
                    f"{path.name} is not the file that {lock.name} knows as {name}", "fetch it with pip download --require-hashes"
                )
            wheel_name, wheel = (path.name, data) if path in wheel_paths else _wheel_of_source(data, path.name.removesuffix(".tar.gz"))
            wheels[wheel_name] = wheel
    return wheels, missing


def _wheel_of_source(archive: bytes, top: str) -> tuple[str, bytes]:
    """The wheel of a source archive whose digest was checked; `top`: the folder that all of it lies in."""
    with TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
        tree = Path(folder, top)
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return _build(tree, Path(folder, "out"))


def locked_digests(lock: Path) -> dict[str, set[str]]:
    """SHA-256 digests in hex by `name==version` of a lock file as pip reads it."""
    found: dict[str, set[str]] = {}
    current = ""
    for line in lock.read_text().splitlines():
        begins = re.match(r"([A-Za-z0-9._-]+==[^ ;\\]+)", line)
        if begins:
            name, _, version = begins[1].partition("==")
            current = f"{_canonical(name)}=={version}"
        found.setdefault(current, set()).update(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def _needed(distribution: metadata.Distribution, extra: str) -> Iterator[tuple[str, str]]:
    from packaging.requirements import Requirement

    for text in distribution.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            name = _canonical(requirement.name)
            yield name, ""
            yield from ((name, more) for more in requirement.extras)


def _library(name: str, distribution: metadata.Distribution) -> Library:
    about = distribution.metadata
    stated = [*(about.get_all("License-Expression") or []), *(about.get_all("License") or [])]
    classified = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("License ::")]
    licence = stated[0].split("\n")[0] if stated else ", ".join(classified) or "not stated"
    files = {}
    for path in distribution.files or []:
        if ".dist-info" in path.parts[0] and re.match(r"(?i)(licen[cs]e|copying|notice|authors)", path.name):
            files[path.name] = Path(str(path.locate())).read_bytes()
    return Library(name, distribution.version, licence, files)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
