"""An update over the air on RISC-V, where code takes time and the heap is a chip's, beside the bench's stand-in for `machine`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench.targets.qemu import RV32
from bench.targets.target import Target
from street.lone_node import image_files
from test_air_update import CONFIG, E22_LORA, LAMP, LORA, SEED, SLEEPER, VERSION, VERSION_NUMBER, AirNode
from test_lora_node_rv32 import least_free_bytes

pytestmark = [pytest.mark.needs("virtual_time", "models"), pytest.mark.timeout(900)]
_E22 = {"wiring": "lamp_e22", "fixtures": LAMP["fixtures"]}
_FULL = {"wiring": "air_lamp_radio", "fixtures": [{"kind": "air", "instance": 0}, *LAMP["fixtures"]]}
#: A chip's 112 KiB, and what the stand-in takes of it.
_HEAP_BYTES = 121 << 10
Make = Callable[..., AirNode]


@pytest.fixture
def rom_image(target: Target) -> dict[str, bytes]:
    assert target.name == RV32.name
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step", is_rom=True)


@pytest.fixture
def make(rom_image: dict[str, bytes], tmp_path: Path) -> Make:
    def made(kind: dict[str, Any], **lora: Any) -> AirNode:
        own = {"report_s": 120, "health_s": 60, "radio": "e22" if kind is _E22 else "sx1262", "fixtures": kind["fixtures"]}
        config = {**CONFIG, **own, "lora": {**LORA, "spread_s": 5, **lora}}
        return AirNode(tmp_path, rom_image, config, kind["wiring"], SEED, 600.0, on_vm=False, heap_bytes=_HEAP_BYTES)

    return made


@pytest.mark.parametrize(
    ("kind", "lora"), [(LAMP, {"listens_always": 1}), (SLEEPER, {}), (_E22, E22_LORA)], ids=["lamp", "sleeping bin", "lamp with an E22"]
)
def test_a_release_by_radio_in_a_chips_heap(make: Make, kind: dict[str, Any], lora: dict[str, Any]) -> None:
    """Fetched, tried, confirmed; no allocation fails. What the heap had left is printed."""
    with make(kind, **lora) as node:
        node.begin()
        node.order(VERSION, 5, filling=2_000)
        node.until_told(5, "verified", 3_000)
        node.until_runs(VERSION_NUMBER)
        print(f"{node.air.pieces} pieces by {len(node.citizen.wants)} wants")
        assert not [line for line in node.log() if "MemoryError" in line]
        assert least_free_bytes(node) > 8_000


def test_a_node_without_heap_for_it_refuses_and_lives_on(make: Make) -> None:
    """A lamp and an air station beside a radio: nothing is fetched, and their records come as before."""
    with make(_FULL) as node:
        node.begin()
        node.order(VERSION, 5)
        node.run_until(lambda: node.states(5), 400, "answer")
        assert node.states(5) in (["refused no_room"], ["refused store_fault"])
        node.run(node.board.now_s + 300)
        assert node.citizen.wants == []
        assert len([line for line in node.log() if "MemoryError" in line]) <= 1
        assert node.citizen.window.highest >= max(node.citizen.records) - 3
        assert node.cabinet.starts == 1
