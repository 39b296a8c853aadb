"""Writes hw2_utils/config/wups.csv: the Wu-Palmer similarity of any two of the course's answers.

As in WUPS (Malinowski & Fritz 2014, "A multi-world approach to question answering about real-world
scenes"): two answers are as similar as their most similar noun senses (Wu & Palmer 1994, twice the
depth of the common ancestor over the sum of both depths); a word is 1 similar to itself. Source of
the numbers: WordNet 3.0 (Princeton University), read by nltk. Both are needed here only, so nltk is
no dependency of the project:

    pip install --target NLTK nltk==3.10.4
    PYTHONPATH=NLTK .venv/bin/python scripts/make_wups.py --wordnet NLTK_DATA/corpora/wordnet \
        --vqa data/daquar

WordNet's files: nltk's data package `wordnet`, or Debian's packages wordnet-base and
wordnet-sense-index and, as nltk asks for it, a file `lexnames` as lexnames(5WN) lists it (its
content does not bear on the similarities).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "hw2_utils" / "config" / "wups.csv"
VERSION = "3.0"

# Answers that WordNet lacks -> a word for the same thing that it has. Any other answer that it
# lacks is 0 similar to all but itself.
ALIASES = {"garbage_bin": "garbage_can"}


def load_wordnet(folder: Path) -> Any:
    """nltk's reader of the WordNet files in a folder `corpora/wordnet`; ValueError if it is not."""
    import nltk.data
    from nltk.corpus import wordnet

    folder = folder.resolve()
    if folder.parts[-2:] != ("corpora", "wordnet") or not (folder / "data.noun").is_file():
        raise ValueError(f"{folder.name} is no folder corpora/wordnet with WordNet's files")
    # nltk finds its data, and may read, only below these
    nltk.data.path.insert(0, str(folder.parents[1]))
    if wordnet.get_version() != VERSION:
        raise ValueError(f"these files are of WordNet {wordnet.get_version()}, not {VERSION}")
    return wordnet


def senses(wordnet: Any, answer: str) -> list:
    """All noun senses of an answer, of its alias if it has none.

    `_` joins words; plurals and digits are known.
    """
    return wordnet.synsets(answer, "n") or wordnet.synsets(ALIASES.get(answer, answer), "n")


def similarity(ones: Sequence, others: Sequence) -> float:
    """The largest Wu-Palmer similarity of two lists of senses, 0 if one is empty.

    Both orders are tried: nltk picks one of several equally deep ancestors by the order of its
    arguments.
    """
    return max(
        (max(a.wup_similarity(b), b.wup_similarity(a)) for a in ones for b in others), default=0.0
    )


def table(wordnet: Any, answers: Sequence[str]) -> list[list[str]]:
    """The rows of the CSV file: the sorted answers, then one row for each with 4 decimals."""
    names = sorted(answers)
    found = {name: senses(wordnet, name) for name in names}
    pairs = {frozenset((a, b)): similarity(found[a], found[b]) for a, b in combinations(names, 2)}
    rows = [[a, *(f"{pairs.get(frozenset((a, b)), 1.0):.4f}" for b in names)] for a in names]
    return [["answer", *names], *rows]


def read_answers(path: Path) -> list[str]:
    """The distinct non-blank lines of a text file."""
    return list(
        dict.fromkeys(filter(None, map(str.strip, path.read_text(encoding="utf-8").split("\n"))))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wordnet", type=Path, required=True, help="nltk's folder corpora/wordnet")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--answers", type=Path, help="text file, one answer a line")
    source.add_argument(
        "--vqa", type=Path, nargs="+", help="DAQUAR folders; their classes are the answers"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, help="CSV file (default: the committed table)"
    )
    args = parser.parse_args()
    if args.answers:
        answers = read_answers(args.answers)
    else:
        from hw2_utils.daquar import read

        answers = sorted({name for folder in args.vqa for name in read(folder).classes})
    try:
        wordnet = load_wordnet(args.wordnet)
    except (ValueError, LookupError, OSError, ImportError) as error:
        parser.error(str(error))
    if missing := [name for name in sorted(answers) if not senses(wordnet, name)]:
        print("without a noun sense, 0 similar to all others:", ", ".join(missing))
    with args.out.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table(wordnet, answers))
    print(f"{args.out.name}: {len(answers)} answers")


if __name__ == "__main__":
    main()
