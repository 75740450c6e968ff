"""What hangs where: pin numbers, and a plain table of node wirings with the faults each can have."""

from typing import NamedTuple

DIMMER_PIN = 25
RELAY_PIN = 26
PHOTOCELL_PIN = 34
SENSOR_UART = 2
SENSOR_SUPPLY_PIN = 12
SENSOR_I2C = 0
RADIO_SPI = 2
RADIO_NSS_PIN = 4
RADIO_NRESET_PIN = 13
# What the radio drives: an SX1262 BUSY and DIO1, an SX1276 DIO1 and DIO0, an E22 AUX on the second. It has M0 and M1 on NSS and NRESET, and
# the sensors' UART.
RADIO_BUSY_PIN = 35
RADIO_DIO_PIN = 36

# Values of faults that are given none.
_FIRE_C = 70.0
_TILT_DEG = 60.0
_NOISY_MM = 400.0
_METER_OFFSET_W = 15.0
_UNPLUGGED_MISO = 255.0
_ANTENNA_LOSS_DB = 60.0
_NOISY_SPI_OCTETS = 50.0
_JAMMED_DBM = -60.0
_E22_CHANNEL = 5.0


class Fault(NamedTuple):
    """Where a fault of the cabinet goes: a model's own fault name, and its value when none is given."""

    part: str
    name: str
    default: float = 1.0


_LAMP_FAULTS = {
    "lamp_failed": Fault("lamp", "lamp_failed"),
    "relay_welded": Fault("lamp", "relay_welded"),
    "meter_offset": Fault("meter", "meter_offset", _METER_OFFSET_W),
    "meter_unplugged": Fault("meter", "unplugged"),
    "meter_stuck": Fault("meter", "stuck"),
}
_TEMPERATURE_FAULTS = {
    "temperature_bad_crc": Fault("temperature", "bad_crc"),
    "temperature_unplugged": Fault("temperature", "unplugged"),
    "temperature_stuck": Fault("temperature", "stuck"),
}
_UART_FAULTS = {name: Fault("uart", name) for name in ("bad_checksum", "stuck", "unplugged")}

_ANY_RADIO_FAULTS = {
    **{name: Fault("radio", name) for name in ("crc_error", "crc_unseen", "header_error", "brown_out")},
    "radio_unplugged": Fault("radio", "unplugged", _UNPLUGGED_MISO),
    "antenna": Fault("radio", "antenna", _ANTENNA_LOSS_DB),
    "noisy_spi": Fault("radio", "noisy_spi", _NOISY_SPI_OCTETS),
    "jammed": Fault("radio", "jammed", _JAMMED_DBM),
}
_RADIO_FAULTS = {
    **_ANY_RADIO_FAULTS,
    **{name: Fault("radio", name) for name in ("busy_stuck", "dio1_broken", "tcxo_dead", "timeout_deaf")},
}
_E22_FAULTS = {
    **{name: Fault("radio", name) for name in ("crc_error", "brown_out", "mute", "cut_short")},
    "radio_unplugged": Fault("radio", "unplugged"),
    "antenna": Fault("radio", "antenna", _ANTENNA_LOSS_DB),
    "jammed": Fault("radio", "jammed", _JAMMED_DBM),
    "aux_stuck": Fault("radio", "aux_stuck", 0.0),
    "garbage": Fault("radio", "garbage", _NOISY_SPI_OCTETS),
    "register_stuck": Fault("radio", "register_stuck", _E22_CHANNEL),
}
_SX1276_FAULTS = {**_ANY_RADIO_FAULTS, **{name: Fault("radio", name) for name in ("dio0_broken", "image_stuck")}}

# The whole table of wirings: parts and faults.
WIRINGS: dict[str, tuple[tuple[str, ...], dict[str, Fault]]] = {
    "lamp": (("lamp", "meter"), _LAMP_FAULTS),
    "bin": (
        ("distance", "temperature", "accelerometer"),
        {
            **_TEMPERATURE_FAULTS,
            **_UART_FAULTS,
            "no_echo": Fault("uart", "no_echo", 0.0),
            "noisy": Fault("uart", "noisy", _NOISY_MM),
            "fire": Fault("bin", "fire", _FIRE_C),
            "tilt": Fault("bin", "tilt", _TILT_DEG),
            "accelerometer_unplugged": Fault("accelerometer", "unplugged"),
            "accelerometer_stuck": Fault("accelerometer", "stuck"),
        },
    ),
    "air_lamp": (
        ("particles", "temperature", "lamp", "meter"),
        {**_LAMP_FAULTS, **_TEMPERATURE_FAULTS, **_UART_FAULTS, "fan": Fault("uart", "fan")},
    ),
    "radio": (("radio",), _RADIO_FAULTS),
    "sx1276": (("sx1276",), _SX1276_FAULTS),
}
for _kind in ("lamp", "bin", "air_lamp"):
    for _chip in ("radio", "sx1276"):
        WIRINGS[f"{_kind}_{_chip}"] = (WIRINGS[_kind][0] + WIRINGS[_chip][0], WIRINGS[_kind][1] | WIRINGS[_chip][1])
# An E22 has the UART that a sensor would need.
WIRINGS["e22"] = (("e22",), _E22_FAULTS)
WIRINGS["lamp_e22"] = (WIRINGS["lamp"][0] + ("e22",), WIRINGS["lamp"][1] | _E22_FAULTS)
# As bin_radio on a battery: the sensor on the UART is fed while SENSOR_SUPPLY_PIN is high, and by nothing else.
WIRINGS["bin_battery"] = ((*WIRINGS["bin_radio"][0], "supply_switch"), WIRINGS["bin_radio"][1])
COMMON_FAULTS = {"bus_stuck": Fault("cabinet", "bus_stuck")}
