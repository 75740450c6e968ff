"""What a node with a radio has more than one without, which never loads it: the driver of its chip, and the link over the air."""

from lamppost_protocol.airtime import BARE
from lamppost_protocol.errors import LocalError

from lamppost_node.links.channels import Channels
from lamppost_node.links.lora import LoraLink
from lamppost_node.unload import unload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_node.board import Board
    from lamppost_node.clock import Clock
    from lamppost_node.config import Values
    from lamppost_node.identity import Identity
    from lamppost_node.interfaces import Radio
    from lamppost_node.services import Services

_SX1276, _E22 = "sx1276", "e22"  # as radio_limits.RADIOS has them, which is not loaded here
_LIMITS = "lamppost_protocol.radio_limits"
_ASKED_ONCE = ("lamppost_protocol.regions", "lamppost_node.lora_keys")


def make_radio(board: "Board", values: "Values") -> "Radio":
    """The driver of the radio that the configuration names; the others' are not loaded."""
    if values["radio"] == _E22:
        from lamppost_node.drivers import e22

        unload(_LIMITS)  # the driver had from it what it needs
        return e22.E22(*board.radio_module())
    spi, nss, nreset, busy, dio = board.radio()
    if values["radio"] == _SX1276:
        from lamppost_node.drivers.sx127x import SX127x

        return SX127x(spi, nss, nreset, dio)
    from lamppost_node.drivers.sx126x import SX126x

    return SX126x(spi, nss, nreset, busy, dio, tcxo_mv=values["tcxo_mv"])


def make_link(board: "Board", values: "Values", clock: "Clock", identity: "Identity", node: "Services") -> LoraLink | None:
    """The link over the air; None, said in the log, where the law does not allow what is configured. `values`: the whole map."""
    wrap = BARE
    if values["radio"] == _E22:
        from lamppost_protocol.radio_limits import E22_WRAP

        wrap = E22_WRAP
    try:
        channels = Channels(values["lora"], node.settings, clock.monotonic_ms(), wrap)
    except LocalError as error:
        node.log("radio off: " + str(error))
        return None
    finally:
        unload(*_ASKED_ONCE)
    return LoraLink(make_radio(board, values), channels, values["lora"], identity.network, identity.node, clock, node.log)
