"""Closing a board: main.py last, nothing on it that is not ours, no REPL on any line but the console; and what that cannot do, in words."""

import hashlib
import json
from collections.abc import Mapping

from lamppost_tools.board.installer import install
from lamppost_tools.board.repl import Board
from lamppost_tools.errors import RefusedError

#: Replaces the port's own boot.py, which is where a WebREPL or a second terminal would be started.
BOOT = b"""# Written by `lamppost commission`: no terminal but the console.
import os

for slot in range(2):
    try:
        os.dupterm(None, slot)
    except (AttributeError, OSError, ValueError):
        break
"""
#: What stock MicroPython leaves open, whatever is installed.
OPEN = (
    "whoever opens the housing and plugs into the console can interrupt the node and read its key: stock MicroPython has no lock "
    "(micropython issues 17097, 4854); a build with frozen bytecode and without compiler has"
)
#: With what a pulled cable may leave of them.
_OURS = {"boot.py", "boot.py.new", "main.py", "main.py.new", ".new", "lib", "lamppost", "rom"}
_LIST = """import json, os
def names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
print(json.dumps([names('/'), names('/lib')]))
"""


def refuse_strangers(board: Board, libraries: set[str]) -> None:
    """Raises RefusedError naming files that would run or be imported before ours. `libraries`: which folders belong into /lib."""
    top, library = json.loads(board.exec(_LIST))
    strangers = [f"/{name}" for name in top if name not in _OURS] + [f"/lib/{name}" for name in library if name not in libraries]
    if strangers:
        shown = ", ".join(sorted(strangers)[:5]) + (f" and {len(strangers) - 5} more" if len(strangers) > 5 else "")
        raise RefusedError(
            f"{board.port}: files on the board are not Lamppost's and would run or be imported before it: {shown}",
            "save what you need (mpremote cp), remove them (mpremote rm -r), repeat the command",
        )


def lock(board: Board, main_py: bytes, between: str) -> list[str]:
    """Write boot.py and main.py, main.py last: once it is there, the next start is the node's. The paths written."""
    with board.in_words():
        return install(board, {"/boot.py": BOOT, "/main.py": main_py}, between)


def has_prompt(board: Board, within_s: float) -> bool:
    """Whether a board that was just reset comes to a prompt instead of its node: then main.py has ended."""
    return board.says(b">>> ", within_s)


def digest(files: Mapping[str, bytes]) -> str:
    """One short name for a set of files."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return total.hexdigest()[:16]
