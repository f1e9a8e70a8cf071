# SPDX-License-Identifier: Apache-2.0
"""Parts of a recipe that do not fit each other, found before anything is trained."""

from dataclasses import replace

from pippin.config import ConfigError
from pippin.data.config import NoDataConfig
from pippin.diffusion.rescale import build_schedule
from pippin.objective import check_objective
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import check_guidance
from pippin.sampling.sampler import grid_of


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that could not be trained, sampled or measured to its end.

    Raises:
        ConfigError: naming the settings that do not fit.
        ValueError: sampling that the schedule does not have.
    """
    check_guidance(recipe.sampling, recipe.conditioning)
    check_objective(recipe.diffusion, recipe.denoiser)
    grid_of(recipe.sampling, build_schedule(recipe.diffusion))
    _check_averages(recipe)
    _check_measured_guidance(recipe)
    _check_size_curve(recipe)
    _check_looks(recipe)


def _check_averages(recipe: Recipe) -> None:
    """Samples need weights that training keeps."""
    there = ["ema", "raw", *(one.name for one in recipe.train.ema_extra)]
    if recipe.sampling.weights not in there:
        raise ConfigError(
            f"sampling.weights {recipe.sampling.weights} is no average of this recipe; there are: "
            f"{', '.join(there)}; train.ema_extra makes others"
        )


def _check_measured_guidance(recipe: Recipe) -> None:
    """The scales at which an evaluation draws must be such that the model knows."""
    evaluation, guidance = recipe.evaluation, recipe.sampling.guidance
    wanted = {
        "evaluation.scales": [replace(guidance, semantic_scale=x) for x in evaluation.scales],
        "evaluation.control_scales": [
            replace(guidance, control_scale=x, reference="null") for x in evaluation.control_scales
        ],
    }
    for name, guidances in wanted.items():
        for one in guidances:
            sampling = replace(recipe.sampling, guidance=one, negative_prompt=None)
            try:
                check_guidance(sampling, recipe.conditioning)
            except ConfigError as error:
                raise ConfigError(f"{name} {getattr(evaluation, name[11:])}: {error}") from error


def _check_size_curve(recipe: Recipe) -> None:
    asked, side = recipe.evaluation.size_curve, recipe.data.resolution
    if any(small >= side for small in asked):
        raise ConfigError(
            f"evaluation.size_curve must lie below data.resolution {side}, or the images cannot "
            f"show the difference; got {asked}"
        )


def _check_looks(recipe: Recipe) -> None:
    """A control that never varies says nothing."""
    control, data = recipe.conditioning.control, recipe.data
    if isinstance(data, NoDataConfig):
        return
    laws = {
        "jpeg_quality": ("data.look.jpeg_share", data.look.jpeg_share),
        "colour_jitter": ("data.look.colour_jitter", data.look.colour_jitter),
    }
    for field, (setting, value) in laws.items():
        if field in (*control.high, *control.low) and not value:
            raise ConfigError(
                f"conditioning.control reads {field}, which is the same in every picture while "
                f"{setting} is 0: set it above 0, or leave the field out"
            )
