"""What an ESP image says of itself: for which chip it is, and whether it is whole.

The user gives MicroPython's own release image. Its first part is the second-stage bootloader: a header, segments, a checksum octet and
mostly a SHA-256. The application behind it is not looked into; for that there is the digest the user gives.
Ref: Espressif, "Firmware Image Format" (esptool documentation): file header, extended file header, footer.
"""

import hashlib
import re
import struct
from dataclasses import dataclass

from lamppost_tools.errors import RefusedError, UsageError

_MAGIC = 0xE9
_HEADER_BYTES = 24
_CHECKSUM_SEED = 0xEF
_MAX_SEGMENTS = 16
_TABLE_AT = 0x8000  # of the flash; Ref: ESP-IDF Programming Guide, "Partition Tables", "Creating Custom Tables"
_TABLE_BYTES = 0xC00
_ENTRY_BYTES = 32
#: What its prompt begins with, and `os.uname().version` says without the name. Ref: MicroPython, `py/mpconfig.h`, banner.
_BANNER = re.compile(rb"MicroPython (v?\d[\w.+-]{0,40} on \d{4}-\d\d-\d\d)")


@dataclass(frozen=True)
class Chip:
    """`chip_id` as in the extended header; `flash_offset`: where the image begins in flash."""

    name: str
    chip_id: int
    flash_offset: int


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("esp32", 0, 0x1000), Chip("esp32s2", 2, 0x1000), Chip("esp32c3", 5, 0), Chip("esp32s3", 9, 0),
        Chip("esp32c2", 12, 0), Chip("esp32c6", 13, 0), Chip("esp32h2", 16, 0),
    )
}  # fmt: skip


def check_image(name: str, image: bytes, chip_name: str, sha256: str) -> Chip:
    """The chip that `image` is for. Raises UsageError for a chip we do not know, RefusedError naming what does not fit.

    `sha256`: the hex digest that its publisher gives, which is the only proof of what comes behind the bootloader.
    """
    chip = CHIPS.get(chip_name)
    if chip is None:
        raise UsageError(f"no chip {chip_name!r}", f"there are {', '.join(sorted(CHIPS))}")
    found = hashlib.sha256(image).hexdigest()
    if found != sha256.lower():
        raise RefusedError(f"{name} has SHA-256 {found}, not the one given", "download it again and compare with its publisher's page")
    if len(image) < _HEADER_BYTES or image[0] != _MAGIC:
        raise RefusedError(f"{name} is no ESP image: it does not begin with octet E9", "give MicroPython's .bin for this chip")
    found_id = struct.unpack_from("<H", image, 12)[0]
    if found_id != chip.chip_id:
        others = [other.name for other in CHIPS.values() if other.chip_id == found_id]
        raise RefusedError(
            f"{name} is for {others[0] if others else f'chip id {found_id}'}, not for {chip_name}", "give the image of the chip you have"
        )
    _check_first_part(name, image)
    return chip


def micropython_version(image: bytes) -> str | None:
    """Version and date of the MicroPython in it, as `v1.25.0 on 2025-04-15`; None where it does not tell."""
    found = _BANNER.search(image)
    return None if found is None else found[1].decode()


def flash_bytes_needed(image: bytes, flash_offset: int) -> int:
    """How much flash a board must have: to the end of the image, and of the last partition of the table in it, where it has one."""
    table = image[max(0, _TABLE_AT - flash_offset) :][:_TABLE_BYTES]
    ends = [flash_offset + len(image)]
    for at in range(0, len(table) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
        magic, offset, size = struct.unpack_from("<HxxII", table, at)
        if magic != 0x50AA:
            break
        ends.append(offset + size)
    return max(ends)


def _check_first_part(name: str, image: bytes) -> None:
    damaged = RefusedError(f"{name} is damaged: its first part is not whole", "download it again")
    checksum = _CHECKSUM_SEED
    at = _HEADER_BYTES
    if not 1 <= image[1] <= _MAX_SEGMENTS:
        raise damaged
    for _ in range(image[1]):
        if at + 8 > len(image):
            raise damaged
        size = struct.unpack_from("<I", image, at + 4)[0]
        at += 8
        if at + size > len(image):
            raise damaged
        for octet in image[at : at + size]:
            checksum ^= octet
        at += size
    at |= 15  # the checksum is the last octet of a block of 16
    if at >= len(image) or image[at] != checksum:
        raise damaged
    is_hash_appended = image[23] == 1
    if is_hash_appended and image[at + 1 : at + 33] != hashlib.sha256(image[: at + 1]).digest():
        raise damaged
