"""DAQUAR: reads the course's CSV files or the published question file, and opens pictures safely."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from hw2_utils.datafiles import files_sha256, read_csv, read_lines, read_text, require_files
from hw2_utils.errors import InputError

SPLITS = ("train", "val", "test")
COLUMNS = {"question": {"question"}, "answer": {"answer", "answers", "label"},  # names seen in public copies
           "image_id": {"image_id", "image", "img_id", "imageid"}}
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
# What the published questions end in; the course's files hold them without it, an earlier "imageN" stays.
TAIL = re.compile(r"( (in|on|of|at|from)( the| this)?|)\s*(?P<image_id>image\d+)\s*\?\s*$")


@dataclass(frozen=True)
class Vqa:
    """Splits train, val, test in file order: columns id (`split/row`, from 0), question, answer, image_id."""

    splits: dict[str, pd.DataFrame]
    classes: tuple[str, ...]
    image_paths: dict[str, Path]
    notes: list[str]
    sha256: str


def read(folder: Path | str) -> Vqa:
    """Reads `new_data_{train,val,test}.csv` and the pictures in `images/` that they name.

    Columns go by name (COLUMNS); questions are kept verbatim, answers without outer blanks, image ids in
    lower case without extension. Classes are the lines of `classes.txt`, or the sorted answers of all files.
    Raises InputError: a missing file, column or picture, not UTF-8, a broken CSV row, an empty question or
    answer, an empty split, one class, an answer outside `classes.txt`, an image in two splits, a picture
    outside `images/`, unreadable or too large. Duplicates, contradictions and answers unseen in train are
    kept and noted.
    """
    folder = Path(folder)
    names = [f"new_data_{split}.csv" for split in SPLITS]
    names += ["classes.txt"] if (folder / "classes.txt").exists() else []
    require_files(folder, names)
    frames = {split: _read_split(folder, split) for split in SPLITS}
    classes = _classes(folder, frames)
    image_paths = _find_images(folder / "images", _image_uses(frames))
    digest = files_sha256([*(folder / name for name in names), *image_paths.values()])
    splits = {split: frame.drop(columns="where") for split, frame in frames.items()}
    return Vqa(splits, classes, image_paths, _notes(splits), digest)


def open_image(path: Path | str, *, max_pixels: int = 50_000_000) -> Image.Image:
    """A picture file as upright RGB, uint8 [height, width, 3]: EXIF rotation applied, alpha over white.

    16-bit grey is scaled to 8 bits; of an animation the first frame is taken. Raises InputError with the
    file's name if it is no picture in one of IMAGE_FORMATS, is damaged, or has more than `max_pixels` by its
    header, before any pixel is decoded.
    """
    path = Path(path)
    if not path.is_file():  # also keeps a named pipe from being opened
        raise InputError("there is no such picture file", where=path, todo="add it or correct the name")
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ValueError(f"{image.width} x {image.height} pixels are too large, limit {max_pixels:,}")
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # a damaged file makes the decoders raise nearly every built-in type
        raise InputError(f"not a usable picture: {error or type(error).__name__}", where=path,
                         todo=f"replace it by a whole picture in {', '.join(IMAGE_FORMATS)}") from error


def read_raw(folder: Path | str, *, name: str = "qa.raw.txt") -> pd.DataFrame:
    """The published question file, a question line and an answer line in turn: question, answer, image_id.

    Questions stay verbatim, with "in the imageN ?" at their end. Raises InputError for an odd number of
    lines, a question that names no image at its end, an empty answer.
    """
    folder = Path(folder)
    require_files(folder, [name])
    lines = [line.strip() for line in read_lines(folder / name)]
    if len(lines) % 2 or not lines:
        raise InputError(f"{len(lines):,} lines: not pairs of question and answer", where=folder / name,
                         todo="give every question line its answer line")
    rows = []
    for row, (question, answer) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        match = TAIL.search(question)
        if not match or not answer:
            what = "has an empty answer" if match else "names no image"
            raise InputError(f"{question!r:.80} {what}", where=f"{folder / name}, row {2 * row + 1}",
                             todo='end each question in "in the imageN ?", write its answer below')
        rows.append((question, answer, match["image_id"]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def reduce_to_classes(raw: pd.DataFrame, *, n_classes: int = 30, classes: tuple = ()) -> pd.DataFrame:
    """The course's reduction of `read_raw`: pairs whose answer is a class, questions without TAIL, in order.

    Classes are those given, or else the `n_classes` most frequent answer strings ("a, b" is a string of its
    own); equally frequent ones go by alphabet. The course counted over all 12,468 pairs, train and test.
    Raises InputError for fewer than two classes or more than there are.
    """
    counts = raw["answer"].value_counts()
    if not classes and not 2 <= n_classes <= len(counts):
        raise InputError(f"n_classes is {n_classes}", todo=f"give 2 to {len(counts)}, the distinct answers")
    classes = classes or sorted(counts.index, key=lambda answer: (-counts[answer], answer))[:n_classes]
    kept = raw[raw["answer"].isin(classes)].reset_index(drop=True)
    return kept.assign(question=[TAIL.sub("", question) for question in kept["question"]])


def content_key(image_id: str, question: str) -> str:
    """16 hex digits that name a question about an image, whatever its case and spacing."""
    return hashlib.sha256(f"{image_id}\n{_normalised(question)}".encode()).hexdigest()[:16]


def data_card(vqa: Vqa) -> pd.DataFrame:
    """Counts by split (rows); question lengths in words; shares in [0, 1], null for train itself.

    `duplicates` repeat an earlier row; `contradictory_pairs` = (image, question) with several answers.
    """
    seen = set(vqa.splits["train"]["question"].map(_normalised))
    rows = {}
    for split, frame in vqa.splits.items():
        words, images = frame["question"].str.split().str.len(), frame["image_id"].nunique()
        seen_share = frame["question"].map(_normalised).isin(seen).mean()
        rows[split] = {"questions": len(frame), "images": images, "questions_per_image": len(frame) / images,
                       "answers": frame["answer"].nunique(), "question_words_mean": words.mean(),
                       "question_words_max": words.max(), "duplicates": frame.duplicated(list(COLUMNS)).sum(),
                       "contradictory_pairs": _contradictory_pairs(frame),
                       "question_seen_in_train": None if split == "train" else seen_share}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split").convert_dtypes()


def _read_split(folder: Path, split: str) -> pd.DataFrame:
    path, rows = folder / f"new_data_{split}.csv", []
    header, *records = read_csv(path) or [(1, [])]
    columns = _columns(header[1], path)
    for row, fields in records:
        question, answer, image = (fields[columns[name]] for name in COLUMNS)
        where = f"{path}, row {row}"
        if not question.strip() or not answer.strip():
            raise InputError(f"the {'answer' if question.strip() else 'question'} is empty", where=where,
                             todo="fill it in or delete the row")
        rows.append((f"{split}/{len(rows)}", question, answer.strip(), _image_id(image, where), where))
    if not rows:
        raise InputError(f"the {split} split is empty", where=path, todo="give it at least one question")
    return pd.DataFrame(rows, columns=["id", *COLUMNS, "where"])


def _columns(header: list[str], path: Path) -> dict[str, int]:
    names, columns = [name.strip().lower() for name in header], {}
    for column, synonyms in COLUMNS.items():
        wanted = {column} if column in names else synonyms
        places = [place for place, name in enumerate(names) if name in wanted]
        if len(places) != 1:
            raise InputError(f"{len(places)} columns for {column}: {header!s:.200}", where=f"{path}, row 1",
                             todo=f"name exactly one column {' or '.join(sorted(synonyms))}")
        columns[column] = places[0]
    return columns


def _image_id(text: str, where: str) -> str:
    # An id is only ever looked up among the files that lie in images/, never joined to a path.
    stem = re.sub(r"\.(jpe?g|png)$", "", text.strip(), flags=re.IGNORECASE)
    if not stem or stem[0] == "." or set(stem) & set("/\\\0"):
        raise InputError(f"image id {text!r:.80} is not a plain picture name", where=where,
                         todo="name a picture in images/ without a folder, such as image20")
    return stem.lower()


def _classes(folder: Path, frames: dict[str, pd.DataFrame]) -> tuple[str, ...]:
    rows, path = pd.concat(frames.values())[["answer", "where"]], folder / "classes.txt"
    if frames["train"]["answer"].nunique() < 2:
        raise InputError("train has one class only", where=folder, todo="add questions with another answer")
    if not path.exists():
        return tuple(sorted(set(rows["answer"])))
    classes = [line.strip() for line in read_text(path).rstrip().split("\n")]
    for row, name in enumerate(classes):
        if name in ("", *classes[:row]):
            raise InputError(f"class {name!r:.80} is blank or repeated", where=f"{path}, row {row + 1}",
                             todo="write each class once, one a line")
    for answer, where in rows[~rows["answer"].isin(classes)].values:
        raise InputError(f"answer {answer!r:.80} is not in classes.txt", where=where, todo="add it there")
    return tuple(classes)


def _image_uses(frames: dict[str, pd.DataFrame]) -> dict[str, str]:
    uses: dict[str, str] = {}  # image id: where it is first named
    for frame in frames.values():
        for image_id, where in frame.drop_duplicates("image_id")[["image_id", "where"]].values:
            if image_id in uses:
                raise InputError(f"{image_id} is in two splits, also in {uses[image_id]}", where=where,
                                 todo="keep all questions about an image in one split")
            uses[image_id] = where
    return uses


def _find_images(folder: Path, uses: dict[str, str]) -> dict[str, Path]:
    require_files(folder, [])
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            found.setdefault(path.stem.lower(), []).append(path)
    for image_id, where in uses.items():
        paths = found.get(image_id, [])
        if len(paths) != 1:
            absent = sum(name not in found for name in uses)
            raise InputError(f"{image_id} has {len(paths)} files; {absent} of {len(uses)} images have none",
                             where=where, todo=f"have one of {image_id}.jpg, .jpeg or .png in {folder}")
        if not Path(os.path.realpath(paths[0])).is_relative_to(os.path.realpath(folder)):
            raise InputError("the picture is a link out of its folder", where=paths[0], todo="copy it there")
        open_image(paths[0])
    return {image_id: found[image_id][0] for image_id in uses}


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # 0..65535 -> 0..255, rounded: 65535 = 255 * 257
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels say nothing about which value is white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _normalised(question: str) -> str:
    return " ".join(question.lower().split())


def _contradictory_pairs(frame: pd.DataFrame) -> int:
    pairs = [frame["image_id"], frame["question"].map(_normalised)]
    return int((frame["answer"].groupby(pairs).nunique() > 1).sum())


def _notes(splits: dict[str, pd.DataFrame]) -> list[str]:
    notes, seen = [], set(splits["train"]["answer"])
    for split, frame in splits.items():
        counts = {"exact duplicates of an earlier row": frame.duplicated(list(COLUMNS)).sum(),
                  "(image, question) pairs with several answers": _contradictory_pairs(frame),
                  "questions over 50 words": (frame["question"].str.split().str.len() > 50).sum(),
                  "questions over several lines, see the quotes": frame["question"].str.contains("\n").sum(),
                  "answers unseen in train, counted wrong": (~frame["answer"].isin(seen)).sum()}
        notes += [f"{split}: {count:,} {what} (kept)" for what, count in counts.items() if count]
    return notes
