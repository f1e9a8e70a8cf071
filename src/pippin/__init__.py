# SPDX-License-Identifier: Apache-2.0
"""pippin: apple-to-apple training recipes for latent diffusion models.

The names below are the main Python API; docs/reference/python.md shows their use. Each is imported
on first access, so that the command line's help does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pippin.conditioning.registry import register_conditioner
    from pippin.config import ConfigError
    from pippin.denoisers.registry import register_denoiser
    from pippin.evaluation.image_metric import ImageMetric
    from pippin.evaluation.metric import MetricKind
    from pippin.evaluation.metric_registry import declare_metric
    from pippin.recipes.recipe import Recipe
    from pippin.recipes.table import get_recipe
    from pippin.run.evaluate import evaluate_run
    from pippin.run.execute import execute
    from pippin.run.load import load_run
    from pippin.run.sample import draw, draw_into
    from pippin.run.train import train
    from pippin.study.report import render_report
    from pippin.study.runner import run_study
    from pippin.study.study import Axis, Study

__all__ = [
    "Axis",
    "ConfigError",
    "ImageMetric",
    "MetricKind",
    "Recipe",
    "Study",
    "declare_metric",
    "draw",
    "draw_into",
    "evaluate_run",
    "execute",
    "get_recipe",
    "load_run",
    "register_conditioner",
    "register_denoiser",
    "render_report",
    "run_study",
    "train",
]
_MODULES = {
    "Axis": "study.study",
    "ConfigError": "config",
    "ImageMetric": "evaluation.image_metric",
    "MetricKind": "evaluation.metric",
    "Recipe": "recipes.recipe",
    "Study": "study.study",
    "declare_metric": "evaluation.metric_registry",
    "draw": "run.sample",
    "draw_into": "run.sample",
    "evaluate_run": "run.evaluate",
    "execute": "run.execute",
    "get_recipe": "recipes.table",
    "load_run": "run.load",
    "register_conditioner": "conditioning.registry",
    "register_denoiser": "denoisers.registry",
    "render_report": "study.report",
    "run_study": "study.runner",
    "train": "run.train",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
