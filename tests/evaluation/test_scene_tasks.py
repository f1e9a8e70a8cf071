# SPDX-License-Identifier: Apache-2.0
"""Accuracy by the six tasks of GenEval: which captions pose a task, and what it asks for."""

import math

import pytest
import torch

from pippin.data.config import ShapesConfig
from pippin.data.sources.shapes.shapes_source import ShapesSource
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.metrics.declared.scene import TASKS
from pippin.evaluation.metrics.scene.reader import DetectedObject, Reading
from pippin.evaluation.metrics.scene.samples import statement_of
from pippin.evaluation.metrics.scene.score import StatedObject, Statement, agreement
from pippin.evaluation.metrics.scene.tasks import mean_of_tasks, task_measures, task_statement
from pippin.evaluation.proportion import wilson_interval

NAN = math.nan
CENTRES = [(1 / 6, 1 / 2), (5 / 6, 1 / 2)]


def stated(*things: tuple[str, str], relation: str | None = None) -> Statement:
    """Statement of a long caption."""
    objects = tuple(StatedObject(colour=c, shape=s, size="large") for c, s in things)
    return Statement(objects=objects, relation=relation, background="white")


def shown(*things: tuple[str, str]) -> Reading:
    """A small object in the left half and, if there are two, one in the right half."""
    return Reading(
        background="beige",
        objects=tuple(
            DetectedObject(
                colour=colour,
                shape=shape,
                size="small",
                place=3,
                mirrored=False,
                centre=CENTRES[index],
                displacement=0.0,
                similarity=1.0,
                softness=0.0,
            )
            for index, (colour, shape) in enumerate(things)
        ),
    )


def passed(reading: Reading, statement: Statement) -> dict[str, bool]:
    parts = {task: task_statement(statement, task) for task in TASKS}
    return {task: agreement(reading, part)["all"] for task, part in parts.items() if part}


ONE = stated(("red", "circle"))
TWO = stated(("red", "circle"), ("blue", "star"), relation="left of")


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        ([("red", "circle")], set()),
        ([("blue", "circle")], {"colours"}),
        ([("red", "star")], {"single-object", "colours", "counting"}),
        ([("red", "circle"), ("red", "circle")], {"counting"}),
        ([], {"single-object", "colours", "counting"}),
    ],
)
def test_tasks_of_one_object(image, wrong):
    """Size and background are wrong in all images, and no task asks for them."""
    result = passed(shown(*image), ONE)
    assert set(result) == {"single-object", "counting", "colours"}
    assert {task for task, right in result.items() if not right} == wrong


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        ([("red", "circle"), ("blue", "star")], set()),
        ([("blue", "star"), ("red", "circle")], {"position"}),
        ([("blue", "circle"), ("red", "star")], {"colour-attribution"}),
        ([("red", "circle"), ("blue", "flag")], set(TASKS)),
        ([("red", "circle")], set(TASKS)),
    ],
)
def test_tasks_of_two_objects(image, wrong):
    result = passed(shown(*image), TWO)
    assert set(result) == {"two-objects", "counting", "position", "colour-attribution"}
    assert {task for task, right in result.items() if not right} == wrong & set(result)


def test_a_caption_poses_only_what_it_states():
    assert task_statement(stated(("red", "circle"), ("blue", "star")), "position") is None
    colourless = Statement(objects=(StatedObject(shape="circle"),))
    assert task_statement(colourless, "colours") is None
    assert task_statement(colourless, "single-object") is not None
    uncounted = Statement(objects=(StatedObject(shape="circle"),), counts=False)
    assert task_statement(uncounted, "counting") is None


def test_captions_of_scenes_pose_all_tasks_and_clean_scenes_pass_them():
    source = ShapesSource(ShapesConfig(images=40, objects=2), "train")
    scenes = [source.scene(index) for index in range(40)]
    statements = [statement_of(scene, "long") for scene in scenes]
    posed = {task for one in statements for task in TASKS if task_statement(one, task)}
    assert posed == set(TASKS)
    short = [statement_of(scene, "short") for scene in scenes]
    assert not any(task_statement(one, "position") for one in short)


def test_the_mean_of_tasks_and_its_values_without_a_scene():
    shares = torch.tensor([[1.0, 0.0, 0.5, NAN], [NAN, NAN, 1.0, 0.0]]).double()
    jackknife = mean_of_tasks(shares)
    assert jackknife.value == pytest.approx((0.5 + 0.5) / 2)
    expected = [(0.25 + 0.5) / 2, (0.75 + 0.5) / 2, (0.5 + 0.0) / 2, (0.5 + 1.0) / 2]
    assert jackknife.leave_one_out.tolist() == pytest.approx(expected)


def test_measures_of_tasks():
    statements = {"long": [ONE, ONE, TWO, TWO]}
    readings = {
        "long": [
            shown(("red", "circle")),
            shown(("blue", "circle")),
            shown(("red", "circle"), ("blue", "star")),
            shown(("blue", "star"), ("red", "circle")),
        ]
    }
    result = task_measures(readings, statements, subject="arm", protocol={"a": 1})
    values = {measure.name: measure.value for measure in result}
    expected = dict.fromkeys(TASKS, 1.0) | {"colours": 0.5, "position": 0.5}
    assert values == {f"task accuracy {task}": value for task, value in expected.items()} | {
        "task accuracy mean": pytest.approx(5 / 6)
    }
    by_name = {measure.name: measure for measure in result}
    colours, counting = by_name["task accuracy colours"], by_name["task accuracy counting"]
    assert (colours.n, counting.n, by_name["task accuracy mean"].n) == (2, 4, 4)
    assert (colours.low, colours.high) == wilson_interval(0.5, 2)
    mean = by_name["task accuracy mean"]
    assert 0 <= mean.low < mean.value < mean.high == 1
    assert all(m.better == "higher" and m.protocol == {"a": 1} for m in result)


def test_the_mean_needs_two_scenes_of_each_task():
    """One scene has no spread: its interval would have width 0."""
    things = [("red", "circle")], [("red", "circle"), ("blue", "star")]
    for scenes, measured in ((1, False), (2, True)):
        readings = {"long": [shown(*one) for one in things for _ in range(scenes)]}
        statements = {"long": [one for one in (ONE, TWO) for _ in range(scenes)]}
        result = task_measures(readings, statements, subject="arm", protocol={})
        assert ("task accuracy mean" in {measure.name for measure in result}) == measured


def test_the_mean_needs_all_tasks_and_the_floor_exchanges_statements():
    readings = {"short": [shown(("red", "circle")), shown(("blue", "star"))]}
    statements = {"short": [ONE, stated(("blue", "star"))]}
    right, floor = (
        {m.name: m.value for m in task_measures(readings, statements, order=order, **common)}
        for common in [{"subject": "arm", "protocol": {}}]
        for order in (None, torch.tensor([1, 0]))
    )
    tasks = ("single-object", "counting", "colours")
    assert right == {f"task accuracy {task}": 1.0 for task in tasks}
    assert floor == {f"task accuracy {task} shuffled": 0.0 for task in tasks}


def test_task_accuracies_have_words():
    for task in (*TASKS, "mean"):
        metric = find_metric(f"task accuracy {task}")
        assert metric.description and metric.better == "higher"
        assert metric.leads == (task == "mean")
        assert find_metric(f"task accuracy {task} shuffled").better == "neither"
