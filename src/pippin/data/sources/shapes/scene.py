# SPDX-License-Identifier: Apache-2.0
"""Scenes of coloured shapes: distribution, and captions in three lengths.

A scene has one to three objects in the cells of a 3 x 3 grid, so objects do not overlap. All
objects differ in colour, so the colour identifies an object. Arrows and flags have no mirror
symmetry and a fixed orientation: a mirrored one reveals that the image was flipped.

An arrangement, the set of a scene's objects, belongs to one split by the hash of its description.
Backgrounds are not part of it: a held-out scene is never a training scene on another background.

All captions of a scene are correct, and every kind names every object, so it also states the
number of objects.

=======  =========================================================  ==========================
kind     content                                                    one object, two objects
=======  =========================================================  ==========================
short    colour and shape of every object                           ``red circle``
                                                                    ``red circle and blue star``
medium   also the position of every object                          ``red circle at the top left``
long     colour, shape and size of every object, the background;
         the position of one object, the relation of two
=======  =========================================================  ==========================
"""

from collections.abc import Sequence
from typing import NamedTuple

from pippin.data.source import hash_fraction
from pippin.data.sources.openmoji_table import Split
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
"""Name -> RGB; the smallest distance between two colours is 127."""
BACKGROUNDS: dict[str, RGB] = {
    "white": (255, 255, 255),
    "grey": (225, 225, 225),
    "beige": (250, 240, 215),
    "mint": (220, 245, 225),
}
SIZES: dict[str, float] = {"small": 7.5, "medium": 10.5, "large": 14.0}
"""Half of an object's extent, in scene units."""
PLACES = (
    ("at the top left", "at the top centre", "at the top right"),
    ("at the centre left", "in the centre", "at the centre right"),
    ("at the bottom left", "at the bottom centre", "at the bottom right"),
)
GRID = len(PLACES)
CELL = 32.0
SIDE = GRID * CELL
"""Side of a scene, in scene units."""
HELD_OUT_SHARE = 0.1
"""Expected share of held-out arrangements."""


class Thing(NamedTuple):
    """Object of a scene."""

    shape: str
    colour: str
    size: str
    place: int
    """Index of the grid cell, row by row from the top left."""

    @property
    def row(self) -> int:
        """Grid row, from the top."""
        return self.place // GRID

    @property
    def column(self) -> int:
        """Grid column, from the left."""
        return self.place % GRID

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the centre, in scene units."""
        return (self.column + 0.5) * CELL, (self.row + 0.5) * CELL

    @property
    def radius(self) -> float:
        """Half of the extent, in scene units."""
        return SIZES[self.size]


class Scene(NamedTuple):
    """Content of an image."""

    objects: tuple[Thing, ...]
    background: str
    relation: str | None
    """Relation of the first object to the second: ``left of``, ``right of``, ``above``, ``below``;
    None unless there are two objects."""


def draw_scene(split: Split, seed: int, key: str, objects: int) -> Scene:
    """Sample the scene of a key, by rejection until its arrangement belongs to the split.

    Number of objects, shapes, colours, sizes, cells, background and the stated relation (if two
    hold) are uniform, except for rejected arrangements.

    Args:
        split: split of the arrangement.
        seed: seed of the data set.
        key: key of the scene in random streams.
        objects: maximum number of objects.
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
    """Split of a scene's arrangement."""
    arrangement = " + ".join(sorted(" ".join(map(str, item)) for item in scene.objects))
    return "held-out" if hash_fraction(f"shapes/{arrangement}") < HELD_OUT_SHARE else "train"


def relations(first: Thing, second: Thing) -> tuple[str, ...]:
    """All relations between the centres of two objects: one or two of four."""
    names = []
    if first.column != second.column:
        names.append("left of" if first.column < second.column else "right of")
    if first.row != second.row:
        names.append("above" if first.row < second.row else "below")
    return tuple(names)


def _scene(draws: list[float], objects: int) -> Scene:
    """Scene from uniform numbers."""
    numbers = iter(draws)
    count = 1 + int(next(numbers) * objects)
    background = _pick(tuple(BACKGROUNDS), next(numbers))
    places = _permutation([next(numbers) for _ in range(GRID**2)])
    colours = _permutation([next(numbers) for _ in COLOURS])
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
    return Scene(objects=things, background=background, relation=relation)


def _pick(options: tuple[str, ...], share: float) -> str:
    return options[int(share * len(options))]


def _permutation(keys: list[float]) -> list[int]:
    """Uniform permutation: the ranks of uniform numbers."""
    return sorted(range(len(keys)), key=keys.__getitem__)


KINDS = ("short", "medium", "long")


def captions_of(scene: Scene) -> dict[str, str]:
    """Caption of each kind; ``name`` is the short one."""
    short = _listed([_colour_and_shape(item) for item in scene.objects])
    medium = _listed([f"{_colour_and_shape(item)} {place_name(item)}" for item in scene.objects])
    return {"name": short, "short": short, "medium": medium, "long": _long(scene)}


def stated_attributes(scene: Scene, kind: str) -> frozenset[str]:
    """Attributes that a scene's caption of a kind states: ``colour``, ``shape``, ``size`` and
    ``place`` of every object, ``relation``, ``background``. The number of objects is always
    stated."""
    named = {"colour", "shape"}
    if kind == "medium":
        named |= {"place"}
    elif kind == "long":
        named |= {"size", "background"}
        named |= {1: {"place"}, 2: {"relation"}}.get(len(scene.objects), set())
    return frozenset(named)


def place_name(item: Thing) -> str:
    """Position in words, such as ``at the top left``."""
    return PLACES[item.place // GRID][item.place % GRID]


def _colour_and_shape(item: Thing) -> str:
    return f"{item.colour} {item.shape}"


def _long(scene: Scene) -> str:
    """Long caption: ``on a white background, a large red circle to the left of a small blue
    star``."""
    descriptions = [f"a {item.size} {_colour_and_shape(item)}" for item in scene.objects]
    if len(descriptions) == 1:
        text = f"{descriptions[0]} {place_name(scene.objects[0])}"
    elif scene.relation is not None:
        aside = scene.relation in ("left of", "right of")
        text = f"{descriptions[0]} {'to the ' if aside else ''}{scene.relation} {descriptions[1]}"
    else:
        text = _listed(descriptions)
    return f"on a {scene.background} background, {text}"


def _listed(parts: Sequence[str]) -> str:
    """Join names: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
