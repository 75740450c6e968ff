"""The bench's flash chip behaves as NOR flash does, and loses its power when told: what the power cuts rest on."""

import pytest
from bench.flash_chip import HALF, NONE, WHOLE, FlashChip, PowerCut

BLOCK = 16
ERASE = 6


def chip(keeps_journal: bool = False) -> FlashChip:
    return FlashChip(bytearray(b"\xff" * (2 * BLOCK)), BLOCK, keeps_journal)


def test_programming_only_clears_bits_and_erasing_sets_a_block() -> None:
    """What was programmed before stays cleared; an erased block is all ones; the other block is left alone."""
    flash = chip()
    flash.writeblocks(1, b"\x0f\x0f", 4)
    flash.writeblocks(1, b"\x55\xff", 4)
    buffer = bytearray(3)
    flash.readblocks(1, buffer, 4)
    assert bytes(buffer) == b"\x05\x0f\xff"
    flash.writeblocks(0, b"\x00", 0)
    flash.ioctl(ERASE, 1)
    assert bytes(flash.image) == b"\x00" + b"\xff" * (2 * BLOCK - 1)
    assert flash.ops() == 4
    assert (flash.ioctl(4, 0), flash.ioctl(5, 0)) == (2, BLOCK)


@pytest.mark.parametrize(("mode", "left"), [(NONE, b"\xff\xff\xff\xff"), (HALF, b"\x00\x00\xff\xff"), (WHOLE, b"\x00\x00\x00\x00")])
def test_the_cut_operation_is_not_half_or_wholly_done_and_nothing_after_it(mode: str, left: bytes) -> None:
    """At operation 1 the power goes; then neither reading nor writing works any more."""
    flash = chip()
    flash.cut_after(1, mode)
    flash.writeblocks(0, b"\x01", 0)
    with pytest.raises(PowerCut):
        flash.writeblocks(1, bytes(4), 0)
    assert bytes(flash.image[BLOCK : BLOCK + 4]) == left
    for step in (lambda: flash.writeblocks(0, b"\x00", 0), lambda: flash.ioctl(ERASE, 0), lambda: flash.readblocks(0, bytearray(1))):
        with pytest.raises(PowerCut):
            step()
    assert flash.image[0] == 1


def test_an_erase_cut_in_half_keeps_the_second_half() -> None:
    """The front of the block is erased, the rest still holds the old octets."""
    flash = FlashChip(bytearray(2 * BLOCK), BLOCK)
    flash.cut_after(0)
    with pytest.raises(PowerCut):
        flash.ioctl(ERASE, 0)
    assert bytes(flash.image) == b"\xff" * (BLOCK // 2) + bytes(BLOCK + BLOCK // 2)


def test_the_journal_gives_the_image_after_every_operation() -> None:
    """Applied in order to the first image, it makes the last one."""
    flash = chip(True)
    before = bytearray(flash.image)
    flash.writeblocks(0, b"\x12\x34", 2)
    flash.writeblocks(0, b"\x30", 2)
    flash.ioctl(ERASE, 1)
    for start, octets in flash.journal:
        before[start : start + len(octets)] = octets
    assert before == flash.image
    assert len(flash.journal) == flash.ops() == 3
