"""Files that survive a power cut: written beside, synced, renamed, and the folder synced too.

A reader sees the old content or the new one, never a mixture (rename is atomic on one file system).
"""

import fcntl
import json
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lamppost_tools.errors import MissingError, RefusedError

OWNER_ONLY_MODE = 0o600
PUBLIC_MODE = 0o644


class FileLock:
    """Held while one process uses what the file at `path` stands for; it ends with the process, however that ends."""

    def __init__(self, path: Path, taken: str = "", next_step: str = "") -> None:
        """`taken` and `next_step`: what the second one is told; left out: it waits."""
        self._path = path
        self._taken = taken
        self._next_step = next_step
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Raises RefusedError when another process holds it and that is not waited for."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY_MODE)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if self._taken else 0))
        except OSError:
            os.close(self._descriptor)
            raise RefusedError(self._taken, self._next_step) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)


def write_file(path: Path, data: bytes, mode: int = PUBLIC_MODE) -> None:
    """Replace `path` by `data`, durable when this returns. The file never exists with a wider mode than `mode`."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any, mode: int = PUBLIC_MODE) -> None:
    """Replace `path` by `value` as indented JSON with sorted keys, durable when this returns."""
    write_file(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), mode)


def append_line(path: Path, line: str, mode: int = OWNER_ONLY_MODE) -> None:
    """Append one line, durable when this returns. Raises OSError, with nothing appended, when there is no room for all of it."""
    fresh = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
    try:
        size_bytes = os.fstat(descriptor).st_size
        left = line.encode() + b"\n"
        try:
            while left:
                left = left[os.write(descriptor, left) :]  # a full disk takes a part first and refuses the rest
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size_bytes)
            raise
    finally:
        os.close(descriptor)
    if fresh:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, next_step: str) -> Any:
    """Content of a JSON file. Raises MissingError (absent) or RefusedError (not JSON) with `next_step`."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist", next_step) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise RefusedError(f"{path} is not JSON: {error}", next_step) from None


def require_owner_only(path: Path) -> None:
    """Refuse a secret file that group or others can touch. Raises RefusedError, MissingError."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MissingError(
            f"{path} does not exist", "check the path; secrets are made by `lamppost authority init` and `lamppost node enrol`"
        ) from None
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RefusedError(
            f"{path} can be reached by group or others (mode {stat.S_IMODE(status.st_mode):04o})",
            f"decide who may have seen it, then: chmod 600 {path}",
        )
