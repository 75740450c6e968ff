"""Makes the comb tables that `p256.py` signs and verifies with. A 2 KB table takes some 100 M instructions and 10 KB of heap.

Runs on both runtimes: the host makes the generator's tables and the pinned key's at provisioning, and a node that is
handed a new command key can make that key's table itself, once.

Table: "CT" | teeth (1) | blocks (1) | CRC-32 of all else (4, big-endian) | blocks * 2^(teeth-1) points x || y (32 + 32).
With columns = ceil(257 / (teeth * blocks)) and weight(block, tooth) = 2^(columns * (tooth * blocks + block)), the point of
(block, index) is the base times: weight of the top tooth plus, for each lower tooth, its weight if that bit of index is
set, minus its weight if not. The top tooth's minus sign is taken by negating the point.
"""

from binascii import crc32

from lamppost_protocol.errors import LocalError
from lamppost_protocol.p256 import (
    FIELD_PRIME,
    GENERATOR_X,
    GENERATOR_Y,
    SCALAR_BITS,
    TABLE_MAGIC,
    add,
    double,
    inverse,
    is_on_curve,
)


def _affine(x: int, y: int, z: int) -> tuple[int, int]:
    """Affine coordinates of a finite Jacobian point."""
    z_inverse = inverse(z, FIELD_PRIME)
    zz = z_inverse * z_inverse % FIELD_PRIME
    return x * zz % FIELD_PRIME, y * (zz * z_inverse % FIELD_PRIME) % FIELD_PRIME


def build_table(x: int, y: int, teeth: int, blocks: int) -> bytes:
    """Comb table of the point (x, y) with 2..8 teeth and 1..8 blocks; (5, 2) takes 2,056 bytes and (6, 4) 8,200.

    Raises LocalError: "bad_key" for a point off the curve, "bad_table" for a shape out of range.
    """
    if not 0 <= x < FIELD_PRIME or not 0 <= y < FIELD_PRIME or not is_on_curve(x, y):
        raise LocalError("bad_key", "public key")
    if not 2 <= teeth <= 8 or not 1 <= blocks <= 8:
        raise LocalError("bad_table", "shape")
    columns = (SCALAR_BITS + teeth * blocks - 1) // (teeth * blocks)
    weighted = [(x, y)]  # weighted[tooth * blocks + block]
    for _ in range(teeth * blocks - 1):
        z = 1
        for _ in range(columns):
            x, y, z = double(x, y, z)
        x, y = _affine(x, y, z)
        weighted.append((x, y))
    head = TABLE_MAGIC + bytes((teeth, blocks))
    body = bytearray(blocks << (teeth + 5))
    place = 0
    for block in range(blocks):
        x, y = weighted[(teeth - 1) * blocks + block]
        steps = []  # from a minus to a plus of each lower tooth
        for tooth in range(teeth - 1):
            x2, y2 = weighted[tooth * blocks + block]
            x, y = _affine(*add(x, y, 1, x2, FIELD_PRIME - y2))
            steps.append(_affine(*double(x2, y2, 1)))
        points = [(x, y)]
        for index in range(1, 1 << (teeth - 1)):
            tooth = 0
            while index >> tooth & 1 == 0:
                tooth += 1
            x, y = points[index & (index - 1)]
            x2, y2 = steps[tooth]
            points.append(_affine(*add(x, y, 1, x2, y2)))
        for x, y in points:
            body[place : place + 32] = x.to_bytes(32, "big")
            body[place + 32 : place + 64] = y.to_bytes(32, "big")
            place += 64
    return head + crc32(body, crc32(head)).to_bytes(4, "big") + body


def build_generator_table(teeth: int, blocks: int) -> bytes:
    """Comb table of the curve's generator, which every signer and verifier needs."""
    return build_table(GENERATOR_X, GENERATOR_Y, teeth, blocks)
