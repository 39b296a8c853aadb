"""The two profiles: for each notebook the models, data and sizes that its parameters stand for when left empty."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hw2_utils import paths
from hw2_utils.errors import require

NAMES = ("sample", "full")
PATH_PARAMETERS = (
    "run_dir",
    "tweets_dir",
    "vqa_dir",
    "statements_file",
    "roberta_run",
    "resnet_sbert_run",
    "clip_run",
)
DATA_PARAMETERS = ("tweets_dir", "vqa_dir", "statements_file")
MODEL_PARAMETERS = ("text_model", "image_model", "sentence_model", "clip_model", "language_model")


def load(name: str) -> dict[str, Any]:
    """One profile's tables; refuses a name that isn't a profile."""
    require(
        name in NAMES,
        f"no profile {name!r}",
        where="parameter profile",
        todo=f"use one of {', '.join(NAMES)}",
    )
    return tomllib.loads((paths.CONFIG / f"{name}.toml").read_text(encoding="utf-8"))


def settings(notebook: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with every empty one ("", 0, [], -1 where 0 means something) replaced by the profile's value.

    Values that the profile holds and the notebook has no parameter for are added; paths are made absolute.
    """
    profile = load(parameters["profile"])
    values = {**profile["all"], **profile[notebook]}
    merged = {k: v for k, v in values.items() if k not in profile["all"] or k in parameters}
    merged |= {k: v for k, v in parameters.items() if k not in values or not _is_unset(k, v)}
    for name in PATH_PARAMETERS:
        if merged.get(name) and not str(merged[name]).startswith("hub:"):
            base = (
                Path.cwd() if parameters.get(name) else paths.ROOT
            )  # where the notebook runs, or the profile's own
            merged[name] = str(base / Path(merged[name]).expanduser())
    return merged


def _is_unset(name: str, value: Any) -> bool:
    return (
        value == -1
        if name in ("max_generated", "shot_draws")
        else not isinstance(value, bool) and value in ("", 0, [])
    )


def data_files(value: str) -> list[Path]:
    """Files of a profile's data folder or file, pictures aside: what the workflow engine watches."""
    path = paths.ROOT / value
    files = path.rglob("*") if path.is_dir() else [path]  # a "hub:" data set is no file here
    return sorted(f for f in files if f.is_file() and f.suffix in (".txt", ".csv", ".parquet"))
