"""After a whole run no key is where it does not belong: not in logs, metrics, status, MQTT, the gateway's disk or memory (R23, R37)."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from lamppost_protocol import orders, slip
from lamppost_protocol.kinds import LAMP, ORDER_STATE
from street.street_node import NodeSpec
from street.town import Town

FIRST, SECOND = 0xE1, 0xE2


def forms(key: bytes) -> list[bytes]:
    """A key as octets, as hex in both cases, in both base64 alphabets without padding, and as Python would print it."""
    texts = [key.hex(), key.hex().upper(), repr(key)[2:-1]]
    texts += [encode(key).decode().rstrip("=") for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    return [key, *(text.encode() for text in texts), key[::-1]]


def memory(pid: int) -> Iterator[bytes]:
    """Every readable piece of a process's memory."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as content:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, rights = line.split()[:2]
            first, last = (int(text, 16) for text in bounds.split("-"))
            if rights.startswith("rw"):
                with contextlib.suppress(OSError, OverflowError, ValueError):
                    content.seek(first)
                    yield content.read(last - first)


def test_no_key_leaves_its_place(town: Callable[..., Town]) -> None:
    """Orders obeyed and refused, frames stored and refused, a broken key file, kill and restart: then every octet is searched."""
    street = town(NodeSpec(FIRST), NodeSpec(SECOND, "station"), is_connected=True)
    subscriber, key = street.subscriber, street.key
    assert subscriber is not None
    gateway = street.add_gateway()
    gateway.start()
    street.serve_time()
    for node in street.nodes.values():
        node.start()
    for node in street.nodes.values():
        street.wait_until(lambda node=node: node.knows_time, "time")
    order_id, frame = key.order(FIRST, orders.LEVEL, LAMP, [50, 0])
    subscriber.publish("order/signed", key.document(FIRST, order_id, frame))
    node = street.nodes[FIRST]
    street.wait_until(lambda: any(values[1] == orders.VERIFIED for values in node.values(ORDER_STATE)), "verified order")
    for lie in (node.sent()[0].data, node.sent()[-1].data[:-1] + b"\x00", b"\xd2\x84", frame):
        street.cables[FIRST].say("g1", slip.encode(slip.FRAME, lie))
    subscriber.publish("order/signed", key.document(FIRST, 99, frame[:-1] + b"\x00"))
    street.wait_until(lambda: len(subscriber.documents("reject")) >= 4, "rejects on MQTT")
    hop_keys = street.registry.hop_keys_path
    good = hop_keys.read_bytes()
    hop_keys.write_bytes(good.replace(b'"', b"'", 1))
    street.wait_until(lambda: "registry_failed" in gateway.log(), "complaint about the hop keys")
    hop_keys.write_bytes(good)
    commands = [gateway.command(*words) for words in (("status", "--json"), ("rejects", "--json"), ("check",))]
    heap = [part.encode() for done in commands for part in (done.stdout, done.stderr)]
    heap += [json.dumps(gateway.status()).encode(), gateway.metrics_text().encode()]

    commanding = forms(key.private_key)
    private = [form for node in street.nodes.values() for form in forms(node.private_key)]
    hop = [form for node in street.nodes.values() for form in forms(node.hop_key)]
    pieces = list(memory(gateway.process.pid))
    assert any(str(gateway.folder).encode() in piece for piece in pieces), "the search finds what must be there"
    assert not any(form in piece for piece in pieces for form in (*commanding, *private))
    gateway.kill()
    with subscriber.changes:
        heap += [topic.encode() + payload for topic, payload in subscriber.messages]
    for cable in street.cables.values():
        heap += [*cable.up, *cable.down]

    allowed = {path for node in street.nodes.values() for path in [node.flash / "identity.cbor"]}
    allowed |= {hop_keys, street.folder / "authority" / "key.pem"}
    files = [path for path in street.folder.rglob("*") if path.is_file() and path not in allowed]
    assert {gateway.log_path, gateway.folder / "outbox.db"} <= set(files)
    for path in files:
        content = path.read_bytes()
        assert not any(form in content for form in (*commanding, *private, *hop)), f"a key in {path.relative_to(street.folder)}"
    for piece in heap:
        assert not any(form in piece for form in (*commanding, *private, *hop)), piece[:200]
    # A stolen cabinet holds the gateway's folder and the registry's: of nodes and authority there is no private key in either.
    for path in [*gateway.folder.rglob("*"), *street.registry.path.parent.rglob("*")]:
        if path.is_file():
            content = path.read_bytes()
            assert not any(form in content for form in (*commanding, *private)), path
