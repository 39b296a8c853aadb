"""Writes the sample's true/false statements from their source, `statements.tsv`.

Each row of the source holds a true and a false statement that differ in one fact, their topic, and
the title of the encyclopedia article in which both can be checked.
"""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAIRS_PER_TOPIC = 10
TOPICS = 10
MIN_LENGTH_RATIO = 0.8  # shorter twin / longer twin, in characters
SEED = 20261125


def read_pairs(path: Path = HERE / "statements.tsv") -> list[dict[str, str]]:
    """The source's rows, with the keys topic, true, false, article."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))


def check(pairs: list[dict[str, str]]) -> None:
    """Stops with the first rule that the source breaks."""
    topics = Counter(pair["topic"] for pair in pairs)
    if len(topics) != TOPICS or set(topics.values()) != {PAIRS_PER_TOPIC}:
        raise SystemExit(f"want {TOPICS} topics of {PAIRS_PER_TOPIC} pairs, found {dict(topics)}")
    texts = Counter(
        " ".join(pair[side].lower().split()) for pair in pairs for side in ("true", "false")
    )
    if repeated := [text for text, count in texts.items() if count > 1]:
        raise SystemExit(f"repeated statements: {repeated}")
    for pair in pairs:
        short, long = sorted(len(pair[side]) for side in ("true", "false"))
        if short < MIN_LENGTH_RATIO * long or not pair["article"]:
            raise SystemExit(f"twins of unequal length, or no article: {pair}")


def main(out_dir: Path = HERE.parent / "statements") -> Path:
    """Checks the source and writes `statements.csv` (statement, label, topic) into the folder."""
    pairs = read_pairs()
    check(pairs)
    rows = [(pair[label], label, pair["topic"]) for pair in pairs for label in ("true", "false")]
    random.Random(SEED).shuffle(rows)
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "statements.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("statement", "label", "topic"), *rows])
    return path


if __name__ == "__main__":
    print(main(*map(Path, sys.argv[1:2])))
