"""Orders to a running bench: one JSON object a line, one JSON object back, `ok` true or false with `error`.

{"op": "state"[, "node"]}                    true values of street and nodes
{"op": "lamp_log", "node"}                   [[now_s, level_permille, cause], ...], every change since the start
{"op": "reset_min", "node"}                  watch the lowest lamp level anew
{"op": "fault", "node", "fault"[, "value"]}  {"op": "clear", "node"[, "fault"]}
{"op": "set"[, "node"], "what", "value"}     a node's true value (cabinet.SETTINGS), or the street's (street.OVERRIDES, unix_s);
                                             value null gives it back to the model
{"op": "time_factor", "value"}               street seconds a second
{"op": "register_pid", "node", "pid"}        only where the program cannot find its own
{"op": "kill", "node"}  {"op": "power_cut", "node"}  {"op": "stop"}
{"op": "said", "cable"}                      messages that the device said of late, in hex, oldest first
{"op": "say", "cable", "hex"}                to the host, between two messages, as if the device had said it
{"op": "pull", "cable"}  {"op": "plug", "cable"}   the host's end: its port is gone, or is there again
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .street import OVERRIDES

_HOST = "host"

if TYPE_CHECKING:
    from .server import Door, Server


class Control:
    """Reads an order, does it on the server, says how it went."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._orders: dict[str, Callable[[dict[str, Any], float], dict[str, Any]]] = {
            "state": self._state,
            "lamp_log": self._lamp_log,
            "reset_min": self._reset_min,
            "fault": self._fault,
            "clear": self._clear,
            "set": self._set,
            "time_factor": self._time_factor,
            "register_pid": self._register_pid,
            "kill": self._kill,
            "power_cut": self._power_cut,
            "stop": self._stop,
            "said": self._said,
            "say": self._say,
            "pull": self._pull,
            "plug": self._plug,
        }

    def answer(self, line: bytes, now_s: float) -> bytes:
        """Never raises for any bytes."""
        try:
            order = json.loads(line)
            done = self._orders[order["op"]](order, now_s)
        except KeyError as error:
            done = {"ok": False, "error": f"unknown or missing: {error.args[0]}"}
        except (ValueError, TypeError) as error:
            done = {"ok": False, "error": str(error)}
        return json.dumps({"ok": True, "now_s": now_s} | done).encode()

    def _door(self, order: dict[str, Any]) -> Door:
        return self._server.doors[order["node"]]

    def _state(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        names = [order["node"]] if "node" in order else list(self._server.doors)
        return {
            "unix_s": self._server.street.unix_s(now_s),
            "street": self._server.street.state(now_s),
            "nodes": {name: self._server.doors[name].cabinet.state(now_s) for name in names},
        }

    def _lamp_log(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        lamp = self._door(order).cabinet.lamp
        if lamp is None:
            raise ValueError("this node has no lamp")
        return {"log": list(lamp.log)}

    def _reset_min(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        lamp = self._door(order).cabinet.lamp
        if lamp is None:
            raise ValueError("this node has no lamp")
        lamp.forget_minimum(now_s)
        return {}

    def _fault(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._door(order).cabinet.set_fault(order["fault"], order.get("value"), now_s)
        return {}

    def _clear(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._door(order).cabinet.clear_fault(order.get("fault"), now_s)
        return {}

    def _set(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        what, value = order["what"], order["value"]
        street = self._server.street
        if "node" in order:
            self._door(order).cabinet.set(what, value)
        elif what == "unix_s":
            street.set_time(now_s, unix_s=float(value))
        elif what not in OVERRIDES:
            raise KeyError(what)
        elif value is None:
            street.overrides.pop(what, None)
        else:
            street.overrides[what] = float(value)
        return {}

    def _time_factor(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._server.street.set_time(now_s, time_factor=float(order["value"]))
        return {}

    def _register_pid(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._door(order).pid = int(order["pid"])
        return {}

    def _kill(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        return {"killed": self._door(order).kill()}

    def _power_cut(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        door = self._door(order)
        killed = door.kill()
        door.cabinet.cut_power(now_s)
        return {"killed": killed}

    def _stop(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._server.stop()
        return {}

    def _said(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        cable = self._server.cables[order["cable"]]
        with cable.changes:
            return {"said": [message.hex() for message in cable.up]}

    def _say(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._server.cables[order["cable"]].say(_HOST, bytes.fromhex(order["hex"]))
        return {}

    def _pull(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._server.cables[order["cable"]].pull(_HOST)
        return {}

    def _plug(self, order: dict[str, Any], now_s: float) -> dict[str, Any]:
        self._server.cables[order["cable"]].plug(_HOST)
        return {}
