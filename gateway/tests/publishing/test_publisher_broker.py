"""The publisher against a real broker: amqtt (MQTT 3.1.1) and mosquitto (MQTT 5)."""

from typing import Any

LAMP = [1, 0, 0, 60, 60, 472, 2301, 210, 980, 12345, 1, 0]
BIN = [2, -30, 2, None, None, 213, 1]


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
