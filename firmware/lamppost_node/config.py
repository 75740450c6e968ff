"""The node's configuration: read, checked with all errors at once, and always usable.

Order of trust: `config.trial` (from a signed order, for two starts: trial.py), else `config.cbor` (from a technician, or an order's that
proved itself), else `config.good` (the last one that ran for a good minute), else what is built in here, which lights a lamp and
reports nothing else. So no octet on flash can keep a lamp dark.

On flash a map stands behind its crc32 (4 octets, big-endian): littlefs checks no file's content, and a flipped bit may turn a place or
a level into another valid one. A bare map, as provisioning writes it, is taken too, and gets its checksum once it ran for a good minute.

The form is a CBOR map with text keys: those of `NODE_KEYS`, `dst`, `radio`, `fixtures`, a list of maps with `kind`, `instance` and the keys
its kind has in `fixtures/<kind>_keys.py`, and on a node whose link is LoRa `lora`, see lora_keys.py. An unknown key is an error: a
misspelt one must not silently do nothing.

A node loads this file to start and for a new configuration, and gives its memory back: nothing it returns may hold on to it.
"""

import binascii
from collections import namedtuple

from lamppost_protocol import cbor
from lamppost_protocol.errors import ProtocolError

from lamppost_node import local_time
from lamppost_node.settings import unwrap, wrap
from lamppost_node.unload import unload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_node.flash import Flash

    #: A checked map, and the rows a fixture declares: (key, default or None, lowest, highest).
    Values = dict[str, Any]
    Keys = tuple[tuple[str, int | None, int, int], ...]

FILE = "config.cbor"
GOOD_FILE = "config.good"
TRIAL_FILE = "config.trial"
#: Starts that a configuration on trial has; and what stands for their number once it has proved itself.
TRIAL_STARTS = 2
PROVEN = -1
#: Far above any configuration; a longer file is not one.
MAX_BYTES = 4096
MAX_FIXTURES = 8
_CRC_BYTES = 4
_OVERHEAD_BYTES = 32  # what stands around a map

#: (key, default, lowest, highest); a default of None leaves the value None when the key is missing.
NODE_KEYS = (
    ("network", None, 1, 0xFFFFFFFF),
    ("latitude_udeg", None, -90_000_000, 90_000_000),
    ("longitude_udeg", None, -180_000_000, 180_000_000),
    ("utc_offset_s", 0, -50_400, 50_400),
    ("report_s", 60, 1, 86_400),  # a fixture's reporting period, unless it has its own
    ("health_s", 900, 1, 86_400),
    ("hello_s", 60, 5, 3_600),  # while the time is unknown
    ("beacon_s", 3_600, 60, 86_400),  # how often the time is asked for once known
    ("spool_bytes", 524_288, 16_384, 8_388_608),
    ("frame_records", 16, 1, 64),
    ("drift_ppm", 100, 1, 1_000),
    ("sleep_drift_ppm", 60_000, 1, 200_000),  # of the clock that runs in deep sleep: see sleep.py
    ("bridge", 0, 0, 1),  # 1: a radio on a gateway's line instead of a node
    ("tcxo_mv", 1_800, 0, 3_300),  # what supplies an SX1262's TCXO, 0: it has a crystal
)
BUILT_IN = {"fixtures": [{"kind": "lamp", "instance": 0}]}


class ConfigError(Exception):
    """The configuration is not usable; `errors` lists every reason, each naming its key."""

    def __init__(self, errors: list[str]):
        super().__init__("; ".join(errors))
        self.errors = errors


#: A checked configuration. values: the complete map; source: "trial", "file", "good" or "built-in"; digest: crc32 of what it was read
#: from; errors: why not a better one.
Config = namedtuple("Config", ("values", "source", "digest", "errors"))


def declared_keys(kind: str) -> "Keys | None":
    """What a fixture's map may hold; None for a kind that this firmware has no file for."""
    if not kind.replace("_", "").isalpha():
        return None
    name = "lamppost_node.fixtures." + kind + "_keys"
    try:
        keys: Keys = __import__(name, None, None, ("KEYS",)).KEYS
    except Exception:  # whatever is wrong with that file: the kind cannot be used
        return None
    finally:
        unload(name)
    return keys


def decode(data: bytes, keys_of: "Callable[[str], Keys | None]" = declared_keys) -> "Values":
    """The complete checked map in `data`. `keys_of(kind)` gives a fixture's keys, None for an unknown kind. Raises ConfigError."""
    if len(data) > MAX_BYTES:
        raise ConfigError(["longer than %d bytes" % MAX_BYTES])
    try:
        value = cbor.decode(data)
    except ProtocolError as error:
        raise ConfigError(["not CBOR: " + error.detail]) from None
    return check(value, keys_of)


def check(value: object, keys_of: "Callable[[str], Keys | None]" = declared_keys) -> "Values":
    """The complete map: defaults filled in, every number in range. Raises ConfigError with all errors."""
    if not isinstance(value, dict):
        raise ConfigError(["not a map"])
    errors: list[str] = []
    result = _check_numbers(value, NODE_KEYS, ("dst", "fixtures", "lora", "radio"), "", False, errors)
    result["radio"] = result["lora"] = None
    if "radio" in value or value.get("lora") is not None or result.get("bridge"):
        _check_radio(value, result, errors)
        unload("lamppost_protocol.radio_limits")
    dst = value.get("dst", "none")
    if dst not in local_time.RULES:
        errors.append("dst: not one of " + ", ".join(local_time.RULES))
    result["dst"] = dst
    fixtures = value.get("fixtures")
    result["fixtures"] = []
    if not isinstance(fixtures, list) or len(fixtures) > MAX_FIXTURES:
        errors.append("fixtures: not a list of at most %d" % MAX_FIXTURES)
        fixtures = []
    seen = []
    for index, fixture in enumerate(fixtures):
        place = "fixtures[%d]." % index
        if not isinstance(fixture, dict):
            errors.append(place[:-1] + ": not a map")
            continue
        kind, instance = fixture.get("kind"), fixture.get("instance", 0)
        keys = keys_of(kind) if isinstance(kind, str) else None
        if keys is None:
            errors.append(place + "kind: unknown")
            continue
        if not _is_int(instance) or not 0 <= instance <= 15:
            errors.append(place + "instance: not 0 .. 15")
            continue
        if (kind, instance) in seen:
            errors.append(place + "instance: used twice")
        seen.append((kind, instance))
        can_sleep = "sleep_s" in [row[0] for row in keys]
        if "sleep_s" in fixture and not can_sleep:
            errors.append(place + "sleep_s: " + str(kind) + " never sleeps")
        checked = _check_numbers(fixture, keys, ("kind", "instance", "" if can_sleep else "sleep_s"), place, True, errors)
        checked["kind"] = kind
        checked["instance"] = instance
        result["fixtures"].append(checked)
    _check_sleep(result, errors)
    if errors:
        raise ConfigError(errors)
    return result


def sleeps(values: "Values") -> bool:
    """Whether a node with this checked map sleeps between what it has to do."""
    for fixture in values["fixtures"]:
        if fixture.get("sleep_s"):
            return True
    return False


def _check_sleep(result: "Values", errors: list[str]) -> None:
    """A node sleeps as a whole: all of its fixtures do, and its link is one that waits for it."""
    if not sleeps(result):
        return
    for fixture in result["fixtures"]:
        if not fixture.get("sleep_s"):
            errors.append("sleep_s: a node sleeps as a whole, and " + fixture["kind"] + " does not")
    lora = result["lora"]
    if lora is None:
        errors.append("sleep_s: only a node on LoRa sleeps, a cable is listened to")
    elif lora.get("listens_always"):
        errors.append("lora.listens_always: not of a node with sleep_s, which hears nothing while it sleeps")


def _check_radio(value: "Values", result: "Values", errors: list[str]) -> None:
    """The radio and its map `lora`, held against each other. Loaded here, for most nodes have none."""
    from lamppost_protocol import radio_limits

    result["radio"] = radio = value.get("radio", radio_limits.RADIOS[0])
    if radio not in radio_limits.RADIOS:
        errors.append("radio: not one of " + ", ".join(radio_limits.RADIOS))
    lora = value.get("lora")
    if lora is None:
        return
    from lamppost_node import lora_keys

    fixtures = value.get("fixtures")
    for fixture in fixtures if isinstance(fixtures, list) else ():
        problem = radio_limits.fixture_problem(radio, str(fixture.get("kind"))) if isinstance(fixture, dict) else None
        if problem is not None:
            errors.append("radio: " + problem)
    if not isinstance(lora, dict):
        errors.append("lora: not a map")
        return
    result["lora"] = _check_numbers(lora, lora_keys.KEYS, ("region", "channels_hz"), "lora.", True, errors)
    lora_keys.check_rest(lora, result["lora"], errors)
    for key, what, _ in radio_limits.lora_problems(radio, result["lora"]):
        errors.append("lora." + key + ": " + what)
    for key, default in lora_keys.DEFAULTS:
        if key not in value:
            result[key] = default


def _check_numbers(value: "Values", keys: "Keys", others: tuple[str, ...], place: str, is_required: bool, errors: list[str]) -> "Values":
    result: Values = {}
    for key, default, lowest, highest in keys:
        if key not in value:
            if default is None and is_required:
                errors.append(place + key + ": missing")
            result[key] = default
        elif not _is_int(value[key]) or not lowest <= value[key] <= highest:
            errors.append(place + key + ": not a whole number from %d to %d" % (lowest, highest))
        else:
            result[key] = value[key]
    for key in value:
        if key not in others and key not in result:
            is_known = False
            for row in keys:
                is_known = is_known or row[0] == key
            if not is_known:
                errors.append(place + str(key) + ": unknown key")
    return result


def _is_int(value: object) -> bool:
    return isinstance(value, int) and value is not True and value is not False


def load(flash: "Flash", is_safe_mode: bool, keys_of: "Callable[[str], Keys | None]" = declared_keys, is_start: bool = False) -> Config:
    """The best usable configuration. In safe mode trial and file are passed over: they may be what made safe mode necessary. Never raises.

    `is_start`: the node starts with it, which is counted where it is a trial: that writes flash.
    """
    errors: list[str] = []
    trial = None if is_safe_mode else trial_of(flash)
    if trial is not None:
        try:
            if trial[1] < TRIAL_STARTS and not is_superseded(flash, trial):
                values = decode(trial[3], keys_of)
                if is_start and trial[1] != PROVEN:
                    keep_trial(flash, trial, trial[1] + 1)
                return Config(values, "trial", _crc(trial[3]), errors)
        except OSError:
            errors.append(TRIAL_FILE + ": flash refused")
        except ConfigError as error:
            errors.extend([TRIAL_FILE + ": " + text for text in error.errors])
    for name, source in ((FILE, "file"), (GOOD_FILE, "good")):
        if is_safe_mode and name == FILE:
            continue
        try:
            if flash.size_bytes(name) > MAX_BYTES + _CRC_BYTES:
                errors.append(name + ": longer than %d bytes" % MAX_BYTES)
                continue
            data = flash.read(name)
        except OSError:
            errors.append(name + ": unreadable")
            continue
        if data is None:
            errors.append(name + ": missing")
            continue
        octets = _map_of(data)
        try:
            return Config(decode(octets, keys_of), source, _crc(octets), errors)
        except ConfigError as error:
            errors.extend([name + ": " + text for text in error.errors])
    try:
        return Config(check(BUILT_IN, keys_of), "built-in", 0, errors)
    except ConfigError as error:
        # Not even the lamp's keys can be read: no fixture at all, and board.py keeps the lamp lit.
        errors.extend(error.errors)
        return Config(check({"fixtures": []}, keys_of), "built-in", 0, errors)


def keep_good(flash: "Flash", digest: int) -> None:
    """After a good minute on `config.cbor`, whose crc32 is `digest`: it becomes the one to fall back to, and both get a checksum.

    Writes flash when one differs; nothing when the file is no longer the one that runs. Raises OSError.
    """
    data = flash.read(FILE)
    octets = b"" if data is None else _map_of(data)
    if _crc(octets) != digest:
        return
    kept = _with_checksum(octets)
    for name in (GOOD_FILE, FILE):
        if flash.read(name) != kept:
            flash.replace(name, kept)


def store(flash: "Flash", data: bytes) -> None:
    """Keep a configuration that `decode` accepted; it counts from the next boot. Raises OSError."""
    flash.replace(FILE, _with_checksum(data))


def adopt(flash: "Flash", data: bytes) -> None:
    """A configuration has proved itself: it is the node's own, and the one to fall back to. Raises OSError."""
    store(flash, data)
    keep_good(flash, _crc(data))


def begin_trial(flash: "Flash", order_id: int, data: bytes) -> None:
    """Keep a configuration that `decode` accepted, to be tried from the next start on; the file stays as it is. Raises OSError."""
    flash.replace(TRIAL_FILE, wrap([order_id, 0, _file_digest(flash), data]))


def trial_of(flash: "Flash") -> "list[Any] | None":
    """[order id, starts, crc32 of the file's map when it began, map]; None where there is no trial, or a damaged one. Never raises."""
    try:
        trial = unwrap(_read(flash, TRIAL_FILE))
    except (OSError, ValueError):
        return None
    return trial if isinstance(trial, list) and len(trial) == 4 else None


def keep_trial(flash: "Flash", trial: "list[Any]", starts: int) -> None:
    """The trial's starts, or PROVEN, as they are from now on: the old or the new after a power cut. Raises OSError."""
    flash.replace(TRIAL_FILE, wrap([trial[0], starts, trial[2], trial[3]]))


def is_superseded(flash: "Flash", trial: "list[Any]") -> bool:
    """Whether somebody else has written the file since the trial began: then what he wrote counts. Raises OSError."""
    return _file_digest(flash) not in (trial[2], _crc(trial[3]))


def _file_digest(flash: "Flash") -> int:
    return _crc(_map_of(_read(flash, FILE)))


def _read(flash: "Flash", name: str) -> bytes:
    """A file's octets; none where it is missing, or longer than any of ours. Raises OSError."""
    return b"" if flash.size_bytes(name) > MAX_BYTES + _OVERHEAD_BYTES else flash.read(name) or b""


def _crc(octets: bytes) -> int:
    return binascii.crc32(octets) & 0xFFFFFFFF


def _with_checksum(octets: bytes) -> bytes:
    head: bytes = _crc(octets).to_bytes(_CRC_BYTES, "big")
    return head + octets


def _map_of(data: bytes) -> bytes:
    """The map's octets in a file: what stands behind a right checksum, else all of it, which with a wrong one before it is no map."""
    if int.from_bytes(data[:_CRC_BYTES], "big") == _crc(data[_CRC_BYTES:]):
        return data[_CRC_BYTES:]
    return data
