"""What the readers of data sets share: strict UTF-8, lines that end only at LF, strict CSV, a checksum."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from hw2_utils.errors import InputError, require


def require_files(folder: Path, names: Iterable[str]) -> None:
    """Raises InputError that names the folder if it is missing, else every file that is missing in it."""
    require(folder.is_dir(), "there is no such folder", where=folder, todo="put the data there or name another")
    missing = [name for name in names if not (folder / name).is_file()]
    require(not missing, f"missing: {', '.join(missing)}", where=folder, todo="add the missing files")


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
        raise InputError(f"can't be read: {error.strerror}", where=path, todo="check the file") from error


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file: LF or CRLF ends one; U+2028, U+0085, VT, FF or a lone CR inside it does not."""
    lines = read_text(path).split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """Records of a UTF-8 CSV file, header first: (row on which it begins, fields). Blank lines are skipped.

    Raises InputError with the row of a broken record: a missing quote, more or fewer fields than the header.
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
            if "".join(lines[start:reader.line_num]).count('"') % 2:
                raise csv.Error("a double quote is missing")
            if fields and records and len(fields) != len(records[0][1]):
                raise csv.Error(f"{len(fields)} fields where the header has {len(records[0][1])}")
        except csv.Error as error:
            todo = "put a text with commas or quotes in double quotes, each quote inside it doubled"
            raise InputError(f"broken CSV: {error}", where=f"{path}, row {start + 1}", todo=todo) from error
        records += [(start + 1, fields)] if fields else []
    return records


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the names, sizes and bytes of files, in order of path: 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        data = path.read_bytes()
        digest.update(os.fsencode(path.name) + b"\0%d\0" % len(data) + data)
    return digest.hexdigest()
