# SPDX-License-Identifier: Apache-2.0
"""pippin: apple-to-apple training recipes for latent diffusion models.

The names below are the main Python API; docs/reference/python.md shows their use. Each is imported
on first access, so that the command line's help does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pippin.conditioning.conditioner import register_conditioner
    from pippin.config import ConfigError
    from pippin.denoisers.registry import register_denoiser
    from pippin.evaluation.image_metric import ImageMetric
    from pippin.evaluation.metric import MetricKind
    from pippin.evaluation.metric_registry import declare_metric
    from pippin.evaluation.runs.evaluate import evaluate_run
    from pippin.images.display import show_images
    from pippin.recipes.recipe import Recipe
    from pippin.recipes.table import get_recipe
    from pippin.reports.report import render_report
    from pippin.sampling.load import load_run
    from pippin.sampling.sample import draw, draw_into
    from pippin.studies.execution import execute
    from pippin.studies.runner import run_study
    from pippin.studies.study import Axis, Study
    from pippin.training.callbacks import Callback
    from pippin.training.train import train

__all__ = [
    "Axis",
    "Callback",
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
    "show_images",
    "train",
]
_MODULES = {
    "Axis": "studies.study",
    "Callback": "training.callbacks",
    "ConfigError": "config",
    "ImageMetric": "evaluation.image_metric",
    "MetricKind": "evaluation.metric",
    "Recipe": "recipes.recipe",
    "Study": "studies.study",
    "declare_metric": "evaluation.metric_registry",
    "draw": "sampling.sample",
    "draw_into": "sampling.sample",
    "evaluate_run": "evaluation.runs.evaluate",
    "execute": "studies.execution",
    "get_recipe": "recipes.table",
    "load_run": "sampling.load",
    "register_conditioner": "conditioning.conditioner",
    "register_denoiser": "denoisers.registry",
    "render_report": "reports.report",
    "run_study": "studies.runner",
    "show_images": "images.display",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
