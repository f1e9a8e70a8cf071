# SPDX-License-Identifier: Apache-2.0
"""The diffs of docs/project/contributing.md: applied to a copy of the package, and used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pippin.config import fingerprint
from pippin.recipes.table import get_recipe

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/project/contributing.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (.+?)\n.*?^```diff\n(.*?)^```", PAGE, re.M | re.S))
FILES = {"A denoiser": 4, "A control field": 2, "A metric": 1}
RECIPE = "openmoji/dit-entangled"


def apply(diff, root):
    """Apply a diff whose hunks are found by their lines; the names of its files."""
    files = []
    for part in re.split(r"^--- .+\n(?=\+\+\+ )", diff, flags=re.M)[1:]:
        head, *hunks = re.split(r"^@@\n", part, flags=re.M)
        files.append(head.removeprefix("+++ b/").strip())
        path = root / files[-1]
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for hunk in hunks:
            lines = [line or " " for line in hunk.splitlines()]
            before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
            after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
            assert text.count(before) == 1 if before else not text, f"{path}\n{before}"
            text = text.replace(before, after) if before else after
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return files


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """Folder with a copy of the package and of its layer test, all diffs applied; and the names
    of the files of each diff."""
    root = tmp_path_factory.mktemp("changed")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_layers.py", root / "tests")
    return root, {name: apply(diff, root) for name, diff in SECTIONS.items()}


def run(root, *arguments):
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_states_how_many_files_each_change_touches(changed):
    assert {name: len(files) for name, files in changed[1].items()} == FILES
    for name, count in FILES.items():
        row = rf"^\| \[{name.split(' ', 1)[1]}\]\(#.+\) \| {count} file"
        assert re.search(row, PAGE, re.M), f"{name}: {count} files"


def test_a_changed_package_keeps_its_layers(changed):
    run(changed[0], "-m", "pytest", "-q", "--noconftest", "-c", os.devnull, "tests/test_layers.py")


USE = """
from dataclasses import replace

import torch

from pippin.conditioning.config import ControlConfig
from pippin.config import ConfigError, fingerprint, replace_at
from pippin.control import CONTROL_FIELDS, PROBED_CONTROLS
from pippin.cli.listing import recipe_list
from pippin.data.sources.openmoji import OpenMojiSource
from pippin.data.views.views import counterfactual, make_view
from pippin.denoisers.conv.config import ConvConfig
from pippin.evaluation.image_meter import ImageMeter
from pippin.evaluation.image_metric import image_metrics
from pippin.evaluation.metric_registry import find_metric
from pippin.evaluation.probes import AugmentationProbe
from pippin.model import build_model
from pippin.planning.plan import plan
from pippin.planning.devices import Cluster
from pippin.recipes.checks import check_recipe
from pippin.recipes.recipe import Recipe
from pippin.recipes.table import RECIPES, get_recipe
from pippin.sampling.config import ControlRequest
from pippin.types import Conditions, stack_controls

base = get_recipe("openmoji/dit-entangled")
print(fingerprint(base))

# the denoiser: read back from a record, listed, planned, trained for a step
recipe = replace(base, denoiser=ConvConfig(width=16, depth=2))
assert Recipe.from_dict(recipe.to_dict()) == recipe
check_recipe(recipe)
RECIPES["openmoji/conv"] = lambda: recipe
assert "openmoji/conv" in recipe_list() and "conv 2 x 16, 64 px" in recipe_list()
assert plan(recipe, Cluster(devices=1)).parameters > 0

# the control field: law, record, embedding, gradient
shares = replace_at(base, "data.look.shares", {"defocus": 0.5})
fields = ControlConfig(high=base.conditioning.control.high, low=("original_size", "defocus"))
reads = replace_at(recipe, "conditioning.control", fields)
try:
    check_recipe(reads)
except ConfigError as error:
    assert "data.look.shares defocus is 0" in str(error), error
else:
    raise AssertionError("a field that never varies was accepted")
recipe = replace(reads, data=shares.data)
check_recipe(recipe)
assert fingerprint(shares) != fingerprint(base)
source, plain = OpenMojiSource(recipe.data, "train"), OpenMojiSource(base.data, "train")
views = [make_view(source, index, view) for index in range(10) for view in range(4)]
values = torch.tensor([view.control.defocus for view in views])
assert 0.25 < (values > 0).float().mean() < 0.75 and 0.5 < values.max() <= 3
for index in range(4):  # a share draws nothing that the other fields draw
    with_field, without = make_view(source, index, 0), make_view(plain, index, 0)
    assert replace(with_field.control, defocus=0.0) == without.control
model = build_model(
    recipe.conditioning, recipe.denoiser, num_classes=11, latent_channels=3, seed=0
)
control = stack_controls([view.control for view in views[:4]])
conditions = Conditions(label=torch.zeros(4, dtype=torch.long), control=control)
latents = torch.randn(4, 3, 16, 16)
out = model(latents, torch.full((4,), 500.0), model.prepare(conditions)).mean
(out - latents).square().mean().backward()
assert out.shape == latents.shape and model.denoiser.last.weight.grad.abs().sum() > 0

# the control field: probe and words
assert "defocus" in PROBED_CONTROLS and ControlRequest(defocus=2.0).defocus == 2
probe = AugmentationProbe(name="defocus", size=64)
first, second = (
    torch.stack([counterfactual(plain, index, control) for index in range(4)])
    for control in probe.controls
)
(effect,) = probe.effects(first, second, None)
assert (effect.values > 0.1).all()
aligned, changed = probe.align(first, second)
assert torch.equal(aligned, changed)
metric = find_metric("effect defocus")
assert (metric.unit, metric.label) == ("nat", "effect (defocus)")
assert "when defocus is requested" in metric.description
assert "when only the focus of the lens changes" in find_metric("drift defocus").description

# the metric
(brightness,) = (kind for kind in image_metrics() if kind.name == "brightness")
meter = ImageMeter([brightness])
for _ in meter.watch([torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)]):
    pass
(measure,) = meter.measures(seed=0)
assert (measure.value, find_metric("brightness").unit) == (100.0, "levels")
"""


def test_what_the_diffs_add_works_and_kept_fingerprints_stay(changed):
    assert run(changed[0], "-c", USE).strip() == fingerprint(get_recipe(RECIPE))
