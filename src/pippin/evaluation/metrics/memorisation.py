# SPDX-License-Identifier: Apache-2.0
"""Memorisation: nearest training images of samples, in feature space.

The distance of every sample to its nearest training image is compared with the same distance of
held-out real images, which cannot be copies. A sample nearer than all but 5 % of the held-out
images is a near copy; a share of near copies far above 0.05 means memorisation. Features encode
content more than position: a near copy need not be a copy pixel by pixel. Samples are decoded from
latents and real images are not, which increases the samples' distances and hides some copies.
"""

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.evaluation.features.extraction import Features, check_same_extractor
from pippin.evaluation.measure import (
    RESAMPLES,
    Measure,
    Subject,
    mean_measure,
    percentile_interval,
)
from pippin.evaluation.metrics.declared.memorisation import NEAR_COPIES, NEAREST_TRAINING_DISTANCE
from pippin.rng import generator

NEAR_SHARE = 0.05
"""Share of held-out images that are near copies by definition."""
ROWS = 512
"""Number of images compared at once."""
MIN_HELD_OUT = 100
"""Smallest number of held-out images for which the 5 % quantile is meaningful."""


def nearest_distances(images: Features, training: Features) -> Float64[Tensor, " images"]:
    """Euclidean distance of each image to the nearest training image.

    Raises:
        ValueError: features of two different extractors.
    """
    check_same_extractor(images, training)
    training_values = training.values.double()
    distances = [
        torch.cdist(
            part.double(), training_values, compute_mode="donot_use_mm_for_euclid_dist"
        ).amin(1)
        for part in images.values.split(ROWS)
    ]
    return torch.cat(distances)


def memorisation_measures(
    generated: Features, held_out: Features, training: Features, *, seed: int
) -> list[Measure]:
    """``nearest training distance`` of samples and of held-out images; ``near copies`` of samples,
    if at least :data:`MIN_HELD_OUT` images are held out.

    Args:
        generated: features of samples.
        held_out: features of real images of the same kind that were not trained on.
        training: features of the training images' clean views.
        seed: seed of the bootstrap over images.
    """
    distances: dict[Subject, Tensor] = {
        "arm": nearest_distances(generated, training),
        "real": nearest_distances(held_out, training),
    }
    shared = generated.protocol() | {
        "reference_samples": len(training),
        "reference_hash": training.image_hash,
        "held_out_samples": len(held_out),
        "held_out_hash": held_out.image_hash,
    }
    means = [
        mean_measure(
            NEAREST_TRAINING_DISTANCE(),
            values,
            seed=seed,
            subject=subject,
            protocol=shared,
        )
        for subject, values in distances.items()
    ]
    if len(held_out) < MIN_HELD_OUT:  # the quantile would depend on one image
        return means
    return [*means, _near_copies(distances["arm"], distances["real"], seed, shared)]


def _near_copies(generated: Tensor, real: Tensor, seed: int, protocol: dict[str, Any]) -> Measure:
    """Share of near copies, with a bootstrap over samples and over the held-out images that set
    the threshold."""
    resampling = generator("subset", seed, "bootstrap", NEAR_COPIES.name)
    shares = []
    for _ in range(RESAMPLES):
        threshold = real[torch.randint(len(real), (len(real),), generator=resampling)].quantile(
            NEAR_SHARE
        )
        resampled = generated[
            torch.randint(len(generated), (len(generated),), generator=resampling)
        ]
        shares.append((resampled < threshold).double().mean())
    low, high = percentile_interval(torch.stack(shares))
    return Measure.of(
        NEAR_COPIES(),
        float((generated < real.quantile(NEAR_SHARE)).double().mean()),
        low=low,
        high=high,
        interval_over="samples",
        n=len(generated),
        protocol=protocol | {"near_share": NEAR_SHARE, "seed": seed},
    )
