"""What is reported by question type: counts, hand labels, TDIUC's means, single questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from sklearn.metrics import classification_report

from hw2_utils import daquar, inference, paths
from hw2_utils.question_types import TYPES


def type_counts(types: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Questions of each of the twelve types (rows) in each split (columns)."""
    counts = pd.DataFrame({split: column.value_counts() for split, column in types.items()})
    return counts.reindex(TYPES).fillna(0).astype(int)


# ------------------------------------------------------------------------------------- hand labels
def held_apart_labels() -> pd.DataFrame:
    """The hand labels that no rule was improved on: key, label, also (a second one, or empty).

    Half of data/question_types/labels.csv: the odd keys.
    """
    labels = pd.read_csv(paths.DATA / "question_types" / "labels.csv", keep_default_na=False)
    is_odd = labels["key"].map(lambda key: int(key, 16)) % 2 == 1
    return labels.loc[is_odd, ["key", "label", "also"]]


def with_labels(questions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The questions (image_id, question, type) that have a label, each once, and whether it agrees.

    Columns `agrees` and `truth`: the label, or the type where it is the accepted second label.
    """
    pairs = zip(questions["image_id"], questions["question"], strict=True)
    keyed = questions.assign(key=[daquar.content_key(*pair) for pair in pairs])
    checked = keyed.drop_duplicates("key").merge(labels, on="key")
    agrees = (checked["type"] == checked["label"]) | (checked["type"] == checked["also"])
    return checked.assign(agrees=agrees, truth=checked["type"].where(agrees, checked["label"]))


def precision_and_recall(checked: pd.DataFrame) -> pd.DataFrame:
    """scikit-learn's report of the rules' types against the hand labels (`with_labels`)."""
    report = classification_report(
        checked["truth"], checked["type"], output_dict=True, zero_division=0
    )
    return pd.DataFrame(report).T


# -------------------------------------------------------------------------------- means over types
def mean_per_type(predictions: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """TDIUC's means over question types (Kafle and Kanan 2017), a row a method.

    `accuracy` [n_methods, n_types] names both; `predictions` has a column `type`. A: arithmetic,
    H: harmonic, N: each type's accuracy is the mean over its unique answers.
    """
    rows = {}
    for method, by_type in accuracy.iterrows():
        is_counted = predictions["type"].isin(accuracy.columns)
        answered = predictions[(predictions["method"] == method) & is_counted]
        by_answer = inference.normalised_accuracy(answered, answered["type"])
        plain = inference.mean_per_type(by_type.to_dict())
        normalised = inference.mean_per_type(by_answer)
        rows[method] = {
            "A-MPT": plain["arithmetic"],
            "H-MPT": plain["harmonic"],
            "N-A-MPT": normalised["arithmetic"],
            "N-H-MPT": normalised["harmonic"],
        }
    return pd.DataFrame(rows).T


# -------------------------------------------------------------------------------- single questions
def first_seeds(
    predictions: pd.DataFrame, methods: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each method's first seed predicts, and whether it is right: by id, a column a method."""
    first = {}
    for method in methods:
        answered = predictions[predictions["method"] == method]
        first[method] = answered[answered["seed"] == answered["seed"].min()].set_index("id")
    predicted = {method: frame["prediction"] for method, frame in first.items()}
    right = {method: frame["label"] == frame["prediction"] for method, frame in first.items()}
    return pd.DataFrame(predicted), pd.DataFrame(right)
