"""The ladder's two ends against each other: over any channel and with any loss they settle, and no advice counts twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_protocol.errors import LocalError
from lamppost_protocol.ladder import Advice, Ladder, above_need_qdb

#: Semtech's table 6-1, in dB.
NEEDED_DB = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}


def ladders() -> st.SearchStrategy[tuple[int, int, int, int]]:
    factors = st.lists(st.integers(5, 12), min_size=2, max_size=2).map(lambda pair: sorted(pair, reverse=True))
    powers = st.lists(st.integers(-9, 22), min_size=2, max_size=2).map(lambda pair: sorted(pair, reverse=True))
    return st.tuples(factors, powers).map(lambda both: (*both[0], *both[1]))


def test_the_need_is_the_datasheets() -> None:
    assert {factor: -above_need_qdb(factor, 0) / 4 for factor in range(5, 13)} == NEEDED_DB


def test_every_rung_in_order() -> None:
    """From the slowest at full power, factor by factor, then 3 dB by 3 dB, to the least power even where that is no whole step."""
    ladder = Ladder(9, 7, 14, 4)
    rungs = []
    for count in range(9):
        rungs.append((ladder.spreading_factor(), ladder.power_dbm()))
        ladder.sent(bytes((count,)))
        ladder.answered(bytes((count,)), 1)
    assert rungs == [(9, 14), (8, 14), (7, 14), (7, 11), (7, 8), (7, 5), (7, 4), (7, 4), (7, 4)]
    for bad in ((7, 9, 14, 2), (13, 7, 14, 2), (9, 4, 14, 2), (9, 7, 2, 14)):
        with pytest.raises(LocalError):
            Ladder(*bad)


def test_steps_count_once_and_for_the_last_frame_only() -> None:
    """An acknowledgement said again, or one that answers the frame before, moves nothing."""
    ladder = Ladder(12, 7, 14, 2)
    ladder.sent(b"first")
    ladder.answered(b"first", 2)
    ladder.answered(b"first", 2)
    assert ladder.place() == 2
    ladder.sent(b"second")
    ladder.answered(b"first", 2)
    ladder.answered(b"second", None)
    assert ladder.place() == 2
    ladder.answered(b"second", -1)
    assert ladder.place() == 1


def test_silence_leads_back_by_full_power_to_the_slowest() -> None:
    """After the third unanswered frame full power, after the fourth the first rung; an answer in between leaves the node where it was."""
    ladder = Ladder(9, 7, 14, 2)
    ladder.sent(b"0")
    ladder.answered(b"0", 4)
    rungs = []
    for count in range(6):
        rungs.append((ladder.spreading_factor(), ladder.power_dbm()))
        ladder.sent(b"%d" % count)
    assert rungs == [(7, 8), (7, 8), (7, 8), (7, 14), (9, 14), (9, 14)]
    ladder.answered(b"5", 4)
    for count in range(3):
        ladder.sent(b"%d" % count)
    ladder.answered(b"2", 0)
    assert ladder.place() == 4


def test_advice_takes_the_best_of_several_up_and_of_one_down() -> None:
    """Three strong frames are not enough to go up, one weak frame is enough to go down; each advice begins a new count."""
    advice = Advice()
    for _ in range(3):
        advice.note(9, 20)  # 5 dB, 17.5 above need
        assert advice.steps() == 0
    advice.note(9, -40)
    assert advice.steps() == 2
    assert advice.steps() == 0
    advice.note(7, -20)  # 2.5 dB above need
    assert advice.steps() == -3
    advice.note(12, -300)
    assert advice.steps() == -8
    for snr_qdb in [200] + [-30 + 40] * 20:
        advice.note(7, snr_qdb)
    assert advice.steps() == 0  # the one strong frame is out of mind


@settings(max_examples=200, deadline=None)
@given(ladders(), st.integers(-140, -60), st.lists(st.sampled_from(["heard", "frame lost", "answer lost"]), max_size=60))
def test_both_ends_settle(shape: tuple[int, int, int, int], gain_db: int, losses: list[str]) -> None:
    """Over a channel of constant gain: whatever was lost before, the node comes within the margin and stays there."""
    ladder, advice = Ladder(*shape), Advice()
    slowest, fastest, most_dbm, least_dbm = shape
    places = []
    for count, event in enumerate(losses + ["heard"] * 40):
        factor, power_dbm = ladder.spreading_factor(), ladder.power_dbm()
        assert fastest <= factor <= slowest
        assert least_dbm <= power_dbm <= most_dbm
        assert power_dbm == most_dbm or factor == fastest
        digest = count.to_bytes(8, "big")
        snr_qdb = 4 * (power_dbm + gain_db + 117)
        ladder.sent(digest)
        if event == "frame lost" or above_need_qdb(factor, snr_qdb) < 0:
            continue
        advice.note(factor, snr_qdb)
        steps = advice.steps()
        if event != "answer lost":
            ladder.answered(digest, steps)
            place = ladder.place()
            ladder.answered(digest, steps)
            assert ladder.place() == place
        places.append(ladder.place())
    above = above_need_qdb(ladder.spreading_factor(), 4 * (ladder.power_dbm() + gain_db + 117))
    if above >= 0:
        last = slowest - fastest + (most_dbm - least_dbm + 2) // 3
        assert len(set(places[-8:])) == 1, places
        assert above >= 40 or ladder.place() == 0
        assert above < 40 + 12 or ladder.place() == last
