"""Makes programs of one image smaller without changing what they do; `make_image.py` compiles what comes out.

Every name a program mentions stays in the chip's heap or flash for ever. So small integers that have a name stand in place of it, also
where another module gave it; a constant that nobody in the image reads is left out; private names (one leading underscore) become short
ones that all modules share, and so do arguments that nobody gives by name. Relative imports become
absolute. Public names of classes, functions and attributes stay as they are; the source is what people read and what host tests run.
"""

import ast
import builtins
from collections.abc import Iterable, Mapping

#: A board's pointer holds a whole number below this; a larger one is an object, which its name spares making again.
_SMALL = 1 << 30


def is_private(name: str) -> bool:
    """One leading underscore and more behind it."""
    return len(name) > 1 and name[0] == "_" and name[1] != "_"


def keywords_of(sources: Iterable[str]) -> frozenset[str]:
    """Every name by which a call in these programs gives an argument."""
    calls = (node for source in sources for node in ast.walk(ast.parse(source)))
    return frozenset(node.arg for node in calls if isinstance(node, ast.keyword) and node.arg)


class _RunTimeOnly(ast.NodeTransformer):
    """Leaves out what is there for type checkers and readers: `if TYPE_CHECKING:` and the name itself, `__all__`, annotations."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if isinstance(node.targets[0], ast.Name) and node.targets[0].id in ("TYPE_CHECKING", "__all__") else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._bare(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._bare(node)

    def _bare(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        # Annotations are never evaluated there; as text they would only be parsed.
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        self.generic_visit(node)
        return node


class _Module:
    """One program: its tree, what it imports, and its module-level constants by the expression that gives them."""

    def __init__(self, name: str, source: str):
        self.name = name
        self.tree: ast.Module = _RunTimeOnly().visit(ast.parse(source))
        self.modules: dict[str, str] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        self.given: dict[str, ast.expr] = {}
        bound: dict[str, int] = {}
        for node in ast.walk(self.tree):
            for text in _bindings(node):
                bound[text] = bound.get(text, 0) + 1
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                self._note_import(node, bound)
        for statement in self.tree.body:
            name_of = _constant_name(statement)
            if name_of is not None and bound[name_of] == 1 and (name_of.isupper() or is_private(name_of)):
                assert isinstance(statement, ast.Assign)
                self.given[name_of] = statement.value

    def _note_import(self, node: ast.ImportFrom, bound: dict[str, int]) -> None:
        package = self.name.split(".")[: -node.level] if node.level else []
        origin = ".".join([*package, *([node.module] if node.module else [])])
        for alias in node.names:
            shown = alias.asname or alias.name
            if bound[shown] == 1:  # else it is something else as well
                self.modules[shown] = f"{origin}.{alias.name}"
                self.imported[shown] = (origin, alias.name)


def _bindings(node: ast.AST) -> list[str]:
    """The names that this node alone gives a meaning to."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.ImportFrom | ast.Import):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.Global | ast.Nonlocal):
        return list(node.names)
    if isinstance(node, ast.ExceptHandler) and node.name:
        return [node.name]
    return []


def _constant_name(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None


class Image:
    """All programs of one image, by the name each is imported by. `keep`: those whose constants are somebody else's to read or set.

    Raises ValueError where a private name would cross a module's border.
    """

    def __init__(self, sources: Mapping[str, str], keep: Iterable[str] = (), keywords: frozenset[str] | None = None):
        """`keywords`: all names by which any caller gives an argument; None: any may be."""
        self._keep = frozenset(keep)
        self._keywords = keywords
        self._modules = {name: _Module(name, source) for name, source in sources.items()}
        for module in self._modules.values():
            _refuse_what_breaks(module.tree)
        for module in self._modules.values():
            module.tree = ast.fix_missing_locations(_Inline(self, module).visit(module.tree))
        self._read = {text for module in self._modules.values() for node in ast.walk(module.tree) for text in _readings(node)}

    def integer(self, name: str, text: str) -> int | None:
        """The integer that module `name` calls `text`, its own or an imported one; None where it is none."""
        module = self._modules.get(name)
        return None if module is None else self._integer_of(module, text)

    def _integer_of(self, module: _Module, text: str) -> int | None:
        if text in module.given:
            value = self.value(module, module.given[text])
            is_for_all = is_private(text) or (value is not None and module.name not in self._keep and abs(value) < _SMALL)
            return value if is_for_all else None
        return self.integer(*module.imported[text]) if text in module.imported else None

    def value(self, module: _Module, node: ast.expr) -> int | None:
        """What an expression of integers comes to; None for any other."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "const" and len(node.args) == 1:
            return self.value(module, node.args[0])
        if isinstance(node, ast.Constant):
            return node.value if type(node.value) is int else None
        if isinstance(node, ast.Name):
            return self._integer_of(module, node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in module.modules:
            return self.integer(module.modules[node.value.id], node.attr)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.LShift | ast.BitOr | ast.FloorDiv):
            left, right = self.value(module, node.left), self.value(module, node.right)
            if left is None or right is None:
                return None
            expression = ast.Expression(ast.BinOp(ast.Constant(left), node.op, ast.Constant(right)))
            result = eval(compile(ast.fix_missing_locations(expression), "constant", "eval"))
            return result if type(result) is int else None
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.value(module, node.operand)
            return None if inner is None else -inner
        return None

    def condensed(self, name: str) -> str:
        """The program of this module."""
        module = self._modules[name]
        tree = module.tree
        tree.body = [statement for statement in tree.body if not self._is_unread(module, _constant_name(statement))]
        if "." in name:
            tree = _Absolute(name).visit(tree)
        arguments = set() if self._keywords is None else _lone_arguments(tree, self._keywords)
        return ast.unparse(ast.fix_missing_locations(_Shorten(arguments).visit(tree))) + "\n"

    def outside(self, source: str) -> str:
        """A program that is not of the image and runs on it, with the integers that have no name there any more."""
        module = _Module("", source)
        return ast.unparse(ast.fix_missing_locations(_Inline(self, module).visit(module.tree))) + "\n"

    def _is_unread(self, module: _Module, text: str | None) -> bool:
        """Whether this is a constant's name that nobody in the image reads."""
        if text is None or text not in module.given or text in self._read or (module.name in self._keep and not is_private(text)):
            return False
        return self.value(module, module.given[text]) is not None or _is_literal(module.given[text])


def _is_literal(node: ast.expr) -> bool:
    """Whether giving it a name does nothing but that."""
    return all(isinstance(part, ast.Tuple | ast.Dict | ast.Constant | ast.expr_context) for part in ast.walk(node))


def _readings(node: ast.AST) -> list[str]:
    """Every name that this node reads, or may: a text can be one."""
    if isinstance(node, ast.Name):
        return [node.id] if isinstance(node.ctx, ast.Load) else []
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


class _Inline(ast.NodeTransformer):
    """Puts integers in place of their names, and imports no name that is in no place any more."""

    def __init__(self, image: Image, module: _Module):
        self._image = image
        self._module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._constant(node) if isinstance(node.ctx, ast.Load) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        return self._constant(node) if isinstance(node.ctx, ast.Load) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        node.names = [alias for alias in node.names if self._image.value(self._module, ast.Name(alias.asname or alias.name)) is None]
        return node if node.names else None

    def _constant(self, node: ast.Name | ast.Attribute) -> ast.expr:
        value = self._image.value(self._module, node)
        return node if value is None else ast.Constant(value)


def _refuse_what_breaks(tree: ast.Module) -> None:
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


class _Absolute(ast.NodeTransformer):
    """Makes relative imports absolute: what finds a release's modules (slot.py) is not told by MicroPython 1.25 who asks."""

    def __init__(self, name: str) -> None:
        self._parts = name.split(".")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level:
            node.module = ".".join([*self._parts[: -node.level], *([node.module] if node.module else [])])
            node.level = 0
        return node


class _Shorten(ast.NodeTransformer):
    """Gives a module's private names, and these arguments, the names `_0`, `_1` ..., which every module shares."""

    def __init__(self, arguments: set[str]) -> None:
        self._arguments = arguments
        self._short: dict[str, str] = {}

    def _of(self, name: str, is_local: bool = False) -> str:
        if not is_private(name) and not (is_local and name in self._arguments):
            return name
        if name not in self._short:
            self._short[name] = f"_{len(self._short)}"
        return self._short[name]

    def visit(self, node: ast.AST) -> ast.AST:
        for field in ("id", "attr", "name", "arg"):
            value = getattr(node, field, None)
            if isinstance(value, str) and not isinstance(node, ast.alias):
                setattr(node, field, self._of(value, isinstance(node, ast.Name | ast.arg)))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [self._of(name) for name in node.names]
        self.generic_visit(node)
        return node


def _lone_arguments(tree: ast.Module, keywords: frozenset[str]) -> set[str]:
    """Arguments that are nothing but local names in this module, and that no call in `keywords` gives by name."""
    found: set[str] = set()
    others: set[str] = set(keywords) | set(dir(builtins)) | {"self"}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            others.update((node.asname or node.name).split("."))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            others.update(node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            others.add(node.name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            others.add(node.name)
        if isinstance(node, ast.Module | ast.ClassDef):  # bound here, a name is more than local
            for statement in node.body:
                if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    others.update(name.id for name in ast.walk(statement) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store))
    return found - others


def condense(source: str, keywords: frozenset[str] | None = None) -> str:
    """The same for one program by itself, whose public names anybody may read."""
    return Image({"one": source}, ("one",), keywords).condensed("one")
