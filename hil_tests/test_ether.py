"""The air between radio models: loss, noise, collisions, capture and half duplex, at instants that the tests pass in."""

import itertools

import pytest
from bench.peripherals.ether import CAPTURE_DB, Ether, Station, noise_floor_dbm, sensitivity_dbm
from bench.peripherals.lora_modem import Modem, Receiver

#: SX1261/2 data sheet rev. 2.1, table 3-8: bandwidth, spreading factor, dBm.
DATASHEET = ((125000, 7, -124), (125000, 12, -137), (250000, 7, -121), (250000, 12, -134), (500000, 7, -117), (500000, 12, -129))


def modem(spreading_factor: int = 9, **changes: object) -> Modem:
    return Modem(frequency_hz=868.1e6, spreading_factor=spreading_factor, packet_bytes=20, **changes)  # type: ignore[arg-type]


class Air:
    """Senders at distances from one listener in the origin; each sends 20 octets when told."""

    def __init__(self, *distances_m: float) -> None:
        self.ether = Ether(1)
        self.listener = self.ether.add(Station("listener"))
        self.senders = [self.ether.add(Station(f"sender {at_m}", at_m)) for at_m in distances_m]

    def send(self, index: int, start_s: float, settings: "Modem | None" = None, power_dbm: float = 14.0):  # type: ignore[no-untyped-def]
        sent = (settings or modem()).transmission(self.senders[index], bytes(20), power_dbm, 0.0, start_s)
        self.ether.begin(sent, start_s)
        return sent

    def ear(self, settings: "Modem | None" = None) -> Receiver:
        return Receiver(self.ether, self.listener, settings or modem())


@pytest.mark.parametrize(("bandwidth_hz", "spreading_factor", "datasheet_dbm"), DATASHEET)
def test_sensitivity_is_the_datasheets(bandwidth_hz: int, spreading_factor: int, datasheet_dbm: int) -> None:
    assert abs(sensitivity_dbm(spreading_factor, bandwidth_hz) - datasheet_dbm) <= 2.1


def test_path_loss_is_free_space_at_a_metre_and_30_db_a_decade() -> None:
    """31.2 dB at 868.1 MHz and 1 m (Friis); nearer than that is no louder."""
    air = Air(1, 10, 1000, 0.1)
    levels = [air.ether.received_dbm(air.send(index, 0.0), air.listener) for index in range(4)]
    assert abs(levels[0] - (14 - 31.22)) < 0.01
    assert abs(levels[0] - levels[1] - 30) < 1e-9
    assert abs(levels[1] - levels[2] - 60) < 1e-9
    assert levels[3] == levels[0]


def test_shadows_are_seeded_symmetric_and_normal() -> None:
    """The same link has the same shadow both ways and in every run; 400 links spread as they should."""
    found = []
    for number in range(400):
        ether = Ether(3, shadow_db=8.0)
        one, other = ether.add(Station("a")), ether.add(Station(f"b{number}", 100.0))
        levels = [
            ether.received_dbm(modem().transmission(sender, b"", 14.0, 0.0, 0.0), receiver)
            for sender, receiver in ((one, other), (other, one), (one, other))
        ]
        assert levels[0] == levels[1] == levels[2]
        found.append(levels[0] - (14 - 31.22 - 60))
    mean = sum(found) / len(found)
    deviation = (sum((each - mean) ** 2 for each in found) / len(found)) ** 0.5
    assert abs(mean) < 1.2
    assert 7 < deviation < 9


def test_reach_ends_at_the_sensitivity() -> None:
    """Locked while the signal exceeds it, not a decibel below."""
    air = Air(100)
    loud_dbm = air.ether.received_dbm(air.send(0, 0.0), air.listener)
    for margin_db, is_heard in ((1.0, True), (-1.0, False)):
        air = Air(100)
        sent = air.send(0, 0.0, power_dbm=14 - loud_dbm + sensitivity_dbm(9, 125000) + margin_db)
        assert (air.ear().lock(-1.0, 9.0) is sent) == is_heard


def test_half_a_preamble_is_enough_and_a_quarter_is_not() -> None:
    """A receiver that wakes late hears a packet if four symbols and the sync word are still to come."""
    air = Air(100)
    sent = air.send(0, 0.0)
    assert air.ear().lock(3.9 * sent.symbol_s, 9.0) is sent
    assert air.ear().lock(4.1 * sent.symbol_s, 9.0) is None


@pytest.mark.parametrize(
    ("louder_db", "first", "second"), [(0.0, False, False), (5.9, False, False), (6.1, True, False), (-6.1, False, True)]
)
def test_capture(louder_db: float, first: bool, second: bool) -> None:
    """Two packets begin together: the one that is 6 dB louder is received as if it were alone, else both are lost."""
    assert CAPTURE_DB == 6.0
    air = Air(100, 100)
    one = air.send(0, 0.0, power_dbm=10 + louder_db)
    other = air.send(1, 0.0, power_dbm=10)
    ear = air.ear()
    assert (ear.lock(-1.0, 9.0) is one) == first
    assert (ear.lock(-1.0, 9.0) is other) == second


def test_a_late_rival_spoils_the_part_that_it_covers() -> None:
    """Locked, then covered: the header is good and the rest is not; a weaker rival spoils nothing."""
    for power_dbm, is_whole in ((10.0, False), (3.0, True)):
        air = Air(100, 100)
        one = air.send(0, 0.0, power_dbm=10)
        air.send(1, one.header_s + 0.01, power_dbm=power_dbm)
        ear = air.ear()
        assert ear.lock(-1.0, one.due_s) is one
        assert ear.hears(one, one.sync_s, one.header_s)
        assert ear.hears(one, one.header_s, one.due_s) == is_whole


def test_other_spreading_factors_are_noise() -> None:
    """Ten decibels louder they do not disturb, twenty they do: SF9 stands noise 12.5 dB above itself. Inverted IQ is noise too."""
    for others in (modem(7), modem(12), modem(is_iq_inverted=True)):
        for louder_db, is_heard in ((10, True), (20, False)):
            air = Air(100, 100)
            air.send(1, 0.0, others, power_dbm=louder_db)
            sent = air.send(0, 0.001, power_dbm=0)
            assert (air.ear().lock(-1.0, 9.0) is sent) == is_heard


def test_other_channels_do_not_disturb() -> None:
    """200 kHz away with 125 kHz nothing of it falls into the band; 100 kHz away a part."""
    for away_hz, is_heard in ((200e3, True), (100e3, False)):
        air = Air(1000, 1)
        far = modem()
        far.frequency_hz += away_hz
        air.send(1, 0.0, far)
        sent = air.send(0, 0.001)
        assert (air.ear().lock(-1.0, 9.0) is sent) == is_heard


def test_a_packet_cut_short_is_spoilt_from_there() -> None:
    air = Air(100)
    sent = air.send(0, 0.0)
    air.ether.cut(sent, sent.header_s + 0.01)
    ear = air.ear()
    assert ear.lock(-1.0, 9.0) is sent
    assert ear.hears(sent, sent.sync_s, sent.header_s)
    assert not ear.hears(sent, sent.header_s, sent.due_s)


def test_a_jammer_raises_the_floor_while_it_lasts() -> None:
    """Level before, during and after; a packet under it is not heard."""
    air = Air(100)
    floor_dbm = air.ether.level_dbm(air.listener, 868.1e6, 125e3, 0.0)
    assert abs(floor_dbm - noise_floor_dbm(125e3)) < 1e-9
    jammer = air.ether.jam(Station("jammer", 10.0), 868.1e6, 125e3, 20.0, 1.0)
    assert air.ether.level_dbm(air.listener, 868.1e6, 125e3, 1.5) > -50
    air.send(0, 2.0)
    assert air.ear().lock(1.0, 2.5) is None
    air.ether.cut(jammer, 3.0)
    assert air.ether.level_dbm(air.listener, 868.1e6, 125e3, 3.5) == floor_dbm
    assert air.ear().lock(3.0, 9.0) is None
    sent = air.send(0, 10.0)
    assert air.ear().lock(9.0, 19.0) is sent


def test_ended_emissions_are_forgotten_and_overlapping_ones_are_not() -> None:
    """A day of packets leaves a handful in memory, jammed or not; what overlaps a packet still on the air stays."""
    air = Air(100, 200)
    long = air.send(0, 0.0, modem(12))
    early = air.send(1, 0.1)
    air.send(1, long.end_s - 0.01)
    assert early in air.ether.emissions
    air.ether.jam(Station("jammer", 10.0), 868.1e6, 125e3, 20.0, 50.0)
    for second in itertools.count(100, 10):
        if second > 86400:
            break
        air.send(0, second)
        assert len(air.ether.emissions) <= 3
