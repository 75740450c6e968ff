"""Builds the bench's QEMU images: MicroPython's own qemu port, unpatched, with the overlay in `port/`. `make qemu-firmware` calls it.

Results, each with the `firmware.json` that says what it is: `build/qemu/rv32/firmware.elf` and `build/qemu/arm/firmware.elf`.

MicroPython's source is Debian's package of the version below, checked against the SHA-256 below and fetched by apt from the very
mirror this machine uses, with package lists of its own, so the machine's stay as they are; no root needed. MICROPYTHON_SRC=DIR takes
a checkout instead. An image is built again, from nothing, when a file of the overlay, this file, the source or a compiler changed;
else a call ends at once. The same inputs give the same octets, wherever they are built: no path, date or user gets in.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
OVERLAY = HERE / "port"

DEBIAN_SUITE = "trixie"
DEBIAN_VERSION = "1.25.0+ds-1"
TARBALL = "micropython_1.25.0+ds.orig.tar.xz"
TARBALL_SHA256 = "7b25be99a502f070b2de81dafc08da7051d992325d6e67daa9045a918fffdbea"
TARBALL_VERSION = "v1.25.0"
SOURCE_DATE_EPOCH = "1744675200"  # 2025-04-15, the release: the only date in an image

BOARDS = {"rv32": "BENCH_RV32", "arm": "BENCH_AN385"}
COMPILERS = {"rv32": "riscv64-unknown-elf-gcc", "arm": "arm-none-eabi-gcc"}
EMULATORS = {"rv32": "qemu-system-riscv32", "arm": "qemu-system-arm"}


class BuildError(Exception):
    """Why there is no image, and what to do about it."""


def run(command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
    """Run `command` with its output in `log`. Raises BuildError with the log's last lines when it fails."""
    with log.open("ab") as output:
        code = subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder
        ).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildError(f"{command[0]} ended with status {code}; the end of {log}:\n{tail}")


def check_programs() -> None:
    """Raises BuildError naming every compiler and emulator that is missing."""
    needed = ["gcc", "make", *COMPILERS.values(), *EMULATORS.values()]
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        raise BuildError(f"missing: {', '.join(missing)}. `make deps` (root) installs them from Debian.")


def debian_mirror() -> str:
    """The address of the Debian archive this machine installs from. Raises BuildError where there is none."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], capture_output=True, text=True, check=True
    ).stdout.split()
    for address in targets:
        if urllib.parse.urlsplit(address).path.rstrip("/").endswith("/debian"):
            return address
    raise BuildError("apt knows no Debian archive here: set MICROPYTHON_SRC to a MicroPython checkout")


def fetch_tarball(folder: Path) -> Path:
    """The pinned source, downloaded unless it is there. Raises BuildError when it cannot be had or is not what was pinned."""
    tarball = folder / TARBALL
    if not tarball.exists():
        if shutil.which("apt-get") is None:
            raise BuildError("no apt-get here: set MICROPYTHON_SRC to a MicroPython checkout")
        apt = folder / "apt"
        (apt / "lists/partial").mkdir(parents=True, exist_ok=True)
        (apt / "sources.list").write_text(f"deb-src {debian_mirror()} {DEBIAN_SUITE} main\n")
        options: list[str | Path] = []
        for setting in (
            f"Dir::Etc::sourcelist={apt / 'sources.list'}",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State::lists={apt / 'lists'}",
            f"Dir::Cache={apt / 'cache'}",
            "Acquire::Languages=none",
            *(["APT::Sandbox::User=root"] if os.geteuid() == 0 else []),  # the sandbox's user may not write here
        ):
            options += ["-o", setting]
        print(f"fetching MicroPython {DEBIAN_VERSION}, source package of Debian {DEBIAN_SUITE}", flush=True)
        log = folder / "fetch.log"
        run(["apt-get", *options, "update"], log)
        run(["apt-get", *options, "source", "--download-only", f"micropython={DEBIAN_VERSION}"], log, folder=folder)
        shutil.rmtree(apt)
    found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if found != TARBALL_SHA256:
        tarball.unlink()
        raise BuildError(f"{TARBALL}: SHA-256 is {found}, pinned is {TARBALL_SHA256}; the file was removed")
    return tarball


def source_tree(work: Path) -> Path:
    """MicroPython's source: the user's checkout, or the pinned one unpacked once. Raises BuildError."""
    given = os.environ.get("MICROPYTHON_SRC")
    if given:
        tree = Path(given).resolve()
        if not (tree / "ports/qemu/Makefile").exists():
            raise BuildError(f"MICROPYTHON_SRC={given}: no MicroPython with a qemu port (1.24 or newer) there")
        return tree
    tree = work / f"micropython-{TARBALL_SHA256[:12]}"
    if not tree.exists():
        unpacked = work / "unpacking"
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(fetch_tarball(work)) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)  # Debian 12's Python has none
            archive.extractall(unpacked)
        next(unpacked.iterdir()).rename(tree)
        unpacked.rmdir()
    return tree


def digest_files(folder: Path) -> str:
    """One SHA-256 over the names and contents of all files below `folder`, caches left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def inputs_of(target: str) -> dict[str, str]:
    """All that an image depends on, by name. A checkout counts by its path, git revision and local changes."""
    given = os.environ.get("MICROPYTHON_SRC")
    source = TARBALL_SHA256
    if given:
        git = ["git", "-C", given]
        revision = subprocess.run([*git, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
        changes = subprocess.run([*git, "diff", "HEAD"], capture_output=True).stdout
        source = f"{Path(given).resolve()} {revision} {hashlib.sha256(changes).hexdigest()}"
    compiler = Path(shutil.which(COMPILERS[target]) or "")
    return {
        "source": source,
        "overlay": digest_files(OVERLAY),
        "recipe": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "compiler": f"{compiler.resolve()} {compiler.stat().st_size} {compiler.stat().st_mtime_ns}",
    }


def make_environment(work: Path, source: Path) -> dict[str, str]:
    """What `make` sees: no date but the pinned one, no path of this machine, nothing written into the source tree."""
    prefixes = {source: "micropython", OVERLAY: "port", work: "work"}
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "LDFLAGS")
    }
    environment |= {
        "LC_ALL": "C",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        "CFLAGS_EXTRA": " ".join(f"-ffile-prefix-map={path}={name}" for path, name in prefixes.items()),
    }
    if not os.environ.get("MICROPYTHON_SRC"):
        # Else the version header would ask the git repository around build/ for its own revision.
        environment |= {"MICROPY_GIT_TAG": TARBALL_VERSION, "MICROPY_GIT_HASH": ""}
    return environment


def build_cross_compiler(source: Path, work: Path, environment: Mapping[str, str], jobs: int) -> Path:
    """MicroPython's own bytecode compiler of this source, built once: frozen code must fit the VM."""
    folder = work / "mpy-cross"
    program = folder / "mpy-cross"
    stamp = work / "mpy-cross.source"
    if not program.exists() or not stamp.exists() or stamp.read_text() != inputs_of("rv32")["source"]:
        print("building mpy-cross", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        run(["make", "-C", source / "mpy-cross", f"-j{jobs}", f"BUILD={folder}"], work / "mpy-cross.log", environment)
        stamp.write_text(inputs_of("rv32")["source"])
    return program


def build_image(target: str, output: Path, jobs: int) -> Path:
    """The image of `target`, built unless it is up to date. Raises BuildError."""
    image = output / target / "firmware.elf"
    description = output / target / "firmware.json"
    inputs = inputs_of(target)
    if image.exists() and description.exists():
        known = json.loads(description.read_text())
        if known["inputs"] == inputs:
            return image
    work = output / "work"
    work.mkdir(parents=True, exist_ok=True)
    source = source_tree(work)
    environment = make_environment(work, source)
    cross_compiler = build_cross_compiler(source, work, environment, jobs)
    # Debian's package leaves micropython-lib out; freezing asks for its README even where nothing of it is frozen.
    library = work / "micropython-lib"
    library.mkdir(exist_ok=True)
    (library / "README.md").write_text("Empty: nothing of micropython-lib is frozen.\n")
    folder = work / target
    shutil.rmtree(folder, ignore_errors=True)
    log = work / f"{target}.log"
    log.unlink(missing_ok=True)
    print(f"building {target}", flush=True)
    settings = [f"BOARD={BOARDS[target]}", f"BOARD_DIR={OVERLAY / BOARDS[target]}", f"BUILD={folder}"]
    settings += [f"MICROPY_MPYCROSS={cross_compiler}", f"MPY_LIB_DIR={library}"]
    run(["make", "-C", source / "ports/qemu", f"-j{jobs}", *settings], log, environment)
    image.parent.mkdir(parents=True, exist_ok=True)
    description.unlink(missing_ok=True)
    finished = folder / "firmware.elf"
    sha256 = hashlib.sha256(finished.read_bytes()).hexdigest()
    finished.replace(image)
    description.write_text(json.dumps({"board": BOARDS[target], "sha256": sha256, "inputs": inputs}, indent=2) + "\n")
    return image


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the bench's QEMU images.", epilog="example: build.py --out build/qemu rv32")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{' or '.join(BOARDS)}; default: all")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build/qemu", help="where images and intermediate files go")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(BOARDS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    output = arguments.out.resolve()
    output.mkdir(parents=True, exist_ok=True)
    try:
        check_programs()
        with (output / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two builders at once the second finds the images made
            for target in arguments.targets or BOARDS:
                image = build_image(target, output, arguments.jobs)
                sha256 = json.loads(image.with_suffix(".json").read_text())["sha256"]
                print(f"{target} {sha256[:16]} {image}")
    except BuildError as error:
        print(f"qemu-firmware: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
