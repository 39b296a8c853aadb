"""Seeded drawing of furnished rooms: a small ray-plane renderer in numpy, finished with Pillow.

A scene is a box-shaped room with furniture made of flat faces. Three functions are the interface:
    describe(seed) -> Scene          what is visible, where, in which relation; all by the seed
    draw(scene) -> PIL.Image.Image   its picture, RGB, 320x240
    captions(scene) -> list[str]     English phrases that are true of the picture
and three helpers for those who write other questions or phrases: `counts`, `plural`, `words`.
Units: metres, x to the right, y up, z away from the viewer; boxes in pixels of the picture.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy import ndimage

WIDTH, HEIGHT = 320, 240  # pixels, 4:3 as in NYU-Depth
Vector = tuple[float, float, float]
Range = tuple[float, float]
_A = np.ndarray

COLOURS: dict[str, Vector] = {
    "white": (0.93, 0.92, 0.89), "black": (0.10, 0.10, 0.11), "brown": (0.48, 0.29, 0.15),
    "red": (0.76, 0.11, 0.11), "blue": (0.13, 0.29, 0.70), "green": (0.20, 0.52, 0.24),
    "yellow": (0.90, 0.76, 0.20), "gray": (0.52, 0.53, 0.55),
}  # fmt: skip
WALLS = {
    "white": (0.91, 0.90, 0.86), "blue": (0.50, 0.66, 0.88), "green": (0.66, 0.81, 0.60),
    "yellow": (0.94, 0.85, 0.55), "red": (0.78, 0.36, 0.32), "brown": (0.66, 0.51, 0.37),
}  # fmt: skip
FLOORS = ("planks", "planks", "tiles", "carpet")


@dataclass(frozen=True)
class Kind:
    """Sizes (width, height, depth), colours, material, height of the surface that holds things."""

    size: tuple[Range, Range, Range]
    colours: tuple[str, ...]
    material: str
    surface: float = 0.0
    mount: Range = (0.0, 0.0)  # height above the floor when hung on a wall


# kind, width, height, depth, surface, mount, material, colours
_KINDS = """
table        1-1.6     0.7-0.78    0.7-0.95  1    0-0      wood    brown,brown,white,black,red,blue
desk         1.2-1.6   0.72-0.78   0.6-0.75  1    0-0      wood    brown,white,black
chair        0.42-0.5  0.85-1      0.42-0.5  0.48 0-0      wood    brown,black,red,blue,white,green
stool        0.34-0.42 0.45-0.6    0.34-0.42 1    0-0      wood    brown,white,black
bed          1.3-1.8   0.9-1.2     1.9-2.1   0.52 0-0      fabric  white,red,blue,brown,green,black
sofa         1.6-2.2   0.78-0.9    0.85-0.95 0.46 0-0      leather brown,red,blue,black,white,green
cabinet      0.8-1.3   0.75-1.1    0.4-0.5   1    0-0      wood    brown,white,black,red,blue
wardrobe     0.9-1.4   1.8-2.1     0.5-0.6   0    0-0      wood    brown,white,black
night_stand  0.42-0.5  0.5-0.58    0.4-0.45  1    0-0      wood    brown,white,black
bookshelf    0.8-1.3   1.6-2       0.3-0.35  0    0-0      wood    brown,white,black
television   0.9-1.2   0.58-0.72   0.1-0.14  0    0-0      plastic black
monitor      0.46-0.56 0.4-0.46    0.12-0.16 0    0-0      plastic black
lamp         0.36-0.46 1.35-1.7    0.36-0.46 0    0-0      fabric  white,red,blue,yellow
table_lamp   0.26-0.34 0.42-0.55   0.26-0.34 0    0-0      fabric  white,red,blue,yellow
garbage_bin  0.3-0.38  0.38-0.55   0.3-0.38  0    0-0      plastic black,white,blue,red,gray,green
plant        0.5-0.7   0.8-1.3     0.5-0.7   0    0-0      leaves  green
pot_plant    0.26-0.34 0.34-0.46   0.26-0.34 0    0-0      leaves  green
pillow       0.44-0.56 0.34-0.42   0.16-0.2  0    0-0      fabric  white,brown,black,red,blue,green,yellow
books        0.26-0.34 0.1-0.22    0.22-0.26 0    0-0      paper   red,blue,brown
bottle       0.09-0.11 0.28-0.36   0.09-0.11 0    0-0      glass   green,brown,blue
telephone    0.24-0.28 0.12-0.14   0.2-0.22  0    0-0      plastic black,white,red
rug          1.3-2.2   0.012-0.012 0.9-1.4   0    0-0      wool    red,blue,brown,green,white,black
picture      0.4-0.9   0.4-0.65    0.04-0.04 0    1.35-1.6 wood    brown,black,white,red
mirror       0.5-0.85  0.65-1      0.04-0.04 0    1.15-1.3 glass   brown,white,black
clock        0.34-0.46 0.34-0.46   0.05-0.05 0    1.7-1.95 plastic white,black,red,blue
window       0.9-1.5   1-1.25      0.05-0.05 0    0.95-1.1 glass   white,brown
curtain      1-1.6     1.5-1.8     0.1-0.1   0    0.5-0.6  fabric  red,blue,white,brown,green,yellow
blinds       0.9-1.3   1-1.2       0.05-0.05 0    0.95-1.1 plastic white,gray,brown
door         0.85-0.95 2-2.05      0.06-0.06 0    0-0      wood    brown,white,blue,red,black
blackboard   1.5-2.1   0.9-1.1     0.04-0.04 0    0.95-1.1 slate   green,black
whiteboard   1.3-1.9   0.9-1.1     0.04-0.04 0    0.95-1.1 plastic white
towel        0.36-0.5  0.6-0.8     0.06-0.06 0    0.9-1.1  fabric  white,red,blue,brown,black,green
sink         0.6-0.8   0.82-0.88   0.48-0.52 1    0-0      ceramic white,brown,black
toilet       0.4-0.44  0.78-0.84   0.62-0.68 0    0-0      ceramic white
bathtub      1.5-1.7   0.52-0.58   0.72-0.8  0    0-0      ceramic white
stove        0.6-0.66  0.88-0.9    0.55-0.6  1    0-0      metal   white,black,gray
refrigerator 0.65-0.75 1.6-1.85    0.6-0.65  0    0-0      metal   white,gray,black,red
"""  # noqa: E501


def _range(text: str) -> Range:
    low, high = text.split("-")
    return float(low), float(high)


def _kind(row: str) -> tuple[str, Kind]:
    name, width, height, depth, surface, mount, material, colours = row.split()
    size = (_range(width), _range(height), _range(depth))
    return name, Kind(size, tuple(colours.split(",")), material, float(surface), _range(mount))


KINDS: dict[str, Kind] = dict(map(_kind, _KINDS.strip().splitlines()))
PUBLIC_NAME = {"table_lamp": "lamp", "pot_plant": "plant"}

# Each room: steps "where what fewest-most". "back", "side", "front" stand on the floor; "wall"
# hangs on any wall, "hung" on the back wall; "on:X" lies on an X, "around:X" stands round it,
# "over:X" hangs above it.
Step = tuple[str, str, int, int]
_ROOMS = {
    "bedroom": """
        back bed 1-1, on:bed pillow 0-6, on:bed books 0-1, back night_stand 0-2,
        on:night_stand table_lamp 0-1, on:night_stand books 0-1, on:night_stand pot_plant 0-1,
        side wardrobe 0-1, side cabinet 0-1, on:cabinet television 0-1, on:cabinet books 0-1,
        on:cabinet table_lamp 0-1, over:bed picture 0-5, hung window 0-1, wall curtain 0-1,
        wall mirror 0-1, side door 0-1, front chair 0-2, front rug 0-1, front lamp 0-1,
        front plant 0-1, front garbage_bin 0-1""",
    "living room": """
        back sofa 1-1, on:sofa pillow 0-6, on:sofa books 0-1, side sofa 0-1, front table 0-1,
        on:table books 0-2, on:table pot_plant 0-1, on:table television 0-1, side cabinet 0-1,
        on:cabinet television 0-1, on:cabinet table_lamp 0-1, over:sofa picture 0-6,
        back bookshelf 0-1, back lamp 0-1, hung window 0-2, wall curtain 0-1, wall clock 0-1,
        side door 0-1, wall mirror 0-1, front plant 0-2, front chair 0-2, front rug 0-1""",
    "kitchen": """
        back refrigerator 0-1, back stove 0-1, back sink 0-1, back cabinet 1-2,
        on:cabinet bottle 0-6, on:cabinet pot_plant 0-1, over:sink window 0-1, front table 0-1,
        around:table chair 0-7, on:table bottle 0-5, on:table books 0-1, front stool 0-2,
        wall clock 0-1, wall towel 0-5, wall picture 0-2, side door 0-1, front garbage_bin 0-1,
        wall window 0-1, wall curtain 0-1""",
    "bathroom": """
        back sink 1-1, over:sink mirror 0-1, back toilet 0-1, side bathtub 0-1, wall towel 0-6,
        hung window 0-1, side cabinet 0-1, on:cabinet bottle 0-6, side door 0-1, front rug 0-1,
        front garbage_bin 0-1, front stool 0-1, wall curtain 0-1, on:cabinet pot_plant 0-1,
        on:cabinet books 0-1, front chair 0-1, wall picture 0-1, front plant 0-1""",
    "office": """
        back desk 1-1, on:desk monitor 0-2, on:desk telephone 0-1, on:desk books 0-1,
        on:desk table_lamp 0-1, front chair 1-3, side bookshelf 0-1, side cabinet 0-2,
        on:cabinet books 0-2, on:cabinet pot_plant 0-1, front garbage_bin 0-2, hung blinds 0-1,
        hung window 0-2, wall whiteboard 0-1, wall clock 0-1, wall picture 0-5, side door 0-1,
        front plant 0-1, front lamp 0-1""",
    "classroom": """
        hung blackboard 0-1, hung whiteboard 0-1, back table 0-1, front table 1-2,
        around:table chair 1-7, on:table books 0-3, wall clock 0-1, side door 0-1, wall window 0-5,
        wall picture 0-5, front garbage_bin 0-1, side bookshelf 0-1, wall curtain 0-1,
        back cabinet 0-1, front plant 0-1""",
    "dining room": """
        front table 1-1, around:table chair 1-7, on:table pot_plant 0-1, on:table bottle 0-5,
        on:table table_lamp 0-1, back cabinet 0-2, on:cabinet television 0-1,
        on:cabinet table_lamp 0-2, over:cabinet mirror 0-1, hung window 0-2, wall curtain 0-2,
        wall picture 0-5, wall clock 0-1, side door 0-1, back lamp 0-1, front plant 0-1,
        front rug 0-1""",
}


def _steps(text: str) -> tuple[Step, ...]:
    """Parsed recipe of a room."""
    steps = (part.split() for part in text.split(","))
    return tuple((where, kind, int(count[0]), int(count[2])) for where, kind, count in steps)


ROOMS: dict[str, tuple[Step, ...]] = {name: _steps(text) for name, text in _ROOMS.items()}


@dataclass(frozen=True)
class SceneObject:
    """One object: `low`, `high` are its extent in metres, `box` its visible pixels.

    `box` is (left, top, right, bottom).
    """

    index: int
    name: str
    colour: str
    material: str
    count: int  # its own countable parts: fronts of a cabinet, books of a pile
    drawers: bool  # whether its fronts look like drawers: two or more above each other
    support: str  # "floor", "wall" or the name of what carries it
    carrier: int  # index of what carries it, -1 for the room
    low: Vector
    high: Vector
    box: tuple[int, int, int, int]
    area: float  # share of the picture's pixels
    clear: bool  # enough of it is in view to be asked about


@dataclass(frozen=True)
class Scene:
    """Description of a scene; `relations` are (index, relation, index).

    The first object is `relation` the second.
    """

    seed: int
    room: str
    wall_colour: str
    floor: str
    objects: tuple[SceneObject, ...]
    relations: tuple[tuple[int, str, int], ...]


@dataclass(frozen=True)
class _Face:
    """A parallelogram: corner, two sides, colour, texture, outline and the object that has it."""

    origin: np.ndarray
    side_u: np.ndarray
    side_v: np.ndarray
    colour: np.ndarray
    texture: str
    cut: str
    owner: int
    phase: float
    glow: float


@dataclass
class _Item:
    """An object being placed: centre on the plan, bottom, turn about y (radians), size, extent."""

    kind: str
    colour: str
    size: Vector
    x: float
    y: float
    z: float
    turn: float
    support: str
    carrier: int
    count: int = 1
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        w, h, d = self.size
        c, s = abs(math.cos(self.turn)), abs(math.sin(self.turn))
        half = np.array([(w * c + d * s) / 2, 0.0, (w * s + d * c) / 2])
        centre = np.array([self.x, self.y, self.z])
        self.low, self.high = centre - half, centre + half + (0.0, h, 0.0)


# -------------------------------------------------------------------------------- furniture
class _Pen:
    """Adds faces to a list in one object's own coordinates (x across, y up, front at -z)."""

    def __init__(
        self,
        item: _Item,
        owner: int,
        faces: list[_Face],
        casters: list[np.ndarray],
        rng: random.Random,
        day: float,
    ) -> None:
        self.item, self.owner, self.faces, self.casters, self.rng = item, owner, faces, casters, rng
        self.day = day
        self.w, self.h, self.d = item.size
        jitter = 0.9 + 0.2 * rng.random()
        self.colour = np.clip(np.array(COLOURS[item.colour]) * jitter, 0.03, 0.97)
        c, s = math.cos(item.turn), math.sin(item.turn)
        self.turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        self.at = np.array([item.x, item.y, item.z])
        self.wood = (
            "wood" if KINDS[item.kind].material == "wood" and item.colour == "brown" else "plain"
        )

    def quad(
        self,
        origin: Vector,
        u: Vector,
        v: Vector,
        colour: Vector | np.ndarray,
        texture: str = "plain",
        cut: str = "",
        glow: float = 0.0,
    ) -> None:
        corner, side_u, side_v = (self.turn @ np.array(p, dtype=float) for p in (origin, u, v))
        phase = self.day if texture == "sky" else self.rng.random()
        tone = np.asarray(colour, dtype=float)
        self.faces.append(
            _Face(self.at + corner, side_u, side_v, tone, texture, cut, self.owner, phase, glow)
        )

    def box(
        self,
        x: Range,
        y: Range,
        z: Range,
        colour: Vector | np.ndarray,
        texture: str = "plain",
        glow: float = 0.0,
    ) -> None:
        w, h, d = x[1] - x[0], y[1] - y[0], z[1] - z[0]
        for origin, u, v in (
            ((x[0], y[0], z[0]), (w, 0, 0), (0, h, 0)), ((x[0], y[0], z[1]), (w, 0, 0), (0, h, 0)),
            ((x[0], y[0], z[0]), (0, 0, d), (0, h, 0)), ((x[1], y[0], z[0]), (0, 0, d), (0, h, 0)),
            ((x[0], y[1], z[0]), (w, 0, 0), (0, 0, d)),
        ):  # fmt: skip
            self.quad(origin, u, v, colour, texture, glow=glow)
        corners = np.array([self.turn @ (a, b, c) for a in x for b in y for c in z]) + self.at
        self.casters.append(np.stack([corners.min(0), corners.max(0)]))

    def tube(
        self,
        radius: Range,
        y: Range,
        colour: Vector | np.ndarray,
        *,
        sides: int = 10,
        glow: float = 0.0,
        centre: Range = (0.0, 0.0),
    ) -> None:
        """A round body, `radius` at its lower and upper end, as flat sides and a lid."""
        for k in range(sides):
            a, b = (2 * math.pi * (k + j) / sides for j in (0, 1))
            r, lean, mid = radius[0], radius[1] - radius[0], (a + b) / 2
            # each side is a parallelogram, of the wider end's width, leaning along its middle
            x0, z0 = centre[0] + r * math.cos(mid), centre[1] + r * math.sin(mid)
            half = max(radius) * math.tan(math.pi / sides)
            across = (-half * math.sin(mid), 0.0, half * math.cos(mid))
            corner = (x0 - across[0], y[0], z0 - across[2])
            up = (lean * math.cos(mid), y[1] - y[0], lean * math.sin(mid))
            self.quad(corner, tuple(2 * c for c in across), up, colour, glow=glow)
        r = radius[1]
        lid = np.asarray(colour) * 0.8
        self.quad(
            (centre[0] - r, y[1], centre[1] - r),
            (2 * r, 0, 0),
            (0, 0, 2 * r),
            lid,
            cut="disc",
            glow=glow,
        )
        r = 0.7 * max(radius)
        corners = (
            np.array([[centre[0] - r, y[0], centre[1] - r], [centre[0] + r, y[1], centre[1] + r]])
            + self.at
        )
        self.casters.append(corners)

    def panel(
        self,
        x: Range,
        y: Range,
        colour: Vector | np.ndarray,
        texture: str = "plain",
        cut: str = "",
        lift: float = 0.004,
        glow: float = 0.0,
    ) -> None:
        """A flat piece on the front side."""
        corner = (x[0], y[0], -self.d / 2 - lift)
        self.quad(corner, (x[1] - x[0], 0, 0), (0, y[1] - y[0], 0), colour, texture, cut, glow)

    def legs(self, top: float, thick: float, colour: Vector | np.ndarray) -> None:
        for x in (-self.w / 2, self.w / 2 - thick):
            for z in (-self.d / 2, self.d / 2 - thick):
                self.box((x, x + thick), (0, top), (z, z + thick), colour, self.wood)


def _table(p: _Pen) -> None:
    p.legs(p.h - 0.05, 0.07, p.colour * 0.8)
    p.box((-p.w / 2, p.w / 2), (p.h - 0.05, p.h), (-p.d / 2, p.d / 2), p.colour, p.wood)
    inset = p.w / 2 - 0.05
    p.box(
        (-inset, inset),
        (p.h - 0.14, p.h - 0.05),
        (-p.d / 2 + 0.04, p.d / 2 - 0.04),
        p.colour * 0.85,
        p.wood,
    )


def _desk(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (p.h - 0.04, p.h), (-p.d / 2, p.d / 2), p.colour, p.wood)
    p.box(
        (-p.w / 2, -p.w / 2 + 0.05), (0, p.h - 0.04), (-p.d / 2, p.d / 2), p.colour * 0.85, p.wood
    )
    p.box(
        (-p.w / 2, p.w / 2), (0.25, p.h - 0.04), (p.d / 2 - 0.04, p.d / 2), p.colour * 0.7, p.wood
    )
    p.box((p.w / 2 - 0.42, p.w / 2), (0, p.h - 0.04), (-p.d / 2, p.d / 2), p.colour * 0.92, p.wood)
    for k in range(3):
        _front(p, (p.w / 2 - 0.39, p.w / 2 - 0.03), (0.06 + 0.21 * k, 0.24 + 0.21 * k))


def _front(p: _Pen, x: Range, y: Range) -> None:
    """A drawer or door front: dark joint, panel, bright knob."""
    p.panel((x[0] - 0.012, x[1] + 0.012), (y[0] - 0.012, y[1] + 0.012), p.colour * 0.35, lift=0.003)
    p.panel(x, y, p.colour * 1.06, p.wood, lift=0.006)
    mid_x, mid_y = (x[0] + x[1]) / 2, (y[0] + y[1]) / 2
    knob = (
        (0.85, 0.78, 0.5) if p.item.colour in ("black", "brown", "blue", "red") else (0.2, 0.2, 0.2)
    )
    p.panel((mid_x - 0.045, mid_x + 0.045), (mid_y - 0.015, mid_y + 0.015), knob, lift=0.012)


def _columns(width: float) -> int:
    """Drawers or doors side by side in a cabinet of a width (metres)."""
    return 2 if width > 1.0 else 1


def _cabinet(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0, p.h), (-p.d / 2, p.d / 2), p.colour, p.wood)
    columns = _columns(p.w)
    rows = max(1, p.item.count // columns)
    for c in range(columns):
        for r in range(rows):
            wide, high = p.w / columns, (p.h - 0.1) / rows
            x0, y0 = -p.w / 2 + c * wide, 0.06 + r * high
            _front(p, (x0 + 0.04, x0 + wide - 0.04), (y0 + 0.03, y0 + high - 0.03))


def _chair(p: _Pen) -> None:
    seat = 0.48 * 0.96
    p.legs(seat, 0.045, p.colour * 0.75)
    p.box((-p.w / 2, p.w / 2), (seat - 0.04, seat + 0.03), (-p.d / 2, p.d / 2), p.colour, p.wood)
    for x in (-p.w / 2, p.w / 2 - 0.045):
        p.box((x, x + 0.045), (seat, p.h), (p.d / 2 - 0.045, p.d / 2), p.colour * 0.8, p.wood)
    p.box(
        (-p.w / 2, p.w / 2), (seat + 0.16, p.h), (p.d / 2 - 0.04, p.d / 2 - 0.01), p.colour, p.wood
    )


def _stool(p: _Pen) -> None:
    p.legs(p.h - 0.05, 0.04, p.colour * 0.75)
    p.tube((p.w / 2, p.w / 2), (p.h - 0.05, p.h), p.colour)


def _bed(p: _Pen) -> None:
    wood = np.array(COLOURS["brown"]) * 0.9
    p.box((-p.w / 2, p.w / 2), (0, p.h), (p.d / 2 - 0.07, p.d / 2), wood, "wood")
    p.box((-p.w / 2, p.w / 2), (0.08, 0.3), (-p.d / 2, p.d / 2), wood, "wood")
    p.box(
        (-p.w / 2 + 0.03, p.w / 2 - 0.03),
        (0.3, 0.48),
        (-p.d / 2 + 0.03, p.d / 2 - 0.07),
        (0.9, 0.9, 0.88),
    )
    p.box(
        (-p.w / 2 - 0.02, p.w / 2 + 0.02),
        (0.22, 0.52),
        (-p.d / 2 - 0.02, p.d / 2 - 0.65),
        p.colour,
        "quilt",
    )


def _sofa(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0.05, 0.3), (-p.d / 2, p.d / 2), p.colour * 0.8)
    p.box((-p.w / 2, p.w / 2), (0.05, p.h), (p.d / 2 - 0.24, p.d / 2), p.colour * 0.95, "soft")
    for x in (-p.w / 2, p.w / 2 - 0.2):
        p.box((x, x + 0.2), (0.05, 0.62), (-p.d / 2, p.d / 2 - 0.02), p.colour * 0.9, "soft")
    wide = (p.w - 0.4) / 3
    for k in range(3):
        x0 = -p.w / 2 + 0.2 + k * wide
        p.box(
            (x0 + 0.012, x0 + wide - 0.012),
            (0.3, 0.46),
            (-p.d / 2 - 0.03, p.d / 2 - 0.24),
            p.colour,
            "soft",
        )
        p.box(
            (x0 + 0.012, x0 + wide - 0.012),
            (0.46, p.h - 0.06),
            (p.d / 2 - 0.36, p.d / 2 - 0.2),
            p.colour,
            "soft",
        )


def _bookshelf(p: _Pen) -> None:
    back = (p.d / 2 - 0.03, p.d / 2)
    p.box((-p.w / 2, p.w / 2), (0, p.h), back, p.colour * 0.45)
    for x in (-p.w / 2, p.w / 2 - 0.04):
        p.box((x, x + 0.04), (0, p.h), (-p.d / 2, p.d / 2), p.colour, p.wood)
    rows = 5
    for k in range(rows + 1):
        y = k * (p.h - 0.04) / rows
        p.box((-p.w / 2, p.w / 2), (y, y + 0.04), (-p.d / 2, p.d / 2), p.colour, p.wood)
        if k < rows:
            full = p.w / 2 - 0.05 - p.rng.random() * 0.5 * p.w
            high = (p.h - 0.04) / rows * (0.6 + 0.22 * p.rng.random())
            z = -p.d / 2 + 0.07
            p.quad(
                (-p.w / 2 + 0.05, y + 0.04, z),
                (full + p.w / 2 - 0.05, 0, 0),
                (0, high, 0),
                (1, 1, 1),
                "books",
            )


def _television(p: _Pen) -> None:
    p.box((-0.16, 0.16), (0, 0.03), (-0.09, 0.09), p.colour)
    p.box((-0.04, 0.04), (0, 0.1), (-0.02, 0.02), p.colour)
    p.box((-p.w / 2, p.w / 2), (0.08, p.h), (-p.d / 2, p.d / 2), p.colour)
    p.panel(
        (-p.w / 2 + 0.035, p.w / 2 - 0.035),
        (0.115, p.h - 0.035),
        (0.2, 0.25, 0.32),
        "screen",
        glow=0.25,
    )


def _lamp(p: _Pen) -> None:
    stand = (0.25, 0.2, 0.16)
    shade = min(0.34, 0.5 * p.h)
    p.tube((0.4 * p.w, 0.34 * p.w), (0, 0.03), stand)
    p.tube((0.02, 0.02), (0.03, p.h - shade * 0.6), stand, sides=5)
    p.tube((p.w / 2, 0.32 * p.w), (p.h - shade, p.h), p.colour, glow=0.35)


def _garbage_bin(p: _Pen) -> None:
    p.tube((0.38 * p.w, p.w / 2), (0, p.h), p.colour, sides=12)
    r = 0.44 * p.w
    p.quad((-r, p.h + 0.003, -r), (2 * r, 0, 0), (0, 0, 2 * r), (0.04, 0.04, 0.04), cut="disc")


def _plant(p: _Pen) -> None:
    pot = 0.3 * p.h
    p.tube((0.2 * p.w, 0.28 * p.w), (0, pot), (0.62, 0.33, 0.2))
    for k in range(16):
        a = 2 * math.pi * (k + p.rng.random()) / 16
        reach = p.w * (0.25 + 0.3 * p.rng.random())
        up = (p.h - pot) * (0.3 + 0.7 * p.rng.random())
        out = (reach * math.cos(a), up, reach * math.sin(a))
        across = (-0.2 * p.w * math.sin(a) + 0.07, 0.03, 0.2 * p.w * math.cos(a))
        green = p.colour * (0.7 + 0.6 * p.rng.random())
        p.quad((-across[0] / 2, pot * 0.95, -across[2] / 2), across, out, green, "leaf", cut="leaf")


def _pillow(p: _Pen) -> None:
    for k in range(5):
        inset = 0.02 * abs(k - 2)
        z = p.d * (k - 2) / 5
        p.quad(
            (-p.w / 2 + inset, inset, z - 0.02),
            (p.w - 2 * inset, 0, 0),
            (0, p.h - 2 * inset, 0.3 * p.h),
            p.colour * (1.0 - 0.06 * k),
            "pillow",
            cut="round",
        )


def _books(p: _Pen) -> None:
    thick = p.h / p.item.count
    for k in range(p.item.count):
        tone = np.array(COLOURS[p.rng.choice(("red", "blue", "brown", "green", "yellow"))])
        shift = 0.05 * (p.rng.random() - 0.5)
        x, z = (-p.w / 2 + shift, p.w / 2 + shift), (-p.d / 2, p.d / 2)
        p.box(x, (k * thick, (k + 1) * thick), z, tone if k else p.colour)
        p.panel(
            (x[0] + 0.02, x[1] - 0.05),
            (k * thick + 0.008, (k + 1) * thick - 0.008),
            (0.9, 0.87, 0.78),
            "pages",
        )


def _bottle(p: _Pen) -> None:
    p.tube((p.w / 2, p.w / 2), (0, 0.62 * p.h), p.colour, sides=8)
    p.tube((p.w / 2, 0.2 * p.w), (0.62 * p.h, 0.75 * p.h), p.colour, sides=8)
    p.tube((0.2 * p.w, 0.2 * p.w), (0.75 * p.h, p.h), p.colour * 0.8, sides=6)
    p.panel((-0.35 * p.w, 0.35 * p.w), (0.2 * p.h, 0.5 * p.h), (0.9, 0.88, 0.8))


def _telephone(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0, 0.55 * p.h), (-p.d / 2, p.d / 2), p.colour)
    p.box(
        (-p.w / 2 - 0.02, -p.w / 2 + 0.06), (0.55 * p.h, p.h), (-p.d / 2, p.d / 2), p.colour * 0.7
    )
    p.quad(
        (-0.02, 0.56 * p.h, -p.d / 2 + 0.03), (0.12, 0, 0), (0, 0, 0.13), (0.6, 0.6, 0.6), "tiles"
    )


def _rug(p: _Pen) -> None:
    y = 0.012
    p.quad((-p.w / 2, y, -p.d / 2), (p.w, 0, 0), (0, 0, p.d), p.colour * 0.65, "carpet")
    p.quad(
        (-p.w / 2 + 0.1, y + 0.002, -p.d / 2 + 0.1),
        (p.w - 0.2, 0, 0),
        (0, 0, p.d - 0.2),
        p.colour,
        "rug",
    )


def _frame(p: _Pen, inner: Vector, texture: str, *, rim: float = 0.05, glow: float = 0.0) -> None:
    p.box((-p.w / 2, p.w / 2), (0, p.h), (-p.d / 2, p.d / 2), p.colour, p.wood)
    p.panel((-p.w / 2 + rim, p.w / 2 - rim), (rim, p.h - rim), inner, texture, glow=glow)


def _picture(p: _Pen) -> None:
    _frame(p, (1, 1, 1), "art")


def _mirror(p: _Pen) -> None:
    _frame(p, (0.72, 0.79, 0.84), "mirror")


def _clock(p: _Pen) -> None:
    p.panel((-p.w / 2, p.w / 2), (0, p.h), p.colour, cut="disc", lift=0.0)
    p.panel(
        (-0.41 * p.w, 0.41 * p.w),
        (0.09 * p.h, 0.91 * p.h),
        (0.95, 0.95, 0.92),
        "dial",
        cut="disc",
        lift=0.004,
    )


def _window(p: _Pen) -> None:
    _frame(p, (1, 1, 1), "sky", rim=0.07, glow=0.9)
    p.panel((-0.025, 0.025), (0.05, p.h - 0.05), p.colour, lift=0.01)
    p.panel((-p.w / 2 + 0.05, p.w / 2 - 0.05), (0.6 * p.h, 0.6 * p.h + 0.045), p.colour, lift=0.01)
    p.box((-p.w / 2 - 0.05, p.w / 2 + 0.05), (-0.05, 0.0), (-p.d / 2 - 0.08, p.d / 2), p.colour)


def _curtain(p: _Pen) -> None:
    half = p.w * (0.36 if p.item.count == 2 else 0.5)
    p.panel((-p.w / 2, p.w / 2), (0.12 * p.h, 0.96 * p.h), (1, 1, 1), "sky", lift=-0.05, glow=0.9)
    for x in (-p.w / 2, p.w / 2 - half):
        p.panel((x, x + half), (0, p.h - 0.03), p.colour, "folds", lift=0.0)
    p.box((-p.w / 2 - 0.06, p.w / 2 + 0.06), (p.h - 0.05, p.h), (-0.03, 0.0), (0.3, 0.22, 0.15))


def _blinds(p: _Pen) -> None:
    _frame(p, p.colour, "slats", rim=0.03, glow=0.45)


def _door(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0, p.h), (-p.d / 2, p.d / 2), p.colour * 0.7)
    p.panel((-p.w / 2 + 0.06, p.w / 2 - 0.06), (0.0, p.h - 0.06), p.colour, p.wood)
    for y in ((0.15, 0.9), (1.05, p.h - 0.2)):
        for x in ((-p.w / 2 + 0.14, -0.03), (0.03, p.w / 2 - 0.14)):
            p.panel(
                (x[0] - 0.015, x[1] + 0.015),
                (y[0] - 0.015, y[1] + 0.015),
                p.colour * 0.6,
                lift=0.006,
            )
            p.panel(x, y, p.colour * 0.92, p.wood, lift=0.008)
    p.panel(
        (p.w / 2 - 0.14, p.w / 2 - 0.08), (0.94, 1.0), (0.85, 0.72, 0.35), cut="disc", lift=0.04
    )


def _board(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0, p.h), (-p.d / 2, p.d / 2), (0.55, 0.4, 0.25), "wood")
    p.panel((-p.w / 2 + 0.05, p.w / 2 - 0.05), (0.05, p.h - 0.05), p.colour * 0.8, "writing")


def _towel(p: _Pen) -> None:
    p.box((-p.w / 2 - 0.06, p.w / 2 + 0.06), (p.h - 0.03, p.h), (-p.d / 2, 0), (0.75, 0.75, 0.78))
    p.panel((-p.w / 2, p.w / 2), (0, p.h - 0.01), p.colour, "towel", lift=0.01)


def _sink(p: _Pen) -> None:
    _cabinet(p)
    p.box(
        (-p.w / 2 - 0.02, p.w / 2 + 0.02),
        (p.h - 0.06, p.h),
        (-p.d / 2 - 0.02, p.d / 2),
        (0.93, 0.93, 0.94),
    )
    p.quad(
        (-0.35 * p.w, p.h + 0.003, -0.38 * p.d),
        (0.7 * p.w, 0, 0),
        (0, 0, 0.66 * p.d),
        (0.7, 0.74, 0.78),
        cut="disc",
    )
    p.box((-0.02, 0.02), (p.h, p.h + 0.16), (0.36 * p.d, 0.42 * p.d), (0.7, 0.72, 0.75))
    p.box((-0.02, 0.02), (p.h + 0.13, p.h + 0.16), (0.1 * p.d, 0.4 * p.d), (0.75, 0.77, 0.8))


def _toilet(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0.36, p.h), (p.d / 2 - 0.2, p.d / 2), p.colour)
    p.tube((0.13, 0.19), (0, 0.38), p.colour, centre=(0, -0.1), sides=14)
    p.tube((0.2, 0.21), (0.38, 0.42), p.colour, centre=(0, -0.1), sides=14)
    p.quad((-0.14, 0.423, -0.25), (0.28, 0, 0), (0, 0, 0.3), (0.45, 0.5, 0.55), cut="disc")


def _bathtub(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0, p.h), (-p.d / 2, p.d / 2), p.colour)
    corner = (-p.w / 2 + 0.09, p.h + 0.003, -p.d / 2 + 0.09)
    p.quad(
        corner, (p.w - 0.18, 0, 0), (0, 0, p.d - 0.18), (0.55, 0.66, 0.74), "pillow", cut="round"
    )


def _stove(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0, p.h), (-p.d / 2, p.d / 2), p.colour)
    p.panel((-p.w / 2 + 0.06, p.w / 2 - 0.06), (0.15, 0.62), (0.12, 0.12, 0.14), "screen")
    for k in range(4):
        x = -0.3 * p.w + 0.2 * p.w * k
        p.panel((x - 0.025, x + 0.025), (0.72, 0.77), (0.2, 0.2, 0.2), cut="disc")
        x, z = (-0.4 + 0.45 * (k % 2)) * p.w, (-0.4 + 0.45 * (k // 2)) * p.d
        p.quad(
            (x, p.h + 0.003, z), (0.33 * p.w, 0, 0), (0, 0, 0.33 * p.d), (0.1, 0.1, 0.1), cut="disc"
        )


def _refrigerator(p: _Pen) -> None:
    p.box((-p.w / 2, p.w / 2), (0, p.h), (-p.d / 2, p.d / 2), p.colour)
    for y in ((0.05, 0.62 * p.h), (0.64 * p.h, p.h - 0.03)):
        p.panel((-p.w / 2 + 0.01, p.w / 2 - 0.01), (y[0] - 0.01, y[1] + 0.01), p.colour * 0.5)
        p.panel((-p.w / 2 + 0.02, p.w / 2 - 0.02), y, p.colour * 1.03, lift=0.02)
        middle = (y[0] + y[1]) / 2
        p.panel(
            (-p.w / 2 + 0.06, -p.w / 2 + 0.09),
            (middle - 0.15, middle + 0.15),
            (0.3, 0.3, 0.32),
            lift=0.04,
        )


DRAW: dict[str, Callable[[_Pen], None]] = {
    "table": _table, "desk": _desk, "chair": _chair, "stool": _stool, "bed": _bed, "sofa": _sofa,
    "cabinet": _cabinet, "wardrobe": _cabinet, "night_stand": _cabinet, "bookshelf": _bookshelf,
    "television": _television, "monitor": _television, "lamp": _lamp, "table_lamp": _lamp,
    "garbage_bin": _garbage_bin, "plant": _plant, "pot_plant": _plant, "pillow": _pillow,
    "books": _books, "bottle": _bottle, "telephone": _telephone, "rug": _rug, "picture": _picture,
    "mirror": _mirror, "clock": _clock, "window": _window, "curtain": _curtain, "blinds": _blinds,
    "door": _door, "blackboard": _board, "whiteboard": _board, "towel": _towel, "sink": _sink,
    "toilet": _toilet, "bathtub": _bathtub, "stove": _stove, "refrigerator": _refrigerator,
}  # fmt: skip


# -------------------------------------------------------------------------------- placing
class _Room:
    """Places items without letting them intersect."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kind = rng.choice(sorted(ROOMS))
        self.width, self.depth, self.height = rng.uniform(3.8, 5.2), rng.uniform(3.5, 4.4), 2.6
        self.wall = rng.choice(("white", "white", *WALLS))
        self.floor = rng.choice(FLOORS) if self.kind not in ("bathroom", "kitchen") else "tiles"
        self.items: list[_Item] = []
        self.tint: dict[str, str] = {}
        for step in ROOMS[self.kind]:
            self._step(*step)

    def _colour(self, kind: str) -> str:
        """Mostly one colour a kind in a room, as furniture comes in sets."""
        choices = KINDS[kind].colours
        first = self.tint.setdefault(kind, self.rng.choice(choices))
        return first if self.rng.random() < 0.7 else self.rng.choice(choices)

    def _free(self, item: _Item, gap: float) -> bool:
        if item.kind == "rug":
            return all(other.kind != "rug" for other in self.items)
        return not any(
            np.all(item.low < other.high + gap) and np.all(other.low < item.high + gap)
            for k, other in enumerate(self.items) if other.kind != "rug" and k != item.carrier
        )  # fmt: skip

    def _step(self, where: str, kind: str, fewest: int, most: int) -> None:
        place = where.split(":")[0]
        for _ in range(self._number(fewest, most)):
            for _ in range(25):
                size = tuple(self.rng.uniform(*limits) for limits in KINDS[kind].size)
                item = getattr(self, f"_put_{place}")(kind, size, *where.split(":")[1:])
                if item is None:
                    return
                if self._free(item, 0.0 if place in ("on", "around") else 0.05):
                    item.count = self._parts(item)
                    self.items.append(item)
                    break

    def _number(self, fewest: int, most: int) -> int:
        """Evenly spread where many are possible, else more often present than absent."""
        if most - fewest > 2:
            return self.rng.randint(fewest, most)
        return fewest + sum(self.rng.random() < 0.6 for _ in range(most - fewest))

    def _parts(self, item: _Item) -> int:
        if item.kind in ("cabinet", "night_stand", "sink", "wardrobe"):
            columns = _columns(item.size[0])
            return columns * (
                1 if item.kind in ("wardrobe", "sink") else self.rng.randint(1, 5 - columns)
            )
        if item.kind == "books":
            return self.rng.randint(2, 5)
        return self.rng.randint(1, 2) if item.kind == "curtain" else 1

    def _item(
        self,
        kind: str,
        size: Vector,
        x: float,
        y: float,
        z: float,
        turn: float,
        support: str = "floor",
        carrier: int = -1,
    ) -> _Item:
        return _Item(kind, self._colour(kind), size, x, y, z, turn, support, carrier)

    def _along(self, kind: str, size: Vector, wall: str, y: float, support: str) -> _Item:
        """Against a wall, at a random place along it, front towards the room."""
        w, _, d = size
        if wall == "back":
            x = self.rng.uniform(-self.width / 2 + w / 2, self.width / 2 - w / 2)
            return self._item(kind, size, x, y, self.depth - d / 2 - 0.002, 0.0, support)
        sign = -1 if wall == "left" else 1
        z = self.rng.uniform(1.3 + w / 2, self.depth - w / 2)
        return self._item(
            kind, size, sign * (self.width / 2 - d / 2 - 0.002), y, z, sign * math.pi / 2, support
        )

    def _put_back(self, kind: str, size: Vector) -> _Item:
        return self._along(kind, size, "back", 0.0, "floor")

    def _put_side(self, kind: str, size: Vector) -> _Item:
        wall = self.rng.choice(
            ("left", "right") if kind != "door" else ("left", "right", "back", "back")
        )
        return self._along(kind, size, wall, 0.0, "wall" if kind == "door" else "floor")

    def _put_wall(self, kind: str, size: Vector) -> _Item:
        wall = self.rng.choice(("left", "right", "back", "back", "back"))
        return self._along(kind, size, wall, self.rng.uniform(*KINDS[kind].mount), "wall")

    def _put_hung(self, kind: str, size: Vector) -> _Item:
        return self._along(kind, size, "back", self.rng.uniform(*KINDS[kind].mount), "wall")

    def _put_front(self, kind: str, size: Vector) -> _Item:
        x = self.rng.uniform(-self.width / 2 + 0.5, self.width / 2 - 0.5)
        z = self.rng.uniform(1.5, self.depth - 0.7)
        if kind in ("table", "rug"):
            x, z = 0.5 * x, self.rng.uniform(1.7, 2.3)
        turn = self.rng.uniform(-math.pi, math.pi) if kind in ("chair", "stool") else 0.0
        return self._item(kind, size, x, 0.0, z, turn)

    def _named(self, name: str) -> list[int]:
        return [k for k, item in enumerate(self.items) if item.kind == name]

    def _put_on(self, kind: str, size: Vector, below: str) -> _Item | None:
        candidates = self._named(below)
        if not candidates:
            return None
        k = self.rng.choice(candidates)
        base = self.items[k]
        surface = KINDS[below].surface
        y = base.size[1] * surface if surface == 1.0 else surface
        across = max(0.0, base.size[0] / 2 - size[0] / 2 - 0.03 - (0.2 if below == "sofa" else 0.0))
        x, z = self.rng.uniform(-across, across), self.rng.uniform(-0.2, 0.2) * base.size[2]
        if kind == "pillow":
            z = base.size[2] / 2 - (0.3 if below == "bed" else 0.46)
        c, s = math.cos(base.turn), math.sin(base.turn)
        support = PUBLIC_NAME.get(below, below)
        return self._item(
            kind,
            size,
            base.x + x * c + z * s,
            y + 0.003,
            base.z - x * s + z * c,
            base.turn,
            support,
            k,
        )

    def _put_around(self, kind: str, size: Vector, centre: str) -> _Item | None:
        candidates = self._named(centre)
        if not candidates:
            return None
        table = self.items[self.rng.choice(candidates)]
        side = self.rng.randrange(4)
        reach = 0.03 + size[2] / 2 + 0.12 * self.rng.random()
        along = self.rng.uniform(-0.5, 0.5)
        w, _, d = table.size
        x, z = ((along * (w - 0.5), d / 2 + reach), (along * (w - 0.5), -d / 2 - reach),
                (-w / 2 - reach, along * 0.3), (w / 2 + reach, along * 0.3))[side]  # fmt: skip
        turn = (0.0, math.pi, -math.pi / 2, math.pi / 2)[side]
        return self._item(kind, size, table.x + x, 0.0, table.z + z, turn)

    def _put_over(self, kind: str, size: Vector, below: str) -> _Item | None:
        candidates = self._named(below)
        if not candidates:
            return None
        base = self.items[self.rng.choice(candidates)]
        y = self.rng.uniform(*KINDS[kind].mount)
        span = max(0.0, base.size[0] / 2 - size[0] / 2) + 0.1
        shift = self.rng.uniform(-span, span)
        gap = size[2] / 2 + 0.002
        if base.turn == 0.0:
            return self._item(kind, size, base.x + shift, y, self.depth - gap, 0.0, "wall")
        sign = math.copysign(1.0, base.turn)
        return self._item(
            kind, size, sign * (self.width / 2 - gap), y, base.z + shift, base.turn, "wall"
        )


# -------------------------------------------------------------------------------- camera, pixels
@dataclass(frozen=True)
class _Camera:
    eye: np.ndarray
    axes: np.ndarray  # rows: right, up, forward
    focal: float  # in picture widths

    def grid(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Ray slopes of pixel centres: x of shape (1, width), y of shape (3/4 width, 1)."""
        height = width * HEIGHT // WIDTH
        x = (np.arange(width) + 0.5 - width / 2) / (self.focal * width)
        y = -(np.arange(height) + 0.5 - height / 2) / (self.focal * width)
        return x[None, :].astype(np.float32), y[:, None].astype(np.float32)

    def bounds(self, face: _Face, width: int) -> tuple[slice, slice] | None:
        """Rows and columns that the face can touch; None where it is out of view."""
        height = width * HEIGHT // WIDTH
        sides = (0.0, face.side_u, face.side_v, face.side_u + face.side_v)
        seen = np.array([self.axes @ (face.origin + s - self.eye) for s in sides])
        if np.all(seen[:, 2] < 0.1):
            return None
        if np.any(seen[:, 2] < 0.1):
            return slice(0, height), slice(0, width)
        x = seen[:, 0] / seen[:, 2] * self.focal * width + width / 2
        y = -seen[:, 1] / seen[:, 2] * self.focal * width + height / 2
        left, right = max(0, int(x.min())), min(width, int(x.max()) + 2)
        top, bottom = max(0, int(y.min())), min(height, int(y.max()) + 2)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _camera(rng: random.Random, room: _Room) -> _Camera:
    yaw, pitch = rng.uniform(-0.2, 0.2), rng.uniform(-0.24, -0.1)
    right = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
    forward = np.array(
        [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
    )
    eye = np.array([rng.uniform(-0.5, 0.5), rng.uniform(1.4, 1.65), rng.uniform(-0.7, -0.3)])
    return _Camera(
        eye, np.stack([right, np.cross(forward, right), forward]), rng.uniform(0.82, 0.95)
    )


def _shell(room: _Room, rng: random.Random) -> list[_Face]:
    """Floor, walls, ceiling and skirting of the room (owner 0)."""
    w, h, d, near = room.width, room.height, room.depth, -2.0
    wall = np.array(WALLS[room.wall]) * rng.uniform(0.94, 1.04)
    floor = {
        "planks": (0.58, 0.40, 0.24),
        "tiles": (0.74, 0.72, 0.68),
        "carpet": (0.60, 0.54, 0.48),
    }[room.floor]
    paper = "bricks" if room.kind == "bathroom" else rng.choice(("plaster", "plaster", "stripes"))
    tone = np.array(floor) * rng.uniform(0.75, 1.15)
    faces = [
        ((-w / 2, 0, near), (w, 0, 0), (0, 0, d - near), tone, room.floor),
        ((-w / 2, h, near), (w, 0, 0), (0, 0, d - near), np.full(3, 0.92), "plaster"),
    ]
    for origin, along in (((-w / 2, 0, d), (w, 0, 0)), ((-w / 2, 0, near), (0, 0, d - near)),
                          ((w / 2, 0, near), (0, 0, d - near))):  # fmt: skip
        faces.append((origin, along, (0, h, 0), wall, paper))
        inward = np.array(origin) - np.array([math.copysign(0.003, origin[0]), 0, 0.003])
        faces.append((tuple(inward), along, (0, 0.09, 0), wall * 0.6 + 0.2, "plain"))
    return [
        _Face(*(np.array(p, float) for p in (o, u, v)), c, t, "", 0, rng.random(), 0.0)
        for o, u, v, c, t in faces
    ]


def _outline(cut: str, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Which points (s, t) of the unit square belong to the face."""
    inside = (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    if cut == "disc":
        return inside & ((s - 0.5) ** 2 + (t - 0.5) ** 2 <= 0.25)
    if cut == "round":
        return inside & ((2 * s - 1) ** 4 + (2 * t - 1) ** 4 <= 1)
    if cut == "leaf":
        return inside & (np.abs(s - 0.5) <= 0.5 * np.sin(np.pi * np.clip(t, 0, 1)))
    return inside


@dataclass
class _Frame:
    """Pixel buffers of one rendering."""

    depth: np.ndarray
    face: np.ndarray  # index of the face seen, -1 for none
    albedo: np.ndarray | None


def _raster(faces: list[_Face], camera: _Camera, width: int, coloured: bool) -> _Frame:
    """Nearest face of each pixel by ray-plane intersection with a depth buffer."""
    gx, gy = camera.grid(width)
    shape = (gy.shape[0], gx.shape[1])
    frame = _Frame(np.full(shape, 1e9, np.float32), np.full(shape, -1, np.int32),
                   np.zeros((*shape, 3), np.float32) if coloured else None)  # fmt: skip
    for k, face in enumerate(faces):
        window = camera.bounds(face, width)
        if window is not None:
            _fill(frame, k, face, camera, window, gx[:, window[1]], gy[window[0]])
    return frame


def _fill(
    frame: _Frame,
    k: int,
    face: _Face,
    camera: _Camera,
    window: tuple[slice, slice],
    gx: np.ndarray,
    gy: np.ndarray,
) -> None:
    normal = np.cross(face.side_u, face.side_v)
    start = face.origin - camera.eye

    def along(vector: np.ndarray) -> np.ndarray:
        a, b, c = camera.axes @ vector
        return np.float32(a) * gx + (np.float32(b) * gy + np.float32(c))

    dual_u, dual_v = np.cross(face.side_v, normal), np.cross(normal, face.side_u)
    dual_u, dual_v = dual_u / (dual_u @ face.side_u), dual_v / (dual_v @ face.side_v)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.float32(normal @ start) / along(normal)
        s = distance * along(dual_u) - np.float32(start @ dual_u)
        t = distance * along(dual_v) - np.float32(start @ dual_v)
        hit = _outline(face.cut, s, t) & (distance > 0.1) & (distance < frame.depth[window])
    frame.depth[window][hit] = distance[hit]
    frame.face[window][hit] = k
    if frame.albedo is not None and hit.any():
        u, v = s[hit] * np.linalg.norm(face.side_u), t[hit] * np.linalg.norm(face.side_v)
        frame.albedo[window][hit] = _texture(face, s[hit], t[hit], u, v)


def _lines(x: np.ndarray, step: float, thick: float) -> np.ndarray:
    return np.mod(x, step) < thick


def _cell_noise(*coordinates: np.ndarray) -> np.ndarray:
    """A repeatable number in [0, 1) for each integer cell."""
    mix = sum(
        (np.floor(c).astype(np.int64) + 7) * p
        for c, p in zip(coordinates, (73856093, 19349663), strict=False)
    )
    return ((mix * 2654435761) % 4294967296 / 4294967296).astype(np.float32)


def _texture(face: _Face, s: np.ndarray, t: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colours (n, 3) at unit-square positions s, t and metres u, v along the sides."""
    painter = TEXTURES.get(face.texture)
    base = face.colour[None, :].astype(np.float32)
    if painter is None:
        return np.broadcast_to(base, (len(s), 3))
    shade = painter(s, t, u, v, face.phase)
    return base * (shade[:, None] if shade.ndim == 1 else shade)


def _wood(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 1 + 0.13 * np.sin(70 * v + 5 * np.sin(2.5 * u + 9 * phase)) * np.sin(
        11 * v + 3 * phase + u
    )


def _planks(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    tone = 0.82 + 0.3 * _cell_noise(u / 0.14, v / 1.1 + _cell_noise(u / 0.14) * 3)
    grain = 1 + 0.06 * np.sin(160 * u + 4 * np.sin(3 * v))
    return np.where(_lines(u, 0.14, 0.008), 0.5, tone * grain)


def _tiles(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    size = 0.3 if phase < 0.5 else 0.42
    tone = 0.94 + 0.1 * _cell_noise(u / size, v / size)
    if phase > 0.7:
        tone = tone * np.where((np.floor(u / size) + np.floor(v / size)) % 2 == 0, 1.0, 0.55)
    return np.where(_lines(u, size, 0.012) | _lines(v, size, 0.012), 0.6, tone)


def _bricks(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    tone = 0.95 + 0.07 * _cell_noise(u / 0.2, v / 0.2)
    return np.where(_lines(u, 0.2, 0.008) | _lines(v, 0.2, 0.008), 0.78, tone)


def _carpet(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.86 + 0.26 * _cell_noise(u * 45, v * 45)


def _rug_pattern(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    rings = np.floor(8 * np.maximum(np.abs(2 * s - 1), np.abs(2 * t - 1))) % 2
    return (0.85 + 0.22 * rings) * _carpet(s, t, u, v, phase)


def _books_row(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    cell = u / 0.045
    hue = np.array(
        [COLOURS[c] for c in ("red", "blue", "brown", "green", "yellow", "white")], np.float32
    )
    colour = hue[(_cell_noise(cell + 31 * phase) * len(hue)).astype(int)] * 0.85
    top = t > 0.72 + 0.28 * _cell_noise(cell, cell * 0 + 3)
    band = (np.abs(t - 0.35) < 0.05) & (_cell_noise(cell, cell * 0 + 5) > 0.4)
    colour = np.where(top[:, None], 0.05, np.where(band[:, None], 0.85, colour))
    return np.where(_lines(u, 0.045, 0.006)[:, None], 0.06, colour)


def _sky(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    day = np.array([0.62, 0.79, 0.98]) if phase < 0.75 else np.array([0.10, 0.13, 0.28])
    sky = day[None, :] + (0.25 * (1 - t))[:, None]
    hill = t < 0.36 + 0.1 * np.sin(7 * s + 9 * phase) + 0.05 * np.sin(23 * s)
    trees = np.array([0.25, 0.42, 0.2]) * (1.0 if phase < 0.75 else 0.35)
    return np.where(hill[:, None], trees, np.clip(sky, 0, 1)).astype(np.float32)


def _art(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    names = ("blue", "yellow", "red", "green", "white", "brown")
    tones = np.array([COLOURS[n] for n in names], np.float32)
    pick = (np.array([0, 1, 2]) + int(phase * 6)) % 6
    region = (t > 0.45 + 0.14 * np.sin(6 * s + 20 * phase)).astype(int)
    region = np.where((s - 0.3 - 0.4 * phase) ** 2 + (t - 0.6) ** 2 < 0.03, 2, region)
    mat = (np.minimum(s, 1 - s) < 0.1) | (np.minimum(t, 1 - t) < 0.1)
    return np.where(mat[:, None], 0.9, tones[pick][region])


def _dial(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    x, y = s - 0.5, t - 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    marks = (radius > 0.38) & (np.abs(np.mod(angle * 6 / np.pi + 0.5, 1) - 0.5) < 0.12)
    dark = marks
    for turn, length in ((6.28 * phase, 0.22), (6.28 * phase * 12, 0.34)):
        forward = x * math.cos(turn) + y * math.sin(turn)
        dark = dark | (
            (np.abs(-x * math.sin(turn) + y * math.cos(turn)) < 0.03)
            & (forward > 0)
            & (forward < length)
        )
    return np.where(dark, 0.1, 1.0)


def _writing(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    line = (
        (np.mod(t * 7, 1) > 0.4)
        & (np.mod(t * 7, 1) < 0.62)
        & (t > 0.3)
        & (s > 0.07)
        & (s < 0.5 + 0.4 * phase)
    )
    ink = line & (_cell_noise(u * 28, t * 7) > 0.4)
    return np.where(ink, 2.2 if phase < 0.5 else 0.5, 1.0 + 0.06 * np.sin(5 * s + 7 * t))


def _plaster(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.985 + 0.02 * np.sin(2.1 * u + 6 * phase) * np.sin(1.7 * v)


def _stripes(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return np.where(np.mod(u, 0.3) < 0.15, 1.0, 0.93)


def _quilt(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 1 - 0.12 * np.exp(-600 * (np.mod(u, 0.25) - 0.12) ** 2) - 0.1 * (t < 0.05)


def _soft(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.82 + 0.25 * np.clip(16 * s * (1 - s) * t * (1.15 - t), 0, 1) ** 0.4


def _bulge(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.72 + 0.34 * np.clip(16 * s * (1 - s) * t * (1 - t), 0, 1) ** 0.5


def _leaf(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.75 + 0.4 * t - 0.25 * (np.abs(s - 0.5) < 0.06)


def _pages(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.9 + 0.1 * np.sin(900 * v)


def _screen(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.6 + 0.9 * np.clip(s + t - 0.8, 0, 1) * (np.mod(s - t, 1) < 0.5 + 0.3 * phase)


def _reflection(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.75 + 0.3 * t + 0.22 * (np.abs(np.mod(s + 0.7 * t + phase, 1) - 0.5) < 0.1)


def _folds(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.78 + 0.24 * np.sin(52 * u + 1.5 * np.sin(3 * t))


def _slats(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return 0.65 + 0.4 * np.mod(v, 0.055) / 0.055


def _cloth(s: _A, t: _A, u: _A, v: _A, phase: float) -> _A:
    return (0.92 + 0.1 * np.sin(30 * u)) * np.where((t > 0.12) & (t < 0.19), 0.6, 1.0)


TEXTURES: dict[str, Callable[..., np.ndarray]] = {
    "wood": _wood, "planks": _planks, "tiles": _tiles, "bricks": _bricks, "carpet": _carpet,
    "rug": _rug_pattern, "books": _books_row, "sky": _sky, "art": _art, "dial": _dial,
    "writing": _writing, "plaster": _plaster, "stripes": _stripes, "quilt": _quilt, "soft": _soft,
    "pillow": _bulge, "leaf": _leaf, "pages": _pages, "screen": _screen, "mirror": _reflection,
    "folds": _folds, "slats": _slats, "towel": _cloth,
}  # fmt: skip


# -------------------------------------------------------------------------------- light
def _shadow(points: np.ndarray, light: np.ndarray, casters: list[np.ndarray]) -> np.ndarray:
    """1 where a point (n, 3) sees the light, 0 where an axis-aligned box (low, high) is between."""
    ray = (light - points).astype(np.float32)
    ray = np.where(np.abs(ray) < 1e-5, 1e-5, ray)
    lit = np.ones(len(points), np.float32)
    for low, high in casters:
        a, b = (low - points) / ray, (high - points) / ray
        enter, leave = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
        lit[(enter < leave) & (leave > 0.02) & (enter < 1) & (enter > 0.004)] = 0
    return lit


def _light(
    frame: _Frame,
    faces: list[_Face],
    camera: _Camera,
    casters: list[np.ndarray],
    room: _Room,
    rng: random.Random,
) -> np.ndarray:
    """Shaded colours (height, width, 3): ambient, one lamp that casts shadows, darker creases."""
    height, width = frame.depth.shape
    gx, gy = camera.grid(width)
    right, up, forward = camera.axes.astype(np.float32)
    rays = gx[..., None] * right + gy[..., None] * up + forward
    points = camera.eye.astype(np.float32) + rays * frame.depth[..., None]
    normals = np.array([np.cross(f.side_u, f.side_v) for f in faces], np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    glow = np.array([f.glow for f in faces], np.float32)[frame.face]
    normal = normals[frame.face]
    normal *= np.where((normal * rays).sum(-1, keepdims=True) > 0, -1, 1)
    light = np.array([rng.uniform(-1.4, 1.4), 2.45, rng.uniform(0.3, 2.4)], np.float32)
    towards = light - points
    distance = np.linalg.norm(towards, axis=-1)
    diffuse = (
        np.clip((normal * towards).sum(-1) / distance, 0, 1) * 1.5 / (0.8 + 0.14 * distance**2)
    )
    low = points[2::4, 2::4].reshape(-1, 3)
    lit = _shadow(low, light, casters).reshape(height // 4, width // 4)
    lit = ndimage.zoom(ndimage.uniform_filter(lit, 5), 4, order=1)
    crease = (
        ndimage.zoom(ndimage.gaussian_filter(frame.depth[::4, ::4], 6), 4, order=1) - frame.depth
    )
    occlusion = 1 - 0.35 * np.clip(-crease / 0.5, 0, 1)
    ambient = rng.uniform(0.40, 0.52)
    amount = (ambient + (1 - ambient) * diffuse * (0.25 + 0.75 * lit)) * occlusion
    amount = amount * (1 - glow) + glow * 1.05
    warm = np.array([1.0, rng.uniform(0.93, 1.0), rng.uniform(0.82, 1.02)], np.float32)
    return frame.albedo * amount[..., None] * warm


def _finish(light: np.ndarray, seed: int, rng: random.Random) -> Image.Image:
    """Exposure, tone curve, vignette, lens blur, noise; from double size to WIDTH x HEIGHT."""
    height, width = light.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    exposed = light * rng.uniform(0.98, 1.18) * (1 - 0.13 * (x**2 + y**2))[..., None]
    toned = np.clip(exposed, 0, None) ** 0.92
    toned = np.where(toned > 0.8, 0.8 + 0.2 * np.tanh((toned - 0.8) / 0.2), toned)
    picture = Image.fromarray((np.clip(toned, 0, 1) * 255).astype(np.uint8)).resize(
        (WIDTH, HEIGHT), Image.Resampling.BOX
    )
    grain = np.random.default_rng(seed).normal(0, 2.2, (HEIGHT, WIDTH, 1)).astype(np.float32)
    return Image.fromarray(
        np.clip(np.asarray(picture, np.float32) + grain, 0, 255).astype(np.uint8)
    )


# -------------------------------------------------------------------------------- description
def _relations(objects: tuple[SceneObject, ...]) -> tuple[tuple[int, str, int], ...]:
    """Pairs that stand clearly in a relation, as seen by the viewer."""
    found = []
    for a in objects:
        for b in objects:
            if a.index == b.index:
                continue
            if a.carrier == b.index:
                found.append((a.index, "on", b.index))
            elif b.carrier != a.index:
                found.extend((a.index, relation, b.index) for relation in _between(a, b))
    return tuple(found)


def _between(a: SceneObject, b: SceneObject) -> list[str]:
    """Relations of a to b: neighbours at most 1.2 m apart, overlapping in the other directions."""
    shared = [min(a.high[k], b.high[k]) - max(a.low[k], b.low[k]) for k in range(3)]
    level = shared[1] > 0.08 or (a.support == b.support == "floor")
    relations = []
    if level and shared[2] > -0.25 and -1.2 < shared[0] < 0.05 and "rug" not in (a.name, b.name):
        middle_a, middle_b = a.box[0] + a.box[2], b.box[0] + b.box[2]
        if abs(middle_a - middle_b) > 24:
            relations.append("left of" if middle_a < middle_b else "right of")
    overlap = shared[0] / max(0.05, min(a.high[0] - a.low[0], b.high[0] - b.low[0]))
    if level and overlap > 0.4 and not a.support == b.support == "wall" and -1.6 < shared[2] < 0.03:
        relations.append("in front of" if a.high[2] < b.high[2] else "behind")
    if (
        a.support == "wall"
        and overlap > 0.4
        and shared[2] > -0.5
        and -0.02 < a.low[1] - b.high[1] < 1.0
    ):
        relations.append("above")
    if (
        b.support == "wall"
        and overlap > 0.4
        and shared[2] > -0.5
        and -0.02 < b.low[1] - a.high[1] < 1.0
    ):
        relations.append("below")
    return relations


def _build(seed: int) -> tuple[_Room, _Camera, list[_Face], list[np.ndarray], random.Random]:
    rng = random.Random(seed)
    room = _Room(rng)
    camera = _camera(rng, room)
    faces, casters, day = _shell(room, rng), [], rng.random()
    for owner, item in enumerate(room.items, start=1):
        DRAW[item.kind](_Pen(item, owner, faces, casters, rng, day))
    return room, camera, faces, casters, rng


def _seen(k: int, item: _Item, owners: np.ndarray, camera: _Camera) -> SceneObject | None:
    """Description of item k from its visible pixels; None where nothing of it is in view."""
    width = owners.shape[1]
    rows, columns = np.nonzero(owners == k + 1)
    if not len(rows):
        return None
    scale = WIDTH // width
    box = (
        columns.min() * scale,
        rows.min() * scale,
        (columns.max() + 1) * scale,
        (rows.max() + 1) * scale,
    )
    corners = np.array(
        [
            (x, y, z)
            for x in (item.low[0], item.high[0])
            for y in (item.low[1], item.high[1])
            for z in (item.low[2], item.high[2])
        ]
    )
    seen = (corners - camera.eye) @ camera.axes.T
    px = seen[:, :2] / np.maximum(seen[:, 2:], 0.1) * camera.focal * WIDTH
    full = np.ptp(px[:, 0]) * np.ptp(px[:, 1])
    share = (box[2] - box[0]) * (box[3] - box[1]) / full
    area = len(rows) / owners.size
    small = item.kind in ("bottle", "books", "telephone", "clock")
    name = PUBLIC_NAME.get(item.kind, item.kind)
    clear = bool(share > 0.45 and area > (0.0007 if small else 0.002))
    low, high, box = tuple(map(float, item.low)), tuple(map(float, item.high)), tuple(map(int, box))
    drawers = item.kind in ("cabinet", "night_stand") and item.count >= 2 * _columns(item.size[0])
    return SceneObject(
        k,
        name,
        item.colour,
        KINDS[item.kind].material,
        item.count,
        drawers,
        item.support,
        item.carrier,
        low,
        high,
        box,
        area,
        clear,
    )


def _description(seed: int, built: tuple) -> Scene:
    room, camera, faces, _, _ = built
    frame = _raster(faces, camera, WIDTH // 2, coloured=False)
    owners = np.array([f.owner for f in faces] + [0])[frame.face]
    seen = (_seen(k, item, owners, camera) for k, item in enumerate(room.items))
    objects = tuple(o for o in seen if o is not None)
    return Scene(seed, room.kind, room.wall, room.floor, objects, _relations(objects))


def describe(seed: int) -> Scene:
    """The scene of a seed without its picture (several times faster than `draw`)."""
    return _description(seed, _build(seed))


def draw(scene: Scene) -> Image.Image:
    """The RGB picture (320x240) of a scene that `describe` gave."""
    room, camera, faces, casters, rng = _build(scene.seed)
    frame = _raster(faces, camera, 2 * WIDTH, coloured=True)
    return _finish(_light(frame, faces, camera, casters, room, rng), scene.seed, rng)


# -------------------------------------------------------------------------------- words
def words(name: str) -> str:
    """A name as written in a sentence: garbage_bin -> garbage bin."""
    return name.replace("_", " ")


def plural(name: str) -> str:
    """Several of a name: bookshelf -> bookshelves; books and blinds stay."""
    irregular = {"books": "books", "blinds": "blinds", "bookshelf": "bookshelves"}
    return words(irregular.get(name, name + "s"))


def counts(objects: Iterable[SceneObject]) -> dict[str, int]:
    """How many of each name there are, for the names whose objects are all clear."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for o in objects:
        groups[o.name].append(o.clear)
    return {name: len(clear) for name, clear in sorted(groups.items()) if all(clear)}


def _phrase(o: SceneObject) -> str:
    return (
        f"{o.colour} {words(o.name)}"
        if o.name in ("books", "blinds")
        else f"a {o.colour} {words(o.name)}"
    )


def captions(scene: Scene) -> list[str]:
    """Sorted phrases that are true of the picture: room, each clear object, numbers, relations."""
    room = f"an {scene.room}" if scene.room[0] in "aeiou" else f"a {scene.room}"
    clear = {o.index: o for o in scene.objects if o.clear}
    found = {f"{room} with {scene.wall_colour} walls"}
    found |= {f"{_phrase(o)} in {room}" for o in clear.values()}
    numbers = ("no", "one", "two", "three", "four", "five", "six", "seven")
    found |= {
        f"{numbers[n]} {plural(name)} in {room}"
        for name, n in counts(scene.objects).items()
        if 1 < n < len(numbers) and name not in ("books", "blinds")
    }
    for a, relation, b in scene.relations:
        if a in clear and b in clear:
            where = f"to the {relation}" if relation in ("left of", "right of") else relation
            found.add(f"{_phrase(clear[a])} {where} {_phrase(clear[b])}")
    return sorted(found)
