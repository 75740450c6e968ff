"""A kit: the same octets whoever makes it, whenever and wherever; and nothing in it can change without being named."""

import hashlib
import io
import json
import os
import random
import shutil
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from lamppost_protocol.es256_host import public_key
from lamppost_tools.errors import MissingError, RefusedError, UsageError
from lamppost_tools.kit.build import Image, build_kit
from lamppost_tools.kit.esp_image import CHIPS, check_image, flash_bytes_needed, micropython_version
from lamppost_tools.kit.seal import MANIFEST, SIGNATURE, open_kit, seal
from lamppost_tools.kit.wheels import Library, find_wheels, libraries, locked_digests
from lamppost_tools.signed_document import COMMISSIONING, KIT, canonical_json, sign_document, verify_document

ROOT = Path(__file__).resolve().parents[2]
KEY, OTHER_KEY = b"\x07" * 31 + b"\x01", b"\x09" * 31 + b"\x02"
FLIPS = 400


def esp_image(chip_id: int, is_hash_appended: bool = True) -> bytes:
    """An image as Espressif's format has it: header, two segments, checksum, digest; and an application behind it."""
    segments = [(0x3FCD5820, b"data" * 9), (0x403CC700, bytes(range(256)))]
    image = struct.pack("<BBBBI", 0xE9, len(segments), 2, 0x2F, 0x403CC710)
    image += struct.pack("<B3sHBHHxxxxB", 0xEE, b"\0\0\0", chip_id, 0, 0, 0xFFFF, is_hash_appended)
    checksum = 0xEF
    for address, data in segments:
        image += struct.pack("<II", address, len(data)) + data
        for octet in data:
            checksum ^= octet
    image += bytes(15 - len(image) % 16) + bytes((checksum,))
    if is_hash_appended:
        image += hashlib.sha256(image).digest()
    return image + b"\xff" * 64 + b"the application"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def image_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("download") / "ESP32_GENERIC_C3.bin"
    path.write_bytes(esp_image(CHIPS["esp32c3"].chip_id))
    return path


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory, image_path: Path) -> Path:
    """A kit of this tree with one interpreter."""
    out = tmp_path_factory.mktemp("stick") / "kit"
    build_kit(out, KEY, [Image(image_path, "esp32c3", sha256(image_path.read_bytes()))], None, lambda text: None)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small_kit(folder: Path, key: bytes = KEY) -> Path:
    """A sealed folder that takes no compiler."""
    files = {"a/one.mpy": b"M" * 200, "two.bin": bytes(range(256)), "empty": b""}
    for name, data in (files | seal(files, {"lamppost": "0"}, key)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_two_builds_are_alike_byte_for_byte(kit: Path, image_path: Path, tmp_path: Path) -> None:
    """Another folder, another copy of the sources with other times and modes, another umask, time zone and hash seed: the same octets."""
    tree = tmp_path / "elsewhere" / "copy"
    for name in ("protocol", "firmware", "gateway", "tools", ".ci"):
        shutil.copytree(ROOT / name, tree / name, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tree / name)
    for path in tree.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            os.utime(path, (time.time() - 1e7, time.time() - 1e7))
    image = Image(image_path, "esp32c3", sha256(image_path.read_bytes()).upper())
    before = {name: os.environ.get(name) for name in ("TZ", "PYTHONHASHSEED")}
    mask = os.umask(0o077)
    os.environ.update(TZ="Pacific/Auckland", PYTHONHASHSEED="4711")
    try:
        build_kit(tmp_path / "kit", KEY, [image], None, lambda text: None, tree)
    finally:
        os.umask(mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    one, other = contents(kit), contents(tmp_path / "kit")
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


def test_a_kit_has_what_a_technician_needs(kit: Path) -> None:
    """Firmware as files and as ROMFS, the interpreter, the whole of our packages as a wheel, licences, and it names what is missing."""
    opened = open_kit(kit, public_key(KEY))
    firmware = opened.below("firmware")
    assert {"main.py", "node.romfs", "lib/lamppost_node/app.mpy", "lib/lamppost_protocol/p256.mpy"} <= set(firmware)
    assert firmware["node.romfs"][:3] == b"\xd2\xcd\x31"  # MicroPython's ROMFS magic
    assert firmware["lib/lamppost_node/app.mpy"] in firmware["node.romfs"]
    assert opened.manifest["images"] == [
        {"chip": "esp32c3", "file": "micropython/esp32c3/ESP32_GENERIC_C3.bin", "flash_offset": 0, "micropython": None}
    ]
    wheel = next(kit.glob("wheels/lamppost-*.whl"))
    packages = [ROOT / name for name in ("protocol/lamppost_protocol", "gateway/lamppost_gateway", "tools/lamppost_tools")]
    sources = {p.relative_to(q.parent).as_posix() for q in packages for p in q.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert sources <= set(zipfile.ZipFile(wheel).namelist())
    assert {"licences/lamppost/LICENSE", "licences/micropython/LICENSE", "licences/mpremote/LICENSE"} <= set(opened.files)
    missing = opened.manifest["missing_wheels"]
    assert missing == [f"{library.name}=={library.version}" for library in libraries()]
    assert all(name in opened.files["README.txt"].decode() for name in missing)


def test_the_bill_of_materials_names_every_part(kit: Path) -> None:
    """CycloneDX: each module of the firmware, the interpreter and each library with its digest or version, no time, no random number."""
    opened = open_kit(kit, public_key(KEY))
    bill = json.loads(opened.files["sbom.cdx.json"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    parts = {part["bom-ref"]: part for part in bill["components"]}
    modules = {part["name"]: part["hashes"][0]["content"] for part in parts["lamppost-node"]["components"]}
    assert modules == {name: sha256(data) for name, data in opened.below("firmware").items()}
    interpreter = "micropython/esp32c3/ESP32_GENERIC_C3.bin"
    assert parts[interpreter]["hashes"][0]["content"] == sha256(opened.files[interpreter])
    assert {f"pkg:pypi/{library.name}@{library.version}" for library in libraries()} <= set(parts)
    assert "timestamp" not in bill["metadata"]


def test_libraries_are_those_that_are_needed() -> None:
    """The closure of what pyproject.toml asks for, optional parts followed, nothing of the tests."""
    names = {library.name for library in libraries()}
    assert {"esptool", "mpremote", "pyserial", "segno", "cryptography", "cffi", "pydantic-core"} <= names
    assert not names & {"pytest", "lamppost", "ruff", "amqtt"}
    assert all(metadata.version(library.name) == library.version for library in libraries())


def test_one_flipped_bit_is_refused_and_named(tmp_path: Path) -> None:
    """Whichever bit of whichever file: no kit, and the file's name (of the manifest and its signature, either is meant)."""
    folder = small_kit(tmp_path)
    assert set(open_kit(folder, public_key(KEY)).files) == {"a/one.mpy", "two.bin", "empty"}
    seed = random.randrange(1 << 32)
    print("seed", seed)
    source = random.Random(seed)
    names = [name for name, data in contents(folder).items() if data]
    for number in range(FLIPS):
        path = folder / (names[number % len(names)])
        good = path.read_bytes()
        at, bit = source.randrange(len(good)), source.randrange(8)
        path.write_bytes(good[:at] + bytes((good[at] ^ 1 << bit,)) + good[at + 1 :])
        with pytest.raises(RefusedError) as refused:
            open_kit(folder, public_key(KEY))
        named = path.relative_to(folder).as_posix()
        assert named in refused.value.what, (seed, named, at, bit)
        path.write_bytes(good)
    open_kit(folder, public_key(KEY))


@pytest.mark.parametrize("name", ["a/one.mpy", "two.bin", "empty", MANIFEST, SIGNATURE])
def test_a_missing_or_cut_file_is_named(tmp_path: Path, name: str) -> None:
    """Gone, or shorter, or longer."""
    folder = small_kit(tmp_path)
    good = (folder / name).read_bytes()
    for spoilt in (good[:-1], good + b"\n", b""):
        if spoilt != good:
            (folder / name).write_bytes(spoilt)
            with pytest.raises(RefusedError, match=name):
                open_kit(folder, public_key(KEY))
    (folder / name).unlink()
    with pytest.raises(RefusedError, match=f"{name} is missing"):
        open_kit(folder, public_key(KEY))


def test_an_extra_file_or_a_link_is_named(tmp_path: Path) -> None:
    """What nobody signed for: a file in a folder of its own, a link instead of a file, even to the right content."""
    folder = small_kit(tmp_path / "kit")
    (folder / "a" / "autorun.py").write_text("import os")
    with pytest.raises(RefusedError, match=r"a/autorun\.py does not belong"):
        open_kit(folder, public_key(KEY))
    (folder / "a" / "autorun.py").unlink()
    (folder / "two.bin").rename(tmp_path / "two.bin")
    (folder / "two.bin").symlink_to(tmp_path / "two.bin")
    with pytest.raises(RefusedError, match=r"two\.bin is no plain file"):
        open_kit(folder, public_key(KEY))


def test_only_the_pinned_key_vouches(tmp_path: Path) -> None:
    """Somebody else's kit, whole in itself, is refused; and so is a signature made for another kind of document."""
    folder = small_kit(tmp_path, OTHER_KEY)
    open_kit(folder, public_key(OTHER_KEY))
    with pytest.raises(RefusedError, match=r"manifest\.json is not what manifest\.cose signs with your kit key"):
        open_kit(folder, public_key(KEY))
    (folder / SIGNATURE).write_bytes(sign_document(COMMISSIONING, (folder / MANIFEST).read_bytes(), OTHER_KEY))
    with pytest.raises(RefusedError, match=r"manifest\.json"):
        open_kit(folder, public_key(OTHER_KEY))


def test_a_signature_is_a_standard_one() -> None:
    """COSE_Sign1 with a detached payload, by RFC 9052 and an independent decoder: tag 18, [protected, {}, nil, signature]."""
    import cbor2

    payload = canonical_json({"b": 1, "a": "ü"})
    assert payload == b'{"a":"\\u00fc","b":1}\n'
    signed = sign_document(KIT, payload, KEY)
    tag = cbor2.loads(signed)
    protected, unprotected, nothing, signature = tag.value
    assert (tag.tag, dict(unprotected), nothing, len(signature)) == (18, {}, None, 64)
    header = cbor2.loads(protected)
    assert (header[1], header[4]) == (-7, hashlib.sha256(public_key(KEY)).digest()[:4])
    assert verify_document(KIT, payload, signed, public_key(KEY)) == {"a": "ü", "b": 1}
    for spoilt in (signed + b"\0", signed[:-1], b""):
        with pytest.raises(RefusedError):
            verify_document(KIT, payload, spoilt, public_key(KEY))


@pytest.mark.parametrize("chip", sorted(CHIPS))
@pytest.mark.parametrize("is_hash_appended", [True, False])
def test_an_image_is_for_the_chip_it_says(chip: str, is_hash_appended: bool) -> None:
    """The right chip is taken, every other one refused by name, before anything is written anywhere."""
    image = esp_image(CHIPS[chip].chip_id, is_hash_appended)
    assert check_image("x.bin", image, chip, sha256(image)) == CHIPS[chip]
    for other in set(CHIPS) - {chip}:
        with pytest.raises(RefusedError, match=rf"is for {chip}, not for {other}"):
            check_image("x.bin", image, other, sha256(image))


def test_a_wrong_or_damaged_image_is_refused() -> None:
    """Another digest than its publisher's, no image at all, one cut anywhere in its first part, one flipped bit in it."""
    image = esp_image(5)
    with pytest.raises(RefusedError, match="not the one given"):
        check_image("x.bin", image, "esp32c3", sha256(image[:-1]))
    with pytest.raises(UsageError, match="esp8266"):
        check_image("x.bin", image, "esp8266", sha256(image))
    first_part = image.index(b"\xff" * 64)
    for spoilt in [image[:length] for length in range(first_part)] + [b"PK" + image[2:]]:
        with pytest.raises(RefusedError, match=r"damaged|no ESP image"):
            check_image("x.bin", spoilt, "esp32c3", sha256(spoilt))
    for at in range(24, first_part):
        spoilt = image[:at] + bytes((image[at] ^ 0x10,)) + image[at + 1 :]
        with pytest.raises(RefusedError, match="damaged"):
            check_image("x.bin", spoilt, "esp32c3", sha256(spoilt))


def test_only_wheels_that_the_lock_file_knows(tmp_path: Path) -> None:
    """Found by name and version and taken by digest; another file under that name is refused; one that is not there is named."""
    lock = tmp_path / "requirements.lock"
    wheel = tmp_path / "Some_Thing-1.2-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    lock.write_text(
        f"some.thing==1.2 ; python_version > '3' \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{sha256(b'PK')}\nother==2\n"
    )
    wanted = [Library("other", "2", "MIT", {}), Library("some-thing", "1.2", "MIT", {})]
    assert find_wheels(tmp_path, wanted, lock) == ({wheel.name: b"PK"}, ["other==2"])
    wheel.write_bytes(b"PK, but not that one")
    with pytest.raises(RefusedError, match="Some_Thing"):
        find_wheels(tmp_path, wanted, lock)
    known = locked_digests(ROOT / ".ci/requirements.lock")
    assert all(known.get(f"{library.name}=={library.version}") for library in libraries())


def test_a_library_that_is_source_alone_becomes_a_wheel(tmp_path: Path) -> None:
    """Made here of an archive whose digest the lock file has: the same octets each time; another archive is refused."""

    def archive(code: bytes) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as packed:
            project = b'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            project += b'[project]\nname = "some-thing"\nversion = "1.2"\n[tool.setuptools]\npy-modules = ["some_thing"]\n'
            for name, data in {"pyproject.toml": project, "some_thing.py": code}.items():
                about = tarfile.TarInfo(f"some_thing-1.2/{name}")
                about.size = len(data)
                packed.addfile(about, io.BytesIO(data))
        return out.getvalue()

    path = tmp_path / "some_thing-1.2.tar.gz"
    path.write_bytes(archive(b"WORD = 1\n"))
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"some-thing==1.2 \\\n    --hash=sha256:{sha256(path.read_bytes())}\n")
    wanted = [Library("some-thing", "1.2", "MIT", {})]
    wheels, missing = find_wheels(tmp_path, wanted, lock)
    assert (list(wheels), missing) == (["some_thing-1.2-py3-none-any.whl"], [])
    assert zipfile.ZipFile(io.BytesIO(wheels["some_thing-1.2-py3-none-any.whl"])).read("some_thing.py") == b"WORD = 1\n"
    assert find_wheels(tmp_path, wanted, lock) == (wheels, missing)
    path.write_bytes(archive(b"WORD = 2\n"))
    with pytest.raises(RefusedError, match=r"some_thing-1.2.tar.gz is not the file"):
        find_wheels(tmp_path, wanted, lock)


def test_an_image_tells_its_version_and_the_flash_it_needs() -> None:
    """By the banner of its prompt and the partition table in it, wherever the image begins; without either, what there is."""
    plain = esp_image(5)
    assert micropython_version(plain) is None
    assert micropython_version(plain + b"\0MicroPython v1.26.0-preview.7.gabc on 2025-04-15; \0") == "v1.26.0-preview.7.gabc on 2025-04-15"
    assert flash_bytes_needed(plain, 0) == len(plain)
    entry = struct.pack("<HBBII16sI", 0x50AA, 0, 0, 0x10000, 0x1F0000, b"factory", 0)
    files = struct.pack("<HBBII16sI", 0x50AA, 1, 0x81, 0x200000, 0x200000, b"vfs", 0)
    for offset in (0, 0x1000):
        image = plain.ljust(0x8000 - offset, b"\xff") + entry + files + b"\xff" * 3000
        assert flash_bytes_needed(image, offset) == 0x400000


def test_nothing_is_left_of_a_kit_that_failed(tmp_path: Path, image_path: Path) -> None:
    """A wrong digest ends before anything is made, a folder that exists stays as it is, and outside a checkout it says so."""
    with pytest.raises(RefusedError):
        build_kit(tmp_path / "kit", KEY, [Image(image_path, "esp32c3", "0" * 64)], None, print)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingError, match="is not there"):
        build_kit(tmp_path / "kit", KEY, [], None, print, tmp_path)
    (tmp_path / "kit").mkdir()
    with pytest.raises(RefusedError, match="exists already"):
        build_kit(tmp_path / "kit", KEY, [], None, print)


def test_as_a_technician_meets_it(lamppost: Callable, tmp_path: Path, city: object) -> None:
    """init-key, technician init, verify: 0 for a good kit; 1 and the name for a changed one; no private key on any output."""
    at = [f"--state={tmp_path / 'kit-key'}"]
    made = lamppost("kit", "init-key", *at, "--json")
    assert made.returncode == 0, made.stderr
    assert lamppost("kit", "init-key", *at).returncode == 1  # a key is never replaced
    arguments = ["--name", 'R. "Laub" ü', "--kit-key", str(tmp_path / "kit-key/kit-public.json"), "--authority-key", str(city.public)]
    arguments += ["--registry", str(city.registry.path), "--state", str(tmp_path / "technician")]
    assert lamppost("technician", "init", *arguments).returncode == 0
    from lamppost_tools.key_file import load_key

    key = load_key(tmp_path / "kit-key/key.pem", None)
    folder = small_kit(tmp_path / "kit", key)
    files = {"a/one.mpy": b"M" * 200}
    shutil.rmtree(folder)
    for name, data in (files | seal(files, {"lamppost": "0.1.0", "missing_wheels": []}, key)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    verify = ["kit", "verify", str(folder), "--technician", str(tmp_path / "technician")]
    good = lamppost(*verify, "--json")
    assert (good.returncode, json.loads(good.stdout)["verdict"]) == (0, "valid"), good.stderr
    (folder / "a/one.mpy").write_bytes(b"m" + b"M" * 199)
    bad = lamppost(*verify)
    assert bad.returncode == 1
    assert b"a/one.mpy was changed" in bad.stderr
    said = made.stdout + made.stderr + good.stdout + bad.stdout + bad.stderr
    assert key.hex().encode() not in said
    assert (tmp_path / "kit-key/key.pem").stat().st_mode & 0o077 == 0
