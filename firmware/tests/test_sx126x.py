"""What only the SX1262 and its driver have; the rest is in test_lora_radios.py."""

import asyncio

import pytest
from bench.peripherals.ether import Ether
from fake_buses import never_longer, run_virtual
from radio_bench import EUROPE_HZ, PACKET, Radio, carry, fault_and_back, fault_of, run_radios


@pytest.mark.parametrize(("fault", "reason"), [("busy_stuck", "busy_stuck"), ("tcxo_dead", "no_oscillator")])
def test_what_else_does_not_work_is_a_named_fault_too(fault: str, reason: str) -> None:
    """As in test_lora_radios.py, of what only this chip has."""

    async def story(one: Radio, other: Radio) -> None:
        await fault_and_back(one, other, fault, None, reason)

    run_radios(story)


def test_a_command_lost_after_a_timeout_is_asked_again() -> None:
    """A timeout stays one: the radio is not taken for restarted."""

    async def story(one: Radio, other: Radio) -> None:
        other.fault("timeout_deaf")
        for _ in range(3):
            assert await other.driver.receive(100) is None
        assert other.driver.restarts == 0
        assert await carry(one, other) is not None

    run_radios(story)


def test_a_header_error_does_not_hide_the_next_packet() -> None:
    """Nobody looked in between, for DIO1 is broken: both are known, and the good packet is delivered."""

    async def story(one: Radio, other: Radio) -> None:
        other.fault("dio1_broken")
        listening = asyncio.create_task(other.driver.receive(5000))
        await asyncio.sleep(1.1)
        other.fault("header_error")
        await one.driver.send(b"x")
        other.clear("header_error")
        await one.driver.send(b"good")
        found = await never_longer(listening, 10)
        assert found is not None
        assert found.packet == b"good"
        assert other.driver.header_errors == 1

    run_radios(story, spreading_factor=7)


@pytest.mark.parametrize(("opcode", "spoilt"), [(0x8B, b"\x8b\x0d\x04\x01\x00"), (0x8E, b"\x8e\x7f\x04"), (0x86, b"\xff\x36\x41\x99\x9a")])
def test_a_command_that_the_radio_refuses_is_a_fault(opcode: int, spoilt: bytes) -> None:
    """A bit turned over on MOSI: the radio says so in the status of the next command, and the driver does not send with half a setting."""

    async def story(one: Radio, other: Radio) -> None:
        one.spi.spoil = lambda octets: spoilt if octets[0] == opcode else octets  # type: ignore[method-assign]
        assert await fault_of(one.driver.configure(EUROPE_HZ, 9, 125000)) == "command_failed"
        assert await fault_of(one.driver.send(PACKET)) == "command_failed"
        assert one.model.sent == []
        one.spi.spoil = lambda octets: octets  # type: ignore[method-assign]
        assert await carry(one, other) is not None

    run_radios(story)


def test_a_tcxo_needs_its_supply() -> None:
    """Told of no TCXO, the driver finds that there is one, by the oscillator's error."""

    async def work() -> None:
        radio = Radio("one", Ether(1), tcxo_mv=0)
        assert await fault_of(radio.driver.configure(EUROPE_HZ, 9, 125000)) == "no_oscillator"

    run_virtual(work())
