"""The SX1262 model at its octets and pins: layouts, status, BUSY, states and refusals as the data sheet has them, without our driver."""

import math

import pytest
from bench.peripherals.ether import Ether, Station
from bench.peripherals.sx1262 import SX1262
from hypothesis import given, settings
from hypothesis import strategies as st


class Chip:
    """A host of a few lines: one transaction at a time, each when BUSY is low again."""

    def __init__(self, name: str = "chip", ether: "Ether | None" = None, tcxo_start_s: "float | None" = None) -> None:
        self.model = SX1262(1, ether or Ether(1), Station(name), 0.0, tcxo_start_s)
        self.now_s = 0.01

    def raw(self, octets: bytes) -> bytes:
        """Without looking at BUSY."""
        self.model.select(0, self.now_s)
        answer = self.model.transfer(octets, self.now_s)
        self.model.select(1, self.now_s)
        return answer

    def do(self, text: str) -> bytes:
        for _ in range(10000):
            if not self.model.busy(self.now_s):
                return self.raw(bytes.fromhex(text))
            self.now_s += 1e-5
        raise AssertionError("busy for ever")

    def status(self) -> tuple[int, int]:
        """(chip mode, command status)"""
        octet = self.do("c0 00")[1]
        return octet >> 4 & 7, octet >> 1 & 7

    def lora(self, packet_bytes: int = 4) -> "Chip":
        """868.1 MHz, SF7, 125 kHz, 4/5, 14 dBm, all interrupts on DIO1."""
        for text in (
            "8a 01", "86 36 41 99 9a", "95 02 02 00 01", "8e 16 04", "8b 07 04 01 00", f"8c 0008 00 {packet_bytes:02x} 01 00", "8f 00 00",
            "08 03ff 03ff 0000 0000", "0d 08d8 de", "0d 0889 05",
        ):  # fmt: skip
            self.do(text)
            assert self.status() == (2, 1), text
        return self

    def irq(self) -> int:
        return int.from_bytes(self.do("12 00 00 00")[2:], "big")


def test_after_reset() -> None:
    """Standby on the RC oscillator, private sync word, no errors with a crystal; with a TCXO its start error, and so a failed command."""
    chip = Chip()
    assert chip.status() == (2, 1)
    assert chip.do("1d 0740 00 00 00")[4:] == b"\x14\x24"
    assert chip.do("17 00 00 00")[2:] == b"\x00\x00"
    assert chip.do("11 00 00")[2] == 0  # GFSK
    chip = Chip(tcxo_start_s=0.003)
    assert chip.status() == (2, 5)
    assert chip.do("17 00 00 00")[2:] == b"\x00\x20"
    chip.do("07 0000")
    assert chip.do("17 00 00 00")[2:] == b"\x00\x00"


def test_the_first_octet_says_nothing_and_the_others_the_status() -> None:
    assert Chip().do("80 00") == b"\x00\x22"
    assert Chip().do("0e 00 01 02 03") == b"\x00" + 4 * b"\x22"


def test_registers_and_buffer() -> None:
    """Written octets are read back at the layouts of sections 13.2.1 to 13.2.4; the buffer wraps."""
    chip = Chip()
    chip.do("0d 0740 34 44")
    assert chip.do("1d 0740 00 00 00") == b"\x00\x22\x22\x22\x34\x44"
    chip.do("0e fe 01 02 03 04")
    assert chip.do("1e fe 00 00 00 00 00") == b"\x00\x22\x22\x01\x02\x03\x04"
    assert chip.do("1e 00 00 00 00")[3:] == b"\x03\x04"


@pytest.mark.parametrize(
    "text",
    ["ff 00", "80", "80 02", "83 00", "8b 04 04 01 00", "8b 07 07 01 00", "8b 07 04 05 00", "8e 17 04", "93 21", "8c 0000 00 04 01 00"],
)
def test_what_it_cannot_understand_is_a_processing_error(text: str) -> None:
    """Unknown opcode, missing parameter, value out of range: status 4, until the next command."""
    chip = Chip().lora()
    chip.do(text)
    assert chip.status() == (2, 4)
    chip.do("80 00")
    assert chip.status() == (2, 1)


def test_what_it_cannot_do_now_is_an_execution_failure() -> None:
    """Sending without a packet type, regulator and calibration outside STDBY_RC: status 5."""
    chip = Chip()
    for text in ("83 000000", "82 000000", "c5"):
        chip.do(text)
        assert chip.status() == (2, 5), text
    chip.lora()
    chip.do("80 01")
    assert chip.status() == (3, 1)
    for text in ("96 01", "89 7f"):
        chip.do(text)
        assert chip.status() == (3, 5), text
    chip.do("82 ffffff")
    for text in ("84 00", "8a 00"):
        chip.do(text)
        assert chip.status() == (5, 5), text


def test_busy_lasts_as_long_as_the_work() -> None:
    """Reset and full calibration 3.5 ms, a change to RX 83 us; what is clocked meanwhile is lost and counted."""
    chip = Chip()
    chip.model.reset(0, 0.02)
    chip.model.reset(1, 0.021)
    assert chip.model.busy(0.0244) == 1
    assert chip.model.busy(0.0246) == 0
    chip.now_s = 0.03
    chip.lora()
    begin_s = chip.now_s
    chip.do("89 7f")
    assert chip.model.busy(begin_s + 0.0034) == 1
    assert chip.raw(b"\x8a\x00") == b"\x00\x00"
    assert chip.model.ignored == 1
    assert chip.do("11 00 00")[2] == 1
    chip.do("82 ffffff")
    assert chip.model.busy(chip.now_s + 80e-6) == 1
    assert chip.model.busy(chip.now_s + 90e-6) == 0
    assert chip.status() == (5, 1)


def test_sleep_keeps_busy_high_until_nss_falls() -> None:
    """Cold: everything is forgotten, 3.5 ms; warm: kept, 0.34 ms."""
    for text, kind, wake_s in (("84 00", 0, 0.0036), ("84 04", 1, 0.00036)):
        chip = Chip().lora()
        chip.do(text)
        chip.now_s += 10
        assert chip.model.is_asleep
        assert chip.model.busy(chip.now_s) == 1
        chip.raw(b"")
        assert chip.model.busy(chip.now_s + wake_s - 0.00005 * (1 + 5 * (kind == 0))) == 1
        chip.now_s += wake_s
        assert chip.model.busy(chip.now_s) == 0
        assert chip.do("11 00 00")[2] == kind


def test_sending() -> None:
    """TX for the packet's time on air, then TxDone on DIO1 and standby; status 6 until the next command."""
    chip = Chip().lora()
    chip.do("0e 00 01 02 03 04")
    chip.do("83 000000")
    assert chip.status() == (6, 1)
    sent = chip.model.sent[0]
    assert sent.packet == b"\x01\x02\x03\x04"
    assert sent.power_dbm == 14
    assert math.isclose(sent.due_s - sent.start_s, (8 + 4.25 + 8 + 2 * 5) * 1.024e-3)  # 4 octets: 48 bits in two blocks
    assert chip.model.dio1(sent.due_s - 1e-6) == 0
    assert chip.model.dio1(sent.due_s + 1e-6) == 1
    chip.now_s = sent.due_s + 1e-5
    assert chip.status() == (2, 6)
    assert chip.irq() == 0x0001
    chip.do("02 0001")
    assert chip.irq() == 0
    assert chip.model.dio1(chip.now_s) == 0


def test_transmission_timeout_cuts_the_packet() -> None:
    """640 steps of 15.625 us are 10 ms."""
    chip = Chip().lora(255)
    chip.do("83 000280")
    sent = chip.model.sent[0]
    chip.now_s = sent.start_s + 0.0101
    assert chip.irq() == 0x0200
    assert math.isclose(sent.end_s, sent.start_s + 0.01)


def test_reception_timeout() -> None:
    """6400 steps are 100 ms: Timeout, standby, and status 3 until the next command."""
    chip = Chip().lora()
    chip.do("82 001900")
    begin_s = chip.now_s
    assert chip.model.dio1(begin_s + 0.0999) == 0
    assert chip.model.dio1(begin_s + 0.1002) == 1
    chip.now_s = begin_s + 0.11
    assert chip.status() == (2, 3)
    assert chip.irq() == 0x0200


def pair() -> tuple[Chip, Chip]:
    ether = Ether(1)
    one, other = Chip("one", ether).lora(), Chip("other", ether).lora()
    other.model.station.x_m = 100.0
    one.now_s = other.now_s = max(one.now_s, other.now_s)
    return one, other


def test_receiving() -> None:
    """Single reception: preamble, header and RxDone in their order; length and place in the buffer; RSSI and SNR; standby; status 2."""
    one, other = pair()
    other.do("8f 00 80")
    other.do("82 000000")
    one.do("0e 00 c0 ff ee 11")
    one.now_s = other.now_s
    one.do("83 000000")
    sent = one.model.sent[0]
    for at_s, irq in ((sent.sync_s - 1e-4, 0), (sent.sync_s + 1e-4, 0x04), (sent.header_s + 1e-4, 0x14), (sent.due_s + 1e-4, 0x16)):
        other.now_s = at_s
        assert other.irq() == irq
    assert other.status() == (2, 2 - 1)  # reading the interrupts was a command of its own
    assert other.do("13 00 00 00")[2:] == b"\x04\x80"
    assert other.do("1e 80 00 00 00 00 00")[3:] == bytes.fromhex("c0ffee11")
    rssi, snr, signal = other.do("14 00 00 00 00")[2:]
    assert abs(-rssi / 2 - (14 - 31.22 - 60)) < 0.6
    assert snr == 48
    assert rssi == signal
    assert other.do("10 00 00 00 00 00 00 00")[2:] == b"\x00\x01\x00\x00\x00\x00"


def test_continuous_reception() -> None:
    """It stays in RX; each packet lies behind the last; a new SetRx begins at the base again."""
    one, other = pair()
    for _ in range(2):
        other.do("82 ffffff")
        for start in (0, 4, 8):
            one.now_s = other.now_s
            one.do("83 000000")
            other.now_s = one.model.sent[-1].due_s + 0.001
            assert other.irq() & 0x02
            other.do("02 03ff")
            assert other.do("13 00 00 00")[2:] == bytes((4, start))
            assert other.status() == (5, 1)


def test_an_aborted_packet_is_a_crc_error_and_half_a_header_a_header_error() -> None:
    """The sender goes to standby in the middle: after the header, and before."""
    for part_s, irq in ((0.001, 0x56), (-0.002, 0x24)):
        one, other = pair()
        other.do("82 000000")
        one.now_s = other.now_s
        one.do("83 000000")
        sent = one.model.sent[0]
        one.now_s = sent.header_s + part_s
        one.do("80 00")
        other.now_s = sent.due_s + 1e-3
        assert other.irq() == irq


def test_it_does_not_hear_while_it_sends() -> None:
    """Half duplex: two that send at once hear nothing of each other."""
    one, other = pair()
    for chip in (one, other):
        chip.do("83 000000")
    end_s = max(one.model.sent[0].due_s, other.model.sent[0].due_s) + 0.001
    for chip in (one, other):
        chip.now_s = end_s
        assert chip.irq() == 0x0001


def test_channel_activity_detection() -> None:
    """CadDone after the symbols, CadDetected only with a packet of the same settings on the air."""
    one, other = pair()
    other.do("88 02 16 0a 00 000000")
    other.do("c5")
    other.now_s += 0.01
    assert other.irq() == 0x0080
    other.do("02 03ff")
    one.now_s = other.now_s
    one.do("83 000000")
    other.now_s = one.now_s + 0.005
    other.do("c5")
    other.now_s += 0.01
    assert other.irq() == 0x0180


def test_channel_activity_that_goes_over_into_reception() -> None:
    """Exit mode 1: detected, it listens on for the timeout of SetCadParams, here 1 s, and receives the packet."""
    one, other = pair()
    other.do("88 01 16 0a 01 00fa00")
    one.now_s = other.now_s
    one.do("83 000000")
    other.now_s = one.now_s + 0.0012
    other.do("c5")
    other.now_s += 0.004
    assert other.irq() & 0x0180 == 0x0180
    assert other.status()[0] == 5
    other.now_s = one.model.sent[0].due_s + 0.001
    assert other.irq() & 0x02
    other.do("02 03ff")
    other.do("c5")
    other.now_s += 0.02
    assert other.irq() == 0x0080
    assert other.status() == (2, 1)


def test_a_tcxo_without_supply_or_time_does_not_start() -> None:
    """Execution failure and XOSC_START_ERR, in standby; with DIO3 and 5 ms all is well, BUSY as long as the TCXO takes."""
    chip = Chip(tcxo_start_s=0.003).lora()
    chip.do("07 0000")
    for tcxo in ("", "97 02 000040"):  # none, then 1 ms
        if tcxo:
            chip.do(tcxo)
        chip.do("83 000000")
        assert chip.status() == (2, 5)
        assert chip.do("17 00 00 00")[2:] == b"\x00\x20"
        chip.do("07 0000")
    chip.do("97 02 000140")
    chip.do("83 000000")
    assert chip.model.busy(chip.now_s + 0.005) == 1
    assert chip.status() == (6, 1)
    assert chip.model.sent


def test_errata_cost_what_the_datasheet_says_they_cost() -> None:
    """15.1 and 15.2 take power when they are not applied."""
    for texts, power_dbm in (
        ((), 14), (("0d 08d8 c8",), 9), (("0d 0889 01",), 4), (("8b 07 06 01 00",), 4), (("8b 07 06 01 00", "0d 0889 01"), 14),
    ):  # fmt: skip
        chip = Chip().lora()
        for text in texts:
            chip.do(text)
        chip.do("83 000000")
        assert chip.model.sent[0].power_dbm == power_dbm


def test_faults_show_at_the_pins() -> None:
    """Unplugged: MISO at one level, nothing heard; BUSY stuck; DIO1 broken; brown-out: as after reset."""
    chip = Chip().lora()
    chip.model.faults["unplugged"] = 255.0
    assert chip.raw(b"\xc0\x00") == b"\xff\xff"
    chip.model.faults["unplugged"] = 0.0
    assert chip.raw(b"\xc0\x00") == b"\x00\x00"
    chip.model.faults.clear()
    assert chip.do("11 00 00")[2] == 1
    chip.model.faults["busy_stuck"] = 1.0
    assert chip.model.busy(chip.now_s + 100) == 1
    chip.model.faults.clear()
    chip.do("83 000000")
    chip.now_s += 1
    chip.model.faults["dio1_broken"] = 1.0
    assert chip.model.dio1(chip.now_s) == 0
    chip.model.faults.clear()
    assert chip.model.dio1(chip.now_s) == 1
    chip.model.faults["brown_out"] = 1.0
    assert chip.model.dio1(chip.now_s) == 0
    assert chip.do("11 00 00")[2] == 0
    assert not chip.model.faults


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=12), st.binary(min_size=250, max_size=310)), max_size=30), st.booleans())
def test_any_octets_get_the_status_and_nothing_breaks(transactions: list[bytes], is_patient: bool) -> None:
    """As many octets as were clocked; the first is zero; a reset puts everything right."""
    chip = Chip(tcxo_start_s=0.003)
    for octets in transactions:
        chip.now_s += 0.01 if is_patient else 1e-5
        answer = chip.raw(octets)
        assert len(answer) == len(octets)
        assert answer[:1] in (b"", b"\x00")
    chip.now_s += 1
    chip.model.reset(0, chip.now_s)
    chip.model.reset(1, chip.now_s)
    chip.now_s += 0.01
    chip.lora()
    chip.do("97 02 000140")
    chip.do("83 000000")
    assert chip.status() == (6, 1)
