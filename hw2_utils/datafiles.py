"""What the readers of data sets share: strict UTF-8 and CSV, lines, messages, a checksum."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils.errors import InputError, require
from hw2_utils.hub import file_sha256

SPLITS = ("train", "val", "test")
MAX_LISTED = 20  # problems or files that a message names
MAX_COMPARED = 1000  # files of a folder whose names are compared with those that are missing
SEPARATORS = {"semicolons": ";", "tabs": "\t", "bars": "|"}
# what a file's first bytes tell of it
FORMATS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK": "a ZIP archive or an Excel workbook",
    b"\x1f\x8b": "gzip",
    b"PAR1": "parquet",
}
COMMAS = "save it as UTF-8 with commas between the fields"
QUOTING = "put a text with commas or quotes in double quotes, each quote inside it doubled"
STANDARD_INPUT = "standard input"  # what messages call the source "-"


@dataclass(frozen=True)
class Dataset:
    """Splits train, val, test in file order.

    Their columns: id (`split/row`, from 0), and those that the reader names.
    """

    splits: dict[str, pd.DataFrame]
    classes: tuple[str, ...]
    notes: list[str]
    sha256: str


def refuse_all(problems: Iterable[tuple[object, str]], *, todo: str) -> None:
    """Raises one InputError that lists problems of a kind, each (file and row, what is wrong).

    The first MAX_LISTED are listed, the others are counted; without a problem nothing is raised.
    """
    listed = [(str(where), what) for where, what in problems]
    if not listed:
        return
    if len(listed) == 1:
        raise InputError(listed[0][1], where=listed[0][0], todo=todo)
    place = os.path.commonpath([where.rpartition(", row ")[0] or where for where, _ in listed])
    lines = [
        f"  {where.removeprefix(place).lstrip(f', {os.sep}')}: {what}"
        for where, what in listed[:MAX_LISTED]
    ]
    if len(listed) > MAX_LISTED:
        lines.append(f"  and {len(listed) - MAX_LISTED:,} more")
    raise InputError("\n".join([f"{len(listed):,} problems", *lines]), where=place, todo=todo)


def refuse_rows(rows: pd.DataFrame, what: str, *, todo: str) -> None:
    """`refuse_all` of rows with their file and row (`where`); `what` is filled in from each row."""
    problems = ((row["where"], what.format_map(row)) for row in rows.to_dict("records"))
    refuse_all(problems, todo=todo)


def refuse_empty(rows: pd.DataFrame, column: str) -> None:
    """Raises InputError with all rows that are blank in a column."""
    empty = rows[rows[column].str.strip() == ""]
    refuse_rows(empty, f"the {column} is empty", todo="fill it in or delete the row")


def numbered_rows(path: Path, columns: Mapping[str, object]) -> pd.DataFrame:
    """The rows of a file without a header, each with file and row (`where`)."""
    rows = pd.DataFrame(columns, dtype=object)
    return rows.assign(where=[f"{path}, row {row}" for row in range(1, len(rows) + 1)])


def split_frames(
    rows: pd.DataFrame, label: str, *, places: Mapping[str, Path], todo: str
) -> dict[str, pd.DataFrame]:
    """The rows of each split in file order, with an id (`split/row`, from 0).

    Raises InputError where a split (to be found at its place) is empty, or train has one label.
    """
    frames = {}
    for split, where in places.items():
        part = rows[rows["split"] == split].drop(columns="split")
        require(len(part), f"the {split} split is empty", where=where, todo=todo)
        ids = [f"{split}/{row}" for row in range(len(part))]
        frames[split] = pd.DataFrame({"id": ids, **part.to_dict("list")})
    two_classes = frames["train"][label].nunique() > 1
    where, todo = places["train"], "add rows of another class"
    require(two_classes, "train has one class only", where=where, todo=todo)
    return frames


def nearest(wanted: Iterable[str], there: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """The names in `there` that are nearly one of `wanted`, whatever their case, best first.

    cutoff: the least similarity, as `difflib` counts it (0 to 1).
    """
    names = {name.strip().lower(): name for name in there}
    matches = [difflib.get_close_matches(name.lower(), names, cutoff=cutoff) for name in wanted]
    return list(dict.fromkeys(names[match] for row in matches for match in row))


def require_files(
    folder: Path, names: Iterable[str], *, todo: str = "add the missing files"
) -> None:
    """Raises InputError that names the folder if it is missing, else every file missing in it.

    The message also says what is there instead, names that are nearly right first.
    """
    if not folder.is_dir():
        what = "this is no folder" if folder.exists() else "there is no such folder"
        beside = _listing([folder.name], folder.parent)
        todo = f"put the data there or name another; found beside it: {beside}"
        raise InputError(what, where=folder, todo=todo)
    missing = [name for name in names if not (folder / name).is_file()][:MAX_LISTED]
    if missing:
        todo += f"; found: {_listing(missing, folder)}"
        raise InputError(f"missing: {', '.join(missing)}", where=folder, todo=todo)


def _listing(wanted: list[str], folder: Path) -> str:
    """What is in a folder, names that are nearly `wanted` first."""
    there = sorted(path.name + "/" * path.is_dir() for path in folder.glob("*"))
    names = dict.fromkeys([*nearest(wanted, there[:MAX_COMPARED]), *there])
    return ", ".join(list(names)[:MAX_LISTED]) or "nothing"


def kept_notes(split: str, counts: Mapping[str, int]) -> list[str]:
    """One note for each thing that a reader accepted and counted, none where the count is 0."""
    return [f"{split}: {count:,} {what} (kept)" for what, count in counts.items() if count]


def variant_notes(counts: Mapping[str, int], *, what: str) -> list[str]:
    """One note for each group of names that differ by case, blanks or number format alone."""
    groups: dict[str, list[str]] = {}
    for name in counts:
        groups.setdefault(_plain(name), []).append(f"{name!r} ({counts[name]:,})")
    return [
        f"{what} that may be one are kept apart: {', '.join(names)}"
        for names in groups.values()
        if len(names) > 1
    ]


def _plain(name: str) -> str:
    """A name without case, blanks and invisible characters; a number in one format."""
    folded = unicodedata.normalize("NFKC", name).casefold().replace("\u2212", "-")
    kept = [c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf"]
    try:
        return repr(float("".join(kept)) + 0.0)  # + 0.0: -0 is 0
    except ValueError:
        return "".join(kept)


def _place(source: Path | str) -> str:
    return STANDARD_INPUT if source == "-" else str(source)


def read_text(source: Path | str) -> str:
    """A UTF-8 file's text without a byte-order mark; "-" is standard input.

    Raises InputError with row and byte offset where it is not UTF-8, or if it can't be read.
    """
    where = _place(source)
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        kinds = (kind for start, kind in FORMATS.items() if data.startswith(start))
        what = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        what += f", perhaps {next(kinds, 'Latin-1 or Windows-1252')}"
        row = data.count(b"\n", 0, error.start) + 1
        where += f", row {row}"
        raise InputError(what, where=where, todo="save the file as UTF-8") from error
    except OSError as error:
        what = f"can't be read: {error.strerror}"
        raise InputError(what, where=where, todo="check the file") from error


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file: LF or CRLF ends one, no other character does."""
    lines = read_text(path).split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


@dataclass(frozen=True)
class Table:
    """A strict CSV: header, index of each wanted column, records as (file and row, fields)."""

    where: str  # file and row of the header
    header: list[str]
    places: dict[str, int]
    records: list[tuple[str, list[str]]]

    def rows(self) -> pd.DataFrame:
        """The wanted columns, with each record's file and row (`where`)."""
        columns = {
            name: [fields[place] for _, fields in self.records]
            for name, place in self.places.items()
        }
        where = [where for where, _ in self.records]
        return pd.DataFrame({"where": where, **columns}, dtype=object)


def read_table(source: Path | str, columns: Mapping[str, set[str]], *, optional: str = "") -> Table:
    """A UTF-8 CSV file with a header, or standard input for "-". Blank lines are skipped.

    `columns`: the names under which each wanted column is accepted, in any letter case.
    Raises InputError with the rows of broken records (a missing quote, more or fewer fields than
    the header), for a wanted column that is there twice and, unless `optional`, that isn't there;
    for an optional one only where another name is nearly right.
    """
    text = read_text(source)
    # newline="" ends lines at LF, CRLF or CR; str.splitlines would also split a text at U+2028.
    lines = io.StringIO(text, newline="").readlines()
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long text is no error
    records = _records(lines, source)
    where, header = next(records, (f"{_place(source)}, row 1", []))
    places: dict[str, int] = {}
    for column, names in columns.items():
        matches = _find_column(header, column, names)
        if len(matches) == 1:
            places[column] = matches[0]
            continue
        near = [] if matches else nearest(names, header, cutoff=0.8 if column == optional else 0.4)
        if matches or near or column != optional:
            hint = _other_format(lines)
            names_wanted = f"name {' or '.join(sorted(names))} in the first row, each once"
            what = f"{len(matches)} columns for {column}: {header!s:.200}"
            what += hint or "".join(f"; nearly right: {name!r:.80}" for name in near)
            todo = COMMAS if hint else f"{names_wanted}; an empty file has none"
            raise InputError(what, where=where, todo=todo)
    rows = list(records)
    broken = [
        (place, f"broken CSV: {len(fields)} fields where the header has {len(header)}")
        for place, fields in rows
        if len(fields) != len(header)
    ]
    refuse_all(broken, todo=f"{QUOTING}; end no row with a comma unless all do")
    return Table(where, header, places, rows)


def check_added(table: Table, added: Iterable[str]) -> None:
    """Raises InputError where a table has one of these columns already, or two of one name."""
    there = [name.strip().lower() for name in table.header]
    names = Counter([*there, *{name.lower() for name in added}])  # classes may differ in case alone
    twice = ", ".join(name for name, count in names.items() if name and count > 1)
    what = f"more than one column {twice} once {', '.join(added)} is added"
    todo = "rename one of them; nothing is overwritten"
    require(not twice, what, where=table.where, todo=todo)


def write_table(table: Table, added: Mapping[str, Sequence[str]]) -> None:
    """Prints a table as CSV in UTF-8, its fields verbatim, with columns added on the right.

    Raises InputError for what `check_added` refuses.
    """
    check_added(table, added)
    left = [table.header, *(fields for _, fields in table.records)]
    right = [list(added), *zip(*added.values(), strict=True)]
    rows = [[*known, *new] for known, new in zip(left, right, strict=True)]
    text = "".join(",".join(map(_quoted, row)) + "\n" for row in rows)
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8"))  # whatever the terminal's encoding
    sys.stdout.buffer.flush()


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if re.search('[",\r\n]', field) else field


def _records(lines: list[str], source: Path | str) -> Iterator[tuple[str, list[str]]]:
    """Each record that is no blank line, with its file and row; stops at the first wrong quote."""
    reader = csv.reader(lines, strict=True)
    while (start := reader.line_num) < len(lines):
        where = f"{_place(source)}, row {start + 1}"
        try:
            fields = next(reader)
        except csv.Error as error:
            hint = _other_format(lines)
            todo = COMMAS if hint else QUOTING
            raise InputError(f"broken CSV: {error}{hint}", where=where, todo=todo) from error
        # The reader takes a quote inside an unquoted field for text; an odd number: one is missing.
        n_quotes = "".join(lines[start : reader.line_num]).count('"')
        what = "broken CSV: a double quote is missing"
        require(n_quotes % 2 == 0, what, where=where, todo=QUOTING)
        if fields:
            yield where, fields


def _other_format(lines: list[str]) -> str:
    """What the first line says about a file that is no CSV with commas, or nothing."""
    first = next(filter(str.strip, lines), "")
    if "\0" in first:
        return "; NUL bytes in it: perhaps UTF-16"
    name = max(SEPARATORS, key=lambda name: first.count(SEPARATORS[name]))
    is_used = first.count(SEPARATORS[name]) > first.count(",")
    return f"; the separators are {name}, not commas" if is_used else ""


def _find_column(header: list[str], column: str, synonyms: set[str]) -> list[int]:
    names = [name.strip().lower() for name in header]
    wanted = {column} if column in names else synonyms
    return [place for place, name in enumerate(names) if name in wanted]


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and hashes of files, in order of path: 64 hex digits."""
    hashes = [(path.name, file_sha256(path)) for path in sorted(paths)]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
