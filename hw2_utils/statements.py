"""Reads a CSV of true/false statements, and refuses what would give a wrong number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hw2_utils.datafiles import read_table, refuse_all, refuse_empty, variant_notes
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
    rows = read_table(path, COLUMNS, optional="topic").rows()
    refuse_empty(rows, "statement")
    refuse_all(
        (
            (where, f"unknown label {row['label']!r:.80}")
            for where, row in rows
            if row["label"].strip().lower() not in LABELS
        ),
        todo="use true, false, 1 or 0",
    )
    examples = [
        (
            f"test/{number}",
            row["statement"],
            LABELS[row["label"].strip().lower()],
            row.get("topic", "").strip() or None,
        )
        for number, (_, row) in enumerate(rows)
    ]
    _refuse_contradictions([where for where, _ in rows], examples)
    # object: a column holds exactly what the file holds, and an absent topic stays None
    frame = pd.DataFrame(examples, columns=["id", "statement", "label", "topic"], dtype=object)
    found = sorted(set(frame["label"]))
    require(
        len(found) == 2,
        f"{len(frame)} statements, labels {found} only",
        where=path,
        todo="give both labels",
    )
    notes = variant_notes(Counter(frame["topic"].dropna()), what="topics")
    repeats = int(frame.duplicated(["statement", "label"]).sum())
    notes += [f"{repeats} exact repeat(s) of an earlier statement, kept"] if repeats else []
    return Statements(frame, notes, file_sha256(path))


def _refuse_contradictions(places: list[str], examples: list[tuple]) -> None:
    """Raises InputError with all rows whose statement has another label further up."""
    first_seen: dict[str, tuple[str, str]] = {}
    problems = []
    for where, (_, statement, label, _) in zip(places, examples, strict=True):
        row = where.rpartition(", ")[2]
        first, first_label = first_seen.setdefault(" ".join(statement.split()), (row, label))
        if label != first_label:
            what = f"{statement!r:.100} is {label} here and {first_label} in {first}"
            problems.append((where, what))
    refuse_all(problems, todo="keep the rows that are right")
