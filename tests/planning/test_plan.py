# SPDX-License-Identifier: Apache-2.0
"""Plans against closed forms, against each other, and against the page that lists them."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pippin.conditioning.config import ConditioningConfig, ControlConfig
from pippin.config import ConfigError, replace_at
from pippin.denoisers.dit.config import DiTConfig
from pippin.evaluation.metrics.cost import denoiser_flops, meta_model
from pippin.planning.devices import DEVICES, Cluster, device_named
from pippin.planning.fitting import micro_batch_size, option_lines
from pippin.planning.plan import plan, planned_memory
from pippin.recipes.table import get_recipe
from pippin.runs.components import Components

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "plans.md"
RENEW = f"python scripts/plan_table.py {PAGE.relative_to(ROOT)} renews it"
SMALL = DiTConfig(depth=3, width=64, num_heads=2, patch_size=2)


def converted_recipe(**train):
    base = get_recipe("published/dit-xl-256")
    settings = {"batch_size": 64, "images": 6400, "precision": "bf16"} | train
    return replace(
        base,
        denoiser=SMALL,
        conditioning=ConditioningConfig(
            rules={"label": "modulation"}, control=ControlConfig(high=(), low=())
        ),
        train=replace(base.train, **settings),
    )


def test_flops_of_a_step_are_the_closed_form():
    """Counted by hand from the matrices of a DiT; attention is two products of its own."""
    tokens, width, numbers = 16 * 16, SMALL.width, 2 * 2 * 4
    first = tokens * numbers * width
    block = tokens * width * width * (4 + 2 * 4) + 2 * tokens * tokens * width + 6 * width**2
    last = tokens * width * numbers + 2 * width**2
    planned = plan(converted_recipe(), Cluster(devices=4))
    forward = 2 * (first + 3 * block + last)
    training = 2 * (2 * first + 3 * (3 * block + last))
    assert planned.forward_flops == forward
    assert planned.step_flops == 64 * training
    plain, again = planned.placements[:2]
    assert plain.flops_per_step == 16 * training
    # computing again runs every block forward once more, but for nothing else
    assert again.flops_per_step == 16 * (training + 2 * 3 * block)


@pytest.mark.parametrize("name", ["folder/dit-b-256", "folder/mmdit-b-256"])
def test_recipes_for_photographs_train_within_a_day_on_one_small_card(name):
    """Planned at two small depths, in half the time: memory and hours are linear in the depth."""
    recipe, cluster = get_recipe(name), Cluster(devices=1, device="4090")
    low, high = (
        plan(replace_at(recipe, "denoiser.depth", depth), cluster, images=20_000).placements[0]
        for depth in (2, 3)
    )
    assert low.checkpointing == high.checkpointing == 0
    steps = recipe.denoiser.depth - 2
    assert low.memory + steps * (high.memory - low.memory) <= cluster.usable
    assert low.hours + steps * (high.hours - low.hours) < 24


def test_hours_are_work_over_speed():
    cluster = Cluster(devices=4, device="a100-80", utilisation=0.5)
    planned = plan(converted_recipe(), cluster)
    plain = planned.placements[0]
    seconds = 100 * 64 * planned.training_flops / (4 * 0.5 * 312e12)
    assert planned.steps == 100
    assert plain.hours == pytest.approx(seconds / 3600)
    assert plain.device_hours == pytest.approx(4 * plain.hours)
    slow = plan(converted_recipe(precision="fp32"), cluster).placements[0]
    assert slow.hours / plain.hours == pytest.approx(312 / 19.5)


def test_muon_costs_every_device_the_same_whatever_its_batch():
    few, many = (
        plan(converted_recipe(muon_learning_rate=1e-2), Cluster(devices=count)) for count in (1, 8)
    )
    assert few.optimizer_flops == many.optimizer_flops > 0
    for planned in (few, many):
        own = planned.local_batch * planned.training_flops
        assert planned.placements[0].flops_per_step == own + planned.optimizer_flops
    assert many.placements[0].device_hours > few.placements[0].device_hours


def test_fsdp_divides_states_and_not_activations():
    planned = plan(converted_recipe(), Cluster(devices=8))
    whole, _, divided, _ = planned.placements
    assert [one.layout for one in planned.placements] == ["DDP", "DDP", "FSDP", "FSDP"]
    for part in ("weights", "gradients", "optimizer", "ema"):
        assert 8 * getattr(divided, part) == pytest.approx(getattr(whole, part), abs=8)
    assert divided.activations == whole.activations
    alone = plan(converted_recipe(batch_size=8), Cluster(devices=1)).placements
    assert [(one.layout, one.checkpointing) for one in alone] == [
        ("one device", 0),
        ("one device", 1),
    ]
    assert alone[0].memory == whole.memory


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_largest_batch_fits_and_one_more_does_not(precision):
    cluster = Cluster(devices=2, device="4090", headroom=0.95)
    placements = plan(converted_recipe(precision=precision), cluster).placements
    for way, one in [(1, placements[1]), (2, placements[2])]:
        largest = one.largest_micro_batch
        assert largest > 0
        fits = [
            plan(converted_recipe(precision=precision, batch_size=2 * local), cluster)
            .placements[way]
            .fits
            for local in (largest, largest + 1)
        ]
        assert fits == [True, False], (one.layout, one.checkpointing)


def test_the_largest_micro_batch_leaves_room_for_gradients_that_accumulate():
    cluster = Cluster(devices=2, device="4090", headroom=0.99)
    for way in (0, 2):
        found = plan(converted_recipe(batch_size=4096), cluster).placements[way]
        largest = found.largest_micro_batch
        assert not found.fits and 0 < largest < 2048
        fits = [
            plan(converted_recipe(batch_size=4096, micro_batch_size=count), cluster)
            .placements[way]
            .fits
            for count in (largest, largest + 1)
        ]
        assert fits == [True, False], found.layout


def test_micro_batches_take_less_for_activations_and_more_for_gradients():
    cluster = Cluster(devices=4)
    whole, small = (
        plan(converted_recipe(micro_batch_size=micro, batch_size=40), cluster)
        for micro in (None, 4)
    )
    assert (whole.local_batch, whole.micro_batch) == (10, 10)
    assert (small.local_batch, small.micro_batch) == (10, 4)
    for one, other in zip(whole.placements, small.placements, strict=True):
        assert other.activations == 0.4 * one.activations
        kept = ("weights", "optimizer", "ema", "hours", "flops_per_step", "largest_micro_batch")
        assert all(getattr(one, part) == getattr(other, part) for part in kept)
    data_parallel, _, divided, _ = whole.placements
    assert small.placements[0].gradients == 2 * data_parallel.gradients
    assert small.placements[2].gradients == data_parallel.gradients > 3.9 * divided.gradients
    alone, summed = (
        plan(converted_recipe(micro_batch_size=micro), Cluster(devices=1)).placements[0].gradients
        for micro in (None, 4)
    )
    assert alone == summed  # one process adds up in place
    assert plan(converted_recipe(micro_batch_size=99), cluster) == plan(
        converted_recipe(), cluster
    )


def test_a_model_that_is_too_large_fits_nowhere_but_divided():
    wide = replace(converted_recipe(batch_size=8), denoiser=replace(SMALL, depth=2, width=6144))
    planned = plan(wide, Cluster(devices=8, device="4090"))
    assert [one.fits for one in planned.placements] == [False, False, True, True]
    assert planned.placements[0].largest_micro_batch == 0


def test_a_recipe_that_checkpoints_is_planned_with_its_own_share():
    planned = plan(converted_recipe(gradient_checkpointing=2), Cluster(devices=1))
    assert [one.checkpointing for one in planned.placements] == [0, 2]


def test_the_published_run_of_dit_at_256_pixels():
    """7 million steps of 256, three times 118.64 GMACs an image (Peebles & Xie 2023, table 1)."""
    recipe = get_recipe("published/dit-xl-256")
    model = meta_model(recipe.conditioning, recipe.denoiser, 1000, 4)
    work = recipe.train.images * denoiser_flops(model, (4, 32, 32), backward=True)
    assert work == pytest.approx(7e6 * 256 * 3 * 2 * 118.64e9, rel=0.005)
    # what docs/reference/plans.md says of it
    assert work / Cluster().speed("bf16") / 3600 == pytest.approx(895, rel=0.001)
    a_second = 5.7 * 256 * work / recipe.train.images
    assert a_second / (128 * 123e12) == pytest.approx(0.066, abs=0.001)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match=r"train\.batch_size must be a multiple of the 7 .* 64"):
        plan(converted_recipe(), Cluster(devices=7))


@pytest.mark.parametrize(
    "setting",
    [{"sampling.weights": "ema-share-0.3"}, {"sampling.guidance.control_scale": 2.0}],
    ids=str,
)
def test_what_training_refuses_is_refused_in_the_same_words(setting):
    ((path, value),) = setting.items()
    recipe = replace_at(converted_recipe(), path, value)
    said = []
    for refusing in (plan, lambda one: Components(one, Console(quiet=True))):
        with pytest.raises(ConfigError) as error:
            refusing(recipe)
        said.append(str(error.value))
    assert said[0] == said[1]


@pytest.fixture
def table():
    """The script that makes the page's table."""
    path = ROOT / "scripts" / "plan_table.py"
    spec = importlib.util.spec_from_file_location("plan_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_lists_every_paper_recipe_and_the_plan_of_today(table):
    page = PAGE.read_text(encoding="utf-8")
    recipes = table.recipes()
    assert sum(name.startswith("`paper/") for name in recipes) == 43
    for name in recipes:
        assert re.search(rf"^\| (`[^|]+, )?{re.escape(name)}(, `[^|]+)? \|", page, re.M), RENEW
    name = "`gpu-hour`, class"  # the others take seconds each
    assert table.row(name, recipes[name]) in page


def test_every_run_of_a_study_of_a_gpu_hour_trains_within_one(table):
    assert Cluster(devices=1, device="h100", utilisation=0.4) == table.ONE_GPU
    page = PAGE.read_text(encoding="utf-8")
    listed = {}
    for name in table.studies():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` | "))
        runs, longest = row.split(" | ")[1:3]
        assert int(runs) == len(table.trainings(name)), name
        listed[name] = float(longest)
    assert max(listed.values()) <= 1
    name = next(name for name in listed if len(table.trainings(name)) == 1)
    assert table.study_row(name) in page, RENEW  # rows of more runs take seconds each


def test_the_page_states_the_devices():
    page = PAGE.read_text(encoding="utf-8")
    for name, device in DEVICES.items():
        figures = f"{device.bf16 / 1e12:g} | {device.fp32 / 1e12:g} | {device.memory / 1e9:g}"
        assert f"| `{name}` | {figures} |" in page


def test_options_that_are_printed_fit_when_they_are_pasted():
    """Each option is parsed from its text and planned anew, with a memory between its own and one
    image more."""
    cluster = Cluster(devices=2, device="4090", memory_gb=0.2, headroom=0.0)
    recipe = converted_recipe(batch_size=4096)
    planned = plan(recipe, cluster)
    assert not planned.chosen(recipe.train).fits
    assert planned.chosen(recipe.train).memory == planned_memory(recipe, cluster)
    options = planned.options
    assert {option.parallel for option in options} == {"ddp", "fsdp"}
    assert [option.hours for option in options] == sorted(option.hours for option in options)
    for option in options:
        words = option.arguments.split()
        given = dict(zip(words[::2], words[1::2], strict=True))
        train = replace(
            recipe.train,
            micro_batch_size=int(given["--train.micro-batch-size"]),
            gradient_checkpointing=int(given["--train.gradient-checkpointing"]),
            parallel=given["--train.parallel"],
        )
        assert option.applied(recipe.train) == train
        pasted = replace(recipe, train=train)
        assert planned_memory(pasted, cluster) == option.memory <= cluster.usable
    assert option_lines(options)[0].startswith("--train.micro-batch-size ")
    assert "no micro-batch" in option_lines(())[0]


def test_micro_batches_of_options_divide_the_batch_where_that_is_not_wasteful():
    for local in (1, 7, 48, 256, 1424):
        for largest in range(local + 2):
            size = micro_batch_size(local, largest)
            assert 0 <= size <= min(largest, local)
            if largest:
                assert size > 0
                even = -(-local // -(-local // largest))
                assert size == even or (local % size == 0 and 2 * size >= even)
    assert (micro_batch_size(256, 148), micro_batch_size(256, 300)) == (128, 256)


def test_gpus_are_known_by_the_names_that_cuda_reports():
    names = {
        "NVIDIA A100-SXM4-40GB": "a100-40",
        "NVIDIA A100 80GB PCIe": "a100-80",
        "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA H100 PCIe": None,  # slower
        "NVIDIA H200": "h200",
        "NVIDIA GeForce RTX 4090": "4090",
        "NVIDIA GeForce RTX 4090 D": None,
        "Tesla T4": None,
    }
    assert {name: device_named(name) for name in names} == names
