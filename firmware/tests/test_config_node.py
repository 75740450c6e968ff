"""A node's configuration: whatever flash holds, the node gets one that works, and says what was wrong with the better one (R22)."""

import random

import pytest
from fake_flash import FakeFlash
from lamppost_node import config
from lamppost_protocol import cbor

KEYS = {"lamp": (("safe_level_percent", 100, 0, 100), ("relay", 1, 0, 1)), "bin": (("height_mm", None, 200, 4500),)}
GOOD = {
    "network": 16,
    "latitude_udeg": 52_520_000,
    "longitude_udeg": 13_405_000,
    "utc_offset_s": 3600,
    "dst": "eu",
    "fixtures": [{"kind": "lamp", "instance": 0, "safe_level_percent": 80}, {"kind": "bin", "instance": 0, "height_mm": 1000}],
}


def loaded(files: dict[str, bytes], is_safe_mode: bool = False) -> config.Config:
    flash = FakeFlash()
    flash.files.update(files)
    return config.load(flash, KEYS.get, is_safe_mode)


def test_defaults_are_filled_in_everywhere() -> None:
    """A fixture may index every declared key."""
    values = loaded({"config.cbor": cbor.encode(GOOD)}).values
    assert values["report_s"] == 60
    assert values["fixtures"][0] == {"kind": "lamp", "instance": 0, "safe_level_percent": 80, "relay": 1}


def test_all_errors_come_at_once_and_name_their_key() -> None:
    """Eight mistakes, eight lines."""
    bad = {
        "report_s": 0,
        "latitude_udeg": 91_000_000,
        "utc_offset_s": True,
        "dst": "mars",
        "colour": 1,
        "fixtures": [{"kind": "bin"}, {"kind": "fountain"}, {"kind": "lamp", "instance": 16}],
    }
    with pytest.raises(config.ConfigError) as caught:
        config.check(bad, KEYS.get)
    text = str(caught.value)
    for key in (
        "report_s",
        "latitude_udeg",
        "utc_offset_s",
        "dst",
        "colour",
        "fixtures[0].height_mm",
        "fixtures[1].kind",
        "fixtures[2].instance",
    ):
        assert key in text
    assert len(caught.value.errors) == 8


@pytest.mark.parametrize(
    "fixtures",
    [5, [5], [{"kind": 5}], [{}], [{"kind": "lamp"}, {"kind": "lamp"}], [{"kind": "lamp"}] * 9, [{"kind": "lamp", "relay": None}]],
)
def test_a_wrong_shape_is_an_error_not_a_crash(fixtures: object) -> None:
    """Fixture lists of any shape are refused by name."""
    with pytest.raises(config.ConfigError):
        config.check({"fixtures": fixtures}, KEYS.get)


def test_last_good_then_built_in() -> None:
    """A broken file falls back to the one that ran, without it to a lamp."""
    good = cbor.encode(GOOD)
    assert loaded({"config.cbor": good}).source == "file"
    fallen = loaded({"config.cbor": b"\xff", "config.good": good})
    assert fallen.source == "good"
    assert fallen.errors == ["config.cbor: not CBOR: float or simple value"]
    built_in = loaded({"config.cbor": b"", "config.good": good[:-1]})
    assert built_in.source == "built-in"
    assert [fixture["kind"] for fixture in built_in.values["fixtures"]] == ["lamp"]
    assert loaded({"config.cbor": b"\x00" * 5000}).errors[0] == "config.cbor: longer than 4096 bytes"


def test_safe_mode_passes_the_file_over() -> None:
    """The newest configuration may be what made safe mode necessary."""
    good = cbor.encode(GOOD)
    assert loaded({"config.cbor": good, "config.good": good}, is_safe_mode=True).source == "good"
    assert loaded({"config.cbor": good}, is_safe_mode=True).source == "built-in"


def test_without_any_fixture_module_the_node_still_has_a_configuration() -> None:
    """Not even the lamp's file can be used: no fixture, no exception; the board keeps the lamp lit."""
    flash = FakeFlash()
    assert config.load(flash, lambda kind: None, False).values["fixtures"] == []


def damaged(rng: random.Random, whole: bytes) -> bytes:
    """Octets flipped, cut, grown or emptied."""
    octets = bytearray(whole)
    action = rng.randrange(4)
    if action == 0:
        for _ in range(rng.randrange(1, 4)):
            octets[rng.randrange(len(octets))] = rng.randrange(256)
    elif action == 1:
        del octets[rng.randrange(len(octets)) :]
    elif action == 2:
        octets.insert(rng.randrange(len(octets)), rng.randrange(256))
    else:
        octets.extend(rng.randbytes(rng.randrange(1, 9)))
    return bytes(octets)


def stored(configuration: dict) -> bytes:
    """The file that the node makes of a configuration it was sent."""
    flash = FakeFlash()
    config.store(flash, cbor.encode(configuration))
    return flash.files["config.cbor"]


def test_ten_thousand_damaged_files_never_move_a_lamp_to_another_place() -> None:
    """A valid configuration that nobody wrote (a flipped latitude) is as bad as none: the one that ran counts, else the lamp built in."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng, good = random.Random(seed), stored(GOOD)
    wanted = loaded({"config.cbor": good}).values
    for _ in range(10_000):
        spoilt = damaged(rng, good)
        if spoilt == good:
            continue
        fallen = loaded({"config.cbor": spoilt, "config.good": good})
        assert (fallen.source, fallen.values) == ("good", wanted)
        assert [f["kind"] for f in loaded({"config.cbor": spoilt, "config.good": spoilt}).values["fixtures"]] == ["lamp"]


def test_every_flipped_bit_of_a_stored_configuration_is_seen() -> None:
    """One bit at a time, all of them."""
    good = stored(GOOD)
    for bit in range(8 * len(good)):
        spoilt = bytearray(good)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert loaded({"config.cbor": bytes(spoilt), "config.good": good}).source == "good"


def test_damaged_files_of_provisioning_always_give_a_configuration() -> None:
    """Before its first good minute a file has no checksum: never an exception, and a lamp unless the file itself says otherwise."""
    rng, good = random.Random(22), cbor.encode(GOOD)
    for _ in range(3_000):
        result = loaded({"config.cbor": damaged(rng, good)})
        assert result.source == "file" or [f["kind"] for f in result.values["fixtures"]] == ["lamp"]


def test_what_ran_well_becomes_the_one_to_fall_back_to() -> None:
    """A confirmed boot keeps the file once, with a checksum; an unchanged file is not written again."""
    flash = FakeFlash()
    flash.files["config.cbor"] = cbor.encode(GOOD)
    digest = config.load(flash, KEYS.get, False).digest
    config.keep_good(flash, digest)
    assert flash.files["config.good"] == flash.files["config.cbor"] == stored(GOOD)
    assert config.load(flash, KEYS.get, False).digest == digest
    before = flash.operations
    config.keep_good(flash, digest)
    assert flash.operations == before


def test_a_configuration_that_came_during_the_good_minute_is_not_yet_good() -> None:
    """What is on flash by then may be another than what ran: that one stays the one to fall back to."""
    flash = FakeFlash()
    config.store(flash, cbor.encode(GOOD))
    digest = config.load(flash, KEYS.get, False).digest
    config.keep_good(flash, digest)
    config.store(flash, cbor.encode({"fixtures": []}))
    config.keep_good(flash, digest)
    assert flash.files["config.good"] == stored(GOOD)
    assert flash.files["config.cbor"] == stored({"fixtures": []})
