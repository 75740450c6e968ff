"""The status socket: a unix stream socket, mode 0600, where one JSON request line is answered by one JSON line.

A request is `{"ask": "<name>", ...}`; the answer is the asked document, or `{"error": "..."}`. The server knows no
document itself: the daemon hands it one function per name. Answers hold no secrets (whoever may connect may read them).
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)
_MAX_REQUEST_BYTES = 4096  # requests are a name and a few numbers
_DEADLINE_S = 5.0  # for the request to come
_ANSWER_S = 60.0  # for the answer: a busy disk may take a while
_MAX_CLIENTS = 16

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class StatusServer:
    """Serves `answers` (name -> function of the request) on the socket at `path` until closed."""

    def __init__(self, path: Path, answers: Mapping[str, Answer]) -> None:
        self._path = path
        self._answers = dict(answers)
        self._clients = asyncio.Semaphore(_MAX_CLIENTS)

    async def run(self) -> None:
        """Serve until cancelled; the socket file is removed on leaving. Raises OSError when it cannot be bound."""
        server = await asyncio.start_unix_server(self._serve, sock=_bind(self._path), limit=_MAX_REQUEST_BYTES)
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._clients, asyncio.timeout(_DEADLINE_S) as deadline:
                document = await self._answer(reader, deadline)
                writer.write(json.dumps(document, separators=(",", ":")).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError) as error:
            _LOG.debug("event=status_client_gone reason=%s", type(error).__name__)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, deadline: asyncio.Timeout) -> dict[str, Any]:
        try:
            request = json.loads(await reader.readuntil(b"\n"))
            answer = self._answers[request["ask"]]
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return {"error": f"a request is one line of at most {_MAX_REQUEST_BYTES} bytes"}
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"error": f"a request is a JSON object with ask one of {sorted(self._answers)}"}
        deadline.reschedule(asyncio.get_running_loop().time() + _ANSWER_S)
        try:
            return await answer(request)
        except (ValueError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}


def _bind(path: Path) -> socket.socket:
    """Return a listening socket at `path`, mode 0600, replacing what a dead daemon left there."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.is_socket():
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    if probe.connect_ex(str(path)) == 0:
                        raise OSError(f"another gateway answers on {path}")
                path.unlink()
        mask = os.umask(0o177)  # the file must never exist with a wider mode, not even for an instant
        try:
            bound.bind(str(path))
        finally:
            os.umask(mask)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def ask(path: Path, name: str, deadline_s: float = _DEADLINE_S, **fields: Any) -> dict[str, Any]:
    """Ask the daemon at `path` and return its document; blocking, for command lines.

    Raises OSError (TimeoutError included) when no daemon answers within `deadline_s`, ValueError when the answer is
    not one JSON object.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(deadline_s)
        connection.connect(str(path))
        connection.sendall(json.dumps({"ask": name, **fields}).encode() + b"\n")
        with connection.makefile("rb") as stream:
            document = json.loads(stream.readline())
    if not isinstance(document, dict):
        raise ValueError("the answer is not a JSON object")
    return document
