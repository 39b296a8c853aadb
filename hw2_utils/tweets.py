"""Tweets with a sentiment: TweetEval's text files, the hub's parquet files or one CSV file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hw2_utils.datafiles import (
    SPLITS,
    Dataset,
    files_sha256,
    kept_notes,
    numbered_rows,
    read_lines,
    read_table,
    read_text,
    refuse_empty,
    refuse_rows,
    require_files,
    split_frames,
    variant_notes,
)
from hw2_utils.errors import explained, require

HUB_FILES = {
    "train": "train-00000-of-00001.parquet",
    "val": "validation-00000-of-00001.parquet",
    "test": "test-00000-of-00001.parquet",
}
TEXT_FILES = [f"{split}_{part}.txt" for split in SPLITS for part in ("text", "labels")]
CSV_COLUMNS = {name: {name} for name in ("text", "label", "split")}
CSV_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "validation", "dev"), "val")
LAYOUTS = (
    "give a folder with {train,val,test}_text.txt, {train,val,test}_labels.txt and mapping.txt, "
    "or with {train,validation,test}-00000-of-00001.parquet, or one CSV file with commas, not "
    "tabs, columns text, label and, if you like, split, and a name that ends in .csv"
)
MAX_ROWS, MAX_BYTES = 2_000_000, 2**30  # of a parquet file, uncompressed
MIN_PER_CLASS = 10  # a tenth of fewer is no tweet
MAX_CHARACTERS = 280  # the platform's limit
Tweets = Dataset  # columns id, text, label (a class name); classes in order of the label numbers


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
    unknown = rows[~rows["label"].isin(list(names))]
    todo = f"labels are {names!s:.500}"
    refuse_rows(unknown, "label {label!r:.80} is not in the mapping", todo=todo)
    no_text = rows[[not isinstance(text, str) for text in rows["text"]]]
    refuse_rows(no_text, "text is {text!r:.80}", todo="give each tweet a text")
    rows = rows[["split", "text", "label"]].assign(label=rows["label"].map(names))
    places = dict.fromkeys(SPLITS, folder)
    splits = split_frames(rows, "label", places=places, todo="give it at least one tweet")
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


def _read_csv(path: Path) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Rows (split, where, text, label), the class of each label, and what is to note."""
    rows = read_table(path, CSV_COLUMNS, optional="split").rows()
    refuse_empty(rows, "label")
    rows["label"] = rows["label"].str.strip()
    names = {label: label for label in sorted(set(rows["label"]))}
    if "split" not in rows:
        splits, notes = _draw_splits(rows["label"], path)
        return rows.assign(split=splits), names, notes
    splits = rows["split"].str.strip().str.lower()
    unknown = rows.assign(split=splits)[~splits.isin(list(CSV_SPLITS))]
    refuse_rows(unknown, "split {split!r:.80} is none", todo="use train, val or test")
    return rows.assign(split=splits.map(CSV_SPLITS)), names, []


def _draw_splits(labels: pd.Series, path: Path) -> tuple[list[str], list[str]]:
    """A split for each label, 80, 10 and 10 % of each class, and what is to note."""
    counts = labels.value_counts().to_dict()
    few = {name: count for name, count in counts.items() if count < MIN_PER_CLASS}
    what = "; ".join([f"too few tweets: {few!s:.200}", *variant_notes(counts, what="labels")])
    todo = (
        f"have at least {MIN_PER_CLASS} tweets a class, to draw 80, 10 and 10 % of it, "
        "or add a column split with train, val and test"
    )
    require(not few or len(few) < len(counts), what, where=path, todo=todo)
    shares = _shuffled_shares(labels, seed=0).sort_index()
    splits = [SPLITS[(share >= 0.8) + (share >= 0.9)] for share in shares]
    note = f"classes with fewer than {MIN_PER_CLASS} tweets have none in test: {few!s:.200}"
    return splits, [note] if few else []


def _shuffled_shares(labels: pd.Series, seed: int) -> pd.Series:
    """How far into its shuffled class each label stands, from 0 to below 1; in shuffled order."""
    by_class = labels.sample(frac=1, random_state=seed).groupby(labels)
    return by_class.cumcount() / by_class.transform("size")


def subset(tweets: Tweets, *, max_train_examples: int, seed: int = 0) -> Tweets:
    """The same tweets with at most `max_train_examples` in train (0 = all).

    Val and test stay whole. Stratified and seeded: rows are shuffled, ranked inside their class and
    taken in the order of rank / class size. So each class has its share (to within one tweet a
    class), a smaller subset lies inside a larger one, and file order is kept. Raises InputError for
    a number below 0 and for 1.
    """
    train = tweets.splits["train"]
    what, todo = f"max_train_examples is {max_train_examples}", "give 0 (all) or at least 2"
    is_size = max_train_examples == 0 or max_train_examples > 1
    require(is_size, what, where="parameters", todo=todo)
    if max_train_examples == 0 or max_train_examples >= len(train):
        return tweets
    order = _shuffled_shares(train["label"], seed).sort_values(kind="stable").index
    kept = train.loc[sorted(order[:max_train_examples])].reset_index(drop=True)
    note = f"train: {len(kept):,} of {len(train):,} tweets, stratified, seed {seed}"
    notes = [*tweets.notes, note]
    lost = set(train["label"]) - set(kept["label"])
    if lost:
        names = ", ".join(name for name in tweets.classes if name in lost)
        notes.append(f"train: no tweet is left of {names}")
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


def _read_text_files(folder: Path) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """As `_read_csv`."""
    names, tables = _read_mapping(folder / "mapping.txt"), []
    for split in SPLITS:
        texts, labels = (read_lines(folder / f"{split}_{part}.txt") for part in ("text", "labels"))
        what = f"{split}_text.txt has {len(texts)} lines, {split}_labels.txt has {len(labels)}"
        todo = "give each tweet one line in both files"
        require(len(texts) == len(labels), what, where=folder, todo=todo)
        columns = {"split": split, "text": texts, "label": [label.strip() for label in labels]}
        tables.append(numbered_rows(folder / f"{split}_labels.txt", columns))
    return pd.concat(tables, ignore_index=True), _numbered(names), []


def _numbered(names: tuple[str, ...]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _read_hub(
    folder: Path, default: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """As `_read_csv`; `default`: the classes where no file names them."""
    tables, given = [], {}
    for split, name in HUB_FILES.items():
        columns, given[name] = _read_parquet(folder / name)
        tables.append(numbered_rows(folder / name, {"split": split, **columns}))
    rows = pd.concat(tables, ignore_index=True)
    if (folder / "mapping.txt").exists():
        given = {name: names for name, names in given.items() if names}
        given["mapping.txt"] = _read_mapping(folder / "mapping.txt")
    classes = next(reversed(given.values()))
    todo = "take all files from one data set; correct mapping.txt or delete it"
    what = f"the class names differ: {given!s:.500}"
    require(set(given.values()) == {classes}, what, where=folder, todo=todo)
    names, notes = _hub_names(rows["label"].tolist(), classes, default, folder)
    labels = ["" if label is None else str(label).strip() for label in rows["label"]]
    return rows.assign(label=labels), names, notes


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
    what = f"no class names, and labels up to {highest}: that is not {', '.join(default)}"
    todo = "add mapping.txt: a line a class, its number, a tab, its name"
    require(highest >= len(default) - 1, what, where=folder, todo=todo)
    return _numbered(default), [f"no file has class names: labels are {_numbered(default)}"]


def _read_parquet(path: Path) -> tuple[dict[str, list[object]], tuple[str, ...]]:
    """Columns text and label of a parquet file, and the class names in the metadata of the hub."""
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
        what = f"too large: {n_rows:,} rows, {n_bytes:,} bytes uncompressed"
        limits = f"give at most {MAX_ROWS:,} rows and {MAX_BYTES:,} bytes"
        require(n_rows <= MAX_ROWS and n_bytes <= MAX_BYTES, what, where=path, todo=limits)
        table = file.read(columns=["text", "label"])
        metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", "{}"))
        feature = metadata.get("info", {}).get("features", {}).get("label", {})
        return table.to_pydict(), tuple(feature.get("names", ()))


def _class_notes(splits: dict[str, pd.DataFrame], classes: tuple[str, ...]) -> list[str]:
    """What is to note about classes without a tweet in train, and classes that may be one."""
    trained = set(splits["train"]["label"])
    counts = Counter(label for frame in splits.values() for label in frame["label"])
    absent = [f"{name} ({counts[name]} elsewhere)" for name in classes if name not in trained]
    notes = [f"classes without a tweet in train: {', '.join(absent)}"] if absent else []
    return notes + variant_notes({name: counts[name] for name in classes}, what="labels")


def _notes(splits: dict[str, pd.DataFrame]) -> list[str]:
    notes, train_texts = [], splits["train"]["text"]
    for split, frame in splits.items():
        text = frame["text"]
        counts = {
            "blank tweets": (text.map(str.strip) == "").sum(),
            "exact duplicates of an earlier row": frame.duplicated(["text", "label"]).sum(),
            "tweets over 280 characters": (text.map(len) > MAX_CHARACTERS).sum(),
        }
        if split != "train":
            counts["tweets whose text is also in train"] = text.isin(train_texts).sum()
        notes += kept_notes(split, counts)
    return notes
