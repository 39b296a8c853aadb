"""The report by question type: counts and means as a count by hand gives them."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.metrics import precision_score, recall_score

from hw2_utils import daquar, type_report
from hw2_utils.question_types import TYPES


def test_every_type_is_counted_in_every_split():
    types = {"train": pd.Series(["color", "color", "counting"]), "test": pd.Series(["counting"])}
    counts = type_report.type_counts(types)
    assert counts.index.tolist() == list(TYPES) and counts.columns.tolist() == ["train", "test"]
    assert counts.loc["color"].tolist() == [2, 0] and counts.loc["counting"].tolist() == [1, 1]
    assert counts.to_numpy().sum() == 4


def test_held_apart_labels_are_the_odd_keys():
    labels = type_report.held_apart_labels()
    assert labels.columns.tolist() == ["key", "label", "also"] and len(labels) == 229
    assert labels["key"].str[-1].isin(list("13579bdf")).all() and set(labels["label"]) <= set(TYPES)


QUESTIONS = pd.DataFrame(
    {
        "image_id": ["image1", "image1", "image2", "image3", "image1"],
        "question": ["what is red", "how many", "what is on it", "what color", "What  is red"],
        "type": ["object_recognition", "counting", "color", "color", "object_recognition"],
    }
)


def label(image_id, question, kind, also=""):
    return {"key": daquar.content_key(image_id, question), "label": kind, "also": also}


LABELS = pd.DataFrame(
    [
        label("image1", "what is red", "attribute", "object_recognition"),  # accepted as well
        label("image1", "how many", "counting"),
        label("image2", "what is on it", "positional_reasoning", "object_recognition"),  # wrong
        label("image9", "not asked here", "counting"),
    ]
)


def test_labelled_questions_count_once_and_agree_by_either_label():
    checked = type_report.with_labels(QUESTIONS, LABELS)
    assert checked["question"].tolist() == ["what is red", "how many", "what is on it"]
    assert checked["agrees"].tolist() == [True, True, False]
    assert checked["truth"].tolist() == ["object_recognition", "counting", "positional_reasoning"]


def test_without_a_labelled_question_nothing_is_checked():
    assert type_report.with_labels(QUESTIONS, LABELS.tail(1)).empty


def test_precision_and_recall_are_sklearns():
    checked = type_report.with_labels(QUESTIONS, LABELS)
    report = type_report.precision_and_recall(checked)
    labels = sorted({*checked["truth"], *checked["type"]})
    shown = {"labels": labels, "average": None, "zero_division": 0}
    assert report.loc[labels, "precision"].tolist() == list(
        precision_score(checked["truth"], checked["type"], **shown)
    )
    assert report.loc[labels, "recall"].tolist() == list(
        recall_score(checked["truth"], checked["type"], **shown)
    )
    assert report.loc["accuracy", "precision"] == pytest.approx(2 / 3)


def predictions(method="clip", seed=0, answers=("red", "blue", "red", "2", "3", "lamp")):
    return pd.DataFrame(
        {
            "id": [f"test/{i}" for i in range(6)],
            "method": method,
            "seed": pd.array([seed] * 6, "Int64"),
            "type": ["color", "color", "color", "counting", "counting", "attribute"],
            "label": ["red", "red", "red", "2", "2", "wood"],
            "prediction": list(answers),
        }
    )


def test_means_over_types_by_hand():
    frame = predictions()
    accuracy = pd.DataFrame({"color": [2 / 3], "counting": [1 / 2]}, index=["clip"])
    row = type_report.mean_per_type(frame, accuracy).loc["clip"]
    assert row["A-MPT"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert row["H-MPT"] == pytest.approx(2 / (3 / 2 + 2))
    assert row["N-A-MPT"] == pytest.approx(row["A-MPT"])  # one answer a type


def test_normalised_means_give_each_answer_the_same_weight():
    frame = predictions().assign(label=["red", "red", "blue", "2", "2", "wood"])
    accuracy = pd.DataFrame({"color": [1 / 3], "counting": [1 / 2]}, index=["clip"])
    row = type_report.mean_per_type(frame, accuracy).loc["clip"]
    # color: red 1 of 2, blue 0 of 1; counting: 2 1 of 2
    assert row["N-A-MPT"] == pytest.approx(((1 / 2 + 0) / 2 + 1 / 2) / 2)
    assert row["A-MPT"] == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_first_seeds_are_the_smallest_of_each_method():
    other = ("blue",) * 6
    frame = pd.concat(
        [
            predictions(seed=2, answers=other),
            predictions(seed=1),
            predictions("resnet", seed=5, answers=other),
        ]
    )
    predicted, right = type_report.first_seeds(frame, ["clip", "resnet"])
    assert predicted["clip"].tolist() == ["red", "blue", "red", "2", "3", "lamp"]
    assert right["clip"].tolist() == [True, False, True, True, False, False]
    assert predicted["resnet"].tolist() == list(other) and not right["resnet"].any()
    assert right.index.tolist() == [f"test/{i}" for i in range(6)]
