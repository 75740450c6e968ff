"""A modem's messages: what is encoded is decoded, one form each, and whatever else comes over the line is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import cbor, modem
from lamppost_protocol.errors import LocalError, RemoteError

U32 = st.integers(0, 0xFFFFFFFF)
HZ = st.integers(150_000_000, 960_000_000)
SPREADING_FACTOR = st.integers(5, 12)
BANDWIDTH_HZ = st.integers(7_800, 500_000)
PACKET = st.binary(min_size=1, max_size=255)
TOKEN = st.integers(0, 0xFFFF)
MESSAGES = {
    "received": st.builds(
        modem.Received, U32, HZ, SPREADING_FACTOR, BANDWIDTH_HZ, st.integers(-200, 50), st.integers(-128, 127), PACKET
    ),
    "transmit": st.builds(
        modem.Transmit, TOKEN, U32 | st.none(), HZ, SPREADING_FACTOR, BANDWIDTH_HZ, st.integers(-9, 30), st.integers(0, 100),
        st.integers(-130, 0), PACKET
    ),
    "sent": st.builds(modem.Sent, TOKEN, st.integers(0, 6), U32),
    "state": st.builds(modem.State, st.text(st.characters(max_codepoint=127), max_size=32), U32, U32, U32, U32, U32, st.booleans()),
    "listen": st.builds(modem.Listen, HZ, SPREADING_FACTOR, BANDWIDTH_HZ),
}  # fmt: skip
ANY_VALUE = st.integers(-(1 << 40), 1 << 40) | st.none() | st.booleans() | st.binary(max_size=300) | st.text(max_size=40)


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_what_is_encoded_is_decoded(name: str, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[name])
    decoded = getattr(modem, f"decode_{name}")(getattr(modem, f"encode_{name}")(message))
    assert decoded == message
    assert type(decoded) is type(message)


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_a_value_out_of_range_is_neither_sent_nor_believed(name: str, data: st.DataObject) -> None:
    """One field of any type and size in a good message: encoder and decoder agree whether it is one."""
    message = data.draw(MESSAGES[name])
    at = data.draw(st.integers(0, len(message) - 1))
    spoilt = [*message]
    spoilt[at] = data.draw(ANY_VALUE)
    try:
        body = getattr(modem, f"encode_{name}")(type(message)(*spoilt))
    except LocalError as error:
        assert error.reason in ("bad_payload", "bad_cbor")
        try:
            body = cbor.encode([modem.VERSION, *spoilt] if name == "state" else spoilt)
        except LocalError:
            return  # no CBOR of ours either
        with pytest.raises(RemoteError) as refused:
            getattr(modem, f"decode_{name}")(body)
        assert refused.value.reason == "bad_payload"
    else:
        assert [*getattr(modem, f"decode_{name}")(body)] == spoilt


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=60))
def test_one_message_has_one_form(name: str, body: bytes) -> None:
    """Arbitrary octets are refused by name, or are exactly what the encoder writes."""
    try:
        message = getattr(modem, f"decode_{name}")(body)
    except RemoteError as error:
        assert error.reason == "bad_payload"
    else:
        assert getattr(modem, f"encode_{name}")(message) == body


def test_a_refused_request_is_answered_by_its_token() -> None:
    """Where an array begins with one: a gateway of another version learns that it is not understood."""
    assert modem.token_of(cbor.encode([513, None, 1, 2])) == 513
    for body in (b"", b"\x80", cbor.encode([65536]), cbor.encode([True]), cbor.encode({0: 1}), b"\x81\x18\x01"):
        assert modem.token_of(body) is None
