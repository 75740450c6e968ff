"""Bodies of releases on disk, so that nodes can fetch them while the broker is away: one file each, named by its SHA-256.

Written beside, synced and renamed: a file under its name is whole, and all the same it is hashed again when it is first read, for a disk
can rot. The newest few are kept, and whatever an open order names. Called on the event loop; only writing has a thread, since a disk's sync
may take long and a read of 256 KiB does not.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lamppost_protocol.errors import RemoteError
from lamppost_protocol.releases import DIGEST_BYTES, MAX_BODY_BYTES, NAME_BYTES, PIECE_BYTES

from lamppost_gateway.errors import ReleaseError

FOLDER = "releases"
KEPT = 4
_IN_MEMORY = 4  # bodies being served at a time: 1 MB at most
_LEAVE_FREE_BYTES = 16 << 20  # of the disk, for readings


@dataclass(frozen=True)
class HeldRelease:
    """A body on disk. `at_ms`: when it came, unix."""

    digest: bytes
    size_bytes: int
    at_ms: int


class ReleaseStore:
    """The bodies below `folder`. `free_bytes` gives the room on its disk."""

    def __init__(self, folder: Path, free_bytes: Callable[[Path], int] | None = None) -> None:
        self._folder = folder
        self._free_bytes = free_bytes or _free_bytes
        self._held: dict[bytes, HeldRelease] = {}
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()

    def load(self) -> None:
        """Look at what is there; what a crash left half written is removed. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            try:
                digest = parse_digest(path.name)
            except ValueError:
                path.unlink()
                continue
            status = path.stat()
            self._held[digest[:NAME_BYTES]] = HeldRelease(digest, status.st_size, status.st_mtime_ns // 1_000_000)

    def held(self) -> list[HeldRelease]:
        """All bodies, the newest first: in the order in which they came, whatever the clock said."""
        return list(reversed(self._held.values()))

    def get(self, release: bytes) -> HeldRelease | None:
        """The body whose digest begins with these NAME_BYTES octets."""
        return self._held.get(release)

    async def put(self, digest: bytes, body: bytes, needed: set[bytes]) -> bool:
        """Keep a body, durable when this returns, and let go of what is neither new nor in `needed` (digests). False: it is held already.

        Raises RemoteError (`too_long`; `bad_release`: it is not what its digest says), ReleaseError when the disk has no room for it.
        """
        if len(body) > MAX_BODY_BYTES:
            raise RemoteError("too_long")
        if hashlib.sha256(body).digest() != digest:
            raise RemoteError("bad_release", "the body is not that of this digest")
        name = digest[:NAME_BYTES]
        if name in self._held:
            return False
        if self._free_bytes(self._folder) < len(body) + _LEAVE_FREE_BYTES:
            raise ReleaseError(f"{self._folder}: less than {_LEAVE_FREE_BYTES >> 20} MiB would be left on the disk")
        try:
            await asyncio.to_thread(self._write, self._folder / digest.hex(), body)
        except OSError as error:
            raise ReleaseError(f"{self._folder}: {error.strerror}") from None
        self._held[name] = HeldRelease(digest, len(body), time.time_ns() // 1_000_000)
        newest = self.held()[:KEPT]
        for old in [release for release in self._held.values() if release not in newest and release.digest not in needed]:
            self.discard(old.digest)
        return True

    def discard(self, digest: bytes) -> None:
        """Let go of a body."""
        self._held.pop(digest[:NAME_BYTES], None)
        self._bodies.pop(digest[:NAME_BYTES], None)
        (self._folder / digest.hex()).unlink(missing_ok=True)

    def piece(self, release: bytes, offset: int) -> bytes | None:
        """Up to PIECE_BYTES octets of a body from `offset` on, empty behind its end; None when it is not held, or no longer whole."""
        body = self._bodies.get(release)
        if body is None:
            held = self._held.get(release)
            body = None if held is None else self._read(held)
            if body is None:
                return None
            self._bodies[release] = body
            while len(self._bodies) > _IN_MEMORY:
                self._bodies.popitem(last=False)
        self._bodies.move_to_end(release)
        return body[offset : offset + PIECE_BYTES]

    def _read(self, held: HeldRelease) -> bytes | None:
        try:
            body = (self._folder / held.digest.hex()).read_bytes()
        except OSError:
            body = b""
        if hashlib.sha256(body).digest() == held.digest:
            return body
        self.discard(held.digest)
        return None

    def _write(self, path: Path, body: bytes) -> None:
        half = path.with_suffix(".new")
        try:
            with half.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            half.rename(path)
        finally:
            half.unlink(missing_ok=True)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def parse_digest(text: str) -> bytes:
    """A SHA-256 as topics and files name it. Raises ValueError for anything but 64 lower-case hex digits."""
    digest = bytes.fromhex(text)
    if len(digest) != DIGEST_BYTES or digest.hex() != text:
        raise ValueError("a digest is 64 lower-case hex digits")
    return digest


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
