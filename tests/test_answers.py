"""The homework's answers: every outcome gets the sentence that is true for it."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from hw2_utils import answers

ROWS = {
    "leads": {"difference": 0.03, "low": 0.01, "high": 0.05, "p_holm": 0.01},
    "trails": {"difference": -0.03, "low": -0.05, "high": -0.01, "p_holm": 0.01},
    "not shown": {"difference": 0.01, "low": -0.01, "high": 0.03, "p_holm": 0.3},
}
TABLE = pd.DataFrame(
    {
        "full": [1000, 200.0, 50.0, 80.0, 0.70, 0.69, 0.60],
        "lora": [10, 100.0, 40.0, 0.5, 0.68, 0.66, 0.65],
    },
    index=[
        "params_trainable",
        "peak_memory_mib",
        "train_time_s",
        "checkpoint_mib",
        "accuracy",
        "f1_weighted",
        "loss",
    ],
)


def shown_rows(**outcomes: str) -> pd.DataFrame:
    return pd.DataFrame({pair: ROWS[outcome] for pair, outcome in outcomes.items()}).T


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        *((row, outcome) for outcome, row in ROWS.items()),
        ({**ROWS["leads"], "p_holm": 0.05}, "not shown"),
        ({**ROWS["leads"], "p_holm": np.nan}, "not shown"),  # one seed
        ({**ROWS["leads"], "low": -0.001}, "not shown"),  # interval and test disagree
        ({**ROWS["leads"], "low": np.nan, "high": np.nan, "p_holm": 0.01}, "not shown"),
        ({"difference": 0.2}, "not shown"),
    ],
)
def test_a_verdict_needs_test_and_interval(row, expected):
    assert answers.verdict(row) == expected


def test_efficiency_states_shares_that_the_table_gives():
    text = answers.efficiency(TABLE, n_seeds=3, disturbed=[])
    assert "1.0% of the trained parameters (10 against 1,000)" in text
    assert "50.0% of the peak memory (100 against 200 MiB)" in text
    assert "80.0% of the time (40 against 50 s) (means over 3 seeds)" in text
    assert "one training each" in answers.efficiency(TABLE, n_seeds=1, disturbed=[])


@pytest.mark.parametrize("disturbed", [["full"], ["lora"], ["full", "lora", "lora+lr1e-3"]])
def test_disturbed_times_are_not_compared(disturbed):
    text = answers.efficiency(TABLE, n_seeds=3, disturbed=disturbed)
    assert "not compared" in text and "80.0%" not in text
    assert "train_time_s" not in answers.costs(TABLE, disturbed=disturbed)


def test_another_methods_disturbance_doesnt_matter():
    assert "80.0% of the time" in answers.efficiency(TABLE, n_seeds=3, disturbed=["lora+lr1e-3"])


def test_without_a_memory_measurement_none_is_told():
    assert "memory (" not in answers.efficiency(
        TABLE.drop("peak_memory_mib"), n_seeds=2, disturbed=[]
    )


@pytest.mark.parametrize(("same", "own"), [*itertools.product(ROWS, ROWS)])
def test_performance_says_what_each_test_shows(same, own):
    tests = shown_rows(**{"lora - full": same, "lora+lr1e-3 - full": own})
    text = answers.performance(TABLE, tests, "lora+lr1e-3")
    told = {
        "leads": "it leads",
        "trails": "it trails",
        "not shown": "no difference in accuracy is shown",
    }
    at_own = {
        "leads": "LoRA leads",
        "trails": "LoRA still trails",
        "not shown": "LoRA shows no difference",
    }
    assert f"of `full`: {told[same]}." in text and at_own[own] in text
    assert (
        "accuracy 0.680 against 0.700, weighted F1 0.660 against 0.690, loss 0.650 against 0.600"
        in text
    )


TIMES = pd.DataFrame(
    {"median": [10.0, 12.0, 10.0], "disturbed": [0, 0, 0]}, index=["base", "with adapter", "merged"]
)


def test_practice_gives_sizes_and_times():
    text = answers.practice(TABLE, TIMES)
    assert "0.5 MiB on disk where `full` is 80 MiB" in text
    assert "1.20 times" in text and "1.00 times" in text


@pytest.mark.parametrize("network", TIMES.index)
def test_disturbed_times_of_prediction_are_not_compared(network):
    disturbed = TIMES.copy()
    disturbed.loc[network, "disturbed"] = 1
    text = answers.practice(TABLE, disturbed)
    assert "not compared" in text and " times as long" not in text
    assert "0.5 MiB on disk" in text


def outcome(same="trails", own="not shown", **shares):
    return {
        "costs": shares or {"params_trainable": 0.01, "peak_memory_mib": 0.5},
        "same rate": same,
        "own rate": own,
    }


@pytest.mark.parametrize(
    ("second", "start"),
    [
        (outcome(), "Yes"),
        (outcome(same="not shown"), "In part"),
        (outcome(params_trainable=0.01, peak_memory_mib=1.1), "In part"),
        (outcome(same="leads", own="trails", params_trainable=1.2, peak_memory_mib=1.1), "No"),
    ],
)
def test_the_same_observations_get_yes_no_or_in_part(second, start):
    lines = answers.same_observations(outcome(), second)
    assert lines[0].startswith(f"**Do the same observations apply to the smaller model? {start}.**")
    assert len(lines) == 3


def test_where_nothing_was_shown_of_accuracy_the_answer_is_about_costs_alone():
    nothing = outcome(same="not shown")
    for second in (nothing, outcome(same="leads")):
        first_line = answers.same_observations(nothing, second)[0]
        assert "model? Yes, as to its costs; in accuracy 01 shows no difference" in first_line
    dearer = outcome(same="trails", params_trainable=1.2, peak_memory_mib=1.1)
    assert "model? No, as to its costs" in answers.same_observations(nothing, dearer)[0]


def test_a_time_that_one_run_lacks_is_not_compared():
    with_time = outcome(params_trainable=0.01, train_time_s=0.8)
    assert (
        "time"
        not in answers.same_observations(with_time, outcome(params_trainable=0.01))[0].split(
            "full fine"
        )[1]
    )


QUALITY = pd.DataFrame(
    {"n_words": [20.0, 5.0], "repeated_3gram_share": [0.4, 0.1], "contradicts": [0.3, 0.0]},
    index=["expert", "short"],
)


@pytest.mark.parametrize(
    ("shown", "start"),
    [("leads", "Yes in accuracy"), ("trails", "No: `expert` trails"), ("not shown", "No gain")],
)
@pytest.mark.parametrize(
    ("p", "ranked"),
    [
        (0.4, "better (AUROC)"),
        (0.01, "the order of its scores (AUROC) differs"),
        (None, "so few statements can't tell whether the order of its scores (AUROC) differs"),
    ],
)
def test_the_expert_question_is_answered_for_every_outcome(shown, start, p, ranked):
    first, coherence = answers.expert_helped(shown_rows(**{"expert - short": shown}), p, QUALITY)
    assert start in first and ranked in first
    assert "20 words against 5" in coherence and "40% of their 3-grams against 10%" in coherence


@pytest.mark.parametrize(("share", "ranking"), [*itertools.product(ROWS, ROWS)])
def test_leaning_and_knowledge_are_told_apart(share, ranking):
    text = answers.leaning_or_knowledge("expert", pd.Series(ROWS[share]), pd.Series(ROWS[ranking]))
    leaning = {"leads": "calls more", "trails": "calls fewer", "not shown": "calls no other share"}
    order = {
        "leads": "orders them better",
        "trails": "orders them worse",
        "not shown": "no difference in their order",
    }
    assert leaning[share] in text and order[ranking] in text


def test_too_few_statements_for_an_order_are_said():
    text = answers.leaning_or_knowledge("expert", pd.Series(ROWS["leads"]), None)
    assert "calls more" in text and text.endswith(
        "too few statements to compare their order (AUROC)."
    )


def test_observations_hold_the_costs_and_the_verdict_of_each_rate():
    tests = shown_rows(
        **{"lora - full": "trails", "lora+lr1e-3 - full": "leads", "lora+lr1e-3 - lora": "trails"}
    )
    seen = answers.observations(TABLE, tests, disturbed=["lora"])
    assert seen["costs"] == {"params_trainable": 0.01, "peak_memory_mib": 0.5}
    assert (seen["same rate"], seen["own rate"]) == ("trails", "leads")


PREFERRED = pd.DataFrame(
    {
        "accuracy": [0.5, 0.25, 0.4],
        "share true": [0.75, 0.1, np.nan],
        "auroc": [0.6, 0.7, np.nan],
        "n": [200, 200, 24],
        "unparsed_rate": [0.5, np.nan, 0.5],
    },
    index=["few_shot", "few_shot+swapped", "few_shot+generated"],
)


def test_a_style_is_told_with_its_leaning_order_and_texts():
    quality = QUALITY.rename(index={"expert": "few_shot"})
    assert answers.prompt_style("few_shot", PREFERRED, quality, share_true=0.45) == (
        "`few_shot` calls 75% of the statements true (45% are), with AUROC 0.600; in text 50% of "
        "24 answers hold no verdict. On the seven its texts have 20 words, 40% of their 3-grams "
        "repeated, and 30% hold both verdicts."
    )


def test_swapped_shots_are_told_from_given_to_swapped():
    assert answers.swapped_shots(PREFERRED) == (
        "Swapping the two shots moves the share that is called true from 75% to 10%, "
        "accuracy from 0.500 to 0.250 and AUROC from 0.600 to 0.700."
    )


def test_drawn_shots_are_told_by_their_range_and_only_where_there_are_any():
    by_draw = pd.DataFrame({"share true": [0.2, 0.9, 0.5], "accuracy": [0.6, 0.4, 0.5]})
    (line,) = answers.drawn_shots(by_draw)
    assert line.startswith("Over 3 other pairs") and "from 20% to 90%" in line
    assert line.endswith("accuracy from 0.400 to 0.600.")
    assert answers.drawn_shots(by_draw.iloc[:0]) == []


def fact(objective, *towers):
    known = {"towers": list(towers)} if towers else {}
    return {"objective": objective, "pretraining_data": "pictures", **known}


@pytest.mark.parametrize(
    ("clip", "end"),
    [
        ([fact("matching", "B", "A")], "Both use the same towers (A, B)"),
        ([fact("matching", "C")], "Hypothesis, not measured"),
        ([fact("matching")], "Hypothesis, not measured"),
    ],
)
def test_encoders_differ_only_where_their_towers_do(clip, end):
    facts = {"resnet_sbert": [fact("naming", "A"), fact("pairing", "B")], "clip": clip}
    lines = answers.encoders(facts)
    assert lines[:2] == [
        "`resnet_sbert`: naming on pictures; pairing on pictures.",
        "`clip`: matching on pictures.",
    ]
    assert lines[2].startswith(end) and len(lines) == 3


@pytest.mark.parametrize(("on_type", "gain"), [*itertools.product(ROWS, ROWS)])
def test_types_are_named_only_where_a_test_shows_them(on_type, gain):
    tests = shown_rows(**{"clip - resnet": "leads", "clip - resnet: color": on_type})
    gains = shown_rows(**{"clip - blind: color": gain, "clip - blind: counting": "leads"})
    text = answers.types_shown(tests, gains)
    differ = "No type shows a difference" if on_type == "not shown" else "differ on color;"
    gained = "clip over blind: color, clip over blind: counting."
    assert differ in text and (gained in text) == (gain == "leads")
    assert "clip over blind: counting." in text


def test_no_type_is_named_where_none_is_tested():
    text = answers.types_shown(shown_rows(**{"clip - resnet": "leads"}), pd.DataFrame())
    assert text.startswith("No type shows a difference") and "is shown for no type." in text
