# SPDX-License-Identifier: Apache-2.0
"""Sizes of a recipe's data: numbers of classes and training images, bytes of caches per image."""

import torch

from pippin.conditioning.config import TextSemantic
from pippin.control import Size
from pippin.data.config import ImagesConfig, NoDataConfig, OpenMojiConfig, ShapesConfig
from pippin.data.views.crop import whole_image
from pippin.recipes.recipe import Recipe, Shape, latent_layout
from pippin.training.repa.projector import planned_width
from pippin.types import stack_controls

IMAGENET_CLASSES = 1000
IMAGENET_IMAGES = 1_281_167
"""Training images of ILSVRC 2012 (Russakovsky et al. 2015, arXiv 1409.0575)."""
CC12M_IMAGES = 12_423_374
"""Pairs of the published list of Conceptual 12M (Changpinyo et al. 2021, arXiv 2102.08981)."""


def num_classes_of(recipe: Recipe) -> int:
    """Number of classes: OpenMoji's groups, those of shapes, a converted model's classes, or
    ImageNet's where the data settings do not say."""
    if isinstance(recipe.data, NoDataConfig):
        return recipe.data.num_classes
    if isinstance(recipe.data, OpenMojiConfig):
        from pippin.data.sources.openmoji import CLASSES

        return len(CLASSES)
    if isinstance(recipe.data, ShapesConfig):
        from pippin.data.sources.shapes.shapes_source import ShapesSource

        return len(ShapesSource(recipe.data, "train").class_names)
    return IMAGENET_CLASSES


def num_training_images(recipe: Recipe) -> int | None:
    """Number of training images of OpenMoji and of shapes; ImageNet's for recipes that follow a
    paper, or CC12M's where they read text; None where it is unknown."""
    if isinstance(recipe.data, OpenMojiConfig):
        from pippin.data.sources.openmoji import OpenMojiSource

        return len(OpenMojiSource(recipe.data, "train"))
    if isinstance(recipe.data, ShapesConfig):
        return recipe.data.images
    if not isinstance(recipe.data, ImagesConfig) or recipe.family not in ("paper", "published"):
        return None
    reads_text = isinstance(recipe.conditioning.semantic, TextSemantic)
    count = CC12M_IMAGES if reads_text else IMAGENET_IMAGES
    return min(count, recipe.data.max_pictures or count)


def latent_bytes(recipe: Recipe, shape: Shape) -> int:
    """Bytes of the latent cache per image: for each view the moments' means, their deviations
    unless the encoder is deterministic, the control record, and three integers. 0 where nothing is
    cached."""
    if isinstance(recipe.data, NoDataConfig) or not recipe.cache.enabled:
        return 0
    item = torch.empty((), dtype=getattr(torch, recipe.cache.dtype)).element_size()
    control = stack_controls([whole_image(Size(256, 256))]).values()
    channels, height, width = shape
    num_moments = 2 if latent_layout(recipe).has_variance else 1
    view = num_moments * channels * height * width * item + sum(x.nbytes for x in control) + 3 * 8
    return recipe.data.views * view


def feature_bytes(recipe: Recipe, shape: Shape) -> int:
    """Bytes of the cache of REPA's features per image: for each view one float16 vector a token,
    and two integers. 0 where there are none."""
    repa = recipe.train.repa
    if isinstance(recipe.data, NoDataConfig) or not repa.enabled:
        return 0
    tokens = shape[1] * shape[2] // recipe.denoiser.side_multiple**2
    return recipe.data.views * (tokens * planned_width(repa) * torch.float16.itemsize + 2 * 8)


def text_bytes(recipe: Recipe) -> int:
    """Bytes of the caption cache per image, if no two images share a caption: for each kind of
    caption tokens, mask, truncation flag and, where the model reads it, the pooled vector."""
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        return 0
    item = torch.empty((), dtype=getattr(torch, recipe.text.dtype)).element_size()
    tokens = semantic.num_tokens * ((semantic.token_features or 0) * item + 1)
    return len(recipe.text.captions) * (tokens + 1 + (semantic.pooled_features or 0) * item)
