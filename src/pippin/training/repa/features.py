# SPDX-License-Identifier: Apache-2.0
"""Features of a run's training images for REPA, from the cache beside the latents."""

import hashlib
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from pippin.config import ConfigError
from pippin.control import Size
from pippin.data.cache.feature_cache import (
    FeatureEncoder,
    MomentsWithFeatures,
    build_feature_cache,
)
from pippin.data.moments import Bucket, BucketedMoments, MomentSource, enough_rows
from pippin.data.source import ImageSource
from pippin.data.sources.images import ImageFolderSource
from pippin.evaluation.features.dinov2 import Dinov2
from pippin.evaluation.features.efflite0 import EffLite0
from pippin.runs.checkpoint_state import load_state
from pippin.runs.components import Components
from pippin.system.progress import Progress
from pippin.system.text import print_above_progress
from pippin.training.repa.config import NO_IMAGES, RepaConfig
from pippin.training.repa.projector import EFFLITE0_STAGE

Grid = tuple[int, int]
SMALLEST_INPUT = 128
"""Smallest input side of EfficientNet-lite0 in pixels, as in evaluations."""
ENTRY = "repa_encoder"
"""Name of the fingerprint in a checkpoint's state."""
RESIZE = "bilinear antialiased resize to the grid of tokens"


class EffLite0Maps:
    """Features of EfficientNet-lite0 at stride 16, before any pooling; a
    :class:`pippin.data.cache.feature_cache.FeatureEncoder`.

    Views are resized to a square of 16 pixels for each token along the longer side, and of 128
    pixels or more.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device, self._networks = device, dict[int, EffLite0]()
        own = self._network(SMALLEST_INPUT).fingerprint
        self.fingerprint = _digest(own, "stride 16, input 16 x tokens or 128", RESIZE)

    @torch.inference_mode()
    def encode(self, images: Tensor, grid: Grid) -> Float[Tensor, "batch 112 rows columns"]:
        """See :class:`pippin.data.cache.feature_cache.FeatureEncoder`."""
        network = self._network(max(SMALLEST_INPUT, 16 * max(grid)))
        stages = network.stages(images)
        (features,) = islice(stages, EFFLITE0_STAGE, EFFLITE0_STAGE + 1)
        return _resized(features, grid)

    def _network(self, side: int) -> EffLite0:
        if side not in self._networks:
            self._networks[side] = EffLite0(side, self._device)
        return self._networks[side]


class Dinov2Patches:
    """Patch tokens of a DINOv2 of 224 pixels, after its last normalisation; a
    :class:`pippin.data.cache.feature_cache.FeatureEncoder`."""

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        self._network = Dinov2(source, device, setting="train.repa.source")
        self.fingerprint = _digest(self._network.fingerprint, "patch tokens", RESIZE)

    @torch.inference_mode()
    def encode(self, images: Tensor, grid: Grid) -> Float[Tensor, "batch features rows columns"]:
        """See :class:`pippin.data.cache.feature_cache.FeatureEncoder`."""
        patches = self._network.patches(enough_rows(images))
        return _resized(patches[: len(images)], grid)


def build_encoder(config: RepaConfig, device: torch.device | str) -> FeatureEncoder:
    """The frozen encoder of a configuration.

    Raises:
        ValueError: no DINOv2 of that name, or transformers is not installed.
    """
    if config.encoder == "efflite0":
        return EffLite0Maps(device)
    return Dinov2Patches(str(config.source), device)


def recorded_encoder(checkpoint: Path | None) -> dict[str, Any]:
    """The entry of a checkpoint's state with the fingerprint of the encoder; empty without one."""
    state = {} if checkpoint is None else load_state(checkpoint)
    return {ENTRY: state[ENTRY]} if ENTRY in state else {}


def refuse_other_encoder(record: dict[str, Any], fingerprint: str) -> None:
    """Add the encoder to a run's record, or compare it with the recorded one.

    Raises:
        ValueError: the run began with other features.
    """
    if record.setdefault(ENTRY, fingerprint) != fingerprint:
        raise ValueError(
            f"this run was trained with features of the encoder {record[ENTRY]}, and "
            f"train.repa names {fingerprint} now: restore its weights, or start another run"
        )


def training_moments(components: Components) -> MomentSource:
    """Moments of a run's training images, with cached features where the recipe aligns to them;
    all ranks must call it.

    Raises:
        ConfigError, OSError, ValueError: as :func:`moments_with_features`.
    """
    repa = components.located.train.repa
    if not repa.enabled:
        return components.moments
    return moments_with_features(components, build_encoder(repa, components.device))


def moments_with_features(components: Components, encoder: FeatureEncoder) -> MomentSource:
    """Moments of a run's training images with cached features; all ranks must call it.

    Raises:
        ConfigError: the latents were encoded from shards, so there are no images.
        OSError, ValueError: as for latents.
    """
    source, moments = components.train_source, components.moments
    if isinstance(source, ImageFolderSource) and source.table is not None:
        raise ConfigError(NO_IMAGES)
    if not isinstance(moments, BucketedMoments):
        return _with_features(components, encoder, source, moments, source.config.view_sizes[0])
    assert isinstance(source, ImageFolderSource)
    buckets = []
    for bucket in moments.buckets:
        images = source.subset(bucket.images.tolist())
        own = _with_features(components, encoder, images, bucket.moments, bucket.size)
        buckets.append(Bucket(size=bucket.size, images=bucket.images, moments=own))
    return BucketedMoments(buckets)


def _with_features(
    components: Components,
    encoder: FeatureEncoder,
    source: ImageSource,
    moments: MomentSource,
    size: Size,
) -> MomentSource:
    """Moments of images of one size with their features."""
    pixels = components.raw_autoencoder.factor * components.recipe.denoiser.side_multiple
    builders = components.builders
    builders.wait()
    with Progress(
        components.console,
        "caching features",
        unit="views",
        resumes=True,
        shown=builders.is_main,
    ) as progress:
        features = build_feature_cache(
            source,
            encoder,
            (size[0] // pixels, size[1] // pixels),
            components.located.cache,
            workers=components.recipe.train.workers,
            verify=builders.verify,
            ready=builders.ready,
            progress=progress.update,
            say=(lambda text: _say(components, text)) if builders.is_main else None,
        )
    return MomentsWithFeatures(moments, features)


def _say(components: Components, text: str) -> None:
    print_above_progress(components.console, text, label="feature cache:")


def _resized(features: Tensor, grid: Grid) -> Tensor:
    if tuple(features.shape[2:]) == grid:
        return features
    return interpolate(features, size=grid, mode="bilinear", antialias=True)


def _digest(*parts: str) -> str:
    return hashlib.sha256(", ".join(parts).encode()).hexdigest()[:16]
