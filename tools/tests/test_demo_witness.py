"""The demo's subscriber and screen: what counts as proved, and that odd documents neither pass nor break anything."""

import io
import json

import pytest
from lamppost_protocol import frames, kinds, records
from lamppost_protocol.es256_host import HostSigner, generate_private_key, public_key
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.demo.layout import NODES
from lamppost_tools.demo.proof import _forge
from lamppost_tools.demo.view import screen, screen_console
from lamppost_tools.demo.witness import Seen, Witness, is_contiguous, says_the_same
from lamppost_tools.frame.decode import KeyRing, decode_frame
from rich.console import Console
from rich.live import Live

NETWORK, NODE = 0xCAFE, NODES[0].node
NAME = NODES[0].id
KEY = generate_private_key()
RING = KeyRing(network=NETWORK, nodes={NODE: {"epoch": 1, "public_key": public_key(KEY).hex(), "revoked": False}})
ROOT = f"lamppost/v1/{NETWORK:08x}"
RECORD = [kinds.LAMP, 0, kinds.GOOD, 60, 60, 472, None, 205, 980, 12345, 1, 0]


def frame(n: int, key: bytes = KEY) -> bytes:
    payload = records.encode_uplink(n, 0, 1_800_000_000, 1, [RECORD])
    return frames.seal(HostSigner(key), frames.UPLINK, NETWORK, NODE, 1, NODE, n, payload)


def document(n: int, **changes: object) -> dict:
    values = {
        "command_level": 60, "applied_level": 60, "active_power": 47.2, "voltage": None, "current": 0.205,
        "power_factor": 0.98, "energy": 12345, "cause": 1, "faults": 0,
    } | changes.pop("values", {})  # fmt: skip
    return {
        "node": NAME, "fixture": "lamp", "n": n, "quality": "good", "received_at": "2999-01-01T00:00:00.000Z",
        "values": {name: {"value": value, "unit": "x"} for name, value in values.items()},
    } | changes  # fmt: skip


@pytest.fixture
def witness() -> Witness:
    return Witness(BrokerSettings(), NETWORK, RING)


def tell(witness: Witness, topic: str, payload: bytes | dict) -> None:
    witness._take(f"{ROOT}/{topic}", payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def seen_of(witness: Witness) -> Seen:
    return witness.look(lambda seen: seen)


def test_only_frames_verified_here_count(witness):
    """A frame of another key, under another node's topic, or damaged is counted as unverified and proves nothing."""
    tell(witness, f"node/{NAME}/frame", frame(1))
    for topic, data in (
        (f"node/{NAME}/frame", frame(2, generate_private_key())),
        ("node/0000beef/frame", frame(3)),
        (f"node/{NAME}/frame", frame(4)[:-1]),
        (f"node/{NAME}/frame", b""),
    ):
        tell(witness, topic, data)
    seen = seen_of(witness)
    assert (seen.numbers, seen.unverified) == ({NAME: {1}}, 4)


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({}, True),
        ({"values": {"active_power": 47.3}}, False),
        ({"values": {"voltage": 0}}, False),
        ({"values": {"active_power": None}}, False),
        ({"n": 2}, False),
        ({"fixture": "lamp.1"}, False),
        ({"node": "0000beef"}, False),
    ],
)
def test_json_must_say_what_was_signed(witness, changes, is_same):
    """A decoded record counts only when number, fixture and every value equal the signed ones."""
    tell(witness, f"node/{NAME}/frame", frame(1))
    assert says_the_same(seen_of(witness), document(**{"n": 1, **changes})) is is_same
    broken = document(1)
    del broken["values"]["energy"]
    assert not says_the_same(seen_of(witness), broken)


def test_old_and_reordered_records_prove_nothing_new(witness):
    """Records received before this run do not count, and a late older one does not replace a newer."""
    tell(witness, f"node/{NAME}/record/lamp", document(9, received_at="2020-01-01T00:00:00.000Z"))
    assert seen_of(witness).records == {}
    for n in (5, 4):
        tell(witness, f"node/{NAME}/record/lamp", document(n))
    tell(witness, f"node/{NAME}/record/lamp", document(6, quality="warming_up"))
    key = (NAME, "lamp")
    assert (seen_of(witness).records[key]["n"], seen_of(witness).good[key]["n"]) == (6, 5)


@pytest.mark.parametrize("payload", [b"", b"[]", b"7", b"\xff", b"{}", b'{"n": "1"}', b'{"n": null}'])
def test_odd_messages_break_nothing(witness, payload):
    """Whatever is published, the subscriber goes on, and the screen can be drawn."""
    for topic in (f"node/{NAME}/record/lamp", "order/1/state", "order/x/state", "gateway/g/reject", "gateway/g/health", "x"):
        tell(witness, topic, payload)
    draw(seen_of(witness), {})


def test_contiguous():
    """A missing number in the middle is a loss; nothing at all is no proof."""
    assert is_contiguous({3, 4, 5})
    assert not is_contiguous({3, 5})
    assert not is_contiguous(set())


def test_forged_frame_is_well_formed_and_refused():
    """The lie told on the cable fails at the signature, not earlier: it is fresh and of the right shape."""
    found = decode_frame(_forge(frame(1)), RING)
    assert (found["tx"], found["reason"]) == (2, "bad_signature")


def draw(seen: Seen, status: dict) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(screen(seen, status, "hint"))
    return console.export_text()


def test_screen(witness):
    """The screen shows values with units, quality, age, orders with their states, and refused frames."""
    tell(witness, f"node/{NAME}/record/lamp", document(5, time="2020-01-01T00:00:00Z", clock={"state": "synced"}))
    for state in ("queued", "verified"):
        tell(witness, "order/7/state", {"order_id": 7, "node": NAME, "state": state})
    tell(witness, "gateway/g/reject", {"reason": "replayed", "node": NAME, "link": "lamp", "at": "now"})
    text = draw(seen_of(witness), {"outbox": {"unpublished": 3, "full_in_h": 31.2}, "broker": {"state": "connected"}})
    for words in ("47.2 x", "no value", "good", "queued > verified", "replayed", "3 waiting", "full in 31 h", "connected", "waiting"):
        assert words in text


def test_the_hint_is_whole_on_a_narrow_terminal():
    """What a newcomer shall copy from the live screen must not be cut at its edge."""
    console = screen_console(width=60, record=True, file=io.StringIO())
    folder = "/srv/somewhere/with/a/long/path/to/the/street/city.toml"
    with Live(console=console, auto_refresh=False) as live:
        live.update(screen(Seen(), {}, f"in another terminal: lamppost order dim 0000a001 30 --for 10m --city {folder}"), refresh=True)
    assert folder in console.export_text().replace("\n", "")
