# SPDX-License-Identifier: Apache-2.0
"""The reader's own error on real images, and what it must not take for right."""

from collections import Counter
from functools import cache

import pytest
import torch
from torch.nn.functional import interpolate

from pippin.config import ConfigError
from pippin.data.config import ShapesConfig
from pippin.data.sources.shapes.scene import COLOURS, MIRRORABLE, SHAPES
from pippin.data.sources.shapes.shapes_source import ShapesSource
from pippin.data.views.views import clean_view
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.normalisation import to_pixels
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.metrics.scene.reader import Reading, SceneReader
from pippin.evaluation.metrics.scene.samples import class_statement, statement_of, vocabulary_of
from pippin.evaluation.metrics.scene.score import agreement
from pippin.recipes.checks import check_recipe
from pippin.recipes.table import get_recipe
from pippin.types import Images

COUNTS = {32: 80, 64: 50, 128: 12}


@cache
def reader(side: int) -> SceneReader:
    return SceneReader(vocabulary_of(side))


@cache
def scenes(side: int, count: int) -> tuple[ShapesSource, Images]:
    source = ShapesSource(ShapesConfig(resolution=side), "held-out")
    return source, torch.stack([clean_view(source, index).image for index in range(count)])


def accuracies(source: ShapesSource, readings: list[Reading]) -> dict[str, float]:
    """Accuracy of everything that medium and long captions state."""
    right, stated = Counter(), Counter()
    for index, reading in enumerate(readings):
        for kind in ("medium", "long"):
            for name, holds in agreement(reading, statement_of(source.scene(index), kind)).items():
                right[name] += holds
                stated[name] += 1
    return {name: right[name] / stated[name] for name in stated}


def square_on(background: tuple[int, int, int], colour: tuple[int, int, int]) -> Images:
    """Image of a square in the centre."""
    image = torch.tensor(background, dtype=torch.uint8)[:, None, None].repeat(1, 64, 64)
    image[:, 22:42, 22:42] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return image[None]


@pytest.mark.parametrize("background", COLOURS)
def test_objects_on_a_background_of_a_palette_colour_are_seen(background):
    colour = "red" if background != "red" else "black"
    (reading,) = reader(64).read([square_on(COLOURS[background], COLOURS[colour])])
    (square,) = reading.objects
    assert (square.colour, square.shape, square.place) == (colour, "square", 4)


@pytest.mark.parametrize(
    ("background", "name"),
    [((120, 120, 120), None), ((20, 50, 220), None), ((215, 225, 235), "grey")],
)
def test_a_background_has_the_name_of_a_colour_near_it(background, name):
    (reading,) = reader(64).read([square_on(background, COLOURS["red"])])
    assert reading.background == name
    assert [thing.colour for thing in reading.objects] == ["red"]


@pytest.mark.parametrize("side", COUNTS)
def test_real_images_are_read_without_error(side):
    source, images = scenes(side, COUNTS[side])
    readings = reader(side).read([images])
    assert set(accuracies(source, readings).values()) == {1.0}
    things = [thing for reading in readings for thing in reading.objects]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert not any(thing.mirrored for thing in things)
    assert max(thing.displacement for thing in things) < 0.03
    assert max(abs(thing.softness) for thing in things) < 0.2
    assert min(thing.similarity for thing in things) > 0.85


@pytest.mark.parametrize("side", [32, 64])
def test_mirrored_images_are_known_by_their_arrows_and_flags(side):
    source, images = scenes(side, 40)
    for index, reading in enumerate(reader(side).read([images.flip(-1)])):
        turned = {thing.colour: thing for thing in reading.objects}
        for thing in source.scene(index).objects:
            found = turned[thing.colour]
            assert (found.shape, found.mirrored) == (thing.shape, thing.shape in MIRRORABLE)
            assert found.place == 3 * thing.row + 2 - thing.column


def test_autoencoded_images_are_the_ceiling():
    """At 64 pixels; of 300 scenes 98 % are read without any error."""
    source, images = scenes(64, 24)
    autoencoder = Autoencoder.load(AutoencoderConfig(source="pippin/shapes-f4"), device="cpu")
    moments = autoencoder.encode(to_pixels(images))
    decoded = autoencoder.decode(autoencoder.normalise(moments.mean))
    error = (images.float() - decoded.float()).square().mean((1, 2, 3))
    assert float((10 * torch.log10(255**2 / error)).mean()) > 34  # dB
    assert min(accuracies(source, reader(64).read([decoded])).values()) > 0.9


@pytest.mark.parametrize("side", [32, 64])
def test_images_without_a_scene_are_never_right(side):
    source, images = scenes(side, 20)
    draws = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, images.shape, generator=draws, dtype=torch.uint8)
    ramp = torch.linspace(0, 255, side).to(torch.uint8).expand(20, 3, side, side)
    blank = torch.full_like(images, 255)
    for wrong in (noise, ramp, blank):
        readings = reader(side).read([wrong])
        assert accuracies(source, readings)["all"] == 0
        assert not any(reading.objects for reading in readings)


def test_images_of_other_scenes_are_rarely_right():
    source, images = scenes(64, 40)
    found = accuracies(source, reader(64).read([images.roll(1, dims=0)]))
    assert found["all"] == 0 and found["colour"] < 0.3 and found["place"] < 0.3


def test_displacement_is_measured():
    source, images = scenes(64, 20)
    scenes_inside = [i for i in range(20) if all(t.column < 2 for t in source.scene(i).objects)]
    assert len(scenes_inside) >= 5  # objects of the others leave the image
    moved = images[scenes_inside].roll(4, dims=-1)
    for index, reading in zip(scenes_inside, reader(64).read([moved]), strict=True):
        assert reading.background == source.scene(index).background
        assert len(reading.objects) == len(source.scene(index).objects)
        for thing in reading.objects:
            assert thing.displacement == pytest.approx(4 / (64 / 3), abs=0.02)


def test_softness_is_measured():
    _, images = scenes(64, 12)
    small = interpolate(images.float(), size=(24, 24), mode="bicubic", antialias=True)
    blurred = interpolate(small, size=(64, 64), mode="bicubic").round().clamp(0, 255)
    sharp, soft = (reader(64).read([one]) for one in (images, blurred.to(torch.uint8)))
    for first, second in zip(sharp, soft, strict=True):
        for one, other in zip(first.objects, second.objects, strict=True):
            assert other.softness > one.softness + 0.3


def test_another_side_is_refused():
    with pytest.raises(ValueError, match="64 x 64 pixels"):
        reader(64).read([torch.zeros(1, 3, 32, 32, dtype=torch.uint8)])


def test_classes_state_colour_and_shape_alone():
    source = ShapesSource(ShapesConfig(objects=1), "held-out")
    scene = source.scene(0)
    assert class_statement(scene, "shape-colour").attributes == ("colour", "shape")
    assert class_statement(scene, "shape").attributes == ("shape",)


def test_captions_state_what_they_promise():
    source = ShapesSource(ShapesConfig(), "train")
    for scene in map(source.scene, range(30)):
        stated = {kind: statement_of(scene, kind).attributes for kind in ("short", "medium")}
        assert stated == {
            "short": ("colour", "shape", "count"),
            "medium": ("colour", "shape", "place", "count"),
        }
        extra = {1: "place", 2: "relation"}.get(len(scene.objects))
        long = {"colour", "shape", "size", "count", "background", extra} - {None}
        assert set(statement_of(scene, "long").attributes) == long


def test_scenes_are_read_of_shapes_alone():
    emoji = get_recipe("openmoji/dit-disentangled")
    wanted = EvaluationConfig(parts=("held-out", "scene"))
    with pytest.raises(ConfigError, match=r"data\.kind shapes"):
        check_recipe(emoji.__class__(**{**vars(emoji), "evaluation": wanted}))
    assert "scene" not in EvaluationConfig().parts
    shapes = get_recipe("shapes/dit-disentangled")
    check_recipe(shapes.__class__(**{**vars(shapes), "evaluation": wanted}))


@pytest.mark.parametrize("kinds", [(), ("short", "short")])
def test_kinds_of_captions_stand_once(kinds):
    with pytest.raises(ConfigError, match="scene_captions"):
        EvaluationConfig(scene_captions=kinds)
