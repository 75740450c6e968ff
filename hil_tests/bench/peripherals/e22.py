"""EBYTE E22-900T22 radio module with its maker's firmware, at its UART and its pins M0, M1 and AUX.

Ref: EBYTE E22-xxxT22S product user manual (2024): 5.5 (AUX), 6 (modes), 7 (registers and commands). On the air as gerontec/TTN,
devices/pico_sx1262/e22spec.md (2026) measured it: sync word 0x55, low data rate optimisation on, a header of 8 octets (magic, channel, two
check octets, network id, destination, length), the payload exclusive-or 0x12. A module sends to its own address and takes what has its
address and network id. Times that no manual gives are in figures of our choice, and so is the preamble's length.

Octets arrive at the UART's pace. In mode 2 they are commands, always at 9600 8N1; C0 is kept over a loss of supply, C2 is not. In mode 0
they fill a buffer of 1,000 and leave by sub-packets, a last one behind three octets' silence; AUX rises as soon as the last one is
handed to the radio, while it may be on the air for long. A mode is not changed before radio and output are done, and what is written
meanwhile is still meant for the air. Written at another speed than the module has, octets are others. What a driver does against all that
is counted in `ignored`, and what it makes the module send that no driver wants to send is in `sent` like everything else.

Not modelled: air rates other than 2.4 k and 19.2 k, mode 1 (WOR), fixed transmission, relaying, LBT, wireless configuration, keys, the
deafness that was seen behind a module's own packet.
Faults: unplugged (its supply), mute (the wire from TXD), aux_stuck (value: level), garbage (value: one octet in so many out of it is
another), cut_short (a packet comes out without its last octets), register_stuck (value: address whose writes do nothing), crc_error (every
packet is damaged on the air), antenna (dB of loss, both ways), jammed (dBm on its channel at its antenna), brown_out (once, when set).
"""

import math
from collections import deque
from functools import reduce

from .bus import UartModel
from .ether import Ether, Station, Transmission
from .lora_modem import BANDWIDTHS_HZ, Jammer, Modem, Receiver, noisy

NORMAL, WOR, CONFIGURATION, SLEEP = range(4)
_ADDRESS, _NETWORK, _REG0, _REG1, _CHANNEL, _REG3, _KEY = 0, 2, 3, 4, 5, 6, 7
FACTORY = bytes((0, 0, 0, 0x62, 0x00, 0x12, 0x03, 0, 0))
PRODUCT = bytes((0x00, 0x22, 0x10, 0x16, 0x0B, 0x00, 0x00))  # at 80H; what it says, nobody says
_PRODUCT_AT = 0x80
_BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
_CONFIGURATION_BAUD = 9600
_SUB_PACKETS = (240, 128, 64, 32)
_POWERS_DBM = (22.0, 17.0, 13.0, 10.0)
#: Spreading factor by air rate, of those that were measured; all at 500 kHz.
_FACTORS = {2: 11, 5: 7}
_BANDWIDTH = next(bandwidth for bandwidth in BANDWIDTHS_HZ.values() if bandwidth == 500_000)
SYNC_WORD = b"\x54\x54"
PREAMBLE_SYMBOLS = 20
_MAGIC, _KEY_OCTET = 0x2C, 0x12
HEADER_BYTES = 8
_BUFFER_BYTES = 1000
_SILENT_OCTETS = 3
_KEEP, _READ, _CHANGE = 0xC0, 0xC1, 0xC2
_ASK_STRENGTH = b"\xc0\xc1\xc2\xc3"
_BOOT_S, _WAKE_S, _SWITCH_S, _SETTLE_S = 0.150, 0.020, 0.001, 0.002
_ANSWER_S, _KEEP_S, _STRENGTH_S, _BEGIN_S, _OUTPUT_S = 0.004, 0.030, 0.001, 0.0015, 0.003
_COMMAND_S = 0.05  # half a command is forgotten
_KEPT = 64


def wrapped(payload: bytes, channel: int, network: int, address: int) -> bytes:
    """What a module puts on the air for a sub-packet."""
    check = reduce(lambda one, other: one ^ other, payload, 0) ^ 0xA0
    head = bytes((_MAGIC, channel, check, check ^ 0xA1, network)) + address.to_bytes(2, "big") + bytes((len(payload),))
    return head + bytes(octet ^ _KEY_OCTET for octet in payload)


def unwrapped(packet: bytes, network: int, address: int) -> bytes | None:
    """What a module with this network id and address takes of a packet on the air; None: nothing."""
    payload = bytes(octet ^ _KEY_OCTET for octet in packet[HEADER_BYTES:])
    is_mine = packet == wrapped(payload, packet[1] if len(packet) > 1 else 0, network, address)
    return payload if is_mine and len(packet) > HEADER_BYTES else None


class E22(UartModel):
    """One module at `station` of `ether`; its crystal is `ppm` off."""

    def __init__(self, seed: int, ether: Ether, station: Station, ppm: float = 0.0) -> None:
        super().__init__()
        self.ignored = 0  # what it could not do as it was, each a mistake of the driver's
        self.sent: list[Transmission] = []  # the last ones
        self.kept = bytearray(FACTORY)
        self._seed = seed
        self.ether = ether
        self.station = ether.add(station)
        self.ppm = ppm
        self._octets = 0
        self._jammer = Jammer(ether, station)
        self._transmission: Transmission | None = None
        self._levels = [1, 1]  # M0 and M1, pulled up
        station.advance = self.advance
        self.power_on(0.0)

    # -- pins and supply --------------------------------------------------------------------------------------------

    def power_on(self, now_s: float) -> None:
        """The supply comes on, or comes back after it sagged: what was kept holds."""
        transmission, self._transmission = self._transmission, None
        if transmission is not None:
            self.ether.cut(transmission, now_s)
        self.registers = bytearray(self.kept)
        self.mode = SLEEP
        self._low_until_s = now_s + _BOOT_S
        self._ready_s = now_s + _BOOT_S
        self._incoming: deque[tuple[float, int]] = deque()
        self._loading = bytearray()
        self._loaded_s = self._free_s = now_s
        self._command = bytearray()
        self._since_s = math.inf
        self._locked: Transmission | None = None
        self._flying.clear()
        self._switch_s: float | None = now_s + _BOOT_S

    def m0(self, level: int, now_s: float) -> None:
        self._select(0, level, now_s)

    def m1(self, level: int, now_s: float) -> None:
        self._select(1, level, now_s)

    def _select(self, pin: int, level: int, now_s: float) -> None:
        self.advance(now_s)
        self._levels[pin] = level
        self._switch_s = None if self._wanted() == self.mode else now_s + _SWITCH_S

    def _wanted(self) -> int:
        return self._levels[1] << 1 | self._levels[0]

    def aux(self, now_s: float) -> int:
        """1 when it has time."""
        self.advance(now_s)
        if "aux_stuck" in self.faults:
            return int(self.faults["aux_stuck"])
        if "unplugged" in self.faults:
            return 1
        sending = self._transmission
        is_busy = now_s < self._low_until_s or bool(self._loading) or (sending is not None and now_s < sending.start_s)
        return int(not (is_busy or (sending is not None and self._switch_s is not None)))

    # -- UART -------------------------------------------------------------------------------------------------------

    @property
    def baud(self) -> int:  # type: ignore[override]
        return _CONFIGURATION_BAUD if self.mode in (CONFIGURATION, SLEEP) else _BAUDS[self.registers[_REG0] >> 5]

    def write(self, data: bytes, now_s: float) -> None:
        """Octets from the board, each a tenth of the port's speed behind the last."""
        self.advance(now_s)
        if not self._port_baud or "unplugged" in self.faults:
            return
        if self.mode == NORMAL and self._switch_s is None and now_s >= self._ready_s:
            self._load(data, now_s)
            return
        at_s = max([now_s, *(at_s for at_s, _ in list(self._incoming)[-1:])])
        for octet in data:
            at_s += 10 / self._port_baud
            self._incoming.append((at_s, octet))

    def _load(self, data: bytes, now_s: float) -> None:
        """Octets for the air, before they are all there: so a packet is on the air in time, though nobody asks the model meanwhile."""
        sending = self._transmission
        if sending is not None and now_s < sending.start_s:  # more of the same sub-packet
            self.ether.cut(sending, now_s)
            self._transmission = None
            self._loading[:0] = unwrapped(sending.packet, self.registers[_NETWORK], self._address()) or b""
        if self._port_baud != self.baud:
            data = bytes(octet ^ 0xA5 for octet in data)
        self._loading += data[: _BUFFER_BYTES - len(self._loading)]
        self._loaded_s = max(now_s, self._loaded_s) + len(data) * 10 / self._port_baud
        if self._transmission is None:
            self._begin(self._begins_s(), now_s)

    def _begins_s(self) -> float:
        """When what is in the buffer leaves it."""
        is_full = len(self._loading) >= _SUB_PACKETS[self.registers[_REG1] >> 6]
        return max(self._free_s, self._loaded_s + (0.0 if is_full else _SILENT_OCTETS * 10 / self.baud)) + _BEGIN_S

    def send(self, start_s: float, data: bytes) -> None:
        if "mute" in self.faults:
            return
        super().send(start_s, bytes(self._noisy(octet) for octet in data))

    def _noisy(self, octet: int) -> int:
        self._octets += 1
        return noisy(octet, self._seed, self._octets, self.faults.get("garbage"))

    def _hear(self, octet: int, at_s: float) -> None:
        if at_s < self._ready_s or self.mode in (SLEEP, WOR):
            self.ignored += 1
            return
        if self._port_baud != self.baud:
            octet ^= 0xA5
        if self.mode == CONFIGURATION:
            if at_s - self._loaded_s > _COMMAND_S:
                self._command.clear()
            self._command.append(octet)
            self._take_command(at_s)
        elif len(self._loading) < _BUFFER_BYTES:
            self.ignored += self._switch_s is not None  # the pins say another mode: this was not meant for the air
            self._loading.append(octet)
        self._loaded_s = at_s

    def _take_command(self, at_s: float) -> None:
        command = bytes(self._command)
        if command[0] not in (_KEEP, _READ, _CHANGE):
            self._command.clear()
            self.send(at_s + _ANSWER_S, b"\xff\xff\xff")
            return
        if len(command) < 3 or (command[0] != _READ and len(command) < 3 + command[2]):
            return
        self._command.clear()
        start, size = command[1], command[2]
        if command[0] == _READ:
            values = self._values(start, size)
        else:
            values = command[3 : 3 + size] if size and start + size <= len(FACTORY) else None
        if values is None:
            self.send(at_s + _ANSWER_S, b"\xff\xff\xff")
            return
        if command[0] != _READ:
            stuck = self.faults.get("register_stuck")
            for address, value in enumerate(values, start):
                if address != stuck:
                    self.registers[address] = value
                    if command[0] == _KEEP:
                        self.kept[address] = value
        self.send(at_s + (_KEEP_S if command[0] == _KEEP else _ANSWER_S), bytes((_READ, start, size)) + values)

    def _values(self, start: int, size: int) -> bytes | None:
        if start == _PRODUCT_AT and 1 <= size <= len(PRODUCT):
            return PRODUCT[:size]
        if not 1 <= size <= len(FACTORY) - start:
            return None
        shown = bytes(self.registers[:_KEY]) + bytes(2)  # the key is write only
        return shown[start : start + size]

    # -- radio ------------------------------------------------------------------------------------------------------

    def _modem(self, packet_bytes: int = 0) -> Modem | None:
        """Settings on the air; None for an air rate that is not modelled, and a channel there is not."""
        factor = _FACTORS.get(self.registers[_REG0] & 7)
        if factor is None or self.registers[_CHANNEL] > 80:
            return None
        frequency_hz = 850.125e6 + 1e6 * self.registers[_CHANNEL]
        return Modem(
            frequency_hz, factor, _BANDWIDTH, has_low_data_rate=True, preamble_symbols=PREAMBLE_SYMBOLS, packet_bytes=packet_bytes,
            sync_word=SYNC_WORD,
        )  # fmt: skip

    def _receiver(self) -> Receiver | None:
        modem = self._modem()
        return None if modem is None else Receiver(self.ether, self.station, modem, self.ppm, self.faults.get("antenna", 0.0))

    def _address(self) -> int:
        return int.from_bytes(self.registers[_ADDRESS : _ADDRESS + 2], "big")

    def _begin(self, at_s: float, now_s: float) -> None:
        """A sub-packet leaves the buffer for the air, or is an enquiry about the channel's strength; at once, or soon."""
        size = _SUB_PACKETS[self.registers[_REG1] >> 6]
        payload = bytes(self._loading[:size])
        del self._loading[:size]
        if self.registers[_REG1] & 0x20 and payload[:4] == _ASK_STRENGTH and len(payload) == 6 and payload[4:] in (b"\0\1", b"\0\2"):
            receiver = self._receiver()
            level_dbm = -128.0 if receiver is None else receiver.level_dbm(now_s)
            octet = min(255, max(0, 256 + round(level_dbm)))
            self._low_until_s = max(self._low_until_s, at_s)
            self.send(at_s + _STRENGTH_S, bytes((_READ, 0, payload[5])) + bytes((octet,)) * payload[5])
            return
        packet = wrapped(payload, self.registers[_CHANNEL], self.registers[_NETWORK], self._address())
        modem = self._modem(len(packet))
        if modem is None:
            self.ignored += 1
            return
        power_dbm = _POWERS_DBM[self.registers[_REG1] & 3] - self.faults.get("antenna", 0.0)
        self._transmission = modem.transmission(self.station, packet, power_dbm, self.ppm, at_s)
        self.sent = [*self.sent[-_KEPT:], self._transmission]
        self.ether.begin(self._transmission, now_s)

    def _finish(self, receiver: Receiver, sent: Transmission) -> None:
        """A packet is over: what is for this module comes out, with its strength behind it."""
        is_whole = receiver.hears(sent, sent.sync_s, sent.due_s) and sent.has_low_data_rate and "crc_error" not in self.faults
        self._locked, self._since_s = None, sent.due_s
        payload = unwrapped(sent.packet, self.registers[_NETWORK], self._address()) if is_whole else None
        if payload is None:
            return
        if "cut_short" in self.faults:
            payload = payload[: len(payload) // 2]
        elif self.registers[_REG3] & 0x80:
            rssi_dbm, _, _ = receiver.figures(sent)
            payload += bytes((min(255, max(0, 256 + round(rssi_dbm))),))
        start_s = max(sent.due_s, self._low_until_s) + _OUTPUT_S
        self.send(start_s, payload)
        self._low_until_s = start_s + 10 * len(payload) / self.baud

    # -- what happens by itself -------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Everything up to now. Time never runs backwards."""
        if "brown_out" in self.faults:
            del self.faults["brown_out"]
            self.power_on(now_s)
        if "unplugged" in self.faults:
            self.power_on(now_s)
            return
        self._jammer.set(self.faults.get("jammed"), 850.125e6 + 1e6 * self.registers[_CHANNEL], now_s)
        while self._step(now_s):
            pass

    def _step(self, now_s: float) -> bool:
        """One event that is due, the earliest; False when there is none."""
        due: list[tuple[float, int]] = []
        if self._incoming:
            due.append((self._incoming[0][0], 0))
        if self._transmission is not None:
            due.append((self._transmission.due_s, 1))
        elif self._loading and self.mode == NORMAL:
            due.append((self._begins_s(), 2))
        if self._switch_s is not None and self._transmission is None and not self._loading:
            due.append((max(self._switch_s, self._low_until_s), 3))
        if self._locked is not None:
            due.append((self._locked.due_s, 4))
        at_s, event = min(due, default=(math.inf, 0))
        if self._locked is None and self._lock(min(at_s, now_s)):
            return True
        if at_s > now_s:
            return False
        if event == 0:
            self._hear(self._incoming.popleft()[1], at_s)
        elif event == 1:
            self._transmission = None
            self._free_s = self._since_s = at_s
        elif event == 2:
            self._begin(at_s, at_s)
        elif event == 3:
            self._change_mode(at_s)
        elif self._locked is not None:
            receiver = self._receiver()
            if receiver is None or (self._transmission is not None and self._transmission.start_s < self._locked.due_s):
                self._locked = None
            else:
                self._finish(receiver, self._locked)
        return True

    def _lock(self, by_s: float) -> bool:
        receiver = self._receiver() if self.mode == NORMAL and self._transmission is None else None
        if receiver is not None:
            self._locked = receiver.lock(self._since_s, by_s)
        return self._locked is not None

    def _change_mode(self, at_s: float) -> None:
        self._switch_s = None
        was, self.mode = self.mode, self._wanted()
        self._locked = None
        self._command.clear()
        self._since_s = at_s if self.mode == NORMAL else math.inf
        self._ready_s = at_s + _SETTLE_S
        if was == SLEEP and self.mode != SLEEP:
            self._low_until_s = at_s + _WAKE_S
            self._ready_s = self._low_until_s + _SETTLE_S
