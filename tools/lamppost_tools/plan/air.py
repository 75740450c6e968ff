"""What a node's frames cost on the air: time, its share of what the law gives, and of a channel that all nodes share."""

import math
from typing import NamedTuple

from lamppost_protocol import elision
from lamppost_protocol.airtime import packet_us
from lamppost_protocol.ledger import HOUR_MS
from lamppost_protocol.regions import Band, Radio, check_radio, most_packet_bytes, reserve_us

from lamppost_tools.plan.figures import DAY_S
from lamppost_tools.plan.frames import Stream, acknowledgement, beacon, greeting, packets

_DAY_HOURS = DAY_S / 3600


class Air(NamedTuple):
    """A day of one node on LoRa, in microseconds: its frames and hellos, the gateway's answers to both; packets a frame at most."""

    frames_us: float
    hellos_us: float
    acknowledgements_us: float
    beacons_us: float
    packets_a_frame: int
    allowance_us: float | None

    @property
    def uplink_us(self) -> float:
        """All that the node sends."""
        return self.frames_us + self.hellos_us

    @property
    def answers_us(self) -> float:
        """All that the gateway sends it."""
        return self.acknowledgements_us + self.beacons_us


def air(streams: list[Stream], hellos_a_day: float, radio: Radio, downlink: Radio) -> Air:
    """What these streams and hellos cost with this (lawful) radio. `allowance_us`: what the law gives in a day, None: no bound.

    Raises UnlawfulError where the gateway may not answer as `downlink` says.
    """
    bands = check_radio(radio)
    most_bytes = min(most_packet_bytes(band, radio) for band in bands)
    frames_us = 0.0
    most_packets = 1
    for stream in streams:
        sizes = packets(stream.frame, elision.TRAFFIC_UPLINK, most_bytes)
        most_packets = max(most_packets, len(sizes))
        frames_us += stream.records_a_day * sum(_us(size, radio) for size in sizes)
    answer_bytes = min(most_packet_bytes(band, downlink) for band in check_radio(downlink))
    hello_us = sum(_us(size, radio) for size in packets(greeting(), elision.TRAFFIC_HELLO, most_bytes))
    answer_us = sum(_us(size, downlink) for size in packets(acknowledgement(0), elision.TRAFFIC_ACKNOWLEDGEMENT, answer_bytes))
    beacon_us = sum(_us(size, downlink) for size in packets(beacon(), elision.TRAFFIC_DOWNLINK, answer_bytes))
    answers = sum(stream.records_a_day for stream in streams)
    return Air(
        frames_us, hellos_a_day * hello_us, answers * answer_us, hellos_a_day * beacon_us, most_packets, allowance_us(bands)
    )  # fmt: skip


def _us(packet_bytes: int, radio: Radio) -> int:
    us: int = packet_us(radio.wrap, packet_bytes, radio.spreading_factor, radio.bandwidth_hz, radio.coding_rate)
    return us


def allowance_us(bands: list[Band]) -> float | None:
    """Airtime that a radio may use in a day without touching the reserve: each sub-band once, each hopping channel for itself."""
    total_us = 0.0
    counted: list[str] = []
    for band in bands:
        if band.airtime_us is None:
            return None
        if band.is_per_channel or band.name not in counted:
            counted.append(band.name)
            total_us += (band.airtime_us - reserve_us(band)) * HOUR_MS / band.window_ms * _DAY_HOURS
    return total_us


def lost_percent(air_us_a_day: float, channels: int) -> float:
    """Packets that meet another on their channel, in percent, with `air_us_a_day` of airtime spread evenly over `channels`.

    Pure ALOHA, nobody listening first: 1 - exp(-2 G). Ref: N. Abramson, The ALOHA System, 1970. Pessimistic: a stronger packet often
    survives, and spreading factors disturb each other little.
    """
    return 100 * (1 - math.exp(-2 * air_us_a_day / (DAY_S * 1e6 * channels)))


def frame_interval_s(frame_us: float, nodes: int, channels: int, lost_percent: float) -> float:
    """Seconds between a node's frames of `frame_us`, with which that share of all packets meets another: `lost_percent` turned round."""
    return nodes * frame_us / 1e6 * -2 / (math.log(1 - lost_percent / 100) * channels)
