"""What is done on the node between power-up and power cut, with the real firmware: short scripts, and the look around after it.

Runs on MicroPython, on any target: `run(script, flash, say)` and `look(flash, say)`; `say` gets the lists of `promises.py` at the
moment each became true. A target whose power really goes prints them and its host hears them; `printed` does that.
"""

import binascii
import json
import os

from lamppost_node import config, identity, rekey
from lamppost_node.clock import Clock
from lamppost_node.flash import Flash
from lamppost_node.health import BootGuard
from lamppost_node.lighting.decision import Decision
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sequence_store import Counter, SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_node.stored import KEEP
from lamppost_protocol import cbor, kinds, orders
from lamppost_protocol.orders import Order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Say = Callable[[list[Any]], None]

_EPOCH = 1
_UNIX = 1_800_000_000
_HOUR_MS = 3_600_000
#: Small, so that a short script fills segments and the ring.
_SEGMENT_BYTES = 256
_SPOOL_BYTES = 1024
_LEASES, _SCHEDULE, _ENERGY = "lamp_leases", "lamp_schedule", "lamp_energy"


def printed(words: "list[Any]") -> None:
    """Say it on the console, for a host that listens."""
    print("promise", json.dumps(words))


class Ticks:
    """The `time` module's milliseconds, moved by hand."""

    now_ms = 0

    def ticks_ms(self) -> int:
        """Milliseconds since power-up."""
        return self.now_ms

    def ticks_diff(self, end: int, start: int) -> int:
        """Signed difference."""
        return end - start


class Store:
    """All that `app.py` opens on flash at power-up, in its order, and every step that writes, each said before and after."""

    def __init__(self, flash: Flash, say: "Say"):
        """Power-up: opens everything and says what is found."""
        self.flash = flash
        self.say = say
        self.settings = Settings(flash)
        for folder in ("", "settings"):
            flash.make_folder(folder)
        self.guard = self.boot()
        self._tell_configuration()
        self.ticks = Ticks()
        self.clock = Clock(self.ticks, self.settings)
        self._tell("floor")
        epoch = identity.epoch_of(flash, identity.FILE)
        say(["epoch", epoch])
        self.sequence = SequenceStore(flash, epoch)
        self.spool = Spool(flash, self.settings, epoch, _SPOOL_BYTES, bytearray(_SEGMENT_BYTES))
        self.spool.open((self.sequence.reserved or 0) * 64 + 1)
        self._tell_spool()
        self.ledger = OrderLedger(flash, self.settings, epoch, self.sequence.reserved == 0)
        say(["highest", self.ledger.highest, self.ledger.is_lost or self.sequence.is_lost])
        for room in ("orders", _LEASES, _SCHEDULE, _ENERGY):
            self._tell(room)
        self.decision = Decision(self.settings, (_SCHEDULE, _LEASES), None, 100, 10, 300, 0)
        self.leases = self.decision.leases
        if self.settings.corrupt or self.settings.failed:
            say(["found", "settings that do not check", self.settings.corrupt + self.settings.failed])

    def _tell(self, room: str) -> None:
        self.say(["found", room, self.settings.load(room)])

    def _tell_configuration(self) -> None:
        for room, is_safe_mode in (("configuration", False), ("good configuration", True)):
            loaded = config.load(self.flash, is_safe_mode, _keys_of, is_start=True)
            if not is_safe_mode:
                self._digest = loaded.digest
            self.say(["found", room, loaded.values["report_s"]])

    def _tell_spool(self) -> None:
        n = 1
        while True:
            record = self.spool.read_from(n)
            if record is None:
                break
            n = record.n + 1
            values = record.values
            if record.kind == kinds.GAP:
                self.say(["gap", values[0], values[1], values[3]])
            self.say(["record", record.n, values[0]])
        self.say(["read", self.spool.next_n, self.spool.cursor])
        for name in os.listdir(self.flash.root + "/spool"):
            if name.endswith(".new") and name != ".new":  # that one the next file takes over
                self.say(["left", name])

    def boot(self) -> BootGuard:
        """Count a power-up."""
        self.say(["booting"])
        guard = BootGuard(self.settings)
        self.say(["booted", guard.boots, guard.is_safe_mode])
        return guard

    def confirm(self) -> None:
        """The good minute is over."""
        self.say(["confirming"])
        self.guard.confirm()
        self.say(["confirmed"])

    def put(self, value: int, is_kept: bool = False) -> int:
        """Write one record."""
        n = self.spool.append(
            1, _UNIX + value, value * 1000, 2, KEEP if is_kept else 0, kinds.LAMP, 0, [value, None, -5, 601, 2327, 265, 970, 123456]
        )
        self.say(["handed", n, value])
        return n

    def acknowledge(self, n: int) -> None:
        """The gateway has all up to `n`, and the cursor is kept."""
        if n > 0:
            self.say(["acknowledged", n])
            self.spool.acknowledge(n)
            self.spool.save_cursor()

    def take(self, count: int) -> None:
        """Numbers for so many frames."""
        for _ in range(count):
            self.say(["taken", self.sequence.take()])

    def obey(self, level_percent: int) -> None:
        """The next order: counted, then acted upon (a lease), then its state noted."""
        order_id = self.ledger.highest + 1
        self.ledger.advance(order_id)
        lease = self.leases.find(order_id - 3)
        if lease is not None:
            self._keep(_LEASES, self._lease_rows(order_id - 3, None), lambda: self.leases.drop(lease))
        order = Order(order_id, _UNIX, _UNIX + 3600, orders.LEVEL, kinds.LAMP, [level_percent, 0])
        row = [order_id, _UNIX, _UNIX + 3600, level_percent, 0, orders.ACCEPTED]
        self._keep(_LEASES, self._lease_rows(0, row), lambda: self.leases.accept(order), lambda: self.say(["acted", order_id]))
        values = [order_id, orders.ACCEPTED, 0, None, None, None]
        remembered = [entry for entry in self.settings.load("orders") or [] if entry[0] != order_id][-7:]
        remembered.append(values)
        self._keep("orders", remembered, lambda: self.ledger.note(values))

    def _lease_rows(self, without: int, more: "list[int] | None") -> "list[list[int]]":
        rows = [row for row in self.settings.load(_LEASES) or [] if row[0] != without]
        if more is not None:
            rows.append(more)
        return rows

    def _keep(self, room: str, value: object, step: "Callable[[], None]", first: "Callable[[], None] | None" = None) -> None:
        self.say(["writing", room, value])
        if first is not None:
            first()
        step()
        self.say(["written", room, value])

    def configure(self, report_s: int) -> None:
        """A new configuration."""
        data = cbor.encode({"report_s": report_s, "fixtures": [{"kind": "lamp", "instance": 0}]})
        self._digest = binascii.crc32(data) & 0xFFFFFFFF
        self._keep("configuration", report_s, lambda: config.store(self.flash, data))

    def keep_good(self, report_s: int) -> None:
        """The configuration has proved itself."""
        self._keep("good configuration", report_s, lambda: config.keep_good(self.flash, self._digest))

    def try_out(self, report_s: int) -> None:
        """A configuration that an order brought."""
        data = cbor.encode({"report_s": report_s, "fixtures": [{"kind": "lamp", "instance": 0}]})
        self._keep("configuration", report_s, lambda: config.begin_trial(self.flash, 1, data))

    def end_trial(self, report_s: int, is_good: bool) -> None:
        """It has proved itself, or its time is over: from now on this one, the new or the former."""
        trial = config.trial_of(self.flash)
        self._keep(
            "configuration", report_s, lambda: config.keep_trial(self.flash, trial, config.PROVEN if is_good else config.TRIAL_STARTS)
        )
        if is_good:
            self._keep("good configuration", report_s, lambda: config.adopt(self.flash, trial[3]))
        self.flash.remove(config.TRIAL_FILE)

    def set_clock(self, unix: int) -> None:
        """A beacon an hour after the last."""
        self.ticks.now_ms += _HOUR_MS
        nonce = self.clock.make_nonce(b"12345678")
        self._keep("floor", unix, lambda: self.clock.take_beacon(unix, nonce))

    def adopt(self, level_percent: int) -> None:
        """A new schedule."""
        schedule = [1, level_percent, [[127, [0, 60, 30]]], []]
        self._keep(_SCHEDULE, schedule, lambda: self.decision.adopt(schedule))

    def count_energy(self, energy_wh: int) -> None:
        """The lamp's energy total."""
        self._keep(_ENERGY, energy_wh, lambda: self.settings.save(_ENERGY, energy_wh))


def _keys_of(kind: str) -> tuple:
    return ()


def provision(flash: Flash) -> None:
    """What the bench puts onto a new node: the first counter and a configuration."""
    flash.make_folder("counters")
    Counter(flash, "tx", _EPOCH).write(0)
    flash.replace(identity.FILE, cbor.encode({"epoch": _EPOCH}))
    flash.replace(config.FILE, cbor.encode({"report_s": 10, "fixtures": [{"kind": "lamp", "instance": 0}]}))


def age(flash: Flash, say: "Say") -> None:
    """A first life with something in every room, so that each script begins on a node that has lived."""
    store = Store(flash, say)
    store.take(1)
    store.put(1000)
    store.keep_good(10)
    store.set_clock(_UNIX)
    store.obey(50)
    store.adopt(40)
    store.count_energy(1)
    store.confirm()


def look(flash: Flash, say: "Say") -> None:
    """Power-up after a cut, what is found, and a little life after it: every counter moves on."""
    store = Store(flash, say)
    store.put(2000)
    store.take(1)
    store.obey(70)


def _first_boot(store: Store) -> None:
    store.put(1)
    store.take(1)


def _append(store: Store) -> None:
    for value in range(9):
        store.put(value)


def _acknowledge(store: Store) -> None:
    for value in range(6):
        store.acknowledge(store.put(value) - 1)


def _thin(store: Store) -> None:
    for value in range(14, 25):
        store.put(value, value % 9 == 0)
        if value == 22:
            store.acknowledge(8)


def _sequence(store: Store) -> None:
    store.take(64 * 4)


def _orders(store: Store) -> None:
    for level_percent in (30, 60, 90, 20):
        store.obey(level_percent)


def _configuration(store: Store) -> None:
    for report_s in (11, 12, 13):
        store.configure(report_s)
        store.keep_good(report_s)


def _trial(store: Store) -> None:
    store.try_out(11)
    store.end_trial(11, True)
    store.try_out(12)
    store.end_trial(11, False)


def _boots(store: Store) -> None:
    for _ in range(3):
        store.guard = store.boot()
    store.confirm()
    for _ in range(4):
        store.guard = store.boot()


def _clock(store: Store) -> None:
    for hour in range(1, 7):
        store.set_clock(_UNIX + hour * 3600)


def _lamp(store: Store) -> None:
    for value in range(2, 6):
        store.adopt(10 * value)
        store.count_energy(value)


def _rekey(store: Store) -> None:
    for value in range(20):
        store.acknowledge(store.put(value) - 9)
    store.take(2)
    store.flash.replace(identity.NEXT, cbor.encode({"epoch": _EPOCH + 2}))
    store.say(["rekeying"])
    rekey.switch(store.flash)
    store = Store(store.flash, store.say)
    store.take(66)
    store.acknowledge(store.put(30) - 3)


def _hour(store: Store) -> None:
    for value in range(12):
        n = store.put(value, value % 10 == 0)
        if value % 6 == 5:
            store.acknowledge(n - 5)
            store.take(30)
            store.obey(value)
            store.set_clock(_UNIX + value * 3600)
            store.count_energy(100 + value)
            store.adopt(value)
            store.configure(100 + value)
            store.keep_good(100 + value)


#: name -> (what is done, whether on a node that has lived)
SCRIPTS = {
    "first_boot": (_first_boot, False),
    "append": (_append, True),
    "acknowledge": (_acknowledge, True),
    "thin": (_thin, True),
    "sequence": (_sequence, True),
    "orders": (_orders, True),
    "configuration": (_configuration, True),
    "trial": (_trial, True),
    "boots": (_boots, True),
    "clock": (_clock, True),
    "lamp": (_lamp, True),
    "rekey": (_rekey, True),
    "hour": (_hour, True),
}


def prepare(script: str, flash: Flash, say: "Say") -> None:
    """Everything before the first operation that may be cut."""
    flash.make_folder("")
    provision(flash)
    if SCRIPTS[script][1]:
        age(flash, say)
    if script == "thin":
        store = Store(flash, say)
        for value in range(14):
            store.put(value, value % 9 == 0)


def run(script: str, flash: Flash, say: "Say") -> None:
    """Power-up and the script; says all of it."""
    SCRIPTS[script][0](Store(flash, say))
