"""Type-checks the firmware, and the protocol as the node sees it, against MicroPython's own standard library and the ESP32's `machine`.

The stubs are installed beside everything else, where mypy reads no bare stub files; so they are laid out once in build/typings, as their
packages list them.
"""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TYPINGS = REPOSITORY / "build/typings"
STUBS = ("micropython-stdlib-stubs", "micropython-esp32-stubs")


def lay_out() -> None:
    """Copy the stub packages' files to build/typings."""
    shutil.rmtree(TYPINGS, ignore_errors=True)
    for name in STUBS:
        for file in importlib.metadata.files(name) or ():
            if file.suffix == ".pyi" or file.name == "VERSIONS":
                target = TYPINGS / str(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)


def main() -> int:
    lay_out()
    command = [sys.executable, "-m", "mypy", "--config-file", "firmware/mypy.ini", "-p", "lamppost_node"]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
