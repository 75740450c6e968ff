"""Runs before main.py: watchdog and lamp first, then the file system, whose failure must stop neither.

Frozen into the image (manifest.py) in place of the port's own `_boot.py`, which loops for ever on a corrupt file system. Where the
port has mounted flash already, or there is no block device (unix port), only the first half does anything.
Never tried on silicon: the mount of the `vfs` partition is written from the ESP32 port's `flashbdev` interface.
"""

from lamppost_node.board import Board
from lamppost_node.health import WATCHDOG_MS


def mount_flash() -> bool:
    """Mount the flash partition at `/`; whether it is there. A partition that cannot be mounted is left as it is, for the bench."""
    try:
        import vfs
        from flashbdev import bdev
    except ImportError:
        return False
    if not bdev:
        return False
    try:
        vfs.mount(bdev, "/")
    except Exception:
        return False  # whatever is wrong with the partition, main.py runs without it
    return True


def main() -> bool:
    """Watchdog, lamp, flash, in this order; whether flash is there."""
    board = Board()
    try:
        board.watchdog(WATCHDOG_MS)
    except Exception:
        pass  # a board without one still has to light its lamp
    board.release_lamp()
    return mount_flash()


if __name__ == "__main__":
    main()
