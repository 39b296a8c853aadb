"""Metrics of predictions: one number each, or tidy rows with bootstrap intervals.

A predictions frame has one row an example, method and seed: `id`, `split`, `method`, `seed` (nullable
integer; null = deterministic), `label`, `prediction` (strings, never null), `log_probs` (natural logarithms
in the order of `classes`, or null), and `image_id` or `topic` where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from scipy import sparse

from hw2_utils import paths
from hw2_utils.statistics import align, by_seed, require, resamples


def _one_hot(codes: np.ndarray, width: int) -> sparse.csr_array:
    return sparse.csr_array(
        (np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(width, len(codes))
    )


def wup_similarities(classes: Sequence[str]) -> pd.DataFrame | None:
    """Wu-Palmer similarities of the answers (scripts/make_wups.py), or None where the table lacks one of them."""
    table = pd.read_csv(paths.CONFIG / "wups.csv", index_col="answer", dtype={"answer": str})
    return table.loc[list(classes), list(classes)] if set(classes) <= set(table.index) else None


def _from_labels(
    frame: pd.DataFrame, weights: np.ndarray, similarity: pd.DataFrame | None
) -> dict[str, np.ndarray]:
    """name -> [r]: the metrics of r samples in which example i occurs weights[i, r] times."""
    codes, union = pd.factorize(pd.concat([frame["label"], frame["prediction"]]))
    gold, guessed = (_one_hot(part, len(union)) for part in np.split(codes, 2))
    support, claimed, hits = (
        gold @ weights,
        guessed @ weights,
        (gold * guessed) @ weights,
    )  # [classes, r]
    f1, n, found = 2 * hits / np.maximum(support + claimed, 1), weights.sum(axis=0), {}
    if similarity is not None:
        alike = similarity.to_numpy()[
            similarity.index.get_indexer(frame["label"]),
            similarity.columns.get_indexer(frame["prediction"]),
        ]
        found["wups_0.9"] = np.where(alike >= 0.9, alike, 0.1 * alike) @ weights / n
    return found | {
        "accuracy": hits.sum(axis=0) / n,
        "f1_weighted": (f1 * support).sum(axis=0) / n,
        "f1_macro": f1.sum(axis=0) / (support + claimed > 0).sum(axis=0),
        "recall_macro": (hits / np.maximum(support, 1)).sum(axis=0) / (support > 0).sum(axis=0),
        "unparsed_rate": frame["prediction"].eq("unparsed").to_numpy(float) @ weights / n,
    }


def _from_log_probs(
    frame: pd.DataFrame, weights: np.ndarray, classes: Sequence
) -> dict[str, np.ndarray]:
    """As above; a metric that can't be had is left out."""
    if "log_probs" not in frame or frame["log_probs"].isna().any():
        return {}
    log_probs, n = np.array(frame["log_probs"].tolist(), dtype=float), weights.sum(axis=0)
    gold = pd.Index(classes).get_indexer(frame["label"])  # -1: outside the classes
    losses = -log_probs[np.arange(len(gold)), gold]
    right, confidence = log_probs.argmax(axis=1) == gold, np.exp(log_probs.max(axis=1))
    bins = _one_hot(np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14), 15)
    found = {"ece": np.abs(bins @ ((right - confidence)[:, None] * weights)).sum(axis=0) / n}
    if len(classes) > 5:
        found["accuracy_top5"] = (
            ((gold >= 0) & ((log_probs > -losses[:, None]).sum(axis=1) < 5)) @ weights / n
        )
    if (gold >= 0).all() and np.isfinite(losses).all():
        found["loss"] = losses @ weights / n
    if len(classes) == 2 and (gold >= 0).all():
        found["brier"] = (np.exp(log_probs[:, 1]) - gold) ** 2 @ weights / n
    if len(classes) == 2 and set(gold) == {0, 1}:
        scores, rank = np.unique(log_probs[:, 1] - log_probs[:, 0], return_inverse=True)
        negative, positive = (
            _one_hot(rank[gold == k], len(scores)) @ weights[gold == k] for k in (0, 1)
        )
        wins = (positive * (negative.cumsum(axis=0) - negative / 2)).sum(axis=0)
        with np.errstate(
            invalid="ignore"
        ):  # a resample of one class has none: NaN, left out of the interval
            found["auroc"] = wins / (positive.sum(axis=0) * negative.sum(axis=0))
    return found


def predictions(
    frame: pd.DataFrame,
    scores: np.ndarray,
    *,
    method: str,
    seed: int | None,
    split: str,
    classes: Sequence[str],
) -> pd.DataFrame:
    """Rows of the predictions file from log-probabilities [n, n_classes], in the data's order."""
    kept = [c for c in ("image_id", "topic") if c in frame.columns]
    return pd.DataFrame(
        {
            "id": frame["id"].to_numpy(),
            "split": split,
            "method": method,
            "seed": pd.array([seed] * len(frame), "Int64"),
            "label": frame["label"].to_numpy(),
            "prediction": np.asarray(classes, object)[scores.argmax(axis=1)],
            "log_probs": list(scores.astype(np.float32)),
            **{c: frame[c].to_numpy() for c in kept},
        }
    )


def majority(splits: Mapping[str, pd.DataFrame], *, classes: Sequence[str]) -> pd.DataFrame:
    """The blind baseline: the training split's class frequencies for every example, chosen without looking at test.

    Its prediction is the most frequent training class; its loss is the cross-entropy of those frequencies.
    """
    counts = splits["train"]["label"].value_counts().reindex(classes, fill_value=0).to_numpy(float)
    with np.errstate(divide="ignore"):
        prior = np.log(counts / counts.sum())
    return pd.concat(
        [
            predictions(
                splits[s],
                np.tile(prior, (len(splits[s]), 1)),
                method="majority",
                seed=None,
                split=s,
                classes=classes,
            )
            for s in ("val", "test")
        ]
    )


def check_predictions(frame: pd.DataFrame, classes: Sequence[str]) -> None:
    """Refuse (Hw2Error) a frame that breaks the contract above; the message holds the first bad row.

    That is: no rows, a missing column, a label or prediction that isn't a string, the same (id, split,
    method, seed) twice, log_probs of another length than `classes`, with NaN or +inf, or of probabilities
    that don't add up to 1 (tolerance 0.001).
    """
    keys, frame = ["id", "split", "method", "seed"], frame.reset_index(drop=True)
    missing = sorted({*keys, "label", "prediction"} - set(frame))
    require(
        not missing and len(frame) > 0 and len(set(classes)) == len(classes),
        f"{len(frame)} rows, no {missing}, {classes=}",
        where="predictions",
        todo="complete them",
    )
    text = frame[["label", "prediction"]].map(lambda value: isinstance(value, str))
    given = frame["log_probs"].dropna() if "log_probs" in frame else frame["id"].iloc[:0]
    # NaN is between no two numbers; the minimum keeps exp from overflowing.
    totals = given.map(
        lambda row: np.exp(np.minimum(row, 1)).sum() if len(row) == len(classes) else np.nan
    )
    spoilt = ~totals.astype(float).between(0.999, 1.001)
    for what, bad in {
        "label and prediction must be strings": ~text.all(axis=1),
        "id, split and method must not be null": frame[keys[:3]].isna().any(axis=1),
        "the same id, split, method and seed twice": frame.duplicated(keys),
        f"log_probs must be of {len(classes)} probabilities that add up to 1": spoilt,
    }.items():
        row = frame.loc[bad[bad].index[:1]].to_dict("records")
        require(
            not row,
            f"{what}: {row}",
            where="predictions",
            todo="correct the code that made this row",
        )


def _interval(values: np.ndarray, name: str) -> dict[str, float | None]:
    """95 % percentile interval, or nulls.

    Null where no resample differs (7 right of 7 would claim certainty) and for `ece`, whose plain bootstrap
    is biased upwards.
    """
    finite = values[np.isfinite(values)] if name != "ece" else values[:0]
    low, high = np.quantile(finite, (0.025, 0.975)).tolist() if len(finite) else (0.0, 0.0)
    return {"low": low, "high": high} if high - low > 1e-12 else {"low": None, "high": None}


def _rows(
    block: pd.DataFrame,
    classes: Sequence[str],
    cluster: str | None,
    similarity: pd.DataFrame | None,
    **draw: int,
) -> list[dict]:
    """Tidy rows (without method, split and group) of one method, split and group."""
    seeds = by_seed(block)
    frames = align(list(seeds.values()), cluster=cluster)
    units = pd.factorize(frames[0][cluster or "id"], sort=True)[0]
    samples = chain([np.ones((units.max() + 1, 1))], resamples(units.max() + 1, **draw))
    parts = [
        [
            _from_labels(frame, weights[units], similarity)
            | _from_log_probs(frame, weights[units], classes)
            for frame in frames
        ]
        for weights in samples
    ]
    draws = {
        (key, name): np.concatenate(
            [part[i][name] for part in parts]
        )  # the sample itself comes first
        for i, key in enumerate(seeds)
        for name in parts[0][i]
    }
    draws |= {
        (None, name): np.mean([draws[key, name] for key in seeds], axis=0)
        for name in parts[0][0]
        if all((key, name) in draws for key in seeds)
    }
    return [
        {
            "seed": key,
            "name": name,
            "value": float(values[0]),
            **_interval(values[1:], name),
            "n": len(units),
        }
        for (key, name), values in draws.items()
    ]


def tidy(
    predictions: pd.DataFrame,
    *,
    classes: Sequence[str],
    groups: dict[str, pd.Series] | None = None,
    cluster: str | None = None,
    similarity: pd.DataFrame | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
) -> list[dict]:
    """Rows {method, split, group, seed, name, value, low, high, n}, one a method, split, group, seed, metric.

    F1 is scikit-learn's over the union of labels and predictions; `recall_macro` the mean recall of the
    classes that occur in `label`; `loss` the mean negative log-likelihood of the label in nats; `ece` has 15
    equal-width bins of the top class's probability (Guo et al. 2017); `brier` (two classes) is the mean of
    (p - 1[label])^2 for one class (Brier 1950, halved); `auroc` (two classes) ranks by log p of one class minus
    log p of the other; `accuracy_top5` (more than five classes) counts a label among the five likeliest; `wups_0.9`
    (with `similarity`, see `wup_similarities`) is the mean similarity of label and prediction, a tenth of it below 0.9
    (WUPS of Malinowski & Fritz 2014, for single answers). A metric that can't be had is no row: `loss`, `brier` and `auroc` where a
    label is outside `classes` (it counts as wrong), `loss` where a label has probability zero (it is infinite), and
    all that need log_probs where one is null.
    A seeded method also has rows with seed None: the mean over its seeds. low, high: 95 % percentile
    bootstrap over examples, or over `cluster` (a column), the seeds kept together; None where there is none.
    `groups`: Series with the predictions' index; their values name the groups (null = in none). Raises Hw2Error
    for what `check_predictions` refuses, and for seeds that don't hold the same examples.
    """
    check_predictions(predictions, classes)
    blocks = {"all": predictions}
    for key, series in (groups or {}).items():
        names = set(series.dropna().astype(str))
        require(
            series.index.equals(predictions.index) and blocks.keys().isdisjoint(names),
            f"{key!r} has another index than the predictions, or a name of {sorted(names)} is taken",
            where="groups",
            todo="make it from a column, as in predictions['id'].map(types)",
        )
        blocks |= {str(name): block for name, block in predictions.groupby(series, sort=False)}
    return [
        {"method": method, "split": split, "group": group, **row}
        for group, block in blocks.items()
        for (method, split), part in block.groupby(["method", "split"], sort=False)
        for row in _rows(part, classes, cluster, similarity, seed=seed, n_resamples=n_resamples)
    ]


def over_seeds(rows: pd.DataFrame, *, split: str = "test", group: str = "all") -> pd.DataFrame:
    """The tidy rows of one split and group over seeds: one for each method and metric."""
    return rows[(rows["split"] == split) & (rows["group"] == group) & rows["seed"].isna()]


def value(rows: pd.DataFrame, method: str, name: str = "accuracy", **where: str) -> float:
    """One number of the tidy rows, over seeds; KeyError where there is none."""
    return over_seeds(rows, **where).set_index(["method", "name"])["value"][method, name]


def overview(rows: pd.DataFrame, **where: str) -> pd.DataFrame:
    """One row a method: its metrics over seeds, the accuracy's 95 % interval beside it."""
    kept = over_seeds(rows, **where)
    table = kept.pivot(index="method", columns="name", values="value").reindex(
        kept["method"].unique()
    )
    bounds = kept[kept["name"] == "accuracy"].set_index("method")[["low", "high"]]
    return bounds.join(table).rename_axis(columns=None)[
        ["accuracy", "low", "high", *table.columns.drop("accuracy")]
    ]


def floor_sentence(rows: pd.DataFrame, methods: Sequence[str], floor: float) -> str:
    """Whether each method's test accuracy reaches the floor that the assignment names."""
    found = [
        f"{'met' if value(rows, m) >= floor else 'not met'} by `{m}` ({value(rows, m):.3f})"
        for m in methods
    ]
    return f"The assignment's floor of {floor} in accuracy is {' and '.join(found)}."
