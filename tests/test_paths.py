"""Folders: from the package's own place or a variable, and shown without a home folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hw2_utils import paths, progress

FOLDERS = {"HW2_DATA": "DATA", "HW2_EMBEDDINGS_CACHE": "EMBEDDINGS_CACHE", "HW2_RUNS": "RUNS"}


def imported(name: str, folder: Path, **variables: str) -> str:
    code = f"from hw2_utils import paths; print(paths.{name})"
    environment = {"PYTHONPATH": str(paths.ROOT), "HOME": "/somewhere", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert not done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("variable", "name"), FOLDERS.items())
def test_a_folder_is_the_projects_or_the_variables(tmp_path, variable, name):
    assert Path(imported(name, tmp_path)).parent == paths.ROOT
    assert imported(name, tmp_path, **{variable: "my folder"}) == str(tmp_path / "my folder")
    assert imported(name, tmp_path, **{variable: "~/x"}) == "/somewhere/x"
    assert imported(name, tmp_path, **{variable: ""}) == imported(name, tmp_path)


def test_a_path_is_shown_without_what_lies_above(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "elsewhere")
    assert paths.short(tmp_path / "elsewhere" / "sample") == "runs/sample"
    assert paths.short(paths.DATA / "daquar") == "data/daquar"
    assert paths.short(paths.ROOT / "README.md") == "README.md"
    assert paths.short("/home/somebody/secret.csv") == "…/secret.csv"


@pytest.mark.parametrize(("value", "quiet"), [("1", True), ("0", False), ("", False)])
def test_a_bar_is_drawn_for_a_reader_only(monkeypatch, value, quiet):
    monkeypatch.setenv(paths.RUNNER, value)
    assert paths.under_runner() is quiet
    bar = progress.bar(3, "epochs")
    assert bar.disable is quiet and bar.total == 3
    bar.close()
