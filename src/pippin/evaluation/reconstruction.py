# SPDX-License-Identifier: Apache-2.0
"""Reconstruction quality of an autoencoder on held-out images."""

from collections.abc import Iterator
from typing import Any

from pippin.data.config import DataConfig
from pippin.data.sources.factory import build_source
from pippin.data.views.views import make_views
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.statistics import measure_reconstruction, reconstruct
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.metrics.frechet import GaussianStatistics, frechet_distance
from pippin.types import Images

BATCH = 32
"""Images per batch."""
INPUT_SIZE = 64
"""Input side of the feature network in pixels."""


def reconstruction_figures(autoencoder: Autoencoder, data: DataConfig) -> dict[str, Any]:
    """PSNR (all pixels, and foreground) and Frechet distance of reconstructions of view 0 of every
    held-out image.

    Args:
        autoencoder: on its device.
        data: data set of the held-out images.

    Raises:
        ValueError: the data set holds out no image.
    """
    quality = measure_reconstruction(autoencoder, held_out_batches(data))
    figures = {
        "held_out_images": quality.images,
        "psnr_mean_of_images": round(quality.psnr, 3),
        "psnr_of_mean_error": round(quality.psnr_of_mean_error, 3),
        "psnr_foreground": round(quality.foreground_psnr, 3),
    }
    if quality.images > 1:  # one image has no distribution
        figures |= _frechet(autoencoder, data)
    return {**figures, "fingerprint": autoencoder.fingerprint}


def _frechet(autoencoder: Autoencoder, data: DataConfig) -> dict[str, Any]:
    config = EvaluationConfig(input_size=INPUT_SIZE)
    extractor = build_features(config, autoencoder.shift.device)
    decoded = (reconstruct(autoencoder, images) for images in held_out_batches(data))
    first, second = (
        GaussianStatistics.from_features(extract(extractor, images).values)
        for images in (held_out_batches(data), decoded)
    )
    return {
        f"FD-{extractor.name} of reconstructions": round(frechet_distance(first, second), 3),
        "features_input_size": INPUT_SIZE,
    }


def held_out_batches(data: DataConfig) -> Iterator[Images]:
    """View 0 of every held-out image."""
    source = build_source(data, "held-out")
    for start in range(0, len(source), BATCH):
        indices = range(start, min(start + BATCH, len(source)))
        yield make_views(source, indices, [0] * len(indices)).images
