"""A configuration by order on RISC-V, the firmware in ROMFS, a chip's heap beside the bench's stand-in for `machine`; in virtual time."""

from pathlib import Path

import pytest
from bench.targets.qemu import RV32
from bench.targets.target import Target
from lamppost_protocol import cbor
from lamppost_protocol.kinds import NODE
from street.lone_node import image_files
from street.updated_node import CONFIG, UpdatedNode
from test_configure import configure, is_cut_survived

pytestmark = [pytest.mark.needs("virtual_time", "models"), pytest.mark.timeout(900)]
_HEAP_FREE = 3
_HEAP_FREE_LOWEST = 4
#: What a trial may take of a chip's heap, beside what the node takes anyway: its module and the map in use.
_TRIAL_BYTES = 4_000
_LARGE = {"power_10_dw": 131, "power_25_dw": 211, "power_50_dw": 341, "power_75_dw": 471, "power_100_dw": 601, "ramp_up_percent_per_s": 20}


@pytest.fixture
def rom_image(target: Target) -> dict[str, bytes]:
    assert target.name == RV32.name
    return image_files(Path(__file__).resolve().parents[1] / "build/lock-step", is_rom=True)


def test_a_configuration_is_tried_in_a_chips_heap(rom_image: dict[str, bytes], tmp_path: Path, seed: int) -> None:
    """No allocation fails; what the order and the trial take is printed, and given back at the end."""
    large = {**CONFIG, "fixtures": [{**CONFIG["fixtures"][0], **_LARGE}]}
    with UpdatedNode(tmp_path, rom_image, seed, config=large, on_vm=False) as node:
        node.begin()
        node.run(60)
        idle = node.city.of_kind(NODE)[-1][1][1 + _HEAP_FREE]
        order_id = configure(node, cbor.encode({**large, "health_s": 20}))
        node.until_told(order_id, "verified")
        trial = min(values[1 + _HEAP_FREE] for _, values in node.city.of_kind(NODE)[-3:])
        node.run(60)
        after = node.city.of_kind(NODE)[-1][1][1 + _HEAP_FREE]
        lowest = min(values[1 + _HEAP_FREE_LOWEST] for _, values in node.city.of_kind(NODE))
        print(f"heap free: {idle} bytes before the order, {trial} in the trial, {after} after it, {lowest} at the lowest")
        assert trial > idle - _TRIAL_BYTES
        assert after > idle - 1_000
        assert not any("MemoryError" in text for _, text in node.city.logs)


@pytest.mark.parametrize("phase", ["store", "trial"])
def test_a_power_cut_within_a_flash_operation(rom_image: dict[str, bytes], tmp_path: Path, seed: int, phase: str) -> None:
    """As on this machine's interpreter."""
    with UpdatedNode(tmp_path, rom_image, seed, on_vm=False) as node:
        node.begin()
        assert is_cut_survived(node, phase, 1 + seed % 12, seed % 2)
