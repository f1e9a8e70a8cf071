# SPDX-License-Identifier: Apache-2.0
"""Does a model draw its training pictures again?

For every image the distance to the nearest training picture, in the space of features. Held-out
real pictures say how near a training picture is that was never copied: an image that is nearer
than all but 5 % of them is called a near copy, and a share far above 0.05 means memorisation.
Features see what a picture shows and little of where: a near copy need not be one pixel by pixel.
Samples have passed a decoder and real pictures have not, which moves samples away and hides some.
"""

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from pippin.evaluation.features import Features
from pippin.evaluation.measure import RESAMPLES, Measure, Subject, mean_measure, middle
from pippin.rng import generator

NEAR = 0.05
"""Share of held-out pictures whose nearest training picture is a near copy."""
ROWS = 512
"""Images compared at once."""
FEWEST = 100
"""Held-out pictures from which on their 5 % quantile means something."""


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
    """``nearest training distance`` of samples and of held-out pictures; ``near copies`` of
    samples, where at least :data:`FEWEST` pictures are held out.

    Args:
        generated: of samples.
        held_out: of real pictures of the same kind that were not trained on.
        training: of the training pictures' clean views.
        seed: of the bootstrap over images.
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
            "nearest training distance",
            values,
            seed=seed,
            unit="features",
            better="neither",
            subject=subject,
            protocol=shared,
        )
        for subject, values in distances.items()
    ]
    if len(held_out) < FEWEST:  # the quantile would be one picture's
        return means
    return [*means, _near_copies(distances["arm"], distances["real"], seed, shared)]


def _near_copies(generated: Tensor, real: Tensor, seed: int, protocol: dict[str, Any]) -> Measure:
    """The share, with a bootstrap over samples and over the held-out pictures that set the bar."""
    draws = generator("subset", seed, "bootstrap", "near copies")
    shares = []
    for _ in range(RESAMPLES):
        bar = real[torch.randint(len(real), (len(real),), generator=draws)].quantile(NEAR)
        mine = generated[torch.randint(len(generated), (len(generated),), generator=draws)]
        shares.append((mine < bar).double().mean())
    low, high = middle(torch.stack(shares))
    return Measure(
        name="near copies",
        value=float((generated < real.quantile(NEAR)).double().mean()),
        low=low,
        high=high,
        interval_over="samples",
        n=len(generated),
        unit="share",
        better="lower",
        protocol=protocol | {"near_share": NEAR, "seed": seed},
    )
