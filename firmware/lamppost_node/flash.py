"""The node's flash folder: the few file operations that spool, settings and identity are allowed.

Role: lowest boundary of everything durable. On a chip the folder lies on littlefs, on the unix port it is a host folder; both
rename over an existing file in one step, which is all the atomicity the rooms above rely on. Tests replace this class by one that
cuts the power at any operation.

Nothing here interprets what it stores. Known gap: the host folder is not synced to its disk (MicroPython has no fsync); a
killed process loses nothing, a host that loses power may.
"""

import os

_ENOENT = 2
_NEW = ".new"


def in_place(path: str) -> "memoryview | None":
    """A file of the read-only file system a board runs its bytecode from (ROMFS), where it lies: nothing is copied. None: not there."""
    try:
        return memoryview(open(path, "rb"))
    except (OSError, TypeError):
        return None


class Flash:
    """File operations below one folder; names are relative, with `/` between at most two levels. Raises OSError."""

    def __init__(self, root: str):
        self.root = root

    def _path(self, name: str) -> str:
        return self.root + "/" + name if name else self.root

    def read(self, name: str) -> bytes | None:
        """The whole file, or None when there is none. Allocates the file's size."""
        try:
            with open(self._path(name), "rb") as file:
                data: bytes = file.read()
                return data
        except OSError as error:
            if error.errno == _ENOENT:
                return None
            raise

    def read_into(self, name: str, buffer: "bytearray | memoryview") -> int:
        """Fill `buffer` from the start of the file; bytes read, 0 when there is no file. Longer files are cut at the buffer."""
        try:
            with open(self._path(name), "rb") as file:
                return file.readinto(buffer) or 0
        except OSError as error:
            if error.errno == _ENOENT:
                return 0
            raise

    def replace(self, name: str, data: "bytes | memoryview") -> None:
        """Write a new file beside `name`, close it, rename it over: old or new after a power cut, never neither.

        A folder's half-written files all have one name, so that cuts leave one at most and the next `replace` takes it.
        """
        path = self._path(name)
        new = path[: path.rfind("/") + 1] + _NEW
        with open(new, "wb") as file:
            file.write(data)
        os.rename(new, path)

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name, over whatever has it: the old name or the new one after a power cut, never neither."""
        os.rename(self._path(name), self._path(new_name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file of its own at once: durable when this returns, a prefix of it (littlefs: nothing) after a power cut."""
        with open(self._path(name), "wb") as file:
            file.write(data)

    def append(self, name: str, data: bytes) -> None:
        """Add `data` to the end of `name` (made when missing); durable when this returns, a prefix of it after a power cut."""
        with open(self._path(name), "ab") as file:
            file.write(data)

    def remove(self, name: str) -> None:
        """Remove a file; one that is missing already is no error."""
        try:
            os.remove(self._path(name))
        except OSError as error:
            if error.errno != _ENOENT:
                raise

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none when the folder is missing. Half-written `.new` files are left out."""
        try:
            found = os.listdir(self._path(folder))
        except OSError as error:
            if error.errno == _ENOENT:
                return []
            raise
        return sorted([name for name in found if not name.endswith(_NEW)])

    def size_bytes(self, name: str) -> int:
        """Size of a file; 0 when it is missing."""
        try:
            return os.stat(self._path(name))[6]
        except OSError as error:
            if error.errno == _ENOENT:
                return 0
            raise

    def free_bytes(self) -> int | None:
        """What the file system has room for in whole blocks; None where it cannot tell. On littlefs it walks all files: ask once."""
        try:
            status = os.statvfs(self.root)
        except (AttributeError, OSError):
            return None
        return status[1] * status[4]

    def make_folder(self, folder: str) -> None:
        """Make `folder` and what lies above it; folders that exist are no error."""
        path = self._path(folder)
        made = ""
        for part in path.split("/"):
            made = made + part + "/"
            if not part or part == ".":
                continue
            try:
                os.stat(made[:-1])
            except OSError:
                os.mkdir(made[:-1])
