"""The publisher against a real broker: amqtt (MQTT 3.1.1) and mosquitto (MQTT 5)."""

from dataclasses import replace
from typing import Any

import pytest

EACH_BROKER = pytest.mark.parametrize("broker", ["amqtt", pytest.param("mosquitto", marks=pytest.mark.mosquitto)], indirect=True)
LAMP = [1, 0, 0, 60, 60, 472, 2301, 210, 980, 12345, 1, 0]
BIN = [2, -30, 2, None, None, 213, 1]


@EACH_BROKER
def test_stored_frames_reach_a_subscriber(bench: Any, street: Any, broker: Any) -> None:
    """A row arrives as signed octets and one document per record, and only then is marked."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            frame = street.nodes[0x11].frame(LAMP, BIN)
            await street.commit(frame)
            await bench.until(lambda: len(city.documents("/record/")) == 2)
            await street.until_marked()
            assert city.payloads("/node/00000011/frame") == [frame.data]
            lamp, rubbish = city.documents("/record/")
            assert lamp["values"]["active_power"] == {"value": 47.2, "unit": "W", "path": "/3418/0/4"}
            assert (lamp["fixture"], lamp["n"], lamp["quality"], lamp["late"]) == ("lamp", 1, "good", False)
            assert (rubbish["n"], rubbish["quality"], rubbish["values"]["fill"]["value"]) == (2, "no_echo", None)

    bench.run(test)


def per_node(documents: list[dict[str, Any]], *, late: bool) -> dict[str, list[int]]:
    """Record numbers by node in order of first arrival."""
    found: dict[str, list[int]] = {}
    for document in documents:
        numbers = found.setdefault(document["node"], [])
        if document["late"] is late and document["n"] not in numbers:
            numbers.append(document["n"])
    return found


def hour_old(frame: Any) -> Any:
    """The frame as if it had been received an hour ago."""
    return replace(frame, received_at_ms=frame.received_at_ms - 3_600_000)


@EACH_BROKER
def test_broker_killed_and_restarted_mid_drain(bench: Any, street: Any, broker: Any) -> None:
    """Nothing is lost, each node's order holds within each lane, and live frames do not wait for the backlog."""
    total = 200

    async def test() -> None:
        street.config = street.config.model_copy(update={"outbox": street.config.outbox.model_copy(update={"drain_per_s": 100})})
        broker.kill()
        async with street.running():
            nodes = list(street.nodes.values())
            backlog = [hour_old(nodes[i % 3].frame(LAMP)) for i in range(total)]
            await street.commit(*backlog)
            broker.start()
            heard: list[dict[str, Any]] = []
            async with bench.Subscriber(broker.port).listening() as city:
                await bench.until(lambda: len(city.documents("/record/")) > 30)
                broker.kill()
                heard += city.documents("/record/")
            broker.start()
            async with bench.Subscriber(broker.port).listening() as city:
                await bench.until(lambda: street.publisher.state == "connected")
                await bench.until(lambda: len(city.documents("/record/")) > 5)
                live = [node.frame(LAMP) for node in nodes]
                await street.commit(*live)
                await street.until_marked()
                await bench.until(lambda: len({(d["node"], d["n"]) for d in heard + city.documents("/record/")}) == total + 3)
                after = city.documents("/record/")
        numbers = [(document["node"], document["n"]) for document in after]
        last_live = max(numbers.index((f"{node.node:08x}", node.n - 1)) for node in nodes)
        behind = {number for number in numbers[last_live:]}
        assert len(behind) > 20, "live frames waited for the backlog"
        order = per_node([d for d in heard + after], late=True)
        for node in nodes:
            late_numbers = order[f"{node.node:08x}"]
            assert len(late_numbers) == node.n - 2, "what waited was not called late"
            assert late_numbers == sorted(late_numbers)

    bench.run(test)


def test_restart_publishes_what_was_not_confirmed(bench: Any, street: Any, broker: Any) -> None:
    """Rows stored while the broker was away are published by the next run of the gateway."""

    async def before() -> None:
        broker.kill()
        async with street.running():
            await street.commit(street.nodes[0x11].frame(LAMP), street.nodes[0x11].frame(BIN))

    async def after() -> None:
        broker.start()
        async with bench.Subscriber(broker.port).listening() as city, street.running():
            await street.until_marked()
            await bench.until(lambda: [d["n"] for d in city.documents("/record/")] == [1, 2])

    bench.run(before)
    bench.run(after)


@EACH_BROKER
def test_broker_that_forgot_is_filled_again(bench: Any, street: Any, broker: Any) -> None:
    """A broker that lost its session state gets again what it had confirmed."""

    async def test() -> None:
        async with street.running():
            async with bench.Subscriber(broker.port).listening():
                await bench.until(lambda: street.publisher.state == "connected")
                await street.commit(street.nodes[0x11].frame(LAMP))
                await street.until_marked()
            broker.kill()
            await bench.until(lambda: street.publisher.state != "connected")
            broker.start()
            async with bench.Subscriber(broker.port).listening() as city:
                await bench.until(lambda: [d["n"] for d in city.documents("/record/")] == [1])
                await street.until_marked()

    bench.run(test)


def test_resync_publishes_kept_frames_again(bench: Any, street: Any, broker: Any) -> None:
    """On demand, while connected, live and back-fill frames alike, each once more and late ones in order."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            node = street.nodes[0x11]
            await street.commit(node.frame(BIN), node.frame(BIN, late=True))
            await bench.until(lambda: len(city.documents("/record/")) == 2)
            await street.until_marked()
            assert await street.publisher.resync({"since_ms": 0}) == {"frames": 2}
            await bench.until(lambda: len(city.documents("/record/")) == 4)
            await street.until_marked()
            assert [d["n"] for d in city.documents("/record/")[2:]] == [1, 2]
            await street.commit(node.frame(BIN))
            await bench.until(lambda: city.documents("/record/")[4:] != [])
            await street.until_marked()
            assert [d["n"] for d in city.documents("/record/")[4:]] == [3]
            with pytest.raises(ValueError, match="since_ms"):
                await street.publisher.resync({})

    bench.run(test)


def test_flapping_connection_costs_only_what_was_in_flight(bench: Any, street: Any, broker: Any) -> None:
    """The broker stays, the connection breaks again and again: nothing lost, repeats bounded by the window."""
    flaps = 3

    async def test() -> None:
        street.config = street.config.model_copy(update={"outbox": street.config.outbox.model_copy(update={"in_flight": 10})})
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            node = street.nodes[0x11]
            for _ in range(flaps):
                await bench.until(lambda: street.publisher.state == "connected")
                await street.commit(*[node.frame(BIN) for _ in range(10)])
                cut(street.publisher)
                await bench.until(lambda: street.publisher.state != "connected")
            await street.until_marked()
            await bench.until(lambda: len({d["n"] for d in city.documents("/record/")}) == 10 * flaps)
            repeats = len(city.documents("/record/")) - 10 * flaps
            # a row is confirmed when its frame and its record are: at most 10 messages of it were in flight per flap,
            # and what was confirmed but not yet marked is written down before the next connection
            assert repeats <= 10 * flaps

    bench.run(test)


def cut(publisher: Any) -> None:
    """Break the TCP connection under the client, as a router does."""
    import socket

    publisher._connection._client.socket().shutdown(socket.SHUT_RDWR)


@EACH_BROKER
def test_health_is_retained_and_the_will_speaks_for_a_dead_gateway(bench: Any, street: Any, broker: Any) -> None:
    """Online while it runs, offline by last will when the connection breaks, stopped after a graceful end."""

    async def test() -> None:
        async with bench.Subscriber(broker.port).listening() as city:
            async with street.running():
                await bench.until(lambda: [d["state"] for d in city.documents("/health")] == ["online"])
                async with bench.Subscriber(broker.port, "lamppost/v1/+/gateway/gw-1/health").listening() as late:
                    await bench.until(lambda: late.documents("/health")[:1] != [])
                    assert late.documents("/health")[0]["state"] == "online"
                cut(street.publisher)
                await bench.until(lambda: [d["state"] for d in city.documents("/health")][:2] == ["online", "offline"])
                await bench.until(lambda: city.documents("/health")[-1]["state"] == "online")
            await bench.until(lambda: city.documents("/health")[-1]["state"] == "stopped")

    bench.run(test)


def test_node_status_is_retained_and_not_sent_each_time(bench: Any, street: Any, broker: Any) -> None:
    """Ten frames in a row are one status; a later subscriber finds it."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: city.documents("/health") != [])
            # by now its lanes have begun: what was committed before them is back-fill, which makes no status
            await street.commit(*[street.nodes[0x22].frame(BIN) for _ in range(10)])
            await street.until_marked()
            await bench.until(lambda: len(city.documents("/record/")) == 10)
            await bench.until(lambda: city.documents("/node/00000022/status") != [])
            assert len(city.documents("/node/00000022/status")) == 1
            async with bench.Subscriber(broker.port, "lamppost/v1/+/node/+/status").listening() as late:
                await bench.until(lambda: late.messages != [])
                assert late.documents("/status")[0]["node"] == "00000022"

    bench.run(test)


def test_rejects_and_hellos_are_published_and_thinned(bench: Any, street: Any, broker: Any) -> None:
    """Refusals carry reason and octets; a flood is thinned and counted; hellos of strangers are not published."""
    from lamppost_protocol import hello

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            for _ in range(1000):
                street.publisher.rejected("bad_signature", 0x11, "line", 1_800_000_000_000, b"\xd2\x84")
            for node in (0x11, 0x11, 0x99):
                street.publisher.hello_heard("line", hello.Hello(bench.NETWORK, node, 1, 0, bytes(range(8)), 1, 1, "0.1.0"))
            await bench.until(lambda: len(city.documents("/hello")) == 1)
            (message,) = city.documents("/hello")
            assert (message["node"], message["nonce"]) == ("00000011", "0001020304050607")
            await bench.until(lambda: len(city.documents("/reject")) >= 10)
            assert len(city.documents("/reject")) <= 20
            refused = city.documents("/reject")[0]
            assert (refused["reason"], refused["node"], refused["bytes"]) == ("bad_signature", "00000011", "d284")
            assert sample(street, "rejects_unpublished") >= 980

    bench.run(test)


def sample(street: Any, name: str, **labels: str) -> float:
    """One number of the metrics page."""
    value: float | None = street.metrics.registry.get_sample_value(f"lamppost_gateway_{name}_total", labels)
    return value or 0.0


def test_damaged_row_goes_out_as_octets_and_blocks_nothing(bench: Any, street: Any, broker: Any) -> None:
    """A row that cannot be decoded is published as signed octets, counted, and the next one follows."""

    async def test() -> None:
        async with street.running(), bench.Subscriber(broker.port).listening() as city:
            await bench.until(lambda: street.publisher.state == "connected")
            node = street.nodes[0x11]
            good, torn = node.frame(BIN), replace(node.frame(BIN), data=b"\xd2\x84torn")
            await street.store.write(street.store.outbox.commit_frames, [torn, good], [])
            street.publisher.frames_committed([bench.verified_of(good)])
            await street.until_marked()
            await bench.until(lambda: city.payloads("/frame") == [torn.data, good.data])
            assert sample(street, "unreadable_rows") == 1

    bench.run(test)
