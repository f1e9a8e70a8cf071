# SPDX-License-Identifier: Apache-2.0
"""Does a model draw its training pictures again?

For every image the distance to the nearest training picture, in the space of features. Held-out
real pictures say how near a training picture is that was never copied: an image that is nearer
than all but 5 % of them is called a near copy, so real pictures have 0.05 of these by definition
and a share far above that means memorisation. Features see what a picture shows and little of
where: a near copy need not be one pixel by pixel.
"""

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.evaluation.features import Features
from pippin.evaluation.measure import Measure, Subject, mean_measure

NEAR = 0.05
"""Share of held-out pictures whose nearest training picture is a near copy."""
ROWS = 512
"""Images compared at once."""


def nearest_distances(images: Features, training: Features) -> Float64[Tensor, " images"]:
    """Euclidean distance of each image to the nearest training picture.

    Raises:
        ValueError: features of two different extractors.
    """
    if images.protocol() != training.protocol():
        raise ValueError(
            "features of different extractors cannot be compared: "
            f"{images.protocol()} and {training.protocol()}"
        )
    known = training.values.double()
    parts = [
        torch.cdist(part.double(), known, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        for part in images.values.split(ROWS)
    ]
    return torch.cat(parts)


def memorisation_measures(
    generated: Features, held_out: Features, training: Features, *, seed: int
) -> list[Measure]:
    """``nearest training distance`` and ``near copies``, of samples and of held-out pictures.

    Args:
        generated: of samples.
        held_out: of real pictures of the same kind that were not trained on.
        training: of the training pictures' clean views.
        seed: of the bootstrap over images.
    """
    real = nearest_distances(held_out, training)
    threshold = torch.quantile(real, NEAR)
    shared = generated.protocol() | {
        "reference_samples": len(training),
        "reference_hash": training.image_hash,
        "held_out_samples": len(held_out),
        "near_below": float(threshold),
    }
    sides: list[tuple[Tensor, Subject]] = [
        (nearest_distances(generated, training), "arm"),
        (real, "real"),
    ]
    found = []
    for distances, subject in sides:
        common: dict[str, Any] = {"seed": seed, "subject": subject, "protocol": shared}
        name, near = "nearest training distance", (distances < threshold).double()
        found += [
            mean_measure(name, distances, unit="features", better="neither", **common),
            mean_measure("near copies", near, unit="share", better="lower", **common),
        ]
    return found
