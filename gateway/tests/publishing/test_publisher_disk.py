"""The disk is full: what is already stored still reaches the city, once; orders wait at the broker."""

import asyncio
import socket
from typing import Any

import pytest

BIN = [2, -30, 2, None, None, 213, 1]


def test_confirmed_rows_are_not_sent_again_while_the_disk_cannot_note_it(bench: Any, street: Any, broker: Any) -> None:
    """Marks wait in memory, a reconnect does not resend those rows, and they are written when there is room."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            await street.commit(street.nodes[0x11].frame(BIN), street.nodes[0x11].frame(BIN))
            street.store.outbox.is_full = True
            await bench.until(lambda: len(city.documents("/record/")) == 2)
            await bench.until(lambda: street.publisher._connection.in_flight == 0)
            street.publisher._connection._client.socket().shutdown(socket.SHUT_RDWR)
            await bench.until(lambda: [d["state"] for d in city.documents("/health")] == ["online", "offline", "online"])
            await asyncio.sleep(0.3)
            assert [d["n"] for d in city.documents("/record/")] == [1, 2]
            street.store.outbox.is_full = False
            await street.until_marked()
            assert [d["n"] for d in city.documents("/record/")] == [1, 2]

    bench.run(test)


def test_order_waits_at_the_broker_until_there_is_room(bench: Any, street: Any, broker: Any) -> None:
    """No PUBACK for an order that is not on disk; it is taken when the disk has room, and nothing else suffers."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            await street.commit(street.nodes[0x11].frame(BIN))
            await street.until_marked()
            street.store.outbox.is_full = True
            document = street.authority.order(0x11, 7)
            await city.publish("order/signed", document)
            await asyncio.sleep(0.3)
            assert street.link.sent == []
            assert street.publisher.state == "connected"
            street.store.outbox.is_full = False
            await bench.until(lambda: street.link.sent == [bytes.fromhex(document["frame"])])
            await bench.until(lambda: [d["state"] for d in city.documents("/order/7/state")] == ["queued", "sent"])

    bench.run(test)


@pytest.mark.mosquitto
def test_order_not_yet_on_disk_is_the_brokers_when_the_gateway_dies(bench: Any, mosquitto: Any, tmp_path: Any) -> None:
    """The gateway ends while an order waits for the disk; the broker delivers it again to the next run."""
    broker = mosquitto
    broker.start()
    street = bench.Street(tmp_path, broker.port)
    document = street.authority.order(0x11, 7)

    async def before() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            await street.commit(street.nodes[0x11].frame(BIN))
            await street.until_marked()
            street.store.outbox.is_full = True
            await city.publish("order/signed", document)
            await bench.until(lambda: document["frame"].encode() in b"".join(city.payloads("order/signed")))
            await asyncio.sleep(0.3)

    async def after() -> None:
        async with street.running():
            await street.commit(street.nodes[0x11].frame(BIN))
            await bench.until(lambda: street.link.sent == [bytes.fromhex(document["frame"])])

    try:
        bench.run(before)
        bench.run(after)
    finally:
        broker.kill()
