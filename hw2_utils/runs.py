"""One run's record and files: complete in its place or not there, and read only if it holds."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import os
import platform
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fastjsonschema

from hw2_utils import folders, hub, keys, parameters, parts, paths, profiles, references, timing
from hw2_utils.errors import Hw2Error, InputError, require

# pandas is imported where a frame is made: runner and workflow engine start seconds sooner.
if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCHEMA = 2  # of result.json
PACKAGES = (*keys.LIBRARIES, "datasets", "pandas", "papermill")  # whose versions are on record
METRIC_COLUMNS = ("method", "split", "group", "seed", "name", "value", "low", "high", "n")
OUR_NAMES = ("unparsed", "all")  # a prediction that holds no answer, and the group of all examples
_check_schema = fastjsonschema.compile(
    json.loads((paths.CONFIG / "record.schema.json").read_text(encoding="utf-8"))
)
_LOOKS = 100  # of a reader at a folder that is replaced again and again
_open_runs: dict[Path, Run] = {}


# ------------------------------------------------------------------------------------------ writing
class Run:
    """A run that is being written; `finish()` makes it complete, anything else leaves it failed."""

    def __init__(self, notebook: str, values: dict[str, Any]) -> None:
        self.notebook, self.parameters = notebook, values
        self.settings = SimpleNamespace(**profiles.settings(notebook, values))
        self.settings.device = timing.resolve_device(values.get("device", "cpu"))
        self.changed = _shown(parameters.changed(notebook, values))
        self.id = os.environ.get(paths.RUN_ID) or new_run_id()
        place = self.settings.run_dir or paths.RUNS / "interactive" / notebook
        self.run_dir = Path(place).resolve()
        self.folder = self.run_dir.with_name(f"{self.run_dir.name}.tmp-{self.id}")
        self.models: dict[str, hub.Model] = {}
        self.references: dict[str, str] = {}
        self.data: dict[str, str] = {}
        self.parts: list[str] = []
        self.inputs: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.sentences: dict[str, list[str]] = {}
        # Methods with a time that other work on the machine made longer.
        self.disturbed: list[str] = []
        self.metrics: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.predictions: list[pd.DataFrame] = []
        self.classes: list[str] = []
        self.start = now()
        self._claim_folder()
        self._choose_seeds()
        self._write("running")

    def _claim_folder(self) -> None:
        if self.run_dir in _open_runs:  # Run All again in the same kernel, after a cell that failed
            _open_runs[self.run_dir].close()
        self.held = ExitStack()
        if not paths.under_runner():  # the runner has claimed its run's folder itself
            self.held.enter_context(folders.claim(self.run_dir, self.notebook))
        _open_runs[self.run_dir] = self
        for name in ("tables", "figures", "predictions"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def _choose_seeds(self) -> None:
        """On a CPU the full profile's trainings take hours: one seed, unless seeds are given."""
        settings = self.settings
        on_cpu = settings.device == "cpu" and self.parameters["profile"] == "full"
        if on_cpu and self.parameters.get("seeds") == []:
            settings.seeds = settings.seeds[:1]
            alone = f"the seeds {settings.seeds} alone, unless seeds is given"
            self.note(f"on a CPU the full profile has {alone}")

    def model(self, role: str) -> hub.Model:
        """Files of the model that a parameter names, verified and put on record.

        So is the verdict on its outputs, which `references.hold` may refuse.
        """
        self.models[role] = hub.fetch_model(getattr(self.settings, role))
        self.references[role] = verdict = references.hold(self.models[role])
        if not verdict.startswith(("passed", references.NONE)):
            self.note(f"public reference of {self.models[role].id}: {verdict}")
        return self.models[role]

    def record_data(self, name: str, data: Any) -> None:
        """Puts a data set's hash and its reader's notes on record, and prints the notes.

        Raises InputError for a class or topic with a name that means something else in the record,
        and for test examples that no interval can be drawn over.
        """
        test = data.splits["test"] if hasattr(data, "splits") else data.frame
        topics = test["topic"] if "topic" in test else []
        taken = [group for group in [*data.classes, *topics] if group in OUR_NAMES]
        what = f"the name {taken[:1]} of a class or topic has another meaning here"
        require(not taken, what, where=name, todo="rename it in the file")
        unit, noun = ("image_id", "picture") if "image_id" in test else ("id", "example")
        what = f"the test split has one {noun} only, and an interval needs two"
        require(test[unit].nunique() > 1, what, where=name, todo="give more of the data to test")
        self.data[name] = data.sha256
        for note in data.notes:
            self.note(f"{name}: {note}")

    def say(self, name: str, lines: Iterable[str]) -> Any:
        """Puts sentences on record, where the writeup finds them, and returns them for display."""
        from IPython.display import Markdown

        self.sentences[name] = list(lines)
        return Markdown("\n".join(f"- {line}" for line in self.sentences[name]))

    def note(self, text: str) -> None:
        """A remark that belongs to the record, printed too."""
        self.notes.append(text)
        print("note:", text)

    def part(
        self,
        label: str,
        function: Callable[..., dict[str, Any]],
        inputs: Mapping[str, Any],
        *,
        measured: bool = False,
    ) -> dict[str, Any]:
        """`parts.part`, on record; `measured` times or memory belong to this machine."""
        measured_on = timing.machine(self.settings.device) if measured else None
        result = parts.part(label, function, inputs, measured_on=measured_on)
        self.parts.append(result["part"])
        return result

    def add_predictions(self, frame: pd.DataFrame, *, file: str, classes: Iterable[str]) -> None:
        """Checks one file of predictions and writes it.

        A row is one (id, split, method, seed), over all files. Raises Hw2Error for another.
        """
        from hw2_utils.predictions import check_predictions

        self.classes = list(classes)
        self.predictions.append(frame := frame.astype({"seed": "Int64"}).reset_index(drop=True))
        check_predictions(self.all_predictions(), self.classes)
        frame.to_parquet(self.folder / "predictions" / f"{file}.parquet", index=False)

    def all_predictions(self) -> pd.DataFrame:
        """All predictions of the run in one frame."""
        import pandas as pd

        return pd.concat(self.predictions, ignore_index=True)

    def metrics_frame(self) -> pd.DataFrame:
        """The tidy rows so far as a frame."""
        return _tidy(self.metrics.values())

    def add_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds tidy rows. Raises Hw2Error for one that is there, or whose value isn't finite."""
        for row in rows:
            full = {"split": "test", "group": "all", **row}
            full = {column: _number(full.get(column)) for column in METRIC_COLUMNS}
            key = tuple(full[column] for column in METRIC_COLUMNS[:5])
            if key in self.metrics or not math.isfinite(full["value"]):
                what = f"row {key} was added twice, or {full['value']!r} is no number"
                raise Hw2Error(what, where=self.notebook)
            self.metrics[key] = full

    def table(self, name: str, frame: pd.DataFrame, *, caption: str) -> pd.DataFrame:
        """Writes a table as CSV with its caption, and returns it for display."""
        frame.to_csv(self.folder / "tables" / f"{name}.csv", lineterminator="\n")
        self._write_caption("tables", name, caption)
        return frame

    def figure(self, name: str, figure: Figure, *, caption: str) -> None:
        """Writes a figure as PDF and PNG with its caption (also the picture's alternative text)."""
        for suffix, extra in (("pdf", {"CreationDate": None}), ("png", {})):
            figure.savefig(self.folder / "figures" / f"{name}.{suffix}", metadata=extra)
        self._write_caption("figures", name, caption)

    def keep_model(self, name: str, content: bytes) -> None:
        """Keeps a file of a trained model, such as "lora-seed0/adapter_config.json"."""
        file = self.folder / "models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    @property
    def kept_models(self) -> Path:
        """The folder of the trained models, also when the run is complete and in its place."""
        place = self.folder if self.folder.exists() else self.run_dir
        return place / "models"

    def _write_caption(self, kind: str, name: str, caption: str) -> None:
        (self.folder / kind / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")

    def input(self, role: str, record: Record) -> Record:
        """Puts on record that this run has read another one."""
        place, changed = paths.short(record.folder), record.data["run"]["changed"]
        if changed:  # then this run's numbers aren't the profile's own either
            self.changed[role] = place
            self.note(f"{role}: {about(self.parameters['profile'], changed)}")
        source = {"role": role, "notebook": record.notebook, "id": record.id, "run_dir": place}
        self.inputs.append(source)
        return record

    def finish(self) -> None:
        """Writes the complete record and, without our runner, puts the folder in its place."""
        if not self.metrics or not self.predictions:
            what = "a run without metrics or predictions can't be complete"
            raise Hw2Error(what, where=self.notebook)
        self._write("complete")
        n_predictions = sum(map(len, self.predictions))
        print(f"run {self.id} complete: {len(self.metrics)} metrics, {n_predictions} predictions")
        if not paths.under_runner():
            folders.swap_in(self.folder, self.run_dir)
            print("written to", paths.short(self.run_dir))
        self.close()

    def close(self) -> None:
        """Gives the run folder free for the next run."""
        _open_runs.pop(self.run_dir, None)
        self.held.close()

    def _write(self, status: str) -> None:
        models = {
            role: model.record() | {"reference": self.references[role]}
            for role, model in self.models.items()
        }
        record = {
            "schema": SCHEMA,
            "run": self._about_run(status, models),
            "meta": {
                **git_state(),
                **timing.machine(self.settings.device),
                "versions": keys.versions(PACKAGES),
                "python": platform.python_version(),
                "data": self.data,
                "models": models,
            },
            "classes": self.classes,
            "metrics": list(self.metrics.values()),
            "inputs": self.inputs,
            "sentences": self.sentences,
            "files": {} if status == "running" else folders.checksums(self.folder),
        }
        write_record(self.folder, record)

    def _about_run(self, status: str, models: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "notebook": self.notebook,
            "status": status,
            "error": None,
            "start": self.start,
            "end": None if status == "running" else now(),
            "parameters": _shown(self.parameters),
            "changed": self.changed,
            "settings": _shown(vars(self.settings)),
            "notes": self.notes,
            "parts": self.parts,
            "disturbed": self.disturbed,
            "key": record_key(self.notebook, self.parameters["profile"], models),
        }


def start(notebook: str, namespace: Mapping[str, Any]) -> Run:
    """Begins a run from the notebook's parameters in its namespace (`globals()`), with a banner.

    Raises InputError for a parameter that the committed notebook doesn't have, or whose value it
    doesn't take.
    """
    parameters.check_cells(notebook, list(namespace.get("In", [])))
    values = {name: namespace[name] for name in parameters.declared(notebook)}
    parameters.check(notebook, values)
    run = Run(notebook, values)
    print(banner(run))
    return run


def banner(run: Run) -> str:
    """What the run reads and runs on, and what differs from the profile."""
    settings = _shown(vars(run.settings))
    models = [name for name in settings if profiles.is_model(name)]
    data = [name for name in settings if profiles.is_data(name)]
    named = [f"{name} {settings[name]}" for name in (*models, *data) if settings[name]]
    if paths.PINS.parent != paths.CONFIG:
        named.append(f"pins {paths.short(paths.PINS)}")
    profile = run.parameters["profile"]
    device = timing.device_name(run.settings.device)
    line = " · ".join([f"profile {profile}", *named, f"device {device}", f"run {run.id}"])
    return f"{line}\n{about(profile, run.changed)}"


def about(profile: str, changed: Mapping[str, Any]) -> str:
    """What a profile's numbers are, or how a run differs from it."""
    if not changed:
        return profiles.load(profile)["about"]
    values = ", ".join(f"{name} {value}" for name, value in changed.items())
    return f"not the {profile} profile's own run; changed: {values}"


def new_run_id() -> str:
    """An id that sorts by time and can't be guessed."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:16]}"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Checks a record against its schema and writes it, with a checksum of its own text."""
    _check_schema(record)
    folders.write_sealed(folder / "result.json", record)


def add_notebook(folder: Path) -> None:
    """Puts the executed notebook, which the runner adds, under a record's checksums."""
    record, _ = folders.read_sealed(folder / "result.json")
    write_record(folder, {**record, "files": folders.checksums(folder)})


def mark_failed(folder: Path, notebook: str, error: BaseException) -> None:
    """Writes into a run's record, begun or not, why it failed and what it has left."""
    run = {"id": os.environ.get(paths.RUN_ID), "notebook": notebook}
    record: dict[str, Any] = {"schema": SCHEMA, "run": run}
    with suppress(OSError, ValueError):
        record, _ = folders.read_sealed(folder / "result.json")
    with suppress(OSError):
        failure = {"status": "failed", "error": f"{type(error).__name__}: {error}", "end": now()}
        record |= {"run": {**record["run"], **failure}, "files": folders.checksums(folder)}
        folders.write_sealed(folder / "result.json", record)


def record_key(notebook: str, profile: str, models: Mapping[str, Any]) -> str:
    """Hash of what a record comes from: the notebook, the package, the profile, pins, versions."""
    ids = tuple(sorted(model["id"] for model in models.values()))
    read = (parameters.notebook_path(notebook), paths.CONFIG / f"{profile}.toml", paths.PINS)
    return _record_key(notebook, profile, ids, tuple(map(folders.identity, read)))


@functools.cache  # the records of a sweep are many, and have one key while no file changes
def _record_key(notebook: str, profile: str, ids: tuple[str, ...], _files: Any) -> str:
    table, pinned = profiles.load(profile), hub.pins().get("models", {})
    towers = [tower for name in ids for tower in pinned.get(name, {}).get("tower_models", [])]
    content = {
        "notebook": keys.notebook_code(parameters.notebook_path(notebook)),
        "profile": [table["all"], table[notebook]],
        "pins": {name: pinned.get(name) for name in [*ids, *towers]},
        "versions": keys.versions(),
    }
    return keys.digest(content)


# ------------------------------------------------------------------------------------------ reading
class Damaged(InputError):
    """A record, or a file beside it, isn't what the run wrote."""


@dataclass(frozen=True)
class Record:
    """A complete run, read back: `files` holds what it wrote, but for the trained models.

    Those are checked too, and stay in `folder`, since they can be large.
    """

    folder: Path
    data: Mapping[str, Any]
    files: Mapping[str, bytes]
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

        names = [name for name in self.files if name.startswith("predictions/")]
        frames = [pd.read_parquet(io.BytesIO(self.files[name])) for name in names]
        return pd.concat(frames, ignore_index=True)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the run, its first column as index."""
        import pandas as pd

        return pd.read_csv(io.BytesIO(self.files[f"tables/{name}.csv"]), index_col=0)

    def require_data(self, name: str, sha256: str) -> None:
        """Refuses a run that read other data than these."""
        same = self.data["meta"]["data"].get(name) == sha256
        what = f"the run of {self.notebook} read other data ({name})"
        todo = f"run {self.notebook} on the same data first, or name its run"
        require(same, what, where=paths.short(self.folder), todo=todo)


def load(folder: Path | str, *, notebook: str, profile: str | None = None) -> Record:
    """Reads a complete, current record with its files. Moves and deletes nothing.

    Raises InputError, with the notebook to run, when the record is absent, incomplete, altered, of
    another notebook, profile or version, or stale, or when a file isn't what was written.
    """
    record = read(folder, notebook=notebook, profile=profile)
    check_current(record)
    return record


def read(folder: Path | str, *, notebook: str, profile: str | None = None) -> Record:
    """As `load`, but takes a stale record too."""
    folder = Path(folder)
    for look in range(_LOOKS):
        place = folders.readable(folder)
        seen = folders.identity(place)
        try:
            return _read(place, folder, notebook, profile)
        except InputError:
            still = folders.identity(folders.readable(folder)) == seen
            if still and (seen or look >= 3):  # else a swap is on its way: look again
                raise
            time.sleep(0.01)
    todo = "wait until the run that writes there has ended"
    raise InputError("the run is replaced again and again", where=paths.short(folder), todo=todo)


def _read(place: Path, folder: Path, notebook: str, profile: str | None) -> Record:
    def need(holds: object, what: str, kind: type[InputError] = InputError) -> None:
        if not holds:
            raise kind(what, where=paths.short(folder), todo=_how_to_run(notebook, profile))

    need((place / "result.json").is_file(), f"there is no run of {notebook}")
    data, whole, broken = _parsed(place)
    version = data.get("schema", 1) if isinstance(data, dict) else SCHEMA
    need(version == SCHEMA, f"the run of {notebook} was written by another version")
    status = folders.run_field(place, "status")
    unended = status in ("running", "failed")
    need(not unended, f"the run of {notebook} is {status}")
    need(not broken, f"the record is broken: {broken}", Damaged)
    need(whole, f"the record of {notebook} isn't what the run wrote", Damaged)
    run = data["run"]
    need(run["notebook"] == notebook, f"this is a run of {run['notebook']}, wanted is {notebook}")
    its_profile = run["parameters"]["profile"]
    fits = profile in (None, its_profile)
    need(fits, f"the run has profile {its_profile}, wanted is {profile}")
    files = {}
    for name, sha256 in data["files"].items():
        if name.startswith("models/"):
            same = _sha256(place / name) == sha256
        else:
            files[name] = _bytes(place / name)
            same = hashlib.sha256(files[name]).hexdigest() == sha256
        need(same, f"{name} is missing or isn't what the run wrote", Damaged)
    return Record(folder, data, files, run["id"], notebook)


def _parsed(place: Path) -> tuple[Any, bool, str]:
    """What a record says, whether that is what was written, and what is wrong with it."""
    data, whole = None, False
    try:
        data, whole = folders.read_sealed(place / "result.json")
        _check_schema(data)
    except (OSError, ValueError) as error:
        return data, whole, str(error)
    return data, whole, ""


def _bytes(file: Path) -> bytes:
    with suppress(OSError):
        return file.read_bytes()
    return b""


def _sha256(file: Path) -> str:
    with suppress(OSError):
        return hub.file_sha256(file)
    return ""


def _how_to_run(notebook: str, profile: str | None) -> str:
    command = f"python -m hw2_utils run {notebook}" + (f" --profile {profile}" if profile else "")
    return f"run notebook {notebook} first: {command}"


def check_current(record: Record) -> None:
    """Refuses a record whose code, settings, versions or inputs have changed since."""
    data, notebook = record.data, record.notebook
    profile = data["run"]["parameters"]["profile"]

    def need(holds: object, what: str) -> None:
        todo = _how_to_run(notebook, profile)
        what = f"the run of {notebook} is stale: {what}"
        require(holds, what, where=paths.short(record.folder), todo=todo)

    current = record_key(notebook, profile, data["meta"]["models"])
    need(data["run"]["key"] == current, "code, settings, pins or versions have changed since")
    for source in data["inputs"]:
        inside = source["run_dir"].startswith("runs/")
        place = folders.readable(paths.RUNS / source["run_dir"].removeprefix("runs/"))
        same = folders.run_field(place, "id") == source["id"]
        need(same or not inside, f"it read another run of {source['notebook']}")


def find(folder: str, notebook: str, run: Run, *, required: bool = True) -> Record | None:
    """The run of another notebook that this one reads: in the parameter's folder, or the profile's.

    Prints which. Opened by hand, a notebook prefers interactive runs. Without `required`, None
    where there is no current run.
    """
    profile = run.parameters["profile"]
    interactive = paths.RUNS / "interactive" / notebook
    by_hand = not paths.under_runner() and status_of(interactive) == "complete"
    default = interactive if by_hand else paths.RUNS / profile / notebook
    place = Path(folder) if folder else default
    tolerated = () if required else (InputError,)
    with suppress(*tolerated):
        record = load(place, notebook=notebook, profile=profile)
        print(f"reads run {record.id} of {notebook} from {paths.short(place)}")
        return record
    return None


def used_parts() -> set[str]:
    """The parts that any run below `runs/` names."""
    records = paths.RUNS.rglob("result.json")
    return {part for record in records for part in folders.run_field(record.parent, "parts") or []}


# ------------------------------------------------------------------------------------- small things
def status_of(folder: Path) -> str | None:
    """Status of the record in a folder, or None where there is no readable one."""
    return folders.run_field(folder, "status")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _tidy(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=METRIC_COLUMNS).astype({"seed": "Int64"})


def _number(value: Any) -> Any:
    """Plain Python numbers for the record; a missing seed is None."""
    import pandas as pd

    return None if value is pd.NA else value.item() if hasattr(value, "item") else value


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the record keeps them: paths without the home folder."""
    shown = dict(values)
    for name, value in values.items():
        may_be_path = profiles.is_model(name) or profiles.is_path(name, value)
        if may_be_path and Path(value).is_absolute():
            shown[name] = paths.short(value)
    return shown


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the checkout, or None where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.check_output(
            command, cwd=paths.ROOT, stderr=subprocess.DEVNULL, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}
    commit, _, dirty = described.strip().partition("-")
    return {"git_commit": commit, "git_dirty": bool(dirty)}
