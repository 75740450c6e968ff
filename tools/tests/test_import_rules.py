"""Imports go one way, and each outside world has one door. Reads every import statement in the tree."""

import ast
from pathlib import Path

import make_image
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {
    "lamppost_protocol": REPOSITORY / "protocol/lamppost_protocol",
    "lamppost_node": REPOSITORY / "firmware/lamppost_node",
    "lamppost_gateway": REPOSITORY / "gateway/lamppost_gateway",
    "lamppost_tools": REPOSITORY / "tools/lamppost_tools",
    "bench": REPOSITORY / "hil_tests/bench",
}
#: Which of our packages each may import besides itself.
MAY_IMPORT = {
    "lamppost_protocol": set(),
    "lamppost_node": {"lamppost_protocol"},
    "lamppost_gateway": {"lamppost_protocol"},
    "lamppost_tools": {"lamppost_protocol"},
    "bench": set(),
}
#: What the node's image may use of the runtime: present on every target. `micropython` is tried for `const` only.
PROTOCOL_MAY_USE = {"binascii", "collections", "hashlib", "micropython", "struct"}
#: Files that never reach a node, and what they use besides. `os`: the operating system's generator, for keys.
HOST_ONLY = {"es256_host.py": {"cryptography", "os"}, "interfaces.py": {"typing"}}
#: One door per outside world: module -> the files that may import it.
DOORS = {
    "machine": {"lamppost_node/board.py", "lamppost_node/health.py", "lamppost_node/clock.py"},
    "serial": {
        "lamppost_gateway/links/serial.py",
        "lamppost_tools/board/repl.py",
        "lamppost_tools/board/ports.py",
        "lamppost_tools/board/flasher.py",
    },
    "esptool": {"lamppost_tools/board/flasher.py"},
    "mpremote": {"lamppost_tools/board/repl.py"},
    "aiomqtt": {"lamppost_gateway/broker.py", "lamppost_tools/broker.py"},
    "sqlite3": {"lamppost_gateway/outbox.py", "lamppost_gateway/migrations.py", "lamppost_tools/doctor/outbox.py"},
    "prometheus_client": {"lamppost_gateway/metrics.py"},
    "cryptography": {"lamppost_protocol/es256_host.py", "lamppost_tools/key_file.py"},
}
FILES = [(name, path) for name, root in PACKAGES.items() for path in sorted(root.rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Return the top-level names `path` imports at run time; what stands under `if TYPE_CHECKING` is for type checkers."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize(("package", "path"), FILES, ids=[str(path.relative_to(REPOSITORY)) for _, path in FILES])
def test_imports_go_one_way(package: str, path: Path) -> None:
    """A package imports the protocol and itself, none of the others, and nothing imports the tests."""
    found = imports(path)
    ours = (set(PACKAGES) | {"hil_tests"}) - {package}
    assert found & ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", [path for name, path in FILES if name == "lamppost_protocol"], ids=lambda path: path.name)
def test_protocol_is_pure(path: Path) -> None:
    """The protocol uses nothing that a target may lack, and no clock, input or output."""
    allowed = PROTOCOL_MAY_USE | HOST_ONLY.get(path.name, set())
    assert imports(path) - {"lamppost_protocol"} <= allowed


@pytest.mark.parametrize("module", sorted(DOORS))
def test_one_door_per_outside_world(module: str) -> None:
    """Only the named files import the library behind which an outside world lies."""
    users = {f"{name}/{path.relative_to(PACKAGES[name])}" for name, path in FILES if module in imports(path) and name != "bench"}
    assert users <= DOORS[module]


def test_the_node_runs_without_the_standard_library() -> None:
    """Firmware imports only what MicroPython has on every target."""
    present = {
        "asyncio",
        "binascii",
        "builtins",
        "collections",
        "errno",
        "gc",
        "hashlib",
        "io",
        "json",
        "machine",
        "math",
        "micropython",
        "os",
    }
    present |= {"os", "random", "select", "struct", "sys", "time", "vfs", "esp32", "esp", "network", "lamppost_protocol", "lamppost_node"}
    for name, path in FILES:
        if name == "lamppost_node" and path.name not in HOST_ONLY:
            assert imports(path) <= present, path


def test_the_image_leaves_out_what_is_for_the_host() -> None:
    """Whatever may import more than a node has is kept out of the image."""
    assert set(HOST_ONLY) <= set(make_image.HOST_ONLY)


def test_no_room_without_a_name() -> None:
    """No utils, helpers, common, misc or manager anywhere."""
    bad = {"utils", "util", "helpers", "common", "misc", "manager"}
    assert [path for _, path in FILES if path.stem in bad] == []


def test_the_bench_knows_no_project() -> None:
    """hil_tests/bench could serve any MicroPython project: no file in it names this one; the adapter is hil_tests/street/node_device.py."""
    files = [path for path in sorted(PACKAGES["bench"].rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    assert len(files) > 20
    assert [path for path in files if "lamppost" in path.read_text().lower()] == []
