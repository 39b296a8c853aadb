"""What the readers of data sets share: strict UTF-8, lines that end only at LF, strict CSV, a checksum."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils.errors import InputError, require
from hw2_utils.hub import file_sha256


@dataclass(frozen=True)
class Dataset:
    """Splits train, val, test in file order: columns id (`split/row`, from 0) and those that the reader names."""

    splits: dict[str, pd.DataFrame]
    classes: tuple[str, ...]
    notes: list[str]
    sha256: str


def require_files(folder: Path, names: Iterable[str]) -> None:
    """Raises InputError that names the folder if it is missing, else every file that is missing in it."""
    require(
        folder.is_dir(),
        "there is no such folder",
        where=folder,
        todo="put the data there or name another",
    )
    missing = [name for name in names if not (folder / name).is_file()]
    require(
        not missing, f"missing: {', '.join(missing)}", where=folder, todo="add the missing files"
    )


def kept_notes(split: str, counts: Mapping[str, int]) -> list[str]:
    """One note for each thing that a reader accepted and counted, none where the count is 0."""
    return [f"{split}: {count:,} {what} (kept)" for what, count in counts.items() if count]


def read_text(path: Path) -> str:
    """A UTF-8 file's text without a byte-order mark.

    Raises InputError with the row and the byte offset where the file is not UTF-8, or if it can't be read.
    """
    try:
        data = path.read_bytes()
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        what = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        row = data.count(b"\n", 0, error.start) + 1
        raise InputError(what, where=f"{path}, row {row}", todo="save the file as UTF-8") from error
    except OSError as error:
        raise InputError(
            f"can't be read: {error.strerror}", where=path, todo="check the file"
        ) from error


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file: LF or CRLF ends one; U+2028, U+0085, VT, FF or a lone CR inside it does not."""
    lines = read_text(path).split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def read_csv(
    path: Path, columns: Mapping[str, set[str]], *, optional: str = ""
) -> list[tuple[str, dict[str, str]]]:
    """Records of a UTF-8 CSV file: (file and row on which it begins, fields by column). Blank lines are skipped.

    `columns`: the names under which each column is accepted, in any letter case; all others are ignored.
    Raises InputError with the row of a broken record (a missing quote, more or fewer fields than the header),
    and for a column, unless `optional`, that isn't there, or is there twice.
    """
    text = read_text(path)
    # newline="" ends lines at LF, CRLF or CR; str.splitlines would also split a text at U+2028 or U+0085.
    lines, records = io.StringIO(text, newline="").readlines(), []
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long text is no error
    reader = csv.reader(lines, strict=True)
    while (start := reader.line_num) < len(lines):
        try:
            fields = next(reader)
            # The reader takes a quote inside an unquoted field for text; an odd number means one is missing.
            if "".join(lines[start : reader.line_num]).count('"') % 2:
                raise csv.Error("a double quote is missing")
            if fields and records and len(fields) != len(records[0][1]):
                raise csv.Error(f"{len(fields)} fields where the header has {len(records[0][1])}")
        except csv.Error as error:
            todo = "put a text with commas or quotes in double quotes, each quote inside it doubled"
            raise InputError(
                f"broken CSV: {error}", where=f"{path}, row {start + 1}", todo=todo
            ) from error
        records += [(start + 1, fields)] if fields else []
    (row, header), *records = records or [(1, [])]
    names, places = [name.strip().lower() for name in header], {}
    for column, synonyms in columns.items():
        wanted = {column} if column in names else synonyms
        found = [place for place, name in enumerate(names) if name in wanted]
        require(
            len(found) == 1 or (column == optional and not found),
            f"{len(found)} columns for {column}: {header!s:.200}",
            where=f"{path}, row {row}",
            todo=f"name {' or '.join(sorted(synonyms))} in the first row, each once; an empty file has none",
        )
        places.update((column, place) for place in found)
    return [
        (f"{path}, row {row}", {column: fields[place] for column, place in places.items()})
        for row, fields in records
    ]


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and hashes of files, in order of path: 64 hex digits."""
    return hashlib.sha256(
        json.dumps([(path.name, file_sha256(path)) for path in sorted(paths)]).encode()
    ).hexdigest()
