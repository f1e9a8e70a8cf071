# SPDX-License-Identifier: Apache-2.0
"""Cost of one sample: all network evaluations of the solver, of the model and of its guide."""

from pippin.evaluation.measure import Measure
from pippin.evaluation.metrics.cost import denoiser_flops, meta_model
from pippin.evaluation.metrics.declared.cost import SAMPLING_MACS
from pippin.recipes.recipe import Recipe
from pippin.sampling.config import SamplingConfig
from pippin.sampling.load import LoadedRun


def sampling_cost(run: LoadedRun, sampling: SamplingConfig) -> Measure:
    """``sampling MACs``: evaluations of the model, and of a guide, each times its own MACs."""
    side = run.recipe.data.resolution
    shape = run.components.raw_autoencoder.latent_shape(*sampling.pixels(side))
    evaluations, guide = run.sampler(sampling).evaluations, run.guide(sampling)
    macs = evaluations.model * _macs(run.recipe, run.num_classes, shape)
    if guide is not None:
        macs += evaluations.guide * _macs(guide.recipe, guide.num_classes, shape)
    protocol = {
        "sampling.evaluations_per_image": sum(evaluations),
        "sampling.guide_evaluations_per_image": evaluations.guide,
    }
    return Measure.of(SAMPLING_MACS(), float(macs), n=1, protocol=protocol)


def _macs(recipe: Recipe, num_classes: int, latent_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one evaluation of a recipe's denoiser."""
    model = meta_model(recipe.conditioning, recipe.denoiser, num_classes, latent_shape[0])
    return denoiser_flops(model, latent_shape) // 2
