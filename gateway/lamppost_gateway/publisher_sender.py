"""Sending messages over one connection and minding what becomes of them: counted, timed, refusals noticed."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lamppost_gateway.broker import BrokerError, Connection, is_refusal
from lamppost_gateway.mqtt_messages import Outgoing

if TYPE_CHECKING:
    from lamppost_gateway.metrics import Metrics

_LOOK_EVERY_S = 1.0


class Sender:
    """The way out over `connection`; lives as long as it does. Its coroutines raise BrokerError when it is lost."""

    def __init__(self, connection: Connection, metrics: "Metrics", puback_limit_s: float) -> None:
        self._connection = connection
        self._metrics = metrics
        self._puback_limit_s = puback_limit_s
        self._refusal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(self, message: Outgoing, on_taken: Callable[[], None]) -> None:
        """Send as soon as the window has room; `on_taken` is called at the PUBACK, and never when the broker refused."""
        await self._connection.wait_room()
        sent_s = time.monotonic()

        def acknowledged(code: int) -> None:
            if is_refusal(code):
                self._metrics.count("publish_refused")
                if not self._refusal.done():
                    self._refusal.set_exception(BrokerError(f"broker refused {message.topic}: reason code 0x{code:02x}"))
                return
            self._metrics.count("messages_published")
            self._metrics.observe("publish_s", time.monotonic() - sent_s)
            on_taken()

        self._connection.publish_soon(message, acknowledged)

    async def send_all(self, messages: Sequence[Outgoing]) -> None:
        """Send and wait for every PUBACK."""
        waiting = len(messages)
        all_taken = asyncio.Event()

        def taken() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                all_taken.set()

        for message in messages:
            await self.send(message, taken)
        if messages:
            await self._connection.until_lost_or(all_taken.wait())

    async def run_watch(self) -> None:
        """Raise BrokerError when the connection is lost, refused a message, or is silent on one for too long."""
        while True:
            await asyncio.wait((self._connection.lost, self._refusal), timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if self._refusal.done():
                self._refusal.result()
            self._connection.check()
            if self._connection.oldest_wait_s() > self._puback_limit_s:
                raise BrokerError(f"no PUBACK for {self._puback_limit_s:g} s")

    def close(self) -> None:
        """Forget a refusal that nobody waits for any more."""
        if self._refusal.done():
            self._refusal.exception()
        else:
            self._refusal.cancel()
