"""Properties of the codec that no table of cases can hold: round trips, chunking, and that garbage is harmless (R07, R09)."""

import os
import random

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_protocol import cbor, cose, frames, hop, records, slip
from lamppost_protocol.errors import ProtocolError, RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier, generate_private_key, public_key

KEY = generate_private_key()
SIGNER = HostSigner(KEY)
VERIFIER = HostVerifier(public_key(KEY))
HOP_KEY = hop.HopKey(bytes(range(32)))

INTEGERS = st.integers(-(1 << 63), (1 << 64) - 1)
ASCII = st.text(st.characters(max_codepoint=127), max_size=30)
SCALARS = INTEGERS | st.binary(max_size=300) | ASCII | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(INTEGERS | ASCII, inner, max_size=6),
    max_leaves=20,
)
VALUE_LISTS = st.lists(st.integers(-(1 << 40), 1 << 40) | st.none(), max_size=24)
RECORDS = st.lists(st.tuples(st.integers(1, 15), st.integers(0, 90000) | st.none(), st.integers(0, 7), VALUE_LISTS), min_size=1, max_size=8)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(v) for v in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(v) for v in value), default=0)
    return 0


@given(VALUES)
def test_what_is_encoded_is_decoded(value: object) -> None:
    """Round trip, and cbor2 reads the same value; only depth is refused, by us, by name."""
    if depth(value) > 6:
        with pytest.raises(ProtocolError):
            cbor.encode(value)
        return
    data = cbor.encode(value)
    assert cbor.decode(data) == value
    assert cbor2.loads(data) == value


@given(st.binary(max_size=80))
def test_one_value_has_one_form(data: bytes) -> None:
    """Arbitrary octets are refused by name, or they are exactly what the encoder writes for the value they hold."""
    try:
        value = cbor.decode(data)
    except RemoteError as error:
        assert error.reason == "bad_cbor"
    else:
        assert cbor.encode(value) == data


@given(st.integers(1, 1 << 47), st.integers(0, 1 << 33), st.integers(0, 1 << 20), RECORDS)
def test_a_payload_survives(n: int, t: int, clock: int, rows: list) -> None:
    wanted = [[kind, dt, q, *values] for kind, dt, q, values in rows]
    try:
        payload = records.encode_uplink(n, n - 1, t, clock, wanted)
    except ProtocolError as error:
        assert error.reason == "too_long"
        return
    assert records.decode_uplink(payload) == records.Uplink(n, n - 1, t, clock, wanted)


@given(st.lists(st.tuples(st.sampled_from(slip.TYPES), st.binary(max_size=200)), max_size=6), st.data())
def test_any_chunking_gives_the_same_messages(messages: list, data: st.DataObject) -> None:
    line = b"".join(slip.encode(kind, body) for kind, body in messages)
    decoder = slip.Decoder()
    heard = []
    while line:
        size = data.draw(st.integers(1, len(line)))
        heard += decoder.feed(line[:size])
        line = line[size:]
    assert heard == messages


@given(st.lists(st.binary(min_size=1, max_size=120), min_size=3, max_size=6), st.binary(min_size=1, max_size=60), st.data())
def test_noise_costs_what_it_hits_and_at_most_one_more(bodies: list, noise: bytes, data: st.DataObject) -> None:
    """A burst laid over the line, or inserted into it, costs the messages it touches and at most one more; nothing false is heard."""
    lines = [slip.encode(slip.FRAME, body) for body in bodies]
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    whole = b"".join(lines)
    at = data.draw(st.integers(0, len(whole)))
    is_overwritten = data.draw(st.booleans())
    end = min(at + len(noise), len(whole)) if is_overwritten else at
    spoilt = whole[:at] + noise + whole[end:]
    touched = [i for i, start in enumerate(starts) if start < max(end, at + 1) and start + len(lines[i]) > at]
    heard = [body for _, body in slip.Decoder().feed(spoilt)]
    assert set(heard) <= set(bodies)
    assert len(bodies) - len(heard) <= len(touched) + 1


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 8), st.integers(0, 40)), max_size=30))
def test_receive_window_against_a_plain_set(heard: list) -> None:
    """`fresh`, `highest` and `bitmap` are what a set of numbers says, whatever the order and repetition."""
    from lamppost_protocol.arq import ReceiveWindow

    window, seen, floor = ReceiveWindow(), set(), 0
    for n, count, behind in heard:
        behind = min(behind, n - 1)
        floor = max(floor, n - behind - 1)
        wanted = {n + i for i in range(count)}
        fresh = window.note(n, count, behind)
        assert {n + i for i in range(count) if fresh >> i & 1} == {m for m in wanted if m > floor and m not in seen}
        seen |= wanted
        while floor + 1 in seen:
            floor += 1
        assert window.highest == floor
        assert {floor + 1 + i for i in range(400) if window.bitmap >> i & 1} == {m for m in seen if m > floor}


@given(st.lists(st.integers(1, 400), max_size=60))
def test_replay_window_against_a_plain_set(counters: list) -> None:
    from lamppost_protocol.replay import ReplayWindow

    window, seen = ReplayWindow(), set()
    for tx in counters:
        expected = "replayed" if tx in seen else "too_old" if seen and tx <= max(seen) - 64 else None
        if expected == "replayed" and tx <= max(seen) - 64:
            expected = "too_old"
        try:
            window.accept(tx)
            assert expected is None
            seen.add(tx)
        except RemoteError as error:
            assert error.reason == expected


def seal(tx: int, payload: bytes) -> bytes:
    return frames.seal(SIGNER, frames.UPLINK, 7, 9, 1, 9, tx, payload)


def accept(data: bytes) -> bytes:
    return frames.open_signed(cose.decode(data), VERIFIER, frames.UPLINK, 7, 9, 1)


def test_a_frame_verifies_in_no_other_context() -> None:
    """R06: other direction, network, node, epoch: the signature does not hold."""
    message = cose.decode(seal(1, b"\x01"))
    for context in ((1, 7, 9, 1), (2, 7, 9, 1), (3, 7, 9, 1), (0, 8, 9, 1), (0, 7, 10, 1), (0, 7, 9, 2)):
        with pytest.raises(RemoteError) as caught:
            frames.open_signed(message, VERIFIER, *context)
        assert caught.value.reason == "bad_signature"


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """One structure-aware change: flips, cuts, insertions, doubled pieces, pieces of another frame, lengths and heads nudged."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out)) if out else 0
        choice = rng.randrange(9)
        if choice == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif choice == 1 and out:
            out[at] = rng.choice((0x00, 0x17, 0x18, 0x1B, 0x5F, 0x80, 0x9F, 0xA0, 0xC0, 0xD2, 0xF6, 0xFB, 0xFF))
        elif choice == 2:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif choice == 3:
            del out[at : at + rng.randrange(1, 20)]
        elif choice == 4:
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        elif choice == 5:
            cut = rng.randrange(len(other))
            out[at : at + 30] = other[cut : cut + 30]
        elif choice == 6:
            out += rng.randbytes(rng.randrange(1, 30))
        elif choice == 7:
            out[at:at] = b"\x81" * rng.randrange(1, 60)
        elif out:
            out[at] = (out[at] + rng.choice((-1, 1))) & 0xFF
    return bytes(out)


def garbage(count: int, seed: int) -> tuple[int, dict[str, int]]:
    """Return (accepted, refusals by reason) for `count` mutated or random strings through frame, payload and line decoders."""
    rng = random.Random(seed)
    originals = [
        seal(tx, records.encode_uplink(tx, 0, 1793620800, 2, [[1, 0, 0, 60, 60, 472, 2310, 215, 950, 123456, 1, 0]] * (1 + tx % 3)))
        for tx in range(1, 9)
    ]
    tags = [frames.seal_acknowledgement(HOP_KEY, 7, 9, 1, n, 5, bytes(8)) for n in range(4)]
    pool = originals + tags
    refused: dict[str, int] = {}
    accepted = 0
    for i in range(count):
        data = rng.randbytes(rng.randrange(0, 200)) if i % 10 == 0 else mutate(rng, rng.choice(pool), rng.choice(pool))
        if data in pool:
            continue
        try:
            message = cose.decode(data)
            if message.kind == cose.SIGN1:
                frames.open_signed(message, VERIFIER, frames.UPLINK, 7, 9, 1)
            else:
                frames.open_acknowledgement(message, HOP_KEY, 7, 9, 1)
            accepted += 1
        except RemoteError as error:
            refused[error.reason] = refused.get(error.reason, 0) + 1
        if i % 4 == 0:
            try:
                records.decode_uplink(data)
            except RemoteError as error:
                assert error.reason == "bad_payload"
            slip.Decoder().feed(data)
    return accepted, refused


SEED = int(os.environ.get("LAMPPOST_SEED", random.randrange(1 << 32)))


def test_a_hundred_thousand_mutations() -> None:
    """R07: none accepted, no exception but RemoteError, and the refusals reach every layer."""
    print("seed", SEED)
    accepted, refused = garbage(100_000, SEED)
    assert accepted == 0
    assert {"bad_cbor", "bad_cose", "bad_algorithm", "bad_signature", "bad_tag"} <= set(refused), refused


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_mutations() -> None:
    print("seed", SEED)
    assert garbage(1_000_000, SEED)[0] == 0


class _TakesEveryTag(hop.HopKey):
    """So that what a wrong tag would hide is compared too."""

    def verify(self, message: bytes, tag: bytes) -> None:
        self.seen = message, tag


def _outcome(key: hop.HopKey, is_reader: bool, data: bytes) -> object:
    try:
        if is_reader:
            return frames.AcknowledgementReader(key, 7, 9, 1).open(data)
        return frames.open_acknowledgement(cose.decode(data), key, 7, 9, 1)
    except RemoteError as error:
        return error.reason


@pytest.mark.parametrize("key", [HOP_KEY, _TakesEveryTag(bytes(range(32)))])
def test_the_nodes_reader_takes_what_the_decoder_takes(key: hop.HopKey) -> None:
    """Every octet of an acknowledgement changed to every other, left out or doubled: the same answer, or the same reason."""
    for highest, bitmap, steps in ((3, 0, None), (100_000, 0xFFFFFFFF, 8), (2**40, 0xFFFFFFFF, -8), (2**40, 0xFFFFFFFF, None)):
        whole = frames.seal_acknowledgement(HOP_KEY, 7, 9, 1, highest, bitmap, bytes(range(8)), steps)
        assert _outcome(key, True, whole) == frames.Acknowledgement(highest, bitmap, bytes(range(8)), steps)
        for at in range(len(whole)):
            changed = [whole[:at] + bytes((octet,)) + whole[at + 1 :] for octet in range(256)]
            for data in (whole[:at], whole[:at] + whole[at + 1 :], whole[:at] + whole[at : at + 1] * 2 + whole[at + 1 :], *changed):
                found = _outcome(key, True, data), getattr(key, "seen", None)
                assert found == (_outcome(key, False, data), getattr(key, "seen", None)), data.hex()


def test_garbage_leaves_no_growth() -> None:
    """R07: after a first thousand, ten thousand more leave less than 1 MB behind."""
    import tracemalloc

    garbage(1000, SEED)
    tracemalloc.start()
    garbage(1000, SEED + 1)
    before = tracemalloc.get_traced_memory()[0]
    garbage(10_000, SEED + 2)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1_000_000


@settings(max_examples=50)
@given(st.integers(0, 3000))
def test_oversize_is_dropped_while_counting(size: int) -> None:
    """A line longer than the cap costs itself; the next message is heard and nothing of it was kept."""
    decoder = slip.Decoder()
    heard = decoder.feed(slip.END + b"\x55" * (2059 + size)) + decoder.feed(b"\x55" * 5000 + slip.encode(slip.FRAME, b"next"))
    assert heard == [(slip.FRAME, b"next")]
    assert decoder.too_long == 1
