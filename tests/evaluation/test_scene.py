# SPDX-License-Identifier: Apache-2.0
"""Agreement of readings with statements, and accuracies from them."""

from itertools import permutations
from random import Random

import pytest
import torch

from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.scene import score
from pippin.evaluation.metrics.scene.reader import DetectedObject, Reading
from pippin.evaluation.metrics.scene.score import (
    StatedObject,
    Statement,
    accuracy_measures,
    agreement,
)
from pippin.evaluation.proportion import wilson_interval

PLACES = [(1 / 6, 1 / 6), (1 / 2, 1 / 6), (5 / 6, 1 / 6), (1 / 6, 1 / 2), (1 / 2, 1 / 2)]


def read(*things: tuple[str, str, str, int], background: str = "white") -> Reading:
    return Reading(background=background, objects=tuple(read_object(*thing) for thing in things))


def read_object(colour, shape, size, place, mirrored=False):
    return DetectedObject(
        colour=colour,
        shape=shape,
        size=size,
        place=place,
        mirrored=mirrored,
        centre=PLACES[place],
        displacement=0.0,
        similarity=1.0,
        softness=0.0,
    )


def statement(*things: tuple[str, str, str | None, int | None], **more: object) -> Statement:
    names = ("colour", "shape", "size", "place")
    objects = tuple(StatedObject(**dict(zip(names, thing, strict=True))) for thing in things)
    return Statement(objects=objects, **more)


CIRCLE, STAR = ("red", "circle", "small", 0), ("blue", "star", "large", 4)


def test_a_scene_agrees_with_what_is_true_of_it_in_any_order():
    result = agreement(
        read(STAR, CIRCLE), statement(CIRCLE, STAR, relation="above", background="white")
    )
    names = ("colour", "shape", "size", "place", "count", "relation", "background", "all")
    assert result == dict.fromkeys(names, True)
    assert tuple(result) == names


def test_what_is_not_stated_is_not_judged():
    result = agreement(read(CIRCLE), statement(("red", "circle", None, None), counts=False))
    assert result == {"colour": True, "shape": True, "all": True}


@pytest.mark.parametrize(
    ("attribute", "thing"),
    [
        ("colour", ("green", "circle", "small", 0)),
        ("shape", ("red", "flag", "small", 0)),
        ("size", ("red", "circle", "large", 0)),
        ("place", ("red", "circle", "small", 3)),
    ],
)
def test_one_wrong_attribute_is_the_only_one(attribute, thing):
    result = agreement(read(thing, STAR), statement(CIRCLE, STAR))
    assert {name for name, right in result.items() if not right} == {attribute, "all"}


def test_attributes_of_the_other_object_do_not_count():
    """A red star and a blue circle are not a red circle and a blue star."""
    swapped = read(("red", "star", "small", 0), ("blue", "circle", "small", 4))
    result = agreement(
        swapped, statement(("red", "circle", None, None), ("blue", "star", None, None))
    )
    assert result["colour"] != result["shape"] and result["count"] and not result["all"]


def test_more_objects_make_the_number_wrong_and_fewer_everything():
    more = agreement(read(CIRCLE, STAR), statement(CIRCLE))
    assert {name for name, right in more.items() if not right} == {"count", "all"}
    fewer = agreement(read(CIRCLE), statement(CIRCLE, STAR, relation="above"))
    assert not any(fewer.values())


def test_nothing_agrees_with_an_empty_image():
    for background in (None, "white"):
        empty = Reading(background=background, objects=())
        result = agreement(empty, statement(CIRCLE, STAR, relation="above"))
        assert not any(result.values())


def test_a_mirrored_shape_is_not_the_shape():
    thing = read_object("red", "arrow", "small", 0, mirrored=True)
    result = agreement(
        Reading(background="white", objects=(thing,)), statement(("red", "arrow", None, 0))
    )
    assert result == {"colour": True, "shape": False, "place": True, "count": True, "all": False}


def random_read(draws, count):
    """Objects of few values, so that many match alike."""
    return read(
        *(
            (
                draws.choice(("red", "blue")),
                draws.choice(("circle", "star")),
                draws.choice(("small", "large")),
                draws.randrange(5),
            )
            for _ in range(count)
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_objects_that_match_alike_do_not_change_the_agreement(seed, monkeypatch):
    """The assignment that all objects give, by searching among all of them."""
    draws = Random(seed)
    reading, stated = random_read(draws, 7), [CIRCLE, STAR, ("blue", "circle", "small", 3)]
    draws.shuffle(stated)
    statements = [statement(*stated[:count]) for count in (1, 2, 3)]
    fast = [agreement(reading, one) for one in statements]
    monkeypatch.setattr(score, "_candidates", lambda rows, _: list(range(len(rows))))
    assert fast == [agreement(reading, one) for one in statements]


def test_noise_of_many_objects_is_searched_among_few(monkeypatch):
    searched = []

    def counted(slots, length):
        searched.append(len(list(slots)))
        return permutations(slots, length)

    monkeypatch.setattr(score, "permutations", counted)
    reading = random_read(Random(0), 200)
    coloured = [(*thing[:2], None, None) for thing in (CIRCLE, STAR, CIRCLE)]
    result = agreement(reading, statement(*coloured))
    assert result == {"colour": True, "shape": True, "count": False, "all": False}
    assert searched == [4 * 3 + 3]  # two colours by two shapes, and missing objects
    related = agreement(reading, statement(CIRCLE, STAR, relation="above"))
    assert related["relation"] and searched[1] == 202


@pytest.mark.parametrize(
    ("first", "second", "holding"),
    [(0, 1, {"left of"}), (1, 0, {"right of"}), (0, 4, {"left of", "above"}), (3, 0, {"below"})],
)
def test_relations(first, second, holding):
    things = [("red", "circle", "small", first), ("blue", "star", "small", second)]
    for relation in ("left of", "right of", "above", "below"):
        result = agreement(read(*things), statement(*things, relation=relation))
        assert result["relation"] == (relation in holding)


def test_accuracies_pool_kinds_by_scene():
    statements = {
        "short": [statement(("red", "circle", None, None))] * 4,
        "medium": [statement(("red", "circle", None, 0))] * 4,
    }
    right, wrong = read(CIRCLE), read(("red", "circle", "small", 3))
    readings = {"short": [right] * 4, "medium": [right, wrong, wrong, wrong]}
    result = accuracy_measures(readings, statements, subject="arm", protocol={"a": 1})
    values = {measure.name: measure.value for measure in result}
    assert values["accuracy all short"] == 1 and values["accuracy all medium"] == 0.25
    assert values["accuracy place"] == values["accuracy place medium"] == 0.25
    assert values["accuracy all"] == pytest.approx((1 + 3 * 0.5) / 4)
    assert "accuracy place short" not in values and "accuracy size" not in values
    for measure in result:
        assert (measure.n, measure.better, measure.protocol) == (4, "higher", {"a": 1})
        assert (measure.low, measure.high) == wilson_interval(measure.value, 4)


def test_the_only_kind_of_caption_has_its_name():
    readings, statements = (
        {"short": [read(CIRCLE)]},
        {"short": [statement(("red", None, None, 0))]},
    )
    result = accuracy_measures(readings, statements, subject="arm", protocol={})
    values = {measure.name: measure.value for measure in result}
    assert values["accuracy all short"] == values["accuracy all"]
    assert values["accuracy colour short"] == values["accuracy colour"]


def test_the_floor_exchanges_statements():
    circle, star = ("red", "circle", None, None), ("blue", "star", None, None)
    readings = {"class": [read(CIRCLE), read(STAR)]}
    statements = {"class": [statement(circle), statement(star)]}
    order = torch.tensor([1, 0])
    result = accuracy_measures(readings, statements, subject="arm", order=order, protocol={})
    assert {measure.name: measure.value for measure in result} == {
        "accuracy colour shuffled": 0,
        "accuracy shape shuffled": 0,
        "accuracy count shuffled": 1,
        "accuracy all shuffled": 0,
    }
    assert all(measure.better == "neither" for measure in result)


def test_accuracies_have_words():
    for name in ("accuracy colour", "accuracy all short", "accuracy relation shuffled"):
        result = find_metric(name)
        assert result.description and result.group == "samples"
    leading = [find_metric(f"accuracy all{rest}").leads for rest in ("", " long", " shuffled")]
    assert leading == [True, False, False]
    assert "long" in find_metric("accuracy all long").description
