"""Parameters that pass the check end in a complete run, an early refusal, or one message.

A refusal comes before any training. On tiny models with random weights and a few dozen examples of
the sample's data, by the command that people use.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from test_architectures import SMALL, saved

from hw2_utils import daquar, parameters, paths, runs, statements, tweets

pytestmark = pytest.mark.slow
TWEETS, VQA = paths.DATA / "sample/tweet_eval/sentiment", paths.DATA / "sample/daquar"
STATEMENTS = paths.DATA / "sample/statements/statements.csv"
SIZES = {"train": 24, "val": 8, "test": 8}
# what may be drawn for a parameter: usual values, the ends of what works, and what no model or data
# have
FINE_TUNING = {
    "max_train_examples": [0, 2, 3, 10**9],
    "batch_size": [0, 1, 65_536],
    "learning_rate": [0, 1e-4, 1.0],
    "epochs": [1, 2],
    "lora_rank": [1, 8, 8, 32, 32, 33],
    "lora_alpha": [1, 8, 65_536],
    "lora_targets": [[], [], ["query", "dense"], ["query", "q_proj"]],
    "lora_learning_rate": [0, 1e-3, 1.0],
    "lora_variant": ["", "rslora", "dora", "lora+"],
    "lora_save": [[], [], [], ["pooler"], ["pooler", "nothing"], ["encoder"]],
    "seeds": [[0], [2**32 - 1]],
}
N_DRAWS = {
    "01_lora_roberta": 1,
    "02_lora_tinybert": 3,
    "03_vqa_resnet_sbert": 2,
    "06_prompting": 3,
}
DRAWN = {
    "01_lora_roberta": FINE_TUNING,
    "02_lora_tinybert": FINE_TUNING,
    "03_vqa_resnet_sbert": {
        "max_train_examples": [0, 2, 20, 10**9],
        "batch_size": [0, 1, 65_536],
        "learning_rate": [0, 1e-4, 1.0],
        "epochs": [1, 3],
        "folds": [0, 0, 3, 100],
        "seeds": [[0], [2**32 - 1, 5]],
    },
    "06_prompting": {
        "max_generated": [-1, 0, 1, 10**9],
        "shot_draws": [-1, 0, 3, 37],
        "factorial_statements": [0, 2, 1_000_000],
        "batch_size": [0, 1, 65_536],
    },
}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def few_tweets(path: Path) -> Path:
    splits = tweets.read(TWEETS).splits
    rows = [
        r for s, n in SIZES.items() for r in splits[s].head(n).assign(split=s).to_dict("records")
    ]
    return write_csv(path, rows)


def few_questions(folder: Path) -> Path:
    data = daquar.read(VQA)
    (folder / "images").mkdir(parents=True)
    for split, n in SIZES.items():
        rows = data.splits[split].head(n)
        columns = rows[["question", "answer", "image_id"]].to_dict("records")
        write_csv(folder / f"new_data_{split}.csv", columns)
        for image_id in set(rows["image_id"]):
            source = data.image_paths[image_id]
            (folder / "images" / source.name).write_bytes(source.read_bytes())
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The tiny models and data of each notebook, as parameters."""
    root = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    encoder = transformers.BertModel(transformers.BertConfig(**SMALL))
    language_model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))
    listed = statements.read(STATEMENTS).frame.head(12).to_dict("records")
    text = {
        "text_model": str(saved(root / "encoder", encoder)),
        "tweets_dir": str(few_tweets(root / "tweets.csv")),
    }
    return {
        "01_lora_roberta": text,
        "02_lora_tinybert": text,
        "03_vqa_resnet_sbert": {"vqa_dir": str(few_questions(root / "vqa"))},
        "06_prompting": {
            "language_model": str(saved(root / "language_model", language_model)),
            "statements_file": str(write_csv(root / "statements.csv", listed)),
        },
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(
    tmp_path: Path, cache: Path, notebook: str, values: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    words = [(n, v if isinstance(v, str) else json.dumps(v)) for n, v in values.items()]
    places = {"HW2_RUNS": str(tmp_path / "runs"), "HW2_EMBEDDINGS_CACHE": str(cache)}
    options = [word for name, value in words for word in ("-p", name, value)]
    return subprocess.run(
        [sys.executable, "-m", "hw2_utils", "run", notebook, *options, "--out", tmp_path / "out"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **places},
        timeout=600,
        check=False,
    )


def check_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebook: str, done: Any
) -> None:
    """Complete with a readable record, refused with nothing computed or failed with one message."""
    computed = list((tmp_path / "runs" / "parts").glob("*"))
    assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2), done.stderr
    if done.returncode == 0:
        monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
        assert runs.load(tmp_path / "out", notebook=notebook).data["run"]["status"] == "complete"
        return
    assert done.stderr.count("error: ") == 1 and "AssertionError" not in done.stderr
    assert not (tmp_path / "out").exists()
    if done.returncode == 2:
        assert not computed and "parameter" in done.stderr, done.stderr
    else:
        assert "no number" in done.stderr or "memory" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("notebook", "draw"), [(name, i) for name, n in N_DRAWS.items() for i in range(n)]
)
def test_any_parameters_that_pass_end_well(given, cache, tmp_path, monkeypatch, notebook, draw):
    rng = random.Random(f"{notebook} {draw}")
    values = {name: rng.choice(choices) for name, choices in DRAWN[notebook].items()}
    parameters.check(notebook, values)
    done = run(tmp_path, cache, notebook, {**given[notebook], **values})
    check_outcome(tmp_path, monkeypatch, notebook, done)


@pytest.mark.parametrize(
    ("notebook", "values", "named"),
    [
        ("02_lora_tinybert", {"lora_save": ["no_such_module"]}, ["no_such_module", "pooler"]),
        ("02_lora_tinybert", {"lora_targets": ["query", "v_proj"]}, ["v_proj", "value"]),
        ("01_lora_roberta", {"lora_rank": 33}, ["33", "32"]),
        ("02_lora_tinybert", {"lora_rank": 0}, ["0", "1 to"]),
        ("06_prompting", {"shot_draws": 37}, ["37", "36"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_before_training(
    given, cache, tmp_path, notebook, values, named
):
    done = run(tmp_path, cache, notebook, {**given[notebook], **values})
    words = [f"parameter {name}" for name in values] + named
    assert done.returncode == 2 and all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr and not list((tmp_path / "runs" / "parts").glob("*"))


def test_what_once_failed_in_a_demonstration_completes(given, cache, tmp_path, monkeypatch):
    """A rank far from alpha: the untrained second adapter once gave the first's very outputs."""
    values = {**given["01_lora_roberta"], "lora_rank": 32, "lora_alpha": 1, "seeds": [0]}
    done = run(tmp_path, cache, "01_lora_roberta", values)
    assert done.returncode == 0, done.stderr
    check_outcome(tmp_path, monkeypatch, "01_lora_roberta", done)
