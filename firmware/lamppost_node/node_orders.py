"""What the node itself is told, and no fixture: a configuration, records to owe again, a release. Loaded when it comes, and given back."""

import gc

from lamppost_protocol import orders
from lamppost_protocol.errors import LocalError

from lamppost_node.unload import unload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_protocol.orders import Order

    from lamppost_node.config import Values
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
        reason = orders.CLOCK_NEVER_SET if node.clock.now() is None else configure(order.args[0], node, flash, order.order_id)
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


def configure(data: bytes, node: "Services", flash: "Flash", order_id: int = 0) -> int:
    """Check and keep an encoded configuration, which counts from the next start; the reason where not. Writes flash.

    By order it is only tried, and may not change what a visit is for; without one a technician is there, and it counts for good.
    """
    errors, reason, radio = _check(data, node, order_id)
    # What checks a configuration and what knows the law do not fit into the fullest node's heap together.
    unload("lamppost_node.config", "lamppost_node.lora_keys", "lamppost_protocol.radio_limits")
    gc.collect()
    if radio is not None:
        errors = _unlawful(radio[0], radio[1], node)
        unload("lamppost_protocol.regions", "lamppost_protocol.radio_limits")
    for text in errors:
        node.log("configuration refused: " + text)
    if errors:
        return orders.BAD_ARGUMENTS
    gc.collect()
    return reason if reason != orders.NO_REASON else _keep(data, node, flash, order_id)


def _check(data: bytes, node: "Services", order_id: int) -> "tuple[list[str], int, tuple[str, Values] | None]":
    """(why the map is none, the reason against it, what radio it has and its map of it, None where both are as they were)."""
    from lamppost_node import config

    gc.collect()
    try:
        values = config.decode(data)
    except config.ConfigError as error:
        return error.errors, orders.NO_REASON, None
    reason = orders.NO_REASON
    if order_id and node.config["network"] is not None and _wiring(values) != _wiring(node.config):
        reason = orders.ONLY_BY_CABLE
    radio = values["radio"], values["lora"]
    return [], reason, None if values["lora"] is None or radio == (node.config["radio"], node.config["lora"]) else radio


def _wiring(values: "Values") -> "tuple[Any, ...]":
    """What of a checked map only a visit may change: whom it belongs to, its link, its fixtures."""
    fixtures = sorted([(one["kind"], one["instance"]) for one in values["fixtures"]])
    return values["network"], values["bridge"], values["lora"] is None or values["radio"], fixtures


def _unlawful(radio: str, lora: "Values", node: "Services") -> list[str]:
    """Why the law switches this radio off, which would leave nobody to send the next order."""
    from lamppost_protocol.radio_limits import wrap_of

    from lamppost_node.links.channels import Channels

    try:
        Channels(lora, node.settings, 0, wrap_of(radio))
    except LocalError as error:
        return ["lora: " + str(error)]
    return []


def _keep(data: bytes, node: "Services", flash: "Flash", order_id: int) -> int:
    from lamppost_node import config

    former = config.trial_of(flash)
    if former is not None:
        node.order_state(former[0], orders.REVERTED, orders.SUPERSEDED)
    try:
        if order_id:
            config.begin_trial(flash, order_id, data)
        else:
            config.store(flash, data)
            flash.remove(config.TRIAL_FILE)
    except OSError:
        return orders.STORE_FAULT
    return orders.NO_REASON
