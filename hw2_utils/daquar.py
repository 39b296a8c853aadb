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
from hw2_utils.errors import InputError, require

SPLITS = ("train", "val", "test")
CSV_FILES = tuple(f"new_data_{split}.csv" for split in SPLITS)
RAW_FILES = (
    ("qa.raw.train.txt", "qa.raw.test.txt"),
    ("qa.894.raw.train.txt", "qa.894.raw.test.txt"),
    ("qa.raw.txt",),
    ("all_qa_pairs.txt",),
)  # as published and in public copies
IMAGE_LISTS = ("train_images_list.txt", "test_images_list.txt")
# The pattern of data/README.md; possessive, and blanks are tried from their first one alone, so that
# the time grows with the length of the line, not with its square.
RAW_TAIL = re.compile(r"( (in|on|of|at|from)( the| this)?|(?<!\s))\s*+image\d++\s*+\?\s*+$")
N_RAW_CLASSES = 30
LAYOUTS = (
    f"give {', '.join(CSV_FILES)}, or the published pairs: {', '.join(IMAGE_LISTS)} with "
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

    A folder without any of the three may have the published pairs instead, RAW_FILES (the first that is there)
    and IMAGE_LISTS: they are reduced to the course's rows by the rule in `data/README.md`.

    Columns go by name (COLUMNS); questions are kept verbatim, answers without outer blanks, image ids in
    lower case without extension. Classes are the lines of `classes.txt`, or the sorted answers of all files.
    Raises InputError: a missing file, column or picture, not UTF-8, a broken CSV row, an empty question or
    answer, an empty split, one class, an answer outside `classes.txt`, an image in two splits, a picture
    outside `images/`, unreadable or too large; of raw pairs also a line that is no question about an image or has
    no answer, an image in no list or in both. Duplicates, contradictions and answers unseen in train are kept
    and noted.
    """
    folder = Path(folder)
    found = (
        names
        for names in (CSV_FILES, *RAW_FILES)
        if any((folder / name).exists() for name in names)
    )
    texts = next(found, CSV_FILES)
    names = [*texts, *(["classes.txt"] if (folder / "classes.txt").exists() else [])]
    if texts in RAW_FILES:
        names += IMAGE_LISTS
        require(
            (folder / IMAGE_LISTS[1]).exists(),
            f"no {IMAGE_LISTS[1]}: there would be no val and no test part",
            where=folder,
            todo=f"add it and the pairs about its images, or the course's {', '.join(CSV_FILES)}",
        )
    require_files(folder, names, todo=LAYOUTS)
    frames, notes = (
        _read_raw(folder, texts) if texts in RAW_FILES else (_read_csv_files(folder), [])
    )
    require(
        frames["train"]["answer"].nunique() > 1,
        "train has one class only",
        where=folder,
        todo="add questions with another answer",
    )
    rows = pd.concat(frames, names=["split"]).reset_index("split")
    classes, image_paths = _classes(folder, rows), _find_images(folder / "images", rows)
    digest = files_sha256([*(folder / name for name in names), *image_paths.values()])
    splits = {split: frame.drop(columns="where") for split, frame in frames.items()}
    return Vqa(splits, classes, notes + _notes(splits), digest, image_paths)


def content_key(image_id: str, question: str) -> str:
    """16 hex digits that name a question about an image, whatever its case and spacing."""
    return hashlib.sha256(f"{image_id}\n{_normalised(question)}".encode()).hexdigest()[:16]


def _read_csv_files(folder: Path) -> dict[str, pd.DataFrame]:
    paths = {split: folder / f"new_data_{split}.csv" for split in SPLITS}
    records = {split: read_table(path, COLUMNS).rows() for split, path in paths.items()}
    everything = [record for split in SPLITS for record in records[split]]
    refuse_empty(everything, "question")
    refuse_empty(everything, "answer")
    refuse_all(
        (
            (where, f"image id {fields['image_id']!r:.80} is not a plain picture name")
            for where, fields in everything
            if not _is_plain(_image_id(fields))
        ),
        todo="name a picture in images/ without a folder, such as image20",
    )
    return {
        split: _frame(
            [
                (fields["question"], fields["answer"].strip(), _image_id(fields), where)
                for where, fields in records[split]
            ],
            split,
            where=path,
            todo="give it at least one question",
        )
        for split, path in paths.items()
    }


def _image_id(fields: dict[str, str]) -> str:
    return re.sub(r"\.(jpe?g|png)$", "", fields["image_id"].strip().lower())


def _is_plain(image_id: str) -> bool:
    """An id is only ever looked up among the files that lie in images/, never joined to a path."""
    return bool(image_id) and image_id[0] != "." and not set(image_id) & set("/\\\0")


def _frame(rows: list[tuple[str, ...]], split: str, *, where: Path, todo: str) -> pd.DataFrame:
    require(rows, f"the {split} split is empty", where=where, todo=todo)
    rows = [(f"{split}/{row}", *fields) for row, fields in enumerate(rows)]
    return pd.DataFrame(rows, columns=["id", *COLUMNS, "where"])


def _read_raw(folder: Path, names: Sequence[str]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The splits of the pairs that have one of the N_RAW_CLASSES most frequent answers, and what is to note."""
    train, test = ([line.strip() for line in read_lines(folder / name)] for name in IMAGE_LISTS)
    listed = set(filter(None, train))
    refuse_all(
        (
            (f"{folder / IMAGE_LISTS[1]}, row {row}", f"{image_id!r:.80} is in both lists")
            for row, image_id in enumerate(test, 1)
            if image_id in listed
        ),
        todo=f"keep it in one of {' and '.join(IMAGE_LISTS)}",
    )
    splits = dict.fromkeys(train, "train") | dict.fromkeys(test, "test")
    pairs = _raw_pairs([folder / name for name in names], splits)
    answers = dict(Counter(pair[1] for pair in pairs).most_common(N_RAW_CLASSES))
    kept = [pair for pair in pairs if pair[1] in answers]
    # No rule is known that gives the course's halves. A hash needs neither a seed nor a library's generator.
    test = sorted(
        {pair[2] for pair in kept if splits[pair[2]] == "test"},
        key=lambda image_id: hashlib.sha256(image_id.encode()).digest(),
    )
    splits |= dict.fromkeys(test[: len(test) // 2], "val")
    todo = f"add pairs about images of both {' and '.join(IMAGE_LISTS)}; val and test are halves of the second"
    frames = {
        split: _frame(
            [pair for pair in kept if splits[pair[2]] == split], split, where=folder, todo=todo
        )
        for split in SPLITS
    }
    return frames, [
        f"{len(kept):,} of {len(pairs):,} raw pairs have one of the {len(answers)} most frequent answers; "
        "val and test are halves of the test images by a hash, not the course's own halves"
    ]


def _raw_pairs(paths: list[Path], image_ids: Collection[str]) -> list[tuple[str, ...]]:
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
    todo = (
        "write questions like 'what is in the image3 ?' on the odd lines, answers on the even ones"
    )
    refuse_all(unclear, todo=todo)
    refuse_all(unlisted, todo=f"add it to {' or '.join(IMAGE_LISTS)}")
    refuse_all(unanswered, todo="add its answer, or delete the question too")
    return pairs


def _classes(folder: Path, rows: pd.DataFrame) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.exists():
        return tuple(sorted(set(rows["answer"])))
    classes = tuple(line.strip() for line in read_text(path).rstrip().split("\n"))
    refuse_all(
        (
            (f"{path}, row {row}", f"class {name!r:.80} is blank or repeated")
            for row, name in enumerate(classes, 1)
            if name in ("", *classes[: row - 1])
        ),
        todo="write each class once, one a line",
    )
    refuse_all(
        (
            (where, f"answer {answer!r:.80} is not in classes.txt")
            for answer, where in rows[["answer", "where"]].drop_duplicates("answer").values
            if answer not in classes
        ),
        todo="add it there",
    )
    return classes


def _find_images(folder: Path, rows: pd.DataFrame) -> dict[str, Path]:
    """The picture of each image id; each id must be in one split and have one file, inside the folder."""
    require_files(folder, [])
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            files.setdefault(path.stem.lower(), []).append(path)
    uses = (
        rows.drop_duplicates(["image_id", "split"])
        .groupby("image_id", sort=False)["where"]
        .agg(["first", "last"])
    )
    refuse_all(
        (
            (last, f"{image_id} is in two splits, also in {first}")
            for image_id, first, last in uses.itertuples()
            if first != last
        ),
        todo="keep all questions about an image in one split",
    )
    found = _one_file_each(files, uses["first"], folder)
    inside = os.path.realpath(folder)
    refuse_all(
        (
            (path, "the picture is a link out of its folder")
            for path in found.values()
            if not Path(os.path.realpath(path)).is_relative_to(inside)
        ),
        todo="copy it there",
    )
    refuse_all(
        _unusable(found.values()), todo=f"put a whole picture there: {', '.join(pictures.FORMATS)}"
    )
    return found


def _one_file_each(files: dict[str, list[Path]], uses: pd.Series, folder: Path) -> dict[str, Path]:
    """The file of each image id. `uses`: file and row of its first question, by image id."""
    n_absent = len(set(uses.index) - files.keys())
    refuse_all(
        (
            (where, f"{image_id} has {len(files.get(image_id, []))} files")
            for image_id, where in uses.items()
            if len(files.get(image_id, [])) != 1
        ),
        todo=f"have one of ID.jpg, ID.jpeg or ID.png in {folder}; "
        f"{n_absent} of {len(uses)} images have none",
    )
    return {image_id: files[image_id][0] for image_id in uses.index}


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
        n_answers = (
            frame["answer"].groupby([frame["image_id"], question.map(_normalised)]).nunique()
        )
        notes += kept_notes(
            split,
            {
                "exact duplicates of an earlier row": frame.duplicated(list(COLUMNS)).sum(),
                "(image, question) pairs with several answers": (n_answers > 1).sum(),
                "questions over 50 words": (question.str.split().str.len() > 50).sum(),
                "questions over several lines, see the quotes": question.str.contains("\n").sum(),
                "answers unseen in train, counted wrong": (~frame["answer"].isin(seen)).sum(),
            },
        )
    return notes
