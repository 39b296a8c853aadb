"""A notebook's declared parameters: where they are declared, which values they take, and what differs from the profile."""

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

# Parameters that name where a run lies or what it runs on; all others change what a run's numbers are.
PLACES = ("profile", "run_dir", "device")
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
    """The committed notebook of a name (or of its own path); refuses all else, listing those there are."""
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
    """Refuses unknown names, wrong types and values out of range, naming the parameter and what it takes."""
    defaults = declared(notebook)
    for name, value in given.items():
        _check_name(notebook, name, defaults)
        _check_type(name, value, defaults[name])
        _check_value(name, value, defaults[name])
    profiles.load(str(given.get("profile", defaults["profile"])))


def _check_name(notebook: str, name: str, defaults: Mapping[str, Any]) -> None:
    near = difflib.get_close_matches(name, defaults, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    what = f"notebook {notebook} has no parameter {name!r}"
    require(
        name in defaults, what, where="parameters", todo=f"{meant}It takes {', '.join(defaults)}"
    )


def _check_type(name: str, value: Any, default: Any) -> None:
    # Python's bool is an int, and an int will do for a float
    fits = type(value) is type(default) or (isinstance(default, float) and type(value) is int)
    what = f"{value!r} is a {type(value).__name__}, wanted is a {type(default).__name__}"
    require(fits, what, where=f"parameter {name}", todo=f"its default is {default!r}")


def _check_value(name: str, value: Any, default: Any) -> None:
    where = f"parameter {name}"
    for text in [value] if isinstance(value, str) else value if isinstance(value, list) else ():
        check_text(text, where)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = RANGES.get(name, (min(default, 0), 10**9))
        todo = f"give {low:g} to {high:,g}" + (
            f", or leave it at {default}" if default < low else ""
        )
        require(
            value == default or low <= value <= high,
            f"{value!r} is out of range",
            where=where,
            todo=todo,
        )
    if name in CHOICES:
        todo = f"use one of {', '.join(map(repr, CHOICES[name]))}"
        require(
            value in CHOICES[name], f"{value!r} isn't one of its values", where=where, todo=todo
        )
    if name == "seeds":
        whole = all(type(s) is int and 0 <= s < 2**32 for s in value)
        what = f"{value!r} isn't a list of whole numbers from 0 on, each once"
        require(whole and len(set(value)) == len(value), what, where=where, todo="[0, 1]")
    elif isinstance(value, list):
        texts = all(isinstance(item, str) and item.strip() for item in value)
        what = f"{value!r} isn't a list of names, each once"
        require(
            texts and len(set(value)) == len(value), what, where=where, todo='["query", "value"]'
        )


def check_text(text: Any, where: str) -> None:
    """A text that no file can hold, or the system can't look for, would fail somewhere on the way."""
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
    now, own = (profiles.settings(notebook, values) for values in (all_given, plain))
    return {
        name: now[name]
        for name in all_given
        if name not in PLACES and now.get(name) != own.get(name)
    }


def check_cells(notebook: str, sources: list[str]) -> None:
    """Refuses a parameter that a cell sets and the notebook doesn't have: Python would say nothing.

    `sources` are the cells that a kernel has run. Looked at are the parameters cell, as it was run
    last, and the one that papermill adds. A parameter that was taken from that cell is named too.
    """
    defaults = declared(notebook)
    own: list[str] = []
    added: list[str] = []
    for source in sources:
        names = _assigned(source)
        if source.startswith("# Parameters"):
            added = names
        elif {"profile", "run_dir"} <= {*names}:
            own = names
    for name in [*own, *added]:
        _check_name(notebook, name, defaults)
    gone = [name for name in defaults if own and name not in own]
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
