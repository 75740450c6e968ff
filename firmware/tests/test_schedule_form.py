"""The schedule array: the strict check, its size, and the words people write."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import cbor, schedule, schedule_words
from lamppost_protocol.errors import ProtocolError, RemoteError

TYPICAL = [
    1,
    100,
    [
        [0b0011111, [1, 0, 100], [0, 1380, 60], [0, 300, 100], [2, -10, 0]],
        [0b1100000, [1, 0, 100], [0, 60, 60], [0, 360, 100], [2, -10, 0]],
    ],
    [[20261231, 20270101, [1, 0, 100], [2, 0, 0]], [1224, 106, [1, -15, 100], [2, 15, 0]]],
]

minutes = st.one_of(st.tuples(st.just(0), st.integers(0, 1439)), st.tuples(st.sampled_from([1, 2]), st.integers(-240, 240)))
steps = st.builds(lambda when, level: [when[0], when[1], level], minutes, st.integers(0, 100))
rule_steps = st.lists(steps, min_size=1, max_size=6)
week_rules = st.builds(lambda mask, rule: [mask, *rule], st.integers(1, 127), rule_steps)
yearly = st.dates().map(lambda date: date.month * 100 + date.day)
dated = st.tuples(st.integers(2026, 2060), yearly).map(lambda pair: pair[0] * 10000 + pair[1])
ranges = st.one_of(st.tuples(yearly, yearly), st.tuples(dated, dated).map(lambda pair: tuple(sorted(pair))))
exceptions = st.builds(lambda dates, rule: [dates[0], dates[1], *rule], ranges, rule_steps)
schedules = st.builds(
    lambda level, weeks, others: [1, level, weeks, others],
    st.integers(0, 100),
    st.lists(week_rules, max_size=4),
    st.lists(exceptions, max_size=4),
)


def test_typical_schedule_is_small() -> None:
    """A week with two sorts of nights and two exceptions: about a hundred bytes."""
    schedule.check_schedule(TYPICAL)
    assert len(cbor.encode(TYPICAL)) < 110
    assert cbor.decode(cbor.encode(TYPICAL)) == TYPICAL


@given(schedules)
def test_every_schedule_of_the_form_is_accepted(value: Any) -> None:
    """What follows the form passes, as lists or as tuples."""
    schedule.check_schedule(value)
    schedule.check_schedule(tuple(value))


def changed(path: tuple[int, ...], new: Any) -> Any:
    value: Any = cbor.decode(cbor.encode(TYPICAL))
    place = value
    for index in path[:-1]:
        place = place[index]
    place[path[-1]] = new
    return value


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ((0,), 2),
        ((0,), True),
        ((0,), None),
        ((1,), 101),
        ((1,), -1),
        ((1,), "100"),
        ((2,), {}),
        ((2,), None),
        ((2,), [[127, [1, 0, 100]]] * 15),
        ((3,), [[1224, 1224, [1, 0, 100]]] * 33),
        ((2, 0), []),
        ((2, 0), [127]),
        ((2, 0, 0), 0),
        ((2, 0, 0), 128),
        ((2, 0, 0), True),
        ((2, 0), [127, *[[1, 0, 100]] * 13]),
        ((2, 0, 1), [1, 0]),
        ((2, 0, 1), [1, 0, 100, 0]),
        ((2, 0, 1), [3, 0, 100]),
        ((2, 0, 1), [-1, 0, 100]),
        ((2, 0, 1), [1, 241, 100]),
        ((2, 0, 1), [1, -241, 100]),
        ((2, 0, 1), [0, 1440, 100]),
        ((2, 0, 1), [0, -1, 100]),
        ((2, 0, 1), [1, 0, 101]),
        ((2, 0, 1), [1, 0, None]),
        ((2, 0, 1), [True, 0, 100]),
        ((2, 0, 1), b"\x01\x00\x64"),
        ((3, 0, 0), 20270102),  # ends before it begins
        ((3, 0, 0), 1231),  # one yearly, one dated
        ((3, 0, 0), 20261331),
        ((3, 0, 0), 20261200),
        ((3, 0, 0), 19991231),
        ((3, 0, 1), 21000101),
        ((3, 1, 0), 1301),
        ((3, 1, 0), 230),
        ((3, 1, 0), 631),
        ((3, 1, 0), 100),
        ((3, 1), [1224, 106]),
    ],
)
def test_anything_else_is_refused(path: tuple[int, ...], new: Any) -> None:
    """One rule broken at a time."""
    with pytest.raises(RemoteError) as caught:
        schedule.check_schedule(changed(path, new))
    assert caught.value.reason == "bad_payload"


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary()), st.lists))
def test_arbitrary_values_raise_only_protocol_errors(value: Any) -> None:
    """Whatever a decoder can give."""
    try:
        schedule.check_schedule(value)
    except ProtocolError:
        pass


@given(minutes)
def test_anchor_words_round_trip(when: tuple[int, int]) -> None:
    """What is shown can be typed in again."""
    assert schedule_words.parse_anchor(schedule_words.anchor_text(*when)) == when


def test_anchor_words() -> None:
    """The words themselves."""
    assert schedule_words.anchor_text(0, 1380) == "23:00"
    assert schedule_words.anchor_text(1, 15) == "sunset+15"
    assert schedule_words.anchor_text(2, -30) == "sunrise-30"
    assert schedule_words.anchor_text(1, 0) == "sunset"


@pytest.mark.parametrize("text", ["", "24:00", "23:60", "2300", "23:5", "sunset15", "sunset+", "dusk", "-1:00", "sunrise+x"])
def test_other_words_are_refused(text: str) -> None:
    """The message names them."""
    with pytest.raises(ValueError, match="hh:mm"):
        schedule_words.parse_anchor(text)
