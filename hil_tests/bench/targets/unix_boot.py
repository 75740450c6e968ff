"""What the unix port lacks to be a board: flash at `/`, `machine` beside it, boot.py and main.py, unless only the prompt is wanted.

Runs on the device, as the script of `micropython -i`. Environment: BENCH_FILES and BENCH_ROM, folders of this machine; BENCH_RAW.
"""

import os
import sys

import vfs


def _run(path):
    try:
        with open(path) as file:
            source = file.read()
    except OSError:
        return
    try:
        exec(compile(source, path, "exec"), {"__name__": "__main__"})
    except SystemExit:
        os.system("kill -KILL $PPID")  # a reset: `-i` would end in a prompt instead
    except (Exception, KeyboardInterrupt) as error:
        sys.print_exception(error)


class _Flash:
    """A folder of the host. A VfsPosix with a root keeps one path at a time, so its own `rename` renames a file to itself."""

    def __init__(self, root):
        self._root = root
        self._inside = vfs.VfsPosix(root)
        self._host = vfs.VfsPosix()

    def __getattr__(self, name):
        return getattr(self._inside, name)

    def rename(self, old, new):
        self._host.rename(self._of_host(old), self._of_host(new))

    def _of_host(self, path):
        return self._root + path if path.startswith("/") else path


_flash, _rom = _Flash(os.getenv("BENCH_FILES")), vfs.VfsPosix(os.getenv("BENCH_ROM"))
vfs.umount("/")
vfs.mount(_flash, "/")
vfs.mount(_rom, "/rom")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib", "/rom"]
sys.stdout.write("\x06")  # from here on it takes an interrupt and survives it
_run("boot.py")
if not os.getenv("BENCH_RAW"):
    _run("main.py")
