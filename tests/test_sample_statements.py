"""The sample's statements: made from their source, balanced, not to be told apart by words."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from hw2_utils import statements

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"
NEGATIONS = ("not", "no", "cannot")
NUMBER = re.compile(
    r"\b(\d+|zero|one|two|three|four|five|six|eight|ten|\w+teen|(thir|six|eigh|fif)ty)\b"
)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_statements", SAMPLE / "make" / "make_statements.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pairs(maker: ModuleType) -> list[dict[str, str]]:
    return maker.read_pairs()


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def test_regenerates_to_the_committed_bytes(maker: ModuleType, tmp_path: Path) -> None:
    made = maker.main(tmp_path / "new")
    assert made.read_bytes() == (SAMPLE / "statements" / "statements.csv").read_bytes()


def test_reads_balanced_in_each_topic(pairs: list[dict[str, str]]) -> None:
    data = statements.read(SAMPLE / "statements" / "statements.csv")
    counts = data.frame.groupby(["topic", "label"]).size()
    assert len(data.frame) == 200 and len(counts) == 20 and set(counts) == {10}
    assert data.notes == []
    source = {(pair[label], label, pair["topic"]) for pair in pairs for label in ("true", "false")}
    assert (
        set(data.frame[["statement", "label", "topic"]].itertuples(index=False, name=None))
        == source
    )


def test_the_order_says_nothing_about_the_label() -> None:
    labels = (
        statements.read(SAMPLE / "statements" / "statements.csv")
        .frame["label"]
        .eq("true")
        .to_numpy()
    )
    assert abs(np.corrcoef(labels[1:], labels[:-1])[0, 1]) < 0.14  # 2 / sqrt(200)
    assert 35 <= labels[:100].sum() <= 65


def test_twins_have_one_form(pairs: list[dict[str, str]]) -> None:
    for pair in pairs:
        true, false = words(pair["true"]), words(pair["false"])
        shared = (Counter(true) & Counter(false)).total() / max(len(true), len(false))
        assert shared >= 0.7, f"only {shared:.2f} of the words are shared: {pair}"
        assert abs(len(true) - len(false)) <= 2 and pair["true"][-1] == pair["false"][-1] == ".", (
            pair
        )
        assert 0.8 <= len(pair["true"]) / len(pair["false"]) <= 1.25, pair


def test_neither_length_nor_negation_nor_numbers_tell_the_label(
    pairs: list[dict[str, str]],
) -> None:
    side = {label: [pair[label] for pair in pairs] for label in ("true", "false")}
    used = {
        label: Counter(word for text in texts for word in words(text))
        for label, texts in side.items()
    }
    for negation in NEGATIONS:
        assert used["true"][negation] == used["false"][negation] > 0, negation
    shifts = [
        tuple(bool(set(words(pair[label])) & set(NEGATIONS)) for label in side) for pair in pairs
    ]
    assert min(shifts.count((True, False)), shifts.count((False, True))) >= 8, "in one twin alone"
    assert shifts.count((True, True)) >= 5, "in both twins"
    with_number = {
        label: sum(bool(NUMBER.search(text)) for text in texts) for label, texts in side.items()
    }
    assert abs(with_number["true"] - with_number["false"]) <= 2, with_number
    longer = np.sign([len(pair["true"]) - len(pair["false"]) for pair in pairs])
    assert abs(int(longer.sum())) <= 10


def test_frames_vary(pairs: list[dict[str, str]]) -> None:
    for topic in {pair["topic"] for pair in pairs}:
        openings = Counter(
            tuple(words(pair["true"])[:2]) for pair in pairs if pair["topic"] == topic
        )
        assert max(openings.values()) <= 2, (topic, openings.most_common(1))


def test_words_alone_do_not_tell_the_label(pairs: list[dict[str, str]]) -> None:
    texts = [pair[label] for pair in pairs for label in ("true", "false")]
    labels = np.tile([1, 0], len(pairs))
    groups = np.repeat(np.arange(len(pairs)), 2)  # twins never part: one would give the other away
    for ngrams in ((1, 1), (1, 2)):
        model = make_pipeline(
            CountVectorizer(ngram_range=ngrams), LogisticRegression(max_iter=1000)
        )
        accuracy = cross_val_score(model, texts, labels, groups=groups, cv=GroupKFold(10)).mean()
        assert accuracy <= 0.60, (
            f"words (n-grams {ngrams}) tell true from false with accuracy {accuracy:.3f}"
        )
