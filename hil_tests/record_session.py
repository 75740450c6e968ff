"""A technician's session as it looks on a screen: `python hil_tests/record_session.py [--target qemu-rv32]` prints it as Markdown.

Emulated bare chips on ports, in the loader of their ROM, a real gateway on their lines, the real command. Of what it printed only the
folder's name is taken out.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

from bench.esp_board import EspBoard  # noqa: E402
from bench.esp_rom import ESP32_C3  # noqa: E402
from bench.targets import DEFAULT, TARGETS, find_target  # noqa: E402
from lamppost_protocol.es256_host import public_key  # noqa: E402
from lamppost_tools.kit.seal import open_kit  # noqa: E402
from street.bare_boards import esp_board, plugged, with_image, write_kit  # noqa: E402
from street.node_device import build_target_image  # noqa: E402
from street.workbench import KIT_KEY, Workbench, make_kit  # noqa: E402

_ASSETS = {"bin 7": "bin", "lamp 3": "lamp"}
_SEED = 1
#: The command, on boards that have stand-ins for `machine` in their /lib, which a chip does not need.
_RUN = """import functools, json, sys
from lamppost_tools.commission import steps
steps.Bench = functools.partial(steps.Bench, port_modules=frozenset(json.loads(sys.argv.pop(1))))
from lamppost_tools.cli import main
main()
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--target", choices=TARGETS, default=DEFAULT)
    options = parser.parse_args(arguments)
    target = find_target(options.target)
    if reason := target.missing():
        parser.error(reason)
    image = build_target_image(HERE.parent / "build/target-image", target)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        make_kit(folder / "firmware")
        kit = with_image(open_kit(folder / "firmware", public_key(KIT_KEY)), ESP32_C3)
        write_kit(kit, folder / "kit")
        bench = stack.enter_context(Workbench(folder, target, image, kit, _ASSETS, _SEED))
        bench.start_gateway()
        chips = [stack.enter_context(esp_board(bench, asset)) for asset in _ASSETS]
        common = ["--technician", "technician", "--kit", "kit", "--site", "site.toml", "--gateway-status", "g1/status.sock"]
        boards = [("--asset", asset, "--port", f"tty{number}") for number, asset in enumerate(_ASSETS)]
        _show(bench, chips, "commission", *common, *[word for board in boards for word in board])
        bench.site.write_text(bench.site.read_text().replace("report_s = 1", "report_s = 60"))
        _show(bench, chips, "commission", *common, *boards[0])
        node = next(name for name, entry in bench.registry.nodes().items() if entry["asset"] == next(iter(_ASSETS)))
        _show(bench, chips, "doctor", "--port", "tty0", "--registry", "registry/registry.json")
        _show(bench, chips, "node", "rekey", node, "--technician", "technician", "--port", "tty0", "--gateway-status", "g1/status.sock")
    return 0


def _show(bench: Workbench, chips: list[EspBoard], *words: str) -> None:
    """Run it with the boards at tty0, tty1 .., and print command and screen."""
    with contextlib.ExitStack() as stack:
        for number, chip in enumerate(chips):
            port = bench.folder / f"tty{number}"
            port.unlink(missing_ok=True)
            port.symlink_to(stack.enter_context(plugged(chip)).path)
        stand_ins = json.dumps(sorted(bench.port_modules))
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
        done = subprocess.run(
            [sys.executable, "-c", _RUN, stand_ins, *words], cwd=bench.folder, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        )  # fmt: skip
    told = " ".join(f'"{word}"' if " " in word else word for word in words)
    print(f"    $ lamppost {told}")
    for line in done.stdout.replace(str(bench.folder) + "/", "").splitlines():
        print(f"    {line}")
    if done.returncode:
        print(f"    (exit code {done.returncode})")
    print()


if __name__ == "__main__":
    sys.exit(main())
