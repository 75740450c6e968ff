"""One node in lock-step with the city at the far end of its line, both in the test's process: the adapter between bench/lock_step.py
and this project.

Keys come from a seed, so that a seed gives the same octets everywhere. `City` is a gateway and an authority in one, from the real
protocol code; it can be silent, which is what a node sees of a broken line.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.lock_step import HEAP_BYTES, MACHINE_SOURCES, LineEnd, LockStepBoard
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.ether import Ether
from bench.peripherals.street import Street
from bench.rom_image import ROM_FOLDER
from lamppost_protocol import beacons, cbor, cose, frames, hello, orders, releases, slip, tickets
from lamppost_protocol.arq import ReceiveWindow
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier, public_key
from lamppost_protocol.hop import HopKey
from lamppost_protocol.p256_tables import build_generator_table, build_table
from lamppost_protocol.records import Uplink, decode_uplink
from lamppost_protocol.regions import REGIONS
from lamppost_tools.node.enrol import checked_value

from street.air_city import AirCity, Citizen
from street.e22_city import E22City
from street.node_device import HEAP_BYTES as CHIP_HEAP_BYTES
from street.node_device import LIBRARY, ROM_LIBRARY, STATE, compile_for_device, compiled_firmware

NETWORK, NODE, EPOCH, ISSUER = 0x00C0FFEE, 0x0A0B0C0D, 1, 0x63
#: (teeth, blocks) of the comb tables by their size in KB.
TABLES = {2: (5, 2), 8: (6, 4)}
_AIR_STEP_S = 0.4  # the city answers a second after it heard: it must have heard by then
_PIECE_S = 0.025  # on the line; what is said for one instant would change its order
_REACTION_S = 0.03  # a gateway's commit window and a little


class Keys:
    """A node's and its authority's keys, from a seed: never anybody's outside a test."""

    def __init__(self, seed: int) -> None:
        self.private, self.command_private, self.hop, self.foreign = (
            hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in ("node", "command", "hop", "foreign")
        )
        self.public = public_key(self.private)
        self.command_public = public_key(self.command_private)


def node_files(keys: Keys, config: Mapping[str, Any], table_kb: int = 2) -> dict[str, bytes]:
    """What enrolment writes for a node's flash, by its path on the device."""
    x, y = (int.from_bytes(part, "big") for part in (keys.command_public[:32], keys.command_public[32:]))
    identity = {
        "network": NETWORK, "node": NODE, "epoch": EPOCH, "private_key": keys.private, "hop_key": keys.hop,
        "issuer": ISSUER.to_bytes(4, "big"), "command_key": keys.command_public,
    }  # fmt: skip
    files = {
        "identity.cbor": cbor.encode(identity),
        "config.cbor": cbor.encode(dict(config)),
        "tables/generator.tbl": build_generator_table(*TABLES[table_kb]),
        "tables/command.tbl": build_table(x, y, *TABLES[table_kb]),
        **{f"counters/tx.{copy}": checked_value([EPOCH, 0]) for copy in (0, 1)},
    }
    if "lora" in config:
        files |= {f"settings/airtime.{band.name}": checked_value(0) for band in REGIONS[config["lora"]["region"]]}
    return {f"{STATE}/{name}": content for name, content in files.items()}


def image_files(folder: Path, is_rom: bool = False) -> dict[str, bytes]:
    """This tree's firmware as bytecode, and the lock-step `machine`, by path on the device. `is_rom`: both in ROMFS, which RV32 has."""
    files = compiled_firmware(folder / "image", is_rom)
    machine = compile_for_device(folder / "lock-step-machine", MACHINE_SOURCES)
    return files | {f"{ROM_LIBRARY if is_rom else LIBRARY}/{name}": content for name, content in machine.items()}


class City(LineEnd):
    """Hears every frame (`heard`, by arrival), keeps each record once (`records`: n to content, `times`: n to unix seconds as last told).

    `is_silent`: it says nothing. `is_deaf`: it does not even hear. `loses`: called for every word either way, True loses it.
    """

    def __init__(self, keys: Keys, start_unix: float) -> None:
        super().__init__()
        self.start_unix = start_unix
        self.decoder = slip.Decoder()
        self._verifier = HostVerifier(keys.public)
        self._signer = HostSigner(keys.command_private)
        self._foreign = HostSigner(keys.foreign)
        self._hop = HopKey(keys.hop)
        self.window = ReceiveWindow()
        self.is_silent = False
        self.is_deaf = False
        self.loses = _nothing
        self.heard: list[tuple[float, Uplink]] = []
        self.records: dict[int, list[Any]] = {}
        self.times: dict[int, int] = {}
        self.hellos: list[tuple[float, hello.Hello]] = []
        self.logs: list[tuple[float, str]] = []
        self.answers: list[tickets.Facts | tickets.Answer] = []
        """What the node said to a technician."""
        self.broken = 0
        self.beacons = 0
        self.bodies: dict[bytes, bytes] = {}
        """Releases' bodies by the name in a want, which it answers with pieces."""
        self.wants: list[tuple[float, releases.Want]] = []
        self.spoil: Callable[[releases.Piece], releases.Piece] = _as_it_is
        self.said: list[bytes] = []
        """Every order ever said, for whoever wants to say one again."""
        self._order_id = 0

    def command(self, data: bytes, now_s: float) -> None:
        for message_type, body in self.decoder.feed(data):
            if self.is_deaf or self.loses():
                continue
            if message_type == slip.HELLO:
                found = hello.decode_hello(body)
                self.hellos.append((now_s, found))
                if found.nonce is not None:
                    self.beacon(now_s, found.nonce)
            elif message_type == slip.LOG:
                self.logs.append((now_s, body.decode(errors="replace")))
            elif message_type == slip.FRAME:
                self._take_frame(body, now_s)
            elif message_type == slip.WANT:
                self._take_want(releases.decode_want(body), now_s)
            elif message_type == slip.SERVICE_ANSWER:
                self.answers.append(tickets.decode_answer(body))

    def _take_want(self, want: releases.Want, now_s: float) -> None:
        assert (want.network, want.node) == (NETWORK, NODE)
        self.wants.append((now_s, want))
        body = self.bodies.get(want.release, b"")
        end = min(len(body), want.first + want.count * releases.PIECE_BYTES)
        for index, at in enumerate(range(want.first, end, releases.PIECE_BYTES)):
            piece = self.spoil(releases.Piece(want.release, at, body[at : at + releases.PIECE_BYTES]))
            if not self.is_silent and not self.loses():
                self.say(now_s + _REACTION_S + index * _PIECE_S, slip.encode(slip.PIECE, releases.encode_piece(piece)))

    def release(self, body: bytes, base: bytes, sequence: int, version: str, heap_bytes: int = 0, is_forged: bool = False) -> bytes:
        """The signed manifest of a body, which can be fetched from now on."""
        digest = hashlib.sha256(body).digest()
        self.bodies[digest[: releases.NAME_BYTES]] = body
        manifest = releases.Manifest(sequence, base, version, heap_bytes, len(body), digest)
        return releases.seal_manifest(self._foreign if is_forged else self._signer, NETWORK, ISSUER, manifest)

    def _take_frame(self, body: bytes, now_s: float) -> None:
        try:
            message = cose.decode(body)
            uplink = decode_uplink(frames.open_signed(message, self._verifier, frames.UPLINK, NETWORK, NODE, EPOCH))
        except RemoteError:
            self.broken += 1
            return
        self.heard.append((now_s, uplink))
        for index, record in enumerate(uplink.records):
            n, content = uplink.n + index, [record[0], *record[2:]]
            kept = self.records.setdefault(n, content)
            assert kept == content, f"number {n} used for {kept} and for {content}"
            if record[1] is not None:
                self.times[n] = record[1] + (uplink.t if uplink.t is not None else int(self.unix(now_s)))
        self.window.note(uplink.n, len(uplink.records), uplink.behind)
        digest = frames.frame_digest(body)
        acknowledgement = frames.seal_acknowledgement(self._hop, NETWORK, NODE, EPOCH, self.window.highest, self.window.bitmap32(), digest)
        self.send_frame(now_s + _REACTION_S, acknowledgement)

    def unix(self, now_s: float) -> float:
        """City time."""
        return self.start_unix + now_s

    def send_frame(self, at_s: float, frame: bytes) -> None:
        """Put it on the line towards the node, unless the line is down."""
        if not self.is_silent and not self.loses():
            self.say(at_s, slip.encode(slip.FRAME, frame))

    def beacon(self, now_s: float, nonce: bytes | None) -> None:
        """Sign and send the time: to the node with its nonce, or to all."""
        unix = int(self.unix(now_s + _REACTION_S))
        node, epoch = (NODE, EPOCH) if nonce is not None else (0, 0)
        self.beacons += 1
        payload = beacons.encode_beacon(unix, nonce)
        self.send_frame(now_s + _REACTION_S, frames.seal(self._signer, frames.BEACON, NETWORK, node, epoch, ISSUER, unix, payload))

    def order(
        self,
        now_s: float,
        verb: int,
        target: int,
        arguments: Sequence[Any],
        life: tuple[int, int] | None = None,
        is_forged: bool = False,
    ) -> int:
        """Sign and send an order, valid for an hour unless `life` says otherwise; its id. `is_forged`: under another's key."""
        self._order_id += 1
        first, last = life or (int(self.unix(now_s)) - 10, int(self.unix(now_s)) + 3600)
        payload = orders.encode_order(first, last, verb, target, list(arguments))
        signer = self._foreign if is_forged else self._signer
        frame = frames.seal(signer, frames.ORDER, NETWORK, NODE, EPOCH, ISSUER, self._order_id, payload)
        if is_forged:
            self._order_id -= 1
        else:
            self.said.append(frame)
        self.send_frame(now_s, frame)
        return self._order_id

    def states(self, order_id: int) -> list[tuple[int, int]]:
        """(state, reason) of every record about an order, in the order of their numbers."""
        found = [self.records[n] for n in sorted(self.records) if self.records[n][0] == 5 and self.records[n][2] == order_id]
        return [(record[3], record[4]) for record in found]

    def of_kind(self, kind: int) -> list[tuple[int, list[Any]]]:
        """(unix seconds, [q, values ...]) of all records of a kind that were dated, in the order of their numbers."""
        return [(self.times[n], record[1:]) for n, record in sorted(self.records.items()) if record[0] == kind and n in self.times]


def _nothing() -> bool:
    return False


def _as_it_is(piece: releases.Piece) -> releases.Piece:
    return piece


class LoneNode:
    """A node of one wiring, its street, its city: a context manager. It has no power yet.

    `heap_bytes`: without it a chip's where the image lies in ROMFS, else the board's own.
    """

    def __init__(
        self,
        folder: Path,
        image: Mapping[str, bytes],
        config: Mapping[str, Any],
        wiring: str,
        start_unix_s: int,
        seed: int,
        table_kb: int = 2,
        on_vm: bool = False,
        heap_bytes: int | None = None,
        up_ms: int = 0,
        ether: Ether | None = None,
    ) -> None:
        self.keys = Keys(seed)
        self.street = Street(seed, start_unix_s)
        self.cabinet = Cabinet("lone", wiring, self.street, ether=ether)
        self.city = City(self.keys, start_unix_s)
        files = {**image, **node_files(self.keys, config, table_kb)}
        if heap_bytes is None:
            heap_bytes = CHIP_HEAP_BYTES if any(path.startswith(ROM_FOLDER) for path in image) else HEAP_BYTES
        self.board = LockStepBoard(folder, files, self.street, self.cabinet, self.city, on_vm, heap_bytes, up_ms)

    def __enter__(self) -> "LoneNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.board.__exit__()


class LoneAirNode(LoneNode):
    """A node whose link is LoRa, and the city's antenna `x_m` away (`air`); its cable only carries what `city` hears of its log."""

    def __init__(
        self,
        folder: Path,
        image: Mapping[str, bytes],
        config: Mapping[str, Any],
        start_unix_s: int,
        seed: int,
        on_vm: bool,
        x_m: float = 300.0,
        wiring: str = "bin_radio",
        heap_bytes: int | None = None,
    ) -> None:
        ether = Ether(seed)
        super().__init__(folder, image, config, wiring, start_unix_s, seed, on_vm=on_vm, heap_bytes=heap_bytes, ether=ether)
        self.cabinet.set("x_m", x_m)
        self.city.quiet_limit_ms = 60_000
        lora = config["lora"]
        downlink = lora["downlink_hz"], lora.get("downlink_spreading_factor", 9), lora.get("downlink_bandwidth_hz", 125_000)
        city = E22City if config.get("radio") == "e22" else AirCity
        self.air = city(ether, NETWORK, ISSUER, HostSigner(self.keys.command_private), start_unix_s, downlink)
        self.air.bodies = self.city.bodies
        self.citizen = self.air.citizens[NODE] = Citizen(HostVerifier(self.keys.public), HopKey(self.keys.hop))

    def run(self, until_s: float) -> bool:
        """The board and the air up to then; False when power failed before."""
        while self.board.now_s < until_s:
            if not self.board.run(min(until_s, self.board.now_s + _AIR_STEP_S)):
                return False
            self.air.advance(self.board.now_s)
        return True

    def run_until(self, condition: Callable[[], object], deadline_s: float, what: str) -> None:
        """Until it holds; fails naming `what` after `deadline_s` of the world."""
        end_s = self.board.now_s + deadline_s
        while not condition():
            assert self.board.now_s < end_s, self.board.describe("no " + what)
            assert self.run(self.board.now_s + 1), self.board.describe("no power while waiting for " + what)

    def log(self) -> list[str]:
        """What it said on its cable."""
        return [line for _, line in self.city.logs]
