"""DAQUAR: reads the course's CSV files, and opens pictures safely."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from hw2_utils.datafiles import Dataset, files_sha256, kept_notes, read_csv, read_text, require_files
from hw2_utils.errors import InputError, require

SPLITS = ("train", "val", "test")
COLUMNS = {"question": {"question"}, "answer": {"answer", "answers", "label"},  # names seen in public copies
           "image_id": {"image_id", "image", "img_id", "imageid"}}
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")


@dataclass(frozen=True)
class Vqa(Dataset):
    """Splits with the columns id, question, answer, image_id, and the picture of each image id."""

    image_paths: dict[str, Path]


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
    require(frames["train"]["answer"].nunique() > 1, "train has one class only", where=folder,
            todo="add questions with another answer")
    rows = pd.concat(frames, names=["split"]).reset_index("split")
    classes, image_paths = _classes(folder, rows), _find_images(folder / "images", rows)
    digest = files_sha256([*(folder / name for name in names), *image_paths.values()])
    splits = {split: frame.drop(columns="where") for split, frame in frames.items()}
    return Vqa(splits, classes, _notes(splits), digest, image_paths)


def open_image(path: Path | str, *, max_pixels: int = 50_000_000) -> Image.Image:
    """A picture file as upright RGB, uint8 [height, width, 3]: EXIF rotation applied, alpha over white.

    16-bit grey is scaled to 8 bits; of an animation the first frame is taken. Raises InputError with the
    file's name if it is no picture in one of IMAGE_FORMATS, is damaged, or has more than `max_pixels` by its
    header, before any pixel is decoded.
    """
    path = Path(path)
    # Also keeps a named pipe from being opened.
    require(path.is_file(), "there is no such picture file", where=path, todo="add it or correct the name")
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ValueError(f"{image.width} x {image.height} pixels are too large, limit {max_pixels:,}")
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # a damaged file makes the decoders raise nearly every built-in type
        raise InputError(f"not a usable picture: {error or type(error).__name__}", where=path,
                         todo=f"replace it by a whole picture in {', '.join(IMAGE_FORMATS)}") from error


def content_key(image_id: str, question: str) -> str:
    """16 hex digits that name a question about an image, whatever its case and spacing."""
    return hashlib.sha256(f"{image_id}\n{_normalised(question)}".encode()).hexdigest()[:16]


def _read_split(folder: Path, split: str) -> pd.DataFrame:
    path, rows = folder / f"new_data_{split}.csv", []
    for where, fields in read_csv(path, COLUMNS):
        question, answer, image = (fields[name] for name in COLUMNS)
        for name in ("question", "answer"):
            require(fields[name].strip(), f"the {name} is empty", where=where, todo="fill it in or delete the row")
        # An id is only ever looked up among the files that lie in images/, never joined to a path.
        stem = re.sub(r"\.(jpe?g|png)$", "", image.strip().lower())
        require(stem and stem[0] != "." and not set(stem) & set("/\\\0"),
                f"image id {image!r:.80} is not a plain picture name", where=where,
                todo="name a picture in images/ without a folder, such as image20")
        rows.append((f"{split}/{len(rows)}", question, answer.strip(), stem, where))
    require(rows, f"the {split} split is empty", where=path, todo="give it at least one question")
    return pd.DataFrame(rows, columns=["id", *COLUMNS, "where"])


def _classes(folder: Path, rows: pd.DataFrame) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.exists():
        return tuple(sorted(set(rows["answer"])))
    classes = tuple(line.strip() for line in read_text(path).rstrip().split("\n"))
    for row, name in enumerate(classes):
        require(name not in ("", *classes[:row]), f"class {name!r:.80} is blank or repeated",
                where=f"{path}, row {row + 1}", todo="write each class once, one a line")
    for answer, where in rows[["answer", "where"]].values:
        require(answer in classes, f"answer {answer!r:.80} is not in classes.txt", where=where, todo="add it there")
    return classes


def _find_images(folder: Path, rows: pd.DataFrame) -> dict[str, Path]:
    """The picture of each image id; each id must be in one split and have one file, inside the folder."""
    require_files(folder, [])
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            files.setdefault(path.stem.lower(), []).append(path)
    uses = rows.drop_duplicates(["image_id", "split"]).groupby("image_id", sort=False)["where"].agg(["first", "last"])
    n_absent, found = len(set(uses.index) - files.keys()), {}
    for image_id, first, last in uses.itertuples():
        require(first == last, f"{image_id} is in two splits, also in {first}", where=last,
                todo="keep all questions about an image in one split")
        paths = files.get(image_id, [])
        require(len(paths) == 1, f"{image_id} has {len(paths)} files; {n_absent} of {len(uses)} images have none",
                where=first, todo=f"have one of {image_id}.jpg, .jpeg or .png in {folder}")
        found[image_id] = path = paths[0]
        require(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)),
                "the picture is a link out of its folder", where=path, todo="copy it there")
        open_image(path)
    return found


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


def _notes(splits: dict[str, pd.DataFrame]) -> list[str]:
    notes, seen = [], set(splits["train"]["answer"])
    for split, frame in splits.items():
        question = frame["question"]
        n_answers = frame["answer"].groupby([frame["image_id"], question.map(_normalised)]).nunique()
        notes += kept_notes(split, {
            "exact duplicates of an earlier row": frame.duplicated(list(COLUMNS)).sum(),
            "(image, question) pairs with several answers": (n_answers > 1).sum(),
            "questions over 50 words": (question.str.split().str.len() > 50).sum(),
            "questions over several lines, see the quotes": question.str.contains("\n").sum(),
            "answers unseen in train, counted wrong": (~frame["answer"].isin(seen)).sum()})
    return notes
