"""Writes protocol/vectors/*.json from the cases below: `python protocol/make_vectors.py`. Results come from the code; the tests then hold
them against independent libraries (cbor2, cryptography), and WIRE.md's examples against them. Keys here are for vectors only.
"""

import json
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "tests")]

import cbor2  # noqa: E402
import vector_runner  # noqa: E402
from lamppost_protocol import cbor, elision, slip, tickets  # noqa: E402
from lamppost_protocol.es256_host import public_key  # noqa: E402
from lamppost_protocol.p256_tables import build_generator_table  # noqa: E402
from lamppost_protocol.radio_limits import E22_WRAP  # noqa: E402

NODE_KEY = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"  # RFC 6979 A.2.5: public for ever
HOP_KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
NEXT_KEY = "8f1a" + "5b" * 30  # the node's in its next epoch
NETWORK, NODE, EPOCH, ISSUER = 123456, 0x0A0B0C0D, 1, 0xA1000001
T = 1793620800  # 2026-11-02T12:00:00Z
HELLO = "89011a0001e2401a0a0b0c0d0100480102030405060708" + "02" + "12" + "65" + "302e312e30"


def case(name: str, op: str, **inputs: object) -> dict:
    return {"id": name, "op": op, "in": inputs}


def cbor_cases() -> list[dict]:
    good = {
        "nested": "8201a201026161f6",
        "uint-23": "17", "uint-24": "1818", "uint-255": "18ff", "uint-256": "190100", "uint-65535": "19ffff",
        "uint-65536": "1a00010000", "uint-2^32-1": "1affffffff", "uint-2^32": "1b0000000100000000",
        "uint-2^64-1": "1bffffffffffffffff", "negative-1": "20", "negative-24": "37", "negative-25": "3818",
        "negative-2^63": "3b7fffffffffffffff", "empty-array": "80", "empty-map": "a0", "empty-bytes": "40", "text": "63616263",
        "booleans": "83f4f5f6", "depth-6": "818181818180", "map-sorted": "a3010220036161f5",
    }  # fmt: skip
    bad = {
        "empty": "", "trailing": "0000", "uint-23-long": "1817", "uint-255-long": "1900ff", "uint-65535-long": "1a0000ffff",
        "uint-2^32-1-long": "1b00000000ffffffff", "length-long": "5800", "indefinite-array": "9fff", "indefinite-bytes": "5f41ffff",
        "indefinite-map": "bfff", "reserved-28": "1c", "reserved-31": "1f", "float16": "f93c00", "float32": "fa3f800000",
        "float64": "fb3ff0000000000000", "undefined": "f7", "simple": "e0", "simple-byte": "f8ff", "tag": "c101", "break": "ff",
        "duplicate-key": "a201020103", "unsorted-keys": "a202020103", "bytes-key": "a1410102", "true-key": "a1f501",
        "array-key": "a18001", "truncated-uint": "19ff", "truncated-bytes": "4401", "truncated-array": "8201", "utf8": "62c3a9",
        "invalid-utf8": "61ff", "depth-7": "81818181818180", "bomb": "81" * 200, "negative-below": "3b8000000000000000",
        "huge-array": "9a00ffffff", "huge-bytes": "5affffffff00", "too-many-items": "9881" + "00" * 129,
    }  # fmt: skip
    cases = [case("cbor-" + name, "cbor.decode", data=data) for name, data in good.items()]
    cases += [case("cbor-refused-" + name, "cbor.decode", data=data) for name, data in bad.items()]
    values = {
        "map-order": {"map": [["b", 1], [-1, 2], [300, 3], ["aa", 4], [5, 6]]},
        "record": [1, 0, 0, 60, 60, 472, None],
        "too-deep": [[[[[[[1]]]]]]],
        "too-large": 1 << 64,
        "too-small": -(1 << 63) - 1,
    }
    return cases + [case("cbor-encode-" + name, "cbor.encode", value=value) for name, value in values.items()]


UPLINKS = {
    "lamp": [17, 0, T, 2, [[1, 0, 0, 60, 60, 472, 2310, 215, 950, 123456, 1, 0]]],
    "bin": [4711, 3, T, 40, [[2, 0, 0, 630, 47, 185, 0], [2, 900, 2, None, None, 184, 0]]],
    "air": [1, 0, None, None, [[3, -5, 3, 4, 8, 11, 78, 214, 482, 1, 120]]],
    "second-fixture": [70000, 65535, T, 0, [[65, 0, 0, 100, 100, 601, 2301, 275, 960, 9, 3, 0], [4, None, 0, 3]]],
    "unknown-profile": [2, 1, T, 1, [[9, 0, 0, 1, 2, 3]]],
    "largest-n": [(1 << 48) - 7, 0, T, 1, [[1, 0, 0]]],
}


def frame_cases() -> list[dict]:
    keys = ("n", "behind", "t", "clock", "records")
    cases = []
    signers = vector_runner.Signers(TABLES)
    for name, values in UPLINKS.items():
        inputs = dict(zip(keys, values, strict=True))
        encoded = case("uplink-" + name, "records.encode_uplink", **inputs)
        cases.append(encoded)
        payload = vector_runner.run_case(encoded, signers)["out"]["payload"]
        cases.append(case("uplink-decode-" + name, "records.decode_uplink", payload=payload))
        cases.append(
            case(
                "frame-" + name, "frames.seal", private_key=NODE_KEY, direction=0, network=NETWORK, node=NODE, epoch=EPOCH,
                kid=NODE, tx=65 + len(cases), payload=payload,
            )
        )  # fmt: skip
    refused = {
        "n-0": "85000000 00 83010000", "behind-n": "8501011a6ae87b4002 83010000", "no-record": "8401001a6ae87b4002",
        "time-without-clock": "8501001a6ae87b40f683010000", "clock-without-time": "850100f60283010000",
        "kind-0": "8501001a6ae87b400283000000", "kind-64": "8501001a6ae87b4002831840 0000", "kind-too-large": "8501001a6ae87b4002831904000000",
        "q-64": "8501001a6ae87b40028301001840", "text-value": "8501001a6ae87b4002840100006161", "true-value": "8501001a6ae87b400284010000f5",
        "positive-dt": "850100f6f683010100", "record-short": "8501001a6ae87b4002820100", "not-an-array": "01", "trailing": "8501001a6ae87b40028301000000",
    }  # fmt: skip
    cases += [case("uplink-refused-" + n, "records.decode_uplink", payload=p.replace(" ", "")) for n, p in refused.items()]
    cases.append(
        case("frame-next-epoch", "frames.seal", private_key=NEXT_KEY, direction=0, network=NETWORK, node=NODE, epoch=EPOCH + 1, kid=NODE,
             tx=64, payload=vector_runner.run_case(cases[0], signers)["out"]["payload"])
    )  # fmt: skip
    edges = {"tx-1": 1, "tx-255": 255, "tx-256": 256, "tx-65535": 65535, "tx-65536": 65536, "tx-2^32-1": 0xFFFFFFFF,
             "tx-2^32": 1 << 32, "tx-0": 0}  # fmt: skip
    cases += [
        case("frame-" + name, "frames.seal", private_key=NODE_KEY, direction=0, network=NETWORK, node=NODE, epoch=EPOCH, kid=NODE,
             tx=tx, payload="8501001a6ae87b400283010000")
        for name, tx in edges.items()
    ]  # fmt: skip
    return cases


def cose_cases() -> list[dict]:
    signers = vector_runner.Signers(TABLES)
    sealed = vector_runner.run_case(
        case("", "frames.seal", private_key=NODE_KEY, direction=0, network=NETWORK, node=NODE, epoch=EPOCH, kid=NODE, tx=300,
             payload="8501001a6ae87b400283010000"), signers)["out"]  # fmt: skip
    frame = sealed["frame"]
    header = sealed["protected"]  # a3 01 26 04 44 0a0b0c0d 06 42 012c
    assert header == "a3012604440a0b0c0d0642012c"
    body = frame[len("d284") + 2 + len(header) :]  # a0 payload proof

    def with_header(protected: str) -> str:
        return "d284" + f"{0x40 + len(protected) // 2:02x}" + protected + body

    bad = {
        "wrong-tag": "d1" + frame[2:], "no-tag": frame[2:], "long-tag": "d812" + frame[2:], "trailing": frame + "00",
        "truncated": frame[:-2], "unprotected": frame[: -len(body)] + "a10126" + body[2:],
        "alg-es384": with_header("a301382204440a0b0c0d0642012c"), "alg-hmac": with_header("a3010404440a0b0c0d0642012c"),
        "alg-text": with_header("a301654553323536" + "04440a0b0c0d0642012c"), "no-alg": with_header("a204440a0b0c0d0642012c"),
        "alg-only-unprotected": "d2844b" + "a204440a0b0c0d0642012c" + "a10126" + body[2:],
        "crit": with_header("a40126028101" + "04440a0b0c0d0642012c"), "unknown-header": with_header("a4012604440a0b0c0d0642012c1863f6"),
        "kid-3": with_header("a3012604430b0c0d0642012c"), "kid-text": with_header("a3012604646162636406" + "42012c"),
        "piv-leading-zero": with_header("a3012604440a0b0c0d064300012c"), "piv-empty": with_header("a3012604440a0b0c0d0640"),
        "piv-5": with_header("a3012604440a0b0c0d06450100000000"), "duplicate-kid": with_header("a4012604440a0b0c0d04440a0b0c0d0642012c"),
        "header-unsorted": with_header("a304440a0b0c0d01260642012c"), "header-not-map": with_header("80"),
        "five-parts": "d285" + frame[4:] + "40", "payload-null": "d2844d" + header + "a0f6" + body[-132:],
        "proof-63": frame[:-132] + "583f" + frame[-126:], "empty": "", "one-octet": "d2", "over-1024": "d2" + "00" * 1024,
    }  # fmt: skip
    cases = [case("cose-uplink", "cose.decode", data=frame)]
    cases += [case("cose-refused-" + name, "cose.decode", data=data) for name, data in bad.items()]
    acknowledged = {}
    for name, highest, bitmap, more in (
        ("acknowledgement", 17, 0, {}), ("acknowledgement-bitmap", 70000, 0x80000005, {}), ("acknowledgement-steps", 17, 0, {"steps": 2}),
        ("acknowledgement-back", (1 << 48) - 1, 0xFFFFFFFF, {"steps": -8}), ("acknowledgement-nine", 17, 0, {"steps": 9}),
        ("acknowledgement-minus-nine", 17, 0, {"steps": -9}), ("acknowledgement-true", 17, 0, {"steps": True}),
    ):  # fmt: skip
        made = case(name, "frames.seal_acknowledgement", hop_key=HOP_KEY, network=NETWORK, node=NODE, epoch=EPOCH, highest=highest,
                    bitmap=bitmap, digest="0011223344556677", **more)  # fmt: skip
        acknowledged[name] = vector_runner.run_case(made, signers)["out"]["frame"]
        if name[16:] not in ("nine", "minus-nine", "true"):
            cases.append(made)
    tagged = acknowledged["acknowledgement"]
    context = {"hop_key": HOP_KEY, "network": NETWORK, "node": NODE, "epoch": EPOCH}
    variants = {
        "ok": (tagged, {}), "bit-flip": (tagged[:-2] + f"{int(tagged[-2:], 16) ^ 1:02x}", {}), "other-network": (tagged, {"network": 1}),
        "other-node": (tagged, {"node": 1}), "other-epoch": (tagged, {"epoch": 2}), "other-key": (tagged, {"hop_key": "ff" * 32}),
        "sign1": (frame, {}), "steps": (acknowledged["acknowledgement-steps"], {}), "back": (acknowledged["acknowledgement-back"], {}),
        "nine": (acknowledged["acknowledgement-nine"], {}), "minus-nine": (acknowledged["acknowledgement-minus-nine"], {}),
        "true": (acknowledged["acknowledgement-true"], {}),
    }  # fmt: skip
    for name, (data, change) in variants.items():
        cases.append(case("acknowledgement-open-" + name, "frames.open_acknowledgement", **{**context, "data": data, **change}))
    return cases


def downlink_cases() -> list[dict]:
    orders = {
        "level": (T, T + 3600, 1, 1, [60, 30]), "dark": (T, T + 60, 1, 65, [0, 0]), "cancel": (T, T + 60, 2, 1, [41]),
        "configure": (T, T + 60, 4, 0, [{"h": "a0"}]), "resend": (T, T + 60, 5, 0, [1, 4096]),
        "update": (T, T + 864000, 6, 0, [{"h": "d284"}]), "update-of-lamp": (T, T + 60, 6, 1, [{"h": "d284"}]),
        "level-101": (T, T + 60, 1, 1, [101, 0]), "never": (T, T, 1, 1, [50, 0]), "level-of-node": (T, T + 60, 1, 0, [50, 0]),
        "resend-backwards": (T, T + 60, 5, 0, [9, 3]), "unknown-verb": (T, T + 60, 77, 0, []),
    }  # fmt: skip
    cases = []
    for name, (not_before, not_after, verb, target, args) in orders.items():
        cases.append(
            case(
                "order-" + name,
                "orders.encode_order",
                not_before=not_before,
                not_after=not_after,
                verb=verb,
                target=target,
                args=args,
            )
        )
    level = "861a6ae87b401a6ae889500101183c181e"
    for name, payload in {
        "level": level, "short": "831a6ae87b401a6ae8895001", "text": "6161", "trailing": level + "00", "level-true": "861a6ae87b401a6ae889500101f500",
        "nested-too-deep": "851a6ae87b401a6ae8895003018181818181818100",
        "argument-map": "861a6ae87b401a6ae8895001010ba10000", "argument-text": "861a6ae87b401a6ae8895001010b6161", "argument-null": "861a6ae87b401a6ae8895001010bf6",
    }.items():  # fmt: skip
        cases.append(case("order-decode-" + name, "orders.decode_order", order_id=42, payload=payload))
    cases.append(
        case("order-frame-level", "frames.seal", private_key=NODE_KEY, direction=1, network=NETWORK, node=NODE, epoch=EPOCH, kid=ISSUER,
             tx=42, payload=level)
    )  # fmt: skip
    cases.append(case("beacon-nonce", "beacons.encode_beacon", unix=T, nonce="0102030405060708"))
    cases.append(case("beacon-broadcast", "beacons.encode_beacon", unix=T, nonce=None))
    cases.append(case("beacon-nonce-short", "beacons.encode_beacon", unix=T, nonce="01"))
    for name, payload in {
        "ok": "821a6ae87b40480102030405060708",
        "short-nonce": "821a6ae87b404101",
        "three": "831a6ae87b40f6f6",
    }.items():
        cases.append(case("beacon-decode-" + name, "beacons.decode_beacon", payload=payload))
    cases.append(
        case("beacon-frame-broadcast", "frames.seal", private_key=NODE_KEY, direction=2, network=NETWORK, node=0, epoch=0, kid=ISSUER,
             tx=T, payload="821a6ae87b40f6")
    )  # fmt: skip
    good = HELLO
    for name, body in {
        "ok": good, "no-nonce": good.replace("480102030405060708", "f6"), "version-2": "8902" + good[4:], "state-9": good.replace("0100480102", "0109480102"),
        "long-text": good[:-12] + "7821" + "61" * 33, "text": "6161", "empty": "",
    }.items():  # fmt: skip
        cases.append(case("hello-" + name, "hello.decode_hello", body=body))
    return cases


def line_cases() -> list[dict]:
    escapes = "c0dbdcdd00ff"
    cases = [case("slip-encode", "slip.encode", type=1, body=escapes), case("slip-encode-empty", "slip.encode", type=3, body="")]
    one = slip.encode(1, bytes.fromhex(escapes)).hex()
    two = slip.encode(3, b"hello").hex()
    broken = bytearray.fromhex(one)
    broken[3] ^= 0x20
    lines = {
        "two": one + two, "shared-end": one[:-2] + two, "noise-before": "fedcba" + one, "noise-between": one + "0102c003" + two,
        "flipped": broken.hex() + two, "lost-end": one[:-2] + two[2:] + one, "bad-escape": "c0db01c0" + one, "escape-at-end": "c001dbc0" + one,
        "unknown-type": slip.END.hex() + "0b" + "00000000" + "c0" + one, "type-nine": slip.encode(9, b"x").hex() + one,
        "type-eleven": slip.encode(11, b"x").hex() + one,
        "short": "c001c0" + one, "empty": "c0c0c0c0", "oversize": "c0" + "55" * 3000 + "c0" + one,
        "oversize-unescaped": "c0" + "55" * 1500 + "c0" + one, "unterminated": one[:-2],
    }  # fmt: skip
    return cases + [case("slip-" + name, "slip.decode", line=line) for name, line in lines.items()]


def state_cases() -> list[dict]:
    runs = {
        "in-order": [1, 2, 3, 3, 2, 1], "window-edge": [100, 37, 36, 36, 37], "jump": [1, 70, 6, 7, 1], "far-jump": [5, 1000000, 999999, 5],
        "largest": [0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE], "shuffled": [5, 3, 4, 1, 2, 5, 3],
    }  # fmt: skip
    cases = [case("replay-" + name, "replay", tx=tx) for name, tx in runs.items()]
    cases.append(case("replay-restored", "replay", highest=100, bitmap=5, tx=[100, 99, 98, 101]))
    lives = {
        "first": (0, ["boot", "take", "take"]), "reboot": (0, ["boot", "take", "boot", "take"]),
        "brownout-loop": (128, ["boot", "boot", "boot", "take"]), "block-edge": (0, ["boot"] + ["take"] * 65),
        "lost-write": (0, ["boot"] + ["take"] * 65 + ["lose", "boot", "take"]), "lost-store": (None, ["boot"]),
        "exhausted": (0xFFFFFFFF - 64, ["boot", "take"]), "beyond": (0xFFFFFFFF, ["boot", "take"]),
    }  # fmt: skip
    cases += [case("sequence-" + name, "sequence", stored=stored, steps=steps) for name, (stored, steps) in lives.items()]
    accounts = {
        "in-order": [[1, 2, 0], [3, 1, 0]], "duplicate": [[1, 2, 0], [1, 2, 0], [2, 2, 0]], "live-first": [[10, 1, 9], [1, 9, 0]],
        "young-gateway": [[5000, 1, 100], [4900, 50, 0], [4950, 50, 0]], "declared-lost": [[1, 3, 0], [8, 1, 0]],
        "beyond-bitmap": [[1, 1, 0], [100, 2, 98]], "older-behind": [[50, 1, 0], [10, 2, 5]],
    }  # fmt: skip
    cases += [case("receive-" + name, "receive_window", frames=f) for name, f in accounts.items()]
    air = {
        "records": ["record"] * 9, "alarms": ["alarm"] * 7, "alarm-behind-silent-records": ["record"] * 5 + ["alarm"] * 3,
        "record-behind-silent-alarms": ["alarm"] * 3 + ["record"], "in-turns": ["record", "alarm"] * 4,
        "answer-ends-both": ["record", "alarm", "alarm", "answer", "alarm", "record"],
    }  # fmt: skip
    cases += [case("send-air-" + name, "send_window", resend_ms=30000, steps=steps) for name, steps in air.items()]
    steps = ["record"] * 6 + ["alarm"] * 2
    return [*cases, case("send-serial-alarm-behind-silent-records", "send_window", steps=steps)]


def schedule_cases() -> list[dict]:
    year = [1, 100, [[127, [1, 15, 100], [0, 1380, 60], [0, 300, 100], [2, -10, 0]]],
            [[20261231, 20270101, [1, 0, 100], [2, 0, 0]], [1224, 106, [1, 0, 80], [2, 0, 0]]]]  # fmt: skip
    good = {
        "": year,
        "-empty": [1, 0, [], []],
        "-full-week": [1, 50, [[127] + [[0, 1439, 0]] * 12] * 14, []],
        "-29-february": [1, 100, [], [[229, 229, [0, 0, 0]]]],
    }
    bad = {
        "version": [2, 100, [], []], "level-101": [1, 101, [], []], "three-parts": [1, 100, []], "no-weekday": [1, 100, [[0, [0, 1, 1]]], []],
        "weekday-128": [1, 100, [[128, [0, 1, 1]]], []], "no-step": [1, 100, [[127]], []], "minute-1440": [1, 100, [[127, [0, 1440, 1]]], []],
        "offset-241": [1, 100, [[127, [1, 241, 1]]], []], "anchor-3": [1, 100, [[127, [3, 0, 1]]], []], "step-level": [1, 100, [[127, [0, 0, 101]]], []],
        "feb-30": [1, 100, [], [[230, 301, [0, 0, 0]]]],
        "backwards": [1, 100, [], [[20270102, 20270101, [0, 0, 0]]]], "mixed-dates": [1, 100, [], [[20270102, 103, [0, 0, 0]]]],
        "15-week-rules": [1, 100, [[127, [0, 0, 0]]] * 15, []], "33-exceptions": [1, 100, [], [[101, 101, [0, 0, 0]]] * 33], "number": 5, "text": "x",
    }  # fmt: skip
    cases = [case("schedule" + name, "schedule.check_schedule", data=cbor.encode(value).hex()) for name, value in good.items()]
    return cases + [
        case("schedule-refused-" + name, "schedule.check_schedule", data=cbor.encode(value).hex()) for name, value in bad.items()
    ]


def air_cases() -> list[dict]:
    return [item for item in all_air_cases() if item["op"] != "fragments"]


def piece_cases() -> list[dict]:
    return [item for item in all_air_cases() if item["op"] == "fragments"]


def all_air_cases() -> list[dict]:
    signers = vector_runner.Signers(TABLES)
    frames = {item["id"]: item for item in frame_cases() + downlink_cases() + cose_cases()}

    def frame(name: str) -> str:
        return vector_runner.run_case(frames[name], signers)["out"]["frame"]

    def encoded(name: str, of: str, traffic: int, node: int, **more: int) -> dict:
        return case("air-" + name, "elision.encode", frame=frame(of), traffic=traffic, network=NETWORK, node=node, **more)

    def unsigned(name: str, body: str, traffic: int, **more: int) -> dict:
        return case("air-" + name, "elision.encode", **{"frame": body, "traffic": traffic, "network": NETWORK, "node": NODE, **more})

    def hello(name: str, body: str, **more: int) -> dict:
        return unsigned("hello" + name, body, elision.TRAFFIC_HELLO, **more)

    up, down, ack = elision.TRAFFIC_UPLINK, elision.TRAFFIC_DOWNLINK, elision.TRAFFIC_ACKNOWLEDGEMENT
    wants, brings = elision.TRAFFIC_WANT, elision.TRAFFIC_PIECE
    hints = {item["id"]: item["in"]["body"] for item in release_cases() if "body" in item["in"]}
    want, piece, full = hints["want"], hints["piece"], hints["piece-full"]
    cases = [
        encoded("uplink-bin", "frame-bin", up, NODE), encoded("uplink-waited", "frame-lamp", up, NODE, waited_s=41),
        encoded("uplink-waited-long", "frame-lamp", up, NODE, waited_s=70000), encoded("uplink-air", "frame-air", up, NODE),
        encoded("order", "order-frame-level", down, NODE), encoded("beacon", "beacon-frame-broadcast", down, 0),
        encoded("acknowledgement", "acknowledgement", ack, NODE), encoded("acknowledgement-steps", "acknowledgement-steps", ack, NODE),
        hello("", HELLO), hello("-no-nonce", HELLO.replace("480102030405060708", "f6")),
        unsigned("want", want, wants), unsigned("piece", piece, brings), unsigned("piece-full", full, brings),
    ]  # fmt: skip
    cases += [encoded("uplink-" + tx, "frame-" + tx, up, NODE) for tx in ("tx-1", "tx-255", "tx-256", "tx-65535", "tx-65536", "tx-2^32-1")]
    packets = {item["id"][4:]: vector_runner.run_case(item, signers)["out"]["packets"][0] for item in cases}
    cases += [case("air-decode-" + name, "elision.decode", network=NETWORK, packet=packet) for name, packet in packets.items()]
    cases += [
        encoded("wrong-node", "frame-bin", up, NODE + 1), encoded("downlink-waited", "order-frame-level", down, NODE, waited_s=1),
        encoded("ack-as-uplink", "acknowledgement", up, NODE), encoded("uplink-as-ack", "frame-bin", ack, NODE),
        encoded("17-pieces", "frame-bin", up, NODE, most_bytes=14), encoded("no-room", "frame-bin", up, NODE, most_bytes=9),
        case("air-not-a-frame", "elision.encode", frame="d284", traffic=up, network=NETWORK, node=NODE),
        hello("-of-another", HELLO, node=NODE + 1), hello("-of-another-network", HELLO, network=NETWORK + 1), hello("-waited", HELLO, waited_s=1),
        encoded("hello-of-a-frame", "frame-bin", elision.TRAFFIC_HELLO, NODE), case("air-hello-as-uplink", "elision.encode", frame=HELLO,
        traffic=up, network=NETWORK, node=NODE),
        unsigned("want-of-another", want, wants, node=NODE + 1), unsigned("want-of-another-network", want, wants, network=NETWORK + 1),
        unsigned("want-waited", want, wants, waited_s=1), unsigned("piece-as-want", piece, wants), unsigned("want-as-piece", want, brings),
        unsigned("piece-for-nobody", piece, brings, node=0),
    ]  # fmt: skip
    bin_packet, order, tag, said = packets["uplink-bin"], packets["order"], packets["acknowledgement"], packets["hello"]
    asked, brought = packets["want"], packets["piece"]
    bad = {
        "empty": "", "five-octets": bin_packet[:10], "version-2": "d1" + bin_packet[2:], "version-0": "11" + bin_packet[2:],
        "reserved-traffic": "90" + bin_packet[2:], "other-network": bin_packet[:2] + "35" + bin_packet[4:], "256-octets": bin_packet + "00" * 200,
        "uplink-from-0": bin_packet[:4] + "00000000" + bin_packet[12:], "ack-for-0": tag[:4] + "00000000" + tag[12:],
        "ack-with-width": "93" + tag[2:], "ack-waited": "8b" + tag[2:], "hello-from-0": said[:4] + "00000000" + said[12:],
        "want-from-0": asked[:4] + "00000000" + asked[12:], "want-head-only": asked[:12], "want-of-five": asked[:12] + "85" + asked[14:], "want-waited": "ab" + asked[2:], "want-in-pieces": "a7" + asked[2:],
        "piece-for-0": brought[:4] + "00000000" + brought[12:], "piece-head-only": brought[:12], "piece-of-two": brought[:12] + "82" + brought[14:], "piece-waited": "bb" + brought[2:],
        "hello-head-only": said[:12], "hello-of-nine": said[:12] + "89" + said[14:], "hello-waited": "9b" + said[2:], "downlink-waited": "8a" + order[2:], "tx-0": "81" + bin_packet[2:12] + "00" + bin_packet[14:],
        "tx-leading-zero": "91" + bin_packet[2:12] + "0046" + bin_packet[14:], "waited-0": "89" + bin_packet[2:12] + "0000" + bin_packet[12:],
        "uplink-short": bin_packet[:12] + "46" + "11" * 63, "ack-short": tag[:12] + "11" * 7, "head-only": bin_packet[:12],
        # MHDR of a LoRaWAN 1.0 join request, then an unconfirmed and a confirmed uplink; a Meshtastic broadcast's header; noise.
        "lorawan-join": "00dc0000d07ed5b3701e6fedf57ceeaf0085cc587fe913", "lorawan-up": "40f17dbe4900020001954378762b11ff0d",
        "lorawan-confirmed": "80f17dbe4900020001954378762b11ff0d", "meshtastic": "ffffffff785634127b00000063080000" + "5a" * 20,
        "noise": "9f" * 40,
    }  # fmt: skip
    cases += [case("air-refused-" + name, "elision.decode", network=NETWORK, packet=packet) for name, packet in bad.items()]
    pieces = {}
    for name, of, most in (("two", "frame-bin", 66), ("four", "frame-lamp", 40), ("hello", "", 24)):
        cases.append(encoded("pieces-" + name, of, up, NODE, most_bytes=most) if of else hello("-pieces", HELLO, most_bytes=most))
        pieces[name] = vector_runner.run_case(cases[-1], signers)["out"]["packets"]
    cases += [unsigned("want-in-pieces", want, wants, most_bytes=18), unsigned("piece-in-pieces", full, brings, most_bytes=66)]
    of_piece = vector_runner.run_case(cases[-1], signers)["out"]["packets"]
    cases += [piece_case(name, heard) for name, heard in piece_runs(pieces["two"], pieces["four"], bin_packet, pieces["hello"]).items()]
    return [*cases, piece_case("piece-of-a-release", [[i, each] for i, each in enumerate(of_piece)])]


def piece_case(name: str, heard: list) -> dict:
    return case("air-heard-" + name, "fragments", network=NETWORK, known=[NODE], room=4, heard=heard)


def piece_runs(two: list[str], four: list[str], whole: str, greeting: list[str]) -> dict[str, list]:
    def forged(piece: str, octet: str = "ee") -> str:
        return piece[:-2] + octet

    first, second = two
    return {
        "whole": [[0, whole]], "hello": [[i, piece] for i, piece in enumerate(greeting)], "in-order": [[0, first], [1, second]], "reversed": [[0, second], [1, first]],
        "repeated": [[0, first], [1, first], [2, second], [3, second], [4, first]],
        "four-shuffled": [[0, four[2]], [1, four[0]], [2, four[3]], [3, four[1]]],
        "two-frames": [[0, four[0]], [1, first], [2, four[1]], [3, four[2]], [4, second], [5, four[3]]],
        "one-lost": [[0, four[0]], [1, four[1]], [2, four[3]]],
        "forged-before": [[0, forged(first)], [1, first], [2, second]], "forged-between": [[0, first], [1, forged(second)], [2, second]],
        "forged-longer": [[0, first], [1, second + "00" * 40], [2, second]], "forged-alone": [[0, first], [1, forged(second)]],
        "late": [[0, first], [59999, second], [60000, first]], "too-late": [[0, first], [60000, second]],
        "four-forged": [[0, first]] + [[1, forged(second, f"{i:02x}")] for i in range(4)] + [[2, second]],
        "forged-first": [[0, first]] + [[1, forged(first, f"{i:02x}")] for i in range(4)] + [[2, second]] + [[3 + i, four[i]] for i in range(4)],
        "stranger": [[0, first[:4] + "0a0b0c0e" + first[12:]]],
        "no-part": [[0, first[:18]]], "position-1-of-0": [[0, first[:16] + "10" + first[18:]]], "position-0-of-0": [[0, first[:16] + "00" + first[18:]]],
        "too-large": [[0, first[:16] + "0f" + first[18:] + "00" * 60]],
        "clock-back": [[100, first], [50, second]],
    }  # fmt: skip


def modem_cases() -> list[dict]:
    """By message: the good ones, and one good array spoilt in each place."""
    packet = bytes.fromhex("83a30a0b0c0d831100480011223344556677404113a429e10aea")
    settings = (869525000, 9, 125000)
    good = {
        "received": {"received": (4294967295, 868100000, 9, 125000, -118, -31, packet), "received-loud": (0, 868300000, 7, 125000, 50, 127, b"x")},
        "transmit": {"transmit": (65535, 1000000, *settings, 14, 0, -80, packet), "transmit-at-once": (0, None, *settings, -9, 5, -130, b"\x00" * 255)},
        "sent": {"sent": (65535, 0, 247808), "sent-too-late": (1, 1, 0), "sent-busy": (1, 6, 0)},
        "state": {"state": (1, "0.1.0", 5000000, 17, 2, 1, 0, True), "state-deaf": (1, "", 0, 0, 0, 0, 4294967295, False)},
        "listen": {"listen": settings},
    }  # fmt: skip
    bad = {
        "received": [(0, 4294967296), (0, None), (1, 149999999), (2, 13), (3, 7799), (4, -201), (4, True), (5, 128), (6, b""), (6, b"x" * 256), (6, "x"), (7, 0)],
        "transmit": [(0, 65536), (1, -1), (1, False), (2, 960000001), (3, 4), (4, 500001), (5, 31), (6, 101), (6, -1), (7, 1), (7, -131), (8, None), (9, 0)],
        "sent": [(0, -1), (1, 7), (1, True), (2, 4294967296), (3, 0)],
        "state": [(0, 2), (1, b"0.1.0"), (1, "x" * 33), (2, -1), (3, None), (6, True), (7, 1), (8, 0)],
        "listen": [(0, None), (1, 5.0), (2, 600000), (3, 0)],
    }  # fmt: skip
    cases = [
        case("modem-" + name, "modem", message=kind, body=cbor.encode(value).hex())
        for kind, rows in good.items()
        for name, value in rows.items()
    ]
    for kind, spoilt in bad.items():
        first = next(iter(good[kind].values()))
        for at, value in spoilt:
            body = cbor2.dumps([*first[:at], value, *first[at + 1 :]]).hex()
            cases.append(case(f"modem-refused-{kind}-{at}-{str(value)[:12]}", "modem", message=kind, body=body))
        cases.append(case(f"modem-refused-{kind}-short", "modem", message=kind, body=cbor.encode(first[:-1]).hex()))
        cases.append(case(f"modem-refused-{kind}-map", "modem", message=kind, body="a0"))
        cases.append(case(f"modem-refused-{kind}-nothing", "modem", message=kind, body=""))
    return cases


def ledger_cases() -> list[dict]:
    def life(name: str, kept_us: int | None, *steps: object, reserve_us: int = 0) -> dict:
        return case(
            "ledger-" + name, "ledger", allowance_us=36000, window_ms=3600000, reserve_us=reserve_us, kept_us=kept_us, slots=60, steps=steps
        )

    return [
        life("fresh", 0, [0, 30000, False], [1, 6000, False], [2, 1, False]),
        life("window", 0, [0, 36000, False], [3600000, 1, False], [3659999, 1, False], [3660000, 36000, False]),
        life("seam", 0, [59990, 36000, False], [60000, 1, False], [3660000, 1, False], [3720000, 1, False]),
        life("partly-back", 0, [0, 20000, False], [600000, 16000, False], [1200000, 10000, False], [1200000, 30000, False]),
        life("reserve", 0, [0, 28800, False], [1, 1, False], [2, 7200, True], [3, 1, True], reserve_us=7200),
        life("never", 0, [0, 36001, True], [1, 28801, False], [2, 28801, True], reserve_us=7200),
        life("clock-back", 0, [1000000, 36000, False], [0, 1, False], [1000000, 1, False], [4620000, 1, False]),
        life("lost-account", None, [0, 1, True], [3600000, 1, True], [3660000, 1, True], reserve_us=7200),
        life("restart", 0, [0, 10000, False], "restart", [0, 30000, False], [0, 20000, False], "restart", [0, 1, False], reserve_us=1000),
        life("reserve-after-restart", 0, [0, 28800, False], "restart", [0, 1, False], [0, 7200, True], "restart", [0, 1, True], reserve_us=7200),
        life("quiet-again", 0, [0, 30000, False], [4000000, 1, False], "restart", [0, 30000, False]),
        case("ledger-dwell", "ledger", allowance_us=400000, window_ms=20000, reserve_us=0, kept_us=0, slots=8,
             steps=[[0, 390144, False], [100, 20000, False], [22499, 20000, False], [22500, 20000, False]]),
    ]  # fmt: skip


def region_cases() -> list[dict]:
    def radio(name: str, region: str, channels_hz: list[int], sf: int, bandwidth_hz: int = 125000, power_dbm: int = 14, antenna_dbi: int = 2,
              listen_us: int = 0, **more: list) -> dict:  # fmt: skip
        return case(
            "region-" + name, "regions.check_radio", region=region, channels_hz=channels_hz, bandwidth_hz=bandwidth_hz,
            spreading_factor=sf, coding_rate=1, power_dbm=power_dbm, antenna_dbi=antenna_dbi, listen_us=listen_us, **more,
        )  # fmt: skip

    e22 = list(E22_WRAP)
    fifty = [902300000 + 200000 * i for i in range(64)][:50]
    return [
        radio("eu-lorawan", "EU868", [868100000, 868300000, 868500000], 9), radio("eu-two-bands", "EU868", [868100000, 867100000], 12),
        radio("eu-tenth-percent", "EU868", [864000000], 12), radio("eu-strong", "EU868", [869525000], 12, power_dbm=27),
        radio("eu-too-strong", "EU868", [868100000], 9, power_dbm=20), radio("eu-long-cable", "EU868", [868100000], 9, power_dbm=18, antenna_dbi=-2),
        radio("eu-alarm-gap", "EU868", [868650000], 9), radio("eu-over-the-edge", "EU868", [868550000], 9), radio("eu-433", "EU868", [433175000], 9),
        radio("eu-wide", "EU868", [869525000], 9, 250000), radio("us-one-narrow-channel", "US915", [902300000], 9), radio("us-500", "US915", [903000000], 12, 500000, 22),
        radio("us-hopping", "US915", fifty, 9, power_dbm=22), radio("us-49", "US915", fifty[:49], 9), radio("us-sf11", "US915", fifty, 11),
        radio("us-overlap", "US915", [902300000 + 100000 * i for i in range(50)], 9), radio("us-wide-hopping", "US915", [903000000 + 500000 * i for i in range(25)], 9, 250000, 22),
        radio("us-big-antenna", "US915", [903000000], 9, 500000, 30, 8), radio("as", "AS923", [923200000, 923400000], 9), radio("as-sf10", "AS923", [923200000], 10),
        radio("as-sf12", "AS923", [923200000], 12), radio("jp-deaf", "AS923-JP", [921000000], 9, power_dbm=13), radio("jp", "AS923-JP", [921000000], 12, power_dbm=13, listen_us=5000),
        radio("au-one-channel", "AU915", [916800000], 9), radio("au-500", "AU915", [917500000], 12, 500000, 22), radio("au-hopping", "AU915", [915200000 + 200000 * i for i in range(20)], 9),
        radio("in", "IN865", [865062500, 865402500, 865985000], 10, power_dbm=22), radio("in-500", "IN865", [866000000], 9, 500000),
        radio("nowhere", "MARS1", [868100000], 9), radio("no-channel", "EU868", [], 9),
        radio("eu-e22", "EU868", [866125000, 867125000], 11, 500000, 13, wrap=e22), radio("eu-e22-thousandth", "EU868", [864125000], 11, 500000, 13, wrap=e22),
        radio("eu-e22-on-two-bands", "EU868", [868125000], 11, 500000, 13, wrap=e22), radio("us-e22", "US915", [903125000], 11, 500000, 22, wrap=e22),
        radio("as-e22", "AS923", [923125000], 11, 500000, 10, wrap=e22), radio("jp-e22", "AS923-JP", [921125000], 11, 500000, 10, wrap=e22, listen_us=5000),
        radio("in-e22", "IN865", [866125000], 11, 500000, 22, wrap=e22),
    ]  # fmt: skip


def release_cases() -> list[dict]:
    """Manifests, bodies, wants, pieces: the good ones, and each spoilt in every place."""
    files = [("lamppost_node/fixtures/lamp.mpy", "4d0600" + "11" * 40), ("lamppost_node/version.mpy", "4d0600aa"),
             ("lamppost_protocol/slip.mpy", "")]  # fmt: skip
    whole = case("body", "releases.encode_body", files=files)
    body = vector_runner.run_case(whole, vector_runner.Signers(TABLES))["out"]["data"]
    base, digest = "a0a1a2a3a4a5a6a7", sha256(bytes.fromhex(body)).hexdigest()
    good = {"sequence": 7, "base": base, "version": "0.2.0", "heap_bytes": 36000, "size_bytes": len(body) // 2, "digest": digest}
    sealed = {"private_key": NODE_KEY, "network": NETWORK, "issuer": ISSUER}
    cases = [
        case("release-manifest", "releases.seal_manifest", **sealed, **good),
        case("release-manifest-largest", "releases.seal_manifest", **sealed, **good | {"sequence": 0xFFFFFFFF, "version": "x" * 16,
             "heap_bytes": 0xFFFFFFFF, "size_bytes": 262144}),
    ]  # fmt: skip
    spoilt = {
        "sequence-0": {"sequence": 0}, "base-7": {"base": base[2:]}, "no-version": {"version": ""}, "long-version": {"version": "x" * 17},
        "no-body": {"size_bytes": 0}, "too-large": {"size_bytes": 262145}, "digest-31": {"digest": digest[2:]}, "heap-2^32": {"heap_bytes": 1 << 32},
    }  # fmt: skip
    cases += [case("release-manifest-" + name, "releases.seal_manifest", **sealed, **good | change) for name, change in spoilt.items()]
    value = [1, bytes.fromhex(base), "0.2.0", 36000, len(body) // 2, bytes.fromhex(digest)]
    cases.append(case("manifest", "releases.decode_manifest", sequence=7, payload=cbor.encode(value).hex()))
    changes = [
        ("form-2", 0, 2), ("form-true", 0, True), ("base-9", 1, b"x" * 9), ("version-octets", 2, b"0.2.0"), ("version-space", 2, "0 2"), ("version-17", 2, "x" * 17),
        ("heap-null", 3, None), ("size-0", 4, 0), ("size-262145", 4, 262145), ("size-true", 4, True), ("digest-33", 5, b"x" * 33), ("seven", 6, 0),
    ]  # fmt: skip
    for name, at, item in changes:
        payload = cbor2.dumps([*value[:at], item, *value[at + 1 :]]).hex()
        cases.append(case("manifest-refused-" + name, "releases.decode_manifest", sequence=7, payload=payload))
    cases.append(case("manifest-refused-map", "releases.decode_manifest", sequence=7, payload="a0"))
    cases += [
        case("release-base", "releases.base_of", files=[[name, sha256(bytes.fromhex(content)).hexdigest()] for name, content in files]),
        whole,
        case("body-unsorted", "releases.encode_body", files=files[::-1]), case("body-twice", "releases.encode_body", files=[*files, files[0]]),
        case("body-empty", "releases.encode_body", files=[]), case("body-decode", "releases.files_of", data=body, size_bytes=len(body) // 2),
    ]  # fmt: skip
    names = (
        "lamppost_node/slot.mpy", "lamppost_node/__init__.mpy", "lamppost_node/fixtures/__init__.mpy", "lamppost_node/../main.mpy", "/lamppost_node/a.mpy",
        "lamppost_node//a.mpy", "lamppost_node/a.py", "main.mpy", "lamppost_node.mpy", "other/a.mpy", "lamppost_node/A.mpy", "lamppost_node/.mpy",
        "lamppost_node/" + "a" * 47 + ".mpy",
    )  # fmt: skip
    for i, name in enumerate(names):
        cases.append(case(f"body-name-{i}", "releases.encode_body", files=[[name, "00"]]))
        data = bytes((len(name),)) + name.encode() + b"\x00\x00\x00\x01\x00"
        cases.append(case(f"body-refused-name-{i}", "releases.files_of", data=data.hex(), size_bytes=len(data)))
    longest = "lamppost_node/" + "a" * 46 + ".mpy"
    cases.append(case("body-longest-name", "releases.encode_body", files=[[longest, "00"]]))
    one = vector_runner.run_case(case("", "releases.encode_body", files=[["lamppost_node/a.mpy", "00"]]), vector_runner.Signers(TABLES))[
        "out"
    ]["data"]
    size = len(one) // 2
    broken = {
        "short": (one, size - 1), "long": (one, size + 1), "cut-in-name": (one[:10], size), "cut-in-size": (one[: 2 * size - 4], size),
        "twice": (one + one, 2 * size), "length-0": ("00" + one[2:], size), "not-ascii": (one[:2] + "ec" + one[4:], size), "content-beyond": (one[:-4] + "0200", size),
    }  # fmt: skip
    cases += [case("body-refused-" + name, "releases.files_of", data=data, size_bytes=size) for name, (data, size) in broken.items()]
    name = bytes.fromhex(digest)[:8]
    hints = {
        "want": ([NETWORK, NODE, name, 4000, 8], [(0, 1 << 32), (1, 0), (1, 1 << 32), (2, b"x" * 7), (3, -200), (3, 262144), (3, None), (4, 0), (4, 9), (4, True), (5, 0)]),
        "piece": ([name, 600, b"\x01\x02\x03\x04"], [(0, b""), (0, "x" * 8), (1, 262200), (1, True), (2, b""), (2, b"x" * 201), (2, "x"), (3, 0)]),
    }  # fmt: skip
    for kind, (first, changes) in hints.items():
        cases.append(case(kind, "releases." + kind, body=cbor.encode(first).hex()))
        for at, item in changes:
            spoilt_body = cbor2.dumps([*first[:at], item, *first[at + 1 :]]).hex()
            cases.append(case(f"{kind}-refused-{at}-{str(item)[:12]}", "releases." + kind, body=spoilt_body))
        between = cbor2.dumps([1 + item if i == (3 if kind == "want" else 1) else item for i, item in enumerate(first)]).hex()
        cases.append(case(f"{kind}-refused-between", "releases." + kind, body=between))
        cases += [
            case(f"{kind}-refused-map", "releases." + kind, body="a0"),
            case(f"{kind}-refused-short", "releases." + kind, body=cbor.encode(first[:-1]).hex()),
        ]
    return [*cases, case("piece-full", "releases.piece", body=cbor.encode([name, 261800, b"\xff" * 200]).hex())]


HOLDER_KEY = "2b" * 32  # a technician's
NONCE = "1112131415161718"


def service_cases() -> list[dict]:
    """Tickets, requests and what a node tells: as payloads, as frames, and spoilt."""
    holder = public_key(bytes.fromhex(HOLDER_KEY))
    kid = tickets.holder_id(holder)
    nonce = bytes.fromhex(NONCE)

    def body(*value: object) -> str:
        return cbor.encode(value).hex()

    requests = {
        "look": [1, []], "test": [2, [120]], "light": [3, [1800]], "restart": [4, []], "configure": [5, [b"\xa0"]], "resend": [6, [1, 4096]],
    }  # fmt: skip
    bad_requests = {
        "verb-0": [0, []], "verb-7": [7, []], "look-argument": [1, [1]], "test-0": [2, [0]], "test-121": [2, [121]], "test-none": [2, []],
        "light-1801": [3, [1801]], "light-true": [3, [True]], "light-dark": [3, [60, 0]], "restart-argument": [4, [0]],
        "configure-empty": [5, [b""]], "configure-long": [5, [bytes(801)]], "configure-text": [5, ["a0"]], "resend-backwards": [6, [2, 1]],
        "resend-0": [6, [0, 1]], "arguments-missing": [1], "arguments-no-array": [1, 0],
    }  # fmt: skip
    facts = [0, NETWORK, NODE, EPOCH, 0, nonce, 1800, 0, 0, "0.1.0"]
    answers = {"answer": [1, 0, None], "answer-look": [4294967295, 63, [[1, None], {"replayed": 2}]], "facts": facts}
    bad_answers = {
        "answer-0": [0, 0, None], "answer-result-64": [1, 64, None], "answer-short": [1, 0], "facts-nonce": [*facts[:5], b"1234567", *facts[6:]],
        "facts-state-3": [*facts[:4], 3, *facts[5:]], "facts-left": [*facts[:6], 3601, *facts[7:]], "facts-long-text": [*facts[:9], "x" * 33],
        "facts-second-form": [1, *facts[1:]],
    }  # fmt: skip
    bad_tickets = {
        "nonce-7": [nonce[:7], 1800, 3, holder], "valid-59": [nonce, 59, 3, holder], "valid-3601": [nonce, 3601, 3, holder],
        "scopes-0": [nonce, 60, 0, holder], "scopes-64": [nonce, 60, 64, holder], "holder-compressed": [nonce, 60, 1, b"\x02" + holder[:32]],
        "short": [nonce, 60, 1], "long": [nonce, 60, 1, holder, 0],
    }  # fmt: skip
    ticket = body(nonce, 1800, 3, holder)
    where = {"network": NETWORK, "node": NODE, "epoch": EPOCH}
    cases = [
        case("ticket", "tickets", message="ticket", body=ticket),
        case("ticket-least", "tickets", message="ticket", body=body(nonce, 60, 1, holder)),
        case("ticket-most", "tickets", message="ticket", body=body(nonce, 3600, 63, holder)),
        case("ticket-trailing", "tickets", message="ticket", body=ticket + "00"),
        case("ticket-frame", "frames.seal", private_key=NODE_KEY, direction=5, kid=ISSUER, tx=43, payload=ticket, **where),
        case("request-frame-look", "frames.seal", private_key=HOLDER_KEY, direction=6, kid=kid, tx=1, payload=body(nonce, 1, []), **where),
        case("service-question", "slip.encode", type=11, body=""),
    ]
    cases += [case("request-" + name, "tickets", message="request", body=body(nonce, *value)) for name, value in requests.items()]
    cases += [case("request-" + name, "tickets", message="request", body=body(nonce, *value)) for name, value in bad_requests.items()]
    cases += [case("service-" + name, "tickets", message="answer", body=body(*value)) for name, value in (answers | bad_answers).items()]
    cases += [case("ticket-" + name, "tickets", message="ticket", body=body(*value)) for name, value in bad_tickets.items()]
    record = [7, 0, 0, 43, 1, 1, 0, kid]
    cases.append(case("uplink-service", "records.encode_uplink", n=18, behind=0, t=T, clock=2, records=[record]))
    return cases


FILES = {
    "releases": release_cases,
    "air": air_cases,
    "pieces": piece_cases,
    "ledger": ledger_cases,
    "regions": region_cases,
    "schedule": schedule_cases,
    "cbor": cbor_cases,
    "cose": cose_cases,
    "frames": frame_cases,
    "downlink": downlink_cases,
    "line": line_cases,
    "states": state_cases,
    "modem": modem_cases,
    "service": service_cases,
}


def main() -> None:
    signers = vector_runner.Signers(TABLES)
    for name, make in FILES.items():
        cases = []
        for item in make():
            answer = vector_runner.run_case(item, signers)
            cases.append({**item, **{key: answer[key] for key in ("out", "error") if key in answer}})
        rows = ",\n    ".join(json.dumps(item) for item in cases)
        source = "protocol/make_vectors.py; keys are for vectors only"
        path = HERE / "vectors" / f"{name}.json"
        path.write_text(f'{{\n  "source": "{source}",\n  "cases": [\n    {rows}\n  ]\n}}\n')
        refused = sum("error" in item for item in cases)
        print(f"{path.name}: {len(cases)} cases, {refused} refused")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as TABLES:
        Path(TABLES, "generator_2k.tbl").write_bytes(build_generator_table(5, 2))
        main()
