"""kill -9 of a gateway under load, round after round: what was acknowledged must be stored, once (R01).

Seeded: a failure prints the seed and the round. The nodes keep what is not acknowledged and send it again, as the firmware does.
"""

from __future__ import annotations

import random
import select
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamppost_gateway.outbox_rows import unpack
from lamppost_protocol import arq, kinds, slip
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.frames import frame_digest

from street.gateway_rig import City, GatewayProcess, PtyLine, SenderNode

_MAX_OWED = 300
_PAST_RESEND_MS = 10 * arq.MAX_RESEND_MS


@dataclass
class KillResult:
    """What the rounds showed; `lost` and `twice` hold (node, n)."""

    seed: int
    rounds: int = 0
    kills_before_ready: int = 0
    acknowledged: int = 0
    resent_frames: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    twice: list[tuple[int, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class KillRounds:
    """Some nodes, one line each, one gateway that dies again and again."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        nodes: int = 3,
        broker_port: int = 9,
        program: Sequence[str] = ("-m", "lamppost_gateway"),
        more: str = "",
    ) -> None:
        self._source = random.Random(seed)
        self.result = KillResult(seed)
        self.nodes = [SenderNode(0x100 + i, seed) for i in range(nodes)]
        self.city = City(folder / "state", self.nodes)
        self.lines = [PtyLine(folder / f"tty{i}") for i in range(nodes)]
        config = self.city.write_config([line.path for line in self.lines], broker_port, more)
        self.gateway = GatewayProcess(config, folder / "gateway.log", program)
        self._clock_ms = 0

    def run(self, rounds: int, longest_s: float = 0.25) -> KillResult:
        """Kill `rounds` times at random instants, then let everything be acknowledged; return what was found."""
        for _ in range(rounds):
            self._round(longest_s)
        self._settle()
        return self.result

    def _round(self, longest_s: float) -> None:
        self.result.rounds += 1
        if self._source.random() < 0.1:
            self.result.kills_before_ready += 1
            try:
                self.gateway.start(deadline_s=self._source.uniform(0.0, 0.5))
            except RuntimeError:
                pass  # killed on its way up, as intended
        else:
            self.gateway.start()
            self._load(self._source.uniform(0.0, longest_s))
        self.gateway.kill()
        self._hear()  # what it wrote before it died counts
        self._clock_ms += _PAST_RESEND_MS
        self.check()

    def _load(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._send(is_new=True)
            select.select([line.master for line in self.lines], [], [], min(left_s, 0.002))
            self._hear()

    def _send(self, is_new: bool) -> None:
        for node, line in zip(self.nodes, self.lines, strict=True):
            if is_new and node.window.owed(node.n + 1) < _MAX_OWED:
                node.n += self._source.choice((1, 1, 2))
            now_ms = self._clock_ms + int(time.monotonic() * 1000)
            while (due := node.window.take(now_ms, node.n + 1, 4)) is not None:
                n, count, is_live = due
                behind = n - node.window.highest - 1
                items = [[kinds.LAMP, 0, 0, 100, 100, n + i] for i in range(count)]
                data = node.frame(n=n, behind=behind, items=items)
                self.result.resent_frames += not is_live
                line.send(slip.FRAME, data)
                node.window.sent(n, count, frame_digest(data), now_ms, 0)

    def _hear(self) -> None:
        for node, line in zip(self.nodes, self.lines, strict=True):
            for message_type, body in line.take():
                if message_type != slip.FRAME:
                    continue
                try:
                    ack = node.acknowledged(body)
                except RemoteError as error:
                    self.result.broken.append(f"acknowledgement: {error}")
                    continue
                node.window.acknowledge(ack.highest, ack.bitmap, ack.digest, node.n + 1)

    def _settle(self) -> None:
        self.gateway.start()
        end_s = time.monotonic() + 30
        while any(node.window.owed(node.n + 1) for node in self.nodes):
            if time.monotonic() > end_s:
                self.result.broken.append("not everything is acknowledged in the end")
                break
            self._clock_ms += 100
            self._send(is_new=False)
            select.select([line.master for line in self.lines], [], [], 0.01)
            self._hear()
        self.gateway.stop()
        self.check()

    def check(self) -> None:
        """Compare the dead gateway's file with what its nodes believe."""
        path = self.city.folder / "outbox.db"
        if not path.exists():
            return
        connection = sqlite3.connect(path)
        stored: dict[tuple[int, int], int] = {}
        try:
            for node, n, count, fresh in connection.execute("SELECT node, n, count, fresh FROM frame"):
                mask = unpack(fresh)
                for i in range(count):
                    if mask >> i & 1:
                        stored[(node, n + i)] = stored.get((node, n + i), 0) + 1
            for (text,) in connection.execute("PRAGMA integrity_check"):
                if text != "ok":
                    self.result.broken.append(text)
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):  # killed before its first migration
                self.result.broken.append(str(error))
        finally:
            connection.close()
        acknowledged = [(node.node, n) for node in self.nodes for n in range(1, node.n + 1) if not node.window.is_owed(n)]
        self.result.acknowledged = len(acknowledged)
        self.result.lost = [key for key in acknowledged if key not in stored]
        self.result.twice = [key for key, times in stored.items() if times > 1]

    def close(self) -> None:
        """End everything."""
        self.gateway.close()
        for line in self.lines:
            line.unplug()
