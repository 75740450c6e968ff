"""Puts files on a board through mpremote's transport; only what differs, told apart by its SHA-256.

The ROMFS partition takes one image, the same as `mpremote romfs deploy` takes; that one prints, and several boards are worked on at once.
Knows no project: what is installed and why is the caller's, and so are refusals.
"""

import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol

_CHUNK_BYTES = 1024
_HAS_ROM = """import hashlib, vfs
rom = vfs.rom_ioctl(2, 0) if hasattr(vfs, 'rom_ioctl') else None
print(hasattr(rom, 'ioctl'))
"""
_UNPACK = """import binascii, deflate, io
def unpack(packed):
    return deflate.DeflateIO(io.BytesIO(binascii.a2b_base64(packed)), deflate.RAW, 9).read()
try:
    vfs.umount('/rom')
except OSError:
    pass
"""


class Repl(Protocol):
    """A held raw REPL: mpremote's transport, and `exec` with a deadline of its own."""

    @property
    def transport(self) -> Any:
        """mpremote's own, for its file operations."""

    def exec(self, code: str) -> str:
        """Run code to its end; what it printed."""


def install(repl: Repl, files: Mapping[str, bytes], between: str = "", tell: Callable[[str], None] | None = None) -> list[str]:
    """Write each absolute path of `files` whose content differs; the paths written, in order. Folders are made.

    `between`: code to run on the board between files, such as feeding a watchdog. `tell` hears each path before it is looked at. Each
    file is written beside its place and renamed, so what is there under its name is whole. Cut off anywhere, doing it again completes it.
    Raises OSError as the board's file system gives it.
    """
    transport = repl.transport
    folders: set[str] = set()
    written = []
    for path, content in files.items():
        if tell is not None:
            tell(path)
        if between:
            repl.exec(between)
        if digest_on_board(repl, path) == hashlib.sha256(content).digest():
            continue
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            if str(folder) not in folders:
                folders.add(str(folder))
                if not transport.fs_exists(str(folder)):
                    transport.fs_mkdir(str(folder))
        transport.fs_writefile(path + ".new", content, chunk_size=_CHUNK_BYTES)
        repl.exec(f"import os\nos.rename({path + '.new'!r}, {path!r})")
        written.append(path)
    return written


def install_rom(repl: Repl, image: bytes, between: str = "", tell: Callable[[str], None] | None = None) -> bool:
    """Write the ROMFS image unless it is there; whether it was written. It is mounted by the next reset.

    Nothing may be running from it: the REPL must have begun with a soft reset. Cut off anywhere, doing it again completes it.
    Raises ValueError where the board has no such partition (`has_rom`), or a smaller one. Ref: MicroPython, `vfs.rom_ioctl` and
    `vfs.AbstractBlockDev.ioctl`: 4 is the block count, 5 the block size, 6 erases a block.
    """
    if not has_rom(repl):
        raise ValueError("the board has no ROMFS partition")
    there = f"print(len(image := memoryview(rom)) >= {len(image)} and hashlib.sha256(image[:{len(image)}]).digest())"
    if repl.exec(there).strip() == repr(hashlib.sha256(image).digest()):
        return False
    blocks, block_bytes = (int(word) for word in repl.exec("print(rom.ioctl(4, 0), rom.ioctl(5, 0))").split())
    wanted = -(-len(image) // block_bytes)
    if wanted > blocks:
        raise ValueError(f"the ROMFS partition has {blocks * block_bytes} bytes, the image {len(image)}")
    repl.exec(_UNPACK)
    for block in range(wanted):
        if tell is not None:
            tell(f"ROMFS block {block + 1} of {wanted}")
        if between:
            repl.exec(between)
        data = image[block * block_bytes : (block + 1) * block_bytes].ljust(block_bytes, b"\xff")
        packed = binascii.b2a_base64(zlib.compress(data, 9, -9), newline=False)
        repl.exec(f"rom.ioctl(6, {block})\nrom.writeblocks({block}, unpack({packed!r}), 0)")
    return True


def has_rom(repl: Repl) -> bool:
    """Whether the board has a ROMFS partition that can be written as a block device; `rom` on it then is that device."""
    return repl.exec(_HAS_ROM).strip() == "True"


def digest_on_board(repl: Repl, path: str) -> bytes | None:
    """SHA-256 of a file on the board, None when it cannot be read."""
    try:
        return bytes(repl.transport.fs_hashfile(path, "sha256", chunk_size=_CHUNK_BYTES))
    except OSError:
        return None
