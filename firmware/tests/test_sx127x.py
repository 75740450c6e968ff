"""What only the SX1276 and its driver have; the rest is in test_lora_radios.py."""

import asyncio

import pytest
from bench.peripherals.ether import Ether
from bench.peripherals.sx1276 import SX1276
from fake_buses import run_virtual
from radio_bench import EUROPE_HZ, PACKET, Radio, carry, fault_and_back, fault_of, run_radios

CHIPS = ("sx1276", "sx1276")


@pytest.mark.parametrize("other_chip", ["sx1262", "sx1276"])
@pytest.mark.parametrize("frequency_hz", [433_175_000, EUROPE_HZ, 915_000_000])
@pytest.mark.parametrize("bandwidth_hz", [125000, 500000])
def test_its_errata_are_applied(bandwidth_hz: int, frequency_hz: int, other_chip: str) -> None:
    """At the edge of hearing, where the 10 dB that the model takes for each erratum, polarity or a calibration left out would be missed;
    both ways, and with inverted polarity too.
    """

    async def story(one: Radio, other: Radio) -> None:
        loss_db = one.model.ether.received_dbm
        for is_iq_inverted in (False, True):
            for radio in (one, other):
                await radio.driver.configure(frequency_hz, 9, bandwidth_hz, is_iq_inverted=is_iq_inverted)
            other.cabinet.set("x_m", 1.0)
            assert await carry(one, other) is not None
            margin_db = loss_db(one.model.sent[-1], other.model.station) - (-174 + 6 + (51 if bandwidth_hz == 125000 else 57) - 12.5)
            other.cabinet.set("x_m", 10 ** ((margin_db - 5) / 30))
            for sender, receiver in ((one, other), (other, one)):
                assert await carry(sender, receiver) is not None

    run_radios(story, 100, ("sx1276", other_chip))


@pytest.mark.parametrize(
    ("frequency_hz", "bandwidth_hz"), [(136_900_000, 125000), (170_000_000, 250000), (300_000_000, 125000), (780_000_000, 125000)]
)
def test_bands_it_does_not_have_are_refused(frequency_hz: int, bandwidth_hz: int) -> None:
    """ValueError before the chip hears of it; and a preamble of less than six symbols is none."""

    async def story(one: Radio, other: Radio) -> None:
        with pytest.raises(ValueError, match="setting"):
            await one.driver.configure(frequency_hz, 9, bandwidth_hz)
        with pytest.raises(ValueError, match="setting"):
            await one.driver.configure(EUROPE_HZ, 9, 125000, 1, 5)

    run_radios(story, chips=CHIPS)


def test_another_band_is_calibrated_anew() -> None:
    """The image's calibration is a band's own; that is no restart."""

    async def story(one: Radio, other: Radio) -> None:
        assert isinstance(other.model, SX1276)
        for frequency_hz in (433_175_000, EUROPE_HZ, 868_300_000, 433_175_000):
            for radio in (one, other):
                await radio.driver.configure(frequency_hz, 9, 125000)
            assert other.model._is_calibrated_high == (frequency_hz > 862_000_000)
            assert await carry(one, other) is not None
        assert one.driver.restarts == other.driver.restarts == 0

    run_radios(story, chips=CHIPS)


def test_activity_within_a_packet_is_seen_by_its_strength() -> None:
    """Behind the preamble the chip detects nothing: a link that also asks for the strength finds the channel taken all the same."""

    async def story(one: Radio, other: Radio) -> None:
        sending = asyncio.create_task(one.driver.send(PACKET))
        await asyncio.sleep(0.2)
        assert await other.driver.is_channel_active() is False
        assert await other.driver.channel_rssi_dbm(5) > -110
        await sending

    run_radios(story, chips=CHIPS)


def test_a_calibration_that_never_ends_is_a_named_fault() -> None:
    """As in test_lora_radios.py, of a chip that has to start anew."""

    async def story(one: Radio, other: Radio) -> None:
        one.fault("brown_out")
        await fault_and_back(one, other, "image_stuck", None, "calibration_failed")

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize("address", [0x06, 0x09, 0x1D, 0x26, 0x33, 0x39])
def test_a_setting_that_does_not_arrive_is_a_fault(address: int) -> None:
    """A bit turned over on MOSI: the register is read back, and the driver does not send with half a setting."""

    async def story(one: Radio, other: Radio) -> None:
        one.spi.spoil = lambda octets: octets[:1] + bytes((octets[1] ^ 4,)) + octets[2:] if octets[0] == 0x80 | address else octets  # type: ignore[method-assign]
        assert await fault_of(one.driver.configure(EUROPE_HZ, 9, 125000)) in ("command_failed", "" if address == 0x06 else "-")
        assert await fault_of(one.driver.send(PACKET)) == "command_failed"
        assert one.model.sent == []
        one.spi.spoil = lambda octets: octets  # type: ignore[method-assign]
        assert await carry(one, other) is not None

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize(("chip", "driver", "reason"), [("sx1262", "sx1276", "wrong_chip"), ("sx1276", "sx1262", "no_answer")])
def test_the_other_chip_is_told_at_once(chip: str, driver: str, reason: str) -> None:
    """The configuration names the one and the board has the other: a named fault, not a radio that hears nothing."""

    async def work() -> None:
        radio = Radio("one", Ether(1), chip=chip, driver=driver)
        assert await fault_of(radio.driver.configure(EUROPE_HZ, 9, 125000)) == reason
        assert radio.model.sent == []

    run_virtual(work())
