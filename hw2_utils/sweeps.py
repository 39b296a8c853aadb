"""Sweep files: one notebook, many parameter rows, each run in a folder of its own under `runs/sweeps/`."""

from __future__ import annotations

import itertools
import json
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hw2_utils import paths, runs
from hw2_utils.errors import InputError, explained, require

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sweep:
    """A sweep's name, its notebook, and the parameters of each run by the run's name."""

    name: str
    notebook: str
    runs: dict[str, dict[str, Any]]


def read(path: Path | str) -> Sweep:
    """Reads `notebook`, `fixed: {}`, `grid: {name: [...]}` or `rows: [...]`, and `seeds`; checks every run."""
    path, todo, each = Path(path), "see CONTRIBUTING.md", {}
    with explained(
        "the sweep file can't be read",
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        KeyError,
        TypeError,
        AttributeError,
        where=path,
        todo=todo,
    ):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        unknown = content.keys() - {"notebook", "fixed", "grid", "rows", "seeds"}
        require(not unknown, f"unknown: {', '.join(map(str, unknown))}", where=path, todo=todo)
        require(
            ("grid" in content) != ("rows" in content),
            "give either grid or rows",
            where=path,
            todo=todo,
        )
        grid = content.get("grid", {})
        lists = [*grid.values(), content.get("seeds", [])]
        require(
            all(isinstance(v, list) for v in lists),
            "grid values and seeds are lists",
            where=path,
            todo=todo,
        )
        rows = content.get("rows") or [
            dict(zip(grid, v, strict=True)) for v in itertools.product(*grid.values())
        ]
        for row, seed in itertools.product(rows, content.get("seeds") or [None]):
            parameters = {
                **content.get("fixed", {}),
                **row,
                **({} if seed is None else {"seeds": [seed]}),
            }
            runs.check_parameters(content["notebook"], parameters)
            each[f"{len(each):03d}-{runs.digest(parameters)[:8]}"] = parameters
    return Sweep(path.stem, content["notebook"], each)


def folder(sweep: Sweep, name: str) -> Path:
    """Where one run of a sweep lies, or the table over them."""
    return paths.RUNS / "sweeps" / sweep.name / name


def stamp(sweep: Sweep, run: str) -> str:
    """The file that the workflow engine makes when a run is complete."""
    return str(folder(sweep, run) / ".done")


def command(sweep: Sweep, run: str, start: str, profile: str) -> str:
    """The shell command of one run, every value quoted."""
    words = [
        start,
        sweep.notebook,
        "--profile",
        profile,
        "--out",
        shlex.quote(str(folder(sweep, run))),
    ]
    values = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in sweep.runs[run].items()
    }
    return " ".join(
        [*words, *(f"-p {name} {shlex.quote(value)}" for name, value in values.items())]
    )


def gather(sweep: Sweep) -> pd.DataFrame:
    """The tidy metrics of all complete runs, their parameters as columns beside; written to `metrics.csv` there."""
    import pandas as pd

    frames = [pd.DataFrame()]
    for run, parameters in sweep.runs.items():
        if Path(stamp(sweep, run)).is_file():
            record = runs.load(folder(sweep, run), notebook=sweep.notebook)
            frames.append(
                record.metrics.assign(run=run, **{k: str(v) for k, v in parameters.items()})
            )
    table = pd.concat(frames, ignore_index=True)
    folder(sweep, "").mkdir(parents=True, exist_ok=True)
    table.to_csv(folder(sweep, "metrics.csv"), index=False, lineterminator="\n")
    return table


def records(name: str, run: runs.Run) -> list[runs.Record]:
    """The complete, current runs of the sweep of this name that read the same data and models as `run`, in the sweep's order."""
    models, found = {role: model.fingerprint for role, model in run.models.items()}, []
    for done in sorted((paths.RUNS / "sweeps" / name).glob("*/.done")):
        with suppress(InputError):
            found.append(runs.load(done.parent, notebook=run.notebook))
    return [
        r
        for r in found
        if r.data["meta"]["data"] == run.data
        and {role: model["fingerprint"] for role, model in r.data["meta"]["models"].items()}
        == models
    ]
