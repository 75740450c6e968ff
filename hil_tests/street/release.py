"""Releases for tests: modules of this tree, changed a little, against the base that an image has."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from lamppost_protocol import releases

from street.street_node import firmware

#: What the files of `changes` are changed by: (text, what stands in its place), or a whole text; a new file where the tree has none.
Changes = Mapping[str, tuple[str, str] | str]


def base_files(image: Mapping[str, bytes], library: str) -> dict[str, bytes]:
    """The base's files by their names in a release; `image`: by path on the device, the packages below `library`."""
    found = {path[len(library) + 1 :]: content for path, content in image.items() if path.startswith(library + "/lamppost_")}
    return {name: content for name, content in found.items() if name.endswith(".mpy")}


def base_of(image: Mapping[str, bytes], library: str) -> bytes:
    """The 8 octets that name it."""
    return releases.base_of(sorted((name, hashlib.sha256(content).digest()) for name, content in base_files(image, library).items()))


def changed_files(folder: Path, changes: Changes) -> dict[str, bytes]:
    """Bytecode of every module that these changes of the tree make another, by its name in a release. `folder`: to work in."""
    return dict(_changed_files(folder, tuple(sorted(changes.items(), key=lambda item: item[0]))))


def body_of(folder: Path, changes: Changes) -> bytes:
    """A release's body with the changed modules."""
    return releases.encode_body(changed_files(folder, changes).items())


@functools.cache
def _base_programs() -> dict[str, str]:
    programs: dict[str, str] = firmware().condensed_programs({})
    return programs


_made: dict[tuple[tuple[str, tuple[str, str] | str], ...], dict[str, bytes]] = {}


def _changed_files(folder: Path, changes: tuple[tuple[str, tuple[str, str] | str], ...]) -> dict[str, bytes]:
    if changes not in _made:
        make = firmware()
        folder.mkdir(parents=True, exist_ok=True)
        replaced = {}
        for name, change in changes:
            if isinstance(change, str):
                replaced[name] = change
                continue
            package = next(package for package in make.PACKAGES if name.startswith(package.name + "/"))
            text = (package.parent / name).read_text()
            assert text.count(change[0]) == 1, (name, change[0])
            replaced[name] = text.replace(*change)
        base = _base_programs()
        _made[changes] = {
            name.removesuffix(".py") + ".mpy": make.compile_condensed(name, program, folder)
            for name, program in make.condensed_programs(replaced).items()
            if program != base.get(name)
        }
    return _made[changes]


def version(text: str, number: int) -> tuple[str, str]:
    """The change of version.py's first line of meaning; `number` is its patch."""
    return 'VERSION = "lamppost 0.1.0"', f'VERSION = "{text}"\n_PATCH = {number}'
