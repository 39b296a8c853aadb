"""The two profiles: what a notebook's parameters stand for when left empty.

What kind of thing a parameter names follows from the end of its name: `_model` a model, `_dir` or
`_file` a data set (but for `run_dir`), `_run` the run of another notebook.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hw2_utils import paths
from hw2_utils.errors import require

NAMES = ("sample", "full")
ZERO_MEANS_ZERO = ("max_generated", "shot_draws")  # -1 leaves these to the profile


def is_model(name: str) -> bool:
    """Whether a parameter names a model."""
    return name.endswith("_model")


def is_data(name: str) -> bool:
    """Whether a parameter names a data set."""
    return name.endswith(("_dir", "_file")) and name != "run_dir"


def is_path(name: str, value: Any) -> bool:
    """Whether a parameter's value is a path: neither empty nor a data set of the hub."""
    is_local = value and not str(value).startswith("hub:")
    return name.endswith(("_dir", "_file", "_run")) and bool(is_local)


def load(name: str) -> dict[str, Any]:
    """One profile's tables; refuses a name that isn't a profile."""
    todo = f"use one of {', '.join(NAMES)}"
    require(name in NAMES, f"no profile {name!r}", where="parameter profile", todo=todo)
    return tomllib.loads((paths.CONFIG / f"{name}.toml").read_text(encoding="utf-8"))


def settings(notebook: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters, each empty one ("", 0, [], or -1 where 0 means zero) as the profile has it.

    Values that the profile holds and the notebook has no parameter for are added; paths are made
    absolute.
    """
    profile = load(parameters["profile"])
    shared = {name: value for name, value in profile["all"].items() if name in parameters}
    values = {**shared, **profile[notebook]}
    for name, value in parameters.items():
        if name not in values or not _is_empty(name, value):
            values[name] = value
    for name, value in values.items():
        if is_path(name, value):  # from where the notebook runs, or where the profile lies
            base = Path.cwd() if parameters.get(name) else paths.ROOT
            values[name] = str(base / Path(value).expanduser())
    return values


def _is_empty(name: str, value: Any) -> bool:
    return value == -1 if name in ZERO_MEANS_ZERO else value in ("", 0, [])


def data_files(value: str) -> list[Path]:
    """Files of a profile's data, pictures aside: what the workflow engine watches."""
    path = paths.ROOT / value
    files = path.rglob("*") if path.is_dir() else [path]  # a "hub:" data set is no file here
    return sorted(f for f in files if f.is_file() and f.suffix in (".txt", ".csv", ".parquet"))
