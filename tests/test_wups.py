"""The committed table of Wu-Palmer similarities (scripts/make_wups.py): its form, pairs by hand.

Needs neither nltk nor WordNet.
"""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest

from hw2_utils import metrics
from hw2_utils.paths import CONFIG

ANSWERS = (
    "1 2 3 4 5 bed black blinds books bookshelf brown cabinet chair clothes curtain door "
    "garbage_bin lamp mirror photo picture pillow red shelves sofa table television towel "
    "white window "
    "blue clock plant rug"  # of the drawn sample
).split()

# Depths in WordNet 3.0 (entity = 1) of the nearest common ancestor and of the two senses that are
# most alike.
BY_HAND = {
    ("photo", "picture"): (8, 8, 8),  # one sense has both words: photograph
    ("bookshelf", "shelves"): (9, 10, 9),  # a bookshelf is a shelf
    ("blinds", "curtain"): (8, 8, 9),  # a curtain is a blind
    ("chair", "sofa"): (9, 10, 10),  # both are seats
    ("black", "white"): (9, 10, 10),  # as men of a board game; as colours (7, 8, 8), .875
    ("brown", "red"): (7, 8, 8),  # both are chromatic colours
    ("2", "3"): (7, 8, 8),  # both are digits
    ("chair", "table"): (8, 10, 9),  # both are furniture
    ("bed", "sofa"): (8, 10, 10),  # furniture too: bedroom furniture and a seat lie between
    ("red", "white"): (6, 7, 7),  # as rivers; as colours (6, 8, 8), .75
    ("books", "photo"): (6, 8, 8),  # both are creations: a product and a representation
    ("garbage_bin", "table"): (6, 9, 9),  # garbage_can for garbage_bin; both are instrumentality
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(CONFIG / "wups.csv", index_col="answer", dtype={"answer": str})


def test_the_answers_are_its_rows_and_its_columns_in_sorted_order(table):
    assert list(table.index) == list(table.columns) == sorted(ANSWERS)
    assert len(table) == 34


def test_every_number_has_4_decimals():
    rows = list(csv.reader((CONFIG / "wups.csv").read_text(encoding="utf-8").splitlines()))[1:]
    assert all(text == f"{float(text):.4f}" for row in rows for text in row[1:])


def test_it_is_symmetric_with_ones_on_the_diagonal_and_values_from_0_to_1(table):
    values = table.to_numpy()
    assert values.dtype == float and np.isfinite(values).all()
    assert (values == values.T).all()
    assert (np.diag(values) == 1).all()
    assert values.min() > 0 and values.max() == 1  # every two nouns share the ancestor `entity`


@pytest.mark.parametrize(("pair", "depths"), BY_HAND.items(), ids=map("-".join, BY_HAND))
def test_pairs_worked_out_by_hand(table, pair, depths):
    common, one, other = depths
    assert table.loc[pair] == pytest.approx(2 * common / (one + other), abs=5e-5)


def test_five_pairs_count_in_full_at_the_threshold_of_09(table):
    alike = {(a, b) for a in ANSWERS for b in ANSWERS if a < b and table.loc[a, b] >= 0.9}
    assert alike == set(list(BY_HAND)[:5])


def test_rounding_carries_no_pair_over_the_threshold(table):
    gap = np.abs(table.to_numpy() - 0.9)
    assert ((gap == 0) | (gap > 1e-3)).all()


def test_wups_of_three_answers_by_hand_and_its_absence_for_other_answers():
    names = ["2", "3", "chair", "photo", "picture", "sofa"]
    label, prediction = ["chair", "2", "picture", "sofa"], ["sofa", "3", "photo", "sofa"]
    frame = pd.DataFrame(
        {
            "id": list("abcd"),
            "split": "test",
            "method": "m",
            "seed": None,
            "label": label,
            "prediction": prediction,
            "log_probs": None,
        }
    )
    rows = {
        row["name"]: row["value"]
        for row in metrics.tidy(frame, classes=names, similarity=metrics.wup_similarities(names))
    }
    assert rows["wups_0.9"] == pytest.approx((0.9 + 0.1 * 0.875 + 1 + 1) / 4)
    assert "wups_0.9" not in {row["name"] for row in metrics.tidy(frame, classes=names)}
    assert metrics.wup_similarities([*names, "no such answer"]) is None
