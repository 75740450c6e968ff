"""Releases at the gateway: bodies from a real broker to the disk, pieces to nodes whose order names them and to nobody else."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway.errors import ReleaseError
from lamppost_gateway.release_store import KEPT, ReleaseStore
from lamppost_gateway.status_cli import attention
from lamppost_protocol import kinds, orders, releases
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.releases import Manifest, Want

EACH_BROKER = pytest.mark.parametrize("broker", ["amqtt", pytest.param("mosquitto", marks=pytest.mark.mosquitto)], indirect=True)
ISSUER = 0xC0FFEE01
BODY = bytes(range(256)) * 9 + b"end"  # 2307 octets: twelve pieces, the last of 107
DIGEST = hashlib.sha256(BODY).digest()
BIN = [2, -30, 2, None, None, 213, 1]


def other(number: int) -> tuple[bytes, bytes]:
    body = b"body %d" % number
    return hashlib.sha256(body).digest(), body


def update(street: Any, node: int, order_id: int, body: bytes = BODY, **how: Any) -> dict[str, Any]:
    """A signed update order for a body."""
    manifest = Manifest(3, bytes(8), "0.2.0", 0, len(body), hashlib.sha256(body).digest())
    signed = releases.seal_manifest(street.authority.signer, street.config.gateway.network, ISSUER, manifest)
    document: dict[str, Any] = street.authority.order(node, order_id, verb=orders.UPDATE, target=0, args=(signed,), **how)
    return document


def want(street: Any, node: int, first: int = 0, count: int = 8, release: bytes = DIGEST[:8], link: str = "line") -> None:
    street.releases.want_heard(link, Want(street.config.gateway.network, node, release, first, count))


def got(street: Any) -> list[releases.Piece]:
    return [releases.decode_piece(octets) for octets in street.link.pieces]


def counted(street: Any, name: str, **labels: str) -> float:
    return street.metrics.registry.get_sample_value(f"lamppost_gateway_{name}_total", labels) or 0.0


async def taken(street: Any, document: dict[str, Any]) -> None:
    import json

    await street.orders.take_order(json.dumps(document).encode())


@pytest.fixture
def quiet_street(bench: Any, tmp_path: Any) -> Any:
    """A street whose broker never answers."""
    return bench.Street(tmp_path, bench.free_port())


@EACH_BROKER
def test_a_body_from_the_broker_reaches_the_node_that_has_an_order(bench: Any, street: Any, broker: Any) -> None:
    """Retained before the gateway came: kept on disk, and every piece of it goes out in order, once, when the node asks."""

    async def test() -> None:
        async with bench.Subscriber(broker.port).listening() as city:
            await city.client.publish(f"lamppost/v1/{bench.NETWORK:08x}/release/{DIGEST.hex()}", BODY, qos=1, retain=True)
            async with street.running():
                await bench.until(lambda: counted(street, "releases_received", result="kept") == 1)
                assert (street.folder / "releases" / DIGEST.hex()).read_bytes() == BODY
                await street.commit(street.nodes[0x11].frame(BIN))
                await city.publish("order/signed", update(street, 0x11, 7))
                await bench.until(lambda: street.link.sent != [])
                want(street, 0x11)
                await bench.until(lambda: len(street.link.pieces) == 8)
                want(street, 0x11, 1600)
                await bench.until(lambda: len(street.link.pieces) == 12)
                assert [piece.offset for piece in got(street)] == list(range(0, 2400, 200))
                assert b"".join(piece.octets for piece in got(street)) == BODY
                (fetch,) = street.releases.describe()["fetches"]
                assert (fetch["node"], fetch["version"], fetch["offset"], fetch["bytes"]) == ("00000011", "0.2.0", 1600, len(BODY))
                await street.commit(street.nodes[0x11].frame([kinds.ORDER_STATE, 0, 0, 7, orders.VERIFIED, 0, None, None, None]))
                await bench.until(lambda: street.orders.open_count == 0)
                want(street, 0x11)
                assert counted(street, "release_wants_refused", reason="no_order") == 1
                assert street.releases.describe()["fetches"] == []
                assert counted(street, "release_pieces", link="line") == 12

    bench.run(test)


@EACH_BROKER
def test_what_is_no_release_is_refused_by_name_and_kept_as_a_reject(bench: Any, street: Any, broker: Any) -> None:
    """A digest of something else, a topic that is no digest, one octet too many: nothing is on disk, all three are told."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            root = f"lamppost/v1/{bench.NETWORK:08x}/release/"
            long = bytes(releases.MAX_BODY_BYTES + 1)
            for name, body in ((DIGEST.hex(), BODY[:-1]), ("latest", BODY), (hashlib.sha256(long).hexdigest(), long)):
                await city.client.publish(root + name, body, qos=1)
            await bench.until(lambda: counted(street, "releases_received", result="refused") == 3)
            await bench.until(lambda: len(city.documents("/reject")) == 3)
            assert [item["reason"] for item in city.documents("/reject")] == ["bad_release", "bad_payload", "too_long"]
            assert list((street.folder / "releases").iterdir()) == []
            await bench.until(is_kept)
            largest = bytes(releases.MAX_BODY_BYTES)
            await city.client.publish(root + hashlib.sha256(largest).hexdigest(), largest, qos=1)
            await bench.until(lambda: counted(street, "releases_received", result="kept") == 1)

    async def is_kept() -> bool:
        rejects = await street.store.read(street.store.outbox.rejects, 10)
        return sorted(item.reason for item in rejects) == ["bad_payload", "bad_release", "too_long"]

    bench.run(test)


def test_pieces_go_to_no_node_without_an_order_for_that_body(bench: Any, quiet_street: Any) -> None:
    """No order, an order for another body, an order that is over, an order of another verb, another node's order: counted, silent."""
    street = quiet_street

    async def test() -> None:
        async with street.running():
            digest, body = other(1)
            for each, octets in ((DIGEST, BODY), (digest, body)):
                await street.releases.take(each.hex(), octets)
            want(street, 0x11)
            await taken(street, update(street, 0x11, 7, body))
            await taken(street, street.authority.order(0x22, 8))
            await taken(street, update(street, 0x33, 9, life_s=60))
            want(street, 0x11)
            want(street, 0x22)
            want(street, 0x99)
            street.wall_offset_s = 61.0
            want(street, 0x33)
            assert counted(street, "release_wants_refused", reason="no_order") == 5
            street.wall_offset_s = 0.0
            want(street, 0x33, first=2400)
            assert counted(street, "release_wants_refused", reason="behind_end") == 1
            await asyncio.sleep(0.05)  # far longer than this line takes for a piece
            assert street.link.pieces == []
            want(street, 0x33)
            await bench.until(lambda: len(street.link.pieces) == 8)

    bench.run(test)


def test_a_line_keeps_half_of_its_time_and_pieces_go_behind_all_else(bench: Any, quiet_street: Any) -> None:
    """One piece at a time, none while anything waits on the line, nodes in turn; a new want replaces the old one."""
    street = quiet_street

    async def test() -> None:
        async with street.running():
            await street.releases.take(DIGEST.hex(), BODY)
            for number, node in enumerate((0x11, 0x22)):
                await taken(street, update(street, node, 7 + number))
            street.link.waiting_bytes = 1
            want(street, 0x11)
            want(street, 0x22, first=400)
            await asyncio.sleep(0.05)
            assert street.link.pieces == []
            street.link.waiting_bytes = 0
            await bench.until(lambda: len(street.link.pieces) >= 4)
            assert [piece.offset for piece in got(street)][:4] == [0, 400, 200, 600]
            want(street, 0x11, first=2000, count=1)
            await bench.until(lambda: len(street.link.pieces) >= 10)
            offsets = [piece.offset for piece in got(street)]
            assert offsets.count(2000) == 1
            assert 1400 not in offsets or offsets.index(1400) > 3  # only the second node goes so far
            begin_s = asyncio.get_running_loop().time()
            street.link.carry_s = lambda octets: octets / 10_000  # 20 ms a piece
            street.link.pieces.clear()
            want(street, 0x22, first=0, count=8)
            await bench.until(lambda: len(street.link.pieces) >= 8)
            assert asyncio.get_running_loop().time() - begin_s >= 7 * 2 * 0.02

    bench.run(test)


def test_a_line_that_goes_away_ends_the_sending(bench: Any, quiet_street: Any) -> None:
    """What was asked for is forgotten; the node asks again when it is there again."""
    street = quiet_street

    async def test() -> None:
        async with street.running():
            await street.releases.take(DIGEST.hex(), BODY)
            await taken(street, update(street, 0x11, 7))
            want(street, 0x11, link="elsewhere")
            assert counted(street, "release_wants_refused", reason="no_link") == 1
            street.link.is_up = False
            want(street, 0x11)
            await asyncio.sleep(0.02)
            street.link.is_up = True
            await asyncio.sleep(0.02)
            assert street.link.pieces == []
            want(street, 0x11, count=2)
            await bench.until(lambda: len(street.link.pieces) == 2)

    bench.run(test)


def test_the_newest_and_what_an_order_needs_are_kept(bench: Any, quiet_street: Any) -> None:
    """Five more bodies, and the topic cleared: the one that an order names outlives both; without the order it goes."""
    street = quiet_street

    async def test() -> None:
        async with street.running():
            await street.releases.take(DIGEST.hex(), BODY)
            await taken(street, update(street, 0x11, 7))
            for number in range(KEPT + 1):
                digest, body = other(number)
                await street.releases.take(digest.hex(), body)
            await street.releases.take(DIGEST.hex(), b"")
            assert {held["digest"] for held in street.releases.describe()["held"]} == {
                DIGEST.hex(),
                *(other(number)[0].hex() for number in range(1, KEPT + 1)),
            }
            want(street, 0x11)
            await bench.until(lambda: len(street.link.pieces) == 8)
            street.wall_offset_s = 3600.0
            await street.releases.take(DIGEST.hex(), b"")
            assert street.release_store.get(DIGEST[:8]) is None
            assert not (street.folder / "releases" / DIGEST.hex()).exists()

    bench.run(test)


@EACH_BROKER
def test_a_disk_that_is_short_says_so_and_asks_again(bench: Any, street: Any, broker: Any) -> None:
    """Refused and told in the status, orders go on meanwhile; with room again the broker is asked for what it retains."""
    street.free_bytes = 1 << 20

    async def test() -> None:
        async with bench.Subscriber(broker.port).listening() as city:
            await city.client.publish(f"lamppost/v1/{bench.NETWORK:08x}/release/{DIGEST.hex()}", BODY, qos=1, retain=True)
            async with street.running():
                await bench.until(lambda: counted(street, "releases_received", result="no_room") >= 1)
                await street.commit(street.nodes[0x11].frame(BIN))
                await city.publish("order/signed", update(street, 0x11, 7))
                await bench.until(lambda: street.link.sent != [])
                want(street, 0x11)
                assert counted(street, "release_wants_refused", reason="not_held") == 1
                status = {"broker": {"state": "connected"}, "releases": street.releases.describe()}
                assert DIGEST.hex()[:16] in attention(status)[0]
                street.free_bytes = 1 << 40
                await bench.until(lambda: counted(street, "releases_received", result="kept") == 1)
                assert attention({**status, "releases": street.releases.describe()}) == []

    bench.run(test)


def test_a_crash_leaves_whole_bodies_and_a_rotten_one_is_not_served(bench: Any, quiet_street: Any) -> None:
    """Half-written files go at the start, whole ones are there again, and one whose octets changed on disk is let go of."""
    street = quiet_street
    folder: Path = street.folder / "releases"
    folder.mkdir()
    digest, body = other(1)
    (folder / DIGEST.hex()).write_bytes(BODY)
    (folder / digest.hex()).write_bytes(body[:-1] + b"?")
    (folder / f"{DIGEST.hex()}.new").write_bytes(BODY[:10])

    async def test() -> None:
        async with street.running():
            assert sorted(path.name for path in folder.iterdir()) == sorted([DIGEST.hex(), digest.hex()])
            for number, each in enumerate((BODY, body)):
                await taken(street, update(street, 0x11, 7 + number, each))
            want(street, 0x11)
            await bench.until(lambda: len(street.link.pieces) == 8)
            want(street, 0x11, release=digest[:8])
            assert counted(street, "release_wants_refused", reason="not_held") == 1
            assert [path.name for path in folder.iterdir()] == [DIGEST.hex()]

    bench.run(test)


def test_a_failing_disk_keeps_nothing_and_raises_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder cannot be written: ReleaseError; the digest is checked before anything else is tried."""
    store = ReleaseStore(tmp_path / "releases", lambda _: 1 << 40)
    store.load()
    with pytest.raises(RemoteError, match="bad_release"):
        asyncio.run(store.put(DIGEST, BODY + b"!", set()))

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ReleaseError, match="No space left"):
            asyncio.run(store.put(DIGEST, BODY, set()))
    assert list((tmp_path / "releases").iterdir()) == []
    assert store.held() == []
    assert asyncio.run(store.put(DIGEST, BODY, set())) is True
    assert asyncio.run(store.put(DIGEST, BODY, set())) is False
