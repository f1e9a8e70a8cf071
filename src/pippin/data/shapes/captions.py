# SPDX-License-Identifier: Apache-2.0
"""Captions of scenes in three lengths, all correct.

=======  =========================================================  ==========================
kind     content                                                    one object, two objects
=======  =========================================================  ==========================
short    colour and shape of every object                           ``red circle``
                                                                    ``red circle and blue star``
medium   also the position of every object                          ``red circle at the top left``
long     colour, shape and size of every object, the background;
         the position of one object, the relation of two
=======  =========================================================  ==========================

Every kind names every object, so it also states the number of objects.
"""

from collections.abc import Sequence

from pippin.data.shapes.scene import GRID, PLACES, Scene, Thing

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
