"""A disk for SQLite that loses its power: writes count only once synced, and a cut at any operation leaves some of the rest.

Killing a process cannot show what a power cut does, since the page cache outlives it. Here every file is its synced octets plus
the writes since; at the cut each of those is kept, dropped or torn by sector, at random. Ref: SQLite "How SQLite Is Tested",
section 3.4 (crash testing), and its test6.c. Needs apsw; WAL without shared memory, so `locking_mode=exclusive`.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw
from lamppost_gateway import outbox

_SECTOR_BYTES = 512


class PowerCut(Exception):  # noqa: N818 - an event, not an error
    """The power went; every operation from here on fails."""


class _File:
    """One file: `synced` survives for certain, `pending` (offset, octets) or (size, None for a truncation) may."""

    def __init__(self) -> None:
        self.synced = b""
        self.live = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []
        self.is_entry_synced = False


class CrashDisk:
    """Files in memory under a VFS of its own; the power goes at operation `cut_at` (from 1), never when None."""

    _count = 0

    def __init__(self, cut_at: int | None = None) -> None:
        CrashDisk._count += 1
        self.name = f"crash{CrashDisk._count}"
        self.files: dict[str, _File] = {}
        self.cut_at = cut_at
        self.operations = 0
        self.is_off = False
        self._connections: list[apsw.Connection] = []
        self._vfs = _Vfs(self)

    def step(self) -> None:
        """Count one operation that a power cut may hit."""
        self.operations += 1
        if self.cut_at is not None and self.operations >= self.cut_at:
            self.is_off = True
            raise PowerCut

    def connect(self, path: Path, synchronous: str = "FULL") -> Connection:
        """A connector for `Outbox`."""
        raw = apsw.Connection(str(path), vfs=self.name)
        self._connections.append(raw)
        connection = Connection(raw)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        outbox.configure(connection, synchronous)
        return connection

    def close(self) -> None:
        """Close what is open; a cut may hit the last checkpoint too."""
        for connection in self._connections:
            try:
                connection.close(True)
            except (PowerCut, apsw.Error):
                pass

    def after_cut(self, folder: Path, source: random.Random) -> None:
        """Write to `folder` what a disk might hold after the cut."""
        for name, file in self.files.items():
            if not file.is_entry_synced and not file.synced and source.random() < 0.3:
                continue
            data = bytearray(file.synced)
            fate = source.choice(("none", "all", "some", "torn"))
            for offset, octets in file.pending:
                if fate == "none" or (fate != "all" and source.random() < 0.5):
                    continue
                if octets is None:
                    del data[offset:]
                    continue
                for start in range(0, len(octets), _SECTOR_BYTES):
                    if fate == "torn" and source.random() < 0.3:
                        continue
                    part = octets[start : start + _SECTOR_BYTES]
                    at = offset + start
                    data.extend(bytes(max(0, at + len(part) - len(data))))
                    data[at : at + len(part)] = part
            (folder / Path(name).name).write_bytes(data)


class Connection:
    """apsw's connection with the errors and the immediacy of sqlite3's."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return not self._connection.get_autocommit()

    def execute(self, sql: str, parameters: Any = (), /) -> Iterable[Any]:
        return self._run(lambda: list(self._connection.execute(sql, parameters)))

    def executemany(self, sql: str, parameters: Any, /) -> Iterable[Any]:
        return self._run(lambda: list(self._connection.executemany(sql, parameters)))

    def close(self) -> None:
        try:
            self._connection.close(True)
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error

    def _run(self, work: Callable[[], list[Any]]) -> list[Any]:
        try:
            return work()
        except apsw.Error as error:
            translated = sqlite3.OperationalError(str(error))
            translated.sqlite_errorcode = getattr(error, "extendedresult", 0)
            raise translated from error


class _Vfs(apsw.VFS):
    def __init__(self, disk: CrashDisk) -> None:
        self._disk = disk
        super().__init__(disk.name, base="")

    def xFullPathname(self, name: str) -> str:  # noqa: N802 - SQLite's names
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return pathname in self._disk.files

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if not self._disk.is_off:  # closing deletes without listening; the dead disk just does not
            self._disk.step()
            self._disk.files.pop(filename, None)

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        flags[1] = flags[0]
        filename = name if isinstance(name, str) else name.filename()
        return _Handle(self._disk, self._disk.files.setdefault(filename, _File()))


class _Handle:
    def __init__(self, disk: CrashDisk, file: _File) -> None:
        self._disk = disk
        self._file = file

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self._file.live[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.step()
        live = self._file.live
        live.extend(bytes(max(0, offset + len(data) - len(live))))
        live[offset : offset + len(data)] = data
        self._file.pending.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.step()
        del self._file.live[size:]
        self._file.pending.append((size, None))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.step()
        self._file.synced = bytes(self._file.live)
        self._file.pending.clear()
        self._file.is_entry_synced = True

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._file.live)

    def xClose(self) -> None:  # noqa: N802
        pass

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return _SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
