# SPDX-License-Identifier: Apache-2.0
"""``pippin reference``: save the statistics of a set of images for many evaluations."""

from collections.abc import Iterator
from pathlib import Path

import torch

from pippin.control import Control, Corner, Size
from pippin.data.crop import apply_control
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features import build_features
from pippin.evaluation.reference import (
    ReferenceStatistics,
    save_statistics,
    stream_statistics,
)
from pippin.run.image_set import log_skipped_files, open_images
from pippin.types import Images


def write_reference(
    images: Path,
    out: Path,
    config: EvaluationConfig,
    resolution: int | None = None,
    device: torch.device | str = "cpu",
) -> ReferenceStatistics:
    """Fit Gaussians to the features of images, batch by batch, and write them.

    Args:
        images: a folder of image files, or a ``.npz`` with uint8 images in ``arr_0``.
        out: a new ``.npz``.
        config: features and batch size.
        resolution: the centred square of each image is resized to this side (bicubic,
            antialiased) before feature extraction; None = images are used as they are.
        device: device of the network.

    Raises:
        ValueError: ``out`` exists or has another ending, there are fewer than two images, or
            features cannot be extracted.
        OSError: disk full or not writable.
    """
    _check_new(out)
    if resolution is not None and resolution < 1:
        raise ValueError(f"--resolution must be 1 or more; got {resolution}")
    extractor = build_features(config, device)
    image_set = open_images(images)
    log_skipped_files(image_set, images)
    batches = image_set.batches(config.batch_size)
    if resolution is not None:
        batches = _squares(batches, resolution)
    statistics = stream_statistics(extractor, batches)
    if statistics.count == 1:
        raise ValueError(f"{images} holds one image; statistics need two or more")
    _check_new(out)  # another call may have written it meanwhile
    square = f"centred squares at {resolution} pixels, bicubic and antialiased"
    save_statistics(statistics, out, "as they are" if resolution is None else square)
    return statistics


def _check_new(out: Path) -> None:
    if out.suffix != ".npz" or out.exists() or not out.parent.is_dir():
        raise ValueError(
            f"--out {out} must be a new file that ends in .npz, in a folder that exists"
        )


def _squares(batches: Iterator[Images], resolution: int) -> Iterator[Images]:
    """Centred squares, like the clean views of a custom data set."""
    for images in batches:
        size = Size(*images.shape[-2:])
        side = min(size)
        corner = Corner((size.height - side) // 2, (size.width - side) // 2)
        control = Control(
            original_size=size, crop_corner=corner, crop_size=Size(side, side), flip=False
        )
        yield torch.stack([apply_control(image, control, resolution) for image in images])
