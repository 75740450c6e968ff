"""A board's serial port on a network socket of this machine, with the lines that a pseudo-terminal lacks: RTS, DTR and the baud rate.

Telnet's COM port control, RFC 2217, by pyserial's own server; what opens it is `rfc2217://127.0.0.1:PORT`. One client at a time.
"""

import contextlib
import os
import select
import socket
import threading
from typing import Any

from serial.rfc2217 import PortManager

from bench.esp_board import EspBoard

_READ_BYTES = 4096


class _Settings:
    """What the server sets: a serial port's attributes, of which the lines and the baud rate reach the board."""

    bytesize, parity, stopbits = 8, "N", 1
    xonxoff = rtscts = break_condition = False
    cts = dsr = cd = True
    ri = False

    def __init__(self, board: EspBoard, bauds: list[int]) -> None:
        self.__dict__.update(_board=board, _bauds=bauds)
        self.dtr = self.rts = False
        self.baudrate = 115_200

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value
        board: EspBoard = self.__dict__["_board"]
        if name == "baudrate" and board.rom.host_baud != value:
            board.rom.host_baud = value
            self.__dict__["_bauds"].append(value)
        elif name in ("dtr", "rts") and "rts" in self.__dict__:
            board.set_lines(bool(self.dtr), bool(self.rts))

    def reset_input_buffer(self) -> None: ...
    def reset_output_buffer(self) -> None: ...


class NetworkPort:
    """A context manager; `url`: what a program opens. `bauds`: what it has set, each change of it."""

    def __init__(self, board: EspBoard) -> None:
        self._board = board
        self.bauds: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._server.getsockname()[1]}"
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "NetworkPort":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake_write, b"\0")
        self._thread.join(10)
        self._server.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._board.rom.host_baud = None

    def _run(self) -> None:
        while self._wake_read not in select.select([self._server, self._wake_read], [], [])[0]:
            client, _ = self._server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port = os.open(self._board.path, os.O_RDWR | os.O_NOCTTY)
            with client, contextlib.suppress(OSError):
                self._serve(client, port)
            os.close(port)

    def _serve(self, client: socket.socket, port: int) -> None:
        class Connection:
            write = staticmethod(client.sendall)

        telnet = PortManager(_Settings(self._board, self.bauds), Connection)
        while True:
            ready = select.select([client, port, self._wake_read], [], [])[0]
            if self._wake_read in ready:
                return
            if client in ready:
                data = client.recv(_READ_BYTES)
                if not data:
                    return
                os.write(port, b"".join(telnet.filter(data)))
            if port in ready:
                client.sendall(b"".join(telnet.escape(os.read(port, _READ_BYTES))))
