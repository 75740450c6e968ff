"""The switch to the next epoch on the node (R29): at every instant it holds one key and that key's counter, and no record is lost."""

import pytest
from fake_flash import FakeFlash, PowerCut
from lamppost_node import identity, rekey
from lamppost_node.identity import IdentityError
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sequence_store import Counter, SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import cbor

OLD, NEW = 1, 2


def lived(has_counter: bool = True) -> FakeFlash:
    """A node that has sent, with keys for the next epoch put beside its own."""
    flash = FakeFlash()
    flash.files[identity.FILE] = cbor.encode({"epoch": OLD})
    flash.files[identity.NEXT] = cbor.encode({"epoch": NEW})
    if has_counter:
        Counter(flash, "tx", OLD).write(640)  # type: ignore[arg-type]
    flash.operations = 0
    return flash


def spool_of(flash: FakeFlash, epoch: int) -> Spool:
    spool = Spool(flash, Settings(flash), epoch, 1024, bytearray(256))  # type: ignore[arg-type]
    spool.open()
    return spool


def numbers(spool: Spool) -> list[tuple[int, object]]:
    found = []
    record = spool.read_from(1)
    while record is not None:
        found.append((record.n, record.values[0]))
        record = spool.read_from(record.n + 1)
    return found


@pytest.mark.parametrize("keep_permille", [0, 500, 1000])
def test_cut_at_every_operation_it_has_one_key_with_its_counter(keep_permille: int) -> None:
    """The node that comes up can sign, under the old key or the new one; done again, it is the new one's, and that from 0 on."""
    uncut = lived()
    rekey.switch(uncut)  # type: ignore[arg-type]
    for cut in range(uncut.operations):
        flash = lived()
        flash.cut_in, flash.keep_permille = cut, keep_permille
        with pytest.raises(PowerCut):
            rekey.switch(flash)  # type: ignore[arg-type]
        epoch = identity.epoch_of(flash, identity.FILE)  # type: ignore[arg-type]
        store = SequenceStore(flash, epoch)  # type: ignore[arg-type]
        assert not store.is_lost, f"cut {cut}"
        assert store.reserved == (640 if epoch == OLD else 0)
        if epoch == OLD:
            assert store.take() > 640
            rekey.switch(flash)  # type: ignore[arg-type]
        assert identity.epoch_of(flash, identity.FILE) == NEW  # type: ignore[arg-type]
        assert SequenceStore(flash, NEW).reserved == 0  # type: ignore[arg-type]
        assert identity.NEXT not in flash.files


def test_a_lost_counter_is_mended() -> None:
    """Silent for want of its counter, the node signs again under the next epoch; orders begin anew there too."""
    flash = lived(has_counter=False)
    assert SequenceStore(flash, OLD).is_lost  # type: ignore[arg-type]
    assert rekey.switch(flash) == NEW  # type: ignore[arg-type]
    store = SequenceStore(flash, NEW)  # type: ignore[arg-type]
    assert store.take() == 64
    assert not OrderLedger(flash, Settings(flash), NEW, store.reserved == 0).is_lost  # type: ignore[arg-type]


def test_never_back_and_never_twice() -> None:
    """No later epoch, nothing put beside, or nothing to come from: refused, and nothing is written."""
    for change in ({identity.NEXT: {"epoch": OLD}}, {identity.NEXT: None}, {identity.FILE: None}, {identity.NEXT: {"epoch": True}}):
        flash = lived()
        for name, value in change.items():
            flash.files[name] = b"" if value is None else cbor.encode(value)
        before = dict(flash.files)
        with pytest.raises(IdentityError):
            rekey.switch(flash)  # type: ignore[arg-type]
        assert flash.files == before
    flash = lived()
    rekey.switch(flash)  # type: ignore[arg-type]
    used = SequenceStore(flash, NEW)  # type: ignore[arg-type]
    taken = used.take()
    with pytest.raises(IdentityError, match="missing"):
        rekey.switch(flash)  # type: ignore[arg-type]
    assert SequenceStore(flash, NEW).take() > taken  # type: ignore[arg-type]


def test_records_keep_their_numbers_and_what_is_owed_stays_owed() -> None:
    """Segments, head and cursor of the old epoch are the new one's, whatever operation of taking them over is cut; numbers go on."""
    flash = lived()
    spool = spool_of(flash, OLD)
    for value in range(41):
        spool.append(1, None, value, None, 0, 1, 0, [value])
    spool.acknowledge(25)
    spool.save_cursor()
    before, next_n = numbers(spool), spool.next_n
    assert {"spool", "head"} <= {name.partition("/")[0] for name in flash.files}
    rekey.switch(flash)  # type: ignore[arg-type]
    image = dict(flash.files)
    flash.operations = 0
    spool_of(flash, NEW)
    for cut in range(flash.operations):
        again = FakeFlash()
        again.files, again.cut_in = dict(image), cut
        with pytest.raises(PowerCut):
            spool_of(again, NEW)
        found = spool_of(again, NEW)
        assert (numbers(found), found.cursor, found.next_n, found.damaged) == (before, 25, next_n, 0)
        assert found.append(1, None, 0, None, 0, 1, 0, [41]) == next_n
        assert numbers(spool_of(again, NEW))[-1] == (next_n, 41)
