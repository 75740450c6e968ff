"""Carries a roll-out: hears the city, writes down what the rules decide, then does it. Ended anywhere, it goes on from its journal.

What is decided is on disk before it is done, and doing it twice is harmless: a request has its own id, which the authority answers with the
same order again. The broker may go and come; what it told meanwhile is lost, and counters in the nodes' own records tell most of it later.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lamppost_tools.broker import BrokerLostError, Client, Topics, connect, end_tasks
from lamppost_tools.city import City
from lamppost_tools.errors import MissingError
from lamppost_tools.journal import JournalFile
from lamppost_tools.rollout.brake import decide, halt
from lamppost_tools.rollout.course import Course
from lamppost_tools.rollout.evidence import Evidence
from lamppost_tools.rollout.stages import pick_stages

_QOS = 1
_TICK_S = 1.0
_ASK_AGAIN_S = 30.0
_RETAINED_S = 1.0  # without a word the broker has told what it retains
_BACKOFF_FIRST_S, _BACKOFF_LONGEST_S = 0.5, 30.0
_TOPICS = ("node/+/status", "node/+/record/+", "gateway/+/reject", "order/response", "order/+/state")

Entry = dict[str, Any]


def halt_path(journal: Path) -> Path:
    """A file that is there while somebody wants a roll-out halted."""
    return journal.with_name(journal.name + ".halt")


async def known_gateways(city: City) -> dict[str, str]:
    """Node to gateway by the statuses that the broker retains. Raises MissingError."""
    evidence, root = Evidence(), Topics(city.network).root + "/"
    async with connect(city.broker) as client:
        await client.subscribe(root + "node/+/status", _QOS)
        messages = aiter(client.messages)
        try:
            while True:
                message = await asyncio.wait_for(anext(messages), _RETAINED_S)
                evidence.take(str(message.topic).removeprefix(root), _octets(message.payload), 0.0)
        except (TimeoutError, StopAsyncIteration):
            return evidence.gateways()
        except BrokerLostError as error:
            raise MissingError(f"the broker went away: {error}", "try again") from None


def begin(
    journal: JournalFile, nodes: Iterable[str], gateways: dict[str, str], stages: list[str], release: dict[str, Any], more: dict[str, Any]
) -> Entry:
    """Write a roll-out's first entry. `release`: manifest (hex), version, sequence, digest (hex); `more`: pace and limits."""
    picked = pick_stages(nodes, gateways, stages, bytes.fromhex(release["digest"]))
    name = f"rollout-{release['sequence']}-{int(time.time()):x}"
    return journal.note("start", rollout=name, stages=picked, **release, **more)


class Driver:
    """One roll-out on one broker. `tell` gets every entry once it is in the journal; `now` gives unix seconds."""

    def __init__(self, journal: JournalFile, city: City, tell: Callable[[Entry], None], now: Callable[[], float] = time.time) -> None:
        """Raises KeyError, TypeError, ValueError for a journal that is no roll-out's."""
        self.course = Course.of(journal.entries)
        self._journal = journal
        self._city = city
        self._tell = tell
        self._now = now
        self._topics = Topics(city.network)
        self._evidence = Evidence()
        self._to_publish: list[dict[str, Any]] = []
        self._asked_at_s: dict[str, float] = {}

    def note(self, step: str, **facts: Any) -> None:
        """Write an entry down and take it into account."""
        entry = self._journal.note(step, **facts)
        self.course.apply(entry)
        self._tell(entry)

    async def run(self) -> None:
        """Until the roll-out is done or halted. A broker that is away is waited for."""
        backoff_s, is_told = _BACKOFF_FIRST_S, False
        self._evidence.asked = {node.request_id for _, node in self.course.open_nodes() if not node.order_id}
        while not self._is_over():
            try:
                async with connect(self._city.broker) as client:
                    backoff_s, is_told = _BACKOFF_FIRST_S, False
                    await self._serve(client)
            except (MissingError, BrokerLostError) as error:
                if not is_told:
                    self._tell({"step": "broker_away", "at": int(self._now()), "why": str(error)})
                    is_told = True
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_LONGEST_S)

    def _is_over(self) -> bool:
        return self.course.is_over and not self._to_publish

    async def _serve(self, client: Client) -> None:
        await client.subscribe([(f"{self._topics.root}/{topic}", _QOS) for topic in _TOPICS])
        tasks = [asyncio.create_task(self._run_messages(client)), asyncio.create_task(self._run_decisions(client))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_tasks(tasks)

    async def _run_messages(self, client: Client) -> None:
        root = self._topics.root + "/"
        async for message in client.messages:
            self._evidence.take(str(message.topic).removeprefix(root), _octets(message.payload), self._now())

    async def _run_decisions(self, client: Client) -> None:
        while True:
            self._decide()
            while self._to_publish:
                await client.publish(self._topics.order_request, json.dumps(self._to_publish[0]).encode(), qos=_QOS)
                del self._to_publish[0]
            if self.course.is_over:
                return
            await asyncio.sleep(_TICK_S)

    def _decide(self) -> None:
        if halt_path(self._journal.path).exists():
            if not self.course.is_over:
                for step, facts in halt(self.course, "halted by the operator", "lamppost rollout resume"):
                    self._take(step, facts)
            halt_path(self._journal.path).unlink(missing_ok=True)
        while found := decide(self.course, self._evidence, self._now()):
            for step, facts in found:
                self._take(step, facts)
        for name, node in self.course.open_nodes():
            if not node.order_id and self._now() - self._asked_at_s.get(node.request_id, 0.0) >= _ASK_AGAIN_S:
                self._ask(name, node.request_id)

    def _take(self, step: str, facts: dict[str, Any]) -> None:
        self.note(step, **facts)
        if step == "cancel":
            request = {"verb": "cancel", "fixture": "node", "order_id": facts["order_id"]}
            self._to_publish.append({"v": 1, "request_id": facts["request_id"], "node": facts["node"], **request})

    def _ask(self, name: str, request_id: str) -> None:
        self._evidence.asked.add(request_id)
        self._asked_at_s[request_id] = self._now()
        request = {"verb": "update", "manifest": self.course.manifest, "lease_s": self.course.pace.order_s}
        self._to_publish.append({"v": 1, "request_id": request_id, "node": name, **request})


def _octets(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else b""
