"""Serial messages: `END | escaped(type body crc32) | END`. Ref: RFC 1055; WIRE.md section 9.

SLIP because `replace`, `split` and `binascii.crc32` are native on MicroPython. An END before and after means that noise between two
messages costs neither, and that a broken one costs itself alone. Oversize is dropped while counting, never buffered.
"""

from binascii import crc32

from .errors import LocalError
from .limits import MAX_LINE_BYTES, MAX_MESSAGE_BYTES

END = b"\xc0"
ESC = b"\xdb"
ESC_END = b"\xdb\xdc"
ESC_ESC = b"\xdb\xdd"

FRAME = 1
LOG = 2
HELLO = 3
RADIO_RECEIVED = 4
RADIO_TRANSMIT = 5
RADIO_SENT = 6
MODEM = 7
RADIO_LISTEN = 8
WANT = 9
PIECE = 10
SERVICE = 11
SERVICE_ANSWER = 12
TYPES = (FRAME, LOG, HELLO, RADIO_RECEIVED, RADIO_TRANSMIT, RADIO_SENT, MODEM, RADIO_LISTEN, WANT, PIECE, SERVICE, SERVICE_ANSWER)

_CRC_BYTES = 4


def encode(message_type: int, body: bytes) -> bytes:
    """Return the octets on the line. Raises LocalError("too_long") above MAX_MESSAGE_BYTES."""
    if 1 + len(body) + _CRC_BYTES > MAX_MESSAGE_BYTES:
        raise LocalError("too_long", "serial message above the cap")
    plain = bytes((message_type,)) + body
    plain += (crc32(plain) & 0xFFFFFFFF).to_bytes(_CRC_BYTES, "big")
    return END + plain.replace(ESC, ESC_ESC).replace(END, ESC_END) + END


class Decoder:
    """Octets in, (type, body) out, whatever the chunking. Counts what it drops: `bad_slip`, `bad_crc`, `bad_type`, `too_long`."""

    def __init__(self) -> None:
        self._pending = b""
        self._is_skipping = False
        self.bad_slip = 0
        self.bad_crc = 0
        self.bad_type = 0
        self.too_long = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the messages completed by `data` (bytes, not kept). Never raises; holds at most MAX_LINE_BYTES."""
        pieces = data.split(END)
        messages: list[tuple[int, bytes]] = []
        last = len(pieces) - 1
        for index in range(last):
            self._append(pieces[index])
            if self._is_skipping:
                self._is_skipping = False
            elif self._pending:
                self._finish(self._pending, messages)
            self._pending = b""
        self._append(pieces[last])
        return messages

    def _append(self, piece: bytes) -> None:
        if self._is_skipping or not piece:
            return
        if len(self._pending) + len(piece) > MAX_LINE_BYTES:
            self.too_long += 1
            self._is_skipping = True
            self._pending = b""
        else:
            self._pending = self._pending + piece if self._pending else piece

    def _finish(self, line: bytes, messages: list[tuple[int, bytes]]) -> None:
        if line.count(ESC) != line.count(ESC_END) + line.count(ESC_ESC):
            self.bad_slip += 1
            return
        plain = line.replace(ESC_END, END).replace(ESC_ESC, ESC)
        if len(plain) > MAX_MESSAGE_BYTES:
            self.too_long += 1
            return
        body_end = len(plain) - _CRC_BYTES
        if body_end < 1 or crc32(plain[:body_end]) & 0xFFFFFFFF != int.from_bytes(plain[body_end:], "big"):
            self.bad_crc += 1
            return
        if plain[0] not in TYPES:
            self.bad_type += 1
            return
        messages.append((plain[0], plain[1:body_end]))
