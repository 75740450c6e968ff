"""A node's flash put back to an earlier state (R04): the real store and framer sign again, the real gateway refuses and says so."""

import copy
import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_flash import FakeFlash
from lamppost_gateway.refused_words import describe
from lamppost_node.clock import Clock
from lamppost_node.framer import Framer
from lamppost_node.identity import Identity
from lamppost_node.sequence_store import Counter, SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import cose, hello, kinds, slip
from lamppost_protocol.limits import REPLAY_WINDOW
from street.gateway_rig import NETWORK, City, SenderNode
from street.receiving_cabinet import Cabinet, play, running

NODE, EPOCH = 0x11, 1


class Ticks:
    """Milliseconds that stand still."""

    def ticks_ms(self) -> int:
        return 0

    def ticks_diff(self, end: int, start: int) -> int:
        return end - start


class PoweredNode:
    """The node's files from spool to signature, powered up on a flash; only the signer is the host's."""

    def __init__(self, flash: FakeFlash, keys: SenderNode):
        settings = Settings(flash)
        self.sequence = SequenceStore(flash, EPOCH)
        self.spool = Spool(flash, settings, EPOCH, 200_000, bytearray(4096))
        self.spool.open((self.sequence.reserved or 0) * 64 + 1)
        identity = Identity(NETWORK, NODE, EPOCH, 1, keys.signer, None, keys.hop_key)  # type: ignore[arg-type]
        self._framer = Framer(identity, self.sequence, self.spool, Clock(Ticks(), settings), 1)

    def frame(self, value: int) -> bytes:
        """One new record, in a frame of its own."""
        n = self.spool.append(1, 1_800_000_000, 0, 1, 0, kinds.LAMP, 0, [100, 100, value, 2301, 210, 950, 12345, 0, 0])
        record = self.spool.read_from(n)
        assert record is not None
        data: bytes = self._framer.build(self._framer.draft(record, 1), n).data
        self.spool.acknowledge(n)
        return data

    def hello(self) -> bytes:
        """What it says at power-up."""
        return hello.encode_hello(hello.Hello(NETWORK, NODE, EPOCH, hello.RUNNING, None, self.spool.cursor + 1, self.spool.next_n, "fw"))


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """The framer collects garbage before each signature, as a node must; pytest's own heap is left out of it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def keys() -> SenderNode:
    return SenderNode(NODE, 1)


@pytest.fixture
def flash() -> FakeFlash:
    made = FakeFlash()
    Counter(made, "tx", EPOCH).write(0)
    return made


def test_an_old_copy_of_the_flash_is_refused_and_called_by_its_name(
    keys: SenderNode, flash: FakeFlash, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every number signed again is refused, kept for the operator in words, and the node's hello is answered by one warning."""
    city = City(tmp_path / "city", [keys])
    logging.getLogger("lamppost").propagate = True

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            node = PoweredNode(flash, keys)
            for value in range(40):
                cabinet.hear(node.frame(value))
            old = copy.deepcopy(flash)
            node = PoweredNode(flash, keys)
            for value in range(40, 160):
                cabinet.hear(node.frame(value))
            await cabinet.until(lambda: len(cabinet.committed) == 160)
            cabinet.hear(node.hello(), slip.HELLO)
            assert cabinet.metrics.value("nodes_went_back", link="line0") == 0
            highest = max(frame.tx for frame in cabinet.committed)
            used = {frame.tx for frame in cabinet.committed}
            cabinet.link.sent.clear()

            node = PoweredNode(old, keys)
            for _ in range(3):
                cabinet.hear(node.hello(), slip.HELLO)
            repeated = []
            while not repeated or cose.decode(repeated[-1]).tx < highest:
                repeated.append(node.frame(9_000))
                cabinet.hear(repeated[-1])
            assert len(repeated) > REPLAY_WINDOW
            assert {cose.decode(data).tx for data in repeated} <= used  # given out twice, and only the receiver can tell
            await cabinet.until(lambda: sum(cabinet.metrics.value("rejected", reason=r) for r in ("replayed", "too_old")) == len(repeated))
            assert cabinet.metrics.value("rejected", reason="replayed") == REPLAY_WINDOW
            assert len(cabinet.committed) == 160
            assert cabinet.link.sent == []

            # What the operator sees: one warning by name, a metric, and the refused frames in words.
            assert cabinet.metrics.value("nodes_went_back", link="line0") == 3
            warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
            assert len(warnings) == 1
            assert warnings[0].startswith("node_went_back node=00000011 link=line0 next_n=41 in_custody=160 ")
            rejects: list = []

            async def kept() -> list:
                return await cabinet.store.read(cabinet.store.outbox.rejects, 1000)

            while len(rejects) < 2 * 50:  # a burst of each reason is kept
                rejects = await kept()
            assert {reject.reason for reject in rejects} == {"replayed", "too_old"}
            assert {reject.node for reject in rejects} == {NODE}
            assert describe(rejects[0].data)["looks_like"] == "uplink"

    play(story)


def test_after_a_new_key_the_old_copy_is_heard_again(keys: SenderNode, flash: FakeFlash, tmp_path: Path) -> None:
    """Another epoch begins at one: enrolled anew, its records are new ones and the warning is over."""
    city = City(tmp_path / "city", [keys])

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            node = PoweredNode(flash, keys)
            for value in range(10):
                cabinet.hear(node.frame(value))
            await cabinet.until(lambda: len(cabinet.committed) == 10)
            renewed = SenderNode(NODE, 2, epoch=2)
            city.nodes[NODE] = renewed
            city.write()
            cabinet.registry.load()
            cabinet.hear(renewed.hello(), slip.HELLO)
            cabinet.hear(renewed.frame())
            await cabinet.until(lambda: len(cabinet.committed) == 11)
            assert cabinet.committed[-1].epoch == 2
            assert cabinet.committed[-1].fresh == 1
            assert cabinet.metrics.value("nodes_went_back", link="line0") == 0

    play(story)
