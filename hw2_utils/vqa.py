"""What 03 and 04 share beside training: a card of the data, choices compared, questions to ask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw2_utils import encoders, fusion, plots, sweep_tables, sweeps
from hw2_utils.encoders import Encoder
from hw2_utils.errors import require
from hw2_utils.fusion import Embedded, Network
from hw2_utils.sweep_tables import SweepTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hw2_utils.runs import Run

# Changes of the recipe, each compared with the recipe as the profile has it.
CHOICES: tuple[Mapping[str, Any], ...] = (
    {"image_scale": 0},
    {"image_scale": 0.1},
    {"image_scale": 0.5},
    {"image_scale": 1.0},
    {"geometry": "crop"},
    {"hidden_dim": 64},
    {"hidden_dim": 1024},
    {"weight_decay": 0.0001},
    {"weight_decay": 0.1},
    {"weight_decay": 3.0},
    {"learning_rate": 0.003},
    {"learning_rate": 0.001},
)
UNCHANGED = "as in the profile"
METHODS = ("fusion", "question_only")  # that the choices are compared for


# ------------------------------------------------------------------------------------ the data
def data_card(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Each split (a column) in counts and shares: what can be guessed, what can't be right."""
    wordings = set(frames["train"]["question"])
    return pd.DataFrame({split: _card(frame, wordings) for split, frame in frames.items()})


def _card(frame: pd.DataFrame, wordings: set[str]) -> dict[str, float]:
    n_words = frame["question"].str.split().str.len()
    return {
        "questions": len(frame),
        "images": frame["image_id"].nunique(),
        "answers": frame["answer"].nunique(),
        "most frequent answer": frame["answer"].value_counts(normalize=True).iloc[0],
        "worded as in train": frame["question"].isin(wordings).mean(),
        "words, mean": n_words.mean(),
        "words, most": n_words.max(),
        "repeated rows": frame.duplicated(["image_id", "question", "answer"]).sum(),
        "rows with a contradicting one": _is_contradicted(frame).sum(),
    }


def contradictions(frame: pd.DataFrame) -> pd.Series:
    """The different answers to each question that has more than one about one picture.

    Arrays of answers by (image_id, question).
    """
    contradicted = frame[_is_contradicted(frame)]
    return contradicted.groupby(["image_id", "question"])["answer"].unique()


def _is_contradicted(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby(["image_id", "question"])["answer"].transform("nunique") > 1


# -------------------------------------------------------------------- choices of the recipe
def recipe_choices(
    run: Run, network: Network, embedded: Embedded, image_paths: Mapping[str, Path]
) -> SweepTable | None:
    """What each of CHOICES changes: by `folds` of this run, else by a sweep on its data and models.

    Else the committed table, where this run has the models of that table; else None.
    """
    name = f"fusion_choices_{run.notebook[:2]}"
    n_folds = run.settings.folds
    if n_folds:
        vectors = {"whole": embedded, "crop": _cropped(run, embedded, image_paths)}
        rows = compare_choices(run, network, vectors, CHOICES, n_folds=n_folds)
        return SweepTable(rows, f"{n_folds} folds of this data")
    for record in sweeps.records(name, run):
        if n_folds := record.data["run"]["parameters"]["folds"]:
            return SweepTable(record.table("choices"), f"{n_folds} folds of this data")
    return sweep_tables.committed(name, run)


def _cropped(run: Run, embedded: Embedded, image_paths: Mapping[str, Path]) -> Embedded:
    """The same questions, with vectors of the pictures' centre crops."""
    options = {"geometry": "crop", "device": run.settings.device}
    if "clip_model" in run.models:
        encoder, _ = encoders.clip_encoders(run.models["clip_model"], **options)
    else:
        encoder = encoders.image_encoder(run.models["image_model"], **options)
    image_ids = list(embedded.images)
    vectors, _ = encoders.embed(encoder, [image_paths[i] for i in image_ids])
    return replace(embedded, images=dict(zip(image_ids, vectors, strict=True)))


def compare_choices(
    run: Run,
    network: Network,
    vectors: Mapping[str, Embedded],
    choices: Sequence[Mapping[str, Any]],
    *,
    n_folds: int,
) -> pd.DataFrame:
    """Cross-validated accuracy of fusion and of the question alone, as the run is set and changed.

    `vectors`: the data for each geometry. A row a choice: both accuracies, fusion's lead, and the
    change of each accuracy against the settings with its standard error over folds.
    """
    accuracies = {
        (_label(change), method): _fold_accuracies(run, network, vectors, change, method, n_folds)
        for change in ({}, *choices)
        for method in METHODS
    }
    by_fold = pd.DataFrame(accuracies)  # a row a fold
    change = by_fold.sub(by_fold[UNCHANGED], axis=1, level=1)
    table = by_fold.mean().unstack().reindex(by_fold.columns.unique(0))
    table["lead"] = table["fusion"] - table["question_only"]
    for method in METHODS:
        change_of_method = change.xs(method, axis=1, level=1)
        table[f"{method} change"] = change_of_method.mean()
        table[f"{method} change SE"] = change_of_method.std() / math.sqrt(n_folds)
    return table.rename_axis("choice")


def _label(change: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in change.items()) or UNCHANGED


def _fold_accuracies(
    run: Run,
    network: Network,
    vectors: Mapping[str, Embedded],
    change: Mapping[str, Any],
    method: str,
    n_folds: int,
) -> pd.Series:
    """Mean accuracy over seeds on each fold, the run's settings changed by `change`."""
    settings, blind = run.settings, method == "question_only"
    pictures = {"image_scale": settings.image_scale, "geometry": settings.geometry}
    options = {**fusion.training_options(settings), **pictures, **change}
    if blind:  # a change of the picture alone changes no input: that part is there already
        options |= {"image_scale": 1.0, "geometry": settings.geometry}
    inputs = {
        "network": network,
        "embedded": vectors[options.pop("geometry")],
        "n_folds": n_folds,
        "blind": blind,
        **options,
    }
    label = f"{method}, {n_folds} folds, {_label(change)}"
    folds = run.part(label, fusion.cross_validate, inputs)["folds"]
    return folds.groupby("fold")["accuracy"].mean()


# -------------------------------------------------------------------------- a reader's question
def ask(
    run: Run,
    network: Network,
    embedded: Embedded,
    towers: tuple[Encoder, Encoder],
    image_paths: Mapping[str, Path],
    *,
    picture: str,
    question: str,
) -> Figure:
    """A picture (an id of the data, or a file) and the five likeliest answers to a question.

    `towers`: the encoders of pictures and of questions. It answers by the first seed's network, as
    the run has trained it. Raises InputError for a picture that isn't there and an empty question.
    """
    file = image_paths.get(picture, Path(picture))
    some_ids = ", ".join(list(image_paths)[:5])
    todo = f"give an id of the data ({some_ids}, …), or a picture file"
    require(file.is_file(), f"there is no picture {picture!r}", where="picture", todo=todo)
    require(question.strip(), "nothing is asked", where="question", todo="type a question")
    image, _ = encoders.embed(towers[0], [file])  # (1, d_image)
    words, _ = encoders.embed(towers[1], [question])  # (1, d_question)
    probabilities = fusion.answer_probabilities(
        network,
        run.kept_models / fusion.KEPT_FILE,
        run.settings,
        classes=embedded.classes,
        seed=run.settings.seeds[0],
        image=image,
        question=words,
    )
    answers = pd.Series(probabilities[0], index=list(embedded.classes))
    return plots.answer_bars(file, answers.nlargest(5), title=f"{picture}: {question}")
