"""Metrics of predictions: one number each, or tidy rows with bootstrap intervals.

`hw2_utils.predictions` says what a frame of predictions holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from scipy import sparse

from hw2_utils import inference, paths
from hw2_utils.errors import require
from hw2_utils.inference import Estimate, align, resamples
from hw2_utils.predictions import check_predictions


def _one_hot(codes: np.ndarray, width: int) -> sparse.csr_array:
    return sparse.csr_array(
        (np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(width, len(codes))
    )


def wup_similarities(classes: Sequence[str]) -> pd.DataFrame | None:
    """Wu-Palmer similarities of the answers (scripts/make_wups.py); None where one is not there."""
    table = pd.read_csv(paths.CONFIG / "wups.csv", index_col="answer", dtype={"answer": str})
    return table.loc[list(classes), list(classes)] if set(classes) <= set(table.index) else None


# The metrics of r samples, in which example i occurs weights[i, r] times: name -> [r].
Measure = Callable[[np.ndarray], dict[str, np.ndarray]]


def _from_labels(frame: pd.DataFrame, similarity: pd.DataFrame | None) -> Measure:
    codes, union = pd.factorize(pd.concat([frame["label"], frame["prediction"]]))
    gold, guessed = (_one_hot(part, len(union)) for part in np.split(codes, 2))
    right = gold * guessed
    if similarity is not None:
        alike = similarity.to_numpy()[
            similarity.index.get_indexer(frame["label"]),
            similarity.columns.get_indexer(frame["prediction"]),
        ]

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        support, claimed, hits = gold @ weights, guessed @ weights, right @ weights  # [classes, r]
        f1, n, found = 2 * hits / np.maximum(support + claimed, 1), weights.sum(axis=0), {}
        if similarity is not None:
            found["wups_0.9"] = np.where(alike >= 0.9, alike, 0.1 * alike) @ weights / n
        return found | {
            "f1_weighted": (f1 * support).sum(axis=0) / n,
            "f1_macro": f1.sum(axis=0) / (support + claimed > 0).sum(axis=0),
            "recall_macro": (hits / np.maximum(support, 1)).sum(axis=0) / (support > 0).sum(axis=0),
        }

    return measure


def _from_log_probs(frame: pd.DataFrame, classes: Sequence[str]) -> Measure:
    """A metric that can't be had is left out."""
    if "log_probs" not in frame or frame["log_probs"].isna().any():
        return lambda weights: {}
    log_probs = np.array(frame["log_probs"].tolist(), dtype=float)
    gold = pd.Index(classes).get_indexer(frame["label"])  # -1: outside the classes
    losses = -log_probs[np.arange(len(gold)), gold]
    right, confidence = log_probs.argmax(axis=1) == gold, np.exp(log_probs.max(axis=1))
    gaps = _one_hot(np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14), 15)
    gaps = gaps * (right - confidence)
    two = len(classes) == 2 and (gold >= 0).all()
    ranked = _auroc(log_probs, gold) if two and set(gold) == {0, 1} else None

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        n = weights.sum(axis=0)
        found = {"ece": np.abs(gaps @ weights).sum(axis=0) / n}
        if (gold >= 0).all() and np.isfinite(losses).all():
            found["loss"] = losses @ weights / n
        if two:
            found["brier"] = (np.exp(log_probs[:, 1]) - gold) ** 2 @ weights / n
        return found | (ranked(weights) if ranked else {})

    return measure


def _auroc(log_probs: np.ndarray, gold: np.ndarray) -> Measure:
    scores, rank = np.unique(log_probs[:, 1] - log_probs[:, 0], return_inverse=True)
    at_rank = [_one_hot(rank, len(scores)) * (gold == k) for k in (0, 1)]

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        negative, positive = (own @ weights for own in at_rank)
        wins = (positive * (negative.cumsum(axis=0) - negative / 2)).sum(axis=0)
        # a resample of one class has none: NaN, left out of the interval
        with np.errstate(invalid="ignore"):
            return {"auroc": wins / (positive.sum(axis=0) * negative.sum(axis=0))}

    return measure


SHARES = ("accuracy", "accuracy_top5", "unparsed_rate")  # each example counts 0 or 1


def _shares(frame: pd.DataFrame, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """name -> [n] of 0 and 1: the metrics that are shares of the examples."""
    found = {
        "accuracy": (frame["label"] == frame["prediction"]).to_numpy(float),
        "unparsed_rate": (frame["prediction"] == "unparsed").to_numpy(float),
    }
    given = "log_probs" in frame and not frame["log_probs"].isna().any()
    if given and len(classes) > 5:
        log_probs = np.array(frame["log_probs"].tolist(), dtype=float)
        gold = pd.Index(classes).get_indexer(frame["label"])
        own = log_probs[np.arange(len(gold)), gold][:, None]
        found["accuracy_top5"] = ((gold >= 0) & ((log_probs > own).sum(axis=1) < 5)).astype(float)
    return found


def _estimate(each: Sequence[np.ndarray], units: np.ndarray, *, seeded: bool) -> Estimate | None:
    """Mean and its variances over seeds and examples; None where one seed tells of no others."""
    if seeded and len(each) == 1:
        return None
    seeds = (inference.variance_over_seeds([values.mean() for values in each]),) if seeded else ()
    mean = np.mean(each, axis=0)
    examples = inference.variance_over_examples(mean, units)
    return Estimate(float(mean.mean()), examples, int(units.max()) + 1, seeds)


def _bounds(estimate: Estimate | None, n: int) -> dict[str, float | None]:
    if estimate is None:
        return {"low": None, "high": None}
    low, high = inference.share_interval(estimate, n)
    return {"low": low, "high": high}


def _share_rows(
    seeds: Mapping[int | None, pd.DataFrame], units: np.ndarray, classes: Sequence[str]
) -> list[dict]:
    each = [_shares(frame, classes) for frame in seeds.values()]
    rows = []
    for name in each[0]:
        if not all(name in own for own in each):
            continue
        values = [own[name] for own in each]
        found = {
            key: _estimate([v], units, seeded=False) for key, v in zip(seeds, values, strict=True)
        }
        if None not in seeds:
            found[None] = _estimate(values, units, seeded=True)
        mean = float(np.mean(values))
        rows += [
            {"seed": key, "name": name, "value": e.value if e else mean, **_bounds(e, len(units))}
            for key, e in found.items()
        ]
    return rows


def _percentiles(values: np.ndarray, name: str) -> dict[str, float | None]:
    """95 % percentile interval of a bootstrap, or nulls.

    Null where no resample differs, and for `ece`, whose plain bootstrap is biased upwards.
    """
    finite = values[np.isfinite(values)] if name != "ece" else values[:0]
    low, high = np.quantile(finite, (0.025, 0.975)).tolist() if len(finite) else (0.0, 0.0)
    return {"low": low, "high": high} if high - low > 1e-12 else {"low": None, "high": None}


def _over_seeds(draws: Sequence[np.ndarray], name: str, n_units: int) -> dict[str, float | None]:
    """t interval of a metric's mean over seeds: the bootstrap's variance and that over seeds."""
    mean = np.mean(draws, axis=0)
    sample = mean[1:][np.isfinite(mean[1:])]
    if len(draws) == 1 or len(sample) == 0 or name == "ece" or np.ptp(sample) < 1e-12:
        return {"low": None, "high": None}
    seeds = inference.variance_over_seeds([values[0] for values in draws])
    examples = float(np.var(sample, ddof=1)), n_units - 1
    estimate = Estimate(float(mean[0]), examples, n_units, (seeds,))
    margin = estimate.margin()
    lowest, highest = (-np.inf, np.inf) if name == "loss" else (0.0, 1.0)
    low, high = max(estimate.value - margin, lowest), min(estimate.value + margin, highest)
    return {"low": low, "high": high}


def _rows(
    block: pd.DataFrame,
    classes: Sequence[str],
    cluster: str | None,
    similarity: pd.DataFrame | None,
    **draw: int,
) -> list[dict]:
    """Tidy rows (without method, split and group) of one method, split and group."""
    methods, units = align(block, cluster=cluster)
    (seeds,) = methods.values()
    frames = list(seeds.values())
    n_units = int(units.max()) + 1
    rows = _share_rows(seeds, units, classes)
    measures = [(_from_labels(f, similarity), _from_log_probs(f, classes)) for f in frames]
    samples = chain([np.ones((n_units, 1))], resamples(n_units, **draw))
    parts = []
    for drawn in samples:
        weights = drawn[units]
        parts.append([labels(weights) | log_probs(weights) for labels, log_probs in measures])
    for name in parts[0][0]:  # the sample itself comes first in each array of draws
        if not all(name in own for own in parts[0]):
            continue
        draws = [np.concatenate([part[i][name] for part in parts]) for i in range(len(frames))]
        for key, values in zip(seeds, draws, strict=True):
            bounds = _percentiles(values[1:], name)
            rows.append({"seed": key, "name": name, "value": float(values[0]), **bounds})
        if None not in seeds:
            mean = float(np.mean([values[0] for values in draws]))
            bounds = _over_seeds(draws, name, n_units)
            rows.append({"seed": None, "name": name, "value": mean, **bounds})
    return [{**row, "n": len(units)} for row in rows]


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
    """Rows {method, split, group, seed, name, value, low, high, n}, one for each of the first five.

    F1 is scikit-learn's over the union of labels and predictions; `recall_macro` the mean recall of
    the classes that occur in `label`; `loss` the mean negative log-likelihood of the label in nats;
    `ece` has 15 equal-width bins of the top class's probability (Guo et al. 2017); `brier` (two
    classes) is the mean of (p - 1[label])^2 for one class (Brier 1950, halved); `auroc` (two
    classes) ranks by log p of one class minus log p of the other; `accuracy_top5` (more than five
    classes) counts a label among the five likeliest; `wups_0.9` (with `similarity`, see
    `wup_similarities`) is the mean similarity of label and prediction, a tenth of it below 0.9
    (WUPS of Malinowski & Fritz 2014, for single answers). A metric that can't be had is no row:
    `loss`, `brier` and `auroc` where a label is outside `classes` (it counts as wrong), `loss`
    where a label has probability zero (it is infinite), and all that need log_probs where one is
    null.
    A seeded method also has rows with seed None: the mean over its seeds. low, high: a 95 %
    interval over examples, or over `cluster` (a column); with seed None over seeds too, and None
    where there is one seed alone. Shares have the interval of `inference.share_interval`, which
    holds near 0 and 1, other metrics a percentile bootstrap (over seeds a t interval with its
    variance); None where there is none.
    `groups`: Series with the predictions' index; their values name the groups (null = in none).
    Raises Hw2Error for what `check_predictions` refuses, and for seeds that don't hold the same
    examples.
    """
    check_predictions(predictions, classes)
    blocks = {"all": predictions}
    for key, series in (groups or {}).items():
        names = set(series.dropna().astype(str))
        require(
            series.index.equals(predictions.index) and blocks.keys().isdisjoint(names),
            f"{key!r} has another index than the predictions, or one of {sorted(names)} is taken",
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
    """One row a method: metrics over seeds, and the accuracy's 95 % interval and seed spread."""
    kept = over_seeds(rows, **where)
    table = kept.pivot(index="method", columns="name", values="value")
    table = table.reindex(kept["method"].unique())
    bounds = kept[kept["name"] == "accuracy"].set_index("method")[["low", "high"]]
    table = bounds.join(table).join(seed_spread(rows, **where)).rename_axis(columns=None)
    first = ["accuracy", "low", "high", "SD over seeds"]
    return table[[*first, *table.columns.drop(first)]]


def seed_spread(
    rows: pd.DataFrame, *, split: str = "test", group: str = "all", name: str = "accuracy"
) -> pd.Series:
    """Standard deviation over seeds of a metric by method; a deterministic method has none."""
    own = (rows["split"] == split) & (rows["group"] == group) & (rows["name"] == name)
    seeded = rows[own & rows["seed"].notna()]
    return seeded.groupby("method")["value"].std().rename("SD over seeds")


def floor_sentence(rows: pd.DataFrame, methods: Sequence[str], floor: float) -> str:
    """Whether each method's test accuracy reaches the floor that the assignment names."""
    found = [
        f"{'met' if value(rows, m) >= floor else 'not met'} by `{m}` ({value(rows, m):.3f})"
        for m in methods
    ]
    return f"The assignment's floor of {floor} in accuracy is {' and '.join(found)}."
