"""What the node itself is told, and no fixture: a configuration, records to owe again, a release. Loaded when it comes, and given back."""

from lamppost_protocol import orders
from lamppost_protocol.errors import LocalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamppost_protocol.orders import Order

    from lamppost_node import config
    from lamppost_node.flash import Flash
    from lamppost_node.services import Services
    from lamppost_node.update import Update
    from lamppost_node.uplink import Uplink


def obey(
    order: "Order",
    node: "Services",
    uplink: "Uplink",
    flash: "Flash",
    restart: "Callable[[], None]",
    updating: "Callable[[], Update | None]",
) -> int:
    """Carry out a verified, new order whose arguments fit its verb; the reason when it is not. Writes flash. May ask for a restart.

    `updating()` gives who fetches releases. Raises Refused.
    """
    if order.target != 0:
        return orders.UNKNOWN_TARGET
    if order.verb == orders.UPDATE:
        return _update(order, node, updating)
    if order.verb == orders.CANCEL:
        return _cancel(order, node, updating)
    if order.verb == orders.RESEND:
        reason = resend(order.args[0], order.args[1], uplink)
    else:
        reason = orders.CLOCK_NEVER_SET if node.clock.now() is None else configure(order.args[0], node, flash)
    if reason == orders.NO_REASON:
        node.order_state(order.order_id, orders.ACCEPTED)
        node.order_state(order.order_id, orders.APPLIED)
        if order.verb == orders.CONFIGURE:
            restart()
    return reason


def _update(order: "Order", node: "Services", updating: "Callable[[], Update | None]") -> int:
    if node.is_safe_mode:
        return orders.SAFE_MODE
    if node.clock.now() is None:
        return orders.CLOCK_NEVER_SET
    update = updating()
    if update is None:
        return orders.STORE_FAULT
    update.order(order)
    node.order_state(order.order_id, orders.ACCEPTED)
    return orders.NO_REASON


def _cancel(order: "Order", node: "Services", updating: "Callable[[], Update | None]") -> int:
    update = updating()
    if update is None:
        return orders.BAD_ARGUMENTS
    update.cancel(order.args[0])
    node.order_state(order.order_id, orders.ACCEPTED)
    node.order_state(order.order_id, orders.APPLIED)
    return orders.NO_REASON


def resend(first_n: int, last_n: int, uplink: "Uplink") -> int:
    """Owe a range of records again; the reason where not."""
    try:
        uplink.resend(first_n, last_n)
    except ValueError:
        return orders.BAD_ARGUMENTS
    return orders.NO_REASON


def configure(data: bytes, node: "Services", flash: "Flash") -> int:
    """Check and keep an encoded configuration, which counts from the next start; the reason where not. Writes flash."""
    from lamppost_node import config

    try:
        values = config.decode(data)
        if values["lora"] is not None:
            _check_radio(values, node)
    except config.ConfigError as error:
        for text in error.errors:
            node.log("configuration refused: " + text)
        return orders.BAD_ARGUMENTS
    try:
        config.store(flash, data)
    except OSError:
        return orders.STORE_FAULT
    return orders.NO_REASON


def _check_radio(values: "config.Values", node: "Services") -> None:
    """A radio that the law switches off would leave nobody to send the next order. Raises ConfigError."""
    from lamppost_protocol.radio_limits import wrap_of

    from lamppost_node.config import ConfigError
    from lamppost_node.links.channels import Channels

    try:
        Channels(values["lora"], node.settings, 0, wrap_of(values["radio"]))
    except LocalError as error:
        raise ConfigError(["lora: " + str(error)])
