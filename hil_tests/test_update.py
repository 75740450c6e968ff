"""Signed updates of a whole node, in virtual time: fetched in pieces, tried, confirmed or returned; never bricked, never downgraded (R26).

What a release contains that is wrong is compiled from this tree with one change. Half of the cases, and all power cuts, are the soak's.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bench.lock_step import HALF, WHOLE
from lamppost_protocol import orders, releases
from lamppost_protocol.kinds import LAMP, NODE
from littlefs import LittleFS
from street.node_device import STATE
from street.release import version
from street.updated_node import UpdatedNode

OLD, NEW, NEXT_TEXT = "lamppost 0.1.0", "lamppost 0.2.0", "lamppost 0.3.0"
_HEAP_FREE = 3
VERSION = {"lamppost_node/version.py": version(NEW, 1)}
NEXT = {"lamppost_node/version.py": version(NEXT_TEXT, 2)}
#: Changed modules of both packages, two levels deep, one that imports others by relative names, and a new one in a new folder.
BROAD = {
    **VERSION,
    "lamppost_node/fixtures/lamp.py": ("self.control_faults = 0\n", "self.control_faults = 0\n        node.log('lamp of the release')\n"),
    "lamppost_node/lighting/dates.py": (
        "def civil_date(", "from ..novelty.word import Word\n\n\nclass OfTheRelease(Word):\n    pass\n\n\ndef civil_date("
    ),
    "lamppost_node/novelty/word.py": "class Word:\n    pass\n",
    "lamppost_protocol/slip.py": ("class Decoder:", "class Mark:\n    pass\n\n\nclass Decoder:"),
}  # fmt: skip
#: What happens in a trial that must not be confirmed, by what is changed for it.
BAD_TRIALS = {
    "does not load": {**VERSION, "lamppost_node/app.py": ("import asyncio\n", "import nonsense\n")},
    "crashes when it runs": {**VERSION, "lamppost_node/app.py": ("    node.start()\n", "    node.nonsense()\n")},
    "hangs as it loads": {
        **VERSION,
        "lamppost_node/health.py": ("import gc\n", "import gc\nimport time\n\nwhile True:\n    time.sleep(1)\n"),
    },
    "stops feeding the watchdog": {**VERSION, "lamppost_node/health.py": ("            self._watchdog.feed()\n", "            pass\n")},
    "is never heard": {**VERSION, "lamppost_node/uplink.py": ("        while not self.is_silenced:\n", "        while False:\n")},
}
QUICK_TRIALS = ("hangs as it loads", "is never heard")
Make = Callable[..., UpdatedNode]


@pytest.fixture
def make(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> Iterator[Make]:
    """Makes nodes that have lived a good minute."""
    with ExitStack() as stack:

        def made(name: str = "n", **options: object) -> UpdatedNode:
            node = stack.enter_context(UpdatedNode(tmp_path / name, lock_step_image, seed, **options))
            node.begin()
            return node

        yield made


def updated(node: UpdatedNode, sequence: int = 5) -> int:
    """A node that has confirmed a release."""
    order_id = node.order(node.body("good", VERSION), sequence)
    node.until_told(order_id, "verified")
    return order_id


def refused(node: UpdatedNode, *order: object, **manifest: object) -> str:
    """What it says at once of an update."""
    order_id = node.order(*order, **manifest)
    node.until(lambda: node.states(order_id), 30, "answer")
    assert len(node.states(order_id)) == 1
    return node.states(order_id)[0]


def test_a_release_is_fetched_tried_and_confirmed(make: Make) -> None:
    """Changed modules of both packages and a new one run over the base, through all starts from then on; the order's life is told."""
    node = make()
    order_id = node.order(node.body("broad", BROAD), 5)
    node.until_told(order_id, "applied")
    node.until_up(NEW)
    assert node.boot_record() == (0, 1, 1)
    node.until_told(order_id, "verified")
    assert node.states(order_id) == ["accepted", "applied", "verified"]
    assert node.boot_record() == (1, 0, 0)
    assert any(text == "lamp of the release" for _, text in node.city.logs)
    node.start_anew(NEW)
    names = node.flash().listdir(f"{STATE}/update")
    assert sorted(names) == ["boot"]


def test_what_must_not_run_is_refused_by_its_reason(make: Make) -> None:
    """Before a piece of it is fetched; and neither what is refused nor its order leaves anything behind."""
    node = make()
    body = node.body("good", VERSION)
    assert refused(node, body, 5, base=bytes(8)) == "refused wrong_base"
    assert refused(node, body, 5, is_forged=True) == "refused bad_release"
    assert refused(node, body, 5, heap_bytes=10_000_000) == "refused no_room"
    assert refused(node, bytes(262_144), 5) == "accepted"  # there is room for the largest
    order_id = node.city.order(node.board.now_s, orders.UPDATE, 0, [b"\xd2\x84"])
    node.until_told(order_id, "refused bad_release")
    node.city.wants.clear()
    updated(node, 5)
    for sequence in (5, 4, 1):
        assert refused(node, body, sequence) == "refused downgrade"
    assert refused(node, node.body("broad", BROAD), 6) == "accepted"


def test_a_second_release_takes_the_other_slot_and_a_third_the_first(make: Make) -> None:
    """The confirmed one stays whole until the next is confirmed."""
    node = make()
    for sequence, slot, changes, firmware in ((5, 1, VERSION, NEW), (6, 2, NEXT, NEXT_TEXT), (7, 1, VERSION, NEW)):
        order_id = node.order(node.body("release", changes), sequence)
        node.until_told(order_id, "verified")
        assert node.boot_record() == (slot, 0, 0)
        assert node.city.hellos[-1][1].firmware == firmware


def test_spoilt_bodies_are_fetched_anew_and_given_up_after_the_third(make: Make) -> None:
    """A piece that was forged on the line costs a fetch; a body that never fits ends the order, and the node is what it was."""
    node = make()
    body = node.body("broad", BROAD)
    forged = [3]

    def forge(piece: releases.Piece) -> releases.Piece:
        if piece.offset != 400 or forged[0] == 0:
            return piece
        forged[0] -= 1
        return piece._replace(octets=bytes(reversed(piece.octets)))

    node.city.spoil = forge
    order_id = node.order(body, 5)
    node.until_told(order_id, "refused bad_release", 1200)
    assert forged == [0]
    forged[0] = 2
    order_id = node.order(body, 5)
    node.until_told(order_id, "verified", 1200)
    assert forged == [0]


@pytest.mark.soak
def test_a_fetch_goes_on_where_the_power_was_cut(make: Make) -> None:
    """What was kept is not wanted again, lost pieces are, and the node hears of no piece that it did not ask for."""
    node = make()
    body = node.body("long", {**VERSION, "lamppost_node/novelty.py": "WORDS = bytes(" + repr(bytes(range(256)) * 60) + ")\n"})
    draw = random.Random(1)
    node.city.loses = lambda: draw.random() < 0.1
    order_id = node.order(body, 5)
    node.until(lambda: node.city.wants and node.city.wants[-1][1].first > 6000, 600, "half of it")
    node.board.cut_power()
    node.board.wait(5)
    node.board.power_on()
    before = len(node.city.wants)
    node.until(lambda: len(node.city.wants) > before, 120, "want")
    last, again = (node.city.wants[at][1].first for at in (before - 1, before))
    assert last - 800 <= again <= last + 800
    node.until_told(order_id, "verified", 1200)


@pytest.mark.soak
def test_a_release_that_nobody_has_expires_and_is_asked_for_ever_more_rarely(make: Make) -> None:
    """Wants double their distance from 5 s to 10 min, and stop at the order's end."""
    node = make()
    body = node.body("good", VERSION)
    order_id = node.order(body, 5, life_s=7200)
    node.city.bodies.clear()
    node.until_told(order_id, "expired not_fetched", 7300)
    gaps = [after - before for (before, _), (after, _) in zip(node.city.wants, node.city.wants[1:], strict=False)]
    assert [round(gap) for gap in gaps[:7]] == [5, 10, 20, 40, 80, 160, 320]
    assert all(595 < gap < 620 for gap in gaps[7:])
    assert len(gaps) > 12
    assert node.boot_record() == (0, 0, 0)


@pytest.mark.soak
def test_an_update_is_cancelled_and_superseded(make: Make) -> None:
    """Until its trial begins."""
    node = make()
    body = node.body("good", VERSION)
    node.city.bodies.clear()
    first = node.order(body, 5)
    node.city.bodies.clear()
    second = node.order(body, 6)
    node.city.bodies.clear()
    node.until_told(second, "accepted")
    assert node.states(first) == ["accepted", "reverted superseded"]
    cancel = node.city.order(node.board.now_s, orders.CANCEL, 0, [second])
    node.until_told(cancel, "applied")
    assert node.states(second) == ["accepted", "reverted cancelled"]
    again = node.city.order(node.board.now_s, orders.CANCEL, 0, [second])
    node.until_told(again, "refused bad_arguments")


@pytest.mark.parametrize("what", [pytest.param(what, marks=[] if what in QUICK_TRIALS else pytest.mark.soak) for what in BAD_TRIALS])
def test_a_trial_that_fails_returns_to_what_ran_before(make: Make, what: str) -> None:
    """With no link and nobody's word, lamp lit, out of safe mode, the sequence where it was: the release can be ordered again, repaired."""
    node = make()
    order_id = node.order(node.body("bad", BAD_TRIALS[what]), 5, life_s=30_000)
    node.until_told(order_id, "reverted trial_failed", 4000)
    assert node.city.hellos[-1][1].firmware == OLD
    assert node.city.hellos[-1][1].state == 0
    assert node.boot_record() == (0, 0, 0)
    assert node.cabinet.lamp.level_permille == 1000
    node.run(700)
    assert node.city.hellos[-1][1].state == 0
    updated(node, 5)


@pytest.mark.soak
def test_a_release_that_leaves_too_little_heap_is_not_confirmed(make: Make) -> None:
    """It had the heap before its trial; half an hour later what ran before runs again."""
    node = make()
    body = node.body("greedy", {**VERSION, "lamppost_node/rest.py": ("class Rest:", "WASTE = bytearray(150000)\n\n\nclass Rest:")})
    free_bytes = node.city.of_kind(NODE)[-1][1][1 + _HEAP_FREE]
    order_id = node.order(body, 5, life_s=30_000, heap_bytes=free_bytes - 75_000)
    node.until_told(order_id, "reverted trial_failed", 4000)
    assert node.city.hellos[-1][1].firmware == OLD


@pytest.mark.soak
def test_a_gateway_that_acknowledges_nothing_confirms_nothing(make: Make) -> None:
    """Nor does one that is gone: the node returns by itself, and says so when it is heard again."""
    node = make()
    order_id = node.order(node.body("good", VERSION), 5, life_s=30_000)
    node.city.loses = lambda: "applied" in node.states(order_id)  # the line is gone before the trial begins
    node.until_told(order_id, "applied")
    node.run(1700)
    assert node.boot_record() == (0, 1, 1)
    node.run(200)
    assert node.boot_record() == (0, 0, 0)
    node.city.loses = lambda: False
    node.until_told(order_id, "reverted trial_failed", 1200)


@pytest.mark.soak
def test_no_lamp_is_disturbed_by_the_start(make: Make) -> None:
    """Under an order the trial waits for its end; then it is at its safe level, and the trial begins."""
    node = make()
    body = node.body("good", VERSION)
    now = int(node.city.unix(node.board.now_s))
    node.city.order(node.board.now_s, orders.LEVEL, LAMP, [30, 0], (now - 10, now + 400))
    node.until(lambda: node.cabinet.lamp.level_permille == 300, 120, "dimmed lamp")
    order_id = node.order(body, 5)
    node.run(250)
    assert node.states(order_id) == ["accepted"]
    assert node.cabinet.lamp.level_permille == 300
    node.until_told(order_id, "verified", 600)


@pytest.mark.soak
def test_no_moment_for_the_start_until_the_end(make: Make) -> None:
    """Dimmed all night: expired, and the node is what it was."""
    node = make()
    node.city.order(node.board.now_s, orders.LEVEL, LAMP, [30, 0])
    node.until(lambda: node.cabinet.lamp.level_permille == 300, 120, "dimmed lamp")
    order_id = node.order(node.body("good", VERSION), 5, life_s=300)
    node.until_told(order_id, "expired too_late", 400)
    assert node.boot_record() == (0, 0, 0)


def spoil_file(system: LittleFS, path: str) -> None:
    with system.open(path, "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    with system.open(path, "wb") as file:
        file.write(bytes(data))


@pytest.mark.soak
@pytest.mark.parametrize(
    "path", ["slot_a/lamppost_node/version.mpy", "slot_a/files", "update/boot", None], ids=["file", "list", "record", "file gone"]
)
def test_a_damaged_slot_is_not_run(make: Make, path: str | None) -> None:
    """A flipped bit in a file, in the list of files or in the record of what to run, a missing file: the base runs, no older release."""
    node = make()
    updated(node, 5)
    node.board.cut_power()
    if path is None:
        node.change_flash(lambda system: system.remove(f"{STATE}/slot_a/lamppost_node/version.mpy"))
    else:
        node.change_flash(lambda system: spoil_file(system, f"{STATE}/{path}"))
    node.start_anew(OLD)
    assert refused(node, node.body("broad", BROAD), 5) == "refused downgrade"
    order_id = node.order(node.body("broad", BROAD), 6)
    node.until_told(order_id, "verified")
    assert node.city.hellos[-1][1].firmware == NEW


def test_a_new_base_is_not_run_with_an_old_release(make: Make) -> None:
    """A technician's new firmware on the board: the release was made for another, so the base runs alone."""
    node = make()
    updated(node, 5)
    node.board.cut_power()
    node.change_flash(spoil_comment)
    node.start_anew(OLD)


def spoil_comment(system: LittleFS) -> None:
    """Another file of the base: one that nothing loads, so that this base runs as the one before."""
    with system.open("/lib/lamppost_node/self_test.mpy", "ab") as file:
        file.write(b"\x00")


def is_cut_survived(node: UpdatedNode, phase: str, operation: int, mode: int) -> bool:
    """Cut the power in a flash operation of that phase and see the update end as it does uncut; False: the phase has not so many."""
    is_bad = phase == "return"
    order_id = node.order(node.body("bad" if is_bad else "good", BAD_TRIALS["hangs as it loads"] if is_bad else VERSION), 5, life_s=30_000)
    fault = f"cut {operation} {mode}"
    if phase == "install":
        node.board.suffer(fault)
    else:
        node.board.suffer_at_start(fault, 4 if is_bad else 1)  # the return is what begins behind three starts of the trial
    end = "reverted trial_failed" if is_bad else "verified"
    if phase == "install":
        node.run(120)
        if not node.states(order_id):  # counted, and the power went before it was kept: as any order, it needs another
            assert node.cuts
            order_id = node.order(node.body("good", VERSION), 5, life_s=30_000)
    node.until_told(order_id, end, 4000)
    node.run(60)
    assert node.boot_record() == ((0, 0, 0) if is_bad else (1, 0, 0))
    assert node.states(order_id)[0] == "accepted" or phase == "install"  # kept, and the power went before it was told
    assert not {state.split()[0] for state in node.states(order_id)} & ({"verified"} if is_bad else {"reverted", "refused", "expired"})
    # Whatever was cut: it runs what it should after one more start, takes nothing older and nothing false, and the next release.
    was_cut = node.cuts > 0
    node.start_anew(OLD if is_bad else NEW)
    node.run(61)
    again = node.body("good", VERSION)
    assert refused(node, again, 6, base=bytes(8)) == "refused wrong_base"
    assert refused(node, again, 6, is_forged=True) == "refused bad_release"
    if not is_bad:
        assert refused(node, again, 5) == "refused downgrade"
    body = node.body("next", NEXT)
    short = refused(node, body[:-1], 6)
    assert short == "accepted"
    node.until(lambda: node.states(node.last_order)[-1] == "refused bad_release", 600, "refusal of a body that is cut off")
    node.until_told(node.order(body, 6), "verified")
    assert node.city.hellos[-1][1].firmware == NEXT_TEXT
    assert node.cabinet.lamp.min_level_permille == 1000
    return was_cut


PHASES = ("install", "trial", "return")


@pytest.mark.parametrize("phase", PHASES[:2])
def test_a_power_cut_within_a_flash_operation(make: Make, seed: int, phase: str) -> None:
    """One of the sweep below."""
    draw = random.Random(seed)
    operation, mode = draw.randint(1, 24), draw.choice((HALF, WHOLE))
    print(phase, operation, mode)
    assert is_cut_survived(make(), phase, operation, mode)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("mode", [HALF, WHOLE], ids=["half", "whole"])
def test_a_power_cut_within_every_flash_operation(
    tmp_path: Path, lock_step_image: dict[str, bytes], seed: int, phase: str, mode: int
) -> None:
    """From the order to the trial, in the trial until it is confirmed, in the return from a failed one: never bricked or downgraded."""
    operation = 0
    was_cut = True
    while was_cut:
        operation += 1
        with UpdatedNode(tmp_path / str(operation), lock_step_image, seed) as node:
            node.begin()
            try:
                was_cut = is_cut_survived(node, phase, operation, mode)
            except AssertionError as error:
                raise AssertionError(f"{phase}, operation {operation}, mode {mode}: {error}") from error
    print(f"{phase}: {operation - 1} operations cut, mode {mode}")
    assert operation > 20
