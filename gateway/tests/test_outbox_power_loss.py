"""What was committed survives a power cut at any write, sync or truncation (R02)."""

import random
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from lamppost_gateway.errors import OutboxError
from lamppost_gateway.migrations import STEPS, migrate, version
from lamppost_gateway.outbox import Outbox, configure
from lamppost_gateway.outbox_rows import NewFrame, NodeState
from street.crash_disk import CrashDisk, PowerCut

SEEDS = 8
ROUNDS = 10


def frame(node: int, n: int) -> NewFrame:
    return NewFrame(node, 1, n, n, 1, 1, 1_000 + n, "line0", False, False, random.Random(n).randbytes(600))


def run(disk: CrashDisk, path: Path, synchronous: str) -> list[tuple[int, int]]:
    """Commit, deliver and prune until the power goes; return (node, n) of all that was acknowledged."""
    acknowledged: list[tuple[int, int]] = []
    try:
        outbox = Outbox(path, connector=lambda where: disk.connect(where, synchronous))
        for n in range(1, ROUNDS + 1):
            frames = [frame(node, n) for node in (1, 2)]
            states = [NodeState(node, 1, n, (1 << n) - 1, n, 0) for node in (1, 2)]
            [(_, error)] = outbox.transact([partial(outbox.commit_frames, frames, states)])
            if error is not None:
                break
            acknowledged += [(f.node, f.n) for f in frames]
            if n % 4 == 0:
                outbox.transact([partial(outbox.mark_published, [n], 2_000)])
            if n == 9:
                for _ in outbox._connection.execute("PRAGMA wal_checkpoint(RESTART)"):
                    pass
    except (PowerCut, OutboxError, sqlite3.Error):
        pass
    disk.close()
    return acknowledged


def connect_unsynced(path: Path) -> sqlite3.Connection:
    """For looking at what is left: the real disk's time is not of interest."""
    connection = sqlite3.connect(path, isolation_level=None)
    configure(connection, "OFF")
    return connection


def losses_after(disk: CrashDisk, folder: Path, acknowledged: list[tuple[int, int]], seed: int) -> list[str]:
    folder.mkdir()
    disk.after_cut(folder, random.Random(seed))
    outbox = Outbox(folder / "outbox.db", connector=connect_unsynced)
    problems = []
    if outbox.quarantined is not None:
        problems.append("unreadable")
    stored = {(row.node, row.n) for row in outbox.next_backfill(1 << 60, 0, 1_000)}
    stored |= {tuple(row) for row in outbox._connection.execute("SELECT node, n FROM frame")}
    problems += [f"lost {key}" for key in acknowledged if key not in stored]
    windows = {state.node: state.tx_highest for state in outbox.node_states()}
    problems += [f"window behind {node}" for node, n in acknowledged if windows.get(node, 0) < n]
    outbox.close()
    return problems


def try_all(tmp_path: Path, synchronous: str, seeds: int) -> tuple[int, list[str]]:
    whole = CrashDisk()
    run(whole, Path("/outbox.db"), synchronous)
    problems: list[str] = []
    for cut_at in range(1, whole.operations + 2):
        disk = CrashDisk(cut_at)
        acknowledged = run(disk, Path("/outbox.db"), synchronous)
        for seed in range(seeds):
            found = losses_after(disk, tmp_path / f"{cut_at}-{seed}", acknowledged, cut_at * 1_000 + seed)
            problems += [f"cut {cut_at} seed {seed}: {text}" for text in found]
    return whole.operations, problems


def test_power_cut_at_every_operation_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """With synchronous=FULL every acknowledged frame and window is there after a cut at any operation."""
    operations, problems = try_all(tmp_path, "FULL", SEEDS)
    assert operations > 60
    assert problems == []


def test_the_planted_bug_synchronous_normal_is_caught(tmp_path: Path) -> None:
    """The same test finds losses when commits are not synced, so it would notice that change."""
    _, problems = try_all(tmp_path, "NORMAL", 1)
    assert any("lost" in text for text in problems)


def test_power_cut_at_every_operation_of_an_upgrade(tmp_path: Path) -> None:
    """The old schema or the new one, never something between, and every row (R33)."""
    steps = (*STEPS, ("ALTER TABLE frame ADD COLUMN later INTEGER", "CREATE TABLE later (id INTEGER PRIMARY KEY)"))
    seen = set()
    for cut_at in range(1, 60):
        disk = CrashDisk()
        acknowledged = run(disk, Path("/outbox.db"), "FULL")
        disk.cut_at = disk.operations + cut_at
        try:
            migrate(disk.connect(Path("/outbox.db")), steps)
        except (PowerCut, sqlite3.Error):
            pass
        is_cut = disk.is_off
        disk.close()
        for seed in range(3):
            folder = tmp_path / f"{cut_at}-{seed}"
            folder.mkdir()
            disk.after_cut(folder, random.Random(seed))
            connection = connect_unsynced(folder / "outbox.db")
            found = version(connection)
            seen.add(found)
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name = 'later'")]
            assert (found, tables) in ((len(STEPS), []), (len(steps), ["later"]))
            stored = {tuple(row) for row in connection.execute("SELECT node, n FROM frame")}
            assert set(acknowledged) <= stored
            migrate(connection, steps)
            assert version(connection) == len(steps)
            connection.close()
        if not is_cut:
            break
    assert not is_cut
    assert seen == {len(STEPS), len(steps)}


@pytest.mark.soak
def test_power_cut_with_many_fates(tmp_path: Path) -> None:
    """As above with 40 fates of the unsynced writes for each cut."""
    _, problems = try_all(tmp_path, "FULL", 40)
    assert problems == []
