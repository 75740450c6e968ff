"""Deep sleep's own parts: what a start believes of RTC memory, what a clock claims after a sleep, which configurations may sleep."""

import pytest
from fake_flash import FakeFlash
from fake_ticks import FakeTicks
from hypothesis import given
from hypothesis import strategies as st
from lamppost_node import config, rtc_image
from lamppost_node.clock import Clock
from lamppost_node.fixtures import bin_keys
from lamppost_node.health import BootGuard
from lamppost_node.settings import Settings
from lamppost_node.sleep import take_pause

NONCE = b"12345678"
UNIX = 1_790_000_000
ASKED_MS = 900_000
CLOCK = [10_000, None, 0, 0, 0, None, None, 0]


class FakeBoard:
    """The chip's part: why it started, its RTC memory, and the clock that ran through."""

    def __init__(self, memory: bytes, slept_ms: int, is_waking: bool = True) -> None:
        self.memory = memory
        self.slept_ms = slept_ms
        self.waking = is_waking

    def is_waking(self) -> bool:
        return self.waking

    def rtc_memory(self) -> bytes:
        return self.memory

    def keep_in_rtc(self, data: bytes) -> None:
        self.memory = data

    def rtc_ms(self) -> int:
        return 5_000_000 + self.slept_ms


def image() -> bytes:
    return rtc_image.encode([7, [256, 1], 5_000_000, ASKED_MS, CLOCK, [["bin", b"\xa0"]]])


def test_a_pause_is_taken_once() -> None:
    """Read, it is erased: whatever ends this start, the next one finds nothing."""
    board = FakeBoard(image(), ASKED_MS + 800)
    pause = take_pause(board)  # type: ignore[arg-type]
    assert pause is not None
    assert (pause.boots, pause.passed_ms, pause.parts) == (7, ASKED_MS + 800, [["bin", b"\xa0"]])
    assert board.memory == b""
    assert take_pause(board) is None  # type: ignore[arg-type]


def test_another_start_believes_nothing() -> None:
    """Power-up, watchdog, reset: RTC memory may hold a whole image, and is not looked at."""
    assert take_pause(FakeBoard(image(), ASKED_MS, is_waking=False)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("slept_ms", [-5_000_000, -1, 0, ASKED_MS - 1_001, ASKED_MS + 90_000 + 60_001, 1 << 40])
def test_a_clock_that_did_not_run_through_ends_the_pause(slept_ms: int) -> None:
    """Nobody knows then how long it was: no time, no age and no airtime may rest on it."""
    board = FakeBoard(image(), slept_ms)
    assert take_pause(board) is None  # type: ignore[arg-type]
    assert board.memory == b""


@given(
    st.lists(st.tuples(st.integers(5_000, 86_400_000), st.integers(-1000, 1000), st.integers(0, 60_000)), max_size=30),
    st.integers(1, 60_000),
)
def test_the_clock_never_claims_more_than_it_knows(sleeps: list[tuple[int, int, int]], drift_ppm: int) -> None:
    """Sleeps of any length by a clock wrong by anything within its bounds: the true time lies from `now()` on, within the uncertainty and
    never behind `latest()`; monotonic time has counted no more than has passed."""
    settings = Settings(FakeFlash())
    ticks = FakeTicks()
    clock = Clock(ticks, settings, 100)
    clock.make_nonce(NONCE)
    assert clock.take_beacon(UNIX, NONCE)
    true_ms = UNIX * 1000
    begin_ms = clock.monotonic_ms()
    for counted_ms, wrong_permille, awake_ms in sleeps:
        ticks.advance(awake_ms)
        true_ms += awake_ms
        state = rtc_image.decode(rtc_image.encode(clock.state()))
        passed_ms = counted_ms + counted_ms * wrong_permille * drift_ppm // 1_000_000_000
        true_ms += passed_ms
        ticks = FakeTicks()
        clock = Clock(ticks, settings, 100)
        clock.resume(state, counted_ms, drift_ppm)  # type: ignore[arg-type]
        now, uncertainty_s, latest = clock.now(), clock.uncertainty_s(), clock.latest()
        assert now is not None
        assert uncertainty_s is not None
        assert latest is not None
        assert now * 1000 <= true_ms + 1
        assert true_ms <= (min(latest + 1, now + uncertainty_s) + 1) * 1000
        assert clock.monotonic_ms() - begin_ms <= true_ms - UNIX * 1000


def test_a_beacon_ends_the_doubt() -> None:
    """After hours of sleep a beacon moves the clock forward, and what sleeping added is gone."""
    clock = Clock(FakeTicks(), Settings(FakeFlash()), 100)
    clock.make_nonce(NONCE)
    clock.take_beacon(UNIX, NONCE)
    clock.resume(clock.state(), 36_000_000, 20_000)
    assert (clock.now(), clock.latest()) == (UNIX + 36_000 - 721, UNIX + 36_000 + 720)
    clock.make_nonce(NONCE)
    assert clock.take_beacon(UNIX + 36_100, NONCE)
    assert clock.latest() == clock.now() == UNIX + 36_100
    assert clock.uncertainty_s() == 1


def test_waking_is_no_boot() -> None:
    """A planned sleep of a good boot neither counts nor writes; one of any other boot, or number, counts as ever."""
    flash = FakeFlash()
    first = BootGuard(Settings(flash))
    assert not BootGuard(Settings(flash), first.boots).is_resumed, "that boot was not known to be a good one"
    second = BootGuard(Settings(flash))
    second.confirm()
    written = dict(flash.files)
    woken = BootGuard(Settings(flash), second.boots)
    assert (woken.is_resumed, woken.is_confirmed, woken.boots, woken.is_safe_mode) == (True, True, second.boots, False)
    assert flash.files == written
    stale = BootGuard(Settings(flash), second.boots - 1)
    assert (stale.is_resumed, stale.boots) == (False, second.boots + 1)


LORA = {"region": "EU868", "channels_hz": [868_100_000], "downlink_hz": 869_525_000}
KEYS = {"bin": bin_keys.KEYS, "lamp": (("relay", 1, 0, 1),)}
BIN = {"kind": "bin", "instance": 0, "sleep_s": 600}


@pytest.mark.parametrize(
    ("fixtures", "more", "words"),
    [
        ([BIN], {}, ""),
        ([BIN, {"kind": "lamp", "instance": 0}], {}, "a node sleeps as a whole, and lamp does not"),
        ([{"kind": "lamp", "instance": 0, "sleep_s": 600}], {}, "fixtures[0].sleep_s: lamp never sleeps"),
        ([BIN, {"kind": "bin", "instance": 1}], {}, "and bin does not"),
        ([BIN], {"lora": None}, "only a node on LoRa sleeps"),
        ([BIN], {"lora": {**LORA, "listens_always": 1}}, "lora.listens_always: not of a node with sleep_s"),
    ],
)
def test_who_may_sleep(fixtures: list, more: dict, words: str) -> None:
    """A bin on LoRa with windows; what else is refused with the reason."""
    value = {"fixtures": fixtures, "lora": LORA, **more}
    if not words:
        assert config.sleeps(config.check(value, KEYS.get))
        return
    with pytest.raises(config.ConfigError) as caught:
        config.check(value, KEYS.get)
    assert [error for error in caught.value.errors if words in error], caught.value.errors


def test_who_is_awake_says_nothing_of_sleep() -> None:
    """A bin without `sleep_s`, on a cable, beside a lamp: as ever."""
    fixtures = [{"kind": "bin", "instance": 0}, {"kind": "lamp", "instance": 0}]
    assert not config.sleeps(config.check({"fixtures": fixtures}, KEYS.get))
