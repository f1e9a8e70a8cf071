# SPDX-License-Identifier: Apache-2.0
"""Labels and descriptions of metrics with a fixed name."""

from dataclasses import dataclass
from typing import Literal

Group = Literal["control", "samples", "loss", "cost", "other"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """Label and description of one metric."""

    label: str
    text: str
    """One sentence; empty for an unknown metric."""
    group: Group
    leads: bool = False
    """Shown in the main table; other metrics are collapsed."""
    target: bool = False
    """The best value is the nearest to real images' value; neither lower nor higher is better."""


EXACT = {
    "coverage": Term(
        label="coverage",
        text="Share of real training images that have a sample near them: variety; 1 = all.",
        group="samples",
        leads=True,
    ),
    "precision": Term(
        label="precision",
        text="Share of samples that lie near real images: realism; 1 = all.",
        group="samples",
    ),
    "recall": Term(
        label="recall",
        text="Share of real images inside the region that the samples fill; 1 = all.",
        group="samples",
    ),
    "density": Term(
        label="density",
        text="How tightly samples lie among real images; real images reach about 1.",
        group="samples",
    ),
    "nearest training distance": Term(
        label="nearest training distance",
        text="Mean distance from a sample to the nearest training image, in features.",
        group="samples",
    ),
    "near copies": Term(
        label="near copies",
        text=(
            "Share of samples that lie nearer to a training image than all but 5 % of real "
            "held-out images do: far above 0.05 means memorised."
        ),
        group="samples",
    ),
    "best semantic scale": Term(
        label="best semantic scale",
        text="The guidance scale with the smallest KID, found on separate samples.",
        group="samples",
    ),
    "best request": Term(
        label="best request",
        text="The requested original size with the smallest FD, found on separate samples.",
        group="samples",
    ),
    "best request scale": Term(
        label="best request scale",
        text="The guidance scale that was found together with the best request.",
        group="samples",
    ),
    "sharpness": Term(
        label="sharpness",
        text=(
            "Share of an image's energy in detail lost at half the resolution, as a natural "
            "logarithm: blurred images have less."
        ),
        group="samples",
        target=True,
    ),
    "fitted semantic scale": Term(
        label="fitted semantic scale",
        text="Where a parabola through the KIDs of the search has its smallest value.",
        group="samples",
    ),
    "fitted guidance per 64 px": Term(
        label="fitted guidance per 64 px",
        text=(
            "Fitted scale minus 1, per 64 pixels of side: equal at all resolutions if the best "
            "scale follows lambda' = 1 + s (lambda - 1)."
        ),
        group="samples",
        leads=True,
    ),
    "CLIP score": Term(
        label="CLIP score",
        text=(
            "100 times the cosine similarity of image and caption in CLIP; scores of different "
            "CLIP models cannot be compared."
        ),
        group="samples",
        leads=True,
    ),
    "CLIP score shuffled": Term(
        label="CLIP score shuffled",
        text="CLIP score with shuffled captions: the level of any caption.",
        group="samples",
    ),
    "FID": Term(
        label="FID",
        text=(
            "Fréchet distance in features of the published Inception; comparable with papers that "
            "use the same reference and number of images."
        ),
        group="samples",
        leads=True,
    ),
    "sFID": Term(
        label="sFID",
        text="Fréchet distance in spatial features: the first channels of an inner feature map.",
        group="samples",
    ),
    "IS": Term(
        label="IS",
        text="Inception score: confident and varied ImageNet classes; uses no reference.",
        group="samples",
    ),
    "held-out loss": Term(
        label="held-out loss",
        text=(
            "Mean squared error of the predicted noise on held-out images, over a fixed grid of "
            "noise levels; predicting zero gives 1."
        ),
        group="loss",
        leads=True,
    ),
    "held-out x0 loss": Term(
        label="held-out x0 loss",
        text="The same error, counted in the clean latent instead of the noise.",
        group="loss",
    ),
    "parameters": Term(label="parameters", text="Trainable parameters.", group="cost", leads=True),
    "MACs": Term(
        label="MACs",
        text="Multiply-accumulates of one forward pass for one image (1 MAC = 2 FLOPs).",
        group="cost",
        leads=True,
    ),
}
