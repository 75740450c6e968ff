"""The bench's `machine` against the ESP32's: same names, kinds and defaults of every parameter, same constants.

Oracle: machine.pyi of micropython-esp32-stubs. Both sides are read as syntax trees; nothing is imported.
Two things the language takes from us: MicroPython has no positional-only `/`, so such a parameter may be an ordinary one;
and it has no overloads, so a parameter that some overload lacks has a default here.
"""

import ast
import importlib.metadata
from pathlib import Path
from typing import NamedTuple

import pytest

SHIM = [Path(__file__).parent / "bench" / "peripherals" / name for name in ("machine.py", "machine_models.py", "machine_extra.py")]
CLASSES = ("Pin", "PWM", "ADC", "UART", "I2C", "SPI", "WDT", "RTC")
FUNCTIONS = ("reset", "reset_cause", "unique_id", "idle", "disable_irq")
CAUSES = ("PWRON_RESET", "HARD_RESET", "WDT_RESET", "DEEPSLEEP_RESET", "SOFT_RESET")
# Forms of a call that the bench leaves out: a parameter that names them, or a required one that is missing.
LEFT_OUT = (("UART", "pins"), ("SPI", "pins"), ("I2C", "id"), ("UART", "id"))
NO_DEFAULT = object()
UNSAID = object()


class Parameter(NamedTuple):
    name: str
    kind: str  # positional, either, keyword
    default: object


def parameters(function: ast.FunctionDef, constants: dict[str, object]) -> list[Parameter]:
    """All but self, in order."""
    args = function.args
    positional = [(arg, "positional") for arg in args.posonlyargs] + [(arg, "either") for arg in args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    found = [Parameter(arg.arg, kind, value(default, constants)) for (arg, kind), default in zip(positional, defaults, strict=True)]
    found += [
        Parameter(arg.arg, "keyword", value(default, constants)) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    return [parameter for parameter in found if parameter.name != "self"]


def value(node: ast.expr | None, constants: dict[str, object]) -> object:
    """The value of a default: a literal, a constant of the class, or `|` of them; UNSAID for `...`."""
    if node is None:
        return NO_DEFAULT
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = value(node.left, constants), value(node.right, constants)
        assert isinstance(left, int)
        assert isinstance(right, int)
        return left | right
    if isinstance(node, ast.Name):
        return constants[node.id]
    result = ast.literal_eval(node)
    return UNSAID if result is ... else result


def constants_of(body: list[ast.stmt]) -> dict[str, object]:
    """Public constants whose value the tree says."""
    found: dict[str, object] = {}
    for node in body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id.isupper() and not target.id.startswith("_"):
            content = node.value if isinstance(node, (ast.AnnAssign, ast.Assign)) else None
            if isinstance(content, ast.Constant) and content.value is not ...:
                found[target.id] = content.value
    return found


def functions_of(body: list[ast.stmt]) -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def classes_of(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def stub_tree() -> ast.Module:
    files = importlib.metadata.files("micropython-esp32-stubs") or []
    (path,) = [file.locate() for file in files if str(file) == "machine.pyi"]
    return ast.parse(Path(str(path)).read_text())


STUB = stub_tree()
OURS = ast.Module([node for path in SHIM for node in ast.parse(path.read_text()).body], [])
STUB_CLASSES, OUR_CLASSES = classes_of(STUB), classes_of(OURS)
METHODS = [
    (name, method)
    for name in CLASSES
    for method in functions_of(OUR_CLASSES[name].body)
    if (not method.startswith("_") or method in ("__init__", "__call__"))
    and method != "ioctl"  # the stream protocol, which C code has without a method
]


def differences(ours: list[Parameter], overloads: list[list[Parameter]]) -> list[str]:
    """In words, what a call legal on the ESP32 would meet here."""
    found = []
    by_name = {parameter.name: (index, parameter) for index, parameter in enumerate(ours)}
    for overload in overloads:
        for index, theirs in enumerate(overload):
            if theirs.name not in by_name:
                found.append(f"{theirs.name} is missing")
                continue
            our_index, mine = by_name[theirs.name]
            if theirs.kind != "keyword" and our_index != index:
                found.append(f"{theirs.name} is at place {our_index}, not {index}")
            if (theirs.kind == "keyword") != (mine.kind == "keyword"):
                found.append(f"{theirs.name} is {mine.kind}, not {theirs.kind}")
            optional_elsewhere = any(theirs.name not in {each.name for each in other} for other in overloads)
            if theirs.default is UNSAID:
                if mine.default is NO_DEFAULT:
                    found.append(f"{theirs.name} has no default")
            elif theirs.default is NO_DEFAULT and optional_elsewhere:
                if mine.default is NO_DEFAULT:
                    found.append(f"{theirs.name} has no default, though a form without it exists")
            elif theirs.default != mine.default:
                found.append(f"{theirs.name} defaults to {mine.default!r}, not {theirs.default!r}")
    known = {parameter.name for overload in overloads for parameter in overload}
    found += [f"{parameter.name} does not exist on the ESP32" for parameter in ours if parameter.name not in known]
    return found


def kept(name: str, ours: list[Parameter], overload: list[Parameter]) -> bool:
    """False for a form of call that LEFT_OUT names."""
    names = {parameter.name for parameter in overload}
    for class_name, left_out in LEFT_OUT:
        if class_name != name:
            continue
        if left_out in names and left_out not in {parameter.name for parameter in ours}:
            return False
        mine = [parameter for parameter in ours if parameter.name == left_out and parameter.default is NO_DEFAULT]
        theirs = [p for p in overload if p.name == left_out and p.default is NO_DEFAULT]
        if mine and not theirs:
            return False
    return True


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_every_method_takes_what_the_esp32_takes(name: str, method: str) -> None:
    """A driver written for the ESP32 calls the bench the same way, and the other way round."""
    stub = functions_of(STUB_CLASSES[name].body)
    assert method in stub, f"{name}.{method} does not exist on the ESP32"
    constants = constants_of(STUB_CLASSES[name].body)
    (ours,) = functions_of(OUR_CLASSES[name].body)[method]
    mine = parameters(ours, constants)
    overloads = [parameters(overload, constants) for overload in stub[method]]
    overloads = [overload for overload in overloads if kept(name, mine, overload)]
    assert overloads
    assert differences(mine, overloads) == []


@pytest.mark.parametrize("name", CLASSES)
def test_class_constants_are_the_esp32s(name: str) -> None:
    """Pin.OUT is 3 on the ESP32, whatever it is elsewhere."""
    theirs = constants_of(STUB_CLASSES[name].body)
    for constant, ours in constants_of(OUR_CLASSES[name].body).items():
        assert theirs[constant] == ours, f"{name}.{constant}"


def test_reset_causes_are_the_esp32s() -> None:
    """The firmware's boot guard reads them as numbers."""
    theirs, ours = constants_of(STUB.body), constants_of(OURS.body)
    assert {cause: ours[cause] for cause in CAUSES} == {cause: theirs[cause] for cause in CAUSES}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_nothing(name: str) -> None:
    """They exist on both sides and are called without arguments."""
    for tree in (STUB, OURS):
        (function,) = functions_of(tree.body)[name]
        assert parameters(function, {}) == []


def test_the_comparison_sees_a_difference() -> None:
    """Planted errors of each kind are named: the comparison is not blind."""
    theirs = [[Parameter("a", "positional", NO_DEFAULT), Parameter("b", "keyword", 5)]]
    assert differences([Parameter("a", "either", NO_DEFAULT), Parameter("b", "keyword", 5)], theirs) == []
    assert differences([Parameter("a", "either", NO_DEFAULT)], theirs) == ["b is missing"]
    assert differences([Parameter("a", "either", NO_DEFAULT), Parameter("b", "either", 5)], theirs) == ["b is either, not keyword"]
    assert differences([Parameter("a", "either", NO_DEFAULT), Parameter("b", "keyword", 4)], theirs) == ["b defaults to 4, not 5"]
    extra = [Parameter("a", "either", NO_DEFAULT), Parameter("b", "keyword", 5), Parameter("c", "keyword", None)]
    assert differences(extra, theirs) == ["c does not exist on the ESP32"]
