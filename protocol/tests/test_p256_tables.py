"""Every way a comb table can be wrong, and that none of them yields a wrong signature."""

import subprocess
import sys
from binascii import crc32
from pathlib import Path

import pytest
from lamppost_protocol import es256_host, p256
from lamppost_protocol.errors import LocalError
from lamppost_protocol.p256_tables import build_generator_table, build_table

PROTOCOL = Path(__file__).resolve().parents[1]
PRIVATE_KEY = bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")  # RFC 6979 A.2.5
PUBLIC_KEY = es256_host.public_key(PRIVATE_KEY)
SAMPLE_SIGNATURE = es256_host.HostSigner(PRIVATE_KEY).sign(b"sample")
RUN_DEADLINE_S = 60


def key_table(public_key: bytes, teeth: int = 5, blocks: int = 2) -> bytes:
    return build_table(int.from_bytes(public_key[:32], "big"), int.from_bytes(public_key[32:], "big"), teeth, blocks)


def resealed(table: bytes) -> bytes:
    """The table with its checksum made right again, as a broken generator would leave it."""
    return table[:4] + crc32(table[8:], crc32(table[:4])).to_bytes(4, "big") + table[8:]


@pytest.fixture(scope="module")
def small_table() -> bytes:
    return build_generator_table(5, 2)


@pytest.fixture(scope="module")
def own_table() -> bytes:
    return key_table(PUBLIC_KEY)


@pytest.mark.parametrize(("teeth", "blocks"), [(2, 1), (2, 8), (3, 5), (4, 1), (7, 3), (8, 2)])
def test_any_shape_signs_alike(teeth: int, blocks: int) -> None:
    """The shape trades memory for speed and nothing else; two shapes work together in one verifier."""
    table = build_generator_table(teeth, blocks)
    signature = p256.Signer(PRIVATE_KEY, table).sign(b"sample")
    assert signature == SAMPLE_SIGNATURE
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
    broken += [resealed(small_table + b"\x00" * 64), resealed(small_table[:-64]), resealed(b"CU" + small_table[2:])]
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
    stopped = 0
    for place in range(8 + 5, len(small_table), 64):
        table = bytearray(small_table)
        table[place] ^= 0x10
        try:
            signature = p256.Signer(PRIVATE_KEY, resealed(bytes(table))).sign(b"sample")
        except LocalError:
            stopped += 1
        else:
            assert signature == SAMPLE_SIGNATURE
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


def test_the_generator_script_writes_both_tables(tmp_path: Path) -> None:
    """Run as a technician or the Makefile runs it, from any folder, with a bare interpreter path."""
    out = tmp_path / "deep" / "tables"
    command = [sys.executable, "-S", str(PROTOCOL / "make_tables.py"), "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_DEADLINE_S, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert (out / "generator_2k.tbl").read_bytes() == build_generator_table(5, 2)
    assert (out / "generator_8k.tbl").read_bytes() == build_generator_table(6, 4)
    assert "generator_8k.tbl 8200 bytes" in run.stdout
