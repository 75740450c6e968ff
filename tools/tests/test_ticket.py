"""Service tickets at the desk: who gets one, for what, what the log holds of it, and what comes over a telephone."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import cose, frames, tickets
from lamppost_protocol.es256_host import HostVerifier, generate_private_key, public_key
from lamppost_tools.authority.authority import Authority, open_authority
from lamppost_tools.authority.settings import load_settings
from lamppost_tools.durable import read_json
from lamppost_tools.errors import RefusedError, ToolError, UsageError
from lamppost_tools.service.visit import permit_of
from lamppost_tools.service.words import answer_in_words
from lamppost_tools.ticket.by_voice import nonce_of, nonce_text, ticket_of, ticket_text

NOW_S = 1_800_000_000
NODE = "0000a001"
NONCE = bytes(range(8))
KEY = public_key(generate_private_key())
STRANGER = public_key(generate_private_key())


def check_schema(name: str, document: dict) -> None:
    """Raises ValidationError where MQTT clients were told otherwise."""
    folder = Path(__file__).resolve().parents[2] / "gateway/lamppost_gateway/schema_mqtt"
    jsonschema.validate(document, json.loads((folder / f"{name}.json").read_text()))


@pytest.fixture
def authority(city) -> Authority:
    """One whose settings list one technician, for two verbs."""
    with (city.authority / "authority.toml").open("a") as settings:
        settings.write(f'\n[[technician]]\nname = "R. Laub"\nkey = "{KEY.hex()}"\nscopes = ["look", "light"]\n')
    return open_authority(city.authority, load_settings(city.authority), lambda: NOW_S)


def ask(authority: Authority, **fields: object) -> tuple[dict, dict | None]:
    request = {"v": 1, "request_id": "a", "node": NODE, "nonce": NONCE.hex(), "technician_key": KEY.hex(), "scopes": ["look"], **fields}
    return authority.answer_ticket_request(json.dumps({name: value for name, value in request.items() if value is not ...}).encode())


def test_a_listed_technician_gets_what_he_may_have(authority, city) -> None:
    """Signed for this node, this nonce and this key; in the log before it is handed out; numbered with the orders."""
    request = {"v": 1, "request_id": "a", "node": NODE, "nonce": NONCE.hex(), "technician_key": KEY.hex(), "scopes": ["light", "look"]}
    check_schema("ticket-request", {**request, "epoch": 1, "minutes": 45})
    response, signed = ask(authority, scopes=["light", "look"], minutes=45)
    check_schema("ticket-response", response)
    check_schema("ticket-signed", signed)
    assert signed is not None
    public = read_json(city.public, "")
    message = cose.decode(bytes.fromhex(signed["frame"]))
    verifier = HostVerifier(bytes.fromhex(public["public_key"]))
    payload = frames.open_signed(message, verifier, frames.TICKET, int(public["network"], 16), int(NODE, 16), 1)
    assert tickets.decode_ticket(payload) == tickets.Ticket(NONCE, 2700, 0b101, KEY)
    assert message.tx == signed["ticket"] == response["ticket"] == 1
    (logged,) = (city.authority / "signed-tickets.jsonl").read_text().splitlines()
    assert {**json.loads(logged), "v": 1} == {**signed, "at": NOW_S}
    order = {"request_id": "b", "node": NODE, "verb": "level", "level_percent": 40}
    assert authority.answer_request(json.dumps(order).encode())[0]["order_id"] == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"technician_key": STRANGER.hex()}, "unknown_technician"),
        ({"scopes": ["look", "restart"]}, "beyond_scopes"),
        ({"node": "0000a099"}, "unknown_node"),
        ({"epoch": 2}, "wrong_epoch"),
        ({"scopes": []}, "bad_request"),
        ({"scopes": ["keys"]}, "bad_request"),
        ({"minutes": 61}, "bad_request"),
        ({"minutes": 0}, "bad_request"),
        ({"nonce": "00"}, "bad_request"),
        ({"node": ...}, "bad_request"),
        ({"more": 1}, "bad_request"),
    ],
)
def test_refusals_are_named_and_use_no_number(authority, city, fields, reason) -> None:
    """Who is not listed, or asks for more than he may have, gets a reason and no signature."""
    response, signed = ask(authority, **fields)
    assert (signed, response["reason"]) == (None, reason)
    check_schema("ticket-response", response)
    assert not (city.authority / "signed-tickets.jsonl").exists()
    assert ask(authority)[0]["ticket"] == 1


def test_a_revoked_node_and_a_flood_get_none(authority, city) -> None:
    """Nor does a seventh within a minute for one node."""
    city.registry.revoke(0xA002, NOW_S, "stolen")
    assert ask(authority, node="0000a002")[0]["reason"] == "revoked_node"
    assert [ask(authority)[0].get("reason") for _ in range(7)] == [None] * 6 + ["too_often"]


def test_what_the_settings_say_of_technicians_is_checked(city) -> None:
    """A key that is none, a scope that is none: told with their place."""
    with (city.authority / "authority.toml").open("a") as settings:
        settings.write('\n[[technician]]\nname = "X"\nkey = "12"\nscopes = ["everything"]\n')
    with pytest.raises(UsageError, match=r"technician\.0\.key(.|\n)*technician\.0\.scopes"):
        load_settings(city.authority)


def test_a_ticket_over_the_telephone(city, lamppost, tmp_path) -> None:
    """At the desk, without any broker: the text alone, beside what the technician knows, is the ticket to the last octet."""
    public = tmp_path / "technician-public.json"
    public.write_text(json.dumps({"name": "R. Laub", "technician_key": KEY.hex()}))
    words = ["--node", NODE, "--nonce", nonce_text(NONCE).lower(), "--technician", str(public), "--scopes", "restart, look"]
    done = lamppost("authority", "ticket", "--state", str(city.authority), *words, "--json")
    assert done.returncode == 0, done.stderr
    signed = json.loads(done.stdout)
    check_schema("ticket-signed", signed)
    named = read_json(city.public, "")
    frame = ticket_of(signed["text"], NONCE, KEY, int(named["issuer"], 16))
    assert frame.hex() == signed["frame"]
    permit = permit_of(frame, _public(city), int(NODE, 16), 1)
    assert (permit.number, permit.ticket.scopes, permit.ticket.valid_s) == (signed["ticket"], 0b1001, 1800)
    for node, epoch in ((0xA002, 1), (0xA001, 2)):
        with pytest.raises(RefusedError, match="not the authority's"):
            permit_of(frame, _public(city), node, epoch)
    for other in (STRANGER, KEY[:63] + bytes([KEY[63] ^ 1])):
        with pytest.raises(RefusedError):
            permit_of(ticket_of(signed["text"], NONCE, other, int(named["issuer"], 16)), _public(city), 0xA001, 1)
    refused = lamppost("authority", "ticket", "--state", str(city.authority), *words[:-1], "everything")
    assert refused.returncode == 2
    assert b"is no scope" in refused.stderr
    said = lamppost("authority", "ticket", "--state", str(city.authority), *words)
    assert b"text: " in said.stdout


def _public(city):
    from lamppost_tools.authority.public import read_authority_public

    return read_authority_public(city.public)


@given(st.binary(min_size=8, max_size=8), st.integers(0, 15), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_slip_of_the_tongue_is_found(nonce, place, letter) -> None:
    """One letter heard wrong gives no nonce, but by chance; case, spaces and digits that look alike are forgiven."""
    text = nonce_text(nonce)
    assert len(text) == 19
    assert nonce_of(text) == nonce
    assert nonce_of(text.lower().replace("-", " ").replace("o", "0").replace("i", "1").replace("b", "8")) == nonce
    letters = list(text.replace("-", ""))
    if letters[place] == letter:
        return
    letters[place] = letter
    try:
        assert nonce_of("".join(letters)) != nonce  # 1 in 65,536 passes the check
    except UsageError as error:
        assert "slip" in error.what or "letters" in error.what


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 120, "!" * 120, "A" * 119, "A" * 121])
def test_what_is_no_ticket_is_told(text) -> None:
    """And never raises anything else."""
    with pytest.raises(ToolError):
        ticket_of(text, NONCE, KEY, 1)


def test_ticket_text_leaves_out_what_both_know(authority) -> None:
    """120 letters, whatever its number."""
    _, signed = ask(authority)
    assert signed is not None
    assert len(ticket_text(bytes.fromhex(signed["frame"])).replace("-", "")) == 120


@pytest.mark.parametrize("value", [None, [], [1], [[], [], [], {}, "", []], {"a": 1}, 7, [[1, 2], [None, 3, 4], [0] * 5, {}, "file", [1]]])
@pytest.mark.parametrize("verb", [tickets.LOOK, tickets.TEST, tickets.LIGHT])
def test_an_answer_that_is_odd_is_shown_and_not_believed(verb, value) -> None:
    """Answers are unsigned: whatever somebody at the line makes of one, the tool shows it."""
    assert answer_in_words(verb, tickets.Answer(1, 0, value), 0xA001, None)["result"] == "done"


def test_schema_of_a_response_wants_one_of_two() -> None:
    """A number or an error."""
    with pytest.raises(jsonschema.ValidationError):
        check_schema("ticket-response", {"request_id": "a"})
