"""The twelve question types of TDIUC, and ordered rules that type a question by its text alone.

Source of the types: Kafle and Kanan (2017), "An Analysis of Visual Question Answering Algorithms",
Table 1; `config/question_types.toml` says what each of them asks for, and holds the rules.
A question is first turned into plain words (`plain_words`: lower case, odd spellings set right);
then the first rule of `RULES` whose pattern fits them decides. The answer is never read. The last
rule fits everything, so each text has exactly one type. A rule sees only what the words say:
whether a question is absurd for its picture cannot be seen, and no rule claims it.
"""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

import pandas as pd

from hw2_utils import paths
from hw2_utils.errors import InputError, require

TABLE = tomllib.loads((paths.CONFIG / "question_types.toml").read_text(encoding="utf-8"))
TYPES: tuple[str, ...] = tuple(TABLE["types"])
MIN_QUESTIONS = 20  # of a type in the test data, for its accuracy to enter a mean over types
SUPPORT_TYPES = ("positional_reasoning", "object_recognition")  # what `bare_support` may be


class Rule(NamedTuple):
    """A row of the decision table: plain words that begin as `pattern` says have `type`."""

    name: str
    type: str
    pattern: str
    example: str


def one_edit_away(word: str) -> set[str]:
    """What one deletion, swap, replacement or insertion makes of a word, and the word itself.

    Source: P. Norvig, "How to Write a Spelling Corrector", function `edits1`.
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    deleted = {a + b[1:] for a, b in splits if b}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
    replaced = {a + c + b[1:] for a, b in splits if b for c in letters}
    return deleted | swapped | replaced | {a + c + b for a, b in splits for c in letters}


RULES = tuple(Rule(**row) for row in TABLE["rules"])
KEYWORDS = {word: word for word in TABLE["spelling"]["keywords"]} | TABLE["spelling"]["also"]
SPELLINGS = {
    odd: word
    for key, word in KEYWORDS.items()
    for odd in one_edit_away(key) - set(TABLE["spelling"]["own_words"])
} | KEYWORDS


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of the table, its parts filled in."""
    while re.search(r"<\w+>", pattern):  # "(?<!" begins no part
        pattern = re.sub(r"<(\w+)>", lambda part: TABLE["parts"][part[1]], pattern)
    return re.compile(pattern)


PATTERNS = [compiled(rule.pattern) for rule in RULES]
NO_RELATION = re.compile(TABLE["parts"]["no_relation"])


def is_blank(question: object) -> bool:
    """Whether a value holds no question: no text at all (a missing value), or white space only."""
    return not isinstance(question, str) or not question.strip()


def plain_words(question: str) -> str:
    """The text that the rules read: lower-case words, spellings set right, without `NO_RELATION`.

    Raises InputError where the question is blank or no text.
    """
    what = f"a question is empty or no text: {question!r:.80}"
    require(not is_blank(question), what, where="question", todo="remove it or fill it in")
    words = " ".join([SPELLINGS.get(word, word) for word in re.findall(r"\w+", question.lower())])
    return NO_RELATION.sub("", words)


def explain(question: str, *, bare_support: str = "positional_reasoning") -> Rule:
    """The rule that types a question; `question_type` says more."""
    what, todo = f"bare_support is {bare_support!r}", f"choose one of {', '.join(SUPPORT_TYPES)}"
    require(bare_support in SUPPORT_TYPES, what, where="bare_support", todo=todo)
    words = plain_words(question)
    rule = next(rule for rule, pattern in zip(RULES, PATTERNS, strict=True) if pattern.match(words))
    return rule._replace(type=bare_support) if rule.name == "bare support" else rule


def question_type(question: str, *, bare_support: str = "positional_reasoning") -> str:
    """One of `TYPES` for a question's text.

    `bare_support` is the one real choice: what "what is on the table" asks, where the only relation
    is that one thing carries or holds the other. "positional_reasoning" (a place finds the thing)
    or "object_recognition" (the strict reading: positional needs a direction, an order or a
    distance).
    Raises InputError for a blank question and for another `bare_support`.
    """
    return explain(question, bare_support=bare_support).type


def type_column(questions: pd.Series, *, bare_support: str = "positional_reasoning") -> pd.Series:
    """The type of each question of a column: same index, name "question_type".

    Raises InputError for a blank question, with its line in a file whose first line is the header.
    """
    blank = [is_blank(question) for question in questions]
    if any(blank):
        what = f"{sum(blank)} question(s) are empty or no text"
        where = f"column {questions.name!r}, first in line {blank.index(True) + 2}"
        raise InputError(what, where=where, todo="remove these rows or fill in their questions")
    types = {text: question_type(text, bare_support=bare_support) for text in questions.unique()}
    return questions.map(types).astype("str").rename("question_type")


def counted_and_rare(
    types: pd.Series, *, minimum: int = MIN_QUESTIONS
) -> tuple[list[str], dict[str, int]]:
    """The types with at least `minimum` questions, and how many the others that occur have.

    Only the first belong in a mean over types: an accuracy over a handful of questions is mostly
    chance (over 20, its 95 % interval is up to 0.4 wide), the mean gives it the weight of a type
    with hundreds, and one miss of a single question sets the harmonic mean to 0. The others are to
    be listed, not dropped in silence.
    """
    counts = types.value_counts()
    sizes = {name: int(counts[name]) for name in TYPES if name in counts}
    counted = [name for name, size in sizes.items() if size >= minimum]
    return counted, {name: size for name, size in sizes.items() if size < minimum}


def rules_table() -> pd.DataFrame:
    """The decision table in its order (from 1, the index): name, type, pattern, example."""
    return pd.DataFrame(RULES, index=pd.RangeIndex(1, len(RULES) + 1, name="order"))
