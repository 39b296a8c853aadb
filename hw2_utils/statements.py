"""Reads a CSV of true/false statements, and refuses what would give a wrong number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils.datafiles import read_table, refuse_empty, refuse_rows, variant_notes
from hw2_utils.errors import require
from hw2_utils.hub import file_sha256

COLUMNS = {name: {name} for name in ("statement", "label", "topic")}
LABELS = {"true": "true", "1": "true", "false": "false", "0": "false"}


@dataclass(frozen=True)
class Statements:
    """A set of statements in file order.

    frame: columns id (`test/<0-based data row>`), statement (verbatim), label (one of `classes`),
    topic (or None). notes: one sentence for each thing that was accepted and that a reader should
    know. sha256: of the file's bytes.
    """

    frame: pd.DataFrame
    notes: list[str]
    sha256: str
    classes: tuple[str, ...] = ("true", "false")


def read(path: Path) -> Statements:
    """Reads a UTF-8 CSV with the columns statement, label and, if there is one, topic.

    Raises InputError, with the row as an editor counts it, for a file that can't be read as such or
    whose statements are empty, contradict one another, or all have one label.
    """
    path = Path(path)
    rows = read_table(path, COLUMNS, optional="topic").rows()
    refuse_empty(rows, "statement")
    labels = rows["label"].str.strip().str.lower().map(LABELS)
    todo = "use true, false, 1 or 0"
    refuse_rows(rows[labels.isna()], "unknown label {label!r:.80}", todo=todo)
    _refuse_contradictions(rows.assign(label=labels))
    columns = {
        "id": [f"test/{number}" for number in range(len(rows))],
        "statement": rows["statement"],
        "label": labels,
        "topic": rows["topic"].str.strip().replace("", None) if "topic" in rows else None,
    }
    # object: a column holds exactly what the file holds, and an absent topic stays None
    frame = pd.DataFrame(columns, dtype=object)
    labels_there = sorted(set(labels))
    what = f"{len(frame)} statements, labels {labels_there} only"
    require(len(labels_there) == 2, what, where=path, todo="give both labels")
    notes = variant_notes(Counter(frame["topic"].dropna()), what="topics")
    repeats = int(frame.duplicated(["statement", "label"]).sum())
    notes += [f"{repeats} exact repeat(s) of an earlier statement, kept"] if repeats else []
    return Statements(frame, notes, file_sha256(path))


def _refuse_contradictions(rows: pd.DataFrame) -> None:
    """Raises InputError with all rows whose statement has another label further up."""
    words = rows["statement"].map(lambda statement: " ".join(statement.split()))
    first = rows.groupby(words)[["where", "label"]].transform("first")
    rows = rows.assign(first_label=first["label"], first_row=first["where"].str.split(", ").str[-1])
    refuse_rows(
        rows[rows["label"] != rows["first_label"]],
        "{statement!r:.100} is {label} here and {first_label} in {first_row}",
        todo="keep the rows that are right",
    )
