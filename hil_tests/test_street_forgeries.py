"""Lies on the wire: every replayed, reflected, misdirected or forged frame is refused by name, kept, counted, and moves nothing (R06)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.deadline import wait_for
from lamppost_protocol import cose, frames, orders, slip
from lamppost_protocol.es256_host import HostSigner, generate_private_key
from lamppost_protocol.hop import HopKey
from lamppost_protocol.kinds import LAMP, NODE, ORDER_STATE
from lamppost_tools.durable import write_file
from street.street_gateway import StreetGateway
from street.street_node import NodeSpec, StreetNode
from street.town import Town

FIRST, SECOND = 0xB1, 0xB2
NODE_REJECTS = 7  # column of profile node
OTHER_NETWORK = 0x0BADF00D


def expect_refused(gateway: StreetGateway, lies: dict[bytes, str], before: dict[str, float]) -> None:
    """Each frame of `lies` is in `lamppost-gateway rejects` under its reason, and each reason is counted as often."""
    wanted = {(reason, data.hex()) for data, reason in lies.items()}
    listed: set[tuple[str, str]] = set()

    def are_listed() -> bool:
        listed.update((item["reason"], item["bytes"]) for item in gateway.rejects())
        return wanted <= listed

    wait_for(are_listed, lambda: f"rejects {[reason for reason, data in wanted - listed]}; listed {sorted(reason for reason, _ in listed)}")
    for reason in set(lies.values()):
        times = list(lies.values()).count(reason)
        assert gateway.counted("rejected", reason=reason) - before.get(reason, 0) >= times, reason


def counted(gateway: StreetGateway) -> dict[str, float]:
    """Refusals so far, by reason."""
    return {
        reason: gateway.counted("rejected", reason=reason) for reason in ("replayed", "bad_signature", "unknown_node", "too_old", "bad_tag")
    }


def say(town: Town, cable: int, data: bytes, host: str = "g1") -> None:
    """Put a frame on the line towards a gateway, as if that node had said it."""
    town.cables[cable].say(host, slip.encode(slip.FRAME, data))


def changed(data: bytes) -> bytes:
    """The frame with one bit of its payload turned: well formed, and not the node's word."""
    message = cose.decode(data)
    payload = message.payload[:-1] + bytes([message.payload[-1] ^ 1])
    forged: bytes = cose.encode(message.kind, message.protected, payload, message.proof)
    return forged


def renumbered(data: bytes, tx: int) -> bytes:
    """The frame under a fresh counter, its signature as it was."""
    message = cose.decode(data)
    forged: bytes = cose.encode(message.kind, cose.protected_header(cose.ES256, message.kid, tx), message.payload, message.proof)
    return forged


def other_registry(town: Town, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the registry, changed, with its hop keys."""
    folder.mkdir()
    document = json.loads(town.registry.path.read_text())
    change(document)
    path = folder / "registry.json"
    path.write_text(json.dumps(document))
    write_file(folder / "hop-keys.json", town.registry.hop_keys_path.read_bytes(), 0o600)
    return path


def rejects_of(node: StreetNode) -> int:
    """Refusals the node has told of in its newest health record since its last start; 0 before the first."""
    values = node.values(NODE)
    return int(values[-1][NODE_REJECTS]) if values else 0


def test_replays_and_forgeries_at_the_gateway(town: Callable[..., Town]) -> None:
    """Same run, other node's line, after a gateway restart, after a node restart, other direction, changed, other network, other epoch."""
    street = town(NodeSpec(FIRST), NodeSpec(SECOND))
    first, second = street.nodes[FIRST], street.nodes[SECOND]
    gateway = street.add_gateway()
    gateway.start()
    street.serve_time()
    first.start()
    second.start()
    street.wait_stored(FIRST, more_than=3)
    street.wait_stored(SECOND, more_than=3)
    heard, other = first.sent()[0].data, second.sent()[1].data
    _, order = street.key.order(FIRST, orders.LEVEL, LAMP, [0, 0])
    stranger = frames.seal(HostSigner(generate_private_key()), frames.UPLINK, street.network, 0x77, 1, 0x77, 1, cose.decode(heard).payload)
    lies = {
        heard: "replayed",
        changed(first.sent()[-1].data): "replayed",  # its counter was used: not even worth a signature check
        renumbered(other, 0xFFFFFF): "bad_signature",
        stranger: "unknown_node",
        order: "unknown_node",  # reflected: an order's issuer is no node
    }
    before = counted(gateway)
    for lie in lies:
        say(street, SECOND, lie)
    expect_refused(gateway, lies, before)

    gateway.kill()
    gateway.start()
    gateway.wait_links_up()
    again = {first.sent()[1].data: "replayed", second.sent()[0].data: "replayed"}
    say(street, FIRST, first.sent()[1].data)
    say(street, SECOND, second.sent()[0].data)
    expect_refused(gateway, again, {})

    first.kill()
    first.forget_bad_boots()
    stored = len(gateway.stored(FIRST))
    first.start()
    street.wait_stored(FIRST, more_than=stored)
    after = {first.sent()[2].data: "too_old"}  # a start leaves 64 counters out, so this one lies below the window
    say(street, FIRST, first.sent()[2].data)
    expect_refused(gateway, after, {})

    def renamed(document: dict[str, Any]) -> None:
        document["network"] = f"{OTHER_NETWORK:08x}"

    def rekeyed(document: dict[str, Any]) -> None:
        for entry in document["nodes"].values():
            entry["epoch"] = 2

    assert gateway.stop() == 0
    for name, network, change in (("other-network", OTHER_NETWORK, renamed), ("other-epoch", street.network, rekeyed)):
        path = other_registry(street, street.folder / f"registry-{name}", change)
        foreign = StreetGateway(
            street.folder / name, name, network, street.key.public_key, path, {"line": street.cables[SECOND].path("g1")}, 9
        )
        street.gateways[name] = foreign
        foreign.start()
        foreign.wait_links_up()
        frame = first.sent()[0].data  # never heard by this one, so the window says nothing: only the signed context can
        say(street, SECOND, frame)
        expect_refused(foreign, {frame: "bad_signature"}, {})
        assert foreign.rows() == []
        if network == OTHER_NETWORK:
            reasons = {item["reason"] for item in foreign.rejects()}
            hello = [body for body in street.cables[SECOND].up if body[:1] == bytes([slip.HELLO])]
            if hello:
                street.cables[SECOND].say("g1", slip.END + hello[-1])
                street.wait_until(lambda foreign=foreign: foreign.counted("rejected", reason="foreign_network"), "foreign_network")
            assert reasons <= {"bad_signature", "foreign_network"}
        foreign.close()
    everything = {sent.data for node in street.nodes.values() for sent in node.sent()}
    assert {row[-1] for row in gateway.rows()} <= everything
    assert {(row[1], row[3]) for row in gateway.rows()} == {(row[1], row[3]) for row in gateway.rows() if row[1] in street.nodes}
    assert len({(row[1], row[3]) for row in gateway.rows()}) == len(gateway.rows())


def test_lies_to_a_node_move_nothing(town: Callable[..., Town]) -> None:
    """Forged, misdirected, expired, reflected orders, beacons and acknowledgements: the lamp stays, the spool stays, the node counts."""
    street = town(NodeSpec(FIRST), NodeSpec(SECOND))
    node = street.nodes[FIRST]
    gateway = street.add_gateway()
    gateway.start()
    street.cables[FIRST].pull("g1")  # nothing is acknowledged by anybody
    street.serve_time()
    node.start()
    street.wait_until(lambda: node.knows_time and node.values(NODE), "time")
    before = rejects_of(node)
    key, thief = street.key, HostSigner(generate_private_key())
    nonce = bytes(8)
    sent = node.sent()[0]
    foreign_hop = HopKey(street.nodes[SECOND].hop_key)
    digest = frames.frame_digest(sent.data)
    lies = [
        key.order(FIRST, orders.LEVEL, LAMP, [0, 0], order_id=1000, signer=thief)[1],
        key.order(SECOND, orders.LEVEL, LAMP, [0, 0], order_id=1001)[1],
        key.order(FIRST, orders.LEVEL, LAMP, [0, 0], order_id=1002, epoch=2)[1],
        key.order(FIRST, orders.LEVEL, LAMP, [0, 0], order_id=1003, network=OTHER_NETWORK)[1],
        key.order(FIRST, orders.LEVEL, LAMP, [0, 0], order_id=1004, signer=HostSigner(node.hop_key))[1],  # all a gateway could sign with
        sent.data,  # its own word, back to it
        key.beacon(0, 0, None, unix=key.unix() + 10_000_000, signer=thief),
        frames.seal_acknowledgement(foreign_hop, street.network, FIRST, 1, sent.n, 0, digest),
        frames.seal_acknowledgement(HopKey(node.hop_key), street.network, FIRST, 2, sent.n, 0, digest),
        frames.seal_acknowledgement(HopKey(node.hop_key), OTHER_NETWORK, FIRST, 1, sent.n, 0, digest),
        frames.seal_acknowledgement(HopKey(node.hop_key), street.network, FIRST, 1, 1_000_000, 0, digest),  # of what was never written
    ]
    for lie in lies:
        node.say(lie)
    node.say(key.beacon(FIRST, 1, nonce, unix=key.unix() - 10_000_000))  # genuine, but answers no question of this node
    expired, frame = key.order(FIRST, orders.LEVEL, LAMP, [0, 0], (key.unix() - 7200, key.unix() - 3600))
    node.say(frame)
    street.cables[FIRST].plug("g1")
    # What the false acknowledgements covered was still owed.
    street.wait_until(lambda: 1 in gateway.stored(FIRST), lambda: f"record 1, but {sorted(gateway.stored(FIRST))}")
    street.wait_until(
        lambda: rejects_of(node) - before >= len(lies), lambda: f"{len(lies)} refusals told by the node, but {rejects_of(node) - before}"
    )
    street.wait_until(lambda: any(values[0] == expired for values in node.values(ORDER_STATE)), "answer to the expired order")
    assert [values[1] for values in node.values(ORDER_STATE) if values[0] == expired] == [orders.EXPIRED]
    assert {values[0] for values in node.values(ORDER_STATE)} == {expired}
    assert street.lamp(FIRST)["min_level_permille"] == 1000
    newest = node.sent()[-1]
    assert newest.t is not None
    assert abs(newest.t - key.unix()) < 30
