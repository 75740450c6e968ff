"""The SX1276 model at its registers and pins: layouts, modes, flags and refusals as the data sheet has them, without our driver."""

import math

import pytest
from bench.peripherals.ether import Ether, Station
from bench.peripherals.sx1276 import SX1276
from hypothesis import given, settings
from hypothesis import strategies as st

SLEEP, STANDBY, TX, RX, RX_SINGLE, CAD = 0x80, 0x81, 0x83, 0x85, 0x86, 0x87


class Chip:
    """A host of a few lines, booted."""

    def __init__(self, name: str = "chip", ether: "Ether | None" = None) -> None:
        self.model = SX1276(1, ether or Ether(1), Station(name))
        self.now_s = 0.02

    def raw(self, octets: bytes) -> bytes:
        self.model.select(0, self.now_s)
        answer = self.model.transfer(octets, self.now_s)
        self.model.select(1, self.now_s)
        return answer

    def write(self, address: int, *values: int) -> bytes:
        return self.raw(bytes((0x80 | address, *values)))[1:]

    def read(self, address: int, count: int = 1) -> bytes:
        return self.raw(bytes((address,)) + bytes(count))[1:]

    def mode(self, value: int) -> "Chip":
        self.write(0x01, value)
        return self

    def lora(self, packet: bytes = b"\xc0\xff\xee\x11", is_calibrated: bool = True) -> "Chip":
        """868.1 MHz, its image calibrated, SF7, 125 kHz, 4/5, CRC, 14 dBm, erratum 2.3, a packet in the buffer from 0 on; standby."""
        self.write(0x06, 0xD9, 0x06, 0x66)
        if is_calibrated:
            self.write(0x3B, 0x42)
        self.now_s += 0.011
        self.mode(0x00).mode(SLEEP).mode(STANDBY)
        self.now_s += 0.001
        self.write(0x09, 0xFC)
        self.write(0x0E, 0, 0)
        self.write(0x1D, 0x72, 0x74)
        self.write(0x22, len(packet))
        self.write(0x2F, 0x40, 0x00, 0x43)
        self.write(0x0D, 0)
        self.write(0x00, *packet)
        return self

    def flags(self) -> int:
        return self.read(0x12)[0]


def pair() -> tuple[Chip, Chip]:
    ether = Ether(1)
    one, other = Chip("one", ether).lora(), Chip("other", ether).lora()
    other.model.station.x_m = 100.0
    one.now_s = other.now_s = max(one.now_s, other.now_s)
    return one, other


def test_after_reset() -> None:
    """FSK standby, version 0x12, 434 MHz; deaf for 5 ms behind NRESET."""
    chip = Chip()
    assert chip.read(0x01) == b"\x01"
    assert chip.read(0x42) == b"\x12"
    assert chip.read(0x06, 3) == b"\x6c\x80\x00"
    chip.lora()
    chip.model.reset(0, chip.now_s)
    chip.model.reset(1, chip.now_s)
    chip.now_s += 0.0049
    assert chip.read(0x42) == b"\x00"
    assert chip.model.ignored == 1
    chip.now_s += 0.0002
    assert chip.read(0x42) == b"\x12"
    assert chip.read(0x06) == b"\x6c"


def test_registers_follow_one_another_and_a_write_gives_what_was() -> None:
    """2.2: addresses count up within a transaction, the version cannot be written."""
    chip = Chip().lora()
    assert chip.write(0x20, 0x12, 0x34) == b"\x00\x08"
    assert chip.read(0x20, 3) == b"\x12\x34\x04"
    chip.write(0x42, 0x55)
    assert chip.read(0x42) == b"\x12"


def test_the_fifo_has_a_pointer_and_sleeps_badly() -> None:
    """Octets go where the pointer is, which counts up and wraps; sleep empties it and answers nothing."""
    chip = Chip().lora()
    chip.write(0x0D, 0xFE)
    chip.write(0x00, 1, 2, 3, 4)
    assert chip.read(0x0D) == b"\x02"
    chip.write(0x0D, 0xFE)
    assert chip.read(0x00, 4) == b"\x01\x02\x03\x04"
    chip.mode(SLEEP)
    assert chip.model.ignored == 0
    assert chip.read(0x00) == b"\x00"
    assert chip.model.ignored == 1
    chip.mode(STANDBY).write(0x0D, 0xFE)
    assert chip.read(0x00, 4) == bytes(4)
    assert chip.read(0x1D) == b"\x72"  # settings stay


def test_what_it_does_not_allow_is_not_done() -> None:
    """FSK to LoRa outside sleep; another frequency while receiving; FSK's page is another."""
    chip = Chip()
    chip.mode(STANDBY)
    assert (chip.read(0x01)[0], chip.model.ignored) == (0x01, 1)
    assert chip.read(0x3B) == b"\x82"
    chip.lora()
    assert chip.read(0x3B) == b"\x1d"
    chip.mode(RX)
    chip.write(0x06, 0x00)
    assert (chip.read(0x06), chip.model.ignored) == (b"\xd9", 2)


def test_calibration_takes_its_time_and_a_driver_that_leaves_it_out_hears_badly() -> None:
    """ImageCalRunning for 10 ms; at power-up it was done for 434 MHz."""
    chip = Chip()
    chip.write(0x3B, 0x42)
    assert chip.read(0x3B)[0] & 0x20
    chip.now_s += 0.0101
    assert not chip.read(0x3B)[0] & 0x20
    snrs = []
    for is_calibrated in (True, False):
        one, other = pair()
        if not is_calibrated:
            other.model.reset(0, other.now_s)
            other.model.reset(1, other.now_s)
            other.now_s += 0.01
            other.lora(is_calibrated=False)
            one.now_s = other.now_s
        other.model.station.x_m = 1000.0
        other.mode(RX)
        one.mode(TX)
        other.now_s = one.model.sent[0].due_s + 0.001
        assert other.flags() & 0x40
        snr = other.read(0x19)[0]
        snrs.append((snr - 256 if snr > 127 else snr) / 4)
    assert snrs[0] - snrs[1] == pytest.approx(10, abs=0.3)


def test_sending() -> None:
    """TX for the packet's time on air, from 115 us on; TxDone on DIO0, where it is mapped, and standby; cleared by a one."""
    chip = Chip().lora()
    chip.write(0x40, 0x40)
    chip.mode(TX)
    sent = chip.model.sent[0]
    assert sent.packet == bytes.fromhex("c0ffee11")
    assert sent.power_dbm == 14
    assert sent.sync_word == b"\x14\x24"
    assert math.isclose(sent.start_s, chip.now_s + 115e-6)
    assert math.isclose(sent.due_s - sent.start_s, (8 + 4.25 + 8 + 2 * 5) * 1.024e-3)
    assert chip.model.dio0(sent.due_s - 1e-6) == 0
    assert chip.model.dio0(sent.due_s + 1e-6) == 1
    chip.now_s = sent.due_s + 1e-5
    assert (chip.read(0x01)[0], chip.flags()) == (STANDBY, 0x08)
    chip.write(0x12, 0x08)
    assert chip.model.dio0(chip.now_s) == 0
    chip.write(0x09, 0x7C)  # RFO, to which nothing is wired
    chip.mode(TX)
    assert chip.model.sent[1].power_dbm < -50


def test_receiving() -> None:
    """ValidHeader and RxDone in their order; length, place, SNR and RSSI in their registers; it stays in RX, packet behind packet."""
    one, other = pair()
    other.mode(RX)
    for start in (0, 4):
        one.now_s = other.now_s
        one.mode(TX)
        sent = one.model.sent[-1]
        for at_s, flags in ((sent.sync_s + 1e-4, 0), (sent.header_s + 1e-4, 0x10), (sent.due_s + 1e-4, 0x50)):
            other.now_s = at_s
            assert other.flags() == flags
        assert other.model.dio0(other.now_s) == 1
        other.write(0x12, 0xFF)
        assert other.read(0x10) == bytes((start,))
        assert other.read(0x13) == b"\x04"
        other.write(0x0D, start)
        assert other.read(0x00, 4) == bytes.fromhex("c0ffee11")
        snr, rssi = other.read(0x19, 2)
        assert snr == 48
        assert abs(-157 + 16 * rssi / 15 - (14 - 31.22 - 60)) < 1
        assert other.read(0x1C) == b"\x40"
        assert other.read(0x01)[0] == RX


def test_a_single_reception_ends_by_itself() -> None:
    """RxTimeout on DIO1 after its symbols, or RxDone; standby either way."""
    one, other = pair()
    other.write(0x1F, 50)
    other.mode(RX_SINGLE)
    begin_s = other.now_s
    assert other.model.dio1(begin_s + 50 * 1.024e-3) == 0
    other.now_s = begin_s + 0.06
    assert (other.model.dio1(other.now_s), other.flags(), other.read(0x01)[0]) == (1, 0x80, STANDBY)
    other.write(0x12, 0xFF)
    other.mode(RX_SINGLE)
    one.now_s = other.now_s
    one.mode(TX)
    other.now_s = one.model.sent[0].due_s + 1e-3
    assert (other.flags(), other.read(0x01)[0]) == (0x50, STANDBY)


def test_an_aborted_packet_is_a_crc_error_and_half_a_header_is_nothing() -> None:
    """The sender goes to standby in the middle: after the header, and before; then another packet is heard."""
    for part_s, flags in ((0.001, 0x70), (-0.002, 0x00)):
        one, other = pair()
        other.mode(RX)
        one.mode(TX)
        sent = one.model.sent[0]
        one.now_s = sent.header_s + part_s
        one.mode(STANDBY)
        other.now_s = sent.due_s + 1e-3
        assert other.flags() == flags
        other.write(0x12, 0xFF)
        one.now_s = other.now_s
        one.mode(TX)
        other.now_s = one.model.sent[1].due_s + 1e-3
        assert other.flags() == 0x50


def test_channel_activity_is_a_preamble() -> None:
    """CadDone in any case, CadDetected (DIO1) while a preamble is on the air, not behind it."""
    one, other = pair()
    other.write(0x40, 0xA0)
    for after_s, flags in ((None, 0x04), (0.004, 0x05), (0.020, 0x04)):
        if after_s is not None:
            one.now_s = other.now_s
            one.mode(TX)
            other.now_s = one.model.sent[-1].start_s + after_s
        other.mode(CAD)
        other.now_s += 0.0035
        assert (other.flags(), other.read(0x01)[0]) == (flags, STANDBY)
        assert (other.model.dio0(other.now_s), other.model.dio1(other.now_s)) == (1, flags & 1)
        other.write(0x12, 0xFF)
        other.now_s += 1


@pytest.mark.parametrize(
    ("address", "value"), [(0x33, 0x67), (0x36, 0x02), (0x31, 0xC3), (0x31, 0x45), (0x37, 0x0C), (0x39, 0x34), (0x1E, 0x84)]
)
def test_settings_that_do_not_fit_hear_less(address: int, value: int) -> None:
    """Polarity, the errata's registers, detection, sync word, spreading factor: far away, what arrived arrives no more."""
    one, other = pair()
    other.model.station.x_m = 3000.0
    other.mode(RX)
    one.mode(TX)
    other.now_s = one.model.sent[0].due_s + 1e-3
    assert other.flags() & 0x40
    other.mode(STANDBY).write(0x12, 0xFF)
    other.write(address, value)
    other.mode(RX)
    one.now_s = other.now_s
    one.mode(TX)
    other.now_s = one.model.sent[1].due_s + 1e-3
    assert not other.flags() & 0x40


def test_faults_show_at_the_pins() -> None:
    """Unplugged: MISO at one level; DIO0 broken; brown-out: FSK standby, everything forgotten."""
    chip = Chip().lora()
    for level in (255, 0):
        chip.model.faults["unplugged"] = float(level)
        assert chip.read(0x42)[0] == level
    chip.model.faults.clear()
    chip.write(0x40, 0x40)
    chip.mode(TX)
    chip.now_s += 1
    chip.model.faults["dio0_broken"] = 1.0
    assert chip.model.dio0(chip.now_s) == 0
    chip.model.faults.clear()
    assert chip.model.dio0(chip.now_s) == 1
    chip.model.faults["brown_out"] = 1.0
    assert chip.model.dio0(chip.now_s) == 0
    chip.now_s += 0.02
    assert chip.read(0x01)[0] == 0x01
    assert not chip.model.faults


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=12), st.binary(min_size=250, max_size=310)), max_size=30), st.booleans())
def test_any_octets_get_as_many_and_nothing_breaks(transactions: list[bytes], is_patient: bool) -> None:
    """A reset puts everything right."""
    chip = Chip()
    for octets in transactions:
        chip.now_s += 0.01 if is_patient else 1e-5
        assert len(chip.raw(octets)) == len(octets)
    chip.now_s += 1
    chip.model.reset(0, chip.now_s)
    chip.model.reset(1, chip.now_s)
    chip.now_s += 0.01
    chip.lora().mode(TX)
    assert chip.read(0x01)[0] == TX
