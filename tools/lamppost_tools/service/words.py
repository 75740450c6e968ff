"""What a node answered a technician, in words: values with their units, the doctor's findings. Pure."""

import time
from typing import Any

from lamppost_protocol import kinds, order_words, profiles, tickets

from lamppost_tools.doctor.diagnosis import diagnose
from lamppost_tools.doctor.evidence import Evidence, Reading
from lamppost_tools.frame.words import plain, record_in_words, time_in_words

_LINE = ("bad_slip", "bad_crc", "bad_type", "too_long", "write_faults")


def answer_in_words(verb: int, answer: tickets.Answer, node: int, newest_version: int | None) -> dict[str, Any]:
    """{"verb", "result"}, and what a look or a test has told. What is not of its form is shown as it came: nothing here is signed."""
    result = order_words.REASONS.get(answer.result, f"reason {answer.result}") or "done"
    words: dict[str, Any] = {"node": f"{node:08x}", "verb": profiles.SERVICE_VERBS[verb], "asked": answer.asked, "result": result}
    try:
        if answer.value is not None and verb == tickets.LOOK:
            words.update(_look(answer.value, node, newest_version))
        elif answer.value is not None and verb == tickets.TEST:
            words["records"] = [_record(record) for record in answer.value]
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        words["value"] = plain(answer.value)
    return words


def _look(value: list[Any], node: int, newest_version: int | None) -> dict[str, Any]:
    health, clock, line, rejects, configuration, fixtures = value
    now, uncertainty_s, beacon_s = clock
    columns = profiles.PROFILES[kinds.NODE].columns
    reading = Reading(time.time(), "node", "good", dict(zip([column.name for column in columns], health, strict=False)))
    found = diagnose(Evidence(f"{node:08x}", "its own look", readings=[reading], newest_version=newest_version))
    return {
        "values": _record([kinds.NODE, 0, *health])["values"],
        "clock": "never set" if now is None else f"{time_in_words(now)}, known to within {uncertainty_s} s, beacon {beacon_s} s ago",
        "refused_on_the_line": {name: count for name, count in zip(_LINE, line, strict=True) if count},
        "refused": {str(plain(reason)): int(count) for reason, count in rejects.items()},
        "configuration": str(plain(configuration)),
        "fixtures": [profiles.fixture_name(kind) for kind in fixtures],
        "findings": [f"{one['symptom']}: {one['evidence']}. {one['next_step']}" for one in found["findings"]],
    }


def _record(record: list[Any]) -> dict[str, Any]:
    words = record_in_words(0, [record[0], None, *record[1:]], None)
    return {name: words[name] for name in ("fixture", "quality", "values")}
