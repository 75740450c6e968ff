"""Writes protocol/vectors/*.json from the cases below: `python protocol/make_vectors.py`. Results come from the code; the tests then hold
them against independent libraries (cbor2, cryptography), and WIRE.md's examples against them. Keys here are for vectors only.
"""

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "tests")]

import vector_runner  # noqa: E402
from lamppost_protocol import cbor, slip  # noqa: E402
from lamppost_protocol.p256_tables import build_generator_table  # noqa: E402

NODE_KEY = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"  # RFC 6979 A.2.5: public for ever
HOP_KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
NETWORK, NODE, EPOCH, ISSUER = 123456, 0x0A0B0C0D, 1, 0xA1000001
T = 1793620800  # 2026-11-02T12:00:00Z


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
    for name, highest, bitmap in (("acknowledgement", 17, 0), ("acknowledgement-bitmap", 70000, 0x80000005)):
        cases.append(
            case(name, "frames.seal_acknowledgement", hop_key=HOP_KEY, network=NETWORK, node=NODE, epoch=EPOCH, highest=highest,
                 bitmap=bitmap, digest="0011223344556677")
        )  # fmt: skip
    tagged = vector_runner.run_case(cases[-2], signers)["out"]["frame"]
    context = {"hop_key": HOP_KEY, "network": NETWORK, "node": NODE, "epoch": EPOCH}
    variants = {
        "ok": (tagged, {}), "bit-flip": (tagged[:-2] + f"{int(tagged[-2:], 16) ^ 1:02x}", {}), "other-network": (tagged, {"network": 1}),
        "other-node": (tagged, {"node": 1}), "other-epoch": (tagged, {"epoch": 2}), "other-key": (tagged, {"hop_key": "ff" * 32}),
        "sign1": (frame, {}),
    }  # fmt: skip
    for name, (data, change) in variants.items():
        cases.append(case("acknowledgement-open-" + name, "frames.open_acknowledgement", **{**context, "data": data, **change}))
    return cases


def downlink_cases() -> list[dict]:
    orders = {
        "level": (T, T + 3600, 1, 1, [60, 30]), "dark": (T, T + 60, 1, 65, [0, 0]), "cancel": (T, T + 60, 2, 1, [41]),
        "configure": (T, T + 60, 4, 0, [{"h": "a0"}]), "resend": (T, T + 60, 5, 0, [1, 4096]),
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
    good = "89011a0001e2401a0a0b0c0d0100480102030405060708" + "02" + "12" + "65" + "302e312e30"
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
        "unknown-type": slip.END.hex() + "09" + "00000000" + "c0" + one, "type-nine": slip.encode(9, b"x").hex() + one,
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
    return cases + [case("receive-" + name, "receive_window", frames=f) for name, f in accounts.items()]


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


FILES = {
    "schedule": schedule_cases,
    "cbor": cbor_cases,
    "cose": cose_cases,
    "frames": frame_cases,
    "downlink": downlink_cases,
    "line": line_cases,
    "states": state_cases,
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
