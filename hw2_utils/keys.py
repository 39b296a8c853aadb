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
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
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
_DOCSTRING_FLAG = 0x4000000  # of a code object, from Python 3.13 on
Name = str | tuple[Any, Any]  # of a place: in words, or the place around it and a key in there
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
_dtype_name = functools.cache(str)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refusal(name: Name, what: str) -> Hw2Error:
    todo = "hand in the values that the computation needs: numbers, texts, arrays, frames"
    return Hw2Error(f"{_words(name)} {what}", where="reuse of finished parts", todo=todo)


# ------------------------------------------------------------------------------------------ values
class _Content:
    """Turns a value into what JSON holds; code that is met again is only named by its number."""

    def __init__(self) -> None:
        self.met: dict[int, int] = {}

    def of(self, value: Any, name: Name) -> Any:
        """The content of any value. Every list in it begins with what it stands for."""
        if isinstance(value, Enum):
            return ["enum", self.of(type(value), name), value.name]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes | complex | range):
            return [type(value).__name__, repr(value)]
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return [kind, getattr(value, "_fields", ()), *self._items(value, name)]
        if isinstance(value, set | frozenset):
            return ["set", *sorted(_sha256(_Content().of(item, name)) for item in value)]
        if isinstance(value, Mapping):
            return self._mapping(value, name)
        content = self._data(value, name) or self._code(value, name)
        if content is None:
            raise _refusal(name, f"is a {type(value).__name__}, which can't be part of a key")
        return content

    def _items(self, values: Iterable[Any], name: str) -> list[Any]:
        plain = (str, int, float)  # most items are, of lists that are long
        return [
            v if type(v) in plain else self.of(v, _inside(name, i)) for i, v in enumerate(values)
        ]

    def _mapping(self, value: Mapping[Any, Any], name: Name) -> Any:
        kind = None if type(value) is dict else self.of(type(value), name)
        missing = self.of(getattr(value, "default_factory", None), name)
        items = [[self.of(k, name), self.of(v, _inside(name, k))] for k, v in value.items()]
        return ["mapping", kind, missing, items]

    def _data(self, value: Any, name: Name) -> Any:
        """The content of an array, a frame or another object that holds values; None for others."""
        kind = type(value)  # what it has, since a frame's columns look like attributes of its own
        if hasattr(kind, "iterrows") or hasattr(kind, "to_frame"):  # pandas
            return self._frame(value, name)
        if hasattr(kind, "detach"):
            return self._tensor(value, name)
        if hasattr(kind, "dtype") and hasattr(kind, "tobytes"):
            return self._array(value, name)
        if hasattr(kind, "fingerprint"):  # a verified model: its files, wherever they lie
            return ["fingerprint", value.fingerprint]
        if isinstance(value, re.Pattern):
            return ["pattern", value.pattern, value.flags]
        if is_dataclass(value) and not isinstance(value, type):
            own = {f.name: getattr(value, f.name, None) for f in fields(value)}
            own |= getattr(value, "__dict__", {})
            return ["instance", self.of(kind, name), self._mapping(own, name)]
        return None

    def _array(self, array: Any, name: Name) -> Any:
        if array.ndim == 0:  # a scalar of numpy is the number that it holds
            return self.of(array.item(), name)
        about = ["array", _dtype_name(array.dtype), array.shape]
        if array.dtype.hasobject:
            return [*about, self.of(array.tolist(), name)]
        return [*about, hashlib.sha256(array.tobytes()).hexdigest()]

    def _tensor(self, tensor: Any, name: Name) -> Any:
        kind = str(tensor.dtype)
        if kind.startswith(("torch.bfloat", "torch.float8")):  # which numpy doesn't have
            tensor = tensor.float()
        try:
            return ["tensor", kind, tensor.shape, self._array(tensor.numpy(force=True), name)]
        except (RuntimeError, TypeError):
            raise _refusal(name, f"is a {tensor.layout} tensor of {kind}") from None

    def _frame(self, frame: Any, name: Name) -> Any:
        names = [self.of(list(frame.index.names), name)]
        index = frame.index.to_frame(index=False)
        tables = [index] if frame.ndim == 1 else [index, frame]
        columns = [frame] if frame.ndim == 1 else []
        columns += [t.iloc[:, i] for t in tables for i in range(t.shape[1])]
        names += [self.of(c.name, name) for c in columns]
        return ["frame", frame.ndim, names, [self._column(c, name) for c in columns]]

    def _column(self, column: Any, name: Name) -> Any:
        name = _inside(name, column.name)
        categories = getattr(column.dtype, "categories", None)
        about = [str(column.dtype), None if categories is None else self._items(categories, name)]
        about.append(getattr(column.dtype, "ordered", None))
        missing = column.isna()
        if column.dtype.kind in "biufcmM" and not missing.any():
            return [*about, self._array(column.to_numpy(), name)]
        each = zip(column.tolist(), missing.tolist(), strict=True)
        return [*about, self._items([None if gone else v for v, gone in each], name)]

    # ------------------------------------------------------------------------------------ code
    def _code(self, value: Any, name: Name) -> Any:
        """The content of a module, class or function; None for anything else."""
        if isinstance(value, ModuleType):
            return self._module(value, name)
        if isinstance(value, functools.partial):
            return ["partial", *self._items([value.func, value.args, value.keywords], name)]
        if isinstance(value, MethodType):
            return ["method", self.of(value.__func__, name), self.of(value.__self__, name)]
        found = _by_name(value)
        if found is not None:
            return ["named", value.__qualname__, self._module(found, name)]
        if isinstance(value, BuiltinFunctionType):
            return ["method", value.__name__, self.of(value.__self__, name)]
        if isinstance(value, functools._lru_cache_wrapper):
            return ["cached", self.of(value.__wrapped__, name)]
        if isinstance(value, type | FunctionType):
            define = self._class if isinstance(value, type) else self._function
            return self._once(value, lambda: define(value, value.__qualname__))
        return None

    def _once(self, value: Any, define: Any) -> Any:
        if id(value) in self.met:
            return ["again", self.met[id(value)]]
        self.met[id(value)] = len(self.met)
        return define()

    def _module(self, module: ModuleType, name: Name) -> Any:
        package, _, inner = module.__name__.partition(".")
        if package == _PACKAGE:
            return ["package", module.__name__, package_code([inner] if inner else [])]
        if _is_installed(module):  # its version is in the key
            return ["library", module.__name__]
        own = {n: v for n, v in vars(module).items() if not n.startswith("__")}
        return self._once(module, lambda: ["module", self._mapping(own, module.__name__)])

    def _class(self, cls: type, name: Name) -> Any:
        """A class of a notebook: its own attributes, its bases and its metaclass."""
        own = {n: v for n, v in vars(cls).items() if n not in _BOOKKEEPING and not _is_made(v)}
        content = [self.of(type(cls), name), self.of(cls.__bases__, name)]
        content += [[n, self._attribute(v, _inside(name, n))] for n, v in sorted(own.items())]
        if is_dataclass(cls):
            content.append(repr(cls.__dataclass_params__))
            content += [self._field(f, _inside(name, f.name)) for f in fields(cls)]
        return ["class", name, content]

    def _attribute(self, value: Any, name: Name) -> Any:
        if isinstance(value, property):
            return ["property", *self._items([value.fget, value.fset, value.fdel], name)]
        if isinstance(value, classmethod | staticmethod | functools.cached_property):
            function = getattr(value, "__func__", None) or value.func
            return [type(value).__name__, self.of(function, name)]
        return None if inspect.isdatadescriptor(value) else self.of(value, name)

    def _field(self, field: Any, name: Name) -> Any:
        defaults = (None if d is MISSING else [d] for d in (field.default, field.default_factory))
        flags = (field.init, field.repr, field.compare, field.kw_only, str(field.type))
        return [field.name, self._items([*defaults, *flags], name)]

    def _function(self, function: FunctionType, name: Name) -> Any:
        """A function of a notebook: what it does, and the values of the names that it reads."""
        code, read = function.__code__, _names_read(function.__code__)
        if followed := read & {"eval", "exec", "globals"} - set(function.__globals__):
            raise _refusal(name, f"calls {min(followed)}: what it reads can't be found")
        content = []
        for n, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # a name that has no value yet
                content.append([n, self.of(cell.cell_contents, f"`{n}`, which {name} reads,")])
        for n in sorted(read & set(function.__globals__)):
            content.append([n, self.of(function.__globals__[n], f"`{n}`, which {name} reads,")])
        for n in sorted(_imports(code)):
            with suppress(ImportError):
                content.append([n, self._module(importlib.import_module(n), n)])
        defaults = [function.__defaults__, function.__kwdefaults__, vars(function)]
        own = self._items(defaults, f"a default or attribute of {name}")
        return ["function", _bytecode(code), own, content]


# What Python writes into every class, beside what its author wrote.
_BOOKKEEPING = frozenset(
    "__abstractmethods__ __annotate_func__ __annotations__ __annotations_cache__ __dict__ __doc__"
    " __dataclass_fields__ __dataclass_params__ __firstlineno__ __module__ __qualname__"
    " __static_attributes__ __weakref__ _abc_impl".split()
)


def _inside(name: Name, key: Any) -> Name:
    """The place of an item. Only one that is refused is put into words: there are many."""
    return (name, key)


def _words(name: Name) -> str:
    """A place in words, such as "`TABLE`['a'], which f reads,"."""
    if isinstance(name, str):
        return name
    head, comma, reader = _words(name[0]).partition(", which")
    return f"{head}[{name[1]!r}]{comma}{reader}"


def _is_made(attribute: Any) -> bool:
    """Whether the dataclass decorator made a method: its fields and options say all of it."""
    code = getattr(attribute, "__code__", None)
    return getattr(code, "co_qualname", "").startswith("__create_fn__.")


def _by_name(value: Any) -> ModuleType | None:
    """The module of an installed library or of the package that has `value` under its own name."""
    home = value if getattr(value, "__module__", None) else getattr(value, "__objclass__", value)
    module = sys.modules.get(getattr(home, "__module__", None) or "builtins")
    if module is None or not (_is_installed(module) or module.__name__.startswith(_PACKAGE)):
        return None
    found: Any = module
    for part in getattr(value, "__qualname__", "").split("."):
        found = inspect.getattr_static(found, part, None)
        found = getattr(found, "__func__", found)
    return module if found is value else None


def _is_installed(module: ModuleType) -> bool:
    """Whether a module belongs to Python or to an installed library."""
    if module.__name__ in ("__main__", "__mp_main__"):
        return False
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    if file is None:
        return module.__name__.partition(".")[0] in sys.stdlib_module_names
    folders = Path(file).parts
    installed = "site-packages" in folders or "dist-packages" in folders
    return installed or Path(file).is_relative_to(Path(inspect.__file__).parent)


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
    found, names = set(), [(s.opname, s.argval) for s in _steps(code)]
    for operation, name in names:
        if operation == "IMPORT_NAME":
            found.add(package := name)
        elif operation == "IMPORT_FROM" and f"{package}.{name}" in sys.modules:
            found.add(f"{package}.{name}")
    return found


_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
_ALWAYS = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
_NOTES = ("__doc__", "__firstlineno__", "__static_attributes__")  # that a class's code writes down


def _bytecode(code: CodeType) -> Any:
    """What a function does, whatever its layout, comments, docstrings and line numbers."""
    steps = list(_plain_steps(code))
    offsets = [offset for offset, *_ in steps]

    def place(offset: int) -> int:
        """Where a jump leads in the end, as the number of a step."""
        seen = {at := bisect.bisect_left(offsets, offset)}
        while at < len(steps) and steps[at][1] in _ALWAYS:
            at = bisect.bisect_left(offsets, steps[at][2])
            if at in seen:
                break
            seen.add(at)
        return at

    shown = [[name, place(arg) if jumps else _constant(arg)] for _, name, arg, jumps in steps]
    guards = [
        [place(e.start), place(e.end), place(e.target), e.depth, e.lasti]
        for e in dis.Bytecode(code).exception_entries
    ]
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
    return [shown, guards, arguments, counts, code.co_flags & ~_DOCSTRING_FLAG]


def _plain_steps(code: CodeType) -> Iterator[tuple[int, str, Any, bool]]:
    """Offset, name, argument and whether it jumps, of the instructions that do something."""
    steps = [s for s in dis.get_instructions(code) if s.opname not in ("NOP", "EXTENDED_ARG")]
    noted = {i for i, s in enumerate(steps) if s.opname == "STORE_NAME" and s.argval in _NOTES}
    for i, step in enumerate(steps):
        if i in noted or i + 1 in noted:
            continue
        if isinstance(step.argval, tuple) and "_FAST_" in step.opname:  # two in one, from 3.13 on
            first, _, second = step.opname.partition("_FAST_")
            yield step.offset, f"{first}_FAST", step.argval[0], False
            yield step.offset, second, step.argval[1], False
        else:
            yield step.offset, step.opname, step.argval, step.opcode in _JUMPS


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _bytecode(value)
    return repr(sorted(value, key=repr)) if isinstance(value, frozenset) else repr(value)


# ------------------------------------------------------------------------------------- the package
def package_code(modules: Iterable[str]) -> str:
    """Hash over package modules and those that they import, directly or not, but for NUMBERLESS.

    Comments, docstrings and layout don't count; the configuration files that a module names do.
    """
    wanted, found = set(modules) - NUMBERLESS, {}
    while wanted:
        name = wanted.pop()
        found[name], imports = _module_code(name)
        wanted |= imports - NUMBERLESS - set(found)
    return _sha256(sorted(found.items()))


@functools.cache
def _module_code(name: str) -> tuple[str, set[str]]:
    """Hash of one module and of the configuration files that it names; what it imports."""
    tree = ast.parse(_SOURCES[name])
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    tables = [_table(file) for file in sorted(paths.CONFIG.iterdir()) if file.name in texts]
    return _sha256([_source(tree), tables]), set(_package_imports(tree))


def _table(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return tomllib.loads(text) if path.suffix == ".toml" else text


def _package_imports(tree: ast.AST) -> Iterator[str]:
    """Package modules that run when this code does; those of type hints alone don't."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            module = f"{_PACKAGE}.{node.module or ''}".strip(".") if node.level else node.module
            names = [f"{module}.{a.name}" if module == _PACKAGE else module for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        else:
            names = []
            yield from _package_imports(node)
        yield from (n.split(".")[1] for n in names if n.startswith(f"{_PACKAGE}."))


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

    What only shows isn't in it: figures, captions, what is printed or displayed, asserts.
    """
    return _notebook_code(notebook, stamp(notebook))


def stamp(file: Path) -> tuple[int, int]:
    """What changes with a file, for a cache of what was read from it."""
    if not file.exists():
        return 0, 0
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


@functools.cache
def _notebook_code(notebook: Path, _stamp: tuple[int, int]) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [_cell("".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    tree = ast.Module([statement for cell in code for statement in cell.body], [])
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    bare = _Bare(_canvases(tree)).visit(tree)
    read = {node.id for node in ast.walk(bare) if isinstance(node, ast.Name)} | {"*"}
    for node in imports:
        node.names = [a for a in node.names if (a.asname or a.name.split(".")[0]) in read]
    used = [node for node in imports if node.names]
    modules = package_code(_package_imports(ast.Module(used, [])))
    libraries = sorted(ast.unparse(node) for node in used if _PACKAGE not in ast.unparse(node))
    return _sha256([_source(bare), libraries, modules])


def _cell(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # IPython's own commands
        lines = source.splitlines()
        return ast.parse("\n".join("" if x.lstrip().startswith(("%", "!")) else x for x in lines))


_SHOWING = frozenset({"display", "plots", "plt", "print"})


def _canvases(tree: ast.Module) -> frozenset[str]:
    """Names that never hold anything but figures and axes, and the names that show."""
    origins: dict[str, set[str]] = {}  # name: roots of what it is set to
    bound = [pair for node in ast.walk(tree) for pair in _bound(node)]
    for target, value in bound:
        for name in _stored(target):
            origins.setdefault(name.id, set()).add(_root(value))
    known = {id(name) for target, _ in bound for name in _stored(target)}
    otherwise = {name.id for name in _stored(tree) if id(name) not in known}
    found, size = set(_SHOWING), 0
    while size < len(found):  # until a pass finds no more
        size = len(found)
        found |= {name for name, roots in origins.items() if roots <= found} - otherwise
    return frozenset(found)


def _stored(tree: ast.AST) -> list[ast.Name]:
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return [name for name in names if isinstance(name.ctx, ast.Store)]


def _bound(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """The targets of an assignment or a loop, each with what it is set to or runs through."""
    if isinstance(node, ast.Assign):
        return [(target, node.value) for target in node.targets]
    if not isinstance(node, ast.For | ast.comprehension):
        return []
    target, values = node.target, node.iter
    if isinstance(target, ast.Tuple) and isinstance(values, ast.Call) and _root(values) == "zip":
        return list(zip(target.elts, values.args, strict=False))
    return [(target, v) for v in (values.elts if isinstance(values, ast.Tuple) else [values])]


def _root(node: ast.AST) -> str:
    """The name at the beginning of a chain: `plt` of `plt.subplots()[0]`."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


class _Bare(ast.NodeTransformer):
    """Takes away what only shows, and imports."""

    def __init__(self, canvases: frozenset[str]) -> None:
        self.canvases = canvases

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom) or self._shows(node):
            return None
        if isinstance(node, ast.FunctionDef):  # its names are its own
            return _Bare(_SHOWING).generic_visit(node)
        if isinstance(node, ast.Call):
            node.keywords = [k for k in node.keywords if k.arg != "caption"]
        self.generic_visit(node)
        is_block = isinstance(node, ast.For | ast.If | ast.While | ast.With)
        return None if is_block and not [*node.body, *getattr(node, "orelse", [])] else node

    def _shows(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Assign):
            names = [name.id for target in node.targets for name in _stored(target)]
            roots = [*names, *(_root(t) for t in node.targets if not _stored(t))]
            return set(roots) <= self.canvases
        if not isinstance(node, ast.Expr):
            return False
        calls = [ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)]
        if not calls or calls[0] == "run.figure":
            return not any(isinstance(n, ast.NamedExpr) for n in ast.walk(node))
        on_record = any(call.startswith("run.") for call in calls)
        return _root(node.value) in self.canvases and not on_record
