"""What numbers depend on, as one hash: values by content, code by what it does and reads."""

from __future__ import annotations

import ast
import bisect
import dis
import functools
import hashlib
import importlib
import inspect
import json
import operator
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from hw2_utils import paths
from hw2_utils.errors import Hw2Error

# The libraries that compute; each of their versions is in every key.
LIBRARIES = (
    "accelerate",
    "numpy",
    "open_clip_torch",
    "pandas",
    "peft",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)
# Package modules that decide no number: they name, check, keep or show what others compute.
# What `hub` and `embedding_cache` hand out, models and vectors, enters a key by its content.
NUMBERLESS = frozenset(
    "embedding_cache errors folders hub keys parameters parts paths plots profiles progress"
    " runs".split()
)
_PACKAGE = "hw2_utils"
# As they are when this process starts: what it has imported stays so, whatever is edited meanwhile.
_SOURCES = {file.stem: file.read_bytes() for file in paths.PACKAGE.glob("*.py")}


def digest(value: Any, name: str = "key") -> str:
    """SHA-256 of any nested value by its content: 64 hexadecimal digits.

    Takes plain values, mappings, sets, dataclasses, arrays, tensors, frames, and classes, functions
    and modules with all that they read by name. The order of a mapping counts, as a loop sees it,
    but for the outermost one. Raises Hw2Error, naming the place inside `value`, for anything else.
    """
    if isinstance(value, Mapping):
        value = dict(sorted(value.items()))
    try:
        return _sha256(_Content().of(value, name))
    except RecursionError:
        raise _refusal(name, "holds itself, or is nested too deeply") from None


def versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Installed versions of the libraries that numbers depend on."""
    return {name: _version(name) for name in libraries}


_version = functools.cache(metadata.version)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refusal(place: str, what: str) -> Hw2Error:
    todo = "hand in the values that the computation needs: numbers, texts, arrays, frames"
    return Hw2Error(f"{place} {what}", where="reuse of finished parts", todo=todo)


# ------------------------------------------------------------------------------------------ values
class _Content:
    """Turns a value into what JSON holds; code that is met again is only named by its number.

    Each method also takes the value's place in words, such as "`TABLE`['a'], which f reads,".
    """

    def __init__(self) -> None:
        self.met: dict[int, int] = {}

    def of(self, value: Any, place: str) -> Any:
        """The content of any value. Every list in it begins with what it stands for."""
        if isinstance(value, Enum):
            return ["enum", self.of(type(value), place), value.name]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes | complex | range):
            return [type(value).__name__, repr(value)]
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return [kind, getattr(value, "_fields", ()), *self._items(value, place)]
        if isinstance(value, set | frozenset):
            return ["set", *sorted(_sha256(_Content().of(item, place)) for item in value)]
        if isinstance(value, Mapping):
            return self._mapping(value, place)
        content = self._data(value, place) or self._code(value, place)
        if content is None:
            raise _refusal(place, f"is a {type(value).__name__}, which can't be part of a key")
        return content

    def _items(self, values: Iterable[Any], place: str) -> list[Any]:
        return [self.of(value, _inside(place, i)) for i, value in enumerate(values)]

    def _mapping(self, value: Mapping[Any, Any], place: str) -> Any:
        kind = None if type(value) is dict else self.of(type(value), place)
        missing = self.of(getattr(value, "default_factory", None), place)
        items = [[self.of(k, place), self.of(v, _inside(place, k))] for k, v in value.items()]
        return ["mapping", kind, missing, items]

    def _data(self, value: Any, place: str) -> Any:
        """The content of an array, a frame or another object that holds values; None for others."""
        kind = type(value)  # what it has, since a frame's columns look like attributes of its own
        if hasattr(kind, "to_frame"):
            return ["series", self.of(value.name, place), self._frame(value.to_frame(), place)]
        if hasattr(kind, "iterrows"):
            return self._frame(value, place)
        if hasattr(kind, "detach"):
            return self._tensor(value, place)
        if hasattr(kind, "dtype") and hasattr(kind, "tobytes"):
            return self._array(value, place)
        if hasattr(kind, "fingerprint"):  # a verified model: its files, wherever they lie
            return ["fingerprint", value.fingerprint]
        if isinstance(value, re.Pattern):
            return ["pattern", value.pattern, value.flags]
        if is_dataclass(value) and not isinstance(value, type):
            held = {field.name: getattr(value, field.name, None) for field in fields(value)}
            held |= getattr(value, "__dict__", {})
            return ["instance", self.of(kind, place), self._mapping(held, place)]
        return None

    def _array(self, array: Any, place: str) -> Any:
        if array.ndim == 0:  # a scalar of numpy is the number that it holds
            return self.of(array.item(), place)
        kind = ["array", str(array.dtype), array.shape]
        if array.dtype.hasobject:
            return [*kind, self.of(array.tolist(), place)]
        return [*kind, hashlib.sha256(array.tobytes()).hexdigest()]

    def _tensor(self, tensor: Any, place: str) -> Any:
        kind = str(tensor.dtype)
        if kind.startswith(("torch.bfloat", "torch.float8")):  # which numpy doesn't have
            tensor = tensor.float()
        try:
            return ["tensor", kind, self._array(tensor.numpy(force=True), place)]
        except (RuntimeError, TypeError):
            raise _refusal(place, f"is a {tensor.layout} tensor of {kind}") from None

    def _frame(self, frame: Any, place: str) -> Any:
        index_names = self.of(list(frame.index.names), place)
        table = frame.reset_index(allow_duplicates=True)
        columns = [self._column(column, _inside(place, name)) for name, column in table.items()]
        return ["frame", index_names, columns]

    def _column(self, column: Any, place: str) -> Any:
        categories = getattr(column.dtype, "categories", ())
        kind = [repr(column.dtype), self._items(categories, place)]
        if column.hasnans or column.dtype.kind == "O":  # libraries differ in what stands for none
            column = column.astype(object).where(column.notna(), None)
        return [self.of(column.name, place), *kind, self._array(column.to_numpy(), place)]

    # ------------------------------------------------------------------------------------ code
    def _code(self, value: Any, place: str) -> Any:
        """The content of a module, class or function; None for anything else."""
        if isinstance(value, ModuleType):
            return self._module(value, place)
        if isinstance(value, functools.partial):
            return ["partial", *self._items([value.func, value.args, value.keywords], place)]
        if isinstance(value, MethodType):
            return ["method", self.of(value.__func__, place), self.of(value.__self__, place)]
        if (home := _home(value)) is not None:
            return ["named", value.__qualname__, self._module(home, place)]
        if isinstance(value, BuiltinFunctionType):
            return ["method", value.__name__, self.of(value.__self__, place)]
        if isinstance(value, functools._lru_cache_wrapper):
            return ["cached", self.of(value.__wrapped__, place)]
        if isinstance(value, type):
            return self._once(value, lambda: self._class(value, value.__qualname__))
        if isinstance(value, FunctionType):
            return self._once(value, lambda: self._function(value, value.__qualname__))
        return None

    def _once(self, value: Any, content: Callable[[], Any]) -> Any:
        if id(value) in self.met:
            return ["again", self.met[id(value)]]
        self.met[id(value)] = len(self.met)
        return content()

    def _module(self, module: ModuleType, place: str) -> Any:
        package, _, inner = module.__name__.partition(".")
        if package == _PACKAGE:
            return ["package", module.__name__, package_code([inner] if inner else [])]
        if _is_installed(module):  # its version is in the key
            return ["library", module.__name__]
        held = {n: v for n, v in vars(module).items() if not n.startswith("__")}
        return self._once(module, lambda: ["module", self._mapping(held, module.__name__)])

    def _class(self, cls: type, place: str) -> Any:
        """A class of a notebook: its attributes, its bases and its metaclass."""
        written = {n: v for n, v in vars(cls).items() if n not in _BOOKKEEPING and not _is_made(v)}
        content = [self.of(type(cls), place), self.of(cls.__bases__, place)]
        content += [[n, self._attribute(v, _inside(place, n))] for n, v in sorted(written.items())]
        if is_dataclass(cls):
            content.append(repr(cls.__dataclass_params__))
            content += [self._field(field, _inside(place, field.name)) for field in fields(cls)]
        return ["class", place, content]

    def _attribute(self, value: Any, place: str) -> Any:
        if isinstance(value, property | classmethod | staticmethod | functools.cached_property):
            functions = [getattr(value, name, None) for name in _HOLDS]
            return [type(value).__name__, *self._items(functions, place)]
        return None if inspect.isdatadescriptor(value) else self.of(value, place)

    def _field(self, field: Field[Any], place: str) -> Any:
        defaults = (None if d is MISSING else [d] for d in (field.default, field.default_factory))
        flags = (field.init, field.compare, field.kw_only)
        return [field.name, self._items([*defaults, *flags], place)]

    def _function(self, function: FunctionType, place: str) -> Any:
        """A function of a notebook: what it does, and the values of the names that it reads."""
        code, names = function.__code__, _names_read(function.__code__)
        if hidden := names & {"eval", "exec", "globals"} - set(function.__globals__):
            raise _refusal(place, f"calls {min(hidden)}: what it reads can't be found")
        read = [(n, function.__globals__[n]) for n in sorted(names & set(function.__globals__))]
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # a name that has no value yet
                read.append((name, cell.cell_contents))
        values = [[n, self.of(value, f"`{n}`, which {place} reads,")] for n, value in read]
        for name in sorted(_imports(code)):
            with suppress(ImportError):
                values.append([name, self._module(importlib.import_module(name), name)])
        defaults = [function.__defaults__, function.__kwdefaults__, vars(function)]
        content = self._items(defaults, f"a default or attribute of {place}")
        return ["function", _bytecode(code), content, values]


# Where a property or the like keeps its functions.
_HOLDS = ("fget", "fset", "fdel", "__func__", "func")
# What Python writes into every class, beside what its author wrote.
_BOOKKEEPING = frozenset(
    "__abstractmethods__ __annotate_func__ __annotations__ __annotations_cache__ __dict__ __doc__"
    " __dataclass_fields__ __dataclass_params__ __firstlineno__ __module__ __qualname__"
    " __static_attributes__ __weakref__ _abc_impl".split()
)


def _inside(place: str, key: Any) -> str:
    """The place of an item: "`TABLE`['a'], which f reads," in "`TABLE`, which f reads,"."""
    value, comma, reader = place.partition(", which")
    return f"{value}[{key!r}]{comma}{reader}"


def _is_made(attribute: Any) -> bool:
    """Whether the dataclass decorator made a method: its fields and options say all of it."""
    code = getattr(attribute, "__code__", None)
    return getattr(code, "co_qualname", "").startswith("__create_fn__.")


def _home(value: Any) -> ModuleType | None:
    """The module of an installed library or of the package that has `value` under its own name."""
    owner = value if getattr(value, "__module__", None) else getattr(value, "__objclass__", value)
    module = sys.modules.get(getattr(owner, "__module__", None) or "builtins")
    if module is None or not (module.__name__.startswith(_PACKAGE) or _is_installed(module)):
        return None
    with suppress(AttributeError):
        public = operator.attrgetter(value.__qualname__)(module)
        if getattr(public, "__func__", public) is value:  # a class method is bound to its class
            return module
    return None


def _is_installed(module: ModuleType) -> bool:
    """Whether a module belongs to Python or to an installed library."""
    if module.__name__ == "__main__":
        return False
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    if file is None:
        return module.__name__.partition(".")[0] in sys.stdlib_module_names
    is_library = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return bool(is_library) or Path(file).is_relative_to(Path(inspect.__file__).parent)


def _steps(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions of a function and of all functions inside it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _steps(constant)


def _names_read(code: CodeType) -> set[str]:
    """The global names that a function reads, also in the functions inside it."""
    return {s.argval for s in _steps(code) if "GLOBAL" in s.opname or s.opname == "LOAD_NAME"}


def _imports(code: CodeType) -> set[str]:
    """The modules that a function imports when it is called."""
    modules, package = set(), ""
    for step in _steps(code):
        if step.opname == "IMPORT_NAME":
            modules.add(package := step.argval)
        elif step.opname == "IMPORT_FROM" and f"{package}.{step.argval}" in sys.modules:
            modules.add(f"{package}.{step.argval}")
    return modules


_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
_IDLE = ("NOP", "EXTENDED_ARG")
_NOTES = ("__doc__", "__firstlineno__", "__static_attributes__")  # that a class's code writes down
_DOCSTRING_FLAG = 0x4000000  # of a code object, from Python 3.13 on


def _bytecode(code: CodeType) -> Any:
    """What a function does; comments, docstrings, line numbers and most layout don't count."""
    steps = [s for s in dis.get_instructions(code) if s.opname not in _IDLE]
    notes = [i for i, s in enumerate(steps) if s.opname == "STORE_NAME" and s.argval in _NOTES]
    for i in reversed(notes):
        del steps[i - 1 : i + 1]  # the value, and its name
    offsets = [step.offset for step in steps]

    def number(offset: int) -> int:
        """Of the step that a jump leads to."""
        return bisect.bisect_left(offsets, offset)

    shown = [
        [s.opname, number(s.argval) if s.opcode in _JUMPS else _constant(s.argval)] for s in steps
    ]
    guarded = dis.Bytecode(code).exception_entries
    guards = [[number(e.start), number(e.end), number(e.target)] for e in guarded]
    counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
    return [shown, guards, code.co_varnames, counts, code.co_flags & ~_DOCSTRING_FLAG]


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _bytecode(value)
    return repr(sorted(value, key=repr)) if isinstance(value, frozenset) else repr(value)


# ------------------------------------------------------------------------------------- the package
def package_code(modules: Iterable[str]) -> str:
    """Hash over package modules and those that they import, directly or not, but for NUMBERLESS.

    Comments, docstrings and layout don't count; the configuration files that a module names do.
    """
    wanted, hashes = set(modules) - NUMBERLESS, {}
    while wanted:
        name = wanted.pop()
        hashes[name], imports = _module_code(name)
        wanted |= imports - NUMBERLESS - set(hashes)
    return _sha256(sorted(hashes.items()))


@functools.cache
def _module_code(name: str) -> tuple[str, set[str]]:
    """Hash of one module and of the configuration files that it names; what it imports."""
    tree = ast.parse(_SOURCES[name])
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    tables = [_table(file) for file in sorted(paths.CONFIG.iterdir()) if file.name in texts]
    return _sha256([_source(tree), tables]), _package_modules(_imported(tree))


def _table(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return tomllib.loads(text) if path.suffix == ".toml" else text


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that code imports when it runs, not for type hints alone; each with its source."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return
    if isinstance(tree, ast.Import):
        yield from ((a.asname or a.name.partition(".")[0], a.name) for a in tree.names)
    if isinstance(tree, ast.ImportFrom):
        start = (_PACKAGE if tree.level else "", tree.module or "")
        for alias in tree.names:
            yield alias.asname or alias.name, ".".join(filter(None, (*start, alias.name)))
    for node in ast.iter_child_nodes(tree):
        yield from _imported(node)


def _package_modules(imported: Iterable[tuple[str, str]]) -> set[str]:
    names = (source.split(".") for _, source in imported)
    return {name[1] for name in names if name[0] == _PACKAGE and len(name) > 1}


def _source(tree: ast.AST) -> str:
    """A syntax tree as text, without docstrings (comments and layout are not in it)."""
    for node in ast.walk(tree):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


# -------------------------------------------------------------------------------------- notebooks
def notebook_code(notebook: Path) -> str:
    """Hash of what a notebook's record comes from: its statements, and the package that they use.

    What only shows isn't in it: captions, asserts, what is printed or displayed, and what draws on
    the figures that a cell makes (but not a loop over their axes).
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [_cell("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    imported = {pair for cell in code for pair in _imported(cell)}
    bare = [_Bare(_showing(cell)).visit(cell) for cell in code]
    read = {n.id for cell in bare for n in ast.walk(cell) if isinstance(n, ast.Name)} | {"*"}
    used = sorted(pair for pair in imported if pair[0] in read)
    return _sha256([[_source(cell) for cell in bare], used, package_code(_package_modules(used))])


def _cell(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # IPython's own commands
        lines = source.splitlines()
        return ast.parse("\n".join("" if x.lstrip().startswith(("%", "!")) else x for x in lines))


_SHOWING = frozenset({"caption", "display", "plots", "plt", "print"})


def _showing(cell: ast.Module) -> frozenset[str]:
    """The names that show, and those that a cell sets to nothing but figures and axes."""
    nodes = list(ast.walk(cell))
    drawings = [n for n in nodes if isinstance(n, ast.Assign) and _root(n.value) in _SHOWING]
    drawn = Counter(name for drawing in drawings for name in _stored(drawing))
    stored = Counter(_stored(cell))
    return _SHOWING | {name for name, times in drawn.items() if times == stored[name]}


def _stored(tree: ast.AST) -> list[str]:
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


def _root(node: ast.AST) -> str:
    """The name at the beginning of a chain: `plt` of `plt.subplots()[0]`."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


class _Bare(ast.NodeTransformer):
    """Takes away what only shows, and imports."""

    def __init__(self, showing: frozenset[str]) -> None:
        self.showing = showing

    def _gone(self, node: ast.AST) -> None:
        return None

    visit_Assert = visit_Import = visit_ImportFrom = _gone

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return _Bare(_SHOWING).generic_visit(node)  # its names are its own

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "caption"]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        names = [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        return None if set(names) <= self.showing else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        inner = list(ast.walk(node))
        calls = [ast.unparse(n.func) for n in inner if isinstance(n, ast.Call)]
        on_record = any(call.startswith("run.") for call in calls)
        draws = _root(node.value) in self.showing and not on_record
        shows = not calls or calls[0] == "run.figure" or draws
        sets = any(isinstance(n, ast.NamedExpr) for n in inner)
        return None if shows and not sets else self.generic_visit(node)

    def _block(self, node: ast.For | ast.If | ast.While | ast.With) -> ast.AST | None:
        self.generic_visit(node)
        return node if node.body or getattr(node, "orelse", []) else None

    visit_For = visit_If = visit_While = visit_With = _block
