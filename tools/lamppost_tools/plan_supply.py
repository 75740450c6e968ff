"""What a battery lasts: currents as the parts' makers give them, quoted second hand and never measured here.

Each is drawn at the part's own supply; the regulator's loss, cold and self-discharge come on top and are not known. The firmware has no
sleep: a node is awake day and night. What deep sleep would bring is reckoned all the same, as a bound, to know whether it is worth waiting
for; a bin's watch for fire and tilt would end with it.
"""

from typing import NamedTuple

from lamppost_tools.plan_figures import DAY_S, YEAR_DAYS

#: ESP32 series datasheet, "power consumption by power modes": modem-sleep at 160 MHz, both cores (27 to 44 mA); deep sleep with RTC timer.
AWAKE_MA = (27.0, 44.0)
DEEP_SLEEP_MA = 0.010
#: SX1262, "power consumption": receiving LoRa; sending at 22 dBm, the most it takes at any power; sleeping with its settings kept.
RECEIVE_MA = 4.6
TRANSMIT_MA = 118.0
RADIO_SLEEP_MA = 0.0006
#: A02YYUW at most; PMS5003 with its fan, and in standby; the I2C parts (SHT4x, LIS3DH) take microamperes and are left out.
RANGER_MA = 8.0
COUNTER_MA = 100.0
COUNTER_STANDBY_MA = 0.2
#: From reset to the first frame on RV32 in QEMU at an ESP32-C3's pace, bytecode in ROMFS (`make bench`, rows `rv32`; from files 4.4 s):
#: each wake-up would cost as much.
WAKE_S = 1.5
#: `firmware/lamppost_node/fixtures/air.py`: the fan runs for so long before a report; reports nearer than this let it run on.
_SETTLE_S = 35
_REST_FROM_S = 120


class Supply(NamedTuple):
    """mAh a day and battery years: awake, at least and at most; and asleep between frames, which does not exist yet."""

    awake_mah: tuple[float, float]
    awake_years: tuple[float, float]
    asleep_mah: float
    asleep_years: float


def supply(kinds: list[tuple[str, int, bool]], frames_a_day: float, air_us: float | None, capacity_mah: int) -> Supply:
    """`kinds`: (kind, report_s, whether its sensor may rest) of each fixture; `air_us`: airtime a day, None on a cable."""
    sensors_ma = sum(sensor_ma(kind, report_s, may_rest) for kind, report_s, may_rest in kinds)
    sending_mah = 0.0 if air_us is None else air_us / 1e6 / 3600 * TRANSMIT_MA
    radio_ma = 0.0 if air_us is None else RECEIVE_MA
    low, high = (24 * (ma + sensors_ma + radio_ma) + sending_mah for ma in AWAKE_MA)
    awake_s = min(float(DAY_S), frames_a_day * WAKE_S)
    sleeping_ma = DEEP_SLEEP_MA + (0.0 if air_us is None else RADIO_SLEEP_MA)
    asleep = awake_s / 3600 * (AWAKE_MA[1] + radio_ma) + (DAY_S - awake_s) / 3600 * sleeping_ma + sending_mah
    return Supply((low, high), (_years(capacity_mah, high), _years(capacity_mah, low)), asleep, _years(capacity_mah, asleep))


def sensor_ma(kind: str, report_s: int, may_rest: bool) -> float:
    """Mean current of a fixture's sensor as the reference board feeds it, which is always; a lamp's driver has its own supply."""
    if kind == "bin":
        return RANGER_MA
    if kind != "air":
        return 0.0
    if not may_rest or report_s < _REST_FROM_S:
        return COUNTER_MA
    share = min(1.0, _SETTLE_S / report_s)
    return share * COUNTER_MA + (1 - share) * COUNTER_STANDBY_MA


def _years(capacity_mah: int, mah_a_day: float) -> float:
    return capacity_mah / mah_a_day / YEAR_DAYS
