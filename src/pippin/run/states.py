# SPDX-License-Identifier: Apache-2.0
"""Memory and disk size of a training run's states, activations apart."""

from typing import NamedTuple

import torch

from pippin.conditioning.config import TextSemantic
from pippin.control import Size
from pippin.data.config import ImagesConfig, NoDataConfig, OpenMojiConfig, ShapesConfig
from pippin.data.crop import whole_image
from pippin.model import LatentDenoiser
from pippin.muon import ITERATIONS, Muon
from pippin.recipes.latents import Shape
from pippin.recipes.recipe import Recipe
from pippin.training.config import TrainConfig
from pippin.training.optimizer import build_optimizers
from pippin.types import stack_controls

IMAGENET_CLASSES = 1000
IMAGENET_IMAGES = 1_281_167
"""Training images of ILSVRC 2012 (Russakovsky et al. 2015, arXiv 1409.0575)."""
CC12M_IMAGES = 12_423_374
"""Pairs of the published list of Conceptual 12M (Changpinyo et al. 2021, arXiv 2102.08981)."""
FP32 = 4
"""Bytes per number: weights, gradients, optimizer and EMA are fp32 at every precision."""


class States(NamedTuple):
    """Bytes of one full copy of each state, and the optimizer's FLOPs in a step."""

    weights: int
    gradients: int
    optimizer: int
    ema: int
    optimizer_flops: int
    """FLOPs of Muon's matrix products; elementwise work is left out."""

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights, EMA, optimizer."""
        return self.weights + self.ema + self.optimizer


def training_states(model: LatentDenoiser, train: TrainConfig) -> States:
    """Estimate the states of training a model.

    Adam has two averages of each number and a step count of each tensor, Muon one average of each
    number. Every EMA is as large as the weights.

    Args:
        model: built by :func:`pippin.run.cost.meta_model`.
        train: configuration of optimizers and averages.
    """
    parameters = FP32 * sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    optimizer = flops = 0
    for member in build_optimizers(model, train):
        owned = [p for group in member.param_groups for p in group["params"]]
        numbers = sum(p.numel() for p in owned)
        if isinstance(member, Muon):
            optimizer += FP32 * numbers
            flops += sum(orthogonalise_flops(p.shape[0], p.numel() // p.shape[0]) for p in owned)
        else:
            optimizer += 2 * FP32 * numbers + FP32 * len(owned)
    return States(
        weights=parameters + buffers,
        gradients=parameters,
        optimizer=optimizer,
        ema=parameters * (1 + len(train.ema_extra)),
        optimizer_flops=flops,
    )


def orthogonalise_flops(rows: int, columns: int) -> int:
    """FLOPs of :func:`pippin.muon.orthogonalise`: with m the smaller side and n the other, an
    iteration multiplies (m, n) (n, m), (m, m) (m, m) and (m, m) (m, n)."""
    m, n = sorted((rows, columns))
    return ITERATIONS * (4 * m * m * n + 2 * m * m * m)


def num_classes_of(recipe: Recipe) -> int:
    """Number of classes: OpenMoji's groups, those of shapes, a converted model's classes, or
    ImageNet's where the data settings do not say."""
    if isinstance(recipe.data, NoDataConfig):
        return recipe.data.num_classes
    if isinstance(recipe.data, OpenMojiConfig):
        from pippin.data.openmoji import CLASSES

        return len(CLASSES)
    if isinstance(recipe.data, ShapesConfig):
        from pippin.data.shapes.source import ShapesSource

        return len(ShapesSource(recipe.data, "train").class_names)
    return IMAGENET_CLASSES


def num_training_images(recipe: Recipe) -> int | None:
    """Number of training images of OpenMoji and of shapes; ImageNet's for recipes that follow a
    paper, or CC12M's where they read text; None where it is unknown."""
    if isinstance(recipe.data, OpenMojiConfig):
        from pippin.data.openmoji import OpenMojiSource

        return len(OpenMojiSource(recipe.data, "train"))
    if isinstance(recipe.data, ShapesConfig):
        return recipe.data.images
    if not isinstance(recipe.data, ImagesConfig) or recipe.family not in ("paper", "published"):
        return None
    reads_text = isinstance(recipe.conditioning.semantic, TextSemantic)
    count = CC12M_IMAGES if reads_text else IMAGENET_IMAGES
    return min(count, recipe.data.max_pictures or count)


def latent_bytes(recipe: Recipe, shape: Shape) -> int:
    """Bytes of the latent cache per image: for each view the moments' means and deviations, the
    control record, and three integers. 0 where nothing is cached."""
    if isinstance(recipe.data, NoDataConfig) or not recipe.cache.enabled:
        return 0
    item = torch.empty((), dtype=getattr(torch, recipe.cache.dtype)).element_size()
    control = stack_controls([whole_image(Size(256, 256))]).values()
    channels, height, width = shape
    view = 2 * channels * height * width * item + sum(x.nbytes for x in control) + 3 * 8
    return recipe.data.views * view


def text_bytes(recipe: Recipe) -> int:
    """Bytes of the caption cache per image, if no two images share a caption: for each kind of
    caption tokens, mask, truncation flag and, where the model reads it, the pooled vector."""
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        return 0
    item = torch.empty((), dtype=getattr(torch, recipe.text.dtype)).element_size()
    tokens = semantic.num_tokens * ((semantic.token_features or 0) * item + 1)
    return len(recipe.text.captions) * (tokens + 1 + (semantic.pooled_features or 0) * item)
