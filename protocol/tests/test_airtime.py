"""Time on air against its formula in exact fractions, over everything a radio can be set to, and against published values."""

import json
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol.airtime import BARE, is_low_data_rate, largest_packet_bytes, packet_us, time_on_air_us
from lamppost_protocol.errors import LocalError
from lamppost_protocol.radio_limits import E22_WRAP

#: As the chip divides its 32 MHz crystal, in whole hertz: 500 kHz over 64, 48, 32, 24, 16, 12, 8, 4, 2, 1; and as datasheets round them.
EXACT_HZ = (7812, 10416, 15625, 20833, 31250, 41666, 62500, 125000, 250000, 500000)
ROUNDED_HZ = (7800, 7810, 10400, 10420, 15600, 15630, 20800, 20830, 31250, 41670, 41700)


def formula_s(octets: int, sf: int, hz: int, cr: int, preamble: int, header: bool, crc: bool) -> Fraction:
    """SX1261/2 datasheet rev. 2.1, 6.1.4, as it stands there."""
    symbol_s = Fraction(2**sf, hz)
    header_symbols = 20 if header else 0
    if sf in (5, 6):
        payload = ceil(Fraction(max(8 * octets + 16 * crc - 4 * sf + header_symbols, 0), 4 * sf)) * (cr + 4)
        symbols = preamble + Fraction(625, 100) + 8 + payload
    elif symbol_s < Fraction(16, 1000):
        payload = ceil(Fraction(max(8 * octets + 16 * crc - 4 * sf + 8 + header_symbols, 0), 4 * sf)) * (cr + 4)
        symbols = preamble + Fraction(425, 100) + 8 + payload
    else:
        payload = ceil(Fraction(max(8 * octets + 16 * crc - 4 * sf + 8 + header_symbols, 0), 4 * (sf - 2))) * (cr + 4)
        symbols = preamble + Fraction(425, 100) + 8 + payload
    return symbols * symbol_s


def an1200_13_s(octets: int, sf: int, hz: int, cr: int, preamble: int, header: bool, crc: bool, low: bool) -> Fraction:
    """AN1200.13, SF7 to SF12: the other way to write it."""
    blocks = Fraction(8 * octets - 4 * sf + 28 + 16 * crc - 20 * (not header), 4 * (sf - 2 * low))
    return (preamble + Fraction(17, 4) + 8 + max(ceil(blocks) * (cr + 4), 0)) * Fraction(2**sf, hz)


@pytest.mark.parametrize("sf", range(5, 13))
def test_every_setting_equals_the_formula(sf: int) -> None:
    """All bandwidths, coding rates, lengths, header and CRC: the datasheet's number, rounded up to the microsecond."""
    count = 0
    for hz in sorted({*EXACT_HZ, *ROUNDED_HZ}):
        for cr in range(1, 5):
            for header, crc in ((True, True), (True, False), (False, True), (False, False)):
                preamble = 8 if cr < 4 else 12
                for octets in range(256):
                    exact_us = formula_s(octets, sf, hz, cr, preamble, header, crc) * 1000000
                    assert time_on_air_us(octets, sf, hz, cr, preamble, header, crc) == ceil(exact_us), (octets, hz, cr, header, crc)
                    count += 1
    assert count == 20 * 4 * 4 * 256


@given(
    st.integers(0, 255), st.integers(7, 12), st.sampled_from(EXACT_HZ), st.integers(1, 4), st.integers(1, 65535), st.booleans(),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_the_application_note_agrees(octets: int, sf: int, hz: int, cr: int, preamble: int, header: bool, crc: bool, low: bool) -> None:
    """AN1200.13 gives the same, also where the low data rate optimisation is set against the rule."""
    exact_us = an1200_13_s(octets, sf, hz, cr, preamble, header, crc, low) * 1000000
    assert time_on_air_us(octets, sf, hz, cr, preamble, header, crc, low) == ceil(exact_us)


def test_low_data_rate_is_where_the_datasheet_wants_it() -> None:
    """SF11 and SF12 at 125 kHz, SF12 at 250 kHz, never at 500 kHz; no bandwidth of the chip lies between the two limits in use."""
    on = {(sf, hz) for sf in range(5, 13) for hz in (125000, 250000, 500000) if is_low_data_rate(sf, hz)}
    assert on == {(11, 125000), (12, 125000), (12, 250000)}
    symbols_us = [Fraction(2**sf * 1000000, hz) for sf in range(5, 13) for hz in EXACT_HZ]
    assert not [us for us in symbols_us if 16000 <= us < 16380]


def test_published_values() -> None:
    """Three calculators, a spreadsheet and another stack published these; none is off by a microsecond."""
    cases = json.loads((Path(__file__).resolve().parents[1] / "vectors/airtime.json").read_text())["cases"]
    published = [case for case in cases if "published_us" in case]
    assert len(published) >= 35
    assert len({case["source"] for case in published}) >= 5
    for case in published:
        assert time_on_air_us(**case["in"]) - case["published_us"] in (0, 1), case["id"]


@given(st.integers(1, 20000000), st.integers(5, 12), st.sampled_from(EXACT_HZ), st.integers(1, 4))
def test_the_largest_packet_is_the_largest(limit_us: int, sf: int, hz: int, cr: int) -> None:
    most = largest_packet_bytes(limit_us, sf, hz, cr)
    assert most == 0 or time_on_air_us(most, sf, hz, cr) <= limit_us
    assert most == 255 or time_on_air_us(most + 1, sf, hz, cr) > limit_us


def test_400_ms_at_125_khz() -> None:
    """What the dwell of US915 and AS923 leaves: SF7 to SF12."""
    assert [largest_packet_bytes(400000, sf, 125000) for sf in range(7, 13)] == [255, 138, 66, 24, 0, 0]


def test_out_of_range_is_refused() -> None:
    for arguments in ((-1, 7, 125000), (256, 7, 125000), (1, 4, 125000), (1, 13, 125000), (1, 7, 500001), (1, 7, 125000, 0)):
        with pytest.raises(LocalError):
            time_on_air_us(*arguments)


@pytest.mark.parametrize("octets", [1, 31, 98, 239])
def test_an_e22_counts_as_what_it_puts_around_a_packet(octets: int) -> None:
    """Length, header, low data rate optimisation and the longest preamble it may have; a bare packet counts as itself."""
    exact_us = an1200_13_s(octets + 9, 11, 500_000, 1, 64, True, True, True) * 1000000
    assert packet_us(E22_WRAP, octets, 11, 500_000) == ceil(exact_us)
    assert packet_us(BARE, octets, 11, 500_000) == time_on_air_us(octets, 11, 500_000) < exact_us


def test_no_e22_packet_is_longer_than_its_sub_packet() -> None:
    """Its length and 239 octets fill the module's 240; one more would be a second packet on the air."""
    assert largest_packet_bytes(10**9, 11, 500_000, 1, E22_WRAP) == 239
    with pytest.raises(LocalError, match="too_long"):
        packet_us(E22_WRAP, 240, 11, 500_000)
