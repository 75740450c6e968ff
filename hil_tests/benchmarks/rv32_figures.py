"""The node's figures on RISC-V, in instructions and virtual time: they do not depend on the machine that takes them.

QEMU counts one instruction as 16 ns (`-icount shift=4`), within a quarter of an ESP32-C3 at 160 MHz, on the slow side.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.lock_step import LockStepError, missing
from lamppost_protocol.profiles import by_name
from street.lone_node import NETWORK, LoneNode, image_files
from street.street_node import firmware

from benchmarks.rows import Row, at_most, told

_HERE = Path(__file__).parent
_COUNTING = {"/lib/rv32_counting.py": (_HERE / "rv32_counting.py").read_bytes()}
_LOOPS, _AIR_LOOPS, _WHOLE, _FIXTURES = (
    _HERE / name for name in ("rv32_loops.py", "rv32_air_loops.py", "rv32_whole.py", "rv32_fixtures.py")
)
#: Fixture and wiring, and what lies between two reports.
_WIRINGS = (("lamp", "lamp"), ("bin", "bin"), ("air", "air_lamp"))
_START_UNIX = 1_805_068_800
_FRAME_GOALS_M = {8: 12.5, 2: 15.6}
_ROOMY_BYTES = 1 << 20
_CHIP_BYTES = 112 << 10
_STEP_BYTES = 4 << 10
#: Never tried: MicroPython 1.25 itself crashes where there is no room left for the text of an error.
_STUCK_BYTES = 96 << 10
_TWO_FIXTURES = {
    "network": NETWORK, "latitude_udeg": 48_856_600, "longitude_udeg": 2_352_200, "hello_s": 5, "health_s": 10, "report_s": 2,
    "fixtures": [{"kind": "air", "instance": 0}, {"kind": "lamp", "instance": 0}],
}  # fmt: skip


def all_rows(folder: Path) -> Iterator[Row]:
    """Every row; one row that says why where the board or its image is not here."""
    reason = missing()
    if reason:
        yield told("node on RV32", reason)
        return
    image = image_files(folder / "rv32", is_rom=True)
    for table_kb, goal_m in _FRAME_GOALS_M.items():
        # The image's own table of the generator has 8 KB; without it the node takes the one of 2 KB on its flash.
        own = {path: content for path, content in image.items() if table_kb == 8 or not path.endswith("generator.tbl")}
        yield from _steps(folder / f"steps{table_kb}", own, table_kb, goal_m)
    air = _count(folder / "air", image, _AIR_LOOPS, _CHIP_BYTES)
    yield told("node on RV32, LoRa, a bin's frame made a packet", "elision.encode", air["packet"] / 1e3, "k instructions")
    yield told("node on RV32, LoRa, an answer's packet made a frame", "head, reassembly, elision", air["heard"] / 1e3, "k instructions")
    for kind, wiring in _WIRINGS:
        yield _fixture(folder / kind, image, kind, wiring)
    yield from _boot_and_heap(folder, image)


def _steps(folder: Path, image: Mapping[str, bytes], table_kb: int, goal_m: float) -> Iterator[Row]:
    found = _count(folder / "counts", image, _LOOPS, _CHIP_BYTES)
    churn = _count(folder / "churn", image, _LOOPS, _ROOMY_BYTES)
    whole = found["frame"]
    send = found["send"] - found["event_loop"]
    note = f"record {found['record'] / 1e3:,.0f} k, read {found['read'] / 1e3:,.0f} k, sign alone {found['sign'] / 1e6:.2f} M,"
    note += f" send {send / 1e3:,.0f} k; without collections {churn['frame'] / 1e6:.2f} M"
    yield at_most(f"node on RV32, whole signed frame, {table_kb} KB table", whole / 1e6, "M instructions", goal_m, note)
    alive = _count(folder / "alive", {**image, "/node.py": image["/main.py"]}, _WHOLE, _CHIP_BYTES)["frame"]
    note = "two fixtures alive in 112 KiB: collections are dearer and more frequent"
    yield told(f"node on RV32, the same in the whole node, {table_kb} KB table", note, alive / 1e6, "M instructions")
    note = "a technician's key, as small a table as is worth it: once a ticket"
    yield told(f"node on RV32, holder's key prepared, {table_kb} KB table", note, found["holder"] / 1e6, "M instructions")
    yield told(f"node on RV32, technician's request verified, {table_kb} KB table", "", found["request"] / 1e6, "M instructions")
    if table_kb == 2:
        yield told("node on RV32, record kept", "spool.append, every flash operation in it", found["record"] / 1e3, "k instructions")
        yield told("node on RV32, record read from the spool", "", found["read"] / 1e3, "k instructions")
        yield told("node on RV32, frame sent", "SLIP and stream, without the UART", send / 1e3, "k instructions")
        note = f"without collections; {found['acknowledgement'] / 1e3:,.0f} k with them in 112 KiB"
        yield at_most("node on RV32, acknowledgement checked", churn["acknowledgement"] / 1e3, "k instructions", 65, note)
    yield told(f"node on RV32, heap churn of a frame, {table_kb} KB table", "allocated and thrown away", churn["frame_churn"] / 1e3, "kB")


def _count(folder: Path, image: Mapping[str, bytes], program: Path, heap_bytes: int) -> dict[str, int]:
    files = {**image, **_COUNTING, "/main.py": firmware().for_image(program.read_text()).encode()}
    with LoneNode(folder, files, _TWO_FIXTURES, "air_lamp", _START_UNIX, 1, heap_bytes=heap_bytes) as node:
        node.city.is_silent = node.city.is_deaf = program != _WHOLE
        node.board.power_on()
        is_alive = node.board.run(600)
        printed = node.board.console.read_text()
        if is_alive or "Traceback" in printed:
            raise LockStepError(node.board.describe("the loops did not end"))
    return {name: int(value) for name, value in (line.split() for line in printed.splitlines() if line.count(" ") == 1)}


def _fixture(folder: Path, image: Mapping[str, bytes], kind: str, wiring: str) -> Row:
    files = {**image, **_COUNTING, "/main.py": firmware().for_image(_FIXTURES.read_text()).encode(), "/fixture": kind.encode()}
    with LoneNode(folder, files, _TWO_FIXTURES, wiring, _START_UNIX, 1) as node:
        node.board.power_on()
        is_alive = node.board.run(600)
        lines = [line.split() for line in node.board.console.read_text().splitlines() if line.startswith(f"{kind} ")]
        if is_alive or not lines:
            raise LockStepError(node.board.describe("the fixture did not end"))
    note = "its task alone, all it does in ten seconds, the report included; without the record, waits and bus transfers"
    return told(f"node on RV32, {kind}, a report every 10 s", note, int(lines[-1][1]) / 1e3, "k instructions")


def _usable(heap_bytes: int) -> int:
    """What is left for blocks of 16 octets, each of which costs three bits of tables. Ref: MicroPython, py/gc.c, gc_setup_area."""
    return heap_bytes * 128 // 131


def _boot_and_heap(folder: Path, image: Mapping[str, bytes]) -> Iterator[Row]:
    chip = _Trial(folder / "chip", image, _CHIP_BYTES)
    if chip.first_frame_s is None:
        yield told("node on RV32, boot to first frame", chip.why)
        return
    note = "two fixtures, bytecode in ROMFS, 112 KiB of heap"
    yield at_most("node on RV32, boot to first frame sent", chip.first_frame_s, "s virtual", 1.5, note)
    note = "highest after a collection; stand-in for `machine` (5 to 7 kB) included"
    yield at_most("node on RV32, live heap, two fixtures", chip.live_bytes / 1000, "kB", 90, note)
    low, high = _STUCK_BYTES, 128 << 10
    while high - low > _STEP_BYTES:
        middle = (low + high) // 2 // 1024 * 1024
        runs = _Trial(folder / f"heap{middle}", image, middle).is_well
        low, high = (low, middle) if runs else (middle, high)
    yield at_most("node on RV32, smallest heap it runs in", high / 1024, "KiB", _CHIP_BYTES / 1024, "to 4 KiB; stand-in included")


class _Trial:
    """One boot of the whole node with two fixtures: 40 s of the world."""

    def __init__(self, folder: Path, image: Mapping[str, bytes], heap_bytes: int) -> None:
        self.first_frame_s: float | None = None
        self.live_bytes = 0
        self.why = ""
        with LoneNode(folder, image, _TWO_FIXTURES, "air_lamp", _START_UNIX, 1, heap_bytes=heap_bytes) as node:
            node.board.power_on()
            node.board.run(40)
            city = node.city
            if city.heard:
                self.first_frame_s = city.heard[0][0] - node.board.powered_s
            health = [record for record in city.records.values() if record[0] == by_name("node").id]
            kinds = {record[0] for record in city.records.values()}
            if health:
                self.live_bytes = _usable(heap_bytes) - min(record[6] for record in health)
            failures = [text for _, text in city.logs if "failed" in text or "MemoryError" in text]
            self.is_well = not failures and {1, 3, 4} <= kinds and city.heard[-1][1].t is not None and node.cabinet.starts == 1
            self.why = json.dumps(failures[:3])
