"""The whole node on LoRa on RISC-V, where code takes time: the windows are open when the answers come, and the heap has room."""

from pathlib import Path

import pytest
import test_e22_node
from bench.targets.qemu import RV32
from bench.targets.target import Target
from lamppost_protocol import cbor, orders
from lamppost_protocol.kinds import BIN, LAMP, NODE
from street.lone_node import LoneAirNode, image_files
from test_lora_node import CHIPS, CONFIG, LORA, SEED, START_UNIX

pytestmark = pytest.mark.needs("virtual_time", "models")
_HEAP_FREE_LOWEST = 4
#: What must be left of the heap for the collector to work with.
_LEAST_FREE_BYTES = 12_000
#: What watches a configuration's trial takes so much, for its minutes.
_TRIAL_BYTES = 2_000
#: A chip's 112 KiB, and for a lamp beside an SX1262 9 more: so much does the bench's stand-in for `machine` take of it.
HEAPS = {"lamp_radio": 121 << 10, "lamp_e22": 112 << 10, "air_lamp_radio": 121 << 10}
#: Of a lamp: an order's packets hold 255 octets.
WRITTEN_OUT = {"stagger_s": 30, "clock_limit_s": 7200, "lease_limit_s": 86_400, "ramp_up_percent_per_s": 20}
#: One window may open too late: a signature takes 0.4 s on this board, and the first record's may fall into it; an SX1276's registers are
#: read back one by one besides, and a turn of a pin costs 2 ms.
_MOST_HELLOS = 2


@pytest.fixture
def rom_image(target: Target) -> dict[str, bytes]:
    assert target.name == RV32.name
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step", is_rom=True)


def least_free_bytes(node: LoneAirNode) -> int:
    free_bytes = min(r[2 + _HEAP_FREE_LOWEST] for r in node.citizen.records.values() if r[0] == NODE)
    print(f"heap free, lowest: {free_bytes} bytes")
    return int(free_bytes)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chip", CHIPS)
def test_a_bin_on_lora_on_riscv(rom_image: dict[str, bytes], tmp_path: Path, chip: str) -> None:
    """Hello, time, records and a fire's alarm, each answered in the window it opened; what the heap had left is printed."""
    config = {**CONFIG, "radio": chip, "health_s": 60, "lora": {**LORA, "gather_s": 0, "spread_s": 5}}
    with LoneAirNode(tmp_path / "node", rom_image, config, START_UNIX, SEED, on_vm=False, wiring=f"bin_{CHIPS[chip]}") as node:
        node.board.power_on()
        node.run_until(lambda: node.citizen.hellos and node.citizen.records, 60, "hello and records")
        node.run(180)
        assert len(node.citizen.hellos) <= _MOST_HELLOS, "the beacon was not heard"
        node.cabinet.set_fault("fire", None, node.board.now_s)
        node.run_until(lambda: any(r[0] == BIN and (r[5] or 0) & 2 for r in node.citizen.records.values()), 30, "alarm")
        node.run(node.board.now_s + 20)
        heard = [(n, count) for _, n, count, _ in node.citizen.heard]
        assert len(set(heard)) == len(heard), "a frame came again although it was answered"
        assert node.citizen.window.highest == max(node.citizen.records)
        assert least_free_bytes(node) > _LEAST_FREE_BYTES


@pytest.mark.timeout(300)
@pytest.mark.parametrize("wiring", HEAPS)
def test_a_lamp_on_lora_on_riscv(rom_image: dict[str, bytes], tmp_path: Path, wiring: str) -> None:
    """An order comes behind an acknowledgement, the lamp dims, the meter says so, and `verified` flies back; no task failed for memory."""
    is_e22 = wiring == "lamp_e22"
    lora = {**(test_e22_node.LORA if is_e22 else LORA), "gather_s": 0, "spread_s": 5}
    fixtures = [{"kind": kind, "instance": 0} for kind in wiring.split("_")[:-1]]
    config = {**CONFIG, "radio": "e22" if is_e22 else "sx1262", "report_s": 60, "health_s": 60, "fixtures": fixtures, "lora": lora}
    with LoneAirNode(tmp_path / "node", rom_image, config, START_UNIX, SEED, on_vm=False, wiring=wiring, heap_bytes=HEAPS[wiring]) as node:
        node.board.power_on()
        node.run_until(lambda: node.citizen.hellos and node.citizen.records, 60, "hello and records")
        node.run(120)
        unix = int(START_UNIX + node.board.now_s)
        node.air.order(0x0A0B0C0D, 7, (unix - 10, unix + 9000), orders.LEVEL, LAMP, [40, 0])
        node.run_until(lambda: [5, 0, 7, orders.VERIFIED] in [r[:4] for r in node.citizen.records.values()], 400, "verified order")
        assert node.cabinet.lamp is not None
        assert node.cabinet.lamp.log[-1][1] == 400
        assert not [line for line in node.log() if "MemoryError" in line]
        assert least_free_bytes(node) > _LEAST_FREE_BYTES


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("wiring", "more"), [("air_lamp_radio", {}), ("lamp_radio", WRITTEN_OUT)], ids=["one packet", "two pieces"])
def test_a_configuration_by_order_on_lora_on_riscv(
    rom_image: dict[str, bytes], tmp_path: Path, wiring: str, more: dict[str, int]
) -> None:  # fmt: skip
    """Tried, and `verified` flies back: from the fullest node there is, and where the order takes more than one packet."""
    lora = {**LORA, "channels_hz": LORA["channels_hz"][:1], "gather_s": 0, "spread_s": 5}
    fixtures = [{"kind": kind, "instance": 0} for kind in wiring.split("_")[:-1]]
    config = {**CONFIG, "report_s": 60, "health_s": 60, "fixtures": fixtures, "lora": lora}
    with LoneAirNode(tmp_path / "node", rom_image, config, START_UNIX, SEED, on_vm=False, wiring=wiring, heap_bytes=HEAPS[wiring]) as node:
        node.board.power_on()
        node.run_until(lambda: node.citizen.hellos and node.citizen.records, 60, "hello and records")
        node.run(120)
        unix = int(START_UNIX + node.board.now_s)
        changed = cbor.encode({**config, "health_s": 90, "fixtures": [*fixtures[:-1], {**fixtures[-1], **more}]})
        pieces = node.air.order(0x0A0B0C0D, 7, (unix - 10, unix + 9000), orders.CONFIGURE, 0, [changed])
        assert pieces == (2 if more else 1)
        node.run_until(lambda: [5, 0, 7, orders.VERIFIED] in [r[:4] for r in node.citizen.records.values()], 900, "verified order")
        assert node.cabinet.lamp is not None
        assert node.cabinet.lamp.min_level_permille == 1000
        assert not [line for line in node.log() if "MemoryError" in line]
        assert least_free_bytes(node) > _LEAST_FREE_BYTES - _TRIAL_BYTES
