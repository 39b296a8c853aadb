"""What a sweep found: from runs on this run's data and models, or as committed for the models."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw2_utils import inference, parameters, paths, sweeps

if TYPE_CHECKING:
    from hw2_utils.runs import Record, Run

CHOSEN = paths.ROOT / "workflow" / "sweeps" / "chosen"
COSTS = {
    "params_trainable": "trained",
    "peak_memory_mib": "peak MiB",
    "train_time_s": "training, s",
}


@dataclass(frozen=True)
class SweepTable:
    """One row for each run of a sweep, and on what it was measured."""

    rows: pd.DataFrame
    measured_on: str


def lora(name: str, run: Run) -> SweepTable | None:
    """The LoRA sweep of this name, as far as it was run on this run's tweets and model.

    Else the committed table, where this run has the model of that table; else None.
    """
    records = sweeps.records(name, run)
    if not records:
        return committed(name, run)
    n_seeds = records[0].predictions["seed"].nunique()
    return SweepTable(
        against_full(records),
        f"these tweets and this model, {n_seeds} seed(s), 95 % interval at Holm's level",
    )


def committed(name: str, run: Run) -> SweepTable | None:
    """The table in `workflow/sweeps/chosen/`, if it was measured with this run's models."""
    source = tomllib.loads((CHOSEN / "sources.toml").read_text(encoding="utf-8"))[name]
    if {model.id for model in run.models.values()} != set(source["models"]):
        return None
    rows = pd.read_csv(CHOSEN / f"{name}.csv", index_col=0)
    return SweepTable(rows, f"other data than this run's: {source['measured_on']}")


def sentences(sweeps_by_name: Mapping[str, SweepTable | None]) -> list[str]:
    """On what each sweep was measured, and how to run one that no table is shown of."""
    lines = []
    for name, sweep in sweeps_by_name.items():
        command = f"`python -m hw2_utils chain --sweep workflow/sweeps/{name}.yaml`"
        shown = f"was measured on {sweep.measured_on}" if sweep else ""
        missing = f"was not run with these models, so no table is shown ({command} runs it)"
        lines.append(f"Sweep `{name}` {shown or missing}.")
    return lines


def against_full(records: Sequence[Record]) -> pd.DataFrame:
    """LoRA at its own rate in each run, compared with full fine-tuning on the validation split.

    One row a run, all in one family of paired tests: mean accuracy, its difference to `full` with
    interval, p and spread over seeds as in `inference.compare`, costs, and the run's id; a cost
    that no run has is left out. Where the runs have one seed, interval and p are over tweets alone.
    """
    validation, costs = [], {}
    for record in records:
        label = _changed(record)
        frame = record.predictions.query("split == 'val'")
        method = next(m for m in frame["method"].unique() if m.startswith("lora+lr"))
        validation.append(frame[frame["method"] == method].assign(method=label))
        costs[label] = _costs(record, method)
    validation.append(frame[frame["method"] == "full"])
    predictions = pd.concat(validation)
    tests = inference.compare(predictions, [(label, "full") for label in costs])
    if "p_holm" not in tests:  # one seed says nothing about others
        tests[["low", "high"]] = tests[["trained_low", "trained_high"]]
        tests["p_holm"] = inference.holm(tests["trained_p"])
    is_right = predictions["label"] == predictions["prediction"]
    table = tests[["difference", "low", "high", "p_holm"]].set_axis(list(costs))
    table = table.rename(columns={"difference": "minus full", "p_holm": "p"})
    table.insert(0, "accuracy", is_right.groupby(predictions["method"]).mean())
    if "seed_sd" in tests:
        table["SD over seeds"] = tests["seed_sd"].to_numpy()
    by_run = pd.DataFrame(costs).T.infer_objects().dropna(axis=1, how="all")
    return table.join(by_run).rename_axis("LoRA with")


def _costs(record: Record, method: str) -> dict[str, Any]:
    """What the method cost; no time where other work made it longer."""
    rows = record.metrics  # not by `finetune`, whose code decides nothing in notebooks 03 and 04
    over_seeds = rows[rows["seed"].isna() & (rows["method"] == method)].set_index("name")["value"]
    costs = over_seeds[list(COSTS)].rename(COSTS).to_dict()
    if method in record.data["run"]["disturbed"]:
        costs[COSTS["train_time_s"]] = None
    return {**costs, "run": record.id}


def _changed(record: Record) -> str:
    """What a run's LoRA has other than the notebook's own values, in words."""
    usual = parameters.declared(record.notebook)
    given: Mapping[str, Any] = record.data["run"]["parameters"]
    changed = {
        name.removeprefix("lora_"): value
        for name, value in given.items()
        if name.startswith("lora_") and value != usual[name]
    }
    words = [f"{name} {_value(value)}" for name, value in changed.items()]
    return ", ".join(words) or "the defaults"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
