"""Boards without an interpreter for a technician's bench: a chip in its ROM loader, and a kit that has an image for it.

What such a chip runs once the image is in its flash is the bench's device for its asset. The image is none of MicroPython's own: it has the
header, the partition table and the banner that the tools look at, and else octets that no deflate makes small.
"""

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.esp_board import EspBoard
from bench.esp_rom import ESP32_C3, Chip, RomLoader
from bench.peripherals.cabinet import unique_id
from lamppost_tools.board.flasher import PIECE_BYTES
from lamppost_tools.commission.micropython import images_of
from lamppost_tools.kit.seal import Kit, seal

from street.workbench import KIT_KEY, Lead, Workbench

BUILD = "v1.28.0 on 2026-03-01"
FLASH_BYTES = 1 << 20


def micropython(chip: Chip, seed: int, pieces: float = 3.3) -> bytes:
    """What stands for a release image: so many pieces of flash, with the header, the table and the banner that ours look at."""
    source = random.Random(seed)
    head = struct.pack("<BBBBI", 0xE9, 1, 2, 0x20, 0).ljust(24, b"\0")
    table = struct.pack("<HBBII16sI", 0x50AA, 0, 0, 0x10000, FLASH_BYTES - 0x10000, b"factory", 0) + b"\xff" * 64
    image = bytearray(head + source.randbytes(int(pieces * PIECE_BYTES) - len(head)))
    image[0x8000 - chip.boots_at : 0x8000 - chip.boots_at + len(table)] = table
    image[0x20000:0x28000] = b"\xff" * 0x8000
    return bytes(image) + f"MicroPython {BUILD}; Generic\0".encode()


def with_image(kit: Kit, *chips: Chip, seed: int = 1) -> Kit:
    """The kit with an interpreter for each chip."""
    about, files = [], dict(kit.files)
    for chip in chips:
        name = f"micropython/{chip.name}/{chip.name.upper()}.bin"
        files[name] = micropython(chip, seed)
        about.append({"file": name, "chip": chip.name, "flash_offset": chip.boots_at, "micropython": BUILD})
    return replace(kit, files=files, manifest={**kit.manifest, "images": about})


@contextmanager
def esp_board(bench: Workbench, asset: str, chip: Chip = ESP32_C3) -> Iterator[EspBoard]:
    """A bare board laid out for an asset, in its loader: somebody has held BOOT. It becomes the bench's device for that asset."""
    device = bench.devices[asset]
    if device.is_running:
        device.stop()
    rom = RomLoader(chip, unique_id(bench.seed, device.setup.name), FLASH_BYTES, lambda: None)
    with EspBoard(rom, [image.data for image in images_of(bench.kit).values()], device) as board:
        board.hold_boot_and_reset()
        yield board


@contextmanager
def plugged(board: EspBoard, pull_after: int | None = None) -> Iterator[Lead]:
    """The cable to such a board's port."""
    made = Lead(board.path, pull_after)
    try:
        yield made
    finally:
        made.end()


def write_kit(kit: Kit, folder: Path) -> None:
    """The kit as a folder, sealed."""
    about = {name: kit.manifest[name] for name in ("lamppost", "images") if name in kit.manifest}
    for name, content in {**kit.files, **seal(kit.files, about, KIT_KEY)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
