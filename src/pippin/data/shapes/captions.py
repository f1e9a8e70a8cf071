# SPDX-License-Identifier: Apache-2.0
"""Captions of scenes in three lengths, all of them true.

=======  =========================================================  ==========================
kind     states                                                     of one object, of two
=======  =========================================================  ==========================
short    colour and shape of every object                           ``red circle``
                                                                    ``red circle and blue star``
medium   the same, and the place of every object                    ``red circle at the top left``
long     colour, shape and size of every object, the background;
         of one object its place, of two how they lie
=======  =========================================================  ==========================

Every kind names every object, so that it states their number too.
"""

from collections.abc import Sequence

from pippin.data.shapes.scene import GRID, PLACES, Scene, Thing

KINDS = ("short", "medium", "long")


def captions_of(scene: Scene) -> dict[str, str]:
    """Each kind's caption; ``name`` is the short one."""
    short = _listed([_named(thing) for thing in scene.things])
    medium = _listed([f"{_named(thing)} {place_name(thing)}" for thing in scene.things])
    return {"name": short, "short": short, "medium": medium, "long": _long(scene)}


def stated_attributes(scene: Scene, kind: str) -> frozenset[str]:
    """What a scene's caption of a kind states: ``colour``, ``shape``, ``size`` and ``place`` of
    every object, ``relation``, ``background``; the number of objects always."""
    named = {"colour", "shape"}
    if kind == "medium":
        named |= {"place"}
    elif kind == "long":
        named |= {"size", "background"}
        named |= {1: {"place"}, 2: {"relation"}}.get(len(scene.things), set())
    return frozenset(named)


def place_name(thing: Thing) -> str:
    """The place in words, such as ``at the top left``."""
    return PLACES[thing.place // GRID][thing.place % GRID]


def _named(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _long(scene: Scene) -> str:
    """Such as ``on a white background, a large red circle to the left of a small blue star``."""
    things = [f"a {thing.size} {_named(thing)}" for thing in scene.things]
    if len(things) == 1:
        said = f"{things[0]} {place_name(scene.things[0])}"
    elif scene.relation is not None:
        aside = scene.relation in ("left of", "right of")
        said = f"{things[0]} {'to the ' if aside else ''}{scene.relation} {things[1]}"
    else:
        said = _listed(things)
    return f"on a {scene.background} background, {said}"


def _listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
