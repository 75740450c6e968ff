"""Files on a device of the bench by the technician's own installer; files below /rom make one image."""

from collections.abc import Mapping

from bench.console import Repl
from bench.rom_image import ROM_FOLDER, rom_image
from lamppost_tools.board import installer


def install(repl: Repl, files: Mapping[str, bytes], between: str = "") -> list[str]:
    """Write each absolute path of `files` whose content differs; the paths written, in order, `/rom/` for the image.

    Nothing may be running from /rom when it is written: the REPL must have begun with a soft reset. Raises what the installer raises.
    """
    rom = {path: content for path, content in files.items() if path.startswith(ROM_FOLDER)}
    written = [ROM_FOLDER] if rom and installer.install_rom(repl, rom_image(rom), between) else []
    others = {path: content for path, content in files.items() if path not in rom}
    return written + installer.install(repl, others, between)
