# SPDX-License-Identifier: Apache-2.0
"""Metrics of one name each, in words."""

from dataclasses import dataclass
from typing import Literal

Group = Literal["control", "samples", "loss", "cost", "other"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One metric in words."""

    label: str
    text: str
    """One sentence; empty for a metric that is not known here."""
    group: Group
    leads: bool = False
    """Shown without being asked for."""
    target: bool = False
    """Neither more nor less is better, but what is nearest to real pictures' value."""


EXACT = {
    "coverage": Term(
        label="coverage",
        text="Share of real training pictures that have a sample near them: variety; 1 = all.",
        group="samples",
        leads=True,
    ),
    "precision": Term(
        label="precision",
        text="Share of samples that lie near real pictures: realism; 1 = all.",
        group="samples",
    ),
    "recall": Term(
        label="recall",
        text="Share of real pictures inside the region that the samples fill; 1 = all.",
        group="samples",
    ),
    "density": Term(
        label="density",
        text="How tightly samples lie among real pictures; real pictures reach about 1.",
        group="samples",
    ),
    "nearest training distance": Term(
        label="nearest training distance",
        text="Mean distance from a sample to the nearest training picture, in features.",
        group="samples",
    ),
    "near copies": Term(
        label="near copies",
        text=(
            "Share of samples that lie nearer to a training picture than all but 5 % of real "
            "held-out pictures do: far above 0.05 means memorised."
        ),
        group="samples",
    ),
    "best semantic scale": Term(
        label="best semantic scale",
        text="The guidance scale with the smallest KID, found on samples of its own.",
        group="samples",
    ),
    "best request": Term(
        label="best request",
        text="The original size to ask for with the smallest FD, found on samples of its own.",
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
            "Share of an image's energy in detail that half its side cannot show, as a natural "
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
            "How far the fitted scale lies above 1, for 64 pixels of side: the same at all "
            "resolutions if the law of scales holds."
        ),
        group="samples",
        leads=True,
    ),
    "CLIP score": Term(
        label="CLIP score",
        text=(
            "Does a picture show its caption? 100 times the cosine of the two in a CLIP; scores "
            "of different CLIPs cannot be compared."
        ),
        group="samples",
        leads=True,
    ),
    "CLIP score shuffled": Term(
        label="CLIP score shuffled",
        text="The same with captions exchanged among the pictures: what any caption reaches.",
        group="samples",
    ),
    "FID": Term(
        label="FID",
        text=(
            "Fréchet distance in features of the published Inception; as papers' where reference "
            "and number of images are theirs."
        ),
        group="samples",
        leads=True,
    ),
    "sFID": Term(
        label="sFID",
        text="The same in features that know where: the first channels of an inner map.",
        group="samples",
    ),
    "IS": Term(
        label="IS",
        text="Inception score: sure and varied classes of ImageNet; knows no reference.",
        group="samples",
    ),
    "held-out loss": Term(
        label="held-out loss",
        text=(
            "Mean squared error of the predicted noise on pictures kept out of training, over a "
            "fixed grid of noise levels; predicting nothing gives 1."
        ),
        group="loss",
        leads=True,
    ),
    "held-out x0 loss": Term(
        label="held-out x0 loss",
        text="The same error, counted in the clean latent instead of the noise.",
        group="loss",
    ),
    "parameters": Term(
        label="parameters", text="Trained numbers in the model.", group="cost", leads=True
    ),
    "MACs": Term(
        label="MACs",
        text="Multiply-accumulates of one forward pass for one image (1 MAC = 2 FLOPs).",
        group="cost",
        leads=True,
    ),
}
