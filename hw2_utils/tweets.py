"""Tweets with a sentiment: TweetEval's text files, the hub's parquet files or one CSV file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hw2_utils.datafiles import (
    Dataset,
    files_sha256,
    kept_notes,
    read_lines,
    read_table,
    read_text,
    refuse_all,
    refuse_empty,
    require_files,
    variant_notes,
)
from hw2_utils.errors import explained, require

HUB_FILES = {
    "train": "train-00000-of-00001.parquet",
    "val": "validation-00000-of-00001.parquet",
    "test": "test-00000-of-00001.parquet",
}
TEXT_FILES = [f"{split}_{part}.txt" for split in HUB_FILES for part in ("text", "labels")]
CSV_COLUMNS = {name: {name} for name in ("text", "label", "split")}
CSV_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "validation", "dev"), "val")
LAYOUTS = (
    "give a folder with {train,val,test}_text.txt, {train,val,test}_labels.txt and mapping.txt, "
    "or with {train,validation,test}-00000-of-00001.parquet, or one CSV file with commas, not "
    "tabs, columns text, label and, if you like, split, and a name that ends in .csv"
)
MAX_ROWS, MAX_BYTES = 2_000_000, 2**30  # of a parquet file, uncompressed
MIN_PER_CLASS = 10  # a tenth of fewer is no tweet
Tweets = (
    Dataset  # columns id, text, label (a class name); classes in the order of the label numbers
)


class Row(NamedTuple):
    """A tweet as its file has it, and where."""

    split: str
    where: str
    text: object
    label: str


def read(
    folder: Path | str, *, classes: tuple[str, ...] = ("negative", "neutral", "positive")
) -> Tweets:
    """Reads a folder in TweetEval's own layout or in the hub's; or one CSV file.

    TweetEval: `{train,val,test}_text.txt` and `_labels.txt`, one tweet a line, and `mapping.txt`
    (label number, tab, class name). Hub, where there is no `*_text.txt`: HUB_FILES (columns text,
    label); class names from their metadata or `mapping.txt`; without, labels that are strings name
    them, and numbers are `classes`. CSV: columns text, label (two or more names) and split (train,
    val or test); without split 80, 10 and 10 % of each class, by a fixed draw.
    Raises InputError: a missing folder or file, not UTF-8, unequal line counts, an empty split,
    a bad mapping, class names that disagree, a label outside them, one class in train, a parquet
    file over MAX_ROWS or MAX_BYTES. Blank, duplicate and overlong tweets, classes without a tweet
    and labels that may be one are kept and noted.
    """
    folder = Path(folder)
    files = _find_files(folder)
    if files == [folder]:
        rows, names, notes = _read_csv(folder)
    elif folder / TEXT_FILES[0] in files:
        rows, names, notes = _read_text_files(folder)
    else:
        rows, names, notes = _read_hub(folder, classes)
    refuse_all(
        (
            (row.where, f"label {row.label!r:.80} is not in the mapping")
            for row in rows
            if row.label not in names
        ),
        todo=f"labels are {names!s:.500}",
    )
    refuse_all(
        ((row.where, f"text is {row.text!r:.80}") for row in rows if not isinstance(row.text, str)),
        todo="give each tweet a text",
    )
    splits = {split: _frame(split, rows, names, folder) for split in HUB_FILES}
    require(
        splits["train"]["label"].nunique() > 1,
        "train has one class only",
        where=folder,
        todo="add tweets of another class",
    )
    classes = tuple(dict.fromkeys(names.values()))
    notes += _class_notes(splits, classes) + _notes(splits)
    return Tweets(splits, classes, notes, files_sha256(files))


def _find_files(path: Path) -> list[Path]:
    """The files of the layout that is there."""
    if path.suffix.lower() == ".csv":
        return [path]
    require(not path.is_file(), "the file is in none of the layouts", where=path, todo=LAYOUTS)
    is_hub = any(path.glob("*.parquet")) and not any(path.glob("*_text.txt"))
    names = list(HUB_FILES.values()) if is_hub else list(TEXT_FILES)
    names += ["mapping.txt"] if not is_hub or (path / "mapping.txt").exists() else []
    require_files(path, names, todo=LAYOUTS)
    return [path / name for name in names]


def _read_csv(path: Path) -> tuple[list[Row], dict[str, str], list[str]]:
    """Rows, the class of each label, and what is to note."""
    records = read_table(path, CSV_COLUMNS, optional="split").rows()
    refuse_empty(records, "label")
    labels = [record["label"].strip() for _, record in records]
    given = [record.get("split", "train").strip().lower() for _, record in records]
    refuse_all(
        (
            (where, f"split {split!r:.80} is none")
            for (where, _), split in zip(records, given, strict=True)
            if split not in CSV_SPLITS
        ),
        todo="use train, val or test",
    )
    splits, notes = [CSV_SPLITS[split] for split in given], []
    if not any("split" in record for _, record in records):
        splits, notes = _draw_splits(pd.Series(labels, dtype=object), path)
    rows = [
        Row(split, where, record["text"], label)
        for split, (where, record), label in zip(splits, records, labels, strict=True)
    ]
    return rows, {label: label for label in sorted(set(labels))}, notes


def _draw_splits(labels: pd.Series, path: Path) -> tuple[list[str], list[str]]:
    """A split for each label, 80, 10 and 10 % of each class, and what is to note."""
    counts = labels.value_counts().to_dict()
    few = {name: count for name, count in counts.items() if count < MIN_PER_CLASS}
    require(
        not few or len(few) < len(counts),
        "; ".join([f"too few tweets: {few!s:.200}", *variant_notes(counts, what="labels")]),
        where=path,
        todo=f"have at least {MIN_PER_CLASS} tweets a class, to draw 80, 10 and 10 % of it, "
        "or add a column split with train, val and test",
    )
    by_class = labels.sample(frac=1, random_state=0).groupby(labels)
    place = by_class.cumcount() / by_class.transform("size")
    splits = [list(HUB_FILES)[(share >= 0.8) + (share >= 0.9)] for share in place.sort_index()]
    note = f"classes with fewer than {MIN_PER_CLASS} tweets have none in test: {few!s:.200}"
    return splits, [note] if few else []


def subset(tweets: Tweets, *, max_train_examples: int, seed: int = 0) -> Tweets:
    """The same tweets with at most `max_train_examples` in train (0 = all); val and test stay whole.

    Stratified and seeded: rows are shuffled, ranked inside their class and taken in the order of
    rank / class size. So each class has its share (to within one tweet a class), a smaller subset lies
    inside a larger one, and file order is kept. Raises InputError for a number below 0 and for 1.
    """
    train = tweets.splits["train"]
    require(
        max_train_examples == 0 or max_train_examples > 1,
        f"max_train_examples is {max_train_examples}",
        where="parameters",
        todo="give 0 (all) or at least 2",
    )
    if max_train_examples == 0 or max_train_examples >= len(train):
        return tweets
    by_class = train["label"].sample(frac=1, random_state=seed).groupby(train["label"])
    order = (by_class.cumcount() / by_class.transform("size")).sort_values(kind="stable").index
    kept = train.loc[sorted(order[:max_train_examples])].reset_index(drop=True)
    notes = [
        *tweets.notes,
        f"train: {len(kept):,} of {len(train):,} tweets, stratified, seed {seed}",
    ]
    lost = set(train["label"]) - set(kept["label"])
    if lost:
        notes.append(
            f"train: no tweet is left of {', '.join(c for c in tweets.classes if c in lost)}"
        )
    return replace(tweets, splits={**tweets.splits, "train": kept}, notes=notes)


def _read_mapping(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    for line in read_text(path).rstrip().split("\n"):
        number, name = (line.split("\t") + [""])[:2]
        require(
            number.strip() == str(len(names)) and name.strip() not in ("", *names),
            f"bad mapping {[number, name]!s:.80}",
            where=f"{path}, row {len(names) + 1}",
            todo="a line a class: its number, counted from 0, a tab, a name of its own",
        )
        names.append(name.strip())
    return tuple(names)


def _read_text_files(folder: Path) -> tuple[list[Row], dict[str, str], list[str]]:
    """Rows, the class of each label, and what is to note."""
    names, rows = _read_mapping(folder / "mapping.txt"), []
    for split in HUB_FILES:
        texts, labels = (read_lines(folder / f"{split}_{part}.txt") for part in ("text", "labels"))
        require(
            len(texts) == len(labels),
            f"{split}_text.txt has {len(texts)} lines, {split}_labels.txt has {len(labels)}",
            where=folder,
            todo="give each tweet one line in both files",
        )
        rows += [
            Row(split, f"{folder / split}_labels.txt, row {row}", text, label.strip())
            for row, (text, label) in enumerate(zip(texts, labels, strict=True), 1)
        ]
    return rows, _numbered(names), []


def _numbered(names: tuple[str, ...]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _read_hub(
    folder: Path, default: tuple[str, ...]
) -> tuple[list[Row], dict[str, str], list[str]]:
    """Rows, the class of each label, and what is to note."""
    rows, labels, given = [], [], {}
    for split, name in HUB_FILES.items():
        tweets, given[name] = _read_parquet(folder / name)
        labels += [label for _, label in tweets]
        rows += [
            Row(
                split,
                f"{folder / name}, row {row}",
                text,
                "" if label is None else str(label).strip(),
            )
            for row, (text, label) in enumerate(tweets, 1)
        ]
    if (folder / "mapping.txt").exists():
        given = {name: names for name, names in given.items() if names}
        given["mapping.txt"] = _read_mapping(folder / "mapping.txt")
    classes = next(reversed(given.values()))
    require(
        set(given.values()) == {classes},
        f"the class names differ: {given!s:.500}",
        where=folder,
        todo="take all files from one data set; correct mapping.txt or delete it",
    )
    names, notes = _hub_names(labels, classes, default, folder)
    return rows, names, notes


def _hub_names(
    labels: list[object], classes: tuple[str, ...], default: tuple[str, ...], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """The class of each label, and what is to note; `classes` are those that the files name."""
    strings = {label.strip() for label in labels if isinstance(label, str)} - {""}
    if strings & set(classes or strings):
        return {name: name for name in classes or sorted(strings)}, []
    if classes:
        return _numbered(classes), []
    highest = max((label for label in labels if isinstance(label, int)), default=-1)
    require(
        highest >= len(default) - 1,
        f"no class names, and labels up to {highest}: that is not {', '.join(default)}",
        where=folder,
        todo="add mapping.txt: a line a class, its number, a tab, its name",
    )
    return _numbered(default), [f"no file has class names: labels are {_numbered(default)}"]


def _read_parquet(path: Path) -> tuple[list[tuple[object, object]], tuple[str, ...]]:
    """Texts with labels of a parquet file, and the class names in the metadata of the hub."""
    from pyarrow import ArrowException, parquet

    kinds = (ArrowException, AttributeError, KeyError, OSError, TypeError, ValueError)
    todo = "replace it by a parquet file with the columns text and label"
    with (
        explained("no text and label", *kinds, where=path, todo=todo),
        parquet.ParquetFile(path) as file,
    ):
        absent = {"text", "label"} - set(file.schema_arrow.names)
        if absent:
            raise ValueError(f"{absent} does not exist, the columns are {file.schema_arrow.names}")
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        n_rows, n_bytes = file.metadata.num_rows, sum(group.total_byte_size for group in groups)
        require(
            n_rows <= MAX_ROWS and n_bytes <= MAX_BYTES,
            f"too large: {n_rows:,} rows, {n_bytes:,} bytes uncompressed",
            where=path,
            todo=f"give at most {MAX_ROWS:,} rows and {MAX_BYTES:,} bytes",
        )
        table = file.read(columns=["text", "label"])
        metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", "{}"))
        feature = metadata.get("info", {}).get("features", {}).get("label", {})
        texts, labels = (table[name].to_pylist() for name in ("text", "label"))
        return list(zip(texts, labels, strict=True)), tuple(feature.get("names", ()))


def _frame(split: str, rows: list[Row], names: dict[str, str], folder: Path) -> pd.DataFrame:
    own = [row for row in rows if row.split == split]
    require(own, f"the {split} split is empty", where=folder, todo="give it at least one tweet")
    ids = [f"{split}/{number}" for number in range(len(own))]
    texts, labels = [row.text for row in own], [names[row.label] for row in own]
    return pd.DataFrame({"id": ids, "text": texts, "label": labels})


def _class_notes(splits: dict[str, pd.DataFrame], classes: tuple[str, ...]) -> list[str]:
    """What is to note about classes without a tweet in train, and classes that may be one."""
    trained = set(splits["train"]["label"])
    counts = Counter(label for frame in splits.values() for label in frame["label"])
    absent = [f"{name} ({counts[name]} elsewhere)" for name in classes if name not in trained]
    notes = [f"classes without a tweet in train: {', '.join(absent)}"] if absent else []
    return notes + variant_notes({name: counts[name] for name in classes}, what="labels")


def _notes(splits: dict[str, pd.DataFrame]) -> list[str]:
    notes, seen = [], set(splits["train"]["text"])
    for split, frame in splits.items():
        notes += kept_notes(
            split,
            {
                "blank tweets": (frame["text"].map(str.strip) == "").sum(),
                "exact duplicates of an earlier row": frame.duplicated(["text", "label"]).sum(),
                "tweets over 280 characters": (
                    frame["text"].map(len) > 280
                ).sum(),  # the platform's limit
                "tweets whose text is also in train": frame["text"].isin(seen).sum()
                * (split != "train"),
            },
        )
    return notes
