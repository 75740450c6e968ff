"""A schedule as people write it becomes the array that is signed, and reads back the same."""

import datetime

import pytest
from lamppost_tools.errors import MissingError, UsageError
from lamppost_tools.order.schedule_file import load_schedule, schedule_in_words, schedule_of

TEXT = """
default_level = 100
[[week]]
days = ["mon", "tue", "wed", "thu", "fri"]
steps = [["sunset", 100], ["23:00", 60], ["05:00", 100], ["sunrise-10", 0]]
[[week]]
days = "all"
steps = [["sunset+15", 100], ["sunrise", 0]]
[[exception]]
first = 2026-12-31
steps = [["sunset", 100], ["sunrise", 0]]
[[exception]]
first = "12-24"
last = "12-26"
steps = [["sunset", 100]]
"""


def test_from_text_to_array_and_back(tmp_path):
    """Days, anchors and dates land where the wire format wants them."""
    path = tmp_path / "night.toml"
    path.write_text(TEXT)
    value = load_schedule(path)
    assert value == [
        1, 100,
        [[31, [1, 0, 100], [0, 1380, 60], [0, 300, 100], [2, -10, 0]], [127, [1, 15, 100], [2, 0, 0]]],
        [[20261231, 20261231, [1, 0, 100], [2, 0, 0]], [1224, 1226, [1, 0, 100]]],
    ]  # fmt: skip
    words = schedule_in_words(value)
    again = {
        "default_level": words["default_level"],
        "week": words["week"],
        "exception": [{**rule, "first": _date(rule["first"]), "last": _date(rule["last"])} for rule in words["exceptions"]],
    }
    assert schedule_of(again) == value


def _date(text):
    return datetime.date.fromisoformat(text) if len(text) > 5 else text


@pytest.mark.parametrize(
    "raw",
    [
        {"colour": 1},
        {"default_level": 101},
        {"week": [{"days": ["someday"], "steps": [["sunset", 1]]}]},
        {"week": [{"days": "all"}]},
        {"week": [{"days": [], "steps": [["sunset", 1]]}]},
        {"week": [{"days": "all", "steps": [["25:00", 1]]}]},
        {"week": [{"days": "all", "steps": [["noon", 1]]}]},
        {"week": [{"days": "all", "steps": [["sunset+999", 1]]}]},
        {"week": [{"days": "all", "steps": [["sunset"]]}]},
        {"week": "all"},
        {"exception": [{"first": "13-40", "steps": [["sunset", 1]]}]},
        {"exception": [{"first": "new year", "steps": [["sunset", 1]]}]},
        {"exception": [{"steps": [["sunset", 1]]}]},
    ],
)
def test_mistakes_are_told(tmp_path, raw):
    """What is not a schedule is refused before anything is asked of the authority."""
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        schedule_of(raw)


@pytest.mark.parametrize(("text", "error"), [(None, MissingError), ("a = ", UsageError), ("week = 3", UsageError)])
def test_files_that_cannot_be_read(tmp_path, text, error):
    """The file is named and the way to an example."""
    path = tmp_path / "night.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=r"night\.toml"):
        load_schedule(path)
