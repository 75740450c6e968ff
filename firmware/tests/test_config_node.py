"""A node's configuration: whatever flash holds, the node gets one that works, and says what was wrong with the better one (R22)."""

import random
import sys

import pytest
from fake_flash import FakeFlash
from lamppost_node import config
from lamppost_node.fixtures import bin_keys
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
    return config.load(flash, is_safe_mode, KEYS.get)


def test_defaults_are_filled_in_everywhere() -> None:
    """A fixture may index every declared key."""
    values = loaded({"config.cbor": cbor.encode(GOOD)}).values
    assert values["report_s"] == 60
    assert values["fixtures"][0] == {"kind": "lamp", "instance": 0, "safe_level_percent": 80, "relay": 1}


def test_a_radio_has_its_own_map() -> None:
    """Defaults are filled in and give way to what is said; what is wrong is named; hellos are rare where airtime is dear."""
    lora = {"region": "EU868", "channels_hz": [868_100_000], "downlink_hz": 869_525_000, "spreading_factor": 6, "power_dbm": 0}
    values = loaded({"config.cbor": cbor.encode({**GOOD, "lora": lora, "hello_s": 77})}).values
    assert {name: values["lora"][name] for name in lora} == lora
    assert (values["lora"]["fastest_spreading_factor"], values["lora"]["least_power_dbm"], values["lora"]["gather_s"]) == (6, 0, 900)
    assert (values["hello_s"], values["beacon_s"]) == (77, 21_600)
    assert loaded({"config.cbor": cbor.encode(GOOD)}).values["lora"] is None
    wrong = {"channels_hz": [True], "spreading_factor": 13, "fastest_spreading_factor": 9, "least_power_dbm": 20, "gatherings": 1}
    found = loaded({"config.cbor": cbor.encode({**GOOD, "lora": wrong})})
    assert found.source == "built-in"
    for key in ("region", "channels_hz", "downlink_hz", "spreading_factor", "least_power_dbm", "gatherings"):
        assert any(error.startswith("config.cbor: lora." + key + ": ") for error in found.errors), (key, found.errors)


def test_the_chip_that_sends_is_held_against_what_it_is_to_send() -> None:
    """An SX1276 has no SF5 and SF6 and from 2 to 17 dBm; it is not the chip unless the configuration says so."""
    lora = {"region": "EU868", "channels_hz": [868_100_000], "downlink_hz": 869_525_000, "fastest_spreading_factor": 6, "power_dbm": 18}
    assert loaded({"config.cbor": cbor.encode({**GOOD, "lora": lora})}).values["radio"] == "sx1262"
    found = loaded({"config.cbor": cbor.encode({**GOOD, "lora": lora, "radio": "sx1276"})})
    assert found.source == "built-in"
    for error in ("lora.fastest_spreading_factor: 6, and an sx1276 has 7 to 12", "lora.power_dbm: 18, and an sx1276 has 2 to 17"):
        assert "config.cbor: " + error in found.errors
    assert any(
        "radio: not one of sx1262, sx1276, e22" in error for error in loaded({"config.cbor": cbor.encode({**GOOD, "radio": 7})}).errors
    )


E22 = {
    "region": "EU868", "channels_hz": [866_125_000], "downlink_hz": 867_125_000, "bandwidth_hz": 500_000, "downlink_bandwidth_hz": 500_000,
    "spreading_factor": 11, "fastest_spreading_factor": 11, "downlink_spreading_factor": 11, "power_dbm": 13, "least_power_dbm": 10,
}  # fmt: skip


def test_an_e22_has_what_it_has() -> None:
    """One air rate, its own channels, uplinks and downlinks apart; each difference is told with its key, all at once."""
    lamp = {"radio": "e22", "fixtures": [{"kind": "lamp", "instance": 0}]}
    assert loaded({"config.cbor": cbor.encode({**lamp, "lora": E22})}).values["radio"] == "e22"
    wrong = {
        "channels_hz": [866_125_000, 868_100_000], "downlink_hz": 866_125_000, "bandwidth_hz": 125_000, "downlink_bandwidth_hz": 250_000,
        "spreading_factor": 12, "downlink_spreading_factor": 9, "power_dbm": 9, "coding_rate": 2, "least_power_dbm": 2,
    }  # fmt: skip
    found = loaded({"config.cbor": cbor.encode({**lamp, "lora": {**E22, **wrong}})})
    assert found.source == "built-in"
    for key in wrong:
        assert any(error.startswith("config.cbor: lora." + key + ": ") for error in found.errors), (key, found.errors)


def test_a_fixture_that_needs_the_e22s_uart_is_refused() -> None:
    """A bin's ranger and an air station's particle sensor; a lamp has none, a bridge has no fixture."""
    for kind in ("bin", "air"):
        found = loaded({"config.cbor": cbor.encode({"radio": "e22", "lora": E22, "fixtures": [{"kind": kind, "instance": 0}]})})
        assert f"config.cbor: radio: {kind}'s sensor and an e22 need one UART, and the board has no other" in found.errors
    assert loaded({"config.cbor": cbor.encode({"radio": "e22", "bridge": 1, "fixtures": []})}).values["radio"] == "e22"


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
    assert config.load(flash, False, lambda kind: None).values["fixtures"] == []


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
    digest = config.load(flash, False, KEYS.get).digest
    config.keep_good(flash, digest)
    assert flash.files["config.good"] == flash.files["config.cbor"] == stored(GOOD)
    assert config.load(flash, False, KEYS.get).digest == digest
    before = flash.operations
    config.keep_good(flash, digest)
    assert flash.operations == before


def test_a_configuration_that_came_during_the_good_minute_is_not_yet_good() -> None:
    """What is on flash by then may be another than what ran: that one stays the one to fall back to."""
    flash = FakeFlash()
    config.store(flash, cbor.encode(GOOD))
    digest = config.load(flash, False, KEYS.get).digest
    config.keep_good(flash, digest)
    config.store(flash, cbor.encode({"fixtures": []}))
    config.keep_good(flash, digest)
    assert flash.files["config.good"] == stored(GOOD)
    assert flash.files["config.cbor"] == stored({"fixtures": []})


NEW = cbor.encode({**GOOD, "report_s": 77})


def tried() -> FakeFlash:
    """A flash with a file, and a configuration that an order brought."""
    flash = FakeFlash()
    config.store(flash, cbor.encode(GOOD))
    config.begin_trial(flash, 9, NEW)
    return flash


def source_at_start(flash: FakeFlash, is_safe_mode: bool = False) -> str:
    """Where the configuration of one more start comes from."""
    return config.load(flash, is_safe_mode, KEYS.get, is_start=True).source


def test_a_trial_has_two_starts_and_only_starts_count() -> None:
    """Who looks without starting takes none of them; safe mode passes it over."""
    flash = tried()
    assert config.load(flash, False, KEYS.get).values["report_s"] == 77
    assert source_at_start(flash, is_safe_mode=True) == "built-in"
    assert [source_at_start(flash) for _ in range(4)] == ["trial", "trial", "file", "file"]


def test_a_proven_trial_is_what_every_start_runs_until_it_has_become_the_file() -> None:
    """However often power is cut in between; then it is the file, and what is fallen back to."""
    flash = tried()
    trial = config.trial_of(flash)
    assert trial is not None
    config.keep_trial(flash, trial, config.PROVEN)
    assert {source_at_start(flash) for _ in range(5)} == {"trial"}
    config.adopt(flash, NEW)
    assert flash.files["config.good"] == flash.files["config.cbor"] == stored({**GOOD, "report_s": 77})
    flash.remove("config.trial")
    assert source_at_start(flash) == "file"


def test_a_start_that_cannot_be_counted_is_not_the_trials() -> None:
    """Flash that refuses must not make it endless."""
    flash = tried()
    flash.refuse_in = 0
    found = config.load(flash, False, KEYS.get, is_start=True)
    assert (found.source, found.errors) == ("file", ["config.trial: flash refused"])


def test_what_somebody_wrote_since_counts_more_than_a_trial() -> None:
    """A technician's file: the trial was to replace another one."""
    flash = tried()
    config.store(flash, cbor.encode({**GOOD, "report_s": 5}))
    assert config.load(flash, False, KEYS.get).values["report_s"] == 5


def test_damaged_trials_are_none() -> None:
    """Any octet, any length: the file runs."""
    rng, whole = random.Random(23), tried().files["config.trial"]
    for _ in range(2_000):
        spoilt = damaged(rng, whole)
        flash = tried()
        flash.files["config.trial"] = spoilt
        assert config.load(flash, False, KEYS.get).source == ("trial" if spoilt == whole else "file")
    flash.files["config.trial"] = bytes(100_000)
    assert config.trial_of(flash) is None


def test_a_trial_that_this_firmware_cannot_use_is_none() -> None:
    """It was checked when it came; a release that was taken back may have known more keys."""
    flash = FakeFlash()
    config.store(flash, cbor.encode(GOOD))
    config.begin_trial(flash, 9, cbor.encode({**GOOD, "novelty": 1}))
    found = config.load(flash, False, KEYS.get, is_start=True)
    assert (found.source, found.errors) == ("file", ["config.trial: novelty: unknown key"])


@pytest.mark.parametrize("kind", ["tram", "../lamp", "", "lamp.py", "__init__"])
def test_a_kind_without_a_file_is_unknown(kind: str) -> None:
    """Whatever a configuration calls a fixture, only this firmware's own files are looked at."""
    assert config.declared_keys(kind) is None


def test_what_checks_a_configuration_is_given_back() -> None:
    """A fixture's keys lie in a chip's memory only while they are asked for."""
    assert config.declared_keys("bin") == bin_keys.KEYS
    assert "lamppost_node.fixtures.bin_keys" not in sys.modules
    assert not hasattr(sys.modules["lamppost_node.fixtures"], "bin_keys")
