"""Metrics of predictions: one number each, or tidy rows with bootstrap intervals.

`hw2_utils.predictions` says what a frame of predictions holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from scipy import sparse

from hw2_utils import paths
from hw2_utils.errors import require
from hw2_utils.inference import (
    Estimate,
    align,
    groups_of,
    resamples,
    share_interval,
    variance_over_examples,
    variance_over_seeds,
)
from hw2_utils.predictions import check_predictions

SHARES = ("accuracy", "accuracy_top5", "unparsed_rate")  # each example counts 0 or 1
Interval = tuple[float, float | None, float | None]  # value, low, high
# The metrics of r samples, in which example i occurs weights[i, r] times: name -> [r].
Measure = Callable[[np.ndarray], dict[str, np.ndarray]]


def _one_hot(codes: np.ndarray, width: int) -> sparse.csr_array:
    return sparse.csr_array(
        (np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(width, len(codes))
    )


def wup_similarities(classes: Sequence[str]) -> pd.DataFrame | None:
    """Wu-Palmer similarities of the answers (scripts/make_wups.py); None where one is not there."""
    table = pd.read_csv(paths.CONFIG / "wups.csv", index_col="answer", dtype={"answer": str})
    return table.loc[list(classes), list(classes)] if set(classes) <= set(table.index) else None


def _log_probs(frame: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Log-probabilities [n, n_classes] and each label's class [n] (-1: none); None without them."""
    if "log_probs" not in frame or frame["log_probs"].isna().any():
        return None
    gold = pd.Index(classes).get_indexer(frame["label"])
    return np.array(frame["log_probs"].tolist(), dtype=float), gold


def _from_labels(frame: pd.DataFrame, similarity: pd.DataFrame | None) -> Measure:
    codes, union = pd.factorize(pd.concat([frame["label"], frame["prediction"]]))
    gold, guessed = (_one_hot(part, len(union)) for part in np.split(codes, 2))
    right = gold * guessed
    means = {} if similarity is None else {"wups_0.9": _wups(frame, similarity)}

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        support, claimed, hits = gold @ weights, guessed @ weights, right @ weights  # [classes, r]
        n = weights.sum(axis=0)
        f1 = 2 * hits / np.maximum(support + claimed, 1)
        recall = hits / np.maximum(support, 1)
        return {name: values @ weights / n for name, values in means.items()} | {
            "f1_weighted": (f1 * support).sum(axis=0) / n,
            "f1_macro": f1.sum(axis=0) / (support + claimed > 0).sum(axis=0),
            "recall_macro": recall.sum(axis=0) / (support > 0).sum(axis=0),
        }

    return measure


def _wups(frame: pd.DataFrame, similarity: pd.DataFrame) -> np.ndarray:
    """Similarity of label and prediction [n], a tenth of it below 0.9."""
    rows = similarity.index.get_indexer(frame["label"])
    columns = similarity.columns.get_indexer(frame["prediction"])
    alike = similarity.to_numpy()[rows, columns]
    return np.where(alike >= 0.9, alike, 0.1 * alike)


def _from_log_probs(frame: pd.DataFrame, classes: Sequence[str]) -> Measure:
    """A metric that can't be had is left out."""
    scored = _log_probs(frame, classes)
    if scored is None:
        return lambda weights: {}
    log_probs, gold = scored
    right, confidence = log_probs.argmax(axis=1) == gold, np.exp(log_probs.max(axis=1))
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    gaps = _one_hot(bins, 15) * (right - confidence)
    means, ranked = {}, None
    if (gold >= 0).all():
        losses = -log_probs[np.arange(len(gold)), gold]
        if np.isfinite(losses).all():
            means["loss"] = losses
        if len(classes) == 2:
            means["brier"] = (np.exp(log_probs[:, 1]) - gold) ** 2
            ranked = _auroc(log_probs, gold) if set(gold) == {0, 1} else None

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        n = weights.sum(axis=0)
        metrics = {"ece": np.abs(gaps @ weights).sum(axis=0) / n}
        metrics |= {name: values @ weights / n for name, values in means.items()}
        return metrics | (ranked(weights) if ranked else {})

    return measure


def _auroc(log_probs: np.ndarray, gold: np.ndarray) -> Measure:
    scores, rank = np.unique(log_probs[:, 1] - log_probs[:, 0], return_inverse=True)
    at_rank = [_one_hot(rank, len(scores)) * (gold == k) for k in (0, 1)]

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        negative, positive = (counts @ weights for counts in at_rank)
        wins = (positive * (negative.cumsum(axis=0) - negative / 2)).sum(axis=0)
        # a resample of one class has none: NaN, left out of the interval
        with np.errstate(invalid="ignore"):
            return {"auroc": wins / (positive.sum(axis=0) * negative.sum(axis=0))}

    return measure


def _shares(frame: pd.DataFrame, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """name -> [n] of 0 and 1: the metrics that are shares of the examples."""
    shares = {
        "accuracy": frame["label"] == frame["prediction"],
        "unparsed_rate": frame["prediction"] == "unparsed",
    }
    scored = _log_probs(frame, classes)
    if scored and len(classes) > 5:
        log_probs, gold = scored
        of_label = log_probs[np.arange(len(gold)), gold][:, None]
        shares["accuracy_top5"] = (gold >= 0) & ((log_probs > of_label).sum(axis=1) < 5)
    return {name: np.asarray(values, dtype=float) for name, values in shares.items()}


def _share_interval(each: Sequence[np.ndarray], units: np.ndarray, *, over_seeds: bool) -> Interval:
    """Mean share, and its interval over examples or over seeds and examples."""
    mean = np.mean(each, axis=0)
    value = float(mean.mean())
    if over_seeds and len(each) == 1:  # one seed tells of no others
        return value, None, None
    seeds = (variance_over_seeds([values.mean() for values in each]),) if over_seeds else ()
    examples = variance_over_examples(mean, units)
    estimate = Estimate(value, examples, int(units.max()) + 1, seeds)
    return value, *share_interval(estimate, len(units))


def _bootstrap_interval(
    name: str, draws: Sequence[np.ndarray], n_units: int, *, over_seeds: bool
) -> Interval:
    """A metric of the sample itself, which comes first in each seed's draws, and its interval.

    That is the percentile interval of the resamples, and over seeds a t interval with their
    variance. There is none where no resample differs, and for `ece`, whose plain bootstrap is
    biased upwards.
    """
    value = float(np.mean([values[0] for values in draws]))
    mean = np.mean(draws, axis=0)[1:]
    sample = mean[np.isfinite(mean)]
    if name == "ece" or len(sample) == 0:
        return value, None, None
    if not over_seeds:
        low, high = np.quantile(sample, (0.025, 0.975)).tolist()
        return (value, low, high) if high - low > 1e-12 else (value, None, None)
    if len(draws) == 1 or np.ptp(sample) < 1e-12:
        return value, None, None
    seeds = variance_over_seeds([values[0] for values in draws])
    examples = float(np.var(sample, ddof=1)), n_units - 1
    margin = Estimate(value, examples, n_units, (seeds,)).margin()
    lowest, highest = (-np.inf, np.inf) if name == "loss" else (0.0, 1.0)
    return value, max(value - margin, lowest), min(value + margin, highest)


def _values(
    frames: Mapping[int | None, pd.DataFrame],
    units: np.ndarray,
    classes: Sequence[str],
    similarity: pd.DataFrame | None,
    **draw: int,
) -> dict[str, dict[int | None, np.ndarray]]:
    """name -> seed -> values, of the metrics that every seed has.

    The values of SHARES are those of the examples [n]; of other metrics that of the sample itself,
    then those of its resamples [1 + n_resamples].
    """
    measures = {
        seed: (_from_labels(frame, similarity), _from_log_probs(frame, classes))
        for seed, frame in frames.items()
    }
    samples = chain([np.ones((units.max() + 1, 1))], resamples(units.max() + 1, **draw))
    parts = []
    for drawn in samples:
        weights = drawn[units]
        parts.append({seed: a(weights) | b(weights) for seed, (a, b) in measures.items()})
    by_seed = {
        seed: _shares(frame, classes)
        | {name: np.concatenate([part[seed][name] for part in parts]) for name in parts[0][seed]}
        for seed, frame in frames.items()
    }
    first, *others = by_seed.values()
    in_all = [name for name in first if all(name in other for other in others)]
    return {name: {seed: values[name] for seed, values in by_seed.items()} for name in in_all}


def _rows(
    block: pd.DataFrame,
    classes: Sequence[str],
    cluster: str | None,
    similarity: pd.DataFrame | None,
    **draw: int,
) -> Iterator[dict]:
    """Tidy rows (without method, split and group) of one method, split and group."""
    methods, units = align(block, cluster=cluster)
    (frames,) = methods.values()
    n_units = int(units.max()) + 1
    for name, by_seed in _values(frames, units, classes, similarity, **draw).items():
        for seed in dict.fromkeys([*frames, None]):  # None: over the seeds, or without any
            over_seeds = seed not in frames
            each = list(by_seed.values()) if over_seeds else [by_seed[seed]]
            if name in SHARES:
                value, low, high = _share_interval(each, units, over_seeds=over_seeds)
            else:
                value, low, high = _bootstrap_interval(name, each, n_units, over_seeds=over_seeds)
            row = {"seed": seed, "name": name, "value": value, "low": low, "high": high}
            yield {**row, "n": len(units)}


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
        named = groups_of(predictions, series, sort=False)
        what = f"{key!r}: one of the groups {sorted(named)} is taken"
        todo = "give each group a name of its own"
        require(blocks.keys().isdisjoint(named), what, where="groups", todo=todo)
        blocks |= named
    return [
        {"method": method, "split": split, "group": group, **row}
        for group, block in blocks.items()
        for (method, split), part in block.groupby(["method", "split"], sort=False)
        for row in _rows(part, classes, cluster, similarity, seed=seed, n_resamples=n_resamples)
    ]


def over_seeds(rows: pd.DataFrame, *, split: str = "test", group: str = "all") -> pd.DataFrame:
    """The tidy rows of one split and group over seeds: one for each method and metric."""
    return rows.query("split == @split and group == @group and seed.isna()")


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
    seeded = rows.query("split == @split and group == @group and name == @name and seed.notna()")
    return seeded.groupby("method")["value"].std().rename("SD over seeds")


def floor_sentence(rows: pd.DataFrame, methods: Sequence[str], floor: float) -> str:
    """Whether each method's test accuracy reaches the floor that the assignment names."""
    verdicts = []
    for method in methods:
        accuracy = value(rows, method)
        verdict = "met" if accuracy >= floor else "not met"
        verdicts.append(f"{verdict} by `{method}` ({accuracy:.3f})")
    return f"The assignment's floor of {floor} in accuracy is {' and '.join(verdicts)}."
