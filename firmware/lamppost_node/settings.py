"""Small values the node writes itself (leases, counters, floors), each one file: crc32 (4 bytes, big-endian) then CBOR.

A power cut at any flash operation leaves the old value or the new one (`Flash.replace`). A file that does not check is corrupt:
it is counted and read as missing, because for every value kept here the safe answer to "unknown" is known to its reader.
"""

import binascii

from lamppost_protocol import cbor
from lamppost_protocol.errors import ProtocolError

from lamppost_node.flash import Flash

FOLDER = "settings"


def wrap(value: object) -> bytes:
    """crc32 and CBOR of one value."""
    body = cbor.encode(value)
    crc = binascii.crc32(body) & 0xFFFFFFFF
    head: bytes = crc.to_bytes(4, "big")
    return head + body


def unwrap(data: bytes) -> object:
    """The value of what `wrap` made. Raises ValueError for anything else."""
    if len(data) < 5 or int.from_bytes(data[:4], "big") != binascii.crc32(data[4:]) & 0xFFFFFFFF:
        raise ValueError("crc")
    try:
        return cbor.decode(data[4:])
    except ProtocolError:
        raise ValueError("cbor") from None


class Settings:
    """Named values on flash. `corrupt` counts files that did not check, `failed` flash operations that were refused."""

    def __init__(self, flash: Flash, folder: str = FOLDER):
        self._flash = flash
        self._folder = folder
        self.corrupt = 0
        self.failed = 0

    def _name(self, name: str) -> str:
        return self._folder + "/" + name

    def load(self, name: str) -> object:
        """The value, or None when it is missing, corrupt or unreadable (the latter two are counted). Never raises."""
        try:
            data = self._flash.read(self._name(name))
        except OSError:
            self.failed += 1
            return None
        if data is None:
            return None
        try:
            return unwrap(data)
        except ValueError:
            self.corrupt += 1
            return None

    def save(self, name: str, value: object) -> None:
        """Keep the value: durable when this returns. Writes flash. Raises OSError when the flash refuses (counted)."""
        try:
            self._flash.replace(self._name(name), wrap(value))
        except OSError:
            self.failed += 1
            raise

    def is_kept(self, name: str, value: object) -> bool:
        """Try to keep the value; False when the flash refused, for values whose loss only costs a repeat."""
        try:
            self.save(name, value)
        except OSError:
            return False
        return True
