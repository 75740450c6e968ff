"""Espressif's loader in ROM, octet by octet: what a bare ESP32 or ESP32-C3 says on its serial line in download mode.

Commands, lengths, checksums and error numbers are those of Espressif's esptool documentation, "Serial Protocol"; registers and flash
commands those of the technical reference manuals as esptool uses them. Flash is NOR: erased it is all ones, writing only clears bits, so
what was not erased first does not read back. The stub is not there: a host that loads code into RAM is refused. Time is not modelled: an
erase is done at once. Where a port tells its baud rate (`host_baud`), the loader takes that of the first synchronization, and understands
nothing at another one.

Known gaps: one flash chip (JEDEC, 64 KiB blocks), no encryption, no eFuse but MAC and the flags of the security information; what a ROM
answers to a command it does not have is written after what esptool's reader allows for, not from silicon.
"""

import hashlib
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
_FLASH_BEGIN, _FLASH_DATA, _FLASH_END = 0x02, 0x03, 0x04
_SYNC, _WRITE_REG, _READ_REG, _SPI_SET_PARAMS, _SPI_ATTACH, _CHANGE_BAUDRATE = 0x08, 0x09, 0x0A, 0x0B, 0x0D, 0x0F
_DEFL_BEGIN, _DEFL_DATA, _DEFL_END, _FLASH_MD5, _SECURITY_INFO = 0x10, 0x11, 0x12, 0x13, 0x14
_INVALID_MESSAGE, _FAILED, _BAD_CHECKSUM, _DEFLATE_FAILED = 0x05, 0x06, 0x07, 0x0B
_SECURE_DOWNLOAD = 1 << 2
_SYNC_DATA = b"\x07\x07\x12\x20" + b"\x55" * 32
_BLOCK_BYTES = 0x400
_SECTOR_BYTES = 0x1000
_RDID = 0x9F
_ESP32_CRYPT_COUNT = 0x3FF5A000  # an odd number of ones in bits 20 to 26: flash encryption is on
_USER_COMMAND = 1 << 18
_MAX_PACKET = 0x4100


@dataclass(frozen=True)
class Chip:
    """`magic`: the word at 0x40001000. `chip_id` None: it knows no security information. `boots_at`: where its ROM looks for a program.

    `registers`: words that are there from the start.
    """

    name: str
    magic: int
    chip_id: int | None
    mac_registers: tuple[int, int]
    spi_base: int
    spi_user2: int
    spi_data: int
    boots_at: int
    begin_words: int
    registers: tuple[tuple[int, int], ...] = ()


#: What its ROM makes of a crystal of 40 MHz, measured by the 8 MHz clock whose frequency is in eFuse.
_ESP32_CRYSTAL = ((0x3FF5A010, 8), (0x3FF5F06C, 12_800 << 7))
ESP32 = Chip("esp32", 0x00F01D83, None, (0x3FF5A004, 0x3FF5A008), 0x3FF42000, 0x24, 0x80, 0x1000, 4, _ESP32_CRYSTAL)
ESP32_C3 = Chip("esp32c3", 0x1B31506F, 5, (0x60008844, 0x60008848), 0x60002000, 0x20, 0x58, 0, 5)
ESP32_S3 = Chip("esp32s3", 0x00000009, 9, (0x60007044, 0x60007048), 0x60002000, 0x20, 0x58, 0, 5)


@dataclass
class Faults:
    """What is wrong with a board. `spoilt_at`: an address of flash at which no bit can be cleared any more.

    `is_closed`: an ESP32-C3 in secure download mode, an ESP32 with flash encryption.
    """

    is_silent: bool = False
    is_garbled: bool = False
    is_closed: bool = False
    bad_md5: int = 0
    spoilt_at: int | None = None


@dataclass
class RomLoader:
    """One chip and its flash. `feed` takes what the host says and gives what it hears; `leave` is called when it goes to run its flash."""

    chip: Chip
    mac: bytes
    flash_bytes: int
    leave: Callable[[], None]
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    host_baud: int | None = None

    def __post_init__(self) -> None:
        self.flash = bytearray(b"\xff" * self.flash_bytes)
        self._source = random.Random(self.seed)
        self.enter()

    def enter(self) -> None:
        """As after a reset with BOOT held: nothing is known of what a host said before."""
        self._packet: bytearray | None = None
        self._is_escaped = False
        self._registers = dict(self.chip.registers)
        self._is_attached = False
        self._params_bytes = 0
        self._begin: tuple[int, int] | None = None
        self._inflate: zlib._Decompress | None = None
        self._is_synced = False
        self._baud: int | None = None

    def feed(self, data: Iterable[int]) -> bytes:
        """What it answers to these octets."""
        if self._baud != self.host_baud and self._is_synced:
            return b""
        said = b""
        for octet in data:
            if octet == END:
                if self._packet:
                    said += self._answer(bytes(self._packet))
                    self._packet = None
                else:
                    self._packet = bytearray()
            elif self._packet is None or len(self._packet) > _MAX_PACKET:
                self._packet = None
            elif self._is_escaped:
                self._is_escaped = False
                self._packet.append({ESC_END: END, ESC_ESC: ESC}.get(octet, octet))
            elif octet == ESC:
                self._is_escaped = True
            else:
                self._packet.append(octet)
        if self.faults.is_silent:
            return b""
        return self._source.randbytes(len(said)) if self.faults.is_garbled else said

    def _answer(self, packet: bytes) -> bytes:
        if len(packet) < 8:
            return b""
        direction, command, size, checksum = struct.unpack_from("<BBHI", packet)
        data = packet[8:]
        if direction or size != len(data):
            return b""
        if command == _SYNC:
            if not self._is_synced:
                self._baud = self.host_baud
            self._is_synced = data == _SYNC_DATA
            return _reply(_SYNC, 0x20120707, b"") * 8 if self._is_synced else b""
        if not self._is_synced:
            return b""
        handler = _HANDLERS.get(command)
        if self.faults.is_closed and self.chip.chip_id is not None and command in (_READ_REG, _WRITE_REG):
            handler = None
        if handler is None or (command == _SECURITY_INFO and self.chip.chip_id is None):
            return _reply(0, 0, b"", _INVALID_MESSAGE) * 8
        try:
            value, body = handler(self, data, checksum)
        except struct.error:
            return _reply(command, 0, b"", _INVALID_MESSAGE)
        except _RefusalError as refusal:
            return _reply(command, 0, b"", refusal.number)
        return _reply(command, value, body)

    # -- registers: the MAC in eFuse, and the SPI controller that runs a flash command ---------------------------------------

    def _read_reg(self, data: bytes, _: int) -> tuple[int, bytes]:
        (address,) = struct.unpack("<I", data)
        if address == 0x40001000:
            return self.chip.magic, b""
        low, high = self.chip.mac_registers
        number = int.from_bytes(self.mac, "big")
        if address in (low, high):
            return (number & 0xFFFFFFFF) if address == low else number >> 32, b""
        if address == _ESP32_CRYPT_COUNT and self.faults.is_closed:
            return 1 << 20, b""
        return self._registers.get(address, 0), b""

    def _write_reg(self, data: bytes, _: int) -> tuple[int, bytes]:
        for at in range(0, len(data), 16):
            address, value, mask, _delay = struct.unpack_from("<IIII", data, at)
            self._registers[address] = self._registers.get(address, 0) & ~mask | value & mask
            if address == self.chip.spi_base and value & _USER_COMMAND:
                command = self._registers.get(self.chip.spi_base + self.chip.spi_user2, 0) & 0xFF
                size = self.flash_bytes.bit_length() - 1
                jedec = 0x0040EF | size << 16 if self._is_attached else 0xFFFFFF
                self._registers[self.chip.spi_base + self.chip.spi_data] = jedec if command == _RDID else 0
                self._registers[self.chip.spi_base] = 0
        return 0, b""

    def _security_info(self, data: bytes, _: int) -> tuple[int, bytes]:
        flags = _SECURE_DOWNLOAD if self.faults.is_closed else 0
        return 0, struct.pack("<IB7xII", flags, 0, self.chip.chip_id or 0, 0)

    # -- flash ------------------------------------------------------------------------------------------------------------

    def _attach(self, data: bytes, _: int) -> tuple[int, bytes]:
        struct.unpack("<II", data)
        self._is_attached = True
        return 0, b""

    def _set_params(self, data: bytes, _: int) -> tuple[int, bytes]:
        self._params_bytes = struct.unpack("<IIIIII", data)[1]
        return 0, b""

    def _change_baud(self, data: bytes, _: int) -> tuple[int, bytes]:
        new, _old = struct.unpack("<II", data)
        self._baud = None if self._baud is None else new
        return 0, b""

    def _require_flash(self, address: int, size: int) -> None:
        if not self._is_attached or address + size > min(self.flash_bytes, self._params_bytes):
            raise _RefusalError(_FAILED)

    def _flash_begin(self, data: bytes, _: int) -> tuple[int, bytes]:
        size, _blocks, block, offset, *_encrypted = struct.unpack(f"<{self.chip.begin_words}I", data)
        if size:
            if block != _BLOCK_BYTES or offset % _SECTOR_BYTES:
                raise _RefusalError(_FAILED)
            self._require_flash(offset, size)
            ends = -(-(offset + size) // _SECTOR_BYTES) * _SECTOR_BYTES
            self.flash[offset:ends] = b"\xff" * (ends - offset)
        self._begin, self._inflate = (offset, 0), None
        return 0, b""

    def _deflate_begin(self, data: bytes, checksum: int) -> tuple[int, bytes]:
        self._flash_begin(data, checksum)
        self._inflate = zlib.decompressobj()
        return 0, b""

    def _flash_data(self, data: bytes, checksum: int) -> tuple[int, bytes]:
        size, number, _zero, _zero2 = struct.unpack_from("<IIII", data)
        body = data[16:]
        if self._begin is None or len(body) != size or number != self._begin[1]:
            raise _RefusalError(_FAILED)
        sum_found = 0xEF
        for octet in body:
            sum_found ^= octet
        if sum_found != checksum & 0xFF:
            raise _RefusalError(_BAD_CHECKSUM)
        if self._inflate is not None:
            try:
                body = self._inflate.decompress(body)
            except zlib.error:
                raise _RefusalError(_DEFLATE_FAILED) from None
        at = self._begin[0]
        self._require_flash(at, len(body))
        for index, octet in enumerate(body, at):
            if index != self.faults.spoilt_at:
                self.flash[index] &= octet
        self._begin = (at + len(body), number + 1)
        return 0, b""

    def _flash_end(self, data: bytes, _: int) -> tuple[int, bytes]:
        struct.unpack("<I", data)
        self.leave()
        return 0, b""

    def _md5(self, data: bytes, _: int) -> tuple[int, bytes]:
        address, size, _zero, _zero2 = struct.unpack("<IIII", data)
        self._require_flash(address, size)
        digest = hashlib.md5(self.flash[address : address + size], usedforsecurity=False).hexdigest()
        if self.faults.bad_md5:
            self.faults.bad_md5 -= 1
            digest = digest[::-1]
        return 0, digest.encode()


class _RefusalError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_Handler = Callable[[RomLoader, bytes, int], tuple[int, bytes]]
_HANDLERS: dict[int, _Handler] = {
    _READ_REG: RomLoader._read_reg, _WRITE_REG: RomLoader._write_reg, _SECURITY_INFO: RomLoader._security_info,
    _SPI_ATTACH: RomLoader._attach, _SPI_SET_PARAMS: RomLoader._set_params, _CHANGE_BAUDRATE: RomLoader._change_baud,
    _FLASH_BEGIN: RomLoader._flash_begin, _FLASH_DATA: RomLoader._flash_data, _FLASH_END: RomLoader._flash_end,
    _DEFL_BEGIN: RomLoader._deflate_begin, _DEFL_DATA: RomLoader._flash_data, _DEFL_END: RomLoader._flash_end,
    _FLASH_MD5: RomLoader._md5,
}  # fmt: skip


def _reply(command: int, value: int, body: bytes, error: int = 0) -> bytes:
    """A response of an ESP32 or later: four octets of status, of which two say something."""
    packet = struct.pack("<BBHI", 1, command, len(body) + 4, value) + body + bytes((int(error != 0), error, 0, 0))
    escaped = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return b"\xc0" + escaped + b"\xc0"
