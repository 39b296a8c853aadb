"""Tables of a study of prompts: what each style answers, how styles agree, what a part does.

Statements come as frames with `id`, `split`, `statement`, `label` and `topic`; what is made of them
are the frames of `predictions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from hw2_utils import inference, metrics
from hw2_utils.predictions import prediction_frame


def fixed_sample(frame: pd.DataFrame, n: int, *, seed: int) -> pd.DataFrame:
    """At most `n` rows (0: all) by a fixed random choice, in the frame's order."""
    size = min(n or len(frame), len(frame))
    chosen = np.random.default_rng(seed).choice(len(frame), size, replace=False)
    return frame.iloc[np.sort(chosen)]


# ------------------------------------------------------------------------------------- predictions
def from_likelihoods(
    statements: pd.DataFrame,
    log_probs: np.ndarray,
    *,
    method: str,
    classes: Sequence[str],
    seed: int | None = None,
) -> pd.DataFrame:
    """What a style prefers: predictions from log-probabilities [n_statements, n_classes]."""
    frame = prediction_frame(
        statements, log_probs, method=method, seed=seed, split="", classes=classes
    )
    return frame.assign(split=statements["split"].to_numpy())


def from_answers(
    statements: pd.DataFrame, answers: Sequence[str] | str, *, method: str
) -> pd.DataFrame:
    """What a style says: predictions without probabilities; a single answer goes for all."""
    columns = statements[["id", "split", "label", "topic"]]
    return columns.assign(method=method, seed=None, prediction=answers, log_probs=None)


def tidy_metrics(
    predictions: pd.DataFrame, *, classes: Sequence[str], styles: Sequence[str]
) -> list[dict]:
    """`metrics.tidy`, also by topic, with `unparsed_rate` only where texts were read.

    A likelihood is never unparsed: a style's own `unparsed_rate` is that of its texts, the method
    "style+generated".
    """
    rows = metrics.tidy(predictions, classes=classes, groups={"topic": predictions["topic"]})
    kept = [r for r in rows if r["name"] != "unparsed_rate" or "+generated" in r["method"]]
    unparsed = {
        (r["method"], r["split"]): r
        for r in kept
        if r["name"] == "unparsed_rate" and r["group"] == "all"
    }
    of_styles = [
        {**unparsed[f"{style}+generated", split], "method": style}
        for style in styles
        for split in ("test", "assignment")
    ]
    return kept + of_styles


# ------------------------------------------------------------------------------------- comparisons
def agreement(predictions: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """For each pair of methods the share of statements with the same answer, and Cohen's kappa."""
    asked = predictions[predictions["method"].isin(methods)]
    answers = asked.pivot(index="id", columns="method", values="prediction")
    rows = {
        f"{a} / {b}": {
            "same answer": (answers[a] == answers[b]).mean(),
            "kappa": cohen_kappa_score(answers[a], answers[b]),
        }
        for a, b in combinations(methods, 2)
    }
    return pd.DataFrame(rows).T.rename_axis("styles")


def auroc_tests(
    predictions: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, classes: Sequence[str]
) -> pd.DataFrame:
    """DeLong's tests of pairs of methods as one family: rows "a - b", `Paired`'s columns, `p_holm`.

    No rows where a label has fewer than two statements, which allow no such test.
    """
    frames = dict(list(predictions.groupby("method")))
    label_counts = frames[pairs[0][0]]["label"].value_counts().reindex(classes, fill_value=0)
    if label_counts.min() < 2:
        return pd.DataFrame(columns=["difference", "low", "high", "p_holm", "n"])
    tests = {
        f"{a} - {b}": vars(inference.auroc_difference(frames[a], frames[b], classes[1]))
        for a, b in pairs
    }
    table = pd.DataFrame.from_dict(tests, orient="index")
    return table.assign(p_holm=inference.holm(table["p_value"]))


# --------------------------------------------------------------------------------------- factorial
def factorial(parts: Mapping[str, tuple[str, str]]) -> dict[tuple[int, ...], str]:
    """The prompt of each combination of parts (part: what stands without it, and with it).

    The keys say for each part whether it is there (1) or not (0).
    """
    return {
        levels: "".join(texts[level] for level, texts in zip(levels, parts.values(), strict=True))
        + " [text]\n"
        for levels in product((0, 1), repeat=len(parts))
    }


def by_part(predictions: pd.DataFrame, levels: Mapping[str, int]) -> pd.DataFrame:
    """One prompt's predictions once for each part, as the method "part" or "no part".

    The combination of the other parts plays the role of a seed: a paired test of "part" and
    "no part" then compares means over the same combinations.
    """
    frames = []
    for part, level in levels.items():
        others = "".join(str(other) for name, other in levels.items() if name != part)
        method = part if level else f"no {part}"
        frames.append(predictions.assign(method=method, seed=int(others, 2)))
    return pd.concat(frames, ignore_index=True)
