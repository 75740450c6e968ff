"""Whatever the questions are answered, the file that comes out passes `check`; what will not do is refused at once."""

import os
import re
import stat

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lamppost_protocol.radio_limits import E22_WRAP
from lamppost_tools.errors import UsageError
from lamppost_tools.node.config_keys import FIXTURE_KEYS
from lamppost_tools.site.file import read_site
from lamppost_tools.site.new import QUESTIONS, answers, site_text, write_site
from lamppost_tools.site.rules import PACE_KEYS

OPTIONS = {
    "name": st.text(max_size=20),
    "latitude": st.floats(-90, 90).map(str),
    "longitude": st.floats(-180, 180).map(str),
    "utc_offset": st.sampled_from(["+1", "-3:30", "5.75", "0", "+14", "-11"]),
    "dst": st.sampled_from(["eu", "us", "none"]),
    "kind": st.sampled_from(["lamp", "bin", "air"]),
    "nodes": st.integers(1, 4).map(str),
    "link": st.sampled_from(["serial", "lora"]),
    "radio": st.sampled_from(["sx1262", "sx1276", "e22"]),
    "region": st.sampled_from(["EU868", "US915", "AS923", "AS923-JP", "AU915", "IN865"]),
    "report": st.integers(1, 86_400).map(str),
    "power": st.integers(1, 10_000).map(str),
}


def test_every_question_is_tried():
    """The strategies below cover the questions."""
    assert [question.name for question in QUESTIONS] == list(OPTIONS)


@given(st.fixed_dictionaries({name: st.none() | values for name, values in OPTIONS.items()}))
def test_what_comes_out_passes_the_check(tmp_path_factory, given_options):
    """Any mix of options and defaults: refused before anything is written, or a file without a mistake."""
    try:
        found = answers(given_options, None)
    except UsageError:
        assume(False)
    path = tmp_path_factory.mktemp("site") / "site.toml"
    write_site(path, site_text(found), False)
    site, problems, _ = read_site(path)
    assert problems == []
    assert len(site.nodes) == int(found["nodes"])


@pytest.mark.parametrize("region", ["EU868", "US915", "AS923", "AS923-JP", "AU915", "IN865"])
def test_every_region_gets_a_lawful_radio(tmp_path, region):
    """The radio it writes keeps that region's law."""
    found = answers({"link": "lora", "region": region}, None)
    assert write_site(tmp_path / "site.toml", site_text(found), False).radio.region == region


@pytest.mark.parametrize("region", ["EU868", "US915", "AU915"])
def test_an_e22_gets_a_lawful_radio_where_there_is_one(tmp_path, region):
    """On channels that it has, up and down apart, with a power that it has."""
    site = write_site(tmp_path / "site.toml", site_text(answers({"link": "lora", "radio": "e22", "region": region}, None)), False)
    assert (site.radio.region, site.radio.spreading_factor, site.radio.bandwidth_hz) == (region, 11, 500_000)
    assert site.radio.wrap == site.downlink.wrap == E22_WRAP
    assert [node.config["radio"] for node in site.nodes] == ["e22"]


@pytest.mark.parametrize(
    ("given_options", "words"),
    [({"region": "IN865"}, "500 kHz wide"), ({"region": "AS923-JP"}, "500 kHz wide"), ({"kind": "bin"}, "UART"), ({"kind": "air"}, "UART")],
)
def test_what_an_e22_cannot_be_used_for_is_refused(given_options, words):
    """Where 500 kHz are unlawful, and for a node whose sensor has the UART."""
    with pytest.raises(UsageError, match=words):
        answers({"link": "lora", "radio": "e22", **given_options}, None)


@pytest.mark.parametrize("kind", ["lamp", "bin", "air"])
def test_the_keys_it_lists_are_those_it_takes(tmp_path, kind):
    """Each key that stands there as a comment, put in with its default, passes."""
    path = tmp_path / "site.toml"
    text = site_text(answers({"kind": kind, "power": "60"} if kind == "lamp" else {"kind": kind}, None))
    lists = text.split("# Whatever ")[1:]
    own, fixture = ([line[1:] for line in part.splitlines() if line.startswith("#")] for part in lists)
    assert [len(own), len(fixture)] == [len(PACE_KEYS), len(FIXTURE_KEYS[kind])]
    text = text.replace("report_s = 60\n", "\n".join(own) + "\n", 1)
    if kind == "lamp":
        text = re.sub(r"^power_\d+_dw = .*\n", "", text, flags=re.MULTILINE)
        text = text.replace('schedule = "night"\n', 'schedule = "night"\n' + "\n".join(fixture) + "\n", 1)
    else:
        text = text.replace("[[node]]", f"[defaults.{kind}]\n" + "\n".join(fixture) + "\n[[node]]", 1)
    path.write_text(text)
    assert read_site(path)[1] == []


@given(st.lists(st.text(max_size=6), max_size=30))
def test_nonsense_is_asked_again_until_it_will_do(said):
    """Answers by a cat on the keyboard, then by nobody (the default): it ends with a valid set."""
    waiting = list(said)
    found = answers({}, lambda words, default: waiting.pop(0).strip() if waiting else "")
    for question in QUESTIONS:
        if question.name in found:
            assert question.refuse(found[question.name], found) is None


def test_the_command_asks_refuses_and_asks_again(lamppost, tmp_path):
    """A bad latitude is asked for again with the reason; the rest by default."""
    path = tmp_path / "site.toml"
    done = lamppost("site", "new", "--out", str(path), data=b"Weg\n91\n48.85\n2.35\n+1\n" + b"\n" * 8)
    assert done.returncode == 0, done.stderr
    assert b"-90 to 90 degrees" in done.stderr
    assert lamppost("site", "check", str(path)).returncode == 0
    assert 'name = "Weg"' in path.read_text()
    assert 'dst = "eu"' in path.read_text()


def test_nothing_is_written_over_unless_told(lamppost, tmp_path):
    """An existing file stays as it is, and so does one when the answers end early."""
    path = tmp_path / "site.toml"
    path.write_text("mine")
    assert lamppost("site", "new", "--out", str(path), "--no-input").returncode == 2
    assert path.read_text() == "mine"
    with pytest.raises(UsageError, match="exists already"):
        write_site(path, site_text(answers({}, None)), False)
    assert path.read_text() == "mine"
    assert lamppost("site", "new", "--out", str(path), "--no-input", "--force").returncode == 0
    assert path.read_text() != "mine"
    other = tmp_path / "other.toml"
    assert lamppost("site", "new", "--out", str(other), data=b"Weg\n").returncode == 2
    assert not other.exists()
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0o044


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--latitude", "north", b"52.52"),
        ("--utc-offset", "+9", b"lives at about"),
        ("--dst", "us", b"summer time"),
        ("--nodes", "0", b"1 to 500"),
        ("--region", "EU868", b"no meaning here"),
        ("--power", "2.5", b"whole number"),
    ],
)
def test_an_option_that_will_not_do_ends_with_two(lamppost, tmp_path, option, value, words):
    """Wrong usage, with the reason; nothing is written."""
    done = lamppost("site", "new", "--out", str(tmp_path / "s.toml"), "--no-input", option, value)
    assert (done.returncode, words in done.stderr, list(tmp_path.iterdir())) == (2, True, []), done.stderr
