"""Intervals, paired tests and sentences against scipy, statsmodels, work by hand, simulation."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from hw2_utils import inference
from hw2_utils.errors import Hw2Error
from hw2_utils.inference import (
    Estimate,
    Paired,
    auroc_difference,
    compare,
    holm,
    mean_per_type,
    normalised_accuracy,
    p_text,
    pair_wins,
    points,
    resamples,
    sentence,
    share_interval,
    variance_over_examples,
    variance_over_seeds,
    wilson_interval,
)


def predictions(correct, *, method="m", split="test", clusters=None, seeds=None):
    """A frame from correct [seeds, n]; one row of `correct` without `seeds` is deterministic."""
    correct = np.atleast_2d(correct)
    n = correct.shape[1]
    if seeds is None:
        seeds = range(len(correct)) if len(correct) > 1 else [None]
    parts = []
    for seed, row in zip(seeds, correct, strict=True):
        part = pd.DataFrame(
            {
                "id": [f"q{i:05d}" for i in range(n)],
                "split": split,
                "method": method,
                "seed": pd.array([seed] * n, dtype="Int64"),
                "label": "yes",
                "prediction": np.where(row, "yes", "no"),
            }
        )
        if clusters is not None:
            part["image_id"] = [f"image{c}" for c in clusters]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def together(**correct):
    """One frame of several methods: name -> correct [seeds, n]."""
    parts = [predictions(rows, method=name) for name, rows in correct.items()]
    return pd.concat(parts, ignore_index=True)


def paired_test(frame_a, frame_b, *, cluster=None):
    """The test of one pair of methods, as `compare` makes each of a family."""
    rows = pd.concat([frame_a, frame_b], ignore_index=True)
    methods, units = inference._correct(rows, cluster)
    right = [methods[frame["method"].iloc[0]] for frame in (frame_a, frame_b)]
    return inference._comparison(*right, units, clustered=cluster is not None).at(0.95)


def share(values, units=None):
    values = np.asarray(values, dtype=float)
    units = np.arange(len(values)) if units is None else np.asarray(units)
    return Estimate(values.mean(), variance_over_examples(values, units), int(units.max()) + 1)


def at_most(rate, runs):
    """How many of the runs may show what happens at this rate (999 of 1,000 simulations do)."""
    return stats.binom.ppf(0.999, runs, rate)


# -------------------------------------------------------------------------------- estimates
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=40).filter(lambda v: len(set(v)) > 1))
def test_without_seeds_or_clusters_it_is_the_t_test(values):
    estimate = share(values)
    expected = stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.9)
    assert estimate.p_value() == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert estimate.value - estimate.margin(0.9) == pytest.approx(interval.low, rel=1e-6, abs=1e-9)
    assert estimate.df == pytest.approx(len(values) - 1)


def test_over_examples_is_the_cluster_robust_variance():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(30), rng.integers(1, 9, size=30))
    values = rng.normal(size=len(units)) + rng.normal(size=30)[units]
    fitted = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": units, "use_correction": False}
    )
    variance, df = variance_over_examples(values, units)
    assert (variance, df) == (pytest.approx(fitted.bse[0] ** 2 * 30 / 29), 29)
    assert variance_over_examples([0.3, 0.7], np.array([0, 0])) == (0.0, 0.0)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(2, 5))
def test_clusters_of_one_are_examples_and_copies_add_no_information(values, copies):
    single = variance_over_examples(values, np.arange(len(values)))
    expected = np.var(values, ddof=1) / len(values)
    assert single == (pytest.approx(expected, abs=1e-15), len(values) - 1)
    copied = variance_over_examples(
        np.repeat(values, copies), np.repeat(np.arange(len(values)), copies)
    )
    assert copied == pytest.approx(single, abs=1e-15)


def test_degrees_of_freedom_by_hand():
    plain = Estimate(0.1, (4.0, 10.0), 11)
    assert plain.df == pytest.approx(10)
    three = replace(plain, seeds=((1.0, 2.0), (0.5, 4.0)))  # three and five seeds: twice
    assert three.df == pytest.approx((4 + 2 + 1) ** 2 / (16 / 10 + 4 / 2 + 1 / 4))
    assert three.variance == pytest.approx(5.5)
    two = replace(plain, seeds=((1.0, 1.0),))  # two seeds: eight times
    assert two.df == pytest.approx((4 + 8) ** 2 / (16 / 10 + 64 / 1))
    assert replace(plain, seeds=((0.0, 1.0),)).df == pytest.approx(10)
    assert variance_over_seeds([0.6, 0.7, 0.8]) == (pytest.approx(0.01 / 3), 2)


@pytest.mark.parametrize("estimate", [share([0, 1, 1, 0, 1] * 9), share([1, 0, 0, 1])])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_the_detectable_mean_has_a_power_of_80_percent_by_the_noncentral_t(estimate, level):
    shift = estimate.detectable(level) / np.sqrt(estimate.variance)
    critical = stats.t.isf((1 - level) / 2, estimate.df)
    assert stats.nct.sf(critical, estimate.df, shift) == pytest.approx(0.8, abs=1e-5)


# -------------------------------------------------------------------------------- shares
COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_plain_shares_have_the_textbook_interval(counts):
    right, n = counts
    kind = "exact" if n < 300 else "wilson"
    expected = stats.binomtest(right, n).proportion_ci(method=kind)
    got = share_interval(share([1] * right + [0] * (n - right)), n)
    assert got == pytest.approx((expected.low, expected.high), abs=1e-9)
    other = proportion_confint(right, n, method="beta" if n < 300 else "wilson")
    assert got == pytest.approx(tuple(map(float, other)), abs=1e-9)


@given(COUNTS)
def test_wilson_interval_equals_statsmodels(counts):
    expected = proportion_confint(*counts, method="wilson")
    assert wilson_interval(*counts) == pytest.approx(tuple(map(float, expected)), abs=1e-12)


def test_wilson_interval_refuses_impossible_counts():
    for counts in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(Hw2Error):
            wilson_interval(*counts)


def test_shares_at_the_edges():
    assert share_interval(share([1] * 7), 7) == (pytest.approx(0.025 ** (1 / 7)), 1.0)
    assert share_interval(share([0] * 24), 24) == (0.0, pytest.approx(1 - 0.025 ** (1 / 24)))
    assert share_interval(share([1]), 1) == (pytest.approx(0.025), 1.0)
    # a cluster whose examples all agree is one example
    agreeing = share([1] * 40, np.repeat(np.arange(8), 5))
    low, high = share_interval(agreeing, 40)
    assert low < stats.binomtest(8, 8).proportion_ci().low + 1e-9 and high == 1.0
    # one cluster counts as one example, however large it is, and whatever its seeds say
    for seeds in ((), ((1e-9, 1.0),), ((0.0, 1.0),)):
        for n in (4, 1000):
            one = Estimate(0.5, (0.0, 0.0), 1, seeds)
            low, high = share_interval(one, n)
            assert low < 0.06 and high > 0.94
    # shares of 0 and 1 with clusters and seeds
    for value in (0.0, 1.0):
        sure = Estimate(value, (0.0, 30.0), 31, ((0.0, 2.0),))
        low, high = share_interval(sure, 90)
        assert (
            (low == 0) == (value == 0) and (high == 1) == (value == 1) and 0.05 < high - low < 0.2
        )


@settings(max_examples=60)
@given(st.integers(2, 400), st.integers(0, 2**16), st.floats(0, 1), st.sampled_from([1, 2, 3]))
def test_share_intervals_hold_their_share_stay_in_range_and_widen_with_copies(n, seed, p, size):
    rng = np.random.default_rng(seed)
    values = (rng.random(n) < p).astype(float)
    low, high = share_interval(share(values), n)
    assert 0 <= low <= values.mean() <= high <= 1 and high - low > 0
    units = np.repeat(np.arange(n), size)
    wide = share_interval(share(np.repeat(values, size), units), n * size)
    if (n < 300) == (n * size < 300):  # else another interval is used
        assert wide[0] <= low + 1e-9 and wide[1] >= high - 1e-9


@pytest.mark.parametrize("n", [7, 24, 120, 299, 300, 486, 1500, 12_000])
def test_plain_shares_are_covered_as_often_as_said(n):
    """Not by simulation: the probability of each count is known."""
    counts = np.arange(n + 1)
    if n > 1000:
        counts = counts[:: n // 500]
    for p in (0.05, 0.2, 0.5, 0.8, 0.95, 0.97, 0.99):
        # the counts whose interval holds p are neighbours: find the first and the last one
        spread = int(6 * np.sqrt(n * p * (1 - p))) + 6
        near = range(max(int(n * p) - spread, 0), min(int(n * p) + spread, n) + 1)
        inside = [k for k in near if _holds(k, n, p)]
        coverage = stats.binom.pmf(inside, n, p).sum()
        assert coverage >= (0.95 if n < 300 else 0.93), (n, p, coverage)
        assert coverage <= (1 if n < 300 else 0.975), (n, p, coverage)


def _holds(right, n, p):
    value = right / n
    estimate = Estimate(value, (value * (1 - value) / (n - 1), n - 1), n)
    low, high = share_interval(estimate, n)
    return low <= p <= high


def covered(rng, *, n, p, runs, per_cluster=1, n_seeds=0, sd=0.0):
    """How many of the runs' intervals hold the true share p of examples and seeds to come."""
    hits = 0
    for _ in range(runs):
        units = np.arange(n)
        if per_cluster > 1:
            drawn = rng.integers(n // per_cluster, size=n)
            units = np.unique(drawn, return_inverse=True)[1]
        chance = rng.beta(8 * p, 8 * (1 - p), size=units.max() + 1)[units]
        shifts = sd * rng.normal(size=(max(n_seeds, 1), 1))
        right = rng.random((len(shifts), n)) < chance + shifts
        seeds = (variance_over_seeds(right.mean(axis=1)),) if n_seeds else ()
        low, high = share_interval(replace(share(right.mean(axis=0), units), seeds=seeds), n)
        hits += low <= p <= high
    return hits


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8, 0.95, 0.99])
def test_clustered_shares_are_covered_as_often_as_said(p):
    rng = np.random.default_rng(int(100 * p))
    for n, runs, least in ((120, 1500, 0.95), (300, 1500, 0.93), (1500, 1500, 0.93)):
        hits = covered(rng, n=n, p=p, runs=runs, per_cluster=5)
        assert runs - hits <= at_most(1 - least, runs), (n, p, hits / runs)
        if n >= 1500:
            assert runs - hits >= stats.binom.ppf(0.001, runs, 0.03), (n, p, hits / runs)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("per_cluster", [1, 5])
def test_shares_over_seeds_are_covered_at_least_93_times_in_100(n_seeds, per_cluster):
    rng = np.random.default_rng(n_seeds)
    for n, p, sd in itertools.product((120, 300, 1500), (0.5, 0.9), (0.0, 0.01)):
        hits = covered(rng, n=n, p=p, runs=600, per_cluster=per_cluster, n_seeds=n_seeds, sd=sd)
        assert 600 - hits <= at_most(0.07, 600), (n, p, sd, hits / 600)


# -------------------------------------------------------------------------------- paired tests
def test_worked_example_two_seeds_against_the_majority():
    """Accuracies .667 and .517 of 120 examples; the majority class is right on 45 (.375)."""
    i = np.arange(120)
    model = predictions([i < 80, i < 62], method="model")
    majority = predictions((i >= 60) & (i < 105), method="majority")
    got = paired_test(model, majority)
    # differences: 60 of +1, 2 of 0, 18 of -1/2, 25 of -1, 15 of 0
    difference = (60 - 9 - 25) / 120
    examples = (60 + 4.5 + 25 - 120 * difference**2) / 119 / 120
    seeds = ((80 - 62) / 120) ** 2 / 2 / 2
    df = (examples + 8 * seeds) ** 2 / (examples**2 / 119 + (8 * seeds) ** 2)
    t = difference / np.sqrt(examples + seeds)
    margin = stats.t.isf(0.025, df) * np.sqrt(examples + seeds)
    assert got.difference == pytest.approx(0.21667, abs=1e-5)
    assert got.seed_sd == pytest.approx(0.15 / np.sqrt(2))
    assert (got.low, got.high) == pytest.approx((difference - margin, min(difference + margin, 1)))
    assert got.p_value == pytest.approx(2 * stats.t.sf(t, df))
    trained = stats.t.isf(0.025, 119) * np.sqrt(examples)
    assert (got.trained_low, got.trained_high) == pytest.approx(
        (difference - trained, difference + trained)
    )
    assert (got.n, got.n_clusters, got.n_seeds, got.level) == (120, None, 2, 0.95)
    assert sentence(got, "`model`", "`majority`") == (
        "Of these trainings (two seeds) `model` is ahead of `majority` in accuracy (+21.7 "
        "percentage points, 95 % interval over examples +6.5 to +36.8, n = 120); over seeds no "
        "difference is shown (-61.2 to +100.0, p = 0.248; with so few seeds or examples no "
        "difference at all could have been shown)."
    )


def test_the_flip_p_value_equals_the_enumeration_of_all_flips():
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(10), [1, 2, 3, 4, 1, 2, 3, 4, 2, 3])
    a, b = rng.random((3, 25)) < 0.75, rng.random((2, 25)) < 0.5
    difference = a.mean(axis=0) - b.mean(axis=0)
    for units in (np.arange(12), clusters):
        sums = np.bincount(units, weights=difference[: len(units)])
        signs = np.array(list(itertools.product((-1, 1), repeat=len(sums))))
        exact = (np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).mean()
        assert inference._flips(sums, 50_000) == pytest.approx(exact, abs=0.01)
    assert inference._flips(np.ones(40), 99) == pytest.approx(1 / 100)  # never zero


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_deterministic_pairs_agree_with_exact_mcnemar_and_turn_with_the_order(pairs):
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    there = paired_test(predictions(a), predictions(b, method="b"))
    back = paired_test(predictions(b, method="b"), predictions(a))
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    exact = mcnemar(table, exact=True).pvalue if (a != b).any() else 1.0
    assert there.p_value >= exact - 0.03  # the larger one of two tests
    if len(pairs) >= 30 and (a != b).sum() >= 15:
        assert there.p_value == pytest.approx(exact, abs=0.06)
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low)
    )
    assert (back.p_value, back.detectable) == (there.p_value, pytest.approx(there.detectable))
    assert there.low <= there.difference <= there.high
    assert (there.low, there.high) == (there.trained_low, there.trained_high)
    assert there.n_seeds == 0 and there.seed_sd == 0


def test_the_order_of_rows_and_the_names_of_seeds_do_not_matter():
    rng = np.random.default_rng(6)
    clusters = rng.integers(12, size=50)
    right = rng.random((2, 3, 50)) < [[[0.7]], [[0.5]]]
    a, b = (predictions(r, clusters=clusters, method=m) for r, m in zip(right, "ab", strict=True))
    expected = paired_test(a, b, cluster="image_id")
    mixed = [f.sample(frac=1, random_state=i) for i, f in enumerate((a, b))]
    assert paired_test(*mixed, cluster="image_id") == expected
    renamed = predictions(right[0][[2, 0, 1]], clusters=clusters, method="a", seeds=[4, 9, 30])
    got = paired_test(renamed, b, cluster="image_id")
    assert vars(got) == pytest.approx(vars(expected))


def test_differing_seed_sets_count_as_the_fewer():
    rng = np.random.default_rng(1)
    two, five = rng.random((2, 90)) < 0.6, rng.random((5, 90)) < 0.6
    got = paired_test(predictions(two), predictions(five, method="b", seeds=[7, 8, 9, 10, 11]))
    assert got.n_seeds == 2
    variance = np.var(two.mean(axis=1), ddof=1) + np.var(five.mean(axis=1), ddof=1)
    assert got.seed_sd == pytest.approx(np.sqrt(variance))
    one = paired_test(predictions(two[:1], seeds=[3]), predictions(five, method="b"))
    assert one.n_seeds == 1
    assert np.isnan([one.low, one.high, one.p_value, one.seed_sd, one.detectable]).all()
    assert "one seed says nothing about others" in sentence(one, "a", "b")


def test_where_no_unit_differs_from_another_the_interval_is_that_of_so_many_equal_units():
    sure = paired_test(predictions([True] * 40), predictions([False] * 40, method="b"))
    assert (sure.low, sure.high) == (pytest.approx(0.025 ** (1 / 40)), 1.0)
    assert sure.p_value == pytest.approx(1 / 10_001)
    few = paired_test(predictions([False] * 3), predictions([True] * 3, method="b"))
    assert (few.low, few.high) == (-1.0, pytest.approx(-(0.025 ** (1 / 3))))
    assert few.p_value == pytest.approx(0.25, abs=0.02)
    assert sentence(few, "a", "b") == (
        "No difference shown in accuracy between a and b (-100.0 percentage points, 95 % interval "
        f"-100.0 to -29.2, {p_text(few.p_value)}, n = 3; with so few examples no difference at all "
        "could have been shown)."
    )
    # the same, with seeds that all agree
    right = np.ones((3, 40), bool)
    agreed = paired_test(predictions(right), predictions(~right, method="b"))
    assert (agreed.low, agreed.high, agreed.seed_sd) == (sure.low, 1.0, 0.0)
    assert sentence(agreed, "a", "b").startswith("a leads b")


def test_clusters_that_cancel_are_not_called_equal_on_every_example():
    right = np.array([True, False] * 8)
    clusters = np.arange(16) // 2
    a, b = predictions(right, clusters=clusters), predictions(~right, clusters=clusters, method="b")
    assert sentence(paired_test(a, b, cluster="image_id"), "a", "b") == (
        "No difference shown in accuracy between a and b "
        "(equal on every cluster, n = 16 in 8 clusters)."
    )


def test_paired_test_refuses_frames_that_are_not_pairs_and_names_the_first_difference():
    base = predictions([True, False, True], clusters=[0, 0, 1])
    other = base.assign(method="other")
    relabelled = other.assign(label=["yes", "no", "yes"])
    for frame, message in [
        (other[:2], "q00002"),
        (relabelled, "q00001.*no"),
        (other.assign(split="val"), "val"),
        (other.assign(image_id=["image0", "image1", "image1"]), "q00001.*image"),
        (other.drop(columns="image_id"), "image_id"),
        (pd.concat([other, other]), "q00000.*twice"),
        (other.assign(prediction=["yes", None, "yes"]), "q00001.*null"),
        (pd.concat([other, base]), "q00000.*twice"),
        (pd.concat([other, other.assign(seed=1)]), "other.*with and without a seed"),
        (pd.concat([other.assign(seed=0), other[:2].assign(seed=1)]), "q00002"),
    ]:
        for pair in ((base, frame), (frame, base)):
            with pytest.raises(Hw2Error, match=message):
                paired_test(*pair, cluster="image_id")
    with pytest.raises(Hw2Error, match="1 units"):
        paired_test(base[:2], other[:2], cluster="image_id")


# -------------------------------------------------------------------------------- families
@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_equals_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_holm_refuses_what_is_not_a_p_value():
    assert holm([]) == []
    for bad in ([0.1, np.nan], [1.2], [-0.1]):
        with pytest.raises(Hw2Error):
            holm(bad)


def random_family(seed, n, n_seeds, n_methods=4):
    rng = np.random.default_rng(seed)
    base = rng.random(n)
    skills = rng.choice([0.4, 0.5, 0.6, 0.8], size=n_methods)
    drawn = {
        f"m{k}": base * 0.5 + rng.random((n_seeds, n)) * 0.5 < skill
        for k, skill in enumerate(skills)
    }
    return together(**drawn, fixed=rng.random((1, n)) < 0.5)


@settings(max_examples=12)
@given(st.integers(0, 2**16), st.integers(2, 150), st.sampled_from([1, 2, 3]))
def test_in_a_family_interval_test_and_sentence_agree(seed, n, n_seeds):
    frame = random_family(seed, n, n_seeds)
    pairs = list(itertools.combinations(["m0", "m1", "m2", "m3", "fixed"], 2))
    table = compare(frame, pairs)
    again = compare(frame, pairs[::-1]).loc[table.index]
    pd.testing.assert_frame_equal(table, again, check_exact=False)
    turned = compare(frame, [(b, a) for a, b in pairs])
    assert turned["trained_p"].to_numpy() == pytest.approx(table["trained_p"].to_numpy())
    if n_seeds > 1:
        assert table["p_holm"].tolist() == pytest.approx(holm(table["p_value"]))
    for (a, b), (_, row) in zip(pairs, table.iterrows(), strict=True):
        p_holm = row.get("p_holm", np.nan)
        if np.isnan(p_holm):
            assert "leads" not in row["sentence"] and "trails" not in row["sentence"]
            continue
        excludes = row["low"] > 0 or row["high"] < 0
        right, units = inference._correct(frame[frame["method"].isin([a, b])], None)
        one = inference._comparison(right[a], right[b], units, clustered=False, n_flips=10_000)
        flips_decide = one.p_flips > one.whole.p_value()
        assert excludes == (p_holm < 0.05) or (flips_decide and excludes)
        claims = " leads " in row["sentence"] or " trails " in row["sentence"]
        assert claims == (excludes and p_holm < 0.05)


def test_compare_by_group_is_one_family_and_leaves_out_what_it_cannot_compare():
    rng = np.random.default_rng(3)
    frame = together(a=rng.random((2, 60)) < 0.9, b=rng.random((2, 60)) < 0.4)
    number = frame["id"].str[1:].astype(int)
    by = number.map(lambda i: "one" if i == 0 else ["odd", "even", None][i % 3])
    table = compare(frame, [("a", "b")], by=by, metric="hit rate")
    assert table.index.tolist() == ["a - b", "a - b: even", "a - b: odd"]
    assert table["n"].tolist() == [60, 20, 19]
    assert "n_clusters" not in table and table["level"].nunique() > 1
    assert all("after Holm over 3 comparisons" in s for s in table["sentence"])
    assert "in hit rate on even" in table["sentence"]["a - b: even"]
    alone = compare(frame, [("a", "b")], by=by, overall=False)
    assert alone.index.tolist() == ["a - b: even", "a - b: odd"]
    nothing = compare(frame, [("a", "b")], by=by.where(by == "one"), overall=False)
    assert len(nothing) == 0 and nothing["sentence"].tolist() == []
    with pytest.raises(Hw2Error, match="index"):
        compare(frame, [("a", "b")], by=by.reset_index(drop=True)[::-1])
    with pytest.raises(Hw2Error, match="'c'"):
        compare(frame, [("a", "c")])


def test_a_group_in_one_cluster_is_left_out():
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(10), 4)
    frames = [predictions(rng.random(40) < p, method=m, clusters=clusters) for m, p in AB]
    frame = pd.concat(frames, ignore_index=True)
    by = frame["image_id"].map(lambda image: "first" if image == "image0" else "rest")
    table = compare(frame, [("a", "b")], by=by, cluster="image_id")
    assert table.index.tolist() == ["a - b", "a - b: rest"]
    assert table["n_clusters"].tolist() == [10, 9]


AB = (("a", 0.7), ("b", 0.5))


# -------------------------------------------------------------------------------- simulations
N_RUNS = 3000
SEEDED, FIXED = ((0.0, 0.0), (0.005, 0.005), (0.01, 0.01), (0.01, 0.0)), ((0.0,), (0.005,), (0.01,))


def variances(n_units, n_seeds, sds, noise):
    """The true variances: of the mean over units, and of one method's mean over its seeds.

    Methods differ on 30 % of examples of their own; of a seed's errors `noise` are its own.
    """
    examples = (0.3 + noise / n_seeds * len(sds)) / n_units
    return examples, [(sd**2 + noise / n_units) / n_seeds for sd in sds]


def studies(rng, *, n_units, n_seeds, sds, noise=0.05, mean=0.0, runs=N_RUNS):
    """Estimates of as many studies: methods with seeds whose deviations are `sds`."""
    examples, seeds = variances(n_units, n_seeds, sds, noise)
    value = mean + rng.normal(size=runs) * np.sqrt(0.3 / n_units)
    found = []
    for sign, variance in zip((1, -1), seeds, strict=False):
        accuracy = rng.normal(size=(n_seeds, runs)) * np.sqrt(variance * n_seeds)
        value = value + sign * accuracy.mean(axis=0)
        found.append(accuracy.var(axis=0, ddof=1) / n_seeds)
    seen = examples * rng.chisquare(n_units - 1, size=runs) / (n_units - 1)
    for run in range(runs):
        parts = tuple((float(own[run]), n_seeds - 1) for own in found)
        yield Estimate(float(value[run]), (float(seen[run]), n_units - 1), n_units, parts)


def claims(estimates):
    return sum(estimate.p_value() < 0.05 for estimate in estimates)


# 300 examples in 60 clusters to 12,000 alone
@pytest.mark.parametrize("n_units", [60, 300, 2400, 12_000])
@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_at_most_7_in_100_equal_methods_are_told_apart(n_seeds, n_units):
    rng = np.random.default_rng(n_seeds * n_units)
    for sds in SEEDED + FIXED:
        for noise in (0.02, 0.1):
            found = claims(studies(rng, n_units=n_units, n_seeds=n_seeds, sds=sds, noise=noise))
            assert found <= at_most(0.07, N_RUNS), (sds, noise, found / N_RUNS)


@pytest.mark.parametrize("n_units", [60, 300, 12_000])
@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_a_difference_with_80_percent_power_is_claimed_about_8_times_in_10(n_seeds, n_units):
    rng = np.random.default_rng(n_seeds + n_units)
    for sds in SEEDED + FIXED:
        examples, seeds = variances(n_units, n_seeds, sds, 0.05)
        parts = tuple((variance, n_seeds - 1) for variance in seeds)
        mean = Estimate(0.0, (examples, n_units - 1), n_units, parts).detectable()
        found = claims(studies(rng, n_units=n_units, n_seeds=n_seeds, sds=sds, mean=mean))
        least = 0.7 if n_seeds > 2 else 0.45  # two seeds: how far they lie apart is chance
        assert found >= stats.binom.ppf(0.001, N_RUNS, least), (sds, found / N_RUNS)
        assert found <= at_most(0.9, N_RUNS), (sds, found / N_RUNS)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("fixed", [0, 1])
def test_at_most_7_in_100_families_of_equal_methods_have_a_claim(n_seeds, fixed):
    """All six pairs of four methods, of which `fixed` have no seeds."""
    rng, runs, own = np.random.default_rng(n_seeds + fixed), 1500, 0.15
    for n, sds in itertools.product((300, 12_000), ((0.0,) * 4, (0.01,) * 4, (0, 0, 0.01, 0.01))):
        deviations = np.sqrt(np.square(sds) + 0.05 / n)[fixed:, None, None]
        accuracy = rng.normal(size=(4 - fixed, n_seeds, runs)) * deviations
        means = rng.normal(size=(4, runs)) * np.sqrt(own / n)
        means[fixed:] += accuracy.mean(axis=1)
        parts = accuracy.var(axis=1, ddof=1) / n_seeds
        found = 0
        for run in range(runs):
            p_values = []
            for a, b in itertools.combinations(range(4), 2):
                seeded = [k - fixed for k in (a, b) if k >= fixed]
                seeds = tuple((float(parts[k, run]), n_seeds - 1) for k in seeded)
                examples = (2 * own + 0.05 / n_seeds * len(seeded)) / n, n - 1
                value = means[a, run] - means[b, run]
                p_values.append(Estimate(value, examples, n, seeds).p_value())
            found += min(holm(p_values)) < 0.05
        assert found <= at_most(0.07, runs), (n, sds, found / runs)


def right_of(rng, units, n_seeds, sd, gain=0.0):
    """Correctness [2 methods, seeds, n]: examples, clusters, seeds and their own noise differ."""
    n, n_clusters = len(units), units.max() + 1
    shared = rng.normal(size=n) + rng.normal(size=n_clusters)[units]
    own = rng.normal(size=(2, 1, n)) * 0.5 + rng.normal(size=(2, 1, n_clusters))[..., units]
    drawn = rng.normal(size=(2, n_seeds, n)) * 0.3
    chance = 1 / (1 + np.exp(-(shared + own + drawn)))
    shifts = sd * rng.normal(size=(2, n_seeds, 1)) + np.array([gain, 0.0])[:, None, None]
    return rng.random((2, n_seeds, n)) < chance + shifts


def compared(right, units, *, fixed=False, n_flips=300, clustered=True):
    sides = [dict(enumerate(rows)) for rows in right.astype(float)]
    if fixed:
        sides[1] = {None: right[1, 0].astype(float)}
    return inference._comparison(*sides, units, clustered=clustered, n_flips=n_flips)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("n_seeds", [2, 3])
def test_examples_in_clusters_show_the_same_rates_as_the_estimates(n_seeds, fixed):
    rng, runs = np.random.default_rng(n_seeds), 500
    for sd in (0.0, 0.01):
        found = 0
        for _ in range(runs):
            units = np.unique(rng.integers(100, size=400), return_inverse=True)[1]
            one = compared(right_of(rng, units, n_seeds, sd), units, fixed=fixed)
            found += bool(re.search(" leads | trails ", sentence(one.at(0.95), "a", "b")))
        assert found <= at_most(0.07, runs), (sd, found / runs)


@pytest.mark.parametrize(("n_seeds", "words"), [(1, "one seed"), (2, "two seeds")])
def test_equal_trained_models_are_told_apart_at_most_7_times_in_100(n_seeds, words):
    """Equal are these very models: which answers of a cluster carry which name is drawn."""
    rng, runs, clustered, unclustered = np.random.default_rng(n_seeds), 1000, 0, 0
    for _ in range(runs):
        units = np.unique(rng.integers(60, size=200), return_inverse=True)[1]
        right = right_of(rng, units, n_seeds, 0.0)
        swap = (rng.random(units.max() + 1) < 0.5)[units]
        right = np.where(swap, right[::-1], right)
        text = sentence(compared(right, units).at(0.95), "a", "b")
        clustered += not text.startswith("No difference")
        assert text.startswith(("No difference", f"Of these trainings ({words})", "a "))
        alone = compared(right, np.arange(200), clustered=False)
        unclustered += not sentence(alone.at(0.95), "a", "b").startswith("No difference")
    assert 0.02 * runs <= clustered <= at_most(0.07, runs), clustered / runs
    assert unclustered > 1.15 * clustered  # what the clusters are for


def test_families_of_equal_trained_models_say_so_at_most_7_times_in_100():
    """Six pairs of four methods with seeds; the answers to an example are dealt out anew."""
    rng, runs, found = np.random.default_rng(2), 400, 0
    pairs, units = list(itertools.combinations(range(4), 2)), np.arange(150)
    for _ in range(runs):
        right = np.concatenate([right_of(rng, units, 2, 0.0) for _ in range(2)]).astype(float)
        right = _dealt(rng, right)
        every = [
            inference._comparison(
                dict(enumerate(right[a])),
                dict(enumerate(right[b])),
                units,
                clustered=False,
                n_flips=300,
            )
            for a, b in pairs
        ]
        table = inference._family([str(p) for p in pairs], every, [("a", "b", "accuracy")] * 6)
        found += not table["sentence"].str.startswith("No difference").all()
    assert found <= at_most(0.07, runs), found / runs


def _dealt(rng, right):
    """right [methods, seeds, n] with the methods of each example in an order of its own."""
    order = rng.random((len(right), 1, right.shape[2])).argsort(axis=0)
    return np.take_along_axis(right, order, axis=0)


def test_frames_give_the_numbers_of_the_arrays():
    rng = np.random.default_rng(11)
    units = np.unique(rng.integers(30, size=120), return_inverse=True)[1]
    right = right_of(rng, units, 3, 0.01, gain=0.1)
    frames = [
        predictions(rows, method=m, clusters=units) for m, rows in zip("ab", right, strict=True)
    ]
    # clusters are numbered in the order of their names
    names = pd.factorize(np.array([f"image{u}" for u in units]), sort=True)[0]
    expected = compared(right, names, n_flips=10_000).at(0.95)
    assert paired_test(*frames, cluster="image_id") == expected
    row = compare(pd.concat(frames, ignore_index=True), [("a", "b")], cluster="image_id").iloc[0]
    assert {key: row[key] for key in vars(expected)} == vars(expected)
    assert row["p_holm"] == row["p_value"]
    assert row["sentence"] == sentence(expected, "`a`", "`b`")


STYLES = {"short": 0.07, "few_shot": 0.6, "expert": 0.94}  # the share that each prompt calls true


def effects_of_style(answers, labels):
    """How many pairs of styles are told apart, as notebook 06 does it."""
    frame = together(**{style: answer == labels for style, answer in answers.items()})
    table = compare(frame, list(itertools.combinations(answers, 2)))
    return (~table["sentence"].str.startswith("No difference")).sum()


def test_shuffled_labels_show_an_effect_of_style_at_most_7_times_in_100():
    rng = np.random.default_rng(9)
    answers = {style: rng.random(200) < share for style, share in STYLES.items()}
    labels = np.arange(200) % 2 == 0
    found = sum(effects_of_style(answers, rng.permutation(labels)) > 0 for _ in range(80))
    assert found <= at_most(0.07, 80), found


def test_a_planted_effect_of_style_is_claimed_although_all_lean():
    rng, found = np.random.default_rng(10), 0
    labels = np.arange(200) % 2 == 0
    for _ in range(30):
        answers = {style: rng.random(200) < share for style, share in STYLES.items()}
        knows = rng.random(200) < 0.6
        answers["few_shot"] = np.where(knows, labels, answers["few_shot"])
        found += effects_of_style(answers, labels) >= 2
    assert found >= 28, found


# -------------------------------------------------------------------------------- sentences
SEEDS = Paired(
    difference=0.0231,
    low=0.004,
    high=0.0422,
    p_value=0.012,
    trained_low=0.01,
    trained_high=0.0362,
    trained_p=0.001,
    seed_sd=0.005,
    detectable=0.027,
    n=1736,
    n_clusters=313,
    n_seeds=3,
)
OPEN = replace(SEEDS, low=-0.01, high=0.0562, p_value=0.16)
ONE_SEED = replace(
    SEEDS, low=np.nan, high=np.nan, p_value=np.nan, detectable=np.nan, seed_sd=np.nan, n_seeds=1
)
FIXED_PAIR = replace(
    SEEDS, n_seeds=0, n_clusters=None, trained_low=0.004, trained_high=0.0422, trained_p=0.012
)


def turned(paired):
    return replace(
        paired,
        difference=-paired.difference,
        low=-paired.high,
        high=-paired.low,
        trained_low=-paired.trained_high,
        trained_high=-paired.trained_low,
    )


@pytest.mark.parametrize(
    ("paired", "n_tests", "text"),
    [
        (
            SEEDS,
            1,
            "A leads B in accuracy (+2.3 percentage points, 95 % interval over seeds and examples "
            "+0.4 to +4.2, p = 0.012, n = 1,736 in 313 clusters, 3 seeds).",
        ),
        (
            turned(replace(SEEDS, p_value=0.0001)),
            1,
            "A trails B in accuracy (-2.3 percentage points, 95 % interval over seeds and examples "
            "-4.2 to -0.4, p < 0.001, n = 1,736 in 313 clusters, 3 seeds).",
        ),
        (
            replace(SEEDS, level=1 - 0.05 / 6, n_clusters=None),
            6,
            "A leads B in accuracy (+2.3 percentage points, 99.2 % interval over seeds and "
            "examples +0.4 to +4.2, p = 0.012 after Holm over 6 comparisons, n = 1,736, 3 seeds).",
        ),
        (
            FIXED_PAIR,
            1,
            "A leads B in accuracy (+2.3 percentage points, 95 % interval +0.4 to +4.2, p = 0.012, "
            "n = 1,736).",
        ),
        (
            OPEN,
            1,
            "Of these trainings (three seeds) A is ahead of B in accuracy (+2.3 percentage "
            "points, 95 % interval over examples +1.0 to +3.6, n = 1,736); over seeds no "
            "difference is shown (-1.0 to +5.6, p = 0.160; 2.7 points would have been shown with "
            "a power of 80 %).",
        ),
        (
            turned(replace(OPEN, n_seeds=2, detectable=1.0, level=0.975, n_clusters=None)),
            2,
            "Of these trainings (two seeds) A is behind B in accuracy (-2.3 percentage points, "
            "97.5 % interval over examples -3.6 to -1.0, n = 1,736); over seeds no difference is "
            "shown (-5.6 to +1.0, p = 0.160 after Holm over 2 comparisons; with so few seeds or "
            "examples no difference at all could have been shown).",
        ),
        (
            ONE_SEED,
            1,
            "Of these trainings (one seed) A is ahead of B in accuracy (+2.3 percentage points, "
            "95 % interval over examples +1.0 to +3.6, n = 1,736); one seed says nothing about "
            "others.",
        ),
        (
            turned(ONE_SEED),
            1,
            "Of these trainings (one seed) A is behind B in accuracy (-2.3 percentage points, 95 % "
            "interval over examples -3.6 to -1.0, n = 1,736); one seed says nothing about others.",
        ),
        (
            replace(OPEN, n_seeds=12),
            1,
            "Of these trainings (12 seeds) A is ahead of B in accuracy (+2.3 percentage points, "
            "95 % interval over examples +1.0 to +3.6, n = 1,736); over seeds no difference is "
            "shown (-1.0 to +5.6, p = 0.160; 2.7 points would have been shown with a power of 80 "
            "%).",
        ),
        (
            replace(OPEN, trained_low=-0.001, trained_p=0.06),
            1,
            "No difference shown in accuracy between A and B (+2.3 percentage points, 95 % "
            "interval over seeds and examples -1.0 to +5.6, p = 0.160, n = 1,736 in 313 clusters, "
            "3 seeds; 2.7 points would have been shown with a power of 80 %).",
        ),
        (
            replace(OPEN, trained_low=-0.001, trained_p=0.06, detectable=1.0, n_clusters=None),
            1,
            "No difference shown in accuracy between A and B (+2.3 percentage points, 95 % "
            "interval over seeds and examples -1.0 to +5.6, p = 0.160, n = 1,736, 3 seeds; with "
            "so few seeds or examples no difference at all could have been shown).",
        ),
        (
            replace(ONE_SEED, trained_low=-0.001, trained_p=0.06),
            1,
            "No difference shown in accuracy between A and B (+2.3 percentage points, 95 % "
            "interval over examples -0.1 to +3.6, n = 1,736; one seed says nothing about others).",
        ),
        (
            replace(FIXED_PAIR, low=-0.004, trained_low=-0.004, p_value=0.3),
            1,
            "No difference shown in accuracy between A and B (+2.3 percentage points, 95 % "
            "interval -0.4 to +4.2, p = 0.300, n = 1,736; 2.7 points would have been shown with a "
            "power of 80 %).",
        ),
        (
            replace(FIXED_PAIR, p_value=0.0625, trained_p=0.0625),
            1,
            "No difference shown in accuracy between A and B (+2.3 percentage points, 95 % "
            "interval +0.4 to +4.2, p = 0.062, n = 1,736; too few examples differ for more).",
        ),
        (
            Paired(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 7, None, 0),
            1,
            "No difference shown in accuracy between A and B (equal on every example, n = 7).",
        ),
        (
            Paired(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 7, None, 2),
            1,
            "No difference shown in accuracy between A and B (equal on every example, n = 7, 2 "
            "seeds).",
        ),
    ],
)
def test_sentences(paired, n_tests, text):
    assert sentence(paired, "A", "B", n_tests=n_tests) == text


def test_sentences_of_frames_reach_one_family_and_several():
    rng = np.random.default_rng(0)
    frame = together(a=rng.random((3, 400)) < 0.9, b=rng.random((3, 400)) < 0.5)
    alone = compare(frame, [("a", "b")])["sentence"].iloc[0]
    assert alone.startswith("`a` leads `b` in accuracy (+") and "Holm" not in alone
    assert "95 % interval over seeds and examples" in alone
    several = compare(frame, [("a", "b"), ("b", "a"), ("a", "a")])
    assert several["sentence"].str.contains("after Holm over 3 comparisons").tolist() == [1, 1, 0]
    assert several["level"].tolist() == pytest.approx([1 - 0.05 / 3] * 3)
    assert several["sentence"].iloc[1].startswith("`b` trails `a` in accuracy (-")
    assert "equal on every example" in several["sentence"].iloc[2]
    one = together(a=rng.random((2, 400)) < 0.9)
    one = pd.concat([one[one["seed"] == 0], predictions([True, False] * 200, method="b")])
    table = compare(one.reset_index(drop=True), [("a", "b")])
    assert table["sentence"].iloc[0].startswith("Of these trainings (one seed) `a` is ahead of `b`")
    assert not {"low", "high", "p_value", "p_holm"} & set(table)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "+0.0"),
        (-0.0, "+0.0"),
        (-4e-13, "+0.0"),
        (0.0004, "+0.04"),
        (-0.0004, "-0.04"),
        (-0.0005001, "-0.1"),
        (0.12345, "+12.3"),
        (-1.0, "-100.0"),
        (1e-7, "+1e-05"),
    ],
)
def test_points(fraction, text):
    assert points(fraction) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "p < 0.001"),
        (0.00099, "p < 0.001"),
        (0.001, "p = 0.001"),
        (0.0494, "p = 0.049"),
        (0.0495001, "p < 0.05"),
        (0.04999999, "p < 0.05"),
        (0.05, "p = 0.050"),
        (0.0504, "p = 0.050"),
        (1.0, "p = 1.000"),
    ],
)
def test_p_text(p, text):
    assert p_text(p) == text


FRACTIONS = st.floats(-1, 1).map(lambda x: round(x, 5))


@given(
    st.tuples(FRACTIONS, FRACTIONS, FRACTIONS).map(sorted),
    st.floats(0, 1),
    st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)),
    st.sampled_from([0, 1, 2, 5]),
    st.sampled_from([0.0, 0.0312, 1.0]),
)
def test_a_sentence_never_contradicts_its_own_numbers(ends, inner, p_values, n_seeds, detectable):
    low, difference, high = ends
    inside = [difference + inner * (end - difference) for end in (low, high)]
    whole = (np.nan,) * 3 if n_seeds == 1 else (low, high, p_values[0])
    paired = Paired(difference, *whole, *inside, p_values[1], 0.0, detectable, 100, None, n_seeds)
    text = sentence(paired, "A", "B")
    assert "nan" not in text and "-0.0 " not in text and "-0.0," not in text
    shown = [float(x) for x in re.findall(r"[+-]\d[\d.]*(?:e-\d+)?", text)]
    if text.startswith(("A leads", "A trails")):
        sign = 1 if text.startswith("A leads") else -1
        assert n_seeds != 1 and len(shown) == 3 and all(sign * value > 0 for value in shown)
        p = re.search(r"p ([<=]) ([\d.]+)", text)
        assert float(p[2]) < 0.05 or (p[1], p[2]) == ("<", "0.05")
    elif text.startswith("Of these trainings"):
        sign = 1 if "is ahead of" in text else -1
        assert n_seeds and all(sign * value > 0 for value in shown[:3])
        assert n_seeds == 1 or low <= 0 <= high or p_values[0] >= 0.05
    else:
        assert text.startswith("No difference shown")
        assert n_seeds == 1 or low <= 0 <= high or p_values[0] >= 0.05


# -------------------------------------------------------------------------------- resamples
def test_resamples_hold_as_many_units_as_there_are_in_chunks():
    chunks = list(resamples(7, n_resamples=600, seed=3))
    assert [chunk.shape for chunk in chunks] == [(7, 250), (7, 250), (7, 100)]
    assert all((chunk.sum(axis=0) == 7).all() for chunk in chunks)
    again = list(resamples(7, n_resamples=600, seed=3))
    assert all((x == y).all() for x, y in zip(chunks, again, strict=True))
    every = np.concatenate(chunks, axis=1)
    assert every.var() == pytest.approx(1 - 1 / 7, abs=0.06)  # of the multinomial distribution


# -------------------------------------------------------------------------------- ranking
def scored(scores, labels, method):
    """Deterministic predictions of two classes, no and yes, whose log-odds of yes are `scores`."""
    scores = np.asarray(scores, dtype=float)
    log_probs = np.stack([-np.logaddexp(0, scores), scores - np.logaddexp(0, scores)], axis=1)
    frame = predictions(np.ones(len(scores), bool), method=method)
    return frame.assign(label=np.where(labels, "yes", "no"), log_probs=list(log_probs))


def test_delong_by_hand():
    labels = np.array([1, 1, 1, 0, 0], bool)
    # wins of each positive over (0, 2): a 3 -> 1, 2 -> 3/4 (a tie), 1 -> 1/2
    wins = pair_wins(np.array([3, 2, 1]), np.array([0, 2]))
    assert wins.mean() == pytest.approx(0.75)
    assert wins.mean(axis=1) == pytest.approx([1, 0.75, 0.5])
    assert wins.mean(axis=0) == pytest.approx([1, 0.5])
    # b: 0, 4, 5 over (1, 3): 0, 1, 1; components of the difference: 1, -1/4, -1/2 and 1/3, -1/6
    got = auroc_difference(
        scored([3, 2, 1, 0, 2], labels, "a"), scored([0, 4, 5, 1, 3], labels, "b"), "yes"
    )
    assert got.difference == pytest.approx(0.75 - 2 / 3)
    variance = np.var([1, -0.25, -0.5], ddof=1) / 3 + np.var([1 / 3, -1 / 6], ddof=1) / 2
    margin = stats.t.isf(0.025, 3) * np.sqrt(variance)
    assert got.low == pytest.approx(max(0.75 - 2 / 3 - margin, -1))
    assert got.p_value == pytest.approx(2 * stats.t.sf((0.75 - 2 / 3) / np.sqrt(variance), 3))


def test_delong_agrees_with_scikit_learn_and_the_bootstrap():
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.4
    a = rng.normal(size=300) + 1.2 * labels
    b = 0.6 * a + rng.normal(size=300)
    got = auroc_difference(scored(a, labels, "a"), scored(b, labels, "b"), "yes")
    assert got.difference == pytest.approx(
        sk.roc_auc_score(labels, a) - sk.roc_auc_score(labels, b)
    )
    draws = []
    for _ in range(1500):
        i = rng.integers(300, size=300)
        draws.append(
            pair_wins(a[i][labels[i]], a[i][~labels[i]]).mean()
            - pair_wins(b[i][labels[i]], b[i][~labels[i]]).mean()
        )
    assert got.high - got.low == pytest.approx(2 * 1.968 * np.std(draws), rel=0.08)
    assert (got.n, got.n_seeds, got.trained_p) == (300, 0, got.p_value)


def test_auroc_difference_of_a_few_examples_claims_nothing_and_needs_two_of_each_class():
    labels = np.array([True, True, False, False])
    scores = np.array([2.0, 1.0, -1.0, -2.0])
    a, b = scored(scores, labels, "a"), scored(-scores, labels, "b")
    got = auroc_difference(a, b, "yes")
    assert (got.difference, got.p_value) == (1.0, 0.125)
    assert sentence(got, "a", "b").startswith("No difference shown")
    same = auroc_difference(a, a.assign(method="b"), "yes")
    assert (same.difference, same.p_value) == (0, 1)
    with pytest.raises(Hw2Error, match="smaller class"):
        auroc_difference(a[:3], b[:3], "yes")


# -------------------------------------------------------------------------------- question types
def test_mean_per_type_by_hand():
    assert mean_per_type({"color": 0.5, "counting": 0.25}) == {
        "arithmetic": 0.375,
        "harmonic": pytest.approx(1 / 3),
    }
    assert mean_per_type({"color": 0.5, "counting": 0.0}) == {"arithmetic": 0.25, "harmonic": 0.0}
    for bad in ({}, {"color": 41.0}, {"color": float("nan")}):
        with pytest.raises(Hw2Error):
            mean_per_type(bad)


def test_normalised_accuracy_weighs_every_gold_answer_of_a_type_equally():
    frame = pd.DataFrame(
        {
            "label": ["2", "2", "2", "3", "red", "2"],
            "prediction": ["2", "2", "4", "2", "red", "red"],
        }
    )
    types = ["counting"] * 4 + ["color"] * 2
    got = normalised_accuracy(frame, types)
    assert got == {"counting": pytest.approx((2 / 3 + 0) / 2), "color": pytest.approx(0.5)}
    assert mean_per_type(got)["arithmetic"] == pytest.approx((1 / 3 + 1 / 2) / 2)
