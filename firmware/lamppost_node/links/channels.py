"""The channels a node may send on: its region's rules, and what they still allow. Between the link and the radio's driver.

Each sub-band has a ledger whose account is kept on flash, so that a node that restarts again and again stays within the law. A hopping
channel carries one packet and then rests for a whole window: less than the law gives, and no ledger for each of fifty. WIRE.md section 13.
Known gap: hopping channels are drawn by chance among those that rested, which uses them equally only in the long run.
"""

from lamppost_protocol import elision
from lamppost_protocol.airtime import packet_us
from lamppost_protocol.cose import SIGNATURE_BYTES
from lamppost_protocol.errors import LocalError
from lamppost_protocol.ledger import Ledger
from lamppost_protocol.limits import MAX_PAYLOAD_BYTES, MAX_PIECES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_protocol.airtime import Wrap
    from lamppost_protocol.regions import Band, Radio

    from lamppost_node.config import Values
    from lamppost_node.settings import Settings

#: Account of a sub-band on flash: this and the band's name. 0 is written at the bench, see ledger.py.
ACCOUNT = "airtime."
#: A frame's packets begin within this time of their charge: what a receiver waits for pieces.
FRAME_MS = 60000
#: Payload that a frame has room for at least: its head and the longest record there is.
LEAST_PAYLOAD_BYTES = 96
#: What an uplink's body holds besides its payload, at most: waited, tx, signature.
_BODY_BYTES = 2 + 4 + SIGNATURE_BYTES


class SubBand:
    """Channels under one rule, with its ledger; None: the law sets no bound."""

    def __init__(self, band: "Band", ledger: Ledger | None):
        self.channels_hz: list[int] = []
        self.must_be_free = band.listen_us > 0
        self.ledger = ledger

    def wait_ms(self, airtime_us: int, now_ms: int, is_urgent: bool) -> int:
        """0 when so much may be sent now, else after how many milliseconds."""
        return 0 if self.ledger is None else self.ledger.wait_ms(airtime_us, now_ms, is_urgent)


class Channels:
    """The lawful ways to send. Raises UnlawfulError where the configuration breaks the law, with the paragraph and what to change."""

    def __init__(self, values: "Values", settings: "Settings", now_ms: int, wrap: "Wrap"):
        """`values`: the checked map `lora` of the configuration; now_ms: monotonic; `wrap`: what the radio puts around a packet."""
        from lamppost_protocol import regions  # what a region allows is asked once, and app.py forgets it

        self._values = values
        self._wrap = wrap
        slowest, fastest = values["spreading_factor"], values["fastest_spreading_factor"]
        bands = regions.check_radio(self._radio(regions.Radio, slowest))
        regions.check_radio(self._radio(regions.Radio, fastest))
        self._rules: list[Band] = []
        self._sub_bands: list[SubBand] = []
        #: Of hopping channels, from when each is free: nothing is known of before the start.
        self._free_ms: list[int] = []
        for index in range(len(bands)):
            band, channel_hz = bands[index], values["channels_hz"][index]
            if band not in self._rules:
                self._rules.append(band)
                if not band.is_per_channel:
                    self._sub_bands.append(SubBand(band, self._ledger(band, regions.reserve_us(band), settings)))
            if band.is_per_channel:
                self._free_ms.append(now_ms + band.window_ms)
            else:
                self._sub_bands[self._rules.index(band)].channels_hz.append(channel_hz)
        self._packet_bytes: dict[int, int] = {}
        for factor in range(fastest, slowest + 1):
            radio = self._radio(regions.Radio, factor)
            self._packet_bytes[factor] = min([regions.most_packet_bytes(band, radio) for band in self._rules])
        if self.payload_bytes(slowest) == 0:
            raise regions.UnlawfulError(
                "SF%d carries no whole frame" % slowest, bands[0].law, "set a lower spreading_factor, or another channel"
            )

    def _radio(self, make: "type[Radio]", spreading_factor: int) -> "Radio":
        v = self._values
        return make(
            v["region"], v["channels_hz"], v["bandwidth_hz"], spreading_factor, v["coding_rate"], self._wrap, v["power_dbm"],
            v["antenna_dbi"], v["listen_ms"] * 1000,
        )  # fmt: skip

    def _ledger(self, band: "Band", reserve_us: int, settings: "Settings") -> Ledger | None:
        if band.airtime_us is None:
            return None
        name = ACCOUNT + band.name
        kept_us = settings.load(name)
        return Ledger(
            band.airtime_us, band.window_ms, reserve_us, kept_us if isinstance(kept_us, int) and kept_us >= 0 else None,
            lambda us: settings.save(name, us), slack_ms=FRAME_MS,
        )  # fmt: skip

    def packet_bytes(self, spreading_factor: int) -> int:
        """The longest packet, in octets, that every channel takes."""
        return self._packet_bytes[spreading_factor]

    def payload_bytes(self, spreading_factor: int) -> int:
        """The longest payload of a frame worth sending: what one packet carries, else as few pieces as hold a record; 0: none."""
        most_bytes = self.packet_bytes(spreading_factor)
        for pieces in range(1, MAX_PIECES + 1):
            room = most_bytes - elision.HEAD_BYTES if pieces == 1 else pieces * (most_bytes - elision.HEAD_BYTES - elision.PIECE_BYTES)
            payload_bytes = min(room - _BODY_BYTES, MAX_PAYLOAD_BYTES)
            if payload_bytes >= LEAST_PAYLOAD_BYTES:
                airtime_us = sum(self.airtimes_us(payload_bytes, spreading_factor))
                return payload_bytes if airtime_us <= self._most_us() else 0
        return 0

    def _most_us(self) -> int:
        """What every sub-band gives for one frame that is not urgent."""
        ledgers = [each.ledger for each in self._sub_bands if each.ledger is not None]
        return min([ledger.allowance_us - ledger.reserve_us for ledger in ledgers]) if ledgers else 1 << 30

    def airtimes_us(self, payload_bytes: int, spreading_factor: int) -> list[int]:
        """How long each packet of an uplink with this payload lasts, at most."""
        most_bytes = self.packet_bytes(spreading_factor)
        body_bytes = payload_bytes + _BODY_BYTES
        if elision.HEAD_BYTES + body_bytes <= most_bytes:
            return [self.airtime_us(elision.HEAD_BYTES + body_bytes, spreading_factor)]
        room = most_bytes - elision.HEAD_BYTES - elision.PIECE_BYTES
        count = (body_bytes + room - 1) // room
        size = (body_bytes + count - 1) // count + elision.HEAD_BYTES + elision.PIECE_BYTES
        return [self.airtime_us(size, spreading_factor)] * count

    def airtime_us(self, packet_bytes: int, spreading_factor: int) -> int:
        """How long one packet lasts."""
        us: int = packet_us(self._wrap, packet_bytes, spreading_factor, self._values["bandwidth_hz"], self._values["coding_rate"])
        return us

    def delay_ms(self, airtimes_us: list[int], now_ms: int, is_urgent: bool) -> int:
        """0 when these packets may be sent now, else after how many milliseconds, if nothing else is sent.

        Raises LocalError("too_long") for what the law never covers.
        """
        if self._free_ms:
            return max(0, sorted(self._free_ms)[len(airtimes_us) - 1] - now_ms)
        return min([each.wait_ms(sum(airtimes_us), now_ms, is_urgent) for each in self._sub_bands])

    def charge(
        self, airtimes_us: list[int], now_ms: int, is_urgent: bool, draw: "Callable[[int], int]", is_last: bool = False
    ) -> "list[tuple[list[int], bool]]":
        """Take the airtime of all packets at once. For each: the channels it may use, and whether the law wants them free before it.

        is_last: only where as much again as the reserve, or half of the hopping channels, is left for what comes before it. `draw(k)`: a
        number from 0 to k - 1. May write flash. Raises LocalError: `overdrawn`, `too_long`; OSError when the account cannot be kept: then
        nothing may be sent.
        """
        if self._free_ms:
            return [self._hop(now_ms, draw, is_last) for _ in airtimes_us]
        airtime_us = sum(airtimes_us)
        # By channels, not by bands: each channel is as likely as every other.
        tickets: list[SubBand] = []
        for each in self._sub_bands:
            left_us = each.ledger.reserve_us if is_last and each.ledger is not None else 0
            if each.wait_ms(airtime_us + left_us, now_ms, is_urgent) == 0:
                tickets.extend([each] * len(each.channels_hz))
        if not tickets:
            raise LocalError("overdrawn", "airtime spent")
        chosen = tickets[draw(len(tickets))]
        if chosen.ledger is not None:
            chosen.ledger.spend(airtime_us, now_ms, is_urgent)
        return [(chosen.channels_hz, chosen.must_be_free)] * len(airtimes_us)

    def _hop(self, now_ms: int, draw: "Callable[[int], int]", is_last: bool) -> tuple[list[int], bool]:
        """A free channel, which then rests for a window: the dwell of a window is what one packet may last at most."""
        free = [index for index in range(len(self._free_ms)) if self._free_ms[index] <= now_ms]
        if not free or (is_last and 2 * len(free) < len(self._free_ms)):
            raise LocalError("overdrawn", "every channel rests")
        index = free[draw(len(free))]
        band = self._rules[0]
        self._free_ms[index] = now_ms + FRAME_MS + (band.dwell_us or 0) // 1000 + band.window_ms
        return [self._values["channels_hz"][index]], band.listen_us > 0

    def state(self) -> "list[Any]":
        """What `resume` takes after a deep sleep."""
        return [[each.ledger.state() for each in self._sub_bands if each.ledger is not None], self._free_ms]

    def resume(self, state: "list[Any]") -> None:
        """Go on; monotonic time must have counted no more of the sleep than has passed. Raises LocalError, ValueError: not this account."""
        ledgers = [each.ledger for each in self._sub_bands if each.ledger is not None]
        states, free_ms = state
        if len(states) != len(ledgers) or len(free_ms) != len(self._free_ms):
            raise ValueError("other channels")
        for index in range(len(ledgers)):
            ledgers[index].resume(states[index])
        self._free_ms = free_ms

    def spent_permille(self, now_ms: int) -> int:
        """How much of the fullest sub-band's allowance is spent; 0 where the law sets no bound, or bounds hopping channels."""
        spent = 0
        for each in self._sub_bands:
            if each.ledger is not None:
                each.ledger.wait_ms(0, now_ms, True)
                spent = max(spent, each.ledger.spent_us * 1000 // each.ledger.allowance_us)
        return spent
