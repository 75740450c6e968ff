"""A chip's own loader in ROM, at the end of a port: which chip it is, what its flash holds, and an image written into it.

esptool does the talking: resets, chips, the loader's commands. It is taken as a library and says nothing on the screen. No stub is put
into the chip's RAM: what runs there is the chip's own ROM alone, which can erase, write compressed and tell an MD5 of what is there. That
is slower by a round trip a KiB, and leaves nothing behind that a pulled cable could meet.

Nothing is remembered of what was written: the flash is compared piece by piece by the loader's MD5, and only what differs is erased and
written. Cut off anywhere, the same call completes it. Knows no project, and decides nothing: what may be overwritten is the caller's.
Ref: Espressif, esptool documentation, "Serial Protocol" and "Boot Mode Selection".
"""

import contextlib
import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import esptool
import serial
from esptool.cmds import attach_flash, detect_chip, detect_flash_size
from esptool.util import flash_size_bytes, strip_chip_name

from lamppost_tools.errors import DeadlineError, MissingError, RefusedError

PIECE_BYTES = 64 << 10  # a block that flash chips erase at once; each is compared, written and proved by itself
SECTOR_BYTES = 4 << 10
_ATTEMPTS = 4  # each reset strategy of esptool once, five questions each
_ANSWER_S = 3.0  # what esptool waits for most answers: ports on the network are slow to be given another time
_FAST_BAUD = 460_800  # what common USB bridges and six boards on a hub bear
_ERASED = b"\xff"
#: What esptool raises at a line that is gone, or full of noise.
_LOADER_ERRORS = (esptool.FatalError, OSError, struct.error, IndexError, UnicodeDecodeError)
HOLD_BOOT = "hold BOOT, tap RESET, let BOOT go, and repeat the command; if that changes nothing: another cable, then another board"
_AGAIN = "plug it in again and repeat the command: it goes on where it stopped"


class NoLoaderError(MissingError):
    """Nothing at the port answers as a chip's loader does."""


class Flasher:
    """The loader of the chip at `port`, which is reset into it where the port has the lines for that. Use `opened`.

    `chip`: as `esp32c3`. `unit`: the chip's own number in hex, what MicroPython's `machine.unique_id()` says. `flash_bytes`: its flash.
    """

    def __init__(self, port: str) -> None:
        """Raises MissingError where the port cannot be opened, NoLoaderError, RefusedError for a chip that is closed."""
        esptool.log.set_verbosity("silent")  # several boards are worked on at once, and what matters is raised
        self.port = port
        self._loader: Any = None
        try:
            self._serial = serial.serial_for_url(port, baudrate=115_200, timeout=_ANSWER_S, exclusive=True)
        except (OSError, ValueError):
            raise MissingError(f"{port} cannot be opened", "is it plugged in, is no other program using it?") from None
        try:
            self._connect()
        except BaseException:
            self._serial.close()
            raise

    def _connect(self) -> None:
        self._has_lines = _has_lines(self._serial)
        try:
            self._loader = detect_chip(self._serial, connect_attempts=_ATTEMPTS)
        except _LOADER_ERRORS:
            self._serial.close()  # esptool may have done so
            with self._in_words():
                self._serial.open()
            raise NoLoaderError(f"{self.port}: no ROM loader of an Espressif chip answers", HOLD_BOOT) from None
        self.chip: str = strip_chip_name(self._loader.CHIP_NAME)
        with self._in_words():
            closed = self._loader.secure_download_mode or self._loader.get_flash_encryption_enabled()
            if closed or self._loader.get_secure_boot_enabled():
                raise RefusedError(
                    f"{self.port}: this {self.chip} is closed: secure boot, flash encryption or secure download is burnt into it",
                    "take another board: what this one runs is decided by whoever has its keys",
                )
            self.unit = bytes(self._loader.read_mac()).hex()
            attach_flash(self._loader)
            size = detect_flash_size(self._loader)
            if size is None:
                raise RefusedError(
                    f"{self.port}: the {self.chip} does not know its flash chip", "is it whole? try another board; tell us the flash chip"
                )
            self.flash_bytes = int(flash_size_bytes(size))
            self._loader.flash_set_parameters(self.flash_bytes)
            if self._has_lines:  # without them a cut would leave the chip at a speed at which nobody asks
                self._loader.change_baud(_FAST_BAUD)

    def holds(self, data: bytes, offset: int) -> bool:
        """Whether the flash holds exactly this from `offset` on. Raises DeadlineError, MissingError."""
        with self._in_words():
            return bool(self._loader.flash_md5sum(offset, len(data)) == hashlib.md5(data, usedforsecurity=False).hexdigest())
        raise AssertionError

    def is_blank(self, offset: int, size_bytes: int) -> bool:
        """Whether nothing is written there."""
        return self.holds(_ERASED * size_bytes, offset)

    def write(self, data: bytes, offset: int, tell: Callable[[int, int], None], is_rest_erased: bool = False) -> int:
        """Make the flash hold `data` from `offset` on, a multiple of 4096; how many pieces had to be written.

        `is_rest_erased`: all other flash ends up erased. `tell` hears (pieces done, of). The octets behind `data` to the end of its last
        sector of 4096 are erased. Raises RefusedError where it does not fit or does not read back, DeadlineError, MissingError.
        """
        if offset % SECTOR_BYTES:
            raise ValueError(f"offset {offset} is not a multiple of {SECTOR_BYTES}")
        if offset + len(data) > self.flash_bytes:
            raise RefusedError(
                f"{self.port}: the {self.chip} has {self.flash_bytes} bytes of flash, {offset + len(data)} are needed",
                "take a board with more flash",
            )
        pieces = list(_pieces(data, offset, self.flash_bytes if is_rest_erased else None))
        written = 0
        for number, (at, wanted) in enumerate(pieces):
            tell(number, len(pieces))
            if not self.holds(wanted, at):
                written += 1
                with self._in_words():
                    self._write_piece(wanted, at)
                if not self.holds(wanted, at):
                    raise RefusedError(
                        f"{self.port}: the flash does not keep what is written at {at:#x}",
                        "repeat the command; if it says so again, the flash is worn or badly supplied: take another board",
                    )
        tell(len(pieces), len(pieces))
        return written

    def _write_piece(self, wanted: bytes, at: int) -> None:
        loader = self._loader
        if wanted.strip(_ERASED):
            packed = zlib.compress(wanted, 9)
            loader.flash_defl_begin(len(wanted), len(packed), at)
            for number, start in enumerate(range(0, len(packed), loader.FLASH_WRITE_SIZE)):
                loader.flash_defl_block(packed[start : start + loader.FLASH_WRITE_SIZE], number)
        else:
            loader.flash_begin(len(wanted), at)  # which erases

    def start(self) -> None:
        """Let the chip run what its flash holds; the port is closed. Nothing where the port has no lines and the chip is gone."""
        with contextlib.suppress(esptool.FatalError, OSError):
            if self._has_lines:
                self._loader.hard_reset()
            else:
                self._loader.soft_reset(stay_in_bootloader=False)
        self.close()

    def close(self) -> None:
        """Give the port back; the loader stays where it is. Never raises."""
        with contextlib.suppress(OSError):
            self._serial.close()

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except _LOADER_ERRORS:
            self._require_cable()
            raise DeadlineError(f"{self.port}: the loader stopped answering, or noise is on the line", _AGAIN) from None

    def _require_cable(self) -> None:
        """Raises MissingError when the port itself is gone."""
        try:
            self._serial.in_waiting  # noqa: B018  asking is what fails
        except (OSError, TypeError):
            raise MissingError(f"{self.port}: the board is gone", _AGAIN) from None


@contextlib.contextmanager
def opened(port: str) -> Iterator[Flasher]:
    """The loader there; left by an exception, the port is given back and the chip stays in its loader."""
    made = Flasher(port)
    try:
        yield made
    finally:
        made.close()


def _has_lines(port: serial.Serial) -> bool:
    """Whether RTS and DTR exist, which on most boards are reset and boot; a network port and a terminal say no by failing."""
    try:
        port.cts  # noqa: B018  asking is what fails
    except OSError:
        return False
    return True


def _pieces(data: bytes, offset: int, flash_bytes: int | None) -> Iterator[tuple[int, bytes]]:
    """(where, what) from `offset`, or over the whole flash; cut at multiples of PIECE_BYTES, filled up to whole sectors."""
    ends = -(-(offset + len(data)) // SECTOR_BYTES) * SECTOR_BYTES if flash_bytes is None else flash_bytes
    whole = offset if flash_bytes is None else 0
    while whole < ends:
        until = min(ends, (whole // PIECE_BYTES + 1) * PIECE_BYTES)
        inside = data[max(0, whole - offset) : max(0, until - offset)]
        before = _ERASED * min(until - whole, max(0, offset - whole))
        yield whole, (before + inside).ljust(until - whole, _ERASED)
        whole = until
