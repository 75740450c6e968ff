"""A node that breaks the promise the sweeps are for: shows that they bite."""

import shutil
from pathlib import Path

_FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
_RIGHT = "            file.write(data)\n        os.rename(new, path)\n"
_WRONG = """            file.write(data)
        try:
            os.remove(path)
        except OSError:
            pass
        os.rename(new, path)
"""


def spoilt_firmware(folder: Path) -> Path:
    """A copy of the node's package in `folder` that removes an old file before it renames the new one over it; that folder."""
    shutil.copytree(_FIRMWARE / "lamppost_node", folder / "lamppost_node", ignore=shutil.ignore_patterns("__pycache__"))
    flash = folder / "lamppost_node/flash.py"
    source = flash.read_text()
    assert source.count(_RIGHT) == 1
    flash.write_text(source.replace(_RIGHT, _WRONG))
    return folder
