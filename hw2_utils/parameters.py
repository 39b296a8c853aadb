"""A notebook's declared parameters: the values they take, and what differs from the profile.

A new parameter is declared in the notebook's tagged cell, and has a default in each profile if that
differs. Only limits that its type and default don't tell stand here.
"""

from __future__ import annotations

import ast
import difflib
import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hw2_utils import paths, profiles
from hw2_utils.errors import explained, require

# These say where a run lies, what it runs on or what it keeps; all others change its numbers.
PLACES = ("profile", "run_dir", "device", "save_models")
RANGES = {  # of numbers: smallest (beside the default) and largest
    "batch_size": (0, 65_536),
    "epochs": (0, 10_000),
    "folds": (3, 100),
    "factorial_statements": (2, 1_000_000),
    "learning_rate": (0, 1.0),
    "lora_learning_rate": (0, 1.0),
    "lora_rank": (1, 65_536),
    "lora_alpha": (1, 65_536),
    "max_train_examples": (2, 10**9),
}
CHOICES = {"device": ("auto", "cpu", "cuda"), "lora_variant": ("", "rslora", "dora", "lora+")}


def names() -> list[str]:
    """The committed notebooks, in order; a copy that lies beside them isn't one."""
    known = profiles.load("sample")["expected_s"]
    return sorted(name for name in known if (paths.NOTEBOOKS / f"{name}.ipynb").is_file())


def notebook_path(notebook: str) -> Path:
    """The committed notebook of a name, or of its own path.

    Raises InputError for all else, listing the notebooks there are.
    """
    path = Path(notebook)
    name = path.name.removesuffix(".ipynb")
    committed = paths.NOTEBOOKS.resolve() / f"{name}.ipynb"
    is_path = len(path.parts) > 1 or path.is_file()  # else a name, with or without its ending
    elsewhere = is_path and path.parent.resolve() != committed.parent
    what = f"{notebook!r} is no notebook of this project"
    known = names()
    todo = f"use one of {', '.join(known)}"
    ours = name in known and not elsewhere
    require(ours, what, where=paths.short(paths.NOTEBOOKS), todo=todo)
    return committed


def declared(notebook: str) -> dict[str, Any]:
    """Names and defaults of the notebook's tagged parameters cell, in order."""
    return _defaults(notebook_path(notebook).read_text(encoding="utf-8"))


def saved_edits(notebook: str) -> dict[str, Any]:
    """The committed values of the defaults that the file holds otherwise; none where no git is."""
    command = ["git", "show", f"HEAD:./{paths.NOTEBOOKS.name}/{notebook}.ipynb"]
    with suppress(OSError, subprocess.SubprocessError, ValueError, LookupError, StopIteration):
        done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, timeout=20, check=True)
        now = declared(notebook)
        before = _defaults(done.stdout.decode("utf-8"))
        return {name: before[name] for name in now.keys() & before if now[name] != before[name]}
    return {}


def _defaults(text: str) -> dict[str, Any]:
    tagged = (c for c in json.loads(text)["cells"] if "parameters" in c["metadata"].get("tags", []))
    source = next("".join(c["source"]) for c in tagged)
    assigned = [n for n in ast.parse(source).body if isinstance(n, ast.AnnAssign)]
    return {n.target.id: ast.literal_eval(n.value) for n in assigned}


def check(notebook: str, given: Mapping[str, Any]) -> None:
    """Refuses unknown names, wrong types and values out of range.

    Raises InputError that names the parameter and what it takes.
    """
    defaults = declared(notebook)
    for name, value in given.items():
        _check_name(notebook, name, defaults)
        _check_type(name, value, defaults[name])
        _check_value(name, value, defaults[name])
    profiles.load(str(given.get("profile", defaults["profile"])))


def check_files(given: Mapping[str, Any]) -> None:
    """Refuses a data folder or run that isn't there, before a kernel starts."""
    for name, value in given.items():
        if name != "run_dir" and profiles.is_path(name, value):
            what = "there is no such file or folder"
            todo = "correct the path, or leave the parameter out"
            require(Path(value).exists(), what, where=f"parameter {name}: {value}", todo=todo)


def _check_name(notebook: str, name: str, defaults: Mapping[str, Any]) -> None:
    near = difflib.get_close_matches(name, defaults, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    what = f"notebook {notebook} has no parameter {name!r}"
    todo = f"{meant}It takes {', '.join(defaults)}"
    require(name in defaults, what, where="parameters", todo=todo)


def _check_type(name: str, value: Any, default: Any) -> None:
    # Python's bool is an int, and an int will do for a float
    fits = type(value) is type(default) or (isinstance(default, float) and type(value) is int)
    what = f"{value!r} is a {type(value).__name__}, wanted is a {type(default).__name__}"
    require(fits, what, where=f"parameter {name}", todo=f"its default is {default!r}")


def _check_value(name: str, value: Any, default: Any) -> None:
    where = f"parameter {name}"
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            check_text(item, where)
    if type(value) in (int, float):  # a bool is neither
        _check_number(name, value, default)
    if name in CHOICES:
        todo = f"use one of {', '.join(map(repr, CHOICES[name]))}"
        what = f"{value!r} isn't one of its values"
        require(value in CHOICES[name], what, where=where, todo=todo)
    if isinstance(value, list):
        _check_items(name, value)


def _check_number(name: str, value: float, default: float) -> None:
    low, high = RANGES.get(name, (min(default, 0), 10**9))
    otherwise = f", or leave it at {default}" if default < low else ""
    todo = f"give {low:g} to {high:,g}{otherwise}"
    fits = value == default or low <= value <= high
    require(fits, f"{value!r} is out of range", where=f"parameter {name}", todo=todo)


def _check_items(name: str, items: list[Any]) -> None:
    if name == "seeds":
        fits = all(type(item) is int and 0 <= item < 2**32 for item in items)
        wanted, example = "whole numbers from 0 on", "[0, 1]"
    else:
        fits = all(isinstance(item, str) and item.strip() for item in items)
        wanted, example = "names", '["query", "value"]'
    fits = fits and len(set(items)) == len(items)
    what = f"{items!r} isn't a list of {wanted}, each once"
    require(fits, what, where=f"parameter {name}", todo=example)


def check_text(text: Any, where: str) -> None:
    """Refuses a text that no file can hold, or that the system can't look for as a path."""
    todo = "give a text of ordinary characters, no longer than a file's path"
    with explained("this text can't be used", where=where, todo=todo):
        str(text).encode()
        Path(str(text)).expanduser().exists()


def changed(notebook: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters whose values give other numbers than the profile's own, with those values.

    A default that was edited in the notebook's file since the last commit counts as given.
    """
    defaults = declared(notebook)
    all_given = {**defaults, **given}
    plain = {**defaults, **saved_edits(notebook), "profile": all_given["profile"]}
    now, profiles_own = (profiles.settings(notebook, values) for values in (all_given, plain))
    names = [name for name in all_given if name not in PLACES]
    return {name: now[name] for name in names if now[name] != profiles_own[name]}


def check_cells(notebook: str, sources: list[str]) -> None:
    """Refuses a parameter that a cell sets and the notebook doesn't have: Python would say nothing.

    `sources` are the cells that a kernel has run. Looked at are the parameters cell, as it was run
    last, and the one that papermill adds. A parameter that was taken from that cell is named too.
    """
    defaults = declared(notebook)
    in_cell: list[str] = []
    in_added_cell: list[str] = []
    for source in sources:
        names = _assigned(source)
        if source.startswith("# Parameters"):
            in_added_cell = names
        elif {"profile", "run_dir"} <= {*names}:
            in_cell = names
    for name in [*in_cell, *in_added_cell]:
        _check_name(notebook, name, defaults)
    gone = [name for name in defaults if in_cell and name not in in_cell]
    where, todo = f"the parameters cell of {notebook}", "take the line from a fresh copy"
    require(not gone, f"{', '.join(gone)} is gone", where=where, todo=todo)


def _assigned(source: str) -> list[str]:
    """The names that a cell sets; none for one that Python can't read, and so hasn't run."""
    try:
        nodes = ast.parse(source).body
    except (SyntaxError, ValueError):
        return []
    targets = [
        target
        for node in nodes
        for target in getattr(node, "targets", [getattr(node, "target", None)])
    ]
    return [target.id for target in targets if isinstance(target, ast.Name)]
