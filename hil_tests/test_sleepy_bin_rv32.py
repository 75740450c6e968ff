"""The sleeping bin on RISC-V, where waking takes its time and the heap is a chip's: an hour of sleeps, an order, RTC memory lost."""

from pathlib import Path

import pytest
from bench.targets.qemu import RV32
from bench.targets.target import Target
from lamppost_protocol import orders
from lamppost_protocol.kinds import BIN, NODE
from street.lone_node import LoneAirNode, image_files
from test_lora_node_rv32 import least_free_bytes
from test_sleepy_bin import CONFIG, LORA, NODE_ID, SEED, START_UNIX, boots, of_kind, until_asleep

pytestmark = pytest.mark.needs("virtual_time", "models")
#: What must be left of the heap for the collector to work with.
_LEAST_FREE_BYTES = 12_000
_FIXTURE = {"kind": "bin", "instance": 0, "report_s": 600, "sleep_s": 600}


@pytest.fixture
def rom_image(target: Target) -> dict[str, bytes]:
    assert target.name == RV32.name
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step", is_rom=True)


@pytest.mark.timeout(300)
def test_a_bin_sleeps_on_riscv(rom_image: dict[str, bytes], tmp_path: Path) -> None:
    """Records arrive in one power-up, an order reaches it behind a frame, a wake-up takes seconds; without RTC memory it boots."""
    config = {**CONFIG, "health_s": 1_800, "fixtures": [_FIXTURE], "lora": {**LORA, "gather_s": 0, "spread_s": 5}}
    with LoneAirNode(tmp_path / "node", rom_image, config, START_UNIX, SEED, on_vm=False, x_m=2000.0, wiring="bin_battery") as node:
        node.board.power_on()
        until_asleep(node)
        awake_s, sleeps = node.board.now_s - node.board.asleep_s, node.cabinet.sleeps
        node.run(node.board.now_s + 3_600)
        until_asleep(node)
        awake_s, sleeps = node.board.now_s - node.board.asleep_s - awake_s, node.cabinet.sleeps - sleeps
        print(f"{awake_s / sleeps:.1f} s awake for each of {sleeps} wake-ups, a frame in most of them")
        assert 5 <= sleeps <= 8
        assert awake_s / sleeps < 15
        unix = int(START_UNIX + node.board.now_s)
        node.air.order(NODE_ID, 7, (unix - 10, unix + 9_000), orders.RESEND, 0, [1, 1])
        node.run_until(lambda: [5, 0, 7, orders.APPLIED] in [r[:4] for r in node.citizen.records.values()], 1_400, "state of the order")
        until_asleep(node)
        assert boots(node) == {1}
        reports = len(of_kind(node, BIN))
        node.cabinet.rtc_memory = node.cabinet.rtc_memory[:-1]
        node.run_until(lambda: boots(node) == {1, 2}, 2_000, "record of its second boot")
        until_asleep(node)
        assert len(of_kind(node, BIN)) > reports
        assert node.citizen.window.highest == max(node.citizen.records) == len(node.citizen.records)
        assert {record[0] for record in node.citizen.records.values()} <= {BIN, NODE, 5}
        assert not [line for line in node.log() if "MemoryError" in line]
        assert least_free_bytes(node) > _LEAST_FREE_BYTES
