"""The driver of the E22 on the module's model: packets, what it does with a module's own will, and every fault of the wires between."""

import asyncio

import pytest
from bench.peripherals.e22 import unwrapped
from bench.peripherals.ether import Ether, Station
from fake_buses import never_longer, run_virtual
from lamppost_protocol.airtime import packet_us
from lamppost_protocol.radio_limits import E22_WRAP, lora_problems
from radio_bench import PACKET, Radio, carry, fault_of, run_radios

UP = {"frequency_hz": 866_125_000, "spreading_factor": 11, "bandwidth_hz": 500_000}
DOWN = {**UP, "frequency_hz": 867_125_000, "is_iq_inverted": True}
CHIPS = ("e22", "e22")
#: NETID, REG0, REG1 at 13 dBm, REG2, REG3 and its key.
SET = bytes((0, 0, 76, 0xE2, 0x22, 16, 0x83, 0, 0))


def now_s() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("size", [1, 31, 98, 239])
def test_packets_of_every_size(size: int) -> None:
    """Octet for octet, with the strength at the other end, the same behind one another; never above its time on air."""

    async def story(one: Radio, other: Radio) -> None:
        for _ in range(2):
            packet = bytes(range(256))[-size:]
            found = await carry(one, other, packet)
            assert found is not None
            assert found.packet == packet
            sent = one.model.sent[-1]
            assert abs(found.rssi_dbm - one.model.ether.received_dbm(sent, other.model.station)) <= 1
            assert found.snr_qdb <= 40
            assert sent.end_s - sent.start_s <= one.driver.time_on_air_us(size) / 1e6
            assert 0 <= found.at_us / 1e6 - sent.end_s <= 0.010
        assert one.driver.time_on_air_us(size) == packet_us(E22_WRAP, size, 11, 500_000)

    run_radios(story, chips=CHIPS)


def test_the_module_is_set_as_meant_and_kept_at_its_least_power() -> None:
    """Registers as asked for; what it would come back with is the same but for 10 dBm, and is written once, though settings change."""

    async def story(one: Radio, other: Radio) -> None:
        assert bytes(one.model.registers) == SET
        kept = bytearray(SET)
        kept[4] = 0x23
        assert one.model.kept == kept
        await one.driver.configure(**DOWN, tx_power_dbm=22)
        assert bytes(one.model.registers) == bytes((0, 0, 77, 0xE2, 0x20, 17, 0x83, 0, 0))
        assert one.model.kept == kept
        assert one.driver.restarts == 0

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize(("asked_dbm", "sent_dbm"), [(22, 22), (21, 17), (14, 13), (10, 10)])
def test_power_is_never_above_what_was_asked(asked_dbm: int, sent_dbm: int) -> None:
    """The next lower of the module's four steps."""

    async def story(one: Radio, other: Radio) -> None:
        assert await carry(one, other) is not None
        assert one.model.sent[-1].power_dbm == sent_dbm

    run_radios(story, chips=CHIPS, tx_power_dbm=asked_dbm)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frequency_hz": 868_100_000}, {"frequency_hz": 849_125_000}, {"frequency_hz": 931_125_000}, {"spreading_factor": 7},
        {"bandwidth_hz": 125_000}, {"coding_rate": 2}, {"tx_power_dbm": 9}, {"tx_power_dbm": 23},
    ],
)  # fmt: skip
def test_what_the_module_has_not_is_refused(wrong: dict) -> None:
    """Before an octet leaves."""

    async def work() -> None:
        radio = Radio("one", Ether(1), chip="e22")
        with pytest.raises(ValueError, match="no such setting"):
            await radio.driver.configure(**{**UP, **wrong})
        for size in (0, 240):
            with pytest.raises(ValueError, match="1 to 239"):
                await radio.driver.send(bytes(size))

    run_virtual(work())


def test_the_desk_and_the_driver_know_the_same_channels() -> None:
    """The first, the last, and what lies beside them."""

    async def work() -> None:
        radio = Radio("one", Ether(1), chip="e22")
        first_hz, last_hz = 850_125_000, 930_125_000
        for hz in (first_hz - 1_000_000, first_hz, first_hz + 1, 868_125_000, 868_100_000, last_hz, last_hz + 1_000_000):
            if not lora_problems("e22", {"channels_hz": [hz]}):
                await radio.driver.configure(**{**UP, "frequency_hz": hz})
            else:
                with pytest.raises(ValueError, match="no such setting"):
                    await radio.driver.configure(**{**UP, "frequency_hz": hz})

    run_virtual(work())


def test_uplinks_and_downlinks_do_not_hear_each_other() -> None:
    """The network id stands for the polarity: on one channel too."""

    async def story(one: Radio, other: Radio) -> None:
        await other.driver.configure(**UP, is_iq_inverted=True)
        assert await carry(one, other, limit_ms=1000) is None
        await one.driver.configure(**UP, is_iq_inverted=True)
        assert await carry(one, other) is not None

    run_radios(story, chips=CHIPS)


def test_a_packet_begins_at_its_instant() -> None:
    """Within 2 ms, whatever its length; one whose instant is past begins at once."""

    async def story(one: Radio, other: Radio) -> None:
        for size in (1, 98, 239):
            start_s = now_s() + 0.2
            await one.driver.send(bytes(size), round(start_s * 1e6))
            assert abs(one.model.sent[-1].start_s - start_s) <= 0.002
        begin_s = now_s()
        await one.driver.send(PACKET, round((begin_s - 0.1) * 1e6))
        assert one.model.sent[-1].start_s - begin_s <= one.driver.ready_ms / 1000

    run_radios(story, chips=CHIPS)


def test_pieces_follow_one_another() -> None:
    """Five that each begin 30 ms behind the last one's time, set up anew in between as a bridge does: none is late."""

    async def story(one: Radio, other: Radio) -> None:
        start_s = now_s() + 0.2
        for _ in range(5):
            await one.driver.configure(**UP)
            await one.driver.send(bytes(239), round(start_s * 1e6))
            assert abs(one.model.sent[-1].start_s - start_s) <= 0.002
            start_s += one.driver.time_on_air_us(239) / 1e6 + 0.03

    run_radios(story, chips=CHIPS)


def test_the_module_is_left_alone_until_its_packet_is_over() -> None:
    """AUX rises while the packet is on the air: a channel that is asked for then, a sleep and another packet all wait, also for a task that
    was cancelled."""

    async def story(one: Radio, other: Radio) -> None:
        for then in (lambda: one.driver.configure(**DOWN), one.driver.sleep, lambda: one.driver.send(b"x")):
            await one.driver.configure(**UP)
            sending = asyncio.create_task(one.driver.send(bytes(239)))
            await asyncio.sleep(0.2)
            assert one.model.aux(now_s()) == 1
            sending.cancel()
            await then()
            first = one.model.sent[-1 if one.model.sent[-1].packet[7] == 240 else -2]
            assert first.end_s == first.due_s
            assert now_s() > first.end_s
            assert one.model.ignored == 0

    run_radios(story, chips=CHIPS)


def test_aux_is_awaited_while_a_packet_comes_out() -> None:
    """Settings change just as a received packet comes out of the module: nothing is sent that was a command."""

    async def story(one: Radio, other: Radio) -> None:
        for after_ms in range(0, 24, 4):
            await other.driver.configure(**UP)
            sending = asyncio.create_task(one.driver.send(bytes(200)))
            await asyncio.sleep(0.1)
            await asyncio.sleep(one.model.sent[-1].due_s + after_ms / 1000 - now_s())
            await other.driver.configure(**DOWN)
            await sending
            assert other.model.sent == []
            assert other.model.ignored == 0

    run_radios(story, chips=CHIPS)


def test_listening_goes_on_until_the_longest_packet_would_be_over() -> None:
    """A packet that begins within the timeout is received to its end; then None."""

    async def story(one: Radio, other: Radio) -> None:
        listening = asyncio.create_task(other.driver.receive(100))
        await asyncio.sleep(0.06)
        await one.driver.send(bytes(239))
        found = await never_longer(listening, 10)
        assert found is not None
        assert found.packet == bytes(239)
        begin_s = now_s()
        assert await other.driver.receive(100) is None
        assert 1.5 < now_s() - begin_s < 1.8

    run_radios(story, chips=CHIPS)


def test_what_came_between_two_calls_is_given_each_by_itself() -> None:
    """Three packets while nobody asks, as while a signature is made: three answers, in order."""

    async def story(one: Radio, other: Radio) -> None:
        for size in (20, 100, 5):
            await one.driver.send(bytes((size,)) * size)
        assert [len(found.packet) for found in [await other.driver.receive(100) for _ in range(3)] if found is not None] == [20, 100, 5]

    run_radios(story, chips=CHIPS)


def test_strength_of_the_channel() -> None:
    """The noise in 500 kHz, a jammer, a packet that comes in meanwhile; the enquiry is never on the air."""

    async def story(one: Radio, other: Radio) -> None:
        assert -113 <= await one.driver.channel_rssi_dbm(5) <= -108
        ether = one.model.ether
        noise = ether.jam(ether.add(Station("jammer", 50.0)), 866_125_000, 500_000, 14, now_s())
        assert abs(await one.driver.channel_rssi_dbm(20) - ether.received_dbm(noise, one.model.station)) <= 1
        ether.cut(noise, now_s())
        sending = asyncio.create_task(other.driver.send(bytes(100)))
        await asyncio.sleep(0.1)
        due_s = other.model.sent[-1].due_s
        await asyncio.sleep(due_s - 0.005 - now_s())
        assert await one.driver.channel_rssi_dbm(40) == 0
        await sending
        assert one.model.sent == []
        assert await one.driver.is_channel_active() is False

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize(
    ("fault", "value", "reason"),
    [
        ("radio_unplugged", None, "no_answer"), ("mute", None, "no_answer"), ("aux_stuck", 0.0, "busy_stuck"),
        ("garbage", 2.0, "command_failed"),
    ],
)  # fmt: skip
def test_faults_of_the_wires_and_back(fault: str, value: "float | None", reason: str) -> None:
    """Each says within three seconds what to look at, in every call, again and again; when it is over both hear each other."""

    async def story(one: Radio, other: Radio) -> None:
        await asyncio.sleep(3)  # longer than a look at the settings is trusted
        one.fault(fault, value)
        for work in (one.driver.send(PACKET), one.driver.channel_rssi_dbm(5), one.driver.configure(**UP), one.driver.sleep()):
            assert await fault_of(work, 4) == reason
        one.clear(fault)
        assert await carry(one, other) is not None
        assert await carry(other, one) is not None
        assert all(unwrapped(sent.packet, 76, 0) == bytes((98,)) + PACKET for sent in one.model.sent)

    run_radios(story, chips=CHIPS)


def test_aux_stuck_while_it_listens_is_a_fault() -> None:
    """Not silence for ever."""

    async def story(one: Radio, other: Radio) -> None:
        one.fault("aux_stuck")
        assert await fault_of(one.driver.receive(1000), 10) == "busy_stuck"

    run_radios(story, chips=CHIPS)


def test_a_setting_that_does_not_arrive_is_a_fault() -> None:
    """The module answers that it took it, and has not: nothing is sent on the channel that it stayed on."""

    async def story(one: Radio, other: Radio) -> None:
        one.fault("register_stuck")
        assert await fault_of(one.driver.configure(**DOWN)) == "command_failed"
        assert await fault_of(one.driver.send(PACKET)) == "command_failed"
        assert one.model.sent == []
        one.clear("register_stuck")
        await one.driver.send(PACKET)
        assert one.model.sent[-1].frequency_hz // 1_000_000 == 867

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.5, 5.0])
def test_a_module_that_restarts_is_lawful_and_mended(after_s: float) -> None:
    """Its supply sags: what it has then is a channel of ours at the least power; the next packet goes out as asked, and it is counted."""

    async def story(one: Radio, other: Radio) -> None:
        await one.driver.configure(**UP, tx_power_dbm=22)
        one.fault("brown_out")
        await asyncio.sleep(after_s)
        await one.driver.send(PACKET)
        assert one.model.sent[-1].power_dbm in (10.0, 22.0)
        await asyncio.sleep(3)
        await one.driver.configure(**UP, tx_power_dbm=22)
        await one.driver.send(PACKET)
        assert one.model.sent[-1].power_dbm == 22
        assert one.driver.restarts == 1
        assert {sent.frequency_hz // 1_000_000 for sent in one.model.sent} == {866}

    run_radios(story, chips=CHIPS)


def test_a_restart_while_it_listens_is_found_by_aux() -> None:
    """AUX is low without an octet behind it: within a second it listens again where it should."""

    async def story(one: Radio, other: Radio) -> None:
        await one.driver.configure(**DOWN)
        listening = asyncio.create_task(one.driver.receive(20_000))
        await asyncio.sleep(5)
        one.fault("brown_out")
        await asyncio.sleep(1)
        await other.driver.configure(**DOWN)
        await other.driver.send(PACKET)
        found = await never_longer(listening, 30)
        assert found is not None
        assert found.packet == PACKET
        assert one.driver.restarts == 1

    run_radios(story, chips=CHIPS)


def test_a_restart_that_nobody_saw_is_found_within_half_a_minute() -> None:
    """The program was busy while AUX was low."""

    async def story(one: Radio, other: Radio) -> None:
        await one.driver.configure(**DOWN)
        one.fault("brown_out")
        await asyncio.sleep(1)
        listening = asyncio.create_task(one.driver.receive(60_000))
        await asyncio.sleep(31)
        await other.driver.configure(**DOWN)
        await other.driver.send(PACKET)
        assert await never_longer(listening, 90) is not None

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize("fault", ["cut_short", "crc_error"])
def test_a_broken_packet_costs_itself_only(fault: str) -> None:
    """Half a packet out of the module is counted and dropped, one broken on the air never comes; the next one does."""

    async def story(one: Radio, other: Radio) -> None:
        other.fault(fault)
        assert await carry(one, other, limit_ms=2000) is None
        assert other.driver.header_errors == (fault == "cut_short")
        other.clear(fault)
        assert await carry(one, other) is not None

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize("strange", [b"\x00" * 40, b"\xff" * 40, b"\x05abc", b"\xf0" + bytes(239), bytes(range(3, 200))])
def test_other_octets_on_the_air_end_nothing(strange: bytes) -> None:
    """Somebody else's module with our network id sends what has another form: dropped up to the next silence."""

    async def story(one: Radio, other: Radio) -> None:
        uart = one.driver._uart  # type: ignore[attr-defined]
        listening = asyncio.create_task(other.driver.receive(5000))
        await asyncio.sleep(0.01)
        uart.write(strange)
        await asyncio.sleep(2)
        while listening.done():  # it may have had the form by chance: a frame's proof decides
            found = listening.result()
            assert found is not None
            assert len(found.packet) < len(strange)
            listening = asyncio.create_task(other.driver.receive(5000))
            await asyncio.sleep(0.1)
        assert other.driver.header_errors >= 1
        await one.driver.send(PACKET)
        found = await never_longer(listening, 20)
        assert found is not None
        assert found.packet == PACKET

    run_radios(story, chips=CHIPS)


def test_it_sleeps_and_wakes() -> None:
    """Asleep it hears nothing; the next call wakes it with its settings."""

    async def story(one: Radio, other: Radio) -> None:
        await other.driver.sleep()
        assert other.model.mode == 3
        await one.driver.send(PACKET)
        await asyncio.sleep(1)
        assert await other.driver.receive(100) is None
        assert await carry(one, other) is not None
        assert other.driver.restarts == 0

    run_radios(story, chips=CHIPS)


@pytest.mark.parametrize("step", [0, 3, 7, 14, 22, 40, 70])
def test_cancelled_anywhere_it_goes_on(step: int) -> None:
    """A call that ends at whatever instant leaves a driver that sends and hears."""

    async def story(one: Radio, other: Radio) -> None:
        for work in (one.driver.configure(**DOWN), one.driver.receive(1000), one.driver.channel_rssi_dbm(20), one.driver.sleep()):
            task = asyncio.create_task(work)
            await asyncio.sleep(step / 1000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await one.driver.configure(**UP)
        assert await carry(one, other) is not None
        assert await carry(other, one) is not None

    run_radios(story, chips=CHIPS)
