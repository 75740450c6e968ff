"""What becomes of a node after its commissioning, by the technician's own commands, whatever is pulled."""

import base64
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lamppost_protocol.es256_host import public_key
from lamppost_tools.board.repl import Board
from lamppost_tools.commission.paper import read_record
from lamppost_tools.commission.steps import commission
from lamppost_tools.errors import DeadlineError, MissingError, RefusedError
from lamppost_tools.life.decommission import decommission
from lamppost_tools.life.rekey import STEPS as REKEY_STEPS
from lamppost_tools.life.rekey import rekey
from lamppost_tools.life.reset import reset
from lamppost_tools.node.config import node_config
from lamppost_tools.node.registry import valid_keys
from street.workbench import NETWORK, Workbench, lead, once, private_parts, run_on

pytestmark = pytest.mark.needs("console", "files", "line", "models", "reset")

LORA = {"region": "EU868", "channels_hz": [868100000, 867100000], "downlink_hz": 869525000}
_ACCOUNTS = """from lamppost_node.flash import Flash
from lamppost_node.settings import Settings
settings = Settings(Flash('/lamppost'))
"""
_TELL_ACCOUNTS = _ACCOUNTS + "print(settings.load('airtime.L'), settings.load('airtime.M'))"


def test_what_a_radio_has_sent_is_not_forgotten(workbench: Callable[..., Workbench]) -> None:
    """Accounts begin at 0 on a board that was nothing yet; made anew, it keeps the one it has, and one that is gone is not made up."""
    bench = workbench(bin_7="bin")
    config, _ = node_config({"lora": LORA, "fixtures": [{"kind": "bin"}]}, NETWORK)
    once(bench, "bin 7", config=config)
    assert run_on(bench, "bin 7", _TELL_ACCOUNTS) == "0 0\n"
    run_on(bench, "bin 7", _ACCOUNTS + "settings.save('airtime.L', 4500000)\nFlash('/lamppost').remove('settings/airtime.M')")
    bench.registry.path.unlink()
    bench.registry.hop_keys_path.unlink()
    with lead(bench.devices["bin 7"]) as cable:
        commission(bench.bench(), replace(bench.order("bin 7", cable.path, is_replacing_keys=True), config=config))
    assert run_on(bench, "bin 7", _TELL_ACCOUNTS) == "4500000 None\n"


def id_of(bench: Workbench, asset: str) -> str:
    """The node of an asset that is in service."""
    (name,) = [name for name, entry in bench.registry.nodes().items() if entry["asset"] == asset and not entry["revoked"]]
    return name


def rekeyed(bench: Workbench, asset: str, *, pull_after: int | None = None, **options: Any) -> dict[str, Any]:
    """One visit that re-keys the asset's node."""
    with lead(bench.devices[asset], pull_after) as cable:
        return rekey(bench.desk(**options), cable.path, int(id_of(bench, asset), 16))


def assert_neither_locked_out_nor_dead(bench: Workbench, asset: str) -> int:
    """The key that the board would sign with is valid by the registry, in its epoch, and its counter is there; that epoch."""
    said = run_on(bench, asset, _TELL_EPOCH)
    epoch, is_lost = json.loads(said)
    assert not is_lost
    private_key, hop_key = private_parts(bench, asset)
    name = id_of(bench, asset)
    entry = bench.registry.nodes()[name]
    assert valid_keys(entry)[epoch] == public_key(private_key).hex(), (epoch, entry)
    hop_keys = json.loads(bench.registry.hop_keys_path.read_text())
    assert hop_keys.get(f"{name}.{epoch}", hop_keys[name]) == hop_key.hex()
    return int(epoch)


_TELL_EPOCH = """import json
from lamppost_node import identity
from lamppost_node.flash import Flash
from lamppost_node.sequence_store import SequenceStore
flash = Flash('/lamppost')
epoch = identity.epoch_of(flash, identity.FILE)
print(json.dumps([epoch, SequenceStore(flash, epoch).is_lost]))
"""
_LOSE_COUNTER = """from lamppost_node.flash import Flash
flash = Flash('/lamppost')
for copy in ('counters/tx.0', 'counters/tx.1'):
    flash.remove(copy)
import machine
machine.reset()
"""


def stored(bench: Workbench, node: str) -> dict[int, set[int]]:
    """Numbers of all records of a node that the gateway has, by epoch."""
    assert bench.gateway is not None
    found: dict[int, set[int]] = {}
    for _, whose, epoch, _, n, count, _, _ in bench.gateway.rows():
        if whose == int(node, 16):
            found.setdefault(epoch, set()).update(range(n, n + count))
    return found


def test_a_node_whose_counter_is_lost_gets_new_keys(workbench: Callable[..., Workbench]) -> None:
    """Silent for want of its counter, it measures on; re-keyed, all it measured arrives under the next epoch, and the old one has ended."""
    bench = workbench(lamp_1="lamp")
    status = bench.start_gateway()
    before = once(bench, "lamp 1", status).document
    node = before["node"]
    with lead(bench.devices["lamp 1"]) as cable:
        board = Board(cable.path)
        board.enter()
        board.transport.exec_raw_no_follow(_LOSE_COUNTER)
        board.close()
    assert bench.gateway is not None
    bench.wait_until(lambda: b"counter lost: re-key" in b"".join(bench.cables["lamp 1"].up), "the node's own words")
    after = rekeyed(bench, "lamp 1", gateway_status=status)
    assert (after["epoch"], after["epochs_before"], after["proof"]["gateway"]) == (2, [1], "g1")
    assert after["not_done"] == []
    assert assert_neither_locked_out_nor_dead(bench, "lamp 1") == 2
    entry = bench.registry.nodes()[node]
    assert ([key["epoch"] for key in entry["past"]], valid_keys(entry).keys()) == ([1], {2})
    assert list(json.loads(bench.registry.hop_keys_path.read_text())) == [node]

    def is_whole() -> bool:
        found = stored(bench, node)
        return found[1] | found[2] == set(range(1, max(found[2]) + 1)) and max(found[2]) > max(found[1])

    bench.wait_until(is_whole, "every record, under one epoch or the other: what is newest comes first")


def test_a_rekeying_cut_at_every_step_locks_nobody_out(workbench: Callable[..., Workbench], seed: int) -> None:
    """The cable is pulled at a random octet of each step, and the board goes on; the same command goes on; a gateway then verifies it."""
    bench = workbench(lamp_1="lamp")
    once(bench, "lamp 1")
    source = random.Random(seed)
    places: dict[str, int] = {}
    with lead(bench.devices["lamp 1"]) as cable:
        told = replace(bench.desk(), tell=lambda step, detail: places.setdefault(step, cable.passed))
        rekey(told, cable.path, int(id_of(bench, "lamp 1"), 16))
        total = cable.passed
    assert [step for step in REKEY_STEPS if step in places] == ["look", "keys", "register", "switch", "paper"]
    status = bench.start_gateway()
    first = rekeyed(bench, "lamp 1", gateway_status=status)["epoch"]
    steps = ("keys", "register", "switch", "paper")
    for begin, end in zip(steps, [*steps[1:], ""], strict=True):
        at = source.randrange(places[begin], max(places.get(end, total), places[begin] + 1))
        print(f"pulled in {begin}, after {at} of {total}")
        try:
            rekeyed(bench, "lamp 1", pull_after=at)
        except (MissingError, DeadlineError, RefusedError) as error:
            print(error)
        epoch = assert_neither_locked_out_nor_dead(bench, "lamp 1")
        assert epoch in valid_keys(bench.registry.nodes()[id_of(bench, "lamp 1")])
        done = rekeyed(bench, "lamp 1", gateway_status=status)
        assert done["proof"]["gateway"] == "g1"
        assert done["epoch"] > first
        first = done["epoch"]
        assert list(json.loads(bench.registry.hop_keys_path.read_text())) == [id_of(bench, "lamp 1")]


class DiedError(Exception):
    """This machine is gone."""


@pytest.mark.parametrize("is_written", [False, True])
def test_a_machine_that_dies_at_the_registry_locks_nobody_out(
    workbench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    """Just before and just after each of the registry's three writes: what the board has is valid then, and the same command goes on."""
    bench = workbench(lamp_1="lamp")
    once(bench, "lamp 1")
    status = bench.start_gateway()
    epochs = []
    for step in ("begin_rekey", "promote", "retire"):
        whole = getattr(bench.registry, step)

        def dying(*words: Any, whole: Callable[..., Any] = whole) -> None:
            if is_written:
                whole(*words)
            raise DiedError

        with monkeypatch.context() as patch:
            patch.setattr(bench.registry, step, dying)
            with pytest.raises(DiedError):
                rekeyed(bench, "lamp 1", gateway_status=status)
        epochs.append(assert_neither_locked_out_nor_dead(bench, "lamp 1"))
        epochs.append(rekeyed(bench, "lamp 1", gateway_status=status)["epoch"])
    # Died behind the last write, all was done: the command then is asked for a new epoch.
    assert epochs == ([1, 2, 3, 3, 4, 5] if is_written else [1, 2, 3, 3, 4, 4])


def test_a_gateway_that_does_not_know_the_next_epoch_stops_the_switch(workbench: Callable[..., Workbench]) -> None:
    """Its registry is not the technician's: the node stays in the epoch that it accepts, and goes on; told of it, the command goes on."""
    bench = workbench(lamp_1="lamp")
    status = bench.start_gateway()
    once(bench, "lamp 1", status)
    assert bench.gateway is not None
    path = bench.registry.path
    kept = path.with_name("newest")
    desk = replace(bench.desk(status), gateway_s=1.0)

    def hidden(step: str, detail: str) -> None:
        if step == "agree":
            path.rename(kept)  # the gateway refuses to unlearn, and has not read it yet

    with lead(bench.devices["lamp 1"]) as cable, pytest.raises(DeadlineError, match="does not know epoch 2") as late:
        rekey(replace(desk, tell=hidden), cable.path, int(id_of(bench, "lamp 1"), 16))
    assert "goes on as it was" in late.value.next_step
    kept.rename(path)
    frames = bench.frames("lamp 1")
    bench.wait_until(lambda: bench.frames("lamp 1") > frames, "frames of the old epoch")
    assert rekeyed(bench, "lamp 1", gateway_status=status)["epoch"] == 2


_CONFIGURATION = """import hashlib
from lamppost_protocol import cbor
data = open('/lamppost/config.cbor', 'rb').read()
try:
    values = cbor.decode(data)
except Exception:
    values = cbor.decode(data[4:])
print(hashlib.sha256(cbor.encode(values)).digest())
"""


def test_another_board_takes_a_nodes_place(workbench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """One write ends the old node and begins the new one, with its asset and settings; before it the old one serves on. What the old
    board says from then on is refused as a revoked node's.
    """
    bench = workbench(lamp_1="lamp", lamp_2="lamp")
    status = bench.start_gateway()
    old = once(bench, "lamp 1", status).document["node"]
    with monkeypatch.context() as patch:
        patch.setattr(bench.registry, "add", died)
        with pytest.raises(DiedError):
            once(bench, "lamp 2", status, asset="lamp 1", replaces=old)
    frames = bench.frames("lamp 1")
    bench.wait_until(lambda: bench.frames("lamp 1") > frames, "the old node, still in service")
    document = once(bench, "lamp 2", status, asset="lamp 1", replaces=old).document
    new = document["node"]
    assert new != old
    assert (document["replaces"], document["asset"], document["proof"]["gateway"]) == (old, "lamp 1", "g1")
    nodes = bench.registry.nodes()
    assert (nodes[old]["revoked"], nodes[old]["reason"], nodes[old]["replaced_by"]) == (True, "replaced", new)
    assert nodes[old]["revoked_at"] > 1_700_000_000
    assert (nodes[new]["replaces"], nodes[new]["fixtures"]) == (old, nodes[old]["fixtures"])
    assert list(json.loads(bench.registry.hop_keys_path.read_text())) == [new]
    assert run_on(bench, "lamp 1", _CONFIGURATION) == run_on(bench, "lamp 2", _CONFIGURATION)
    bench.devices["lamp 1"].stop()
    bench.devices["lamp 1"].start()
    assert bench.gateway is not None
    bench.wait_until(lambda: bench.gateway.counted("rejected", reason="revoked_node") > 0, "the old board, refused")
    with pytest.raises(RefusedError, match="is revoked") as refused:
        once(bench, "lamp 1")
    assert f"node reset {old}" in refused.value.next_step


def test_a_replacement_that_is_none_is_refused(workbench: Callable[..., Workbench]) -> None:
    """The node's own board, a node of something else, one that nobody knows: refused before anything is written; done again it goes on."""
    bench = workbench(lamp_1="lamp", lamp_2="lamp")
    old = once(bench, "lamp 1").document["node"]
    for board, asset, replaces, words in (
        ("lamp 1", "lamp 1", old, "itself"),
        ("lamp 2", "lamp 2", old, "is of 'lamp 1'"),
        ("lamp 2", "lamp 1", "0000beef", "knows no node"),
    ):
        with pytest.raises(RefusedError, match=words):
            once(bench, board, asset=asset, replaces=replaces)
    new = once(bench, "lamp 2", asset="lamp 1", replaces=old).document["node"]
    assert once(bench, "lamp 2", asset="lamp 1", replaces=old).document["node"] == new


def died(*_: object) -> None:
    """The last instant before the disk has it."""
    raise DiedError


def visited(bench: Workbench, asset: str, work: Callable[..., dict[str, Any]], node: str, *words: Any, **options: Any) -> dict[str, Any]:
    """One visit to a board that is said to be `node`."""
    pull_after = options.pop("pull_after", None)
    with lead(bench.devices[asset], pull_after) as cable:
        return work(bench.desk(**options), cable.path, int(node, 16), *words)


_BELOW = """import json, os
def below(path):
    found = []
    for name, kind in [entry[:2] for entry in os.ilistdir(path)]:
        found.extend(below(path + '/' + name) if kind & 0x4000 else [path + '/' + name])
    return found
print(json.dumps([below('/lamppost'), os.listdir('/')]))
"""


def test_a_node_ends_its_service_and_its_lamp_stays_lit(workbench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it owes is fetched although it had been cut off; then revoked, erased, looked after; the lamp is lit at its safe level.

    Without a gateway it asks for --force and says how many; the node goes on lit. A machine that dies in between: the same command goes on.
    """
    bench = workbench(lamp_1="lamp")
    status = bench.start_gateway()
    node = once(bench, "lamp 1", status).document["node"]
    cable = bench.cables["lamp 1"]
    cable.pull("g1")
    taken = len(cable.up)
    bench.wait_until(lambda: len(cable.up) > taken + 5, "frames that nobody takes")
    with pytest.raises(RefusedError, match=r"up to \d+ records") as refused:
        visited(bench, "lamp 1", decommission, node)
    assert "--force" in refused.value.next_step
    assert not bench.registry.nodes()[node]["revoked"]

    def plug_later(step: str, detail: str) -> None:
        """The gateway hears again only when the node, started anew to be heard, has spoken for a while in vain."""
        if step == "fetch":
            begun = len(cable.up)
            threading.Thread(target=lambda: [cable.changes.wait(lambda: len(cable.up) > begun + 4, "frames", 60), cable.plug("g1")]).start()

    with monkeypatch.context() as patch, lead(bench.devices["lamp 1"]) as port:
        patch.setattr(bench.registry, "revoke", died)
        with pytest.raises(DiedError):
            decommission(replace(bench.desk(status), tell=plug_later), port.path, int(node, 16))
    private_key, hop_key = private_parts(bench, "lamp 1")
    document = visited(bench, "lamp 1", decommission, node, "street is rebuilt", gateway_status=status)
    assert (document["records_lost_at_most"], document["reason"], document["node"]) == (0, "street is rebuilt", node)
    numbers = stored(bench, node)[1]
    assert numbers == set(range(1, max(numbers) + 1)), "a record was lost"
    entry = bench.registry.nodes()[node]
    assert (entry["revoked"], entry["reason"]) == (True, "street is rebuilt")
    assert json.loads(bench.registry.hop_keys_path.read_text()) == {}
    levels = [level for _, level, _ in bench.lamp_log("lamp 1")]
    assert (min(levels), levels[-1]) == (1000, 1000), "permille"
    files, top = json.loads(run_on(bench, "lamp 1", _BELOW))
    assert "main.py" in top
    assert {name.split("/")[2] for name in files} <= {"config.cbor", "settings"}
    for name in files:
        content = run_on(bench, "lamp 1", f"import binascii\nprint(binascii.hexlify(open({name!r}, 'rb').read()))")
        assert private_key.hex() not in content
        assert hop_key.hex() not in content
    again = visited(bench, "lamp 1", decommission, node, gateway_status=status)
    assert again["reason"] == "street is rebuilt"


def test_a_decommissioning_taken_back_is_begun_anew(workbench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """Noted in the journal, never in the registry, and commissioned again: it keeps records again, and those are asked about again."""
    bench = workbench(lamp_1="lamp")
    node = once(bench, "lamp 1").document["node"]
    with monkeypatch.context() as patch:
        patch.setattr(bench.registry, "revoke", died)
        with pytest.raises(DiedError):
            visited(bench, "lamp 1", decommission, node, "scrapped", True)
    assert "/lamppost/settings/leaving" in json.loads(run_on(bench, "lamp 1", _BELOW))[0]
    assert once(bench, "lamp 1").document["node"] == node
    said = bench.cables["lamp 1"].up
    taken = len(said)
    bench.wait_until(lambda: len(said) > taken + 5, "frames that nobody takes")
    assert "/lamppost/settings/leaving" not in json.loads(run_on(bench, "lamp 1", _BELOW))[0]
    with pytest.raises(RefusedError, match=r"up to \d+ records"):
        visited(bench, "lamp 1", decommission, node)
    assert not bench.registry.nodes()[node]["revoked"]


def test_a_bare_board_again(workbench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's board, in service or decommissioned, whose key proves it: erased, and commissioned as another node. Airtime accounts stay.

    Another city's board, another node's, and one that nothing proves are left as they are; one that the registry calls lost is taken.
    """
    bench = workbench(lamp_1="lamp")
    node = once(bench, "lamp 1").document["node"]
    run_on(bench, "lamp 1", _ACCOUNTS + "settings.save('airtime.L', 77)")
    files = json.loads(run_on(bench, "lamp 1", _BELOW))
    own, public = bench.technician, bench.technician.authority
    bench.technician = replace(own, authority=replace(public, network=0xBEEF))
    with pytest.raises(RefusedError, match="of network 00c0ffee, yours is 0000beef"):
        visited(bench, "lamp 1", reset, node)
    bench.technician = own
    with pytest.raises(RefusedError, match="knows no node"):
        visited(bench, "lamp 1", reset, "0000beef")
    spoil = "from lamppost_protocol import cbor\npath = '/lamppost/identity.cbor'\nvalues = cbor.decode(open(path, 'rb').read())\n"
    spoil += "values['private_key'] = b'\x05' * 32\nwith open(path, 'wb') as file:\n    file.write(cbor.encode(values))"
    run_on(bench, "lamp 1", spoil)
    with pytest.raises(RefusedError, match="does not hold its key") as refused:
        visited(bench, "lamp 1", reset, node)
    assert "--reason lost" in refused.value.next_step
    assert set(files[0]) <= set(json.loads(run_on(bench, "lamp 1", _BELOW))[0])
    bench.registry.revoke(int(node, 16), "lost")
    with monkeypatch.context() as patch:
        patch.setattr(bench.registry, "revoke", died)
        with pytest.raises(DiedError):
            visited(bench, "lamp 1", reset, node)
    document = visited(bench, "lamp 1", reset, node)
    assert (document["known_by"], document["reason"]) == ("the registry: revoked, and made for this chip", "lost")
    left, top = json.loads(run_on(bench, "lamp 1", _BELOW))
    assert left == ["/lamppost/settings/airtime.L"]
    assert not {"main.py", "boot.py"} & set(top)
    again = once(bench, "lamp 1").document
    assert again["node"] != node
    assert run_on(bench, "lamp 1", _TELL_ACCOUNTS) == "77 None\n"
    document = visited(bench, "lamp 1", reset, again["node"])
    assert (document["known_by"], bench.registry.nodes()[again["node"]]["reason"]) == ("its key", "factory reset")
    assert visited(bench, "lamp 1", reset, again["node"])["known_by"].startswith("the registry")


@pytest.mark.needs("processes")
def test_as_a_technician_meets_them(workbench: Callable[..., Workbench], kit_folder: Path) -> None:
    """The commands themselves: plain words and JSON, status 1 with what to do, records whose signatures are good, the chain in `node list`.

    No output, journal, record, label or registry holds a private or a hop key that is or was on the board, in any spelling.
    """
    bench = workbench(lamp_1="lamp")
    folder = bench.technician.folder
    outputs: list[bytes] = []

    def run(*words: str, status: int = 0) -> str:
        with lead(bench.devices["lamp 1"]) as cable:
            end = ["--technician", str(folder), "--port", cable.path] if words[:2] != ("node", "list") else []
            command = [sys.executable, "-m", "lamppost_tools", *words, *end]
            done = subprocess.run(
                command, capture_output=True, timeout=110, check=False, env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
            )
        outputs.extend([done.stdout, done.stderr])
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == status, said
        return said if status else done.stdout.decode()

    node = once(bench, "lamp 1").document["node"]
    keys = [*private_parts(bench, "lamp 1")]
    shown = run("node", "rekey", node)
    assert f"node {node} has the keys of epoch 2" in shown
    assert "not done: no gateway has verified" in shown
    keys += private_parts(bench, "lamp 1")
    assert "try: " in run("node", "decommission", node, status=1)
    assert "try: " in run("node", "reset", "0000beef", status=1)
    document = json.loads(run("node", "decommission", node, "--force", "--reason", "scrapped", "--json"))
    assert (document["verdict"], document["reason"]) == ("done", "scrapped")
    assert "is bare" in run("node", "reset", node)
    assert "revoked: scrapped 20" in run("node", "list", "--registry", str(bench.registry.path))
    outputs += [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "key.pem"]
    outputs.append(bench.registry.path.read_bytes())
    assert len(keys) == len(set(keys)) == 4
    for secret in keys:
        spelled = (secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret), repr(secret).encode())
        assert not [data for data in outputs for text in spelled if text in data]
    for name in (f"{node}-epoch-2", f"{node}-decommissioned", f"{node}-reset"):
        assert read_record(folder / "records" / f"{name}.json", folder / "technician-public.json")["node"] == node


@pytest.mark.needs("cuts")
def test_nothing_of_a_key_is_left_in_the_flash_chip(workbench: Callable[..., Workbench]) -> None:
    """The chip itself, octet by octet, with the power off: the keys are there before, and nowhere after a reset."""
    bench = workbench(lamp_1="lamp")
    node = once(bench, "lamp 1").document["node"]
    keys = private_parts(bench, "lamp 1")
    device = bench.devices["lamp 1"]

    def holds(key: bytes) -> bool:
        device.cut_power()
        content = device.flash_image.read_bytes()
        device.start()
        return key in content

    assert all(holds(key) for key in keys)
    assert visited(bench, "lamp 1", reset, node)["not_done"] == []
    assert not any(holds(key) for key in keys)
