"""The sample tweets: made again byte for byte, in TweetEval's layout, no leaks between splits."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "data" / "sample" / "tweet_eval" / "sentiment"
SIZES = {"train": 400, "val": 80, "test": 120}
FILES = {"mapping.txt"} | {f"{split}_{kind}.txt" for split in SIZES for kind in ("text", "labels")}


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_tweets", ROOT / "data" / "sample" / "make" / "make_tweets.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_tweets = load_script()


def lines(name: str, *, folder: Path = COMMITTED) -> list[str]:
    text = (folder / name).read_bytes().decode("utf-8")
    assert text.endswith("\n")
    return text[:-1].split("\n")


def write_source(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["label\ttext", *rows]) + "\n", encoding="utf-8", newline="\n")
    return path


def test_script_reproduces_the_committed_bytes(tmp_path: Path) -> None:
    make_tweets.main(tmp_path / "again")
    assert (
        {p.name for p in COMMITTED.iterdir()}
        == {p.name for p in (tmp_path / "again").iterdir()}
        == FILES
    )
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (COMMITTED / name).read_bytes(), name


def test_split_does_not_depend_on_the_order_of_the_source() -> None:
    tweets = make_tweets.read_tweets(make_tweets.SOURCE)
    assert make_tweets.split_tweets(tweets[::-1]) == make_tweets.split_tweets(tweets)
    assert make_tweets.split_tweets(tweets, seed=1) != make_tweets.split_tweets(tweets)


def test_every_tweet_of_the_source_is_in_exactly_one_split_with_its_label() -> None:
    source = {}
    for row in (
        (ROOT / "data" / "sample" / "make" / "tweets.tsv").read_bytes().decode().split("\n")[1:-1]
    ):
        label, text = row.split("\t")
        source[text] = label
    mapping = dict(row.split("\t") for row in lines("mapping.txt"))
    written = [
        (text, mapping[label])
        for split in SIZES
        for text, label in zip(
            lines(f"{split}_text.txt"), lines(f"{split}_labels.txt"), strict=True
        )
    ]
    assert len(written) == len(source) == 600
    assert dict(written) == source


def test_mapping_is_tweet_evals() -> None:
    assert (COMMITTED / "mapping.txt").read_bytes() == b"0\tnegative\n1\tneutral\n2\tpositive\n"


@pytest.mark.parametrize("split", SIZES)
def test_counts_and_label_distribution(split: str) -> None:
    labels = lines(f"{split}_labels.txt")
    assert len(labels) == len(lines(f"{split}_text.txt")) == SIZES[split]
    counts = Counter(labels)
    assert set(counts) == {"0", "1", "2"}
    for label, share in {"0": 0.24, "1": 0.44, "2": 0.32}.items():
        assert abs(counts[label] - share * SIZES[split]) < 1, label


def test_texts_are_one_line_of_tweet_length_and_anonymised() -> None:
    texts = [text for split in SIZES for text in lines(f"{split}_text.txt")]
    for text in texts:
        assert len(text.splitlines()) == 1 and text == text.strip() and "\t" not in text
        assert 3 <= len(text.split()) <= 35 and len(text) <= 280, text
        assert "://" not in text and "www." not in text, text
        # TweetEval writes every mention as @user.
        assert text.count("@") == text.count("@user"), text
    assert 18 <= sum(len(text.split()) for text in texts) / len(texts) <= 22


def test_no_text_in_two_splits_and_no_near_duplicate() -> None:
    def word_set(text: str) -> frozenset[str]:
        kept = [w for w in text.lower().split() if not w.startswith(("@", "#", "http"))]
        return frozenset(w.strip(".,;:!?\"'()") for w in kept) - {""}

    texts = [text for split in SIZES for text in lines(f"{split}_text.txt")]
    assert len(set(texts)) == len(texts)
    similar = [
        (a, b)
        for (a, words_a), (b, words_b) in combinations([(t, word_set(t)) for t in texts], 2)
        if len(words_a & words_b) >= 0.5 * len(words_a | words_b)
    ]
    assert not similar


def test_near_duplicates_are_refused_by_row(tmp_path: Path) -> None:
    same = "negative\t@user The tram leaves at NINE #tram http"
    rows = ["neutral\tthe tram leaves at nine", "positive\tcake!", same]
    with pytest.raises(ValueError, match="rows 2 and 4"):
        make_tweets.main(tmp_path / "out", source=write_source(tmp_path / "tweets.tsv", rows))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "row", ["happy\tgood day", "neutral", "neutral\t ", "neutral\ta\tb", "neutral\ta\u2028b", ""]
)
def test_bad_rows_are_refused_by_number(tmp_path: Path, row: str) -> None:
    source = write_source(tmp_path / "tweets.tsv", ["positive\tcake!", row])
    with pytest.raises(ValueError, match="row 3"):
        make_tweets.read_tweets(source)


def test_wrong_header_and_wrong_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tweets.tsv").write_text("neutral\tno header\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 1"):
        make_tweets.read_tweets(tmp_path / "tweets.tsv")
    with pytest.raises(ValueError, match="has 1 tweets.*need 600"):
        make_tweets.split_tweets([("neutral", "alone")])


@given(counts=st.lists(st.integers(1, 500), min_size=1, max_size=5), data=st.data())
def test_class_quotas_fill_the_split_within_one_of_the_share(
    counts: list[int], data: st.DataObject
) -> None:
    size = data.draw(st.integers(0, sum(counts)))
    quotas = make_tweets.class_quotas(counts, size)
    assert sum(quotas) == size
    for quota, count in zip(quotas, counts, strict=True):
        assert abs(quota - count * size / sum(counts)) < 1 and quota <= count


def test_no_sample_tweet_is_a_real_one() -> None:
    if not os.environ.get("HW2_REAL_DATA"):
        pytest.skip("HW2_REAL_DATA is not set: no real tweets to compare with")
    folder = Path(os.environ["HW2_REAL_DATA"]) / "tweet_eval" / "sentiment"

    def normal(text: str) -> str:
        return " ".join(text.lower().replace("@user", "").replace("http", "").split())

    # Lines end with \n alone: real tweets hold other Unicode line separators.
    real = {
        normal(text)
        for split in SIZES
        for text in (folder / f"{split}_text.txt").read_bytes().decode("utf-8").split("\n")
    }
    assert len(real) > 40_000
    assert not {normal(text) for split in SIZES for text in lines(f"{split}_text.txt")} & real


def test_a_drawn_tweets_length_gives_its_label_away():
    """Grouping by length makes batches one-sided here; of real tweets it doesn't (RESULTS.md)."""
    from sklearn.tree import DecisionTreeClassifier

    words = {s: [[len(t.split())] for t in lines(f"{s}_text.txt")] for s in ("train", "test")}
    labels = {s: lines(f"{s}_labels.txt") for s in ("train", "test")}
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(words["train"], labels["train"])
    most = Counter(labels["train"]).most_common(1)[0][0]
    assert round(tree.score(words["test"], labels["test"]), 2) == 0.55
    assert round(labels["test"].count(most) / len(labels["test"]), 2) == 0.44
