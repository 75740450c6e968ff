"""What is refused is refused by name, moves nothing, stays bounded, and is refused after a restart too (R06, R38)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lamppost_gateway.links.base import Signal
from lamppost_protocol import slip
from street.gateway_rig import City, SenderNode
from street.receiving_cabinet import Cabinet, MemoryLink, play, running


@pytest.fixture
def node() -> SenderNode:
    return SenderNode(0x11, 1)


@pytest.fixture
def city(tmp_path: Path, node: SenderNode) -> City:
    return City(tmp_path / "city", [node, SenderNode(0x22, 1)])


def test_replays_are_refused_in_the_run_in_the_batch_and_after_a_restart(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A thousand recorded frames, played again every way: none accepted, none acknowledged (R06)."""
    recorded = [node.frame() for _ in range(1_000)]

    async def first() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            for data in recorded:
                cabinet.hear(data)
                if data is recorded[7]:
                    cabinet.hear(data)
            await cabinet.until(lambda: len(cabinet.committed) == 1_000)
            assert cabinet.metrics.value("rejected", reason="replayed") == 1
            for data in recorded:
                cabinet.hear(data)
            await cabinet.until(lambda: refused(cabinet) == 1_001)
            assert len(cabinet.committed) == 1_000

    async def second() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            for data in reversed(recorded):
                cabinet.hear(data)
            await cabinet.until(lambda: refused(cabinet) == 1_000)
            assert cabinet.committed == []
            assert cabinet.link.sent == []
            assert len(await cabinet.rows()) == 1_000
            cabinet.hear(node.frame())
            await cabinet.acknowledgement()

    def refused(cabinet: Cabinet) -> float:
        return cabinet.metrics.value("rejected", reason="replayed") + cabinet.metrics.value("rejected", reason="too_old")

    play(first)
    play(second)


def test_forgeries_move_no_window_and_keep_no_good_frame_out(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A forged frame with a huge tx before, and with the same tx beside the true one."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            forger = SenderNode(0x22, 1).signer
            cabinet.hear(node.frame(n=1, tx=0xFFFF0000, signer=forger))
            cabinet.hear(node.frame(n=1, tx=1, signer=forger))
            cabinet.hear(node.frame(n=1, tx=1))
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert ack.highest == 1
            assert cabinet.metrics.value("rejected", reason="bad_signature") == 2
            cabinet.hear(node.frame(n=2, tx=2))
            assert node.acknowledged(await cabinet.acknowledgement()).highest == 2

    play(story)


def test_windows_outlive_a_file_torn_beyond_salvage(city: City, node: SenderNode, tmp_path: Path) -> None:
    """What the running gateway knows is written into the fresh file, so a replay is refused even after a restart."""
    recorded = node.frame()
    other = city.nodes[0x22]

    async def first() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(recorded)
            await cabinet.acknowledgement()
            await cabinet.store.read(lambda: list(cabinet.store.outbox._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")))
            (tmp_path / "outbox.db").write_bytes(b"\xee" * 50_000)
            await cabinet.store.read(lambda: list(cabinet.store.outbox._connection.execute("PRAGMA shrink_memory")))
            cabinet.hear(other.frame())
            assert other.acknowledged(await cabinet.acknowledgement()).highest == 1
            assert cabinet.store.outbox.quarantined is not None

    async def second() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(recorded)
            await cabinet.until(lambda: cabinet.metrics.value("rejected", reason="replayed") == 1)

    play(first)
    play(second)


def test_a_full_queue_pauses_the_links_and_a_worked_off_one_resumes_them(city: City, node: SenderNode, tmp_path: Path) -> None:
    """Memory stays bounded under a flood, and nothing heard is dropped."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            stranger = SenderNode(0x99, 1).frame()
            count = 0
            while not cabinet.link.is_paused:
                cabinet.hear(stranger)
                count += 1
                assert count <= 5_000
            late = MemoryLink("line1")
            cabinet.receiver.link_changed(late)
            assert late.is_paused
            await cabinet.until(lambda: not cabinet.link.is_paused)
            await cabinet.until(lambda: cabinet.metrics.value("rejected", reason="unknown_node") == count)
            cabinet.hear(node.frame())
            await cabinet.acknowledgement()
            assert len(await cabinet.store.read(cabinet.store.outbox.rejects, 1_000)) <= 60

    play(story)


def test_refusals_are_kept_with_reason_link_and_octets(city: City, node: SenderNode, tmp_path: Path) -> None:
    """What `lamppost-gateway rejects` shows."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            told: list[Any] = []
            cabinet.receiver.on_reject.append(lambda *reject: told.append(reject))
            stranger = SenderNode(0x99, 1).frame()
            cabinet.hear(stranger, at_ms=77)
            cabinet.hear(b"\xff", at_ms=78)
            cabinet.hear(b"?", message_type=slip.RADIO_RECEIVED, at_ms=79)
            cabinet.hear(b"to a technician beside us", message_type=slip.SERVICE_ANSWER, at_ms=79)  # none of ours, and no fault
            signal = Signal("roof", 868_100_000, 9, -118, -30, 20, 0)
            cabinet.receiver.heard(cabinet.link, slip.FRAME, b"\xfe", 80, signal)
            await cabinet.until(lambda: len(told) == 4)
            kept: list[Any] = []
            async with asyncio.timeout(10):
                while len(kept) < 4:
                    kept = await cabinet.store.read(cabinet.store.outbox.rejects, 10)
                    await asyncio.sleep(0.05)
            assert [(r.reason, r.node, r.link, r.at_ms, r.data) for r in sorted(kept, key=lambda r: r.at_ms)] == [
                ("unknown_node", 0x99, "line0", 77, stranger),
                ("bad_cose", None, "line0", 78, b"\xff"),
                ("bad_type", None, "line0", 79, b"?"),
                ("bad_cose", None, "line0", 80, b"\xfe"),
            ]
            assert {r.at_ms: r.signal for r in kept if r.signal} == {80: "roof SF9 -118 dBm, -7.5 dB over noise"}

    play(story)


def test_hello_and_log_lines_are_handed_on_but_bounded_and_never_believed(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A hello gives a route only where no signed frame gave one; strangers and other networks give none."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            hellos: list[Any] = []
            logs: list[Any] = []
            cabinet.receiver.unsigned.on_hello.append(lambda link, hello: hellos.append((link, hello.node)))
            cabinet.receiver.unsigned.on_log.append(lambda link, text: logs.append(text))
            other = MemoryLink("line1")
            cabinet.downlinks.add_link(other)
            cabinet.hear(node.hello(), slip.HELLO, other)
            assert hellos == [("line1", 0x11)]
            assert cabinet.downlinks.link_of(0x11) == "line1"
            assert cabinet.downlinks.heard_at_ms(0x11) is None
            cabinet.hear(node.frame())
            await cabinet.acknowledgement()
            cabinet.hear(node.hello(), slip.HELLO, other)
            assert cabinet.downlinks.link_of(0x11) == "line0"
            assert cabinet.downlinks.send(0x11, b"down")
            assert cabinet.link.sent == [b"down"]
            cabinet.link.is_up = False
            cabinet.hear(node.hello(), slip.HELLO, other)
            assert cabinet.downlinks.link_of(0x11) == "line1"
            cabinet.hear(SenderNode(0x99, 1).hello(), slip.HELLO)
            cabinet.hear(node.hello(network=5), slip.HELLO)
            cabinet.hear(b"\xff", slip.HELLO)
            assert [cabinet.metrics.value("rejected", reason=r) for r in ("unknown_node", "foreign_network", "bad_payload")] == [1] * 3
            assert cabinet.downlinks.link_of(0x99) is None
            for _ in range(100):
                cabinet.hear(b"boot \x1b[31mred\n" + bytes(300), slip.LOG, other)
            assert 10 < len(logs) <= 20
            assert "\x1b" not in logs[0]
            assert "\n" not in logs[0]

    play(story)


def test_a_frame_far_ahead_is_refused_before_it_grows_the_bitmap(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A node gone mad, or its key stolen, cannot make the gateway hold a bitmap of 2^47 bits."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(node.frame(n=1 << 47, behind=(1 << 47) - 1))
            cabinet.hear(node.frame(n=70_000, behind=69_999))
            await cabinet.until(lambda: cabinet.metrics.value("rejected", reason="bad_payload") == 2)
            cabinet.hear(node.frame(n=60_000, behind=59_999))
            await cabinet.acknowledgement()
            cabinet.hear(node.frame(n=1 << 47, behind=10))
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert (ack.highest, ack.bitmap) == ((1 << 47) - 11, 1 << 10)

    play(story)


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.binary(max_size=120)).map(lambda pair: (pair[0] % 7, pair[1])),
        max_size=20,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_a_peer_sends_raises_or_stops_the_service(
    city: City, node: SenderNode, tmp_path_factory: pytest.TempPathFactory, messages: list[tuple[int, bytes]]
) -> None:
    """Any octets under any message type: refused, and the next good frame is acknowledged."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path_factory.mktemp("any"))) as cabinet:
            for message_type, body in messages:
                cabinet.hear(body, message_type)
            cabinet.hear(node.frame())
            node.acknowledged(await cabinet.acknowledgement())

    play(story)
