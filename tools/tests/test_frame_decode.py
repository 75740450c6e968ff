"""`lamppost frame decode`: every kind of message in words, every refusal named, never a traceback."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import beacons, frames, hello, hop, kinds, orders, records, slip
from lamppost_protocol.es256_host import HostSigner, generate_private_key, public_key
from lamppost_tools.errors import ToolError
from lamppost_tools.frame_decode import KeyRing, decode, decode_frame, is_valid
from lamppost_tools.frame_input import octets_of

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
    hop_keys={NODE: HOP_KEY},
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
        (slip.encode(slip.FRAME, uplink())[:-6] + b"\x00" + slip.END, "bad_crc"),
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


def test_acknowledgement_in_words():
    """An acknowledgement names what is stored, and is checked with the hop key when it is given."""
    data = frames.seal_acknowledgement(hop.HopKey(HOP_KEY), NETWORK, NODE, EPOCH, 5, 0b101, bytes(8))
    found = decode_frame(data, RING)
    assert (found["highest"], found["also_stored"], found["verdict"]) == (5, [6, 8], "valid")
    assert decode_frame(data, KeyRing(network=NETWORK))["verdict"].startswith("not checked")
    other = frames.seal_acknowledgement(hop.HopKey(bytes(32)), NETWORK, NODE, EPOCH, 5, 0, bytes(8))
    assert decode_frame(other, RING)["reason"] == "bad_tag"


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


@given(st.binary(max_size=300))
def test_garbage_never_raises(data):
    """Random octets give words and JSON, never an exception."""
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
