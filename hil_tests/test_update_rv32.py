"""An update on RISC-V, its base in ROMFS and a chip's heap beside the bench's stand-in for `machine`; in virtual time."""

import random
from pathlib import Path

import pytest
from bench.lock_step import HALF, WHOLE
from bench.targets.qemu import RV32
from bench.targets.target import Target
from lamppost_protocol.kinds import NODE
from street.lone_node import image_files
from street.updated_node import UpdatedNode
from test_update import BROAD, NEW, PHASES, is_cut_survived

pytestmark = [pytest.mark.needs("virtual_time", "models"), pytest.mark.timeout(900)]
_HEAP_FREE = 3
_HEAP_FREE_LOWEST = 4


@pytest.fixture
def rom_image(target: Target) -> dict[str, bytes]:
    assert target.name == RV32.name
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step", is_rom=True)


def test_a_release_is_confirmed_in_a_chips_heap(rom_image: dict[str, bytes], tmp_path: Path, seed: int) -> None:
    """No allocation fails; what an update order, and what a release of a few modules, take of the heap is printed."""
    with UpdatedNode(tmp_path, rom_image, seed, on_vm=False) as node:
        node.begin()
        order_id = node.order(node.body("broad", BROAD), 5)
        node.until_told(order_id, "verified")
        assert node.city.hellos[-1][1].firmware == NEW
        node.run(120)
        health = [values for _, values in node.city.of_kind(NODE)]
        idle, after = health[1][1 + _HEAP_FREE], health[-1][1 + _HEAP_FREE]
        lowest = min(values[1 + _HEAP_FREE_LOWEST] for values in health)
        print(f"heap free: {idle} bytes before the order, {lowest} at the lowest, {after} with the release")
        assert not any("MemoryError" in text for _, text in node.city.logs)


@pytest.mark.parametrize("phase", PHASES)
def test_a_power_cut_within_a_flash_operation(rom_image: dict[str, bytes], tmp_path: Path, seed: int, phase: str) -> None:
    """As on this machine's interpreter: installation, trial, return."""
    draw = random.Random(seed)
    operation, mode = draw.randint(1, 24), draw.choice((HALF, WHOLE))
    print(phase, operation, mode)
    with UpdatedNode(tmp_path, rom_image, seed, on_vm=False) as node:
        node.begin()
        assert is_cut_survived(node, phase, operation, mode)
