"""Intervals and paired tests between predictions, and the sentences that report them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from hw2_utils.errors import require


@dataclass(frozen=True)
class Paired:
    """Accuracy of method a minus accuracy of method b on the same examples, as fractions (not points).

    `low`, `high`: 95 % bootstrap interval; `p_value`: two-sided permutation test; `n`: examples;
    `n_clusters`: resampled clusters, None where examples were resampled one by one.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    n_clusters: int | None


def resamples(n_units: int, *, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit occurs in each bootstrap resample: float [n_units, at most 250], chunk by chunk.

    In chunks, because 12,284 examples times 10,000 resamples do not fit a laptop's memory at once.
    """
    rng = np.random.default_rng(seed)
    for width in (min(250, n_resamples - start) for start in range(0, n_resamples, 250)):
        cells = rng.integers(n_units, size=(n_units, width)) * width + np.arange(width)
        yield (
            np.bincount(cells.ravel(), minlength=n_units * width)
            .reshape(n_units, width)
            .astype(float)
        )


def bootstrap_interval(
    values: Sequence[float],
    *,
    clusters: Sequence | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` [n], over examples or over `clusters` [n].

    Clusters differ in size, so a resample's mean is a ratio: sum of its values / its number of examples.
    Raises InputError for values or clusters that are missing and for fewer than two units.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.
    """
    array = np.asarray(values, dtype=float)
    units = (
        np.arange(len(array))
        if clusters is None
        else pd.factorize(np.asarray(clusters), sort=True)[0]
    )
    complete = len(units) == len(array) and np.isfinite(array).all() and (units >= 0).all()
    require(
        complete and np.unique(units).size > 1,
        f"{len(array)} values in {np.unique(units).size} units",
        where="bootstrap_interval",
        todo="hand in one finite value an example, two units or more",
    )
    sums, sizes = np.bincount(units, weights=array), np.bincount(units)
    draws = resamples(len(sizes), n_resamples=n_resamples, seed=seed)
    ratios = np.concatenate([(sums @ weights) / (sizes @ weights) for weights in draws])
    return tuple(np.quantile(ratios, ((1 - level) / 2, (1 + level) / 2)).tolist())


def by_seed(frame: pd.DataFrame) -> dict[int | None, pd.DataFrame]:
    """The predictions of one method on one split, else InputError, as a frame a seed (None = deterministic)."""
    kinds, null = (
        frame[["method", "split"]].drop_duplicates().to_numpy().tolist(),
        frame["seed"].isna(),
    )
    require(
        len(kinds) == 1 and null.all() == null.any(),
        f"{kinds}, {null.sum()} of {len(null)} seeds null",
        where="predictions",
        todo="select one method and one split, with all seeds given or all null",
    )
    return {
        None if pd.isna(seed) else int(seed): part
        for seed, part in frame.groupby("seed", dropna=False)
    }


def align(frames: Sequence[pd.DataFrame], *, cluster: str | None = None) -> list[pd.DataFrame]:
    """The frames, sorted by `id`, after a check that all hold the same examples.

    The same examples: equal ids, each once a frame, with equal split, label and (where given) cluster.
    Raises InputError that names the first difference.
    """
    columns = ["id", "split", "label", *([cluster] if cluster else [])]
    ordered = [frame.sort_values("id", kind="stable").reset_index(drop=True) for frame in frames]
    for frame in ordered:
        where = f"predictions of {frame['method'].iloc[0]}, seed {frame['seed'].iloc[0]}"
        require(
            cluster in (None, *frame), f"no column {cluster!r}", where=where, todo="name a column"
        )
        bad = frame["id"][
            frame.duplicated("id") | frame[[*columns, "prediction"]].isna().any(axis=1)
        ]
        require(
            bad.empty, f"id {bad.head(1).tolist()} twice or null", where=where, todo="mend the row"
        )
        first, this = (
            set(one[columns].itertuples(index=False, name=None)) for one in (ordered[0], frame)
        )
        odd = sorted(first ^ this, key=str)
        require(
            not odd,
            f"other {columns} than {ordered[0]['method'].iloc[0]}, first {odd[:2]}",
            where=where,
            todo="compare predictions of one and the same split and data",
        )
    return ordered


def paired_test(
    frame_a: pd.DataFrame,
    frame_b: pd.DataFrame,
    *,
    cluster: str | None = None,
    n_resamples: int = 10000,
    seed: int = 0,
) -> Paired:
    """Compare two methods' correctness on the same examples, each averaged over its own seeds.

    The test flips the sign of each example's difference (or of each cluster's sum) at random:
    p = (1 + flips at least as extreme) / (1 + flips), two-sided (Phipson and Smyth 2010). Raises InputError
    where the frames differ in split, ids, labels or clusters, and where there are fewer than two units.
    """
    seeds_a, seeds_b = list(by_seed(frame_a).values()), list(by_seed(frame_b).values())
    frames = align([*seeds_a, *seeds_b], cluster=cluster)
    correct = np.array([(frame["label"] == frame["prediction"]).to_numpy(bool) for frame in frames])
    difference = correct[: len(seeds_a)].mean(axis=0) - correct[len(seeds_a) :].mean(axis=0)
    units = pd.factorize(frames[0][cluster or "id"], sort=True)[0]
    # A flipped sum depends only on how many of the equally large differences come out positive.
    size, count = np.unique(
        np.abs(np.bincount(units, weights=difference)).round(12), return_counts=True
    )
    positive = np.random.default_rng(seed).binomial(count, 0.5, size=(n_resamples, len(count)))
    extreme = np.abs((2 * positive - count) @ size) >= abs(difference.sum()) - 1e-6
    low, high = bootstrap_interval(difference, clusters=units, n_resamples=n_resamples, seed=seed)
    means = [
        round(float(x), 12) for x in (difference.mean(), low, high)
    ]  # a mean over seeds that is zero may be 5e-16 off
    return Paired(
        *means,
        float((1 + extreme.sum()) / (1 + n_resamples)),
        len(difference),
        int(units.max()) + 1 if cluster else None,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values of one family of tests, in the order given (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    require(
        ((p >= 0) & (p <= 1)).all(), f"p-values {p.tolist()}", where="holm", todo="all in [0, 1]"
    )
    order = np.argsort(p)
    adjusted = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted[np.argsort(order)].tolist()


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion of independent examples; usable at 0 %, at 100 % and for small n."""
    require(
        n > 0 and 0 <= successes <= n,
        f"{successes} of {n}",
        where="wilson_interval",
        todo="count again",
    )
    return tuple(map(float, stats.binomtest(int(successes), int(n)).proportion_ci(0.95, "wilson")))


def normalised_accuracy(frame: pd.DataFrame, types: Sequence[str]) -> dict[str, float]:
    """Per question type the mean accuracy over its unique gold answers; `mean_per_type` of it is N-MPT.

    `types` [n]: the type of each row of the predictions. Source: TDIUC, Kafle and Kanan 2017.
    """
    correct = (
        frame["label"].eq(frame["prediction"]).groupby([np.asarray(types), frame["label"]]).mean()
    )
    return {str(kind): float(value) for kind, value in correct.groupby(level=0).mean().items()}


def mean_per_type(accuracy_by_type: Mapping[str, float]) -> dict[str, float]:
    """Arithmetic and harmonic mean over question types (A-MPT, H-MPT); a zero makes the harmonic one zero.

    Raises InputError without types and for a value outside [0, 1]. Source: TDIUC, Kafle and Kanan 2017.
    """
    values = np.array(list(accuracy_by_type.values()), dtype=float)
    require(
        len(values) > 0 and ((values >= 0) & (values <= 1)).all(),
        f"accuracies {dict(accuracy_by_type)}",
        where="mean_per_type",
        todo="hand in a fraction in [0, 1] for each type",
    )
    return {"arithmetic": float(values.mean()), "harmonic": float(stats.hmean(values))}


def detectable_difference(
    n: int, discordance: float, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest accuracy difference (a fraction) that a two-sided paired test on n independent examples sees.

    `discordance`: share of examples on which exactly one method is right. None: not even a difference as
    large as the discordance would be seen. Normal approximation with the variance at no difference, a little
    conservative: (z_(1 - alpha / 2) + z_power) sqrt(discordance / n). Source: Connor 1987.
    """
    require(
        n > 0 and all(0 < share < 1 for share in (discordance, power, alpha)),
        f"{n=} {discordance=}",
        where="detectable_difference",
        todo="n above 0, the others strictly between 0 and 1",
    )
    difference = (stats.norm.isf(alpha / 2) + stats.norm.ppf(power)) * np.sqrt(discordance / n)
    return float(difference) if difference <= discordance else None


def _points(fraction: float) -> str:
    """Signed percentage points; what is not zero never prints as zero."""
    fraction = round(fraction, 12)  # what is hardly off zero is zero
    text = f"{100 * fraction:+.1f}"
    return text if float(text) or not fraction else f"{100 * fraction:+.1g}"


def sentence(
    paired: Paired, name_a: str, name_b: str, metric: str = "accuracy", alpha: float = 0.05
) -> str:
    """One sentence for a comparison; it names a leader only where test and interval both show a difference.

    In a family of comparisons hand in `dataclasses.replace(paired, p_value=adjusted)`.
    """
    unit = f"n = {paired.n:,}" + (
        f" in {paired.n_clusters:,} clusters" if paired.n_clusters else ""
    )
    rounded = "p < 0.001" if paired.p_value < 0.001 else f"p = {paired.p_value:.3f}"
    p = f"p < {alpha:g}" if paired.p_value < alpha <= round(paired.p_value, 3) else rounded
    evidence = (
        f"{_points(paired.difference)} percentage points, 95 % interval {_points(paired.low)} to "
        f"{_points(paired.high)}, {p}, {unit}"
    )
    by_test, by_interval = paired.p_value < alpha, paired.low > 0 or paired.high < 0
    if by_test and by_interval:
        return f"{name_a} {'leads' if paired.difference > 0 else 'trails'} {name_b} in {metric} ({evidence})."
    if paired.difference == paired.low == paired.high == 0:
        evidence = f"equal on every example, {unit}"
    note = "; the test and the interval disagree" if by_test != by_interval else ""
    return f"No difference shown in {metric} between {name_a} and {name_b} ({evidence}{note})."


def compare(
    predictions: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    *,
    cluster: str | None = None,
    by: pd.Series | None = None,
) -> pd.DataFrame:
    """Paired tests of pairs of methods on one split, overall and in each group of `by`, all as one family.

    Rows "a - b" and "a - b: group"; columns: those of `Paired`, `p_holm` (adjusted over the family), `sentence` (made
    from the adjusted outcome). `by`: a group for each row of `predictions`; a group in fewer than two units is left out.
    """
    blocks = {"": predictions}
    if by is not None:
        blocks |= {
            str(name): block
            for name, block in predictions.groupby(by)
            if block[cluster or "id"].nunique() > 1
        }
    tests, about = {}, []
    for group, block in blocks.items():
        frames = dict(list(block.groupby("method", sort=False)))
        for a, b in pairs:
            tests[f"{a} - {b}" + f": {group}" * bool(group)] = paired_test(
                frames[a], frames[b], cluster=cluster
            )
            about.append((f"`{a}`", f"`{b}`", "accuracy" + f" on {group}" * bool(group)))
    table = pd.DataFrame([vars(t) for t in tests.values()], index=list(tests)).dropna(
        axis=1, how="all"
    )
    table["p_holm"] = holm(table["p_value"])
    table["sentence"] = [
        sentence(replace(t, p_value=p), *words)
        for t, p, words in zip(tests.values(), table["p_holm"], about, strict=True)
    ]
    return table
