"""Two keys of one node while it is re-keyed: each in its own epoch, until the first committed frame of the newer one (R29, WIRE.md 16)."""

import json
from pathlib import Path

import pytest
from lamppost_gateway.downlink_gate import Gate
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.registry import Registry
from lamppost_protocol import frames, orders
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier, public_key
from street.gateway_rig import NETWORK, City, SenderNode
from street.receiving_cabinet import Cabinet, play, running

NODE = 0x11


@pytest.fixture
def old() -> SenderNode:
    return SenderNode(NODE, 1)


@pytest.fixture
def new() -> SenderNode:
    return SenderNode(NODE, 2, epoch=2)


@pytest.fixture
def city(tmp_path: Path, old: SenderNode, new: SenderNode) -> City:
    """The registry says that node 0x11 may be under way to epoch 2."""
    made = City(tmp_path / "city", [old, SenderNode(0x22, 1)])
    made.next[NODE] = new
    made.write()
    return made


def rejected(cabinet: Cabinet, reason: str) -> float:
    return cabinet.metrics.value("rejected", reason=reason)


def test_either_epoch_is_taken_until_the_newer_one_has_begun(city: City, old: SenderNode, new: SenderNode, tmp_path: Path) -> None:
    """Old frames are stored and acknowledged under the old hop key; the first new one ends that, for a restarted gateway too."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            for _ in range(2):
                cabinet.hear(old.frame(3))
                assert old.acknowledged(await cabinet.acknowledgement()).highest == old.n
            cabinet.hear(new.frame(2, n=5, tx=64))
            ack = new.acknowledged(await cabinet.acknowledgement())
            assert ack.highest == 6
            cabinet.hear(old.frame(1))
            await cabinet.until(lambda: rejected(cabinet, "wrong_epoch") == 1)
            cabinet.hear(new.frame(1, n=7, tx=65))
            assert new.acknowledged(await cabinet.acknowledgement()).highest == 7
            assert [(f.epoch, f.n, f.count) for f in cabinet.committed] == [(1, 1, 3), (1, 4, 3), (2, 5, 2), (2, 7, 1)]
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(old.frame(1))
            await cabinet.until(lambda: rejected(cabinet, "wrong_epoch") == 1)

    play(story)


def test_a_replay_and_a_key_in_the_wrong_epoch_are_refused(city: City, old: SenderNode, new: SenderNode, tmp_path: Path) -> None:
    """A frame that came before; the new key in the old epoch and the other way round; a stranger's key: none of them begins anything."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            first = old.frame(1)
            cabinet.hear(first)
            await cabinet.acknowledgement()
            cabinet.hear(first)
            await cabinet.until(lambda: rejected(cabinet, "replayed") == 1)
            wrong = [new.frame(1, n=9, epoch=1), old.frame(1, n=9, epoch=2), SenderNode(NODE, 3, epoch=2).frame(1)]
            for count, data in enumerate(wrong, 1):
                cabinet.hear(data)
                await cabinet.until(lambda count=count: rejected(cabinet, "bad_signature") == count)
            cabinet.hear(old.frame(1))
            assert old.acknowledged(await cabinet.acknowledgement()).highest == 2
            begun = new.frame(1, n=3, tx=64)
            cabinet.hear(begun)
            new.acknowledged(await cabinet.acknowledgement())
            cabinet.hear(begun)
            await cabinet.until(lambda: rejected(cabinet, "replayed") == 2)

    play(story)


def test_both_epochs_in_one_batch(city: City, old: SenderNode, new: SenderNode, tmp_path: Path) -> None:
    """What waited in the queue from before and after the switch is all stored; nothing of it is lost to the order it is looked at."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            for data in [old.frame(1) for _ in range(5)] + [new.frame(1, n=6 + i, tx=64 + i) for i in range(5)]:
                cabinet.hear(data)
            await cabinet.until(lambda: len(cabinet.committed) == 10)
            assert sorted((f.epoch, f.n) for f in cabinet.committed) == [(1, n) for n in range(1, 6)] + [(2, n) for n in range(6, 11)]

    play(story)


def test_the_registry_names_two_keys_before_and_after_the_switch(city: City, old: SenderNode, new: SenderNode) -> None:
    """`next`, then `previous`, then neither: hop keys and valid epochs follow; orders are for the entry's own epoch unless they name it."""
    known = Registry(NETWORK, city.folder / "registry.json", city.folder / "hop-keys.json", Metrics())
    known.load()
    entry = known.node(NODE)
    assert entry is not None
    assert (entry.epoch, entry.epochs, entry.public_key) == (1, (2, 1), old.public_key)
    for epoch, node in ((1, old), (2, new), (None, old)):
        key = known.hop_key(NODE, epoch)
        assert key is not None
        data = frames.seal_acknowledgement(key, NETWORK, NODE, epoch or 1, 5, 0, b"12345678")
        assert node.acknowledged(data).highest == 5
    assert known.hop_key(NODE, 3) is None
    assert known.hop_key(0x22, 1) is not None
    del city.next[NODE]
    city.nodes[NODE], city.previous[NODE] = new, old
    city.write()
    assert known.refresh()
    entry = known.node(NODE)
    assert entry is not None
    assert (entry.epoch, entry.epochs, entry.public_key) == (2, (2, 1), new.public_key)
    authority = HostSigner(city.authority_key)
    gate = Gate(NETWORK, HostVerifier(public_key(city.authority_key)), None, known)

    def order(signed_for: int, **more: object) -> bytes:
        payload = orders.encode_order(1, 2, orders.LEVEL, 1, [50, 0])
        frame = frames.seal(authority, frames.ORDER, NETWORK, NODE, signed_for, 0xA1, 7, payload)
        return json.dumps({"node": f"{NODE:08x}", "frame": frame.hex(), **more}).encode()

    assert gate.open_order(order(2)).epoch == 2
    assert gate.open_order(order(1, epoch=1)).epoch == 1
    for epoch in (3, True, None, "2"):
        with pytest.raises(RemoteError, match="wrong_epoch"):
            gate.open_order(order(2, epoch=epoch))
    del city.previous[NODE]
    city.write()
    assert known.refresh()
    assert known.hop_key(NODE, 1) is None
    assert known.hop_key(NODE, 2) is not None
    city.previous[NODE] = SenderNode(NODE, 9, epoch=2)  # the epoch of the entry itself
    city.write()
    assert not known.refresh()
