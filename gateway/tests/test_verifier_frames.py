"""Verification: cheapest check first, every refusal by its name, nothing foreign ever accepted (R06)."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.registry import Registry
from lamppost_gateway.verifier import Candidate, Rejection, VerifiedFrame, Verifier
from lamppost_protocol import cose, frames, kinds
from lamppost_protocol.replay import ReplayWindow
from street.gateway_rig import NETWORK, City, SenderNode


class Street:
    def __init__(self, folder: Path) -> None:
        self.node, self.other = SenderNode(0x11, 1), SenderNode(0x22, 1)
        self.city = City(folder, [self.node, self.other])
        self.registry = Registry(NETWORK, folder / "registry.json", folder / "hop-keys.json", Metrics())
        self.registry.load()
        self.verifier = Verifier(self.registry)

    def verify(self, data: bytes, window: ReplayWindow | None = None) -> VerifiedFrame:
        candidate = self.verifier.screen(data, "line0", 1_000)
        if window is not None:
            self.verifier.check_window(candidate, window)
        [verdict] = asyncio.run(self.verifier.check_signatures([candidate]))
        if verdict is not None:
            raise verdict
        return self.verifier.read(candidate)

    def refuse(self, data: bytes, window: ReplayWindow | None = None) -> tuple[str, int | None]:
        with pytest.raises(Rejection) as caught:
            self.verify(data, window)
        return caught.value.reason, caught.value.node


@pytest.fixture
def street(tmp_path: Path) -> Any:
    street = Street(tmp_path)
    yield street
    street.verifier.close()


def test_a_good_frame_is_read_as_sent(street: Street) -> None:
    """All fields, and the octets unchanged."""
    data = street.node.frame(3, t=1_700_000_000, behind=0)
    frame = street.verify(data)
    assert (frame.node, frame.epoch, frame.tx, frame.n, frame.count, frame.behind) == (0x11, 1, 1, 1, 3, 0)
    assert (frame.t, frame.clock, frame.data, frame.link, frame.received_at_ms) == (1_700_000_000, 2, data, "line0", 1_000)
    assert [record[0] for record in frame.records] == [kinds.LAMP] * 3


def test_every_refusal_has_its_name(street: Street) -> None:
    """The words of the reject ledger."""
    node = street.node
    good = node.frame()
    assert street.refuse(bytes(1_025)) == ("too_long", None)
    assert street.refuse(b"") == ("bad_cose", None)
    assert street.refuse(good[:-1])[0] == "bad_cbor"
    assert street.refuse(good + b"\0")[0] == "bad_cbor"
    assert street.refuse(SenderNode(0x33, 1).frame()) == ("unknown_node", 0x33)
    assert street.refuse(good, ReplayWindow(1, 1)) == ("replayed", 0x11)
    assert street.refuse(good, ReplayWindow(500, 1)) == ("too_old", 0x11)
    flipped = bytearray(good)
    flipped[-70] ^= 1
    assert street.refuse(bytes(flipped)) == ("bad_signature", 0x11)
    ack = frames.seal_acknowledgement(node.hop_key, NETWORK, node.node, 1, 1, 0, bytes(8))
    assert street.refuse(ack)[0] == "bad_cose"
    street.city.revoked.add(0x11)
    street.city.write()
    street.registry.refresh()
    assert street.refuse(good) == ("revoked_node", 0x11)


def test_nothing_verifies_in_another_context(street: Street) -> None:
    """Other key, direction, network, epoch: all end at the signature."""
    node = street.node
    for data in (
        node.frame(signer=street.other.signer),
        node.frame(direction=frames.ORDER),
        node.frame(direction=frames.ACKNOWLEDGEMENT),
        node.frame(network=NETWORK + 1),
        node.frame(epoch=2),
    ):
        assert street.refuse(data) == ("bad_signature", 0x11)


def test_a_new_epoch_ends_the_old_key(street: Street) -> None:
    """Only the registry's epoch is accepted, though the counter starts anew."""
    old = street.node.frame()
    again = SenderNode(0x11, 2, epoch=2)
    street.city.nodes[0x11] = again
    street.city.write()
    street.registry.refresh()
    assert street.refuse(old) == ("bad_signature", 0x11)
    assert street.verify(again.frame()).epoch == 2


def test_signed_nonsense_is_refused_too(street: Street) -> None:
    """An authentic node with a broken payload."""
    data = frames.seal(street.node.signer, frames.UPLINK, NETWORK, 0x11, 1, 0x11, 9, b"\x80")
    assert street.refuse(data) == ("bad_payload", 0x11)


def test_unknown_profiles_are_accepted(street: Street) -> None:
    """An older gateway relays what it cannot read."""
    frame = street.verify(street.node.frame(items=[[kinds.kind_of(63, 15), 0, 0, 1, None]]))
    assert frame.records == [[kinds.kind_of(63, 15), 0, 0, 1, None]]
    assert not frame.is_alarm()


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ([kinds.ORDER_STATE, 0, 0, 1, 3, 0, 50, 1, 1], True),
        ([kinds.GAP, 0, 0, 1, 2, 2, 1, 0, 0], True),
        ([kinds.BIN, 0, 0, 100, 50, 200, 1], False),
        ([kinds.BIN, 0, 0, 100, 50, 200, 2], True),
        ([kinds.BIN, 0, 0, 100, 50, 200, 4], True),
        ([kinds.LAMP, 0, 0, 100, 100, 1, 1, 1, 1, 1, 1, 1], True),
        ([kinds.LAMP, 0, 0, 100, 100, 1, 1, 1, 1, 1, 1, 0], False),
        ([kinds.BIN, 0, 2, None, None, None, None], False),
    ],
)
def test_what_outlives_thinned_history(street: Street, item: list[int | None], expected: bool) -> None:
    """Orders' results, gaps, fire, tilt and lamp faults."""
    assert street.verify(street.node.frame(items=[item])).is_alarm() is expected


def test_a_burst_is_checked_on_threads_and_each_verdict_is_its_own(street: Street) -> None:
    """Good and forged frames mixed: the order of verdicts is the order of frames."""
    datas = []
    for i in range(40):
        signer = street.other.signer if i % 3 == 0 else None
        datas.append(street.node.frame(signer=signer))
    candidates: list[Candidate] = [street.verifier.screen(data, "line0", 0) for data in datas]
    verdicts = asyncio.run(street.verifier.check_signatures(candidates))
    assert [verdict is None for verdict in verdicts] == [i % 3 != 0 for i in range(40)]


def test_mutations_are_never_accepted(street: Street) -> None:
    """Two thousand damaged copies of good frames: a rejection each, whatever was hit."""
    source = random.Random(7)
    goods = [street.node.frame(count) for count in (1, 2, 5)]
    for _ in range(2_000):
        data = bytearray(source.choice(goods))
        for _ in range(source.choice((1, 1, 2, 5))):
            action, at = source.randrange(3), source.randrange(len(data))
            if action == 0:
                data[at] ^= 1 << source.randrange(8)
            elif action == 1:
                del data[at : at + source.randrange(1, 4)]
            else:
                data[at:at] = source.randbytes(source.randrange(1, 4))
        if bytes(data) in goods:
            continue
        street.refuse(bytes(data))


def test_the_cheap_checks_come_before_the_signature(street: Street) -> None:
    """A stranger's or replayed frame never reaches the key: its signature may be anything."""
    data = bytearray(street.node.frame())
    data[-64:] = bytes(64)
    assert street.refuse(bytes(data), ReplayWindow(1, 1)) == ("replayed", 0x11)
    stranger = bytearray(SenderNode(0x33, 1).frame())
    stranger[-64:] = bytes(64)
    assert street.refuse(bytes(stranger)) == ("unknown_node", 0x33)
    assert cose.decode(bytes(stranger)).kid == 0x33
