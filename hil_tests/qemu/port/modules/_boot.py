"""Mounts the flash at "/" before boot.py, as the `_boot.py` of a real port does: with littlefs's buffers as small as they are there.

A flash that was never written (all ones, or the zeros of a fresh file) is formatted. One that was written and does not mount is left as it
is, with the error on the console: formatting it would hide the very damage a bench looks for.
"""

import sys

import bench
import vfs

_PAGE_BYTES = 256
_SUPERBLOCKS = 2


def _flash():
    for word in bench.args().split():
        if word.startswith("flash="):
            return bench.Flash(word[6:])
    return bench.Flash()


def _is_blank(flash):
    page = bytearray(_PAGE_BYTES)
    for block in range(_SUPERBLOCKS):
        flash.readblocks(block, page, 0)
        if page != b"\xff" * _PAGE_BYTES and page != bytes(_PAGE_BYTES):
            return False
    return True


def _mount():
    flash = _flash()
    try:
        system = vfs.VfsLfs2(flash)
    except OSError:
        if not _is_blank(flash):
            raise
        vfs.VfsLfs2.mkfs(flash)
        system = vfs.VfsLfs2(flash)
    vfs.mount(system, "/")
    sys.path.append("/lib")


try:
    _mount()
except Exception as error:
    print("flash not mounted:")
    sys.print_exception(error)
