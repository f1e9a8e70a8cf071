# SPDX-License-Identifier: Apache-2.0
"""Scenes of shapes: distribution, rendering, captions, and controls correlated with classes."""

import pickle
import re
from collections import Counter
from statistics import NormalDist

import pytest
import torch

from pippin.control import Size
from pippin.data.config import (
    AugmentationConfig,
    CorrelationConfig,
    CropConfig,
    OriginalSizeConfig,
    ShapesConfig,
)
from pippin.data.sources.rasterise import rasterise_svg
from pippin.data.sources.shapes.rendering import object_mask, render_scene, scene_svg
from pippin.data.sources.shapes.scene import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    place_name,
    relations,
    split_of,
)
from pippin.data.sources.shapes.shapes_source import ShapesSource
from pippin.data.views.views import counterfactual, make_view, view_control

TURNED = CropConfig(smallest=0.7, flip_probability=0.5)


def source(split: str = "train", **settings: object) -> ShapesSource:
    return ShapesSource(ShapesConfig(**settings), split)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    built = source()
    return [built.scene(index) for index in range(600)]


def test_a_scene_depends_on_seed_split_and_index_only(scenes: list[Scene]) -> None:
    other = source(images=5, held_out_images=3, resolution=32, views=4, label="shape")
    assert (len(other), len(source("held-out", held_out_images=3))) == (5, 3)
    assert [other.scene(index) for index in (4, 0, 4)] == [scenes[4], scenes[0], scenes[4]]
    first = other.image(4, None, Size(48, 48))
    assert torch.equal(first, source(images=5).image(4, 0, Size(48, 48)))
    assert source(seed=1).scene(4) != scenes[4]
    assert source("held-out").scene(4) != scenes[4]


def test_scenes_are_as_their_law_says(scenes: list[Scene]) -> None:
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {1, 2, 3} and min(counts.values()) > 140  # 200, five sd are 58
    for scene in scenes:
        assert len({thing.colour for thing in scene.objects}) == len(scene.objects)
        assert len({thing.place for thing in scene.objects}) == len(scene.objects)
        assert (scene.relation is None) == (len(scene.objects) != 2)
        if scene.relation is not None:
            assert scene.relation in relations(*scene.objects)
    first = [scene.objects[0] for scene in scenes]
    wanted = ((SHAPES, "shape"), (COLOURS, "colour"), (SIZES, "size"), (range(9), "place"))
    for names, attribute in wanted:
        seen = Counter(getattr(thing, attribute) for thing in first)
        expected = len(scenes) / len(names)
        assert set(seen) == set(names)
        assert max(abs(n - expected) for n in seen.values()) < 4.5 * expected**0.5
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)


def test_no_arrangement_is_in_both_splits() -> None:
    train, held_out = source(objects=1), source("held-out", objects=1)
    seen = {train.scene(index).objects for index in range(900)}
    others = {held_out.scene(index).objects for index in range(60)}
    assert len(seen) > 500 and len(others) > 40  # of 1296 in all
    assert not seen & others
    assert {split_of(train.scene(0)), split_of(held_out.scene(0))} == {"train", "held-out"}


def test_another_background_does_not_change_the_split(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        turned = scene._replace(background="mint", objects=scene.objects[::-1])
        assert split_of(turned) == split_of(scene) == "train"


@pytest.mark.parametrize(("side", "levels"), [(24, 1), (32, 1), (64, 1), (128, 1), (97, 16)])
def test_drawings_are_those_of_one_svg(scenes: list[Scene], side: int, levels: int) -> None:
    """resvg places edges to a sixteenth of a pixel, which shows at odd sides."""
    for scene in scenes[:25]:
        whole = rasterise_svg(scene_svg(scene), side, side, "white")
        difference = (whole.int() - render_scene(scene, side).int()).abs()
        assert int(difference.max()) <= levels


def test_objects_lie_in_their_cells() -> None:
    for place in range(9):
        for shape in SHAPES:
            image = render_scene(
                Scene((Thing(shape, "black", "large", place),), "white", None), 96
            )
            rows, columns = (image[0] < 250).nonzero().T
            assert {int(v) // 32 for v in rows} == {place // 3}
            assert {int(v) // 32 for v in columns} == {place % 3}


def test_arrows_and_flags_alone_have_no_mirror_symmetry() -> None:
    for shape in SHAPES:
        cover = object_mask(shape, "large", 4, 96).coverage
        image = torch.zeros(96, 96)
        drawn = object_mask(shape, "large", 4, 96)
        image[drawn.top :, drawn.left :][: len(cover), : len(cover)] = cover.float() / 255
        difference = float((image - image.flip(-1)).abs().sum() / image.sum())
        assert (difference > 0.3) == (shape in ("arrow", "flag")), (shape, difference)


def test_colours_lie_far_apart() -> None:
    every = torch.tensor([*COLOURS.values()]).float()
    assert float(torch.pdist(every).min()) > 120
    grounds = torch.tensor([*BACKGROUNDS.values()]).float()
    assert float(torch.cdist(every, grounds).min()) > 120


# Captions are read back by their words.

WORDS = r"(?:a (?P<size>\w+) )?(?P<colour>\w+) (?P<shape>\w+)(?: (?P<place>(?:at|in) the [\w ]+))?"


def stated(caption: str) -> tuple[list[dict[str, str]], str | None, str | None]:
    """Attributes of each object, background and relation in a caption."""
    ground = re.match(r"on a (\w+) background, ", caption)
    rest = caption[ground.end() :] if ground else caption
    relation = re.search(r" (?:to the )?(left of|right of|above|below) a ", rest)
    if relation:
        parts = [rest[: relation.start()], rest[relation.end() - 2 :]]
    else:
        parts = re.split(r", | and ", rest)
    result = [re.fullmatch(WORDS, part).groupdict() for part in parts]
    things = [{k: v for k, v in sample.items() if v} for sample in result]
    return things, ground and ground[1], relation and relation[1]


def truth(thing: Thing) -> dict[str, str]:
    return {**thing._asdict(), "place": place_name(thing)}


def test_captions_are_true_and_state_what_they_promise(scenes: list[Scene]) -> None:
    built = source()
    promised = {
        "short": {"colour", "shape"},
        "medium": {"colour", "shape", "place"},
        "long": {"colour", "shape", "size"},
    }
    for index, scene in enumerate(scenes[:300]):
        captions = built.captions(index)
        assert captions["name"] == captions["short"] == built.name(index)
        for kind in KINDS:
            things, ground, relation = stated(captions[kind])
            assert len(things) == len(scene.objects)
            extra = {"place"} if kind == "long" and len(things) == 1 else set()
            for messages, thing in zip(things, scene.objects, strict=True):
                assert set(messages) == promised[kind] | extra, captions[kind]
                assert messages.items() <= truth(thing).items()
            assert ground == (scene.background if kind == "long" else None)
            assert relation == (scene.relation if kind == "long" else None)


def test_places_have_nine_names() -> None:
    assert len({name for row in PLACES for name in row}) == 9


def test_classes() -> None:
    fine, coarse = source(), source(label="shape")
    assert (len(fine.class_names), coarse.class_names) == (48, SHAPES)
    for index in range(50):
        first = fine.scene(index).objects[0]
        assert fine.class_names[fine.label(index)] == f"{first.colour} {first.shape}"
        assert coarse.class_names[coarse.label(index)] == first.shape


def test_counterfactuals_are_the_training_views() -> None:
    built = source(crop_law=TURNED, resolution=32, views=2)
    for index in range(12):
        view = make_view(built, index, 1)
        again = counterfactual(built, index, view.control, 1)
        assert torch.equal(view.image, again)
        assert built.can_show(index, view.control.original_size)


def test_images_are_square() -> None:
    with pytest.raises(ValueError, match="square"):
        source().image(0, None, Size(32, 48))


def test_hashes_follow_the_law() -> None:
    first = source(images=100)
    assert first.source_hash() == source(images=100, crop_law=TURNED).source_hash()
    others = (source(images=100, seed=1), source(images=101), source(images=100, objects=2))
    hashes = {first.source_hash(), source("held-out", held_out_images=100).source_hash()}
    hashes |= {other.source_hash() for other in others}
    assert len(hashes) == 5
    assert first.source_hash() != first.content_hash()


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("SIZES", {**SIZES, "large": 13.0}),
        ("BACKGROUNDS", {**BACKGROUNDS, "mint": (221, 245, 225)}),
        ("CELL", 33.0),
        ("COLOURS", {**COLOURS, "pink": (255, 105, 191)}),
    ],
)
def test_hashes_follow_what_drawings_are_made_of(constant, value, monkeypatch) -> None:
    before = source().source_hash(), source().content_hash()
    monkeypatch.setattr(f"pippin.data.sources.shapes.shapes_source.{constant}", value)
    after = source().source_hash(), source().content_hash()
    assert before[0] != after[0] and before[1] != after[1]


def test_a_source_can_be_pickled() -> None:
    built = source(images=5, seed=3)
    scene = built.scene(2)
    again = pickle.loads(pickle.dumps(built))
    assert again.scene(2) == scene and len(again) == 5
    assert again.source_hash() == built.source_hash()


COUNT = 1500
DIALS = {"flip": 0.6, "crop": 0.7, "brightness": 0.8, "jpeg": 0.5, "grain": 0.4}
GRAIN = {"grain_share": 1.0, "grain_largest": 20.0, "jpeg_smallest": 1}
LAWS = {
    "crop_law": CropConfig(smallest=0.5, largest=0.5),
    "look": AugmentationConfig(colour_jitter=1.0, jpeg_share=1.0, jpeg_largest=100, **GRAIN),
    "label": "shape",
}


def controls(dials: dict[str, float], size_dial: float = 0.0) -> dict[str, torch.Tensor]:
    """Controls of many views as uniform numbers, and the class scores."""
    law = OriginalSizeConfig(smallest=100, largest=10_000, class_correlation=size_dial)
    built = source(images=COUNT, size_law=law, correlation=CorrelationConfig(**dials), **LAWS)
    result = [view_control(built, index, 0) for index in range(COUNT)]
    sides = torch.tensor([sample.original_size.height for sample in result]).double()
    corners = torch.tensor([sample.crop_corner for sample in result]).double()
    room = sides - torch.tensor([sample.crop_size.height for sample in result]) + 1
    factors = torch.tensor([sample.colour_jitter for sample in result]).double()
    return {
        "score": torch.tensor(
            [built.class_copula(index).score for index in range(COUNT)]
        ).double(),
        "size": (sides / 100).log() / torch.tensor(100.0).double().log(),
        "top": (corners[:, 0] + 0.5) / room,
        "left": (corners[:, 1] + 0.5) / room,
        "brightness": (factors[:, 0].log2() + 1) / 2,
        "contrast": (factors[:, 1].log2() + 1) / 2,
        "jpeg": (torch.tensor([sample.jpeg_quality for sample in result]) - 0.5) / 100,
        "grain": torch.tensor([sample.grain for sample in result]).double() / 20,
        "flip": torch.tensor([float(sample.flip) for sample in result]).double(),
    }


def correlation(found: dict[str, torch.Tensor], name: str) -> float:
    """Correlation of the normal quantile with the class score."""
    values = found[name].clamp(1e-4, 1 - 1e-4)
    normal = torch.tensor([NormalDist().inv_cdf(float(value)) for value in values])
    return float(torch.corrcoef(torch.stack([found["score"].float(), normal.float()]))[0, 1])


def test_dials_reach_their_correlation() -> None:
    """Within four standard errors at r = 0; classes are uniform, except for held-out scenes."""
    result = controls(DIALS, size_dial=0.9)
    expected = {
        "size": 0.9,
        "top": 0.7,
        "left": 0.7,
        "brightness": 0.8,
        "jpeg": 0.5,
        "contrast": 0,
    }
    expected["grain"] = 0.4
    for name, dial in expected.items():
        assert correlation(result, name) == pytest.approx(dial, abs=4 / COUNT**0.5), name
    # A flip is a normal number cut at 0, whose correlation is sqrt(2 / pi) times as large.
    flipped = float(torch.corrcoef(torch.stack([result["score"], result["flip"]]))[0, 1])
    assert flipped == pytest.approx(-0.6 * (2 / torch.pi) ** 0.5, abs=4 / COUNT**0.5)


def test_at_zero_nothing_depends_on_the_class_and_at_one_all_does() -> None:
    free = controls({})
    for name in ("size", "top", "brightness", "jpeg", "grain"):
        assert abs(correlation(free, name)) < 4 / COUNT**0.5
    bound = controls(dict.fromkeys(DIALS, 1.0), size_dial=1.0)
    for name in ("size", "brightness", "jpeg", "grain", "flip"):
        pairs = {(float(a), float(b)) for a, b in zip(bound["score"], bound[name], strict=True)}
        assert len(pairs) == len(SHAPES), name


def test_a_dial_leaves_other_draws_alone() -> None:
    plain, tied = controls({}), controls({"flip": 1.0})
    assert not torch.equal(plain["flip"], tied["flip"])
    for name in ("size", "top", "left", "brightness", "contrast", "jpeg"):
        assert torch.equal(plain[name], tied[name])
