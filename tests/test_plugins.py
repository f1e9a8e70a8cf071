# SPDX-License-Identifier: Apache-2.0
"""Modules of others: by ``--import``, by the environment of worker processes, by entry points."""

import itertools
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch

from pippin import plugins
from pippin.cli.failures import whole_command
from pippin.cli.imports import take_imports
from pippin.cli.main import main
from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError
from pippin.control import Control, Corner, Size
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.dit.model import DiT
from pippin.denoisers.registry import denoiser_config, register_denoiser
from pippin.evaluation.image_metric import image_metrics
from pippin.evaluation.metric_registry import find_metric
from pippin.model import build_model
from pippin.recipes.table import RECIPES, get_recipe
from pippin.studies.execution import execute
from pippin.studies.runner import refuse_unmeasured
from pippin.studies.shipped.table import get_study
from pippin.types import Conditions, stack_controls

MODULE = """
from dataclasses import dataclass, replace
from typing import Literal

from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.registry import register_denoiser
from pippin.recipes.table import RECIPES, get_recipe


@dataclass(frozen=True, kw_only=True)
class Config(DiTConfig):
    kind: Literal["NAME"] = "NAME"
    depth: int = 2
    width: int = 32
    num_heads: int = 2


def build(config, latent_channels):
    from pippin.denoisers.dit.model import DiT

    return DiT(config, latent_channels)


register_denoiser(Config, build)
RECIPES["NAME/small"] = lambda: replace(get_recipe("openmoji/dit-entangled"), denoiser=Config())
"""

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def process(monkeypatch, tmp_path):
    """A process in an empty folder that has imported nothing yet."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_state", plugins._Loading())
    yield
    for name in [name for name in RECIPES if name.startswith("tests_plugin")]:
        del RECIPES[name]


@pytest.fixture
def module(tmp_path):
    """A module in the current folder; its name is also the kind of its denoiser."""
    name = f"tests_plugin{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(MODULE.replace("NAME", name))
    return name


def test_a_recipe_of_an_imported_module_is_shown_and_opened(module, capsys):
    recipe = f"{module}/small"
    assert main(["show", recipe]) == 2
    assert "type --import MODULE" in capsys.readouterr().err
    assert main(["--import", module, "show", recipe, "--json"]) == 0
    with open("config.json", "w", encoding="utf-8") as file:
        file.write(capsys.readouterr().out)
    assert main(["show", "--config", "config.json", f"--import={module}"]) == 0
    assert "parameters" in capsys.readouterr().out
    assert main(["train", "--help", "--import", module]) == 0
    assert f"\n{module}/...  of an imported module\n  {recipe} " in capsys.readouterr().out


def test_a_worker_process_knows_the_imported_modules(module):
    plugins.import_modules([module])
    assert denoiser_config(module).__module__ == module
    code = f"from pippin.denoisers.registry import denoiser_config as d; print(d({module!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.stdout == f"<class '{module}.Config'>\n", done.stderr


def test_an_entry_point_is_imported_when_its_kind_is_met(module, tmp_path):
    install(tmp_path, module, module)
    with pytest.raises(ConfigError, match="'tests_absent' is not known"):
        denoiser_config("tests_absent")
    assert denoiser_config(module).__module__ == module


METRIC = """
from pippin import ImageMetric, declare_metric

KIND = declare_metric(
    ImageMetric(
        name="NAME",
        description="Mine.",
        better="lower",
        values=lambda images: images[:, 0, 0, 0],
    )
)
"""


@pytest.mark.parametrize("first", ["name", "all"])
def test_a_plugin_with_metrics_only_is_imported(first, tmp_path):
    """By whatever asks first: a report for a name, or an evaluation for all metrics of images."""
    name = f"tests_plugin{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(METRIC.replace("NAME", name))
    install(tmp_path, name, name)
    if first == "name":
        assert find_metric(name).description == "Mine."
    assert name in [kind.name for kind in image_metrics()]


def test_a_study_with_a_broken_plugin_stops_before_training(tmp_path):
    (tmp_path / "tests_plugin_metric.py").write_text("import tests_no_such_module")
    install(tmp_path, "mine", "tests_plugin_metric")
    with pytest.raises(ConfigError, match="plugin mine = tests_plugin_metric"):
        refuse_unmeasured(get_study("demo-quick"), execute)


def test_a_broken_plugin_is_named_with_its_package(tmp_path):
    (tmp_path / "tests_plugin_broken.py").write_text("import tests_no_such_module")
    install(tmp_path, "mine", "tests_plugin_broken")
    wanted = (
        r"plugin mine = tests_plugin_broken of the package dist-mine .*pip uninstall dist-mine"
    )
    for _ in range(2):  # the second call must not say that the kind is unknown
        with pytest.raises(ConfigError, match=wanted):
            denoiser_config("tests_absent")


def test_a_plugin_may_look_for_names_while_it_is_imported(tmp_path):
    code = "from pippin.plugins import load_plugins; load_plugins(); done = True"
    (tmp_path / "tests_plugin_inner.py").write_text(code)
    install(tmp_path, "mine", "tests_plugin_inner:done")
    plugins.load_plugins()
    assert sys.modules["tests_plugin_inner"].done


def test_a_thread_waits_for_the_plugins_that_another_imports(tmp_path):
    code = "import time; time.sleep(0.3); done = True"
    (tmp_path / "tests_plugin_slow.py").write_text(code)
    install(tmp_path, "mine", "tests_plugin_slow")
    thread = threading.Thread(target=plugins.load_plugins)
    thread.start()
    while "tests_plugin_slow" not in sys.modules:
        time.sleep(0.01)
    plugins.load_plugins()
    assert sys.modules["tests_plugin_slow"].done
    thread.join()


def test_a_module_that_cannot_be_imported_is_not_left_to_workers(module):
    with pytest.raises(ConfigError, match="tests_absent: no such module"):
        plugins.import_modules(["tests_absent"])
    assert plugins.VARIABLE not in os.environ
    with pytest.raises(ConfigError, match="tests_absent: no such module"):
        plugins.import_modules([module, "tests_absent", "tests_later"])
    assert plugins.imported_modules() == [module]


def install(folder, name, value):
    """Install a distribution with one entry point in a folder of Python's path."""
    info = folder / f"dist_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {value}\n")
    sys.path.append(str(folder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--import", "tests_no_such"],
            "no such module in the current folder or on Python's path",
        ),
        (["--import", "lib/mine.py"], "for FOLDER/mine.py, type PYTHONPATH=FOLDER pippin"),
        (["--import", ".mine"], "takes the name of a module; got '.mine'"),
        (["--import"], "--import needs the name of a module, got nothing"),
        (["--import", "--json"], "--import needs the name of a module, got --json"),
        (["--import="], "needs the name of a module, got nothing"),
    ],
)
def test_a_wrong_import_says_what_to_type(arguments, message, capsys):
    assert main(["show", "openmoji/dit-entangled", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_module_that_misses_another_keeps_its_traceback(tmp_path):
    (tmp_path / "tests_plugin_incomplete.py").write_text("import tests_no_such_module")
    with pytest.raises(ModuleNotFoundError, match="tests_no_such_module"):
        main(["runs", "--import", "tests_plugin_incomplete"])


def test_imports_are_taken_from_any_place_and_repeated_in_commands(module):
    words = ["--import", "a", "train", "x", "--import=b.c", "--seed", "1"]
    assert take_imports(words) == (["a", "b.c"], ["train", "x", "--seed", "1"])
    plugins.import_modules([module, module])
    assert whole_command("sample", ["runs/x"]) == f"pippin sample runs/x --import {module}"


@dataclass(frozen=True, kw_only=True)
class ScaledConfig(DiTConfig):
    kind: Literal["tests-scaled"] = "tests-scaled"
    scale: float = 2.0


class Scaled(DiT):
    """DiT whose latents are scaled first."""

    def __init__(self, config, latent_channels):
        super().__init__(config, latent_channels)
        self.scale = config.scale

    def forward(self, x_t, embedded, masking=None):
        return super().forward(self.scale * x_t, embedded, masking)


def test_dit_and_its_configuration_may_be_subclassed(tmp_path):
    """The subclass has DiT's initial weights, and is DiT where its own part does nothing."""
    register_denoiser(ScaledConfig, Scaled)
    settings = {"depth": 2, "width": 32, "num_heads": 2}
    rules = ConditioningConfig(rules={"label": "modulation"})
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    outputs = []
    for config, factor in (
        (DiTConfig(**settings), 2.0),
        (ScaledConfig(**settings), 1.0),
        (ScaledConfig(**settings, scale=1.0), 2.0),
    ):
        model = build_model(rules, config, num_classes=2, latent_channels=4, seed=0)
        torch.nn.init.eye_(model.denoiser.output.linear.weight)
        outputs.append(model_output(model, factor * x_t))
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
    assert outputs[0].abs().max() > 0.1
    recipe = replace(get_recipe("openmoji/dit-entangled"), denoiser=ScaledConfig(**settings))
    recipe.save(tmp_path / "config.json")
    assert type(recipe).load(tmp_path / "config.json") == recipe


def model_output(model, x_t):
    whole = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
    )
    conditions = Conditions(label=torch.tensor([0, 1]), control=stack_controls([whole] * 2))
    with torch.no_grad():
        return model(x_t, torch.tensor([10.0, 500.0]), model.prepare(conditions)).mean
