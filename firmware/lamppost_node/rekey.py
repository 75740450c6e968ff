"""The switch to the next epoch's keys, asked for from the console; a running node never loads it. WIRE.md section 16.

Whoever re-keys puts `identity.next` beside `identity.cbor` and has it prove its key; `main` then makes it this node's identity by one
rename. Before that both epochs' counters are on flash, a copy each, so whichever identity the next start finds has its own. Records stay
where they are: the spool takes them over at the next start. Cut off anywhere, doing it again completes it.
"""

from lamppost_node import identity
from lamppost_node.flash import Flash
from lamppost_node.sequence_store import FOLDER, Counter
from lamppost_node.settings import wrap

_COPIES = (FOLDER + "/tx.0", FOLDER + "/tx.1")


def switch(flash: Flash) -> int:
    """Make `identity.next` this node's identity; returns its epoch. Writes flash.

    Raises OSError (flash refused), IdentityError: there is none, or it is of no later epoch. Either way the node is what it was.
    """
    epoch, old_epoch = identity.epoch_of(flash, identity.NEXT), identity.epoch_of(flash, identity.FILE)
    if epoch <= old_epoch:
        raise identity.IdentityError("epoch")
    flash.make_folder(FOLDER)
    old = Counter(flash, "tx", old_epoch).read()
    if old is not None:
        flash.replace(_COPIES[0], wrap([old_epoch, old]))
    flash.replace(_COPIES[1], wrap([epoch, 0]))
    flash.rename(identity.NEXT, identity.FILE)
    Counter(flash, "tx", epoch).write(0)
    return epoch


def main() -> None:
    """Switch this board; says the epoch. Raises IdentityError where the next identity is not one that this board can sign with."""
    from lamppost_node.board import Board

    board = Board()
    flash = Flash(board.flash_root())
    identity.load(flash, board.unit(), identity.NEXT)
    print(switch(flash))
