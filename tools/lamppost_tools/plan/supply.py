"""What a battery lasts: currents as the parts' makers give them, quoted second hand and never measured here.

Each is drawn at the part's own supply; the regulator's loss comes on top and is not known. A node without `sleep_s` is awake day and
night. One that sleeps has a day in five states, whose seconds follow from the configuration and the firmware's own life-cycle
(`firmware/lamppost_node/sleep.py`); `hil_tests/test_plan_against_a_node.py` holds them against a node. They are those of a node that is
answered in the last window: so at most; what is lost and sent again comes on top.
"""

from typing import NamedTuple

from lamppost_tools.plan.figures import DAY_S, YEAR_DAYS

#: ESP32 series datasheet, "power consumption by power modes": modem-sleep at 160 MHz, both cores (27 to 44 mA); deep sleep with RTC timer
#: and RTC memory.
AWAKE_MA = (27.0, 44.0)
DEEP_SLEEP_MA = 0.010
#: A02YYUW at most; PMS5003 with its fan, and in standby. LIS3DH in its low-power mode at 10 Hz and an idle SHT4x, which a bin feeds always.
RANGER_MA = 8.0
COUNTER_MA = 100.0
COUNTER_STANDBY_MA = 0.2
BIN_BUS_MA = 0.004
#: From reset to the first frame on RV32 in QEMU at an ESP32-C3's pace, bytecode in ROMFS (`make bench`, rows `rv32`; from files 4.4 s):
#: each wake-up costs as much.
WAKE_S = 1.5
#: `firmware/lamppost_node/fixtures/bin.py`: the distances of a burst come every 0.3 s at most, the first 0.7 s after the sensor's supply.
_READING_S = 0.3
_FIRST_READING_S = 0.7
#: A look at heat and tilt, and how long the node looks for a reason against sleeping.
_LOOK_S = 0.15
#: Of a receive window: margins on both sides of it, and symbols until a header shows (`firmware/lamppost_node/links/lora.py`).
WINDOW_S = 0.2
WINDOW_SYMBOLS = 22
#: A signature, and a listener's turn before sending.
_SIGN_S = 0.3
#: `firmware/lamppost_node/fixtures/air.py`: the fan runs for so long before a report; reports nearer than this let it run on.
_SETTLE_S = 35
_REST_FROM_S = 120
#: Assumed, of a lithium primary cell outdoors: so much of the nominal capacity is usable (cold, cut-off), so much goes by itself in a year.
USABLE = 0.8
SELF_DISCHARGE_A_YEAR = 0.02


class Radio(NamedTuple):
    """A radio's currents: receiving LoRa with boosted gain, standing by, asleep.

    `transmit_ma`: at 868 MHz, dBm to mA, with the PA set for just that power; `turned_down_ma`: up to dBm, mA, at every other power.
    """

    receive_ma: float
    standby_ma: float
    sleep_ma: float
    transmit_ma: dict[int, float]
    turned_down_ma: tuple[tuple[int, float], ...]

    def sending_ma(self, power_dbm: int) -> float:
        """While it sends."""
        return self.transmit_ma.get(power_dbm) or next(ma for most_dbm, ma in self.turned_down_ma if power_dbm <= most_dbm)


#: SX1262 datasheet, power consumption with the DC-DC converter, cold sleep. Other powers as the driver sends them: PA set for 22 dBm.
SX1262 = Radio(
    5.3, 0.6, 0.00016, {22: 118.0, 20: 84.0, 17: 58.0, 14: 45.0}, ((14, 90.0), (17, 95.0), (20, 102.0), (22, 118.0))
)  # fmt: skip
#: SX1276 datasheet, table 6, band 1; the driver's one output is PA_BOOST, of which only 17 dBm is given: less power takes no more.
SX1276 = Radio(11.5, 1.6, 0.0002, {}, ((17, 87.0),))
#: By its name in a configuration. The chip in an E22 is an SX1262; what the one beside it takes nobody has told.
RADIOS = {"sx1262": SX1262, "sx1276": SX1276, "e22": SX1262}


class Supply(NamedTuple):
    """mAh a day and battery years of a node that is awake: at least and at most."""

    awake_mah: tuple[float, float]
    awake_years: tuple[float, float]


class Air(NamedTuple):
    """What one frame takes of a node's day on the air: its own airtime, the answer's, and how long an empty window is listened to."""

    frame_s: float
    answer_s: float
    window_s: float
    power_dbm: int
    radio: Radio


class Cycle(NamedTuple):
    """A sleeping bin's life in numbers a day: `looks` at heat and tilt, `reports`, records of its own, frames, questions for the time."""

    looks: float
    reports: float
    own: float
    frames: float
    questions: float
    burst: int


class State(NamedTuple):
    """One state of a node's day: seconds, and the mAh they take, at least and at most."""

    name: str
    label: str
    seconds: float
    mah: tuple[float, float]


def supply(kinds: list[tuple[str, int, bool]], air_us: float | None, power_dbm: int, capacity_mah: int, radio: Radio) -> Supply:
    """Awake day and night. `kinds`: (kind, report_s, whether its sensor may rest) of each fixture; `air_us`: airtime a day, or a cable."""
    sensors_ma = sum(sensor_ma(kind, report_s, may_rest) for kind, report_s, may_rest in kinds)
    sending_mah = 0.0 if air_us is None else air_us / 1e6 / 3600 * radio.sending_ma(power_dbm)
    radio_ma = 0.0 if air_us is None else radio.receive_ma
    low, high = (24 * (ma + sensors_ma + radio_ma) + sending_mah for ma in AWAKE_MA)
    return Supply((low, high), (years(capacity_mah, high), years(capacity_mah, low)))


def cycle(report_s: int, sleep_s: int, health_s: int, beacon_s: int, gather_s: int, burst: int) -> Cycle:
    """A sleeping bin's day by its configuration. Frames: one for each record, or where they gather one for each time of gathering."""
    looks_a_report = -(-report_s // sleep_s)
    reports, own = DAY_S / report_s, DAY_S / health_s
    frames = reports + own if gather_s == 0 else min(reports + own, DAY_S / gather_s)
    return Cycle(reports * looks_a_report, reports, own, frames, DAY_S / beacon_s, burst)


def states(day: Cycle, air: Air) -> list[State]:
    """The five states of a sleeping bin's day; WIRE.md section 14.2 says when it listens: behind a frame, and behind its answer again."""
    conversations = day.frames + day.questions
    fed_s = day.looks * (WAKE_S + _LOOK_S) + day.reports * (_FIRST_READING_S + day.burst * _READING_S)
    # A gathering's end, a record of its own, a question: each may be a wake-up for itself.
    wakes = day.own + day.questions + (day.frames if day.frames < day.reports + day.own else 0.0)
    talking_s = conversations * (_SIGN_S + air.frame_s + 4 + air.answer_s + 4 + air.window_s)
    awake_s = fed_s + wakes * (WAKE_S + _LOOK_S) + talking_s
    sending_s = conversations * air.frame_s
    listening_s = conversations * (air.answer_s + 6 * air.window_s)
    asleep_s = max(0.0, DAY_S - awake_s)
    at_least, at_most = (awake_s / 3600 * (ma + air.radio.standby_ma) for ma in AWAKE_MA)
    sending = sending_s / 3600 * air.radio.sending_ma(air.power_dbm)
    listening = listening_s / 3600 * air.radio.receive_ma
    asleep = asleep_s / 3600 * (DEEP_SLEEP_MA + air.radio.sleep_ma)
    # The ranger is fed whenever the chip is awake.
    sensors = awake_s / 3600 * RANGER_MA + 24 * BIN_BUS_MA
    return [
        State("asleep", "deep sleep", asleep_s, (asleep, asleep)),
        State("awake", "awake", awake_s, (at_least, at_most)),
        State("sending", f"sending at {air.power_dbm} dBm", sending_s, (sending, sending)),
        State("listening", "receive windows", listening_s, (listening, listening)),
        State("sensors", "sensors", awake_s, (sensors, sensors)),
    ]


def sensor_ma(kind: str, report_s: int, may_rest: bool) -> float:
    """Mean current of an awake node's sensor; a lamp's driver has its own supply."""
    if kind == "bin":
        return RANGER_MA
    if kind != "air":
        return 0.0
    if not may_rest or report_s < _REST_FROM_S:
        return COUNTER_MA
    share = min(1.0, _SETTLE_S / report_s)
    return share * COUNTER_MA + (1 - share) * COUNTER_STANDBY_MA


def years(capacity_mah: int, mah_a_day: float) -> float:
    """How long a battery lasts that is used up from both ends: by the node, and by itself."""
    return USABLE * capacity_mah / (mah_a_day * YEAR_DAYS + SELF_DISCHARGE_A_YEAR * capacity_mah)
