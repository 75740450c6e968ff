"""New keys for a node, over its console: WIRE.md section 16. At every instant the board can sign, and what it signs is accepted.

look, keys, register, agree, switch, prove, paper. The keys are made here and put beside the old ones, which stay in force; the board proves
to hold them; the registry then names both epochs; a gateway that can be asked must know of the new one before the board switches; the board
switches by one rename; the registry makes the new epoch the node's own; a gateway has verified a frame of it, and only that retires the old
one. Cut off anywhere, the same command goes on, from what board and registry say themselves. No key is written down but on the board and in
`hop-keys.json`.
"""

import time
from typing import Any

from lamppost_protocol import cbor
from lamppost_protocol.es256_host import public_key

from lamppost_tools.board.installer import install
from lamppost_tools.commission.clearing import STATE
from lamppost_tools.commission.look import identity_on
from lamppost_tools.commission.proof import epochs_known, wait_for_proof
from lamppost_tools.errors import DeadlineError, RefusedError
from lamppost_tools.life.visit import Desk, Visit
from lamppost_tools.node.registry import all_keys
from lamppost_tools.signed_document import fingerprint

STEPS = ("look", "keys", "register", "agree", "switch", "prove", "paper")
FORMAT = "lamppost re-keying 1"
_NEXT = "identity.next"
_SWITCH = "from lamppost_node.rekey import main\nmain()"
_LOOK_S = 0.2
_FEED_S = 10.0


def rekey(desk: Desk, port: str, node: int) -> dict[str, Any]:
    """Do all that is left of a re-keying; what its record says. Raises ToolError: what was done stays done, the same call goes on."""
    with Visit(desk, port, node) as visit:
        if visit.entry.get("revoked"):
            raise RefusedError(f"node {visit.name} is revoked", f"lamppost node reset {visit.name} makes a bare board of it")
        return _Rekey(desk, visit).run()


class _Rekey:
    def __init__(self, desk: Desk, visit: Visit) -> None:
        self._desk = desk
        self._visit = visit
        self._not_done: list[str] = []

    def run(self) -> dict[str, Any]:
        visit, registry = self._visit, self._desk.registry
        found = visit.proven()
        visit.journal.note("look", node=visit.name, epoch=found["epoch"])
        following = visit.entry.get("next")
        if "previous" not in visit.entry:
            if following is None or found["epoch"] != following["epoch"]:
                self._stage()
                self._agree()
                self._switch()
            self._note("promote", registry.promote(visit.node))
        elif found["epoch"] != visit.entry["epoch"]:
            raise RefusedError(
                f"{visit.port}: the board is back in epoch {found['epoch']}, it was in {visit.entry['epoch']}: its flash is an old copy",
                f"lamppost commission --replaces {visit.name} makes another board of it",
            )
        self._prove(visit.restart())
        return self._document()

    def _note(self, step: str, entry: dict[str, Any]) -> None:
        self._visit.entry = entry
        self._visit.journal.note(step, node=self._visit.name, epoch=entry["epoch"])

    def _stage(self) -> None:
        """Have the next epoch's keys on the board, proven, and in the registry."""
        visit, desk = self._visit, self._desk
        self._desk.tell("keys", "")
        visit.require("rekey")
        following = visit.entry.get("next")
        if following is not None and self._is_staged(following):
            return
        epoch = max(all_keys(visit.entry)) + 1
        private_key, hop_key = desk.keys.private_key(), desk.keys.hop_key()
        public = public_key(private_key)
        authority = desk.technician.authority
        identity = {
            "network": authority.network, "node": visit.node, "epoch": epoch, "private_key": private_key, "hop_key": hop_key,
            "issuer": authority.issuer.to_bytes(4, "big"), "command_key": authority.public_key, "unit": bytes.fromhex(visit.seen.unit),
        }  # fmt: skip
        visit.journal.note("next", node=visit.name, epoch=epoch, fingerprint=fingerprint(public))
        with visit.board.in_words():
            install(visit.board, {f"{STATE}/{_NEXT}": cbor.encode(identity)}, visit.seen.feed)
        visit.prove(public.hex(), _NEXT)
        desk.tell("register", visit.name)
        desk.registry.begin_rekey(visit.node, epoch, public, hop_key, visit.seen.unit)
        visit.entry = desk.registry.nodes()[visit.name]
        visit.journal.note("register", node=visit.name, epoch=epoch)

    def _is_staged(self, following: dict[str, Any]) -> bool:
        """Whether the keys that the registry waits for lie on the board already."""
        found = identity_on(self._visit.board, _NEXT)
        if (found.get("node"), found.get("epoch")) != (self._visit.node, following["epoch"]):
            return False
        try:
            self._visit.prove(following["public_key"], _NEXT)
        except RefusedError:
            return False
        return True

    def _agree(self) -> None:
        """A gateway that can be asked must accept the next epoch before anything is sent in it."""
        visit, path = self._visit, self._desk.gateway_status
        epoch = visit.entry["next"]["epoch"]
        if path is None:
            self._not_done.append(
                f"no gateway was asked whether it knows epoch {epoch}: one without registry version "
                f"{self._desk.registry.load()['version']} refuses the node until it has it; the node keeps its records meanwhile"
            )
            return
        self._desk.tell("agree", "waiting for the gateway to read its registry")
        ends_s = time.monotonic() + self._desk.gateway_s
        fed_s = time.monotonic()
        while epoch not in epochs_known(path, visit.name):
            if time.monotonic() >= ends_s:
                raise DeadlineError(
                    f"the gateway does not know epoch {epoch} of node {visit.name} yet",
                    f"give it {self._desk.registry.path} and hop-keys.json beside it, then repeat the command; the node goes on as it was",
                )
            if time.monotonic() - fed_s >= _FEED_S:
                fed_s = time.monotonic()
                visit.feed()
            time.sleep(_LOOK_S)

    def _switch(self) -> None:
        visit = self._visit
        following = visit.entry["next"]
        self._desk.tell("switch", f"epoch {following['epoch']}")
        visit.feed()
        visit.board.exec(_SWITCH)
        if visit.found().get("epoch") != following["epoch"]:
            raise RefusedError(
                f"{visit.port}: the board does not keep its new keys", "repeat the command; if it fails again, replace the board"
            )
        visit.prove(following["public_key"])
        visit.journal.note("switch", node=visit.name, epoch=following["epoch"])

    def _prove(self, started_s: float) -> None:
        path, visit = self._desk.gateway_status, self._visit
        self._proof: dict[str, Any] | None = None
        if path is None:
            self._not_done.append(
                "no gateway has verified a record in the new epoch, so the registry still names the old one: repeat with --gateway-status"
            )
            return
        self._desk.tell("prove", "waiting for the gateway")
        self._proof = wait_for_proof(path, visit.name, started_s, self._desk.gateway_s)
        self._note("retire", self._desk.registry.retire(visit.node, int(self._desk.now())))

    def _document(self) -> dict[str, Any]:
        visit, entry = self._visit, self._visit.entry
        self._desk.tell("paper", visit.name)
        public = bytes.fromhex(entry["public_key"])
        return {
            "format": FORMAT,
            "asset": entry.get("asset"),
            "node": visit.name,
            "network": f"{self._desk.technician.authority.network:08x}",
            "epoch": entry["epoch"],
            "epochs_before": sorted(epoch for epoch in all_keys(entry) if epoch != entry["epoch"]),
            "fixtures": entry["fixtures"],
            "public_key": entry["public_key"],
            "fingerprint": fingerprint(public),
            "unit": visit.seen.unit,
            "proof": self._proof,
            "not_done": self._not_done,
            "by": self._desk.technician.name,
            "at": int(self._desk.now()),
        }
