"""`lamppost frame decode`: every kind of message in words, every refusal named, never a traceback."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import beacons, elision, frames, hello, hop, kinds, modem, orders, records, releases, slip, tickets
from lamppost_protocol.es256_host import HostSigner, generate_private_key, public_key
from lamppost_tools.errors import ToolError
from lamppost_tools.frame.decode import KeyRing, decode, decode_frame, is_valid
from lamppost_tools.frame.input import octets_of

NETWORK, NODE, EPOCH, ISSUER = 0xCAFE, 0xA001, 1, 0x5EED
NODE_KEY, CITY_KEY, HOP_KEY = generate_private_key(), generate_private_key(), bytes(range(32))
RING = KeyRing(
    network=NETWORK,
    nodes={
        NODE: {"epoch": EPOCH, "public_key": public_key(NODE_KEY).hex(), "fixtures": ["lamp"], "revoked": False},
        0xA002: {"epoch": EPOCH, "public_key": public_key(generate_private_key()).hex(), "revoked": True},
    },
    issuer=ISSUER,
    authority_key=public_key(CITY_KEY),
    hop_keys={f"{NODE:08x}": HOP_KEY},
)
LAMP_RECORD = [kinds.LAMP, 5, kinds.GOOD, 60, 60, 472, 2301, 205, 980, 12345, 1, 0b101]


def uplink(payload=None, key=NODE_KEY, node=NODE, network=NETWORK, epoch=EPOCH, tx=7):
    payload = payload or records.encode_uplink(10, 2, 1_800_000_000, 1, [LAMP_RECORD])
    return frames.seal(HostSigner(key), frames.UPLINK, network, node, epoch, node, tx, payload)


def order(payload, node=NODE):
    return frames.seal(HostSigner(CITY_KEY), frames.ORDER, NETWORK, node, EPOCH, ISSUER, 17, payload)


def test_uplink_in_words():
    """A valid uplink shows each value with its unit, its own number and time, and its quality by name."""
    found = decode_frame(uplink(), RING)
    assert found["verdict"] == "valid"
    assert (found["what"], found["node"], found["tx"], found["n"], found["behind"]) == ("uplink", "0000a001", 7, 10, 2)
    record = found["records"][0]
    assert (record["fixture"], record["n"], record["quality"]) == ("lamp", 10, "good")
    assert record["time"] == "2027-01-15T08:00:05Z"
    assert record["values"]["active_power"] == {"value": 47.2, "unit": "W", "path": "/3418/0/4"}
    assert record["values"]["cause"]["word"] == "order"
    assert record["values"]["faults"]["words"] == ["lamp_failure", "high_power"]


def test_uplink_without_clock_and_with_unknown_profile():
    """A never-set clock and a newer profile are said, not guessed at."""
    payload = records.encode_uplink(1, 0, None, None, [[kinds.BIN, -3, kinds.NO_ECHO, None], [63, None, 63, 4, None]])
    found = decode_frame(uplink(payload), RING)
    first, second = found["records"]
    assert found["clock"] == "never set"
    assert (first["when"], first["quality"], first["values"]["distance"]["value"]) == ("3 s before sending", "no_echo", None)
    assert (second["fixture"], second["values"], second["when"]) == ("profile-63", [4, None], "time lost")
    assert second["quality"] == "unknown code 63"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (uplink(network=0xBEEF), "bad_signature"),
        (uplink(epoch=2), "bad_signature"),
        (uplink(key=CITY_KEY), "bad_signature"),
        (uplink(node=0xA003), "unknown_node"),
        (uplink(node=0xA002), "revoked_node"),
        (uplink()[:-1], "bad_cbor"),
        (uplink() + b"\x00", "bad_cbor"),
        (uplink(payload=b"\x01"), "bad_payload"),
        (b"\xd2" + b"\x00" * 2000, "too_long"),
        (b"", "bad_cose"),
        (b"\x00", "bad_cose"),
        (slip.encode(slip.FRAME, uplink()).replace(b"\xd2", b"\xd3", 1), "bad_crc"),
        (slip.END + b"\xdb\x00" + slip.END, "bad_slip"),
        (slip.END * 3, "bad_slip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # signatures differ from run to run, names of tests must not
)
def test_refusals_are_named(data, reason):
    """What a gateway would refuse is refused with the same word, and the exit is not 0."""
    found = decode(data, RING)
    assert reason in [entry.get("reason") for entry in found]
    assert not is_valid(found)


def test_without_registry_nothing_is_called_valid():
    """Without keys the fields are shown and the verdict says that nothing was checked."""
    assert decode_frame(uplink(), KeyRing())["verdict"].startswith("not checked")


@pytest.mark.parametrize(
    ("args", "verb", "fields"),
    [
        ([30, 5], orders.LEVEL, {"verb": "level", "level_percent": 30, "ramp_s": 5, "target": "lamp"}),
        ([9], orders.CANCEL, {"verb": "cancel", "cancels_order": 9}),
        ([3, 8], orders.RESEND, {"verb": "resend", "first_n": 3, "last_n": 8}),
        ([b"\xa0"], orders.CONFIGURE, {"verb": "configure", "arguments": ["a0"]}),
    ],
)
def test_orders_in_words(args, verb, fields):
    """An order shows its verb, arguments and life, and for whom it was signed."""
    found = decode_frame(order(orders.encode_order(1_800_000_000, 1_800_003_600, verb, kinds.LAMP, args)), RING)
    assert found["verdict"] == "valid"
    assert found["meant_for"] == "node 0000a001, epoch 1"
    assert (found["order_id"], found["not_after"]) == (17, "2027-01-15T09:00:00Z")
    assert fields.items() <= found.items()


def test_schedule_order_in_words():
    """A schedule order reads like its file, and is not mistaken for an uplink though both hold arrays."""
    plan = [1, 100, [[127, [1, 0, 100], [0, 1380, 60], [2, -10, 0]]], [[1231, 1231, [1, 0, 100]]]]
    found = decode_frame(order(orders.encode_order(5, 9, orders.SCHEDULE, kinds.LAMP, [plan])), RING)
    assert found["schedule"]["week"][0]["steps"] == [["sunset", 100], ["23:00", 60], ["sunrise-10", 0]]
    assert found["schedule"]["exceptions"][0]["first"] == "12-31"


def test_order_for_an_unknown_node_is_not_valid():
    """An order signed for a node that the registry does not hold cannot be confirmed."""
    found = decode_frame(order(orders.encode_order(5, 9, orders.LEVEL, kinds.LAMP, [30, 5]), node=0xB00), RING)
    assert found["reason"] == "bad_signature"


@pytest.mark.parametrize(("node", "epoch", "meant"), [(0, 0, "everybody"), (NODE, EPOCH, "node 0000a001, epoch 1")])
def test_beacon_in_words(node, epoch, meant):
    """A beacon says whose time it is and whom it answers."""
    payload = beacons.encode_beacon(1_800_000_000, bytes(8) if node else None)
    data = frames.seal(HostSigner(CITY_KEY), frames.BEACON, NETWORK, node, epoch, ISSUER, 17, payload)
    found = decode_frame(data, RING)
    assert (found["what"], found["verdict"], found["meant_for"]) == ("beacon", "valid", meant)
    foreign = frames.seal(HostSigner(CITY_KEY), frames.BEACON, NETWORK, node, epoch, ISSUER + 1, 17, payload)
    assert decode_frame(foreign, RING)["reason"] == "unknown_issuer"


def ticket(node=NODE, key=CITY_KEY):
    payload = tickets.encode_ticket(tickets.Ticket(bytes(8), 1800, 0b100001, public_key(NODE_KEY)))
    return frames.seal(HostSigner(key), frames.TICKET, NETWORK, node, EPOCH, ISSUER, 18, payload)


def test_service_in_words():
    """A line with a technician on it: question, facts, ticket, request, answer; the ticket's signature is checked."""
    facts = tickets.Facts(NETWORK, NODE, EPOCH, hello.RUNNING, bytes(8), 3600, 0, 0, "0.1.0")
    kid = tickets.holder_id(public_key(NODE_KEY))
    payload = tickets.encode_request(tickets.Request(bytes(8), tickets.RESEND, [1, 9]))
    request = frames.seal(HostSigner(NODE_KEY), frames.REQUEST, NETWORK, NODE, EPOCH, kid, 1, payload)
    said = [
        (slip.SERVICE, b""), (slip.SERVICE_ANSWER, tickets.encode_facts(facts)), (slip.SERVICE, ticket()), (slip.SERVICE, request),
        (slip.SERVICE_ANSWER, tickets.encode_answer(tickets.Answer(1, orders.BAD_ARGUMENTS, None))),
    ]  # fmt: skip
    question, told, allowed, asked, answered = decode(b"".join(slip.encode(*message) for message in said), RING)
    assert question["what"] == "service question"
    assert (told["node"], told["nonce"], told["left_s"], told["state"]) == ("0000a001", "00" * 8, 3600, "running")
    assert (allowed["verdict"], allowed["scopes"], allowed["holder"]) == ("valid", ["look", "resend"], f"{kid:08x}")
    assert (asked["verb"], asked["arguments"], asked["holder"]) == ("resend", [1, 9], f"{kid:08x}")
    assert (answered["asked"], answered["result"]) == (1, "bad_arguments")


@pytest.mark.parametrize("data", [ticket(key=NODE_KEY), ticket(node=0xA003)], ids=["another's key", "unknown node"])
def test_a_ticket_of_nobody_is_not_valid(data):
    """One that the authority did not sign, or not for a node of the registry."""
    assert decode_frame(data, RING)["reason"] == "bad_signature"


def test_acknowledgement_in_words():
    """An acknowledgement names what is stored, and is checked with the hop key when it is given."""
    data = frames.seal_acknowledgement(hop.HopKey(HOP_KEY), NETWORK, NODE, EPOCH, 5, 0b101, bytes(8))
    found = decode_frame(data, RING)
    assert (found["highest"], found["also_stored"], found["verdict"]) == (5, [6, 8], "valid")
    assert "ladder_steps" not in found
    over_the_air = frames.seal_acknowledgement(hop.HopKey(HOP_KEY), NETWORK, NODE, EPOCH, 5, 0b101, bytes(8), -3)
    assert (decode_frame(over_the_air, RING)["ladder_steps"], decode_frame(over_the_air, RING)["verdict"]) == (-3, "valid")
    assert decode_frame(data, KeyRing(network=NETWORK))["verdict"].startswith("not checked")
    other = frames.seal_acknowledgement(hop.HopKey(bytes(32)), NETWORK, NODE, EPOCH, 5, 0, bytes(8))
    assert decode_frame(other, RING)["reason"] == "bad_tag"


def test_frames_of_every_epoch_are_checked():
    """While a node is re-keyed, and for ever after: each key in its own epoch only, and one that has ended is said to have."""
    new_key, new_hop = generate_private_key(), bytes(range(1, 33))
    entry = RING.nodes[NODE]
    newer = {"epoch": EPOCH + 1, "public_key": public_key(new_key).hex()}
    older = {"epoch": EPOCH, "public_key": entry["public_key"]}
    name = f"{NODE:08x}"
    hop_keys = {name: HOP_KEY, f"{name}.{EPOCH + 1}": new_hop}
    ring = KeyRing(network=NETWORK, nodes={NODE: {**entry, "next": newer}}, hop_keys=hop_keys)
    after = KeyRing(network=NETWORK, nodes={NODE: {**entry, **newer, "past": [{**older, "until": 5}]}}, hop_keys={name: new_hop})
    frame = uplink(key=new_key, epoch=EPOCH + 1)
    for known in (ring, after):
        assert (decode_frame(frame, known)["verdict"], decode_frame(frame, known)["epoch"]) == ("valid", EPOCH + 1)
        assert decode_frame(uplink(), known)["epoch"] == EPOCH
        assert decode_frame(uplink(key=new_key), known)["reason"] == "bad_signature"
        data = frames.seal_acknowledgement(hop.HopKey(new_hop), NETWORK, NODE, EPOCH + 1, 5, 0, bytes(8))
        assert decode_frame(data, known)["verdict"] == "valid"
    assert "note" not in decode_frame(uplink(), ring)
    assert "has ended" in decode_frame(uplink(), after)["note"]


def test_serial_line_with_everything_on_it():
    """All messages of a captured line are shown in order, noise between them is counted."""
    greeting = hello.encode_hello(hello.Hello(NETWORK, NODE, EPOCH, 0, bytes(8), 3, 11, "lamppost 0.1"))
    line = (
        slip.encode(slip.HELLO, greeting) + slip.encode(slip.LOG, b"boot \x1b[31m\xff") + b"noise"
        + slip.encode(slip.FRAME, uplink())
    )  # fmt: skip
    found = decode(line, RING)
    assert [entry.get("serial_message") for entry in found] == ["hello", "log line", "frame", None]
    assert found[0]["next_n"] == 11
    assert found[1]["text"] == "boot ?[31m\ufffd"
    assert found[3]["reason"] == "bad_crc"
    assert decode(greeting, RING)[0]["what"] == "hello"


def packets(frame, traffic, node=NODE, waited_s=0, most_bytes=255):
    return elision.encode(frame, traffic, NETWORK, node, waited_s, most_bytes)


@pytest.mark.parametrize("ring", [RING, KeyRing()], ids=["known", "unknown"])
def test_packets_in_words(ring):
    """What flies is rebuilt and then read as on a line, without a registry too."""
    (flown,) = packets(uplink(), elision.TRAFFIC_UPLINK, waited_s=41)
    (found,) = decode(flown, ring)
    assert (found["packet"], found["of_or_for"], found["waited_s"], found["what"], found["n"]) == ("uplink", "0000a001", 41, "uplink", 10)
    assert found["verdict"] == ("valid" if ring is RING else "not checked: give --registry")
    told = order(orders.encode_order(5, 9, orders.LEVEL, kinds.LAMP, [30, 5]))
    (found,) = decode(packets(told, elision.TRAFFIC_DOWNLINK)[0], ring)
    assert (found["packet"], found["what"], found["level_percent"]) == ("downlink", "order", 30)
    beacon = frames.seal(HostSigner(CITY_KEY), frames.BEACON, NETWORK, 0, 0, ISSUER, 17, beacons.encode_beacon(1_800_000_000, None))
    (found,) = decode(packets(beacon, elision.TRAFFIC_DOWNLINK, node=0)[0], ring)
    assert (found["of_or_for"], found["what"]) == ("everybody", "beacon")
    stored = frames.seal_acknowledgement(hop.HopKey(HOP_KEY), NETWORK, NODE, EPOCH, 5, 0b101, bytes(8), -3)
    (found,) = decode(packets(stored, elision.TRAFFIC_ACKNOWLEDGEMENT)[0], ring)
    assert (found["packet"], found["ladder_steps"]) == ("acknowledgement", -3)
    greeting = hello.encode_hello(hello.Hello(NETWORK, NODE, EPOCH, 0, bytes(8), 3, 11, "lamppost 0.1"))
    (found,) = decode(packets(greeting, elision.TRAFFIC_HELLO)[0], ring)
    assert (found["what"], found["next_n"], found["verdict"]) == ("hello", 11, "unsigned: a hint only")
    assert found["network"] == (f"{NETWORK:08x}" if ring is RING else None)
    want = releases.encode_want(releases.Want(NETWORK, NODE, bytes(8), 400, 8))
    (found,) = decode(packets(want, elision.TRAFFIC_WANT)[0], ring)
    assert (found["packet"], found["of_or_for"], found["octets"][:11], found["verdict"]) == (
        "want", "0000a001", "400 to 2000", "unsigned: a hint only"
    )  # fmt: skip
    piece = releases.encode_piece(releases.Piece(bytes(8), 400, bytes(200)))
    (found,) = decode(packets(piece, elision.TRAFFIC_PIECE)[0], ring)
    assert (found["packet"], found["of_or_for"], found["octets"]) == ("piece of a release", "0000a001", "400 to 600")
    assert decode(packets(piece, elision.TRAFFIC_PIECE)[0][:-1], ring)[0]["reason"] == "bad_payload"


def test_a_packet_that_lies_is_refused():
    """A changed octet fails the signature, a foreign network's packet is called that, both by the word a gateway counts."""
    (flown,) = packets(uplink(), elision.TRAFFIC_UPLINK)
    assert decode(flown[:-1] + bytes((flown[-1] ^ 1,)), RING)[0]["reason"] == "bad_signature"
    assert decode(flown[:1] + bytes((flown[1] ^ 1,)) + flown[2:], RING)[0]["reason"] == "foreign_network"
    assert decode(flown[:6], RING)[0]["reason"] == "bad_packet"


def test_a_bridges_line_in_words():
    """Radio messages show their settings; pieces heard one after the other become the frame they are of."""
    pieces = packets(uplink(), elision.TRAFFIC_UPLINK, most_bytes=66)
    told = [
        (slip.MODEM, modem.encode_state(modem.State("lamppost 0.1", 5_000_000, 7, 1, 0, 0, True))),
        (slip.RADIO_LISTEN, modem.encode_listen(modem.Listen(868_100_000, 9, 125_000))),
        *[
            (slip.RADIO_RECEIVED, modem.encode_received(modem.Received(9_000_000 + at, 868_100_000, 9, 125_000, -117, -22, piece)))
            for at, piece in enumerate(pieces)
        ],
        (slip.RADIO_TRANSMIT, modem.encode_transmit(modem.Transmit(3, None, 869_525_000, 9, 125_000, 14, 5, -80, b"\x01"))),
        (slip.RADIO_SENT, modem.encode_sent(modem.Sent(3, modem.TOO_LATE, 0))),
        (slip.RADIO_SENT, b"\x80"),
    ]
    found = decode(b"".join(slip.encode(kind, body) for kind, body in told), RING)
    assert [entry["serial_message"] for entry in found] == [
        "modem", "radio listen", *["radio received"] * len(pieces), "radio transmit", "radio sent", "radio sent",
    ]  # fmt: skip
    assert len(pieces) == 2
    assert (found[0]["firmware"], found[0]["crc_errors"], found[1]["spreading_factor"]) == ("lamppost 0.1", 1, 9)
    assert (found[2]["piece"], found[2]["verdict"]) == ("1 of 2", "waits for the other pieces")
    assert (found[3]["piece"], found[3]["verdict"], found[3]["n"]) == ("2 of 2", "valid", 10)
    assert (found[3]["rssi_dbm"], found[3]["snr_db"]) == (-117, -5.5)
    assert (found[4]["reason"], found[4]["frequency_hz"]) == ("foreign_packet", 869_525_000)
    assert (found[5]["result"], found[6]["reason"]) == ("too_late", "bad_payload")


def test_hints_of_a_release_in_words():
    """A want and a piece say which octets of which body; what is neither is refused by name."""
    want = releases.encode_want(releases.Want(NETWORK, NODE, bytes(8), 400, 8))
    piece = releases.encode_piece(releases.Piece(bytes(8), 400, b"abc"))
    found = decode(slip.encode(slip.WANT, want) + slip.encode(slip.PIECE, piece) + slip.encode(slip.PIECE, want), RING)
    assert [entry["serial_message"] for entry in found] == ["want", "piece", "piece"]
    assert (found[0]["node"], found[0]["octets"]) == ("0000a001", "400 to 2000, or the body's end")
    assert (found[1]["octets"], found[2]["reason"]) == ("400 to 403", "bad_payload")


def test_a_release_and_the_order_for_it_in_words():
    """The manifest as the authority signs it, checked for what it is; within an order too; as another's signature it is refused."""
    manifest = releases.Manifest(5, bytes(8), "0.2.0", 4096, 700, bytes(range(32)))
    key = generate_private_key()
    ring = KeyRing(network=NETWORK, issuer=7, authority_key=public_key(key))
    signed = releases.seal_manifest(HostSigner(key), NETWORK, 7, manifest)
    (found,) = decode(signed, ring)
    assert (found["what"], found["sequence"], found["version"], found["body_bytes"]) == ("release", 5, "0.2.0", 700)
    assert (found["verdict"], found["meant_for"]) == ("valid", "every node with its base")
    (found,) = decode(releases.seal_manifest(HostSigner(generate_private_key()), NETWORK, 7, manifest), ring)
    assert found["reason"] == "bad_signature"
    payload = orders.encode_order(1, 2, orders.UPDATE, 0, [signed])
    (found,) = decode(frames.seal(HostSigner(key), frames.ORDER, NETWORK, NODE, 1, 7, 3, payload), KeyRing())
    assert (found["verb"], found["release"]["body_sha256"]) == ("update", bytes(range(32)).hex())


@given(st.binary(max_size=300), st.sampled_from([None, *slip.TYPES, "packet"]))
def test_garbage_never_raises(data, form):
    """Random octets give words and JSON, never an exception; so do they in every kind of message, and behind a packet's head."""
    if form == "packet":
        data = bytes((0x80 | data[0] if data else 0x81, 0xCA ^ 0xFE)) + NODE.to_bytes(4, "big") + data
    elif form is not None:
        data = slip.encode(form, data)
    json.dumps(decode(data, RING))


@given(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["frame", "line"]))
def test_damaged_frames_never_raise_and_are_never_valid(place, value, form):
    """A frame with one octet changed is refused with a reason."""
    good = _GOOD if form == "frame" else slip.encode(slip.FRAME, _GOOD)
    place %= len(good)
    bad = good[:place] + bytes((value,)) + good[place + 1 :]
    found = decode(bad, RING)
    json.dumps(found)
    assert (bad == good) == is_valid(found) or (form == "line" and place in (0, len(good) - 1))


_GOOD = uplink()


@pytest.mark.parametrize("text", [_GOOD.hex().encode(), b"0x" + _GOOD.hex().upper().encode(), _GOOD, b" ".join(b"%02x" % o for o in _GOOD)])
def test_input_forms(text):
    """Hex with or without 0x, spaces, capitals, or the raw octets."""
    assert octets_of(text) == _GOOD


def test_input_of_a_reject_line():
    """A line of `lamppost-gateway rejects --json` is understood as it is."""
    assert octets_of(json.dumps({"reason": "replayed", "bytes": _GOOD.hex()}).encode()) == _GOOD


def test_odd_hex_is_told():
    """Half a digit lost in copying is named."""
    with pytest.raises(ToolError, match="odd"):
        octets_of(b"abc")
