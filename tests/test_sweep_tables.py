"""Tables of sweeps: numbers by hand, and shown only for the models that they were measured with."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hw2_utils import finetune, parameters, paths, sweep_tables, sweeps
from hw2_utils.runs import METRIC_COLUMNS

NOTEBOOK = "01_lora_roberta"
LABELS = ["a", "b"] * 20


def predictions(method: str, wrong: dict[int, int]) -> pd.DataFrame:
    """Validation predictions: for each seed so many of the first ones wrong."""
    frames = []
    for seed, n_wrong in wrong.items():
        said = ["b" if i < n_wrong and x == "a" else x for i, x in enumerate(LABELS)]
        frame = pd.DataFrame({"id": range(len(LABELS)), "label": LABELS, "prediction": said})
        frames.append(frame.assign(split="val", method=method, seed=seed))
    return pd.concat(frames)


def record(name: str, wrong: dict[int, int], **given: object) -> SimpleNamespace:
    method = f"lora+lr{given.get('lora_learning_rate', 0.005):g}"
    costs = {"params_trainable": 10.0, "peak_memory_mib": 300.0, "train_time_s": 20.0}
    rows = [
        {"method": m, "split": s, "group": "all", "seed": None, "name": n, "value": v}
        for m in (method, "full")
        for s, n, v in [*(("train", n, v) for n, v in costs.items()), ("test", "accuracy", 0.5)]
    ]
    frames = [predictions(method, wrong), predictions("full", dict.fromkeys(wrong, 0))]
    return SimpleNamespace(
        id=name,
        notebook=NOTEBOOK,
        data={"run": {"parameters": {**parameters.declared(NOTEBOOK), **given}, "disturbed": []}},
        predictions=pd.concat([*frames, frames[0].assign(split="test")]),
        metrics=pd.DataFrame(rows, columns=METRIC_COLUMNS).astype({"seed": "Int64"}),
    )


def test_a_row_is_the_run_against_full_on_validation():
    records = [
        record("one", {0: 4, 1: 8}),
        record("two", {0: 0, 1: 0}, lora_learning_rate=0.01, lora_targets=["query", "key"]),
    ]
    table = sweep_tables.against_full(records)
    assert list(table.index) == ["the defaults", "targets query key, learning_rate 0.01"]
    # of 40 tweets 2 and 4 are wrong: the odd ones of the first 4 and 8 have the label already
    assert table["accuracy"].tolist() == pytest.approx([1 - 3 / 40, 1.0])
    assert table["minus full"].tolist() == pytest.approx([-3 / 40, 0.0])
    assert (table["low"] <= table["minus full"]).all() and (table["p"] <= 1).all()
    assert table[["trained", "peak MiB", "training, s"]].to_numpy().tolist() == [[10, 300, 20]] * 2
    assert table["run"].tolist() == ["one", "two"]


def test_a_time_that_other_work_made_longer_is_not_shown():
    records = [record("one", {0: 4, 1: 8}), record("two", {0: 0, 1: 0}, lora_rank=2)]
    records[0].data["run"]["disturbed"] = ["lora+lr0.005"]
    times = sweep_tables.against_full(records)["training, s"]
    assert np.isnan(times.iloc[0]) and times.iloc[1] == 20
    records[1].data["run"]["disturbed"] = ["lora+lr0.005", "full"]
    assert "training, s" not in sweep_tables.against_full(records)


def test_with_one_seed_the_interval_is_over_tweets_alone():
    table = sweep_tables.against_full([record("one", {0: 20})])
    row = table.loc["the defaults"]
    assert row["minus full"] == pytest.approx(-10 / 40)
    wrong = np.array([i < 20 and x == "a" for i, x in enumerate(LABELS)], float)
    half = 2.0226909 * wrong.std(ddof=1) / np.sqrt(40)  # t, 39 degrees of freedom, one comparison
    assert (row["low"], row["high"]) == pytest.approx((-0.25 - half, -0.25 + half), abs=1e-4)


def run_with(*models: str) -> SimpleNamespace:
    return SimpleNamespace(models={str(i): SimpleNamespace(id=m) for i, m in enumerate(models)})


@pytest.mark.parametrize("name", [p.stem for p in sorted(sweep_tables.CHOSEN.glob("*.csv"))])
def test_a_committed_table_is_shown_for_its_own_models_only(name):
    import tomllib

    sources = tomllib.loads((sweep_tables.CHOSEN / "sources.toml").read_text(encoding="utf-8"))
    own = sweep_tables.committed(name, run_with(*sources[name]["models"]))
    assert len(own.rows) > 2 and own.measured_on.startswith("other data than this run's: ")
    for other in ("FacebookAI/roberta-base", "openai:ViT-B-32", "torchvision:resnet50-v1"):
        assert sweep_tables.committed(name, run_with(other)) is None
    assert sweep_tables.committed(name, run_with(*sources[name]["models"], "another")) is None


def test_every_committed_table_has_a_sweep_of_its_name():
    tables = {path.stem for path in sweep_tables.CHOSEN.glob("*.csv")}
    files = {path.stem for path in (paths.ROOT / "workflow" / "sweeps").glob("*.yaml")}
    assert tables <= files


def test_sentences_say_where_from_or_how_to_run_it():
    shown = sweep_tables.SweepTable(pd.DataFrame(), "these tweets")
    one, other = sweep_tables.sentences({"lora_rate": shown, "lora_forms": None})
    assert one == "Sweep `lora_rate` was measured on these tweets."
    assert "no table is shown" in other
    command = other.split("`")[3]
    file = command.split()[-1]
    assert sweeps.read(paths.ROOT / file).notebook == NOTEBOOK


def test_costs_are_what_the_comparison_has():
    assert set(sweep_tables.COSTS) <= set(finetune.COSTS)
    assert list(itertools.islice(sweep_tables.COSTS.values(), 3)) == [
        "trained",
        "peak MiB",
        "training, s",
    ]
