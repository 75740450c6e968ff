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
    except (Exception, KeyboardInterrupt) as error:
        sys.print_exception(error)


_files, _rom = vfs.VfsPosix(os.getenv("BENCH_FILES")), vfs.VfsPosix(os.getenv("BENCH_ROM"))
vfs.umount("/")
vfs.mount(_files, "/")
vfs.mount(_rom, "/rom")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib", "/rom"]
sys.stdout.write("\x06")  # from here on it takes an interrupt and survives it
_run("boot.py")
if not os.getenv("BENCH_RAW"):
    _run("main.py")
