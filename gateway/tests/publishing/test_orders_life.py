"""An order's life at the gateway: from the broker to the link, and its states back."""

import asyncio
import json
import time
from typing import Any

import pytest
from lamppost_protocol import frames, hello, kinds, orders

EACH_BROKER = pytest.mark.parametrize("broker", ["amqtt", pytest.param("mosquitto", marks=pytest.mark.mosquitto)], indirect=True)
BIN = [2, -30, 2, None, None, 213, 1]


def state_record(order_id: int, state: int, reason: int = 0) -> list[Any]:
    return [kinds.ORDER_STATE, 0, 0, order_id, state, reason, 60, 800, 472]


async def taken(street: Any, document: Any) -> None:
    """Hand a document in as the publisher does."""
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    await street.orders.take_order(payload)


def counted(street: Any, name: str, **labels: str) -> float:
    value: float | None = street.metrics.registry.get_sample_value(f"lamppost_gateway_{name}_total", labels)
    return value or 0.0


async def states(street: Any, order_id: int) -> list[int]:
    events = await street.store.read(street.store.outbox.pending_order_events, 1000)
    return [event.state for event in events if event.order_id == order_id]


@pytest.fixture
def quiet_street(bench: Any, tmp_path: Any) -> Any:
    """A street whose broker never answers: only the order room is looked at."""
    return bench.Street(tmp_path, bench.free_port())


@EACH_BROKER
def test_order_goes_through_its_states_to_verified(bench: Any, street: Any, broker: Any) -> None:
    """Queued, sent, accepted, applied, verified on the order's retained topic; the last with the evidence."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            node = street.nodes[0x11]
            await street.commit(node.frame(BIN))
            document = street.authority.order(0x11, 7)
            await city.publish("order/signed", document)
            await bench.until(lambda: street.link.sent == [bytes.fromhex(document["frame"])])
            for state in (orders.ACCEPTED, orders.APPLIED, orders.VERIFIED):
                await street.commit(node.frame(state_record(7, state)))
            await bench.until(lambda: len(city.documents("/order/7/state")) == 5)
            told = [item["state"] for item in city.documents("/order/7/state")]
            assert told == ["queued", "sent", "accepted", "applied", "verified"]
            evidence = city.documents("/order/7/state")[-1]["evidence"]
            assert (evidence["by"], evidence["n"], evidence["power_after"]["value"]) == ("node", 4, 47.2)
            assert street.orders.open_count == 0
            async with bench.Subscriber(broker.port, "lamppost/v1/+/order/+/state").listening() as late:
                await bench.until(lambda: late.messages != [])
                assert late.documents("/state")[0]["state"] == "verified"

    bench.run(test)


@EACH_BROKER
def test_garbage_on_the_order_topic(bench: Any, street: Any, broker: Any) -> None:
    """Anything from the broker account: nothing is sent, the gateway goes on, refusals are kept and published."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            await street.commit(street.nodes[0x11].frame(BIN))
            good = street.authority.order(0x11, 7)
            hex_node = good["node"]
            for garbage in (
                b"",
                b"\xff\xfe",
                b"[]",
                b"null",
                b"[" * 5000,
                b'{"node": 5}',
                {"node": hex_node, "frame": "zz"},
                {"node": hex_node, "frame": ""},
                {"node": hex_node, "frame": "d284"},
                {"node": [hex_node], "frame": good["frame"]},
                {"node": hex_node, "frame": good["frame"][:-2]},
                {"node": hex_node, "frame": good["frame"], "epoch": 2},
                {"node": hex_node, "frame": "00" * 9000},
            ):
                await city.publish("order/signed", garbage)
                await city.publish("beacon/signed", garbage)
            await city.publish("order/signed", good)
            await bench.until(lambda: street.link.sent != [])
            assert street.link.sent == [bytes.fromhex(good["frame"])]
            await bench.until(lambda: len(city.documents("/reject")) >= 5)
            assert counted(street, "orders_received", result="refused") == 13
            assert all(item["link"] == "broker" for item in city.documents("/reject"))

    bench.run(test)


_FORGERIES = [
    ("another key", {}, "bad_signature"),
    ("another network", {"network": 5}, "bad_signature"),
    ("another node", {"signed_for": 0x22}, "bad_signature"),
    ("another epoch", {"epoch": 2}, "bad_signature"),
    ("another direction", {"direction": frames.BEACON}, "bad_signature"),
    ("an uplink frame", {"direction": frames.UPLINK}, "bad_signature"),
    ("another issuer", {"kid": 5}, "unknown_issuer"),
]


@pytest.mark.parametrize(("what", "context", "reason"), _FORGERIES, ids=[item[0] for item in _FORGERIES])
def test_forged_order_is_refused(bench: Any, quiet_street: Any, what: str, context: dict[str, Any], reason: str) -> None:
    """Not the authority, or not for this network, node, epoch or direction: kept as a reject, never queued or sent."""
    street = quiet_street
    authority = bench.Authority() if what == "another key" else street.authority
    how = dict(context)
    document = authority.order(how.pop("signed_for", 0x11), 7, **how) | {"node": "00000011"}

    async def test() -> None:
        async with street.running():
            await street.commit(street.nodes[0x11].frame(BIN))
            await taken(street, document)
            assert await street.store.read(street.store.outbox.get_order, 7) is None
            assert street.orders.open_count == 0
            assert street.link.sent == []
            assert counted(street, "rejected", reason=reason) == 1
            await bench.until(is_kept)

    async def is_kept() -> bool:
        rejects = await street.store.read(street.store.outbox.rejects, 10)
        return [(item.reason, item.link, item.data) for item in rejects] == [(reason, "broker", bytes.fromhex(document["frame"]))]

    bench.run(test)


def test_bit_flips_are_never_queued(bench: Any, quiet_street: Any) -> None:
    """No single flipped bit of a signed order gets it through."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            document = street.authority.order(0x11, 7)
            frame = bytes.fromhex(document["frame"])
            for bit in range(0, len(frame) * 8, 3):
                flipped = bytearray(frame)
                flipped[bit // 8] ^= 1 << bit % 8
                await taken(street, document | {"frame": flipped.hex()})
            assert street.orders.open_count == 0
            assert counted(street, "orders_received", result="refused") == len(range(0, len(frame) * 8, 3))

    bench.run(test)


def test_orders_of_other_gateways_are_ignored_quietly(bench: Any, quiet_street: Any) -> None:
    """A node this gateway does not serve is no refusal: no ledger entry, no signature checked."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            await taken(street, street.authority.order(0x99, 7))
            assert counted(street, "orders_received", result="not_ours") == 1
            assert await street.store.read(street.store.outbox.rejects, 10) == []

    bench.run(test)


def test_order_for_an_absent_node_waits_and_survives_a_restart(bench: Any, quiet_street: Any) -> None:
    """Queued on disk until the node is heard, in another run of the gateway if need be; sent at once then."""
    street = quiet_street
    document = street.authority.order(0x11, 7)

    async def before() -> None:
        async with street.running():
            await taken(street, document)
            await asyncio.sleep(0)
            assert street.link.sent == []

    async def after() -> None:
        async with street.running():
            await bench.until(lambda: street.orders.open_count == 1)
            since_s = time.monotonic()
            await street.commit(street.nodes[0x11].frame(BIN))
            await bench.until(lambda: street.link.sent == [bytes.fromhex(document["frame"])])
            assert time.monotonic() - since_s < 2
            assert await states(street, 7) == [orders.QUEUED, orders.SENT]

    bench.run(before)
    bench.run(after)


def test_repeated_order_document_is_not_queued_twice(bench: Any, quiet_street: Any) -> None:
    """QoS 1 delivers twice now and then, and the authority repeats itself."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            document = street.authority.order(0x11, 7)
            for _ in range(3):
                await taken(street, document)
            assert await states(street, 7) == [orders.QUEUED]
            assert counted(street, "orders_received", result="repeated") == 2

    bench.run(test)


def test_unanswered_order_is_sent_again_until_the_node_speaks(bench: Any, quiet_street: Any) -> None:
    """Resent with growing pauses; a signed answer ends it."""

    async def test() -> None:
        street = quiet_street
        async with street.running(resend_first_s=0.05):
            node = street.nodes[0x11]
            await street.commit(node.frame(BIN))
            await taken(street, street.authority.order(0x11, 7))
            await bench.until(lambda: len(street.link.sent) >= 3)
            await street.commit(node.frame(state_record(7, orders.ACCEPTED)))
            await bench.until(lambda: heard(street))
            sent = len(street.link.sent)
            await asyncio.sleep(1.0)
            assert len(street.link.sent) == sent

    async def heard(street: Any) -> bool:
        return orders.ACCEPTED in await states(street, 7)

    bench.run(test)


def test_orders_of_one_node_go_in_order_of_their_ids(bench: Any, quiet_street: Any) -> None:
    """A node never obeys an id below one it obeyed, so the second waits for the answer to the first."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            node = street.nodes[0x11]
            first, second = street.authority.order(0x11, 7), street.authority.order(0x11, 8)
            await taken(street, second)
            await taken(street, first)
            await street.commit(node.frame(BIN))
            await bench.until(lambda: street.link.sent != [])
            await asyncio.sleep(0.3)
            assert street.link.sent == [bytes.fromhex(first["frame"])]
            await street.commit(node.frame(state_record(7, orders.ACCEPTED)))
            await bench.until(lambda: bytes.fromhex(second["frame"]) in street.link.sent)

    bench.run(test)


def test_order_never_sent_expires_by_the_gateways_word(bench: Any, quiet_street: Any) -> None:
    """Past its end and never sent: expired, and the evidence says whose word that is."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            await taken(street, street.authority.order(0x11, 7, life_s=600))
            street.wall_offset_s = 601.0
            street.orders.hello_heard("line", hello.Hello(bench.NETWORK, 0x11, 1, 0, None, 1, 1, ""))
            await bench.until(lambda: expired(street))
            await bench.until(lambda: street.orders.open_count == 0)
            assert street.link.sent == []

    async def expired(street: Any) -> bool:
        events = await street.store.read(street.store.outbox.pending_order_events, 10)
        return [(e.state, json.loads(e.evidence)) for e in events][1:] == [
            (orders.EXPIRED, {"by": "gateway", "attempts": 0, "answered": False})
        ]

    bench.run(test)


def test_an_order_past_its_end_is_not_sent_again(bench: Any, quiet_street: Any) -> None:
    """Sent into a window that nobody heard; its node sleeps past its end: when it is heard it gets the next order, never this one."""

    async def test() -> None:
        street = quiet_street
        async with street.running(resend_first_s=0.05):
            node = street.nodes[0x11]
            short, long = street.authority.order(0x11, 7, life_s=600), street.authority.order(0x11, 8, life_s=90_000)
            await street.commit(node.frame(BIN))
            await taken(street, short)
            await bench.until(lambda: street.link.sent != [])
            street.link.is_up = False  # its windows are over, and it sleeps
            await taken(street, long)
            street.wall_offset_s = 605.0
            street.link.is_up = True
            sent = len(street.link.sent)
            await street.commit(node.frame(BIN))
            await bench.until(lambda: bytes.fromhex(long["frame"]) in street.link.sent)
            assert street.link.sent[sent] == bytes.fromhex(long["frame"])
            assert bytes.fromhex(short["frame"]) not in street.link.sent[sent:]

    bench.run(test)


def test_a_nodes_late_word_beats_the_gateways_expiry(bench: Any, quiet_street: Any) -> None:
    """Sent, unanswered and closed by the gateway; then the node's signed record says that it was applied."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            node = street.nodes[0x11]
            await street.commit(node.frame(BIN))
            await taken(street, street.authority.order(0x11, 7))
            await bench.until(lambda: street.link.sent != [])
            street.wall_offset_s = 605.0  # past its end, but the node may still have its say
            street.orders._wake.set()
            await bench.until(lambda: not street.orders._wake.is_set())
            await asyncio.sleep(0.1)
            assert orders.EXPIRED not in await states(street, 7)
            street.wall_offset_s = 600.0 + 601.0
            street.orders._wake.set()
            await bench.until(lambda: has(street, orders.EXPIRED))
            await street.commit(node.frame(state_record(7, orders.APPLIED)))
            await bench.until(lambda: has(street, orders.APPLIED))

    async def has(street: Any, state: int) -> bool:
        return state in await states(street, 7)

    bench.run(test)


def test_revoked_node_gets_no_order(bench: Any, quiet_street: Any) -> None:
    """Revoked while its order waits: the order is not sent any more."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            await taken(street, street.authority.order(0x11, 7))
            path = street.config.gateway.registry
            known = json.loads(path.read_text())
            known["version"] += 1
            known["nodes"]["00000011"]["revoked"] = True
            path.write_text(json.dumps(known))
            street.registry.load()
            await street.commit(street.nodes[0x11].frame(BIN))
            await asyncio.sleep(0.2)
            assert street.link.sent == []
            await taken(street, street.authority.order(0x11, 8))
            assert counted(street, "rejected", reason="revoked_node") == 1

    bench.run(test)


def test_hellos_cost_the_same_however_many_orders_wait(bench: Any, quiet_street: Any) -> None:
    """A flood of unsigned hellos must not walk through the whole queue each time."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            await bench.until(lambda: street.orders._loaded.is_set())
            for number in range(60):
                await taken(street, street.authority.order(0x11, 1 + number))
            stranger = hello.Hello(bench.NETWORK, 0x77, 1, 0, bytes(8), 1, 1, "")
            since_s = time.process_time()
            for _ in range(10_000):
                street.orders.hello_heard("line", stranger)
            assert time.process_time() - since_s < 1.0
            assert street.orders._queue._hold == {}
            await taken(street, street.authority.order(0x22, 90))
            for number in range(10):
                await taken(street, street.authority.order(0x11, 100 + number))
            assert counted(street, "orders_received", result="queue_full") == 6
            assert street.orders.open_count == 65

    bench.run(test)


def test_expired_order_from_the_broker(bench: Any, quiet_street: Any) -> None:
    """Just expired: told so; long expired (a replay by whoever holds a broker login): ignored without a trace on MQTT."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            now_s = time.time()
            await taken(street, street.authority.order(0x11, 7, now_s=now_s - 1000))
            await taken(street, street.authority.order(0x11, 8, now_s=now_s - 30 * 86400))
            await bench.until(lambda: has(street, 7, [orders.QUEUED, orders.EXPIRED]))
            assert await states(street, 8) == []
            assert street.link.sent == []

    async def has(street: Any, order_id: int, expected: list[int]) -> bool:
        return await states(street, order_id) == expected

    bench.run(test)


def test_resend_order_tells_the_outbox_what_to_expect(bench: Any, quiet_street: Any) -> None:
    """Records asked for again are taken again."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            node = street.nodes[0x11]
            await street.commit(node.frame(BIN), node.frame(BIN))
            await taken(street, street.authority.order(0x11, 7, verb=orders.RESEND, target=0, args=(1, 2)))
            await bench.until(lambda: street.link.sent != [])
            await bench.until(lambda: has(street))
            rows = await street.store.read(
                lambda: list(street.store.outbox._connection.execute("SELECT node, first_n, last_n FROM resend"))
            )
            assert rows == [(0x11, 1, 2)]

    async def has(street: Any) -> bool:
        return orders.SENT in await states(street, 7)

    bench.run(test)


def test_resend_order_sent_while_the_disk_is_full_is_still_expected_afterwards(bench: Any, quiet_street: Any) -> None:
    """What it brings would else be taken for duplicates and never be published again."""

    async def test() -> None:
        street = quiet_street
        async with street.running(resend_first_s=0.1):
            await taken(street, street.authority.order(0x11, 7, verb=orders.RESEND, target=0, args=(1, 2)))
            street.store.outbox.is_full = True
            street.downlinks.heard_hello(0x11, "line", 1)
            announce(street)
            await bench.until(lambda: street.link.sent != [])
            await bench.until(lambda: counted(street, "outbox_full") > 0)
            street.store.outbox.is_full = False
            announce(street)
            await bench.until(lambda: expected(street))
            assert await states(street, 7) == [orders.QUEUED, orders.SENT]

    def announce(street: Any) -> None:
        street.orders.hello_heard("line", hello.Hello(bench.NETWORK, 0x11, 1, 0, None, 1, 1, ""))

    async def expected(street: Any) -> bool:
        rows = await street.store.read(lambda: list(street.store.outbox._connection.execute("SELECT first_n, last_n FROM resend")))
        return rows == [(1, 2)] and orders.SENT in await states(street, 7)

    bench.run(test)


def test_order_waits_while_the_node_asks_for_the_time(bench: Any, quiet_street: Any) -> None:
    """A node without the time must refuse what could remove light: the beacon it asks for goes first."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            nonce = bytes(range(8))
            street.downlinks.heard_hello(0x11, "line", 1)
            await taken(street, street.authority.order(0x11, 7))
            street.link.sent.clear()
            asking = hello.Hello(bench.NETWORK, 0x11, 1, 0, nonce, 1, 1, "")
            street.orders.hello_heard("line", asking)
            beacon = street.authority.beacon(0x11, 5, nonce)
            await asyncio.sleep(0.2)
            await street.orders.take_beacon(json.dumps(beacon).encode())
            await bench.until(lambda: len(street.link.sent) >= 2)
            assert street.link.sent[0] == bytes.fromhex(beacon["frame"])

    bench.run(test)


def test_beacons_pass_once_and_only_when_signed(bench: Any, quiet_street: Any) -> None:
    """Broadcast on every link, nonce beacons to their node, nothing forged, nothing twice, nothing older."""

    async def test() -> None:
        street = quiet_street
        async with street.running():

            async def take(document: dict[str, Any]) -> None:
                await street.orders.take_beacon(json.dumps(document).encode())

            street.downlinks.heard_hello(0x11, "line", 1)
            broadcast = street.authority.beacon(None, 10)
            own = street.authority.beacon(0x11, 11, bytes(8))
            for document in (broadcast, broadcast, street.authority.beacon(None, 9), own, own):
                await take(document)
            assert street.link.sent == [bytes.fromhex(broadcast["frame"]), bytes.fromhex(own["frame"])]
            for document in (
                own | {"node": "00000022"},
                own | {"node": None},
                broadcast | {"node": "00000011", "epoch": 1},
                street.authority.order(0x11, 50) | {"node": None},
                street.authority.beacon(None, 60, bytes(8)),
                street.authority.beacon(0x11, 61),
            ):
                await take(document)
            assert len(street.link.sent) == 2
            assert counted(street, "beacons", result="refused") == 6
            assert counted(street, "beacons", result="repeated") == 3

    bench.run(test)


def test_flood_from_the_broker_spends_no_airtime(bench: Any, quiet_street: Any) -> None:
    """A thousand forged orders for a known node: nothing sent, the ledger grows by a few, memory does not."""

    async def test() -> None:
        street = quiet_street
        async with street.running():
            await street.commit(street.nodes[0x11].frame(BIN))
            forged = [bench.Authority().order(0x11, 1000 + number) for number in range(3)]
            since_s = time.monotonic()
            for number in range(1000):
                await taken(street, forged[number % 3])
            spent_s = time.monotonic() - since_s
            assert street.link.sent == []
            assert street.orders.open_count == 0
            assert counted(street, "rejected", reason="bad_signature") == 1000
            kept = await street.store.read(street.store.outbox.rejects, 1000)
            assert len(kept) <= 10 * (spent_s + 2)

    bench.run(test)


def test_state_of_an_order_that_another_gateway_carried(bench: Any, street: Any, broker: Any) -> None:
    """Two gateways hear one node: the one that hears the answer tells it, and never goes back."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            node = street.nodes[0x11]
            old, new = node.frame(state_record(40, orders.APPLIED)), node.frame(state_record(40, orders.VERIFIED))
            await street.commit(new)
            await street.until_marked()
            await street.commit(old)
            await street.until_marked()
            await bench.until(lambda: len(city.documents("/record/order_state")) == 2)
            assert [item["state"] for item in city.documents("/order/40/state")] == ["verified"]

    bench.run(test)
