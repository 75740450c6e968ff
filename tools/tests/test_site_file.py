"""A site file: what is right passes, every mistake is found with its line, several at once, and a node of it can be enrolled."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_node import config as node_config
from lamppost_node.lighting.decision import Decision
from lamppost_node.settings import Settings
from lamppost_protocol import cbor
from lamppost_tools.errors import MissingError, RefusedError, UsageError
from lamppost_tools.site.document import Document
from lamppost_tools.site.file import load_site, node_of_site, read_site
from lamppost_tools.site.place import implausible
from lamppost_tools.site.rules import PACE_KEYS, check_document

SITE = """name = "Lindenstrasse"
network = "0000cafe"
[place]
latitude_deg = 52.52
longitude_deg = 13.405
utc_offset_s = 3600
dst = "eu"
[defaults]
report_s = 900
health_s = 3600
[defaults.lamp]
schedule = "night"
power_100_dw = 600
[gateway]
outbox_mb = 512
[schedule.night]
default_level = 100
[[schedule.night.week]]
days = "all"
steps = [["sunset", 100], ["23:00", 50], ["sunrise", 0]]
[[schedule.night.exception]]
first = 2026-12-31
steps = [["sunset", 100], ["sunrise", 0]]
[lora]
region = "EU868"
channels_hz = [868100000,
  868300000]
power_dbm = 14
downlink_hz = 869525000
[[node]]
asset = "post 14"
id = "0a0b0c0d"
link = { kind = "serial", port = "/dev/serial/by-id/a" }
fixtures = [
  { kind = "air" },
  { kind = "lamp", stagger_s = 0, wiring = { pwm_pin = 25, relay_pin = 26 } },
]
[[node]]
asset = "bin 7"
id = "0a0b0c0e"
report_s = 1800
supply = "battery"
battery_mah = 19000
link = { kind = "lora", spreading_factor = 9 }
fixtures = [{ kind = "bin", height_mm = 1200 }]
[[node]]
asset = "post 15"
link = { kind = "serial", port = "/dev/serial/by-id/b" }
fixtures = [{ kind = "lamp" }]
"""

#: (what stands in SITE, what to put there, line of the mistake, words of the message or its fix). Each alone, or with any others.
MISTAKES = [
    ('name = "Lindenstrasse"', "name = 7", 1, "a text"),
    ('network = "0000cafe"', 'network = "CAFE"', 2, "8 lower-case hex digits"),
    ("latitude_deg = 52.52", "latitude_deg = 91", 4, "-90 to 90"),
    ("utc_offset_s = 3600", "utc_offset_s = 50401", 6, "-50,400 to 50,400 s"),
    ("report_s = 900", "report_s = 0", 9, "1 to 86,400 s"),
    ("health_s = 3600", "helth_s = 3600", 10, "write health_s"),
    ('schedule = "night"', 'schedule = "nigth"', 12, "no such schedule"),
    ("power_100_dw = 600", "power_100_dw = 400", 13, "power_75_dw must not be above"),
    ("outbox_mb = 512", "outbox_mb = 512.5", 15, "1 to 1,000,000 MB"),
    ("default_level = 100", "default_level = 101", 17, "default level"),
    ('["23:00", 50]', '["24:00", 50]', 18, "24:00"),
    ("first = 2026-12-31", "erste = 2026-12-31", 21, "first is missing"),
    ("  868300000", "  862000000", 27, "863.000 to 865.000 MHz"),
    ("power_dbm = 14", "power_dbm = 20", 28, "set power_dbm to 16 at most"),
    ('id = "0a0b0c0d"', "id = 42", 32, "8 lower-case hex digits"),
    ('port = "/dev/serial/by-id/a"', 'spreading_factor = 7, port = "/dev/serial/by-id/a"', 33, "no spreading factor"),
    ('{ kind = "air" }', '{ kind = "aire" }', 35, 'write "air"'),
    ("stagger_s = 0", "stager_s = 0", 36, "write stagger_s"),
    ("relay_pin = 26", "relay_pin = 25", 36, "the firmware has it on 26"),
    ('asset = "bin 7"', 'asset = "post 14"', 39, "on line 31 too"),
    ('id = "0a0b0c0e"', 'id = "00000000"', 40, "not all zero"),
    ("report_s = 1800", 'report_s = "1800"', 41, "1 to 86,400 s"),
    ('supply = "battery"', 'supply = "batery"', 42, 'write "battery"'),
    ("battery_mah = 19000", "battery_mah = -1", 43, "1 to 1,000,000 mAh"),
    ("spreading_factor = 9", "spreading_factor = 13", 44, "5 to 12"),
    ('kind = "lora"', 'kind = "lorra"', 44, 'write "lora"'),
    ('region = "EU868"', 'region = "EU686"', 25, 'write "EU868"'),
    ("height_mm = 1200", "full_mm = 1200", 45, "full_mm must be below height_mm"),
    ('/by-id/b" }', '/by-id/a" }', 48, "on line 33 too"),
    ('[{ kind = "lamp" }]', '[{ kind = "lamp" }, { kind = "bin" }, { kind = "air" }]', 49, "sensor UART"),
]  # fmt: skip


def problems(text, folder=Path()):
    document = Document(text, "site.toml", folder)
    check_document(document)
    return document.problems


def test_a_right_file_passes(tmp_path):
    """No mistake, no remark; the defaults reach the nodes, the radio those that are on LoRa."""
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    site, found, remarks = read_site(path)
    assert (found, remarks) == ([], [])
    post, bin_7, _ = site.nodes
    assert (post.id, post.config["report_s"], bin_7.config["report_s"]) == (0x0A0B0C0D, 900, 1800)
    assert post.config["fixtures"][1] == {"kind": "lamp", "instance": 0, "power_100_dw": 600, "stagger_s": 0}
    assert list(post.schedules) == ["lamp"]
    lora = {"region": "EU868", "channels_hz": [868100000, 868300000], "power_dbm": 14, "downlink_hz": 869525000, "spreading_factor": 9}
    assert (bin_7.config["lora"], "lora" in post.config) == (lora, False)
    assert (bin_7.spreading_factor, bin_7.battery_mah, site.outbox_mb, site.network) == (9, 19000, 512, 0xCAFE)


@pytest.mark.parametrize(("right", "wrong", "line", "words"), MISTAKES, ids=[wrong for _, wrong, _, _ in MISTAKES])
def test_each_mistake_is_found_with_its_line_and_its_fix(right, wrong, line, words):
    """One mistake, found where it stands; nothing else is reported."""
    assert SITE.count(right) == 1
    found = problems(SITE.replace(right, wrong))
    assert {problem.line for problem in found} == {line}
    assert any(words in problem.what + problem.fix for problem in found), found
    assert all(problem.fix for problem in found)


@given(st.sets(st.integers(0, len(MISTAKES) - 1), min_size=2, max_size=8))
def test_several_mistakes_are_all_found_at_once(chosen):
    """Any few of them together: each line is reported. Only the law waits for a region that has one."""
    text = SITE
    if any("EU686" in MISTAKES[index][1] for index in chosen):
        chosen = {index for index in chosen if MISTAKES[index][2] not in (27, 28)}
    for index in chosen:
        text = text.replace(MISTAKES[index][0], MISTAKES[index][1], 1)
    assert {MISTAKES[index][2] for index in chosen} <= {problem.line for problem in problems(text)}


@given(st.sampled_from(sorted(PACE_KEYS.values())), st.integers(1, 1000), st.booleans())
def test_a_range_ends_where_the_firmwares_ends(row, beyond, is_above):
    """The lowest and the highest value pass; whatever lies beyond is refused on its line, with the range in the fix."""
    name, _, low, high, *_ = row
    text = SITE.replace("[defaults]\nreport_s = 900\nhealth_s = 3600\n", "[defaults]\n" + f"{name} = VALUE\n\n")
    for right in (low, high):
        assert problems(text.replace("VALUE", str(right))) == []
    wrong = high + beyond if is_above else low - beyond
    found = problems(text.replace("VALUE", str(wrong)))
    assert [problem.line for problem in found] == [9]
    assert f"{low:,} to {high:,}" in found[0].fix


@given(
    st.recursive(
        st.none() | st.integers() | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=3),
        lambda inner: st.lists(inner, max_size=3),
    ),
    st.data(),
)
def test_no_value_in_any_place_raises(value, data):
    """Whatever type stands where: a mistake at most, never an exception."""
    lines = SITE.splitlines()
    index = data.draw(st.sampled_from([i for i, line in enumerate(lines) if " = " in line and not line.endswith(("[", ","))]))
    shown = "false" if value is None else json.dumps(value).replace("null", "false")
    lines[index] = lines[index].split(" = ")[0].strip() + f" = {shown}" if not lines[index].startswith("  ") else f"  {shown},"
    problems("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "[place] is missing"),
        ("[place]\nlatitude_deg = 1\nlongitude_deg = 2\n", "no node"),
        ("node = 3\n", "a list of tables"),
        ("node = [3]\n", "a table is meant"),
        ("defaults = 3\n", "a table is meant"),
        ("[schedule]\nnight = 3\n", "a table is meant"),
        ("[[node]]\nasset = 'a'\n", "link"),
        ("[[node]]\nasset = 'a'\nlink = { kind = 'lora' }\nfixtures = []\n", "[lora] is missing"),
    ],
)
def test_what_is_missing_is_said(text, words):
    """Empty files, wrong types, missing tables."""
    assert any(words in problem.what for problem in problems(text))


def test_who_sleeps_has_a_radio():
    """A bin that sleeps on LoRa passes; on a cable, or beside a lamp, its node is named."""
    sleeping = SITE.replace("height_mm = 1200", "sleep_s = 600")
    assert problems(sleeping) == []
    cable = sleeping.replace('kind = "lora", spreading_factor = 9', 'kind = "serial", port = "/dev/serial/by-id/c"')
    assert [(problem.line, "on a cable" in problem.what) for problem in problems(cable)] == [(45, True)]
    (beside,) = problems(sleeping.replace("sleep_s = 600 }", 'sleep_s = 600 }, { kind = "lamp" }'))
    assert "lamp does not" in beside.what


def test_not_toml_says_on_which_line(tmp_path):
    """A file that is no TOML has one mistake, with its line; what is not there is another matter."""
    path = tmp_path / "site.toml"
    path.write_text("a = 1\nb = = 2\n")
    assert [problem.line for problem in read_site(path)[1]] == [2]
    path.write_bytes(b"a = '\xff'\n")
    assert "UTF-8" in read_site(path)[1][0].what
    with pytest.raises(MissingError):
        read_site(tmp_path / "nowhere.toml")


def test_a_schedule_file_is_checked_in_its_own_lines(tmp_path):
    """A mistake in a file beside the site file is reported there."""
    (tmp_path / "night.toml").write_text('default_level = 100\n[[week]]\ndays = "all"\nsteps = [["dusk", 100]]\n')
    text = SITE.replace('schedule = "night"', 'schedule = "night.toml"')
    assert [(Path(p.file).name, p.line) for p in problems(text, tmp_path)] == [("night.toml", 2)]
    (tmp_path / "night.toml").unlink()
    assert [(p.file, p.line) for p in problems(text, tmp_path)] == [("site.toml", 12)]


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ((52.52, 13.405, 3600, "eu"), None),
        ((13.405, 52.52, 3600, "eu"), "dst"),
        ((52.52, 13.405, 32_400, "none"), "utc_offset_s"),
        ((39.47, 75.99, 28_800, "none"), None),  # Kashgar on Beijing's time, the sun's furthest
        ((1.87, -157.4, 50_400, "none"), None),  # Kiritimati, east of the date line's bend
        ((64.18, -51.7, -7200, "eu"), None),  # Nuuk
        ((21.3, -157.86, -36_000, "none"), None),  # Honolulu
        ((40.7, -74.0, -18_000, "us"), None),
        ((40.7, 74.0, 18_000, "us"), "dst"),
        ((-33.87, 151.2, 36_000, "eu"), "dst"),
        ((-18.14, 178.4, 43_200, "none"), None),  # Suva
        ((0, 0, 0, "none"), "latitude_deg"),
    ],
)
def test_places_and_clocks_that_cannot_belong_together(place, key):
    """Real places pass; swapped coordinates, lost signs and foreign rules do not."""
    found = implausible(*place)
    assert (found and found[0]) == key
    if place[:2] == (13.405, 52.52):
        assert "swapped" in found[2]


def test_a_node_elsewhere_has_its_own_place():
    """One node's own coordinates count for it alone, and are held against the street's clock."""
    own = 'asset = "post 15"\nlatitude_deg = 52.6\nlongitude_deg = 13.5\n'
    document = Document(SITE.replace('asset = "post 15"\n', own), "site.toml", Path())
    site = check_document(document)
    assert [node.config["latitude_deg"] for node in site.nodes] == [52.52, 52.52, 52.6]
    assert document.problems == []
    assert [problem.line for problem in problems(SITE.replace('asset = "post 15"\n', own.replace("13.5", "-73.5")))] == [48]


def test_a_node_of_the_site_is_enrolled(lamppost, city, tmp_path):
    """Its configuration is one that the firmware accepts, and its lamp follows the file's schedule from the first start."""
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    done = lamppost(
        "node", "enrol", "--site", str(path), "--asset", "post 14", "--registry", str(city.registry.path),
        "--authority-key", str(city.public), "--nodes", str(city.nodes), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["node"], made["asset"], made["fixtures"]) == ("0a0b0c0d", "post 14", ["air", "lamp"])
    flash = Path(made["flash_folder"])
    values = node_config.decode((flash / "config.cbor").read_bytes())
    assert (values["latitude_udeg"], values["report_s"], values["fixtures"][1]["power_100_dw"]) == (52_520_000, 900, 600)
    node = Decision(Settings(FolderFlash(flash)), ("lamp.schedule", "lamp.leases"), None, 100, 10, 7200, 0)
    assert not node.is_schedule_missing
    kept = cbor.decode((flash / "settings/lamp.schedule").read_bytes()[4:])
    assert kept == load_site(path).nodes[0].schedules["lamp"]


class FolderFlash:
    """A node's flash, as the files that enrolment wrote."""

    def __init__(self, folder):
        self.folder = folder

    def read(self, name):
        path = self.folder / name
        return path.read_bytes() if path.exists() else None


def test_what_cannot_be_enrolled_says_why(tmp_path):
    """No asset among several, a stranger's, another network, a file with mistakes."""
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    with pytest.raises(UsageError, match="which one"):
        node_of_site(path, None, 0xCAFE)
    with pytest.raises(RefusedError, match="no node has asset"):
        node_of_site(path, "post 99", 0xCAFE)
    with pytest.raises(RefusedError, match="network 0000cafe"):
        node_of_site(path, "post 14", 0xBEEF)
    path.write_text(SITE.replace("report_s = 900", "report_s = 0"))
    with pytest.raises(RefusedError, match=r"site\.toml:9"):
        node_of_site(path, "post 14", 0xCAFE)


def test_the_command_tells_all_mistakes_and_ends_with_one(lamppost, tmp_path):
    """Words, JSON, exit codes; no colour where none is wanted."""
    path = tmp_path / "site.toml"
    path.write_text(SITE.replace("report_s = 900", "report_s = 0").replace("power_dbm = 14", "power_dbm = 20"))
    done = lamppost("site", "check", str(path), NO_COLOR="1", TERM="xterm-256color", COLUMNS="40")
    assert done.returncode == 1
    assert b"\x1b[" not in done.stdout
    assert b"site.toml:9: " in done.stdout
    assert b"EN 300 220-2" in done.stdout
    assert b"2 mistakes" in done.stdout
    document = json.loads(lamppost("site", "check", str(path), "--json").stdout)
    assert [mistake["line"] for mistake in document["mistakes"]] == [9, 28]
    assert document["valid"] is False
    path.write_text(SITE)
    assert lamppost("site", "check", str(path)).returncode == 0
    assert lamppost("site", "check", str(tmp_path / "nowhere.toml")).returncode == 3


def test_a_node_has_the_chip_that_it_or_the_defaults_name():
    """The node's own word counts; a chip that cannot do what [lora] asks for is told at the node, an unknown one at its own line."""
    text = SITE.replace("report_s = 900\n", 'report_s = 900\nradio = "sx1276"\n').replace(
        'id = "0a0b0c0d"', 'id = "0a0b0c0d"\nradio = "sx1262"'
    )
    document = Document(text, "site.toml", Path())
    site = check_document(document)
    assert document.problems == []
    assert [node.config.get("radio") for node in site.nodes] == ["sx1262", "sx1276", "sx1276"]
    (problem,) = problems(SITE.replace("battery_mah = 19000", 'battery_mah = 19000\nradio = "sx1726"'))
    assert (problem.line, problem.fix) == (44, 'write "sx1276"')
    found = problems(
        SITE.replace("battery_mah = 19000", 'battery_mah = 19000\nradio = "sx1276"').replace("power_dbm = 14", "power_dbm = 1")
    )
    assert [(problem.line, "an sx1276 has 2 to 17" in problem.what) for problem in found] == [(38, True)]


def test_an_e22_has_a_street_of_its_own():
    """Mixed with chips, which it does not hear, it is told at its node."""
    text = SITE.replace('{ kind = "serial", port = "/dev/serial/by-id/b" }', '{ kind = "lora" }\nradio = "e22"')
    (problem,) = problems(text)
    assert "node.3: an e22 among nodes with an sx1262" in problem.what
    assert "a gateway of its own" in problem.fix
