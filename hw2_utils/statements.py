"""Reads a CSV of true/false statements, and refuses what would give a wrong number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils.datafiles import read_csv
from hw2_utils.errors import InputError
from hw2_utils.hub import file_sha256

LABELS = {"true": "true", "1": "true", "false": "false", "0": "false"}


@dataclass(frozen=True)
class Statements:
    """A set of statements in file order.

    frame: columns id (`test/<0-based data row>`), statement (verbatim), label (one of `classes`), topic (or
    None). notes: one sentence for each thing that was accepted and that a reader should know.
    sha256: of the file's bytes.
    """

    frame: pd.DataFrame
    notes: list[str]
    sha256: str
    classes: tuple[str, ...] = ("true", "false")


def read(path: Path) -> Statements:
    """Reads a UTF-8 CSV with the columns statement, label and, if there is one, topic; others are ignored.

    Raises InputError, with the row as an editor counts it, for a file that can't be read as such or whose
    statements are empty, contradict one another, or all have one label.
    """
    path = Path(path)
    examples, first_seen = [], {}
    for line, row in _rows(path):
        statement, label = row["statement"], _label(row, f"{path}, row {line}")
        first_line, first_label = first_seen.setdefault(" ".join(statement.split()), (line, label))
        if label != first_label:
            what = f"{statement!r:.100} is {label} here and {first_label} in row {first_line}"
            raise InputError(what, where=f"{path}, row {line}", todo="keep the row that is right")
        examples.append((f"test/{len(examples)}", statement, label, row.get("topic", "").strip() or None))
    # object: a column holds exactly what the file holds, and an absent topic stays None
    frame = pd.DataFrame(examples, columns=["id", "statement", "label", "topic"], dtype=object)
    if len(found := sorted(set(frame["label"]))) < 2:
        raise InputError(f"{len(frame)} statements, labels {found} only", where=path, todo="give both labels")
    repeats = int(frame.duplicated(["statement", "label"]).sum())
    notes = [f"{repeats} exact repeat(s) of an earlier statement, kept"] if repeats else []
    return Statements(frame, notes, file_sha256(path))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by column name) of each data row."""
    (line, names), *records = read_csv(path) or [(1, [])]
    if names.count("statement") != 1 or names.count("label") != 1 or names.count("topic") > 1:
        what = f"needs the columns statement and label, each once; found {names or 'an empty file'!s:.200}"
        raise InputError(what, where=f"{path}, row {line}", todo="name the columns in the first row")
    yield from ((line, dict(zip(names, fields, strict=True))) for line, fields in records)


def _label(row: dict[str, str], where: str) -> str:
    """The row's label as a class name."""
    if not row["statement"].strip():
        raise InputError("the statement is empty", where=where, todo="write the statement or delete the row")
    if (label := LABELS.get(row["label"].strip().lower())) is None:
        raise InputError(f"unknown label {row['label']!r:.80}", where=where, todo="use true, false, 1 or 0")
    return label
