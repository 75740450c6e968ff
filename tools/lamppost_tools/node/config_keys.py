"""What a node's configuration may hold, with units and meanings, for whoever writes one: the site file and the enrolment.

The node's own tables decide (`firmware/lamppost_node/config.py`, `fixtures/*.py`, `board.py`); tools may not import them, so the numbers
stand here again and `tools/tests/test_node_keys.py` holds each row against the firmware's.
"""

from typing import NamedTuple


class Key(NamedTuple):
    """One integer key: default (None: none), lowest and highest value, both allowed; `unit` and `meaning` are for people."""

    name: str
    default: int | None
    low: int
    high: int
    unit: str
    meaning: str


DST_RULES = ("none", "eu", "us")
MAX_FIXTURES = 8
MAX_INSTANCE = 15
MAX_CONFIG_BYTES = 4096

NODE_KEYS = (
    Key("network", None, 1, 0xFFFFFFFF, "", "the city's network"),
    Key("latitude_udeg", None, -90_000_000, 90_000_000, "udeg", "north of the equator"),
    Key("longitude_udeg", None, -180_000_000, 180_000_000, "udeg", "east of Greenwich"),
    Key("utc_offset_s", 0, -50_400, 50_400, "s", "winter time less UTC"),
    Key("report_s", 60, 1, 86_400, "s", "between two reports of a fixture that has no report_s of its own"),
    Key("health_s", 900, 1, 86_400, "s", "between two of the node's own records"),
    Key("hello_s", 60, 5, 3_600, "s", "between two hellos while the time is unknown; 3600 on LoRa"),
    Key("beacon_s", 3_600, 60, 86_400, "s", "between two questions for the time once it is known; 21600 on LoRa"),
    Key("spool_bytes", 524_288, 16_384, 8_388_608, "octets", "flash for records that nobody acknowledged yet"),
    Key("frame_records", 16, 1, 64, "records", "in one frame, at most"),
    Key("drift_ppm", 100, 1, 1_000, "ppm", "the clock's error"),
    Key("sleep_drift_ppm", 60_000, 1, 200_000, "ppm", "the error of the clock that runs in deep sleep; of a 32 kHz crystal 100"),
    Key("bridge", 0, 0, 1, "", "1: the board is a gateway's radio and no node"),
    Key("tcxo_mv", 1_800, 0, 3_300, "mV", "what supplies an SX1262's TCXO; 0: it has a crystal"),
)

#: The map `lora`, beside `region` and `channels_hz`; without a default: must be there.
LORA_KEYS = (
    Key("bandwidth_hz", 125_000, 7_800, 500_000, "Hz", "the signal's width"),
    Key("spreading_factor", 9, 5, 12, "", "the radio's slowest spreading factor"),
    Key("fastest_spreading_factor", 7, 5, 12, "", "and its fastest, for who is heard well"),
    Key("coding_rate", 1, 1, 4, "", "1 for 4/5 to 4 for 4/8"),
    Key("power_dbm", 14, -9, 22, "dBm", "at the antenna's foot"),
    Key("least_power_dbm", 2, -9, 22, "dBm", "for who is heard well at the fastest spreading factor"),
    Key("antenna_dbi", 0, -20, 30, "dBi", "the antenna's gain less the cable's loss"),
    Key("listen_ms", 5, 5, 1_000, "ms", "for how long the channel is heard free before each packet"),
    Key("busy_dbm", -90, -120, -40, "dBm", "a channel on which more is heard is not free"),
    Key("downlink_hz", None, 150_000_000, 960_000_000, "Hz", "the channel on which the gateway answers"),
    Key("downlink_bandwidth_hz", 125_000, 7_800, 500_000, "Hz", "the answers' width"),
    Key("downlink_spreading_factor", 9, 5, 12, "", "the answers' spreading factor"),
    Key("listens_always", 0, 0, 1, "", "whether orders may come at any time: for who has mains"),
    Key("spread_s", 600, 0, 3_600, "s", "within which a street speaks first after power came back"),
    Key("resend_s", 30, 1, 3_600, "s", "within which a frame that nobody answered is sent again, doubled each time"),
    Key("gather_s", 900, 0, 86_400, "s", "for which records wait to share a frame"),
)

#: Of the node's own keys, where it has such a map.
AIR_DEFAULTS = (("hello_s", 3_600), ("beacon_s", 21_600))

FIXTURE_KEYS: dict[str, tuple[Key, ...]] = {
    "lamp": (
        Key("safe_level_percent", 100, 20, 100, "%", "in any doubt"),
        Key("floor_percent", 10, 0, 100, "%", "a schedule's level is never between 0 and this"),
        Key("power_on_level_percent", 100, 20, 100, "%", "held after a start"),
        Key("power_on_s", 0, 0, 900, "s", "for how long it is held"),
        Key("ramp_up_percent_per_s", 10, 1, 100, "%/s", "speed upwards"),
        Key("ramp_down_percent_per_s", 5, 1, 100, "%/s", "speed downwards"),
        Key("stagger_s", 30, 0, 300, "s", "the schedule comes up to this much later, by node id"),
        Key("clock_limit_s", 7200, 60, 86_400, "s", "a clock less certain than this is no clock"),
        Key("lease_limit_s", 604_800, 60, 2_678_400, "s", "no order holds the lamp below the safe level for longer"),
        Key("report_s", 0, 0, 86_400, "s", "between two reports; 0: the node's"),
        Key("sample_s", 5, 1, 60, "s", "between two looks at the meter"),
        Key("settle_s", 5, 0, 600, "s", "an applied order is judged no sooner"),
        Key("verify_s", 120, 1, 3600, "s", "and stays unverified after"),
        Key("verify_tolerance_permille", 150, 10, 500, "permille", "of the expected change of power"),
        Key("verify_tolerance_dw", 20, 1, 1000, "0.1 W", "at least"),
        Key("warm_up_s", 60, 0, 3600, "s", "no fault is judged so soon after a change"),
        Key("fault_samples", 4, 1, 16, "samples", "that agree make a fault"),
        Key("fault_window", 6, 1, 16, "samples", "among so many"),
        Key("relay", 1, 0, 1, "", "whether there is one"),
        Key("meter", 1, 0, 1, "", "whether there is one"),
        Key("meter_per_volt", 26_000, 1, 16_777_215, "steps/V", "the meter's calibration"),
        Key("meter_per_ampere", 100_000, 1, 16_777_215, "steps/A", "the meter's calibration"),
        Key("meter_per_watt", 154, -1_000_000, 1_000_000, "steps/W", "the meter's calibration; negative: reversed transformer"),
        Key("meter_per_watt_hour", 23_716, -100_000_000, 100_000_000, "steps/Wh", "the meter's calibration"),
        Key("control_10_mv", 1000, 0, 10_000, "mV", "the driver's input for 10 % of light, its minimum"),
        Key("control_25_mv", 2500, 0, 10_000, "mV", "for 25 %"),
        Key("control_50_mv", 5000, 0, 10_000, "mV", "for 50 %"),
        Key("control_75_mv", 7500, 0, 10_000, "mV", "for 75 %"),
        Key("control_100_mv", 10_000, 0, 10_000, "mV", "for 100 %"),
        Key("power_0_dw", 0, 0, 100_000, "0.1 W", "what the lamp takes with the relay open"),
        Key("power_10_dw", 132, 0, 100_000, "0.1 W", "at 10 %"),
        Key("power_25_dw", 210, 0, 100_000, "0.1 W", "at 25 %"),
        Key("power_50_dw", 340, 0, 100_000, "0.1 W", "at 50 %"),
        Key("power_75_dw", 470, 0, 100_000, "0.1 W", "at 75 %"),
        Key("power_100_dw", 600, 1, 100_000, "0.1 W", "at 100 %, the rated power"),
    ),
    "bin": (
        Key("report_s", 0, 0, 86_400, "s", "between two reports; 0: the node's"),
        Key("watch_s", 5, 1, 10, "s", "between looks at fire and tilt"),
        Key("sleep_s", 0, 0, 86_400, "s", "0: awake; on LoRa it sleeps so long between looks, an alarm waits as long"),
        Key("height_mm", 1000, 200, 4500, "mm", "from the sensor to the bottom of the empty bin"),
        Key("full_mm", 150, 31, 4000, "mm", "from the sensor to the waste of a full bin"),
        Key("full_percent", 85, 1, 100, "%", "flagged as full from here on"),
        Key("burst", 7, 5, 11, "distances", "in a report"),
        Key("spread_mm", 60, 5, 1000, "mm", "wider, the burst disagrees with itself"),
        Key("upright_x_mg", 0, -2000, 2000, "mg", "gravity as the mounted sensor sees it"),
        Key("upright_y_mg", 0, -2000, 2000, "mg", "gravity as the mounted sensor sees it"),
        Key("upright_z_mg", 1000, -2000, 2000, "mg", "gravity as the mounted sensor sees it"),
    ),
    "air": (
        Key("report_s", 0, 0, 86_400, "s", "between two reports; 0: the node's"),
        Key("samples", 3, 1, 10, "readings", "of particles in a report"),
        Key("duty_cycle", 1, 0, 1, "", "1: the sensor sleeps between reports far apart"),
    ),
}

#: (GPIO of the dimmer's PWM, of the relay) of lamp 0 and lamp 1; then the pins of the one sensor UART and of the one I2C bus.
LAMP_PINS = ((25, 26), (27, 14))
SENSOR_PINS = {"uart_tx_pin": 33, "uart_rx_pin": 32}
BUS_PINS = {"scl_pin": 22, "sda_pin": 21}
#: What a fixture hangs on the I2C bus; each part answers at one address, so a node has one of each.
BUS_PARTS = {"lamp": ("ADE7953 meter",), "bin": ("SHT4x thermometer", "LIS3DH accelerometer"), "air": ("SHT4x thermometer",)}
INSTANCES = {"lamp": len(LAMP_PINS), "bin": 1, "air": 1}


def pins_of(kind: str, instance: int, has_relay: bool = True, has_meter: bool = True) -> dict[str, int]:
    """GPIO by signal of a fixture on the reference board; empty for an instance that the board has no pins for."""
    if instance >= INSTANCES[kind]:
        return {}
    if kind != "lamp":
        return {**SENSOR_PINS, **BUS_PINS}
    pwm, relay = LAMP_PINS[instance]
    return {"pwm_pin": pwm, **({"relay_pin": relay} if has_relay else {}), **(BUS_PINS if has_meter else {})}


def own_parts(kind: str, instance: int, has_meter: bool = True) -> list[str]:
    """What of the board a fixture needs for itself alone: two that name the same cannot share a node."""
    if kind == "lamp":
        return [f"lamp output {instance}", *(BUS_PARTS[kind] if has_meter else ())]
    return ["sensor UART", *BUS_PARTS[kind]]
