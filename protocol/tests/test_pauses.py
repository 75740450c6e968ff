"""A pause that RAM does not survive changes nothing: what went on with its state does, to the number, what one that never stopped does.

States travel as octets, as they do through RTC memory. `test_no_number_twice` adds the pauses that lose their state.
"""

from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import cbor
from lamppost_protocol.arq import SendWindow, air_waits
from lamppost_protocol.errors import LocalError
from lamppost_protocol.ladder import Ladder
from lamppost_protocol.ledger import Ledger
from lamppost_protocol.sequence import BLOCK, Sequence


def carried(state: object) -> object:
    """Through octets and back."""
    return cbor.decode(cbor.encode(state))


@given(st.lists(st.sampled_from(["take", "sleep", "cut"]), max_size=400), st.integers(0, 1000))
def test_no_number_twice(steps: list[str], bound: int) -> None:
    """Numbers taken over sleeps and power cuts at any moment: none comes twice, and a sleep costs neither a number nor a write."""
    stored = [bound]
    sequence = Sequence(lambda: stored[-1], stored.append)
    taken: list[int] = []
    cuts = 0
    for step in steps:
        if step == "take":
            taken.append(sequence.take())
            continue
        state = carried(sequence.state())
        sequence = Sequence(lambda: stored[-1], stored.append)
        if step == "sleep":
            sequence.resume(state)  # type: ignore[arg-type]
        cuts += step == "cut"
    assert len(set(taken)) == len(taken)
    assert taken == sorted(taken)
    assert all(bound < n for n in taken)
    assert len(stored) - 1 <= len(taken) // BLOCK + cuts + 1


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_a_state_of_another_block_is_refused(bound: int, state: int) -> None:
    """What flash did not reserve last is not believed, whatever vouches for it."""
    sequence = Sequence(lambda: bound, lambda _: None)
    if bound - BLOCK <= state <= bound:
        sequence.resume(state)
        assert sequence.state() == state
        return
    try:
        sequence.resume(state)
    except LocalError as error:
        assert error.reason == "replayed"
        return
    raise AssertionError("believed")


_SPENDING = st.lists(st.tuples(st.integers(0, 900_000), st.integers(0, 4_000_000), st.booleans(), st.booleans()), max_size=60)


@given(_SPENDING)
def test_an_account_goes_on(steps: list[tuple[int, int, bool, bool]]) -> None:
    """Every grant, refusal and wait is that of a ledger that never paused, and so is what flash keeps."""
    kept: list[list[int]] = [[0], [0]]
    arguments = (36_000_000, 3_600_000, 7_200_000)
    whole, pausing = (Ledger(*arguments, kept_us=0, keep=kept[i].append) for i in (0, 1))
    now_ms = 0
    for passed_ms, airtime_us, is_urgent, pauses in steps:
        now_ms += passed_ms
        if pauses:
            state = carried(pausing.state())
            pausing = Ledger(*arguments, kept_us=kept[1][-1], keep=kept[1].append)
            pausing.resume(state)  # type: ignore[arg-type]
        waits = [ledger.wait_ms(airtime_us, now_ms, is_urgent) for ledger in (whole, pausing)]
        assert waits[0] == waits[1]
        if not waits[0]:
            for ledger in (whole, pausing):
                ledger.spend(airtime_us, now_ms, is_urgent)
        assert whole.spent_us == pausing.spent_us
    assert kept[0] == kept[1]


def test_a_state_of_another_account_is_refused() -> None:
    """Flash and state must agree: otherwise one of them is not this ledger's, and the account starts as after a power cut."""
    ledger = Ledger(36_000_000, kept_us=0)
    ledger.spend(1_000_000, 0)
    state = ledger.state()
    for other in (Ledger(36_000_000, kept_us=0), Ledger(36_000_000, kept_us=None), Ledger(360_000_000, kept_us=state[5])):
        try:
            other.resume(list(state))
        except LocalError as error:
            assert error.reason == "overdrawn"
        else:
            raise AssertionError("believed")


@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "send", "ack", "pass", "pause"]), st.integers(0, 40), st.integers(0, 0xFFFFFFFF)), max_size=120
    )
)
def test_a_window_goes_on(steps: list[tuple[str, int, int]]) -> None:
    """What is owed, on its way and sent next is that of a window that never paused."""
    waits = air_waits(30_000)
    windows = [SendWindow(1, 1, waits), SendWindow(1, 1, waits)]
    next_n, now_ms, serial = 1, 0, 0
    for what, number, bits in steps:
        if what == "write":
            next_n += number % 5
        elif what == "pass":
            now_ms += number * 10_000
        elif what == "pause":
            state = carried(windows[1].state())
            windows[1] = SendWindow(1, next_n, waits)
            windows[1].resume(state)  # type: ignore[arg-type]
        elif what == "ack":
            highest = min(number, next_n - 1)
            for window in windows:
                window.acknowledge(highest, bits, serial.to_bytes(8, "big"), next_n)
        else:
            jobs = [window.take(now_ms, next_n, 16, 16) for window in windows]
            assert jobs[0] == jobs[1]
            if jobs[0] is not None:
                serial += 1
                for window in windows:
                    window.sent(jobs[0][0], jobs[0][1], serial.to_bytes(8, "big"), now_ms, bits % 1001, number % 2 == 1)
        assert windows[0].due_ms() == windows[1].due_ms()
        assert [windows[0].is_owed(n) for n in range(1, next_n)] == [windows[1].is_owed(n) for n in range(1, next_n)]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-8, 8)), max_size=40))
def test_a_ladder_goes_on(steps: list[tuple[bool, bool, int]]) -> None:
    """The rung after any frames, answers and pauses is that of a ladder that never paused."""
    ladders = [Ladder(12, 7, 14, 2), Ladder(12, 7, 14, 2)]
    for number, (pauses, is_answered, advice) in enumerate(steps):
        digest = number.to_bytes(8, "big")
        for ladder in ladders:
            ladder.sent(digest)
        if pauses:
            state = carried(ladders[1].state())
            ladders[1] = Ladder(12, 7, 14, 2)
            ladders[1].resume(state)  # type: ignore[arg-type]
        if is_answered:
            for ladder in ladders:
                ladder.answered(digest, advice)
        assert ladders[0].place() == ladders[1].place()
