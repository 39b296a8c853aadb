"""Writes data/sample/daquar: drawn scenes with questions, in the layouts of DAQUAR and the course.

Candidates come from each scene's structured description; a seeded selection keeps DAQUAR's
proportions of question types and lets no question text give its answer away.
Run: python data/sample/make/make_daquar.py
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from scenes import Scene, SceneObject, counts, describe, draw, plural, words

OUT = Path(__file__).resolve().parents[1] / "daquar"
SPLITS = {"train": 180, "val": 60, "test": 60}  # images
QUESTIONS = {"train": 900, "val": 300, "test": 300}
SHARES = {"positional": 0.63, "counting": 0.22, "color": 0.11, "object": 0.04}
EXTRAS = 260  # published pairs outside the 30 classes: several answers, rare answers
CAP = 0.07  # of a split's questions that one answer may have; numbers and colours as in DAQUAR
CAPS = {"1": 0.05, "2": 0.08, "3": 0.06, "4": 0.035, "5": 0.02} | dict.fromkeys(
    ("white", "brown"), 0.035
)
FLOOR = 0.013  # of a split's questions that each answer gets before any gets more
JPEG_QUALITY = 76
MIN_CLEAR = 6  # objects in view; emptier rooms are passed over
MIN_AREA = 0.0004  # share of the picture below which a thing counts as out of view
MIN_AREA_OF_PARTS = 0.001  # share of the picture that each drawer or book needs to be counted
MIN_LEAD = 6  # pixels by which the closest thing is closer than the next
PLURAL_ONLY = ("books", "blinds")
NO_ONE_COLOUR = (
    "books",
    "picture",
    "mirror",
    "window",
    "plant",
)  # a pile, a frame, a pot: not of one colour

COLOURS = ("white", "brown", "red", "black", "blue")
NUMBERS = ("1", "2", "3", "4", "5")
THINGS = (
    "table", "chair", "window", "lamp", "picture", "cabinet", "bed", "sofa", "books", "garbage_bin",
    "television", "mirror", "door", "pillow", "towel", "curtain", "bookshelf", "plant", "clock",
    "rug",
)  # fmt: skip
CLASSES = (*NUMBERS, *COLOURS, *THINGS)

PHRASES: dict[str, tuple[str, ...]] = {
    "left of": ("what is on the left side of the {}", "what is to the left of the {}",
                "what is left of {}", "what is found to the left side of the {}",
                "what is the object on the left side of {}"),
    "right of": ("what is on the right side of the {}", "what is to the right of the {}",
                 "what is right of {}", "what is found to the right side of the {}",
                 "what is the object on the right side of {}"),
    "in front of": ("what is in front of the {}", "what is in front of {}",
                    "what is found in front of the {}", "what is the object in front of the {}"),
    "behind": ("what is behind the {}", "what is behind {}", "what is the object behind the {}",
               "what is found behind the {}"),
    "on": ("what is on the {}", "what is the object on the {}", "what is kept on the {}",
           "what is on top of the {}", "what is placed on the {}"),
    "above": ("what is above the {}", "what is hanging above the {}", "what is stuck above the {}",
              "what is the object above the {}"),
    "below": ("what is below the {}", "what is found below the {}", "what is under the {}"),
    "wall": ("what is on the wall", "what is stuck on the wall", "what is hanging on the wall",
             "what are stuck on the wall", "what is hanged on the wall"),
    "floor": ("what is the object on the floor", "what is on the floor",
              "what is found on the floor"),
    "corner": ("what is in the corner of the room", "what is the object in the corner",
               "what is at the corner of the room"),
    "close": ("what is close to the {}", "what is the object close to the {}",
              "what is near the {}"),
    "count": ("how many {} are there", "how many {} are in the picture", "how many {} found",
              "how many {} are there in the room"),
    "drawers": ("how many drawers are there in the {}", "how many drawers in the {}",
                "how many drawers does the {} have", "how many drawers are found in the {}"),
    "laid": ("how many {} are there on the {}", "how many {} are on the {}",
             "how many {} kept on the {}"),
    "colour": ("what is the colour of the {}", "what colour is the {}", "what color is the {}",
               "what is the color of {}"),
    "largest": ("what is the largest object", "what is largest object",
                "what is the largest object in this picture"),
    "largest coloured": ("what is the largest {} object", "what is the largest {} colour object"),
    "coloured": ("what is the {} object", "what is the {} colour object in the picture"),
}  # fmt: skip
TYPOS = (
    ("how many", "how any"),
    ("colour", "solor"),
    ("front", "fornt"),
    ("there", "ther"),
    ("behind", "behnid"),
)


@dataclass(frozen=True)
class Pair:
    """A question about an image; `kind` is one of SHARES, `stem` its text before phrasing."""

    image: int
    kind: str
    stem: str
    question: str
    answer: str


# ------------------------------------------------------------------------------------- candidates
def _distinct(scene: Scene) -> dict[int, str]:
    """How to speak of each object that can be told apart: by name, else by colour and name."""
    visible = [o for o in scene.objects if o.area > MIN_AREA]
    names = Counter(o.name for o in visible)
    looks = Counter((o.colour, o.name) for o in visible)
    found = {}
    for o in visible:
        if o.clear and names[o.name] == 1:
            found[o.index] = words(o.name)
        elif o.clear and looks[o.colour, o.name] == 1 and o.name not in NO_ONE_COLOUR:
            found[o.index] = f"{o.colour} {words(o.name)}"
    return found


def _answer(objects: list[SceneObject]) -> str | None:
    """The class of the objects, several as a list; None where one is too hidden to tell."""
    objects = [o for o in objects if o.area > MIN_AREA]
    if not objects or not all(o.clear for o in objects):
        return None
    return ", ".join(sorted({o.name for o in objects}))


def _gap(a: SceneObject, b: SceneObject) -> float:
    """Pixels between two boxes, 0 where they overlap."""
    across = max(a.box[0] - b.box[2], b.box[0] - a.box[2], 0)
    down = max(a.box[1] - b.box[3], b.box[1] - a.box[3], 0)
    return (across**2 + down**2) ** 0.5


def _on_side(a: SceneObject, relation: str, b: SceneObject) -> bool:
    """Whether a's middle lies beyond b's edge on that side of the picture, at b's height."""
    middle = (a.box[0] + a.box[2]) / 2
    beside = middle < b.box[0] if relation == "left of" else middle > b.box[2]
    return beside and a.box[1] < b.box[3] and b.box[1] < a.box[3]


def _related(scene: Scene) -> Iterator[tuple[str, str, str, str | None]]:
    """Questions by a relation to an object that can be told apart.

    No other thing may look like the answer.
    """
    by_index = {o.index: o for o in scene.objects}
    visible = [o for o in scene.objects if o.area > MIN_AREA]
    groups: dict[tuple[str, int], list[SceneObject]] = defaultdict(list)
    for a, relation, b in scene.relations:
        groups[relation, b].append(by_index[a])
    phrases = _distinct(scene)
    for (relation, b), objects in sorted(groups.items()):
        if b not in phrases:
            continue
        target, names = by_index[b], {o.name for o in objects}
        if relation in ("left of", "right of"):
            nearest = min(_gap(o, target) for o in objects)
            rivals = [
                o
                for o in visible
                if o.name not in names and o.name != "rug" and _on_side(o, relation, target)
            ]
            if any(_gap(o, target) <= nearest for o in rivals):
                continue
        yield "positional", relation, phrases[b], _answer(objects)
    for b, phrase in sorted(phrases.items()):
        target = by_index[b]
        others = sorted(
            (_gap(o, target), o.name, o.index) for o in visible if o.index != b and o.name != "rug"
        )
        if len(others) > 1 and others[1][0] > others[0][0] + MIN_LEAD:
            yield "positional", "close", phrase, _answer([by_index[others[0][2]]])


def _placed(scene: Scene) -> Iterator[tuple[str, str, str, str | None]]:
    """Questions by a part of the room: wall, floor, corner."""
    hung = [
        o
        for o in scene.objects
        if o.support == "wall" and o.name not in ("door", "window", "curtain")
    ]
    yield "positional", "wall", "", _answer(hung)
    small = [
        o
        for o in scene.objects
        if o.support == "floor" and o.name in ("garbage_bin", "rug", "plant", "lamp")
    ]
    yield "positional", "floor", "", _answer(small)
    back = max((o.high[2] for o in scene.objects), default=0.0)
    left, right = min(o.low[0] for o in scene.objects), max(o.high[0] for o in scene.objects)
    corner = [o for o in scene.objects if o.support == "floor" and o.high[2] > back - 0.8
              and (o.low[0] < left + 0.3 or o.high[0] > right - 0.3)]  # fmt: skip
    yield "positional", "corner", "", _answer(corner)


def _unhidden(o: SceneObject, scene: Scene) -> bool:
    """Whether nothing that stands nearer to the viewer covers more than a little of o's box."""
    for other in scene.objects:
        if (
            other.index not in (o.index, o.carrier)
            and other.carrier != o.index
            and other.low[2] < o.low[2]
        ):
            across = min(o.box[2], other.box[2]) - max(o.box[0], other.box[0])
            down = min(o.box[3], other.box[3]) - max(o.box[1], other.box[1])
            size = (o.box[2] - o.box[0]) * (o.box[3] - o.box[1])
            if min(across, down) > 0 and across * down > 0.04 * size:
                return False
    return o.clear


def _counted(scene: Scene) -> Iterator[tuple[str, str, str, str | None]]:
    """Counts by name, by colour and name, of what lies on a thing, of drawers, of piled books."""
    phrases = _distinct(scene)
    whole = counts(scene.objects)
    for name, number in whole.items():
        if name not in PLURAL_ONLY:
            yield "counting", "count", plural(name), str(number)
    groups: dict[tuple[str, str], list[SceneObject]] = defaultdict(list)
    for o in scene.objects:
        if o.name in whole and o.name not in NO_ONE_COLOUR:
            groups["count", f"{o.colour} {plural(o.name)}"].append(o)
        if o.name in whole and o.name not in PLURAL_ONLY and o.carrier in phrases:
            groups["laid", f"{plural(o.name)}|{phrases[o.carrier]}"].append(o)
    for (form, text), objects in sorted(groups.items()):
        if len(objects) > 1:  # naming one thing so closely would give the number away
            yield "counting", form, text, str(len(objects))
    piles = Counter(o.carrier for o in scene.objects if o.name == "books")
    for o in scene.objects:
        parts_seen = o.area > MIN_AREA_OF_PARTS * o.count and _unhidden(o, scene)
        if o.drawers and parts_seen and o.index in phrases:
            yield "counting", "drawers", phrases[o.index], str(o.count)
        if o.name == "books" and parts_seen and piles[o.carrier] == 1 and o.carrier in phrases:
            yield "counting", "laid", f"books|{phrases[o.carrier]}", str(o.count)


def _coloured(scene: Scene) -> Iterator[tuple[str, str, str, str | None]]:
    """Colours of objects that their name tells apart, and of the wall."""
    phrases = _distinct(scene)
    for o in scene.objects:
        if phrases.get(o.index) == words(o.name) and o.name not in (
            *NO_ONE_COLOUR,
            "television",
            "monitor",
        ):
            yield "color", "colour", words(o.name), o.colour
    yield "color", "colour", "wall", scene.wall_colour


def _recognised(scene: Scene) -> Iterator[tuple[str, str, str, str | None]]:
    """The clearly largest object, of all and of one colour; the only object of a colour.

    Not the wall's colour, nor brown: floors, frames and headboards are brown in every room.
    """
    ranked = sorted(scene.objects, key=lambda o: -o.area)
    colours = sorted({o.colour for o in ranked} - {scene.wall_colour, "brown"})
    for colour in ["", *colours]:
        some = [o for o in ranked if not colour or o.colour == colour]
        if not some[0].clear or (colour and some[0].name in NO_ONE_COLOUR):
            continue
        if len(some) == 1 or some[0].area > 1.4 * some[1].area:
            yield "object", "largest coloured" if colour else "largest", colour, some[0].name
        if colour and len(some) == 1:
            yield "object", "coloured", colour, some[0].name


def _typo(question: str, rng: random.Random) -> str:
    """About one question in sixty gets a spelling mistake, as in the published files."""
    fitting = [(right, wrong) for right, wrong in TYPOS if right in question]
    if fitting and rng.random() < 0.03:
        question = question.replace(*rng.choice(fitting), 1)
    return question


def candidates(image: int, scene: Scene, rng: random.Random) -> list[Pair]:
    """All questions that the scene answers, each phrased once.

    The first phrase of a list is the usual one.
    """
    pairs = []
    for source in (_related, _placed, _counted, _coloured, _recognised):
        for kind, form, text, answer in source(scene):
            if answer is not None:
                phrases = PHRASES[form]
                phrase = phrases[0] if rng.random() < 0.5 else rng.choice(phrases)
                question = _typo(phrase.format(*text.split("|")), rng)
                pairs.append(Pair(image, kind, f"{form}|{text}", question, answer))
    return pairs


# ------------------------------------------------------------------------------------- selection
@dataclass
class _Tally:
    """What has been taken so far; `accepts` holds the rules."""

    answers: Counter
    texts: dict[str, Counter]
    images: Counter
    kinds: Counter
    seen: set[tuple[int, str]]

    def accepts(self, pair: Pair, total: int, slack: int, per_image: int) -> bool:
        """Whether no quota (type, image, answer) is full and no text or stem tells the answer."""
        if (
            self.kinds[pair.kind] >= round(SHARES[pair.kind] * total)
            or self.images[pair.image] >= per_image
        ):
            return False
        if (pair.image, pair.stem) in self.seen:
            return False
        if self.answers[pair.answer] >= CAPS.get(pair.answer, CAP) * total:
            return False
        return all(self._balanced(key, pair.answer, slack) for key in (pair.question, pair.stem))

    def _balanced(self, key: str, answer: str, slack: int) -> bool:
        counts = self.texts[key]
        return counts[answer] < slack + 0.5 * (counts.total() - counts[answer])

    def take(self, pair: Pair) -> None:
        self.answers[pair.answer] += 1
        self.kinds[pair.kind] += 1
        self.images[pair.image] += 1
        self.seen.add((pair.image, pair.stem))
        for key in (pair.question, pair.stem):
            self.texts[key][pair.answer] += 1


def select(pool: list[Pair], total: int, rng: random.Random) -> list[Pair]:
    """`total` pairs of the 30 classes.

    One an image comes first, then a floor for each answer, then rare answers first. The rules are
    loosened only as far as needed.
    """
    frequency = Counter(p.answer for p in pool)
    tally = _Tally(Counter(), defaultdict(Counter), Counter(), Counter(), set())
    chosen: list[Pair] = []
    for slack, per_image, floor in (
        (2, 1, 1.0),
        (2, 4, FLOOR),
        (1, 4, 1.0),
        (1, 6, 1.0),
        (2, 7, 1.0),
        (3, 9, 1.0),
        (6, 12, 1.0),
    ):
        order = sorted(pool, key=lambda p: rng.random() * frequency[p.answer] ** 0.7)
        for pair in order:
            rare = tally.answers[pair.answer] < floor * total
            if rare and len(chosen) < total and tally.accepts(pair, total, slack, per_image):
                tally.take(pair)
                chosen.append(pair)
    return chosen


def _extras(pool: list[Pair], rng: random.Random) -> list[Pair]:
    """Pairs outside the classes: none as frequent as the rarest class, at most two an image."""
    answers: Counter = Counter()
    images: Counter = Counter()
    chosen = []
    for pair in rng.sample(pool, len(pool)):
        if answers[pair.answer] < 8 and images[pair.image] < 2 and len(chosen) < EXTRAS:
            chosen.append(pair)
            answers[pair.answer] += 1
            images[pair.image] += 1
    return chosen


# ------------------------------------------------------------------------------------- files
def scenes() -> list[Scene]:
    """The 300 scenes: those of the first seeds (from 0) with enough in view."""
    with_enough = (
        s for s in map(describe, count()) if sum(o.clear for o in s.objects) >= MIN_CLEAR
    )
    return list(islice(with_enough, sum(SPLITS.values())))


def split_of_images(rng: random.Random) -> dict[int, str]:
    """A split for each image number 1..300."""
    labels = [name for name, count in SPLITS.items() for _ in range(count)]
    return dict(enumerate(rng.sample(labels, len(labels)), start=1))


def texts(drawn: list[Scene]) -> dict[str, str]:
    """Contents of all text files by name."""
    rng = random.Random(0)
    split = split_of_images(rng)
    pool = [pair for k, scene in enumerate(drawn, start=1) for pair in candidates(k, scene, rng)]
    files = {}
    kept: list[Pair] = []
    for name, total in QUESTIONS.items():
        own = [p for p in pool if split[p.image] == name and p.answer in CLASSES]
        chosen = sorted(select(own, total, rng), key=lambda p: p.image)
        kept += chosen
        files[f"new_data_{name}.csv"] = _csv(chosen)
    kept += _extras([p for p in pool if p.answer not in CLASSES], rng)
    kept.sort(key=lambda p: p.image)
    files["qa.raw.txt"] = "".join(
        f"{p.question} in the image{p.image} ?\n{p.answer}\n" for p in kept
    )
    for name in ("train", "test"):
        images = sorted(
            f"image{k}" for k, s in split.items() if (s == "train") == (name == "train")
        )
        files[f"{name}_images_list.txt"] = "".join(f"{image}\n" for image in images)
    return files


def _csv(pairs: list[Pair]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("question", "answer", "image_id"))
    writer.writerows((p.question, p.answer, f"image{p.image}") for p in pairs)
    return buffer.getvalue()


def picture(scene: Scene) -> bytes:
    """The JPEG file of a scene."""
    buffer = io.BytesIO()
    draw(scene).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def main() -> None:
    (OUT / "images").mkdir(parents=True, exist_ok=True)
    drawn = scenes()
    for name, content in texts(drawn).items():
        (OUT / name).write_text(content, encoding="utf-8", newline="\n")
    for k, scene in enumerate(drawn, start=1):
        (OUT / "images" / f"image{k}.jpg").write_bytes(picture(scene))


if __name__ == "__main__":
    main()
