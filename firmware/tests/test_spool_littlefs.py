"""Spool, settings and counters on real littlefs, the power cut at every program and erase of the flash below it (R03)."""

import pytest
from fake_flash import PowerCut
from lamppost_node import stored
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sequence_store import Counter, SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import kinds
from littlefs import LFSConfig, LittleFS, UserContext

BLOCK_BYTES, BLOCKS = 4096, 24
GAP_KIND = kinds.kind_of(kinds.GAP)


class Chip(UserContext):
    """A NOR flash chip: programming clears bits, erasing sets a block.

    `at_cut` is what it held when the power went in the middle of operation `cut_at`. littlefs itself runs on, because it aborts the
    process when a file is closed after a failed write; nothing of that is looked at.
    """

    def __init__(self, image: bytes | None = None, cut_at: int | None = None):
        super().__init__(buffer=bytearray(image or b"\xff" * (BLOCK_BYTES * BLOCKS)))
        self.cut_at = cut_at
        self.operations = 0
        self.at_cut: bytes | None = None

    def _change(self, start: int, data: bytes) -> None:
        if self.operations == self.cut_at:
            half = len(data) // 2
            self.at_cut = bytes(self.buffer[:start]) + data[:half] + bytes(self.buffer[start + half :])
        self.operations += 1
        self.buffer[start : start + len(data)] = data

    def prog(self, cfg: LFSConfig, block: int, off: int, data: bytes) -> int:
        start = block * BLOCK_BYTES + off
        self._change(start, bytes(old & new for old, new in zip(self.buffer[start : start + len(data)], data, strict=True)))
        return 0

    def erase(self, cfg: LFSConfig, block: int) -> int:
        self._change(block * BLOCK_BYTES, b"\xff" * BLOCK_BYTES)
        return 0


class LittlefsFlash:
    """The interface of `lamppost_node.flash.Flash` on littlefs with the sizes MicroPython gives it on an ESP32."""

    def __init__(self, chip: Chip, is_new: bool):
        self.chip = chip
        self._fs = LittleFS(
            context=chip,
            mount=False,
            block_size=BLOCK_BYTES,
            block_count=BLOCKS,
            read_size=32,
            prog_size=32,
            cache_size=128,
            lookahead_size=32,
            block_cycles=100,
        )
        if is_new:
            self._fs.format()
        self._fs.mount()

    def _do(self, step):  # type: ignore[no-untyped-def]
        try:
            step()
        finally:
            if self.chip.at_cut is not None:
                raise PowerCut

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
        self._do(lambda: self._write(name + ".new", "wb", bytes(data)))
        self._do(lambda: self._fs.rename(name + ".new", name))

    def write(self, name: str, data: bytes) -> None:
        self._do(lambda: self._write(name, "wb", data))

    def append(self, name: str, data: bytes) -> None:
        self._do(lambda: self._write(name, "ab", data))

    def remove(self, name: str) -> None:
        try:
            self._do(lambda: self._fs.remove(name))
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

    def free_bytes(self) -> int | None:
        return (BLOCKS - int(self._fs.used_block_count)) * BLOCK_BYTES

    def make_folder(self, folder: str) -> None:
        try:
            self._do(lambda: self._fs.mkdir(folder))
        except FileExistsError:
            pass


class Life:
    """One power-up of a node's store, and what it handed out."""

    def __init__(self, chip: Chip, handed: dict[int, int], used: list[int]):
        self.flash = LittlefsFlash(chip, False)
        self.settings = Settings(self.flash)
        self.spool = Spool(self.flash, self.settings, 1, 5 * 1024, bytearray(512))
        self.handed, self.used = handed, used

    def run(self, count: int) -> None:
        """Records, acknowledgements, numbers, orders, settings: what an hour does."""
        self.spool.open()
        sequence = SequenceStore(self.flash, 1)
        ledger = OrderLedger(self.flash, self.settings, 1, True)
        for value in range(count):
            n = self.spool.append(1, None, value, None, stored.KEEP if value % 10 == 0 else 0, kinds.LAMP, 0, [value, None, -5])
            assert n not in self.handed
            self.handed[n] = value
            if value % 8 == 7:
                self.spool.acknowledge(n - 20)
                self.spool.save_cursor()
                tx = sequence.take()
                assert tx not in self.used
                self.used.append(tx)
                order_id = ledger.highest + 1
                ledger.advance(order_id)
                ledger.note([order_id, 3, 0, None, None, None])
                self.settings.save("lease", [order_id, value])


def new_chip() -> Chip:
    chip = Chip()
    flash = LittlefsFlash(chip, True)
    for folder in ("spool", "head", "settings", "counters"):
        flash.make_folder(folder)
    Counter(flash, "tx", 1).write(0)
    Counter(flash, "order", 1).write(0)
    flash.settings = Settings(flash)  # type: ignore[attr-defined]
    Settings(flash).save("lease", [0, -1])
    return chip


def check_after(image: bytes, handed: dict[int, int], used: list[int], k: int) -> None:
    """Mounts; every record handed out is there, acknowledged or declared; every setting is whole; numbers go on above."""
    chip = Chip(image)
    life = Life(chip, {}, used)
    life.spool.open()
    cursor = life.spool.cursor
    records, n = {}, 1
    while (record := life.spool.read_from(n)) is not None:
        records[record.n] = record
        n = record.n + 1
    declared = set()
    for record in records.values():
        if record.kind == GAP_KIND:
            declared.update(range(record.values[0], record.values[1] + 1))
    for number, value in handed.items():
        if number in records:
            assert records[number].values[0] == value, k
        else:
            assert number <= cursor or number in declared, (k, number)
    assert life.spool.next_n > max(handed, default=0), k
    lease = life.settings.load("lease")
    assert isinstance(lease, list), k
    assert life.settings.corrupt == 0, k
    sequence = SequenceStore(life.flash, 1)
    assert not sequence.is_lost, k
    assert sequence.take() not in used, k
    ledger = OrderLedger(life.flash, life.settings, 1, False)
    assert ledger.highest >= lease[0], k


@pytest.mark.parametrize("offset", range(3))
def test_the_power_cut_at_every_third_flash_operation(offset: int) -> None:
    """Count the operations of a script, then cut at each: old or new everywhere, never neither; the file system always mounts."""
    start = bytes(new_chip().buffer)
    whole = Chip(start)
    Life(whole, {}, []).run(60)
    total = whole.operations
    assert total > 150
    for k in range(offset, total, 3):
        chip = Chip(start, k)
        handed: dict[int, int] = {}
        used: list[int] = []
        with pytest.raises(PowerCut):
            Life(chip, handed, used).run(60)
        assert chip.at_cut is not None
        check_after(chip.at_cut, handed, used, k)


def test_a_spool_configured_larger_than_its_flash_never_fills_it() -> None:
    """Eight megabytes on a chip of 96 KB, nobody acknowledges: each record is kept, and counters and settings can always be written."""
    chip = new_chip()
    flash = LittlefsFlash(chip, False)
    sequence = SequenceStore(flash, 1)
    settings = Settings(flash)
    spool = Spool(flash, settings, 1, 8_388_608, bytearray(BLOCK_BYTES))
    spool.open()
    for value in range(900):
        flags = stored.KEEP if value % 3 == 0 else 0
        n = spool.append(1, 1_790_000_000 + value, value * 60_000, 3, flags, kinds.LAMP, 0, [value, *range(1_000_000, 1_000_015)])
        if value % 50 == 0:
            settings.save("lease", [value, n])
            for _ in range(64):
                sequence.take()
    assert (spool.refused, settings.failed) == (0, 0)
    assert spool.dropped > 300
    assert flash.free_bytes() >= 4 * BLOCK_BYTES
    again = Spool(LittlefsFlash(Chip(bytes(chip.buffer)), False), settings, 1, 8_388_608, bytearray(BLOCK_BYTES))
    again.open()
    assert again.next_n == spool.next_n
