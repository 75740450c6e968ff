"""The signer: counters never repeat, limits hold, files are guarded, every signed order is in the log."""

import json
import resource
import stat
from pathlib import Path

import jsonschema
import pytest
from lamppost_protocol import beacons, cose, frames, kinds, orders
from lamppost_protocol.es256_host import HostVerifier, generate_private_key
from lamppost_tools.authority.authority import Authority, open_authority
from lamppost_tools.authority.counters import CounterFile, FolderLock
from lamppost_tools.authority.init import init_authority
from lamppost_tools.authority.settings import load_settings
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.durable import read_json, write_json
from lamppost_tools.errors import MissingError, RefusedError, ToolError, UsageError
from lamppost_tools.key_file import load_key, save_key

NOW_S = 1_800_000_000
NODE = "0000a001"


class Clock:
    """Unix seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> int:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(city, clock) -> Authority:
    return open_authority(city.authority, load_settings(city.authority), clock)


def ask(authority: Authority, **fields: object) -> tuple[dict, dict | None]:
    request = {"request_id": f"r{ask.count}", "node": NODE, "verb": "level", **fields}
    ask.count += 1
    return authority.answer_request(json.dumps({k: v for k, v in request.items() if v is not ...}).encode())


ask.count = 0  # type: ignore[attr-defined]


def change_limits(city, **limits: int) -> None:
    path = city.authority / "authority.toml"
    lines = path.read_text().splitlines()
    for name, value in limits.items():
        lines = [f"{name} = {value}" if line.startswith(f"{name} =") else line for line in lines]
    path.write_text("\n".join(lines) + "\n")


def test_signed_order_verifies_for_its_node_only(city, authority):
    """An order opens under the command key in its own context and says what was asked."""
    response, signed = ask(authority, level_percent=30, ramp_s=2, lease_s=600)
    public = read_json(city.public, "")
    verifier = HostVerifier(bytes.fromhex(public["public_key"]))
    message = cose.decode(bytes.fromhex(signed["frame"]))
    order = orders.decode_order(message.tx, frames.open_signed(message, verifier, frames.ORDER, 0xCAFE, 0xA001, 1))
    assert order == (1, NOW_S - 5, NOW_S + 600, orders.LEVEL, kinds.LAMP, [30, 2])
    assert f"{message.kid:08x}" == public["issuer"]
    assert response["order_id"] == signed["order_id"] == 1
    with pytest.raises(Exception, match="bad_signature"):
        frames.open_signed(message, verifier, frames.ORDER, 0xCAFE, 0xA002, 1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"level_percent": 101}, "bad_request"),
        ({"level_percent": True}, "bad_request"),
        ({"level_percent": ...}, "bad_request"),
        ({"verb": "explode"}, "bad_request"),
        ({"verb": "configure"}, "bad_request"),
        ({"colour": 1, "level_percent": 30}, "bad_request"),
        ({"request_id": "x" * 65, "level_percent": 30}, "bad_request"),
        ({"request_id": "a\nb", "level_percent": 30}, "bad_request"),
        ({"node": "0000beef", "level_percent": 30}, "unknown_node"),
        ({"node": "a001", "level_percent": 30}, "bad_request"),
        ({"node": "0000a002", "level_percent": 30}, "which_fixture"),
        ({"node": "0000a002", "fixture": "bin", "level_percent": 30}, "not_a_lamp"),
        ({"fixture": "lamp.1", "level_percent": 30}, "unknown_fixture"),
        ({"level_percent": 30, "lease_s": 43_201}, "too_long"),
        ({"level_percent": 30, "lease_s": 60, "not_after": NOW_S + 60}, "bad_request"),
        ({"level_percent": 30, "not_after": NOW_S}, "already_over"),
        ({"level_percent": 30, "not_before": NOW_S + 8 * 86_400}, "too_far_ahead"),
        ({"level_percent": 30, "not_before": NOW_S - 50_000, "not_after": NOW_S + 60}, "too_long"),
        ({"level_percent": 0}, "dark_without_end"),
        ({"level_percent": 9}, "dark_without_end"),
        ({"verb": "cancel"}, "bad_request"),
        ({"verb": "resend", "first_n": 5, "last_n": 4}, "bad_request"),
        ({"verb": "schedule"}, "bad_request"),
        ({"verb": "schedule", "schedule": [1, 100, [[0]], []]}, "bad_schedule"),
        ({"verb": "schedule", "schedule": [1, 0, [], []]}, "dark_without_end"),
    ],
)
def test_refusals_have_a_reason_and_cost_no_counter(city, authority, fields, reason):
    """What breaks a rule gets a named refusal; nothing is signed, logged or counted."""
    response, signed = ask(authority, **fields)
    assert (response.get("reason"), signed) == (reason, None)
    assert response["error"]
    assert read_json(city.authority / "counters.json", "")["order"] == 0
    assert not (city.authority / "signed-orders.jsonl").exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"request_id": 5}', b"[" * 5000])
def test_garbage_requests_are_answered(authority, data):
    """Whatever lands on the request topic gets an answer and never an exception."""
    response, signed = authority.answer_request(data)
    assert (response["reason"], signed) == ("bad_request", None)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'{"node": 5}', b'{"node": "0000a001", "nonce": 5}', b"[" * 8000])
def test_garbage_hellos_are_passed_over(authority, data):
    """Whoever may publish a hello must not be able to end the authority."""
    assert authority.answer_hello(data) is None


def test_order_that_a_full_disk_cannot_log_is_not_handed_out(city, clock, authority):
    """The disk takes a part of the line: no signed order leaves, the part goes, and the next order is whole again."""
    assert ask(authority, level_percent=40)[1] is not None
    log = city.authority / "signed-orders.jsonl"
    before = log.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))
    try:
        response, signed = ask(authority, level_percent=50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (response["reason"], signed) == ("authority_fault", None)
    assert log.read_bytes() == before
    assert ask(authority, level_percent=60)[1] is not None
    assert [json.loads(line)["args"][0] for line in log.read_text().splitlines()] == [40, 60]


def test_revoked_node_gets_no_order_and_no_beacon(city, authority):
    """A revoked node is refused by name and not told the time."""
    city.registry.revoke(0xA001)
    assert ask(authority, level_percent=30)[0]["reason"] == "revoked_node"
    assert authority.answer_hello(json.dumps({"node": NODE, "nonce": "00" * 8}).encode()) is None


@pytest.mark.parametrize(("said", "epoch"), [(1, 1), (2, 2), (3, 1), (True, 1), (None, 1), ([], 1), ({}, 1)])
def test_a_beacon_is_for_the_epoch_of_its_hello(city, authority, said, epoch):
    """While a node is re-keyed only itself knows in which of two epochs it is; anything else is taken for the entry's own."""
    city.registry.begin_rekey(0xA001, 2, bytes.fromhex("cd" * 64), bytes(range(32)), "00")
    verifier = HostVerifier(bytes.fromhex(read_json(city.public, "")["public_key"]))
    signed = authority.answer_hello(json.dumps({"node": NODE, "nonce": "00" * 8, "epoch": said}).encode())
    frames.open_signed(cose.decode(bytes.fromhex(signed["frame"])), verifier, frames.BEACON, 0xCAFE, 0xA001, epoch)
    assert (signed["epoch"], type(signed["epoch"])) == (epoch, int)


def test_other_verbs(authority):
    """Cancel, schedule and resend carry their arguments and a target."""
    plan = [1, 100, [[127, [1, 0, 100], [2, 0, 0]]], []]
    for fields, expected in (
        ({"verb": "cancel", "order_id": 7}, (orders.CANCEL, kinds.LAMP, [7])),
        ({"verb": "cancel", "order_id": 7, "fixture": "lamp"}, (orders.CANCEL, kinds.LAMP, [7])),
        ({"verb": "schedule", "schedule": plan}, (orders.SCHEDULE, kinds.LAMP, [plan])),
        ({"verb": "resend", "first_n": 4, "last_n": 5}, (orders.RESEND, 0, [4, 5])),
    ):
        _, signed = ask(authority, **fields)
        message = cose.decode(bytes.fromhex(signed["frame"]))
        order = orders.decode_order(message.tx, message.payload)
        assert (order.verb, order.target, order.args) == expected


def test_schedule_as_people_write_it(authority):
    """A city client may send the readable form; dates come as text in JSON."""
    readable = {
        "default_level": 100,
        "week": [{"days": "all", "steps": [["sunset", 100], ["sunrise", 0]]}],
        "exception": [{"first": "2026-12-31", "steps": [["sunset", 100]]}],
    }
    _, signed = ask(authority, verb="schedule", schedule=readable)
    message = cose.decode(bytes.fromhex(signed["frame"]))
    expected = [1, 100, [[127, [1, 0, 100], [2, 0, 0]]], [[20261231, 20261231, [1, 0, 100]]]]
    assert orders.decode_order(message.tx, message.payload).args == [expected]
    for wrong in ({"week": 3}, {"colour": 1}, {"exception": [{"first": "2026-13-31", "steps": []}]}):
        assert ask(authority, verb="schedule", schedule=wrong)[0]["reason"] == "bad_schedule"


def test_documents_match_their_schemas(authority):
    """What is asked, answered and signed is as documented for MQTT clients."""
    for request in (
        {"verb": "level", "level_percent": 30, "ramp_s": 1, "lease_s": 60, "fixture": "lamp"},
        {"verb": "cancel", "order_id": 1},
        {"verb": "resend", "first_n": 1, "last_n": 2},
        {"verb": "schedule", "schedule": [1, 100, [], []], "not_before": NOW_S, "not_after": NOW_S + 60},
        {"verb": "level"},
    ):
        document = {"v": 1, "request_id": f"s{request}"[:9], "node": NODE, **request}
        check_schema("order-request", document)
        response, signed = authority.answer_request(json.dumps({**document, "request_id": str(id(request))}).encode())
        check_schema("order-response", response)
        assert (signed is None) == ("error" in response)
        if signed is not None:
            check_schema("order-signed", signed)
    check_schema("beacon-signed", authority.beacon_for_all())
    hello = json.dumps({"node": NODE, "nonce": "00" * 8}).encode()
    check_schema("beacon-signed", authority.answer_hello(hello))


def check_schema(name: str, document: dict) -> None:
    folder = Path(__file__).resolve().parents[2] / "gateway" / "lamppost_gateway" / "schema_mqtt"
    jsonschema.validate(document, json.loads((folder / f"{name}.json").read_text()))


def test_mass_off_is_refused_over_a_restart(city, clock):
    """More dark orders an hour than allowed are refused, also after the authority was restarted, and allowed later."""
    change_limits(city, max_dark_orders_per_hour=2)
    settings = load_settings(city.authority)
    first = open_authority(city.authority, settings, clock)
    for _ in range(2):
        assert ask(first, level_percent=0, lease_s=60)[1] is not None
    assert ask(first, level_percent=0, lease_s=60)[0]["reason"] == "mass_off"
    second = open_authority(city.authority, settings, clock)
    assert ask(second, level_percent=5, lease_s=60)[0]["reason"] == "mass_off"
    dark_night = [1, 100, [[127, [1, 0, 0]]], []]
    assert ask(second, verb="schedule", schedule=dark_night)[0]["reason"] == "mass_off"
    assert ask(second, level_percent=100)[1] is not None
    clock.now_s += 3601
    assert ask(second, level_percent=0, lease_s=60)[1] is not None


def test_orders_per_node_are_limited(city, clock):
    """One node is not flooded; the next minute is free again."""
    change_limits(city, orders_per_minute_per_node=3)
    authority = open_authority(city.authority, load_settings(city.authority), clock)
    answers = [ask(authority, level_percent=50)[0].get("reason") for _ in range(4)]
    assert answers == [None, None, None, "too_often"]
    clock.now_s += 61
    assert ask(authority, level_percent=50)[1] is not None


def test_same_request_is_signed_once(city, clock, authority):
    """A request that the broker delivers twice gets the same answer and one signature, over a restart too.

    The signed order comes again, octet for octet: the first may never have reached the broker.
    """
    first = ask(authority, request_id="once", level_percent=40)
    assert first[1] is not None
    assert ask(authority, request_id="once", level_percent=40) == first
    restarted = open_authority(city.authority, load_settings(city.authority), clock)
    assert ask(restarted, request_id="once", level_percent=40) == first
    assert len((city.authority / "signed-orders.jsonl").read_text().splitlines()) == 1


def test_log_holds_every_signed_order(city, clock, authority):
    """Each signed order is one owner-only line; a line torn by a power cut neither hides nor swallows others."""
    for level in (40, 50):
        ask(authority, level_percent=level)
    log = city.authority / "signed-orders.jsonl"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert [json.loads(line)["args"][0] for line in log.read_text().splitlines()] == [40, 50]
    log.write_text(log.read_text() + '{"at": 18000')
    restarted = open_authority(city.authority, load_settings(city.authority), clock)
    ask(restarted, level_percent=60)
    assert json.loads(log.read_text().splitlines()[-1])["order_id"] == 3


def test_order_counter_is_durable_before_anything_is_signed(city, clock):
    """When the disk refuses the counter, no signature is made and the number is not used."""
    authority = open_authority(city.authority, load_settings(city.authority), clock)
    blocker = city.authority / ".counters.json.new"
    blocker.mkdir()  # the counter's new file cannot be made, as on a full or broken disk
    response, signed = ask(authority, level_percent=40)
    assert (response["reason"], signed) == ("authority_fault", None)
    assert not (city.authority / "signed-orders.jsonl").exists()
    blocker.rmdir()
    assert ask(authority, level_percent=40)[1]["order_id"] == 1


def test_counters_survive_and_never_go_back(tmp_path):
    """Every value is above all earlier ones over restarts, also when the floor (the clock) falls back."""
    path = tmp_path / "counters.json"
    CounterFile.create(path, ("order", "beacon"))
    counters = CounterFile(path)
    assert [counters.take("order"), counters.take("order"), counters.take("beacon", at_least=1000)] == [1, 2, 1000]
    again = CounterFile(path)
    assert (again.take("order"), again.take("beacon", at_least=500)) == (3, 1001)
    with pytest.raises(RefusedError, match="used up"):
        again.take("beacon", at_least=2**32)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"order": -1, "beacon": 0}', '{"order": "1", "beacon": 0}'])
def test_lost_counters_stop_the_authority(city, clock, content):
    """A lost or damaged counter file is never replaced by a guess."""
    path = city.authority / "counters.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ToolError) as error:
        open_authority(city.authority, load_settings(city.authority), clock)
    assert "new key" in error.value.next_step


def test_beacons(city, clock, authority):
    """A hello with a nonce is answered for its node, a broadcast for all; counters rise though the clock falls back."""
    nonce = bytes(range(8))
    public = read_json(city.public, "")
    verifier = HostVerifier(bytes.fromhex(public["public_key"]))
    first = authority.answer_hello(json.dumps({"node": NODE, "nonce": nonce.hex(), "epoch": 9}).encode())
    clock.now_s -= 100
    second = authority.beacon_for_all()
    message = cose.decode(bytes.fromhex(first["frame"]))
    payload = frames.open_signed(message, verifier, frames.BEACON, 0xCAFE, 0xA001, 1)
    assert beacons.decode_beacon(payload) == (NOW_S, nonce)
    assert message.tx == NOW_S
    assert cose.decode(bytes.fromhex(second["frame"])).tx == NOW_S + 1
    assert (second["node"], second["unix"]) == (None, NOW_S - 100)


@pytest.mark.parametrize(
    "hello",
    [b"", b"[]", b"7", b'{"node": "0000beef", "nonce": "0000000000000000"}', b'{"node": "0000a001", "nonce": null}',
     b'{"node": "0000a001", "nonce": "00"}', b'{"node": "0000a001", "nonce": "zz"}', b'{"node": 5, "nonce": 5}'],
)  # fmt: skip
def test_hellos_that_get_no_beacon(authority, hello):
    """No nonce, a wrong one, an unknown node or garbage: no signature is spent."""
    assert authority.answer_hello(hello) is None


def test_hellos_are_limited_per_node(city, clock, authority):
    """Hellos are unsigned, so a flood of them cannot make the signer work without end."""
    hello = json.dumps({"node": NODE, "nonce": "00" * 8}).encode()
    answers = [authority.answer_hello(hello) is not None for _ in range(20)]
    assert answers.count(True) == 12
    clock.now_s += 61
    assert authority.answer_hello(hello) is not None


def test_wide_open_key_file_is_refused(city, clock):
    """A key that group or others can read is not used."""
    (city.authority / "key.pem").chmod(0o640)
    with pytest.raises(RefusedError) as error:
        open_authority(city.authority, load_settings(city.authority), clock)
    assert "chmod 600" in error.value.next_step


def test_key_of_another_city_is_refused(city, clock):
    """A key that the public file does not name is not used: nodes would refuse all it signs."""
    (city.authority / "key.pem").unlink()
    save_key(city.authority / "key.pem", generate_private_key(), None)
    with pytest.raises(RefusedError, match="not the key"):
        open_authority(city.authority, load_settings(city.authority), clock)


def test_passphrase(city_maker, clock, tmp_path):
    """An encrypted key opens with its passphrase file only; the wrong, a short or an open one is refused."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery\n")
    passphrase.chmod(0o600)
    city = city_maker(passphrase_file=passphrase)
    assert b"ENCRYPTED" in (city.authority / "key.pem").read_bytes()
    settings = load_settings(city.authority)
    assert ask(open_authority(city.authority, settings, clock), level_percent=50)[1] is not None
    passphrase.write_text("incorrect horse battery\n")
    with pytest.raises(RefusedError, match="could not be opened"):
        open_authority(city.authority, settings, clock)
    passphrase.write_text("short\n")
    with pytest.raises(RefusedError, match="fewer than"):
        open_authority(city.authority, settings, clock)
    passphrase.chmod(0o644)
    with pytest.raises(RefusedError, match="group or others"):
        open_authority(city.authority, settings, clock)
    with pytest.raises(MissingError, match="no passphrase file"):
        load_key(city.authority / "key.pem", None)


def test_init_never_replaces_a_key(city):
    """A second init on the same folder leaves the key alone."""
    before = (city.authority / "key.pem").read_bytes()
    with pytest.raises(RefusedError, match="already holds a key"):
        init_authority(city.authority, None, Path("r.json"), BrokerSettings(), None)
    assert (city.authority / "key.pem").read_bytes() == before


def test_settings_tell_all_errors_at_once(city):
    """Every wrong key of authority.toml is named in one go."""
    path = city.authority / "authority.toml"
    path.write_text('[authority]\nnetwork = "x"\nissuer = "00000001"\n[limits]\nmax_lease_s = 0\nmax_leese_s = 1\n')
    with pytest.raises(UsageError) as error:
        load_settings(city.authority)
    for name in ("authority.network", "limits.max_lease_s", "limits.max_leese_s"):
        assert name in error.value.what


def test_one_signer_per_folder(tmp_path):
    """A second process on the same state folder is refused, for it would repeat counters."""
    with FolderLock(tmp_path / "lock"), pytest.raises(RefusedError, match="another authority"), FolderLock(tmp_path / "lock"):
        pass
    with FolderLock(tmp_path / "lock"):
        pass


def test_registry_lost_is_told_to_the_client(city, authority):
    """Without a registry no order is signed, and the client hears why."""
    city.registry.path.unlink()
    response, signed = ask(authority, level_percent=50)
    assert (response["reason"], signed) == ("authority_fault", None)
    assert authority.answer_hello(json.dumps({"node": NODE, "nonce": "00" * 8}).encode()) is None


def test_write_json_leaves_no_half_file(tmp_path):
    """A replaced file is whole and has its mode from the start."""
    write_json(tmp_path / "a.json", {"k": 1}, 0o600)
    write_json(tmp_path / "a.json", {"k": 2}, 0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600
