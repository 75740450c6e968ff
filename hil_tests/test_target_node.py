"""A whole node on every target: all fixtures of each image, modelled hardware, a real gateway and broker; figures of heap and boot."""

import time
from collections.abc import Callable

import pytest
from bench.targets.target import ROM, Target
from lamppost_protocol import kinds, orders
from lamppost_protocol.kinds import GAP, LAMP, NODE, ORDER_STATE, split_kind
from street.accounts import check_numbers, check_outbox, settle
from street.node_device import NodeDevice
from street.street_node import IMAGES, NodeSpec, StreetNode
from street.town import Town

KINDS = {"lamp": LAMP, "bin": kinds.BIN, "air": kinds.AIR}
_HEAP_FREE_LOWEST = 4  # column of profile node
#: What the whole node may take of a chip's heap of 110 KB; and where its bytecode is loaded into the heap too.
HEAP_MOST_BYTES, HEAP_MOST_WITH_BYTECODE_BYTES = 90_000, 160_000
#: A pointer of the unix port has 64 bits, and nearly everything on a heap is pointers.
POINTER_BYTES_OF_A_CHIP = 4
FIRST_FRAME_S = 20.0


def device_of(node: StreetNode) -> NodeDevice:
    assert isinstance(node.program, NodeDevice)
    return node.program


@pytest.mark.needs("line", "models")
@pytest.mark.parametrize("name", IMAGES)
def test_each_image_reports_what_its_hardware_measures(target: Target, target_town: Callable[..., Town], name: str) -> None:
    """Records of every fixture, of good quality, stored by the gateway, told to the broker; heap peak and boot to first frame printed."""
    street = target_town(NodeSpec(0xE1, name), is_connected=True)
    node, subscriber = street.nodes[0xE1], street.subscriber
    assert subscriber is not None
    street.add_gateway().start()
    street.serve_time()
    node.start()
    street.wait_until(node.sent, "first frame")
    first_frame_s = time.monotonic() - device_of(node).started_s
    wanted = {KINDS[fixture["kind"]] for fixture in node.spec.fixtures} | {NODE}

    def good_kinds() -> set[int]:
        return {split_kind(content[0])[0] for content in node.records().values() if content[1] == kinds.GOOD}

    street.wait_until(lambda: wanted <= good_kinds(), lambda: f"good records of kinds {wanted - good_kinds()}")
    street.wait_until(lambda: len(node.values(NODE)) >= 4 and node.knows_time, "four health records of a node that knows the time")
    subscriber.wait(
        lambda: len({document["fixture"] for document in subscriber.documents("record")}) >= len(wanted),
        "records of every fixture at the broker",
        target.deadline_s(),
    )
    settle(street)
    check_numbers(node)
    check_outbox(street)
    assert not any("MemoryError" in line for line in node.logs())
    free_bytes = min(values[_HEAP_FREE_LOWEST] for values in node.values(NODE))
    heap_bytes, pointer_bytes, stand_in_bytes = heap_of(node, target)
    peak_bytes = heap_bytes - free_bytes - stand_in_bytes
    print(
        f"{target.name} {name}: boot to first frame {first_frame_s:.2f} s, heap peak {peak_bytes} bytes of {heap_bytes},"
        f" beside {stand_in_bytes} of the stand-in for machine"
    )
    most_bytes = HEAP_MOST_BYTES if ROM in target.capabilities else HEAP_MOST_WITH_BYTECODE_BYTES
    assert 0 < peak_bytes < most_bytes * pointer_bytes // POINTER_BYTES_OF_A_CHIP
    assert first_frame_s < target.deadline_s(FIRST_FRAME_S)


def heap_of(node: StreetNode, target: Target) -> tuple[int, int, int]:
    """The device's whole heap, its pointers' size, and what the bench's `machine` takes of that heap; all in bytes. Ends the node's run."""
    device = device_of(node).device
    with device.console.raw_repl(deadline_s=target.deadline_s()) as repl:
        answer = repl.exec(
            "import gc, sys\n"
            "gc.collect()\n"
            "before = gc.mem_alloc()\n"
            "import machine\n"
            "machine.PWM, machine.UART\n"
            "gc.collect()\n"
            "print(gc.mem_alloc() + gc.mem_free(), 8 if sys.maxsize >> 32 else 4, gc.mem_alloc() - before)",
            target.deadline_s(),
        )
    heap_bytes, pointer_bytes, stand_in_bytes = (int(word) for word in answer.split())
    return heap_bytes, pointer_bytes, max(0, stand_in_bytes)


@pytest.mark.needs("line", "models")
def test_an_order_is_carried_to_verified(target: Target, target_town: Callable[..., Town]) -> None:
    """Through the broker, the gateway and the line: the lamp dims, the power measured moves, and the broker hears `verified`."""
    street = target_town(NodeSpec(0xE2), is_connected=True)
    node, subscriber, key = street.nodes[0xE2], street.subscriber, street.key
    assert subscriber is not None
    street.add_gateway().start()
    street.serve_time()
    node.start()
    street.wait_until(lambda: node.knows_time, "time")
    assert street.lamp(0xE2)["level_permille"] == 1000
    order_id, frame = key.order(0xE2, orders.LEVEL, LAMP, [30, 0])
    subscriber.publish("order/signed", key.document(0xE2, order_id, frame))

    def states() -> list[str]:
        return [str(document["state"]) for document in subscriber.documents("order", str(order_id), "state")]

    subscriber.wait(lambda: "verified" in states(), lambda: f"verified order at the broker, only {states()}", target.deadline_s())
    assert street.lamp(0xE2)["level_permille"] == 300
    before, after = next(values[4:6] for values in node.values(ORDER_STATE) if values[:2] == [order_id, orders.VERIFIED])
    assert after < before
    assert not any(content[0] == GAP for content in node.records().values())
    settle(street)
    check_outbox(street)
