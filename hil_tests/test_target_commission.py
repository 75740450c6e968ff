"""Boards of the target become nodes of the street by the technician's own command, whatever is pulled, full, foreign or copied."""

import base64
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench.targets.target import Target
from lamppost_protocol import cbor, slip
from lamppost_protocol.es256_host import public_key
from lamppost_tools.authority.public import AuthorityPublic
from lamppost_tools.board.repl import Board
from lamppost_tools.commission.journal import Journal
from lamppost_tools.commission.proof import proof_words, stored_to
from lamppost_tools.commission.reconfigure import config_on
from lamppost_tools.commission.several import commission_all
from lamppost_tools.commission.steps import commission
from lamppost_tools.errors import DeadlineError, MissingError, RefusedError, ToolError
from lamppost_tools.node.enrol import KeySource
from street.workbench import Workbench, lead, once, private_parts, run_on

pytestmark = pytest.mark.needs("console", "files", "line", "models", "reset")


def test_a_blank_board_becomes_a_node(workbench: Callable[..., Workbench], target: Target) -> None:
    """From a bare interpreter to a record that a gateway verified; done again, nothing is written and nobody is enrolled."""
    bench = workbench(bin_7="bin")
    status = bench.start_gateway()
    document = once(bench, "bin 7", status).document
    print(f"{target.name}: commissioned in {document['took_s']} s")
    assert (document["proof"]["gateway"], document["self_test"]["bin"]["quality"]) == ("g1", "good")
    assert re.fullmatch(r"record \d+ verified by gateway g1, \d+ ms; \d+\.\d s after its start", proof_words(document["proof"]))
    proven = document["proof"]["n"]
    bench.wait_until(lambda: stored_to(status, document["node"]) >= proven >= 1, "the record of the proof on the gateway's disk")
    entry = bench.registry.nodes()[document["node"]]
    private_key, hop_key = private_parts(bench, "bin 7")
    assert entry["public_key"] == document["public_key"] == public_key(private_key).hex()
    assert json.loads(bench.registry.hop_keys_path.read_text()) == {document["node"]: hop_key.hex()}
    again = once(bench, "bin 7", status).document
    assert (again["node"], again["public_key"], again["self_test"]) == (document["node"], document["public_key"], document["self_test"])
    assert len(bench.registry.nodes()) == 1
    written = [json.loads(line)["written"] for line in journal(bench).read_text().splitlines() if '"written"' in line]
    assert written[0] > 0
    assert written[1:] == [0]


def journal(bench: Workbench) -> Path:
    """The one journal there is."""
    (path,) = (bench.technician.folder / "journals").glob("*.jsonl")
    return path


def test_an_update_writes_only_what_changed(workbench: Callable[..., Workbench], target: Target) -> None:
    """A node in the street gets a newer kit: what differs is written, keys and settings stay as they are."""
    bench = workbench(lamp_1="lamp")
    before = once(bench, "lamp 1").document
    name = "firmware/lib/lamppost_node/refusal.mpy"
    files = {**bench.kit.files, name: bench.kit.files[name] + b"\0", "firmware/node.romfs": bench.kit.files["firmware/node.romfs"] + b"\0"}
    bench.kit = replace(bench.kit, files=files)
    after = once(bench, "lamp 1").document
    assert (after["node"], after["public_key"]) == (before["node"], before["public_key"])
    assert after["firmware"] != before["firmware"]
    written = [json.loads(line)["written"] for line in journal(bench).read_text().splitlines() if '"written"' in line]
    assert written[1] == 1


def test_a_changed_site_file_reaches_a_node_in_service(workbench: Callable[..., Workbench]) -> None:
    """What changes is told key by key and written, keys and counters stay; what fails its self-test is put back; again, nothing is written.

    A schedule in service is another matter: orders change it. It is told, and written when that is asked for.
    """
    bench = workbench(lamp_1="lamp")
    before = once(bench, "lamp 1").document
    assert before["settings_changed"] == []
    kept = run_on(bench, "lamp 1", _KEPT)
    old = config_of(bench)
    text = bench.site.read_text()
    bench.site.write_text(text.replace("report_s = 1", "report_s = 2").replace("[defaults.lamp]", "[defaults.lamp]\nfloor_percent = 20"))
    bench.fault("lamp 1", "meter_unplugged")
    with pytest.raises(RefusedError, match="lamp: sensor fault"):
        once(bench, "lamp 1")
    assert config_of(bench) == old
    bench.mend("lamp 1")
    after = once(bench, "lamp 1").document
    assert after["settings_changed"] == ["lamp.floor_percent: 10 -> 20", "report_s: 1 -> 2"]
    assert (after["node"], after["public_key"]) == (before["node"], before["public_key"])
    assert config_of(bench) == {**old, "report_s": 2, "fixtures": [{**old["fixtures"][0], "floor_percent": 20}]}
    assert run_on(bench, "lamp 1", _KEPT) == kept
    bench.site.write_text(bench.site.read_text().replace('["23:00", 60]', '["22:00", 50]'))
    with lead(bench.devices["lamp 1"]) as cable:
        again = commission(bench.bench(), bench.order("lamp 1", cable.path))
    assert again.document["settings_changed"] == []
    assert "lamp.schedule on the board is another one" in " ".join(again.not_done)
    third = once(bench, "lamp 1", is_rescheduling=True).document
    assert third["settings_changed"] == ["lamp.schedule: the site file's"]
    assert not [text for text in once(bench, "lamp 1").not_done if "schedule" in text]


_KEPT = """import hashlib, os
print(hashlib.sha256(open('/lamppost/identity.cbor', 'rb').read()).digest(), os.stat('/lamppost/counters/tx.0')[6] > 0)
"""


def config_of(bench: Workbench) -> dict[str, Any]:
    with lead(bench.devices["lamp 1"]) as cable:
        board = Board(cable.path)
        board.enter()
        try:
            return config_on(board).values
        finally:
            board.close()


def test_six_at_once_with_cables_pulled_at_every_step(workbench: Callable[..., Workbench], seed: int) -> None:
    """Each of six boards loses its cable in another step, at a random octet of it, then again anywhere; the same command goes on.

    Afterwards each is one node, whose key only it has, and a gateway verifies all six.
    """
    wirings = {f"lamp_{number}": "lamp" for number in range(7)}
    bench = workbench(**wirings)
    random_source = random.Random(seed)
    places: dict[str, list[int]] = {}
    with lead(bench.devices["lamp 0"]) as cable:
        told = replace(bench.bench(), tell=lambda order, step, detail: places.setdefault(step, []).append(cable.passed))
        commission(told, bench.order("lamp 0", cable.path))
        total = cable.passed
    starts = [places[step][0] for step in ("look", "install", "configure", "test", "keys", "lock")] + [total]
    assets = [f"lamp {number}" for number in range(1, 7)]
    cuts = {asset: random_source.randrange(starts[at], starts[at + 1]) for at, asset in enumerate(assets)}

    def round_of(pulled: dict[str, int]) -> list[ToolError | None]:
        with ExitStack() as stack:
            orders = []
            for asset in assets:
                cable = stack.enter_context(lead(bench.devices[asset], pulled.get(asset)))
                orders.append(bench.order(asset, cable.path))
            return [result.error for result in commission_all(bench.bench(), orders)]

    print("pulled after", cuts)
    errors = round_of(cuts)
    assert all(error is None or isinstance(error, MissingError | DeadlineError) for error in errors), errors
    assert sum(error is not None for error in errors) >= 5  # a cut in the last step's last octets changes nothing
    again = {asset: random_source.randrange(total) for asset in assets[::2]}
    print("then after", again)
    round_of(again)
    assert round_of({}) == [None] * 6
    nodes = bench.registry.nodes()
    assert sorted(entry["asset"] for entry in nodes.values()) == ["lamp 0", *assets]
    assert len({entry["public_key"] for entry in nodes.values()}) == 7
    status = bench.start_gateway()
    with ExitStack() as stack:
        orders = [bench.order(asset, stack.enter_context(lead(bench.devices[asset])).path) for asset in assets]
        results = commission_all(bench.bench(status), orders)
    assert [result.error for result in results] == [None] * 6
    assert all(result.document is not None and result.document["proof"]["gateway"] == "g1" for result in results)


def test_a_crash_before_the_registry_knows_makes_new_keys(workbench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys on the board, then this machine dies: nobody is enrolled. Going on makes new keys; without its journal it asks first."""
    bench = workbench(lamp_1="lamp")

    class DiedError(Exception):
        pass

    def die(*_: object) -> None:
        raise DiedError

    for is_journal_kept in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(bench.registry, "add", die)  # the last instant before the disk has it
            with pytest.raises(DiedError):
                once(bench, "lamp 1", is_replacing_keys=not is_journal_kept)
        assert not bench.registry.path.exists()
        old_key, _ = private_parts(bench, "lamp 1")
        if not is_journal_kept:
            journal(bench).unlink()
            with pytest.raises(RefusedError, match="does not know") as refused:
                once(bench, "lamp 1")
            assert "--replace-keys" in refused.value.next_step
            document = once(bench, "lamp 1", is_replacing_keys=True).document
            new_key, _ = private_parts(bench, "lamp 1")
            assert new_key != old_key
            assert list(bench.registry.nodes()) == [document["node"]]
        assert "enrol" not in journal(bench).read_text() or not is_journal_kept


def test_a_journal_cut_anywhere_is_no_harm(workbench: Callable[..., Workbench], tmp_path: Path) -> None:
    """Every prefix of a real journal opens, and what is noted next is a line of its own; the board's truth goes on from some of them."""
    bench = workbench(lamp_1="lamp")
    document = once(bench, "lamp 1").document
    whole = journal(bench).read_bytes()
    unit = journal(bench).stem
    assert document["unit"] == unit
    for length in range(len(whole) + 1):
        folder = tmp_path / "cut"
        folder.mkdir(exist_ok=True)
        (folder / f"{unit}.jsonl").write_bytes(whole[:length])
        made = Journal(folder, unit, lambda: 5.0)
        assert len(made.entries) == whole[:length].count(b"\n")
        made.note("look")
        again = Journal(folder, unit, lambda: 6.0)
        assert again.entries == made.entries
    for length in (0, whole.index(b"\n") // 2, whole.index(b'"keys"') + 3, len(whole) - 1):
        journal(bench).write_bytes(whole[:length])
        assert once(bench, "lamp 1").document["node"] == document["node"]
    journal(bench).write_bytes(b"{}\n" + whole)
    with pytest.raises(RefusedError, match=r"jsonl:1: not a line"):
        once(bench, "lamp 1")


def test_a_board_that_is_somebody_elses_is_left_alone(workbench: Callable[..., Workbench]) -> None:
    """Another network's node, one of other furniture, a revoked one, furniture that has a node: refused with what to do."""
    bench = workbench(lamp_1="lamp", lamp_2="lamp")
    node = once(bench, "lamp 1").document["node"]
    before = run_on(bench, "lamp 1", _DIGEST)
    with pytest.raises(RefusedError, match=f"node {node} of 'lamp 1', not of 'lamp 2'"):
        once(bench, "lamp 1", asset="lamp 2")
    with pytest.raises(RefusedError, match="already, and this board is not it") as refused:
        once(bench, "lamp 2", asset="lamp 1")
    assert f"--replaces {node}" in refused.value.next_step
    own, public = bench.technician, bench.technician.authority
    bench.technician = replace(own, authority=AuthorityPublic(0xBEEF, public.issuer, public.public_key))
    with pytest.raises(RefusedError, match="of network 00c0ffee, yours is 0000beef") as refused:
        once(bench, "lamp 1")
    assert "revoked there" in refused.value.next_step
    bench.technician = own
    assert run_on(bench, "lamp 1", _DIGEST) == before
    bench.registry.revoke(int(node, 16))
    with pytest.raises(RefusedError, match="is revoked"):
        once(bench, "lamp 1")
    assert once(bench, "lamp 2", asset="lamp 1").document["asset"] == "lamp 1"


_DIGEST = """import hashlib
for path in ('/main.py', '/lamppost/identity.cbor', '/lamppost/config.cbor', '/lamppost/tables/command.tbl'):
    print(path, hashlib.sha256(open(path, 'rb').read()).digest())
"""


@pytest.mark.needs("processes")
def test_a_copied_flash_is_found_out(workbench: Callable[..., Workbench]) -> None:
    """All files of a node on another board: its chip's number gives it away, to us and to itself, and it signs nothing.

    On the same board with another key in its identity: the signature gives it away.
    """
    bench = workbench(lamp_1="lamp", lamp_2="lamp")
    once(bench, "lamp 1")
    files = {asset: Path(bench.devices[asset].files) for asset in bench.devices}  # type: ignore[attr-defined]
    shutil.copytree(files["lamp 1"], files["lamp 2"], dirs_exist_ok=True)
    with pytest.raises(RefusedError, match="was copied from another one") as refused:
        once(bench, "lamp 2", asset="lamp 1")
    assert "erase" in refused.value.next_step
    said = bench.cables["lamp 2"]
    bench.devices["lamp 2"].cut_power()
    bench.devices["lamp 2"].start()
    bench.wait_until(lambda: b"IdentityError unit" in b"".join(said.up), "the copy's own words")
    assert {kind for kind, _ in slip.Decoder().feed(b"".join(slip.END + piece for piece in said.up))} == {slip.LOG}
    path = files["lamp 1"] / "lamppost/identity.cbor"
    path.write_bytes(cbor.encode({**cbor.decode(path.read_bytes()), "private_key": b"\x05" * 32}))
    with pytest.raises(RefusedError, match="does not hold its key"):
        once(bench, "lamp 1")


@pytest.mark.parametrize(
    ("asset", "fault", "words"), [("bin_7", "unplugged", "bin: sensor fault"), ("lamp_1", "meter_unplugged", "lamp: sensor fault")]
)
def test_a_dead_sensor_ends_before_the_registry_knows(workbench: Callable[..., Workbench], asset: str, fault: str, words: str) -> None:
    """The self-test names it; nobody is enrolled, no main.py is there. Mended, the same command goes on to the end."""
    bench = workbench(**{asset: asset.partition("_")[0]})
    name = asset.replace("_", " ")
    bench.fault(name, fault)
    with pytest.raises(RefusedError, match=words) as refused:
        once(bench, name)
    assert "wiring" in refused.value.next_step
    assert not bench.registry.path.exists()
    assert run_on(bench, name, "import os\nprint('main.py' in os.listdir('/'))").strip() == "False"
    bench.mend(name)
    assert once(bench, name).document["self_test"]


def test_a_bad_generator_makes_no_node(workbench: Callable[..., Workbench]) -> None:
    """All zero, or the same key twice: refused before anything of it is on a board or in the registry."""
    bench = workbench(lamp_1="lamp")
    for keys in (KeySource(private=lambda: bytes(32)), KeySource(draw=lambda count: b"\x55" * count)):
        with pytest.raises(RefusedError, match="generator"):
            once(bench, "lamp 1", keys=keys)
    assert not bench.registry.path.exists()
    assert "identity.cbor" not in run_on(bench, "lamp 1", "import os\nprint(os.listdir('/lamppost'))")


@pytest.mark.needs("processes")
@pytest.mark.parametrize(
    ("disk", "words"), [("full", "flash is full"), ("broken", "file system refuses"), ("forgetful", "forgets|refuses")]
)
def test_a_flash_that_is_full_or_broken_is_told(workbench: Callable[..., Workbench], disk: str, words: str) -> None:
    """A real littlefs on a small, a failing and a lying block device: a sentence and what to do."""
    bench = workbench(lamp_1="lamp")
    Path(bench.devices["lamp 1"].files, "boot.py").write_text(_DISK.format(disk=disk))  # type: ignore[attr-defined]
    with pytest.raises(RefusedError, match=words) as refused:
        once(bench, "lamp 1")
    assert "erase" in refused.value.next_step or "mpremote" in refused.value.next_step
    assert not bench.registry.path.exists()


_DISK = """import os, vfs
class Disk:
    def __init__(self, blocks):
        self.data = bytearray(512 * blocks)
        self.kind = ''
    def readblocks(self, block, buffer, offset=0):
        at = block * 512 + offset
        buffer[:] = self.data[at:at + len(buffer)]
    def writeblocks(self, block, buffer, offset=0):
        if self.kind == 'broken':
            return -5
        if self.kind != 'forgetful':
            at = block * 512 + offset
            self.data[at:at + len(buffer)] = buffer
    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.data) // 512
        if operation == 5:
            return 512
        return 0
disk = Disk(40)
vfs.VfsLfs2.mkfs(disk)
made = vfs.VfsLfs2(disk)
vfs.umount('/')
vfs.mount(made, '/')
disk.kind = '{disk}'
"""


def test_a_busy_board_is_asked_again(workbench: Callable[..., Workbench]) -> None:
    """A program that takes the first interrupts for itself is stopped all the same; one that takes them all is told in time."""
    bench = workbench(lamp_1="lamp")
    loop = "taken = 0\nwhile True:\n try:\n  time.sleep(0.05)\n except KeyboardInterrupt:\n  taken += 1\n  if taken > {most}:\n   raise\n"
    with lead(bench.devices["lamp 1"]) as cable:
        board = Board(cable.path)
        for most, is_stopped in ((3, True), (10_000, False)):
            board.enter()
            board.transport.exec_raw_no_follow("import time\n" + loop.format(most=most))
            if is_stopped:
                board.enter()
                assert board.exec("print(6 * 7)") == "42\n"
            else:
                with pytest.raises(DeadlineError, match="does not let go") as late:
                    board.enter(4)
                assert "reset button" in late.value.next_step
        board.close()


def test_a_node_that_does_not_stay_up_is_told(workbench: Callable[..., Workbench], target: Target) -> None:
    """A kit whose main.py ends: the board is back at a prompt after its reset, and is not called commissioned."""
    bench = workbench(lamp_1="lamp")
    bench.kit = replace(bench.kit, files={**bench.kit.files, "firmware/main.py": b"print('good bye')\n"})
    with lead(bench.devices["lamp 1"]) as cable, pytest.raises(RefusedError, match="does not stay up"):
        commission(bench.bench(boot_s=target.deadline_s(5)), bench.order("lamp 1", cable.path))
    assert not (bench.technician.folder / "records").exists()


def test_files_that_are_not_ours_are_named(workbench: Callable[..., Workbench], target: Target) -> None:
    """What would run or be imported before the node: the board is not closed over it, and it is not touched."""
    bench = workbench(lamp_1="lamp")
    run_on(bench, "lamp 1", "import os\nopen('/asyncio.py', 'w').write('x = 1')\nopen('/webrepl_cfg.py', 'w').write('')")
    with pytest.raises(RefusedError, match=r"/asyncio\.py, /webrepl_cfg\.py"):
        once(bench, "lamp 1")
    assert run_on(bench, "lamp 1", "print(open('/asyncio.py').read())") == "x = 1\n"
    run_on(bench, "lamp 1", "import os\nos.remove('/asyncio.py')\nos.remove('/webrepl_cfg.py')")
    once(bench, "lamp 1")


def test_no_prompt_on_the_protocol_line(workbench: Callable[..., Workbench], seed: int) -> None:
    """Every octet, floods of control characters and commands on the line of a commissioned node: no prompt, no answer of an interpreter."""
    bench = workbench(lamp_1="lamp")
    status = bench.start_gateway()
    once(bench, "lamp 1", status)
    cable = bench.cables["lamp 1"]
    taken = len(cable.up)
    said = random.Random(seed)
    floods = [
        bytes(range(256)),
        *(bytes((control,)) * 300 for control in range(1, 6)),
        b"\r\n\x01print(6*7)\x04",
        b"\x03\x03\r\nprint(6*7)\r\n",
    ]
    for flood in [*floods, said.randbytes(2000)]:
        cable.say("device", flood)
    frames_before = bench.frames("lamp 1")
    bench.wait_until(lambda: bench.frames("lamp 1") > frames_before + 3, "frames after the flood")
    heard = b"".join(cable.up[taken:])
    assert heard
    for words in (b">>>", b"raw REPL", b"42\r\n", b"Traceback"):
        assert words not in heard


@pytest.mark.needs("processes")
def test_as_a_technician_meets_it(workbench: Callable[..., Workbench], kit_folder: Path) -> None:
    """The command itself, two boards, one with a dead sensor: plain lines on a pipe, what is wrong and what to do, status 1, then 0.

    No output, journal, record or label holds a private key in any spelling; the record's signature is good, and only as it stands.
    """
    bench = workbench(bin_7="bin", lamp_1="lamp")
    bench.fault("bin 7", "unplugged")

    def run(*more: str) -> subprocess.CompletedProcess[bytes]:
        with lead(bench.devices["bin 7"]) as one, lead(bench.devices["lamp 1"]) as two:
            words = ["commission", "--technician", str(bench.technician.folder), "--kit", str(kit_folder), "--site", str(bench.site)]
            words += ["--asset", "bin 7", "--port", one.path, "--asset", "lamp 1", "--port", two.path, *more]
            return subprocess.run(
                [sys.executable, "-m", "lamppost_tools", *words],
                capture_output=True,
                timeout=120,
                check=False,
                env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            )

    first, second = run(), run("--json")
    said = first.stdout.decode() + first.stderr.decode()
    assert first.returncode == 1, said
    assert "bin 7: " in said
    assert "sensor fault" in said
    assert "lamp 1: commissioned as node" in said
    assert "not done: no gateway has verified" in said
    assert "\x1b" not in said
    assert "/10 keys" in first.stderr.decode()
    shown = {one["asset"]: one for one in json.loads(second.stdout)}
    assert (shown["bin 7"]["verdict"], shown["lamp 1"]["verdict"]) == ("refused", "commissioned")
    bench.mend("bin 7")
    third = run("--json")
    assert third.returncode == 0, third.stderr
    folder = bench.technician.folder
    outputs = [data for done in (first, second, third) for data in (done.stdout, done.stderr)]
    outputs += [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "key.pem"]
    outputs.append(bench.registry.path.read_bytes())
    for asset in ("bin 7", "lamp 1"):
        for secret in private_parts(bench, asset):
            spelled = (secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret), repr(secret).encode())
            assert not [data for data in outputs for text in spelled if text in data]
    record = Path(shown["lamp 1"]["record"])
    check = ["technician", "check-record", str(record), "--technician-key", str(folder / "technician-public.json")]
    assert subprocess.run([sys.executable, "-m", "lamppost_tools", *check], capture_output=True, check=False).returncode == 0
    record.write_bytes(record.read_bytes().replace(b'"lamp 1"', b'"lamp 2"'))
    assert subprocess.run([sys.executable, "-m", "lamppost_tools", *check], capture_output=True, check=False).returncode == 1
