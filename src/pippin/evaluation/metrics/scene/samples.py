# SPDX-License-Identifier: Apache-2.0
"""Reader's vocabulary of shapes, and the statements of their captions and classes."""

from functools import cache
from typing import Literal

from pippin.data.sources.shapes.rendering import render_scene
from pippin.data.sources.shapes.scene import (
    BACKGROUNDS,
    COLOURS,
    GRID,
    MIRRORABLE,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    Thing,
    stated_attributes,
)
from pippin.data.sources.shapes.shapes_source import CLEAN_SIZE
from pippin.data.views.crop import apply_control, whole_image
from pippin.evaluation.metrics.scene.reader import (
    Coverage,
    ObjectRendering,
    Vocabulary,
)
from pippin.evaluation.metrics.scene.score import StatedObject, Statement


@cache
def vocabulary_of(side: int) -> Vocabulary:
    """Vocabulary of a reader of ``side`` pixel images: the objects as clean views show them."""
    renderings: list[ObjectRendering] = []
    for shape in SHAPES:
        for size in SIZES:
            for place in range(GRID**2):
                renderings += _renderings(Thing(shape, "black", size, place), side)
    return Vocabulary(
        side=side,
        grid=GRID,
        colours=COLOURS,
        backgrounds=BACKGROUNDS,
        renderings=tuple(renderings),
    )


def _renderings(thing: Thing, side: int) -> list[ObjectRendering]:
    """An object as it is and, where that differs, mirrored."""
    scene = Scene(objects=(thing,), background="white", relation=None)
    image = apply_control(render_scene(scene, CLEAN_SIZE.height), whole_image(CLEAN_SIZE), side)
    dark, light = COLOURS["black"][0], BACKGROUNDS["white"][0]
    coverage: Coverage = ((light - image[0].double()) / (light - dark)).clamp(0, 1).numpy()
    x, y = (v * side / SIDE for v in thing.centre)
    plain = ObjectRendering(
        shape=thing.shape, size=thing.size, mirrored=False, centre=(x, y), coverage=coverage
    )
    if thing.shape not in MIRRORABLE:
        return [plain]
    mirrored = ObjectRendering(
        shape=thing.shape,
        size=thing.size,
        mirrored=True,
        centre=(side - x, y),
        coverage=coverage[:, ::-1].copy(),
    )
    return [plain, mirrored]


def statement_of(scene: Scene, kind: str) -> Statement:
    """The statement of a scene's caption of a kind."""
    stated = stated_attributes(scene, kind)
    things = tuple(
        StatedObject(**{n: v for n, v in thing._asdict().items() if n in stated})
        for thing in scene.objects
    )
    return Statement(
        objects=things,
        relation=scene.relation if "relation" in stated else None,
        background=scene.background if "background" in stated else None,
    )


def class_statement(scene: Scene, label: Literal["shape", "shape-colour"]) -> Statement:
    """The statement of a scene's class: nothing about the number of objects."""
    first = scene.objects[0]
    colour = first.colour if label == "shape-colour" else None
    return Statement(objects=(StatedObject(shape=first.shape, colour=colour),), counts=False)
