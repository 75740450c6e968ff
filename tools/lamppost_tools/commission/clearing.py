"""Emptying a node's folder on a board, all but one thing: what its radio has sent, which the law counts for the antenna for an hour.

A board is *unused* while nothing on it says that it ever was a node, or that somebody began to make one of it: then its airtime accounts
begin at 0. Any other board keeps those it has, and one that is missing stays missing: it counts as spent (WIRE.md section 13).
"""

from lamppost_tools.board.repl import Board

STATE = "/lamppost"
_WIPE = """import os
def wipe(path):
    if path in {kept!r} or path.startswith('/lamppost/settings/airtime.'):
        return
    try:
        for name in os.listdir(path):
            wipe(path + '/' + name)
        os.rmdir(path)
    except OSError:
        try:
            os.remove(path)
        except OSError:
            pass
wipe('/lamppost')
"""
_IS_UNUSED = """import os
def names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
accounts = [name for name in names('/lamppost/settings') if name.startswith('airtime.')]
print(not accounts and 'main.py' not in names('/') and not {'identity.cbor', 'config.cbor'} & set(names('/lamppost')))
"""


def is_unused(board: Board) -> bool:
    """Whether this board can have sent nothing yet."""
    return board.exec(_IS_UNUSED).strip() == "True"


def wipe(board: Board, kept: tuple[str, ...] = ()) -> None:
    """Remove everything below /lamppost but airtime accounts and the paths `kept`. Cut off anywhere, doing it again completes it."""
    board.exec(_WIPE.format(kept=kept))
