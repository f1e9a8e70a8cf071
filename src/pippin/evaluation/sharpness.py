# SPDX-License-Identifier: Apache-2.0
"""Sharpness of a set of images as a measure: distances decrease when samples are blurred, so read
every distance together with it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pippin.evaluation.appearance import log_sharpness
from pippin.evaluation.measure import Measure, Subject, mean_measure
from pippin.types import Images, ImageStream


class SharpnessMeter:
    """Meter of the images of a stream that passes through it.

    Sharpness is the share of detail that does not fit into half of an image's shorter side
    (:func:`pippin.evaluation.appearance.log_sharpness`).
    """

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._side = 0

    def watch(self, images: ImageStream) -> Iterator[Images]:
        """Yield the same images, and measure them."""
        for batch in images:
            self._side = min(batch.shape[-2:]) // 2
            self._values.append(log_sharpness(batch, self._side).cpu())
            yield batch

    def measure(self, *, seed: int, subject: Subject = "arm") -> Measure:
        """``sharpness``: the mean over all images that passed, in natural logarithms.

        Args:
            seed: seed of the bootstrap over images.
            subject: whose images they are.
        """
        return mean_measure(
            "sharpness",
            torch.cat(self._values),
            seed=seed,
            unit="nat",
            better="neither",
            subject=subject,
            protocol={"sharpness_side": self._side},
        )
