"""What the tweet and the VQA reader accept and refuse: one row a case, refusals with their message.

A row is (id, what is done to a good folder, regex). A refused row's regex must match the message;
an accepted row's regex must match the notes joined by "; " (`^$` = nothing to note).
"""

from __future__ import annotations

import csv
import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hw2_utils import daquar, pictures, tweets
from hw2_utils.errors import InputError

Change = Callable[[Path], object]
HOSTILE = "<script>alert(1)</script> {{7*7}} \\input{x} $\\x$ %s ../../x =cmd() \x00\x1b[2J ' -- "


def put(name: str, content: bytes | str) -> Change:
    """Replaces one file by these bytes."""
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def drop(name: str) -> Change:
    """Deletes a file, or a folder with its files."""

    def change(folder: Path) -> None:
        path = folder / name
        for inner in path.iterdir() if path.is_dir() else ():
            inner.unlink()
        path.rmdir() if path.is_dir() else path.unlink()

    return change


def every(pattern: str, edit: Callable[[bytes], bytes]) -> Change:
    """Edits the bytes of all files that match the pattern."""
    return lambda folder: [
        path.write_bytes(edit(path.read_bytes())) for path in folder.glob(pattern)
    ]


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def run_cases(
    read: Callable, folder: Path, case: tuple[str, Change, str], accepted: bool
) -> object:
    _, change, pattern = case
    change(folder)
    if accepted:
        data = read(folder)
        assert re.search(pattern, "; ".join(data.notes)), data.notes
        return data
    with pytest.raises(InputError) as caught:
        read(folder)
    assert caught.value.exit_code == 2
    assert caught.value.todo and caught.value.where
    assert re.search(pattern, str(caught.value)), str(caught.value)
    return None


def ids(cases: list[tuple[str, Change, str]]) -> list[str]:
    names = [case[0] for case in cases]
    assert len(set(names)) == len(names)
    return names


# Tweets


def drop_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def tweets_folder(folder: Path) -> Path:
    for split, texts, labels in (
        ("train", ["bad", "so so", "good", "fine"], "0122"),
        ("val", ["hm", "ha"], "10"),
        ("test", ["no", "yes"], "02"),
    ):
        (folder / f"{split}_text.txt").write_text("".join(f"{text}\n" for text in texts))
        (folder / f"{split}_labels.txt").write_text("".join(f"{label}\n" for label in labels))
    (folder / "mapping.txt").write_text("0\tnegative\n1\tneutral\n2\tpositive\n")
    return folder


def hub(**changed: object) -> Change:
    """Replaces the text files by the hub's; a keyword gives a split's columns, bytes or None."""

    def change(folder: Path) -> None:
        drop_all(folder)
        for split in ("train", "validation", "test"):
            columns = changed.get(split, {"text": ["bad", "good"], "label": [0, 2]})
            path = folder / f"{split}-00000-of-00001.parquet"
            if isinstance(columns, bytes):
                path.write_bytes(columns)
            elif columns is not None:
                pd.DataFrame(columns).to_parquet(path)

    return change


TWEETS_REFUSED = [
    ("no folder", lambda folder: [drop_all(folder), folder.rmdir()], r"no such folder"),
    ("empty folder", drop_all, r"missing: train_text\.txt, train_labels\.txt, .*mapping\.txt"),
    ("no train texts", drop("train_text.txt"), r"missing: train_text\.txt\n"),
    ("no val labels", drop("val_labels.txt"), r"missing: val_labels\.txt\n"),
    ("no mapping", drop("mapping.txt"), r"missing: mapping\.txt\n"),
    (
        "a folder in a file's place",
        both(drop("test_text.txt"), lambda folder: (folder / "test_text.txt").mkdir()),
        r"missing: test_text\.txt\n",
    ),
    (
        "labels too few",
        put("train_labels.txt", "0\n1\n2\n"),
        r"train_text\.txt has 4 lines, train_labels\.txt has 3",
    ),
    (
        "labels outside the mapping in several files",
        both(put("train_labels.txt", "0\n7\n2\n8\n"), put("test_labels.txt", "x\n2\n")),
        r"sentiment: 3 problems\n  train_labels\.txt, row 2: label '7' .*\n"
        r"  train_labels\.txt, row 4: label '8' .*\n  test_labels\.txt, row 1: label 'x'",
    ),
    (
        "names in another case",
        lambda folder: (folder / "train_text.txt").rename(folder / "Train_text.txt"),
        r"missing: train_text\.txt\n .*one CSV file.*; found: Train_text\.txt, ",
    ),
    (
        "CSV files in the folder",
        both(drop_all, put("train.csv", "text,label\n"), put("test.csv", "text,label\n")),
        r"missing: train_text.*\n.*one CSV file with commas.*; found: test\.csv, train\.csv",
    ),
    (
        "folders in the folder",
        both(drop_all, lambda folder: (folder / "irony").mkdir()),
        r"missing: train_text.*\n.*; found: irony/",
    ),
    (
        "blank label line too many",
        put("val_labels.txt", "1\n0\n\n"),
        r"val_text\.txt has 2 lines, .* has 3",
    ),
    (
        "tweets too few",
        put("test_text.txt", "no\n"),
        r"test_text\.txt has 1 lines, test_labels\.txt has 2",
    ),
    (
        "label outside the mapping",
        put("train_labels.txt", "0\n7\n2\n2\n"),
        r"train_labels\.txt, row 2: label '7' is not in the mapping",
    ),
    ("negative label", put("val_labels.txt", "1\n-1\n"), r"val_labels\.txt, row 2: label '-1'"),
    (
        "label as a decimal",
        put("test_labels.txt", "0.0\n2\n"),
        r"test_labels\.txt, row 1: label '0\.0'",
    ),
    (
        "label as a name",
        put("train_labels.txt", "0\n1\n2\npositive\n"),
        r"train_labels\.txt, row 4: .*'positive'",
    ),
    ("blank label", put("train_labels.txt", "0\n1\n \n2\n"), r"train_labels\.txt, row 3: label ''"),
    (
        "escape codes in a label",
        put("test_labels.txt", "\x1b[2J\n2\n"),
        r"row 1: label '\\x1b\[2J'",
    ),
    (
        "empty train",
        both(put("train_text.txt", ""), put("train_labels.txt", "")),
        r"sentiment: the train split is empty",
    ),
    (
        "empty val",
        both(put("val_text.txt", ""), put("val_labels.txt", "")),
        r"sentiment: the val split is empty",
    ),
    (
        "only a BOM in test",
        both(put("test_text.txt", b"\xef\xbb\xbf"), put("test_labels.txt", "")),
        r"test split is empty",
    ),
    ("one class", put("train_labels.txt", "2\n2\n2\n2\n"), r"train has one class only"),
    (
        "Latin-1",
        put("train_text.txt", b"a\nb\ncaf\xe9\nd\n"),
        r"train_text\.txt, row 3: not UTF-8: byte 0xe9 at .* 7",
    ),
    (
        "Latin-1 after a BOM",
        put("val_text.txt", b"\xef\xbb\xbf\xe9\nb\n"),
        r"val_text\.txt, row 1: .*0xe9 at offset 3",
    ),
    (
        "UTF-16 labels",
        put("test_labels.txt", "0\n2\n".encode("utf-16")),
        r"test_labels\.txt, row 1: not UTF-8",
    ),
    (
        "half a surrogate pair",
        put("test_text.txt", b"a\n\xed\xa0\x80\n"),
        r"test_text\.txt, row 2: not UTF-8",
    ),
    (
        "mapping not UTF-8",
        put("mapping.txt", b"0\tn\xe9gatif\n1\tneutre\n"),
        r"mapping\.txt, row 1: not UTF-8",
    ),
    (
        "mapping without tabs",
        put("mapping.txt", "0 negative\n1 neutral\n2 positive\n"),
        r"mapping\.txt, row 1: bad mapping",
    ),
    (
        "mapping counted from 1",
        put("mapping.txt", "1\tnegative\n2\tneutral\n"),
        r"mapping\.txt, row 1: bad mapping",
    ),
    (
        "mapping with a gap",
        put("mapping.txt", "0\ta\n1\tb\n3\tc\n"),
        r"mapping\.txt, row 3: bad mapping.*'3'",
    ),
    (
        "mapping with a name twice",
        put("mapping.txt", "0\ta\n1\tb\n2\ta\n"),
        r"mapping\.txt, row 3: bad mapping",
    ),
    (
        "mapping with a blank name",
        put("mapping.txt", "0\ta\n1\t \n2\tc\n"),
        r"mapping\.txt, row 2: bad mapping",
    ),
    ("empty mapping", put("mapping.txt", ""), r"mapping\.txt, row 1: bad mapping"),
    ("hub without a split", hub(validation=None), r"missing: validation-00000-of-00001\.parquet\n"),
    (
        "hub file cut",
        hub(test=b"PAR1 and no more"),
        r"test-00000-of-00001\.parquet: no text and label",
    ),
    (
        "hub shards",
        both(
            hub(train=None),
            put("train-00000-of-00002.parquet", b""),
            put("train-00001-of-00002.parquet", b""),
        ),
        r"missing: train-00000-of-00001\.parquet\n .*found: train-00000-of-00002\.parquet, ",
    ),
    (
        "hub files of another name",
        both(hub(validation=None), put("dev-00000-of-00001.parquet", b"")),
        r"missing: validation-00000-of-00001\.parquet\n .*found: .*dev-00000-of-00001\.parquet",
    ),
    ("hub file that is a pointer", hub(test=b"version https://git-lfs"), r"no text and label"),
    (
        "hub labels that are lists",
        hub(test={"text": ["a", "b"], "label": [[0], [1]]}),
        r"test-0.*parquet: 2 problems\n  row 1: label '\[0\]' is not in the mapping",
    ),
    (
        "hub labels of two classes and no names",
        hub(**{s: {"text": ["a", "b"], "label": [0, 1]} for s in ("train", "validation", "test")}),
        r"no class names, and labels up to 1: that is not negative, .*\n .*mapping\.txt",
    ),
    ("hub file that is empty", hub(train=b""), r"train-00000-of-00001\.parquet: no text and label"),
    (
        "hub without labels",
        hub(train={"text": ["a", "b"]}),
        r"train-0.*parquet: no text and label: .*label.* does not exist",
    ),
    (
        "hub label outside the mapping",
        hub(test={"text": ["a", "b"], "label": [0, 3]}),
        r"test-0.*parquet, row 2: label '3' is not",
    ),
    (
        "hub label missing",
        hub(test={"text": ["a", "b"], "label": pd.array([0, None], "Int64")}),
        r"test-0.*parquet, row 2: label ''",
    ),
    (
        "hub text missing",
        hub(train={"text": ["a", None], "label": [0, 1]}),
        r"train-0.*parquet, row 2: text is None",
    ),
    (
        "hub text that is a number",
        hub(train={"text": [1, 2], "label": [0, 1]}),
        r"train-0.*: 2 problems\n  row 1: text is 1\n  row 2: text is 2\n",
    ),
    (
        "hub split without rows",
        hub(validation={"text": [], "label": []}),
        r"sentiment: the val split is empty",
    ),
    (
        "hub with one class",
        hub(train={"text": ["a", "b"], "label": [1, 1]}),
        r"train has one class only",
    ),
]

TWEETS_ACCEPTED = [
    ("as it is", lambda folder: None, r"^$"),
    ("BOM in every file", every("*.txt", lambda data: b"\xef\xbb\xbf" + data), r"^$"),
    ("CRLF in every file", every("*.txt", lambda data: data.replace(b"\n", b"\r\n")), r"^$"),
    ("no newline at the end", every("*.txt", lambda data: data[:-1]), r"^$"),
    ("spaces around labels", put("train_labels.txt", " 0\n1 \n2\t\n2\n"), r"^$"),
    ("blank tweets", put("train_text.txt", "a\n\n \u3000\nd\n"), r"train: 2 blank tweets \(kept\)"),
    ("exact duplicates", put("train_text.txt", "a\nb\nc\nc\n"), r"train: 1 exact duplicates"),
    ("one text with two labels", put("train_text.txt", "a\na\nc\nd\n"), r"^$"),
    (
        "overlong text",
        put("val_text.txt", "a" * 100_000 + "\nb\n"),
        r"val: 1 tweets over 280 characters \(kept\)",
    ),
    (
        "a train tweet in test",
        put("test_text.txt", "bad\nyes\n"),
        r"test: 1 tweets whose text is also in train",
    ),
    ("one class in val", put("val_labels.txt", "1\n1\n"), r"^$"),
    ("a third column in the mapping", put("mapping.txt", "0\ta\tx\n1\tb\ty\n2\tc\tz\n"), r"^$"),
    ("a stray note beside the files", put("notes.bin", b"\xff"), r"^$"),
    ("the hub's layout", hub(), r"test: 2 tweets whose text is also in train"),
]


@pytest.mark.parametrize("case", TWEETS_REFUSED, ids=ids(TWEETS_REFUSED))
def test_tweets_refused(tmp_path, case):
    folder = tmp_path / "sentiment"
    folder.mkdir()
    run_cases(tweets.read, tweets_folder(folder), case, accepted=False)


@pytest.mark.parametrize("case", TWEETS_ACCEPTED, ids=ids(TWEETS_ACCEPTED))
def test_tweets_accepted(tmp_path, case):
    data = run_cases(tweets.read, tweets_folder(tmp_path), case, accepted=True)
    assert [len(data.splits[split]) for split in ("train", "val", "test")] in ([4, 2, 2], [2, 2, 2])


@pytest.mark.parametrize(
    "text",
    [
        "a\u2028b",
        "a\u2029b",
        "a\x85b",
        "a\x0bb",
        "a\x0cb",
        "a\x1c\x1d\x1eb",
        "a\rb",
        HOSTILE,
        "\ufeffb",
        "\x00",
        '"',
        "a\tb",
        "👩‍👩‍👧",
    ],
)
def test_a_tweet_stays_one_line_and_verbatim(tmp_path, text):
    tweets_folder(tmp_path)
    put("train_text.txt", f"first\n{text}\nthird\nfourth\n")(tmp_path)
    assert tweets.read(tmp_path).splits["train"]["text"].tolist() == [
        "first",
        text,
        "third",
        "fourth",
    ]


# VQA

HEAD = "question,answer,image_id\n"
TRAIN = HEAD + "what is on it,lamp,image1\nhow many,2,image1\nwhat is red,sofa,image2\n"


def vqa_folder(folder: Path) -> Path:
    (folder / "images").mkdir()
    for number in (1, 2, 3, 4):
        Image.new("RGB", (4, 3), (number, 9, 9)).save(folder / "images" / f"image{number}.jpg")
    put("new_data_train.csv", TRAIN)(folder)
    put("new_data_val.csv", HEAD + "what is it,lamp,image3\n")(folder)
    put("new_data_test.csv", HEAD + "how many,2,image4\n")(folder)
    return folder


def train(*rows: str) -> Change:
    """Appends lines to the training file; the first one is row 5 of the file."""
    return put("new_data_train.csv", TRAIN + "".join(f"{row}\n" for row in rows))


def picture(name: str, image: Image.Image, **options: object) -> Change:
    """Puts a picture in the place of image1.jpg."""
    return both(
        drop("images/image1.jpg"), lambda folder: image.save(folder / "images" / name, **options)
    )


def link(name: str, target: str) -> Change:
    return both(
        drop(f"images/{name}"), lambda folder: (folder / "images" / name).symlink_to(target)
    )


def cut(name: str, share: float) -> Change:
    def change(folder: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def bomb(side: int) -> bytes:
    """A small PNG file, one bit a pixel, all black."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes((1 + (side + 7) // 8) * side), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def saved_as(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3)).save(file, kind)
    return file.getvalue()


ESCAPING_LINK = both(put("outside.jpg", saved_as("JPEG")), link("image1.jpg", "../outside.jpg"))

VQA_REFUSED = [
    ("no val file", drop("new_data_val.csv"), r"missing: new_data_val\.csv\n"),
    ("no images folder", drop("images"), r"images: there is no such folder"),
    (
        "no question column",
        put("new_data_train.csv", TRAIN.replace("question", "text", 1)),
        r"new_data_train\.csv, row 1: 0 columns for question: \['text', 'answer', 'image_id'\]",
    ),
    (
        "no answer column",
        put("new_data_val.csv", "question,image_id\nwhat,image3\n"),
        r"new_data_val\.csv, row 1: 0 columns for answer",
    ),
    (
        "no image column",
        put("new_data_test.csv", "question,answer\nwhat,2\n"),
        r"new_data_test\.csv, row 1: 0 columns for image_id: \['question', 'answer'\]",
    ),
    (
        "no header",
        put("new_data_val.csv", "what is it,lamp,image3\n"),
        r"new_data_val\.csv, row 1: 0 columns for",
    ),
    (
        "two image columns",
        put("new_data_val.csv", "question,answer,image,img_id\nwhat,lamp,image3,image2\n"),
        r"new_data_val\.csv, row 1: 2 columns for image_id",
    ),
    (
        "answer column twice",
        put("new_data_val.csv", "question,answer,answer,image_id\nwhat,a,b,image3\n"),
        r"new_data_val\.csv, row 1: 2 columns for answer",
    ),
    (
        "semicolons",
        every("new_data_train.csv", lambda data: data.replace(b",", b";")),
        r"0 columns for question",
    ),
    (
        "quote never closed",
        train('"what,lamp,image1', "how,2,image1"),
        r"train\.csv, row 5: broken CSV",
    ),
    (
        "quote closed too early",
        train('"what" is,lamp,image1'),
        r"train\.csv, row 5: broken CSV: ',' expected",
    ),
    (
        "quote never opened",
        train('what",lamp,image1'),
        r"train\.csv, row 5: broken CSV: a double quote is missing",
    ),
    (
        "a comma too many",
        train("what, where,lamp,image1"),
        r"train\.csv, row 5: broken CSV: 4 fields .* has 3",
    ),
    (
        "a field too few",
        train("what,lamp"),
        r"train\.csv, row 5: broken CSV: 2 fields where the header has 3",
    ),
    (
        "row number after a quoted line break",
        train('"what\nis",lamp,image1', "what,lamp"),
        r"train\.csv, row 7: ",
    ),
    (
        "row number after a blank line",
        train("", "", "what,lamp"),
        r"train\.csv, row 7: broken CSV: 2 fields",
    ),
    ("empty question", train(",lamp,image1"), r"train\.csv, row 5: the question is empty"),
    ("blank question", train("\u2003 ,lamp,image1"), r"train\.csv, row 5: the question is empty"),
    ("empty answer", train("what,,image1"), r"train\.csv, row 5: the answer is empty"),
    ("blank answer", train("what, \t,image1"), r"train\.csv, row 5: the answer is empty"),
    (
        "empty questions in two files",
        both(train(",lamp,image1"), put("new_data_val.csv", HEAD + " ,lamp,image3\n")),
        r": 2 problems\n  new_data_train\.csv, row 5: the question is empty"
        r"\n  new_data_val\.csv, row 2",
    ),
    (
        "image ids that are none",
        train("what,lamp,", "what,lamp,../image1", "what,lamp,.png"),
        r"train\.csv: 3 problems\n  row 5: image id '' is not .*\n  row 6: .*\n  row 7: ",
    ),
    (
        "several images in two splits",
        put("new_data_val.csv", HEAD + "a,2,image3\nb,2,image1\nc,2,image2\n"),
        r"val\.csv: 2 problems\n  row 3: image1 is in two splits, .*\n  row 4: image2 is in two ",
    ),
    (
        "several damaged pictures",
        both(put("images/image1.jpg", b""), put("images/image3.jpg", b"")),
        r"images: 2 problems\n  image1\.jpg: not a usable picture.*\n  image3\.jpg: not a usable",
    ),
    (
        "several answers outside classes.txt",
        both(put("classes.txt", "lamp\n"), train("how,2,image1")),
        r"train\.csv: 2 problems\n  row 3: answer '2' is not in .*\n  row 4: answer 'sofa'",
    ),
    (
        "a folder of pictures in another case",
        lambda folder: (folder / "images").rename(folder / "Images"),
        r"images: there is no such folder\n .*found beside it: Images/, ",
    ),
    ("only a header", put("new_data_val.csv", HEAD), r"new_data_val\.csv: the val split is empty"),
    (
        "no bytes",
        put("new_data_test.csv", b""),
        r"new_data_test\.csv, row 1: 0 columns for question: \[\]",
    ),
    (
        "one class",
        put("new_data_train.csv", HEAD + "a,lamp,image1\nb,lamp,image2\n"),
        r"train has one class only",
    ),
    (
        "Latin-1",
        put("new_data_val.csv", HEAD.encode() + b"caf\xe9,2,image3\n"),
        r"new_data_val\.csv, row 2: not UTF-8: byte 0xe9 at offset 28",
    ),
    (
        "UTF-16",
        put("new_data_test.csv", HEAD.encode("utf-16")),
        r"new_data_test\.csv, row 1: not UTF-8",
    ),
    (
        "an image in two splits",
        put("new_data_val.csv", HEAD + "a,2,image3\nb,2,image1\n"),
        r"new_data_val\.csv, row 3: image1 is in two splits, also in .*new_data_train\.csv, row 2",
    ),
    (
        "an image in two splits, spelt otherwise",
        put("new_data_test.csv", HEAD + "a,2,IMAGE3.png\n"),
        r"new_data_test\.csv, row 2: image3 is in two splits, also in .*new_data_val\.csv, row 2",
    ),
    (
        "a picture that is missing",
        train("what,lamp,image9"),
        r"train\.csv, row 5: image9 has 0 files\n .*; 1 of 5 images have none",
    ),
    (
        "no picture at all",
        both(*(drop(f"images/image{n}.jpg") for n in (1, 2, 3, 4))),
        r": 4 problems\n  new_data_train\.csv, row 2: image1 has 0 files\n(  new.*\n){3}"
        r".*4 of 4 images",
    ),
    ("an image id that is a number", train("what,lamp,1"), r"train\.csv, row 5: 1 has 0 files"),
    (
        "two files for an image",
        lambda folder: Image.new("L", (1, 1)).save(folder / "images" / "IMAGE1.PNG"),
        r"train\.csv, row 2: image1 has 2 files",
    ),
    (
        "an empty image id",
        train("what,lamp,"),
        r"train\.csv, row 5: image id '' is not a plain picture name",
    ),
    (
        "an image id of dots",
        train("what,lamp,../outside"),
        r"train\.csv, row 5: image id '\.\./outside' is not a pl",
    ),
    (
        "an absolute image id",
        train("what,lamp,/etc/passwd"),
        r"train\.csv, row 5: image id '/etc/passwd' is not a",
    ),
    (
        "a backslash in an image id",
        train("what,lamp,..\\outside"),
        r"train\.csv, row 5: image id .* is not a plain",
    ),
    (
        "a link out of the folder",
        ESCAPING_LINK,
        r"image1\.jpg: the picture is a link out of its folder",
    ),
    (
        "a link to nothing",
        link("image1.jpg", "image99.jpg"),
        r"image1\.jpg: there is no such picture file",
    ),
    (
        "a link to itself",
        link("image1.jpg", "image1.jpg"),
        r"image1\.jpg: there is no such picture file",
    ),
    (
        "a folder named as a picture",
        both(drop("images/image1.jpg"), lambda folder: (folder / "images" / "image1.jpg").mkdir()),
        r"image1\.jpg: there is no such picture file",
    ),
    (
        "a cut JPEG",
        cut("images/image1.jpg", 0.5),
        r"image1\.jpg: not a usable picture: .*truncated",
    ),
    (
        "a cut PNG",
        both(drop("images/image2.jpg"), cut("images/image2.png", 0.5)),
        r"image2\.png: not a usable pi",
    ),
    ("an empty picture", put("images/image3.jpg", b""), r"image3\.jpg: not a usable picture"),
    ("text as a picture", put("images/image4.jpg", HOSTILE), r"image4\.jpg: not a usable picture"),
    (
        "a format not on the list",
        put("images/image4.jpg", saved_as("PPM")),
        r"image4\.jpg: not a usable picture",
    ),
    (
        "a bomb",
        both(drop("images/image1.jpg"), put("images/image1.png", bomb(20_000))),
        r"image1\.png: not a usable picture: .*decompression bomb",
    ),
    (
        "a picture too large",
        both(drop("images/image1.jpg"), put("images/image1.png", bomb(7_072))),
        r"image1\.png: .*7072 x 7072 pixels are too large, limit 50,000,000",
    ),
    (
        "an answer outside classes.txt",
        put("classes.txt", "lamp\n2\n"),
        r"new_data_train\.csv, row 4: answer 'sofa' is not in classes\.txt",
    ),
    (
        "a class twice",
        put("classes.txt", "lamp\n2\nsofa\nlamp\n"),
        r"classes\.txt, row 4: class 'lamp' is blank or",
    ),
    (
        "a blank class",
        put("classes.txt", "lamp\n\n2\nsofa\n"),
        r"classes\.txt, row 2: class '' is blank or rep",
    ),
    (
        "empty classes.txt",
        put("classes.txt", ""),
        r"classes\.txt, row 1: class '' is blank or repeated",
    ),
]

GREY16 = Image.frombytes("I;16", (2, 1), struct.pack("<2H", 0, 65535))

VQA_ACCEPTED = [
    ("as it is", lambda folder: None, r"^$"),
    ("BOM", every("*.csv", lambda data: b"\xef\xbb\xbf" + data), r"^$"),
    ("CRLF", every("*.csv", lambda data: data.replace(b"\n", b"\r\n")), r"^$"),
    ("no newline at the end", every("*.csv", lambda data: data[:-1]), r"^$"),
    (
        "other names of the columns",
        every("*.csv", lambda data: data.replace(b"answer,image_id", b"Label, IMG_ID")),
        r"^$",
    ),
    (
        "an index column",
        every("*.csv", lambda data: b"," + data.strip().replace(b"\n", b"\n7,")),
        r"^$",
    ),
    (
        "image ids with an extension",
        every("*.csv", lambda data: re.sub(rb"image(\d)", rb"image\1.png", data)),
        r"^$",
    ),
    ("blank lines", train("", ""), r"^$"),
    (
        "blanks around an answer",
        every("*.csv", lambda data: re.sub(rb"(lamp|2|sofa),", rb" \1\t,", data)),
        r"^$",
    ),
    (
        "an exact duplicate",
        train("how many,2,image1"),
        r"^train: 1 exact duplicates of an earlier row \(kept\)$",
    ),
    (
        "a contradiction",
        train("How  many,3,image1"),
        r"^train: 1 \(image, question\) pairs with several answers",
    ),
    (
        "an answer unseen in train",
        put("new_data_val.csv", HEAD + "a,bed,image3\nb,bed,image3\n"),
        r"^val: 2 answers unseen in train, counted wrong \(kept\)$",
    ),
    (
        "an overlong question",
        train(f"{'what ' * 60_000},lamp,image1"),
        r"^train: 1 questions over 50 words \(kept\)$",
    ),
    (
        "a question over two lines",
        train('"what\nis it",lamp,image1'),
        r"^train: 1 questions over several lines",
    ),
    ("a class that nobody answers", put("classes.txt", "bed\nlamp\n2\nsofa\n"), r"^$"),
    (
        "upper-case file name",
        lambda folder: (folder / "images/image1.jpg").rename(folder / "images/Image1.JPEG"),
        r"^$",
    ),
    ("a link inside the folder", link("image1.jpg", "image2.jpg"), r"^$"),
    ("a stray file among the pictures", put("images/Thumbs.db", b"\xff"), r"^$"),
    ("CMYK", picture("image1.jpg", Image.new("CMYK", (4, 3), (0, 255, 255, 0))), r"^$"),
    ("grey", picture("image1.png", Image.new("L", (4, 3), 5)), r"^$"),
    ("16-bit grey", picture("image1.png", GREY16), r"^$"),
    ("one pixel", picture("image1.png", Image.new("1", (1, 1))), r"^$"),
    (
        "an animation",
        picture(
            "image1.png",
            Image.new("RGB", (4, 3)),
            save_all=True,
            append_images=[Image.new("RGB", (4, 3), "red")],
        ),
        r"^$",
    ),
    ("a GIF named .jpg", put("images/image1.jpg", saved_as("GIF")), r"^$"),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", VQA_REFUSED, ids=ids(VQA_REFUSED))
def test_vqa_refused(tmp_path, case):
    run_cases(daquar.read, vqa_folder(tmp_path), case, accepted=False)


@pytest.mark.parametrize("case", VQA_ACCEPTED, ids=ids(VQA_ACCEPTED))
def test_vqa_accepted(tmp_path, case):
    data = run_cases(daquar.read, vqa_folder(tmp_path), case, accepted=True)
    assert data.splits["train"]["answer"].tolist()[:3] == ["lamp", "2", "sofa"]
    assert data.splits["train"]["image_id"].tolist()[:3] == ["image1", "image1", "image2"]
    for path in data.image_paths.values():
        assert pictures.open_image(path).mode == "RGB"


@pytest.mark.parametrize(
    "text",
    [
        "a\u2028b",
        "a\x85b",
        "a\x0bb\x0cc",
        HOSTILE,
        "\x00",
        'say "hi", now',
        " a ",
        "nan",
        "=1+1",
        "a\rb",
    ],
)
def test_a_question_stays_verbatim(tmp_path, text):
    vqa_folder(tmp_path)
    rows = [[text, "lamp", "image1"], ["next", "lamp", "image1"]]
    with open(tmp_path / "new_data_train.csv", "a", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert daquar.read(tmp_path).splits["train"]["question"].tolist()[3:] == [text, "next"]
