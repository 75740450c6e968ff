"""The one error tree of the protocol, and the names by which every refusal is counted.

ProtocolError
 +-- LocalError    we broke a rule ourselves: a caller's mistake, never counted as a reject
 +-- RemoteError   the peer's bytes broke a rule: refused, counted by `reason`, kept where an operator finds it
"""

#: Every reason a peer's bytes may be refused for. Metrics, the reject ledger and the vectors use these words.
REASONS = (
    "bad_slip",  # an escape octet not followed by ESC_END or ESC_ESC (RFC 1055)
    "bad_crc",  # the serial checksum differs: line noise
    "bad_type",  # a serial message type nobody defined
    "too_long",  # longer than limits.py allows
    "bad_cbor",  # outside the strict subset of WIRE.md section 2
    "bad_cose",  # not one of the two COSE shapes of WIRE.md section 3
    "bad_algorithm",  # an algorithm other than the one the registry fixes
    "bad_payload",  # authentic or not, the payload is not of its form
    "unknown_node",
    "unknown_issuer",
    "revoked_node",
    "foreign_network",
    "wrong_epoch",
    "replayed",  # this tx was accepted before; a service message under no nonce that lives, or without a ticket in force
    "too_old",  # this tx is below the replay window
    "bad_signature",
    "bad_tag",
    "foreign_packet",  # heard by the radio, and not ours: LoRaWAN, Meshtastic, noise
    "bad_packet",  # ours by its head, yet not the one form of any frame
    "bad_fragment",  # a piece that fits no packet
    "out_of_scope",  # a request that its ticket does not allow
)

#: What only a mistake of our own is called; a peer cannot cause it.
LOCAL_REASONS = (
    "unlawful",  # a radio configuration that its region's law does not allow
    "overdrawn",  # airtime that the ledger had not granted
)


class ProtocolError(Exception):
    """Root of all protocol errors. `reason` is one word, `detail` a short text without secrets."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.reason + (": " + self.detail if self.detail else "")


class LocalError(ProtocolError):
    """We misused the protocol: a value out of range, a counter exhausted, a table that fails its check.

    `reason` is one of `REASONS` or `LOCAL_REASONS`.
    """


class RemoteError(ProtocolError):
    """The peer's bytes are refused. `reason` is one of `REASONS`."""
