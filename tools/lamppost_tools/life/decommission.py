"""The end of a node's service, at its console: its last records fetched, its key revoked, then erased; its lamp stays lit.

look, leave, fetch, revoke, erase, paper. `leave` has the node keep no new record, so that what it owes comes to an end, and with a gateway
that can be asked that is waited for. Nothing is revoked before, and nothing erased before that. Cut off anywhere, the same command goes on:
a board that has lost its keys to it is known by the journal of its chip. What stays on the board is firmware and configuration, and a lamp
at its safe level.
"""

import json
import time
from typing import Any

from lamppost_tools.commission.proof import stored_to
from lamppost_tools.errors import DeadlineError, RefusedError
from lamppost_tools.life.erase import NOT_OVERWRITTEN, erase
from lamppost_tools.life.visit import Desk, Visit

STEPS = ("look", "leave", "fetch", "revoke", "erase", "paper")
FORMAT = "lamppost decommissioning 1"
REASON = "decommissioned"
_LEAVE = "from lamppost_node.leave import main\nmain()"
_KEPT = ("config.cbor", "config.good")
_LOOK_S = 0.2


def decommission(desk: Desk, port: str, node: int, reason: str = REASON, is_forced: bool = False) -> dict[str, Any]:
    """Do all that is left of it; what its record says. `is_forced`: records that no gateway is known to have may be lost.

    Raises ToolError: what was done stays done, the same call goes on.
    """
    with Visit(desk, port, node) as visit:
        lost = _lost_before(visit) if visit.entry.get("revoked") else _fetch(desk, visit, is_forced)
        desk.tell("revoke", visit.name)
        visit.journal.note("revoke", node=visit.name, lost=lost)
        entry = desk.registry.revoke(node, reason, int(desk.now()))
        desk.tell("erase", "")
        is_overwritten = erase(visit, _KEPT)
        visit.journal.note("erase", node=visit.name)
        visit.restart()
        desk.tell("paper", visit.name)
        return {
            "format": FORMAT,
            "asset": entry.get("asset"),
            "node": visit.name,
            "network": f"{desk.technician.authority.network:08x}",
            "epoch": entry["epoch"],
            "public_key": entry["public_key"],
            "unit": visit.seen.unit,
            "reason": entry.get("reason"),
            "revoked_at": entry.get("revoked_at"),
            "records_lost_at_most": lost,
            "not_done": [] if is_overwritten else [NOT_OVERWRITTEN],
            "by": desk.technician.name,
            "at": int(desk.now()),
        }


def _lost_before(visit: Visit) -> int:
    """What was noted of a decommissioning that was cut off behind the registry. Raises RefusedError where there was none on this board."""
    told = [line for line in visit.journal.entries if line["step"] == "revoke" and line.get("node") == visit.name]
    if not told:
        raise RefusedError(f"node {visit.name} is revoked", f"lamppost node reset {visit.name} makes a bare board of it")
    if visit.found()["state"] != "none":
        visit.proven()
    return int(told[-1]["lost"])


def _fetch(desk: Desk, visit: Visit, is_forced: bool) -> int:
    """Have a gateway take what the node still owes; how many records may be lost all the same. Raises RefusedError, DeadlineError."""
    found = visit.proven()
    if found["epoch"] != visit.entry["epoch"]:
        raise RefusedError(f"node {visit.name} is being re-keyed", f"finish that first: lamppost node rekey {visit.name}")
    visit.require("leave")
    desk.tell("leave", "")
    path = desk.gateway_status
    next_n, cursor = _leave(visit)
    if path is None:
        return _lost(visit, next_n - 1 - cursor, is_forced, "give --gateway-status of a gateway that hears it, and they are waited for")
    desk.tell("fetch", f"{max(0, next_n - 1 - max(cursor, stored_to(path, visit.name)))} records owed")
    if next_n - 1 > stored_to(path, visit.name):
        visit.restart()
        ends_s = time.monotonic() + desk.gateway_s
        while stored_to(path, visit.name) < next_n - 1 and time.monotonic() < ends_s:
            time.sleep(_LOOK_S)
        visit.enter_again()
        visit.proven()
        next_n, cursor = _leave(visit)
    next_step = (
        f"`lamppost doctor` tells what keeps them; if its counter is lost: lamppost node rekey {visit.name}; then repeat the command"
    )
    return _lost(visit, next_n - 1 - max(cursor, stored_to(path, visit.name)), is_forced, next_step, DeadlineError)


def _leave(visit: Visit) -> tuple[int, int]:
    """Have the node keep nothing new; its next number, and the highest that it knows to be acknowledged."""
    visit.feed()
    next_n, cursor = json.loads(visit.board.exec(_LEAVE))
    return int(next_n), int(cursor)


def _lost(visit: Visit, owed: int, is_forced: bool, next_step: str, error: type[RefusedError | DeadlineError] = RefusedError) -> int:
    if owed <= 0:
        return 0
    if not is_forced:
        raise error(
            f"{visit.port}: up to {owed} records of node {visit.name} are in no gateway's hands yet",
            f"{next_step}; or --force, and they are lost. Until then its lamp works on, and it keeps no new record",
        )
    return owed
