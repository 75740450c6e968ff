"""The one table of quantities: what each column of each profile means, in OMA LwM2M / uCIFI terms.

Paths are /object/instance/resource of the OMA registry (BSD-3, uCIFI Alliance and OMA); instance 0 stands for the fixture's own
instance. Where the registry lacks a quantity the path is in Lamppost's private objects, 26241 and up, and says so here. A column's
value is `integer * 10 ** scale` in `unit`. Ranges are inclusive, in integers as sent. New columns are only ever appended.

The node does not need this table; it runs on MicroPython all the same, for tools there.
"""

from collections import namedtuple

from .kinds import AIR, BIN, GAP, LAMP, NODE, ORDER_STATE, SERVICE, split_kind

Column = namedtuple("Column", ("name", "path", "scale", "unit", "low", "high"))
Profile = namedtuple("Profile", ("id", "name", "columns"))

_UINT32 = 0xFFFFFFFF
_UINT48 = 0xFFFFFFFFFFFF

PROFILES = {
    LAMP: Profile(
        LAMP,
        "lamp",
        (
            Column("command_level", "/3416/0/1", 0, "%", 0, 100),
            Column("applied_level", "/3416/0/3", 0, "%", 0, 100),
            Column("active_power", "/3418/0/4", -1, "W", -100000, 100000),
            Column("voltage", "/3418/0/1", -1, "V", 0, 6000),
            Column("current", "/3418/0/2", -3, "A", 0, 100000),
            Column("power_factor", "/3418/0/5", -3, "1", -1000, 1000),
            Column("energy", "/3418/0/6", 0, "Wh", 0, _UINT48),
            Column("cause", "/26241/0/1", 0, "enum", 0, 15),  # own object: why this level, LAMP_CAUSES
            Column("faults", "/26241/0/2", 0, "bits", 0, 0xFFFF),  # own object: LAMP_FAULTS (3416/5, 9, 10, 11 and kin)
        ),
    ),
    BIN: Profile(
        BIN,
        "bin",
        (
            Column("distance", "/3330/0/5700", -3, "m", 0, 20000),
            Column("fill", "/3435/0/2", 0, "%", 0, 100),
            Column("temperature", "/3303/0/5700", -1, "Cel", -600, 2000),
            Column("flags", "/26242/0/1", 0, "bits", 0, 0xFFFF),  # own object: BIN_FLAGS (3435/5, 22, 13, 21)
        ),
    ),
    AIR: Profile(
        AIR,
        "air",
        (
            Column("pm1", "/3428/0/5", 0, "ug/m3", 0, 10000),
            Column("pm25", "/3428/0/3", 0, "ug/m3", 0, 10000),
            Column("pm10", "/3428/0/1", 0, "ug/m3", 0, 10000),
            Column("pm25_corrected", "/26243/0/1", -1, "ug/m3", 0, 100000),  # own object: the registry has one PM2.5
            Column("temperature", "/3303/0/5700", -1, "Cel", -600, 2000),
            Column("humidity", "/3304/0/5700", -1, "%", 0, 1000),
            Column("method", "/26243/0/2", 0, "enum", 0, 63),  # own object: AIR_METHODS
            Column("sensor_hours", "/26243/0/3", 0, "h", 0, 1000000),  # own object: laser running hours
        ),
    ),
    NODE: Profile(
        NODE,
        "node",
        (
            Column("uptime", "/3410/0/14", 0, "s", 0, _UINT32),
            Column("boots", "/26240/0/1", 0, "1", 0, _UINT32),  # own object 26240: node health
            Column("reset_cause", "/26240/0/2", 0, "enum", 0, 31),
            Column("heap_free", "/3/0/10", -3, "kB", 0, _UINT32),
            Column("heap_free_lowest", "/26240/0/3", -3, "kB", 0, _UINT32),
            Column("spool_owed", "/26240/0/4", 0, "1", 0, _UINT32),
            Column("spool_capacity", "/26240/0/5", 0, "1", 0, _UINT32),
            Column("rejects", "/26240/0/6", 0, "1", 0, _UINT32),
            Column("flash_faults", "/26240/0/7", 0, "1", 0, _UINT32),
            Column("task_restarts", "/26240/0/8", 0, "1", 0, _UINT32),
            Column("state", "/26240/0/9", 0, "enum", 0, 7),  # HELLO states: running, safe_mode, counter_lost
            Column("config_digest", "/26240/0/10", 0, "1", 0, _UINT32),
            Column("firmware_version", "/26240/0/11", 0, "1", 0, _UINT32),  # major << 16 | minor << 8 | patch
            Column("radio_faults", "/26240/0/12", 0, "1", 0, _UINT32),  # from here on only of a node on LoRa
            Column("radio_given_up", "/26240/0/13", 0, "1", 0, _UINT32),  # no free channel, no airtime
            Column("foreign_packets", "/26240/0/14", 0, "1", 0, _UINT32),
            Column("airtime_spent", "/26240/0/15", -3, "1", 0, 1000),  # of the fullest sub-band's allowance
        ),
    ),
    ORDER_STATE: Profile(
        ORDER_STATE,
        "order_state",
        (
            Column("order_id", "/26244/0/1", 0, "1", 1, _UINT32),  # own object 26244: an order's life
            Column("state", "/26244/0/2", 0, "enum", 1, 8),
            Column("reason", "/26244/0/3", 0, "enum", 0, 63),
            Column("level", "/3416/0/3", 0, "%", 0, 100),
            Column("power_before", "/26244/0/4", -1, "W", -100000, 100000),
            Column("power_after", "/26244/0/5", -1, "W", -100000, 100000),
        ),
    ),
    GAP: Profile(
        GAP,
        "gap",
        (
            Column("first_n", "/26245/0/1", 0, "1", 1, _UINT48),  # own object 26245: records that will never come
            Column("last_n", "/26245/0/2", 0, "1", 1, _UINT48),
            Column("lost", "/26245/0/3", 0, "1", 1, _UINT48),
            Column("reason", "/26245/0/4", 0, "enum", 0, 63),
            Column("from_time", "/26245/0/5", 0, "s", 0, _UINT48),
            Column("to_time", "/26245/0/6", 0, "s", 0, _UINT48),
        ),
    ),
    SERVICE: Profile(
        SERVICE,
        "service",
        (
            Column("ticket", "/26246/0/1", 0, "1", 1, _UINT32),  # own object 26246: what a technician did at the node
            Column("asked", "/26246/0/2", 0, "1", 0, _UINT32),
            Column("verb", "/26246/0/3", 0, "enum", 0, 15),  # SERVICE_VERBS
            Column("result", "/26246/0/4", 0, "enum", 0, 63),
            Column("holder", "/26246/0/5", 0, "1", 0, _UINT32),
        ),
    ),
}

LAMP_CAUSES = ("safe", "order", "exception", "weekly", "default", "power_on", "safe_mode", "service")
LAMP_FAULTS = (
    "lamp_failure",
    "low_power",
    "high_power",
    "day_burner",
    "cycling",
    "meter_missing",
    "schedule_missing",
    "relay_failure",
    "control_fault",
    "clock_unknown",
)
BIN_FLAGS = ("full", "fire", "tilt", "emptied", "cover_open")
AIR_METHODS = ("none", "epa_barkjohn_2021")
SERVICE_VERBS = ("ticket", "look", "test", "light", "restart", "configure", "resend")


def by_name(name: str) -> Profile:
    """Return the profile called `name`. Raises KeyError."""
    for profile in PROFILES.values():
        if profile.name == name:
            return profile
    raise KeyError(name)


def fixture_name(kind: int) -> str:
    """Return the fixture's name in topics and tools: `lamp`, `lamp.1`, or `profile-9` where the profile is unknown here."""
    profile_id, instance = split_kind(kind)
    profile = PROFILES.get(profile_id)
    name = profile.name if profile else "profile-" + str(profile_id)
    return name if instance == 0 else name + "." + str(instance)
