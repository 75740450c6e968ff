"""Packets of the air and the messages of a bridge's line in words; what they carry is decode.py's. WIRE.md sections 12 and 15."""

from typing import Any

from lamppost_protocol import elision, modem, slip

from lamppost_tools.frame.words import text_of_peer

TRAFFICS = {
    elision.TRAFFIC_UPLINK: "uplink",
    elision.TRAFFIC_DOWNLINK: "downlink",
    elision.TRAFFIC_ACKNOWLEDGEMENT: "acknowledgement",
    elision.TRAFFIC_HELLO: "hello",
    elision.TRAFFIC_WANT: "want",
    elision.TRAFFIC_PIECE: "piece of a release",
}
#: What is unsigned, as it goes on a line.
UNSIGNED = {elision.TRAFFIC_HELLO: slip.HELLO, elision.TRAFFIC_WANT: slip.WANT, elision.TRAFFIC_PIECE: slip.PIECE}


def is_packet_form(data: bytes) -> bool:
    """Whether octets begin as a packet of this version does."""
    return len(data) >= elision.HEAD_BYTES and data[0] & 0xC0 == 0x80 and data[0] & 0x03 != 0


def network_hint(network: int | None, packet: bytes) -> int:
    """The network to rebuild for: the one known, else one with this packet's octet, which is as good for all but a hello's own words."""
    return packet[1] if network is None else network


def packet_in_words(packet: bytes, network: int) -> dict[str, Any]:
    """The head of a packet, and of a piece its place among its like. Raises RemoteError."""
    head = elision.decode_head(packet, network)
    words: dict[str, Any] = {
        "packet": TRAFFICS[head.traffic],
        "packet_bytes": len(packet),
        "of_or_for": f"{head.node:08x}" if head.node else "everybody",
    }
    if head.is_piece and len(packet) > elision.HEAD_BYTES + elision.PIECE_BYTES:
        position = packet[elision.HEAD_BYTES + elision.PIECE_BYTES - 1]
        words["piece"] = f"{(position >> 4) + 1} of {(position & 15) + 1}"
    return words


def modem_in_words(message_type: int, body: bytes) -> tuple[dict[str, Any], bytes | None]:
    """A message between gateway and bridge, and the packet in it, if any. Raises RemoteError."""
    if message_type == slip.RADIO_RECEIVED:
        words = modem.decode_received(body)._asdict()
        packet, snr_db = words.pop("packet"), words.pop("snr_qdb") / 4
        return {"what": "radio received", **words, "snr_db": snr_db}, packet
    if message_type == slip.RADIO_TRANSMIT:
        words = modem.decode_transmit(body)._asdict()
        packet = words.pop("packet")
        return {"what": "radio transmit", **words}, packet
    if message_type == slip.RADIO_SENT:
        words = modem.decode_sent(body)._asdict()
        return {"what": "radio sent", **words, "result": modem.RESULTS[words["result"]]}, None
    if message_type == slip.RADIO_LISTEN:
        return {"what": "radio listen", **modem.decode_listen(body)._asdict()}, None
    words = modem.decode_state(body)._asdict()
    return {"what": "modem", **words, "firmware": text_of_peer(words["firmware"])}, None
