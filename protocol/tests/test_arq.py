"""Custody: a record is owed until acknowledged, whatever the line loses, repeats or reorders, and whichever end forgets."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lamppost_protocol.arq import MAX_RESEND_MS, ReceiveWindow, SendWindow, air_waits
from lamppost_protocol.errors import LocalError


class Custody(RuleBasedStateMachine):
    """One node, one gateway, a line that loses and reorders both ways; either end may restart at any moment."""

    @initialize()
    def start(self) -> None:
        self.now_ms = 0
        self.next_n = 1
        self.kept = 0  # the node's durable cursor: may lag behind
        self.window = SendWindow(1, 1)
        self.durable = ReceiveWindow()
        self.stored: list[int] = []
        self.up: list[tuple[int, int, int, bytes]] = []
        self.down: list[tuple[int, int, bytes]] = []
        self.serial = 0

    @rule(count=st.integers(1, 40))
    def measure(self, count: int) -> None:
        self.next_n += count

    @rule(ms=st.integers(1, 70000))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def send(self) -> None:
        choice = self.window.take(self.now_ms, self.next_n, 8)
        if choice is None:
            return
        n, count, _ = choice
        assert 1 <= n <= n + count - 1 < self.next_n
        self.serial += 1
        digest = self.serial.to_bytes(8, "big")
        self.window.sent(n, count, digest, self.now_ms, 500)
        self.up.append((n, count, n - self.window.highest - 1, digest))

    @rule(index=st.integers(0, 50))
    def hear(self, index: int) -> None:
        """The gateway hears one of the frames on their way, commits, acknowledges."""
        if not self.up:
            return
        n, count, behind, digest = self.up.pop(index % len(self.up))
        fresh = self.durable.note(n, count, max(behind, 0))
        self.stored += [n + i for i in range(count) if fresh >> i & 1]
        self.down.append((self.durable.highest, self.durable.bitmap32(), digest))

    @rule(index=st.integers(0, 50), again=st.booleans())
    def acknowledged(self, index: int, again: bool) -> None:
        if not self.down:
            return
        item = self.down[index % len(self.down)]
        if not again:
            self.down.remove(item)
        self.window.acknowledge(*item, self.next_n)

    @rule(up=st.booleans())
    def lose(self, up: bool) -> None:
        (self.up if up else self.down).clear()

    @rule()
    def node_restarts(self) -> None:
        """The cursor in flash is older than the truth, never younger."""
        self.window = SendWindow(self.kept + 1, self.next_n)

    @rule()
    def cursor_is_kept(self) -> None:
        self.kept = self.window.highest

    @rule()
    def gateway_restarts(self) -> None:
        self.durable = ReceiveWindow(self.durable.highest, self.durable.bitmap)

    @invariant()
    def nothing_acknowledged_is_missing_and_nothing_is_twice(self) -> None:
        if not hasattr(self, "stored"):
            return
        stored = set(self.stored)
        assert len(stored) == len(self.stored)
        for n in range(1, self.next_n):
            assert self.window.is_owed(n) or n in stored

    def teardown(self) -> None:
        """Once the line holds, everything arrives."""
        if not hasattr(self, "stored"):
            return
        for _ in range(2000):
            self.now_ms += MAX_RESEND_MS * 2
            self.send()
            while self.up:
                self.hear(0)
            while self.down:
                self.acknowledged(0, False)
            if self.window.owed(self.next_n) == 0:
                break
        assert sorted(self.stored) == list(range(1, self.next_n))


TestCustody = Custody.TestCase
TestCustody.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_live_goes_ahead_of_back_fill() -> None:
    """After an outage the newest record is sent first, then the oldest owed, in order."""
    window = SendWindow(1, 101)
    assert window.take(0, 103, 8, 1) == (102, 1, True)
    window.sent(102, 1, b"a", 0, 0)
    assert window.take(0, 103, 8) == (1, 8, False)
    window.sent(1, 8, b"b", 0, 0)
    assert window.take(0, 103, 8) == (9, 8, False)


def test_silence_slows_the_node_to_one_try_a_minute() -> None:
    """While nothing answers one frame at a time is on its way and the waits double up to a minute, jitter included."""
    window = SendWindow(1, 50)
    now, waits = 0, []
    for _ in range(12):
        n, count, _ = window.take(now, 50, 8)
        window.sent(n, count, b"x", now, 1000)
        due = window.due_ms()
        waits.append(due - now)
        now = due
    assert waits[:4] == [3000, 6000, 12000, 24000]
    assert max(waits) == 60_000
    window.acknowledge(8, 0, b"x", 50)
    for expected in ((9, 8), (17, 8), (25, 8), (33, 8)):
        n, count, _ = window.take(now, 50, 8)
        assert (n, count) == expected
        window.sent(n, count, b"%d" % n, now, 0)
    assert window.take(now, 50, 8) is None


class Silences(RuleBasedStateMachine):
    """Frames go out, waits run out in whatever order, answers come: each wait is what the silences of its kind make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.window = SendWindow(1, 1, air_waits(30_000))
        self.now_ms = self.n = 0
        self.silences = {False: 0, True: 0}
        self.waiting: list[tuple[int, bool]] = []

    @rule(is_alarm=st.booleans())
    def send(self, is_alarm: bool) -> None:
        """Records wait by every silence, alarms by those of alarms."""
        self.n += 1
        self.window.sent(self.n, 1, self.n.to_bytes(8, "big"), self.now_ms, 1000, is_alarm)
        wait_ms = min(30_000 << self.silences[is_alarm], 600_000 if is_alarm else 3_600_000)
        self.waiting.append((self.now_ms + wait_ms, is_alarm))
        assert self.window.due_ms() == min(due_ms for due_ms, _ in self.waiting)

    @rule()
    def run_out(self) -> None:
        """The earliest wait ends."""
        if self.waiting:
            self.now_ms = self.window.due_ms()
            self.window.expire(self.now_ms)
            over = [is_alarm for due_ms, is_alarm in self.waiting if due_ms <= self.now_ms]
            self.waiting = [each for each in self.waiting if each[0] > self.now_ms]
            self.silences[False] += 1
            self.silences[True] += any(over)

    @rule()
    def answer(self) -> None:
        """All that was sent is acknowledged."""
        if self.n:
            self.window.acknowledge(self.n, 0, self.n.to_bytes(8, "big"), self.n + 1)
            self.silences = {False: 0, True: 0}
            self.waiting = []


TestSilences = Silences.TestCase
TestSilences.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(("is_alarm", "most_ms"), [(False, 3_600_000), (True, 600_000)])
def test_over_the_air_one_frame_at_a_time_by_chance(is_alarm: bool, most_ms: int) -> None:
    """The next try comes within a time doubled with each silence, up to an hour, an alarm's ten minutes."""
    longest = []
    for chance_permille in (0, 1000):
        window = SendWindow(1, 50, air_waits(30_000))
        now, longest = 0, []
        for _ in range(12):
            n, count, _ = window.take(now, 50, 8)
            window.sent(n, count, b"x", now, chance_permille, is_alarm)
            assert window.take(now - 1, 50, 8) is None
            longest.append(window.due_ms() - now)
            now = window.due_ms()
        if chance_permille == 0:
            assert set(longest) == {0}
    assert longest[:3] == [30_000, 60_000, 120_000]
    assert max(longest) == most_ms


def test_an_acknowledgement_of_what_was_never_written_is_refused() -> None:
    window = SendWindow(1, 5)
    with pytest.raises(LocalError):
        window.acknowledge(5, 0, bytes(8), 5)
    assert window.highest == 0


def test_what_the_spool_lost_is_owed_no_longer() -> None:
    """A run that a gap record declares lost is passed over wherever it lies, and `behind` follows."""
    window = SendWindow(1, 21)
    window.forget(5, 3)
    assert [n for n in range(1, 9) if window.is_owed(n)] == [1, 2, 3, 4, 8]
    assert window.take(0, 21, 10) == (1, 4, False)
    window.forget(1, 4)
    assert window.highest == 7
