"""Runs vector files on any runtime: `python vector_runner.py TABLES FILE ..` prints one JSON line a case, {"id", "out"} or {"id", "error"}.

It holds no expectation: pytest compares its answers with the files, so CPython, the unix port, QEMU and a board face the same test.
TABLES: folder of the generator's comb table. Ref: WIRE.md.
"""

import gc
import io
import json
import sys
from binascii import hexlify, unhexlify

from lamppost_protocol import (
    airtime,
    arq,
    beacons,
    cbor,
    cose,
    elision,
    fragments,
    frames,
    hello,
    hop,
    ledger,
    modem,
    orders,
    p256,
    records,
    regions,
    releases,
    replay,
    schedule,
    sequence,
    slip,
    tickets,
)
from lamppost_protocol.errors import ProtocolError


def h(data):
    return hexlify(data).decode()


def to_json(value):
    """Octets become {"h": hex}; map keys become pairs, since JSON keys are text and MicroPython maps keep no order."""
    if isinstance(value, (bytes, bytearray)):
        return {"h": h(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {"map": sorted([[to_json(key), to_json(value[key])] for key in value], key=str)}
    return value


def from_json(value):
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        if "h" in value:
            return unhexlify(value["h"])
        return {from_json(pair[0]): from_json(pair[1]) for pair in value["map"]}
    return value


class Signers:
    """Signers and verifiers by key, made once: a table check is slow on the node."""

    def __init__(self, folder):
        self.table = open(folder + "/generator_2k.tbl", "rb").read()
        self.known = {}

    def signer(self, private_key):
        if private_key not in self.known:
            self.known[private_key] = p256.Signer(unhexlify(private_key), self.table)
        return self.known[private_key]


def cbor_decode(case, _signers):
    value = cbor.decode(unhexlify(case["data"]))
    return {"value": to_json(value), "encoded": h(cbor.encode(value))}


def cbor_encode(case, _signers):
    return {"data": h(cbor.encode(from_json(case["value"])))}


def cose_decode(case, _signers):
    m = cose.decode(unhexlify(case["data"]))
    return {"kind": m.kind, "kid": m.kid, "tx": m.tx, "payload": h(m.payload), "proof": h(m.proof)}


def seal(case, signers):
    aad = frames.external_aad(case["direction"], case["network"], case["node"], case["epoch"])
    protected = cose.protected_header(cose.ES256, case["kid"], case["tx"])
    payload = unhexlify(case["payload"])
    signer = signers.signer(case["private_key"])
    return {
        "protected": h(protected),
        "external_aad": h(aad),
        "signature_input": h(cose.signature_input(protected, aad, payload)),
        "frame": h(frames.seal(signer, case["direction"], case["network"], case["node"], case["epoch"], case["kid"], case["tx"], payload)),
    }


def acknowledge(case, _signers):
    key = hop.HopKey(unhexlify(case["hop_key"]))
    data = frames.seal_acknowledgement(
        key, case["network"], case["node"], case["epoch"], case["highest"], case["bitmap"], unhexlify(case["digest"]), case.get("steps")
    )
    return {"frame": h(data)}


def open_acknowledgement(case, _signers):
    key = hop.HopKey(unhexlify(case["hop_key"]))
    data = unhexlify(case["data"])
    a = frames.AcknowledgementReader(key, case["network"], case["node"], case["epoch"]).open(data)
    if a != frames.open_acknowledgement(cose.decode(data), key, case["network"], case["node"], case["epoch"]):
        raise ValueError("the two ways differ")
    return {"highest": a.highest, "bitmap": a.bitmap, "digest": h(a.digest), "steps": a.steps}


def uplink_encode(case, _signers):
    return {"payload": h(records.encode_uplink(case["n"], case["behind"], case["t"], case["clock"], case["records"]))}


def uplink_decode(case, _signers):
    u = records.decode_uplink(unhexlify(case["payload"]))
    return {"n": u.n, "behind": u.behind, "t": u.t, "clock": u.clock, "records": u.records}


def order_encode(case, _signers):
    args = from_json(case["args"])
    return {"payload": h(orders.encode_order(case["not_before"], case["not_after"], case["verb"], case["target"], args))}


def order_decode(case, _signers):
    o = orders.decode_order(case["order_id"], unhexlify(case["payload"]))
    orders.check_arguments(o.verb, o.target, o.args)
    return to_json(list(o))


def beacon_decode(case, _signers):
    b = beacons.decode_beacon(unhexlify(case["payload"]))
    return {"unix": b.unix, "nonce": h(b.nonce) if b.nonce is not None else None}


def beacon_encode(case, _signers):
    nonce = case["nonce"]
    return {"payload": h(beacons.encode_beacon(case["unix"], unhexlify(nonce) if nonce is not None else None))}


def hello_decode(case, _signers):
    value = hello.decode_hello(unhexlify(case["body"]))
    return {"value": to_json(list(value)), "encoded": h(hello.encode_hello(value))}


def schedule_decode(case, _signers):
    value = cbor.decode(unhexlify(case["data"]))
    schedule.check_schedule(value)
    return {"value": value, "encoded": h(cbor.encode(value))}


def slip_encode(case, _signers):
    return {"line": h(slip.encode(case["type"], unhexlify(case["body"])))}


def slip_decode(case, _signers):
    """The same octets whole, one by one and in sevens must give the same messages."""
    line = unhexlify(case["line"])
    answers = []
    for size in (len(line) or 1, 1, 7):
        decoder = slip.Decoder()
        messages = []
        for at in range(0, len(line), size):
            messages.extend(decoder.feed(line[at : at + size]))
        counts = [decoder.bad_slip, decoder.bad_crc, decoder.bad_type, decoder.too_long]
        answers.append({"messages": [[kind, h(body)] for kind, body in messages], "counts": counts})
    if answers[0] != answers[1] or answers[0] != answers[2]:
        return {"differs_by_chunking": answers}
    return answers[0]


def replay_run(case, _signers):
    window = replay.ReplayWindow(case.get("highest", 0), case.get("bitmap", 0))
    answers = []
    for tx in case["tx"]:
        try:
            window.accept(tx)
            answers.append("ok")
        except ProtocolError as error:
            answers.append(error.reason)
    return {"answers": answers, "highest": window.highest, "bitmap": h(window.bitmap.to_bytes(8, "big"))}


def sequence_run(case, _signers):
    """A life as a list: "boot", "take", "lose" (the last write never reached the flash)."""
    stored = [case["stored"]]
    taken = []
    counter = None
    for step in case["steps"]:
        if step == "boot":
            counter = sequence.Sequence(lambda: stored[-1], stored.append)
        elif step == "lose":
            stored.pop()
        else:
            taken.append(counter.take())
    return {"taken": taken, "stored": stored[-1]}


def receive_run(case, _signers):
    window = arq.ReceiveWindow(case.get("highest", 0), case.get("bitmap", 0))
    fresh = [window.note(n, count, behind) for n, count, behind in case["frames"]]
    return {"fresh": fresh, "highest": window.highest, "bitmap": window.bitmap32()}


def send_window_run(case, _signers):
    """Frames of one record, sent one behind the other, each when the wait for the one before ran out, by the longest chance."""
    window = arq.SendWindow(1, 1, arq.air_waits(case["resend_ms"]) if "resend_ms" in case else arq.SERIAL_WAITS)
    now_ms, n, waits_ms = 0, 0, []
    for step in case["steps"]:
        if step == "answer":
            window.acknowledge(n, 0, bytes(8), n + 1)
            continue
        n += 1
        window.sent(n, 1, n.to_bytes(8, "big"), now_ms, 1000, step == "alarm")
        waits_ms.append(window.due_ms() - now_ms)
        now_ms = window.due_ms()
        window.expire(now_ms)
    return {"waits_ms": waits_ms}


def packet_to_json(packet):
    return {"traffic": packet.traffic, "node": packet.node, "waited_s": packet.waited_s, "frame": h(packet.frame)}


def packet_encode(case, _signers):
    most_bytes = case.get("most_bytes", 255)
    packets = elision.encode(unhexlify(case["frame"]), case["traffic"], case["network"], case["node"], case.get("waited_s", 0), most_bytes)
    return {"packets": [h(packet) for packet in packets]}


def packet_decode(case, _signers):
    packet = unhexlify(case["packet"])
    head = elision.decode_head(packet, case["network"])
    decoded = elision.decode_body(head, packet[elision.HEAD_BYTES :])
    again = elision.encode(decoded.frame, decoded.traffic, case["network"], decoded.node, decoded.waited_s)
    return {"packet": packet_to_json(decoded), "encoded": [h(each) for each in again]}


def reassemble(case, _signers):
    """Packets with the time at which each is heard; "known": the nodes whose uplinks are wanted."""
    known = case["known"]
    receiver = fragments.Reassembly(case["network"], lambda traffic, node: node in known, case["room"])
    answers = []
    for now_ms, packet in case["heard"]:
        try:
            answers.append([h(each.frame) for each in receiver.feed(unhexlify(packet), now_ms)])
        except ProtocolError as error:
            answers.append(error.reason)
    return {"answers": answers, "expired": receiver.expired, "displaced": receiver.displaced, "mismatched": receiver.mismatched}


def time_on_air(case, _signers):
    """By place: on a device an argument's name may be gone."""
    values = [case["packet_bytes"], case["spreading_factor"], case["bandwidth_hz"], case.get("coding_rate", 1)]
    values += [case.get("preamble_symbols", 8), case.get("has_header", True), case.get("has_crc", True), case.get("low_data_rate")]
    return {"us": airtime.time_on_air_us(*values)}


def ledger_run(case, _signers):
    """Steps [now_ms, airtime_us, is_urgent]: the wait in milliseconds, and 0 spends. "restart": a new ledger from what was kept."""
    kept = [case["kept_us"]]

    def start():
        return ledger.Ledger(case["allowance_us"], case["window_ms"], case["reserve_us"], kept[-1], kept.append, case["slots"])

    account = start()
    answers = []
    for step in case["steps"]:
        if step == "restart":
            account = start()
            continue
        try:
            answers.append(account.wait_ms(step[1], step[0], step[2]))
            account.spend(step[1], step[0], step[2])
        except ProtocolError as error:
            if error.reason != "overdrawn":
                answers.append(error.reason)
    return {"answers": answers, "kept_us": kept[1:], "spent_us": account.spent_us}


def check_radio(case, _signers):
    radio = regions.Radio(
        case["region"], case["channels_hz"], case["bandwidth_hz"], case["spreading_factor"], case["coding_rate"],
        tuple(case.get("wrap", airtime.BARE)), case["power_dbm"], case["antenna_dbi"], case["listen_us"],
    )  # fmt: skip
    try:
        bands = regions.check_radio(radio)
    except regions.UnlawfulError as error:
        return {"refused": str(error)}
    names = []
    for band in bands:
        if band.name not in names:
            names.append(band.name)
    return {"bands": names, "most_bytes": regions.most_packet_bytes(bands[0], radio), "reserve_us": regions.reserve_us(bands[0])}


def modem_message(case, _signers):
    name = case["message"]
    value = getattr(modem, "decode_" + name)(unhexlify(case["body"]))
    return {"value": to_json(list(value)), "encoded": h(getattr(modem, "encode_" + name)(value))}


def manifest_seal(case, signers):
    manifest = releases.Manifest(
        case["sequence"], unhexlify(case["base"]), case["version"], case["heap_bytes"], case["size_bytes"], unhexlify(case["digest"])
    )
    signer = signers.signer(case["private_key"])
    frame = releases.seal_manifest(signer, case["network"], case["issuer"], manifest)
    return {
        "payload": h(releases.encode_manifest(manifest)),
        "external_aad": h(frames.external_aad(frames.RELEASE, case["network"], 0, 0)),
        "frame": h(frame),
    }


def manifest_decode(case, _signers):
    value = releases.decode_manifest(case["sequence"], unhexlify(case["payload"]))
    return {"value": to_json(list(value)), "encoded": h(releases.encode_manifest(value))}


def release_base(case, _signers):
    return {"base": h(releases.base_of([(name, unhexlify(digest)) for name, digest in case["files"]]))}


def body_encode(case, _signers):
    return {"data": h(releases.encode_body([(name, unhexlify(content)) for name, content in case["files"]]))}


def body_decode(case, _signers):
    stream = io.BytesIO(unhexlify(case["data"]))
    files = [[name, h(stream.read(size))] for name, size in releases.files_of(stream.read, case["size_bytes"])]
    return {"files": files, "encoded": h(releases.encode_body([(name, unhexlify(content)) for name, content in files]))}


def want_decode(case, _signers):
    value = releases.decode_want(unhexlify(case["body"]))
    return {"value": to_json(list(value)), "encoded": h(releases.encode_want(value))}


def piece_decode(case, _signers):
    value = releases.decode_piece(unhexlify(case["body"]))
    return {"value": to_json(list(value)), "encoded": h(releases.encode_piece(value))}


def ticket_message(case, _signers):
    """Decode and encode again; in the fields' order."""
    name = case["message"]
    value = getattr(tickets, "decode_" + name)(unhexlify(case["body"]))
    kind = "facts" if isinstance(value, tickets.Facts) else name
    return {"value": to_json(list(value)), "encoded": h(getattr(tickets, "encode_" + kind)(value))}


OPERATIONS = {
    "cbor.decode": cbor_decode,
    "cbor.encode": cbor_encode,
    "cose.decode": cose_decode,
    "frames.seal": seal,
    "frames.seal_acknowledgement": acknowledge,
    "frames.open_acknowledgement": open_acknowledgement,
    "records.encode_uplink": uplink_encode,
    "records.decode_uplink": uplink_decode,
    "orders.encode_order": order_encode,
    "orders.decode_order": order_decode,
    "beacons.encode_beacon": beacon_encode,
    "beacons.decode_beacon": beacon_decode,
    "hello.decode_hello": hello_decode,
    "schedule.check_schedule": schedule_decode,
    "slip.encode": slip_encode,
    "slip.decode": slip_decode,
    "replay": replay_run,
    "sequence": sequence_run,
    "receive_window": receive_run,
    "send_window": send_window_run,
    "elision.encode": packet_encode,
    "elision.decode": packet_decode,
    "fragments": reassemble,
    "airtime.time_on_air_us": time_on_air,
    "ledger": ledger_run,
    "regions.check_radio": check_radio,
    "modem": modem_message,
    "releases.seal_manifest": manifest_seal,
    "releases.decode_manifest": manifest_decode,
    "releases.base_of": release_base,
    "releases.encode_body": body_encode,
    "releases.files_of": body_decode,
    "releases.want": want_decode,
    "releases.piece": piece_decode,
    "tickets": ticket_message,
}


def run_case(case, signers):
    try:
        return {"id": case["id"], "out": OPERATIONS[case["op"]](case["in"], signers)}
    except ProtocolError as error:
        return {"id": case["id"], "error": error.reason}


def main(arguments):
    signers = Signers(arguments[0])
    for path in arguments[1:]:
        with open(path) as file:
            cases = json.load(file)["cases"]
        for case in cases:
            print(json.dumps(run_case(case, signers)))
        cases = case = None
        gc.collect()  # the next file is read while nothing of this one is left


if __name__ == "__main__":
    main(sys.argv[1:])
