"""Which orders a lamp takes, and why not the others. Signature, counter and validity were checked before; here it is about light."""

from lamppost_protocol import orders
from lamppost_protocol.errors import RemoteError

from ..refusal import Refused
from .leases import FullError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_protocol.orders import Order

    from ..services import Services
    from .decision import Decision
    from .leases import Lease


def adds_light(order: "Order", safe_level_percent: int) -> bool:
    """Whether the order can only add light to the safe level."""
    return order.verb == orders.LEVEL and len(order.args) == 2 and bool(order.args[0] >= safe_level_percent)


def keep_order(order: "Order", decision: "Decision", node: "Services", config: dict[str, int]) -> "Lease | None":
    """Check a LEVEL, CANCEL or SCHEDULE order and keep what it says; return the lease a CANCEL ended. Writes flash. Raises Refused."""
    try:
        orders.check_arguments(order.verb, order.target, order.args)
        unix = node.clock.now()
        if order.verb == orders.LEVEL:
            _keep_lease(order, decision, unix, node.is_safe_mode, config)
        elif order.verb == orders.CANCEL:
            lease = decision.leases.find(order.args[0])
            if lease is None:
                raise Refused(orders.BAD_ARGUMENTS)
            decision.leases.drop(lease)
            return lease
        elif order.verb == orders.SCHEDULE:
            decision.adopt(order.args[0])
        else:
            raise Refused(orders.UNKNOWN_VERB)
    except (OSError, FullError):
        raise Refused(orders.STORE_FAULT) from None
    except RemoteError:
        raise Refused(orders.BAD_ARGUMENTS if order.verb <= orders.LAST_VERB else orders.UNKNOWN_VERB) from None
    return None


def _keep_lease(order: "Order", decision: "Decision", unix: int | None, is_safe_mode: bool, config: dict[str, int]) -> None:
    if unix is not None and order.not_after <= unix:
        raise Refused(orders.TOO_LATE)
    if not adds_light(order, config["safe_level_percent"]):
        if is_safe_mode:
            raise Refused(orders.SAFE_MODE)
        if unix is None:
            raise Refused(orders.CLOCK_NEVER_SET)
        if order.not_after - order.not_before > config["lease_limit_s"]:
            raise Refused(orders.BAD_ARGUMENTS)
    if decision.leases.find(order.order_id) is None:
        decision.leases.accept(order)
