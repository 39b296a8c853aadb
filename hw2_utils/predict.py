"""Labels and probabilities for new tweets or questions, by the models that a run has kept."""

from __future__ import annotations

import ast
import json
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
import transformers

from hw2_utils import (
    daquar,
    datafiles,
    encoders,
    finetune,
    folders,
    fusion,
    hub,
    lora,
    parameters,
    paths,
    runs,
    timing,
)
from hw2_utils.errors import InputError, require
from hw2_utils.hub import Model
from hw2_utils.pictures import open_image
from hw2_utils.runs import Record

TWEETS = ("01_lora_roberta", "02_lora_tinybert")
QUESTIONS = ("03_vqa_resnet_sbert", "04_vqa_clip")
COLUMNS = {  # what a table has, and the names that each column may have
    **dict.fromkeys(TWEETS, {"text": {"text"}}),
    **dict.fromkeys(QUESTIONS, {"question": {"question"}, "picture": {"image", "image_id"}}),
}


class Trained:
    """One of the models that a run has kept, with what the run says of it.

    `moved`: values of parameters that say where a model or the data lies now.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        method: str | None,
        seed: int | None,
        moved: Mapping[str, str],
    ) -> None:
        self.record, self.moved = _read(run_dir), moved
        parameters.check(self.record.notebook, moved)
        self.settings = SimpleNamespace(**self.record.data["run"]["settings"])
        self.classes: list[str] = self.record.data["classes"]
        self.folder = folders.readable(run_dir) / "models"
        self.method, self.seed = _chosen(self.record, self.settings, method, seed)
        self.device = timing.resolve_device("auto")

    def place(self, name: str) -> str:
        """Where the run's model or data set of this parameter is on this machine."""
        if name in self.moved:
            return self.moved[name]
        value = getattr(self.settings, name)
        what = f"a record doesn't say where {value} lies, outside the project"
        todo = f"say it: -p {name} FOLDER"
        require(not value.startswith("…"), what, where=f"parameter {name}", todo=todo)
        is_name = value in hub.pins().get("models", {}) or value.startswith("hub:")
        return value if is_name else str(paths.whole(value))

    def model(self, name: str) -> Model:
        """The pretrained model under the trained one; another than the run's is refused."""
        model = hub.fetch_model(self.place(name))
        same = model.fingerprint == self.record.data["meta"]["models"][name]["fingerprint"]
        what = f"{model.id} isn't the model that the run has trained on"
        todo = f"say where that one lies: -p {name} FOLDER"
        require(same, what, where=f"parameter {name}", todo=todo)
        return model


def predict(
    run_dir: Path,
    source: str,
    *,
    method: str | None = None,
    seed: int | None = None,
    moved: Mapping[str, str] | None = None,
) -> None:
    """Prints a CSV file (or standard input for "-") with `prediction` and `p_<class>` added.

    Raises InputError for a run without this model, and with file and row for what can't be read.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to each other
    trained = Trained(run_dir, method=method, seed=seed, moved=moved or {})
    names = [f"p_{name}" for name in trained.classes]
    table = datafiles.read_table(source, COLUMNS[trained.record.notebook])
    datafiles.check_added(table, ["prediction", *names])
    rows = _rows(table)
    if trained.record.notebook in TWEETS:
        probabilities = tweet_probabilities(trained, rows)
    else:
        folder = Path() if source == "-" else Path(source).parent
        probabilities = question_probabilities(trained, rows, folder)
    predictions = [trained.classes[i] for i in probabilities.argmax(axis=1)]
    shares = {name: [f"{p:.6f}" for p in probabilities[:, i]] for i, name in enumerate(names)}
    datafiles.write_table(table, {"prediction": predictions, **shares})


def _rows(table: datafiles.Table) -> pd.DataFrame:
    """The wanted columns under the names that they have; none of them may be empty."""
    todo = "add a row for each text or question"
    require(table.records, "there is nothing below the first row", where=table.where, todo=todo)
    given = {column: table.header[place].strip().lower() for column, place in table.places.items()}
    rows = table.rows().rename(columns=given)
    for column in given.values():
        datafiles.refuse_empty(rows, column)
    return rows


# ----------------------------------------------------------------------------------------- the run
def _read(run_dir: Path) -> Record:
    """A complete run of a notebook that trains; that it is stale is said, and nothing more."""
    notebook = folders.run_field(folders.readable(run_dir), "notebook")
    what = f"a run of {notebook} has no model" if notebook else "there is no run in this folder"
    todo = f"name the folder of a run of {', '.join(COLUMNS)}"
    require(notebook in COLUMNS, what, where=run_dir, todo=todo)
    record = runs.read(run_dir, notebook=notebook)
    try:
        runs.check_current(record)
    except InputError as error:
        print(f"note: {error.what}; its models are used as they are", file=sys.stderr)
    return record


def _chosen(
    record: Record, settings: SimpleNamespace, method: str | None, seed: int | None
) -> tuple[str, int]:
    """The method and seed that are asked for, else the headline one and the first, of those kept.

    Raises InputError that says which are kept.
    """
    again = f"python -m hw2_utils run {record.notebook} --profile {settings.profile}"
    kept = kept_seeds(record.data["files"], settings.seeds)
    require(kept, "this run has kept no model", where=record.folder, todo=f"run it again: {again}")
    headline = ("full", lora.own_rate(settings)[0]) if record.notebook in TWEETS else ()
    method = method or next(name for name in (*headline, *kept) if name in kept)
    seeds = kept.get(method, [])
    seed = seeds[0] if seed is None and seeds else seed
    listed = "; ".join(f"{name} (seeds {', '.join(map(str, kept[name]))})" for name in kept)
    more = ", or run it again with -p save_models true" if method == "full" else ""
    asked = method if seed is None else f"{method} with seed {seed}"
    what = f"the model of {asked} isn't kept"
    require(seed in seeds, what, where=record.folder, todo=f"take one of {listed}{more}")
    return method, seed


def kept_seeds(files: Iterable[str], seeds: Sequence[int]) -> dict[str, list[int]]:
    """By the names of a run's files: each method with a kept model, and its seeds as in `seeds`."""
    if f"models/{fusion.KEPT_FILE}" in files:
        return {fusion.KEPT: list(seeds)}
    matches = [re.match(r"models/(.+)-seed(\d+)/", name) for name in files]
    there = {(match[1], int(match[2])) for match in matches if match}
    methods = sorted({method for method, _ in there})
    return {method: [seed for seed in seeds if (method, seed) in there] for method in methods}


# ------------------------------------------------------------------------------------- what it says
def tweet_probabilities(trained: Trained, rows: pd.DataFrame) -> np.ndarray:
    """Of the classes for each `text`, float32 [n, n_classes]."""
    classes, options = trained.classes, {"max_length": trained.settings.max_length}
    model = trained.model("text_model")
    tok = finetune.tokenizer(model)
    folder = trained.folder / f"{trained.method}-seed{trained.seed}"
    network = finetune.load(model, folder, classes=classes)
    texts = rows.assign(label=classes[0])  # it plays no part in a prediction
    finetune.check_longest(network, {"new": texts}, tok, **options)
    data = finetune.tokenise(texts, tok, classes=classes, **options)
    return np.exp(finetune.log_probs(network, data, tok, device=trained.device))


def question_probabilities(trained: Trained, rows: pd.DataFrame, folder: Path) -> np.ndarray:
    """Of the answers to each `question` about its `image` (a file) or `image_id` (of the data).

    float32 [n, n_classes]. `folder`: what the files' names are relative to.
    """
    files = _data_pictures(trained, rows) if "image_id" in rows else _picture_files(rows, folder)
    options = {"geometry": trained.settings.geometry, "device": trained.device}
    if trained.record.notebook == "04_vqa_clip":
        pictures, texts = encoders.clip_encoders(trained.model("clip_model"), **options)
    else:
        pictures = encoders.image_encoder(trained.model("image_model"), **options)
        model = trained.model("sentence_model")
        texts = encoders.sentence_encoder(model, device=trained.device)
    images, _ = encoders.embed(pictures, files)
    questions, _ = encoders.embed(texts, rows["question"].tolist())
    return fusion.answer_probabilities(
        fusion_network(trained.record.notebook),
        trained.folder / fusion.KEPT_FILE,
        trained.settings,
        classes=trained.classes,
        seed=trained.seed,
        image=images,
        question=questions,
    )


def _data_pictures(trained: Trained, rows: pd.DataFrame) -> list[Path]:
    """The file of each `image_id`, which must be one of the run's data."""
    data = daquar.read(hub.data_path(trained.place("vqa_dir")))
    trained.record.require_data("vqa", data.sha256)
    ids = rows["image_id"].str.strip().str.lower()
    unknown = rows[~ids.isin(list(data.image_paths))]
    todo = "name a picture of the run's data, or a file in a column image"
    datafiles.refuse_rows(unknown, "the data have no picture {image_id!r:.80}", todo=todo)
    return [data.image_paths[image_id] for image_id in ids]


def _picture_files(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """The file of each `image`, opened once to see that it is a picture."""
    files, problems = [folder / name.strip() for name in rows["image"]], []
    for file, row in zip(files, rows.itertuples(), strict=True):
        try:
            open_image(file)
        except InputError as error:
            problems.append((row.where, f"{row.image!r:.80}: {error.what}"))
    datafiles.refuse_all(problems, todo="name picture files, relative to the table's folder")
    return files


def fusion_network(notebook: str) -> fusion.Network:
    """The class `Fusion` as the committed notebook defines it; no code of a run's folder is run."""
    cells = json.loads(parameters.notebook_path(notebook).read_text(encoding="utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells)
    tree = ast.parse(next(source for source in sources if source.startswith("class Fusion(")))
    names = {"torch": torch, "nn": torch.nn}
    exec(compile(tree, f"{notebook}.ipynb", "exec"), names)  # noqa: S102 - our own notebook's cell
    return names["Fusion"]
