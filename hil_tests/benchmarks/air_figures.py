"""Octets and time on air of one reading or order, beside what others put on the air for the same values. Exact: no machine decides them.

The others are encoded here by their specifications, as small as these allow:
 - LoRaWAN 1.0 (13 octets: MHDR, DevAddr, FCtrl, FCnt, FPort, MIC) with Cayenne LPP: channel, type, value; types of the extended list.
   It carries neither a time nor a record's number, and a MIC of four octets that only its network server can check.
 - LoRaWAN 1.0 with SenML-CBOR (RFC 8428): LwM2M paths as names, base time, no units, 32-bit floats where they are no integers.
Ours carries time, its uncertainty, the record's number, quality, and a signature that anyone can check years later.
"""

import struct
from collections.abc import Iterator

import cbor2
from lamppost_protocol import airtime, cose, elision, frames, hop, orders, records
from lamppost_protocol.es256_host import HostSigner
from lamppost_protocol.profiles import PROFILES
from lamppost_tools.plan import supply

from benchmarks.rows import Row, against_limit, at_most, told
from benchmarks.wire_figures import AIR_RECORD, BIN_RECORD, LAMP_RECORD

_NETWORK, _NODE, _ISSUER, _T = 1, 0x11223344, 0xA1000001, 1_795_000_000
_LORAWAN_BYTES = 13
_SPREADING_FACTOR, _BANDWIDTH_HZ, _POWER_DBM = 9, 125_000, 14
_CHARGE = "at 14 dBm, the SX1262 as the driver sets it, datasheet; both radios alike"

#: Largest application payload of LoRaWAN at SF9, 125 kHz (Regional Parameters, EU868, data rate 3).
_LORAWAN_MOST_BYTES = 115

#: Cayenne LPP data types by our column: number, octets, how many of its units make one of the column's.
_LPP = {
    "command_level": (120, 1, 1), "applied_level": (120, 1, 1), "active_power": (128, 2, 1), "voltage": (116, 2, 100),
    "current": (117, 2, 1000), "power_factor": (2, 2, 100), "energy": (131, 4, 1000), "cause": (0, 1, 1), "faults": (100, 4, 1),
    "distance": (130, 4, 1000), "fill": (120, 1, 1), "temperature": (103, 2, 10), "flags": (100, 4, 1), "pm1": (125, 2, 1),
    "pm25": (125, 2, 1), "pm10": (125, 2, 1), "pm25_corrected": (2, 2, 100), "humidity": (104, 1, 2), "method": (0, 1, 1),
    "sensor_hours": (100, 4, 1),
}  # fmt: skip


def all_rows() -> Iterator[Row]:
    """Overheads against their goal, then sizes and airtimes beside the others'."""
    signer = HostSigner(b"\1" * 32)

    def uplink(rows: list[list[int | None]]) -> bytes:
        payload = records.encode_uplink(100_000, 0, _T, 2, rows)
        return frames.seal(signer, frames.UPLINK, _NETWORK, _NODE, 1, _NODE, 100_000, payload)

    order = orders.encode_order(_T, _T + 3600, orders.LEVEL, 1, [60, 30])
    order_frame = frames.seal(signer, frames.ORDER, _NETWORK, _NODE, 1, _ISSUER, _T, order)
    ack_frame = frames.seal_acknowledgement(hop.HopKey(b"\1" * 32), _NETWORK, _NODE, 1, 100_000, 0, b"\1" * 8)
    air = {
        "bin": elision.encode(uplink([BIN_RECORD]), elision.TRAFFIC_UPLINK, _NETWORK, _NODE)[0],
        "bin, 4 readings": elision.encode(uplink(_hour_of(BIN_RECORD)), elision.TRAFFIC_UPLINK, _NETWORK, _NODE)[0],
        "air": elision.encode(uplink([AIR_RECORD]), elision.TRAFFIC_UPLINK, _NETWORK, _NODE)[0],
        "lamp": elision.encode(uplink([LAMP_RECORD]), elision.TRAFFIC_UPLINK, _NETWORK, _NODE)[0],
        "order": elision.encode(order_frame, elision.TRAFFIC_DOWNLINK, _NETWORK, _NODE)[0],
        "acknowledgement": elision.encode(ack_frame, elision.TRAFFIC_ACKNOWLEDGEMENT, _NETWORK, _NODE)[0],
    }
    waited = elision.encode(uplink([BIN_RECORD]), elision.TRAFFIC_UPLINK, _NETWORK, _NODE, 41)[0]
    for name, packet in (("uplink that waited", waited), ("order", air["order"]), ("acknowledgement", air["acknowledgement"])):
        message = cose.decode(elision.decode_body(elision.decode_head(packet, _NETWORK), packet[elision.HEAD_BYTES :]).frame)
        beyond = len(packet) - len(message.payload) - len(message.proof)
        yield at_most(
            f"LoRa, {name}: beyond payload and proof", beyond, "bytes", 14, limit=_LORAWAN_BYTES, limit_name="LoRaWAN with its MIC"
        )
    others = {
        "bin": ([_lpp(BIN_RECORD)], _senml([BIN_RECORD])),
        "bin, 4 readings": ([_lpp(BIN_RECORD)] * 4, _senml([BIN_RECORD] * 4)),
        "air": ([_lpp(AIR_RECORD)], _senml([AIR_RECORD])),
        "lamp": ([_lpp(LAMP_RECORD)], _senml([LAMP_RECORD])),
        # LPP: analogue output; SenML: level, ramp and end of the outdoor lamp controller's override.
        "order": ([b"\x01\x03\x17\x70"], cbor2.dumps([{-2: "3416/0/", 0: "1", 2: 60}, {0: "49", 2: 30}, {0: "51", 2: _T + 3600}])),
    }
    for name, (lpp, senml) in others.items():
        ours = [len(air[name])]
        by_lpp = [len(each) + _LORAWAN_BYTES for each in lpp]
        count = -(-len(senml) // _LORAWAN_MOST_BYTES)
        by_senml = [-(-len(senml) // count) + _LORAWAN_BYTES] * count
        yield against_limit(f"LoRa, {name}", sum(ours), "bytes", sum(by_senml), "LoRaWAN, SenML-CBOR", None)
        yield against_limit(f"LoRa, {name}", sum(ours), "bytes", sum(by_lpp), "LoRaWAN, Cayenne LPP", None)
        yield against_limit(f"LoRa, {name}, at SF9", _airtime_ms(ours), "ms", _airtime_ms(by_senml), "LoRaWAN, SenML-CBOR", None)
        yield against_limit(f"LoRa, {name}, at SF9", _airtime_ms(ours), "ms", _airtime_ms(by_lpp), "LoRaWAN, Cayenne LPP", None)
        charge_mas, lpp_mas = (_airtime_ms(each) / 1000 * supply.SX1262.sending_ma(_POWER_DBM) for each in (ours, by_lpp))
        yield against_limit(f"LoRa, {name}, at SF9, radio", charge_mas, "mAs", lpp_mas, "LoRaWAN, Cayenne LPP", None, _CHARGE)
    yield _day(air["bin"], air["acknowledgement"])


def _day(uplink: bytes, acknowledgement: bytes) -> Row:
    """What a sleeping bin takes of its battery on a day with one report and one question for the time, as `lamppost plan` reckons."""
    frame_s, answer_s = (_airtime_ms([len(packet)]) / 1000 for packet in (uplink, acknowledgement))
    window_s = supply.WINDOW_S + supply.WINDOW_SYMBOLS * 2**_SPREADING_FACTOR / _BANDWIDTH_HZ
    day = supply.Cycle(1, 1, 0, 1, 0, 5)
    states = supply.states(day, supply.Air(frame_s, answer_s, window_s, _POWER_DBM, supply.SX1262))
    parts = {state.label: 3600 * state.mah[1] for state in states}
    note = ", ".join(f"{label} {charge_mas:,.0f}" for label, charge_mas in parts.items())
    return told("LoRa, a sleeping bin's day with one report", note, sum(parts.values()), "mAs")


def _hour_of(record: list[int | None]) -> list[list[int | None]]:
    return [[record[0], 900 * i, *record[2:]] for i in range(4)]


def _airtime_ms(packets_bytes: list[int]) -> float:
    return sum(airtime.time_on_air_us(each, _SPREADING_FACTOR, _BANDWIDTH_HZ) for each in packets_bytes) / 1000


def _lpp(record: list[int | None]) -> bytes:
    """One reading in Cayenne LPP: no value left out, each rounded to what its type can say."""
    out = b""
    for channel, (column, value) in enumerate(zip(PROFILES[record[0] or 0].columns, record[3:], strict=False)):
        number, width, per_unit = _LPP[column.name]
        scaled = round((value or 0) * 10**column.scale * per_unit)
        out += bytes((channel, number)) + scaled.to_bytes(width, "big")
    return out


def _senml(rows: list[list[int | None]]) -> bytes:
    """Readings as one SenML-CBOR pack, 15 minutes apart: base time first, then a time on each later reading's values."""
    pack: list[dict[int, object]] = []
    for back, record in enumerate(rows):
        for column, value in zip(PROFILES[record[0] or 0].columns, record[3:], strict=False):
            scaled = (value or 0) * 10.0**column.scale
            number: object = int(scaled) if column.scale == 0 else struct.unpack(">f", struct.pack(">f", scaled))[0]
            entry: dict[int, object] = {0: column.path[1:], 2: number}
            if back:
                entry[6] = -900 * back
            pack.append(entry)
    pack[0] = {-2: "/", -3: _T, **pack[0]}
    return cbor2.dumps(pack, canonical=True)
