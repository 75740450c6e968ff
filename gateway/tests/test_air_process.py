"""Real gateway processes fed over UDP by concentrators that speak the protocol's octets: stored before answered, killed or not."""

import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lamppost_gateway.status import ask
from lamppost_protocol import elision
from street.air_node import AirNode
from street.broker import free_port
from street.concentrator import Concentrator, Sent
from street.gateway_rig import City, GatewayProcess, SenderNode

AIR = """[air]
region = "EU868"
uplink_channels_hz = [868100000]
uplink_spreading_factors = [9]
downlink_hz = 869525000
downlink_spreading_factor = 9
[[air.modem]]
name = "roof"
type = "forwarder"
port = {port}
"""
_START_S = 120.0  # how fast the machine is decides nothing
FOREIGN = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")


class Roof:
    """One gateway process with one concentrator, by a real socket."""

    def __init__(self, folder: Path, nodes: list[SenderNode], program: tuple[str, ...]) -> None:
        self.city = City(folder, nodes)
        self.address = ("127.0.0.1", free_port())
        self.config = self.city.write_config([], 9, AIR.format(port=self.address[1]))
        subprocess.run([sys.executable, "-m", "lamppost_gateway", "airtime", "--unspent", "-c", str(self.config)], check=True, timeout=60)
        self.process = GatewayProcess(self.config, folder / "gateway.log", program)
        self.concentrator = Concentrator()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.flown: list[Sent] = []
        self._polled_s = float("-inf")

    def say(self, datagram: bytes) -> None:
        try:
            self.socket.sendto(datagram, self.address)
        except OSError:
            pass  # nobody has the port: the gateway is dead just now

    def step(self) -> list[Sent]:
        """Poll, take what came, and return what has ended on the air by now."""
        now_s = time.monotonic()
        if now_s - self._polled_s > 0.5:
            self._polled_s = now_s
            self.say(self.concentrator.pull())
        while True:
            try:
                datagram = self.socket.recv(4096)
            except OSError:
                break
            for answer in self.concentrator.take(datagram, time.monotonic()):
                self.say(answer)
        over = [sent for sent in self.concentrator.sent if sent.end_s <= time.monotonic() and sent not in self.flown]
        self.flown += over
        return over

    def stored(self) -> set[int]:
        """Record numbers in the outbox."""
        connection = sqlite3.connect(self.city.folder / "outbox.db", timeout=10)
        try:
            rows = connection.execute("SELECT n, count FROM frame").fetchall()
        finally:
            connection.close()
        return {n + i for n, count in rows for i in range(count)}

    def close(self) -> None:
        self.process.close()
        self.socket.close()


class Street:
    """One node that both roofs hear, and its life: a frame until it is answered, newly signed each time."""

    def __init__(self, folder: Path, count: int, program: tuple[str, ...] = ("-m", "lamppost_gateway")) -> None:
        self.node = AirNode(SenderNode(0x11, 1))
        self.roofs = [Roof(folder / f"g{number}", [self.node.sender], program) for number in range(count)]
        self.answers: list[tuple[Roof, set[int]]] = []

    def start(self) -> None:
        for roof in self.roofs:
            roof.process.start(_START_S)

    def live(self, seconds: float) -> bool:
        """Whether an acknowledgement was heard within this time."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            for roof in self.roofs:
                for sent in roof.step():
                    before = len(self.node.acknowledgements())
                    self.node.take(sent.begin_s, sent.end_s, sent.packet)
                    for ack in self.node.acknowledgements()[before:]:
                        covered = {n for n in range(1, ack.highest + 1)} | {ack.highest + 1 + i for i in range(32) if ack.bitmap >> i & 1}
                        self.answers.append((roof, covered))
                        return True
            time.sleep(0.005)
        return False

    def speak(self, frame: bytes) -> None:
        (packet,) = self.node.uplink(frame)
        end_s = time.monotonic()
        self.node.ended(end_s)
        for roof in self.roofs:
            roof.say(roof.concentrator.push(packet, end_s))

    def close(self) -> None:
        for roof in self.roofs:
            roof.close()


@pytest.fixture
def streets(tmp_path: Path) -> Iterator[list[Street]]:
    made: list[Street] = []
    yield made
    for street in made:
        street.close()


@pytest.mark.timeout(600)
def test_frames_over_udp_are_stored_and_answered_faults_included(streets: list[Street], tmp_path: Path) -> None:
    """TX_ACKs lost, requests refused, foreign packets: each frame is answered in the end, once stored, and status shows the modem."""
    streets.append(Street(tmp_path, 1))
    street = streets[0]
    street.start()
    (roof,) = street.roofs
    assert not street.live(1.0)
    for round_number, fault in enumerate(("", "TOO_LATE", "COLLISION_PACKET", "lost", "")):
        roof.concentrator.answers = fault != "lost"
        roof.concentrator.refuses = [fault] if fault and fault != "lost" else []
        roof.say(roof.concentrator.push(FOREIGN, time.monotonic()))
        roof.say(b"\x02\x00\x00\x00" + b"noise without json")
        n = round_number + 1
        for _ in range(20):
            street.speak(street.node.sender.frame(n=n, behind=0))
            if street.live(6.0):
                break
        assert n in street.answers[-1][1]
    assert roof.stored() == {1, 2, 3, 4, 5}
    status = ask(roof.city.folder / "status.sock", "status")
    assert [(modem["name"], modem["up"]) for modem in status["modems"]] == [("roof", True)]
    assert status["nodes"][0]["signal"]["spreading_factor"] == 9
    assert status["nodes"][0]["link"] == "air"


@pytest.mark.timeout(600)
def test_two_gateways_hear_a_node_and_one_dies_while_it_answers(streets: list[Street], tmp_path: Path) -> None:
    """kill -9 with an answer on its way, again and again: whatever an acknowledgement covers is in the outbox of whoever sent it."""
    streets.append(Street(tmp_path, 2))
    street = streets[0]
    street.start()
    source = random.Random(1)
    for n in range(1, 13):
        victim = street.roofs[n % 2] if n % 3 == 0 else None
        for _ in range(20):
            street.speak(street.node.sender.frame(n=n, behind=0))
            if victim is not None:
                street.live(source.uniform(0.3, 1.2))
                victim.process.kill()
                victim.process.start(_START_S)
                victim = None
            if any(n in covered for _, covered in street.answers) or street.live(6.0):
                break
    assert {n for _, covered in street.answers for n in covered} >= set(range(1, 12))
    for roof, covered in street.answers:
        assert covered <= roof.stored(), f"acknowledged and not stored: {sorted(covered - roof.stored())}"
    assert elision.TRAFFIC_ACKNOWLEDGEMENT in {traffic for _, traffic, _ in street.node.heard}
