"""What a part's or a record's numbers depend on, as one hash: values by content, code by what it does and reads."""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import importlib.metadata
import inspect
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from hw2_utils import paths
from hw2_utils.errors import Hw2Error

# The libraries that compute; each of their versions is in every key.
LIBRARIES = (
    "accelerate",
    "numpy",
    "open_clip_torch",
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
# Model files enter a key by their hash and stored vectors by their content, so `hub` and `embedding_cache` are here.
NUMBERLESS = frozenset(
    "chain doctor embedding_cache errors execute folders hub keys latex parameters parts paths plots"
    " profiles report runs".split()
)
_PACKAGE = "hw2_utils"
_DOCSTRING_FLAG = 0x4000000  # of a code object, from Python 3.13 on


def digest(value: Any, name: str = "key") -> str:
    """SHA-256 of any nested value by its content: 64 hexadecimal digits.

    Takes plain values, mappings, sets, dataclasses, arrays, tensors, frames, and classes, functions and modules
    with all that they read by name. Raises Hw2Error, naming the place inside `value`, for anything else.
    """
    return _sha256(_Content().of(value, name))


def versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Installed versions of the libraries that numbers depend on."""
    return {name: _version(name) for name in libraries}


_version = functools.cache(importlib.metadata.version)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------- values
class _Content:
    """Turns a value into something that JSON holds; a function or class that is met again is only named."""

    def __init__(self) -> None:
        self.met: set[int] = set()

    def of(self, value: Any, name: str) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value.value if isinstance(value, Enum) else value
        if isinstance(value, list | tuple):
            return [self.of(item, f"{name}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, set | frozenset):
            return ["set", sorted(map(_sha256, (self.of(item, name) for item in value)))]
        if isinstance(value, Mapping):
            return self._mapping(value, name)
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, type | FunctionType | BuiltinFunctionType) or callable(value):
            return self._callable(value, name)
        return self._data(value, name)

    def _mapping(self, value: Mapping[Any, Any], name: str) -> Any:
        items = [[self.of(k, name), self.of(v, f"{name}[{k!r}]")] for k, v in value.items()]
        return ["mapping", sorted(items, key=lambda item: json.dumps(item[0], sort_keys=True))]

    def _data(self, value: Any, name: str) -> Any:
        if hasattr(
            value, "fingerprint"
        ):  # a verified model: its files, not the place where they lie
            return ["fingerprint", value.fingerprint]
        if is_dataclass(value):
            own = {f.name: getattr(value, f.name) for f in fields(value)}
            return [
                self.of(type(value), name),
                self.of({**own, **getattr(value, "__dict__", {})}, name),
            ]
        if hasattr(value, "to_frame") or hasattr(value, "iterrows"):  # a pandas series or frame
            return self._frame(value, name)
        if hasattr(value, "detach"):  # a tensor
            value = value.detach().cpu().numpy()
        if hasattr(value, "dtype") and hasattr(value, "tobytes"):
            return self._array(value, name)
        raise Hw2Error(
            f"{name} is a {type(value).__name__}, which can't be part of a key",
            where="reuse of finished parts",
            todo="hand in the values that the computation needs: numbers, texts, arrays, frames",
        )

    def _array(self, array: Any, name: str) -> Any:
        if array.ndim == 0:  # a scalar of numpy is the number that it holds
            return self.of(array.item(), name)
        if array.dtype.hasobject:
            return self.of(array.tolist(), name)
        data = hashlib.sha256(array.tobytes()).hexdigest()
        return ["array", array.dtype.str, list(array.shape), data]

    def _frame(self, frame: Any, name: str) -> Any:
        if frame.ndim == 1:
            frame = frame.to_frame()
        columns = [
            [str(column), str(frame[column].dtype), self._column(frame[column], f"{name}.{column}")]
            for column in frame.columns
        ]
        return ["frame", self._column(frame.index.to_series(), f"{name}.index"), columns]

    def _column(self, column: Any, name: str) -> Any:
        missing = column.isna()
        if column.dtype.kind in "biuf" and not missing.any():
            return self._array(column.to_numpy(), name)
        values = [None if gone else v for v, gone in zip(column, missing, strict=True)]
        return self.of(values, name)

    # ------------------------------------------------------------------------------------------ code
    def _module(self, module: ModuleType) -> Any:
        package, _, inner = module.__name__.partition(".")
        if package != _PACKAGE:
            return ["module", module.__name__]  # a library: its version is in the key
        return ["module", module.__name__, package_code([inner] if inner else [])]

    def _callable(self, value: Any, name: str) -> Any:
        if isinstance(value, functools.partial):
            return ["partial", self.of([value.func, value.args, value.keywords], name)]
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None and not isinstance(value, FunctionType):  # such as functools.cache
            return [type(value).__qualname__, self.of(wrapped, name)]
        if inspect.ismethod(value):
            return ["method", self.of(value.__func__, name), self.of(value.__self__, name)]
        module = getattr(value, "__module__", None)
        if not isinstance(value, type | FunctionType | BuiltinFunctionType):
            if module is None or not is_dataclass(value):
                return self._data(value, name)
            return [self.of(type(value), name), self.of(vars(value), name)]
        if (module or "").partition(".")[0] == _PACKAGE:
            return [value.__qualname__, self._module(sys.modules[module])]
        if _is_library(value):
            return ["library", module, value.__qualname__]
        if id(value) in self.met:
            return ["again", value.__qualname__]
        self.met.add(id(value))
        define = self._class if isinstance(value, type) else self._function
        return define(value, getattr(value, "__qualname__", name))

    def _class(self, cls: type, name: str) -> Any:
        """A class of a notebook: its own attributes as they are, and its bases."""
        own = {}
        for key, value in vars(cls).items():
            plain = _unwrapped(value)
            made = (
                getattr(getattr(plain, "__code__", None), "co_filename", "") == "<string>"
            )  # by dataclass
            if not made and (isinstance(plain, FunctionType) or not key.startswith("__")):
                own[key] = plain
        if is_dataclass(cls):
            own["__fields__"] = [[f.name, str(f.type), repr(f.default)] for f in fields(cls)]
        return ["class", cls.__qualname__, self.of(list(cls.__bases__), name), self.of(own, name)]

    def _function(self, function: FunctionType, name: str) -> Any:
        """A function of a notebook: what it does, its defaults, and the values of the names that it reads."""
        code, closure = function.__code__, function.__closure__ or ()
        outer = dict(zip(code.co_freevars, (cell.cell_contents for cell in closure), strict=True))
        read = {
            n: function.__globals__[n] for n in _global_names(code) if n in function.__globals__
        }
        defaults = [function.__defaults__, function.__kwdefaults__]
        inner = {
            n: self.of(v, f"`{n}`, which {name} reads,")
            for n, v in sorted({**read, **outer}.items())
        }
        return ["function", _bytecode(code), self.of(defaults, f"a default of {name}"), inner]


def _unwrapped(attribute: Any) -> Any:
    """The functions inside a property, a class method or a static method."""
    if isinstance(attribute, property):
        return [attribute.fget, attribute.fset, attribute.fdel]
    return getattr(attribute, "__func__", attribute)


def _is_library(value: Any) -> bool:
    """Whether a class or function comes from an installed library or Python itself."""
    if value.__module__ == "__main__":
        return False
    module = sys.modules.get(getattr(value, "__module__", None) or "builtins")
    file = getattr(module, "__file__", None)
    if file is None:  # built in
        return True
    return "site-packages" in file or Path(file).is_relative_to(Path(inspect.__file__).parent)


def _global_names(code: CodeType) -> set[str]:
    """The global names that a function's code reads, also in the functions inside it."""
    found = {
        i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _global_names(constant)
    return found


def _bytecode(code: CodeType) -> Any:
    """What a function does, without line numbers, comments and docstrings."""
    constants = list(code.co_consts)
    documented = code.co_flags & _DOCSTRING_FLAG or sys.version_info < (3, 13)
    if constants and isinstance(constants[0], str) and documented and code.co_name[0] != "<":
        constants[0] = None
    shown = [_bytecode(c) if isinstance(c, CodeType) else _constant(c) for c in constants]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code.hex(), code.co_exceptiontable.hex(), shown, names, code.co_flags]


def _constant(value: Any) -> str:
    return repr(sorted(value, key=repr)) if isinstance(value, frozenset) else repr(value)


# ---------------------------------------------------------------------------------------------- the package
def package_code(modules: Iterable[str]) -> str:
    """Hash over package modules and those that they import, directly or not; NUMBERLESS ones are left out.

    Comments, docstrings and layout don't count; the configuration files that a module names do.
    """
    wanted, found = [m for m in modules if m not in NUMBERLESS], {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name], imports = _module_code(paths.PACKAGE / f"{name}.py")
            wanted += [m for m in imports if m not in NUMBERLESS]
    return _sha256(sorted(found.items()))


@functools.cache  # what a process has imported stays as it was, whatever is edited meanwhile
def _module_code(path: Path) -> tuple[str, list[str]]:
    """Hash of one module with the configuration files that it names, and the package modules that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    tables = [table for table in sorted(paths.CONFIG.iterdir()) if table.name in texts]
    imports = sorted(set(_package_imports(tree)))
    return _sha256([_source(tree), [_table(table) for table in tables]]), imports


def _table(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return tomllib.loads(text) if path.suffix == ".toml" else text


def _package_imports(tree: ast.AST) -> Iterator[str]:
    """Names of the package modules that run when this code does; what is imported for type hints alone doesn't."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
            )
            yield from (n.split(".")[1] for n in names if n.startswith(f"{_PACKAGE}."))
        else:
            yield from _package_imports(node)


def _source(tree: ast.AST) -> str:
    """A syntax tree as text, without docstrings (comments and layout are not in it)."""
    for node in ast.walk(tree):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


# ---------------------------------------------------------------------------------------------- notebooks
def notebook_code(notebook: Path) -> str:
    """Hash of what a notebook's record comes from: the statements that its numbers and tables need, and the package.

    Found backwards from the calls of `run`, by the names that each statement reads and sets: figures, captions and
    what is only shown aren't in it.
    """
    stat = notebook.stat()
    return _notebook_code(notebook, stat.st_mtime_ns, stat.st_size)


@functools.cache
def _notebook_code(notebook: Path, *_changed: int) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    lines = "\n".join(code).splitlines()
    tree = ast.parse("\n".join("" if line.lstrip().startswith("%") else line for line in lines))
    kept, wanted = _slice(tree)
    modules = {name for name in _package_imports(tree) if name in wanted}
    return _sha256([[_source(node) for node in kept], package_code(modules)])


def _slice(tree: ast.Module) -> tuple[list[ast.stmt], set[str]]:
    """The statements on which a record depends, in order, and the names that they read."""
    libraries = {
        a.asname or a.name.split(".")[0]
        for n in tree.body
        if isinstance(n, ast.Import)
        for a in n.names
    }
    libraries |= {
        a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    kept, wanted = [], {"run"}
    for node in reversed([_Bare().visit(node) for node in tree.body]):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
            continue
        sets = _names_set(node, libraries)
        if not (sets & wanted or _records(node)):
            continue
        kept.append(node)
        if isinstance(
            node, ast.Assign | ast.AnnAssign
        ):  # set anew: what was there before doesn't matter
            wanted -= {
                t.id for t in ast.walk(node) if isinstance(t, ast.Name) and _is_whole(t, node)
            } - {"run"}
        wanted |= _global_names(compile(ast.Module([node], []), "cell", "exec")) | (sets & wanted)
    return kept[::-1], wanted


class _Bare(ast.NodeTransformer):
    """Takes captions away."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [k for k in node.keywords if k.arg != "caption"]
        return self.generic_visit(node)


def _is_whole(name: ast.Name, node: ast.Assign | ast.AnnAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return name in targets


def _records(node: ast.stmt) -> bool:
    """Whether a statement calls the run for more than a figure."""
    calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
    called = {
        f.attr for f in calls if isinstance(f, ast.Attribute) and ast.unparse(f.value) == "run"
    }
    return bool(called - {"figure"})


def _names_set(node: ast.stmt, libraries: set[str]) -> set[str]:
    """Names that a statement sets or may change: its targets, the object whose method it calls, a call's arguments."""
    found = {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            found.add(_root(part))
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            found |= _may_change(part.value, libraries)
    return found


def _may_change(call: ast.Call, libraries: set[str]) -> set[str]:
    root = _root(call.func)
    if root in ("print", "display", "plt", "plots"):
        return set()
    if isinstance(call.func, ast.Attribute) and root not in libraries:
        return {root}
    return {a.id for a in call.args if isinstance(a, ast.Name)}


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
