"""Names of the MQTT topics, all under `lamppost/v1/<network>/`; pure. What is in them: documents.py and schema_mqtt/."""

import re

PREFIX = "lamppost/v1"
_HEX8 = re.compile(r"[0-9a-f]{8}")


def hex8(number: int) -> str:
    """Return a node or network id (0 .. 2^32-1) as people and topics write it: 8 lower-case hex digits."""
    if not 0 <= number <= 0xFFFFFFFF:
        raise ValueError(f"not a 32-bit id: {number}")
    return f"{number:08x}"


def parse_hex8(text: object) -> int:
    """Return the id that `text` names. Raises ValueError for anything but 8 lower-case hex digits."""
    if not isinstance(text, str) or not _HEX8.fullmatch(text):
        raise ValueError("an id is 8 lower-case hex digits")
    return int(text, 16)


class Topics:
    """The topics of one network as one gateway uses them."""

    def __init__(self, network: int, gateway: str) -> None:
        self.root = f"{PREFIX}/{hex8(network)}"
        self.health = f"{self.root}/gateway/{gateway}/health"
        self.reject = f"{self.root}/gateway/{gateway}/reject"
        self.loss = f"{self.root}/gateway/{gateway}/loss"
        self.order_signed = f"{self.root}/order/signed"
        self.beacon_signed = f"{self.root}/beacon/signed"
        self.releases = f"{self.root}/release/+"

    def record(self, node: int, fixture: str) -> str:
        """Decoded records of one fixture, not retained."""
        return f"{self.root}/node/{hex8(node)}/record/{fixture}"

    def frame(self, node: int) -> str:
        """The signed octets as they were heard."""
        return f"{self.root}/node/{hex8(node)}/frame"

    def status(self, node: int) -> str:
        """What the gateway knows of the node, retained."""
        return f"{self.root}/node/{hex8(node)}/status"

    def hello(self, node: int) -> str:
        """The node's unsigned hello, for the authority to answer its nonce; not retained."""
        return f"{self.root}/node/{hex8(node)}/hello"

    def release(self, digest: str) -> str:
        """A release's body, retained; `digest`: its SHA-256 in 64 hex digits."""
        return f"{self.root}/release/{digest}"

    def order_state(self, order_id: int) -> str:
        """Where an order stands, retained."""
        return f"{self.root}/order/{order_id}/state"
