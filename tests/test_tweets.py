"""The tweet reader: both layouts, lines that end only at LF, stratified subsets."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from hw2_utils import tweets
from hw2_utils.errors import InputError

CLASSES = ("negative", "neutral", "positive")
SMALL = {
    "train": (["bad", "so so", "good", "fine"], [0, 1, 2, 2]),
    "val": (["hm"], [1]),
    "test": (["no", "yes"], [0, 2]),
}


def write_text_files(folder: Path, splits: dict, *, end: str = "\n", bom: bytes = b"") -> Path:
    for split, (texts, labels) in splits.items():
        (folder / f"{split}_text.txt").write_bytes(
            bom + "".join(text + end for text in texts).encode()
        )
        (folder / f"{split}_labels.txt").write_bytes(
            "".join(f"{label}{end}" for label in labels).encode()
        )
    mapping = "".join(f"{number}\t{name}{end}" for number, name in enumerate(CLASSES))
    (folder / "mapping.txt").write_bytes(bom + mapping.encode())
    return folder


def write_parquet(folder: Path, splits: dict) -> Path:
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        texts, labels = splits[split]
        pd.DataFrame({"text": texts, "label": labels}).to_parquet(
            folder / f"{name}-00000-of-00001.parquet"
        )
    return folder


def test_text_files_are_read_as_written(tmp_path):
    data = tweets.read(write_text_files(tmp_path, SMALL))
    assert list(data.splits) == ["train", "val", "test"]
    assert data.classes == CLASSES
    assert data.splits["train"].to_dict("list") == {
        "id": ["train/0", "train/1", "train/2", "train/3"],
        "text": ["bad", "so so", "good", "fine"],
        "label": ["negative", "neutral", "positive", "positive"],
    }
    assert data.splits["test"]["id"].tolist() == ["test/0", "test/1"]
    assert data.notes == []


def test_hub_layout_gives_the_same_rows(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "hub").mkdir()
    text = tweets.read(write_text_files(tmp_path / "text", SMALL))
    hub = tweets.read(write_parquet(tmp_path / "hub", SMALL))
    for split in text.splits:
        pd.testing.assert_frame_equal(text.splits[split], hub.splits[split])
    assert hub.classes == CLASSES


def write_named_parquet(folder: Path, splits: dict, names: list[str], *, without: str = "") -> Path:
    """As `write_parquet`, with the class names that the library `datasets` would write."""
    for path in write_parquet(folder, splits).glob("*.parquet"):
        if without and path.name.startswith(without):
            continue
        feature = {"names": names, "_type": "ClassLabel"}
        info = json.dumps({"info": {"features": {"label": feature}}})
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({"huggingface": info}), path)
    return folder


def labels_of(data: tweets.Tweets) -> dict[str, list[str]]:
    return {split: frame["label"].tolist() for split, frame in data.splits.items()}


TWO = {"train": (["a", "b"], [1, 0]), "val": (["c"], [0]), "test": (["d"], [1])}


def test_hub_class_names_come_from_the_files_own_metadata(tmp_path):
    data = tweets.read(write_named_parquet(tmp_path, TWO, ["non_irony", "irony"]))
    assert data.classes == ("non_irony", "irony") and data.notes == []
    assert labels_of(data)["train"] == ["irony", "non_irony"]
    (tmp_path / "mapping.txt").write_text("0\tnon_irony\n1\tirony\n")
    assert tweets.read(tmp_path).classes == ("non_irony", "irony")
    (tmp_path / "mapping.txt").write_text("0\tirony\n1\tnon_irony\n")
    with pytest.raises(InputError, match=r"the class names differ: .*mapping\.txt': \('irony'"):
        tweets.read(tmp_path)


@pytest.mark.parametrize("other", [["irony", "non_irony"], ["non_irony", "irony", "x"], None])
def test_hub_class_names_are_the_same_in_all_files(tmp_path, other):
    write_named_parquet(tmp_path, TWO, ["non_irony", "irony"], without="test" if not other else "")
    if other:
        (tmp_path / "other").mkdir()
        source = write_named_parquet(tmp_path / "other", TWO, other)
        name = "test-00000-of-00001.parquet"
        (source / name).rename(tmp_path / name)
    with pytest.raises(InputError, match="the class names differ"):
        tweets.read(tmp_path)


def test_a_class_that_the_metadata_names_and_nobody_has_is_noted(tmp_path):
    splits = TWO | {"val": (["c"], [2])}
    data = tweets.read(write_named_parquet(tmp_path, splits, ["a", "b", "c", "d"]))
    assert data.classes == ("a", "b", "c", "d")
    assert data.notes == ["classes without a tweet in train: c (1 elsewhere), d (0 elsewhere)"]


def test_hub_labels_that_are_names_are_the_classes(tmp_path):
    splits = {
        "train": (["a", "b"], ["pos", " neg"]),
        "val": (["c"], ["neg"]),
        "test": (["d"], ["pos"]),
    }
    data = tweets.read(write_parquet(tmp_path, splits))
    assert data.classes == ("neg", "pos") and data.notes == []
    assert labels_of(data)["train"] == ["pos", "neg"]
    (tmp_path / "mapping.txt").write_text("0\tpos\n1\tneg\n")
    assert tweets.read(tmp_path).classes == ("pos", "neg")
    (tmp_path / "mapping.txt").write_text("0\tpos\n1\tother\n")
    with pytest.raises(InputError, match="2 problems\n.*label 'neg' is not in the mapping"):
        tweets.read(tmp_path)


@pytest.mark.parametrize("bad", [None, "", " "])
def test_hub_labels_that_are_no_names_are_refused(tmp_path, bad):
    splits = {
        "train": (["a", "b", "c"], ["x", bad, "y"]),
        "val": (["c"], ["x"]),
        "test": (["d"], ["y"]),
    }
    with pytest.raises(InputError, match="parquet, row 2: label '' is not in the mapping"):
        tweets.read(write_parquet(tmp_path, splits))


def test_numbers_as_text_stand_for_the_classes_of_the_mapping(tmp_path):
    splits = {"train": (["a", "b"], ["0", "1"]), "val": (["c"], ["0"]), "test": (["d"], ["1"])}
    write_parquet(tmp_path, splits)
    (tmp_path / "mapping.txt").write_text("0\tpos\n1\tneg\n")
    assert labels_of(tweets.read(tmp_path))["train"] == ["pos", "neg"]


def test_default_classes_are_noted(tmp_path):
    data = tweets.read(write_parquet(tmp_path, SMALL))
    assert data.classes == CLASSES
    assert len(data.notes) == 1 and data.notes[0].startswith("no file has class names")


@pytest.mark.parametrize("rows, length", [(2_000_001, 1), (3, 2**21)])
def test_a_parquet_file_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch, rows, length):
    monkeypatch.setattr(tweets, "MAX_BYTES", 2**22)
    write_parquet(tmp_path, SMALL)
    texts = [letter * length for letter in "abc"] if rows == 3 else ["x"] * rows
    table = pa.table({"text": texts, "label": [0] * rows})
    path = tmp_path / "test-00000-of-00001.parquet"
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match=r"too large: .*\n.* at most 2,000,000 rows") as caught:
        tweets.read(tmp_path)
    assert f"{rows:,} rows" in str(caught.value)


def test_hub_class_names_come_from_the_mapping_file_or_the_caller(tmp_path):
    write_parquet(tmp_path, SMALL)
    assert tweets.read(tmp_path, classes=("a", "b", "c")).splits["val"]["label"].tolist() == ["b"]
    (tmp_path / "mapping.txt").write_text("0\tx\n1\ty\n2\tz\n")
    assert tweets.read(tmp_path, classes=("a", "b", "c")).classes == ("x", "y", "z")


def test_checksum_changes_with_any_byte_of_any_file(tmp_path):
    before = tweets.read(write_text_files(tmp_path, SMALL)).sha256
    assert tweets.read(tmp_path).sha256 == before
    seen = {before}
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"\n", b"\r\n", 1))
        seen.add(tweets.read(tmp_path).sha256)
        path.write_bytes(content)
    assert len(seen) == 8
    assert tweets.read(tmp_path).sha256 == before


def test_what_is_kept_is_counted(tmp_path):
    splits = SMALL | {
        "train": (["bad", " \t", "good", "bad", "", "x" * 281], [0, 1, 2, 0, 1, 1]),
        "val": (["good", "hm"], [2, 1]),
    }
    data = tweets.read(write_text_files(tmp_path, splits))
    assert len(data.splits["train"]) == 6
    assert data.notes == [
        "train: 2 blank tweets (kept)",
        "train: 1 exact duplicates of an earlier row (kept)",
        "train: 1 tweets over 280 characters (kept)",
        "val: 1 tweets whose text is also in train (kept)",
    ]


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(st.text().map(lambda text: text.replace("\n", "")), min_size=2, max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_any_texts_without_lf_survive_the_text_layout(texts, end, bom):
    if end == "\n":  # a CR before LF belongs to the line end
        texts = [text.rstrip("\r") for text in texts]
    if not bom:  # a first character U+FEFF is the byte-order mark
        texts[0] = texts[0].lstrip("\ufeff")
    labels = [row % 2 for row in range(len(texts))]
    with tempfile.TemporaryDirectory() as name:
        folder = write_text_files(Path(name), SMALL | {"train": (texts, labels)}, end=end, bom=bom)
        data = tweets.read(folder)
    assert data.splits["train"]["text"].tolist() == texts
    assert data.splits["train"]["label"].tolist() == [CLASSES[label] for label in labels]


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(), min_size=2, max_size=8))
def test_any_texts_survive_the_hub_layout(texts):
    labels = [row % 2 for row in range(len(texts))]
    with tempfile.TemporaryDirectory() as folder:
        data = tweets.read(write_parquet(Path(folder), SMALL | {"train": (texts, labels)}))
    assert data.splits["train"]["text"].tolist() == texts


def of_labels(labels: list[int]) -> tweets.Tweets:
    train = pd.DataFrame(
        {
            "id": [f"train/{row}" for row in range(len(labels))],
            "text": "t",
            "label": [CLASSES[label] for label in labels],
        }
    )
    return tweets.Tweets({"train": train, "val": train[:1], "test": train[:1]}, CLASSES, [], "0")


@settings(max_examples=80, deadline=None)
@given(labels=st.lists(st.integers(0, 2), min_size=3, max_size=120), data=st.data())
def test_subset_is_stratified_nested_and_in_file_order(labels, data):
    size = data.draw(st.integers(2, len(labels)))
    seed = data.draw(st.integers(0, 5))
    whole = of_labels(labels)
    kept = tweets.subset(whole, max_train_examples=size, seed=seed).splits["train"]
    rows = [int(name.split("/")[1]) for name in kept["id"]]
    assert len(rows) == size and rows == sorted(set(rows))
    counts, total = Counter(kept["label"]), Counter(whole.splits["train"]["label"])
    for name, count in total.items():
        assert abs(counts[name] - size * count / len(labels)) <= len(total)
    assert len(counts) == min(size, len(total))
    smaller = tweets.subset(whole, max_train_examples=max(2, size // 2), seed=seed).splits["train"]
    assert set(smaller["id"]) <= set(kept["id"])


def test_subset_keeps_the_shares_of_unequal_classes():
    part = tweets.subset(of_labels([0] * 160 + [1] * 30 + [2] * 10), max_train_examples=40)
    counts = Counter(part.splits["train"]["label"])
    assert all(
        abs(counts[name] - share) <= 1 for name, share in zip(CLASSES, (32, 6, 2), strict=True)
    )


def test_subset_says_which_classes_it_leaves_without_a_tweet():
    part = tweets.subset(of_labels([0] * 5 + [1] * 5 + [2] * 5), max_train_examples=2)
    kept = set(part.splits["train"]["label"])
    lost = [name for name in part.classes if name not in kept]
    assert len(kept) == 2 and part.notes[-1] == f"train: no tweet is left of {lost[0]}"


def test_subset_depends_on_its_seed_alone():
    whole = of_labels([0, 1, 2] * 40)
    first, again, other = (
        set(tweets.subset(whole, max_train_examples=12, seed=seed).splits["train"]["id"])
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_subset_of_all_leaves_everything_and_says_nothing():
    whole = of_labels([0, 1, 2])
    assert tweets.subset(whole, max_train_examples=0) is whole
    assert tweets.subset(whole, max_train_examples=3) is whole
    part = tweets.subset(whole, max_train_examples=2)
    assert part.notes[0] == "train: 2 of 3 tweets, stratified, seed 0"
    assert part.splits["val"] is whole.splits["val"]


@pytest.mark.parametrize("size", [-1, 1])
def test_subset_refuses_sizes_without_a_meaning(size):
    with pytest.raises(InputError, match=rf"max_train_examples is {size}\b"):
        tweets.subset(of_labels([0, 1, 2]), max_train_examples=size)


@pytest.mark.skipif(
    not os.environ.get("HW2_REAL_DATA"), reason="HW2_REAL_DATA names no folder of real data"
)
def test_real_tweets():
    folder = Path(os.environ["HW2_REAL_DATA"]) / "tweet_eval" / "sentiment"
    data = tweets.read(folder)
    assert {split: len(frame) for split, frame in data.splits.items()} == {
        "train": 42213,
        "val": 2000,
        "test": 6000,
    }
    assert data.classes == CLASSES
    for split, frame in data.splits.items():  # against the bytes of the files, by another route
        numbers = (folder / f"{split}_labels.txt").read_text().split()
        assert frame["label"].map(CLASSES.index).astype(str).tolist() == numbers
        assert (
            "".join(text + "\n" for text in frame["text"]).encode()
            == (folder / f"{split}_text.txt").read_bytes()
        )


# ------------------------------------------------------------------------------------- one CSV file
def test_a_csv_with_splits_is_read_as_written(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        'Label,text,split\nspam,"win, now",train\nham,"so\n""long""",train\n'
        "news,x,val\nspam,y,test\n",
        encoding="utf-8",
    )
    data = tweets.read(path)
    assert data.classes == ("ham", "news", "spam")
    assert data.splits["train"].to_dict("list") == {
        "id": ["train/0", "train/1"],
        "text": ["win, now", 'so\n"long"'],
        "label": ["spam", "ham"],
    }
    assert data.splits["val"]["label"].tolist() == ["news"] and data.splits["test"][
        "id"
    ].tolist() == ["test/0"]


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(10, 60), min_size=2, max_size=5))
def test_a_csv_without_splits_is_cut_in_8_1_1_of_each_class_the_same_each_time(sizes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.csv"
        rows = [f"{c}-{i},class {c}" for c, n in enumerate(sizes) for i in range(n)]
        path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
        data = tweets.read(path)
        assert sorted(t for f in data.splits.values() for t in f["text"]) == sorted(
            r.split(",")[0] for r in rows
        )
        for c, n in enumerate(sizes):
            found = [int((f["label"] == f"class {c}").sum()) for f in data.splits.values()]
            assert all(
                abs(k - share * n) <= 1 for k, share in zip(found, (0.8, 0.1, 0.1), strict=True)
            )
        again = tweets.read(path)
        assert all(again.splits[s].equals(f) for s, f in data.splits.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,x\nb,\n", "row 3: the label is empty"),
        (
            "text,label,split\na,x,fit\nb,y,\n",
            r"2 problems\n  row 2: split 'fit' .*\n  row 3: split ''",
        ),
        ("text,label\na,\nb,x\nc, \n", r"2 problems\n  row 2: the label is empty\n  row 4: "),
        ("text,label,splits\na,x,train\n", "nearly right: 'splits'"),
        ("text;label\na;x\n", "the separators are semicolons"),
        ("text,topic\na,x\n", "columns for label"),
        ("text,label\na,x\nb,y\n", r"too few tweets: .*\n.*at least 10 .*column split"),
        ("text,label\n", "split is empty|one class"),
        ('text,label\n"a,x\n', "broken CSV"),
        ("text,label,split\na,x,train\nb,x,val\nc,y,test\n", "one class only"),
    ],
)
def test_csv_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "own.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        tweets.read(tmp_path / "own.csv")


def test_splits_go_by_the_names_that_others_use(tmp_path):
    path = tmp_path / "own.CSV"
    path.write_text("text,label,split\na,x,Train\nb,y, train\nc,x,validation\nd,y,dev\ne,x,TEST\n")
    sizes = {split: len(frame) for split, frame in tweets.read(path).splits.items()}
    assert sizes == {"train": 2, "val": 2, "test": 1}


@pytest.mark.parametrize(
    "labels", [["Neg", "neg", "pos"], ["1", "1.0", "-1"], ["a b", "a  b", "c"]]
)
def test_labels_that_may_be_one_are_noted_with_their_counts(tmp_path, labels):
    path = tmp_path / "own.csv"
    rows = [f"tweet {n} {label},{label}" for label in labels for n in range(10)]
    path.write_text("\n".join(["text,label", *rows]))
    data = tweets.read(path)
    assert len(data.classes) == 3
    found = sorted(f"{label!r} (10)" for label in labels[:2])
    assert data.notes == [f"labels that may be one are kept apart: {', '.join(found)}"]


def test_too_few_tweets_to_draw_from_are_refused_with_labels_that_may_be_one(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text,label\n" + "a,Neg\n" * 5 + "b,neg\n" * 5 + "c,pos\n" * 9)
    with pytest.raises(InputError, match=r"'pos': 9.*; labels that may be one .*'neg' \(5\)"):
        tweets.read(path)


def test_a_class_too_small_to_draw_from_is_noted(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text,label\n" + "".join(f"{n},{'ab'[n < 9]}\n" for n in range(40)))
    data = tweets.read(path)
    assert data.notes == ["classes with fewer than 10 tweets have none in test: {'b': 9}"]
    assert set(data.splits["test"]["label"]) == {"a"}


@pytest.mark.parametrize("name", ["a.tsv", "train.parquet", "a.json", "a.zip", "tweets"])
def test_a_file_in_no_layout_is_refused_with_the_layouts(tmp_path, name):
    (tmp_path / name).write_text("text\tlabel\na\tx\n")
    with pytest.raises(
        InputError, match=r"in none of the layouts\n.*commas, not tabs.*ends in \.csv"
    ):
        tweets.read(tmp_path / name)
