"""What lies in RTC memory over a deep sleep: believed whole or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_node import rtc_image
from lamppost_protocol.errors import LocalError

_NUMBERS = st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=40) | st.text("abcxyz", max_size=10)
VALUES = st.recursive(_NUMBERS, lambda inner: st.lists(inner, max_size=6), max_leaves=20)
#: As a bin keeps it: boot, head, clock, parts.
IMAGE = [
    3,
    [256, 2_997_202_955],
    858_333_713_000,
    909_922,
    [13_781_587, 1_805_112_000, 1_353_000, 552_000, 0, None, 5, 0],
    [["bin", b"\x87" * 30]],
]


@given(VALUES)
def test_what_is_kept_comes_back(value: object) -> None:
    """Any value that CBOR carries."""
    try:
        image = rtc_image.encode(value)
    except LocalError:
        return  # deeper than the codec allows
    assert rtc_image.decode(image) == value


def test_every_truncation_and_every_flipped_bit_is_refused() -> None:
    """All of them, and octets too many."""
    image = rtc_image.encode(IMAGE)
    assert rtc_image.decode(image) == IMAGE
    spoilt = [image[:length] for length in range(len(image))] + [image + octet for octet in (b"\x00", b"\xff")]
    for bit in range(8 * len(image)):
        flipped = bytearray(image)
        flipped[bit // 8] ^= 1 << bit % 8
        spoilt.append(bytes(flipped))
    for data in spoilt:
        with pytest.raises(ValueError, match=r"no image|crc|cbor"):
            rtc_image.decode(data)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """What RTC memory holds behind a power cut; a check of 32 bits lets none of these through."""
    with pytest.raises(ValueError, match=r"no image|crc|cbor"):
        rtc_image.decode(data)


def test_more_than_there_is_room_for_is_refused() -> None:
    """The node then stays awake."""
    with pytest.raises(LocalError) as caught:
        rtc_image.encode([bytes(100)] * 16)
    assert caught.value.reason == "too_long"
