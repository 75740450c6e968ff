"""A bare board out of a node's: keys and state erased, main.py gone; airtime accounts stay. `lamppost commission` takes it again.

Whose board it is must be proven: it signs with the node's key; or, where it cannot any more, the registry has revoked that node and its
chip is the one that the keys were made for, or this technician's journal of the chip says that he had it proven. Another city's board is
left alone.
"""

from typing import Any

from lamppost_tools.errors import RefusedError
from lamppost_tools.life.erase import NOT_OVERWRITTEN, erase
from lamppost_tools.life.visit import Desk, Visit

STEPS = ("look", "revoke", "erase", "paper")
FORMAT = "lamppost reset 1"
REASON = "factory reset"
_UNLOCK = """import os
for name in ('main.py', 'boot.py'):
    try:
        os.remove('/' + name)
    except OSError:
        pass
"""


def reset(desk: Desk, port: str, node: int) -> dict[str, Any]:
    """Do all that is left of it; what its record says. A node in service is revoked first.

    Raises ToolError: what was done stays done, the same call goes on.
    """
    with Visit(desk, port, node) as visit:
        proof = _proof(visit)
        desk.tell("revoke", visit.name)
        visit.journal.note("revoke", node=visit.name, lost=0)
        entry = desk.registry.revoke(node, REASON, int(desk.now()))
        desk.tell("erase", "")
        is_overwritten = erase(visit, ())
        visit.board.exec(_UNLOCK)
        visit.journal.note("erase", node=visit.name)
        visit.leave()
        desk.tell("paper", visit.name)
        return {
            "format": FORMAT,
            "asset": entry.get("asset"),
            "node": visit.name,
            "network": f"{desk.technician.authority.network:08x}",
            "unit": visit.seen.unit,
            "known_by": proof,
            "reason": entry.get("reason"),
            "revoked_at": entry.get("revoked_at"),
            "not_done": [] if is_overwritten else [NOT_OVERWRITTEN],
            "by": desk.technician.name,
            "at": int(desk.now()),
        }


def _proof(visit: Visit) -> str:
    """By what the board is known to be this node's. Raises RefusedError."""
    found = visit.found()
    is_lost = bool(visit.entry.get("revoked"))
    try:
        visit.proven()
        return "its key"
    except RefusedError as refusal:
        is_its_chip = visit.entry.get("unit") == visit.seen.unit
        if is_lost and is_its_chip:
            return "the registry: revoked, and made for this chip"
        if found["state"] == "none" and any(line["step"] == "revoke" and line.get("node") == visit.name for line in visit.journal.entries):
            return "the journal of its chip"
        if is_lost or is_its_chip:
            next_step = f"if it surely is that board: lamppost node revoke {visit.name} --reason lost, then repeat the command"
            if is_lost:
                next_step = "its keys were made for another chip, or for any: erase it (lamppost flash --erase)"
            raise RefusedError(refusal.what, next_step) from None
        raise
