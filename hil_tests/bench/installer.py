"""Puts files on a device as a technician does, through mpremote's transport; only what differs, told apart by its SHA-256.

Files below /rom are no files to the device: they make one image, which mpremote's own `romfs deploy` writes into its ROMFS partition.
"""

import contextlib
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from mpremote.commands import do_romfs
from mpremote.romfs import make_romfs

from bench.console import Repl

_CHUNK_BYTES = 1024
ROM_FOLDER = "/rom/"


def install(repl: Repl, files: Mapping[str, bytes], between: str = "") -> list[str]:
    """Write each absolute path of `files` whose content differs; the paths written, in order, `/rom/` for the image. Folders are made.

    Nothing may be running from /rom when it is written: the REPL must have begun with a soft reset. It is mounted by the next reset.
    `between`: code to run on the device between files, such as feeding a watchdog. Cut off anywhere, doing it again completes it.
    Raises OSError as the device's file system gives it, mpremote's CommandError where there is no ROMFS partition.
    """
    transport = repl.transport
    folders: set[str] = set()
    written = []
    rom = {path: content for path, content in files.items() if path.startswith(ROM_FOLDER)}
    if rom:
        if between:
            repl.exec(between)
        if _deploy_rom(repl, rom_image(rom)):
            written.append(ROM_FOLDER)
    for path, content in files.items():
        if path in rom:
            continue
        if between:
            repl.exec(between)
        if _digest(repl, path) == hashlib.sha256(content).digest():
            continue
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            if str(folder) not in folders:
                folders.add(str(folder))
                if not transport.fs_exists(str(folder)):
                    transport.fs_mkdir(str(folder))
        transport.fs_writefile(path, content, chunk_size=_CHUNK_BYTES)
        written.append(path)
    return written


def rom_image(files: Mapping[str, bytes]) -> bytes:
    """The ROMFS image of these files, whose paths start with /rom/: the same files, the same octets."""
    with TemporaryDirectory() as folder:
        for path, content in files.items():
            target = Path(folder, path.removeprefix(ROM_FOLDER))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        with contextlib.redirect_stdout(io.StringIO()):
            return bytes(make_romfs(folder, mpy_cross=False))


def _deploy_rom(repl: Repl, image: bytes) -> bool:
    """Write the image unless it is there; whether it was written."""
    digest = "import vfs, hashlib\nrom = vfs.rom_ioctl(2, 0)\n"
    digest += f"print(b'' if isinstance(rom, int) else hashlib.sha256(memoryview(rom)[:{len(image)}]).digest())"
    if repl.exec(digest).strip() == repr(hashlib.sha256(image).digest()):
        return False
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder, "image.romfs")
        path.write_bytes(image)
        state = SimpleNamespace(transport=repl.transport, ensure_raw_repl=lambda: None, did_action=lambda: None)
        do_romfs(state, SimpleNamespace(command=["deploy"], path=str(path), partition=0, mpy=False))
    return True


def _digest(repl: Repl, path: str) -> bytes | None:
    try:
        return bytes(repl.transport.fs_hashfile(path, "sha256", chunk_size=_CHUNK_BYTES))
    except OSError:
        return None
