"""Supervision, boots, settings, log lines and the image's condenser: the small parts of the node core."""

import asyncio
import itertools
import sys
import types
from pathlib import Path

import pytest
from condense import Image, condense, keywords_of
from fake_buses import run_virtual
from fake_flash import FakeFlash, PowerCut
from fake_ticks import FakeTicks
from lamppost_node.clock import Clock
from lamppost_node.health import TASK_LIMIT_MS, BootGuard, Counters, TaskWatch, hello_state
from lamppost_node.identity import IdentityError, load
from lamppost_node.log_lines import LogLines
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.settings import Settings, unwrap, wrap
from lamppost_node.supervisor import Supervisor, describe
from lamppost_protocol import cbor, hello, orders
from make_image import condensed_programs, make_romfs_image
from node_bench import image


class FakeWatchdog:
    """Counts feeds."""

    feeds = 0

    def feed(self) -> None:
        self.feeds += 1


def watch_of(ticks: FakeTicks) -> tuple[TaskWatch, FakeWatchdog]:
    watchdog = FakeWatchdog()
    return TaskWatch(watchdog, Clock(ticks, Settings(FakeFlash()))), watchdog


def test_the_watchdog_is_fed_only_while_every_task_lives() -> None:
    """One silent task of three is enough to stop the feeding, and its name is known."""
    ticks = FakeTicks()
    watch, watchdog = watch_of(ticks)
    for name in ("lamp", "uplink", "downlink"):
        watch.watch(name)
    for _ in range(10):
        ticks.advance(TASK_LIMIT_MS // 2)
        watch.alive("lamp")
        watch.alive("uplink")
        watch.alive("nobody")
        watch.feed_if_well()
    assert watch.feed_if_well() == ["downlink"]
    assert watchdog.feeds == 2
    watch.unwatch("downlink")
    assert watch.feed_if_well() == []
    assert watchdog.feeds == 3


def test_three_unconfirmed_boots_start_safe_mode_and_a_good_one_ends_the_count() -> None:
    """Boots 1 to 3 are ordinary, the fourth is safe; after a confirmed one counting starts anew."""
    flash = FakeFlash()
    guards = [BootGuard(Settings(flash)) for _ in range(5)]
    assert [guard.is_safe_mode for guard in guards] == [False, False, False, True, True]
    assert [guard.boots for guard in guards] == [1, 2, 3, 4, 5]
    guards[-1].confirm()
    assert [BootGuard(Settings(flash)).is_safe_mode for _ in range(4)] == [False, False, False, True]


def test_boots_without_flash_are_not_counted_and_not_safe_mode() -> None:
    """A flash that refuses must not bring safe mode, nor a power-up number that could come twice."""
    flash = FakeFlash()
    flash.refuse_in = 0
    guard = BootGuard(Settings(flash))
    assert guard.boots == 0
    assert not guard.is_safe_mode
    guard.confirm()
    assert flash.files == {}


def test_a_dead_task_is_told_made_safe_and_started_again_with_backoff() -> None:
    """1, 2, 4 ... 60 s between starts, each death counted and logged, the other task untouched."""

    async def story() -> None:
        starts: list[float] = []
        beats: list[float] = []
        safes: list[bool] = []
        log_lines, counters = LogLines(), Counters()
        watch, _ = watch_of(FakeTicks())
        supervisor = Supervisor(watch, counters, log_lines)
        loop = asyncio.get_running_loop()

        async def die() -> None:
            starts.append(loop.time())
            raise ValueError("broken")

        async def live() -> None:
            while True:
                beats.append(loop.time())
                await asyncio.sleep(1)

        def safe() -> None:
            safes.append(True)
            raise OSError("even this")

        supervisor.start("bin", die, safe)
        supervisor.start("lamp", live)
        await asyncio.sleep(300)
        waits = [round(later - earlier) for earlier, later in itertools.pairwise(starts)]
        assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
        assert counters.task_restarts == len(starts) == len(safes)
        assert log_lines.take() == b"bin failed: ValueError broken"
        assert len(beats) >= 299

    run_virtual(story())


def test_a_task_that_ends_as_it_should_is_not_missed() -> None:
    """A silenced uplink returns: it is neither restarted nor waited for."""

    async def story() -> None:
        watch, watchdog = watch_of(FakeTicks())
        counters = Counters()
        supervisor = Supervisor(watch, counters, LogLines())

        async def end() -> None:
            return

        supervisor.start("uplink", end)
        await asyncio.sleep(10)
        assert watch.silent() == []
        assert watch.feed_if_well() == []
        assert counters.task_restarts == 0
        assert watchdog.feeds == 1

    run_virtual(story())


def test_descriptions_are_short() -> None:
    """A log line carries the class and the first words, however long the text."""
    assert describe("air", OSError("x" * 500)) == "air failed: OSError " + "x" * 80


def test_log_lines_are_bounded_and_printable() -> None:
    """The oldest of seventeen goes; length and octets are what a message may carry."""
    lines = LogLines()
    for number in range(17):
        lines.put(f"{number} é\n\x00" + "y" * 400)
    first = lines.take()
    assert first is not None
    assert first.startswith(b"1 ??")
    assert len(first) == 200
    assert lines.dropped == 1
    while lines.take() is not None:
        pass
    assert not lines.waiting.is_set()


def test_states_of_the_hello() -> None:
    """A lost counter outranks safe mode: it needs a person."""
    assert hello_state(False, False) == hello.RUNNING
    assert hello_state(True, False) == hello.SAFE_MODE
    assert hello_state(True, True) == hello.COUNTER_LOST


@pytest.mark.parametrize("cut", range(3))
@pytest.mark.parametrize("keep_permille", [0, 500, 1000])
def test_a_setting_is_old_or_new_after_a_cut(cut: int, keep_permille: int) -> None:
    """Never neither, never a mixture."""
    flash = FakeFlash()
    settings = Settings(flash)
    settings.save("lease", ["old", 1])
    flash.cut_in, flash.keep_permille = cut, keep_permille
    try:
        settings.save("lease", ["new", 2])
        cut_happened = False
    except PowerCut:
        cut_happened = True
    flash.cut_in = None
    again = Settings(flash)
    assert again.load("lease") in (["old", 1], ["new", 2])
    assert again.corrupt == 0
    assert cut_happened == (cut < 2)


def test_corrupt_settings_are_missing_and_counted() -> None:
    """Any damage reads as None; a refused write raises, or says so."""
    flash = FakeFlash()
    settings = Settings(flash)
    whole = wrap([1, {"a": None}])
    for broken in (b"", whole[:-1], whole + b"\x00", bytes([whole[0] ^ 1]) + whole[1:]):
        flash.files["settings/x"] = broken
        assert settings.load("x") is None
    assert settings.corrupt == 4
    assert settings.load("never") is None
    assert unwrap(whole) == [1, {"a": None}]
    flash.refuse_in = 0
    with pytest.raises(OSError, match="no space"):
        settings.save("x", 1)
    flash.refuse_in = 0
    assert not settings.is_kept("x", 1)
    assert settings.failed == 2


def test_the_ledger_remembers_the_last_eight_orders() -> None:
    """Older ones are forgotten; the counter never goes back, and survives a restart."""
    flash = FakeFlash()
    ledger = OrderLedger(flash, Settings(flash), 1, True)
    for order_id in range(1, 12):
        ledger.advance(order_id)
        ledger.note([order_id, orders.ACCEPTED, 0, None, None, None])
        ledger.note([order_id, orders.REVERTED, orders.LEASE_ENDED, 100, 600, 601])
    again = OrderLedger(flash, Settings(flash), 1, False)
    assert again.highest == 11
    assert again.last_values(3) is None
    assert again.last_values(11) == [11, orders.REVERTED, orders.LEASE_ENDED, 100, 600, 601]
    assert OrderLedger(flash, Settings(flash), 2, False).is_lost


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network": 0}, "network"),
        ({"node": True}, "node"),
        ({"epoch": None}, "epoch"),
        ({"private_key": b"short"}, "private_key"),
        ({"hop_key": "text"}, "hop_key"),
        ({"issuer": b"123"}, "issuer"),
        ({"command_key": bytes(63)}, "command_key"),
        ({"unit": b"another"}, "unit"),
        ({"unit": None}, "unit"),
        ({"unit": b"chip 1"}, "tables/generator.tbl"),
        ({}, "tables/generator.tbl"),
    ],
)
def test_a_bad_identity_names_the_field_and_no_content(change: dict, reason: str) -> None:
    """What is wrong, never what stands there."""
    secret = bytes(range(100, 132))
    values = {"network": 1, "node": 2, "epoch": 1, "private_key": secret, "hop_key": secret, "issuer": b"1234", "command_key": bytes(64)}
    flash = FakeFlash()
    flash.files["identity.cbor"] = cbor.encode({**values, **change})
    with pytest.raises(IdentityError) as caught:
        load(flash, b"chip 1")
    assert caught.value.reason == reason
    assert secret.hex() not in repr(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"\x01", b"\xa0"])
def test_no_identity_is_an_error_not_a_crash(content: bytes | None) -> None:
    """Missing, empty, not CBOR, not a map, an empty map."""
    flash = FakeFlash()
    if content is not None:
        flash.files["identity.cbor"] = content
    with pytest.raises(IdentityError):
        load(flash, b"chip 1")


def test_no_program_of_the_image_imports_by_a_relative_name() -> None:
    """What finds the modules of a release is not told by every MicroPython who asks; names are as they were."""
    programs = condensed_programs({})
    assert len(programs) > 80
    assert [name for name, program in programs.items() if "from ." in program] == []
    assert "from lamppost_node.drivers.dimmer import Dimmer" in programs["lamppost_node/fixtures/lamp.py"]
    changed = condensed_programs({"lamppost_node/version.py": "VERSION = 'x'\nVERSION_NUMBER = 1\n"})
    assert [name for name in programs if programs[name] != changed[name]] == ["lamppost_node/version.py"]


def test_condensing_keeps_the_meaning_and_drops_the_names() -> None:
    """Private constants in place, private names short and shared, types and what is for checkers gone."""
    source = (
        "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from typing import Any\n"
        "_LIMIT = 4 * 1024\n_DOUBLE = 2 * _LIMIT\nPUBLIC = _DOUBLE + 1\n"
        "class Box:\n    def __init__(self, size: int):\n        self._size = size + _LIMIT\n"
        "    def _grow(self, *, by: int = 1) -> 'Any':\n        self._size += by\n        return self._size\n"
        "    def grown(self):\n        return self._grow(by=_DOUBLE)\n"
    )
    condensed = condense(source)
    assert "_LIMIT" not in condensed
    assert "_size" not in condensed
    assert "Any" not in condensed
    before: dict = {}
    after: dict = {}
    exec(source, before)
    exec(condensed, after)
    assert after["PUBLIC"] == before["PUBLIC"]
    assert after["Box"](3).grown() == before["Box"](3).grown()


def test_condensing_arguments_keeps_what_is_called_by_name_or_more_than_local() -> None:
    """Arguments become short where they are nothing else; one given by name, or that a module or class binds too, stays."""
    source = (
        "size = 7\n"
        "class Box:\n    depth = 3\n    def __init__(self, width, size, depth=1, lid=None):\n"
        "        self.width = width * size\n        self.more = (lambda width=width: width + depth)()\n        self.lid = lid\n"
        "def made(width, fill):\n    def fill_up(width):\n        return width + fill\n"
        "    try:\n        return Box(width, fill_up(fill), lid=fill).width, [fill for fill in range(fill)]\n"
        "    except ValueError as fault:\n        return fault\n"
    )
    condensed = condense(source, keywords_of([source]))
    assert "fill)" not in condensed
    assert "lid=None" in condensed
    assert "self.width" in condensed
    before: dict = {}
    after: dict = {}
    exec(source, before)
    exec(condensed, after)
    assert after["made"](3, 4) == before["made"](3, 4)
    assert (after["Box"](2, 3, 4).more, after["Box"].depth, after["size"]) == (6, 3, 7)


def test_condensing_an_image_puts_integers_in_place_of_their_names_across_modules() -> None:
    """What another module calls a number becomes one, unless the name is anything else there; what nobody reads any more is gone."""
    sources = {
        "box.sizes": "SMALL = 3\nLARGE = SMALL << 4\nNAMES = {SMALL: 'small', LARGE: 'large'}\nBY_TEXT = 5\nRANGE = (1, 2)\n"
        "LATER = 1\ndef grow():\n    global LATER\n    LATER += 1\n    return LATER\n",
        "box.shop": "from . import sizes\nfrom .sizes import LARGE as BIG, SMALL\nfrom . import sizes as shown\n"
        "def price(shown):\n    return (BIG - sizes.SMALL, SMALL, shown.LARGE, getattr(sizes, 'BY_TEXT'), sizes.RANGE[1], sizes.grow())\n",
        "box.kept": "SECRET_OF_NOBODY = 7\n_OWN = 2\nNEXT = SECRET_OF_NOBODY * _OWN\n",
    }
    image = Image(sources, ("box.kept",))
    texts = {name: image.condensed(name) for name in sources}
    assert not [word for word in ("SMALL", "NAMES", "small") if word in texts["box.sizes"]]
    assert not [word for word in ("SMALL", "BIG") if word in texts["box.shop"]]
    assert "SECRET_OF_NOBODY = 7\nNEXT = 7 * 2" in texts["box.kept"].replace("SECRET_OF_NOBODY * 2", "7 * 2")
    prices = []
    for made in (sources, texts):
        for name in ("box", *made):
            module = sys.modules[name] = types.ModuleType(name)
            module.__package__ = "box"
            if "." in name:
                exec(made[name], module.__dict__)
                setattr(sys.modules["box"], name[4:], module)
        prices.append(sys.modules["box.shop"].price(types.SimpleNamespace(LARGE="theirs")))
        for name in ("box", *made):
            del sys.modules[name]
    assert prices[0] == prices[1] == (45, 3, "theirs", 5, 2, 2)


@pytest.mark.parametrize(
    "source", ["from x import _y\n", "import x as _x\n", "class A:\n    def _run(self):\n        return getattr(self, '_run')\n"]
)
def test_condensing_refuses_what_it_could_break(source: str) -> None:
    """A private name that crosses a module's border, or stands in a string, stops the build."""
    with pytest.raises(ValueError, match="private name"):
        condense(source)


def test_the_romfs_image_fits_a_boards_partition_and_is_the_same_each_time(tmp_path: Path) -> None:
    """Both packages and the table are in it, nothing of the bench; 192 KiB is what a board's partition has to have."""
    contents = []
    for name in ("first.romfs", "second.romfs"):
        make_romfs_image(image(), tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"\xd2\xcd\x31")
    assert len(contents[0]) <= 192 << 10
    for part in (b"lamppost_node", b"lamppost_protocol", b"app.mpy", b"generator.tbl"):
        assert part in contents[0]
    assert b"machine_models" not in contents[0]
