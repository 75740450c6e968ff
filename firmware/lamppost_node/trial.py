"""A configuration on trial: for good once the node has proved itself under it, else what ran before is back. WIRE.md section 6.1.

Loaded at a start that finds one on flash, and dropped when it is over. Its starts are counted, and the former one taken up again, in
config.py, from flash alone: a configuration with which this file is never reached ends too.
"""

import asyncio

from lamppost_protocol import orders

from lamppost_node.unload import unload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamppost_node.flash import Flash
    from lamppost_node.services import Services

TASK = "trial"
_LINE_MS = 1_800_000
_AIR_MS = 14_400_000  # an hour of spent airtime, as long a spread, and an hour of silence between two tries
_LOOK_S = 5
_TRIAL_FAILED = 18  # releases.TRIAL_FAILED, and that module is not loaded to say so


async def run(node: "Services", flash: "Flash", source: str, is_proven: "Callable[[], bool]", restart: "Callable[[], None]") -> None:
    """Until the trial is over, or asks for the start that ends it. `source`: where the configuration in use came from.

    `is_proven()`: whether the node does all that it is to do. Writes flash. Raises OSError when that fails: run it again after a while.
    """
    if source == "trial":
        limit_ms = _LINE_MS if node.config["lora"] is None else _AIR_MS
        while not is_proven():
            if node.clock.monotonic_ms() >= limit_ms:
                _keep(flash, False)
                restart()
                return
            await asyncio.sleep(_LOOK_S)
        _keep(flash, True)
    _end(node, flash, source)


def _keep(flash: "Flash", is_good: bool) -> None:
    """What came of it, on flash before anything follows from it. One that a newer order has brought meanwhile had no start yet."""
    from lamppost_node import config

    trial = config.trial_of(flash)
    if trial is not None and trial[1] != 0:
        config.keep_trial(flash, trial, config.PROVEN if is_good else config.TRIAL_STARTS)
    unload("lamppost_node.config")


def _end(node: "Services", flash: "Flash", source: str) -> None:
    """Make a proven one the node's own, tell the order's last state, and forget the trial. A cut before the last step does it all again."""
    from lamppost_node import config

    trial = config.trial_of(flash)
    if trial is not None:
        if trial[1] == 0 and (node.is_safe_mode or source == "trial"):
            unload("lamppost_node.config")
            return  # not tried yet: once safe mode is over, or it is a newer one's turn
        state, reason = orders.REVERTED, _TRIAL_FAILED
        if config.is_superseded(flash, trial):
            reason = orders.SUPERSEDED
        elif trial[1] == config.PROVEN:
            config.adopt(flash, trial[3])
            state, reason = orders.VERIFIED, orders.NO_REASON
        node.order_state(trial[0], state, reason)
    flash.remove(config.TRIAL_FILE)
    unload("lamppost_node.config")
