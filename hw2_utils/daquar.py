"""DAQUAR: reads the course's CSV files or the published raw pairs, and opens pictures safely."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils import pictures
from hw2_utils.datafiles import (
    SPLITS,
    Dataset,
    files_sha256,
    kept_notes,
    numbered_rows,
    read_lines,
    read_table,
    read_text,
    refuse_all,
    refuse_empty,
    refuse_rows,
    require_files,
    split_frames,
    variant_notes,
)
from hw2_utils.errors import InputError, require

CSV_FILES = {split: f"new_data_{split}.csv" for split in SPLITS}
# as published and in public copies
RAW_FILES = (
    ("qa.raw.train.txt", "qa.raw.test.txt"),
    ("qa.894.raw.train.txt", "qa.894.raw.test.txt"),
    ("qa.raw.txt",),
    ("all_qa_pairs.txt",),
)
IMAGE_LISTS = ("train_images_list.txt", "test_images_list.txt")
LISTS = " and ".join(IMAGE_LISTS)
# The pattern of data/README.md; possessive, and blanks are tried from their first one alone, so
# that the time grows with the length of the line, not with its square.
RAW_TAIL = re.compile(r"( (in|on|of|at|from)( the| this)?|(?<!\s))\s*+image\d++\s*+\?\s*+$")
N_RAW_CLASSES = 30
PLAIN_NAME = r"[^./\\\0][^/\\\0]*"  # of a picture; it is never joined to a path
LAYOUTS = (
    f"give {', '.join(CSV_FILES.values())}, or the published pairs: {', '.join(IMAGE_LISTS)} with "
    + " or ".join(" and ".join(names) for names in RAW_FILES)
)
COLUMNS = {
    "question": {"question"},
    "answer": {"answer", "answers", "label"},  # names seen in public copies
    "image_id": {"image_id", "image", "img_id", "imageid"},
}


@dataclass(frozen=True)
class Vqa(Dataset):
    """Splits with the columns id, question, answer, image_id, and the picture of each image id."""

    image_paths: dict[str, Path]


def read(folder: Path | str) -> Vqa:
    """Reads `new_data_{train,val,test}.csv` and the pictures in `images/` that they name.

    A folder without any of the three may have the published pairs instead, RAW_FILES (the first
    that is there) and IMAGE_LISTS: they are reduced to the course's rows by the rule in
    `data/README.md`.

    Columns go by name (COLUMNS); questions are kept verbatim, answers without outer blanks, image
    ids in lower case without extension. Classes are the lines of `classes.txt`, or the sorted
    answers of all files.
    Raises InputError: a missing file, column or picture, not UTF-8, a broken CSV row, an empty
    question or answer, an empty split, one class, an answer outside `classes.txt`, an image in two
    splits, a picture outside `images/`, unreadable or too large; of raw pairs also a line that is
    no question about an image or has no answer, an image in no list or in both. Duplicates,
    contradictions and answers unseen in train are kept and noted.
    """
    folder = Path(folder)
    texts, others = _files(folder)
    if texts in RAW_FILES:
        rows, notes = _read_raw(folder, texts)
        places, todo = dict.fromkeys(SPLITS, folder), f"add pairs about images of both {LISTS}"
        todo += "; val and test are halves of the second"
    else:
        rows, notes = _read_csv_files(folder), []
        places, todo = {s: folder / name for s, name in CSV_FILES.items()}, "add a question to it"
    frames = split_frames(rows, "answer", places=places, todo=todo)
    rows = pd.concat(frames, names=["split"]).reset_index("split")
    classes, image_paths = _classes(folder, rows), _find_images(folder / "images", rows)
    digest = files_sha256([*(folder / name for name in texts + others), *image_paths.values()])
    splits = {split: frame[["id", *COLUMNS]] for split, frame in frames.items()}
    return Vqa(splits, classes, notes + _notes(splits), digest, image_paths)


def _files(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the files with questions, in the layout that is there, and of the others to read."""
    course = tuple(CSV_FILES.values())
    there = [n for n in (course, *RAW_FILES) if any((folder / name).exists() for name in n)]
    texts = there[0] if there else course
    others = ("classes.txt",) if (folder / "classes.txt").exists() else ()
    if texts in RAW_FILES:
        others += IMAGE_LISTS
        what = f"no {IMAGE_LISTS[1]}: there would be no val and no test part"
        todo = f"add it and the pairs about its images, or the course's {', '.join(course)}"
        require((folder / IMAGE_LISTS[1]).exists(), what, where=folder, todo=todo)
    require_files(folder, texts + others, todo=LAYOUTS)
    return texts, others


def content_key(image_id: str, question: str) -> str:
    """16 hex digits that name a question about an image, whatever its case and spacing."""
    return hashlib.sha256(f"{image_id}\n{_normalised(question)}".encode()).hexdigest()[:16]


def _read_csv_files(folder: Path) -> pd.DataFrame:
    """Rows with the columns of COLUMNS, split and where."""
    tables = [
        read_table(folder / name, COLUMNS).rows().assign(split=split)
        for split, name in CSV_FILES.items()
    ]
    rows = pd.concat(tables)
    refuse_empty(rows, "question")
    refuse_empty(rows, "answer")
    names = rows["image_id"].str.strip().str.lower()
    image_ids = names.str.replace(r"\.(jpe?g|png)$", "", regex=True)
    refuse_rows(
        rows[~image_ids.str.fullmatch(PLAIN_NAME)],
        "image id {image_id!r:.80} is not a plain picture name",
        todo="name a picture in images/ without a folder, such as image20",
    )
    return rows.assign(answer=rows["answer"].str.strip(), image_id=image_ids)


def _read_raw(folder: Path, names: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """As `_read_csv_files`, and what is to note.

    Of the pairs those that have one of the N_RAW_CLASSES most frequent answers are kept.
    """
    train, test = ([line.strip() for line in read_lines(folder / name)] for name in IMAGE_LISTS)
    listed = numbered_rows(folder / IMAGE_LISTS[1], {"image_id": test})
    in_both = listed[listed["image_id"].isin(set(train) - {""})]
    todo = f"keep it in one of {LISTS}"
    refuse_rows(in_both, "{image_id!r:.80} is in both lists", todo=todo)
    splits = dict.fromkeys(train, "train") | dict.fromkeys(test, "test")
    pairs = _raw_pairs([folder / name for name in names], splits)
    answers = dict(Counter(pairs["answer"]).most_common(N_RAW_CLASSES))
    kept = pairs[pairs["answer"].isin(list(answers))]
    # No rule is known that gives the course's halves. A hash needs neither a seed nor a library's
    # generator.
    test = sorted(
        {image_id for image_id in kept["image_id"] if splits[image_id] == "test"},
        key=lambda image_id: hashlib.sha256(image_id.encode()).digest(),
    )
    splits |= dict.fromkeys(test[: len(test) // 2], "val")
    note = (
        f"{len(kept):,} of {len(pairs):,} raw pairs have one of the {len(answers)} most frequent "
        "answers; val and test are halves of the test images by a hash, not the course's own halves"
    )
    return kept.assign(split=kept["image_id"].map(splits)), [note]


def _raw_pairs(paths: list[Path], image_ids: Collection[str]) -> pd.DataFrame:
    """Question without its tail, answer, image id, and file and row of each pair.

    The lines of a file are questions and answers in turn; a pair is about the last image in it.
    """
    pairs, unclear, unlisted, unanswered = [], [], [], []
    for path in paths:
        lines = read_lines(path)
        for row, (line, answer) in enumerate(zip(lines[::2], lines[1::2], strict=False)):
            where, question = f"{path}, row {2 * row + 1}", RAW_TAIL.sub("", line)
            image_id = ([""] + re.findall(r"image\d+", line))[-1]
            if not image_id or not question.strip():
                unclear.append((where, f"no question about an imageN: {line!r:.80}"))
            elif image_id not in image_ids:
                unlisted.append((where, f"{image_id} is in no list"))
            if not answer.strip():
                unanswered.append((f"{path}, row {2 * row + 2}", "the answer is empty"))
            pairs.append((question, answer.strip(), image_id, where))
        if len(lines) % 2:
            what = "an odd number of lines: the last has no answer"
            unanswered.append((f"{path}, row {len(lines)}", what))
    todo = "write questions like 'what is in the image3 ?' on the odd lines, answers on the even"
    refuse_all(unclear, todo=todo)
    refuse_all(unlisted, todo=f"add it to {' or '.join(IMAGE_LISTS)}")
    refuse_all(unanswered, todo="add its answer, or delete the question too")
    return pd.DataFrame(pairs, columns=[*COLUMNS, "where"], dtype=object)


def _classes(folder: Path, rows: pd.DataFrame) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.exists():
        return tuple(sorted(set(rows["answer"])))
    names = [line.strip() for line in read_text(path).rstrip().split("\n")]
    classes = numbered_rows(path, {"name": names})
    bad = classes[(classes["name"] == "") | classes["name"].duplicated()]
    todo = "write each class once, one a line"
    refuse_rows(bad, "class {name!r:.80} is blank or repeated", todo=todo)
    absent = rows[~rows["answer"].isin(names)].drop_duplicates("answer")
    refuse_rows(absent, "answer {answer!r:.80} is not in classes.txt", todo="add it there")
    return tuple(names)


def _find_images(folder: Path, rows: pd.DataFrame) -> dict[str, Path]:
    """The picture of each image id, which must be in one split and have one file in the folder."""
    require_files(folder, [])
    in_splits = rows.drop_duplicates(["image_id", "split"]).groupby("image_id", sort=False)
    uses = in_splits["where"].agg(first="first", where="last").reset_index()
    in_two = uses[uses["first"] != uses["where"]]
    todo = "keep all questions about an image in one split"
    refuse_rows(in_two, "{image_id} is in two splits, also in {first}", todo=todo)
    image_paths = _one_file_each(folder, uses)
    inside = os.path.realpath(folder)
    outside = [
        (path, "the picture is a link out of its folder")
        for path in image_paths.values()
        if not Path(os.path.realpath(path)).is_relative_to(inside)
    ]
    refuse_all(outside, todo="copy it there")
    formats = ", ".join(pictures.FORMATS)
    refuse_all(_unusable(image_paths.values()), todo=f"put a whole picture there: {formats}")
    return image_paths


def _one_file_each(folder: Path, uses: pd.DataFrame) -> dict[str, Path]:
    """The file of each image id. `uses`: image ids, each with file and row of a question."""
    files: dict[str, list[Path]] = {image_id: [] for image_id in uses["image_id"]}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and path.stem.lower() in files:
            files[path.stem.lower()].append(path)
    n_files = uses["image_id"].map(lambda image_id: len(files[image_id]))
    todo = f"have one of ID.jpg, ID.jpeg or ID.png in {folder}; "
    todo += f"{(n_files == 0).sum()} of {len(uses)} images have none"
    wrong = uses.assign(n_files=n_files)[n_files != 1]
    refuse_rows(wrong, "{image_id} has {n_files} files", todo=todo)
    return {image_id: paths[0] for image_id, paths in files.items()}


def _unusable(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Each picture that can't be opened, and why."""
    for path in paths:
        try:
            pictures.open_image(path)
        except InputError as error:
            yield error.where, error.what


def _normalised(question: str) -> str:
    return " ".join(question.lower().split())


def _notes(splits: dict[str, pd.DataFrame]) -> list[str]:
    answers = Counter(answer for frame in splits.values() for answer in frame["answer"])
    notes, seen = variant_notes(answers, what="answers"), set(splits["train"]["answer"])
    for split, frame in splits.items():
        question = frame["question"]
        pairs = frame["answer"].groupby([frame["image_id"], question.map(_normalised)])
        counts = {
            "exact duplicates of an earlier row": frame.duplicated(list(COLUMNS)).sum(),
            "(image, question) pairs with several answers": (pairs.nunique() > 1).sum(),
            "questions over 50 words": (question.str.split().str.len() > 50).sum(),
            "questions over several lines, see the quotes": question.str.contains("\n").sum(),
            "answers unseen in train, counted wrong": (~frame["answer"].isin(seen)).sum(),
        }
        notes += kept_notes(split, counts)
    return notes
