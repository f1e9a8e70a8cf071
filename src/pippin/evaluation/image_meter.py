# SPDX-License-Identifier: Apache-2.0
"""Metrics of single images, measured on a stream of images that something else reads."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pippin.evaluation.image_metric import ImageMetric
from pippin.evaluation.measure import Measure, Subject, mean_measure
from pippin.types import Images, ImageStream


class ImageMeter:
    """Meter of the images of a stream that passes through it.

    Args:
        kinds: the metrics to measure.
    """

    def __init__(self, kinds: Sequence[ImageMetric]) -> None:
        self._values: dict[ImageMetric, list[Tensor]] = {kind: [] for kind in kinds}
        self._protocols: dict[ImageMetric, dict[str, Any]] = {kind: {} for kind in kinds}

    def watch(self, images: ImageStream) -> Iterator[Images]:
        """Yield the same images, and measure them.

        Raises:
            ValueError: a metric does not give one number for each image.
        """
        for batch in images:
            for kind, values in self._values.items():
                measured = kind.values(batch).cpu()
                if measured.shape != (len(batch),):
                    raise ValueError(
                        f"metric {kind.name!r} must give one number for each of {len(batch)} "
                        f"images; its values have the shape {tuple(measured.shape)}"
                    )
                # Integers and truth values have no mean in torch; floating point stays as it is.
                values.append(measured if measured.is_floating_point() else measured.double())
                self._protocols[kind] = kind.protocol(batch)
            yield batch

    def measures(self, *, seed: int, subject: Subject = "arm") -> list[Measure]:
        """The mean of each metric over all images that passed.

        Args:
            seed: seed of the bootstrap over images.
            subject: whose images they are.
        """
        return [
            mean_measure(
                kind(),
                torch.cat(values),
                seed=seed,
                subject=subject,
                protocol=self._protocols[kind],
            )
            for kind, values in self._values.items()
        ]
