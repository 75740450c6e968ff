"""Chooses what runs: the base that a technician put on the board, or over it the files of a release. WIRE.md section 17.

Base code, never part of a release: whatever a release contains, this decides from flash alone whether it runs, and counts its starts before
the first of its code does. Where nothing is chosen, or anything is wrong with what is, the base runs. It uses no other module of ours that
it does not drop again, for a release may have a newer one.

Below the node's folder, numbers big-endian:

    update/boot       crc32 | confirmed | trial | starts | tried (4): slots 0 (the base), 1, 2; starts of the trial; the last trial's order
    slot_a, slot_b    a release's files, and `files`: crc32 | base (8) | of each: length of name, name, size (4), crc32 (4)

A file runs from the heap, the base's in place from ROMFS. So a slot holds only what differs, and `_Door` finds it there.
"""

import builtins
import os
import sys
from binascii import crc32
from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

STARTS = 3
TRIAL_S = 1800
BASE_BYTES = 8
_LETTERS = "_ab"
_WATCHDOG_MS = 60_000  # as health.py's
_BOOT = "/update/boot"
_BOOT_BYTES = 11
_FILES = "/files"
_SUFFIX = ".mpy"
_PACKAGES = ("lamppost_node", "lamppost_protocol")
_CHUNK_BYTES = 256

#: The slot whose files run; 0: the base alone.
running = 0
#: The folder that holds the base's packages, with a slash, while a slot runs.
top = ""


def folder_of(root: str, slot: int) -> str:
    """The folder of slot 1 (a) or 2 (b)."""
    return root + "/slot_" + _LETTERS[slot]


def read_boot(root: str) -> tuple[int, int, int, int]:
    """(confirmed slot, slot on trial, starts of the trial, order of the last trial); all 0 where it is damaged. Never raises."""
    try:
        with open(root + _BOOT, "rb") as file:
            data = file.read(_BOOT_BYTES + 1)
    except OSError:
        data = b""
    if len(data) != _BOOT_BYTES or _crc(data[4:]) != data[:4]:
        return 0, 0, 0, 0
    return data[4], data[5], data[6], int.from_bytes(data[7:], "big")


def write_boot(root: str, confirmed: int, trial: int, starts: int, tried: int) -> None:
    """Keep what `read_boot` gives: the old or the new after a power cut. Raises OSError."""
    data = bytes((confirmed, trial, starts)) + tried.to_bytes(4, "big")
    _replace(root + _BOOT, _crc(data) + data)


def write_files(root: str, slot: int, base: bytes, rows: "list[tuple[str, int, int]]") -> None:
    """Make a slot whole: `rows` are name, size in octets and crc32 of each of its files. Raises OSError."""
    data = bytearray(base)
    for name, size, check in rows:
        data.append(len(name))
        data.extend(name.encode())
        data.extend(size.to_bytes(4, "big"))
        data.extend(check.to_bytes(4, "big"))
    _replace(folder_of(root, slot) + _FILES, _crc(data) + data)


def end_trial(root: str) -> None:
    """What ran before the trial runs from the next start on, and starts that were the trial's do not count as its own. Raises OSError."""
    try:
        from lamppost_node.flash import Flash
        from lamppost_node.settings import Settings

        settings = Settings(Flash(root))
        boots = settings.load("boot")
        if isinstance(boots, list) and len(boots) == 2:
            settings.is_kept("boot", [boots[0], 0])
    except Exception:
        pass  # they may be the release's: then its starts count, and what ran before begins in safe mode
    confirmed, _, _, tried = read_boot(root)
    write_boot(root, confirmed, 0, 0, tried)


def base_of() -> bytes:
    """The 8 octets that name this board's base; none of a base that has no files (frozen bytecode). Reads all of it. Raises OSError."""
    whole = sha256()
    buffer = bytearray(_CHUNK_BYTES)
    for package in _PACKAGES:
        _add(whole, package, buffer)
    return whole.digest()[:BASE_BYTES]


def _add(whole: "Any", folder: str, buffer: bytearray) -> None:
    """The files of one folder of the base, in their order; a folder is sorted as what is in it."""
    names = [name if name.endswith(_SUFFIX) else name + "/" for name in os.listdir(_top() + folder)]
    names.sort()
    for name in names:
        path = folder + "/" + name
        if name.endswith("/"):
            if "." not in name:
                _add(whole, path[:-1], buffer)
            continue
        whole.update(bytes((len(path),)))
        whole.update(path.encode())
        one = sha256()
        for chunk in _chunks(_top() + path, buffer):
            one.update(chunk)
        whole.update(one.digest())


def choose() -> "Callable[[], None] | None":
    """Decide what the imports from here on find, and count a trial's start.

    Returns None for the base; else what to call when the release does not even load: the board starts anew, without it. Never raises for
    what flash contains or refuses. Writes flash during a trial.
    """
    from lamppost_node.board import Board

    board = Board()
    root = board.flash_root()
    confirmed, trial, _, _ = read_boot(root)
    names = None
    if confirmed or trial:
        try:
            board.watchdog(_WATCHDOG_MS)  # a release may hang before it starts its own
        except Exception:
            pass  # a board without one has to run too
        board.release_lamp()
        try:
            trial, names = _chosen(root)
        except Exception:
            names = None  # whatever it is, the base runs
    if names is None:
        _drop("lamppost_node.slot")
        return None
    return _open(root, trial or confirmed, names, trial != 0, board.reset)


def _chosen(root: str) -> "tuple[int, set[str] | None]":
    """(the slot on trial, or 0; names of the modules in the slot that runs, None for the base)."""
    confirmed, trial, starts, tried = read_boot(root)
    if trial:
        names = _modules(root, trial) if starts < STARTS else None
        if names is not None:
            write_boot(root, confirmed, trial, starts + 1, tried)
            return trial, names
        end_trial(root)
    return 0, _modules(root, confirmed) if confirmed else None


def _open(root: str, slot: int, names: "set[str]", is_trial: bool, reset: "Callable[[], None]") -> "Callable[[], None]":
    global running, top
    running = slot
    top = base = _top()
    load = builtins.__import__
    _drop_all()
    builtins.__import__ = _door(base, folder_of(root, slot) + "/", names, load)
    if is_trial:
        import asyncio

        asyncio.create_task(_run_limit(root, slot, reset))  # noqa: RUF006 (MicroPython's queue holds it)

    def fall_back() -> None:
        """It does not load: without it from now on."""
        builtins.__import__ = _door(base, base, names, load)
        _drop_all()
        try:
            if is_trial:
                end_trial(root)
            else:
                write_boot(root, 0, 0, 0, read_boot(root)[3])
        finally:
            reset()

    return fall_back


async def _run_limit(root: str, slot: int, reset: "Callable[[], None]") -> None:
    """A trial that runs and never proves itself ends here, whatever it contains."""
    import asyncio

    await asyncio.sleep(TRIAL_S)
    if read_boot(root)[1] == slot:
        end_trial(root)
        reset()


def _door(base: str, folder: str, names: "set[str]", load: "Any") -> "Any":
    """`__import__` that finds the modules in `names` below `folder` and all others below `base`. `load`: the one before it.

    A package's `__path__` is one text in MicroPython, read when a module of it is looked for: so it is set before each. A relative
    name is asyncio's, for ours are made absolute (make_image.py): MicroPython 1.25 does not say who asks, and would take this module.
    """

    def door(name: str, _: "Any" = None, __: "Any" = None, wanted: "Any" = None, level: int = 0) -> "Any":
        if level:
            name = "asyncio" + ("." + name if name else "")
        if name not in sys.modules and name.startswith("lamppost_"):
            at = name.rfind(".")
            if at > 0:
                parent = name[:at]
                door(parent, None, None, True)
                package: Any = sys.modules[parent]
                package.__path__ = (folder if name in names else base) + parent.replace(".", "/")
        return load(name, None, None, wanted, 0)

    return door


def _modules(root: str, slot: int) -> "set[str] | None":
    """Names of the modules in a slot, None unless it is whole and lies over this base. Reads all of its files, and the base's."""
    folder = folder_of(root, slot)
    names = set()
    try:
        with open(folder + _FILES, "rb") as file:
            data = file.read()
        if _crc(data[4:]) != data[:4] or data[4 : 4 + BASE_BYTES] != base_of():
            return None
        buffer = bytearray(_CHUNK_BYTES)
        at = 4 + BASE_BYTES
        while at < len(data):
            end = at + 1 + data[at]
            name = data[at + 1 : end].decode()
            size = check = 0
            for chunk in _chunks(folder + "/" + name, buffer):
                size += len(chunk)
                check = crc32(chunk, check)
            if data[end : end + 8] != size.to_bytes(4, "big") + (check & 0xFFFFFFFF).to_bytes(4, "big"):
                return None
            name = name[: -len(_SUFFIX)]
            while True:  # the module, and packages that the base does not have
                names.add(name.replace("/", "."))
                name = name[: name.rfind("/")]
                if _is_there(_top() + name):
                    break
            at = end + 8
    except (OSError, IndexError, ValueError):
        return None
    return names or None


def _top() -> str:
    path: Any = sys.modules["lamppost_node"].__path__
    return top or path[: -len(_PACKAGES[0])]


def _chunks(path: str, buffer: bytearray) -> "Iterator[memoryview]":
    """What a file holds, in views of `buffer`: none of it is copied elsewhere, for a heap in use has no large holes."""
    view = memoryview(buffer)
    with open(path, "rb") as file:
        while True:
            count = file.readinto(buffer)
            if not count:
                return
            yield view[:count]


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def _replace(path: str, data: "bytes | bytearray") -> None:
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.rename(path + ".new", path)


def _crc(data: "bytes | bytearray") -> bytes:
    check: bytes = (crc32(data) & 0xFFFFFFFF).to_bytes(4, "big")
    return check


def _drop(name: str) -> None:
    """Give back a module's memory; what is running of it goes on."""
    at = name.rfind(".")
    sys.modules.pop(name, None)
    package = sys.modules.get(name[:at])
    if package is not None and hasattr(package, name[at + 1 :]):
        delattr(package, name[at + 1 :])


def _drop_all() -> None:
    """Every module of ours but this one and the packages."""
    for name in list(sys.modules):
        if name.startswith("lamppost_") and "." in name and name != "lamppost_node.slot":
            _drop(name)
