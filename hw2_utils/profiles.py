"""The two profiles: for each notebook the models, data and sizes that its parameters stand for when left empty."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hw2_utils import paths
from hw2_utils.errors import InputError

NAMES = ("sample", "full")
PATH_PARAMETERS = ("run_dir", "tweets_dir", "vqa_dir", "statements_file", "roberta_run", "resnet_sbert_run", "clip_run")
MODEL_PARAMETERS = ("text_model", "image_model", "sentence_model", "clip_model", "language_model")


def load(name: str) -> dict[str, Any]:
    """One profile's tables; refuses a name that isn't a profile."""
    if name not in NAMES:
        raise InputError(f"no profile {name!r}", where="parameter profile", todo=f"use one of {', '.join(NAMES)}")
    return tomllib.loads((paths.CONFIG / f"{name}.toml").read_text(encoding="utf-8"))


def settings(notebook: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with every empty one ("", 0, [], -1 for `max_generated`) replaced by the profile's value.

    Values that the profile holds and the notebook has no parameter for are added; paths are made absolute.
    """
    profile = load(parameters["profile"])
    values = {**profile["all"], **profile[notebook]}
    merged = {k: v for k, v in values.items() if k not in profile["all"] or k in parameters}
    for name, value in parameters.items():
        if name not in values or not _is_unset(name, value):
            merged[name] = value
    for name in PATH_PARAMETERS:
        if merged.get(name) and not str(merged[name]).startswith("hub:"):
            path = Path(merged[name]).expanduser()
            merged[name] = str(path if path.is_absolute() else _base(name, parameters) / path)
    return merged


def _base(name: str, parameters: dict[str, Any]) -> Path:
    """A path given by the user is relative to where the notebook runs, one of a profile to the project."""
    return Path.cwd() if parameters.get(name) else paths.ROOT


def _is_unset(name: str, value: Any) -> bool:
    if name == "max_generated":
        return value == -1
    return value in ("", 0, []) if not isinstance(value, bool) else False


def expected_s(profile: str, notebook: str) -> float:
    """Seconds that a notebook takes on two cores, for the live line before a run is on record."""
    return float(load(profile)["expected_s"][notebook])


def data_files(value: str) -> list[Path]:
    """Files of a profile's data folder or file, pictures aside: what the workflow engine watches."""
    path = paths.ROOT / value
    if value.startswith("hub:") or not path.exists():
        return []
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [f for f in files if f.suffix in (".txt", ".csv", ".parquet")]
