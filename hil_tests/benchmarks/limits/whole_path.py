"""The limit of the gateway's whole path: the shortest script that reads, verifies, stores, acknowledges and publishes.

Same octets in and out as the gateway: SLIP, COSE with ES256, a counter check, one SQLite commit (WAL, FULL) per 20 ms window, a
COSE acknowledgement, the raw frame and one JSON document per record by QoS 1, the row marked after its PUBACKs. What it leaves out
is what makes a gateway: strict decoding, replay windows and gaps over restarts, kept refusals, back-fill, orders, metrics, reconnecting.

`--publisher` picks the MQTT side: `aiomqtt` (its documented call, one task per message), `callbacks` (the same client, its inner
callbacks used as gateway/lamppost_gateway/broker.py does) or `bare` (hand-written MQTT 5, QoS 1 only).
"""

import argparse
import asyncio
import json
import os
import sqlite3
import time
import tty
from binascii import crc32
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import aiomqtt
import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hmac import HMAC
from lamppost_protocol.profiles import LAMP_CAUSES, PROFILES
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WINDOW_S = 0.02
ES256 = ec.ECDSA(hashes.SHA256())


class Tasks:
    """aiomqtt as its documentation shows it."""

    def __init__(self, port, is_5):
        self.port, self.is_5 = port, is_5

    async def open(self):
        version = aiomqtt.ProtocolVersion.V5 if self.is_5 else aiomqtt.ProtocolVersion.V311
        self.client = aiomqtt.Client("127.0.0.1", self.port, protocol=version, timeout=60)
        await self.client.__aenter__()
        self.room = asyncio.Semaphore(20)

    async def send(self, topic, payload, content_type, pairs, done):
        await self.room.acquire()
        asyncio.get_running_loop().create_task(self._publish(topic, payload, self.properties(content_type, pairs), done))

    async def _publish(self, topic, payload, options, done):
        await self.client.publish(topic, payload, qos=1, properties=options)
        self.room.release()
        done()

    def properties(self, content_type, pairs):
        if not self.is_5:
            return None
        made = Properties(PacketTypes.PUBLISH)
        made.ContentType = content_type
        made.PayloadFormatIndicator = int(content_type == "application/json")
        if pairs:
            made.UserProperty = pairs
        return made


class Callbacks(Tasks):
    """The same client without a task per message."""

    async def open(self):
        await super().open()
        self.waiting = {}
        self.client._client.on_publish = self._acknowledged

    async def send(self, topic, payload, content_type, pairs, done):
        await self.room.acquire()
        info = self.client._client.publish(topic, payload, 1, properties=self.properties(content_type, pairs))
        self.waiting[info.mid] = done

    def _acknowledged(self, client, userdata, mid, *rest):
        self.room.release()
        self.waiting.pop(mid)()


class Bare(asyncio.Protocol):
    """MQTT by hand, publishing with QoS 1 and nothing else."""

    def __init__(self, port, is_5):
        self.port, self.is_5, self.mid, self.waiting, self.pending = port, is_5, 0, {}, b""
        self.room = asyncio.Semaphore(20)

    async def open(self):
        self.opened = asyncio.get_running_loop().create_future()
        self.transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)
        self.transport.max_size = 4096
        level = b"\x05\x02\x00\x3c\x00" if self.is_5 else b"\x04\x02\x00\x3c"
        self.transport.write(packet(0x10, text("MQTT") + level + text("limit")))
        await self.opened

    async def send(self, topic, payload, content_type, pairs, done):
        await self.room.acquire()
        self.mid = self.mid % 65535 + 1
        self.waiting[self.mid] = done
        body = text(topic) + self.mid.to_bytes(2, "big")
        if self.is_5:
            options = b"\x01%c\x03" % (content_type == "application/json") + text(content_type)
            options += b"".join(b"\x26" + text(key) + text(value) for key, value in pairs)
            body += length(len(options)) + options
        self.transport.write(packet(0x32, body + payload))

    def data_received(self, data):
        data = self.pending + data
        while len(data) >= 2 and len(data) >= 2 + data[1]:  # nothing that comes here is longer than 127 octets
            kind, body, data = data[0], data[2 : 2 + data[1]], data[2 + data[1] :]
            if kind == 0x40:
                self.room.release()
                self.waiting.pop(int.from_bytes(body[:2], "big"))()
            elif kind == 0x20:
                self.opened.set_result(None)
        self.pending = data


def length(size):
    return bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))


def text(value):
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def packet(kind, body):
    return bytes((kind,)) + length(len(body)) + body


class Gateway:
    def __init__(self, options):
        registry = json.loads((options.folder / "registry.json").read_text())
        self.network = registry["network"]
        hop_keys = json.loads((options.folder / "hop-keys.json").read_text())
        self.nodes = {}
        for name, entry in registry["nodes"].items():
            node = int(name, 16)
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + bytes.fromhex(entry["public_key"]))
            aad = [cbor2.dumps(["lamppost/1", way, int(self.network, 16), node, entry["epoch"]]) for way in (0, 3)]
            self.nodes[node] = [key, aad, HMAC(bytes.fromhex(hop_keys[name]), hashes.SHA256()), 0, 0]
        self.publisher = {"aiomqtt": Tasks, "callbacks": Callbacks, "bare": Bare}[options.publisher](options.port, options.mqtt == "5")
        self.store = sqlite3.connect(options.folder / "outbox.db", isolation_level=None, check_same_thread=False)
        self.store.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE frame (id INTEGER PRIMARY KEY, node, epoch, tx, n, received_at_ms, data, published_at_ms);"
            "CREATE INDEX unpublished ON frame (id) WHERE published_at_ms IS NULL;"
            "CREATE TABLE node_state (node INTEGER PRIMARY KEY, tx, n);"
        )
        self.writer = ThreadPoolExecutor(1)
        self.heard, self.published, self.next_id = [], [], 1
        self.wake, self.to_send = asyncio.Event(), asyncio.Queue()
        self.rest = {}

    def read(self, fd):
        *pieces, self.rest[fd] = (self.rest.get(fd, b"") + os.read(fd, 4096)).split(b"\xc0")
        for piece in pieces:
            plain = piece.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
            if len(plain) > 5 and plain[0] == 1 and crc32(plain[:-4]) == int.from_bytes(plain[-4:], "big"):
                self.heard.append((fd, plain[1:-4], int(time.time() * 1000)))
                self.wake.set()

    def verified(self, fd, data, at_ms):
        protected, _, payload, proof = cbor2.loads(data).value
        header = cbor2.loads(protected)
        node, tx = int.from_bytes(header[4], "big"), int.from_bytes(header[6], "big")
        state = self.nodes[node]
        if tx <= state[3]:
            return None
        signature = encode_dss_signature(int.from_bytes(proof[:32], "big"), int.from_bytes(proof[32:], "big"))
        state[0].verify(signature, cbor2.dumps(["Signature1", protected, state[1][0], payload]), ES256)
        n, _behind, t, clock, *records = cbor2.loads(payload)
        state[3], state[4] = tx, n + len(records) - 1
        self.next_id += 1
        return (self.next_id - 1, node, 1, tx, n, at_ms, data), fd, t, clock, records

    def commit(self, rows, states, published):
        self.store.execute("BEGIN")
        self.store.executemany("INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", rows)
        self.store.executemany("INSERT OR REPLACE INTO node_state VALUES (?, ?, ?)", states)
        self.store.executemany("UPDATE frame SET published_at_ms = ? WHERE id = ?", published)
        self.store.execute("COMMIT")

    async def run(self, paths):
        await self.publisher.open()
        loop = asyncio.get_running_loop()
        for path in paths:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(fd)
            loop.add_reader(fd, self.read, fd)
        publishing = loop.create_task(self.publish())
        print("ready", flush=True)
        last_s = 0.0
        while not publishing.done():
            try:
                await asyncio.wait_for(self.wake.wait(), 0.5)
            except TimeoutError:
                pass
            await asyncio.sleep(max(0.0, last_s + WINDOW_S - loop.time()))
            last_s = loop.time()
            self.wake.clear()
            batch, self.heard = self.heard[:512], self.heard[512:]
            if self.heard:
                self.wake.set()
            fresh = [frame for item in batch if (frame := self.verified(*item))]
            published, self.published = self.published, []
            if not fresh and not published:
                continue
            newest = {frame[0][1]: frame for frame in fresh}
            states = [(node, self.nodes[node][3], self.nodes[node][4]) for node in newest]
            await loop.run_in_executor(self.writer, self.commit, [frame[0] for frame in fresh], states, published)
            for node, frame in newest.items():
                self.acknowledge(node, frame[1], frame[0][6])
            for frame in fresh:
                self.to_send.put_nowait(frame)

    def acknowledge(self, node, fd, data):
        state = self.nodes[node]
        protected = cbor2.dumps({1: 4, 4: node.to_bytes(4, "big")})
        payload = cbor2.dumps([state[4], 0, sha256(data).digest()[:8]])
        mac = state[2].copy()
        mac.update(cbor2.dumps(["MAC0", protected, state[1][1], payload]))
        message = b"\x01" + cbor2.dumps(cbor2.CBORTag(17, [protected, {}, payload, mac.finalize()[:8]]))
        message += crc32(message).to_bytes(4, "big")
        os.write(fd, b"\xc0" + message.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

    async def publish(self):
        while True:
            row, _, t, clock, records = await self.to_send.get()
            row_id, node, epoch, _, n, at_ms, data = row
            name = f"{node:08x}"
            at = iso(at_ms / 1000, "milliseconds")
            left = [1 + len(records)]

            def done(left=left, row_id=row_id):
                left[0] -= 1
                if left[0] == 0:
                    self.published.append((int(time.time() * 1000), row_id))

            pairs = [("epoch", str(epoch)), ("n", str(n)), ("received_at", at), ("late", "false"), ("gateway", "g1")]
            base = f"lamppost/v1/{self.network}/node/{name}"
            await self.publisher.send(base + "/frame", data, 'application/cose; cose-type="cose-sign1"', pairs, done)
            for i, (kind, dt, quality, *values) in enumerate(records):
                profile = PROFILES[kind & 63]
                shown = {}
                for column, value in zip(profile.columns, values, strict=False):
                    scaled = value / 10**-column.scale if column.scale < 0 else value
                    shown[column.name] = {"value": scaled, "unit": column.unit, "path": column.path}
                    if column.name == "cause":
                        shown[column.name]["word"] = LAMP_CAUSES[value]
                    elif column.unit == "bits":
                        shown[column.name]["words"] = []
                document = {
                    "v": 1,
                    "node": name,
                    "fixture": profile.name,
                    "instance": 0,
                    "profile": profile.name,
                    "profile_id": profile.id,
                    "epoch": epoch,
                    "n": n + i,
                    "time": iso(t + dt, "seconds"),
                    "clock": {"state": "synced", "uncertainty_s": clock, "age_s": None},
                    "quality": "good" if quality == 0 else "other",
                    "late": False,
                    "verified": True,
                    "values": shown,
                    "gateway": "g1",
                    "received_at": at,
                }
                body = json.dumps(document, separators=(",", ":")).encode()
                await self.publisher.send(f"{base}/record/{profile.name}", body, "application/json", [], done)


def iso(unix_s, resolution):
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec=resolution).replace("+00:00", "Z")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mqtt", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--publisher", choices=("aiomqtt", "callbacks", "bare"), required=True)
    parser.add_argument("lines", nargs="+")
    arguments = parser.parse_args()
    asyncio.run(Gateway(arguments).run(arguments.lines))
