"""A spool on real littlefs never takes the room that counters and settings need."""

from lamppost_node import stored
from lamppost_node.sequence_store import Counter, SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import kinds
from littlefs_flash import BLOCK_BYTES, Chip, LittlefsFlash

SPOOL_BYTES = 8_388_608


def test_a_spool_configured_larger_than_its_flash_never_fills_it() -> None:
    """Eight megabytes on a chip of 96 KB, nobody acknowledges: each record is kept, and counters and settings can always be written."""
    chip = Chip(24)
    flash = LittlefsFlash(chip)
    for folder in ("counters", "settings", "spool", "head"):
        flash.make_folder(folder)
    Counter(flash, "tx", 1).write(0)
    sequence = SequenceStore(flash, 1)
    settings = Settings(flash)
    spool = Spool(flash, settings, 1, SPOOL_BYTES, bytearray(BLOCK_BYTES))
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
    again = Spool(LittlefsFlash(chip, False), settings, 1, SPOOL_BYTES, bytearray(BLOCK_BYTES))
    again.open()
    assert again.next_n == spool.next_n
