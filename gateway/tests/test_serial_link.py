"""The serial link on real ptys: any chunking, noise, pulled and plugged, full write side, exclusive use (R34)."""

import asyncio
import contextlib
import io
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway import log
from lamppost_gateway.backoff import Backoff
from lamppost_gateway.links.base import Link, Signal
from lamppost_gateway.links.serial import SerialLink
from lamppost_gateway.metrics import Metrics
from lamppost_protocol import slip
from street.gateway_rig import PtyLine


class Ear:
    """Keeps what the link hands up."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.changes: list[bool] = []

    def heard(self, link: Link, message_type: int, body: bytes, received_at_ms: int, signal: Signal | None = None) -> None:
        self.messages.append((message_type, body))

    def link_changed(self, link: Link) -> None:
        self.changes.append(link.is_up)


class Bench:
    def __init__(self, path: Path) -> None:
        self.line = PtyLine(path)
        self.ear = Ear()
        self.metrics = Metrics()
        self.link = SerialLink("line0", path, 115_200, self.ear, self.metrics, Backoff(0.01, 0.05))

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"lamppost_gateway_{name}", {"link": "line0", **labels}) or 0.0

    async def until(self, ready: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not ready():
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(path: Path) -> AsyncIterator[Bench]:
    bench = Bench(path)
    task = asyncio.create_task(bench.link.run())
    try:
        await bench.until(lambda: bench.link.is_up)
        yield bench
    finally:
        task.cancel()
        await asyncio.wait([task])
        bench.line.unplug()
    assert not bench.link.is_up
    assert bench.metrics.undeclared == frozenset()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await story()

    asyncio.run(limited())


def test_messages_arrive_whatever_the_chunking(tmp_path: Path) -> None:
    """Whole, split everywhere, five at once."""

    async def story() -> None:
        async with running(tmp_path / "tty") as bench:
            source = random.Random(3)
            sent = [(slip.FRAME, source.randbytes(source.randrange(1, 300))) for _ in range(60)]
            stream = b"".join(slip.encode(*message) for message in sent)
            at = 0
            while at < len(stream):
                size = source.choice((1, 2, 3, 40, 700))
                bench.line.send_raw(stream[at : at + size])
                at += size
                await asyncio.sleep(0)
            await bench.until(lambda: len(bench.ear.messages) == len(sent))
            assert bench.ear.messages == sent

    play(story)


def test_noise_costs_itself_alone_and_is_counted(tmp_path: Path) -> None:
    """Leftovers of a torn message and a burst of noise between two good ones."""

    async def story() -> None:
        async with running(tmp_path / "tty") as bench:
            bench.line.send_raw(slip.encode(slip.FRAME, b"torn away")[:-4])
            bench.line.send(slip.FRAME, b"one")
            bench.line.send_raw(random.Random(5).randbytes(2_000).replace(b"\xc0", b"\xc1"))
            bench.line.send(slip.LOG, b"two")
            bench.line.send_raw(b"\xc0" + bytes(5_000))
            bench.line.send(slip.FRAME, b"three")
            bad = bytearray(slip.encode(slip.FRAME, b"flipped"))
            bad[3] ^= 1
            bench.line.send_raw(bytes(bad))
            await bench.until(lambda: len(bench.ear.messages) >= 3 and bench.value("serial_errors_total", kind="bad_crc") >= 2)
            assert bench.ear.messages == [(slip.FRAME, b"one"), (slip.LOG, b"two"), (slip.FRAME, b"three")]
            assert bench.value("serial_errors_total", kind="too_long") == 1

    play(story)


def test_pulled_and_plugged_again(tmp_path: Path) -> None:
    """One warning, counted, back by itself on a new device under the same name; what was half sent is gone."""
    stream = io.StringIO()
    log.set_up("info", stream)

    async def story() -> None:
        async with running(tmp_path / "tty") as bench:
            bench.line.send_raw(slip.encode(slip.FRAME, b"half of this")[:6])
            bench.line.unplug()
            await bench.until(lambda: not bench.link.is_up)
            assert not bench.link.send(slip.FRAME, b"nobody")
            assert bench.value("link_up") == 0
            await asyncio.sleep(0.2)
            bench.line.plug()
            await bench.until(lambda: bench.link.is_up)
            bench.line.send(slip.FRAME, b"again")
            await bench.until(lambda: bench.ear.messages)
            assert bench.ear.messages == [(slip.FRAME, b"again")]
            assert bench.link.send(slip.FRAME, b"down")
            await bench.until(lambda: (slip.FRAME, b"down") in bench.line.take())
            assert bench.ear.changes == [True, False, True]
            assert bench.value("link_lost_total") == 1
            assert bench.value("link_opened_total") == 2
            assert bench.value("link_up") == 1

    play(story)
    events = [line.split("event=")[1].split()[0] for line in stream.getvalue().splitlines()]
    assert events == ["link_opened", "link_failed", "link_recovered"]


def test_a_missing_port_does_not_stop_the_start(tmp_path: Path) -> None:
    """The link waits for its port for as long as it takes."""

    async def story() -> None:
        bench = Bench(tmp_path / "tty")
        bench.line.unplug()
        task = asyncio.create_task(bench.link.run())
        await asyncio.sleep(0.1)
        assert not bench.link.is_up
        assert not task.done()
        bench.line.plug()
        await bench.until(lambda: bench.link.is_up)
        task.cancel()
        await asyncio.wait([task])
        bench.line.unplug()

    play(story)


@pytest.mark.parametrize("content", [None, b"a file"])
def test_what_is_no_port_is_refused_and_tried_again(tmp_path: Path, content: bytes | None) -> None:
    """A folder or a plain file at the configured path."""
    path = tmp_path / "tty"
    path.mkdir() if content is None else path.write_bytes(content)

    async def story() -> None:
        link = SerialLink("line0", path, 115_200, Ear(), Metrics(), Backoff(0.01, 0.02))
        task = asyncio.create_task(link.run())
        await asyncio.sleep(0.1)
        assert not link.is_up
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])

    play(story)


def test_the_port_is_held_alone(tmp_path: Path) -> None:
    """A second opener is refused instead of stealing half of the octets."""

    async def story() -> None:
        async with running(tmp_path / "tty") as bench:
            second = SerialLink("line1", tmp_path / "tty", 115_200, Ear(), Metrics(), Backoff(0.01, 0.02))
            task = asyncio.create_task(second.run())
            await asyncio.sleep(0.1)
            assert not second.is_up
            task.cancel()
            await asyncio.wait([task])
            assert bench.link.is_up

    play(story)


def test_the_write_side_is_bounded_and_sends_whole_messages_only(tmp_path: Path) -> None:
    """A peer that does not read costs no memory; what it reads later is intact messages in order."""

    async def story() -> None:
        async with running(tmp_path / "tty") as bench:
            accepted = 0
            body = bytes(range(256)) * 3
            while bench.link.send(slip.FRAME, body + accepted.to_bytes(4, "big")):
                accepted += 1
                assert accepted < 2_000
            assert bench.value("downlink_dropped_total") == 1
            got: list[tuple[int, bytes]] = []

            def read_all() -> bool:
                got.extend(bench.line.take())
                return len(got) == accepted

            await bench.until(read_all)
            assert [int.from_bytes(data[-4:], "big") for _, data in got] == list(range(accepted))
            assert bench.link.send(slip.FRAME, b"room again")

    play(story)


def test_a_paused_link_reads_nothing_until_resumed_even_across_a_replug(tmp_path: Path) -> None:
    """Backpressure: the octets wait in the kernel."""

    async def story() -> None:
        async with running(tmp_path / "tty") as bench:
            bench.link.pause()
            bench.line.send(slip.FRAME, b"waits")
            await asyncio.sleep(0.05)
            assert bench.ear.messages == []
            bench.link.resume()
            await bench.until(lambda: bench.ear.messages == [(slip.FRAME, b"waits")])

    play(story)


def test_silence_and_hangs_cost_no_cpu(tmp_path: Path) -> None:
    """A hung-up line is let go of instead of being read in a loop."""

    async def story() -> None:
        async with running(tmp_path / "tty") as bench:
            before = os.times()
            bench.line.unplug()
            await bench.until(lambda: not bench.link.is_up)
            await asyncio.sleep(0.3)
            after = os.times()
            assert (after.user + after.system) - (before.user + before.system) < 0.2

    play(story)
