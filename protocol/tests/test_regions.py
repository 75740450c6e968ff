"""The table of regions against the law as written down here a second time, and what a technician reads when a radio would break it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol.airtime import BARE, time_on_air_us
from lamppost_protocol.ledger import HOUR_MS, Ledger
from lamppost_protocol.regions import REGIONS, Radio, UnlawfulError, check_radio, most_packet_bytes, reserve_us


def radio(region: str, *channels_hz: int, **changes: int) -> Radio:
    settings = {"bandwidth_hz": 125000, "spreading_factor": 9, "power_dbm": 12, "antenna_dbi": 1, "listen_us": 0, **changes}
    return Radio(
        region, list(channels_hz), settings["bandwidth_hz"], settings["spreading_factor"], 1, BARE, settings["power_dbm"],
        settings["antenna_dbi"], settings["listen_us"],
    )  # fmt: skip


def permille_at(channel_khz: int) -> int | None:
    """EN 300 220-2 V3.2.1 annex B, read off for 125 kHz: the duty cycle in permille, None where none is allowed."""
    low, high = channel_khz - 62.5, channel_khz + 62.5
    for first, last, permille in (
        (863, 865, 1),
        (865, 868, 10),
        (868, 868.6, 10),
        (868.7, 869.2, 1),
        (869.4, 869.65, 100),
        (869.7, 870, 10),
    ):
        if first * 1000 <= low and high <= last * 1000:
            return permille
    return None


def test_europe_kilohertz_by_kilohertz() -> None:
    """Every 5 kHz from 862 to 871 MHz: allowed with the right share of an hour, or refused with the paragraph."""
    refused = 0
    for channel_khz in range(862000, 871001, 5):
        permille = permille_at(channel_khz)
        try:
            (band,) = check_radio(radio("EU868", channel_khz * 1000))
        except UnlawfulError as error:
            refused += 1
            assert permille is None
            assert "863.000 to 865.000 MHz" in error.next_step
            continue
        assert permille is not None
        assert (band.airtime_us, band.window_ms) == (permille * 3_600_000, HOUR_MS)
        assert band.eirp_dbm == (29 if permille == 100 else 16)
        assert not band.is_per_channel
    assert refused > 400


def test_america_on_one_narrow_channel_is_refused() -> None:
    """125 kHz on fewer than 50 channels does not meet 15.247; 500 kHz on one does, and has no airtime to count."""
    spread = [902_300_000 + 200_000 * i for i in range(64)]
    for count in (1, 8, 49):
        with pytest.raises(UnlawfulError, match=r"15\.247 \(a\)\(1\)\(i\).*50 channels or more, or use 500 kHz"):
            check_radio(radio("US915", *spread[:count]))
    hopping = check_radio(radio("US915", *spread[:50]))[0]
    assert (hopping.airtime_us, hopping.window_ms, hopping.dwell_us, hopping.is_per_channel) == (400_000, 20_000, 400_000, True)
    digital = check_radio(radio("US915", 915_000_000, bandwidth_hz=500_000, spreading_factor=12, power_dbm=22))[0]
    assert (digital.airtime_us, digital.dwell_us) == (None, None)


def test_a_channel_named_twice_is_not_two_channels() -> None:
    spread = [902_300_000 + 200_000 * i for i in range(49)]
    with pytest.raises(UnlawfulError):
        check_radio(radio("US915", *spread, spread[0]))


def test_japan_needs_ears() -> None:
    """Without carrier sense refused; with 5 ms of it allowed, four seconds a packet."""
    with pytest.raises(UnlawfulError, match="carrier sense"):
        check_radio(radio("AS923-JP", 921_000_000, listen_us=4999))
    assert check_radio(radio("AS923-JP", 921_000_000, listen_us=5000))[0].dwell_us == 4_000_000


@given(
    st.sampled_from(sorted(REGIONS)), st.integers(860_000, 930_000), st.sampled_from((62500, 125000, 250000, 500000)), st.integers(5, 12),
    st.integers(-5, 40), st.integers(-3, 20),
)  # fmt: skip
def test_what_is_allowed_keeps_every_rule(
    region: str, channel_khz: int, bandwidth_hz: int, sf: int, power_dbm: int, antenna_dbi: int
) -> None:
    """An allowed radio keeps band, power and dwell and can send its longest packet; a refused one is told paragraph and next step."""
    asked = radio(
        region, channel_khz * 1000, bandwidth_hz=bandwidth_hz, spreading_factor=sf, power_dbm=power_dbm, antenna_dbi=antenna_dbi,
        listen_us=5000,
    )  # fmt: skip
    try:
        (band,) = check_radio(asked)
    except UnlawfulError as error:
        assert error.law
        assert error.law in str(error)
        assert error.next_step in str(error)
        told = re.search(r"set power_dbm to (-?\d+) at most", error.next_step)
        if told:
            assert int(told[1]) < power_dbm
            try:
                check_radio(asked._replace(power_dbm=int(told[1])))
            except UnlawfulError as other:
                assert "power_dbm" not in other.next_step
        return
    assert band.first_hz <= channel_khz * 1000 - bandwidth_hz // 2
    assert channel_khz * 1000 + bandwidth_hz // 2 <= band.last_hz
    assert power_dbm <= 30
    assert power_dbm + antenna_dbi <= band.eirp_dbm
    most = most_packet_bytes(band, asked)
    airtime_us = time_on_air_us(most, sf, bandwidth_hz)
    assert band.dwell_us is None or airtime_us <= band.dwell_us
    if band.airtime_us is not None:
        Ledger(band.airtime_us, band.window_ms, reserve_us(band), 0).spend(airtime_us, 0)


def test_every_rule_names_its_law() -> None:
    """And every band is a band: in order, its limits in range."""
    for bands in REGIONS.values():
        for band in bands:
            assert band.first_hz < band.last_hz
            assert band.narrowest_hz <= band.widest_hz <= 500000
            assert re.search(r"ETSI EN 300 220-2|47 CFR 15\.247|RP002|ARIB STD-T108|ACMA LIPD|G\.S\.R\.", band.law)
