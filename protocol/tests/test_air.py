"""Frames through the air: bit for bit the same, in one form only, in pieces, and whatever else the radio hears costs a counted refusal."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_protocol import beacons, cose, elision, fragments, frames, hello, hop, kinds, limits, orders, records, releases
from lamppost_protocol.elision import (
    TRAFFIC_ACKNOWLEDGEMENT,
    TRAFFIC_DOWNLINK,
    TRAFFIC_HELLO,
    TRAFFIC_PIECE,
    TRAFFIC_UPLINK,
    TRAFFIC_WANT,
)
from lamppost_protocol.errors import REASONS, LocalError, RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier, generate_private_key, public_key
from test_codec_properties import mutate

SEED = int(os.environ.get("LAMPPOST_SEED", random.randrange(1 << 32)))
NETWORK, NODE, EPOCH, ISSUER = 0x0001E240, 0x0A0B0C0D, 1, 0xA1000001
KEY = generate_private_key()
SIGNER, VERIFIER = HostSigner(KEY), HostVerifier(public_key(KEY))
HOP_KEY = hop.HopKey(bytes(range(32)))
T = 1793620800
#: The longest overhead beyond payload and proof that design and issue allow, in octets.
MOST_OVERHEAD = 14


def uplink(payload: bytes, tx: int = limits.MAX_TX) -> bytes:
    return frames.seal(SIGNER, frames.UPLINK, NETWORK, NODE, EPOCH, NODE, tx, payload)


def receiver(room: int = fragments.MAX_OF_A_NODE, known: tuple[int, ...] = (NODE,)) -> fragments.Reassembly:
    return fragments.Reassembly(NETWORK, lambda traffic, node: node in known, room)


def every_kind() -> dict[str, tuple[int, int, bytes]]:
    """Traffic, node and frame of each kind, with the longest counters there are."""
    bin_record = [kinds.BIN, 0, 0, 834, 42, 215, 0]
    alarm = [kinds.BIN, 0, 0, 834, 97, 900, 3]
    order = orders.encode_order(T, T + 3600, orders.LEVEL, 1, [60, 30])
    beacon = beacons.encode_beacon(T, bytes(8))
    return {
        "uplink": (TRAFFIC_UPLINK, NODE, uplink(records.encode_uplink(4711, 3, T, 2, [bin_record] * 4))),
        "alarm": (TRAFFIC_UPLINK, NODE, uplink(records.encode_uplink(limits.MAX_N - 9, 3, T, 2, [alarm]))),
        "order": (TRAFFIC_DOWNLINK, NODE, frames.seal(SIGNER, 1, NETWORK, NODE, EPOCH, ISSUER, limits.MAX_TX, order)),
        "beacon": (TRAFFIC_DOWNLINK, NODE, frames.seal(SIGNER, 2, NETWORK, NODE, EPOCH, ISSUER, T, beacon)),
        "broadcast": (TRAFFIC_DOWNLINK, 0, frames.seal(SIGNER, 2, NETWORK, 0, 0, ISSUER, T, beacons.encode_beacon(T, None))),
        "acknowledgement": (
            TRAFFIC_ACKNOWLEDGEMENT, NODE,
            frames.seal_acknowledgement(HOP_KEY, NETWORK, NODE, EPOCH, limits.MAX_N, 0xFFFFFFFF, bytes(8), -8),
        ),
    }  # fmt: skip


KINDS = every_kind()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_overhead_is_at_most_14_octets(kind: str) -> None:
    """Beyond payload and proof, whatever the counters, also where an uplink tells that it waited."""
    traffic, node, frame = KINDS[kind]
    message = cose.decode(frame)
    for waited_s in (0, 3600) if traffic == TRAFFIC_UPLINK else (0,):
        (packet,) = elision.encode(frame, traffic, NETWORK, node, waited_s)
        assert len(packet) - len(message.payload) - len(message.proof) <= MOST_OVERHEAD
        assert elision.decode_body(elision.decode_head(packet, NETWORK), packet[6:]) == (traffic, node, waited_s, frame)


def test_the_signature_holds_over_the_rebuilt_octets() -> None:
    """What comes out of the air is the frame itself: its signature, its tag and its digest are right."""
    heard = receiver(known=(NODE, 0))
    for kind, (traffic, node, frame) in KINDS.items():
        (packet,) = elision.encode(frame, traffic, NETWORK, node)
        (rebuilt,) = heard.feed(packet, 0)
        assert rebuilt.frame == frame
        message = cose.decode(rebuilt.frame)
        if kind == "acknowledgement":
            assert frames.open_acknowledgement(message, HOP_KEY, NETWORK, NODE, EPOCH).bitmap == 0xFFFFFFFF
        else:
            direction = {"order": 1, "beacon": 2, "broadcast": 2}.get(kind, 0)
            epoch = 0 if rebuilt.node == 0 else EPOCH
            frames.open_signed(message, VERIFIER, direction, NETWORK, rebuilt.node, epoch)
        assert frames.frame_digest(rebuilt.frame) == frames.frame_digest(frame)


@st.composite
def any_frame(draw: st.DrawFn) -> tuple[int, int, bytes, int]:
    """Any frame that cose.decode accepts, with random octets for payload and proof: elision must not care."""
    node = draw(st.integers(1, 0xFFFFFFFF))
    payload = draw(st.binary(max_size=limits.MAX_PAYLOAD_BYTES))
    traffic = draw(st.sampled_from((TRAFFIC_UPLINK, TRAFFIC_DOWNLINK, TRAFFIC_ACKNOWLEDGEMENT)))
    if traffic == TRAFFIC_ACKNOWLEDGEMENT:
        protected = cose.protected_header(cose.HMAC_256_64, node, None)
        return traffic, node, cose.encode(cose.MAC0, protected, payload, draw(st.binary(min_size=8, max_size=8))), 0
    kid = node if traffic == TRAFFIC_UPLINK else draw(st.integers(0, 0xFFFFFFFF))
    tx = draw(st.one_of(st.integers(1, limits.MAX_TX), st.sampled_from((1, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFF, 0x1000000))))
    frame = cose.encode(cose.SIGN1, cose.protected_header(cose.ES256, kid, tx), payload, draw(st.binary(min_size=64, max_size=64)))
    if traffic == TRAFFIC_DOWNLINK:
        return traffic, draw(st.sampled_from((0, node))), frame, 0
    return traffic, node, frame, draw(st.integers(0, 70000))


@given(any_frame(), st.integers(0, 0xFFFFFFFF), st.integers(16, 255), st.randoms(use_true_random=False))
def test_any_frame_survives_the_air(given_frame: tuple, network: int, most_bytes: int, rng: random.Random) -> None:
    """Whole or in pieces, shuffled and repeated, the same octets come out once; no packet is longer than allowed."""
    traffic, node, frame, waited_s = given_frame
    try:
        packets = elision.encode(frame, traffic, network, node, waited_s, most_bytes)
    except LocalError as error:
        assert error.reason == "too_long"
        assert len(frame) > 16 * (most_bytes - 9)
        return
    assert max(map(len, packets)) <= most_bytes
    heard = fragments.Reassembly(network, lambda _traffic, of: of == node, 1)
    out = []
    sent = packets + packets if len(packets) > 1 else packets
    rng.shuffle(sent)
    for now_ms, packet in enumerate(sent):
        out += heard.feed(packet, now_ms)
    assert out == [(traffic, node, min(waited_s, 0xFFFF), frame)]
    assert heard.mismatched == heard.displaced == heard.expired == 0


@given(
    st.builds(
        hello.Hello, st.integers(0, 0xFFFFFFFF), st.integers(1, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 2),
        st.none() | st.binary(min_size=8, max_size=8), st.integers(0, limits.MAX_N), st.integers(0, limits.MAX_N),
        st.text(st.characters(codec="ascii"), max_size=32),
    ),
    st.integers(16, 255),
)  # fmt: skip
def test_any_hello_survives_the_air(said: hello.Hello, most_bytes: int) -> None:
    """Whole or in pieces it comes out as it was said, network and all, to whoever wants a hello of that node and nothing else of it."""
    body = hello.encode_hello(said)
    heard = fragments.Reassembly(said.network, lambda traffic, node: (traffic, node) == (TRAFFIC_HELLO, said.node), 1)
    out = []
    for now_ms, packet in enumerate(elision.encode(body, TRAFFIC_HELLO, said.network, said.node, 0, most_bytes)):
        out += heard.feed(packet, now_ms)
    assert out == [(TRAFFIC_HELLO, said.node, 0, body)]
    assert hello.decode_hello(out[0].frame) == said


@given(st.integers(0, 0xFFFFFFFF), st.integers(1, 0xFFFFFFFF), st.binary(min_size=200, max_size=200), st.integers(24, 255))
def test_wants_and_pieces_of_releases_survive_the_air(network: int, node: int, octets: bytes, most_bytes: int) -> None:
    """Each at its longest, in one packet of at most 22 and 223 octets, the latter in as many as there must be: the same octets come out."""
    want = releases.Want(network, node, octets[:8], releases.MAX_BODY_BYTES - 144, 8)
    piece = releases.Piece(octets[:8], releases.MAX_BODY_BYTES - 344, octets)
    for traffic, body, longest in (
        (TRAFFIC_WANT, releases.encode_want(want), 22), (TRAFFIC_PIECE, releases.encode_piece(piece), 223),
    ):  # fmt: skip
        (whole,) = elision.encode(body, traffic, network, node)
        assert len(whole) == longest
        heard = fragments.Reassembly(network, lambda of, who, traffic=traffic: (of, who) == (traffic, node), 1)
        out = []
        for now_ms, packet in enumerate(elision.encode(body, traffic, network, node, 0, most_bytes)):
            out += heard.feed(packet, now_ms)
        assert out == [(traffic, node, 0, body)]
    with pytest.raises(LocalError, match="too_long"):
        elision.encode(releases.encode_want(want), TRAFFIC_WANT, network, node, 0, 21)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from((0, 0, 1, 255)), max_size=14), st.one_of(st.binary(max_size=70), st.binary(min_size=64, max_size=240)),
    st.integers(0, 3), st.integers(0, 255),
)  # fmt: skip
def test_a_packet_has_one_form(start: list, data: bytes, traffic: int, form: int) -> None:
    """Any octets are refused by name, or they are exactly what the encoder writes for what they hold; zeros where they must not lead."""
    packet = bytes((0x80 | (form & 0x3C) | traffic, 0x07)) + bytes(start) + data
    try:
        head = elision.decode_head(packet, 7)
        if head.is_piece:
            return
        decoded = elision.decode_body(head, packet[6:])
    except RemoteError as error:
        assert error.reason in ("foreign_packet", "too_long", "bad_packet")
        return
    if decoded.traffic <= TRAFFIC_ACKNOWLEDGEMENT:
        cose.decode(decoded.frame)
    assert elision.encode(decoded.frame, decoded.traffic, 7, decoded.node, decoded.waited_s) == [packet]


@given(st.binary(max_size=300))
def test_noise_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        receiver(known=()).feed(data, 0)
    assert caught.value.reason in REASONS


def verified(packet: elision.Packet) -> bytes | None:
    """Return the frame when its proof holds, as a gateway finds out."""
    try:
        message = cose.decode(packet.frame)
        if packet.traffic == TRAFFIC_ACKNOWLEDGEMENT:
            frames.open_acknowledgement(message, HOP_KEY, NETWORK, packet.node, EPOCH)
        elif packet.traffic == TRAFFIC_UPLINK:
            frames.open_signed(message, VERIFIER, 0, NETWORK, packet.node, EPOCH)
        else:
            return None
    except RemoteError:
        return None
    return packet.frame


def test_twenty_thousand_mutations() -> None:
    """Packets and pieces flipped, cut, doubled and mixed: nothing verifies that was not sent, and memory stays within its bound."""
    print("seed", SEED)
    rng = random.Random(SEED)
    originals = [KINDS[kind][2] for kind in sorted(KINDS)]
    pool = []
    for traffic, node, frame in KINDS.values():
        pool += elision.encode(frame, traffic, NETWORK, node)
        pool += elision.encode(frame, traffic, NETWORK, node, most_bytes=24) if traffic == TRAFFIC_UPLINK else []
        pool += elision.encode(frame, traffic, NETWORK, node, most_bytes=66)
    heard = fragments.Reassembly(NETWORK, lambda traffic, node: True, 16)
    refused: dict[str, int] = {}
    count = 0
    for now_ms in range(20_000):
        packet = mutate(rng, rng.choice(pool), rng.choice(pool)) if now_ms % 3 else rng.choice(pool)
        try:
            for each in heard.feed(packet, now_ms * 20):
                frame = verified(each)
                assert frame is None or frame in originals
                count += frame is not None
        except RemoteError as error:
            refused[error.reason] = refused.get(error.reason, 0) + 1
        if now_ms % 500 == 0:
            assert held_bytes(heard) <= 16 * 1250
    assert count > 300
    assert {"foreign_packet", "foreign_network", "bad_packet", "bad_fragment"} <= set(refused), refused
    assert heard.mismatched > 10


def held_bytes(heard: fragments.Reassembly) -> int:
    """Octets of all pieces held, each once, however many collections share it."""
    pieces = {id(piece): len(piece) for collection in heard._held for piece in collection.pieces if piece is not None}
    return sum(pieces.values())


def forged_pieces(piece: bytes, count: int, rng: random.Random) -> list[bytes]:
    return [piece[:9] + rng.randbytes(len(piece) - 9) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(24, 70), st.booleans())
def test_a_forged_piece_does_not_cost_the_frame(seed: int, most_bytes: int, is_before: bool) -> None:
    """Up to three forged pieces, with the right check and length, before or after genuine ones: the frame is received all the same."""
    rng = random.Random(seed)
    traffic, node, frame = KINDS["alarm"]
    packets = elision.encode(frame, traffic, NETWORK, node, most_bytes=most_bytes)
    number = rng.randrange(len(packets))
    heard, out = receiver(), []
    forged = forged_pieces(packets[number], 3, rng)
    order = forged + packets if is_before else packets[: number + 1] + forged + packets[number + 1 :]
    for now_ms, packet in enumerate(order):
        out += heard.feed(packet, now_ms)
    assert frame in [verified(packet) for packet in out]


def test_a_crafted_check_does_not_cost_the_frame() -> None:
    """A forged last piece chosen so that the check is right completes first; the genuine one still completes, and only it verifies."""
    traffic, node, frame = KINDS["alarm"]
    first, second = elision.encode(frame, traffic, NETWORK, node, most_bytes=66)
    (whole,) = elision.encode(frame, traffic, NETWORK, node)
    body = whole[6 : 6 + len(first) - 9]
    check = int.from_bytes(first[6:8], "big")
    rng = random.Random(7)
    while True:
        part = rng.randbytes(len(second) - 9)
        if elision.body_check(whole[:6], body + part) == check and part != second[9:]:
            break
    heard = receiver()
    assert heard.feed(first, 0) == []
    assert [verified(packet) for packet in heard.feed(second[:9] + part, 1)] == [None]
    assert [verified(packet) for packet in heard.feed(second, 2)] == [frame]


def test_a_storm_of_forged_pieces_ends_when_it_ends() -> None:
    """Whoever forges pieces under every known id costs frames only while he transmits; the first frame afterwards is received."""
    rng = random.Random(11)
    traffic, node, frame = KINDS["alarm"]
    packets = elision.encode(frame, traffic, NETWORK, node, most_bytes=40)
    known = (*range(1, 40), NODE)
    heard = receiver(8, known)
    for now_ms in range(2000):
        victim = rng.choice(known)
        heard.feed(packets[0][:2] + victim.to_bytes(4, "big") + rng.randbytes(2) + bytes((0x01,)) + rng.randbytes(30), now_ms)
        assert len(heard._held) <= 8
        assert held_bytes(heard) <= 8 * 1250
    assert heard.displaced > 1900
    out = []
    for packet in packets:
        out += heard.feed(packet, 2001)
    assert [packet.frame for packet in out] == [frame]


def test_another_node_is_not_displaced_by_one_id() -> None:
    """One id, used by an attacker without rest, holds four collections at most, and another node's stays."""
    traffic, node, frame = KINDS["alarm"]
    packets = elision.encode(frame, traffic, NETWORK, node, most_bytes=66)
    heard = receiver(6, (NODE, 5))
    heard.feed(packets[0], 0)
    rng = random.Random(13)
    for now_ms in range(500):
        heard.feed(packets[0][:2] + (5).to_bytes(4, "big") + rng.randbytes(2) + bytes((0x01,)) + rng.randbytes(30), now_ms)
    assert [packet.frame for packet in heard.feed(packets[1], 501)] == [frame]


def test_strangers_take_no_room() -> None:
    """Pieces of nodes nobody knows, and of networks nobody belongs to, are refused before anything is kept."""
    packets = elision.encode(KINDS["alarm"][2], TRAFFIC_UPLINK, NETWORK, NODE, most_bytes=66)
    heard = receiver(known=(5,))
    with pytest.raises(RemoteError, match="unknown_node"):
        heard.feed(packets[0], 0)
    with pytest.raises(RemoteError, match="foreign_network"):
        heard.feed(packets[0][:1] + b"\x00" + packets[0][2:], 0)
    assert heard._held == []
