"""The E22 model at its UART and pins: commands, modes, AUX and sub-packets as the manual has them, without our driver."""

import itertools

import pytest
from bench.peripherals.e22 import CONFIGURATION, E22, FACTORY, NORMAL, SLEEP, unwrapped, wrapped
from bench.peripherals.ether import Ether, Station

#: 9600 in configuration mode; what the registers say otherwise, at first the same.
BAUD = 9600


class Host:
    """A board of a few lines, awake in a mode."""

    def __init__(self, name: str = "module", ether: "Ether | None" = None, mode: int = CONFIGURATION) -> None:
        self.model = E22(1, ether or Ether(1), Station(name))
        self.now_s = 0.0
        self.model.open(BAUD, 2000, 0.0)
        self.go(mode)

    def go(self, mode: int, baud: int = BAUD) -> "Host":
        """M0 and M1, and AUX waited for."""
        self.model.m0(mode & 1, self.now_s)
        self.model.m1(mode >> 1, self.now_s)
        self.wait(0.005)
        while not self.model.aux(self.now_s):
            self.wait(0.001)
        self.wait(0.003)
        assert self.model.mode == mode
        self.model.open(baud, 2000, self.now_s)
        return self

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.model.advance(self.now_s)

    def ask(self, *octets: int, wait_s: float = 0.1) -> bytes:
        self.model.write(bytes(octets), self.now_s)
        self.wait(wait_s)
        return self.model.read(1000, self.now_s)


def pair() -> tuple[Host, Host]:
    """Both in transparent mode on channel 16, 2.4 k, 9600 baud, with strength appended."""
    ether = Ether(1)
    hosts = Host("one", ether), Host("other", ether)
    for host in hosts:
        host.ask(0xC2, 5, 2, 16, 0x83)
        host.go(NORMAL)
    hosts[1].model.station.x_m = 100.0
    return hosts


def test_registers_are_read_and_written_from_any_on() -> None:
    """The manual's examples; what is not there is refused with three FF, and so is another command."""
    host = Host()
    assert host.ask(0xC1, 0, 9) == b"\xc1\x00\x09" + FACTORY
    assert host.ask(0xC0, 5, 1, 9) == b"\xc1\x05\x01\x09"
    assert host.ask(0xC0, 0, 4, 0x12, 0x34, 0x00, 0x61) == b"\xc1\x00\x04\x12\x34\x00\x61"
    assert host.ask(0xC1, 0, 6) == b"\xc1\x00\x06\x12\x34\x00\x61\x00\x09"
    assert len(host.ask(0xC1, 0x80, 7)) == 10
    for wrong in ((0xC1, 0, 12), (0xC1, 9, 1), (0xC0, 8, 2, 1, 2), (0xAA,)):
        assert host.ask(*wrong) == b"\xff\xff\xff"
    host.ask(0xC2, 7, 2, 0xAB, 0xCD)
    assert host.ask(0xC1, 7, 2) == b"\xc1\x07\x02\x00\x00"


def test_what_c0_wrote_outlives_the_supply_and_what_c2_wrote_does_not() -> None:
    """A power cut and a sag alike."""
    for lose in ("power_on", "brown_out"):
        host = Host()
        host.ask(0xC0, 5, 1, 16)
        host.ask(0xC2, 5, 1, 17)
        assert host.ask(0xC1, 5, 1)[-1] == 17
        if lose == "power_on":
            host.model.power_on(host.now_s)
        else:
            host.model.faults["brown_out"] = 1.0
        host.wait(0.001)
        assert host.model.aux(host.now_s) == 0
        host.go(CONFIGURATION)
        assert host.ask(0xC1, 5, 1)[-1] == 16


def test_configuration_is_at_9600_whatever_the_registers_say() -> None:
    """At another speed both hear other octets."""
    host = Host()
    host.ask(0xC2, 3, 1, 0xE2)
    assert host.ask(0xC1, 3, 1)[-1] == 0xE2
    host.model.open(115_200, 2000, host.now_s)
    assert host.ask(0xC1, 3, 1)[:1] != b"\xc1"
    host.go(NORMAL, 115_200)
    host.model.write(b"plain", host.now_s)
    host.wait(0.01)
    assert unwrapped(host.model.sent[-1].packet, 0, 0) == b"plain"
    host.wait(1)
    host.go(NORMAL, 9600)
    host.model.write(b"plain", host.now_s)
    host.wait(0.02)
    assert unwrapped(host.model.sent[-1].packet, 0, 0) != b"plain"


def test_a_packet_comes_out_at_the_other_end_with_its_strength() -> None:
    """Behind three octets' silence it is on the air; AUX is low until then, and 3 ms before the octets come, until the last."""
    one, other = pair()
    begin_s = one.now_s
    one.model.write(b"hello", begin_s)
    assert one.model.aux(begin_s + 0.001) == 0
    (sent,) = one.model.sent
    assert sent.start_s == pytest.approx(begin_s + 8 * 10 / BAUD, abs=0.002)
    assert one.model.aux(sent.start_s + 0.001) == 1
    assert sent.packet == wrapped(b"hello", 16, 0, 0)
    other.model.advance(sent.end_s)
    assert other.model.aux(sent.end_s + 0.001) == 0
    assert other.model.waiting(sent.end_s + 0.002) == 0
    assert other.model.aux(sent.end_s + 0.003 + 6 * 10 / BAUD + 0.001) == 1
    assert other.model.waiting(sent.end_s + 0.020) == 6
    said = other.model.read(100, sent.end_s + 0.020)
    assert said[:5] == b"hello"
    assert abs(said[5] - 256 - one.model.ether.received_dbm(sent, other.model.station)) <= 1


def test_sub_packets_and_the_end_of_the_buffer() -> None:
    """500 octets leave as 240, 240 and 20, one behind the other, AUX low up to the last; of 1,100 the last are lost."""
    one, other = pair()
    one.model.write(bytes(500), one.now_s)
    for _ in range(4000):
        one.wait(0.001)
        other.model.advance(one.now_s)
    sent = one.model.sent
    assert [len(each.packet) - 8 for each in sent] == [240, 240, 20]
    assert all(late.start_s >= early.end_s for early, late in itertools.pairwise(sent))
    assert other.model.read(1000, one.now_s) != b""
    one.model.sent = []
    one.model.write(bytes(1100), one.now_s)
    for _ in range(8000):
        one.wait(0.001)
    assert sum(len(each.packet) - 8 for each in one.model.sent) == 1000


def test_a_mode_waits_for_the_packet_on_the_air() -> None:
    """AUX says so; what is written meanwhile is for the air still, and is counted."""
    one, _ = pair()
    one.model.write(bytes(100), one.now_s)
    one.wait(0.2)
    (sent,) = one.model.sent
    assert one.model.aux(one.now_s) == 1
    one.model.m1(1, one.now_s)
    one.wait(0.01)
    assert (one.model.aux(one.now_s), one.model.mode) == (0, NORMAL)
    one.model.write(b"\xc1\x00\x01", one.now_s)
    one.wait(sent.end_s - one.now_s + 0.2)
    assert one.model.ignored == 3
    assert unwrapped(one.model.sent[-1].packet, 0, 0) == b"\xc1\x00\x01"


@pytest.mark.parametrize(
    ("register", "value"), [(0, 1), (2, 5), (5, 17), (3, 0x65)], ids=["address", "network", "channel", "air rate"]
)  # fmt: skip
def test_who_has_other_settings_hears_nothing(register: int, value: int) -> None:
    """Address, network id, channel and air rate must be the same."""
    one, other = pair()
    other.go(CONFIGURATION).ask(0xC2, register, 1, value)
    other.go(NORMAL)
    one.wait(other.now_s - one.now_s)
    one.model.write(b"hello", one.now_s)
    assert other.model.waiting(one.now_s + 2) == 0


def test_the_enquiry_about_strength_is_one_only_where_it_is_switched_on() -> None:
    """Answered with the noise in 500 kHz, or on the air like everything else."""
    one, _ = pair()
    assert one.ask(0xC0, 0xC1, 0xC2, 0xC3, 0, 1) == b""
    assert unwrapped(one.model.sent[-1].packet, 0, 0) == b"\xc0\xc1\xc2\xc3\x00\x01"
    one.wait(1)
    one.go(CONFIGURATION).ask(0xC2, 4, 1, 0x20)
    one.go(NORMAL)
    answer = one.ask(0xC0, 0xC1, 0xC2, 0xC3, 0, 1)
    assert answer[:3] == b"\xc1\x00\x01"
    assert answer[3] - 256 == -111
    assert len(one.model.sent) == 1


def test_asleep_it_is_deaf_and_dumb() -> None:
    """Octets are lost, and waking takes its time."""
    one, other = pair()
    other.go(SLEEP)
    one.model.write(b"hello", one.now_s)
    other.model.write(b"x", other.now_s)
    one.wait(2)
    other.wait(2)
    assert other.model.waiting(other.now_s) == 0
    assert (other.model.ignored, other.model.sent) == (1, [])
    other.model.m0(0, other.now_s)
    other.model.m1(0, other.now_s)
    other.wait(0.002)
    assert other.model.aux(other.now_s) == 0


def test_a_stranger_is_heard_octet_for_octet() -> None:
    """The header that was measured on the air: magic, channel, two check octets, network, destination, length, payload exclusive-or 12."""
    assert wrapped(b"PROD-03", 0x12, 0, 0xFFFF) == bytes.fromhex("2c12872600ffff0742405d563f2221")
    assert unwrapped(bytes.fromhex("2c12872600ffff0742405d563f2221"), 0, 0xFFFF) == b"PROD-03"
    for spoilt in ("2c12862600ffff0742405d563f2221", "2c12872600ffff0642405d563f2221", "2c1287", ""):
        assert unwrapped(bytes.fromhex(spoilt), 0, 0xFFFF) is None
