"""Intervals and paired tests over examples and seeds; sentences that claim no more than these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from hw2_utils.errors import require

LEVEL = 0.95
N_FLIPS = 10_000
TAIL = (1 - LEVEL) / 2
ALPHA = 0.05  # 1 - LEVEL is 0.05000000000000004
POWER = 0.8
EXACT_BELOW = 300  # examples; from there on the Wilson interval covers as it should
COUNT_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


# -------------------------------------------------------------------------------- estimates
@dataclass(frozen=True)
class Estimate:
    """A mean with its variances: over examples (or clusters of them), and over each method's seeds.

    `examples`, `seeds`: (variance, degrees of freedom) of each independent source; `n_units`: the
    examples or clusters.
    """

    value: float
    examples: tuple[float, float]
    n_units: int
    seeds: tuple[tuple[float, float], ...] = ()

    @property
    def variance(self) -> float:
        return self.examples[0] + sum(variance for variance, _ in self.seeds)

    @property
    def df(self) -> float:
        """Degrees of freedom of the summed variance (Satterthwaite 1946).

        Few seeds may lie close together by chance. Taken at its word, such a variance lets 9 % of
        false claims through (12,000 examples, two seeds with a standard deviation of a point), and
        13 % in a family of six. So in the degrees of freedom it counts twice, of two seeds 8 times.
        """
        parts = [self.examples]
        parts += [((8 if df == 1 else 2) * variance, df) for variance, df in self.seeds]
        spread = sum(variance**2 / df for variance, df in parts if variance > 0)
        total = sum(variance for variance, _ in parts)
        return total**2 / spread if spread > 0 else self.n_units - 1

    def margin(self, level: float = LEVEL) -> float:
        """Half of the t interval's width."""
        return float(special.stdtrit(self.df, (1 + level) / 2) * np.sqrt(self.variance))

    def p_value(self) -> float:
        """Two-sided t test of a mean of zero."""
        if self.variance == 0:
            return float(self.value == 0)
        return float(2 * special.stdtr(self.df, -abs(self.value) / np.sqrt(self.variance)))

    def detectable(self, level: float = LEVEL) -> float:
        """The smallest true mean that such a study shows with a power of 80 %."""
        critical = special.stdtrit(self.df, (1 + level) / 2)
        shift = special.nctdtrinc(self.df, 1 - POWER, critical)  # of the noncentral t
        return float(shift * np.sqrt(self.variance))


def variance_over_examples(values: Sequence[float], units: np.ndarray) -> tuple[float, float]:
    """Variance of the mean of `values` [n] over the units, and its degrees of freedom.

    `units` [n]: the number of each value's unit (0, 1, ... without gaps), an example or a cluster.
    Clusters differ in size, so the mean is a ratio: its variance is that of their summed residuals.
    Source: Cochran 1977, Sampling Techniques, section 9A.1 (one-stage cluster sampling).
    """
    array = np.asarray(values, dtype=float)
    residuals = np.bincount(units, weights=array - array.mean())
    n_units = len(residuals)
    if n_units == 1:
        return 0.0, 0.0
    return float(n_units / (n_units - 1) * (residuals**2).sum() / len(array) ** 2), n_units - 1


def variance_over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Variance of the mean of one value a seed, and its degrees of freedom."""
    return float(np.var(values, ddof=1) / len(values)), len(values) - 1


def share_interval(estimate: Estimate, n: int) -> tuple[float, float]:
    """95 % interval of a share of `n` examples, of which the estimate tells how much each is worth.

    It holds near 0 and 1 too: the effective number of examples, made smaller by clusters, by seeds
    and by few degrees of freedom, enters the Wilson interval, or below EXACT_BELOW examples the
    exact one of Clopper and Pearson. For independent examples alone that number is `n`.
    Source: Korn and Graubard 1998, Survey Methodology 24:193 (effective number, exact interval).
    """
    share = min(max(estimate.value, 0.0), 1.0)
    effective = float(estimate.n_units)  # where nothing varies; one unit counts as one example
    if estimate.n_units > 1:
        binomial = share * (1 - share) / (n - 1)
        if binomial > 0 and estimate.variance > 0:
            effective = n * min(binomial / estimate.variance, 1.0)
        few = special.stdtrit(n - 1, 1 - TAIL) / special.stdtrit(estimate.df, 1 - TAIL)
        effective *= min(few, 1.0) ** 2
    return _exact(share, effective, TAIL) if n < EXACT_BELOW else _wilson(share, effective)


def _exact(share: float, n: float, tail: float) -> tuple[float, float]:
    right, wrong = share * n, (1 - share) * n
    low = special.betaincinv(right, wrong + 1, tail) if right > 0 else 0.0
    high = special.betaincinv(right + 1, wrong, 1 - tail) if wrong > 0 else 1.0
    return float(low), float(high)


def _wilson(share: float, n: float) -> tuple[float, float]:
    z = -special.ndtri(TAIL)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # rounding mustn't move a bound past a share of 0 or 1
    return max(min(float(centre - half), share), 0.0), min(max(float(centre + half), share), 1.0)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a share of independent examples."""
    counts = n > 0 and 0 <= successes <= n
    require(counts, f"{successes} of {n}", where="wilson_interval", todo="count again")
    return _wilson(successes / n, n)


def resamples(n_units: int, *, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit occurs in each bootstrap resample: chunks, float [n_units, at most 250].

    In chunks, because 12,284 examples times 10,000 resamples do not fit a laptop's memory at once.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, n_resamples, 250):
        width = min(250, n_resamples - start)
        cells = rng.integers(n_units, size=(n_units, width)) * width + np.arange(width)
        counts = np.bincount(cells.ravel(), minlength=n_units * width)
        yield counts.reshape(n_units, width).astype(float)


# -------------------------------------------------------------------------------- alignment
def align(
    predictions: pd.DataFrame, *, cluster: str | None = None
) -> tuple[dict[str, dict[int | None, pd.DataFrame]], np.ndarray]:
    """Each method's predictions by seed, all in one order of examples, and each example's unit [n].

    Without seeds the one key is None. A unit is an example or, where given, a `cluster` (a column);
    they are numbered 0, 1, ... Raises InputError unless the predictions are of one split, a method
    has a seed in all rows or in none, and all hold the same examples: equal ids, each once, with
    equal label and cluster.
    """
    _check_examples(predictions, cluster)
    methods: dict[str, dict[int | None, pd.DataFrame]] = {}
    by_id = predictions.sort_values("id")
    for (method, seed), frame in by_id.groupby(["method", "seed"], dropna=False):
        methods.setdefault(method, {})[None if pd.isna(seed) else int(seed)] = frame
    mixed = [method for method, seeds in methods.items() if None in seeds and len(seeds) > 1]
    todo = "give all of a method's seeds or none"
    require(not mixed, f"{mixed} with and without a seed", where="predictions", todo=todo)
    return methods, pd.factorize(frame[cluster or "id"], sort=True)[0]


def groups_of(
    predictions: pd.DataFrame, by: pd.Series, *, sort: bool = True
) -> dict[str, pd.DataFrame]:
    """The predictions of each group; `by`: the group of each row, null for none."""
    todo = "make it from a column, as in predictions['id'].map(types)"
    same_index = by.index.equals(predictions.index)
    require(same_index, "another index than the predictions'", where="groups", todo=todo)
    return {str(name): rows for name, rows in predictions.groupby(by, sort=sort)}


def _check_examples(predictions: pd.DataFrame, cluster: str | None) -> None:
    """Refuses (InputError) several splits, and methods or seeds that differ in their examples."""
    where, todo = "predictions", "compare predictions of one and the same split and data"
    require(cluster in (None, *predictions), f"no column {cluster!r}", where=where, todo=todo)
    splits = predictions["split"].unique().tolist()
    require(len(splits) == 1, f"of the splits {splits}", where=where, todo=todo)
    columns = ["id", "label", *([cluster] if cluster else [])]
    null = predictions[[*columns, "prediction"]].isna().any(axis=1)
    bad = predictions["id"][null | predictions.duplicated(["id", "method", "seed"])]
    what = f"id {bad.head(1).tolist()} twice, or with a null in {columns} or its prediction"
    require(bad.empty, what, where=where, todo="mend the row")
    n_trainings = len(predictions[["method", "seed"]].drop_duplicates())
    counts = predictions.groupby(columns).size()
    absent = counts.index[counts < n_trainings].tolist()
    what = f"not all methods and seeds have the same {columns}, first {absent[:2]}"
    require(not absent, what, where=where, todo=todo)


# -------------------------------------------------------------------------------- paired tests
@dataclass(frozen=True)
class Paired:
    """Accuracy of method a minus that of method b on the same examples, as fractions (not points).

    `difference`, `low`, `high`, `p_value`: over seeds *and* examples; the last three are NaN where
    a method has one seed, since nothing is then known about others. `trained_low`, `trained_high`,
    `trained_p`: of these trained models alone, over examples. `level`: of both intervals.
    `seed_sd`: standard deviation of the difference over seeds. `detectable`: the difference that
    would have been shown with a power of 80 %; 1 where none could have been. `n`: examples;
    `n_clusters`: of them, None where examples stand alone. `n_seeds`: of the method that has fewer;
    0 where both are deterministic.
    """

    difference: float
    low: float
    high: float
    p_value: float
    trained_low: float
    trained_high: float
    trained_p: float
    seed_sd: float
    detectable: float
    n: int
    n_clusters: int | None
    n_seeds: int
    level: float = LEVEL


@dataclass(frozen=True)
class _Comparison:
    """What the outcome at any level is made from."""

    trained: Estimate
    whole: Estimate | None
    p_flips: float
    sizes: dict[str, Any]  # the fields of `Paired` that no level changes

    def at(self, level: float) -> Paired:
        whole = (np.nan, np.nan, np.nan)
        if self.whole:
            whole = (*_interval(self.whole, level), max(self.whole.p_value(), self.p_flips))
        return Paired(
            round(self.trained.value, 12),  # a mean that is zero may be 5e-16 off
            *whole,
            *_interval(self.trained, level),
            trained_p=max(self.trained.p_value(), self.p_flips),
            detectable=self.detectable(level),
            level=level,
            **self.sizes,
        )

    def detectable(self, level: float) -> float:
        if self.whole is None:
            return np.nan
        few = 0.5 ** (self.whole.n_units - 1) >= 1 - level  # no flips of so few are rarer
        return 1.0 if few else min(self.whole.detectable(level), 1.0)


def _interval(estimate: Estimate, level: float) -> tuple[float, float]:
    """The t interval; where no unit differs from another, what so many equal units show (exact)."""
    if estimate.variance == 0 and estimate.value != 0:
        least = _exact(1.0, estimate.n_units, (1 - level) / 2)[0]
        return tuple(sorted((round(estimate.value * least, 12), round(estimate.value, 12))))
    margin = estimate.margin(level)
    low, high = estimate.value - margin, estimate.value + margin
    return round(max(low, -1.0), 12), round(min(high, 1.0), 12)


def _correct(
    predictions: pd.DataFrame, cluster: str | None
) -> tuple[dict[str, dict[int | None, np.ndarray]], np.ndarray]:
    """For each method by seed whether it's right [n], in one order of examples, and their units."""
    is_right = predictions["label"] == predictions["prediction"]
    methods, units = align(predictions.assign(is_right=is_right), cluster=cluster)
    right = {
        method: {seed: frame["is_right"].to_numpy(float) for seed, frame in by_seed.items()}
        for method, by_seed in methods.items()
    }
    return right, units


def _comparison(
    right_a: Mapping[int | None, np.ndarray],
    right_b: Mapping[int | None, np.ndarray],
    units: np.ndarray,
    *,
    clustered: bool,
    n_flips: int = N_FLIPS,
) -> _Comparison:
    """Two methods' correctness (by seed [n]) on the same examples, each averaged over its seeds.

    The interval over seeds and examples is a t interval: squared standard error = variance over
    examples (or clusters) + variance over seeds / their number for each method, with the degrees
    of freedom of `Estimate.df`. A p-value is the larger one of that t test's and of flipping the
    sign of each example's (or cluster's) difference, which holds for few examples. Raises
    InputError where there are fewer than two units. Sources: Bouthillier et al. 2021, arXiv
    2103.03098 (several sources of variance); Phipson and Smyth 2010 (random flips).
    """
    mean_a, mean_b = (np.mean(list(right.values()), axis=0) for right in (right_a, right_b))
    difference = mean_a - mean_b
    n_units = int(units.max()) + 1
    what = f"{len(difference)} examples in {n_units} units"
    require(n_units > 1, what, where="paired test", todo="two units or more are needed")
    trained = Estimate(float(difference.mean()), variance_over_examples(difference, units), n_units)
    accuracies = [  # by seed, of each method that has seeds
        [values.mean() for values in right.values()]
        for right in (right_a, right_b)
        if None not in right
    ]
    n_seeds = min(map(len, accuracies), default=0)
    whole, seed_sd = None, np.nan  # one seed says nothing about others
    if n_seeds != 1:
        # Not paired by seed, although the numbers agree: two seeds would leave one degree of
        # freedom.
        whole = replace(trained, seeds=tuple(map(variance_over_seeds, accuracies)))
        seed_sd = float(np.sqrt(sum(np.var(values, ddof=1) for values in accuracies)))
    p_flips = _flips(np.bincount(units, weights=difference), n_flips)
    n_clusters = n_units if clustered else None
    sizes = {"seed_sd": seed_sd, "n": len(difference), "n_clusters": n_clusters, "n_seeds": n_seeds}
    return _Comparison(trained, whole, p_flips, sizes)


def _flips(sums: np.ndarray, n_flips: int) -> float:
    """Two-sided p of flipping each unit's sign at random; the observed signs count as one flip.

    Source: Phipson and Smyth 2010. Drawn is how many of the equally large sums come out positive.
    """
    size, count = np.unique(np.abs(sums).round(12), return_counts=True)
    positive = np.random.default_rng(0).binomial(count, 0.5, size=(n_flips, len(count)))
    extreme = np.abs((2 * positive - count) @ size) >= abs(sums.sum()) - 1e-6
    return float((1 + extreme.sum()) / (1 + n_flips))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values of one family of tests, in the order given (Holm 1979)."""
    p = pd.Series(list(p_values), dtype=float)
    todo = "all in [0, 1]"
    require(p.between(0, 1).all(), f"p-values {p.tolist()}", where="holm", todo=todo)
    adjusted = p.sort_values() * np.arange(len(p), 0, -1)
    return adjusted.cummax().clip(upper=1).sort_index().tolist()


def compare(
    predictions: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    *,
    cluster: str | None = None,
    by: pd.Series | None = None,
    overall: bool = True,
    metric: str = "accuracy",
) -> pd.DataFrame:
    """Paired tests of pairs of methods on one split, all as one family; a sentence each.

    Rows "a - b", and with `by` (a group for each row of `predictions`) also "a - b: group"; without
    `overall` these alone; a group in fewer than two units is left out. Columns: those of `Paired`,
    its intervals at the level at which Holm's method judges that row (so an interval excludes zero
    just where `p_holm` is below 5 %, unless so few examples differ that the flips decide),
    `p_holm`, `sentence`. A column that says nothing of any row (clusters, one seed) is left out.
    """
    blocks = {"": predictions} if overall else {}
    if by is not None:
        groups = groups_of(predictions, by).items()
        blocks |= {name: rows for name, rows in groups if rows[cluster or "id"].nunique() > 1}
    methods = {method for pair in pairs for method in pair}
    names, comparisons, words = [], [], []
    for group, block in blocks.items():
        rows = block[block["method"].isin(methods)]
        missing = sorted(methods - set(rows["method"]))
        what, todo = f"no predictions of {missing} {group}", "name methods that are there"
        require(not missing, what, where="compare", todo=todo)
        right, units = _correct(rows, cluster)
        for a, b in pairs:
            names.append(f"{a} - {b}" + f": {group}" * bool(group))
            words.append((f"`{a}`", f"`{b}`", metric + f" on {group}" * bool(group)))
            clustered = cluster is not None
            comparisons.append(_comparison(right[a], right[b], units, clustered=clustered))
    return _family(names, comparisons, words)


def _family(
    names: list[str], comparisons: list[_Comparison], words: list[tuple[str, str, str]]
) -> pd.DataFrame:
    """The table of `compare`; `words`: the two methods and the metric in each sentence."""
    plain = [comparison.at(LEVEL) for comparison in comparisons]
    over_seeds = np.array([test.p_value for test in plain])
    trained = np.array([test.trained_p for test in plain])
    # where one seed says nothing about others, the family is judged for the trained models
    judged = np.where(np.isnan(over_seeds), trained, over_seeds)
    adjusted = holm(judged)
    tests = [
        comparison.at(_holm_level(p, p_holm, len(plain)))
        for comparison, p, p_holm in zip(comparisons, judged, adjusted, strict=True)
    ]
    table = pd.DataFrame([vars(test) for test in tests], index=names)
    table["p_holm"] = np.where(np.isnan(over_seeds), np.nan, adjusted)
    table["sentence"] = [
        sentence(replace(test, p_value=p_holm, trained_p=p), *about, n_tests=len(tests))
        for test, p_holm, p, about in zip(tests, table["p_holm"], holm(trained), words, strict=True)
    ]
    return table.dropna(axis=1, how="all") if names else table


def _holm_level(p: float, adjusted: float, n_tests: int) -> float:
    """The level of an interval that excludes zero just where the adjusted p-value is below 5 %."""
    times = n_tests if adjusted >= 1 or p == 0 else min(max(adjusted / p, 1.0), n_tests)
    return 1 - ALPHA / times


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of `compare`'s table.

    Intervals of trained models alone are left to the sentences.
    """
    names = {"seed_sd": "SD over seeds", "detectable": "detectable at 80 % power"}
    wanted = ["difference", "low", "high", "level", "p_holm", *names, "n", "n_clusters", "n_seeds"]
    return table[[c for c in wanted if c in table]].rename(columns=names)


# -------------------------------------------------------------------------------- sentences
def points(fraction: float) -> str:
    """Signed percentage points; what is not zero never prints as zero."""
    fraction = round(fraction, 12) + 0.0  # what is hardly off zero is zero, and zero has no minus
    text = f"{100 * fraction:+.1f}"
    return text if float(text) or not fraction else f"{100 * fraction:+.1g}"


def p_text(p: float) -> str:
    """A p-value in words; one that is below 5 % never looks like 5 %."""
    if p < 0.001:
        return "p < 0.001"
    return f"p < {ALPHA}" if p < ALPHA <= round(p, 3) else f"p = {p:.3f}"


def sentence(
    paired: Paired, name_a: str, name_b: str, metric: str = "accuracy", *, n_tests: int = 1
) -> str:
    """One sentence for a comparison, no wider than what was shown.

    It names a leader only where interval and test over seeds and examples show a difference; what
    holds for the trained models alone is said of them; else it says which difference would have
    been shown. In a family of `n_tests` comparisons hand in the adjusted p-values and the intervals
    of that level.
    """
    p = p_text(paired.p_value)
    if n_tests > 1:
        p += f" after Holm over {n_tests} comparisons"
    # the NaN of one seed excludes nothing
    if _excludes_zero(paired.low, paired.high) and paired.p_value < ALPHA:
        verb = "leads" if paired.difference > 0 else "trails"
        return f"{name_a} {verb} {name_b} in {metric} ({_evidence(paired, p)})."
    trained_differ = _excludes_zero(paired.trained_low, paired.trained_high)
    if paired.n_seeds and trained_differ and paired.trained_p < ALPHA:
        verb = "is ahead of" if paired.difference > 0 else "is behind"
        return f"{_trainings(paired)} {name_a} {verb} {name_b} in {metric} {_limits(paired, p)}"
    start = f"No difference shown in {metric} between {name_a} and {name_b}"
    if paired.difference == paired.trained_low == paired.trained_high == 0:
        unit = "cluster" if paired.n_clusters else "example"
        return f"{start} (equal on every {unit}, {_sizes(paired)})."
    return f"{start} ({_evidence(paired, p)}; {_power(paired)})."


def _trainings(paired: Paired) -> str:
    n = paired.n_seeds
    count = COUNT_WORDS[n] if n < len(COUNT_WORDS) else n
    return f"Of these trainings ({count} seed{'s' * (n > 1)})"


def _limits(paired: Paired, p: str) -> str:
    """What a difference between trained models shows, and what it doesn't."""
    if paired.n_seeds == 1:
        return f"({_of_trained(paired)}); {_power(paired)}."
    bounds = f"{points(paired.low)} to {points(paired.high)}"
    over_seeds = f"over seeds no difference is shown ({bounds}, {p}; {_power(paired)})"
    return f"({_of_trained(paired)}); {over_seeds}."


def _excludes_zero(low: float, high: float) -> bool:
    return low > 0 or high < 0


def _sizes(paired: Paired) -> str:
    clusters = f" in {paired.n_clusters:,} clusters" if paired.n_clusters else ""
    seeds = f", {paired.n_seeds} seeds" if paired.n_seeds > 1 else ""
    return f"n = {paired.n:,}{clusters}{seeds}"


def _evidence(paired: Paired, p: str) -> str:
    if np.isnan(paired.low):
        return _of_trained(paired)
    over = "over seeds and examples " if paired.n_seeds else ""
    return f"{_measured(paired, over, paired.low, paired.high)}, {p}, {_sizes(paired)}"


def _of_trained(paired: Paired) -> str:
    interval = paired.trained_low, paired.trained_high
    return f"{_measured(paired, 'over examples ', *interval)}, n = {paired.n:,}"


def _measured(paired: Paired, over: str, low: float, high: float) -> str:
    difference = f"{points(paired.difference)} percentage points"
    level = f"{100 * paired.level:.3g} %"
    return f"{difference}, {level} interval {over}{points(low)} to {points(high)}"


def _power(paired: Paired) -> str:
    """What such a study could have shown."""
    if paired.n_seeds == 1:
        return "one seed says nothing about others"
    if paired.detectable >= 1:
        few = "seeds or examples" if paired.n_seeds else "examples"
        return f"with so few {few} no difference at all could have been shown"
    if _excludes_zero(paired.low, paired.high):
        return "too few examples differ for more"
    return f"{100 * paired.detectable:.1f} points would have been shown with a power of 80 %"


# -------------------------------------------------------------------------------- ranking
def pair_wins(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Whether each positive's score beats each negative's: 1, 0, or 1/2 [n_positive, n_negative].

    Their mean is the AUROC, the means of rows and columns are its components.
    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837.
    """
    return (positive[:, None] > negative) + (positive[:, None] == negative) / 2.0


def auroc_difference(frame_a: pd.DataFrame, frame_b: pd.DataFrame, positive: str) -> Paired:
    """AUROC of deterministic method a minus that of b on the same examples, by DeLong's test.

    Scores are log-probability differences in `log_probs` (two classes); the class `positive` is the
    one whose second place it holds. Raises InputError with fewer than two examples of a class.
    """
    methods, _ = align(pd.concat([frame_a, frame_b]))
    frames = [methods[frame["method"].iloc[0]][None] for frame in (frame_a, frame_b)]
    is_positive = (frames[0]["label"] == positive).to_numpy()
    n, fewer = len(is_positive), min(is_positive.sum(), (~is_positive).sum())
    what = f"{fewer} of {n} examples in the smaller class"
    require(fewer > 1, what, where="auroc_difference", todo="two of each class are needed")
    scores = [np.diff(np.stack(frame["log_probs"]))[:, 0] for frame in frames]
    wins_a, wins_b = (pair_wins(s[is_positive], s[~is_positive]) for s in scores)
    difference = wins_a - wins_b
    components = difference.mean(axis=1), difference.mean(axis=0)
    variance = sum(np.var(values, ddof=1) / len(values) for values in components)
    estimate = Estimate(float(difference.mean()), (float(variance), n - 2), n)
    rarest = 0.5 ** (n - 1)  # of swapping the methods' scores example by example
    sizes = {"seed_sd": 0.0, "n": n, "n_clusters": None, "n_seeds": 0}
    return _Comparison(estimate, estimate, rarest, sizes).at(LEVEL)


# -------------------------------------------------------------------------------- question types
def normalised_accuracy(frame: pd.DataFrame, types: Sequence[str]) -> dict[str, float]:
    """Per question type the mean accuracy over its unique gold answers (their mean is N-MPT).

    `types` [n]: the type of each row of the predictions. Source: TDIUC, Kafle and Kanan 2017.
    """
    right = frame["label"].eq(frame["prediction"])
    correct = right.groupby([np.asarray(types), frame["label"]]).mean()
    return correct.groupby(level=0).mean().to_dict()


def mean_per_type(accuracy_by_type: Mapping[str, float]) -> dict[str, float]:
    """Arithmetic and harmonic mean over question types (A-MPT, H-MPT); one zero makes H-MPT zero.

    Raises InputError without types and for a value outside [0, 1].
    Source: TDIUC, Kafle and Kanan 2017.
    """
    values = np.array(list(accuracy_by_type.values()), dtype=float)
    are_fractions = len(values) > 0 and ((values >= 0) & (values <= 1)).all()
    what = f"accuracies {dict(accuracy_by_type)}"
    todo = "hand in a fraction in [0, 1] for each type"
    require(are_fractions, what, where="mean_per_type", todo=todo)
    return {"arithmetic": float(values.mean()), "harmonic": float(stats.hmean(values))}
