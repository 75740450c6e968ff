"""Where each value of a TOML file stands, held against tomllib's own reading of the same text."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_tools.site.toml_lines import toml_lines

TEXT = '''# a comment = 1
a = 1
[b."c d"]           # ] = [
x = [1,
 2, # ] }
 { y = """
 ] }""", z.w = 'q' },
 [[3], "a\\"]b"],
]
s = "ends with a quote\\\\"
m = \'\'\'it''s ] = [\'\'\'
[[n]]
a = 1979-05-27T07:32:00Z
[[n.f]]
k = 1
[[n.f]]
k = [ ]
[n.t]
u = {}
[[n]]
[[n.f]]
k = -inf
'''


def ways(value, way=()):
    """Every way into a parsed document."""
    if way:
        yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from ways(item, (*way, key))


def test_every_value_has_its_line():
    """Nested arrays, inline tables over lines, quoted keys, strings that look like syntax."""
    lines = toml_lines(TEXT)
    assert set(lines) == set(ways(tomllib.loads(TEXT)))
    text = TEXT.splitlines()
    assert [text[lines[way] - 1].strip() for way in [("b", "c d", "x", 2, "z", "w"), ("n", 0, "f", 1, "k"), ("n", 1, "f", 0, "k")]] == [
        "] }\"\"\", z.w = 'q' },", "k = [ ]", "k = -inf",
    ]  # fmt: skip
    assert (lines[("n", 0, "t", "u")], lines[("n", 1)], lines[("b", "c d", "x", 3, 0, 0)], lines[("b", "c d", "m")]) == (19, 20, 8, 11)


KEYS = st.text("abcdefgh_-09", min_size=1, max_size=5)
SCALARS = st.one_of(
    st.integers().map(str), st.booleans().map(lambda b: str(b).lower()), st.sampled_from(['"#]"', "'}'", '"\\""', "1.5", '""'])
)


@st.composite
def documents(draw):
    """(text, line by way) of a file that is written key by key, tables and arrays over several lines."""
    lines, expected = [], {}
    for name in draw(st.lists(KEYS, min_size=1, max_size=4, unique=True)):
        for index in range(draw(st.integers(1, 3))):
            lines += [""] * draw(st.integers(0, 2))
            lines.append(f"[[{name}]]  # {name} = 1")
            expected.setdefault((name,), len(lines))
            expected[(name, index)] = len(lines)
            for key in draw(st.lists(KEYS, max_size=3, unique=True)):
                way = (name, index, key)
                if draw(st.booleans()):
                    lines.append(f"{key} = {draw(SCALARS)}")
                    expected[way] = len(lines)
                    continue
                lines.append(f"{key} = [")
                expected[way] = len(lines)
                for item in range(draw(st.integers(0, 3))):
                    lines.append(f"  {{ k = {draw(SCALARS)}, l.m = {draw(SCALARS)} }}, # , ]")
                    expected.update({(*way, item, *rest): len(lines) for rest in ((), ("k",), ("l",), ("l", "m"))})
                lines.append("]")
    return "\n".join(lines), expected


@given(documents())
def test_any_document(made):
    """Each way tomllib finds has the line on which it was written."""
    text, expected = made
    assert set(expected) == set(ways(tomllib.loads(text)))
    assert toml_lines(text) == expected


@pytest.mark.parametrize("text", ["", "\n\n", "# only\r\n", "a=1"])
def test_small_texts(text):
    """Nothing, blank lines, a comment, no newline at the end."""
    assert set(toml_lines(text)) == set(ways(tomllib.loads(text)))
