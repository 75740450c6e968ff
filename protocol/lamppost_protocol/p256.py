"""ES256 (ECDSA on P-256 with SHA-256) in plain bytecode: how a node signs its frames and checks the authority's.

Knows numbers and tables only; frames, keys' owners and flash are someone else's. Big-integer arithmetic and table look-ups
are not constant in time: good against whoever is on the wire or the air, not against a probe on the opened box.

A comb table (see `p256_tables.py`) turns 256 doublings into 10 (8 KB table) or 25 (2 KB table). A wrong entry in it would
give a wrong signature, and a wrong next to a right signature of one message gives the private key away. So a table is
checked by length, CRC-32 and the point it belongs to when it is taken, and every product made from it against the curve
equation before it is used. Ref: FIPS 186-5, SP 800-186 3.2.1.3, RFC 6979, RFC 9053 2.1.
"""

from binascii import crc32
from hashlib import sha256

from lamppost_protocol.errors import LocalError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIELD_PRIME = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CURVE_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
GENERATOR_X = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
GENERATOR_Y = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5

TABLE_MAGIC = b"CT"
TABLE_HEADER_BYTES = 8
SCALAR_BITS = 257  # an even scalar gets the (odd) order added: a comb of signs holds odd numbers only

_INNER_PAD = ((1 << 512) - 1) // 255 * 0x36  # the octet, 64 times
_OUTER_PAD = ((1 << 512) - 1) // 255 * 0x5C


def inverse(value: int, modulus: int) -> int:
    """Inverse of `value` (1..modulus-1) modulo a prime.

    Euclid by `divmod`: a tenth of the price of `pow(value, modulus - 2, modulus)`; `pow(value, -1, modulus)` silently
    answers 0 on MicroPython.
    """
    division = divmod
    a, b, u, v = modulus, value, 0, 1
    while b != 1:
        quotient, rest = division(a, b)
        a, b, u, v = b, rest, v, u - quotient * v
    return v % modulus


def is_on_curve(x: int, y: int, z: int = 1) -> bool:
    """Whether the Jacobian point satisfies the curve equation; infinity (z = 0) does not count."""
    p = FIELD_PRIME
    zz = z * z % p
    z4 = zz * zz % p
    return z != 0 and (y * y - x * (x * x % p) + 3 * x * z4 - CURVE_B * (z4 * zz % p)) % p == 0


def double(x: int, y: int, z: int) -> tuple[int, int, int]:
    """Twice a Jacobian point; infinity is z = 0."""
    p = FIELD_PRIME
    zz = z * z % p
    yy = y * y % p
    beta = (x * yy % p) << 2
    alpha = 3 * (x - zz) * (x + zz) % p
    x = (alpha * alpha - beta - beta) % p
    z = 2 * y * z % p
    return x, (alpha * (beta - x) - 8 * yy * yy) % p, z


def add(x: int, y: int, z: int, x2: int, y2: int) -> tuple[int, int, int]:
    """Jacobian point (x, y, z) plus the affine point (x2, y2); right for equal, opposite and infinite points too."""
    if z == 0:
        return x2, y2, 1
    p = FIELD_PRIME
    zz = z * z % p
    h = (x2 * zz - x) % p
    r = (y2 * (zz * z % p) - y) % p
    if h == 0:
        return double(x, y, z) if r == 0 else (1, 1, 0)
    hh = h * h % p
    v = x * hh % p
    hhh = hh * h % p
    x = (r * r - hhh - v - v) % p
    return x, (r * (v - x) - y * hhh) % p, z * h % p


class Comb:
    """A checked comb table of one point; keeps a reference to `table`, which must never change."""

    def __init__(self, table: bytes | memoryview, x: int, y: int) -> None:
        """Raises LocalError("bad_table") unless `table` is whole and belongs to the point (x, y)."""
        if len(table) < TABLE_HEADER_BYTES or table[:2] != TABLE_MAGIC:
            raise LocalError("bad_table", "no comb table")
        self.teeth = table[2]
        self.blocks = table[3]
        if not 2 <= self.teeth <= 8 or not 1 <= self.blocks <= 8:
            raise LocalError("bad_table", "shape")
        if len(table) != TABLE_HEADER_BYTES + (self.blocks << (self.teeth + 5)):
            raise LocalError("bad_table", "length")
        self._points = memoryview(table)[TABLE_HEADER_BYTES:]
        if crc32(self._points, crc32(table[:4])) != int.from_bytes(table[4:8], "big"):
            raise LocalError("bad_table", "crc")
        self.columns = (SCALAR_BITS + self.teeth * self.blocks - 1) // (self.teeth * self.blocks)
        self._half = 1 << (self.teeth - 1)
        # The first two entries differ in the sign of the lowest tooth: by twice the point the table was made for.
        x0, y0 = self.point(0, self._half)
        x1, y1 = self.point(0, self._half + 1)
        x, y, z = double(x, y, 1)
        x, y, z = add(x, y, z, x0, y0)
        if not is_on_curve(x, y, z) or (x1 * z * z - x) % FIELD_PRIME or (y1 * z * z * z - y) % FIELD_PRIME:
            raise LocalError("bad_table", "another point")

    def point(self, block: int, digit: int) -> tuple[int, int]:
        """The affine point of one digit: bit j of `digit` is the sign of tooth j, 1 for plus."""
        half = self._half
        start = block * half
        if digit < half:
            start = start + half - 1 - digit << 6
            y = FIELD_PRIME - int.from_bytes(self._points[start + 32 : start + 64], "big")
        else:
            start = start + digit - half << 6
            y = int.from_bytes(self._points[start + 32 : start + 64], "big")
        return int.from_bytes(self._points[start : start + 32], "big"), y

    def digits(self, scalar: int) -> bytes:
        """Digits of a scalar (0..ORDER), byte block * columns + column, lowest column first."""
        if scalar & 1 == 0:
            scalar += ORDER
        count = self.columns * self.blocks
        scalar = (scalar + (1 << count * self.teeth) - 1) >> 1  # bit i set now means +2^i, clear means -2^i
        ones = int.from_bytes(b"\x01" * count, "big")
        mask = (1 << count) - 1
        digits = 0
        for tooth in range(self.teeth - 1, -1, -1):
            # A tooth's bits as text, one octet each: then all columns are assembled at once by a big-integer sum.
            text = bin(scalar >> tooth * count & mask | mask + 1)[3:]
            digits = (digits << 1) + (int.from_bytes(text.encode(), "big") & ones)
        return digits.to_bytes(count, "little")


def _multiply(scalar: int, comb: Comb, scalar2: int = 0, comb2: Comb | None = None) -> tuple[int, int, int]:
    """Jacobian scalar * point, plus scalar2 * point2 when a second comb is given; the doublings are shared."""
    digits = comb.digits(scalar)
    columns = comb.columns
    digits2 = b""
    if comb2:
        digits2 = comb2.digits(scalar2)
        columns = max(columns, comb2.columns)
    x = y = z = 0
    for column in range(columns - 1, -1, -1):
        if z:
            x, y, z = double(x, y, z)
        if column < comb.columns:
            for block in range(comb.blocks):
                x2, y2 = comb.point(block, digits[block * comb.columns + column])
                x, y, z = add(x, y, z, x2, y2)
        if comb2 and column < comb2.columns:
            for block in range(comb2.blocks):
                x2, y2 = comb2.point(block, digits2[block * comb2.columns + column])
                x, y, z = add(x, y, z, x2, y2)
    return x, y, z


def _hmac(key32: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256 under a 32-byte key. Pads by one big XOR: half the price of a generator."""
    key = int.from_bytes(key32, "big") << 256
    inner = sha256((key ^ _INNER_PAD).to_bytes(64, "big"))
    inner.update(message)
    outer = sha256((key ^ _OUTER_PAD).to_bytes(64, "big"))
    outer.update(inner.digest())
    return outer.digest()


def nonces(private_key32: bytes, digest: int) -> "Iterator[int]":
    """The candidates for k, in order and without end, each in 1..ORDER-1; as secret as the key. Ref: RFC 6979 3.2."""
    seed = private_key32 + (digest % ORDER).to_bytes(32, "big")
    v = b"\x01" * 32
    key = _hmac(bytes(32), v + b"\x00" + seed)
    v = _hmac(key, v)
    key = _hmac(key, v + b"\x01" + seed)
    v = _hmac(key, v)
    while True:
        v = _hmac(key, v)
        k = int.from_bytes(v, "big")
        if 0 < k < ORDER:
            yield k
        key = _hmac(key, v + b"\x00")
        v = _hmac(key, v)


class Signer:
    """Signs with one private key. Holds the key in RAM; nothing it raises or shows contains it.

    `comb`: the generator's, checked.
    """

    def __init__(self, private_key32: bytes, table: bytes | memoryview) -> None:
        """`table` is a comb table of the generator, kept by reference and never to change.

        Raises LocalError: "bad_key" unless the key is 32 bytes, 1..ORDER-1; "bad_table" for a corrupt or foreign table.
        """
        if len(private_key32) != 32 or not 0 < int.from_bytes(private_key32, "big") < ORDER:
            raise LocalError("bad_key", "private key")
        self._private_key32 = bytes(private_key32)
        self.comb = Comb(table, GENERATOR_X, GENERATOR_Y)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes r || s of a message of any length: deterministic, low s, so one message has one signature.

        Blocks for 10 to 16 million RV32 instructions (counted in operations, not yet measured) and allocates some 250 KB in
        small pieces, 4 KB of them at a time.
        Raises LocalError("bad_table") when the table changed under us: no signature then, rather than a wrong one.
        """
        digest = int.from_bytes(sha256(message).digest(), "big")
        private_key = int.from_bytes(self._private_key32, "big")
        for k in nonces(self._private_key32, digest):
            x, y, z = _multiply(k, self.comb)
            if not is_on_curve(x, y, z):
                raise LocalError("bad_table", "product off the curve")
            z = inverse(z, FIELD_PRIME)
            r = x * (z * z % FIELD_PRIME) % FIELD_PRIME % ORDER
            s = inverse(k, ORDER) * (digest + r * private_key) % ORDER
            if r and s:
                if s > ORDER >> 1:
                    s = ORDER - s
                return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        raise LocalError("bad_key", "no nonce")  # not reached: the candidates never end


class Verifier:
    """Checks signatures of one public key known in advance."""

    def __init__(self, public_key64: bytes, generator_table: bytes | Comb, key_table: bytes) -> None:
        """Tables of the generator and of this very key, of any shapes, kept by reference and never to change.

        A signer's `comb` may stand for the generator's table: it is not checked again.
        Raises LocalError: "bad_key" unless the key is x || y of a point on the curve (infinity has no such form);
        "bad_table" for a corrupt table or one of another point.
        """
        x = int.from_bytes(public_key64[:32], "big")
        y = int.from_bytes(public_key64[32:], "big")
        if len(public_key64) != 64 or x >= FIELD_PRIME or y >= FIELD_PRIME or not is_on_curve(x, y):
            raise LocalError("bad_key", "public key")
        if not isinstance(generator_table, Comb):
            generator_table = Comb(generator_table, GENERATOR_X, GENERATOR_Y)
        self._generator = generator_table
        self._key = Comb(key_table, x, y)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Returns if `signature` (64 bytes, r || s, s in its low half) is the key's for `message`.

        Blocks for 17 (8 KB tables) to 21 (2 KB tables) million RV32 instructions, estimated.
        Raises RemoteError("bad_signature") for every other signature;
        LocalError("bad_table") when a table changed under us, so a rotten node does not blame its peer.
        """
        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        if len(signature) != 64:
            raise RemoteError("bad_signature", "length")
        if not 0 < r < ORDER or not 0 < s < ORDER:
            raise RemoteError("bad_signature", "range")
        if s > ORDER >> 1:
            raise RemoteError("bad_signature", "high s")
        w = inverse(s, ORDER)
        digest = int.from_bytes(sha256(message).digest(), "big")
        x, y, z = _multiply(digest * w % ORDER, self._generator, r * w % ORDER, self._key)
        if z == 0:
            raise RemoteError("bad_signature", "infinity")
        zz = z * z % FIELD_PRIME
        # r is x modulo the order, which is a little below the field's prime: two x are possible for a tiny r.
        if (r * zz - x) % FIELD_PRIME == 0 or (r + ORDER < FIELD_PRIME and ((r + ORDER) * zz - x) % FIELD_PRIME == 0):
            return
        if not is_on_curve(x, y, z):
            raise LocalError("bad_table", "product off the curve")
        raise RemoteError("bad_signature", "mismatch")
