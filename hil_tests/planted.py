"""Shows that the tests bite: plants each bug of planted_bugs.toml in a copy of the tree and expects its test to fail.

    python hil_tests/planted.py [ID ..]

Each entry: `id`, `promise`, `file`, `find` (occurs exactly once, else the entry is UNFIT), `replace`, `test` (a pytest node id). First the
tests run unspoilt, all together, and must pass. Ends with status 1 when a bug survives, or an entry no longer fits the code.
"""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("protocol", "firmware", "gateway", "tools", "hil_tests", ".ci")
FILES = ("pyproject.toml", "README.md", "LICENSE")
TREES = 3  # bugs at a time: most of a test's time is waiting
TIMEOUT_S = 300  # of one bug's test
CLEAN_TIMEOUT_S = 1800  # of all tests together


def run_tests(tree: Path, tests: list[str], timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run pytest on `tests` in `tree`, whose packages come before the installed ones."""
    roots = [str(tree / folder) for folder in ("protocol", "gateway", "tools", "hil_tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "-m", "not soak", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)


def copy_tree(target: Path) -> None:
    target.mkdir()
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    for file in FILES:
        shutil.copy(REPOSITORY / file, target)
    if (REPOSITORY / "build/oracles").exists():  # the judges only: what a spoilt tree builds must never come near ours
        (target / "build").mkdir()
        (target / "build/oracles").symlink_to(REPOSITORY / "build/oracles")


def plant(tree: Path, bug: dict[str, str]) -> str:
    """Plant a bug in `tree`, run its test and take it out again; the verdict: caught, SURVIVED or UNFIT."""
    path = tree / bug["file"]
    source = path.read_text()
    if source.count(bug["find"]) != 1:
        return "UNFIT"
    path.write_text(source.replace(bug["find"], bug["replace"]))
    try:
        is_caught = run_tests(tree, [bug["test"]]).returncode == 1
    except subprocess.TimeoutExpired:
        is_caught = True
    path.write_text(source)
    return "caught" if is_caught else "SURVIVED"


def main(wanted: list[str]) -> int:
    bugs = tomllib.loads((REPOSITORY / "hil_tests/planted_bugs.toml").read_text())["bug"]
    bugs = [bug for bug in bugs if not wanted or bug["id"] in wanted]
    trees: queue.Queue[Path] = queue.Queue()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(TREES):
            copy_tree(Path(folder, str(number)))
            trees.put(Path(folder, str(number)))
        clean = run_tests(Path(folder, "0"), ["-n", str(TREES), *sorted({bug["test"] for bug in bugs})], CLEAN_TIMEOUT_S)
        if clean.returncode != 0:
            print(clean.stdout[-4000:])
            print("the tests fail without any bug: nothing can be shown")
            return 1

        def take(bug: dict[str, str]) -> str:
            tree = trees.get()
            try:
                return plant(tree, bug)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(TREES) as pool:
            for bug, verdict in zip(bugs, pool.map(take, bugs), strict=True):
                print(f"{verdict:8} {bug['promise']} {bug['id']}: {bug['test']}", flush=True)
                failures += verdict != "caught"
    print(f"{len(bugs) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
