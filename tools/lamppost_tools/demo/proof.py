"""What `lamppost demo --once` proves, one function a promise: each returns a sentence with what was measured, or raises."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from lamppost_protocol import cose, records, slip

from lamppost_tools.demo.layout import NODES, WIRED
from lamppost_tools.demo.street import WITNESS_ID, Street
from lamppost_tools.demo.witness import Seen, Witness, is_contiguous, says_the_same
from lamppost_tools.errors import ToolError

TARGET_S = 60.0  # on an idle machine; told, not enforced
TOTAL_S = 120.0  # what is not proved by then is not proved: a newcomer waits no longer
_LEVEL_PERCENT = 30
_BRIGHT_W = 45.0
_OUTAGE_FRAMES = 2  # each node must have said at least this much into the outage
_COMMAND_S = 20.0
_ORDER_STATES = ("queued", "sent", "accepted", "applied", "verified")


@dataclass(frozen=True)
class Proof:
    """One promise: whether it held, how long it took, and what was seen or why not."""

    promise: str
    held: bool
    took_s: float
    detail: str

    def document(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "took_s": round(self.took_s, 2)}


class NotHeldError(Exception):
    """A promise did not hold; the text says what was seen instead."""


class Prover:
    """Runs the proofs on a started street, in an order that lets the slow ones wait beside the others."""

    def __init__(self, street: Street, witness: Witness) -> None:
        self._street = street
        self._witness = witness
        self._over_s = float("inf")

    def proofs(self) -> list[tuple[str, Callable[[], str]]]:
        """Each promise with its test."""
        return [
            ("every fixture's record reached a subscriber, verified by it", self.records_arrive),
            ("an order dimmed the lamp, and measured power proves it", self.order_is_verified),
            ("a replayed and a forged frame were refused and are listed", self.lies_are_refused),
            ("a broker outage was survived with nothing lost", self.outage_is_survived),
            ("a bin without a cable is heard by LoRa, and hears in its windows", self.radio_speaks_both_ways),
            ("the air station is warm and reports good values", self.air_is_good),
            ("everything the city was told is what the nodes signed", self.nothing_else_was_told),
        ]

    def run(self, started_s: float, tell: Callable[[Proof], None]) -> list[Proof]:
        """All proofs, each within what is left of TOTAL_S since `started_s` (monotonic)."""
        done = []
        self._over_s = started_s + TOTAL_S
        for promise, test in self.proofs():
            begun_s = time.monotonic()
            try:
                if begun_s >= self._over_s:
                    raise NotHeldError(f"not tried: {TOTAL_S:.0f} s were over")
                self._street.check_running()
                proof = Proof(promise, True, 0.0, test())
            except (NotHeldError, ToolError) as error:
                proof = Proof(promise, False, 0.0, str(error))
            proof = Proof(proof.promise, proof.held, time.monotonic() - begun_s, proof.detail)
            done.append(proof)
            tell(proof)
        return done

    def records_arrive(self) -> str:
        """Every fixture: a JSON record that equals what a frame says whose signature the subscriber checked itself."""
        wanted = [(node.id, fixture) for node in NODES for fixture in node.fixtures]

        def missing(seen: Seen) -> list[str]:
            return [
                f"{node}/{fixture}"
                for node, fixture in wanted
                if (node, fixture) not in seen.records or not says_the_same(seen, seen.records[(node, fixture)])
            ]

        if not self._wait(lambda seen: not missing(seen), 60):
            raise NotHeldError(f"no verified record of {', '.join(self._witness.look(missing))}")
        qualities = self._witness.look(
            lambda seen: ", ".join(f"{node}/{fixture} {seen.records[(node, fixture)]['quality']}" for node, fixture in wanted)
        )
        return str(qualities)

    def order_is_verified(self) -> str:
        """`lamppost order dim` on the real command line, the states on MQTT, and the true power of the model lamp."""
        lamp = NODES[0]
        key = (lamp.id, "lamp")
        if not self._wait(lambda seen: _clock_state(seen, key) == "synced", 20):
            raise NotHeldError("the node did not learn the time: no beacon was accepted")
        before_w = self._true_power_w(lamp.name)
        # In a folder that is used again the lamp may still obey the last run's order; then it is brought up instead.
        level_percent = _LEVEL_PERCENT if before_w > _BRIGHT_W else 100
        lines = self._lamppost("order", "dim", lamp.id, str(level_percent), "--for", "10m", "--deadline-s", "15")
        order_id = lines[0]["order_id"]
        self._wait(lambda seen: len(seen.orders.get(order_id, [])) >= len(_ORDER_STATES), 3)
        states = self._witness.look(lambda seen: [document.get("state") for document in seen.orders.get(order_id, [])])
        if [state for state in _ORDER_STATES if state in states] != list(_ORDER_STATES):
            raise NotHeldError(f"states on MQTT were {states}")
        after_w = self._true_power_w(lamp.name)
        if abs(after_w - before_w) < 0.3 * before_w or (after_w < before_w) != (level_percent < 100):
            raise NotHeldError(f"the lamp takes {after_w:.1f} W, before {before_w:.1f} W")
        self._lamppost("order", "cancel", lamp.id, str(order_id), "--deadline-s", "10")
        if not self._wait(lambda seen: seen.orders[order_id][-1].get("state") == "reverted", 5):
            raise NotHeldError("the order was cancelled, but its lamp did not tell that it reverted")
        return f"order {order_id}: {' > '.join(_ORDER_STATES)}; lamp {before_w:.1f} W to {after_w:.1f} W; cancelled > reverted"

    def lies_are_refused(self) -> str:
        """A recorded frame again, and one with a changed value, on the cable; then `lamppost-gateway rejects`."""
        lamp, bin_node = NODES[0], NODES[1]
        replayed = _last_frame(self._street, lamp.name)
        forged = _forge(_last_frame(self._street, bin_node.name))
        self._street.say(lamp.name, slip.encode(slip.FRAME, replayed))
        self._street.say(bin_node.name, slip.encode(slip.FRAME, forged))
        lies = {"replayed": replayed.hex(), "bad_signature": forged.hex()}

        def heard(seen: Seen) -> set[tuple[str, str]]:
            return {(str(reject.get("reason")), str(reject.get("bytes"))) for reject in seen.rejects}

        if not self._wait(lambda seen: set(lies.items()) <= heard(seen), 10):
            raise NotHeldError(f"of both lies MQTT shows {sorted(reason for reason, _ in self._witness.look(heard))}")
        end_s = self._end_s(6)
        listed: list[str] = []
        while time.monotonic() < end_s:
            listed = self._listed_rejects(lies)
            if len(listed) == len(lies):
                if self._witness.look(lambda seen: seen.unverified):
                    raise NotHeldError("a frame that does not verify was published")
                return f"listed by lamppost-gateway rejects: {', '.join(listed)}; neither was stored"
        raise NotHeldError(f"lamppost-gateway rejects lists {listed or 'neither'}")

    def outage_is_survived(self) -> str:
        """The broker is killed while nodes report, comes back empty-handed, and gets every number exactly as signed."""
        marks = {node.id: len(numbers_said(self._street, node.name)) for node in WIRED}
        self._street.kill_broker()
        down_s = time.monotonic()
        if not self._wait(lambda seen: not seen.is_connected, 5):
            raise NotHeldError("the subscriber did not notice that the broker is gone")
        end_s = self._end_s(15)
        while any(len(numbers_said(self._street, node.name)) < marks[node.id] + _OUTAGE_FRAMES for node in WIRED):
            if time.monotonic() > end_s:
                raise NotHeldError("the nodes stopped reporting during the outage")
            time.sleep(0.2)
        owed = {node.id: numbers_said(self._street, node.name) for node in WIRED}
        self._street.start_broker(WITNESS_ID)
        outage_s = time.monotonic() - down_s

        def missing(seen: Seen) -> dict[str, list[int]]:
            gaps = {node: sorted(numbers - seen.numbers.get(node, set())) for node, numbers in owed.items()}
            return {node: lost for node, lost in gaps.items() if lost}

        def is_whole(seen: Seen) -> bool:
            return not missing(seen) and all(is_contiguous(seen.numbers[node]) for node in owed)

        if not self._wait(is_whole, 20):
            raise NotHeldError(f"records missing after the outage: {self._witness.look(missing)}")
        totals = self._witness.look(lambda seen: [f"{node} 1..{max(seen.numbers[node])}" for node in owed])
        meanwhile = sum(len(owed[node]) - marks[node] for node in owed)
        return f"{outage_s:.1f} s without broker, {meanwhile} records meanwhile; numbers complete: {', '.join(totals)}"

    def radio_speaks_both_ways(self) -> str:
        """A record dated by a beacon that only a receive window let in, and the gateway's own word on link and signal."""
        node = next(each for each in NODES if each.by_radio)
        key = (node.id, node.fixtures[0])
        if not self._wait(lambda seen: _clock_state(seen, key) == "synced" and says_the_same(seen, seen.records[key]), 40):
            raise NotHeldError(f"{node.asset} did not learn the time over the air")
        status = json.loads(self._gateway("status", "--json"))
        told = {each["node"]: each for each in status["nodes"]}[node.id]
        signal = told["signal"]
        if told["link"] != "air" or not signal:
            raise NotHeldError(f"the gateway heard {node.id} by {told['link']}")
        spent = f"{status['modems'][0]['airtime_spent_permille'] / 10} % of its lawful airtime"
        return f"{node.id} at SF{signal['spreading_factor']}, {signal['rssi_dbm']} dBm; the gateway's {signal['modem']} has spent {spent}"

    def air_is_good(self) -> str:
        """The particulate sensor needs 30 s of fan before its values count; until then they are marked, not hidden."""
        station = NODES[2]
        key = (station.id, "air")
        if not self._wait(lambda seen: key in seen.good and says_the_same(seen, seen.good[key]), 40):
            quality = self._witness.look(lambda seen: seen.records.get(key, {}).get("quality"))
            raise NotHeldError(f"air is still {quality!r}")
        values = self._witness.look(lambda seen: seen.good[key]["values"])
        return f"PM2.5 {values['pm25']['value']} ug/m3, {values['temperature']['value']} Cel, {values['humidity']['value']} %"

    def nothing_else_was_told(self) -> str:
        """No unverifiable frame, no JSON that differs from its frame, no gap, no node that had to start again, no dark lamp."""
        found = self._witness.look(_faults)
        if troubled := self._street.troubled():
            found.append(f"unexpected exceptions in the log of {', '.join(troubled)}")
        restarts = {name: count for name, count in self._street.restarts.items() if count}
        if restarts:
            found.append(f"nodes had to start again: {restarts}")
        bench = self._street.ask_bench(op="state")["nodes"]
        for name, state in bench.items():
            if state.get("lamp") and state["lamp"]["min_level_permille"] < 10 * _LEVEL_PERCENT - 20:
                found.append(f"lamp of {name} was down to {state['lamp']['min_level_permille'] / 10} %")
        if found:
            raise NotHeldError("; ".join(found))
        total = self._witness.look(lambda seen: sum(len(numbers) for numbers in seen.numbers.values()))
        return f"{total} records, each equal to its signed frame; no lamp below {_LEVEL_PERCENT} %, no node restarted"

    def _end_s(self, deadline_s: float) -> float:
        """Monotonic time in `deadline_s`, or when the whole run's time is over."""
        return min(time.monotonic() + deadline_s, self._over_s)

    def _wait(self, is_so: Callable[[Seen], Any], deadline_s: float) -> bool:
        """Wait for what is seen on MQTT; raises MissingError as soon as a program that must run has ended."""
        end_s = self._end_s(deadline_s)
        while not self._witness.wait(is_so, min(1.0, max(0.0, end_s - time.monotonic()))):
            self._street.check_running()
            if time.monotonic() >= end_s:
                return False
        return True

    def _lamppost(self, *arguments: str) -> list[dict[str, Any]]:
        """Run the real command line with --json; its documents. Raises NotHeldError when it does not end with 0."""
        command = [sys.executable, "-m", "lamppost_tools", *arguments, "--json", "--city", str(self._street.layout.city)]
        done = _run(command)
        lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode != 0:
            told = [line.get("error") or line.get("evidence") for line in lines[-2:]]
            raise NotHeldError(f"{' '.join(arguments)} ended with {done.returncode}: {told or done.stderr.strip()}")
        return lines

    def _gateway(self, *arguments: str) -> str:
        """What `lamppost-gateway` prints. Raises NotHeldError when it does not end with 0."""
        done = _run([sys.executable, "-m", "lamppost_gateway", *arguments, "--config", str(self._street.layout.gateway_toml)])
        if done.returncode != 0:
            raise NotHeldError(f"lamppost-gateway {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        return done.stdout

    def _true_power_w(self, name: str) -> float:
        return float(self._street.ask_bench(op="state", node=name)["nodes"][name]["lamp"]["power_w"])

    def _listed_rejects(self, lies: dict[str, str]) -> list[str]:
        text = self._gateway("rejects", "--json")
        return [reason for reason, data in lies.items() if reason in text and data in text]


def _faults(seen: Seen) -> list[str]:
    found = []
    if seen.unverified:
        found.append(f"{seen.unverified} published frame(s) do not verify")
    if seen.mismatched:
        found.append(f"{seen.mismatched} JSON record(s) without a number")
    wrong = [key for key, document in seen.records.items() if not says_the_same(seen, document)]
    if wrong:
        found.append(f"newest JSON differs from its frame: {wrong}")
    gaps = [node for node, numbers in seen.numbers.items() if not is_contiguous(numbers)]
    if gaps:
        found.append(f"numbers are missing of {', '.join(gaps)}")
    return found


def _clock_state(seen: Seen, key: tuple[str, str]) -> str | None:
    clock = seen.records.get(key, {}).get("clock")
    return clock.get("state") if isinstance(clock, dict) else None


def _frames(street: Street, name: str) -> list[bytes]:
    decoder = slip.Decoder()
    return [body for line in street.said(name) for kind, body in decoder.feed(slip.END + line) if kind == slip.FRAME]


def _last_frame(street: Street, name: str) -> bytes:
    frames = _frames(street, name)
    if not frames:
        raise NotHeldError(f"nothing was said on the cable of {name}")
    return frames[-1]


def numbers_said(street: Street, name: str) -> set[int]:
    """Record numbers that crossed a node's cable, as far back as it remembers."""
    found: set[int] = set()
    for frame in _frames(street, name):
        uplink = records.decode_uplink(cose.decode(frame).payload)
        found.update(range(uplink.n, uplink.n + len(uplink.records)))
    return found


def _forge(frame: bytes) -> bytes:
    """The frame with its next `tx` and the signature left as it was: fresh, well formed, and not the node's word."""
    message = cose.decode(frame)
    protected = cose.protected_header(cose.ES256, message.kid, message.tx + 1)
    forged: bytes = cose.encode(cose.SIGN1, protected, message.payload, message.proof)
    return forged


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotHeldError(f"{' '.join(command[2:5])} did not end within {_COMMAND_S:.0f} s") from None
