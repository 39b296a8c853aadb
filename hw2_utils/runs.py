"""One run's record and its files: written beside its place, complete or not there, and read only if it still holds."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import inspect
import json
import math
import os
import platform
import shutil
import subprocess
import tomllib
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fastjsonschema
from filelock import AcquireReturnProxy, FileLock, Timeout

from hw2_utils import hub, paths, profiles
from hw2_utils.errors import Hw2Error, InputError, explained, require

if (
    TYPE_CHECKING
):  # pandas where a frame is made: runner and workflow engine need none, and start seconds sooner
    import pandas as pd
    from matplotlib.figure import Figure

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "sentence-transformers",
    "open_clip_torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "scikit-learn",
    "papermill",
)
KEY_PACKAGES = ("torch", "transformers", "peft")
METRIC_COLUMNS = ("method", "split", "group", "seed", "name", "value", "low", "high", "n")
_check_schema = fastjsonschema.compile(
    json.loads((paths.CONFIG / "record.schema.json").read_text(encoding="utf-8"))
)
_open_runs: dict[Path, Run] = {}


# ---------------------------------------------------------------------------------------------- sources and keys
def _definition(thing: Any) -> str:
    """Code of a function or class, found by its line (a class's by its first method): a cell's class has no file."""
    code = next(f for f in (thing, *vars(thing).values()) if inspect.isfunction(f)).__code__
    tree, line = ast.parse("".join(inspect.findsource(code)[0])), code.co_firstlineno
    named = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == thing.__name__
    ]
    return _code(
        next(
            n
            for n in named
            if min(x.lineno for x in (n, *n.decorator_list)) <= line <= n.end_lineno
        )
    )


def _code(tree: ast.AST) -> str:
    """A syntax tree as text, without docstrings (comments and layout are not in it)."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _plain(value: Any) -> Any:
    """What `json` can't write, as something that it can and that changes when the value's meaning does."""
    if inspect.isclass(value) or inspect.isfunction(
        value
    ):  # a class with its bases in the same file or notebook
        things = getattr(value, "__mro__", [value])
        return [_definition(thing) for thing in things if thing.__module__ == value.__module__]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if is_dataclass(
        value
    ):  # a PEFT configuration; its own to_dict lists sets in an order that changes by process
        return vars(value)
    if hasattr(value, "tolist"):  # arrays and their scalars
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} can't be part of a key")


def digest(key: Any) -> str:
    """Hash of any nested key of plain values, classes, functions and configurations."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=_plain).encode()).hexdigest()


def module_sources(names: Iterable[str]) -> str:
    """Hash over the code of package modules and the tables that they read; comments, docstrings and layout don't count."""
    names = sorted(names)
    code = [
        _code(ast.parse((paths.PACKAGE / f"{name}.py").read_text(encoding="utf-8")))
        for name in names
    ]
    tables = [paths.CONFIG / f"{name}.toml" for name in names]
    return digest(
        [names, code, [tomllib.loads(t.read_text(encoding="utf-8")) for t in tables if t.is_file()]]
    )


def versions(names: Iterable[str] = KEY_PACKAGES) -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    return {name: importlib.metadata.version(name) for name in names}


def part(
    key: Mapping[str, Any], compute: Callable[[], dict[str, Any]], *, modules: Iterable[str]
) -> dict[str, Any]:
    """The result of one training or one scoring, computed once for each key and kept under `runs/parts/`.

    `key` holds parameters, data and model hashes and all that the notebook hands in; `modules` names the package
    modules that `compute` calls. `compute` returns a dict of plain values and data frames. `HW2_FRESH=1` recomputes.
    """
    import pandas as pd

    name = digest({"key": key, "code": module_sources(modules), "versions": versions()})[:32]
    folder = paths.RUNS / "parts" / name
    if os.environ.get("HW2_FRESH") == "1":
        shutil.rmtree(folder, ignore_errors=True)
    reused = folder.is_dir()
    if not reused:
        result = compute()
        beside = folder.with_name(f"{name}.tmp-{uuid.uuid4().hex[:8]}")
        beside.mkdir(parents=True)
        for frame in [k for k, v in result.items() if hasattr(v, "to_parquet")]:
            result.pop(frame).to_parquet(beside / f"{frame}.parquet", index=False)
        write_json(beside / "part.json", {**result, "part": name})
        with suppress(OSError):  # another process has just written the same part
            beside.rename(folder)
        shutil.rmtree(beside, ignore_errors=True)
    label = " ".join(str(key[k]) for k in ("method", "seed") if key.get(k) is not None)
    print(f"{'reused  ' if reused else 'computed'} {label} (part {name[:8]})")
    # read also right after computing, so that a reused part can't differ from a fresh one
    frames = {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
    return {**json.loads((folder / "part.json").read_text(encoding="utf-8")), **frames}


# ---------------------------------------------------------------------------------------------- parameters
def notebook_path(notebook: str) -> Path:
    """The committed notebook; refuses a name that isn't one, listing those there are."""
    path = paths.NOTEBOOKS / f"{notebook.removesuffix('.ipynb')}.ipynb"
    names = ", ".join(sorted(p.stem for p in paths.NOTEBOOKS.glob("0*.ipynb")))
    require(
        path.is_file(),
        f"no notebook {notebook!r}",
        where=paths.NOTEBOOKS,
        todo=f"use one of {names}",
    )
    return path


def declared_parameters(notebook: str) -> dict[str, Any]:
    """Names and defaults of the notebook's tagged parameter cell, in order."""
    cells = json.loads(notebook_path(notebook).read_text(encoding="utf-8"))["cells"]
    source = next(
        "".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])
    )
    return {
        n.target.id: ast.literal_eval(n.value)
        for n in ast.parse(source).body
        if isinstance(n, ast.AnnAssign)
    }


def check_parameters(notebook: str, given: Mapping[str, Any]) -> None:
    """Refuses unknown names, wrong types and values out of range, naming the parameter and what it takes."""
    declared = declared_parameters(notebook)
    for name, value in given.items():
        require(
            name in declared,
            f"notebook {notebook} has no parameter {name!r}",
            where="parameters",
            todo="it takes " + ", ".join(declared),
        )
        default, where = declared[name], f"parameter {name}"
        # Python's bool is an int, and an int will do for a float
        fits = type(value) is type(default) or (isinstance(default, float) and type(value) is int)
        require(
            fits,
            f"{value!r} is a {type(value).__name__}, wanted is a {type(default).__name__}",
            where=where,
            todo=f"its default is {default!r}",
        )
        if isinstance(value, int | float):
            require(
                min(default, 0) <= value < 1e9,
                f"{value!r} is out of range",
                where=where,
                todo="give 0 or more",
            )
        if name == "seeds":
            require(
                all(type(s) is int and 0 <= s < 2**32 for s in value)
                and len(set(value)) == len(value),
                f"{value!r} isn't a list of whole numbers from 0 on, each once",
                where=where,
                todo="[0, 1]",
            )
    profiles.load(str(given.get("profile", declared["profile"])))


def resolve_device(device: str) -> str:
    """ "auto" becomes the first GPU or the CPU; a device that isn't there is refused."""
    import torch

    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    device = there[-1] if device == "auto" else device
    require(
        device in there,
        f"no device {device!r} here",
        where="parameter device",
        todo=f"use auto or one of {there}",
    )
    return device


# ---------------------------------------------------------------------------------------------- writing
class Run:
    """A run that is being written; `finish()` makes it complete, anything else leaves it failed."""

    def __init__(self, notebook: str, parameters: dict[str, Any]) -> None:
        self.notebook, self.parameters = notebook, parameters
        self.settings = SimpleNamespace(**profiles.settings(notebook, parameters))
        self.settings.device = resolve_device(parameters.get("device", "cpu"))
        self.id = os.environ.get("HW2_RUN_ID") or new_run_id()
        self.run_dir = Path(
            self.settings.run_dir or paths.RUNS / "interactive" / notebook
        ).resolve()
        if self.run_dir in _open_runs:  # Run All again in the same kernel, after a cell that failed
            _open_runs[self.run_dir].close()
        self.held = ExitStack()
        if not _under_runner():  # the runner has claimed its run's folder itself
            self.held.enter_context(claim(self.run_dir))
        _open_runs[self.run_dir] = self
        self.folder = self.run_dir.with_name(f"{self.run_dir.name}.tmp-{self.id}")
        for name in ("tables", "figures", "predictions"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.models: dict[str, hub.Model] = {}
        self.data: dict[str, str] = {}
        self.parts: list[str] = []
        self.inputs: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.metrics: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.predictions: list[pd.DataFrame] = []
        self.classes: list[str] = []
        self.modules: set[str] = {"metrics", "statistics"}
        self.start = now()
        if (
            parameters["profile"] == "full"
            and self.settings.device == "cpu"
            and parameters.get("seeds") == []
        ):
            self.settings.seeds = self.settings.seeds[:1]
            self.note(
                f"on a CPU the full profile has the seeds {self.settings.seeds} alone, unless seeds is given"
            )
        self._write("running")

    def model(self, role: str) -> hub.Model:
        """Files of the model that a parameter names, verified and put on record."""
        self.models[role] = hub.model(getattr(self.settings, role))
        return self.models[role]

    def use(self, *modules: str) -> None:
        """Names package modules whose code the record depends on."""
        self.modules |= set(modules)

    def read(self, name: str, data: Any) -> None:
        """Puts a data set's hash and its reader's notes on record, and prints the notes."""
        self.data[name] = data.sha256
        for note in data.notes:
            self.note(f"{name}: {note}")

    def note(self, text: str) -> None:
        """A remark that belongs to the record, printed too."""
        self.notes.append(text)
        print("note:", text)

    def part(
        self,
        key: Mapping[str, Any],
        compute: Callable[[], dict[str, Any]],
        *,
        modules: Iterable[str],
    ) -> dict[str, Any]:
        """`part` with this run's data and model hashes in the key, on record."""
        self.use(*(modules := list(modules)))
        full = {
            **key,
            "data": self.data,
            "models": {r: m.fingerprint for r, m in self.models.items()},
            "device": self.settings.device,
        }
        result = part(full, compute, modules=modules)
        self.parts.append(result["part"])
        return result

    def add_predictions(self, frame: pd.DataFrame, *, file: str, classes: Iterable[str]) -> None:
        """Checks one file of predictions and writes it; (id, split, method, seed) is unique over all of them."""
        from hw2_utils import metrics

        self.classes = list(classes)
        self.predictions.append(frame := frame.astype({"seed": "Int64"}).reset_index(drop=True))
        metrics.check_predictions(self.all_predictions(), self.classes)
        frame.to_parquet(self.folder / "predictions" / f"{file}.parquet", index=False)

    def all_predictions(self) -> pd.DataFrame:
        """All predictions of the run in one frame."""
        import pandas as pd

        return pd.concat(self.predictions, ignore_index=True)

    def metrics_frame(self) -> pd.DataFrame:
        """The tidy rows so far as a frame."""
        return _tidy(self.metrics.values())

    def add_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds tidy rows; a row that was there already, or whose value isn't a finite number, is refused."""
        for row in rows:
            full = {"split": "test", "group": "all", **row}
            full = {c: _number(full.get(c)) for c in METRIC_COLUMNS}
            key = tuple(full[c] for c in METRIC_COLUMNS[:5])
            if key in self.metrics or not math.isfinite(full["value"]):
                raise Hw2Error(
                    f"row {key} was added twice, or {full['value']!r} is no number",
                    where=self.notebook,
                )
            self.metrics[key] = full

    def table(self, name: str, frame: pd.DataFrame, *, caption: str) -> pd.DataFrame:
        """Writes a table as CSV with its caption, and returns it for display."""
        frame.to_csv(self.folder / "tables" / f"{name}.csv", lineterminator="\n")
        (self.folder / "tables" / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
        return frame

    def figure(self, name: str, figure: Figure, *, caption: str) -> None:
        """Writes a figure as PDF and PNG with its caption (also the picture's alternative text)."""
        for suffix, extra in (("pdf", {"CreationDate": None}), ("png", {})):
            figure.savefig(self.folder / "figures" / f"{name}.{suffix}", metadata=extra)
        (self.folder / "figures" / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")

    def input(self, role: str, record: Record) -> Record:
        """Puts on record that this run has read another one."""
        self.inputs.append(
            {
                "role": role,
                "notebook": record.notebook,
                "id": record.id,
                "run_dir": paths.short(record.folder),
            }
        )
        return record

    def finish(self) -> None:
        """Writes the complete record and, without our runner, puts the folder in its place."""
        if not self.metrics or not self.predictions:
            raise Hw2Error(
                "a run without metrics or predictions can't be complete", where=self.notebook
            )
        self._write("complete")
        print(
            f"run {self.id} complete: {len(self.metrics)} metrics, {sum(map(len, self.predictions))} predictions"
        )
        if not _under_runner():
            swap_in(self.folder, self.run_dir)
            print("written to", paths.short(self.run_dir))
        self.close()

    def close(self) -> None:
        """Gives the run folder free for the next run."""
        _open_runs.pop(self.run_dir, None)
        self.held.close()

    def _write(self, status: str) -> None:
        import torch

        record = {
            "run": {
                "id": self.id,
                "notebook": self.notebook,
                "status": status,
                "error": None,
                "start": self.start,
                "end": None if status == "running" else now(),
                "parameters": _shown(self.parameters),
                "settings": _shown(vars(self.settings)),
                "notes": self.notes,
                "parts": self.parts,
                "key": code_key(self.notebook, self.modules),
                "modules": sorted(self.modules),
            },
            "meta": {
                **git_state(),
                "versions": versions(PACKAGES),
                "device": device_name(self.settings.device),
                "threads": torch.get_num_threads(),
                "python": platform.python_version(),
                "data": self.data,
                "models": {role: model.record() for role, model in self.models.items()},
            },
            "classes": self.classes,
            "metrics": list(self.metrics.values()),
            "inputs": self.inputs,
        }
        _check_schema(record)
        write_json(self.folder / "result.json", record)


def start(notebook: str, namespace: Mapping[str, Any]) -> Run:
    """Begins a run from the values of the notebook's parameters in its namespace (`globals()`); prints the banner."""
    parameters = {name: namespace[name] for name in declared_parameters(notebook)}
    check_parameters(notebook, parameters)
    run = Run(notebook, parameters)
    about = profiles.load(parameters["profile"])["about"]
    print(
        f"profile {parameters['profile']} ({about}) · device {device_name(run.settings.device)} · run {run.id}"
    )
    return run


def new_run_id() -> str:
    """An id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


def claim(run_dir: Path) -> AcquireReturnProxy:
    """The run folder's lock: two runs never write into one folder, and a killed run gives it free.

    What killed runs left beside the folder is put right before anyone writes.
    """
    held = hold(
        run_dir.with_name(f".{run_dir.name}.lock"),
        "another run is writing into this folder",
        where=run_dir,
        todo="wait for it, or choose another folder with --out",
    )
    _recover(run_dir)
    return held


def hold(file: Path, taken: str, *, where: Path, todo: str) -> AcquireReturnProxy:
    """Locks a file at once, until the `with` block or the process ends, or says who holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(file).acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{taken} (process {file.read_text().strip()})", where=paths.short(where), todo=todo
        ) from None
    file.write_text(f"{os.getpid()}\n")
    return held


def swap_in(folder: Path, run_dir: Path) -> None:
    """Puts a finished folder in place: the old one aside, the new one in, the old one away."""
    aside = run_dir.with_name(f"{run_dir.name}.old-{uuid.uuid4().hex[:6]}")
    if run_dir.exists():
        run_dir.rename(aside)
    folder.rename(run_dir)
    shutil.rmtree(aside, ignore_errors=True)


def _recover(run_dir: Path) -> None:
    """Finishes an interrupted swap, and removes what killed runs left beside the folder."""
    aside, beside = (
        sorted(run_dir.parent.glob(f"{run_dir.name}.{kind}-*")) for kind in ("old", "tmp")
    )
    if aside and not (run_dir / "result.json").is_file():
        shutil.rmtree(
            run_dir, ignore_errors=True
        )  # the workflow engine makes empty folders for its stamps
        [*aside, *(p for p in beside if status_of(p) == "complete")][-1].rename(run_dir)
    for left in [*aside, *beside]:
        shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes beside and renames, so that a reader never sees half a file."""
    beside = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:6]}")
    beside.write_text(
        json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    beside.replace(path)


# ---------------------------------------------------------------------------------------------- reading
@dataclass(frozen=True)
class Record:
    """A complete run, read back."""

    folder: Path
    data: Mapping[str, Any]
    id: str
    notebook: str

    @property
    def metrics(self) -> pd.DataFrame:
        """The tidy rows as a frame."""
        return _tidy(self.data["metrics"])

    @property
    def predictions(self) -> pd.DataFrame:
        """All prediction files in one frame."""
        import pandas as pd

        files = sorted((self.folder / "predictions").glob("*.parquet"))
        return pd.concat(map(pd.read_parquet, files), ignore_index=True)

    def require_data(self, name: str, sha256: str) -> None:
        """Refuses a run that read other data than these."""
        require(
            self.data["meta"]["data"].get(name) == sha256,
            f"the run of {self.notebook} read other data ({name})",
            where=paths.short(self.folder),
            todo=f"run {self.notebook} on the same data first, or name its run",
        )


def load(folder: Path | str, *, notebook: str, profile: str | None = None) -> Record:
    """Reads a complete, current record; else says which notebook to run.

    Raises InputError when the record is absent, incomplete, of another notebook or profile, or stale.
    """
    folder = Path(folder)
    command = f"python -m hw2_utils run {notebook}" + (f" --profile {profile}" if profile else "")
    todo = f"run notebook {notebook} first: {command}"

    def need(holds: object, what: str) -> None:
        require(holds, what, where=paths.short(folder), todo=todo)

    if any(folder.parent.glob(f"{folder.name}.old-*")):
        with (
            suppress(InputError),
            claim(folder),
        ):  # a run that is writing there now finishes its own swap
            pass
    need((folder / "result.json").is_file(), f"there is no run of {notebook}")
    with explained("the record is broken", ValueError, where=paths.short(folder), todo=todo):
        data = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        _check_schema(data)
        json.dumps(data, allow_nan=False)  # the schema's numbers may be NaN
    run = data["run"]
    need(run["notebook"] == notebook, f"this is a run of {run['notebook']}, wanted is {notebook}")
    need(run["status"] == "complete", f"the run of {notebook} is {run['status']}")
    found = run["parameters"]["profile"]
    need(profile in (None, found), f"the run has profile {found}, wanted is {profile}")
    current = code_key(notebook, run["modules"])
    need(
        run["key"] == current,
        f"the run of {notebook} is stale: code or versions have changed since",
    )
    for source in data["inputs"]:
        inside = source["run_dir"].startswith("runs/")
        need(
            not inside or _run_field(paths.RUNS / source["run_dir"][5:], "id") == source["id"],
            f"the run of {notebook} is stale: it read another run of {source['notebook']}",
        )
    return Record(folder, data, run["id"], notebook)


def find(folder: str, notebook: str, run: Run, *, required: bool = True) -> Record | None:
    """The run of another notebook that this one reads, and prints which: the parameter's folder, or the profile's run.

    Opened by hand, a notebook prefers interactive runs. Without `required`, None where there is no current run.
    """
    profile = run.parameters["profile"]
    interactive = paths.RUNS / "interactive" / notebook
    by_hand = not _under_runner() and status_of(interactive) == "complete"
    place = Path(folder) if folder else interactive if by_hand else paths.RUNS / profile / notebook
    tolerated = () if required else (InputError,)
    with suppress(*tolerated):
        record = load(place, notebook=notebook, profile=profile)
        print(f"reads run {record.id} of {notebook} from {paths.short(place)}")
        return record
    return None


def code_key(notebook: str, modules: Iterable[str]) -> str:
    """Hash over what defines a notebook's numbers: its definitions, the package modules it uses, and versions."""
    cells = json.loads(notebook_path(notebook).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) + "\n" for c in cells if c["cell_type"] == "code")
    tree = ast.parse(
        "\n".join("" if line.lstrip().startswith("%") else line for line in text.splitlines())
    )
    return digest(
        {
            "definitions": [_code(node) for node in tree.body if _defines(node)],
            "modules": module_sources(modules),
            "versions": versions(),
        }
    )


def _defines(node: ast.AST) -> bool:
    """Classes, functions and CONSTANTS of a cell; captions, plots and prose are none of them."""
    if isinstance(node, ast.Assign):
        return all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets)
    return isinstance(node, ast.ClassDef | ast.FunctionDef)


# ---------------------------------------------------------------------------------------------- small things
def status_of(folder: Path) -> str | None:
    """Status of the record in a folder, or None where there is no readable one."""
    return _run_field(folder, "status")


def _run_field(folder: Path, name: str) -> str | None:
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["run"][name]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _under_runner() -> bool:
    return os.environ.get("HW2_RUNNER") == "1"


def _tidy(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=METRIC_COLUMNS).astype({"seed": "Int64"})


def _number(value: Any) -> Any:
    """Plain Python numbers for the record; a missing seed is None."""
    import pandas as pd

    return None if value is pd.NA else value.item() if hasattr(value, "item") else value


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the record keeps them: paths without the home folder."""
    return {
        k: paths.short(v)
        if k in profiles.PATH_PARAMETERS and v and not str(v).startswith("hub:")
        else v
        for k, v in values.items()
    }


def device_name(device: str) -> str:
    """The GPU's name, or the CPU's architecture."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the checkout, or None where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=paths.ROOT, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}
    commit, _, dirty = done.stdout.strip().partition("-")
    return {"git_commit": commit, "git_dirty": bool(dirty)}
