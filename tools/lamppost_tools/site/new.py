"""A few questions, and the site file that they make. No answer is taken that `check` would refuse later."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from lamppost_protocol.radio_limits import E22, RADIOS, fixture_problem, wrap_of
from lamppost_protocol.regions import REGIONS, Radio, UnlawfulError, check_radio

from lamppost_tools.durable import write_file
from lamppost_tools.errors import RefusedError, UsageError
from lamppost_tools.node import config_keys
from lamppost_tools.node.config_keys import DST_RULES, FIXTURE_KEYS, Key
from lamppost_tools.site.document import in_words
from lamppost_tools.site.file import read_site
from lamppost_tools.site.place import implausible
from lamppost_tools.site.rules import PACE_KEYS
from lamppost_tools.site.site import LORA, SERIAL, Site

_MOST_NODES = 500
#: Channels that every region's table allows at 125 kHz, or at 500 kHz where one channel may only be used that wide.
_CHANNELS: dict[str, tuple[int, int]] = {
    "EU868": (868_100_000, 125_000), "US915": (903_000_000, 500_000), "AS923": (923_200_000, 125_000),
    "AS923-JP": (921_400_000, 125_000), "AU915": (916_000_000, 500_000), "IN865": (865_402_500, 125_000),
}  # fmt: skip
#: Where the gateway answers on another channel than the nodes': in Europe on the one with 10 %.
_DOWNLINKS = {"EU868": 869_525_000}
#: An E22's channels, up and down, where 500 kHz are lawful at one of those that it has.
_E22_CHANNELS = {"EU868": (866_125_000, 867_125_000), "US915": (903_125_000, 923_125_000), "AU915": (916_125_000, 923_125_000)}


class Question(NamedTuple):
    """`refuse(answer, answers so far)` says why an answer will not do, None when it does; `is_asked` when the question arises."""

    name: str
    words: str
    default: Callable[[Mapping[str, str]], str]
    refuse: Callable[[str, Mapping[str, str]], str | None]
    is_asked: Callable[[Mapping[str, str]], bool] = lambda _: True


def answers(given: Mapping[str, str | None], ask: Callable[[str, str], str] | None) -> dict[str, str]:
    """Every question's answer: from `given`, else by `ask(question, default)`, again until it will do; `ask` None: the default.

    Raises UsageError when a given answer will not do.
    """
    found: dict[str, str] = {}
    for question in QUESTIONS:
        value = given.get(question.name)
        if not question.is_asked(found):
            if value is not None:
                raise UsageError(f"--{question.name.replace('_', '-')} {value!r} has no meaning here", "leave it out")
            continue
        if value is not None or ask is None:
            value = question.default(found) if value is None else value
            why = question.refuse(value, found)
            if why is not None:
                raise UsageError(f"--{question.name.replace('_', '-')} {value!r}: {why}", "lamppost site new --help")
        else:
            words = question.words
            while True:
                value = ask(words, question.default(found)) or question.default(found)
                why = question.refuse(value, found)
                if why is None:
                    break
                words = f"  {value!r}: {why}\n{question.words}"
        found[question.name] = value
    return found


def _text(answer: str, _: Mapping[str, str]) -> str | None:
    return None if answer.isprintable() and 0 < len(answer) <= 64 and answer == answer.strip() else "1 to 64 letters"


def _degrees(limit: int) -> Callable[[str, Mapping[str, str]], str | None]:
    def refuse(answer: str, _: Mapping[str, str]) -> str | None:
        try:
            return None if abs(float(answer)) <= limit else f"-{limit} to {limit} degrees"
        except ValueError:
            return "degrees with a point, 52.52"

    return refuse


def _longitude(answer: str, so_far: Mapping[str, str]) -> str | None:
    why = _degrees(180)(answer, so_far)
    if why is None and float(answer) == float(so_far["latitude"]) == 0:
        why = "0, 0 is in the ocean off Ghana"
    return why


def offset_s(answer: str) -> int | None:
    """Seconds of `+1`, `-3:30`, `5.75`; None when it is no such thing."""
    match = re.fullmatch(r"([+-]?)(\d{1,2})(?::([0-5]\d)|\.(\d{1,2}))?", answer)
    if match is None:
        return None
    seconds = int(match[2]) * 3600 + int(match[3] or 0) * 60 + round(float(f"0.{match[4] or 0}") * 3600)
    return -seconds if match[1] == "-" else seconds


def _offset(answer: str, so_far: Mapping[str, str]) -> str | None:
    seconds = offset_s(answer)
    if seconds is None or abs(seconds) > 50_400:
        return "hours east of UTC in winter: +1, -3:30"
    fit = implausible(float(so_far["latitude"]), float(so_far["longitude"]), seconds, "none")
    return None if fit is None else f"{fit[1]}; {fit[2]}"


def _dst(answer: str, so_far: Mapping[str, str]) -> str | None:
    if answer not in DST_RULES:
        return f"one of {', '.join(DST_RULES)}"
    fit = implausible(float(so_far["latitude"]), float(so_far["longitude"]), offset_s(so_far["utc_offset"]) or 0, answer)
    return None if fit is None else f"{fit[1]}; {fit[2]}"


def _likely_offset(so_far: Mapping[str, str]) -> str:
    return f"{round(float(so_far['longitude']) / 15):+d}"


def _likely_dst(so_far: Mapping[str, str]) -> str:
    return next((rule for rule in ("eu", "us") if _dst(rule, so_far) is None and _is_home(rule, so_far)), "none")


def _is_home(rule: str, so_far: Mapping[str, str]) -> bool:
    """Whether most places near there keep the rule; only for the default, the answer decides."""
    latitude, longitude = float(so_far["latitude"]), float(so_far["longitude"])
    return (34 < latitude < 72 and -25 < longitude < 30) if rule == "eu" else 25 < latitude < 60


def _one_of(*known: str) -> Callable[[str, Mapping[str, str]], str | None]:
    return lambda answer, _: None if answer in known else f"one of {', '.join(known)}"


def _whole(low: int, high: int, unit: str) -> Callable[[str, Mapping[str, str]], str | None]:
    def refuse(answer: str, _: Mapping[str, str]) -> str | None:
        is_number = answer.isascii() and answer.isdecimal() and low <= int(answer) <= high
        return None if is_number else f"a whole number, {low:,} to {high:,} {unit}".rstrip()

    return refuse


def _region(answer: str, so_far: Mapping[str, str]) -> str | None:
    if answer not in _CHANNELS:
        return f"one of {', '.join(_CHANNELS)}"
    if so_far["radio"] == E22 and answer not in _E22_CHANNELS:
        return f"an e22 sends 500 kHz wide, lawful in {', '.join(_E22_CHANNELS)}"
    return None


def _radio(answer: str, so_far: Mapping[str, str]) -> str | None:
    return fixture_problem(answer, so_far["kind"]) if answer in RADIOS else f"one of {', '.join(RADIOS)}"


def _is_lora(so_far: Mapping[str, str]) -> bool:
    return so_far["link"] == LORA


QUESTIONS = (
    Question("name", "What is the street called? (Lindenstrasse)", lambda _: "street", _text),
    Question("latitude", "Degrees north of the equator, south negative? (52.52)", lambda _: "52.52", _degrees(90)),
    Question("longitude", "Degrees east of Greenwich, west negative? (13.405)", lambda _: "13.405", _longitude),
    Question("utc_offset", "Winter time less UTC, in hours? (+1, -3:30)", _likely_offset, _offset),
    Question("dst", "Summer time by which rule? (eu, us, none)", _likely_dst, _dst),
    Question("kind", "What are the nodes? (lamp, bin, air)", lambda _: "lamp", _one_of(*FIXTURE_KEYS)),
    Question("nodes", f"How many? (12; at most {_MOST_NODES})", lambda _: "1", _whole(1, _MOST_NODES, "nodes")),
    Question("link", "How are they heard? (serial: a cable; lora: a radio)", lambda _: SERIAL, _one_of(SERIAL, LORA)),
    Question("radio", f"Which radio has the board? ({', '.join(RADIOS)})", lambda _: RADIOS[0], _radio, _is_lora),
    Question("region", f"Whose radio law? ({', '.join(_CHANNELS)})", lambda _: "EU868", _region, _is_lora),
    Question("report", "Seconds between two reports? (60 on a cable, 900 on LoRa)", lambda a: "900" if _is_lora(a) else "60",
             _whole(1, 86_400, "s")),
    Question("power", "Watts of a lamp at full light? (60)", lambda _: "60", _whole(1, 10_000, "W"), lambda a: a["kind"] == "lamp"),
)  # fmt: skip


def site_text(found: Mapping[str, str]) -> str:
    """The site file that these answers make."""
    kind, count = found["kind"], int(found["nodes"])
    parts = [
        "# A street for lamppost. lamppost site check finds every mistake in it, lamppost plan says what it costs.",
        f"name = {_quoted(found['name'])}",
        "# network = \"0000cafe\"     # 8 hex digits of the city's network; left out, enrolment takes the authority's",
        f"""[place]
latitude_deg = {float(found["latitude"])}
longitude_deg = {float(found["longitude"])}
utc_offset_s = {offset_s(found["utc_offset"])}        # in winter
dst = {_quoted(found["dst"])}""",
        f"[defaults]              # for every node that says nothing else\nreport_s = {int(found['report'])}"
        + (f'\nradio = "{found["radio"]}"' if found.get("radio", RADIOS[0]) != RADIOS[0] else ""),
    ]
    if kind == "lamp":
        parts += [_lamp_defaults(int(found["power"])), _NIGHT]
    if found["link"] == LORA:
        parts.append(_lora(found["region"], found["radio"]))
    pins = ", ".join(f"{signal} = {pin}" for signal, pin in config_keys.pins_of(kind, 0).items())
    for number in range(1, count + 1):
        port = f'kind = "serial", port = "/dev/serial/by-id/node-{number}"'
        link = 'kind = "lora"' if found["link"] == LORA else port
        fixture = f'{{ kind = "{kind}", wiring = {{ {pins} }} }}'
        parts.append(f"[[node]]\nasset = {_quoted(f'{kind} {number}')}\nlink = {{ {link} }}\nfixtures = [{fixture}]")
    parts.append(_reference("[defaults] or a [[node]]", tuple(PACE_KEYS.values())))
    parts.append(_reference(f"[defaults.{kind}] or a {kind} among fixtures", FIXTURE_KEYS[kind]))
    return "\n\n".join(parts) + "\n"


def _reference(where: str, keys: tuple[Key, ...]) -> str:
    """Every key that may stand there, as comments, with default, range and meaning."""
    rows = [f"#{key.name} = {key.default}".ljust(34) + f"# {key.low} to {key.high} {key.unit}: {key.meaning}" for key in keys]
    return "\n".join([f"# Whatever {where} may hold, with its default:", *rows]).replace(" : ", ": ")


_NIGHT = """[schedule.night]
default_level = 100
[[schedule.night.week]]
days = "all"            # or ["mon", "tue", ..]: the days on whose noon the night begins
steps = [["sunset", 100], ["23:00", 50], ["05:00", 100], ["sunrise", 0]]"""


def _lamp_defaults(power_w: int) -> str:
    """Power at each level, in the proportions of the firmware's default lamp: the node judges its lamp by these."""
    rows = [key for key in FIXTURE_KEYS["lamp"] if key.name.startswith("power_") and key.name.endswith("_dw") and key.name != "power_0_dw"]
    full_dw = rows[-1].default or 1
    lines = [f"{key.name} = {round((key.default or 0) * power_w * 10 / full_dw)}" for key in rows]
    return "\n".join(["[defaults.lamp]         # 0.1 W at each level: put in what yours takes", 'schedule = "night"', *lines])


def _lora(region: str, name: str) -> str:
    channel_hz, bandwidth_hz = _CHANNELS[region]
    downlink_hz, spreading_factor, power_dbm = _DOWNLINKS.get(region, channel_hz), 9, 14
    more: list[str] = []
    if name == E22:
        (channel_hz, downlink_hz), bandwidth_hz, spreading_factor, power_dbm = _E22_CHANNELS[region], 500_000, 11, 13
        more = ["fastest_spreading_factor = 11", "downlink_spreading_factor = 11", "least_power_dbm = 10"]
    listen_us = max(band.listen_us for band in REGIONS[region])
    radio = Radio(region, (channel_hz,), bandwidth_hz, spreading_factor, 1, wrap_of(name), power_dbm, 0, listen_us)
    while radio.power_dbm > 0:
        try:
            check_radio(radio)
            break
        except UnlawfulError:
            radio = radio._replace(power_dbm=radio.power_dbm - 1)
    return "\n".join(
        [
            "[lora]                  # the radio that all nodes with a lora link share",
            f'region = "{region}"',
            f"channels_hz = [{channel_hz}]",
            f"bandwidth_hz = {bandwidth_hz}",
            f"spreading_factor = {radio.spreading_factor}",
            f"power_dbm = {radio.power_dbm}          # at the antenna's foot",
            "antenna_dbi = 0         # gain less the cable's loss",
            f"listen_ms = {max(5, listen_us // 1000)}",
            f"downlink_hz = {downlink_hz}   # on which the gateway answers",
            f"downlink_bandwidth_hz = {bandwidth_hz}",
            *more,
        ]
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def write_site(path: Path, text: str, may_overwrite: bool) -> Site:
    """Write the file and read it back checked. Raises UsageError when it is there and may not be overwritten, OSError."""
    if may_overwrite:
        write_file(path, text.encode())
    else:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UsageError(f"{path} exists already", "give another --out, or --force to write over it") from None
    site, problems, _ = read_site(path)
    if site is None:
        raise RefusedError(f"{path} came out wrong: {in_words(problems[0])}", problems[0].fix)
    return site
