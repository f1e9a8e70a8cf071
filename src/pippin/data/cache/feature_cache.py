# SPDX-License-Identifier: Apache-2.0
"""Cache of the features of every view of every image, beside the latents."""

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float16, Int
from torch import Tensor

from pippin.config import protocol
from pippin.data.cache.build import build_shards
from pippin.data.cache.build_state import Say
from pippin.data.cache.cache_folders import FEATURE_PREFIX
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.cache.manifest import CACHE_VERSION, PLACES, Verify, cache_key
from pippin.data.cache.shard_claims import Ready
from pippin.data.config import CacheConfig
from pippin.data.moments import MomentBatch, MomentSource
from pippin.data.source import ImageSource
from pippin.data.views.views import ViewBatch
from pippin.system.progress import ProgressCallback
from pippin.types import Images

DTYPE = torch.float16
"""Number type of stored features."""
LARGEST = torch.finfo(DTYPE).max


@runtime_checkable
class FeatureEncoder(Protocol):
    """Interface of a frozen encoder of images."""

    fingerprint: str
    """Fingerprint of weights and preprocessing."""

    def encode(
        self, images: Images, grid: tuple[int, int]
    ) -> Float[Tensor, "batch features rows columns"]:
        """Features of uint8 images, on a grid of (rows, columns) tokens."""
        ...


def feature_ingredients(
    source: ImageSource, encoder: FeatureEncoder, grid: tuple[int, int]
) -> dict[str, Any]:
    """Everything that determines the content of a cache, as JSON values by name."""
    views = {f"data.{path}": value for path, value in protocol(source.config).items()}
    for path in PLACES:
        views.pop(f"data.{path}", None)
    values = {
        "cache_version": CACHE_VERSION,
        "source": source.source_hash(),
        "split": source.split,
        "features": encoder.fingerprint,
        "grid": list(grid),
        "dtype": str(DTYPE).removeprefix("torch."),
        **views,
    }
    known: dict[str, Any] = json.loads(json.dumps(values))
    return known


def build_feature_cache(
    source: ImageSource,
    encoder: FeatureEncoder,
    grid: tuple[int, int],
    config: CacheConfig,
    *,
    workers: int = 0,
    verify: Verify = "sha256",
    progress: ProgressCallback | None = None,
    say: Say | None = None,
    ready: Ready | None = None,
) -> LatentCache:
    """Build, finish or repair the features of these images, and open them. Any number of
    processes share the work, see :func:`pippin.data.cache.build.build_cache`.

    Args:
        source: the images, of one size of views.
        encoder: the frozen encoder.
        grid: (rows, columns) of the denoiser's tokens.
        config: folder and shard size.
        workers, verify, progress, say, ready: as for latents.

    Raises:
        OSError, FormatError: as for latents.
        ValueError: a feature is not finite in float16.
    """

    def encode(batch: ViewBatch) -> dict[str, Tensor]:
        features = encoder.encode(batch.images, grid).float().cpu()
        if not (features.abs() <= LARGEST).all():
            raise ValueError(
                f"features must be finite and at most {LARGEST:g}, to be stored in float16; the "
                "encoder returned others: check its weights"
            )
        return {"features": features.to(DTYPE).contiguous()}

    ingredients = feature_ingredients(source, encoder, grid)
    return build_shards(
        source,
        encode,
        config,
        ingredients,
        Path(config.folder) / f"{FEATURE_PREFIX}{cache_key(ingredients)}",
        workers=workers,
        verify=verify,
        progress=progress,
        say=say,
        ready=ready,
    )


class MomentsWithFeatures:
    """Moments and cached features of the same views; a
    :class:`pippin.data.moments.MomentSource`.

    Args:
        moments: the moments.
        features: rows of :func:`build_feature_cache`, of the same images.
    """

    def __init__(self, moments: MomentSource, features: LatentCache) -> None:
        self.moments, self.features = moments, features
        self.num_views = moments.num_views

    def __len__(self) -> int:
        """Number of images in one epoch."""
        return len(self.moments)

    def fetch(self, indices: Int[Tensor, " batch"], views: Int[Tensor, " batch"]) -> MomentBatch:
        """See :class:`pippin.data.moments.MomentSource`."""
        batch = self.moments.fetch(indices, views)
        features: Float16[Tensor, "batch features rows columns"] = self.features.rows(
            indices, views
        )["features"]
        return MomentBatch(
            moments=batch.moments, control=batch.control, label=batch.label, features=features
        )
