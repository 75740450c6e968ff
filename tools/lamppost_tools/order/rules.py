"""What the authority agrees to sign: a request checked against registry and limits becomes an order, or a named refusal.

Pure: the clock and the recent past are arguments. A request comes from the broker, so nothing in it is trusted.
"""

from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, Literal

from lamppost_protocol import cbor, kinds, order_words, orders, profiles, schedule
from lamppost_protocol.errors import ProtocolError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamppost_tools.authority.settings import LimitSettings
from lamppost_tools.order.configuration_rules import agree_configuration, check_room
from lamppost_tools.order.refusal import RequestRefusedError
from lamppost_tools.order.schedule_file import schedule_of

_HOUR_S = 3600
_MINUTE_S = 60
_UINT32_MAX = 2**32 - 1
THE_NODE = "node"  # as a fixture: whose update a cancel is to end
_VERB_NUMBERS = {name: number for number, name in order_words.VERBS.items()}
Uint32 = Annotated[int, Field(ge=0, le=_UINT32_MAX, strict=True)]


class OrderRequest(BaseModel):
    """`order/request` as published by a city client. Times are unix seconds; `not_after` is exclusive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    request_id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")
    node: str = Field(pattern=r"^[0-9a-f]{8}$")
    verb: Literal["level", "cancel", "schedule", "configure", "resend", "update"]
    fixture: str | None = Field(default=None, max_length=32)
    not_before: Uint32 | None = None
    not_after: Uint32 | None = None
    lease_s: Annotated[int, Field(ge=1, strict=True)] | None = None
    level_percent: Annotated[int, Field(ge=0, le=100, strict=True)] | None = None
    ramp_s: Annotated[int, Field(ge=0, le=3600, strict=True)] = 0
    order_id: Annotated[int, Field(ge=1, le=_UINT32_MAX, strict=True)] | None = None
    schedule: list[Any] | dict[str, Any] | None = None
    first_n: Annotated[int, Field(ge=1, strict=True)] | None = None
    last_n: Annotated[int, Field(ge=1, strict=True)] | None = None
    manifest: str | None = Field(default=None, pattern=r"^([0-9a-f]{2}){1,1024}$")
    configuration: dict[str, Any] | None = None


class AgreedOrder(BaseModel):
    """What will be signed."""

    model_config = ConfigDict(frozen=True)

    node: int
    epoch: int
    not_before: int
    not_after: int
    verb: int
    target: int
    args: list[Any]
    is_dark: bool


class RecentOrders:
    """The near past that the rate limits look at; refilled from the signed-orders log at start. Times in unix seconds."""

    def __init__(self) -> None:
        self._dark_s: deque[int] = deque()
        self._per_node_s: dict[int, deque[int]] = {}
        self._configured_s: dict[int, deque[int]] = {}

    def note(self, node: int, is_dark: bool, now_s: int, is_configuring: bool = False) -> None:
        """An order was signed."""
        if is_dark:
            self._dark_s.append(now_s)
        if is_configuring:
            self._configured_s.setdefault(node, deque()).append(now_s)
        self._per_node_s.setdefault(node, deque()).append(now_s)

    def dark_in_last_hour(self, now_s: int) -> int:
        """How many orders below the dark limit were signed in the hour before `now_s`."""
        return _count_since(self._dark_s, now_s - _HOUR_S)

    def for_node_in_last_minute(self, node: int, now_s: int) -> int:
        """How many orders were signed for this node in the minute before `now_s`."""
        return _count_since(self._per_node_s.get(node, deque()), now_s - _MINUTE_S)

    def configured_in_last_hour(self, node: int, now_s: int) -> int:
        """How many configurations were signed for this node in the hour before `now_s`."""
        return _count_since(self._configured_s.get(node, deque()), now_s - _HOUR_S)


def parse_request(data: bytes) -> OrderRequest:
    """Decode the JSON of a request. Raises RequestRefusedError("bad_request") naming every wrong field."""
    try:
        return OrderRequest.model_validate_json(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'request'}: {e['msg']}" for e in error.errors()[:8])
        raise RequestRefusedError("bad_request", wrong) from None


def agree(
    request: OrderRequest,
    nodes: dict[str, Any],
    limits: LimitSettings,
    recent: RecentOrders,
    now_s: int,
    check_manifest: Callable[[bytes], None],
) -> AgreedOrder:
    """Check a request against the registry's nodes and the limits. Raises RequestRefusedError.

    `check_manifest` raises ProtocolError for a release's manifest that this authority did not sign.
    """
    entry = nodes.get(request.node)
    if entry is None:
        raise RequestRefusedError("unknown_node", f"node {request.node} is not in the registry")
    if entry.get("revoked"):
        raise RequestRefusedError("revoked_node", f"node {request.node} is revoked")
    node = int(request.node, 16)
    if recent.for_node_in_last_minute(node, now_s) >= limits.orders_per_minute_per_node:
        raise RequestRefusedError("too_often", f"{limits.orders_per_minute_per_node} orders a minute for one node")
    target = _target(request, entry)
    not_before, not_after = _window(request, limits, now_s)
    is_dark = False
    if request.verb == "update":
        args: list[Any] = [_manifest(request, check_manifest)]
    elif request.verb == "configure":
        if recent.configured_in_last_hour(node, now_s) >= limits.configurations_per_hour_per_node:
            raise RequestRefusedError("too_often", f"{limits.configurations_per_hour_per_node} configurations an hour for one node")
        configuration = _configuration(request, entry, limits)
        args = [cbor.encode(configuration)]
        check_room(len(orders.encode_order(not_before, not_after, _VERB_NUMBERS[request.verb], target, args)), configuration)
    else:
        args, is_dark = _arguments(request, limits)
    if is_dark and recent.dark_in_last_hour(now_s) >= limits.max_dark_orders_per_hour:
        raise RequestRefusedError(
            "mass_off",
            f"{limits.max_dark_orders_per_hour} orders below {limits.dark_below_percent} % were signed in the last hour",
        )
    return AgreedOrder(
        node=node, epoch=int(entry["epoch"]), not_before=not_before, not_after=not_after,
        verb=_VERB_NUMBERS[request.verb], target=target, args=args, is_dark=is_dark,
    )  # fmt: skip


def _target(request: OrderRequest, entry: dict[str, Any]) -> int:
    fixtures = list(entry.get("fixtures", ()))
    if request.verb in ("configure", "resend", "update") or (request.verb == "cancel" and request.fixture == THE_NODE):
        return 0
    lamps = [name for name in fixtures if name.split(".")[0] == "lamp"]
    name = request.fixture if request.fixture is not None else (lamps[0] if len(lamps) == 1 else None)
    if name is None:
        raise RequestRefusedError("which_fixture", f"node {request.node} has {fixtures}: name one lamp as fixture")
    if name not in fixtures:
        raise RequestRefusedError("unknown_fixture", f"node {request.node} has no fixture {name!r}, it has {fixtures}")
    if name not in lamps:
        raise RequestRefusedError("not_a_lamp", f"{name!r} takes no {request.verb} order")
    base, _, instance = name.partition(".")
    return int(kinds.kind_of(profiles.by_name(base).id, int(instance or 0)))


def _arguments(request: OrderRequest, limits: LimitSettings) -> tuple[list[Any], bool]:
    if request.verb == "level":
        if request.level_percent is None:
            raise RequestRefusedError("bad_request", "level_percent: needed, 0 to 100")
        is_dark = request.level_percent < limits.dark_below_percent
        if is_dark and request.not_after is None and request.lease_s is None:
            raise RequestRefusedError("dark_without_end", f"below {limits.dark_below_percent} % an explicit lease_s or not_after is needed")
        return [request.level_percent, request.ramp_s], is_dark
    if request.verb == "cancel":
        if request.order_id is None:
            raise RequestRefusedError("bad_request", "order_id: needed to cancel an order")
        return [request.order_id], False
    if request.verb == "resend":
        if request.first_n is None or request.last_n is None or request.last_n < request.first_n:
            raise RequestRefusedError("bad_request", "first_n and last_n: needed, first_n <= last_n")
        return [request.first_n, request.last_n], False
    value = _schedule(request)
    if value[1] < limits.dark_below_percent:
        raise RequestRefusedError("dark_without_end", f"a default level below {limits.dark_below_percent} % would be dark for ever")
    return [value], _is_dark_schedule(value, limits.dark_below_percent)


def _configuration(request: OrderRequest, entry: dict[str, Any], limits: LimitSettings) -> dict[str, Any]:
    if request.configuration is None:
        raise RequestRefusedError("bad_request", "configuration: needed, the whole map as it was enrolled with what is to change")
    return agree_configuration(request.configuration, entry.get("configuration"), limits.min_safe_level_percent)


def _manifest(request: OrderRequest, check: Callable[[bytes], None]) -> bytes:
    if request.manifest is None:
        raise RequestRefusedError("bad_request", "manifest: needed, a release's signed manifest in hex")
    manifest = bytes.fromhex(request.manifest)
    try:
        check(manifest)
    except ProtocolError as error:
        raise RequestRefusedError("bad_release", f"the manifest is none that this authority signed: {error}") from None
    return manifest


def _schedule(request: OrderRequest) -> list[Any]:
    """The schedule array, given as such or as people write it (order/schedule_file.py). Raises RequestRefusedError."""
    if request.schedule is None:
        raise RequestRefusedError("bad_request", "schedule: needed")
    try:
        if isinstance(request.schedule, dict):
            return schedule_of(request.schedule)
        schedule.check_schedule(request.schedule)
    except ProtocolError as error:
        raise RequestRefusedError("bad_schedule", str(error)) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise RequestRefusedError("bad_schedule", f"{type(error).__name__}: {str(error)[:200]}") from None
    return request.schedule


def _is_dark_schedule(value: list[Any], dark_below_percent: int) -> bool:
    """Whether some rule has steps and all of them are dark: a whole night without light."""
    rules = [rule[1:] for rule in value[2]] + [rule[2:] for rule in value[3]]
    return any(steps and all(step[2] < dark_below_percent for step in steps) for steps in rules)


def _window(request: OrderRequest, limits: LimitSettings, now_s: int) -> tuple[int, int]:
    if request.lease_s is not None and request.not_after is not None:
        raise RequestRefusedError("bad_request", "give lease_s or not_after, not both")
    is_lease = request.verb == "level"
    start_s = request.not_before if request.not_before is not None else now_s
    if start_s > now_s + limits.max_start_ahead_s:
        raise RequestRefusedError("too_far_ahead", f"not_before may be at most {limits.max_start_ahead_s} s ahead")
    length_s = request.lease_s or (limits.default_lease_s if is_lease else limits.delivery_window_s)
    end_s = request.not_after if request.not_after is not None else start_s + length_s
    longest_s = limits.max_lease_s if is_lease else limits.max_start_ahead_s + limits.delivery_window_s
    if end_s <= now_s or end_s <= start_s:
        raise RequestRefusedError("already_over", "not_after lies before not_before or in the past")
    if end_s - start_s > longest_s:
        raise RequestRefusedError("too_long", f"at most {longest_s} s for this verb, {end_s - start_s} s asked")
    if end_s > _UINT32_MAX:
        raise RequestRefusedError("bad_request", "not_after does not fit 32 bits")
    # Without a wish the start lies a little back, for a node's clock may be behind by its uncertainty.
    return (start_s if request.not_before is not None else now_s - limits.clock_slack_s), end_s


def _count_since(times_s: deque[int], since_s: int) -> int:
    while times_s and times_s[0] < since_s:
        times_s.popleft()
    return len(times_s)
