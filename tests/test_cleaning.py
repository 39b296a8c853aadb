"""`clean` removes what this project made, by what it is, and leaves and names all else."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hw2_utils import cleaning, folders, parameters, parts, paths, report, runs
from hw2_utils.embedding_cache import SPEC_FIELDS, EmbeddingCache
from hw2_utils.errors import InputError

NAME = "01_lora_roberta"


def make_run(folder: Path) -> None:
    """A complete run in a folder."""
    values = {**parameters.declared(NAME), "run_dir": str(folder), "device": "cpu"}
    run = runs.start(NAME, values)
    columns = {"id": ["a"], "split": "test", "method": "full", "seed": 0, "label": "x"}
    frame = pd.DataFrame({**columns, "prediction": "x", "log_probs": None})
    run.add_predictions(frame, file="test", classes=["x", "y"])
    run.add_metrics([{"method": "full", "name": "accuracy", "value": 1.0}])
    run.table("results", frame, caption="All.")
    run.finish()


def one(x: int) -> dict[str, int]:
    return {"x": x}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, a failed one, one of a sweep, its table, a report, a part and a store.

    Returns the folder of both.
    """
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "EMBEDDINGS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("HW2_RUNNER", raising=False)
    for folder in ("sample", "sweeps/rates/000-a"):
        make_run(paths.RUNS / folder / NAME)
    run_dir = paths.RUNS / "sample" / NAME
    shutil.copytree(run_dir, folders.failed_place(run_dir))
    (run_dir / folders.STAMP).touch()
    columns = ",".join([*runs.METRIC_COLUMNS, "run"])
    (paths.RUNS / "sweeps" / "rates" / "metrics.csv").write_text(columns + "\n")
    report.write("sample")
    parts.part("one", one, {"x": 1})
    spec = dict.fromkeys(SPEC_FIELDS, "x") | {"dim": 2}
    cache = EmbeddingCache(spec)
    cache.encode(["text:a"], lambda rows: np.zeros((len(rows), 2), np.float32))
    return tmp_path


def files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_symlink() or not f.is_dir())


def test_what_we_made_is_removed(place):
    assert len(files(place)) >= 20
    (paths.EMBEDDINGS_CACHE / "README.md").write_text("about this folder")
    assert cleaning.clean() == []
    assert {f.name for f in files(place)} <= {"README.md", ".lock"}
    assert not paths.RUNS.exists() and cleaning.clean() == []


def test_what_we_did_not_make_stays_and_is_named(place):
    """Each beside something of ours: a folder that holds one foreign file stays whole."""
    outside = place / "outside"
    outside.mkdir()
    (outside / "index.html").write_text(report.GENERATOR)
    (paths.RUNS / "sample" / "html" / "mine.html").write_text("<p>mine</p>")
    (paths.RUNS / "sample" / NAME / "notes.txt").write_text("mine")
    (paths.RUNS / "parts" / ("0" * 32)).mkdir()
    (paths.RUNS / "parts" / ("0" * 32) / "mine.txt").write_text("mine")
    (paths.RUNS / "sweeps" / "metrics.csv").write_text("mine,too\n")
    (paths.RUNS / ".mine.lock").write_text("mine")
    (paths.RUNS / "mine").mkdir()
    (paths.RUNS / "mine" / "results.json").write_text("{}")
    (paths.RUNS / "link").symlink_to(outside)
    (paths.RUNS / "link.html").symlink_to(outside / "index.html")
    with sqlite3.connect(paths.EMBEDDINGS_CACHE / "mine.sqlite") as other:
        other.execute("CREATE TABLE items (key TEXT)")
    (paths.EMBEDDINGS_CACHE / "cut.sqlite").write_bytes(b"")
    kept = files(paths.RUNS / "sample" / NAME)

    left = cleaning.clean()
    there = files(paths.RUNS) + files(paths.EMBEDDINGS_CACHE)
    assert [f for f in there if f.name != ".lock"] == left
    foreign = {str(f.relative_to(place)) for f in left if f not in kept}
    assert foreign == {
        "runs/sample/html/mine.html",
        f"runs/parts/{'0' * 32}/mine.txt",
        "runs/sweeps/metrics.csv",
        "runs/.mine.lock",
        "runs/mine/results.json",
        "runs/link",
        "runs/link.html",
        "cache/mine.sqlite",
        "cache/cut.sqlite",
    }
    assert set(kept) <= set(left) and (outside / "index.html").is_file()


def test_nothing_is_removed_while_a_run_is_at_work(place):
    before = files(place)
    with folders.claim(paths.RUNS / "sweeps" / "rates" / "000-a" / NAME, NAME):
        with pytest.raises(InputError, match="a run is at work"):
            cleaning.clean()
        assert files(place) == before


def test_the_command_names_what_stays(place):
    (paths.RUNS / "mine.txt").write_text("mine")
    variables = {"HW2_RUNS": str(paths.RUNS), "HW2_EMBEDDINGS_CACHE": str(paths.EMBEDDINGS_CACHE)}
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", "clean"],
        env={**os.environ, **variables},
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "left, not made here: runs/mine.txt\n"
