"""A study of prompts: its frames hold what was asked, and comparisons give what a count gives."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from hw2_utils import inference, prompt_study
from hw2_utils.predictions import check_predictions

CLASSES = ("true", "false")
STATEMENTS = pd.DataFrame(
    {
        "id": ["assignment/0", "test/0", "test/1", "test/2", "test/3"],
        "split": ["assignment", *["test"] * 4],
        "statement": list("abcde"),
        "label": ["true", "true", "false", "true", "false"],
        "topic": [None, "x", "x", "y", "y"],
    }
)
LOG_PROBS = np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.7, 0.3]])


def preferred(method="short", log_probs=LOG_PROBS, seed=None):
    return prompt_study.from_likelihoods(
        STATEMENTS, log_probs, method=method, classes=CLASSES, seed=seed
    )


@pytest.mark.parametrize(("n", "size"), [(0, 50), (7, 7), (50, 50), (99, 50)])
def test_a_fixed_sample_is_in_order_and_the_same_again(n, size):
    frame = pd.DataFrame({"x": range(50)}, index=range(100, 150))
    chosen = prompt_study.fixed_sample(frame, n, seed=0)
    assert len(chosen) == size and chosen["x"].is_monotonic_increasing and chosen["x"].is_unique
    assert chosen.equals(prompt_study.fixed_sample(frame, n, seed=0))
    assert (frame.loc[chosen.index] == chosen).all(axis=None)


def test_another_seed_chooses_others():
    frame = pd.DataFrame({"x": range(50)})
    first, second = (prompt_study.fixed_sample(frame, 9, seed=seed) for seed in (0, 1))
    assert not first.equals(second)


def test_a_preference_is_the_likelier_answer_in_its_own_split():
    frame = preferred(seed=3)
    check_predictions(frame, CLASSES)
    assert frame["prediction"].tolist() == ["true", "true", "false", "false", "true"]
    for column in ("id", "split", "label", "topic"):
        assert frame[column].tolist() == STATEMENTS[column].tolist()
    assert np.allclose(np.stack(frame["log_probs"]), LOG_PROBS) and set(frame["seed"]) == {3}


def test_rows_keep_their_places_whatever_the_index():
    tail = STATEMENTS.iloc[2:]
    frame = prompt_study.from_likelihoods(tail, LOG_PROBS[2:], method="m", classes=CLASSES)
    assert frame["split"].tolist() == ["test"] * 3 and frame["id"].tolist() == tail["id"].tolist()


def test_what_is_said_has_no_probabilities():
    said = ["true", "unparsed", "false", "true", "true"]
    frame = prompt_study.from_answers(STATEMENTS, said, method="short+generated")
    check_predictions(frame.astype({"seed": "Int64"}), CLASSES)
    assert frame["prediction"].tolist() == said and frame["log_probs"].isna().all()
    constant = prompt_study.from_answers(STATEMENTS, "true", method="majority")
    assert constant["prediction"].tolist() == ["true"] * 5


def test_unparsed_rates_are_those_of_texts():
    said = ["unparsed", "true", "unparsed", "unparsed", "true"]
    generated = prompt_study.from_answers(STATEMENTS, said, method="short+generated")
    both = pd.concat([preferred(), generated], ignore_index=True).astype({"seed": "Int64"})
    rows = prompt_study.tidy_metrics(both, classes=CLASSES, styles=["short"])
    unparsed = {
        (r["method"], r["split"], r["group"]): r["value"]
        for r in rows
        if r["name"] == "unparsed_rate"
    }
    assert unparsed["short", "test", "all"] == unparsed["short+generated", "test", "all"] == 0.5
    assert unparsed["short", "assignment", "all"] == 1.0
    assert unparsed["short+generated", "test", "y"] == 0.5
    assert ("short", "test", "y") not in unparsed  # of a likelihood there is none
    keys = [(r["method"], r["split"], r["group"], r["seed"], r["name"]) for r in rows]
    assert len(keys) == len(set(keys))
    accuracy = {r["group"]: r["value"] for r in rows if r["name"] == "accuracy"}
    assert accuracy["x"] == 0.5


def test_agreement_is_counted_and_kappa_takes_chance_away():
    other = preferred("expert", LOG_PROBS[[0, 1, 2, 4, 4]])
    table = prompt_study.agreement(pd.concat([preferred(), other]), ["short", "expert"])
    # the same on 4 of 5; chance: 3/5 * 4/5 true and 2/5 * 1/5 false
    chance = (3 * 4 + 2 * 1) / 25
    row = table.loc["short / expert"]
    assert row["same answer"] == pytest.approx(0.8)
    assert row["kappa"] == pytest.approx((0.8 - chance) / (1 - chance))
    assert table.index.name == "styles"


def test_agreement_has_a_row_for_each_pair_in_order():
    frames = pd.concat([preferred(name) for name in "cab"])
    table = prompt_study.agreement(frames, ["c", "a", "b"])
    assert table.index.tolist() == ["c / a", "c / b", "a / b"] and (table["kappa"] == 1).all()


def test_auroc_tests_differ_as_sklearns_auroc_and_are_one_family():
    rng = np.random.default_rng(0)
    statements = pd.concat([STATEMENTS.iloc[1:]] * 10, ignore_index=True)
    statements["id"] = [f"test/{i}" for i in range(len(statements))]
    scores = {name: rng.normal(size=len(statements)) for name in ("short", "few_shot", "expert")}
    frames = [
        prompt_study.from_likelihoods(
            statements,
            np.stack([-np.logaddexp(0, s), -np.logaddexp(0, -s)], axis=1),
            method=name,
            classes=CLASSES,
        )
        for name, s in scores.items()
    ]
    pairs = [("few_shot", "short"), ("expert", "short")]
    table = prompt_study.auroc_tests(pd.concat(frames), pairs, classes=CLASSES)
    is_false = statements["label"] == "false"
    auroc = {name: roc_auc_score(is_false, s) for name, s in scores.items()}
    for a, b in pairs:
        assert table.loc[f"{a} - {b}", "difference"] == pytest.approx(auroc[a] - auroc[b], abs=1e-6)
    assert table["p_holm"].tolist() == inference.holm(table["p_value"])


def test_with_one_statement_of_a_label_no_order_is_tested():
    few = pd.concat([preferred(name).iloc[:3] for name in ("short", "expert")])
    table = prompt_study.auroc_tests(few, [("expert", "short")], classes=CLASSES)
    assert table.empty and table["p_holm"].get("expert - short") is None


PARTS = {"role": ("", "You are X. "), "task": ("Is it so?", "Check."), "form": ("", " In a word.")}


def test_a_factorial_has_every_combination_once():
    prompts = prompt_study.factorial(PARTS)
    assert list(prompts) == [*itertools.product((0, 1), repeat=3)]
    assert prompts[0, 0, 0] == "Is it so? [text]\n"
    assert prompts[1, 1, 1] == "You are X. Check. In a word. [text]\n"
    assert len(set(prompts.values())) == 8
    for i, (_, written) in enumerate(PARTS.values()):
        assert all((written in prompt) == bool(levels[i]) for levels, prompt in prompts.items())


def test_the_effect_of_a_part_is_the_difference_of_means_over_the_others():
    rng = np.random.default_rng(1)
    right, frames = {}, []
    for levels in prompt_study.factorial(PARTS):
        log_probs = np.log(rng.dirichlet([1, 1], size=len(STATEMENTS)))
        answers = preferred(log_probs=log_probs)
        right[levels] = (answers["prediction"] == answers["label"]).mean()
        frames.append(prompt_study.by_part(answers, dict(zip(PARTS, levels, strict=True))))
    everything = pd.concat(frames, ignore_index=True).assign(split="test")
    effects = inference.compare(everything, [(part, f"no {part}") for part in PARTS])
    for i, part in enumerate(PARTS):
        with_it = np.mean([value for levels, value in right.items() if levels[i]])
        without = np.mean([value for levels, value in right.items() if not levels[i]])
        difference = effects.loc[f"{part} - no {part}", "difference"]
        assert difference == pytest.approx(with_it - without)
    assert (everything.groupby("method")["seed"].nunique() == 4).all()
