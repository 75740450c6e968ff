"""Writes vectors/es256.json: `python protocol/make_es256_vectors.py [--check]`. Computed by school arithmetic and `hmac`, not by p256.py.

Every case is {"id", "op", "in", "out" or "error"}, octets in hex.
"es256.sign": private_key, message -> public_key, digest, k, r, s (as the algorithm finds them), signature (r || s in its low half).
"es256.verify": public_key, message, signature -> {} or the error's name.
"""

import hashlib
import hmac
import json
import sys
from pathlib import Path

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
RFC_KEY = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
OTHER_KEY = 0x1111111111111111111111111111111111111111111111111111111111111111
RFC_PUBLISHED = {  # RFC 6979 A.2.5, with SHA-256: k, r, s
    "sample": (
        "a6e3c57dd01abe90086538398355dd4c3b17aa873382b0f24d6129493d8aad60",
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    ),
    "test": (
        "d16b6ae827f17175e040871a1c7ec3500192c4c92677336ec2537acaee0008e0",
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
    ),
}

Point = tuple[int, int] | None
Case = dict[str, object]


def hex32(number: int) -> str:
    """64 hex digits."""
    return f"{number:064x}"


def add(a: Point, b: Point) -> Point:
    """Affine sum; None is infinity."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(scalar: int, point: Point) -> Point:
    """Double and add."""
    total: Point = None
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def public_hex(scalar: int) -> str:
    """x || y of a private key's public key."""
    point = multiply(scalar, G)
    assert point is not None
    return hex32(point[0]) + hex32(point[1])


def digest_of(message: bytes) -> int:
    """SHA-256 as a number."""
    return int.from_bytes(hashlib.sha256(message).digest(), "big")


def nonce(key: int, message: bytes) -> int:
    """The first candidate k. Ref: RFC 6979 3.2."""
    seed = key.to_bytes(32, "big") + (digest_of(message) % N).to_bytes(32, "big")
    v, mac_key = b"\x01" * 32, b"\x00" * 32
    for octet in (b"\x00", b"\x01"):
        mac_key = hmac.new(mac_key, v + octet + seed, "sha256").digest()
        v = hmac.new(mac_key, v, "sha256").digest()
    return int.from_bytes(hmac.new(mac_key, v, "sha256").digest(), "big")


def sign_case(name: str, key: int, message: bytes) -> Case:
    """One signing case with every intermediate."""
    k = nonce(key, message)
    point = multiply(k, G)
    assert point is not None
    assert 0 < k < N
    r = point[0] % N
    s = pow(k, -1, N) * (digest_of(message) + r * key) % N
    return {
        "id": "es256-sign-" + name,
        "op": "es256.sign",
        "in": {"private_key": hex32(key), "message": message.hex()},
        "out": {
            "public_key": public_hex(key),
            "digest": hex32(digest_of(message)),
            "k": hex32(k),
            "r": hex32(r),
            "s": hex32(s),
            "signature": hex32(r) + hex32(min(s, N - s)),
        },
    }


def verify_case(name: str, public_key: str, message: bytes, signature: str, is_good: bool = False) -> Case:
    """One verifying case; the refused ones all carry the one error name."""
    case: Case = {
        "id": ("es256-verify-" if is_good else "es256-refused-") + name,
        "op": "es256.verify",
        "in": {"public_key": public_key, "message": message.hex(), "signature": signature},
    }
    if is_good:
        case["out"] = {}
    else:
        case["error"] = "bad_signature"
    return case


def sign_cases() -> list[Case]:
    """The RFC's two, then edge messages and edge keys."""
    cases = []
    for text, published in RFC_PUBLISHED.items():
        case = sign_case("rfc6979-" + text, RFC_KEY, text.encode())
        out = case["out"]
        assert isinstance(out, dict)
        assert (out["k"], out["r"], out["s"]) == published
        cases.append(case)
    cases.append(sign_case("empty-message", RFC_KEY, b""))
    cases.append(sign_case("one-kilobyte", RFC_KEY, bytes(range(256)) * 4))
    cases.append(sign_case("key-one", 1, b"smallest key"))
    cases.append(sign_case("key-largest", N - 1, b"largest key"))
    cases.append(sign_case("key-leading-zeros", 0xABCDEF, b"a key with 29 zero octets"))
    cases += [sign_case(f"frame-{i}", OTHER_KEY * i, b"frame %d" % i) for i in range(1, 7)]
    return cases


def signed_with(key: int, k: int, message: bytes) -> tuple[int, int]:
    """r and s for a chosen k, s not normalised."""
    point = multiply(k, G)
    assert point is not None
    r = point[0] % N
    return r, pow(k, -1, N) * (digest_of(message) + r * key) % N


def key_for_s(k: int, s: int, message: bytes) -> tuple[str, int]:
    """The public key for which (r of k, s) signs `message`, and r."""
    point = multiply(k, G)
    assert point is not None
    r = point[0] % N
    return public_hex(pow(r, -1, N) * (s * k - digest_of(message)) % N), r


def point_above_order() -> tuple[int, int]:
    """A curve point whose x is not below the order: 1 in 2^128 by chance, so it is sought from there."""
    x = N
    while True:
        square = (x * x * x - 3 * x + B) % P
        y = pow(square, (P + 1) // 4, P)
        if y * y % P == square:
            return x, y
        x += 1


def verify_cases() -> list[Case]:
    """Good ones at every boundary, and everything that must be refused."""
    message = b"sample"
    public_key = public_hex(RFC_KEY)
    r, s = int(RFC_PUBLISHED["sample"][1], 16), N - int(RFC_PUBLISHED["sample"][2], 16)
    good = hex32(r) + hex32(s)
    cases = [
        verify_case("rfc6979-sample-low", public_key, message, good, True),
        verify_case("rfc6979-test", public_key, b"test", "".join(RFC_PUBLISHED["test"][1:]), True),
        verify_case("rfc6979-sample-high-s", public_key, message, hex32(r) + hex32(N - s)),
        verify_case("r-zero", public_key, message, hex32(0) + hex32(s)),
        verify_case("s-zero", public_key, message, hex32(r) + hex32(0)),
        verify_case("both-zero", public_key, message, hex32(0) * 2),
        verify_case("r-order", public_key, message, hex32(N) + hex32(s)),
        verify_case("s-order", public_key, message, hex32(r) + hex32(N)),
        verify_case("s-order-and-s", public_key, message, hex32(r) + hex32(min(s + N, (1 << 256) - 1))),
        verify_case("r-all-ones", public_key, message, "ff" * 32 + hex32(s)),
        verify_case("r-prime", public_key, message, hex32(P) + hex32(s)),
        verify_case("swapped", public_key, message, hex32(s) + hex32(r)),
        verify_case("r-flipped", public_key, message, hex32(r ^ 1) + hex32(s)),
        verify_case("s-flipped", public_key, message, hex32(r) + hex32(s ^ 1)),
        verify_case("message-flipped", public_key, b"samplf", good),
        verify_case("message-longer", public_key, message + b"\x00", good),
        verify_case("wrong-key", public_hex(OTHER_KEY), message, good),
        verify_case("negated-key", public_hex(N - RFC_KEY), message, good),
        verify_case("truncated", public_key, message, good[:-2]),
        verify_case("longer", public_key, message, good + "00"),
        verify_case("empty", public_key, message, ""),
        verify_case("der", public_key, message, "3044" + "0220" + hex32(r) + "0220" + hex32(s)),
    ]
    # u1 * G + u2 * Q is infinity: no x to compare with.
    infinity_r = -digest_of(message) * pow(RFC_KEY, -1, N) % N
    cases.append(verify_case("sum-at-infinity", public_key, message, hex32(infinity_r) + hex32(1)))
    for name, key in (("key-one", 1), ("key-largest", N - 1)):  # both tables hold the same points: sums meet equal terms
        r, s = signed_with(key, OTHER_KEY, message)
        cases.append(verify_case(name, public_hex(key), message, hex32(r) + hex32(min(s, N - s)), True))
        cases.append(verify_case(name + "-flipped", public_hex(key), message, hex32(r) + hex32(min(s, N - s) ^ 2)))
    for name, s, is_good in (("s-one", 1, True), ("s-half", N // 2, True), ("s-half-and-one", N // 2 + 1, False)):
        key_hex, r = key_for_s(OTHER_KEY, s, message)
        cases.append(verify_case(name, key_hex, message, hex32(r) + hex32(s), is_good))
        if s == 1:  # the same two numbers in fewer or more octets
            cases.append(verify_case("s-short-form", key_hex, message, hex32(r) + "01"))
            cases.append(verify_case("s-long-form", key_hex, message, hex32(r) + "00" + hex32(s)))
    # x of the nonce's point lies in ORDER..FIELD_PRIME-1, so r is x - ORDER: Q = (s R - z G) / r.
    point = point_above_order()
    r, s = point[0] - N, 7
    q = multiply(pow(r, -1, N), add(multiply(s, point), multiply(N - digest_of(message) % N, G)))
    assert q is not None
    cases.append(verify_case("x-above-order", hex32(q[0]) + hex32(q[1]), message, hex32(r) + hex32(s), True))
    cases.append(verify_case("x-above-order-r-not-reduced", hex32(q[0]) + hex32(q[1]), message, hex32(r + N) + hex32(s)))
    cases.append(verify_case("x-above-order-off", hex32(q[0]) + hex32(q[1]), message, hex32(r + 1) + hex32(s)))
    return cases


def document() -> str:
    """The whole file."""
    source = "protocol/make_es256_vectors.py (its docstring has the layout); RFC 6979 A.2.5; keys are for vectors only"
    lines = ",\n    ".join(json.dumps(case) for case in sign_cases() + verify_cases())
    return f'{{\n  "source": {json.dumps(source)},\n  "cases": [\n    {lines}\n  ]\n}}\n'


def main(arguments: list[str]) -> int:
    """Write the file; with --check only compare, status 1 if it differs."""
    path = Path(__file__).resolve().parent / "vectors" / "es256.json"
    if arguments == ["--check"]:
        return int(path.read_text() != document())
    path.write_text(document())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
