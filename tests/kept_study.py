# SPDX-License-Identifier: Apache-2.0
"""A small study, and an execution that trains nothing."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pippin.conditioning.config import ConditioningConfig
from pippin.data.config import OpenMojiConfig
from pippin.denoisers.mmdit.config import mmdit
from pippin.evaluation.measure import Measure
from pippin.recipes.recipe import Recipe
from pippin.studies.runner import run_study
from pippin.studies.shipped.demo import demo_study
from pippin.studies.study import Study
from pippin.training.config import TrainConfig


@pytest.fixture(scope="session")
def base() -> Recipe:
    return Recipe(
        data=OpenMojiConfig(),
        conditioning=ConditioningConfig(),
        denoiser=mmdit("tiny"),
        train=TrainConfig(images=10_000),
    )


@pytest.fixture(scope="session")
def study(base: Recipe) -> Study:
    made = demo_study(
        base, seeds=(0, 1, 2), primary="drift", companions=("effect",), smallest_effect=0.005
    )
    return replace(made, reproduce=("pip install .", "pippin study run demo"))


@pytest.fixture(scope="session")
def measure() -> Callable[..., Measure]:
    def make(name: str, value: float, **changes: object) -> Measure:
        fields = {"low": value - 0.01, "high": value + 0.01, "interval_over": "samples"}
        fields |= {"n": 64, "unit": "distance", "better": "lower", **changes}
        return Measure(name=name, value=value, **fields)

    return make


@pytest.fixture(scope="session")
def execute(measure: Callable[..., Measure]) -> Callable[[Recipe, Path], list[Measure]]:
    """Drift falls by 0.02 (+- a little) from the entangled to the disentangled arm."""

    def run(recipe: Recipe, folder: Path) -> list[Measure]:
        disentangled = recipe.conditioning.rules["label"] == "attention"
        recipe.save(folder / "config.json")
        lines = [
            {"images": i, "loss": 1.0 + 1000 / i, "images_per_second": 100.0, "bad_steps": 0}
            for i in range(1000, 11_000, 1000)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "log.jsonl").write_text(text + '{"images": 11')
        for place in (
            "evaluation/samples/grid",
            "drift/original_size",
            "real/drift/original_size",
        ):
            path = folder / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 32), (200, 100, recipe.seed)).save(path)
        images = []
        for seed in range(4):
            row = {"file": f"seed-{seed}.png", "seed": seed, "label": seed % 3}
            images.append(row | {"class": ("cats", "dogs", "flags")[seed % 3]})
            colour = (60 * seed, 255 * disentangled, recipe.seed)
            Image.new("RGB", (8, 8), colour).save(folder / "evaluation/samples" / row["file"])
        (folder / "evaluation/samples/manifest.json").write_text(json.dumps({"images": images}))
        rows = {
            "original_size": "top row: original_size = (32.0, 32.0); bottom row: (256.0, 256.0)"
        }
        (folder / "drift/manifest.json").write_text(json.dumps(rows))
        drift = 0.06 + 0.001 * recipe.seed - disentangled * (0.02 + 0.001 * recipe.seed)
        return [
            measure("drift", drift),
            measure("drift", 0.0, subject="real", n=60),
            measure("drift", 0.001 * recipe.seed, subject="untrained"),
            measure("effect", 0.8 + 0.01 * recipe.seed, better="higher"),
        ]

    return run


@pytest.fixture(scope="session")
def finished_once(study, execute, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run_study(study, folder, execute, lambda text: None)
    return folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A study's folder with all runs done; each test has its own copy."""
    folder = tmp_path / "study"
    shutil.copytree(finished_once, folder)
    return folder
