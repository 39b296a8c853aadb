"""Tweets with a sentiment: reads TweetEval's text files, the hub's parquet files or a CSV, says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from hw2_utils.datafiles import (
    Dataset,
    files_sha256,
    kept_notes,
    read_csv,
    read_lines,
    read_text,
    require_files,
)
from hw2_utils.errors import explained, require

HUB_FILES = {
    "train": "train-00000-of-00001.parquet",
    "val": "validation-00000-of-00001.parquet",
    "test": "test-00000-of-00001.parquet",
}
CSV_COLUMNS = {name: {name} for name in ("text", "label", "split")}
Tweets = (
    Dataset  # columns id, text, label (a class name); classes in the order of the label numbers
)


def read(
    folder: Path | str, *, classes: tuple[str, ...] = ("negative", "neutral", "positive")
) -> Tweets:
    """Reads a folder in TweetEval's own layout or, if it holds no `*_text.txt`, in the hub's; or one CSV file.

    TweetEval: `{train,val,test}_text.txt` and `_labels.txt`, one tweet a line, and `mapping.txt` (label
    number, tab, class name). Hub: `{train,validation,test}-00000-of-00001.parquet` (columns text, label);
    class names from `mapping.txt` or, where there is none, from `classes`. CSV: columns text, label (any names, any
    number of them) and split (train, val or test); without split 80, 10 and 10 % of each class, by a fixed draw.
    Raises InputError: a missing folder or file, not UTF-8, unequal line counts, an empty split, a bad
    mapping, a label outside it, one class in train. Blank, duplicate and overlong tweets are kept and noted.
    """
    folder = Path(folder)
    if folder.suffix == ".csv":
        (splits, classes), files = _read_csv(folder), [folder]
    else:
        splits, classes, files = _read_folder(folder, classes)
    require(
        splits["train"]["label"].nunique() > 1,
        "train has one class only",
        where=folder,
        todo="add tweets of another class",
    )
    return Tweets(splits, classes, _notes(splits), files_sha256(files))


def _read_folder(
    folder: Path, classes: tuple[str, ...]
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...], list[Path]]:
    is_hub = any(folder.glob("*.parquet")) and not any(folder.glob("*_text.txt"))
    text_files = [f"{split}_{part}.txt" for split in HUB_FILES for part in ("text", "labels")]
    names = list(HUB_FILES.values()) if is_hub else text_files
    names += ["mapping.txt"] if not is_hub or (folder / "mapping.txt").exists() else []
    require_files(folder, names)
    classes = _read_mapping(folder / "mapping.txt") if "mapping.txt" in names else classes
    read_split = _read_parquet if is_hub else _read_text_files
    splits = {
        split: _frame(split, *read_split(folder, split), classes=classes) for split in HUB_FILES
    }
    return splits, classes, [folder / name for name in names]


def _read_csv(path: Path) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    rows = read_csv(path, CSV_COLUMNS, optional="split")
    for where, row in rows:
        require(
            row["label"].strip(),
            "the label is empty",
            where=where,
            todo="fill it in or delete the row",
        )
        require(
            row.get("split", "train") in HUB_FILES,
            f"split {row.get('split')!r:.80} is none",
            where=where,
            todo="use train, val or test",
        )
    frame = pd.DataFrame([row for _, row in rows], columns=list(CSV_COLUMNS))
    frame["label"] = frame["label"].str.strip()
    if frame["split"].isna().all():
        by_class = frame["label"].sample(frac=1, random_state=0).groupby(frame["label"])
        place = by_class.cumcount() / by_class.transform("size")
        frame["split"] = place.map(lambda share: list(HUB_FILES)[(share >= 0.8) + (share >= 0.9)])
    classes = tuple(sorted(set(frame["label"])))
    return {
        split: _frame(
            split,
            own["text"].tolist(),
            [str(classes.index(label)) for label in own["label"]],
            str(path),
            classes=classes,
        )
        for split in HUB_FILES
        for own in [frame[frame["split"] == split]]
    }, classes


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


def _read_text_files(folder: Path, split: str) -> tuple[list[str], list[str], str]:
    texts, labels = (read_lines(folder / f"{split}_{part}.txt") for part in ("text", "labels"))
    what = f"{split}_text.txt has {len(texts)} lines, {split}_labels.txt has {len(labels)}"
    require(
        len(texts) == len(labels), what, where=folder, todo="give each tweet one line in both files"
    )
    return texts, [label.strip() for label in labels], f"{folder / split}_labels.txt"


def _read_parquet(folder: Path, split: str) -> tuple[list[str], list[str], str]:
    from pyarrow import ArrowException, parquet

    path = folder / HUB_FILES[split]
    with explained(
        "no text and label",
        ArrowException,
        KeyError,
        OSError,
        ValueError,
        where=path,
        todo="replace it",
    ):
        table = parquet.read_table(path).select(["text", "label"]).to_pydict()
        return table["text"], [str(label) for label in table["label"]], str(path)


def _frame(
    split: str, texts: list, labels: list[str], where: str, *, classes: tuple
) -> pd.DataFrame:
    names = {str(number): name for number, name in enumerate(classes)}
    require(texts, f"the {split} split is empty", where=where, todo="give it at least one tweet")
    for row, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        what = (
            f"text is {text!r:.80}"
            if label in names
            else f"label {label!r:.80} is not in the mapping"
        )
        require(
            label in names and isinstance(text, str),
            what,
            where=f"{where}, row {row}",
            todo=f"labels are {names}, text a string",
        )
    ids = [f"{split}/{row}" for row in range(len(texts))]
    return pd.DataFrame({"id": ids, "text": texts, "label": [names[label] for label in labels]})


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
