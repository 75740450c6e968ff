"""Flash lasts (R05): erases counted on real littlefs, carried forward to ten years of two fixtures reporting every minute."""

from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import kinds
from test_spool_littlefs import BLOCK_BYTES, Chip, LFSConfig, LittlefsFlash

ENDURANCE = 100_000
PARTITION_BLOCKS = 2 * 1024 * 1024 // BLOCK_BYTES
TEN_YEARS_OF_RECORDS = 2 * 60 * 24 * 3653
# littlefs moves what is hot; how evenly in the end was seen as 1.3 for files, and is taken as 3.
UNEVENNESS = 3


class CountingChip(Chip):
    """Counts erased blocks."""

    erases = 0

    def erase(self, cfg: LFSConfig, block: int) -> int:
        self.erases += 1
        return super().erase(cfg, block)


def test_ten_years_wear_less_than_a_tenth_of_the_flash() -> None:
    """1,200 records, acknowledged as they come: less than a sixth of an erased block each."""
    chip = CountingChip()
    flash = LittlefsFlash(chip, True)
    for folder in ("spool", "head", "settings", "counters"):
        flash.make_folder(folder)
    spool = Spool(flash, Settings(flash), 1, 40_000, bytearray(4096))
    spool.open()
    chip.erases = 0
    count = 1200
    for value in range(count):
        spool.acknowledge(
            spool.append(1, 1_790_000_000 + value, value * 60_000, 3, 0, kinds.LAMP, 0, [100, 100, 601, 2327, 265, 970, value, 0, 0])
        )
    erases_a_record = chip.erases / count
    assert erases_a_record < 1 / 6
    worst = erases_a_record * TEN_YEARS_OF_RECORDS / PARTITION_BLOCKS * UNEVENNESS
    assert worst < ENDURANCE / 10
