"""A serial line: SLIP messages over a tty or pty that may be pulled and plugged at any time.

pyserial opens and configures the port; reading is an `add_reader` callback with 4 KiB reads, since asyncio's own transports
allocate 256 KiB for each small read. What is left in a tty from before, or arrives torn, is noise to the SLIP decoder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import time
from pathlib import Path

import serial
from lamppost_protocol import slip

from lamppost_gateway.backoff import Backoff
from lamppost_gateway.errors import LinkError
from lamppost_gateway.links.base import Listener
from lamppost_gateway.log import Trouble, event, room
from lamppost_gateway.store import Metrics

_READ_BYTES = 4096
_WRITE_LIMIT_BYTES = 16_384  # over a second at 115,200 baud: what waits longer is too old to be worth sending
_MAX_EMPTY_READS = 16
_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 5.0  # a plugged port works again within this time
_ERROR_KINDS = ("bad_crc", "bad_slip", "bad_type", "too_long")

_log = room("link")


class SerialLink:
    """One port. `run` keeps it open; everything else is called on the same event loop."""

    def __init__(self, name: str, path: Path, baud: int, listener: Listener, metrics: Metrics, backoff: Backoff | None = None) -> None:
        self._name = name
        self._path = path
        self._baud = baud
        self._listener = listener
        self._metrics = metrics
        self._backoff = backoff or Backoff(_FIRST_RETRY_S, _LAST_RETRY_S)
        self._port: serial.Serial | None = None
        self._fd = -1
        self._decoder = slip.Decoder()
        self._counted = dict.fromkeys(_ERROR_KINDS, 0)
        self._out = bytearray()
        self._lost = asyncio.Event()
        self._why = ""
        self._empty_reads = 0
        self._is_paused = False
        self._trouble = Trouble(_log, "link", link=name, path=path)

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_up(self) -> bool:
        return self._port is not None

    async def run(self) -> None:
        """Open, read, and open again after every loss, until cancelled."""
        try:
            while True:
                try:
                    self._open()
                except LinkError as error:
                    self._trouble.failed(reason=error)
                    await asyncio.sleep(self._backoff.next_s())
                    continue
                await self._lost.wait()
                self._close()
                self._metrics.count("link_lost", link=self._name)
                self._trouble.failed(reason=self._why)
                await asyncio.sleep(self._backoff.next_s())
        finally:
            self._close()

    def _open(self) -> None:
        try:
            # exclusive: a second program on the line would steal bytes from both
            port = serial.Serial(str(self._path), self._baud, timeout=0, write_timeout=0, exclusive=True)
            os.set_blocking(port.fileno(), False)
        except (OSError, ValueError) as error:  # SerialException is an OSError; ValueError: a baud rate it cannot set
            raise LinkError(self._name, str(error)) from None
        self._port = port
        self._fd = port.fileno()
        self._decoder = slip.Decoder()
        self._counted = dict.fromkeys(_ERROR_KINDS, 0)
        self._out.clear()
        self._lost.clear()
        self._empty_reads = 0
        if not self._is_paused:
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        if self._trouble.count:
            self._trouble.recovered()
        else:
            event(_log, logging.INFO, "link_opened", link=self._name, path=self._path, baud=self._baud)
        self._metrics.count("link_opened", link=self._name)
        self._metrics.gauge("link_up", 1, link=self._name)
        self._listener.link_changed(self)

    def _close(self) -> None:
        if self._port is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fd)
        loop.remove_writer(self._fd)
        port, self._port, self._fd = self._port, None, -1
        try:
            port.close()
        except OSError:
            pass  # the device is gone already
        self._metrics.gauge("link_up", 0, link=self._name)
        self._listener.link_changed(self)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error.strerror or "read failed")
            return
        if not data:
            self._empty_reads += 1
            if self._empty_reads > _MAX_EMPTY_READS or self._is_hung_up():
                self._lose("hung up")
            return
        self._empty_reads = 0
        now_ms = time.time_ns() // 1_000_000
        messages = self._decoder.feed(data)
        self._count_errors()
        if messages:
            self._backoff.reset()
            for message_type, body in messages:
                self._listener.heard(self, message_type, body, now_ms)

    def _is_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return any(flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, flags in poll.poll(0))

    def _count_errors(self) -> None:
        for kind in _ERROR_KINDS:
            total = getattr(self._decoder, kind)
            if total != self._counted[kind]:
                self._metrics.count("serial_errors", total - self._counted[kind], link=self._name, kind=kind)
                self._counted[kind] = total

    def _lose(self, why: str) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fd)
        loop.remove_writer(self._fd)
        self._why = why
        self._lost.set()

    def steps(self, node: int, digest: bytes) -> int | None:
        """A line has one data rate."""
        return None

    @property
    def waiting_bytes(self) -> int:
        """Octets that the port has not taken yet."""
        return len(self._out)

    def carry_s(self, octets: int) -> float:
        """Ten bits an octet (8N1); what escaping and the message around them add is left out."""
        return octets * 10 / self._baud

    def send(self, message_type: int, body: bytes, node: int = 0) -> bool:
        """Queue one message for whoever is at the other end; False, and nothing queued, when the link is down or its queue is full."""
        if self._port is None or self._lost.is_set() or len(self._out) > _WRITE_LIMIT_BYTES:
            self._metrics.count("downlink_dropped", link=self._name)
            return False
        is_idle = not self._out
        self._out += slip.encode(message_type, body)
        self._metrics.count("downlink_frames", link=self._name)
        if is_idle:
            self._write()
            if self._out and not self._lost.is_set():
                asyncio.get_running_loop().add_writer(self._fd, self._write)
        return True

    def _write(self) -> None:
        try:
            sent = os.write(self._fd, self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._out.clear()
            self._lose(error.strerror or "write failed")
            return
        del self._out[:sent]
        if not self._out:
            asyncio.get_running_loop().remove_writer(self._fd)

    def pause(self) -> None:
        """Stop reading until `resume`."""
        if not self._is_paused:
            self._is_paused = True
            if self._port is not None:
                asyncio.get_running_loop().remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        if self._is_paused:
            self._is_paused = False
            if self._port is not None and not self._lost.is_set():
                asyncio.get_running_loop().add_reader(self._fd, self._read)
