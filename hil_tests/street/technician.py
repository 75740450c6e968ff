"""A technician's words to a node and his authority's, right or wrong as a test wants them. Keys come from a seed, never anybody's."""

import hashlib
from dataclasses import dataclass
from typing import Any

from lamppost_protocol import frames, tickets
from lamppost_protocol.es256_host import HostSigner, public_key

from street.lone_node import EPOCH, ISSUER, NETWORK, NODE

ALL_SCOPES = tickets.MAX_SCOPES


@dataclass(frozen=True)
class Technician:
    """`command_key`: the authority's, private; `name` gives his own key."""

    command_key: bytes
    name: str = "technician"
    network: int = NETWORK
    node: int = NODE
    epoch: int = EPOCH
    issuer: int = ISSUER

    @property
    def key(self) -> bytes:
        """His private key."""
        return hashlib.sha256(self.name.encode()).digest()

    @property
    def public(self) -> bytes:
        """What a ticket names as its holder."""
        key: bytes = public_key(self.key)
        return key

    @property
    def kid(self) -> int:
        """What his requests and the node's records name."""
        return tickets.holder_id(self.public)

    def ticket(self, number: int, nonce: bytes, scopes: int = ALL_SCOPES, valid_s: int = 3600, holder: bytes | None = None) -> bytes:
        """The authority's word for him."""
        payload = tickets.encode_ticket(tickets.Ticket(nonce, valid_s, scopes, self.public if holder is None else holder))
        signer = HostSigner(self.command_key)
        frame: bytes = frames.seal(signer, frames.TICKET, self.network, self.node, self.epoch, self.issuer, number, payload)
        return frame

    def request(self, asked: int, nonce: bytes, verb: int, arguments: list[Any], kid: int | None = None) -> bytes:
        """His own."""
        payload = tickets.encode_request(tickets.Request(nonce, verb, arguments))
        kid = self.kid if kid is None else kid
        frame: bytes = frames.seal(HostSigner(self.key), frames.REQUEST, self.network, self.node, self.epoch, kid, asked, payload)
        return frame
