"""A stop that comes at any turn of connecting ends the publisher."""

import asyncio
from typing import Any

import pytest

_CONNACK_5 = b"\x20\x03\x00\x00\x00"
_TURNS = 8  # more than lie between an answer's arrival and the task that waits for it


class _SlowBroker:
    """Speaks just enough MQTT 5 to be connected to, and tells when it has answered the CONNECT that is asked about."""

    def __init__(self, connect_number: int) -> None:
        self.answered = asyncio.Event()
        self._left = connect_number

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind = (await reader.readexactly(1))[0] >> 4
                body = await reader.readexactly(await self._length(reader))
                if kind == 1:
                    self._left -= 1
                    writer.write(_CONNACK_5)
                    if self._left == 0:
                        self.answered.set()
                elif kind == 8:
                    writer.write(b"\x90\x05" + body[:2] + b"\x00\x01\x01")
                elif kind == 3:
                    topic_bytes = int.from_bytes(body[:2], "big")
                    writer.write(b"\x40\x02" + body[2 + topic_bytes : 4 + topic_bytes])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _length(reader: asyncio.StreamReader) -> int:
        length = shift = 0
        while True:
            octet = (await reader.readexactly(1))[0]
            length |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return length


@pytest.mark.parametrize("connect_number", [1, 2], ids=["probe", "connection"])
def test_stop_in_the_turn_of_the_connack_does_not_hang(bench: Any, tmp_path: Any, connect_number: int) -> None:
    """Python 3.11's `wait_for` swallows a cancellation that meets its result (CPython #86296); the next one must get through."""

    async def test() -> None:
        for turns in range(_TURNS):
            broker = _SlowBroker(connect_number)
            server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
            folder = tmp_path / str(turns)
            folder.mkdir()
            street = bench.Street(folder, server.sockets[0].getsockname()[1])
            async with street.running():  # whose end fails when a part is still running
                await broker.answered.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
            server.close()

    bench.run(test)
