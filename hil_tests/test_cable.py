"""The bench's cable: octets cross unchanged, lies go between messages, pulling is what a real port does."""

import errno
import os
import select
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.cable import Cable
from lamppost_protocol import slip

HOST = "host"


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    made = Cable(tmp_path, "lamp")
    yield made
    made.close()


def open_end(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    return descriptor


def read_until(descriptor: int, wanted: bytes, deadline_s: float = 5.0) -> bytes:
    data = b""
    while not data.endswith(wanted):
        readable, _, _ = select.select([descriptor], [], [], deadline_s)
        assert readable, f"only {data!r} came"
        data += os.read(descriptor, 4096)
    return data


def test_every_octet_crosses_both_ways(cable):
    """No octet is a control character of the line."""
    node, gateway = open_end(cable.path()), open_end(cable.path(HOST))
    everything = bytes(octet for octet in range(256) if octet != 0xC0)
    os.write(node, b"\xc0" + everything + b"\xc0")
    assert read_until(gateway, b"\xff\xc0") == b"\xc0" + everything + b"\xc0"
    os.write(gateway, everything + b"\xc0")
    assert read_until(node, b"\xc0") == everything + b"\xc0"
    os.close(node)
    os.close(gateway)


def test_injected_messages_do_not_break_others(cable):
    """What is injected while half a message has crossed comes before or after it, never inside."""
    node, gateway = open_end(cable.path()), open_end(cable.path(HOST))
    true = slip.encode(slip.LOG, b"true")
    os.write(node, true[:5])
    cable.say(HOST, slip.encode(slip.LOG, b"lie"))
    decoder, messages = slip.Decoder(), []
    messages += decoder.feed(read_until(gateway, b"\xc0"))
    os.write(node, true[5:])
    while len(messages) < 2:
        messages += decoder.feed(os.read(gateway, 4096))
    assert sorted(messages) == [(slip.LOG, b"lie"), (slip.LOG, b"true")]
    assert decoder.bad_crc == decoder.bad_slip == 0
    assert cable.up == [true[1:]]
    os.close(node)
    os.close(gateway)


def test_unplugged_and_plugged_again(cable):
    """The gateway's port vanishes and comes back under the same name; the node notices nothing."""
    node, gateway = open_end(cable.path()), open_end(cable.path(HOST))
    cable.pull(HOST)
    cable.pull(HOST)
    assert not cable.path(HOST).exists()
    try:
        assert os.read(gateway, 10) == b""
    except OSError as error:
        assert error.errno == errno.EIO
    os.close(gateway)
    os.write(node, slip.encode(slip.LOG, b"lost on the floor"))
    cable.plug(HOST)
    gateway = open_end(cable.path(HOST))
    os.write(node, slip.encode(slip.LOG, b"again"))
    decoder, messages = slip.Decoder(), []
    while (slip.LOG, b"again") not in messages:
        messages += decoder.feed(read_until(gateway, b"\xc0"))
    os.close(node)
    os.close(gateway)


def test_a_cable_of_days_remembers_the_newest(tmp_path):
    """At least as many as it was told, in their order, and not for ever more."""
    cable = Cable(tmp_path, "lamp", most_kept=10)
    node = open_end(cable.path())
    said = [b"%d" % number + slip.END for number in range(95)]
    os.write(node, b"".join(said))
    cable.changes.wait(lambda: cable.up[-1:] == said[-1:], "the last message", 10)
    assert 10 <= len(cable.up) < 20
    assert cable.up == said[-len(cable.up) :]
    os.close(node)
    cable.close()


def test_close_twice_leaves_nothing(tmp_path):
    """Closing removes both ends, and closing again is no error."""
    cable = Cable(tmp_path, "bin")
    cable.close()
    cable.close()
    assert list(tmp_path.iterdir()) == []
