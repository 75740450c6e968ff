"""What a fixture may use of the node: time, settings, records, log, the watchdog's roll call. Handed to every fixture as `node`."""

from lamppost_protocol import kinds

from lamppost_node.clock import Clock
from lamppost_node.health import TaskWatch
from lamppost_node.log_lines import LogLines
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.rest import Rest
from lamppost_node.sampler import Sampler
from lamppost_node.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_node.config import Values

_ORDER_STATE_KIND = kinds.kind_of(kinds.ORDER_STATE)


class Services:
    """What fixtures see.

    `clock`, `settings`, `config` (the whole checked map), `rest`, `is_safe_mode` and `node_id` (0 without an identity) are plain
    attributes; all methods are synchronous.
    """

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        config: "Values",
        is_safe_mode: bool,
        sampler: Sampler,
        ledger: OrderLedger | None,
        log_lines: LogLines,
        watch: TaskWatch,
        node_id: int,
    ):
        self.node_id = node_id
        self.clock = clock
        self.settings = settings
        self.config = config
        self.is_safe_mode = is_safe_mode
        self._sampler = sampler
        self._ledger = ledger
        self._log_lines = log_lines
        self._watch = watch
        self.rest = Rest()

    def emit(
        self, kind: int, q: int, values: "list[int | None] | tuple[int | None, ...]", alarm: bool = False, is_kept: bool = False
    ) -> int:
        """Keep one record of fixture `kind` with quality `q` (0 good); `values` in the profile's order, integers or None.

        Returns its number, 0 when the flash refused it (counted). An alarm is sent alone and at once; a full spool thins what is neither
        alarm nor `is_kept`. Writes flash. Never raises.
        """
        return self._sampler.emit(kind, q, values, alarm, alarm or is_kept)

    def order_state(
        self,
        order_id: int,
        state: int,
        reason: int = 0,
        level: int | None = None,
        power_before: int | None = None,
        power_after: int | None = None,
    ) -> int:
        """Tell what became of an order (words: order_words.py; level in percent, powers in 0.1 W). Writes flash."""
        values = [order_id, state, reason, level, power_before, power_after]
        if self._ledger is not None:
            self._ledger.note(values)
        return self._sampler.emit(_ORDER_STATE_KIND, kinds.GOOD, values, False, True)

    def log(self, text: str) -> None:
        """One line to the gateway's log; no secrets, no peer's text uncut. Never blocks, never raises."""
        self._log_lines.put(text)

    def alive(self, name: str) -> None:
        """Task `name` lives; a fixture says so at least every 30 s."""
        self._watch.alive(name)
