"""A bare chip becomes a node: its ROM loader on a port, octet by octet, and behind it the interpreter that was written into its flash."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from bench.esp_board import EspBoard
from bench.esp_rom import ESP32, ESP32_C3, ESP32_S3, Chip, Faults, RomLoader
from bench.network_port import NetworkPort
from bench.peripherals.cabinet import unique_id
from lamppost_tools.board.flasher import Flasher, NoLoaderError
from lamppost_tools.commission.journal import Journal
from lamppost_tools.commission.micropython import NO_WISH, Image, Interpreters, Reached, Wish, images_of
from lamppost_tools.commission.several import commission_all
from lamppost_tools.commission.steps import commission
from lamppost_tools.errors import DeadlineError, MissingError, RefusedError, ToolError
from lamppost_tools.kit.seal import Kit
from street.bare_boards import BUILD, FLASH_BYTES, esp_board, micropython, plugged, with_image, write_kit
from street.workbench import Workbench

pytestmark = pytest.mark.needs("console", "files", "line", "models", "reset", "power")


def once(bench: Workbench, asset: str, board: EspBoard, wish: Wish | None = None, pull_after: int | None = None) -> dict[str, object]:
    with plugged(board, pull_after) as cable:
        order = bench.order(asset, cable.path)
        return commission(bench.bench(), order if wish is None else replace(order, wish=wish)).document


@pytest.mark.parametrize("chip", [ESP32_C3, pytest.param(ESP32, marks=pytest.mark.soak)], ids=lambda chip: chip.name)
def test_a_bare_chip_becomes_a_node(workbench: Callable[..., Workbench], chip: Chip) -> None:
    """From an empty flash to a record that a gateway verified, in one command; again, nothing is written."""
    bench = workbench(bin_7="bin")
    bench.kit = with_image(bench.kit, ESP32_C3, ESP32)
    status = bench.start_gateway()
    with esp_board(bench, "bin 7", chip) as board:
        with plugged(board) as cable:
            document = commission(bench.bench(status), bench.order("bin 7", cable.path)).document
        assert document["proof"]["gateway"] == "g1"
        assert document["unit"] == board.rom.mac.hex()
        assert board.holds(images_of(bench.kit)[chip.name].data)
        journal = Journal(bench.technician.folder / "journals", document["unit"], lambda: 0.0)
        assert [entry["pieces"] for entry in journal.entries if entry["step"] == "flashed"] == [4]
        told = [detail for _, step, detail in bench.told if step == "flash"]
        assert told[0] == "0 of 4 pieces"
        assert told[-1] == "4 of 4 pieces"
        flash = bytes(board.rom.flash)
        again = once(bench, "bin 7", board)
        assert again["node"] == document["node"]
        assert bytes(board.rom.flash) == flash


def test_a_cable_pulled_at_any_block(workbench: Callable[..., Workbench], seed: int) -> None:
    """Pulled in the look, or while the flash is written, at random octets: each time the same command goes on where it was."""
    bench = workbench(lamp_1="lamp")
    bench.kit = with_image(bench.kit, ESP32_C3)
    source = random.Random(seed)
    with esp_board(bench, "lamp 1") as board:
        with plugged(board) as cable:
            flasher = Flasher(cable.path)
            begins = cable.passed
            flasher.close()
        size = len(bench.kit.files["micropython/esp32c3/ESP32C3.bin"])
        for first, last in ((begins, begins + size // 4), (begins + size // 2, begins + size // 4 * 3)):
            with pytest.raises((MissingError, DeadlineError), match=r"gone|cannot be opened|stopped answering"):
                once(bench, "lamp 1", board, pull_after=source.randrange(first, last))
        document = once(bench, "lamp 1", board)
        assert board.holds(images_of(bench.kit)["esp32c3"].data)
    entries = Journal(bench.technician.folder / "journals", str(document["unit"]), lambda: 0.0).entries
    assert [entry["step"] for entry in entries[: [entry["step"] for entry in entries].index("look")]] == ["flash", "flashed"]
    assert 0 < entries[1]["pieces"] < 4


def test_every_octet_of_a_loaders_session(seed: int, tmp_path: Path) -> None:
    """The cable pulled again and again anywhere while flash is written: errors of ours only, and in the end the flash is the image."""
    source = random.Random(seed)
    image = micropython(ESP32_C3, seed)
    rom = RomLoader(ESP32_C3, b"\x02abcde", FLASH_BYTES, lambda: None)
    rom.flash[:] = source.randbytes(FLASH_BYTES)  # somebody's
    total = ends = 0
    with EspBoard(rom) as board:
        board.hold_boot_and_reset()
        for round_number in range(60):
            with plugged(board, None if round_number % 20 == 19 else source.randrange(1, 300_000)) as cable:
                flasher = None
                try:
                    flasher = Flasher(cable.path)
                    total += flasher.write(image, 0, lambda done, of: None, is_rest_erased=True)
                    ends += 1
                except (MissingError, DeadlineError) as error:
                    assert error.next_step, seed
                finally:
                    if flasher is not None:
                        flasher.close()
            if round_number % 20 == 19:
                assert bytes(rom.flash) == image.ljust(FLASH_BYTES, b"\xff"), seed
                rom.flash[source.randrange(FLASH_BYTES)] ^= 0x10
    assert ends >= 3


FAULTS = [
    (Faults(is_silent=True), NoLoaderError, "no ROM loader"),
    (Faults(is_garbled=True), NoLoaderError, "no ROM loader"),
    (Faults(is_closed=True), RefusedError, "is closed"),
    (Faults(spoilt_at=0x11234), RefusedError, "does not keep what is written at 0x10000"),
    (Faults(bad_md5=1000), RefusedError, "does not keep"),
    (Faults(bad_md5=1), None, ""),
]


@pytest.mark.parametrize(("faults", "kind", "words"), FAULTS, ids=["silent", "garbled", "closed", "spoilt", "bad md5", "bad md5 once"])
@pytest.mark.parametrize("chip", [ESP32_C3, ESP32], ids=lambda chip: chip.name)
def test_a_faulty_chip_is_told(chip: Chip, faults: Faults, kind: type[ToolError] | None, words: str, seed: int) -> None:
    """Each in a sentence with what to do; a digest that was wrong once only costs a piece written twice."""
    image = micropython(chip, seed)
    rom = RomLoader(chip, b"\x02abcde", FLASH_BYTES, lambda: None, seed, replace(faults))
    with EspBoard(rom) as board, plugged(board) as cable:
        board.hold_boot_and_reset()

        def write() -> int:
            flasher = Flasher(cable.path)
            try:
                return flasher.write(image, chip.boots_at, lambda done, of: None)
            finally:
                flasher.close()

        if kind is None:
            assert write() == 4
        else:
            with pytest.raises(kind, match=words) as told:
                write()
            assert told.value.next_step


@pytest.mark.filterwarnings("ignore:set:DeprecationWarning:serial")  # pyserial's own
def test_a_port_with_lines_needs_no_hand(workbench: Callable[..., Workbench], tmp_path: Path) -> None:
    """RTS and DTR bring the chip into its loader and out of it, at the faster baud rate; erased and written again, still no button."""
    bench = workbench(lamp_1="lamp")
    bench.kit = with_image(bench.kit, ESP32)
    judge = replace(bench_of(tmp_path / "journals", {}), images=images_of(bench.kit), enter_s=30.0)
    with esp_board(bench, "lamp 1", ESP32) as board:
        board.tap_reset()
        with NetworkPort(board) as port:
            for wish, pieces in ((NO_WISH, 4), (Wish(is_erasing=True), 0)):
                reached = judge.reach(port.url, wish)
                reached.board.close()
                assert (reached.written, reached.seen.unit) == (pieces, board.rom.mac.hex())
            assert port.bauds == [115_200, 460_800, 115_200, 460_800, 115_200]


@pytest.mark.soak
def test_six_bare_chips_at_once_with_cables_pulled(workbench: Callable[..., Workbench], seed: int) -> None:
    """Each loses its cable twice anywhere in its flash or behind it, at once; the same command goes on: six nodes, six keys."""
    assets = [f"lamp {number}" for number in range(1, 7)]
    bench = workbench(**{asset.replace(" ", "_"): "lamp" for asset in assets})
    bench.kit = with_image(bench.kit, ESP32, ESP32_C3)
    source = random.Random(seed)
    with ExitStack() as boards:
        chips = {asset: boards.enter_context(esp_board(bench, asset, (ESP32, ESP32_C3)[number % 2])) for number, asset in enumerate(assets)}
        for is_pulled in (True, True, False):
            with ExitStack() as cables:
                cuts = {asset: source.randrange(1, 600_000) if is_pulled else None for asset in assets}
                print("pulled after", cuts)
                ports = {asset: cables.enter_context(plugged(chips[asset], cuts[asset])).path for asset in assets}
                results = commission_all(bench.bench(), [bench.order(asset, ports[asset]) for asset in assets])
            assert all(result.error is None or isinstance(result.error, MissingError | DeadlineError) for result in results), results
        assert [result.error for result in results] == [None] * 6
    entries = bench.registry.nodes().values()
    assert sorted(entry["asset"] for entry in entries) == assets
    assert len({entry["public_key"] for entry in entries}) == 6


def test_the_command_on_a_bare_chip(workbench: Callable[..., Workbench], kit: Kit, tmp_path: Path) -> None:
    """`lamppost flash` with a sealed kit: its own words on a pipe and nobody else's; a kit without an image says so."""
    bench = workbench(lamp_1="lamp")
    bench.kit = with_image(kit, ESP32_C3)
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    write_kit(bench.kit, tmp_path / "kit")
    write_kit(kit, tmp_path / "bare")
    with esp_board(bench, "lamp 1") as board, plugged(board) as cable:
        words = ["flash", "--technician", str(bench.technician.folder), "--port", cable.path]

        def run(*more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "lamppost_tools", *words, *more]
            return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

        bare = run("--kit", str(tmp_path / "bare"))
        assert (bare.returncode, "the kit has no MicroPython" in bare.stderr) == (3, True)
        done = run("--kit", str(tmp_path / "kit"))
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(
            rf"{cable.path}: .*, MicroPython [\d.]+, number {board.rom.mac.hex()}: 4 pieces of flash written\n", done.stdout
        )
        assert [line for line in done.stderr.splitlines() if not line.startswith(f"{cable.path}: ")] == []
        assert json.loads(run("--kit", str(tmp_path / "kit"), "--json").stdout)[0]["pieces_written"] is None


def bench_of(folder: Path, registered: dict[str, dict[str, object]], *chips: Chip) -> Interpreters:
    """What judges a board, with a kit's images for these chips, and a registry."""
    images = {chip.name: Image(f"{chip.name}.bin", chip.name, chip.boots_at, BUILD, micropython(chip, 1)) for chip in chips}
    return Interpreters(images, folder, 0xC0FFEE, lambda: registered, lambda: 0.0, lambda detail: None, enter_s=1.0)


def reach(judge: Interpreters, board: EspBoard, wish: Wish = NO_WISH) -> Reached:
    with plugged(board) as cable:
        reached = judge.reach(cable.path, wish)
        reached.board.close()
        return reached


def in_service(node: str, unit: bytes) -> dict[str, dict[str, object]]:
    return {node: {"asset": "lamp 9", "unit": unit.hex(), "revoked": False}}


REFUSALS = [
    (ESP32_S3, FLASH_BYTES, {}, False, RefusedError, "the chip is an esp32s3, the kit has MicroPython for esp32, esp32c3"),
    (ESP32_C3, FLASH_BYTES // 2, {}, True, RefusedError, r"has 0.5 MiB of flash, esp32c3.bin needs 1"),
    (ESP32_C3, FLASH_BYTES, {}, False, RefusedError, "runs something that does not come to MicroPython's prompt"),
    (ESP32, FLASH_BYTES, in_service("0a0b0c0d", b"\x02abcde"), True, RefusedError, "is node 0a0b0c0d of 'lamp 9', in service"),
]


@pytest.mark.parametrize(("chip", "size", "registered", "is_erasing", "kind", "words"), REFUSALS, ids=["chip", "size", "program", "node"])
def test_what_is_not_ours_to_write_is_left(
    chip: Chip, size: int, registered: dict, is_erasing: bool, kind: type[ToolError], words: str, seed: int, tmp_path: Path
) -> None:
    """Refused with what to do, no bit of the flash changed, and the chip goes on with what it ran."""
    rom = RomLoader(chip, b"\x02abcde", size, lambda: None)
    rom.flash[:] = before = random.Random(seed).randbytes(size)
    with EspBoard(rom) as board:
        board.hold_boot_and_reset()
        with pytest.raises(kind, match=words) as refused:
            reach(bench_of(tmp_path, registered, ESP32, ESP32_C3), board, Wish(is_erasing=is_erasing))
        assert refused.value.next_step
        assert bytes(rom.flash) == before
        assert not board.is_in_loader


def test_erased_is_erased_whole(seed: int, tmp_path: Path) -> None:
    """Somebody's program and files give way when that is said: nothing of them is left in the flash. What does not start then is told."""
    rom = RomLoader(ESP32_C3, b"\x02abcde", FLASH_BYTES, lambda: None)
    rom.flash[:] = random.Random(seed).randbytes(FLASH_BYTES)
    judge = bench_of(tmp_path, {}, ESP32_C3)
    with EspBoard(rom) as board:
        board.hold_boot_and_reset()
        with pytest.raises(DeadlineError, match="MicroPython is on the board and does not come") as late:
            reach(judge, board, Wish(is_erasing=True))
        assert "RESET" in late.value.next_step
        assert bytes(rom.flash) == judge.images["esp32c3"].data.ljust(FLASH_BYTES, b"\xff")


def test_nothing_answers(tmp_path: Path) -> None:
    """A chip that is neither at a prompt nor in its loader, and one that says itself that it has no program: the buttons to press."""
    rom = RomLoader(ESP32_C3, b"\x02abcde", FLASH_BYTES, lambda: None)
    with EspBoard(rom) as board:
        for is_silent in (False, True):
            rom.faults.is_silent = is_silent
            if is_silent:
                board.hold_boot_and_reset()
            with pytest.raises(DeadlineError, match="no ROM loader answers either") as late:
                reach(bench_of(tmp_path, {}, ESP32_C3), board)
            assert "hold BOOT, tap RESET" in late.value.next_step


_OS = """from uos import *
class Said:
    machine, version = 'Generic ESP32C3 module with ESP32C3', {version!r}
def uname():
    return Said
"""


@pytest.mark.needs("processes")
def test_another_micropython_is_replaced_where_nobody_lives(workbench: Callable[..., Workbench], tmp_path: Path) -> None:
    """A bare board with an older one gets the kit's, by hand where the port has no lines; what runs as a node only when that is said."""
    bench = workbench(lamp_1="lamp")
    device = bench.devices["lamp 1"]
    device.stop()
    files, rom_files = Path(device.files), Path(device.files).with_suffix(".rom")  # type: ignore[attr-defined]
    old = micropython(ESP32_C3, 2)
    rom = RomLoader(ESP32_C3, unique_id(bench.seed, device.setup.name), FLASH_BYTES, lambda: None)
    rom.flash[: len(old)] = old
    judge = bench_of(tmp_path / "journals", {}, ESP32_C3)
    new = judge.images["esp32c3"].data
    (rom_files / "os.py").write_text(_OS.format(version="v1.20.0 on 2023-04-26"))
    with EspBoard(rom, [old, new], device) as board:
        for _ in range(2):
            with pytest.raises(NoLoaderError, match="no ROM loader") as missing:
                reach(judge, board)
            assert "hold BOOT" in missing.value.next_step
        board.hold_boot_and_reset()
        (rom_files / "os.py").write_text(_OS.format(version=BUILD))
        reached = reach(judge, board)
        assert (reached.written, reached.seen.chip, reached.seen.build) == (4, "esp32c3", BUILD)
        assert board.holds(new)
        assert reach(judge, board).written is None
        (rom_files / "os.py").write_text(_OS.format(version="v1.20.0 on 2023-04-26"))
        (files / "main.py").write_text("")
        board.tap_reset()
        assert "--update-micropython" in " ".join(reach(judge, board).left)
        with pytest.raises(RefusedError, match="no node in service was made for its chip"):
            reach(judge, board, Wish(is_updating=True))
        ours = replace(judge, registered=lambda: in_service("0a0b0c0d", rom.mac))
        with pytest.raises(NoLoaderError):
            reach(ours, board, Wish(is_updating=True))
        with pytest.raises(RefusedError, match="in service"):
            reach(ours, board, Wish(is_erasing=True))
        board.hold_boot_and_reset()
        with pytest.raises(RefusedError, match="in service"):
            reach(ours, board, Wish(is_erasing=True))
