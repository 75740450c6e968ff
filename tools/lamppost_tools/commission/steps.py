"""One board, from a bare MicroPython to a node of the street. The order keeps every interruption harmless:

look, flash, install, configure, test, keys, enrol, lock, prove, paper. Until `keys` the board is nobody's. Keys are made here, put on the
board, and proved to be there by a signature; only then the registry learns of them, so it never knows a node that no board can be.
Interrupted before that, new keys are made and the old ones, which nobody ever knew, are overwritten. Interrupted after it, board and
registry say so, and what is left is done. `lock` writes main.py last: a board that was not finished comes up at a prompt and is silent on
its line.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamppost_protocol import cbor

from lamppost_tools.board.installer import digest_on_board, install, install_rom
from lamppost_tools.board.repl import reopened
from lamppost_tools.commission.clearing import STATE, is_unused, wipe
from lamppost_tools.commission.judge import judge
from lamppost_tools.commission.lock import OPEN, digest, has_prompt, lock, refuse_strangers
from lamppost_tools.commission.look import Seen, forgive_interruption, has_key, identity_on
from lamppost_tools.commission.micropython import NO_WISH, Interpreters, Reached, Wish, images_of
from lamppost_tools.commission.proof import require_gateway, wait_for_proof
from lamppost_tools.commission.reconfigure import CONFIG, config_on
from lamppost_tools.errors import RefusedError
from lamppost_tools.kit.seal import Kit
from lamppost_tools.node.config import fixture_names
from lamppost_tools.node.differences import differences
from lamppost_tools.node.enrol import (
    IDENTITY,
    KeySource,
    NewNode,
    account_files,
    checked_value,
    free_id,
    make_node,
    registered_settings,
    settings_files,
)
from lamppost_tools.node.registry import Registry, valid_keys
from lamppost_tools.signed_document import fingerprint
from lamppost_tools.technician.settings import Technician

STEPS = ("look", "flash", "install", "configure", "test", "keys", "enrol", "lock", "prove", "paper")
#: A decommissioning that was begun is taken back.
_STAY = """import os
try:
    os.remove('/lamppost/settings/leaving')
except OSError:
    pass
"""
_TEST = "from lamppost_node.self_test import main\nmain({seconds})"
_TEST_SLACK_S = 60.0


@dataclass(frozen=True)
class Order:
    """What is wanted of one board. `node` None: a free id. `test_s`: how long its fixtures may take for a good record.

    `replaces`: id of the node whose place it takes, for that one's board is lost or broken. `wish`: what may be done to its interpreter.
    `is_rescheduling`: schedules of a node in service become the site file's, whatever orders have changed.
    """

    port: str
    asset: str
    config: dict[str, Any]
    node: int | None
    schedules: dict[str, list[Any]]
    test_s: int
    is_replacing_keys: bool = False
    replaces: str | None = None
    wish: Wish = NO_WISH
    is_rescheduling: bool = False


@dataclass(frozen=True)
class Bench:
    """What all boards share.

    `tell(order, step, detail)` hears of progress. `proof_s`: how long a gateway is waited for. `boot_s`: how long a board that
    was reset is listened to. `port_modules`: what this kind of board has in its /lib by itself; a chip's has nothing.
    """

    technician: Technician
    kit: Kit
    registry: Registry
    keys: KeySource
    gateway_status: Path | None
    tell: Callable[[Order, str, str], None]
    proof_s: float = 60.0
    boot_s: float = 3.0
    port_modules: frozenset[str] = frozenset()
    now: Callable[[], float] = time.time


@dataclass
class Outcome:
    """What came of one board; `document` is what its record says."""

    document: dict[str, Any]
    not_done: list[str] = field(default_factory=list)


def commission(bench: Bench, order: Order) -> Outcome:
    """Do all that is left to do on one board. Raises ToolError: what was done stays done, and the same call goes on from there."""
    return _Commission(bench, order).run()


class _Commission:
    def __init__(self, bench: Bench, order: Order) -> None:
        self._bench = bench
        self._order = order
        self._began_s = time.monotonic()
        self._not_done: list[str] = []
        self._changed: list[str] = []
        self._tested: dict[str, Any] | None = None

    def run(self) -> Outcome:
        reached = self._reach()
        self._board, self._journal, seen = reached.board, reached.journal, reached.seen
        try:
            self._journal.note("look", asset=self._order.asset, micropython=seen.micropython, machine=seen.machine)
            self._not_done.extend(reached.left)
            libraries = set() if seen.has_rom else {name.split("/")[1] for name in self._firmware() if name.startswith("lib/")}
            refuse_strangers(self._board, libraries | self._bench.port_modules)
            known = self._known(seen)
            self._install(seen)
            if known is None:
                known = self._known(seen)  # an identity that could not be read without the packages
            if known is None:
                self._configure(seen)
                self._test()
                known = self._enrol(seen)
            else:
                known = self._reconfigure(seen, known[0])
            self._lock(seen)
            proof = self._prove(known[0])
            self._journal.note("done")
            return self._outcome(seen, known, proof)
        finally:
            self._board.close()

    def _reach(self) -> Reached:
        """The board at its prompt, with an interpreter that our bytecode fits."""
        bench, order = self._bench, self._order
        self._tell("look", "waiting for the board")
        journals = bench.technician.folder / "journals"
        network = bench.technician.authority.network
        interpreters = Interpreters(
            images_of(bench.kit),
            journals,
            network,
            self._registered,
            bench.now,
            lambda text: self._tell("flash", text),
            self._firmware_mpy(),
        )
        return interpreters.reach(order.port, order.wish)

    def _tell(self, step: str, detail: str = "") -> None:
        self._bench.tell(self._order, step, detail)

    def _firmware(self) -> dict[str, bytes]:
        return self._bench.kit.below("firmware")

    def _firmware_mpy(self) -> int:
        """Bytecode's version, the second octet of each module. Ref: MicroPython, `docs/reference/mpyfiles`."""
        return self._firmware()["lib/lamppost_node/app.mpy"][1]

    # -- whose board it is ----------------------------------------------------------------------------------------------

    def _known(self, seen: Seen) -> tuple[str, dict[str, Any]] | None:
        """(id, registry entry) of the node that this board is and may go on being; None for a board that is nobody's."""
        port, order = self._order.port, self._order
        registered = self._registered()
        self._refuse_replacement(registered)
        taken = [name for name, entry in registered.items() if entry.get("asset") == order.asset and not entry["revoked"]]
        taken = [name for name in taken if name != order.replaces]
        found = identity_on(self._board)
        if found["state"] == "none":
            self._refuse_taken(taken)
            return None
        if found["state"] == "unreadable":
            if self._board.exec(_HAS_PACKAGES).strip() != "True":
                return None
            if order.is_replacing_keys or self._journal.nodes():
                self._refuse_taken(taken)
                return None
            raise RefusedError(f"{port}: the board holds an identity that cannot be read", "repeat with --replace-keys: it gets new ones")
        name, network = f"{found['node']:08x}", self._bench.technician.authority.network
        if found["network"] != network:
            raise RefusedError(
                f"{port}: the board is node {name} of network {found['network']:08x}, yours is {network:08x}",
                f"if it is yours to take: have it revoked there, then repeat the command with --erase --erases {name}",
            )
        if found["unit"] and found["unit"] != seen.unit:
            raise RefusedError(
                f"{port}: the flash of this board was copied from another one: it is made for chip {found['unit']}, this is {seen.unit}",
                f"repeat the command with --erase; the board that really is node {name} is not harmed unless both were in the street",
            )
        entry = registered.get(name)
        if entry is None:
            if order.is_replacing_keys or name in self._journal.nodes():
                self._refuse_taken(taken)
                return None  # keys that nobody ever knew: they are made anew
            raise RefusedError(
                f"{port}: the board is node {name}, which {self._bench.registry.path} does not know",
                "give the registry that knows it, or repeat with --replace-keys: it gets a new id and new keys",
            )
        if entry["revoked"]:
            raise RefusedError(f"{port}: node {name} is revoked", f"lamppost node reset {name} makes a bare board of it")
        if name == order.replaces:
            raise RefusedError(f"{port}: the board is node {name} itself", "take another board, or leave out --replaces")
        if entry.get("asset") != order.asset:
            raise RefusedError(
                f"{port}: the board is node {name} of {entry.get('asset')!r}, not of {order.asset!r}",
                f"take another board, or give --asset {entry.get('asset')!r}; lamppost node revoke {name} frees it for something else",
            )
        keys = valid_keys(entry)
        if found["epoch"] not in keys:
            raise RefusedError(
                f"{port}: the board has keys of epoch {found['epoch']}, the registry knows node {name} in epoch {entry['epoch']}",
                f"its flash is an old copy: lamppost node revoke {name}, lamppost node reset {name}, then repeat the command",
            )
        self._challenge(name, keys[found["epoch"]])
        return name, entry

    def _refuse_replacement(self, registered: dict[str, Any]) -> None:
        """Raises RefusedError where the order replaces a node that is none, another asset's, or replaced already by another board."""
        order = self._order
        if order.replaces is None:
            return
        old = registered.get(order.replaces)
        if old is None:
            raise RefusedError(f"{self._bench.registry.path} knows no node {order.replaces}", "`lamppost node list` shows who is known")
        if old.get("asset") != order.asset:
            raise RefusedError(
                f"node {order.replaces} is of {old.get('asset')!r}, not of {order.asset!r}", f"give --asset {old.get('asset')!r}"
            )
        if "replaced_by" in old and identity_on(self._board).get("node") != int(old["replaced_by"], 16):
            raise RefusedError(
                f"node {order.replaces} was replaced by node {old['replaced_by']}, and this board is not it",
                f"--replaces {old['replaced_by']}, if that one is to be replaced in turn",
            )

    def _registered(self) -> dict[str, Any]:
        return self._bench.registry.nodes() if self._bench.registry.path.exists() else {}

    def _refuse_taken(self, taken: list[str]) -> None:
        if taken:
            raise RefusedError(
                f"{self._order.asset!r} has node {taken[0]} already, and this board is not it",
                f"if that board is lost or broken, or to be taken down: repeat the command with --replaces {taken[0]}",
            )

    def _challenge(self, name: str, public_key: str) -> None:
        """Raises RefusedError unless the board signs with the key that the registry has."""
        if not has_key(self._board, bytes.fromhex(public_key)):
            raise RefusedError(
                f"{self._order.port}: the board says that it is node {name}, but does not hold its key",
                f"somebody has tampered with it: keep it aside; lamppost node revoke {name}",
            )

    # -- the steps ------------------------------------------------------------------------------------------------------

    def _install(self, seen: Seen) -> None:
        firmware = self._firmware()
        self._tell("install", "looking")
        if seen.has_rom:
            self._board.enter()  # nothing may be running from the partition
            with self._board.in_words():
                is_written = install_rom(self._board, firmware["node.romfs"], seen.feed, lambda text: self._tell("install", text))
            written = ["node.romfs"] if is_written else []
            if is_written:
                self._board.exec("import vfs\ntry:\n vfs.mount(rom, '/rom')\nexcept OSError:\n pass")
                self._board.enter()
        else:
            files = {f"/{name}": content for name, content in firmware.items() if name.startswith("lib/")}
            total = len(files)
            done = iter(range(1, total + 1))
            with self._board.in_words():
                written = install(self._board, files, seen.feed, lambda path: self._tell("install", f"{next(done)} of {total}"))
        self._journal.note("install", firmware=digest(firmware), written=len(written))

    def _configure(self, seen: Seen) -> None:
        """Everything but keys: settings, and a folder without anything else in it but airtime accounts."""
        self._tell("configure")
        settings = settings_files(self._bench.technician.authority, self._order.config, self._order.schedules)
        if is_unused(self._board):
            settings = {**account_files(self._order.config), **settings}
        files = {f"{STATE}/{name}": content for name, content in settings.items()}
        wipe(self._board)
        with self._board.in_words():
            install(self._board, files, seen.feed)
        self._journal.note("configure")

    def _reconfigure(self, seen: Seen, name: str) -> tuple[str, dict[str, Any]]:
        """A node in service as the site file now has it: keys, counters, records and airtime accounts stay. Its schedules change by order.

        With new settings the self-test has to pass, else the old ones are put back.
        """
        order, board = self._order, self._board
        before = config_on(board)
        self._changed = differences(before.values, order.config)
        if self._changed:
            self._tell("configure", "; ".join(self._changed))
            with board.in_words():
                install(board, {CONFIG: cbor.encode(order.config)}, seen.feed)
            self._journal.note("configure", changed=self._changed)
        if self._changed or self._journal.is_untested():
            try:
                self._test()
            except RefusedError:
                if self._changed and before.data:
                    with board.in_words():
                        install(board, {CONFIG: before.data}, seen.feed)
                raise
        self._reschedule(seen)
        return name, self._bench.registry.reconfigure(int(name, 16), registered_settings(order.config))

    def _reschedule(self, seen: Seen) -> None:
        files = {f"{STATE}/settings/{name}.schedule": checked_value(schedule) for name, schedule in self._order.schedules.items()}
        other = {path: data for path, data in files.items() if digest_on_board(self._board, path) != hashlib.sha256(data).digest()}
        names = [path.rpartition("/")[2] for path in other]
        if other and self._order.is_rescheduling:
            with self._board.in_words():
                install(self._board, other, seen.feed)
            self._changed.extend(f"{name}: the site file's" for name in names)
            self._journal.note("reschedule", changed=names)
        else:
            self._not_done.extend(
                f"{name} on the board is another one than the site file's, and stays: `lamppost order schedule` or --schedules"
                for name in names
            )

    def _test(self) -> None:
        seconds = self._order.test_s
        self._tell("test", f"at most {seconds} s")
        told = self._board.exec(_TEST.format(seconds=seconds), seconds + _TEST_SLACK_S)
        found = judge(told, fixture_names(self._order.config))
        self._journal.note("test", measured=found.measured, wrong=found.wrong, not_judged=found.not_judged)
        if found.wrong:
            raise RefusedError(
                f"{self._order.port}: the self-test failed:\n" + "\n".join(f"  {text}" for text in found.wrong),
                "check the wiring and the supply of what is named, then repeat the command",
            )
        self._tested = found.measured
        self._not_done.extend(found.not_judged)

    def _enrol(self, seen: Seen) -> tuple[str, dict[str, Any]]:
        """Make keys, put them on the board, have it prove them, and only then tell the registry."""
        bench, order = self._bench, self._order
        is_free = order.node is not None and (order.replaces is None or order.node != int(order.replaces, 16))
        node = order.node if is_free and order.node is not None else free_id(bench.registry)
        self._tell("keys")
        made: NewNode = make_node(
            bench.technician.authority, order.config, node, order.asset, bench.keys, order.schedules, bytes.fromhex(seen.unit)
        )
        self._journal.note("keys", node=made.name, fingerprint=fingerprint(bytes.fromhex(made.entry["public_key"])))
        with self._board.in_words():
            install(self._board, {f"{STATE}/{IDENTITY}": made.files[IDENTITY]}, seen.feed)
        found = identity_on(self._board)
        if (found.get("node"), found.get("unit")) != (node, seen.unit):
            raise RefusedError(f"{order.port}: the board does not keep its identity", "repeat the command; if it fails again, take another")
        self._challenge(made.name, made.entry["public_key"])
        self._tell("enrol", made.name)
        bench.registry.path.parent.mkdir(parents=True, exist_ok=True)
        bench.registry.add(made.network, made.node, made.entry, made.hop_key, order.replaces, int(bench.now()))
        self._journal.note("enrol", node=made.name)
        return made.name, made.entry

    def _lock(self, seen: Seen) -> None:
        self._tell("lock")
        self._board.exec(_STAY)
        lock(self._board, self._firmware()["main.py"], seen.feed)
        if seen.feed:
            forgive_interruption(self._board)
        self._board.reset()
        self._started_s = self._bench.now()
        self._board = reopened(self._order.port)
        if has_prompt(self._board, self._bench.boot_s):
            raise RefusedError(
                f"{self._order.port}: the node does not stay up: the board is back at a prompt",
                "repeat the command; if it fails again: mpremote connect PORT resume exec 'import main' shows why",
            )
        self._journal.note("lock")
        self._not_done.append(OPEN)

    def _prove(self, name: str) -> dict[str, Any] | None:
        path = self._bench.gateway_status
        if path is None:
            self._not_done.append("no gateway has verified a record of it: no --gateway-status was given")
            return None
        self._tell("prove", "waiting for the gateway")
        require_gateway(path)
        proof = wait_for_proof(path, name, self._started_s, self._bench.proof_s)
        self._journal.note("prove", **proof)
        return proof

    def _outcome(self, seen: Seen, known: tuple[str, dict[str, Any]], proof: dict[str, Any] | None) -> Outcome:
        name, entry = known
        tested = self._tested
        if tested is None:
            earlier = [line for line in self._journal.entries if line["step"] == "test" and not line["wrong"]]
            tested = earlier[-1]["measured"] if earlier else None
            self._not_done.extend(earlier[-1]["not_judged"] if earlier else ["self-test: it was done before, and its journal is gone"])
        public = bytes.fromhex(entry["public_key"])
        document = {
            "format": "lamppost commissioning 1",
            "asset": self._order.asset,
            "node": name,
            "network": f"{self._bench.technician.authority.network:08x}",
            "replaces": entry.get("replaces"),
            "epoch": entry["epoch"],
            "fixtures": entry["fixtures"],
            "public_key": entry["public_key"],
            "fingerprint": fingerprint(public),
            "unit": seen.unit,
            "machine": seen.machine,
            "micropython": seen.micropython,
            "lamppost": self._bench.kit.manifest["lamppost"],
            "firmware": digest(self._firmware()),
            "settings_changed": self._changed,
            "self_test": tested,
            "proof": proof,
            "not_done": self._not_done,
            "by": self._bench.technician.name,
            "at": int(self._bench.now()),
            "took_s": round(time.monotonic() - self._began_s, 1),
        }
        return Outcome(json.loads(json.dumps(document)), self._not_done)


_HAS_PACKAGES = """try:
    from lamppost_protocol import cbor
    print(True)
except ImportError:
    print(False)
"""
