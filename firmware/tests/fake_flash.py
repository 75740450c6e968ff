"""Flash in memory that loses power, or refuses, at a chosen operation: the lowest boundary of the node's durable state."""


class PowerCut(Exception):  # noqa: N818  not an error: an event
    """The power is gone: nothing after this runs until a restart."""


class FakeFlash:
    """The interface of `lamppost_node.flash.Flash`. A write that is cut leaves a prefix; a rename happens or does not."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_in: int | None = None  # operations until the power goes
        self.refuse_in: int | None = None  # operations until one raises OSError
        self.keep_permille = 500  # how much of a cut write is on flash
        self.operations = 0

    def _step(self) -> bool:
        """Count an operation; True when the power goes in its middle."""
        self.operations += 1
        if self.refuse_in is not None:
            self.refuse_in -= 1
            if self.refuse_in < 0:
                self.refuse_in = None
                raise OSError(28, "no space")
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                self.cut_in = None
                return True
        return False

    def _write(self, name: str, before: bytes, data: bytes) -> None:
        if self._step():
            self.files[name] = before + data[: len(data) * self.keep_permille // 1000]
            raise PowerCut
        self.files[name] = before + data

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def read_into(self, name: str, buffer: "bytearray | memoryview") -> int:
        data = self.files.get(name, b"")[: len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def replace(self, name: str, data: "bytes | memoryview") -> None:
        new = name[: name.rfind("/") + 1] + ".new"
        self._write(new, b"", bytes(data))
        if self._step():
            raise PowerCut
        self.files[name] = self.files.pop(new)

    def rename(self, name: str, new_name: str) -> None:
        if self._step():
            raise PowerCut
        self.files[new_name] = self.files.pop(name)

    def write(self, name: str, data: bytes) -> None:
        self._write(name, b"", data)

    def append(self, name: str, data: bytes) -> None:
        self._write(name, self.files.get(name, b""), data)

    def remove(self, name: str) -> None:
        if self._step():
            raise PowerCut
        self.files.pop(name, None)

    def names(self, folder: str) -> list[str]:
        prefix = folder + "/"
        return sorted(n[len(prefix) :] for n in self.files if n.startswith(prefix) and not n.endswith(".new"))

    def size_bytes(self, name: str) -> int:
        return len(self.files.get(name, b""))

    def free_bytes(self) -> int | None:
        return None

    def make_folder(self, folder: str) -> None:
        pass
