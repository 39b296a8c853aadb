"""Metrics against scikit-learn, hand computations, and a bootstrap that really resamples rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from hw2_utils.errors import Hw2Error
from hw2_utils.inference import Estimate, resamples, share_interval, variance_over_examples
from hw2_utils.metrics import SHARES, overview, seed_spread, tidy
from hw2_utils.predictions import check_predictions

CLASSES = ["a", "b", "c"]
WORDS = st.sampled_from([*CLASSES, "unparsed"])


def predictions(
    labels, guesses, *, method="m", split="test", seed=None, log_probs=None, image_ids=None
):
    n = len(labels)
    frame = pd.DataFrame(
        {
            "id": [f"q{i:05d}" for i in range(n)],
            "split": split,
            "method": method,
            "seed": pd.array([seed] * n, dtype="Int64"),
            "label": list(labels),
            "prediction": list(guesses),
        }
    )
    frame["log_probs"] = pd.Series(
        [None] * n if log_probs is None else list(log_probs), dtype=object
    )
    if image_ids is not None:
        frame["image_id"] = list(image_ids)
    return frame


def normalised(scores):
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


def random_frame(
    rng, n, *, n_classes=3, seeds=(None,), unparsed=0.1, n_images=None, method="m", split="test"
):
    """Labels and images are drawn once, guesses once a seed."""
    classes = [f"k{i:02d}" for i in range(n_classes)]
    gold = rng.integers(n_classes, size=n)
    images = None if n_images is None else [f"image{i}" for i in rng.integers(n_images, size=n)]
    parts = []
    for seed in seeds:
        scores = rng.normal(size=(n, n_classes))
        scores[np.arange(n), gold] += 1
        log_probs = normalised(scores)
        guesses = np.array(classes, dtype=object)[log_probs.argmax(axis=1)]
        guesses[rng.random(n) < unparsed] = "unparsed"
        parts.append(
            predictions(
                np.array(classes)[gold],
                guesses,
                seed=seed,
                log_probs=log_probs,
                image_ids=images,
                method=method,
                split=split,
            )
        )
    return pd.concat(parts, ignore_index=True), classes


def score(frame, *, classes):
    """name -> value of one method, split and seed."""
    return {row["name"]: row["value"] for row in tidy(frame, classes=classes, n_resamples=0)}


def by_key(rows):
    assert len({(r["method"], r["split"], r["group"], r["seed"], r["name"]) for r in rows}) == len(
        rows
    )
    return {(r["group"], r["seed"], r["name"]): r for r in rows}


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=40))
def test_label_metrics_equal_scikit_learn_whatever_is_missing_or_unparsed(pairs):
    labels, guesses = zip(*pairs, strict=True)
    got = score(predictions(labels, guesses), classes=CLASSES)
    expected = {
        "accuracy": sk.accuracy_score(labels, guesses),
        "f1_macro": sk.f1_score(labels, guesses, average="macro", zero_division=0),
        "f1_weighted": sk.f1_score(labels, guesses, average="weighted", zero_division=0),
        "recall_macro": sk.recall_score(
            labels, guesses, labels=sorted(set(labels)), average="macro"
        ),
        "unparsed_rate": guesses.count("unparsed") / len(guesses),
    }
    assert got == pytest.approx(expected)


def test_recall_macro_leaves_out_predicted_classes_that_f1_macro_counts():
    got = score(predictions(["a", "a", "b", "b"], ["a", "unparsed", "b", "b"]), classes=CLASSES)
    assert got["recall_macro"] == pytest.approx((0.5 + 1) / 2)
    assert got["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize("n_classes", [2, 3, 8])
def test_probability_metrics_equal_scikit_learn(n_classes):
    frame, classes = random_frame(np.random.default_rng(n_classes), 300, n_classes=n_classes)
    got = score(frame, classes=classes)
    log_probs = np.stack(frame["log_probs"]).astype(float)
    probabilities = np.exp(log_probs) / np.exp(log_probs).sum(axis=1, keepdims=True)
    assert got["loss"] == pytest.approx(
        sk.log_loss(frame["label"], probabilities, labels=classes), rel=1e-5
    )
    assert ("auroc" in got) == (n_classes == 2)
    assert ("accuracy_top5" in got) == (n_classes > 5)
    if n_classes > 5:
        assert got["accuracy_top5"] == pytest.approx(
            sk.top_k_accuracy_score(frame["label"], log_probs, k=5, labels=classes)
        )
    if n_classes == 2:
        margin = log_probs[:, 1] - log_probs[:, 0]
        assert got["auroc"] == pytest.approx(sk.roc_auc_score(frame["label"] == classes[1], margin))
        p = np.clip(np.exp(log_probs[:, 1]), 0, 1)
        assert got["brier"] == pytest.approx(
            sk.brier_score_loss(frame["label"] == classes[1], p), rel=1e-4
        )


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), min_size=2, max_size=30))
def test_auroc_counts_ties_as_half_and_does_not_depend_on_the_order_of_the_classes(rows):
    truth = np.array([row[0] for row in rows])
    p_true = np.array([row[1] for row in rows]) / 5
    log_probs = np.log(np.stack([1 - p_true, p_true], axis=1)).astype(np.float32)
    labels = np.where(truth, "true", "false")
    got = score(predictions(labels, labels, log_probs=log_probs), classes=["false", "true"])
    turned = score(
        predictions(labels, labels, log_probs=log_probs[:, ::-1]), classes=["true", "false"]
    )
    if truth.all() or not truth.any():
        assert "auroc" not in got and "auroc" not in turned
    else:
        assert got["auroc"] == pytest.approx(sk.roc_auc_score(truth, p_true))
        assert turned["auroc"] == pytest.approx(got["auroc"])


def test_ece_by_hand():
    top = np.array(
        [0.95, 0.97, 0.60, 0.61, 0.55]
    )  # bins of width 1/15: (.933, 1], (.6, .667], (.533, .6]
    right = [True, False, True, True, False]
    log_probs = np.log(np.stack([top, 1 - top], axis=1))
    labels = ["a" if ok else "b" for ok in right]
    got = score(predictions(labels, ["a"] * 5, log_probs=log_probs), classes=["a", "b"])
    gaps = [abs(1 - (0.95 + 0.97)), abs(1 - 0.61), abs(1 - (0.60 + 0.55))]
    assert got["ece"] == pytest.approx(sum(gaps) / 5, abs=1e-9)


def test_ece_of_a_random_frame_equals_a_loop_over_bins():
    frame, classes = random_frame(np.random.default_rng(5), 500, n_classes=4)
    probabilities = np.exp(np.stack(frame["log_probs"]).astype(float))
    top, right = (
        probabilities.max(axis=1),
        np.array(classes)[probabilities.argmax(axis=1)] == frame["label"],
    )
    expected = sum(
        abs(right[inside].mean() - top[inside].mean()) * inside.mean()
        for k in range(15)
        if (inside := (top > k / 15) & (top <= (k + 1) / 15)).any()
    )
    assert score(frame, classes=classes)["ece"] == pytest.approx(expected)


def test_a_loss_that_cannot_be_had_is_absent_never_a_number():
    uniform = np.log(np.full((3, 3), 1 / 3))
    whole = score(predictions(["a", "b", "c"], ["a"] * 3, log_probs=uniform), classes=CLASSES)
    assert whole["loss"] == pytest.approx(np.log(3))
    outside = score(predictions(["a", "b", "new"], ["a"] * 3, log_probs=uniform), classes=CLASSES)
    assert (
        "loss" not in outside and outside["accuracy"] == pytest.approx(1 / 3) and "ece" in outside
    )
    some_null = score(
        predictions(["a", "b", "c"], ["a"] * 3, log_probs=[uniform[0], None, uniform[0]]),
        classes=CLASSES,
    )
    assert not {"loss", "ece", "auroc"} & set(some_null)
    hard = [[0.0, -np.inf, -np.inf]] * 3
    infinite = score(predictions(["a", "b", "c"], ["a"] * 3, log_probs=hard), classes=CLASSES)
    assert "loss" not in infinite and infinite["ece"] == pytest.approx(2 / 3)
    certain = score(predictions(["a"] * 3, ["a"] * 3, log_probs=hard), classes=CLASSES)
    assert certain["loss"] == 0


def brute_force(frame, metric, cluster, n_resamples, seed):
    """The percentile interval of `metric(rows)`; rows are copied as often as they are drawn."""
    ordered = frame.sort_values("id").reset_index(drop=True)
    codes = pd.factorize(ordered[cluster or "id"], sort=True)[0]
    draws = np.concatenate(
        list(resamples(codes.max() + 1, n_resamples=n_resamples, seed=seed)), axis=1
    ).astype(int)
    values = [
        metric(ordered.loc[ordered.index.repeat(draws[codes, r])]) for r in range(n_resamples)
    ]
    return np.quantile(values, [0.025, 0.975])


SKLEARN = {
    "f1_macro": lambda f: sk.f1_score(
        f["label"], f["prediction"], average="macro", zero_division=0
    ),
    "f1_weighted": lambda f: sk.f1_score(
        f["label"], f["prediction"], average="weighted", zero_division=0
    ),
    "recall_macro": lambda f: sk.recall_score(
        f["label"], f["prediction"], labels=sorted(set(f["label"])), average="macro"
    ),
    "loss": lambda f: sk.log_loss(
        f["label"], np.exp(np.stack(f["log_probs"]).astype(float)), labels=["k00", "k01"]
    ),
    "auroc": lambda f: sk.roc_auc_score(
        f["label"] == "k01", [row[1] - row[0] for row in f["log_probs"]]
    ),
}


@pytest.mark.parametrize("cluster", [None, "image_id"])
def test_intervals_equal_a_bootstrap_that_copies_rows_and_calls_scikit_learn(cluster):
    frame, classes = random_frame(np.random.default_rng(1), 60, n_classes=2, n_images=15)
    rows = by_key(tidy(frame, classes=classes, cluster=cluster, n_resamples=300, seed=4))
    for name, metric in SKLEARN.items():
        row = rows["all", None, name]
        assert row["value"] == pytest.approx(metric(frame), rel=1e-5), name
        expected = brute_force(frame, metric, cluster, n_resamples=300, seed=4)
        assert (row["low"], row["high"]) == pytest.approx(tuple(expected), rel=1e-5), name


def test_the_seed_null_row_is_the_mean_over_seeds_with_an_interval_over_seeds_and_examples():
    frame, classes = random_frame(np.random.default_rng(2), 80, n_classes=2, seeds=(3, 7, 11))
    rows = by_key(tidy(frame, classes=classes, n_resamples=200))
    assert {seed for _, seed, _ in rows} == {3, 7, 11, None}
    names = {name for _, _, name in rows}
    others = {"f1_weighted", "f1_macro", "recall_macro", "loss", "auroc", "brier", "ece"}
    assert names == others | {"accuracy", "unparsed_rate"}
    for name in names:
        mean = np.mean([rows["all", seed, name]["value"] for seed in (3, 7, 11)])
        assert rows["all", None, name]["value"] == pytest.approx(mean)
    row = rows["all", None, "f1_macro"]
    draws = np.concatenate(list(resamples(80, n_resamples=200, seed=0)), axis=1).astype(int)
    parts = [frame[frame["seed"] == seed].sort_values("id") for seed in (3, 7, 11)]
    values = [
        np.mean([SKLEARN["f1_macro"](part.iloc[np.repeat(np.arange(80), d)]) for part in parts])
        for d in draws.T
    ]
    examples = np.var(values, ddof=1)
    seeds = np.var([rows["all", s, "f1_macro"]["value"] for s in (3, 7, 11)], ddof=1) / 3
    df = (examples + 2 * seeds) ** 2 / (examples**2 / 79 + (2 * seeds) ** 2 / 2)
    margin = stats.t.isf(0.025, df) * np.sqrt(examples + seeds)
    assert (row["low"], row["high"]) == pytest.approx(
        (row["value"] - margin, row["value"] + margin)
    )
    assert row["n"] == 80


@pytest.mark.parametrize("cluster", [None, "image_id"])
def test_shares_have_the_intervals_of_inference(cluster):
    frame, classes = random_frame(np.random.default_rng(12), 90, seeds=(0, 1, 2), n_images=20)
    rows = by_key(tidy(frame, classes=classes, cluster=cluster, n_resamples=0))
    parts = [frame[frame["seed"] == s].sort_values("id") for s in (0, 1, 2)]
    units = pd.factorize(parts[0][cluster or "id"], sort=True)[0]
    n_units = units.max() + 1
    right = np.array([(p["label"] == p["prediction"]).to_numpy(float) for p in parts])
    for seed, values in enumerate(right):
        row = rows["all", seed, "accuracy"]
        estimate = Estimate(values.mean(), variance_over_examples(values, units), n_units)
        assert (row["low"], row["high"]) == pytest.approx(share_interval(estimate, 90))
        if cluster is None:
            plain = stats.binomtest(int(values.sum()), 90).proportion_ci()
            assert (row["low"], row["high"]) == pytest.approx((plain.low, plain.high))
    means = right.mean(axis=1)
    whole = Estimate(
        means.mean(),
        variance_over_examples(right.mean(axis=0), units),
        n_units,
        ((np.var(means, ddof=1) / 3, 2),),
    )
    row = rows["all", None, "accuracy"]
    assert (row["low"], row["high"]) == pytest.approx(share_interval(whole, 90))


def test_one_seed_has_an_interval_of_its_own_and_none_over_seeds():
    frame, classes = random_frame(np.random.default_rng(13), 60, n_classes=2, seeds=(5,))
    rows = by_key(tidy(frame, classes=classes, n_resamples=50))
    for (_, seed, name), row in rows.items():
        assert row["value"] == rows["all", 5, name]["value"]
        if seed is None or name == "ece":
            assert row["low"] is row["high"] is None, name
        else:
            assert row["low"] <= row["value"] <= row["high"], name


def test_overview_and_seed_spread():
    frame, classes = random_frame(np.random.default_rng(14), 60, seeds=(0, 1, 2))
    fixed = predictions(frame["label"][:60], ["k00"] * 60, method="majority")
    one = frame[frame["seed"] == 0].assign(method="one")
    rows = pd.DataFrame(tidy(pd.concat([fixed, frame, one]), classes=classes, n_resamples=0))
    table = overview(rows)
    assert table.index.tolist() == ["majority", "m", "one"]
    assert table.columns[:4].tolist() == ["accuracy", "low", "high", "SD over seeds"]
    own = [sk.accuracy_score(p["label"], p["prediction"]) for _, p in frame.groupby("seed")]
    assert table["SD over seeds"]["m"] == pytest.approx(np.std(own, ddof=1))
    assert table["SD over seeds"][["majority", "one"]].isna().all()
    assert table["accuracy"]["m"] == pytest.approx(np.mean(own))
    assert table["low"].isna().tolist() == [False, False, True]
    losses = [
        rows.set_index(["method", "seed", "name"])["value"]["m", s, "loss"] for s in (0, 1, 2)
    ]
    assert seed_spread(rows, name="loss")["m"] == pytest.approx(np.std(losses, ddof=1))


def test_rows_of_one_seed_equal_score_and_deterministic_methods_have_only_null_seeds():
    seeded, classes = random_frame(np.random.default_rng(3), 50, seeds=(0, 1))
    fixed = predictions(seeded["label"][:50], ["k00"] * 50, method="majority")
    rows = tidy(pd.concat([seeded, fixed]), classes=classes, n_resamples=20)
    one = score(seeded[seeded["seed"] == 1], classes=classes)
    assert one == {r["name"]: r["value"] for r in rows if r["method"] == "m" and r["seed"] == 1}
    majority = [r for r in rows if r["method"] == "majority"]
    assert {r["seed"] for r in majority} == {None}
    assert {r["name"] for r in majority} == {
        "accuracy",
        "f1_macro",
        "f1_weighted",
        "recall_macro",
        "unparsed_rate",
    }


def test_the_result_does_not_depend_on_the_order_of_the_rows():
    frame, classes = random_frame(np.random.default_rng(4), 70, seeds=(0, 1), n_images=20)
    mixed = frame.sample(frac=1, random_state=0)
    ordered, shuffled = (
        by_key(tidy(f, classes=classes, cluster="image_id", n_resamples=50)) for f in (frame, mixed)
    )
    assert ordered.keys() == shuffled.keys()
    for key, row in ordered.items():
        for field in ("value", "low", "high", "n"):
            assert shuffled[key][field] == (
                row[field] if row[field] is None else pytest.approx(row[field])
            )


def test_groups_equal_the_same_metric_of_those_rows():
    frame, classes = random_frame(np.random.default_rng(6), 90, seeds=(0, 1))
    number = frame["id"].str[1:].astype(int)
    kinds = number.map(lambda i: [None, "color", "counting"][i % 3])
    flags = number.lt(30).map({True: "seen"})
    rows = by_key(
        tidy(frame, classes=classes, groups={"type": kinds, "flag": flags}, n_resamples=50)
    )
    assert {group for group, _, _ in rows} == {"all", "color", "counting", "seen"}
    for group, mask in {
        "color": kinds == "color",
        "counting": kinds == "counting",
        "seen": flags == "seen",
    }.items():
        part = frame[mask.fillna(False).astype(bool) & (frame["seed"] == 1)]
        assert {
            name: row["value"] for (g, seed, name), row in rows.items() if (g, seed) == (group, 1)
        } == pytest.approx(score(part, classes=classes))
        assert rows[group, None, "accuracy"]["n"] == 30


def test_groups_that_cannot_be_placed_are_refused():
    frame, classes = random_frame(np.random.default_rng(6), 9)
    with pytest.raises(Hw2Error, match="another index"):
        tidy(frame, classes=classes, groups={"type": pd.Series("x", index=frame["id"])})
    with pytest.raises(Hw2Error, match="taken"):
        tidy(frame, classes=classes, groups={"type": pd.Series("all", index=frame.index)})
    with pytest.raises(Hw2Error, match="taken"):
        tidy(
            frame,
            classes=classes,
            groups={key: pd.Series("x", index=frame.index) for key in ("type", "topic")},
        )


def test_shares_have_an_interval_where_resampling_cannot_tell():
    rows = by_key(tidy(predictions(["a"] * 7, ["a"] * 7), classes=CLASSES))
    expected = {"method": "m", "split": "test", "group": "all", "seed": None, "name": "accuracy"}
    bounds = {"low": pytest.approx(0.025 ** (1 / 7)), "high": 1.0}
    assert rows["all", None, "accuracy"] == expected | {"value": 1.0} | bounds | {"n": 7}
    none = by_key(tidy(predictions(["a"] * 24, ["b"] * 24), classes=CLASSES))
    row = none["all", None, "accuracy"]
    assert (row["low"], row["high"]) == (0.0, pytest.approx(1 - 0.025 ** (1 / 24)))
    assert none["all", None, "f1_macro"]["low"] is None
    one = by_key(tidy(predictions(["a"], ["a"]), classes=CLASSES))["all", None, "accuracy"]
    assert (one["low"], one["high"]) == (pytest.approx(0.025), 1.0)
    frame, classes = random_frame(np.random.default_rng(7), 50)
    assert by_key(tidy(frame, classes=classes))["all", None, "ece"]["low"] is None


@pytest.mark.parametrize("seeds", [(None,), (0, 1, 2)])
def test_groups_of_one_image_are_one_example(seeds):
    frame, classes = random_frame(np.random.default_rng(8), 40, seeds=seeds, n_images=6)
    images = frame["image_id"].where(frame["image_id"] == "image2")
    rows = by_key(tidy(frame, classes=classes, groups={"image": images}, cluster="image_id"))
    own = {key: row for key, row in rows.items() if key[0] == "image2"}
    assert len(own) > 0
    for (_, _, name), row in own.items():
        if name in SHARES:
            assert row["high"] - row["low"] > 0.9, row
        elif row["low"] is not None:  # seeds alone, where the one image tells nothing
            assert row["seed"] is None
    assert all(row["low"] is None for key, row in own.items() if key[2] not in SHARES)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 25), st.integers(1, 6), st.integers(0, 2**16))
def test_rows_are_plain_json_without_nan(n, n_classes, seed):
    frame, classes = random_frame(
        np.random.default_rng(seed), n, n_classes=n_classes, seeds=(0, 1), n_images=3
    )
    rows = tidy(frame, classes=classes, cluster="image_id", n_resamples=30)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        assert list(row) == [
            "method",
            "split",
            "group",
            "seed",
            "name",
            "value",
            "low",
            "high",
            "n",
        ]
        assert type(row["value"]) is float and {type(row["low"]), type(row["high"])} <= {
            float,
            type(None),
        }


@pytest.mark.slow
def test_intervals_of_accuracy_and_f1_cover_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    sure = rng.random((1_000_000, 2))
    gold = (sure[:, 0] < 0.4).astype(int)
    truth = sk.f1_score(gold, np.where(sure[:, 1] < 0.75, gold, 1 - gold), average="macro")
    covered = {"accuracy": 0, "f1_macro": 0}
    for run in range(400):
        labels = np.where(rng.random(200) < 0.4, "b", "a")
        guesses = np.where(rng.random(200) < 0.75, labels, np.where(labels == "a", "b", "a"))
        rows = by_key(
            tidy(predictions(labels, guesses), classes=["a", "b"], n_resamples=400, seed=run)
        )
        for name, value in (("accuracy", 0.75), ("f1_macro", truth)):
            row = rows["all", None, name]
            covered[name] += row["low"] <= value <= row["high"]
    assert all(0.91 <= count / 400 <= 0.98 for count in covered.values()), covered


GOOD = predictions(
    ["a", "b"], ["a", "unparsed"], seed=1, log_probs=np.log([[0.5, 0.3, 0.2], [0.1, 0.9, 1e-9]])
)


def changed(**columns):
    return GOOD.assign(**columns)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (changed(prediction=["a", None]), "must be strings.*q00001"),
        (changed(label=["a", None]), "must be strings.*q00001"),
        (changed(label=pd.Series([0, 1], dtype=object)), "must be strings.*q00000"),
        (changed(id=["q", None]), "must not be null"),
        (changed(method=["m", None]), "must not be null"),
        (changed(id="q"), "twice"),
        (changed(id="q", seed=pd.array([None, None], dtype="Int64")), "twice"),
        (changed(log_probs=[np.log([0.5, 0.5]), GOOD["log_probs"][1]]), "3 probabilities.*q00000"),
        (changed(log_probs=[GOOD["log_probs"][0], [0.0, np.nan, -9.0]]), "3 probabilities.*q00001"),
        (
            changed(log_probs=[GOOD["log_probs"][0], [np.inf, -np.inf, -np.inf]]),
            "3 probabilities.*q00001",
        ),
        (changed(log_probs=[GOOD["log_probs"][0], [5.0, -9.0, -9.0]]), "3 probabilities.*q00001"),
        (changed(log_probs=[GOOD["log_probs"][0], [0.5, 0.3, 0.2]]), "3 probabilities.*q00001"),
        (changed(log_probs=[np.log([0.5, 0.3, 0.198]), None]), "3 probabilities.*q00000"),
        (GOOD.drop(columns="seed"), "seed"),
        (GOOD[:0], "0 rows"),
    ],
)
def test_check_predictions_refuses(frame, message):
    for use in (
        lambda: check_predictions(frame, CLASSES),
        lambda: tidy(frame, classes=CLASSES),
    ):
        with pytest.raises(Hw2Error, match=message):
            use()


def test_check_predictions_accepts():
    check_predictions(GOOD, CLASSES)
    check_predictions(changed(log_probs=[[0.0, -np.inf, -np.inf], None]), CLASSES)
    check_predictions(GOOD.drop(columns="log_probs"), CLASSES)
    check_predictions(changed(id="q", seed=[1, 2]), CLASSES)
    check_predictions(changed(id="q", split=["val", "test"]), CLASSES)
    check_predictions(changed(log_probs=[np.log([0.5, 0.3, 0.1995]), None]), CLASSES)


def test_predictions_survive_parquet(tmp_path):
    frame, classes = random_frame(np.random.default_rng(8), 40, seeds=(None,), n_images=5)
    frame.to_parquet(tmp_path / "p.parquet")
    assert score(pd.read_parquet(tmp_path / "p.parquet"), classes=classes) == score(
        frame, classes=classes
    )


def test_frames_that_would_be_pooled_by_mistake_are_refused():
    frame, classes = random_frame(np.random.default_rng(9), 20, seeds=(0, 1))
    with pytest.raises(Hw2Error, match="with and without a seed"):
        tidy(frame.assign(seed=frame["seed"].mask(frame["seed"] == 0)), classes=classes)
    with pytest.raises(Hw2Error, match="q00019"):
        tidy(frame[:-1], classes=classes)
    with pytest.raises(Hw2Error, match="classes"):
        tidy(frame, classes=[*classes, classes[0]])
    with pytest.raises(Hw2Error, match="image_id"):
        tidy(frame, classes=classes, cluster="image_id")


@pytest.mark.skipif(
    not os.environ.get("HW2_REAL_DATA"), reason="HW2_REAL_DATA names no folder with the real tweets"
)
def test_majority_on_the_real_validation_tweets_equals_scikit_learn():
    folder = Path(os.environ["HW2_REAL_DATA"]) / "tweet_eval" / "sentiment"
    names = dict(
        line.split("\t")[:2] for line in (folder / "mapping.txt").read_text("utf-8").splitlines()
    )
    labels = [names[line] for line in (folder / "val_labels.txt").read_text("utf-8").split()]
    got = score(predictions(labels, ["neutral"] * len(labels)), classes=list(names.values()))
    share = labels.count("neutral") / 2000
    assert len(labels) == 2000 and got["accuracy"] == pytest.approx(share)
    assert got["recall_macro"] == pytest.approx(1 / 3)
    assert got["f1_macro"] == pytest.approx(2 * share / (1 + share) / 3)
    assert got["f1_weighted"] == pytest.approx(
        sk.f1_score(labels, ["neutral"] * 2000, average="weighted")
    )
