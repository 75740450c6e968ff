"""Evidence from a board on its console: whose it is, whether it holds its key and its counters, its starts, its schedules, its sensors.

Looking interrupts the node; afterwards it is reset and goes on, and the start that was interrupted counts for nothing. Its keys never come
over the cable.
"""

import json
from typing import Any

from lamppost_tools.board.repl import Board
from lamppost_tools.commission.judge import judge
from lamppost_tools.commission.look import FEED, forgive_interruption, has_key, identity_on
from lamppost_tools.doctor.evidence import Evidence
from lamppost_tools.errors import RefusedError
from lamppost_tools.node.registry import valid_keys

_LOOK = """import json, os
from lamppost_node import config
from lamppost_node.flash import Flash
from lamppost_node.settings import Settings
from lamppost_node.sequence_store import Counter
from lamppost_node.version import VERSION_NUMBER
flash = Flash('/lamppost')
settings = Settings(flash)
found = config.load(flash, False)
boots = settings.load('boot')
told = {'version': VERSION_NUMBER, 'configuration': found.source, 'errors': found.errors}
told['unconfirmed_boots'] = max(0, boots[1] - 1) if isinstance(boots, list) and len(boots) == 2 else 0
told['fixtures'] = [one['kind'] + ('.' + str(one['instance']) if one['instance'] else '') for one in found.values['fixtures']]
told['schedules'] = {}
for name in told['fixtures']:
    if name.startswith('lamp'):
        told['schedules'][name] = settings.load(name + '.schedule') is not None
print(json.dumps(told))
"""
_COUNTERS = """from lamppost_node.sequence_store import Counter
print(Counter(flash, 'tx', {epoch}).read() is not None)
"""
_TEST = "from lamppost_node.self_test import main\nmain({seconds})"


def evidence_of_board(port: str, registry: dict[str, Any] | None, newest_version: int | None, test_s: int) -> Evidence:
    """Look at the board on `port`. `registry`: its document, for the network and the keys that are known. Raises ToolError."""
    board = Board(port)
    try:
        board.enter()
        identity = identity_on(board)
        if identity["state"] != "there":
            raise RefusedError(
                f"{port}: the board is no node: its identity is {'missing' if identity['state'] == 'none' else 'damaged'}", _NEXT
            )
        board.exec(FEED)
        told = json.loads(board.exec(_LOOK))
        told["identity"] = identity
        told["counters"] = board.exec(_COUNTERS.format(epoch=identity["epoch"])).strip() == "True"
        told["has_registered_key"] = _has_key(board, identity, registry)
        board.exec(FEED)
        said = board.exec(_TEST.format(seconds=test_s), test_s + 60.0)
        told["self_test"] = judge(said, told["fixtures"]).wrong
        network = int(registry["network"], 16) if registry is not None else None
        found = Evidence(
            f"{identity['node']:08x}", f"the board at {port}", board=told, newest_version=newest_version, expected_network=network
        )
        forgive_interruption(board)
        board.reset()
        return found
    finally:
        board.close()


_NEXT = "lamppost commission makes one of it"


def _has_key(board: Board, identity: dict[str, Any], registry: dict[str, Any] | None) -> bool | None:
    entry = registry["nodes"].get(f"{identity['node']:08x}") if registry is not None else None
    if entry is None:
        return None
    public_key = valid_keys(entry).get(identity["epoch"])
    try:
        return public_key is not None and has_key(board, bytes.fromhex(public_key))
    except RefusedError:
        return False
