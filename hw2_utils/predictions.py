"""Predictions: the frame that every method's answers are kept in, and the blind baseline's.

A predictions frame has one row an example, method and seed: `id`, `split`, `method`, `seed`
(nullable integer; null = deterministic), `label`, `prediction` (strings, never null), `log_probs`
(natural logarithms in the order of `classes`, or null), and `image_id` or `topic` where there is
one. What is trained hands such frames out, so nothing here reads a metric: a changed metric or
interval leaves trainings as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hw2_utils.errors import require


def prediction_frame(
    frame: pd.DataFrame,
    scores: np.ndarray,
    *,
    method: str,
    seed: int | None,
    split: str,
    classes: Sequence[str],
) -> pd.DataFrame:
    """Rows of the predictions file from log-probabilities [n, n_classes], in the data's order."""
    kept = [c for c in ("image_id", "topic") if c in frame.columns]
    return pd.DataFrame(
        {
            "id": frame["id"].to_numpy(),
            "split": split,
            "method": method,
            "seed": pd.array([seed] * len(frame), "Int64"),
            "label": frame["label"].to_numpy(),
            "prediction": np.asarray(classes, object)[scores.argmax(axis=1)],
            "log_probs": list(scores.astype(np.float32)),
            **{c: frame[c].to_numpy() for c in kept},
        }
    )


def majority_baseline(
    splits: Mapping[str, pd.DataFrame], *, classes: Sequence[str]
) -> pd.DataFrame:
    """The blind baseline: the training split's class frequencies for every example.

    Its prediction is the most frequent training class; its loss is the cross-entropy of those
    frequencies. Test is not looked at.
    """
    counts = splits["train"]["label"].value_counts().reindex(classes, fill_value=0).to_numpy(float)
    with np.errstate(divide="ignore"):
        prior = np.log(counts / counts.sum())
    return pd.concat(
        [
            prediction_frame(
                splits[s],
                np.tile(prior, (len(splits[s]), 1)),
                method="majority",
                seed=None,
                split=s,
                classes=classes,
            )
            for s in ("val", "test")
        ]
    )


def check_predictions(frame: pd.DataFrame, classes: Sequence[str]) -> None:
    """Refuse (Hw2Error) a frame that breaks the contract above; the message holds the first row.

    That is: no rows, a missing column, a label or prediction that isn't a string, the same (id,
    split, method, seed) twice, log_probs of another length than `classes`, with NaN or +inf, or of
    probabilities that don't add up to 1 (tolerance 0.001).
    """
    keys, frame = ["id", "split", "method", "seed"], frame.reset_index(drop=True)
    missing = sorted({*keys, "label", "prediction"} - set(frame))
    require(
        not missing and len(frame) > 0 and len(set(classes)) == len(classes),
        f"{len(frame)} rows, no {missing}, {classes=}",
        where="predictions",
        todo="complete them",
    )
    text = frame[["label", "prediction"]].map(lambda value: isinstance(value, str))
    given = frame["log_probs"].dropna() if "log_probs" in frame else frame["id"].iloc[:0]
    # NaN is between no two numbers; the minimum keeps exp from overflowing.
    totals = given.map(
        lambda row: np.exp(np.minimum(row, 1)).sum() if len(row) == len(classes) else np.nan
    )
    spoilt = ~totals.astype(float).between(0.999, 1.001)
    for what, bad in {
        "label and prediction must be strings": ~text.all(axis=1),
        "id, split and method must not be null": frame[keys[:3]].isna().any(axis=1),
        "the same id, split, method and seed twice": frame.duplicated(keys),
        f"log_probs must be of {len(classes)} probabilities that add up to 1": spoilt,
    }.items():
        row = frame.loc[bad[bad].index[:1]].to_dict("records")
        require(
            not row,
            f"{what}: {row}",
            where="predictions",
            todo="correct the code that made this row",
        )
