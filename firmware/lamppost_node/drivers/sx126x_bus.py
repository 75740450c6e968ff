"""The commands of an SX126x: one SPI transaction each, BUSY before it, and its status judged by the next one.

Ref: Semtech SX1261/2 data sheet rev. 2.1, sections 8.2 (SPI), 8.3.1 (BUSY), 10 and table 13-76 (status). The status octet that a command
clocks out speaks of the command before it. What the commands mean: sx126x.py.
"""

from lamppost_protocol.compat import const
from lamppost_protocol.limits import MAX_PACKET_BYTES

from ..ticks import sleep_ms, ticks_diff, ticks_ms
from .lora_radio import radio_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from machine import SPI, Pin

_WRITE_REGISTER = const(0x0D)  # 13.2.1
_READ_REGISTER = const(0x1D)  # 13.2.2
_WRITE_BUFFER = const(0x0E)  # 13.2.3
_READ_BUFFER = const(0x1E)  # 13.2.4
_GET_IRQ_STATUS = const(0x12)  # 13.3.3

# Table 13-76. Modes 2 to 6 exist; a bus without a radio says 0 or 7.
_LEAST_MODE = const(2)
_MOST_MODE = const(6)
_STATUS_TIMEOUT = const(3)  # 4: not understood
_STATUS_FAILED = const(5)

_BUSY_MS = const(60)  # 13.1.12: all calibrations take 3.5 ms; what is still busy after many times that is broken
_BUSY_LOOKS = const(8)  # most commands are over in microseconds (table 8-3): worth a few looks before the loop turns


class CommandBus:
    """SPI, NSS and BUSY of one radio. Every method raises RadioFault: no_answer, busy_stuck, command_failed. start_ms: what BUSY may last
    longer because of a TCXO. Not for two tasks at once.
    """

    def __init__(self, spi: "SPI", nss: "Pin", busy: "Pin", start_ms: int):
        self._spi = spi
        self._nss = nss
        self._busy = busy
        self._limit_ms = _BUSY_MS + start_ms
        self._out = bytearray(MAX_PACKET_BYTES + 4)
        self._in = bytearray(MAX_PACKET_BYTES + 4)
        self._is_trusted = False
        self._has_unjudged = False
        self._has_news = False
        self.mode = 0
        """Chip mode in the last status (table 13-76)."""

    def distrust(self) -> None:
        """After a reset, ours or its own: with a TCXO that nobody has powered, commands that were done are told to have failed."""
        self._nss(1)
        self._is_trusted = False
        self.forget()

    def trust(self) -> None:
        """From the next command on the status means what it says."""
        self._is_trusted = True
        self.forget()

    def forget(self) -> None:
        """The next status is not about a command of ours, but comes out of a reception."""
        self._has_unjudged = False
        self._has_news = False

    def expect_news(self) -> None:
        """From now until the next command that changes something, the status tells what the radio did by itself."""
        self._has_news = True

    async def write(self, opcode: int, parameters: bytes) -> None:
        """A command with its parameters."""
        size = len(parameters)
        self._out[1 : 1 + size] = parameters
        await self._exchange(opcode, 1 + size)

    async def read(self, opcode: int, size: int) -> memoryview:
        """The answer to a command without parameters, valid until the next one."""
        self._out[1] = 0
        await self._exchange(opcode, 2 + size)
        return memoryview(self._in)[2 : 2 + size]

    async def check(self) -> None:
        """See how the last command went. By GetIrqStatus: GetStatus itself is told to fail now and then on silicon."""
        await self.read(_GET_IRQ_STATUS, 2)

    async def write_register(self, address: int, values: bytes) -> None:
        await self.write(_WRITE_REGISTER, word(address) + values)

    async def read_register(self, address: int, size: int) -> memoryview:
        """As `read`."""
        self._out[1:4] = word(address) + b"\x00"
        await self._exchange(_READ_REGISTER, 4 + size)
        return memoryview(self._in)[4 : 4 + size]

    async def change_register(self, address: int, mask: int, bits: int) -> None:
        """Set the bits of `mask` to those of `bits`."""
        value = (await self.read_register(address, 1))[0]
        await self.write_register(address, bytes((value & ~mask & 0xFF | bits,)))

    async def write_buffer(self, packet: bytes) -> None:
        """Put it at the buffer's begin."""
        size = len(packet)
        self._out[1] = 0
        self._out[2 : 2 + size] = packet
        await self._exchange(_WRITE_BUFFER, 2 + size)

    async def read_buffer(self, start: int, size: int) -> bytes:
        """A copy of the buffer's part, which wraps at 256."""
        self._out[1:3] = bytes((start, 0))
        await self._exchange(_READ_BUFFER, 3 + size)
        return bytes(memoryview(self._in)[3 : 3 + size])

    async def _exchange(self, opcode: int, size: int) -> None:
        """One transaction of `size` octets from `_out` into `_in`, as soon as the radio is ready; judges the command before it."""
        self._out[0] = opcode
        await self._ready()
        self._nss(0)
        try:
            self._spi.write_readinto(memoryview(self._out)[:size], memoryview(self._in)[:size])
        except OSError:
            raise radio_fault("no_answer")
        finally:
            self._nss(1)
        is_judged = self._is_trusted and self._has_unjudged and not self._has_news
        self._has_unjudged = True
        self._has_news = self._has_news and opcode == _GET_IRQ_STATUS
        if size < 2:
            return
        self.mode = self._in[1] >> 4 & 7
        if not _LEAST_MODE <= self.mode <= _MOST_MODE:
            raise radio_fault("no_answer")
        if is_judged and _STATUS_TIMEOUT <= self._in[1] >> 1 & 7 <= _STATUS_FAILED:
            raise radio_fault("command_failed")

    async def _ready(self) -> None:
        """Wait until BUSY is low."""
        for _ in range(_BUSY_LOOKS):
            if not self._busy():
                return
        begin_ms = ticks_ms()
        while self._busy():
            if ticks_diff(ticks_ms(), begin_ms) > self._limit_ms:
                raise radio_fault("busy_stuck")
            await sleep_ms(1)


def word(value: int) -> bytes:
    """Two octets, the high one first."""
    return value.to_bytes(2, "big")
