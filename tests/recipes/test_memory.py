# SPDX-License-Identifier: Apache-2.0
"""Recipes fit the devices that they are made for, by the plan, without changing numbers."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pippin.cli.parsing.options import parse
from pippin.cli.recipe_argument import find_recipe
from pippin.cli.train import TrainCommand
from pippin.config import fingerprint
from pippin.planning.devices import Cluster
from pippin.planning.plan import planned_memory
from pippin.recipes.paper import MICRO_BATCH, comparison
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.studies.shipped.table import get_study

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LARGE = ("paper/", "published/", "folder/")
"""Families of recipes whose size matters; the others are tiny."""
STATED = Cluster(devices=8, device="h100")
"""Devices where a page states none; they have 80 GB each."""


def commands() -> dict[str, tuple[int, list[str]]]:
    """Command line -> number of devices and arguments of each documented training of a large
    recipe."""
    found = {}
    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
        for line in re.findall(r"^ *((?:\w+=\d+ |torchrun .*-m )?pippin train .+)$", text, re.M):
            before, _, rest = line.partition("pippin train ")
            words = shlex.split(rest, comments=True)
            if words and words[0].startswith(LARGE) and not {"...", "--help"} & set(words):
                found[line] = _devices(before), words
    return found


def _devices(launcher: str) -> int:
    nodes = re.search(r"--nnodes (\d+)", launcher)
    each = re.search(r"--nproc-per-node (\d+)", launcher)
    return int(nodes[1] if nodes else 1) * int(each[1]) if each else STATED.devices


def memory_of(recipe: Recipe, devices: int) -> int:
    """Planned bytes of each device; for a deep model extrapolated from two shallow ones, because
    they are linear in the depth."""
    cluster = replace(STATED, devices=devices)
    depth = getattr(recipe.denoiser, "depth", 0)
    if recipe.train.repa.enabled:  # the projector costs the same at any block
        repa = replace(recipe.train.repa, block=1)
        recipe = replace(recipe, train=replace(recipe.train, repa=repa))
    first = 2 + getattr(recipe.denoiser, "decoder_depth", 0)
    if depth <= first + 2 or recipe.train.gradient_checkpointing:
        return planned_memory(recipe, cluster)
    low, high = (
        planned_memory(replace(recipe, denoiser=replace(recipe.denoiser, depth=few)), cluster)
        for few in (first, first + 2)
    )
    return low + (high - low) * (depth - first) // 2


_KNOWN: dict[str, int] = {}


def fits(recipe: Recipe, devices: int) -> bool:
    """Whether a recipe fits; trainings with the same model and batch are planned once."""
    parts = (recipe.denoiser, recipe.conditioning, recipe.train, recipe.data.resolution, devices)
    key = repr(parts)
    if key not in _KNOWN:
        _KNOWN[key] = memory_of(recipe, devices)
    return _KNOWN[key] <= replace(STATED, devices=devices).usable


def test_memory_is_linear_in_the_depth():
    base = get_recipe("folder/dit-b-256")
    train = replace(base.train, parallel="fsdp", micro_batch_size=4)
    recipe = replace(base, train=train, denoiser=replace(base.denoiser, depth=6))
    exact = planned_memory(recipe, replace(STATED, devices=4))
    assert memory_of(recipe, 4) == pytest.approx(exact, rel=1e-6)


def test_every_documented_training_fits_its_devices():
    listed = commands()
    assert len(listed) >= 20
    assert {devices for devices, _ in listed.values()} >= {4, 8, 16}
    for line, (devices, words) in listed.items():
        _, recipe, rest = find_recipe(words)
        command = parse(TrainCommand, "", rest, TrainCommand(recipe=recipe))
        assert fits(command.recipe, devices), line


def test_the_largest_recipe_fits_and_would_not_without_its_settings():
    recipe = get_recipe("published/mmdit-sd3-d24-256")
    assert fits(recipe, STATED.devices)
    plain = replace(recipe.train, micro_batch_size=None, parallel="ddp")
    assert not fits(replace(recipe, train=plain), STATED.devices)


def test_the_largest_run_of_studies_of_the_paper_fits_one_device():
    """A run of a study is one process; all arms have the micro-batch of the first."""
    assert fits(get_study("table1-512", scale="paper").arms()["mdtv2-disentangled"], 1)


def test_what_makes_recipes_fit_is_no_part_of_their_fingerprint():
    for name in [name for name in RECIPES if name.startswith(("paper/", "published/"))]:
        recipe = get_recipe(name)
        plain = replace(recipe.train, micro_batch_size=None, parallel="ddp")
        assert fingerprint(replace(recipe, train=plain)) == fingerprint(recipe)
        local = recipe.train.local_batch(STATED.devices)
        assert local % recipe.train.micro_batch(local) == 0, name
    assert (
        comparison("dit", 512, disentangled=False).train.micro_batch_size
        == (MICRO_BATCH[512]["dit"])
    )
