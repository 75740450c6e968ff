"""Taking a node's keys and state off its board, and looking that they are gone: from its files, and from flash that no file holds any more.

littlefs gives a removed file's blocks back without erasing them. So everything that is free is written over, by one file that takes all the
room there is and is removed again. What that cannot reach is said by whoever calls.
"""

import json

from lamppost_tools.commission.clearing import STATE, wipe
from lamppost_tools.errors import RefusedError
from lamppost_tools.life.visit import Visit

#: Said of a board whose free flash could not be written over: one that has a disk, or more flash than any chip.
NOT_OVERWRITTEN = "its free flash was not written over: what its keys were may still be read from the flash chip"
_SECRETS = """import os
for name in ('identity.cbor', 'identity.next', 'identity.cbor.new', 'identity.next.new'):
    try:
        os.remove('/lamppost/' + name)
    except OSError:
        pass
"""
_LIST = """import json, os
def below(path):
    found = []
    for name, kind in [entry[:2] for entry in os.ilistdir(path)]:
        found.extend(below(path + '/' + name) if kind & 0x4000 else [path + '/' + name])
    return found
try:
    print(json.dumps(below('/lamppost')))
except OSError:
    print('[]')
"""
_OVERWRITE = """import os
status = os.statvfs('/')
is_chip = status[1] * status[2] <= {most_bytes}
if is_chip:
    zeros = bytes(4096)
    file = open('/.new', 'wb')
    try:
        while file.write(zeros):
            {feed}
    except OSError:
        pass
    try:
        file.close()
    except OSError:
        pass
    os.remove('/.new')
print(is_chip)
"""
_MOST_BYTES = 32 << 20
_OVERWRITE_S = 600.0


def erase(visit: Visit, kept: tuple[str, ...]) -> bool:
    """Remove everything of the node but `kept` (below /lamppost) and its airtime accounts; whether its free flash was written over too.

    Keys first: cut off anywhere, doing it again completes it. Raises RefusedError when something is still there afterwards.
    """
    board = visit.board
    visit.feed()
    board.exec(_SECRETS)
    wipe(board, tuple(f"{STATE}/{name}" for name in kept))
    feed = "; ".join(visit.seen.feed.split("\n")) or "pass"
    is_overwritten = board.exec(_OVERWRITE.format(most_bytes=_MOST_BYTES, feed=feed), _OVERWRITE_S).strip() == "True"
    left = set(json.loads(board.exec(_LIST))) - {f"{STATE}/{name}" for name in kept}
    left = {path for path in left if not path.startswith(f"{STATE}/settings/airtime.")}
    if left:
        raise RefusedError(
            f"{visit.port}: still on the board: {', '.join(sorted(left)[:5])}",
            "repeat the command; if it says so again, its flash is failing: destroy the board",
        )
    if visit.found()["state"] != "none":
        raise RefusedError(f"{visit.port}: the board still has an identity", "repeat the command; if it says so again, destroy the board")
    return is_overwritten
