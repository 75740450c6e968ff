"""Puts files on a device as a technician does, through mpremote's transport; only those that differ, told apart by their SHA-256."""

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from bench.console import Repl

_CHUNK_BYTES = 1024


def install(repl: Repl, files: Mapping[str, bytes], between: str = "") -> list[str]:
    """Write each absolute path of `files` whose content differs; the paths written, in order. Folders are made.

    `between`: code to run on the device between files, such as feeding a watchdog. Cut off anywhere, doing it again completes it.
    Raises OSError as the device's file system gives it.
    """
    transport = repl.transport
    folders: set[str] = set()
    written = []
    for path, content in files.items():
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


def _digest(repl: Repl, path: str) -> bytes | None:
    try:
        return bytes(repl.transport.fs_hashfile(path, "sha256", chunk_size=_CHUNK_BYTES))
    except OSError:
        return None
