"""A release on its way: fetched in pieces, checked, put into a slot, tried, confirmed. WIRE.md section 17; what starts it is slot.py.

Loaded when an order for an update is there, and dropped when that is over. All it knows is on flash, so it goes on where power was cut:

    update/order    [order id, not_after, manifest, bodies that were spoilt, slot]
    update/body     what has come of the body, without a hole
    update/boot     slot.py's: whether the order's trial has begun, and what became of it

Only the slot that is not the confirmed one is ever written to. The counter of sequences rises when a release is confirmed, not before.
"""

import asyncio
import os
from binascii import crc32
from hashlib import sha256

from lamppost_protocol import cose, kinds, orders, slip
from lamppost_protocol import release_forms as releases
from lamppost_protocol.errors import ProtocolError, RemoteError

from lamppost_node import slot
from lamppost_node.refusal import Refused
from lamppost_node.sequence_store import Counter
from lamppost_node.settings import unwrap, wrap
from lamppost_node.unload import unload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_protocol.orders import Order

    from lamppost_node.flash import Flash
    from lamppost_node.health import BootGuard, Counters, TaskWatch
    from lamppost_node.identity import Identity
    from lamppost_node.interfaces import Link
    from lamppost_node.services import Services
    from lamppost_node.spool import Spool
    from lamppost_node.uplink import Uplink

TASK = "update"
FOLDER = "update"
ORDER = FOLDER + "/order"
BODY = FOLDER + "/body"
_BODIES = 3
_SPARE_BYTES = 32768  # beside the body and the slot: what spool and settings may still need
_LEAST_HEAP_BYTES = 8192  # beside all that runs while it is fetched: with less, frames could no longer be signed
_WANTS = 3  # without a piece, in a row, until a node that can sleep does
_FAR_MS = 86_400_000
_PAUSE_MS = 200  # before a want, for the uplink
_LOOK_S = 5
_CHUNK_BYTES = 256
_SLOTS = 2
_CAUSE_ORDER = 1  # lighting.decision's; a node without a lamp need not load that


class Update:
    """One update order's life. `order` and `cancel` are the authority's, `take` the link's; `run` does the work and ends with it.

    A node that sleeps is kept awake while pieces come, a slot is filled, a trial runs; whatever else is waited for, a wake-up will see.
    """

    def __init__(
        self,
        node: "Services",
        identity: "Identity",
        flash: "Flash",
        spool: "Spool",
        uplink: "Uplink",
        link: "Link",
        guard: "BootGuard",
        watch: "TaskWatch",
        counters: "Counters",
        fixtures: "dict[int, Any]",
        restart: "Callable[[], None]",
    ):
        self._node = node
        self._identity = identity
        self._flash = flash
        self._spool = spool
        self._uplink = uplink
        self._link = link
        self._guard = guard
        self._watch = watch
        self._counters = counters
        self._fixtures = fixtures
        self._restart = restart
        self._sequence = Counter(flash, "release", 0)  # of all epochs: new keys bring no old firmware back
        self._first_n = spool.next_n
        self._came = asyncio.Event()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._have_bytes = 0
        self._count = link.pieces
        self._misses = 0
        self._wants_left = 1
        self._order: list[Any] | None = None
        self._manifest: releases.Manifest | None = None
        self._load()
        node.rest.busy(TASK)

    # -- the order -------------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """What is on flash of an order; nothing where it does not check."""
        try:
            value = unwrap(self._flash.read(ORDER) or b"")
            if isinstance(value, list) and len(value) == 5:
                message = cose.decode(value[2])  # verified when it was kept
                self._manifest = releases.decode_manifest(message.tx, message.payload)
                self._order = value
                self._have_bytes = self._flash.size_bytes(BODY)
        except (OSError, ValueError, ProtocolError):
            pass

    def order(self, order: "Order") -> None:
        """Check and keep an update order, in place of one that is being fetched. Writes flash.

        Raises Refused, whatever is wrong with it; then what was on its way goes on.
        """
        manifest = self._checked(order.args[0])
        former, former_manifest = self._order, self._manifest
        confirmed = slot.read_boot(self._flash.root)[0]
        value = [order.order_id, order.not_after, order.args[0], 0, 1 if confirmed == _SLOTS else confirmed + 1]
        try:
            self._flash.make_folder(FOLDER)
            if former_manifest is None or former_manifest.digest != manifest.digest:
                self._flash.remove(BODY)
                self._have_bytes = 0
            self._flash.replace(ORDER, wrap(value))
        except OSError:
            raise Refused(orders.STORE_FAULT) from None
        self._order, self._manifest = value, manifest
        self._forget()
        self._came.set()
        if former is not None:
            self._tell(former[0], orders.REVERTED, orders.SUPERSEDED)

    def _checked(self, data: bytes) -> releases.Manifest:
        try:
            manifest = releases.open_manifest(data, self._identity.verifier, self._identity.network, self._identity.issuer)
        except RemoteError:
            raise Refused(releases.BAD_RELEASE) from None
        try:
            base = slot.base_of()
        except OSError:
            base = b""  # no files: bytecode that is frozen into the image
        if manifest.base != base:
            raise Refused(releases.WRONG_BASE)
        highest = self._sequence.read()
        if highest is None and self._sequence.damaged:
            raise Refused(orders.STORE_FAULT)
        if manifest.sequence <= (highest or 0):
            raise Refused(releases.DOWNGRADE)
        is_on_trial = slot.read_boot(self._flash.root)[1] != 0
        free_bytes = self._flash.free_bytes()
        is_short = free_bytes is not None and free_bytes < 2 * manifest.size_bytes + _SPARE_BYTES
        if is_on_trial or is_short or self._counters.note_heap() < max(manifest.heap_bytes, _LEAST_HEAP_BYTES):
            raise Refused(releases.NO_ROOM)
        return manifest

    def cancel(self, order_id: int) -> None:
        """End the fetching of that order. Raises Refused where there is none; a trial is not ended."""
        if self._order is None or self._order[0] != order_id or self._has_begun():
            raise Refused(orders.BAD_ARGUMENTS)
        self._end(orders.REVERTED, orders.CANCELLED)

    def _has_begun(self) -> bool:
        return self._order is not None and slot.read_boot(self._flash.root)[3] == self._order[0]

    def _tell(self, order_id: int, state: int, reason: int = 0) -> None:
        self._node.order_state(order_id, state, reason)

    def _end(self, state: int, reason: int = 0) -> None:
        """The order's last state, told before it is forgotten: a cut between the two tells it again."""
        if self._order is None:
            return
        self._tell(self._order[0], state, reason)
        self._order = self._manifest = None
        self._forget()
        self._have_bytes = 0
        self._came.set()
        for name in (ORDER, BODY):
            try:
                self._flash.remove(name)
            except OSError:
                self._node.log("update: flash refused")

    def _forget(self) -> None:
        self._pending = []
        self._pending_bytes = 0

    # -- fetching --------------------------------------------------------------------------------------------------------------

    def take(self, body: bytes) -> None:
        """A piece that was heard: kept if it is the next one of the body that is wanted. Never raises for what it contains."""
        manifest = self._manifest
        if manifest is None:
            return
        try:
            piece = releases.decode_piece(body)
        except RemoteError:
            return
        here = self._have_bytes + self._pending_bytes
        start = here - here % releases.PIECE_BYTES  # a cut may have left a part of one
        is_whole = len(piece.octets) == min(releases.PIECE_BYTES, manifest.size_bytes - start)
        if piece.release == manifest.digest[: releases.NAME_BYTES] and piece.offset == start and is_whole:
            self._pending.append(piece.octets[here - start :])
            self._pending_bytes += len(self._pending[-1])
            self._came.set()

    async def run(self) -> None:
        """Until nothing is left to do. Raises OSError when the flash fails: run it again after a while."""
        await self._run()
        self._rest()
        if not slot.running:
            unload("lamppost_node.slot")

    async def _run(self) -> None:
        if self._has_begun() and not await self._is_trial_over():
            return
        while self._order is not None and self._manifest is not None:
            manifest = self._manifest
            latest = self._node.clock.latest()
            is_whole = self._have_bytes >= manifest.size_bytes
            if latest is not None and latest >= self._order[1]:
                self._end(orders.EXPIRED, orders.TOO_LATE if is_whole else releases.NOT_FETCHED)
            elif is_whole:
                self._node.rest.busy(TASK)
                if not await self._is_begun(manifest):
                    self._rest()
                    await asyncio.sleep(_LOOK_S)
            elif not (self._uplink.is_heard() or self._guard.is_resumed):
                self._rest()  # nobody is there: a street that gets its power back has other things to say
                await asyncio.sleep(_LOOK_S)
            elif await self._fetch(manifest):
                self._misses, self._wants_left = 0, _WANTS
            else:
                self._misses += 1
                self._wants_left -= 1

    def _rest(self) -> None:
        self._node.rest.until(TASK, self._node.clock.monotonic_ms() + _FAR_MS)

    async def _fetch(self, manifest: releases.Manifest) -> bool:
        """Want the next pieces and keep what comes; whether anything did within the link's wait. Raises OSError."""
        self._node.rest.busy(TASK)
        await asyncio.sleep(_PAUSE_MS / 1000)
        while not self._uplink.is_resting:
            await asyncio.sleep(_PAUSE_MS / 1000)
        here = self._have_bytes + self._pending_bytes
        first = here - here % releases.PIECE_BYTES
        left = (manifest.size_bytes - first + releases.PIECE_BYTES - 1) // releases.PIECE_BYTES
        count = min(self._count, left)
        name = manifest.digest[: releases.NAME_BYTES]
        end_bytes = min(first + count * releases.PIECE_BYTES, manifest.size_bytes)
        self._came.clear()
        await self._link.send(
            slip.WANT, releases.encode_want(releases.Want(self._identity.network, self._identity.node, name, first, count))
        )
        order = self._order
        wait_ms = self._link.want_wait_ms(self._misses)
        while self._order is order and self._have_bytes + self._pending_bytes < end_bytes:
            if self._pending and self._link.has_windows:
                break
            if self._wants_left <= 1:
                self._rest()
            try:
                await asyncio.wait_for(self._came.wait(), wait_ms / 1000)
            except asyncio.TimeoutError:
                break
            self._came.clear()
        now_bytes = self._have_bytes + self._pending_bytes
        if self._order is order and self._pending:  # written together: a flash block is erased for each time
            with open(self._path(BODY), "ab") as file:
                for octets in self._pending:
                    file.write(octets)
            self._have_bytes = now_bytes
            self._forget()
        self._count = min(max(1, 2 * (now_bytes - here) // releases.PIECE_BYTES), self._link.pieces)
        return self._order is not order or now_bytes > here

    # -- the slot --------------------------------------------------------------------------------------------------------------

    async def _is_begun(self, manifest: releases.Manifest) -> bool:
        """Check the body, fill the slot and begin the trial as soon as no lamp minds; False: not now. Raises OSError."""
        order = self._order
        if order is None or not self._is_moment():
            return False
        if await self._digest() != manifest.digest:
            order[3] += 1
            if order[3] >= _BODIES:
                self._end(orders.REFUSED, releases.BAD_RELEASE)
            else:
                self._node.log("update: body spoilt, fetched anew")
                self._flash.replace(ORDER, wrap(order))
                self._flash.remove(BODY)
                self._have_bytes = 0
            return True
        try:
            await self._unpack(order[4], manifest)
        except RemoteError:
            self._end(orders.REFUSED, releases.BAD_RELEASE)
            return True
        if self._order is not order or not self._is_moment():
            return False
        slot.write_boot(self._flash.root, slot.read_boot(self._flash.root)[0], order[4], 0, order[0])
        self._tell(order[0], orders.APPLIED)
        self._restart()
        await asyncio.sleep(3600)
        return True

    def _is_moment(self) -> bool:
        """Whether a start leaves no lamp darker than it is to be: it means full light, and an order's level would be left."""
        if self._node.clock.now() is None:
            return False
        for values in self._node.config["fixtures"]:
            if values["kind"] != "lamp":
                continue
            lamp = self._fixtures.get(kinds.kind_of(kinds.LAMP, values["instance"]))
            if lamp is not None and (lamp.cause == _CAUSE_ORDER or 0 < lamp.command_percent < values["safe_level_percent"]):
                return False
        return True

    async def _digest(self) -> bytes:
        whole = sha256()
        buffer = bytearray(_CHUNK_BYTES)
        view = memoryview(buffer)
        with open(self._path(BODY), "rb") as file:
            while True:
                count = file.readinto(buffer)
                if not count:
                    return whole.digest()
                whole.update(view[:count])
                await asyncio.sleep(0)

    def _path(self, name: str) -> str:
        return self._flash.root + "/" + name

    async def _unpack(self, number: int, manifest: releases.Manifest) -> None:
        """Make that slot hold the body's files and nothing else. Raises RemoteError for what is no body, OSError."""
        folder = slot.folder_of(self._flash.root, number)[len(self._flash.root) + 1 :]
        _remove_all(self._path(folder))
        rows = []
        made = ""
        with open(self._path(BODY), "rb") as file:
            for name, size in releases.files_of(file.read, manifest.size_bytes):
                above = folder + "/" + name[: name.rfind("/")]
                if above != made:
                    self._flash.make_folder(above)
                    made = above
                check, left = 0, size
                with open(self._path(folder + "/" + name), "wb") as copy:
                    while left:
                        chunk = file.read(min(left, _CHUNK_BYTES))
                        if not chunk:
                            raise RemoteError("bad_payload", "body ends within a file")
                        copy.write(chunk)
                        check = crc32(chunk, check)
                        left -= len(chunk)
                        await asyncio.sleep(0)
                rows.append((name, size, check & 0xFFFFFFFF))
        slot.write_files(self._flash.root, number, manifest.base, rows)

    # -- the trial -------------------------------------------------------------------------------------------------------------

    async def _is_trial_over(self) -> bool:
        """What became of the trial; True when the order's end is told, False where a start anew is under way. Raises OSError."""
        order, manifest = self._order, self._manifest
        if order is None or manifest is None:
            return True
        confirmed, trial, _, tried = slot.read_boot(self._flash.root)
        if trial and (slot.running != trial or self._guard.is_safe_mode):
            slot.end_trial(self._flash.root)
            self._restart()
            return False
        if trial:
            n = self._first_n
            while not self._is_proven(manifest):
                if n == self._first_n < self._spool.next_n:
                    self._uplink.hurry(n)  # where records wait for company, or for airtime, the trial has not the time
                    n = 0
                await asyncio.sleep(_LOOK_S)
            self._sequence.write(manifest.sequence)
            slot.write_boot(self._flash.root, trial, 0, 0, tried)
            confirmed = trial
        if confirmed == order[4]:
            self._end(orders.VERIFIED)
        else:
            self._end(orders.REVERTED, releases.TRIAL_FAILED)
        return True

    def _is_proven(self, manifest: releases.Manifest) -> bool:
        """A good minute, every task alive, a frame of this start acknowledged, and the heap that was asked for."""
        if not self._guard.is_confirmed or self._watch.silent() or not self._uplink.is_heard():
            return False
        return self._counters.note_heap() >= manifest.heap_bytes


def _remove_all(path: str) -> None:
    """Remove a folder and what is in it, its list of files first: what is half gone is no slot. One that is missing is no error."""
    try:
        os.remove(path + "/files")
    except OSError:
        pass
    try:
        names = os.listdir(path)
    except OSError:
        return
    for name in names:
        if "." in name:
            os.remove(path + "/" + name)
        else:
            _remove_all(path + "/" + name)
    os.rmdir(path)
