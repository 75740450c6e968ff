"""The node's flash folder on littlefs-python, with the sizes MicroPython gives it on an ESP32, and the chip below it that counts wear.

Power cuts are tried with MicroPython's own littlefs, in `hil_tests/cuts/`.
"""

from littlefs import LFSConfig, LittleFS, UserContext

BLOCK_BYTES = 4096


class Chip(UserContext):
    """A NOR flash chip: programming clears bits, erasing sets a block. `erases`: how often each block was erased."""

    def __init__(self, blocks: int):
        super().__init__(buffer=bytearray(b"\xff" * (BLOCK_BYTES * blocks)))
        self.erases = [0] * blocks

    def prog(self, cfg: LFSConfig, block: int, off: int, data: bytes) -> int:
        start = block * BLOCK_BYTES + off
        before = int.from_bytes(self.buffer[start : start + len(data)], "little")
        self.buffer[start : start + len(data)] = (before & int.from_bytes(data, "little")).to_bytes(len(data), "little")
        return 0

    def erase(self, cfg: LFSConfig, block: int) -> int:
        self.erases[block] += 1
        self.buffer[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = b"\xff" * BLOCK_BYTES
        return 0


class LittlefsFlash:
    """The interface of `lamppost_node.flash.Flash` on a chip, freshly formatted unless `is_new` is false."""

    def __init__(self, chip: Chip, is_new: bool = True):
        self._blocks = len(chip.erases)
        self._fs = LittleFS(
            context=chip,
            mount=False,
            block_size=BLOCK_BYTES,
            block_count=len(chip.erases),
            read_size=32,
            prog_size=32,
            cache_size=128,
            lookahead_size=32,
            block_cycles=100,
        )
        if is_new:
            self._fs.format()
        self._fs.mount()

    def read(self, name: str) -> bytes | None:
        try:
            with self._fs.open(name, "rb") as file:
                data: bytes = file.read()
                return data
        except FileNotFoundError:
            return None

    def read_into(self, name: str, buffer: memoryview) -> int:
        data = (self.read(name) or b"")[: len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def _write(self, name: str, mode: str, data: bytes) -> None:
        with self._fs.open(name, mode) as file:
            file.write(data)

    def replace(self, name: str, data: bytes | memoryview) -> None:
        new = name[: name.rfind("/") + 1] + ".new"
        self._write(new, "wb", bytes(data))
        self._fs.rename(new, name)

    def rename(self, name: str, new_name: str) -> None:
        self._fs.rename(name, new_name)

    def write(self, name: str, data: bytes) -> None:
        self._write(name, "wb", data)

    def append(self, name: str, data: bytes) -> None:
        self._write(name, "ab", data)

    def remove(self, name: str) -> None:
        try:
            self._fs.remove(name)
        except FileNotFoundError:
            pass

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(name for name in self._fs.listdir(folder) if not name.endswith(".new"))
        except FileNotFoundError:
            return []

    def size_bytes(self, name: str) -> int:
        try:
            return int(self._fs.stat(name).size)
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        return (self._blocks - int(self._fs.used_block_count)) * BLOCK_BYTES

    def make_folder(self, folder: str) -> None:
        try:
            self._fs.mkdir(folder)
        except FileExistsError:
            pass
