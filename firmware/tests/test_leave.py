"""A node that is taken out of service keeps nothing new, and what it owes comes to an end."""

from fake_flash import FakeFlash
from lamppost_node import identity
from lamppost_node.leave import leave
from lamppost_node.sampler import LEAVING
from lamppost_node.sequence_store import Counter
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import cbor

EPOCH = 3


def test_what_is_owed_is_told_and_nothing_new_is_kept() -> None:
    """Its next number and its cursor, as the running node would find them; twice the same, and the setting is there."""
    flash = FakeFlash()
    flash.files[identity.FILE] = cbor.encode({"epoch": EPOCH})
    Counter(flash, "tx", EPOCH).write(64)  # type: ignore[arg-type]
    spool = Spool(flash, Settings(flash), EPOCH, 4096, bytearray(256))  # type: ignore[arg-type]
    spool.open()
    for value in range(20):
        spool.append(1, None, value, None, 0, 1, 0, [value])
    spool.acknowledge(11)
    spool.save_cursor()
    for _ in range(2):
        assert leave(flash, 256) == (21, 11)  # type: ignore[arg-type]
        assert Settings(flash).load(LEAVING) == 1  # type: ignore[arg-type]
