"""A release through a real gateway process: broker, line, and a peer at its end that asks for pieces by WIRE.md's letter."""

import asyncio
import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any

import aiomqtt
from lamppost_gateway.status import ask
from lamppost_protocol import cose, frames, orders, releases, slip
from lamppost_protocol.es256_host import HostSigner
from lamppost_protocol.releases import Manifest, Want
from street.gateway_rig import NETWORK, City, GatewayProcess, PtyLine, SenderNode

NODE, ISSUER = 0x11, 0x63
BODY = random.Random(7).randbytes(7_301)  # 37 pieces, the last of 101 octets
DIGEST = hashlib.sha256(BODY).digest()
_DEADLINE_S = 60.0


class Peer:
    """A node's end of the line: records that want to be acknowledged, orders, and a fetch that begins where its flash ends."""

    def __init__(self, node: SenderNode, line: PtyLine) -> None:
        self.node = node
        self.line = line
        self.body = bytearray()
        self.acknowledged = 0
        self.orders: list[orders.Order] = []
        self.unasked = 0

    def hear(self, until: Any) -> None:
        """Take messages until `until()`."""
        end_s = time.monotonic() + _DEADLINE_S
        while not until():
            for message_type, octets in self.line.wait(end_s - time.monotonic()):
                if message_type == slip.PIECE:
                    self._take(releases.decode_piece(octets))
                elif cose.decode(octets).kind == cose.MAC0:
                    self.acknowledged = self.node.acknowledged(octets).highest
                else:
                    message = cose.decode(octets)
                    self.orders.append(orders.decode_order(message.tx, message.payload))

    def _take(self, piece: releases.Piece) -> None:
        if piece.release == DIGEST[:8] and piece.offset == len(self.body):
            self.body += piece.octets
        else:
            self.unasked += 1

    def report(self) -> None:
        """Send a record."""
        self.line.send(slip.FRAME, self.node.frame())

    def fetch(self, count: int = 8) -> None:
        """Ask for the next pieces, report meanwhile, and wait for both: the pieces and the acknowledgement."""
        wanted = min(len(self.body) + 200 * count, len(BODY))
        self.line.send(slip.WANT, releases.encode_want(Want(NETWORK, self.node.node, DIGEST[:8], len(self.body), count)))
        self.report()
        self.hear(lambda: len(self.body) == wanted and self.acknowledged == self.node.n)


def publish(port: int, city: City) -> None:
    """The body, retained, and an update order for the node, signed by the authority of this city."""
    signer, now = HostSigner(city.authority_key), int(time.time())
    manifest = releases.seal_manifest(signer, NETWORK, ISSUER, Manifest(1, bytes(8), "0.2.0", 0, len(BODY), DIGEST))
    payload = orders.encode_order(now - 5, now + 3600, orders.UPDATE, 0, [manifest])
    frame = frames.seal(signer, frames.ORDER, NETWORK, NODE, 1, ISSUER, 1, payload)

    async def tell() -> None:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            root = f"lamppost/v1/{NETWORK:08x}"
            await client.publish(f"{root}/release/{DIGEST.hex()}", BODY, qos=1, retain=True)
            document = {"node": f"{NODE:08x}", "frame": frame.hex()}
            await client.publish(f"{root}/order/signed", json.dumps(document), qos=1)

    asyncio.run(tell())


def test_fetched_over_a_line_while_records_are_acknowledged_and_the_gateway_dies(bench: Any, broker: Any, tmp_path: Path) -> None:
    """Every octet arrives in its order, records are acknowledged between pieces, and a killed gateway goes on where the node is."""
    node = SenderNode(NODE, 1)
    line, city = PtyLine(tmp_path / "tty"), City(tmp_path / "state", [node])
    gateway = GatewayProcess(city.write_config([line.path], broker.port), tmp_path / "gateway.log")
    status = city.folder / "status.sock"
    try:
        gateway.start()
        end_s = time.monotonic() + _DEADLINE_S
        while ask(status, "status")["broker"]["state"] != "connected":
            assert time.monotonic() < end_s, gateway.log_path.read_text()[-2000:]
        publish(broker.port, city)
        peer = Peer(node, line)
        peer.report()
        peer.hear(lambda: peer.orders and peer.acknowledged == node.n)
        assert releases.decode_manifest(1, cose.decode(peer.orders[0].args[0]).payload).digest == DIGEST
        peer.fetch()
        peer.fetch(3)
        (fetch,) = ask(status, "status")["releases"]["fetches"]
        assert (fetch["node"], fetch["offset"], fetch["bytes"], fetch["link"]) == (f"{NODE:08x}", 1600, len(BODY), "line0")
        gateway.kill()
        line.unplug()
        line.plug()
        gateway.start()
        while not ask(status, "status")["links"][0]["up"]:
            assert time.monotonic() < end_s
        while len(peer.body) < len(BODY):
            peer.fetch()
        assert (hashlib.sha256(peer.body).digest(), peer.unasked) == (DIGEST, 0)
        assert gateway.stop() == 0
    finally:
        gateway.close()
        line.unplug()
