"""The radio of a site file, held against the law of its region."""

from typing import Any

from lamppost_protocol.regions import REGIONS, Radio, UnlawfulError, check_radio

from lamppost_tools.node.air import downlink_of, radio_of
from lamppost_tools.node.config_keys import LORA_KEYS
from lamppost_tools.site.document import Document
from lamppost_tools.site.toml_lines import Where
from lamppost_tools.site.values import choice, numbers, table, unknown_keys

_WHERE: Where = ("lora",)
_KEYS = {key.name: key for key in LORA_KEYS}


def check_radio_table(
    document: Document, raw: Any, spreading_factors: dict[int, Where], is_needed: bool, name: str
) -> dict[str, Any] | None:
    """The map `lora` that nodes share, None when there is none or it has mistakes. `spreading_factors`: what nodes set, and where;
    `name`: their radio's, of several the first's.
    """
    if raw is None:
        if is_needed:
            document.wrong(
                (),
                "[lora] is missing although a node is on LoRa",
                'add [lora] with region = "EU868", channels_hz = [868100000] and downlink_hz = 869525000',
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
    if "downlink_hz" not in values:
        document.wrong(_WHERE, "lora.downlink_hz is missing", "add it: the channel on which the gateway answers, in Hz")
    if len(document.problems) > before:
        return None
    lora = {"region": region, "channels_hz": list(channels_hz or ()), **found}
    radio = radio_of(lora, name)
    try:
        check_radio(downlink_of(lora, name))
    except UnlawfulError as error:
        _unlawful(document, (*_WHERE, "downlink_hz"), error)
    for factor, where in {radio.spreading_factor: (*_WHERE, "spreading_factor"), **spreading_factors}.items():
        _hold_against_the_law(document, radio._replace(spreading_factor=factor), where)
    return lora if len(document.problems) == before else None


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
_MARKS = (("power_dbm", " dBm with"), ("listen_ms", "carrier sense"), ("bandwidth_hz", "Hz of bandwidth"), ("channels_hz", "channel"))


def _unlawful(document: Document, where: Where, error: UnlawfulError) -> None:
    what = "unlawful: " + error.detail.removesuffix("; " + error.next_step)
    if not any(problem.what == what for problem in document.problems):
        document.wrong(where, what, error.next_step)
