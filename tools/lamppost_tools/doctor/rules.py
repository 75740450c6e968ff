"""The rules: what is seen, what it comes from, what to do. Data, in the order in which a person should read the findings.

A rule looks at the evidence and says in words what it saw, None when it saw nothing of the kind; UNKNOWN when it could not look.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from lamppost_protocol.hello import STATES
from lamppost_protocol.profiles import LAMP_FAULTS

from lamppost_tools.doctor.evidence import Evidence, Reading

UNKNOWN = ""
_POWER_ON, _WATCHDOG = 1, 3  # machine.reset_cause on the ESP32; a brown-out looks like power-on there
_ENOUGH_FRAMES = 3
_MANY_STARTS = 3
_FULL_PERCENT = 80
_ENOUGH_HEALTH = 4
_SHRUNK_PERCENT = 25
_MANY_REFUSED = 3
_NOISE = 5
_SCHEDULE_MISSING = 1 << LAMP_FAULTS.index("schedule_missing")


@dataclass(frozen=True)
class Rule:
    """`symptom` is its name; `look` gives the evidence in words."""

    symptom: str
    cause: str
    next_step: str
    look: Callable[[Evidence], str | None]


def _values(readings: list[Reading], name: str) -> list[int]:
    return [value for one in readings if (value := one.values.get(name)) is not None]


def _wrong_network(seen: Evidence) -> str | None:
    board, network = seen.board, seen.expected_network
    if board is not None and network is not None and board["identity"]["state"] == "there":
        found = board["identity"]["network"]
        return f"the board is of network {found:08x}, yours is {network:08x}" if found != network else None
    if seen.refused is None:
        return UNKNOWN
    count = seen.refused.get("foreign_network", 0)
    return f"{count} hellos of it name another network" if count else None


def _key_mismatch(seen: Evidence) -> str | None:
    if seen.board is not None:
        answer = seen.board["has_registered_key"]
        return UNKNOWN if answer is None else "the board cannot sign with the key that the registry has" if not answer else None
    if seen.refused is None:
        return UNKNOWN
    count = seen.refused.get("bad_signature", 0)
    return f"{count} frames of it carry a signature that is not of its key" if count >= _MANY_REFUSED else None


def _counter_lost(seen: Evidence) -> str | None:
    if seen.board is not None:
        return None if seen.board["counters"] else "no copy of its counter can be read"
    health = seen.health()
    if not health:
        return UNKNOWN
    states = _values(health, "state")
    return "it says so itself" if states and STATES[states[-1]] == "counter_lost" else None


def _clock_never_set(seen: Evidence) -> str | None:
    if seen.dated is None or len(seen.dated) < _ENOUGH_FRAMES:
        return UNKNOWN
    undated = 0
    for is_dated in reversed(seen.dated):
        if is_dated:
            break
        undated += 1
    return f"its last {undated} frames carry no time" if undated >= _ENOUGH_FRAMES else None


def _starts(seen: Evidence) -> list[Reading] | None:
    """The first record after each start that the health records show, the oldest one's own start left out."""
    health = seen.health()
    if not health:
        return None
    found = []
    before = health[0].values.get("boots")
    for one in health[1:]:
        boots = one.values.get("boots")
        if boots is not None and before is not None and boots > before:
            found.append(one)
        before = boots if boots is not None else before
    return found


def _brown_out(seen: Evidence) -> str | None:
    starts = _starts(seen)
    if starts is None:
        return UNKNOWN
    powered = [one for one in starts if one.values.get("reset_cause") == _POWER_ON]
    if len(powered) < _MANY_STARTS:
        return None
    hours = max(0.1, (powered[-1].at_s - powered[0].at_s) / 3600)
    return f"{len(powered)} starts within {hours:.1f} h, each as after power-on"


def _boot_loop(seen: Evidence) -> str | None:
    if seen.board is not None:
        unconfirmed = seen.board["unconfirmed_boots"]
        return f"{unconfirmed} starts in a row without one good minute, before the present one" if unconfirmed >= _MANY_STARTS else None
    starts, health = _starts(seen), seen.health()
    if starts is None or not health:
        return UNKNOWN
    by_itself = [one for one in starts if one.values.get("reset_cause") != _POWER_ON]
    states = _values(health, "state")
    if states and STATES[states[-1]] == "safe_mode":
        return "it is in safe mode"
    if len(by_itself) < _MANY_STARTS:
        return None
    watchdog = sum(one.values.get("reset_cause") == _WATCHDOG for one in by_itself)
    return f"{len(by_itself)} starts by itself, {watchdog} of them by its watchdog"


def _spool_nearly_full(seen: Evidence) -> str | None:
    health = seen.health()
    if not health:
        return UNKNOWN
    owed, capacity = health[-1].values.get("spool_owed"), health[-1].values.get("spool_capacity")
    if owed is None or not capacity:
        return UNKNOWN
    percent = 100 * owed // capacity
    return f"{owed} records wait in room for {capacity}, {percent} %" if percent >= _FULL_PERCENT else None


def _sensor_dead(seen: Evidence) -> str | None:
    if seen.board is not None:
        wrong = seen.board["self_test"]
        return UNKNOWN if wrong is None else "; ".join(wrong) or None
    fixtures = seen.fixtures()
    if not fixtures:
        return UNKNOWN
    dead = []
    for name, readings in sorted(fixtures.items()):
        last = [one.quality for one in readings[-_ENOUGH_FRAMES:]]
        if len(last) == _ENOUGH_FRAMES and set(last) == {"sensor_fault"}:
            dead.append(name)
    return f"{', '.join(dead)}: the last {_ENOUGH_FRAMES} records say sensor fault" if dead else None


def _schedule_missing(seen: Evidence) -> str | None:
    if seen.board is not None:
        missing = [name for name, is_there in sorted(seen.board["schedules"].items()) if not is_there]
        return f"{', '.join(missing)}: none on the board" if missing else None
    fixtures = seen.fixtures()
    if fixtures is None:
        return UNKNOWN
    lamps = {name: readings for name, readings in fixtures.items() if name.startswith("lamp")}
    missing = [name for name, readings in sorted(lamps.items()) if (readings[-1].values.get("faults") or 0) & _SCHEDULE_MISSING]
    return f"{', '.join(missing)}: its last record says so" if missing else None


def _heap_shrinking(seen: Evidence) -> str | None:
    health = seen.health()
    if not health or len(health) < _ENOUGH_HEALTH:
        return UNKNOWN
    boots = health[-1].values.get("boots")
    free = _values([one for one in health if one.values.get("boots") == boots], "heap_free")
    if len(free) < _ENOUGH_HEALTH:
        return UNKNOWN
    falls = sum(later < earlier for earlier, later in pairwise(free))
    lost_percent = 100 * (free[0] - free[-1]) // max(1, free[0])
    if falls * 4 < 3 * (len(free) - 1) or lost_percent < _SHRUNK_PERCENT:
        return None
    return f"{free[0] // 1000} kB were free, {free[-1] // 1000} kB are, falling in {falls} of {len(free) - 1} steps"


def _old_firmware(seen: Evidence) -> str | None:
    version = None
    if seen.board is not None:
        version = seen.board["version"]
    elif health := seen.health():
        version = health[-1].values.get("firmware_version")
    if version is None or seen.newest_version is None:
        return UNKNOWN
    return f"it runs {_dotted(version)}, there is {_dotted(seen.newest_version)}" if version < seen.newest_version else None


def _line_noise(seen: Evidence) -> str | None:
    health = seen.health()
    if not health:
        return UNKNOWN
    boots = health[-1].values.get("boots")
    rejects = _values([one for one in health if one.values.get("boots") == boots], "rejects")
    if len(rejects) < 2:
        return UNKNOWN
    return (
        f"it refused {rejects[-1] - rejects[0]} messages since {len(rejects)} records ago" if rejects[-1] - rejects[0] >= _NOISE else None
    )


def _dotted(version: int) -> str:
    return f"{version >> 16}.{version >> 8 & 255}.{version & 255}"


RULES = (
    Rule(
        "wrong network", "it was commissioned for another city's network", "lamppost commission, after it was revoked there", _wrong_network
    ),
    Rule(
        "key mismatch",
        "its keys were made anew, or its flash is another node's",
        "lamppost node revoke --reason lost, lamppost node reset, lamppost commission",
        _key_mismatch,
    ),
    Rule(
        "counter store lost",
        "both copies of its counter are gone: it must not sign any more",
        "lamppost node rekey: it gets new keys and keeps its records",
        _counter_lost,
    ),
    Rule(
        "boot loop",
        "its program, its configuration or a part that hangs",
        "lamppost-gateway's log has its last words; undo the last order or change",
        _boot_loop,
    ),
    Rule(
        "supply browning out",
        "the supply gives way under load, or a plug is loose",
        "measure it at the board while the lamp switches; a capacitor, a new supply",
        _brown_out,
    ),
    Rule(
        "sensor dead",
        "a wire, a plug, its supply, or the sensor itself",
        "check its wiring; lamppost commission tests it again",
        _sensor_dead,
    ),
    Rule(
        "clock never set",
        "no beacon answers its hellos",
        "does lamppost authority run, and is the gateway's broker up? lamppost-gateway status",
        _clock_never_set,
    ),
    Rule(
        "schedule missing", "none was ever ordered or put on it: it burns at its safe level", "lamppost order schedule", _schedule_missing
    ),
    Rule(
        "spool nearly full",
        "its gateway does not hear or acknowledge it",
        "lamppost-gateway status: is its link up? then the wire, TX to RX",
        _spool_nearly_full,
    ),
    Rule(
        "heap shrinking",
        "something in its firmware keeps what it should give back",
        "restart it, and tell whoever makes the firmware",
        _heap_shrinking,
    ),
    Rule("old firmware", "it was never updated", "lamppost commission with a newer kit", _old_firmware),
    Rule(
        "line noise",
        "a long or unshielded line, a lost ground, another speed",
        "check shield, ground and length; lamppost-gateway status counts too",
        _line_noise,
    ),
)
