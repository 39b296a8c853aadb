"""Reads a CSV of true/false statements, and refuses what would give a wrong number."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils.errors import InputError

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

    Raises InputError, with the line as an editor counts it, for a file that can't be read as such or whose
    statements are empty, contradict one another, or all have one label.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", where=path, todo="name a CSV file") from error
    examples, first_seen = [], {}
    for line, row in _rows(_decode(raw, path), path):
        statement, label = row["statement"], _label(row, f"{path}, line {line}")
        first_line, first_label = first_seen.setdefault(" ".join(statement.split()), (line, label))
        if label != first_label:
            what = f"{statement!r:.100} is {label} here and {first_label} in line {first_line}"
            raise InputError(what, where=f"{path}, line {line}", todo="keep the row that is right")
        examples.append((f"test/{len(examples)}", statement, label, row.get("topic", "").strip() or None))
    # object: a column holds exactly what the file holds, and an absent topic stays None
    frame = pd.DataFrame(examples, columns=["id", "statement", "label", "topic"], dtype=object)
    if len(found := sorted(set(frame["label"]))) < 2:
        raise InputError(f"{len(frame)} statements, labels {found} only", where=path, todo="give both labels")
    repeats = int(frame.duplicated(["statement", "label"]).sum())
    notes = [f"{repeats} exact repeat(s) of an earlier statement, kept"] if repeats else []
    return Statements(frame, notes, hashlib.sha256(raw).hexdigest())


def _decode(raw: bytes, path: Path) -> str:
    """The bytes as text, without a byte order mark."""
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line, what = raw.count(b"\n", 0, error.start) + 1, f"not UTF-8: {error.reason} at byte {error.start}"
        raise InputError(what, where=f"{path}, line {line}", todo="save the file as UTF-8") from error


def _records(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, fields) of each CSV record, all of one width; an empty line is none."""
    # Lines end at LF, CR LF or CR alone: str.splitlines would also split a statement at U+2028 or U+0085.
    lines, width = io.StringIO(text, newline="").readlines(), 0
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long statement is no error
    reader = csv.reader(lines, strict=True)
    while (start := reader.line_num) < len(lines):
        try:
            fields = next(reader)
            # The reader takes a quote inside an unquoted field for text; an odd number means one is missing.
            if "".join(lines[start:reader.line_num]).count('"') % 2:
                raise csv.Error("a double quote is missing")
            if fields and len(fields) != (width := width or len(fields)):
                raise csv.Error(f"{len(fields)} field(s) where the header has {width}")
        except csv.Error as error:
            todo = 'put a text with commas or quotes in double quotes and write each " inside it twice'
            raise InputError(f"broken row: {error}", where=f"{path}, line {start + 1}", todo=todo) from error
        if fields:
            yield start + 1, fields


def _rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by column name) of each data row."""
    records = _records(text, path)
    line, names = next(records, (1, []))
    if names.count("statement") != 1 or names.count("label") != 1 or names.count("topic") > 1:
        what = f"needs the columns statement and label, each once; found {names or 'an empty file'!s:.200}"
        raise InputError(what, where=f"{path}, line {line}", todo="name the columns in the first row")
    yield from ((line, dict(zip(names, fields, strict=True))) for line, fields in records)


def _label(row: dict[str, str], where: str) -> str:
    """The row's label as a class name."""
    if not row["statement"].strip():
        raise InputError("the statement is empty", where=where, todo="write the statement or delete the row")
    if (label := LABELS.get(row["label"].strip().lower())) is None:
        raise InputError(f"unknown label {row['label']!r:.80}", where=where, todo="use true, false, 1 or 0")
    return label
