"""The twelve question types of TDIUC, and ordered rules that type a question by its text alone.

Source of the types: Kafle and Kanan (2017), "An Analysis of Visual Question Answering Algorithms", Table 1.
A question is first turned into plain words (`plain_words`: lower case, odd spellings set right); then the
first rule of `RULES` whose pattern fits them decides. The answer is never read. The last rule fits
everything, so each text has exactly one type. A rule sees only what the words say: whether a question is
absurd for its picture cannot be seen, and no rule claims it.

object_presence: whether a thing is in the picture, yes or no
object_recognition: the name of a thing that its kind, size or looks describe, not its place
counting: how many things there are
color: the color of a thing
attribute: another property of a thing: shape, material, size, what is written on it
activity_recognition: what a person or an animal does
sport_recognition: which sport is played
positional_reasoning: the name of a thing that is found through where it is, or the place of a thing
scene_recognition: the room, place, weather or time of day that the whole picture shows
sentiment_understanding: the mood of a person or of the picture
utility_affordance: what a thing is good for, or which thing serves a given use
absurd: a question that has no answer for its picture
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pandas as pd

from hw2_utils.errors import InputError, require

TYPES: tuple[str, ...] = (
    "object_presence", "object_recognition", "counting", "color", "attribute", "activity_recognition",
    "sport_recognition", "positional_reasoning", "scene_recognition", "sentiment_understanding",
    "utility_affordance", "absurd")
SUPPORT_TYPES = ("positional_reasoning", "object_recognition")  # what `bare_support` may be


class Rule(NamedTuple):
    """A row of the decision table: plain words that `pattern` fits from their first word on have `type`."""

    name: str
    type: str
    pattern: str
    example: str


def one_edit_away(word: str) -> set[str]:
    """The strings that one deletion, swap, replacement or insertion makes of a word, and the word itself.

    Source: P. Norvig, "How to Write a Spelling Corrector", function `edits1`.
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    deleted = {a + b[1:] for a, b in splits if b}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
    replaced = {a + c + b[1:] for a, b in splits if b for c in letters}
    return deleted | swapped | replaced | {a + c + b for a, b in splits for c in letters}


# A word at most one edit away from a key is read as the key's value, unless it is a word of its own.
KEYWORDS = dict.fromkeys(("colour", "colors", "colours", "solour"), "color") | {"center": "centre"} | {
    word: word for word in "color where front behind left right above below under beneath between around "
    "opposite corner middle inside centre largest biggest".split()}
OWN_WORDS = set("night light sight might fight tight eight bright fright hight height round ground aground "
                "font frost let blow bellow elbow here there were lift loft heft lent lest felt leaf enter "
                "renter cornet fiddle riddle bedside colon udder".split())
SPELLINGS = {odd: word for key, word in KEYWORDS.items() for odd in one_edit_away(key) - OWN_WORDS} | KEYWORDS

# No relation to another thing: the whole picture or room, a mirror that shows the thing, "in red color".
NO_RELATION = re.compile(
    r" (?:(?:in|from) (?:the |this )?(?:picture|image|scene|room)\b(?! divider)"
    r"|(?:in|on|of|at|from) (?:the |this )?image ?\d+"
    r"|(?:in|inside) (?:the |this )?mirror\b|in (?!what|which)(?:(?!the\b)\w+ ){0,2}color\b)")

# What <name> stands for in the patterns of `RULES` (and in later parts).
PARTS = {
    "any": r"(?:.* )?",  # after any words, or none
    "yes_no": r"(?:is|are|was|were|do|does|did|can|could|has|have|will|would|should)\b",
    "relation": r"(?:on|in|at|to|of|from|with|near|close|next|by|inside|behind|front|above|below|under"
                r"|between|around|beneath|opposite|left|right|before|over|found|kept|seen|placed|where)\b",
    "tone": r"(?:black|white|red|blue|green|yellow|brown|gr[ae]y|orange|pink|purple|violet|silver|gold|golden"
            r"|maroon|beige|cream|saffron|sandal|dark)",
    # What is asked for: the words of a question (not a yes/no one) before its first relation.
    "asked": r"(?!<yes_no>)(?:of |in )?(?:<kind> of |(?!<relation>|<tone> color)\w+ )*?",
    "kind": r"(?:kind|type|sort)s?",
    "thing": r"(?:object|thing|item)s?\b",
    "largest": r"(?:(?:larg|bigg|small|tall|long|short|wid|heavi)est|main|most (?!of|left|right)\w+)\b",
}

RULES: tuple[Rule, ...] = tuple(Rule(*row) for row in (
    ("number", "counting",
     r"<any>(?:how ?(?:m\w*|any|nany|amny)\b|(?:number|count) of\b)|(?:\w+ )?many\b"
     r"|how (?:\w+ ){0,2}\w+s (?:are|there)\b", "how many umbrellas are there beside the piano"),
    ("color", "color", r"(?:what|which) color\b|<asked>color\b(?! <thing>)", "what color is the kettle"),
    ("shape, size, material", "attribute",
     r"<asked>(?:shape|size|length|height|width|material|fabric|pattern|texture|brand|price)\b(?! <thing>)",
     "what is the shape of the clock above the oven"),
    ("made of", "attribute", r"what .* made(?: up)?(?: of| from)?$|(?:of|by|from) (?:what|which) .* made$",
     "what is the bench made of"),
    ("writing", "attribute", r"<any>(?:written\b|says?$|reads?$)|<asked>(?:number|text|title)\b(?! stand)",
     "what is written on the calendar"),
    ("room, weather", "scene_recognition",
     r"(?:what|which)(?: is| are)?(?: the| this)?(?: <kind> of)? (?:room|place|scene)\b(?! divider| mat)"
     r"|<any>(?:weather|time of day|picture taken)\b", "which room is shown"),
    ("sport", "sport_recognition", r"<asked>(?:sport|game)s? (?:is|are)\b|<any>(?:playing|being played)$",
     "which sport is on the screen"),
    ("doing", "activity_recognition", r"<any>(?:doing|activity)\b", "what is the girl at the stove doing"),
    ("mood", "sentiment_understanding",
     r"<asked>(?:mood|emotion|expression|sentiment)s?\b|<any>feel(?:ing|s)?$", "what is the mood of the boy"),
    ("use", "utility_affordance", r"<any>(?:used (?:for|to|in)|(?:use|purpose) of|(?:is|are|<thing>) for)\b",
     "which object is used for sweeping"),
    ("yes or no", "object_presence", r"<yes_no>", "is there a kettle on the stove"),
    ("how, but not how many", "attribute", r"how\b", "how tall is the ladder"),
    ("kind of thing", "object_recognition", r"<asked>(?:<kind>|variety|varieties)\b",
     "what kind of instrument is beside the piano"),
    ("largest", "object_recognition", r"<asked><largest>|<any>(?:is|are|has|holds) (?:the )?<largest>",
     "what is the heaviest object in this room"),
    ("where", "positional_reasoning", r"<any>where\b", "where is the umbrella kept"),
    ("relation to a thing or region", "positional_reasoning",
     r"<any>(?:(?:left|right|behind|above|below|under|beneath|(?:in)?between|around|opposite|corner|middle"
     r"|centre|central|beside|adjacent|facing|outside|amid|among|surround|before|over|(?:in)?front)\w*"
     r"|(?:either|both|other|back) sides?\b|sides? of\b|sides?$|(?:across|away) from\b"
     r"|at (?:the )?(?:top|bottom|end|edge|back)\b|(?:end|edge|back) of\b)", "what is left of the aquarium"),
    ("close to a thing", "positional_reasoning",
     r"<any>(?:close(?:r|st|d to)?\b|near|(?:next|nest|nect|ext|text) (?:to|by)\b|by$)",
     "what is the object close to the aquarium"),
    ("bare support", "positional_reasoning",
     r"<any>(?:(?:on|onto|upon|in|into|inside|within|at|against|across|to which)\b|(?:hang\w*|hung|stuck"
     r"|suspended|attached|fixed|kept|placed|leaning) (?:to|from|down)\b)", "what is on the ironing board"),
    ("names a thing", "object_recognition", r"", "what is the round wooden thing"),
))


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of `RULES`, its `PARTS` filled in."""
    while "<" in pattern:
        pattern = re.sub(r"<(\w+)>", lambda part: PARTS[part[1]], pattern)
    return re.compile(pattern)


PATTERNS = [compiled(rule.pattern) for rule in RULES]


def is_blank(question: object) -> bool:
    """Whether a value holds no question: no text at all (a missing value), or white space only."""
    return not isinstance(question, str) or not question.strip()


def plain_words(question: str) -> str:
    """The text that the rules read: lower-case words, spellings set right, phrases of `NO_RELATION` left out.

    Raises InputError where the question is blank or no text.
    """
    require(not is_blank(question), f"a question is empty or no text: {question!r:.80}", where="question",
            todo="remove it or fill it in")
    words = " ".join([SPELLINGS.get(word, word) for word in re.findall(r"\w+", question.lower())])
    return NO_RELATION.sub("", words)


def explain(question: str, *, bare_support: str = "positional_reasoning") -> Rule:
    """The rule that types a question; `question_type` says what `bare_support` is and what is raised."""
    require(bare_support in SUPPORT_TYPES, f"bare_support is {bare_support!r}", where="bare_support",
            todo=f"choose one of {', '.join(SUPPORT_TYPES)}")
    words = plain_words(question)
    rule = next(rule for rule, pattern in zip(RULES, PATTERNS, strict=True) if pattern.match(words))
    return rule._replace(type=bare_support) if rule.name == "bare support" else rule


def question_type(question: str, *, bare_support: str = "positional_reasoning") -> str:
    """One of `TYPES` for a question's text.

    `bare_support` is the one real choice: what "what is on the table" asks, where the only relation is that
    one thing carries or holds the other. "positional_reasoning" (a place finds the thing) or
    "object_recognition" (the strict reading: positional needs a direction, an order or a distance).
    Raises InputError for a blank question and for another `bare_support`.
    """
    return explain(question, bare_support=bare_support).type


def type_column(questions: pd.Series, *, bare_support: str = "positional_reasoning") -> pd.Series:
    """The type of each question of a column: same index, name "question_type"; equal texts are typed once.

    Raises InputError for a blank question, with its line in a file whose first line is the header.
    """
    blank = [is_blank(question) for question in questions]
    if any(blank):
        raise InputError(f"{sum(blank)} question(s) are empty or no text",
                         where=f"column {questions.name!r}, first in line {blank.index(True) + 2}",
                         todo="remove these rows or fill in their questions")
    types = {text: question_type(text, bare_support=bare_support) for text in questions.unique()}
    return questions.map(types).astype("str").rename("question_type")


def rules_table() -> pd.DataFrame:
    """The decision table, first row first: order (from 1, the index), name, type, pattern, example."""
    return pd.DataFrame(RULES, index=pd.RangeIndex(1, len(RULES) + 1, name="order"))
