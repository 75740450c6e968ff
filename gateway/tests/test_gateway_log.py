"""Log lines: one event a line whatever a peer says."""

import io
import logging

from hypothesis import given
from hypothesis import strategies as st
from lamppost_gateway import log


def test_values_are_quoted_when_they_need_it() -> None:
    """key=value stays readable by a machine."""
    stream = io.StringIO()
    log.set_up("info", stream)
    log.event(log.room("test"), logging.INFO, "thing", a=1, b="two words", c='say "x"', d=0.25, e="")
    line = stream.getvalue()
    assert line.endswith('room=lamppost.test event=thing a=1 b="two words" c="say \\"x\\"" d=0.250 e=""\n')


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400)))
def test_peer_text_is_one_short_printable_line(text: bytes | str) -> None:
    """Nothing from outside can break a line, forge an event or colour a terminal."""
    shown = log.peer(text, 80)
    assert len(shown) <= 83
    assert all(" " <= c <= "~" for c in shown)
    assert "\n" not in log.value(text)
