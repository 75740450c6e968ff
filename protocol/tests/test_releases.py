"""Releases: what is encoded is decoded, one form each; a body is read as a stream; whatever else comes is refused by name."""

import io
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import cbor, cose, frames, releases
from lamppost_protocol.errors import LocalError, ProtocolError, RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier, generate_private_key, public_key
from lamppost_protocol.limits import MAX_TX

KEY = generate_private_key()
SIGNER = HostSigner(KEY)
VERIFIER = HostVerifier(public_key(KEY))
NETWORK, ISSUER = 0x1E240, 0xA1000001

U32 = st.integers(0, 0xFFFFFFFF)
OFFSETS = st.integers(0, 1310).map(lambda i: i * 200)
WANTS = st.builds(releases.Want, U32, st.integers(1, 0xFFFFFFFF), st.binary(min_size=8, max_size=8), OFFSETS, st.integers(1, 8))
PIECES = st.builds(releases.Piece, st.binary(min_size=8, max_size=8), OFFSETS, st.binary(min_size=1, max_size=200))
MANIFESTS = st.builds(
    releases.Manifest, st.integers(1, MAX_TX), st.binary(min_size=8, max_size=8),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=16), U32, st.integers(1, 262144),
    st.binary(min_size=32, max_size=32),
)  # fmt: skip
NAMES = st.builds(
    lambda package, parts: package + "/" + "/".join(parts) + ".mpy",
    st.sampled_from(releases.PACKAGES),
    st.lists(st.from_regex(r"[a-z0-9][a-z0-9_]{0,9}", fullmatch=True), min_size=1, max_size=3),
).filter(lambda name: name != "lamppost_node/slot.mpy")
FILES = st.dictionaries(NAMES, st.binary(max_size=700), min_size=1, max_size=6)
ANY_VALUE = st.integers(-(1 << 40), 1 << 40) | st.none() | st.booleans() | st.binary(max_size=300) | st.text(max_size=40)


@given(MANIFESTS)
def test_a_manifest_survives(manifest: releases.Manifest) -> None:
    """Signed and opened it is itself; in another network, or as a downlink of this one, it verifies nowhere."""
    data = releases.seal_manifest(SIGNER, NETWORK, ISSUER, manifest)
    assert releases.open_manifest(data, VERIFIER, NETWORK, ISSUER) == manifest
    with pytest.raises(RemoteError) as refused:
        releases.open_manifest(data, VERIFIER, NETWORK + 1, ISSUER)
    assert refused.value.reason == "bad_signature"
    with pytest.raises(RemoteError) as refused:
        releases.open_manifest(data, VERIFIER, NETWORK, ISSUER + 1)
    assert refused.value.reason == "unknown_issuer"
    for direction in (frames.ORDER, frames.BEACON):
        with pytest.raises(RemoteError) as refused:
            frames.open_signed(cose.decode(data), VERIFIER, direction, NETWORK, 0, 0)
        assert refused.value.reason == "bad_signature"


@given(MANIFESTS, st.data())
def test_no_flipped_bit_gives_another_manifest(manifest: releases.Manifest, data: st.DataObject) -> None:
    sealed = bytearray(releases.seal_manifest(SIGNER, NETWORK, ISSUER, manifest))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteError):
        releases.open_manifest(bytes(sealed), VERIFIER, NETWORK, ISSUER)


def read_body(body: bytes, size_bytes: int) -> dict[str, bytes]:
    stream = io.BytesIO(body)
    return {name: stream.read(size) for name, size in releases.files_of(stream.read, size_bytes)}


@given(FILES)
def test_a_body_survives(files: dict[str, bytes]) -> None:
    """Whatever order the files are given in, there is one body, and it gives them back."""
    body = releases.encode_body(files.items())
    assert releases.encode_body(list(files.items())[::-1]) == body
    assert read_body(body, len(body)) == files


@given(FILES, st.data())
def test_a_spoilt_body_is_refused_or_is_another(files: dict[str, bytes], data: st.DataObject) -> None:
    """A flipped bit, a lost or an added octet: refused by name, or the files of exactly these octets; nothing outside the two packages."""
    body = bytearray(releases.encode_body(files.items()))
    at = data.draw(st.integers(0, len(body) - 1))
    how = data.draw(st.sampled_from(("flip", "cut", "insert")))
    if how == "flip":
        body[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del body[at:]
    else:
        body.insert(at, data.draw(st.integers(0, 255)))
    try:
        found = read_body(bytes(body), len(body))
    except RemoteError as error:
        assert error.reason == "bad_payload"
        return
    assert all(releases.is_file_name(name) and name.startswith(("lamppost_node/", "lamppost_protocol/")) for name in found)
    assert not found or releases.encode_body(found.items()) == bytes(body)


@given(st.binary(max_size=200))
def test_garbage_is_no_body(body: bytes) -> None:
    try:
        found = read_body(body, len(body))
    except RemoteError as error:
        assert error.reason == "bad_payload"
    else:
        assert not body or releases.encode_body(found.items()) == body


def test_the_largest_body() -> None:
    """262144 octets are a body, one more is none."""
    name = "lamppost_node/a.mpy"
    head = 1 + len(name) + 4
    body = releases.encode_body([(name, bytes(262144 - head))])
    assert len(body) == 262144
    assert read_body(body, len(body)) == {name: bytes(262144 - head)}
    with pytest.raises(LocalError) as refused:
        releases.encode_body([(name, bytes(262145 - head))])
    assert refused.value.reason == "too_long"


@given(FILES)
def test_a_base_is_named_by_all_of_it(files: dict[str, bytes]) -> None:
    """Every octet of every file and name counts, and where one ends."""
    rows = sorted((name, sha256(content).digest()) for name, content in files.items())
    base = releases.base_of(rows)
    assert len(base) == 8
    assert base == sha256(b"".join(bytes((len(n),)) + n.encode() + d for n, d in rows)).digest()[:8]
    assert releases.base_of(rows[:-1]) != base


@pytest.mark.parametrize("kind", ["want", "piece"])
@given(data=st.data())
def test_a_hint_survives_and_has_one_form(kind: str, data: st.DataObject) -> None:
    """One field of any type and size in a good message: encoder and decoder agree whether it is one."""
    encode, decode = getattr(releases, f"encode_{kind}"), getattr(releases, f"decode_{kind}")
    message = data.draw(WANTS if kind == "want" else PIECES)
    assert decode(encode(message)) == message
    spoilt = [*message]
    spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(ANY_VALUE)
    try:
        body = encode(type(message)(*spoilt))
    except LocalError:
        try:
            body = cbor.encode(spoilt)
        except LocalError:
            return  # no CBOR of ours either
        with pytest.raises(RemoteError) as refused:
            decode(body)
        assert refused.value.reason == "bad_payload"
    else:
        assert [*decode(body)] == spoilt


@given(st.binary(max_size=60))
def test_garbage_is_refused_by_name(body: bytes) -> None:
    for read in (releases.decode_want, releases.decode_piece, lambda octets: releases.decode_manifest(1, octets)):
        with pytest.raises(ProtocolError) as refused:
            read(body)
        assert refused.value.reason == "bad_payload"
