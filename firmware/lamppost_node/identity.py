"""Who this node is: numbers, keys and tables from provisioning. The only file that touches private key octets.

`identity.cbor` is a CBOR map: network, node, epoch (integers), private_key and hop_key (32 octets), issuer (4 octets: the kid of the
authority), command_key (64 octets, x || y) and, where the keys were made for one board, unit (its chip's own number). A flash that was
copied to another chip is no identity there: two boards must never sign with one key and each its own counters.

The comb tables are `tables/generator.tbl` and `tables/command.tbl`. The generator's is the same for every node: where the bytecode lies in
ROMFS a larger one lies there too and costs no heap. The signer is an object, so that a secure element or a native module can take its
place without touching the wire.
"""

from lamppost_protocol import cbor
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.hop import HopKey
from lamppost_protocol.p256 import Signer, Verifier

from lamppost_node.flash import Flash, in_place

FILE = "identity.cbor"
NEXT = "identity.next"  # the next epoch's, of the same form, while a node is re-keyed: rekey.py
GENERATOR_TABLE = "tables/generator.tbl"
COMMAND_TABLE = "tables/command.tbl"
ROM_GENERATOR_TABLE = "/rom/tables/generator.tbl"


class IdentityError(Exception):
    """No usable identity: the node keeps its lamp lit and its line silent. `reason` names the field, never its content."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Identity:
    """network, node, epoch, issuer: unsigned integers; signer, verifier, hop_key: objects that hold the keys and never show them."""

    def __init__(self, network: int, node: int, epoch: int, issuer: int, signer: Signer, verifier: Verifier, hop_key: HopKey):
        self.network = network
        self.node = node
        self.epoch = epoch
        self.issuer = issuer
        self.signer = signer
        self.verifier = verifier
        self.hop_key = hop_key

    def __repr__(self) -> str:
        return "Identity(node %08x, epoch %d)" % (self.node, self.epoch)


def load(flash: Flash, unit: bytes, file: str = FILE) -> Identity:
    """The identity on flash, if it was made for this board or for any. `unit`: this chip's own number.

    Allocates the tables that are not in ROMFS (2 to 16 KB) for good. Raises IdentityError, whatever is wrong.
    """
    values = _read_map(flash, file)
    if values.get("unit", unit) != unit:
        raise IdentityError("unit")
    numbers = []
    for key in ("network", "node", "epoch"):
        numbers.append(_number(values, key))
    octets = []
    for key, length in (("private_key", 32), ("hop_key", 32), ("issuer", 4), ("command_key", 64)):
        value = values.get(key)
        if not isinstance(value, bytes) or len(value) != length:
            raise IdentityError(key)
        octets.append(value)
    try:
        signer = _signer(flash, octets[0])
        verifier = Verifier(octets[3], signer.comb, _read_table(flash, COMMAND_TABLE))
        hop_key = HopKey(octets[1])
    except ProtocolError as error:
        raise IdentityError(error.detail or error.reason) from None
    issuer = int.from_bytes(octets[2], "big")
    return Identity(numbers[0], numbers[1], numbers[2], issuer, signer, verifier, hop_key)


def epoch_of(flash: Flash, file: str) -> int:
    """The epoch of an identity on flash, whether or not it is usable. Raises IdentityError."""
    return _number(_read_map(flash, file), "epoch")


def _number(values: dict[str, object], key: str) -> int:
    value = values.get(key)
    if value is True or value is False or not isinstance(value, int) or not 0 < value <= 0xFFFFFFFF:
        raise IdentityError(key)
    return value


def _signer(flash: Flash, private_key: bytes) -> Signer:
    table = in_place(ROM_GENERATOR_TABLE)
    if table is not None:
        try:
            return Signer(private_key, table)
        except ProtocolError:
            pass  # an image written half way: the table on flash is whole, or nothing is
    return Signer(private_key, _read_table(flash, GENERATOR_TABLE))


def _read_map(flash: Flash, file: str) -> dict[str, object]:
    try:
        data = flash.read(file)
    except OSError:
        raise IdentityError("unreadable") from None
    if data is None:
        raise IdentityError("missing")
    try:
        values = cbor.decode(data)
    except ProtocolError:
        raise IdentityError("not CBOR") from None
    if not isinstance(values, dict):
        raise IdentityError("not a map")
    return values


def _read_table(flash: Flash, name: str) -> bytes:
    try:
        data = flash.read(name)
    except OSError:
        data = None
    if data is None:
        raise IdentityError(name)
    return data
