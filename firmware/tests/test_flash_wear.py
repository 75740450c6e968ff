"""Flash lasts (R05): erases counted block by block on real littlefs, carried forward to ten years."""

import pytest
from fake_ticks import FakeTicks
from lamppost_node.clock import Clock
from lamppost_node.health import BootGuard
from lamppost_node.lighting.leases import Leases
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sequence_store import Counter, SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import kinds, orders
from lamppost_protocol.orders import Order
from littlefs_flash import BLOCK_BYTES, Chip, LittlefsFlash

ENDURANCE = 100_000
PARTITION_BLOCKS = 2 * 1024 * 1024 // BLOCK_BYTES
TEN_YEARS_DAYS = 3653
RECORDS_A_DAY = 2 * 60 * 24  # two fixtures, each minute
# littlefs moves what is hot; in the ten days of the soak below the worst block was erased 2.97 times as often as the mean.
UNEVENNESS = 3
BLOCKS = 48
UNIX = 1_790_000_000


def new_flash() -> tuple[Chip, LittlefsFlash]:
    chip = Chip(BLOCKS)
    flash = LittlefsFlash(chip)
    for folder in ("spool", "head", "settings", "counters"):
        flash.make_folder(folder)
    Counter(flash, "tx", 1).write(0)
    return chip, flash


def lamp_record(spool: Spool, value: int) -> None:
    values = [100, 100, 601, 2327, 265, 970, value, 0, 0]
    spool.acknowledge(spool.append(1, UNIX + value, value * 60_000, 3, 0, kinds.LAMP, 0, values))


def test_ten_years_wear_less_than_a_tenth_of_the_flash() -> None:
    """1,200 records, acknowledged as they come: less than a sixth of an erased block each."""
    chip, flash = new_flash()
    spool = Spool(flash, Settings(flash), 1, 40_000, bytearray(4096))
    spool.open()
    before = sum(chip.erases)
    count = 1200
    for value in range(count):
        lamp_record(spool, value)
    erases_a_record = (sum(chip.erases) - before) / count
    assert erases_a_record < 1 / 6
    worst = erases_a_record * RECORDS_A_DAY * TEN_YEARS_DAYS / PARTITION_BLOCKS * UNEVENNESS
    assert worst < ENDURANCE / 10


class Day:
    """A lamp's and a second fixture's day on one flash: 2,880 records and frames, 10 orders, 5 power-ups, and what goes with them.

    `every_min`: minutes between the two fixtures' records.
    """

    def __init__(self, flash: LittlefsFlash, every_min: int = 1):
        self._flash = flash
        self._every_min = every_min
        self._value = 0
        self._ticks = FakeTicks()

    def _power_up(self) -> None:
        settings = Settings(self._flash)
        self._settings = settings
        self._guard = BootGuard(settings)
        self._clock = Clock(self._ticks, settings)
        self._clock.take_beacon(UNIX + self._value * 30, self._clock.make_nonce(b"12345678"))
        self._sequence = SequenceStore(self._flash, 1)
        self._spool = Spool(self._flash, settings, 1, 100_000, bytearray(4096))
        self._spool.open((self._sequence.reserved or 0) * 64 + 1)
        self._ledger = OrderLedger(self._flash, settings, 1, self._sequence.reserved == 0)
        self._leases = Leases(settings, "lamp_leases")
        self._guard.confirm()

    def run(self) -> None:
        for minute in range(24 * 60):
            if minute % 288 == 0:
                self._power_up()
            self._ticks.advance(60_000)
            for _ in range(0 if minute % self._every_min else 2):
                self._value += 1
                lamp_record(self._spool, self._value)
                self._sequence.take()
            if minute % 5 == 4:
                self._spool.save_cursor()
            if minute % 60 == 59:
                self._clock.keep_floor()
                self._settings.is_kept("lamp_energy", self._value)
            if minute % 144 == 143:
                self._order()

    def _order(self) -> None:
        """Accepted, applied, verified, its lease at an end."""
        order_id = self._ledger.highest + 1
        self._ledger.advance(order_id)
        self._leases.accept(Order(order_id, UNIX, UNIX + 600, orders.LEVEL, kinds.LAMP, [50, 0]))
        lease = self._leases.find(order_id)
        for state in (orders.ACCEPTED, orders.APPLIED, orders.VERIFIED):
            self._leases.mark(lease, state)
            self._ledger.note([order_id, state, 0, None, None, None])
        self._leases.drop(lease)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_whole_days_with_orders_and_restarts_carried_forward_to_ten_years() -> None:
    """Every kind of write a node makes: the worst block of the partition stays below a tenth of its endurance."""
    chip, flash = new_flash()
    day = Day(flash)
    days = 10
    day.run()  # the first fills the ring
    before = list(chip.erases)
    for _ in range(days):
        day.run()
    worn = [after - first for after, first in zip(chip.erases, before, strict=True)]
    erases_a_day = sum(worn) / days
    unevenness = max(worn) * BLOCKS / sum(worn)
    worst = erases_a_day * TEN_YEARS_DAYS / PARTITION_BLOCKS * max(unevenness, UNEVENNESS)
    print(f"{erases_a_day:.0f} erases a day, worst block {unevenness:.2f} times the mean, ten years: {worst:.0f} of {ENDURANCE}")
    assert worst < ENDURANCE / 10
