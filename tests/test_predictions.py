"""The frame of predictions: in the data's order; the majority's against scikit-learn's dummy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss

from hw2_utils.predictions import check_predictions, majority_baseline, prediction_frame

CLASSES = ["a", "b", "c"]


def split(labels: str) -> pd.DataFrame:
    ids = [f"q{i}" for i in range(len(labels))][::-1]
    return pd.DataFrame({"id": ids, "label": list(labels), "image_id": "picture"})


def test_a_frame_keeps_the_datas_order_and_takes_the_likeliest_class():
    scores = np.log([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    frame = prediction_frame(split("bc"), scores, method="m", seed=3, split="test", classes=CLASSES)
    check_predictions(frame, CLASSES)
    assert frame["id"].tolist() == ["q1", "q0"]
    assert frame["prediction"].tolist() == ["b", "a"] and frame["label"].tolist() == ["b", "c"]
    assert frame["seed"].tolist() == [3, 3] and set(frame["image_id"]) == {"picture"}
    np.testing.assert_allclose(np.stack(frame["log_probs"]), scores, rtol=1e-6)


@pytest.mark.parametrize("train", ["aabbbc", "ccccab", "bbbbb"])
def test_the_majority_is_scikit_learns_prior(train):
    splits = {"train": split(train), "val": split("ab"), "test": split("abca")}
    frame = majority_baseline(splits, classes=CLASSES)
    check_predictions(frame, CLASSES)
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((len(train), 1)), list(train))
    for name in ("val", "test"):
        own = frame[frame["split"] == name]
        expected = dummy.predict(np.zeros((len(splits[name]), 1)))
        assert own["prediction"].tolist() == expected.tolist()
        assert own["seed"].isna().all() and own["label"].tolist() == list(splits[name]["label"])
    if set(train) == set(CLASSES):
        test = frame[frame["split"] == "test"]
        own_loss = -np.mean(
            [row[CLASSES.index(x)] for row, x in zip(test["log_probs"], "abca", strict=True)]
        )
        assert own_loss == pytest.approx(log_loss(list("abca"), dummy.predict_proba([[0]] * 4)))
