"""Writes the sample tweets in TweetEval's layout from the hand-written `tweets.tsv` beside it.

Run: `python data/sample/make/make_tweets.py`. The same source gives the same bytes.
"""

from __future__ import annotations

import random
import re
import sys
from itertools import combinations
from pathlib import Path

SOURCE = Path(__file__).with_name("tweets.tsv")
OUT_DIR = Path(__file__).parents[1] / "tweet_eval" / "sentiment"
CLASSES = ("negative", "neutral", "positive")
SPLITS = {"train": 400, "val": 80, "test": 120}
SEED = 0
MAX_JACCARD = 0.6

Tweet = tuple[str, str]  # label, text


def read_tweets(source: Path) -> list[Tweet]:
    """The rows `label<TAB>text` below the header; ValueError names the file and the bad row."""
    header, *lines = source.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if header != "label\ttext":
        raise ValueError(f"{source}, row 1: the header is {header!r}, not 'label<TAB>text'")
    rows = [tuple(line.split("\t")) for line in lines]
    for number, row in enumerate(rows, start=2):
        if (
            len(row) != 2
            or row[0] not in CLASSES
            or not row[1].strip()
            or len(row[1].splitlines()) != 1
        ):
            raise ValueError(f"{source}, row {number}: {row!r} is not one label and one text")
    return rows


def words(text: str) -> frozenset[str]:
    """Lower-case words and emoji of a tweet without its hashtags, mentions and links."""
    plain = re.sub(r"[@#]\w+|\bhttp\S*", " ", text.lower())
    return frozenset(re.findall(r"[\w'’]+|[^\w\s.,;:!?\"'()&/-]", plain))


def near_duplicates(tweets: list[Tweet], *, limit: float = MAX_JACCARD) -> list[tuple[int, int]]:
    """Pairs of positions whose word sets have a Jaccard similarity >= `limit` (both empty: 1)."""
    sets = [words(text) for _, text in tweets]
    return [
        (i, j)
        for i, j in combinations(range(len(sets)), 2)
        if len(sets[i] & sets[j]) >= limit * len(sets[i] | sets[j])
    ]


def class_quotas(counts: list[int], size: int) -> list[int]:
    """How many of each class go into a split of `size`, by the largest remainder."""
    exact = [count * size / sum(counts) for count in counts]
    quotas = [int(value) for value in exact]
    by_remainder = sorted(range(len(counts)), key=lambda k: (quotas[k] - exact[k], k))
    for k in by_remainder[: size - sum(quotas)]:
        quotas[k] += 1
    return quotas


def split_tweets(tweets: list[Tweet], *, seed: int = SEED) -> dict[str, list[Tweet]]:
    """Seeded, stratified split into SPLITS; ValueError if there aren't exactly as many tweets."""
    if len(tweets) != sum(SPLITS.values()):
        raise ValueError(
            f"{SOURCE.name} has {len(tweets)} tweets, the splits need {sum(SPLITS.values())}"
        )
    generator = random.Random(seed)
    # Sorted first: the split must not depend on the order of the source.
    left = [sorted(tweet for tweet in tweets if tweet[0] == label) for label in CLASSES]
    for group in left:
        generator.shuffle(group)
    parts = {}
    for split, size in SPLITS.items():
        quotas = class_quotas([len(group) for group in left], size)
        parts[split] = [tweet for group, n in zip(left, quotas, strict=True) for tweet in group[:n]]
        left = [group[n:] for group, n in zip(left, quotas, strict=True)]
        generator.shuffle(parts[split])
    return parts


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


def main(out_dir: Path = OUT_DIR, *, source: Path = SOURCE) -> None:
    """Reads, checks, splits and writes; ValueError says which rows are too similar."""
    tweets = read_tweets(source)
    pairs = [
        f"rows {i + 2} and {j + 2}: {tweets[i][1]!r} / {tweets[j][1]!r}"
        for i, j in near_duplicates(tweets)
    ]
    if pairs:
        raise ValueError(f"{source}: near-duplicates, reword one of each pair\n" + "\n".join(pairs))
    out_dir.mkdir(parents=True, exist_ok=True)
    for split, part in split_tweets(tweets).items():
        write_lines(out_dir / f"{split}_text.txt", [text for _, text in part])
        write_lines(
            out_dir / f"{split}_labels.txt", [str(CLASSES.index(label)) for label, _ in part]
        )
    write_lines(out_dir / "mapping.txt", [f"{k}\t{label}" for k, label in enumerate(CLASSES)])


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
