"""A signed update of a whole node on every target: its own ROMFS or file system, its own MicroPython, a real gateway, real seconds.

That nothing bricks or downgrades it is tried in test_update.py, in virtual time; here that the same runs where the firmware does.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bench.cable import DEVICE
from bench.targets.target import Target
from lamppost_protocol import kinds, orders, releases, slip
from lamppost_protocol.es256_host import HostSigner
from street.accounts import check_numbers
from street.node_device import Image, NodeDevice, runner_on
from street.release import base_of, body_of, changed_files, version
from street.street_node import NodeSpec, StreetNode
from street.town import NETWORK, Town

NODE = 0xE7
NEW = "lamppost 0.2.0"
#: Of both packages, two levels deep.
RELEASE = {
    "lamppost_node/version.py": version(NEW, 1),
    "lamppost_node/lighting/ramp.py": ("class Ramp:", "class Mark:\n    pass\n\n\nclass Ramp:"),
    "lamppost_protocol/hop.py": ("class HopKey:", "class Mark:\n    pass\n\n\nclass HopKey:"),
}
BROKEN = {"lamppost_node/version.py": version("lamppost 0.3.0", 2), "lamppost_node/app.py": ("import asyncio\n", "import nonsense\n")}
#: A base whose good minute is five seconds: what is waited for is the same.
SHORT_MINUTE = {"lamppost_node/health.py": ("GOOD_MS = 60_000", "GOOD_MS = 5_000")}


class PieceServer:
    """What a gateway does for a node that fetches, at the node's own cable: answers each want with the pieces of one body."""

    def __init__(self, node: StreetNode, body: bytes) -> None:
        self._node, self._body = node, body
        self._is_over = threading.Event()
        self.wants = 0
        self._thread = threading.Thread(target=self._run, name="pieces", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        cable = self._node.cable
        taken = len(cable.up)
        decoder = slip.Decoder()
        while not self._is_over.is_set():
            try:
                cable.changes.wait(lambda taken=taken: len(cable.up) > taken or self._is_over.is_set(), "message", 1.0)
            except TimeoutError:
                continue
            new, taken = cable.up[taken:], len(cable.up)
            for message_type, octets in decoder.feed(b"".join(slip.END + piece for piece in new)):
                if message_type == slip.WANT:
                    self._answer(releases.decode_want(octets))

    def _answer(self, want: releases.Want) -> None:
        self.wants += 1
        assert (want.network, want.node) == (NETWORK, NODE)
        end = min(len(self._body), want.first + want.count * releases.PIECE_BYTES)
        for at in range(want.first, end, releases.PIECE_BYTES):
            piece = releases.Piece(want.release, at, self._body[at : at + releases.PIECE_BYTES])
            self._node.cable.say(DEVICE, slip.encode(slip.PIECE, releases.encode_piece(piece)))

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(5)


@pytest.fixture
def image(target_image: Image, tmp_path: Path) -> Image:
    """This tree's firmware with the short minute."""
    changed = {f"{target_image.library}/{name}": content for name, content in changed_files(tmp_path / "base", SHORT_MINUTE).items()}
    assert set(changed) <= set(target_image.files)
    return dataclasses.replace(target_image, files={**target_image.files, **changed})


@pytest.fixture
def street(target: Target, image: Image, tmp_path: Path, seed: int) -> Iterator[Town]:
    """A town with the node, its gateway and the time."""
    made: list[NodeDevice] = []
    with ExitStack() as stack:
        stack.callback(lambda: [device.close() for device in made])
        town = Town(tmp_path / "town", runner_on(target, image, made), [NodeSpec(NODE)], seed, deadline_s=target.deadline_s())
        stack.enter_context(town)
        town.add_gateway().start()
        town.serve_time()
        yield town


def order(street: Town, image: Image, body: bytes, sequence: int, end: tuple[int, int], deadline_s: float) -> list[tuple[int, int]]:
    """Order that release and wait for this end; (state, reason) of all that was told of it."""
    key = street.key
    manifest = releases.Manifest(
        sequence, base_of(image.files, image.library), "0.2.0", 0, len(body), hashlib.sha256(body).digest()
    )  # fmt: skip
    signed = releases.seal_manifest(HostSigner(key.private_key), NETWORK, key.issuer, manifest)
    order_id, frame = key.order(NODE, orders.UPDATE, 0, [signed])
    node = street.nodes[NODE]

    def told() -> list[tuple[int, int]]:
        return [(values[1], values[2]) for values in node.values(kinds.ORDER_STATE) if values[0] == order_id]

    street.obey(NODE, frame, told, "answer to the order")
    server = PieceServer(node, body)
    try:
        street.wait_until(lambda: end in told(), lambda: f"{end}, only {told()} after {server.wants} wants", deadline_s)
    finally:
        server.close()
    return told()


@pytest.mark.needs("line", "models", "reset", "files")
def test_a_release_is_confirmed_a_broken_one_returned_from_an_older_one_refused(
    target: Target, street: Town, image: Image, tmp_path: Path
) -> None:
    """The release runs over the base through every start from then on; what does not load returns to it; nothing older is taken."""
    node = street.nodes[NODE]
    node.start()
    street.wait_until(lambda: node.knows_time, "time")
    body = body_of(tmp_path / "release", RELEASE)
    verified, deadline_s = (orders.VERIFIED, orders.NO_REASON), target.deadline_s(60)
    states = order(street, image, body, 5, verified, deadline_s)
    assert {state for state, _ in states} == {orders.ACCEPTED, orders.APPLIED, orders.VERIFIED}
    assert node.hellos()[-1].firmware == NEW
    reverted = (orders.REVERTED, releases.TRIAL_FAILED)
    order(street, image, body_of(tmp_path / "broken", BROKEN), 6, reverted, deadline_s)
    assert node.hellos()[-1].firmware == NEW
    order(street, image, body, 5, (orders.REFUSED, releases.DOWNGRADE), deadline_s)
    hellos = len(node.hellos())
    street.cut_power(NODE)
    node.start()
    street.wait_until(lambda: len(node.hellos()) > hellos, "hello")
    assert node.hellos()[-1].firmware == NEW
    assert street.lamp(NODE)["level_permille"] == 1000
    assert [line for line in node.logs() if "MemoryError" in line] == []
    check_numbers(node)
