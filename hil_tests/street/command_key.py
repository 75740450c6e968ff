"""The authority's key in the test's hands: signs whatever a test needs, also what the real authority would refuse to sign."""

import time
from pathlib import Path
from typing import Any

from lamppost_protocol import beacons, frames, orders
from lamppost_protocol.es256_host import HostSigner, public_key
from lamppost_tools.authority.init import init_authority
from lamppost_tools.authority.settings import KEY_NAME, PUBLIC_NAME
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.key_file import load_key


class CommandKey:
    """A real authority's state folder, made by the real tool, and its key. `offset_s`: how wrong its clock is."""

    def __init__(self, folder: Path, network: int, registry: Path) -> None:
        document = init_authority(folder, network, registry, BrokerSettings(), None)
        self.public_path = folder / PUBLIC_NAME
        self.private_key = load_key(folder / KEY_NAME, None)
        self.public_key: bytes = public_key(self.private_key)
        self.issuer = int(document["issuer"], 16)
        self.network = network
        self.offset_s = 0
        self._signer = HostSigner(self.private_key)
        self._order_id = 0
        self._beacon_tx = 0

    def unix(self) -> int:
        """City time."""
        return int(time.time()) + self.offset_s

    def beacon(self, node: int, epoch: int, nonce: bytes | None, unix: int | None = None, signer: HostSigner | None = None) -> bytes:
        """A beacon for one node (with its nonce) or, with node 0 and no nonce, for all."""
        unix = self.unix() if unix is None else unix
        self._beacon_tx = max(self._beacon_tx + 1, unix)
        payload = beacons.encode_beacon(unix, nonce)
        frame: bytes = frames.seal(signer or self._signer, frames.BEACON, self.network, node, epoch, self.issuer, self._beacon_tx, payload)
        return frame

    def order(
        self,
        node: int,
        verb: int,
        target: int,
        arguments: list[Any],
        life: tuple[int, int] | None = None,
        order_id: int | None = None,
        epoch: int = 1,
        signer: HostSigner | None = None,
        network: int | None = None,
    ) -> tuple[int, bytes]:
        """(order id, frame). `life`: not_before, not_after in unix s; an hour from now when it is left out."""
        if order_id is None:
            self._order_id += 1
            order_id = self._order_id
        not_before, not_after = life or (self.unix() - 60, self.unix() + 3600)
        payload = orders.encode_order(not_before, not_after, verb, target, arguments)
        where = self.network if network is None else network
        return order_id, frames.seal(signer or self._signer, frames.ORDER, where, node, epoch, self.issuer, order_id, payload)

    @staticmethod
    def document(node: int, order_id: int, frame: bytes, epoch: int = 1) -> dict[str, Any]:
        """The JSON of order/signed."""
        return {"order_id": order_id, "node": f"{node:08x}", "epoch": epoch, "frame": frame.hex()}
