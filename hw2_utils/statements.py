"""Reads a CSV of true/false statements, and refuses what would give a wrong number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils.datafiles import read_csv
from hw2_utils.errors import require
from hw2_utils.hub import file_sha256

COLUMNS = {name: {name} for name in ("statement", "label", "topic")}
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
    for where, row in read_csv(path, COLUMNS, optional="topic"):
        statement, label = row["statement"], LABELS.get(row["label"].strip().lower())
        require(
            statement.strip(),
            "the statement is empty",
            where=where,
            todo="write it or delete the row",
        )
        require(
            label,
            f"unknown label {row['label']!r:.80}",
            where=where,
            todo="use true, false, 1 or 0",
        )
        first, first_label = first_seen.setdefault(" ".join(statement.split()), (where, label))
        require(
            label == first_label,
            f"{statement!r:.100} is {label} here and {first_label} in {first}",
            where=where,
            todo="keep the row that is right",
        )
        examples.append(
            (f"test/{len(examples)}", statement, label, row.get("topic", "").strip() or None)
        )
    # object: a column holds exactly what the file holds, and an absent topic stays None
    frame = pd.DataFrame(examples, columns=["id", "statement", "label", "topic"], dtype=object)
    found = sorted(set(frame["label"]))
    require(
        len(found) == 2,
        f"{len(frame)} statements, labels {found} only",
        where=path,
        todo="give both labels",
    )
    repeats = int(frame.duplicated(["statement", "label"]).sum())
    notes = [f"{repeats} exact repeat(s) of an earlier statement, kept"] if repeats else []
    return Statements(frame, notes, file_sha256(path))
