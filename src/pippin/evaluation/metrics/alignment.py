# SPDX-License-Identifier: Apache-2.0
"""Caption retrieval: R@k of captions ranked by images, between a ceiling and a floor.

A ridge regression (Hoerl & Kennard 1970) from image features to caption features is fitted on
real training images. For each image, all captions of a set are ranked by cosine similarity to the
predicted caption features. R@k is the share of images whose own caption is among the first k. The
number depends on the features, the captions and the regression: read it between its value on real
held-out images (the ceiling) and its value with captions shuffled among the images (the floor).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from pippin.evaluation.measure import Measure, Subject
from pippin.evaluation.metrics.declared.captions import CAPTION_RECALL
from pippin.evaluation.proportion import wilson_interval

RANKS = (1, 5, 10)
STRENGTHS = tuple(10.0**power for power in range(-4, 5))
"""Candidate ridge penalties, in units of the mean variance of an image feature."""


@dataclass(frozen=True, kw_only=True)
class RidgeMap:
    """Linear map y ~ (x - image_mean) weight + text_mean, in fp64."""

    weight: Float[Tensor, "image_features text_features"]
    image_mean: Float[Tensor, " image_features"]
    text_mean: Float[Tensor, " text_features"]
    strength: float

    def __call__(
        self, images: Float[Tensor, "count image_features"]
    ) -> Float[Tensor, "count text_features"]:
        """Predicted caption features."""
        return (images.double() - self.image_mean) @ self.weight + self.text_mean


def fit_ridge(
    images: Float[Tensor, "count image_features"], texts: Float[Tensor, "captions text_features"]
) -> RidgeMap:
    """Ridge map with the penalty of the smallest leave-one-out error.

    With X = U S V', the leave-one-out residual of image i is its residual divided by 1 - h_i,
    where h_i = 1/n + sum_k U_ik^2 s_k^2 / (s_k^2 + penalty) (Golub, Heath & Wahba 1979).

    Raises:
        ValueError: fewer than 3 images, or not one caption per image.
    """
    count = len(images)
    if count != len(texts) or count < 3:
        raise ValueError(
            f"a ridge map needs 3 pairs or more; got {count} images and {len(texts)} captions"
        )
    x, y = images.double(), texts.double()
    image_mean, text_mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - image_mean, y - text_mean
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    unit = float((s**2).sum() / x.shape[1])  # mean over features of the sum of squares
    projected = u.T @ y
    best = (math.inf, STRENGTHS[0])
    for strength in STRENGTHS:
        shrink = s**2 / (s**2 + strength * unit)
        residual = y - u @ (shrink[:, None] * projected)
        leverage = 1 / count + (u**2 * shrink).sum(dim=1)
        error = float((residual / (1 - leverage).clamp(min=1e-9)[:, None]).square().sum())
        best = min(best, (error, strength))
    scale = s / (s**2 + best[1] * unit)
    return RidgeMap(
        weight=vt.T @ (scale[:, None] * projected),
        image_mean=image_mean,
        text_mean=text_mean,
        strength=best[1],
    )


def caption_ranks(
    predicted: Float[Tensor, "images features"],
    texts: Float[Tensor, "captions features"],
    own: Int[Tensor, " images"],
) -> Int[Tensor, " images"]:
    """Number of captions nearer to each image than its own caption; a tie counts as nearer.

    Args:
        predicted: caption features that the ridge map predicts.
        texts: features of the distinct captions.
        own: index of each image's own caption.
    """
    cosine = normalize(predicted, dim=-1) @ normalize(texts.double(), dim=-1).T
    own_cosine = cosine.gather(1, own[:, None])
    return (cosine >= own_cosine).sum(dim=1) - 1


def retrieval_measures(
    ranks: Int[Tensor, " images"],
    num_captions: int,
    *,
    subject: Subject,
    shuffled: bool = False,
    protocol: dict[str, object],
) -> list[Measure]:
    """R@k with a Wilson interval over images (Wilson 1927)."""
    count = len(ranks)
    measures = []
    for k in RANKS:
        if k >= num_captions:
            continue
        share = float((ranks < k).double().mean())
        low, high = wilson_interval(share, count)
        measures.append(
            Measure.of(
                CAPTION_RECALL(at=k, shuffled="shuffled" if shuffled else ""),
                share,
                low=low,
                high=high,
                interval_over="samples",
                n=count,
                subject=subject,
                protocol=dict(protocol) | {"captions": num_captions},
            )
        )
    return measures


def unique_captions(captions: Sequence[str]) -> tuple[list[int], Int[Tensor, " captions"]]:
    """Index of the first occurrence of each distinct caption, and each caption's index among the
    distinct ones."""
    index_of = {caption: index for index, caption in enumerate(dict.fromkeys(captions))}
    first = [captions.index(caption) for caption in index_of]
    return first, torch.tensor([index_of[caption] for caption in captions])
