"""The air in the gateway's configuration: the network's radio settings, its modems, and what the law says of them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from lamppost_protocol.modem import Listen
from lamppost_protocol.radio_limits import E22, RADIOS, lora_problems, wrap_of
from lamppost_protocol.regions import REGIONS, Band, Radio, UnlawfulError, check_radio, most_packet_bytes
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_LISTEN_US = 1_000_000  # nodes listen before they send; this table is about the rest
_Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$", description="name in logs, metrics and airtime accounts")]
_Hz = Annotated[int, Field(ge=150_000_000, le=960_000_000)]
_SpreadingFactor = Annotated[int, Field(ge=5, le=12)]
_BandwidthHz = Literal[125_000, 250_000, 500_000]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ModemConfig(_Section):
    name: _Name
    type: Annotated[
        Literal["bridge", "forwarder"], Field(description="bridge: a board with bridge = 1 on a line; forwarder: Semtech's UDP")
    ]
    path: Annotated[Path | None, Field(description="bridge: the port, best a /dev/serial/by-id/ name")] = None
    baud: Annotated[int, Field(ge=300, le=4_000_000, description="bridge: bits per second")] = 115_200
    channel_hz: Annotated[_Hz | None, Field(description="bridge: the one uplink channel it hears")] = None
    spreading_factor: Annotated[_SpreadingFactor | None, Field(description="bridge: the one spreading factor it hears")] = None
    radio: Annotated[Literal["sx1262", "sx1276"] | None, Field(description="bridge: its chip; unset: sx1262, or [air] radio's")] = None
    host: Annotated[str, Field(min_length=1, description="forwarder: address its port is bound to")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535, description="forwarder: UDP port; one concentrator has one port")] = 1700
    addresses: Annotated[
        list[str], Field(min_length=1, description="forwarder: from where it is heard; UDP proves nothing, so keep it local or in a VPN")
    ] = ["127.0.0.1"]
    eui: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$", description="forwarder: its gateway_ID; unset: whoever polls first")] = None

    @field_validator("addresses")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        return [str(ipaddress.ip_address(each)) for each in value]

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type == "bridge" and (self.path is None or self.channel_hz is None or self.spreading_factor is None):
            raise ValueError("a bridge needs path, channel_hz and spreading_factor")
        if self.type == "forwarder" and (self.path or self.channel_hz or self.spreading_factor or self.radio):
            raise ValueError("path, channel_hz, spreading_factor and radio are a bridge's")
        return self


class AirConfig(_Section):
    """The settings of a network's nodes and gateways, the same for all of them."""

    name: _Name = "air"
    radio: Annotated[Literal["chip", "e22"], Field(description="chip: LoRa as it is; e22: nodes and bridges have E22 modules")] = "chip"
    region: Annotated[Literal[tuple(sorted(REGIONS))], Field(description="whose law holds: " + ", ".join(sorted(REGIONS)))]  # type: ignore[valid-type]
    uplink_channels_hz: Annotated[list[_Hz], Field(min_length=1, description="centres of the channels on which nodes send")]
    uplink_spreading_factors: Annotated[list[_SpreadingFactor], Field(min_length=1, description="of the nodes' ladders")]
    uplink_bandwidth_hz: Annotated[_BandwidthHz, Field(description="125000, 250000 or 500000")] = 125_000
    downlink_hz: Annotated[_Hz, Field(description="the channel on which nodes are answered")]
    downlink_spreading_factor: Annotated[_SpreadingFactor, Field(description="for answers and orders")]
    downlink_bandwidth_hz: Annotated[_BandwidthHz, Field(description="125000, 250000 or 500000")] = 125_000
    power_dbm: Annotated[int, Field(ge=-9, le=30, description="of the modems, at the antenna's foot")] = 14
    antenna_dbi: Annotated[int, Field(ge=-20, le=30, description="the antennas' gain less the cables' loss")] = 0
    listen_ms: Annotated[int, Field(ge=0, le=10, description="bridges listen so long before they send; Japan wants 5")] = 0
    busy_dbm: Annotated[int, Field(ge=-130, le=0, description="and do not send above this")] = -80
    modem: Annotated[list[ModemConfig], Field(min_length=1, description="radios of this gateway")]

    @property
    def band(self) -> Band:
        """The rule under which answers are sent. Raises UnlawfulError."""
        return check_radio(self._downlink())[0]

    @property
    def wrap(self) -> tuple[int, int, bool | None, int]:
        """What the network's radios put around a packet."""
        return wrap_of(self.radio)

    @property
    def most_packet_bytes(self) -> int:
        """The longest packet that may be sent to a node."""
        most: int = most_packet_bytes(self.band, self._downlink())
        return most

    def listen_of(self, modem: ModemConfig) -> Listen:
        """What a bridge is told to listen to."""
        return Listen(modem.channel_hz, modem.spreading_factor, self.uplink_bandwidth_hz)

    def _downlink(self) -> Radio:
        return Radio(
            self.region, (self.downlink_hz,), self.downlink_bandwidth_hz, self.downlink_spreading_factor, 1, self.wrap, self.power_dbm,
            self.antenna_dbi, self.listen_ms * 1000,
        )  # fmt: skip

    def problems(self) -> list[tuple[tuple[str | int, ...], str]]:
        """(key, what is wrong): the law's paragraph where it is the law, and what no modem would hear."""
        found: list[tuple[tuple[str | int, ...], str]] = []
        try:
            check_radio(self._downlink())
        except UnlawfulError as error:
            key = next((name for word, name in _MARKS if word in error.detail), "downlink_hz")
            what = error.detail
            if key == "listen_ms":
                what += "; set listen_ms, which bridges alone can do"
            found.append(((key,), what))
        for spreading_factor in self.uplink_spreading_factors:
            radio = Radio(
                self.region, tuple(self.uplink_channels_hz), self.uplink_bandwidth_hz, spreading_factor, 1, self.wrap, -9, 0, _LISTEN_US
            )  # fmt: skip
            try:
                check_radio(radio)
            except UnlawfulError as error:
                found.append((("uplink_spreading_factors" if "SF" in error.detail else "uplink_channels_hz",), error.detail))
                break
        found += self._unheard() + self._clashes()
        return found + (self._not_of_a_module() if self.radio == E22 else self._not_of_a_chip())

    def _not_of_a_chip(self) -> list[tuple[tuple[str | int, ...], str]]:
        """What a bridge would refuse, answer by answer, or never hear."""
        found: list[tuple[tuple[str | int, ...], str]] = []
        for index, modem in enumerate(self.modem):
            asked = {"power_dbm": self.power_dbm, "downlink_spreading_factor": self.downlink_spreading_factor}
            for key, what, next_step in lora_problems(modem.radio or RADIOS[0], asked):
                found.append(((key,), f"{what}: the bridge {modem.name}; {next_step}"))
            for _, what, next_step in lora_problems(modem.radio or RADIOS[0], {"spreading_factor": modem.spreading_factor or 12}):
                found.append((("modem", index, "spreading_factor"), f"{what}; {next_step}"))
        return found

    def _not_of_a_module(self) -> list[tuple[tuple[str | int, ...], str]]:
        """What modules that hear each other alone do not have."""
        factors = self.uplink_spreading_factors
        asked = {
            "channels_hz": self.uplink_channels_hz, "spreading_factor": max(factors), "fastest_spreading_factor": min(factors),
            "bandwidth_hz": self.uplink_bandwidth_hz, "downlink_hz": self.downlink_hz, "power_dbm": self.power_dbm,
            "downlink_spreading_factor": self.downlink_spreading_factor, "downlink_bandwidth_hz": self.downlink_bandwidth_hz,
        }  # fmt: skip
        found: list[tuple[tuple[str | int, ...], str]] = []
        for key, what, next_step in lora_problems(E22, asked):
            found.append(((_E22_KEYS.get(key, key),), f"{what}; {next_step.replace(key, _E22_KEYS.get(key, key))}"))
        for index, modem in enumerate(self.modem):
            if modem.type == "forwarder":
                found.append((("modem", index, "type"), "a concentrator hears no e22: use a bridge that has one"))
            if modem.radio is not None:
                found.append((("modem", index, "radio"), 'every modem has an e22, says [air] radio; leave this out, or set that to "chip"'))
        return found

    def _unheard(self) -> list[tuple[tuple[str | int, ...], str]]:
        if any(modem.type == "forwarder" for modem in self.modem):
            return []  # what a concentrator hears is in its own configuration
        heard = {(modem.channel_hz, modem.spreading_factor) for modem in self.modem}
        missing = [
            f"{channel_hz} Hz at SF{spreading_factor}"
            for channel_hz in self.uplink_channels_hz
            for spreading_factor in self.uplink_spreading_factors
            if (channel_hz, spreading_factor) not in heard
        ]
        if missing:
            what = f"no modem hears {', '.join(missing[:4])}{' and more' if len(missing) > 4 else ''}"
            return [(("modem",), f"{what}: a bridge hears one channel and one spreading factor; add one, or take these from the network")]
        return []

    def _clashes(self) -> list[tuple[tuple[str | int, ...], str]]:
        found: list[tuple[tuple[str | int, ...], str]] = []
        seen: set[str] = set()
        for index, modem in enumerate(self.modem):
            marks = {"name": modem.name, **({"path": str(modem.path)} if modem.type == "bridge" else {"port": str(modem.port)})}
            for key, value in marks.items():
                if f"{key} {value}" in seen:
                    found.append((("modem", index, key), f"two modems share the {key} {value}"))
                seen.add(f"{key} {value}")
            if modem.type == "forwarder" and self.listen_ms:
                found.append(
                    (("modem", index, "type"), "a packet forwarder cannot be told to listen before it sends: use bridges, or listen_ms = 0")
                )
            if modem.type == "forwarder" and not _is_loopback(modem.host) and "addresses" not in modem.model_fields_set:
                found.append((("modem", index, "host"), "bound to more than this machine: name the concentrator's address in addresses"))
        return found


#: This table's names for a node's keys.
_E22_KEYS = {
    "channels_hz": "uplink_channels_hz", "bandwidth_hz": "uplink_bandwidth_hz", "spreading_factor": "uplink_spreading_factors",
    "fastest_spreading_factor": "uplink_spreading_factors",
}  # fmt: skip
#: What an UnlawfulError is about, by a word of it.
_MARKS = (
    ("carrier sense", "listen_ms"), (" dBm with", "power_dbm"), ("Hz with", "downlink_hz"),
    ("more than 16 pieces", "downlink_spreading_factor"), ("Hz of bandwidth", "downlink_bandwidth_hz"),
    ("channels at", "downlink_bandwidth_hz"),
)  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
