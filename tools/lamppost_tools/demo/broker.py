"""The demo's MQTT broker: amqtt in a process of its own, bound to loopback, so that an outage is its end and its return.

`--first CLIENT_ID` refuses every other client until that one has subscribed: a broker that forgets its sessions when it
stops (amqtt does) must have its witness back before the gateway delivers what it kept. For demos and quick tests only.
"""

import asyncio
import logging
import signal
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseAuthPlugin  # type: ignore[import-untyped]


class FirstClientPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """Lets everybody in, but only after the client named in the configuration has subscribed."""

    @dataclass
    class Config:
        """`first`: client id to wait for, or empty."""

        first: str = ""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._first = self.config.first

    async def authenticate(self, *, session: Any) -> bool:
        """Whether this session may connect now."""
        return not self._first or session.client_id == self._first

    async def on_broker_client_subscribed(self, client_id: str = "", **_: Any) -> None:
        """The awaited client listens: open for all."""
        if client_id == self._first:
            self._first = ""


async def serve(port: int, first: str) -> None:
    """Run the broker until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {f"{FirstClientPlugin.__module__}.{FirstClientPlugin.__name__}": {"first": first}},
        }
    )
    await broker.start()
    print("ready", flush=True)
    await stop.wait()
    try:
        await asyncio.wait_for(broker.shutdown(), 3)
    except TimeoutError:
        pass


def main(
    port: Annotated[int, typer.Option(help="port on loopback")],
    first: Annotated[str, typer.Option(help="client id that must subscribe before any other may connect")] = "",
) -> None:
    """Run the demo's broker. Example: python -m lamppost_tools.demo.broker --port 1883"""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(serve(port, first))


if __name__ == "__main__":
    typer.run(main)
