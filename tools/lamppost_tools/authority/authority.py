"""The city's signer: makes orders, beacons and technicians' tickets that nodes obey, and remembers every order and ticket it made.

Order of steps for each signature: counter durable, then sign, then the line in the log of signed orders or tickets durable, then hand
out. So nothing is ever published that the log does not hold, and no counter ever signs two things. It knows no broker.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamppost_protocol import beacons, cbor, frames, order_words, orders, releases, tickets
from lamppost_protocol.es256_host import HostSigner, HostVerifier, generate_private_key, public_key

from lamppost_tools.authority.counters import CounterFile
from lamppost_tools.authority.public import read_authority_public
from lamppost_tools.authority.settings import (
    COUNTERS_NAME,
    KEY_NAME,
    ORDERS_LOG_NAME,
    PUBLIC_NAME,
    TICKETS_LOG_NAME,
    AuthoritySettings,
)
from lamppost_tools.durable import append_line
from lamppost_tools.errors import RefusedError, ToolError
from lamppost_tools.key_file import load_key, read_passphrase
from lamppost_tools.node.enrol import registered_settings
from lamppost_tools.node.registry import Registry, valid_keys
from lamppost_tools.order.configuration_rules import agree_configuration
from lamppost_tools.order.refusal import RequestRefusedError
from lamppost_tools.order.rules import OrderRequest, RecentOrders, agree, parse_request
from lamppost_tools.ticket import rules as ticket_rules
from lamppost_tools.ticket.by_voice import ticket_text

_HOUR_S = 3600
_REMEMBERED_REQUESTS = 1000
_DOCUMENT_VERSION = 1  # of the JSON documents, whose schemas the gateway's package holds
_RESPONSE_KEYS = ("request_id", "order_id", "node", "verb", "target", "not_before", "not_after")
_TICKET_RESPONSE_KEYS = ("request_id", "ticket", "node", "scopes", "valid_s", "technician")
_TICKET_SIGNED_KEYS = ("request_id", "ticket", "node", "epoch", "nonce", "valid_s", "scopes", "technician", "holder", "text", "frame")
_SIGNED_KEYS = ("order_id", "node", "epoch", "not_before", "not_after", "verb", "frame")


class Authority:
    """Signs under one command key. `unix_s` gives city time; everything else is on disk in the state folder."""

    def __init__(self, folder: Path, settings: AuthoritySettings, private_key: bytes, unix_s: Callable[[], int]) -> None:
        self._folder = folder
        self._settings = settings
        self._signer = HostSigner(private_key)
        self._unix_s = unix_s
        self._verifier = HostVerifier(public_key(private_key))
        self._counters = CounterFile(folder / COUNTERS_NAME)
        self._registry = Registry((folder / settings.authority.registry).resolve())
        self._recent = RecentOrders()
        self._answered: dict[str, dict[str, Any]] = {}
        #: By node (8 hex digits): the newest configuration signed for it, as a log entry.
        self._configured: dict[str, dict[str, Any]] = {}
        self._beacon_times: dict[int, list[int]] = {}
        self._ticket_times: dict[int, list[int]] = {}
        self.network = int(settings.authority.network, 16)
        self.issuer = int(settings.authority.issuer, 16)
        self._read_log()

    def __repr__(self) -> str:
        return f"Authority(network={self.network:08x}, issuer={self.issuer:08x})"

    def answer_request(self, data: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Answer one `order/request`: (document for order/response, document for order/signed or None when refused).

        A request id seen before gets its first answer and its first signed order again, and no second signature: the
        first may have been lost on its way to the broker. Never raises for bad requests.
        """
        request_id = _request_id_of(data)
        try:
            request = parse_request(data)
            earlier = self._answered.get(request.request_id)
            if earlier is not None:
                return _pick(earlier, _RESPONSE_KEYS), _pick(earlier, _SIGNED_KEYS)
            signed = self._sign_order(request)
        except RequestRefusedError as error:
            return _refusal(request_id, error.detail, error.reason), None
        except (ToolError, OSError) as error:
            # the counter, the log or the registry cannot be used: nothing was signed that anybody will see
            return _refusal(request_id, str(error), "authority_fault"), None
        self._remember(signed)
        return _pick(signed, _RESPONSE_KEYS), _pick(signed, _SIGNED_KEYS)

    def beacon_for_all(self) -> dict[str, Any]:
        """A broadcast beacon, document for beacon/signed."""
        return self._sign_beacon(None, 0, None)

    def answer_hello(self, data: bytes) -> dict[str, Any] | None:
        """A beacon echoing the nonce of a relayed hello, or None when it needs none, is unknown, or asks too often."""
        try:
            hello = json.loads(data)
            name = str(hello["node"])
            nonce = bytes.fromhex(hello["nonce"]) if hello.get("nonce") else None
            entry = self._registry.nodes().get(name)
            epoch = hello.get("epoch")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ToolError):
            return None
        if nonce is None or len(nonce) != beacons.NONCE_BYTES or entry is None or entry.get("revoked"):
            return None
        node = int(name, 16)
        if self._is_too_often(self._beacon_times, node, self._settings.limits.beacons_per_minute_per_node):
            return None
        # While a node is re-keyed only itself knows in which of two epochs it is; a beacon for the wrong one is no harm.
        return self._sign_beacon(node, next((known for known in valid_keys(entry) if known == epoch), int(entry["epoch"])), nonce)

    def note_state(self, data: bytes) -> str | None:
        """One document of order/<id>/state: a configuration that is verified becomes what the registry says of its node, which is returned.

        The word of a gateway: what the registry has since been told by a visit is not touched by it. Raises ToolError, OSError where the
        registry cannot be written; never for what `data` is.
        """
        try:
            state = json.loads(data)
            name, order_id, word = str(state["node"]), state["order_id"], state["state"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        signed = self._configured.get(name)
        if word != "verified" or signed is None or signed["order_id"] != order_id:
            return None
        entry = self._registry.nodes().get(name, {})
        if entry.get("configured_by", 0) >= order_id:
            return None  # retained on the broker, and noted before
        tried: Any = cbor.decode(bytes.fromhex(signed["args"][0]))
        try:
            agreed = agree_configuration(tried, entry.get("configuration"), 0)
        except RequestRefusedError:
            return None  # the node has been visited since
        self._registry.reconfigure(int(name, 16), {**registered_settings(agreed), "configured_by": order_id})
        return name

    def answer_ticket_request(self, data: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Answer one `ticket/request`: (document for ticket/response, document for ticket/signed or None when refused).

        Never raises for bad requests.
        """
        request_id = _request_id_of(data)
        try:
            request = ticket_rules.parse_request(data)
            agreed = ticket_rules.agree(request, self._registry.nodes(), self._settings.technician)
            if self._is_too_often(self._ticket_times, agreed.node, self._settings.limits.tickets_per_minute_per_node):
                raise RequestRefusedError("too_often", f"{self._settings.limits.tickets_per_minute_per_node} tickets a minute for one node")
            signed = self._sign_ticket(agreed, request_id)
        except RequestRefusedError as error:
            return _refusal(request_id, error.detail, error.reason), None
        except (ToolError, OSError) as error:
            return _refusal(request_id, str(error), "authority_fault"), None
        return _pick(signed, _TICKET_RESPONSE_KEYS), _pick(signed, _TICKET_SIGNED_KEYS)

    def sign_ticket_at_the_desk(self, request: ticket_rules.TicketRequest, technician: str) -> dict[str, Any]:
        """A ticket that a person at this desk has decided on, as in ticket/signed, with its text. Raises RefusedError, OSError."""
        try:
            agreed = ticket_rules.at_the_desk(request, self._registry.nodes(), technician)
        except RequestRefusedError as error:
            raise RefusedError(error.detail, "check node, key and registry") from None
        return _pick(self._sign_ticket(agreed, None), _TICKET_SIGNED_KEYS)

    def _is_too_often(self, times_s: dict[int, list[int]], node: int, most_per_minute: int) -> bool:
        """Whether this node has had so many within the minute; if not, it has one more now."""
        now_s = self._unix_s()
        lately = [at for at in times_s.get(node, ()) if at > now_s - 60]
        if len(lately) >= most_per_minute:
            return True
        times_s[node] = [*lately, now_s]
        return False

    def _sign_ticket(self, agreed: ticket_rules.AgreedTicket, request_id: str | None) -> dict[str, Any]:
        payload = tickets.encode_ticket(agreed.ticket)
        number = self._counters.take("order")  # one counter for both: no number is ever under two signatures of a node's context
        frame = frames.seal(self._signer, frames.TICKET, self.network, agreed.node, agreed.epoch, self.issuer, number, payload)
        signed = {
            "at": self._unix_s(),
            "request_id": request_id,
            "ticket": number,
            "node": f"{agreed.node:08x}",
            "epoch": agreed.epoch,
            "nonce": agreed.ticket.nonce.hex(),
            "valid_s": agreed.ticket.valid_s,
            "scopes": agreed.scopes,
            "technician": agreed.technician,
            "holder": f"{tickets.holder_id(agreed.ticket.holder):08x}",
            "text": ticket_text(frame),
            "frame": frame.hex(),
        }
        append_line(self._folder / TICKETS_LOG_NAME, json.dumps(signed, separators=(",", ":")))
        return signed

    def _sign_order(self, request: OrderRequest) -> dict[str, Any]:
        now_s = self._unix_s()
        order = agree(request, self._registry.nodes(), self._settings.limits, self._recent, now_s, self._check_manifest)
        payload = orders.encode_order(order.not_before, order.not_after, order.verb, order.target, order.args)
        order_id = self._counters.take("order")
        frame = frames.seal(self._signer, frames.ORDER, self.network, order.node, order.epoch, self.issuer, order_id, payload)
        signed = {
            "at": now_s,
            "request_id": request.request_id,
            "order_id": order_id,
            "node": request.node,
            "epoch": order.epoch,
            "not_before": order.not_before,
            "not_after": order.not_after,
            "verb": order_words.VERBS[order.verb],
            "target": order.target,
            "args": [arg.hex() if isinstance(arg, bytes) else arg for arg in order.args],
            "dark": order.is_dark,
            "frame": frame.hex(),
        }
        append_line(self._folder / ORDERS_LOG_NAME, json.dumps(signed, separators=(",", ":")))
        self._recent.note(order.node, order.is_dark, now_s, order.verb == orders.CONFIGURE)
        return signed

    def _check_manifest(self, manifest: bytes) -> None:
        """Raises RemoteError for a release that this authority did not sign."""
        releases.open_manifest(manifest, self._verifier, self.network, self.issuer)

    def _sign_beacon(self, node: int | None, epoch: int, nonce: bytes | None) -> dict[str, Any]:
        unix = self._unix_s()
        tx = self._counters.take("beacon", at_least=unix)
        payload = beacons.encode_beacon(unix, nonce)
        frame = frames.seal(self._signer, frames.BEACON, self.network, node or 0, epoch, self.issuer, tx, payload)
        return {
            "v": _DOCUMENT_VERSION,
            "node": None if node is None else f"{node:08x}",
            "epoch": epoch,
            "unix": unix,
            "nonce": None if nonce is None else nonce.hex(),
            "frame": frame.hex(),
        }

    def _remember(self, signed: dict[str, Any]) -> None:
        self._answered[signed["request_id"]] = signed
        if signed["verb"] == order_words.VERBS[orders.CONFIGURE]:
            self._configured[signed["node"]] = signed
        while len(self._answered) > _REMEMBERED_REQUESTS:
            del self._answered[next(iter(self._answered))]

    def _read_log(self) -> None:
        """Refill the rate limits and the answered requests from the log, so that a restart resets neither."""
        path = self._folder / ORDERS_LOG_NAME
        if not path.exists():
            return
        since_s = self._unix_s() - _HOUR_S
        _end_torn_line(path)
        with path.open() as lines:
            for line in lines:
                try:
                    signed = json.loads(line)
                except ValueError:
                    continue  # a torn last line: its order was never handed out
                if signed["at"] >= since_s:
                    is_configuring = signed["verb"] == order_words.VERBS[orders.CONFIGURE]
                    self._recent.note(int(signed["node"], 16), bool(signed["dark"]), int(signed["at"]), is_configuring)
                self._remember(signed)


def open_authority(folder: Path, settings: AuthoritySettings, unix_s: Callable[[], int]) -> Authority:
    """Load key and counters of a state folder. Raises ToolError with what to do: wide key file, wrong passphrase, ..."""
    return Authority(folder, settings, load_command_key(folder, settings), unix_s)


def load_command_key(folder: Path, settings: AuthoritySettings) -> bytes:
    """The private key of a state folder. Raises ToolError, RefusedError where it is not the one that the public file names."""
    identity = settings.authority
    passphrase = None if identity.passphrase_file is None else read_passphrase(folder / identity.passphrase_file)
    private_key = load_key(folder / KEY_NAME, passphrase)
    public = read_authority_public(folder / PUBLIC_NAME)
    if public.public_key != public_key(private_key):
        raise RefusedError(
            f"{folder / KEY_NAME} is not the key that {PUBLIC_NAME} names",
            "nodes would refuse every order: put the right key back",
        )
    return private_key


def new_private_key() -> bytes:
    """A P-256 private key from the operating system's generator, 32 bytes."""
    key: bytes = generate_private_key()
    return key


def _pick(signed: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {"v": _DOCUMENT_VERSION, **{key: signed[key] for key in keys}}


def _refusal(request_id: str | None, error: str, reason: str) -> dict[str, Any]:
    return {"v": _DOCUMENT_VERSION, "request_id": request_id, "error": error, "reason": reason}


def _end_torn_line(path: Path) -> None:
    """Give a last line cut by a power loss its end, so that the next one starts on its own."""
    with path.open("rb") as log:
        log.seek(0, 2)
        if log.tell() == 0:
            return
        log.seek(-1, 2)
        is_torn = log.read(1) != b"\n"
    if is_torn:
        append_line(path, "")


def _request_id_of(data: bytes) -> str | None:
    try:
        value = json.loads(data)["request_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) and len(value) <= 64 else None
