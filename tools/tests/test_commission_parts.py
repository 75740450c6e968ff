"""What commissioning is made of, without a board: the judge of a self-test, the journal, the label, the record, the progress lines."""

import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import segno
from lamppost_protocol.es256_host import public_key
from lamppost_protocol.kinds import GOOD, NO_ECHO, QUALITIES, SENSOR_FAULT, WARMING_UP
from lamppost_protocol.profiles import LAMP_FAULTS, by_name
from lamppost_tools.commission.journal import Journal
from lamppost_tools.commission.judge import judge
from lamppost_tools.commission.label import Label
from lamppost_tools.commission.look import Seen
from lamppost_tools.commission.paper import read_record, write_papers
from lamppost_tools.commission.progress import Progress
from lamppost_tools.commission.proof import proof_words
from lamppost_tools.commission.steps import Order
from lamppost_tools.durable import write_json
from lamppost_tools.errors import RefusedError
from lamppost_tools.node.differences import differences
from rich.console import Console


@pytest.mark.parametrize(
    ("machine", "chip"),
    [
        ("Generic ESP32 module with ESP32", "esp32"),
        ("Generic ESP32C3 module with ESP32C3", "esp32c3"),
        ("LOLIN_C3_MINI with ESP32-C3FH4", "esp32c3"),
        ("TinyPICO with ESP32-PICO-D4", "esp32"),
        ("LOLIN_S2_MINI with ESP32-S2FN4R2", "esp32s2"),
        ("linux [GCC 12.2.0] version", ""),
        ("PYBv1.1 with STM32F405RG", ""),
    ],
)
def test_a_chip_by_what_micropython_says(machine: str, chip: str) -> None:
    """As boards of its own list name themselves; what is none of Espressif's has no chip here."""
    assert Seen("02", "1.28.0", machine, False, "").chip == chip


def test_a_proof_in_words() -> None:
    """The record, the gateway and its time from hearing to its disk; an older gateway does not tell which record."""
    proof = {"gateway": "g-12", "frames": 1, "n": 1, "stored_in_ms": 41, "after_ms": 1340}
    assert proof_words(proof) == "record 1 verified by gateway g-12, 41 ms; 1.3 s after its start"
    assert proof_words({**proof, "n": None, "stored_in_ms": None}) == "verified by gateway g-12; 1.3 s after its start"


def test_only_what_differs_in_effect_is_a_difference() -> None:
    """A default that is written or left out is the same; fixtures and the radio come and go by name, the second of a kind by its number."""
    old = {"network": 1, "report_s": 60, "fixtures": [{"kind": "lamp", "instance": 0}, {"kind": "bin", "instance": 1}]}
    new = {"network": 1, "hello_s": 60, "fixtures": [{"kind": "lamp", "instance": 0, "floor_percent": 10}, {"kind": "bin", "instance": 1}]}
    assert differences(old, new) == []
    new = {**new, "latitude_udeg": 5, "fixtures": [{"kind": "lamp", "instance": 0, "floor_percent": 0}]}
    told = differences(old, new)
    assert {"bin.1: there -> none", "lamp.floor_percent: 10 -> 0", "latitude_udeg: none -> 5"} <= set(told)
    assert not [text for text in told if text.startswith(("hello_s", "report_s", "network"))]
    assert {"lora: none -> there", "lora.region: none -> eu868"} <= set(differences(old, {**old, "lora": {"region": "eu868"}}))
    assert "network: none -> 1" in differences({}, old)


END = '{"end": true, "heap_free": 50000}'
LAMP = [100, 100, 600, 2300, 260, 950, 0, 1, 0]
KEY = b"\x07" * 31 + b"\x01"


def said(fixture: str, quality: int, values: list[int | None]) -> str:
    return json.dumps({"fixture": fixture, "quality": quality, "values": values})


def lamp_with(fault: str) -> list[int | None]:
    return [*LAMP[:-1], 1 << LAMP_FAULTS.index(fault)]


def test_a_good_board_is_good() -> None:
    """Every value in its range, and what is no fault on a bench is none: no time, no schedule, a particle sensor that warms up."""
    lines = [said("lamp", GOOD, lamp_with("clock_unknown")), said("lamp", GOOD, lamp_with("schedule_missing"))]
    lines.append(said("air", WARMING_UP, [None, None, None, None, 215, 480, 0, 3]))
    found = judge("\n".join([*lines, END]), ["lamp", "air"])
    assert found.wrong == []
    assert found.measured["lamp"]["active_power"] == 600
    assert found.not_judged == ["air: still warming up, its particles were not seen"]


@pytest.mark.parametrize("quality", [one for one in range(len(QUALITIES)) if one not in (GOOD, WARMING_UP)])
def test_each_doubt_is_named(quality: int) -> None:
    """A record with any quality but good is wrong, unless a good one came too."""
    doubtful = said("bin", quality, [None, None, 210, 0])
    found = judge(f"{doubtful}\n{END}", ["bin"])
    assert found.wrong == [f"bin: {QUALITIES[quality].replace('_', ' ')}"]
    assert judge("\n".join([doubtful, said("bin", GOOD, [400, 70, 210, 0]), doubtful, END]), ["bin"]).wrong == []


@pytest.mark.parametrize("fault", sorted(set(LAMP_FAULTS) - {"clock_unknown", "schedule_missing"}))
def test_each_fault_of_a_lamp_is_named(fault: str) -> None:
    """Whatever the lamp itself complains of."""
    assert judge(f"{said('lamp', GOOD, lamp_with(fault))}\n{END}", ["lamp"]).wrong == [f"lamp: {fault.replace('_', ' ')}"]


@pytest.mark.parametrize("name", ["lamp", "bin", "air"])
def test_every_column_has_a_range(name: str) -> None:
    """One below or above it, or no value at all in a record that says good, is wrong and named."""
    columns = by_name(name).columns
    middle = [0 if column.low <= 0 <= column.high else column.low for column in columns]
    for at, column in enumerate(columns):
        for value in (column.low - 1, column.high + 1):
            values = [*middle[:at], value, *middle[at + 1 :]]
            assert column.name.replace("_", " ") in " ".join(judge(f"{said(name, GOOD, values)}\n{END}", [name]).wrong), column
    missing = judge(f"{said(name, GOOD, [None] * len(columns))}\n{END}", [name]).wrong
    assert len(missing) >= len(columns) - 2


def test_what_did_not_come_is_wrong() -> None:
    """No record, no end, an error, words that are no answer, a configuration that is not taken: each says so, complaints too."""
    assert judge(END, ["bin"]).wrong == ["bin: no record"]
    assert judge(said("bin", GOOD, [400, 70, 210, 0]), ["bin"]).wrong == ["the self-test did not come to its end"]
    lines = ['{"configuration": "built-in", "errors": ["config.cbor: missing"]}', '{"fixture": "bin", "error": "OSError 19"}']
    lines += ['{"log": "bin: ranger silent"}', "Traceback", said("bin", SENSOR_FAULT, [None, None, None, 0]), END]
    wrong = judge("\n".join(lines), ["bin"]).wrong
    for words in ("configuration: config.cbor: missing", "bin: OSError 19", "'Traceback'", "bin: sensor fault", "said: bin: ranger silent"):
        assert any(words in text for text in wrong), (words, wrong)
    assert judge(f"{said('bin', NO_ECHO, [None, None, 210, 0])}\n{END}", ["bin"]).wrong == ["bin: no echo"]


def test_a_torn_line_is_cut_off_and_a_wrong_one_named(tmp_path: Path) -> None:
    """Only the last line can be torn, for each is durable before the next; anything else is no journal of ours."""
    one = Journal(tmp_path / "j", "02aa", lambda: 1.9)
    one.note("look", asset="bin 7")
    one.note("keys", node="0a0b0c0d")
    assert one.path.stat().st_mode & 0o077 == 0
    with one.path.open("ab") as file:
        file.write(b'{"at": 3, "st')
    two = Journal(tmp_path / "j", "02aa", lambda: 3)
    assert [entry["step"] for entry in two.entries] == ["look", "keys"]
    assert two.nodes() == {"0a0b0c0d"}
    two.note("enrol")
    assert [json.loads(line)["step"] for line in one.path.read_text().splitlines()] == ["look", "keys", "enrol"]
    for spoilt in (b"[]\n", b"{}\n", b"nonsense\n", b"\xff\n"):
        one.path.write_bytes(spoilt)
        with pytest.raises(RefusedError, match=r"02aa\.jsonl:1"):
            Journal(tmp_path / "j", "02aa", lambda: 3)


LABEL = Label("bin 7 (Ecke) <&>ü", "0a0b0c0d", "00c0ffee", ("bin", "lamp.1"), "2a52 b377 c752 1b28")


def test_a_label_says_the_same_to_eyes_and_machines() -> None:
    """SVG and PDF draw the code's modules, each dark one once, and the five lines; the PDF's table of objects points where they are."""
    code = segno.make(LABEL.code_text, error="m", micro=False)
    dark = sum(module & 1 for row in code.matrix for module in row)
    svg = ElementTree.fromstring(LABEL.svg())
    space = "{http://www.w3.org/2000/svg}"
    assert [one.text for one in svg.findall(f"{space}text")] == list(LABEL.lines)
    assert svg.find(f"{space}path").get("d").count("M") == dark
    pdf = LABEL.pdf()
    assert pdf.count(b" re\n") == dark
    table = int(re.search(rb"startxref\n(\d+)", pdf)[1])
    places = [int(place) for place in re.findall(rb"(\d{10}) 00000 n", pdf[table:])]
    assert [pdf[place : place + 7] for place in places] == [b"%d 0 obj" % number for number in range(1, 6)]
    assert rb"(bin 7 \(Ecke\) <&>" + "ü".encode("cp1252") + b") Tj" in pdf
    assert LABEL.png()[:8] == b"\x89PNG\r\n\x1a\n"
    assert LABEL.code_text == "LAMPPOST 00c0ffee 0a0b0c0d 2a52b377c7521b28 bin 7 (Ecke) <&>ü"


def test_a_long_name_stays_on_its_label() -> None:
    """Cut for the eye, whole in the code."""
    label = Label("a" * 60, "0a0b0c0d", "00c0ffee", ("lamp",), LABEL.fingerprint)
    assert label.lines[0] == "a" * 25 + "..."
    assert label.code_text.endswith(" " + "a" * 60)


def test_a_record_is_signed_as_it_stands(tmp_path: Path) -> None:
    """Papers are written, the record reads back by the technician's public key; one octet more, or another technician, and it does not."""
    document = {"asset": "bin 7", "node": "0a0b0c0d", "network": "00c0ffee", "fixtures": ["bin"], "fingerprint": LABEL.fingerprint}
    document["format"] = "lamppost commissioning 1"
    papers = write_papers(tmp_path, document, KEY)
    write_json(tmp_path / "public.json", {"technician_key": public_key(KEY).hex()})
    write_json(tmp_path / "other.json", {"technician_key": public_key(b"\x09" * 32).hex()})
    record = Path(papers["record"])
    assert read_record(record, tmp_path / "public.json") == document
    with pytest.raises(RefusedError, match="signature"):
        read_record(record, tmp_path / "other.json")
    record.write_bytes(record.read_bytes() + b" ")
    with pytest.raises(RefusedError, match="signature"):
        read_record(record, tmp_path / "public.json")
    assert {path.suffix for path in (tmp_path / "labels").iterdir()} == {".svg", ".png", ".pdf"}


@pytest.mark.parametrize(
    ("options", "is_redrawn"),
    [
        ({"force_terminal": True, "width": 100}, True),
        ({"force_terminal": True, "width": 40}, False),
        ({"force_terminal": True, "width": 100, "no_color": True}, False),
        ({"force_terminal": False, "width": 100}, False),
    ],
)
def test_progress_is_plain_where_nothing_can_redraw(options: dict, is_redrawn: bool) -> None:
    """One line a board and step, with the board's name made harmless; on a terminal that can, one line a board that is redrawn."""
    out = io.StringIO()
    orders = [Order(f"/dev/tty{number}", f"bin {number}\x1b[2J", {}, None, {}, 12) for number in (1, 2)]
    with Progress(
        orders, Console(file=out, highlight=False, markup=False, soft_wrap=True, _environ={"TERM": "xterm"}, **options)
    ) as progress:
        for order in orders:
            for step, detail in (("look", "waiting"), ("install", "1 of 80"), ("install", "2 of 80"), ("keys", "")):
                progress.tell(order, step, detail)
    text = out.getvalue()
    assert "\x1b[2J" not in text
    assert ("\x1b[" in text) == is_redrawn
    if is_redrawn:
        assert "bin 1?[2J" in text
    else:
        lines = text.splitlines()
        assert "bin 1?[2J (/dev/tty1): 3/10 install" in lines
        assert sum("install" in line for line in lines) == 2
