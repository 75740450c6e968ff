"""What a chip model offers its bus: one transfer on I2C, paced bytes on a UART."""

from collections import deque

ENODEV = 19
EINVAL = 22
ETIMEDOUT = 110


class BusError(Exception):
    """The transaction failed the way the bus shows it; `errno` is what the node's driver gets in its OSError."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class I2CModel:
    """One chip on an I2C bus. `faults` (name to value) is written by the cabinet; `unplugged` is common to all chips."""

    def __init__(self) -> None:
        self.faults: dict[str, float] = {}

    def transfer(self, written: bytes | None, read_bytes: int | None, now_s: float) -> bytes:
        """One transaction: write part, read part, either may be None. Raises BusError(ENODEV) where the chip would not
        acknowledge."""
        if "unplugged" in self.faults:
            raise BusError(ENODEV)
        return self.answer(written, read_bytes, now_s)

    def power_on(self, now_s: float) -> None:
        """The supply comes on after a power cut: registers are what the datasheet says."""

    def answer(self, written: bytes | None, read_bytes: int | None, now_s: float) -> bytes:
        """The chip itself, plugged in."""
        raise NotImplementedError


class UartModel:
    """A device on the far end of a UART: its bytes arrive at baud pace, into a receive buffer that overflows.

    The buffer keeps the oldest bytes and loses what does not fit, as a chip's does.
    """

    baud = 9600

    def __init__(self) -> None:
        self.faults: dict[str, float] = {}
        self._flying: deque[tuple[float, bytes]] = deque()
        self._buffer = bytearray()
        self._buffer_bytes = 256
        self._port_baud = 0

    def open(self, baud: int, buffer_bytes: int, now_s: float) -> None:
        """The node's UART is set up: what came before is gone."""
        self.advance(now_s)
        self._flying.clear()
        self._buffer.clear()
        self._buffer_bytes = buffer_bytes
        self._port_baud = baud

    def close(self) -> None:
        self._port_baud = 0
        self._flying.clear()
        self._buffer.clear()

    def power_on(self, now_s: float) -> None:
        """The supply comes on after a power cut, or at a switch."""

    def power_off(self, now_s: float) -> None:
        """A switch takes the supply away."""

    def advance(self, now_s: float) -> None:
        """Send what is due up to now. Time never runs backwards."""
        raise NotImplementedError

    def command(self, data: bytes, now_s: float) -> None:
        """Bytes from the node. Most sensors ignore them."""

    def send(self, start_s: float, data: bytes) -> None:
        """Put bytes on the wire, the first start bit at `start_s`."""
        if self._port_baud and "unplugged" not in self.faults:
            self._flying.append((start_s, data))

    def is_full(self) -> bool:
        """True once another byte would be lost: a model may then skip ahead instead of making frames nobody keeps."""
        return len(self._buffer) + sum(len(data) for _, data in self._flying) >= self._buffer_bytes

    def write(self, data: bytes, now_s: float) -> None:
        self.advance(now_s)
        if self._port_baud == self.baud and "unplugged" not in self.faults:
            self.command(data, now_s)

    def waiting(self, now_s: float) -> int:
        """Bytes that can be read now."""
        self.advance(now_s)
        octet_s = 10 / self.baud
        while self._flying:
            start_s, data = self._flying[0]
            arrived = min(len(data), max(0, int((now_s - start_s) / octet_s + 1e-6)))
            self._receive(data[:arrived])
            if arrived < len(data):
                self._flying[0] = (start_s + arrived * octet_s, data[arrived:])
                break
            self._flying.popleft()
        return len(self._buffer)

    def _receive(self, data: bytes) -> None:
        if self._port_baud != self.baud:
            data = bytes(octet ^ 0xA5 for octet in data)  # wrong speed: octets, but not the ones sent
        self._buffer += data[: self._buffer_bytes - len(self._buffer)]

    def read(self, max_bytes: int, now_s: float) -> bytes:
        self.waiting(now_s)
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        return data
