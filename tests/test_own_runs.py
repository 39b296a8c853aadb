"""A run with one's own data, models or sizes: where it lies, and what every banner says of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from hw2_utils import execute, latex, parameters, paths, report, runs
from hw2_utils.errors import InputError

NAME = "01_lora_roberta"
OURS = "data made by this project"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.delenv("HW2_RUNNER", raising=False)


def begin(folder: Path, notebook: str = NAME, **given: object) -> runs.Run:
    values = {**parameters.declared(notebook), **given, "run_dir": str(folder), "device": "cpu"}
    return runs.start(notebook, values)


def finish(run: runs.Run) -> Path:
    columns = {"id": ["a"], "split": "test", "method": "full", "seed": 0, "label": "x"}
    frame = pd.DataFrame({**columns, "prediction": "x", "log_probs": None})
    run.add_predictions(frame, file="test", classes=["x", "y"])
    run.add_metrics([{"method": "full", "name": "accuracy", "value": 1.0}])
    run.finish()
    return run.run_dir


# ----------------------------------------------------------------------------------- places
@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, "sample"),
        ({"profile": "full"}, "full"),
        ({"device": "cpu"}, "sample"),
        ({"epochs": 2}, "sample"),  # the profile's own value
        ({"epochs": 3}, "own"),
        ({"tweets_dir": "/own/tweets"}, "own"),
        ({"text_model": "/own/model"}, "own"),
        ({"profile": "full", "lora_rank": 4}, "own"),
    ],
)
def test_a_run_that_differs_has_a_place_of_its_own(given, kind):
    assert execute._place(NAME, given, None) == paths.RUNS.resolve() / kind / NAME
    assert execute._place(NAME, given, Path("/x/y")) == Path("/x/y")


# ----------------------------------------------------------------------------------- banners
def test_the_first_output_says_what_is_read_and_what_differs(tmp_path, capsys, monkeypatch):
    begin(tmp_path / "own", tweets_dir=str(tmp_path / "tweets"), epochs=3).close()
    said = capsys.readouterr().out
    assert "tweets_dir …/tweets" in said and "text_model sample:all-MiniLM-L6-v2" in said
    assert "device CPU" in said and str(tmp_path) not in said
    assert "not the sample profile's own run; changed: tweets_dir …/tweets, epochs 3" in said
    assert OURS not in said and "pins" not in said
    shutil.copy(paths.PINS, tmp_path / "pins.toml")
    monkeypatch.setattr(paths, "PINS", tmp_path / "pins.toml")
    begin(tmp_path / "pinned").close()
    said = capsys.readouterr().out
    assert OURS in said and "pins …/pins.toml" in said


def section(page: BeautifulSoup, name: str) -> str:
    return next(s.get_text() for s in page.find_all("section") if s.h2.get_text() == name)


def test_the_report_shows_it_as_not_the_profiles_own():
    """Given the profile's place by --out, and in its own place."""
    for kind in ("sample", "own"):
        finish(begin(paths.RUNS / kind / NAME, epochs=3))
    page = BeautifulSoup(report.write("sample").read_text(encoding="utf-8"), "html.parser")
    assert "Not the profile's own run." in section(page, NAME)
    assert "changed: epochs 3" in section(page, NAME)
    assert "Runs that differ from it say so below." in page.find(class_="banner").get_text()
    assert "data: data/sample/tweet_eval/sentiment" in section(page, NAME)
    own = section(page, "Runs of your own")
    assert NAME in own and "changed: epochs 3" in own and OURS not in own
    links = [a["href"] for a in page.find_all("a") if "/own/" in a["href"]]
    folder = paths.RUNS / "sample"
    assert links and all((folder / link).exists() for link in links)
    full = BeautifulSoup(report.write("full").read_text(encoding="utf-8"), "html.parser")
    assert "Runs of your own" not in full.get_text()


def test_the_writeup_refuses_it():
    finish(begin(paths.RUNS / "sample" / NAME, epochs=3))
    with pytest.raises(InputError, match="isn't the profile's own: changed are epochs"):
        latex.content("sample")


def test_a_run_that_reads_such_a_run_is_not_the_profiles_own_either(capsys):
    finish(begin(paths.RUNS / "sample" / NAME, epochs=3))
    run = begin(paths.RUNS / "sample" / "02_lora_tinybert", "02_lora_tinybert")
    run.input("roberta_run", runs.find("", NAME, run))
    assert "note: roberta_run: not the sample profile's own run; changed: epochs 3" in (
        capsys.readouterr().out
    )
    record = json.loads((finish(run) / "result.json").read_text(encoding="utf-8"))
    assert record["run"]["changed"] == {"roberta_run": f"runs/sample/{NAME}"}


# ----------------------------------------------------------------------------------- the real thing
def own_tweets(file: Path) -> Path:
    words = {"good": ["love", "great"], "bad": ["hate", "awful"]}
    rows = [
        {"text": f"I {words[label][i % 2]} this number {i}", "label": label}
        for i in range(30)
        for label in words
    ]
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("out", ["", "sample/02_lora_tinybert"])
def test_own_tweets_are_never_under_the_banner_of_the_sample(tmp_path, out):
    """By the command line, without --out and with the profile's own place given."""
    place = tmp_path / "runs"
    words = ["run", "02_lora_tinybert", "-p", "tweets_dir", "own.csv", "-p", "seeds", "[0]"]
    words += ["-p", "epochs", "1", "-p", "max_train_examples", "20", "-p", "device", "cpu"]
    own_tweets(tmp_path / "own.csv")
    variables = {"HW2_RUNS": str(place), "HW2_EMBEDDINGS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", *words, *(["--out", f"runs/{out}"] if out else [])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(paths.ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_dir = place / (out or "own/02_lora_tinybert")
    assert done.stdout.strip() == str(run_dir)
    page = (run_dir / "notebook.ipynb").read_text(encoding="utf-8")
    assert OURS not in page and "changed: tweets_dir …/own.csv" in page
    index = report.write("sample").read_text(encoding="utf-8")
    assert len(re.findall(r"changed: tweets_dir …/own\.csv", index)) == 1
