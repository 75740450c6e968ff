"""The radio of a site file, held against the law of its region."""

from typing import Any

from lamppost_protocol.regions import REGIONS, Radio, UnlawfulError, check_radio

from lamppost_tools.node_keys import Key
from lamppost_tools.site_document import Document
from lamppost_tools.site_values import choice, numbers, table, unknown_keys
from lamppost_tools.toml_lines import Where

_WHERE: Where = ("lora",)
_KEYS = {
    "bandwidth_hz": Key("bandwidth_hz", 125_000, 7_800, 500_000, "Hz", "the signal's width"),
    "spreading_factor": Key("spreading_factor", 9, 5, 12, "", "the radio's spreading factor"),
    "coding_rate": Key("coding_rate", 1, 1, 4, "", "1 for 4/5 to 4 for 4/8"),
    "preamble_symbols": Key("preamble_symbols", 8, 1, 65_535, "symbols", "before each packet"),
    "power_dbm": Key("power_dbm", 14, -17, 30, "dBm", "at the antenna's foot"),
    "antenna_dbi": Key("antenna_dbi", 0, -20, 30, "dBi", "the antenna's gain less the cable's loss"),
    "listen_us": Key("listen_us", 0, 0, 1_000_000, "us", "for how long the channel is heard free before each packet"),
}


def check_radio_table(document: Document, raw: Any, spreading_factors: dict[int, Where], is_needed: bool) -> Radio | None:
    """The shared radio, None when there is none or its table has mistakes. `spreading_factors`: what nodes set, and where."""
    if raw is None:
        if is_needed:
            document.wrong(
                (), "[lora] is missing although a node is on LoRa", 'add [lora] with region = "EU868" and channels_hz = [868100000]'
            )
        return None
    values = table(document, (), {"lora": raw}, "lora")
    unknown_keys(document, _WHERE, values, ("region", "channels_hz", *_KEYS))
    before = len(document.problems)
    region = choice(document, _WHERE, values, "region", None, tuple(sorted(REGIONS)))
    found = numbers(document, _WHERE, values, _KEYS)
    channels_hz = values.get("channels_hz")
    is_list = isinstance(channels_hz, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in channels_hz)
    if not is_list:
        document.wrong((*_WHERE, "channels_hz"), "lora.channels_hz: a list of whole numbers is meant", "in Hz: channels_hz = [868100000]")
    if len(document.problems) > before:
        return None
    settings = {name: found.get(name, key.default) for name, key in _KEYS.items()}
    radio = Radio(region=region, channels_hz=tuple(channels_hz or ()), **settings)
    for factor, where in {radio.spreading_factor: (*_WHERE, "spreading_factor"), **spreading_factors}.items():
        _hold_against_the_law(document, radio._replace(spreading_factor=factor), where)
    return radio if len(document.problems) == before else None


def _hold_against_the_law(document: Document, radio: Radio, where: Where) -> None:
    """Channels outside every band each at its own line, then what the law says of the rest."""
    lawful = []
    for i, channel_hz in enumerate(radio.channels_hz):
        try:
            check_radio(radio._replace(channels_hz=(channel_hz,)))
        except UnlawfulError as error:
            if error.detail.startswith(f"{channel_hz} Hz with"):
                _unlawful(document, (*_WHERE, "channels_hz", i), error)
                continue
        lawful.append(channel_hz)
    if not lawful and radio.channels_hz:
        return
    try:
        check_radio(radio._replace(channels_hz=tuple(lawful)))
    except UnlawfulError as error:
        key = next((name for name, mark in _MARKS if mark in error.detail), None)
        _unlawful(document, where if key is None else (*_WHERE, key), error)


#: What an UnlawfulError is about, by a word of it.
_MARKS = (("power_dbm", " dBm with"), ("listen_us", "carrier sense"), ("bandwidth_hz", "Hz of bandwidth"), ("channels_hz", "channel"))


def _unlawful(document: Document, where: Where, error: UnlawfulError) -> None:
    what = "unlawful: " + error.detail.removesuffix("; " + error.next_step)
    if not any(problem.what == what for problem in document.problems):
        document.wrong(where, what, error.next_step)
