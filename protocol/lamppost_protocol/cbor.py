"""A strict, deterministic subset of CBOR (RFC 8949 section 4.2.1). WIRE.md section 2 is its definition.

Values: integers from -2^63 to 2^64-1, byte strings, ASCII text, arrays, maps with integer or text keys, true, false, null.
Refused: floats, tags, indefinite lengths, integers and lengths longer than needed, map keys unsorted or repeated, text outside
ASCII, trailing octets, more than `limits.MAX_DEPTH` levels or `limits.MAX_ITEMS` items. General decoders accept most of these.
"""

from .errors import LocalError, RemoteError
from .limits import MAX_DEPTH, MAX_ITEMS

_UINT = 0x00
_NEGATIVE = 0x20
_BYTES = 0x40
_TEXT = 0x60
_ARRAY = 0x80
_MAP = 0xA0


def head(major: int, value: int) -> bytes:
    """Return the initial octets of an item: `major` already shifted (0x00 .. 0xA0), 0 <= value < 2^64, shortest form."""
    if value < 24:
        return bytes((major | value,))
    if value < 0x100:
        return bytes((major | 24, value))
    if value < 0x10000:
        return bytes((major | 25,)) + value.to_bytes(2, "big")
    if value < 0x100000000:
        return bytes((major | 26,)) + value.to_bytes(4, "big")
    if value < 0x10000000000000000:
        return bytes((major | 27,)) + value.to_bytes(8, "big")
    raise LocalError("bad_cbor", "integer beyond 64 bits")


def byte_string(value: bytes) -> bytes:
    """Return `value` as an encoded byte string."""
    return head(_BYTES, len(value)) + value


def encode(value: object) -> bytes:
    """Return the one encoding of `value`. Raises LocalError("bad_cbor") for what the subset cannot carry."""
    out = bytearray()
    _append(out, value, 0)
    return bytes(out)


def _append(out: bytearray, value: object, depth: int) -> None:
    if value is None:
        out.append(0xF6)
    elif value is True:
        out.append(0xF5)
    elif value is False:
        out.append(0xF4)
    elif isinstance(value, int):
        if value >= 0:
            out.extend(head(_UINT, value))
        elif value >= -0x8000000000000000:
            out.extend(head(_NEGATIVE, -1 - value))
        else:
            raise LocalError("bad_cbor", "integer beyond 64 bits")
    elif isinstance(value, (bytes, bytearray)):
        out.extend(head(_BYTES, len(value)))
        out.extend(value)
    elif isinstance(value, str):
        text = value.encode()
        if len(text) != len(value):
            raise LocalError("bad_cbor", "text outside ASCII")
        out.extend(head(_TEXT, len(text)))
        out.extend(text)
    elif isinstance(value, (list, tuple)):
        _check_container(len(value), depth)
        out.extend(head(_ARRAY, len(value)))
        for item in value:
            _append(out, item, depth + 1)
    elif isinstance(value, dict):
        _check_container(2 * len(value), depth)
        out.extend(head(_MAP, len(value)))
        # MicroPython keeps no insertion order: the order is that of the encoded keys, on every runtime.
        pairs = []
        for key in value:
            if key is True or key is False or not isinstance(key, (int, str)):
                raise LocalError("bad_cbor", "map key is neither integer nor text")
            pairs.append((encode(key), key))
        pairs.sort()
        for encoded, key in pairs:
            out.extend(encoded)
            _append(out, value[key], depth + 1)
    else:
        raise LocalError("bad_cbor", "type not in the subset")


def _check_container(items: int, depth: int) -> None:
    if depth >= MAX_DEPTH or items > MAX_ITEMS:
        raise LocalError("bad_cbor", "container too deep or too large")


def decode(data: bytes) -> object:
    """Return the value of `data`, which must be exactly one item of the subset. Arrays become lists, maps dicts.

    Raises RemoteError("bad_cbor") for everything else, and nothing else, whatever the octets.
    """
    value, end = _item(data, 0, 0)
    if end != len(data):
        raise RemoteError("bad_cbor", "octets after the item")
    return value


def _item(data: bytes, at: int, depth: int) -> tuple[object, int]:
    if at >= len(data):
        raise RemoteError("bad_cbor", "truncated")
    initial = data[at]
    at += 1
    major = initial & 0xE0
    low = initial & 0x1F
    if major == 0xE0:
        if initial == 0xF6:
            return None, at
        if initial == 0xF5:
            return True, at
        if initial == 0xF4:
            return False, at
        raise RemoteError("bad_cbor", "float or simple value")
    if major == 0xC0:
        raise RemoteError("bad_cbor", "tag")
    if low < 24:
        value = low
    elif low < 28:
        width = 1 << (low - 24)
        end = at + width
        if end > len(data):
            raise RemoteError("bad_cbor", "truncated")
        value = int.from_bytes(data[at:end], "big")
        # The shortest form is the only form: a two-octet 23 or an eight-octet 2^32-1 has another, so it is refused.
        if value < (24 if width == 1 else 1 << (4 * width)):
            raise RemoteError("bad_cbor", "not the shortest form")
        at = end
    else:
        raise RemoteError("bad_cbor", "indefinite or reserved length")
    if major == _UINT:
        return value, at
    if major == _NEGATIVE:
        if value > 0x7FFFFFFFFFFFFFFF:
            raise RemoteError("bad_cbor", "integer below -2^63")
        return -1 - value, at
    if major == _BYTES or major == _TEXT:
        end = at + value
        if end > len(data):
            raise RemoteError("bad_cbor", "truncated")
        piece = bytes(data[at:end])
        if major == _BYTES:
            return piece, end
        for octet in piece:
            if octet > 0x7F:
                raise RemoteError("bad_cbor", "text outside ASCII")
        return piece.decode(), end
    if depth >= MAX_DEPTH:
        raise RemoteError("bad_cbor", "nested too deep")
    if (value if major == _ARRAY else 2 * value) > MAX_ITEMS:
        raise RemoteError("bad_cbor", "too many items")
    if major == _ARRAY:
        items = []
        for _ in range(value):
            item, at = _item(data, at, depth + 1)
            items.append(item)
        return items, at
    pairs = {}
    previous = b""
    for _ in range(value):
        start = at
        key, at = _item(data, at, depth + 1)
        if key is True or key is False or not isinstance(key, (int, str)):
            raise RemoteError("bad_cbor", "map key is neither integer nor text")
        encoded = bytes(data[start:at])
        if encoded <= previous:
            raise RemoteError("bad_cbor", "map keys unsorted or repeated")
        previous = encoded
        item, at = _item(data, at, depth + 1)
        pairs[key] = item
    return pairs, at
