"""Sweep files: one notebook, many sets of parameters, each run in a folder under `runs/sweeps/`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from hw2_utils import folders, keys, parameters, paths, runs
from hw2_utils.errors import InputError, explained, require


@dataclass(frozen=True)
class Sweep:
    """A sweep's name, its notebook, and the parameters of each run by the run's name."""

    name: str
    notebook: str
    runs: dict[str, dict[str, Any]]


def read(path: Path | str) -> Sweep:
    """Reads a sweep file and checks every run of it.

    It holds `notebook`, `fixed: {}`, `grid: {name: [...]}` or `rows: [...]`, and `seeds`.
    """
    path, todo = Path(path), "see CONTRIBUTING.md"
    plain = not set(path.stem) & set("{}")
    require(plain, "the workflow engine takes braces for its own", where=path, todo="rename it")
    broken = (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError)
    with explained("the sweep file can't be read", *broken, where=path, todo=todo):
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=StrictLoader)  # noqa: S506 - a SafeLoader
        unknown = content.keys() - {"notebook", "fixed", "grid", "rows", "seeds"}
        require(not unknown, f"unknown: {', '.join(map(str, unknown))}", where=path, todo=todo)
        one = ("grid" in content) != ("rows" in content)
        require(one, "give either grid or rows", where=path, todo=todo)
        named = isinstance(content.get("notebook"), str)
        require(named, "it names no notebook", where=path, todo=todo)
        _refuse_what_is_given_twice(content, path)
        found = [*_combinations(content, path)]
    notebook = parameters.notebook_path(content["notebook"]).stem
    each: dict[str, dict[str, Any]] = {}
    for values in found:
        with explained_run(path, values):
            parameters.check(notebook, values)
        twice = values in each.values()
        require(not twice, f"two runs have {values}", where=path, todo="write each run once")
        each[f"{len(each):03d}-{keys.digest(values)[:8]}"] = values
    require(each, "the sweep has no run", where=path, todo=todo)
    return Sweep(path.stem, notebook, each)


def _refuse_what_is_given_twice(content: Mapping[str, Any], path: Path) -> None:
    """A parameter stands in one place of a sweep file; profile and folder in none."""
    varied = set(content.get("grid", {})).union(*content.get("rows", []))
    fixed = set(content.get("fixed", {}))
    seeds = {"seeds"} if content.get("seeds") else set()
    twice = sorted(varied & fixed | seeds & (varied | fixed))
    todo = "see CONTRIBUTING.md"
    require(not twice, f"given twice: {', '.join(twice)}", where=path, todo=todo)
    taken = sorted((varied | fixed) & {"profile", "run_dir"})
    todo = "leave it out: --profile gives the one, runs/sweeps/ is the other"
    require(not taken, f"no parameter of a sweep: {', '.join(taken)}", where=path, todo=todo)


def _combinations(content: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    grid, seeds = content.get("grid", {}), content.get("seeds", [])
    lists = all(isinstance(values, list) for values in [*grid.values(), seeds])
    require(lists, "grid values and seeds are lists", where=path, todo="see CONTRIBUTING.md")
    once = len(set(seeds)) == len(seeds)
    require(once, f"seeds {seeds} repeat one", where=path, todo="write each seed once")
    combined = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    rows = content.get("rows", combined)
    for row, seed in product(rows, seeds or [None]):
        own = {} if seed is None else {"seeds": [seed]}
        yield {**content.get("fixed", {}), **row, **own}


@contextmanager
def explained_run(path: Path, values: Mapping[str, Any]) -> Iterator[None]:
    """Names the sweep file, and how YAML reads a rate, where a run's parameter is refused."""
    try:
        yield
    except InputError as error:
        rate = any(
            isinstance(v, str) and re.fullmatch(r"(?i)[\d.]+e[-+]?\d+", v) for v in values.values()
        )
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if rate else ""
        raise InputError(
            error.what + hint, where=f"{path}, {error.where}", todo=error.todo
        ) from error


class StrictLoader(yaml.SafeLoader):
    """YAML without what silently means something else: a key given twice, 010 as 8, 1:30 as 90."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if not re.fullmatch(r"[-+]?(0|[1-9]\d*|\d*\.\d*([eE][-+]?\d+)?)", node.value):
            what = f"{node.value} is no plain decimal number"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        return float(node.value) if "." in node.value else int(node.value)


for _kind in ("int", "float"):
    StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", StrictLoader.construct_number)


def folder(sweep: Sweep, name: str) -> Path:
    """Where one run of a sweep lies."""
    return paths.RUNS / "sweeps" / sweep.name / name


def stamp(sweep: Sweep, run: str) -> Path:
    """The file that the workflow engine makes when a run is complete."""
    return folder(sweep, run) / folders.STAMP


def command(sweep: Sweep, run: str, start: str, profile: str) -> str:
    """The shell command of one run, every value quoted."""
    place = shlex.quote(str(folder(sweep, run)))
    words = [start, sweep.notebook, "--profile", profile, "--out", place]
    for name, value in sweep.runs[run].items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += ["-p", name, shlex.quote(text)]
    return " ".join(words)


def complete(sweep: Sweep) -> list[str]:
    """The names of the runs that the workflow engine has called complete."""
    return [run for run in sweep.runs if stamp(sweep, run).is_file()]


def records(name: str, run: runs.Run) -> list[runs.Record]:
    """A sweep's complete, current runs with the same data and models as `run`, in order."""
    own = {role: model.fingerprint for role, model in run.models.items()}
    found = []
    for done in sorted((paths.RUNS / "sweeps" / name).glob(f"*/{folders.STAMP}")):
        with suppress(InputError):
            record = runs.load(done.parent, notebook=run.notebook)
            meta = record.data["meta"]
            models = {role: model["fingerprint"] for role, model in meta["models"].items()}
            if (meta["data"], models) == (run.data, own):
                found.append(record)
    return found
