"""A release's body on the city's broker, retained, for every gateway to keep; and off it again."""

from lamppost_tools.broker import Topics, connect
from lamppost_tools.city import City


async def publish_body(city: City, digest: bytes, body: bytes) -> str:
    """Publish a body, confirmed by the broker when this returns the topic; an empty one clears it. Raises MissingError."""
    topic = Topics(city.network).release(digest)
    async with connect(city.broker) as client:
        await client.publish(topic, body, qos=1, retain=True)
    return topic
