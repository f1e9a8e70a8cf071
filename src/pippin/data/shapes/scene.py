# SPDX-License-Identifier: Apache-2.0
"""Scenes of coloured shapes, and the law that draws them.

A scene has one to three objects on the places of a 3 x 3 grid, so that none covers another. All
its objects differ in colour, which therefore names an object. Arrows and flags have no mirror
symmetry and are always drawn one way round: a mirrored one shows that the image was flipped.

An arrangement, the set of a scene's objects, belongs to one split by the hash of its description.
Backgrounds do not count: a held-out scene is no training scene on other paper.
"""

from typing import NamedTuple

from pippin.data.split import fraction
from pippin.data.table import Split
from pippin.rng import uniform

RGB = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "arrow", "flag")
MIRRORABLE = ("arrow", "flag")
"""Shapes that differ from their mirror image."""
COLOURS: dict[str, RGB] = {
    "red": (220, 20, 30),
    "yellow": (250, 215, 0),
    "green": (0, 150, 50),
    "cyan": (0, 200, 220),
    "blue": (20, 50, 220),
    "purple": (150, 40, 160),
    "pink": (255, 105, 190),
    "black": (20, 20, 20),
}
"""Names and colours; the two nearest lie 127 apart in RGB."""
BACKGROUNDS: dict[str, RGB] = {
    "white": (255, 255, 255),
    "grey": (225, 225, 225),
    "beige": (250, 240, 215),
    "mint": (220, 245, 225),
}
SIZES: dict[str, float] = {"small": 7.5, "medium": 10.5, "large": 14.0}
"""Half of an object's extent, in units of the scene."""
PLACES = (
    ("at the top left", "at the top centre", "at the top right"),
    ("at the centre left", "in the centre", "at the centre right"),
    ("at the bottom left", "at the bottom centre", "at the bottom right"),
)
GRID = len(PLACES)
CELL = 32.0
SIDE = GRID * CELL
"""Of a scene, in its own units."""
HELD_OUT_SHARE = 0.1
"""Expected share of the arrangements that are held out."""


class Thing(NamedTuple):
    """One object of a scene."""

    shape: str
    colour: str
    size: str
    place: int
    """Row by row, from the top left."""

    @property
    def row(self) -> int:
        """From the top."""
        return self.place // GRID

    @property
    def column(self) -> int:
        """From the left."""
        return self.place % GRID

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in units of the scene."""
        return (self.column + 0.5) * CELL, (self.row + 0.5) * CELL

    @property
    def radius(self) -> float:
        """Half of the extent, in units of the scene."""
        return SIZES[self.size]


class Scene(NamedTuple):
    """What an image shows."""

    things: tuple[Thing, ...]
    background: str
    relation: str | None
    """How the first object lies to the second: ``left of``, ``right of``, ``above``, ``below``;
    None unless there are two objects."""


def draw_scene(split: Split, seed: int, key: str, objects: int) -> Scene:
    """The scene of a key: drawn until its arrangement belongs to the split.

    Number of objects, shapes, colours, sizes, places, background and, where two relations hold,
    which of them is stated: each is uniform, but for what the split leaves out.

    Args:
        split: whose arrangements.
        seed: of the data set.
        key: of the scene in random streams.
        objects: most objects in a scene.
    """
    attempt = 0
    while True:
        draws = uniform(
            (2 + GRID**2 + len(COLOURS) + 2 * objects + 1,), "scene", seed, key, attempt
        )
        scene = _scene(draws.tolist(), objects)
        if split_of(scene) == split:
            return scene
        attempt += 1


def split_of(scene: Scene) -> Split:
    """The split that an arrangement belongs to."""
    arrangement = " + ".join(sorted(" ".join(map(str, thing)) for thing in scene.things))
    return "held-out" if fraction(f"shapes/{arrangement}") < HELD_OUT_SHARE else "train"


def relations(first: Thing, second: Thing) -> tuple[str, ...]:
    """All that hold between the centres of two objects: one or two of four."""
    found = []
    if first.column != second.column:
        found.append("left of" if first.column < second.column else "right of")
    if first.row != second.row:
        found.append("above" if first.row < second.row else "below")
    return tuple(found)


def _scene(draws: list[float], objects: int) -> Scene:
    """From uniform numbers."""
    numbers = iter(draws)
    count = 1 + int(next(numbers) * objects)
    background = _pick(tuple(BACKGROUNDS), next(numbers))
    places = _order([next(numbers) for _ in range(GRID**2)])
    colours = _order([next(numbers) for _ in COLOURS])
    names = tuple(COLOURS)
    things = tuple(
        Thing(
            shape=_pick(SHAPES, next(numbers)),
            colour=names[colours[k]],
            size=_pick(tuple(SIZES), next(numbers)),
            place=places[k],
        )
        for k in range(count)
    )
    relation = _pick(relations(*things), draws[-1]) if count == 2 else None
    return Scene(things=things, background=background, relation=relation)


def _pick(options: tuple[str, ...], share: float) -> str:
    return options[int(share * len(options))]


def _order(keys: list[float]) -> list[int]:
    """A uniform permutation: the ranks of uniform numbers."""
    return sorted(range(len(keys)), key=keys.__getitem__)
