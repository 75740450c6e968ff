"""A release from two folders of firmware to a signed order for it: same octets each time, a sequence that never falls, nothing unsigned."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from lamppost_protocol import cose, orders, releases
from lamppost_protocol.es256_host import HostVerifier
from lamppost_tools.authority.authority import open_authority
from lamppost_tools.authority.counters import CounterFile
from lamppost_tools.authority.init import init_authority
from lamppost_tools.authority.public import read_authority_public
from lamppost_tools.authority.settings import COUNTERS_NAME, load_settings
from lamppost_tools.broker import BrokerSettings, Topics, connect
from lamppost_tools.city import City
from lamppost_tools.durable import read_json, write_json
from lamppost_tools.errors import MissingError, RefusedError, UsageError
from lamppost_tools.release import over_lora
from lamppost_tools.release.build import build_release
from lamppost_tools.release.files import files_of, read_release
from lamppost_tools.release.publish import publish_body
from lamppost_tools.release.sign import sign_release

VERSION = "lamppost_node/version.mpy"
BASE = {
    VERSION: b"M\x06\x00lamppost 0.1.0\x00",
    "lamppost_node/app.mpy": b"app one",
    "lamppost_node/fixtures/lamp.mpy": b"lamp one",
    "lamppost_node/slot.mpy": b"slot",
    "lamppost_protocol/cbor.mpy": b"cbor",
}
NEW = {**BASE, VERSION: b"M\x06\x00lamppost 0.2.0\x00", "lamppost_node/app.mpy": b"app two", "lamppost_protocol/other.mpy": b"new"}


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.fixture
def release(tmp_path):
    """A release that is built and not signed."""
    path = tmp_path / "release"
    build_release(path, folder_of(tmp_path / "base", BASE), folder_of(tmp_path / "new", NEW), None, 4096)
    return path


def test_only_what_differs_and_the_same_octets_each_time(tmp_path, release):
    """From a kit or an image's folder alike; the base is named as WIRE.md 17.1 says; the version is read from the firmware."""
    kit = folder_of(tmp_path / "kit/firmware/lib", BASE).parents[1]
    build_release(tmp_path / "again", kit, tmp_path / "new", "0.2.0", 4096)
    for suffix in ("", ".json"):
        assert Path(f"{release}{suffix}").read_bytes() == (tmp_path / f"again{suffix}").read_bytes()
    changed = {name: data for name, data in NEW.items() if BASE.get(name) != data}
    assert files_of(release.read_bytes()) == changed
    named = b"".join(bytes([len(name)]) + name.encode() + hashlib.sha256(data).digest() for name, data in sorted(BASE.items()))
    about = json.loads(Path(f"{release}.json").read_text())
    assert about["base"] == hashlib.sha256(named).digest()[:8].hex()
    assert (about["version"], about["sha256"]) == ("0.2.0", hashlib.sha256(release.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"lamppost_node/slot.mpy": b"other"}, RefusedError, "slot.mpy"),
        ({"lamppost_node/__init__.mpy": b"other"}, RefusedError, "__init__"),
        ({VERSION: BASE[VERSION]}, RefusedError, "same version"),
        ({VERSION: b"no version in here"}, UsageError, "version"),
        ({VERSION: b"lamppost 0.2.0-far-too-long-a-version"}, RefusedError, "no release"),
        ({"lamppost_node/big.mpy": bytes(262_144)}, RefusedError, "no release"),
    ],
)
def test_what_no_update_may_carry(tmp_path, change, error, word):
    """Named, and nothing is written."""
    with pytest.raises(error, match=word):
        build_release(tmp_path / "out", folder_of(tmp_path / "base", BASE), folder_of(tmp_path / "new", {**NEW, **change}), None, 0)
    assert not list(tmp_path.glob("out*"))


def test_a_folder_without_firmware(tmp_path):
    """Neither a kit nor an image."""
    with pytest.raises(MissingError, match="no firmware"):
        build_release(tmp_path / "out", tmp_path, tmp_path, None, 0)


def test_signed_with_a_sequence_that_only_grows(city, release):
    """The manifest verifies under the authority's public key; the next has the next sequence; one that would fall is refused unsigned."""
    told = sign_release(read_release(release), city.authority, None, False)
    manifest = read_release(release).verified(read_authority_public(city.public))
    assert (told["sequence"], manifest.sequence, manifest.digest) == (1, 1, hashlib.sha256(release.read_bytes()).digest())
    with pytest.raises(RefusedError, match="exists already"):
        sign_release(read_release(release), city.authority, None, False)
    assert sign_release(read_release(release), city.authority, 7, True)["sequence"] == 7
    before = Path(f"{release}.cose").read_bytes()
    for sequence in (7, 1):
        with pytest.raises(RefusedError, match="not above 7"):
            sign_release(read_release(release), city.authority, sequence, True)
    assert Path(f"{release}.cose").read_bytes() == before
    assert sign_release(read_release(release), city.authority, None, True)["sequence"] == 8


def test_the_sequence_outlives_a_counter_file_that_knows_no_releases(city, release):
    """As an older authority writes it: the log of what was signed says where to go on."""
    sign_release(read_release(release), city.authority, 5, False)
    counters = read_json(city.authority / COUNTERS_NAME, "")
    write_json(city.authority / COUNTERS_NAME, {name: counters[name] for name in ("order", "beacon")})
    assert sign_release(read_release(release), city.authority, None, True)["sequence"] == 6


def test_two_programs_take_from_one_counter_file(tmp_path):
    """An authority that runs and a release that is signed beside it: no number twice, and neither forgets the other's."""
    path = tmp_path / "counters.json"
    CounterFile.create(path, ("order", "beacon", "release"))
    service, beside = CounterFile(path), CounterFile(path)
    assert [service.take("order"), beside.take("release"), service.take("order"), beside.take("order"), service.take("order")] == [
        1,
        1,
        2,
        3,
        4,
    ]
    assert read_json(path, "") == {"order": 4, "beacon": 0, "release": 1}


@pytest.mark.parametrize("suffix", ["", ".json", ".cose"])
def test_one_bit_is_enough(city, release, suffix):
    """In body, description or manifest: refused, whatever octet it is in."""
    sign_release(read_release(release), city.authority, None, False)
    path = Path(f"{release}{suffix}")
    good = path.read_bytes()
    public = read_authority_public(city.public)
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(RefusedError):
            read_release(release).verified(public)
    path.write_bytes(good)
    assert read_release(release).verified(public).sequence == 1


def test_another_citys_signature_is_none(city, release, tmp_path):
    """Its own key, and another issuer or network with the same key."""
    init_authority(tmp_path / "other", 0xBEEF, Path("registry.json"), BrokerSettings(), None)
    sign_release(read_release(release), tmp_path / "other", None, False)
    with pytest.raises(RefusedError, match="not signed by this authority"):
        read_release(release).verified(read_authority_public(city.public))


def ask(authority, **fields):
    request = {"request_id": "u", "node": "0000a001", "verb": "update", **fields}
    return authority.answer_request(json.dumps(request).encode())


def test_the_authority_orders_only_what_it_signed(city, release, tmp_path):
    """An update order carries the manifest as it is, for the node itself; a stranger's manifest, a torn or a missing one gets no order."""
    authority = open_authority(city.authority, load_settings(city.authority), lambda: 1_800_000_000)
    sign_release(read_release(release), city.authority, None, False)
    signed = read_release(release).signed
    assert signed is not None
    init_authority(tmp_path / "other", 0xCAFE, Path("registry.json"), BrokerSettings(), None)
    sign_release(read_release(release), tmp_path / "other", None, True)
    strangers = read_release(release).signed
    assert strangers is not None
    for manifest, reason in ((strangers, "bad_release"), (signed[:-1], "bad_release"), (b"\x80", "bad_release")):
        answer, order = ask(authority, manifest=manifest.hex())
        assert (answer["reason"], order) == (reason, None)
    assert ask(authority)[0]["reason"] == "bad_request"
    answer, order = ask(authority, manifest=signed.hex(), lease_s=7200)
    message = cose.decode(bytes.fromhex(order["frame"]))
    found = orders.decode_order(message.tx, message.payload)
    assert (found.verb, found.target, found.args) == (orders.UPDATE, 0, [signed])
    assert (answer["not_after"], order["verb"]) == (1_800_007_200, "update")
    public = read_authority_public(city.public)
    assert releases.open_manifest(found.args[0], HostVerifier(public.public_key), public.network, public.issuer).sequence == 1
    cancelled, order = ask(authority, request_id="c", verb="cancel", fixture="node", order_id=answer["order_id"])
    message = cose.decode(bytes.fromhex(order["frame"]))
    assert (cancelled["target"], orders.decode_order(message.tx, message.payload).verb) == (0, orders.CANCEL)


def test_published_retained_and_cleared(release, broker_port):
    """Every gateway that comes later finds the body on its topic, until it is cleared."""
    digest = read_release(release).digest
    where = City(0xCAFE, BrokerSettings(port=broker_port))

    async def found() -> list[bytes]:
        bodies = []
        async with connect(where.broker) as client:
            await client.subscribe([(Topics(0xCAFE).release(digest), 1), ("end", 1)])
            await client.publish("end", b"end", qos=1)
            async with asyncio.timeout(10):
                async for message in client.messages:
                    if str(message.topic) == "end":
                        return bodies
                    bodies.append(bytes(message.payload))
        return bodies

    async def story() -> None:
        topic = await publish_body(where, digest, release.read_bytes())
        assert topic == f"lamppost/v1/0000cafe/release/{digest.hex()}"
        assert set(await found()) == {release.read_bytes()}
        await publish_body(where, digest, b"")
        assert await found() == []

    asyncio.run(story())


def test_as_a_person_types_it(city, release, tmp_path, lamppost):
    """Build, refuse to publish unsigned, sign, check; what is wrong ends with 1 and says what to do."""
    arguments = ["--base", str(tmp_path / "base"), "--image", str(tmp_path / "new"), "--json"]
    out = tmp_path / "typed"
    done = lamppost("release", "build", "--out", str(out), *arguments)
    assert (done.returncode, json.loads(done.stdout)["version"]) == (0, "0.2.0")
    done = lamppost("release", "publish", str(out), "--network", "0000cafe")
    assert done.returncode == 1
    assert b"release sign" in done.stderr
    done = lamppost("order", "update", "0000a001", str(out), "--network", "0000cafe")
    assert done.returncode == 2
    done = lamppost("release", "sign", str(out), "--state", str(city.authority), "--json")
    assert json.loads(done.stdout)["sequence"] == 1
    done = lamppost("release", "check", str(out), "--authority-key", str(city.public), NO_COLOR="1")
    assert done.returncode == 0
    assert b"verdict: valid" in done.stdout
    assert b"lamppost_node/app.mpy" in done.stdout
    size = out.stat().st_size
    assert f"lora pieces: {-(-size // 200)}".encode() in done.stdout
    out.write_bytes(out.read_bytes() + b"\0")
    done = lamppost("release", "check", str(out), "--authority-key", str(city.public))
    assert done.returncode == 1


@pytest.mark.parametrize(("size_bytes", "pieces", "airtime_s"), [(1, 1, 0), (200, 1, 1), (20_000, 100, 111), (262_144, 1_311, 1_451)])
def test_what_a_release_costs_the_air(size_bytes: int, pieces: int, airtime_s: int) -> None:
    """223 octets at SF9 are 1.107 s by Semtech's calculator, a piece of one octet 0.21 s; each node fetches all of it."""
    assert over_lora.pieces(size_bytes) == pieces
    assert over_lora.airtime_s(size_bytes) == airtime_s
