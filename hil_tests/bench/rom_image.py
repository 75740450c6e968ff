"""Files below /rom as they lie in a device's ROMFS partition: one image, as mpremote's own `romfs deploy` makes it."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mpremote.romfs import make_romfs

ROM_FOLDER = "/rom/"


def rom_image(files: Mapping[str, bytes]) -> bytes:
    """The ROMFS image of these files, whose paths start with /rom/: the same files, the same octets."""
    with TemporaryDirectory() as folder:
        for path, content in files.items():
            target = Path(folder, path.removeprefix(ROM_FOLDER))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        with contextlib.redirect_stdout(io.StringIO()):
            return bytes(make_romfs(folder, mpy_cross=False))
