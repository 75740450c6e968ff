"""Every JSON document on MQTT against its published schema, and what the numbers in it mean."""

import json
import time
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_gateway import documents
from lamppost_gateway.outbox_rows import Loss, StoredFrame
from lamppost_gateway.publisher_feeds import health_message, health_numbers
from lamppost_gateway.topics import Topics, hex8, parse_hex8
from lamppost_protocol import hello, kinds, profiles, tickets
from lamppost_protocol.errors import RemoteError

_AT_MS = 1_800_000_000_123


def schema(name: str) -> dict[str, Any]:
    text = resources.files("lamppost_gateway").joinpath(f"schema_mqtt/{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def check(name: str, document: Any) -> Any:
    """Validate as JSON; every field must also be described, so that a new one cannot slip out undocumented."""
    strict = closed(schema(name))
    jsonschema.Draft202012Validator.check_schema(strict)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    again = json.loads(json.dumps(document))
    jsonschema.Draft202012Validator(strict, format_checker=checker).validate(again)
    return again


def closed(part: Any) -> Any:
    if isinstance(part, dict):
        part = {key: closed(item) for key, item in part.items()}
        if "properties" in part and part.get("type") == "object":
            part.setdefault("additionalProperties", False)
    return part


def stored(bench: Any, *contents: list[Any], fresh: int | None = None, **how: Any) -> StoredFrame:
    frame = bench.Node(0xABCD).frame(*contents, **how)
    return StoredFrame(
        1,
        frame.node,
        frame.epoch,
        frame.tx,
        frame.n,
        frame.count,
        frame.fresh if fresh is None else fresh,
        _AT_MS,
        "line",
        frame.late,
        frame.data,
    )


def record_document(bench: Any, content: list[Any], **how: Any) -> dict[str, Any]:
    heard = stored(bench, content, **how)
    (record,) = documents.records_of(heard)
    document = documents.record_document(record, heard, "gw-1", late=False)
    checked: dict[str, Any] = check("record", document)
    return checked


@pytest.mark.parametrize("profile_id", sorted(profiles.PROFILES))
@pytest.mark.parametrize("edge", ["low", "high", "null"])
def test_every_profile_makes_a_valid_document(bench: Any, profile_id: int, edge: str) -> None:
    """Each column appears by name with value, unit and path, at both ends of its range and as null."""
    columns = profiles.PROFILES[profile_id].columns
    values = [None if edge == "null" else getattr(column, edge) for column in columns]
    document = record_document(bench, [profile_id + 64, 0, 0, *values])
    name = profiles.PROFILES[profile_id].name
    assert (document["fixture"], document["instance"], document["profile"]) == (f"{name}.1", 1, name)
    assert list(document["values"]) == [column.name for column in columns]
    for column, value in zip(columns, values, strict=True):
        shown = document["values"][column.name]
        assert (shown["unit"], shown["path"]) == (column.unit, column.path)
        expected = None if value is None else float(f"{value}e{column.scale}")
        assert shown["value"] == expected


def test_words_for_enums_and_bits(bench: Any) -> None:
    """Codes come with their words; a code newer than this gateway is named by its number."""
    values = record_document(bench, [kinds.LAMP, 0, 0, 1, 2, 3, 4, 5, 6, 7, 3, 0b1000000101])["values"]
    assert values["cause"]["word"] == profiles.LAMP_CAUSES[3]
    words = values["faults"]["words"]
    assert words[:2] == [profiles.LAMP_FAULTS[0], profiles.LAMP_FAULTS[2]]
    assert len(words) == 3
    values = record_document(bench, [kinds.LAMP, 0, 0, 1, 2, 3, 4, 5, 6, 7, 15, 0])["values"]
    assert values["cause"]["word"] == "code_15"
    assert record_document(bench, [kinds.LAMP, 0, 40])["quality"] == "code_40"
    used = record_document(bench, [kinds.SERVICE, 0, 0, 43, 2, tickets.RESTART, 0, 7])
    assert (used["fixture"], used["values"]["verb"]["word"], used["values"]["result"]["word"]) == ("service", "restart", "done")


def test_unknown_profile_is_passed_on_raw(bench: Any) -> None:
    """A profile this gateway never heard of loses nothing."""
    document = record_document(bench, [60 + 128, 5, 0, 1, None, -(2**63)])
    assert (document["fixture"], document["profile"], document["profile_id"]) == ("profile-60.2", None, 60)
    assert (document["values"], document["raw"]) == ({}, [1, None, -(2**63)])


def test_columns_appended_by_newer_firmware_are_raw(bench: Any) -> None:
    """Columns are only ever appended: those beyond the table come as raw integers, missing ones are absent."""
    document = record_document(bench, [kinds.BIN, 0, 0, 1500, 40, 215, 0, 77, 78])
    assert document["raw"] == [77, 78]
    document = record_document(bench, [kinds.BIN, 0, 0, 1500])
    assert list(document["values"]) == ["distance"]
    assert "raw" not in document


def test_time_is_base_plus_offset_and_null_when_unknown(bench: Any) -> None:
    """Times are ISO 8601 with Z; a node without the time says null and how long ago; a broken one is not believed."""
    document = record_document(bench, [kinds.BIN, 90, 0, 1], t=1_800_000_000)
    assert document["time"] == "2027-01-15T08:01:30Z"
    assert document["clock"] == {"state": "synced", "uncertainty_s": 1, "age_s": None}
    assert document["received_at"] == "2027-01-15T08:00:00.123Z"
    document = record_document(bench, [kinds.BIN, -90, 0, 1], t=None)
    assert document["time"] is None
    assert document["clock"] == {"state": "never_set", "uncertainty_s": None, "age_s": 90}
    document = record_document(bench, [kinds.BIN, None, 0, 1], t=1_800_000_000)
    assert document["clock"] == {"state": "never_set", "uncertainty_s": None, "age_s": None}
    document = record_document(bench, [kinds.BIN, 0, 0, 1], t=0xFFFFFFFFFF)
    assert (document["time"], document["clock"]["state"]) == (None, "implausible")


def test_only_fresh_records_are_published(bench: Any) -> None:
    """A record the gateway had already stored from an earlier frame is not sent again."""
    heard = stored(bench, [2, 0, 0, 1], [2, 0, 0, 2], [2, 0, 0, 3], fresh=0b101)
    assert [(record.n, record.values[0]) for record in documents.records_of(heard)] == [(1, 1), (3, 3)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 1023).filter(lambda kind: kind & 63),
            st.none() | st.integers(-1000, 0),
            st.integers(0, 63),
            st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=14),
        ),
        min_size=1,
        max_size=5,
    ),
    st.none() | st.integers(0, 2**40 - 1),
)
def test_whatever_a_node_signs_becomes_a_valid_document(contents: list[Any], t: int | None) -> None:
    """No value that passes the wire's rules breaks the document or its JSON."""
    from lamppost_protocol import records as wire

    uplink = wire.decode_uplink(wire.encode_uplink(1, 0, t, None if t is None else 9, [[*c[:3], *c[3]] for c in contents]))
    made = list(documents._records(7, 1, (1 << len(contents)) - 1, uplink))
    heard = StoredFrame(1, 7, 1, 1, 1, len(made), 1, _AT_MS, "line", False, b"")
    for record in made:
        check("record", documents.record_document(record, heard, "gw-1", late=True))


def test_rows_that_are_no_frame_are_named(bench: Any) -> None:
    """A damaged row raises what the publisher expects, wherever it is damaged, or reads as records of some sort."""
    heard = stored(bench, [2, 0, 0, 1], [1, 0, 0, 2])
    with pytest.raises(RemoteError):
        documents.records_of(replace(heard, data=heard.data[:-1]))
    refused = 0
    for bit in range(len(heard.data) * 8):
        data = bytearray(heard.data)
        data[bit // 8] ^= 1 << bit % 8
        try:
            for record in documents.records_of(replace(heard, data=bytes(data))):
                json.dumps(documents.record_document(record, heard, "gw-1", late=False))
        except RemoteError:
            refused += 1
    assert refused > 50
    for junk in (b"", b"\x00", b"\xd2\x80", b"\xd2\x84\x40\xa0\x40\x40", b"\xd2\x84\x40\xa0\x44\x83\x01\x02\x03\x40", b"\xff"):
        with pytest.raises(RemoteError):
            documents.records_of(replace(heard, data=junk))


def test_scaled_values_are_the_nearest_double() -> None:
    """47.2 is 47.2 and not 47.2000000001; whole numbers stay whole."""
    assert json.dumps([documents.scaled(472, -1), documents.scaled(5, 0), documents.scaled(5, 2)]) == "[47.2, 5, 500]"
    assert documents.scaled(None, -1) is None


@pytest.mark.parametrize("nonce", [None, bytes(8)])
@pytest.mark.parametrize("state", range(3))
def test_hello_document(nonce: bytes | None, state: int) -> None:
    """A hello says that it is unsigned."""
    message = hello.Hello(1, 2, 1, state, nonce, 5, 9, "0.1.0")
    document = check("hello", documents.hello_document(message, "gw-1", "line", _AT_MS))
    assert document["verified"] is False
    assert document["nonce"] == (None if nonce is None else "00" * 8)


def test_status_reject_and_loss_documents(bench: Any) -> None:
    """The other documents hold to their schemas too."""
    heard = stored(bench, [2, 0, 0, 1])
    check("node-status", documents.status_document(heard, documents.records_of(heard)[0], "gw-1"))
    check("gateway-reject", documents.reject_document("bad_signature", 5, b"\x01", "line", _AT_MS, "gw-1", 3))
    check("gateway-reject", documents.reject_document("bad_slip", None, b"", "line", _AT_MS, "gw-1"))
    check("gateway-loss", documents.loss_document(Loss(1, 5, 1, 10, 20, 11, "disk_budget", _AT_MS), "gw-1"))


def test_health_documents() -> None:
    """Online with numbers, stopped, and the last will, which cannot know the time."""
    from lamppost_gateway.outbox_rows import OutboxCounts

    topics = Topics(0x11, "gw-1")
    counts = OutboxCounts(5, 3, _AT_MS - 9000, 1, 2, 0, 4096, 1 << 30, 31.5)
    numbers = health_numbers(counts, _AT_MS, 2, 3)
    online = check("gateway-health", json.loads(health_message(topics, "gw-1", "online", _AT_MS, numbers).payload))
    assert online["outbox"]["oldest_age_s"] == 9
    check("gateway-health", json.loads(health_message(topics, "gw-1", "stopped", _AT_MS).payload))
    will = health_message(topics, "gw-1", "offline", None)
    check("gateway-health", json.loads(will.payload))
    assert will.retain
    assert will.topic == "lamppost/v1/00000011/gateway/gw-1/health"


@pytest.mark.parametrize("state", range(3, 9))
def test_order_state_documents(bench: Any, state: int) -> None:
    """A node's word carries the number of the signed record that proves it."""
    (record,) = documents.records_of(stored(bench, [kinds.ORDER_STATE, 0, 0, 77, state, 8, 60, 800, 472]))
    evidence = documents.order_evidence(record)
    document = check("order-state", documents.order_state_document(77, 5, state, _AT_MS, "gw-1", evidence))
    assert document["evidence"]["power_after"] == {"value": 47.2, "unit": "W", "path": "/26244/0/5"}
    assert (document["evidence"]["by"], document["evidence"]["n"], document["evidence"]["reason"]) == (
        "node",
        1,
        "unverified_power",
    )


@pytest.mark.parametrize("evidence", [{}, {"by": "gateway", "link": "line"}, {"by": "gateway", "attempts": 3, "answered": False}])
def test_order_states_of_the_gateway(evidence: dict[str, Any]) -> None:
    """Queued, sent and expired are the gateway's word and say so."""
    check("order-state", documents.order_state_document(77, 5, 7, _AT_MS, "gw-1", evidence))


def test_documents_of_the_authority(bench: Any, tmp_path: Any) -> None:
    """What the authority publishes, as the gateway reads it, has schemas as well."""
    street = bench.Street(tmp_path, 1)
    check("order-signed", street.authority.order(0x11, 5))
    check("beacon-signed", street.authority.beacon(None, 5))
    check("beacon-signed", street.authority.beacon(0x11, 6, bytes(8)))
    check("order-request", {"request_id": "a", "node": "00000011", "verb": "level", "fixture": "lamp", "level_percent": 40})
    check("order-request", {"request_id": "a", "node": "00000011", "verb": "update", "manifest": "d2845f", "lease_s": 86400})
    check("order-response", {"request_id": "a", "order_id": 4, "node": "00000011", "verb": "level", "target": 1})
    check("order-response", {"request_id": "a", "error": "unknown_node", "reason": "no such node"})
    with pytest.raises(jsonschema.ValidationError):
        check("order-response", {"request_id": "a"})


def test_topic_names() -> None:
    """Topics as the city subscribes to them; ids are 8 lower-case hex digits and nothing else."""
    topics = Topics(0xA11CE, "gw-1")
    assert topics.record(0x2A, "lamp.1") == "lamppost/v1/000a11ce/node/0000002a/record/lamp.1"
    assert topics.frame(0x2A) == "lamppost/v1/000a11ce/node/0000002a/frame"
    assert topics.order_state(7) == "lamppost/v1/000a11ce/order/7/state"
    assert parse_hex8(hex8(0xFFFFFFFF)) == 0xFFFFFFFF
    for wrong in ("", "1", "0000002A", "0000002a0", None, 5, "../etc", "0000 02a"):
        with pytest.raises(ValueError, match="hex"):
            parse_hex8(wrong)
    for beyond in (-1, 1 << 32):
        with pytest.raises(ValueError, match="32-bit"):
            hex8(beyond)


def test_making_documents_is_cheap(bench: Any) -> None:
    """A frame of four records costs well under what its MQTT messages do (65 us each)."""
    heard = stored(bench, *[[1, 0, 0, 60, 60, 472, 2301, 210, 980, 12345, 1, 0]] * 4)
    since_s = time.process_time()
    for _ in range(50):
        for record in documents.records_of(heard):
            json.dumps(documents.record_document(record, heard, "gw-1", late=False))
    assert (time.process_time() - since_s) / 50 < 0.005  # a guard against something quadratic, not a benchmark
