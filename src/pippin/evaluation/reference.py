# SPDX-License-Identifier: Apache-2.0
"""Feature statistics of a reference: computed, stored in a file, read.

The file is a ``.npz`` with the arrays of ADM's reference batches (Dhariwal & Nichol 2021): ``mu``
and ``sigma`` of pooled Inception features, ``mu_s`` and ``sigma_s`` of spatial ones. Files written
by pippin also record the features, the number of images and their hash. Other files do not, and
are read as statistics of the published Inception, for which the format was made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pippin.control import Control, Corner, Size
from pippin.data.views.crop import apply_control
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.extraction import (
    FeatureExtractor,
    Features,
    ImageHash,
    build_features,
    outputs,
    watched,
)
from pippin.evaluation.features.inception import NAME as INCEPTION
from pippin.evaluation.images import log_skipped_files, open_images
from pippin.evaluation.metrics.frechet import FittedGaussian, Gaussian, GaussianStatistics
from pippin.evaluation.npz import npz_array, npz_names
from pippin.system.files import atomic_write, file_digest, remove_temporary_files
from pippin.system.formats import FORMATS, VERSION, check_format
from pippin.types import Images, ImageStream

KIND = "reference statistics"
"""Kind of file in :data:`pippin.system.formats.FORMATS`."""
EXPECTED_ARRAYS = (
    "mu and sigma, as `pippin reference` writes them and ADM's reference batches hold them"
)


@dataclass(frozen=True, kw_only=True)
class ReferenceStatistics:
    """Gaussians fitted to the features of a reference, with their identity."""

    pooled: Gaussian
    spatial: Gaussian | None
    """Statistics of the features of sFID, if there are any."""
    extractor: str
    fingerprint: str | None
    """Fingerprint of the features; None = the file does not say."""
    input_size: int | None
    count: int | None
    """Number of images; None = the file does not say."""
    image_hash: str
    """Hash of the images, as in :class:`Features`; of the file if it does not say."""
    sizes: tuple[Size, ...] = ()
    """All sizes of the images; empty = the file does not say."""


def statistics_of(features: Features) -> ReferenceStatistics:
    """Statistics of precomputed features."""
    spatial = features.spatial
    return ReferenceStatistics(
        pooled=GaussianStatistics.from_features(features.values),
        spatial=None if spatial is None else GaussianStatistics.from_features(spatial),
        extractor=features.extractor,
        fingerprint=features.fingerprint,
        input_size=features.input_size,
        count=len(features),
        image_hash=features.image_hash,
    )


def stream_statistics(extractor: FeatureExtractor, batches: ImageStream) -> ReferenceStatistics:
    """Statistics of a stream of images, with the features of one batch in memory at a time.

    Args:
        extractor: feature extractor.
        batches: uint8 (batch, 3, height, width); sizes may differ from batch to batch.

    Raises:
        ValueError: no images at all, or not images.
    """
    hasher = ImageHash()
    statistics: dict[str, GaussianStatistics] = {}
    sizes = set()
    for images in watched(batches):
        features = outputs(extractor, images)
        for name in ("values", "spatial"):
            if name in features:
                batch_statistics = GaussianStatistics.from_features(features[name])
                statistics[name] = (
                    statistics[name].merge(batch_statistics)
                    if name in statistics
                    else batch_statistics
                )
        hasher.add(images)
        sizes.add(Size(*images.shape[2:]))
    image_hash = hasher.digits()
    return ReferenceStatistics(
        pooled=statistics["values"],
        spatial=statistics.get("spatial"),
        extractor=extractor.name,
        fingerprint=extractor.fingerprint,
        input_size=extractor.input_size,
        count=statistics["values"].count,
        image_hash=image_hash,
        sizes=tuple(sorted(sizes)),
    )


def save_statistics(statistics: ReferenceStatistics, path: Path, note: str) -> None:
    """Write a file that :func:`load_statistics` reads.

    Args:
        statistics: statistics with a count, a fingerprint and an input size.
        path: ends in .npz; an existing file is replaced.
        note: description of the preparation of the images, for readers.

    Raises:
        ValueError: fewer than two images.
        OSError: disk full or not writable.
    """
    arrays: dict[str, Any] = {
        "mu": statistics.pooled.mean.numpy(),
        "sigma": statistics.pooled.covariance.numpy(),
    }
    if statistics.spatial is not None:
        arrays["mu_s"] = statistics.spatial.mean.numpy()
        arrays["sigma_s"] = statistics.spatial.covariance.numpy()
    facts = {
        "images": statistics.count,
        "features": statistics.extractor,
        "features_fingerprint": statistics.fingerprint,
        "input_size": statistics.input_size,
        "image_hash": statistics.image_hash,
        "preparation": note,
    }
    assert None not in facts.values(), facts
    facts[VERSION] = FORMATS[KIND]
    arrays |= {name: np.asarray(value) for name, value in facts.items()}
    if statistics.sizes:
        arrays["sizes"] = np.asarray(statistics.sizes)
    remove_temporary_files(path.parent, path.name)  # left by a killed process
    with atomic_write(path) as staging, staging.open("wb") as file:
        np.savez(file, **arrays)


def load_statistics(path: Path) -> ReferenceStatistics:
    """Read a file of :func:`save_statistics`, of ADM's reference batches or of pytorch-fid.

    Raises:
        ValueError: no such file, no ``mu`` and ``sigma``, arrays that are inconsistent, not finite
            or pickled.
        FormatError: the file is of a newer version.
    """
    names = npz_names(path)
    if VERSION in names:
        check_format(KIND, npz_array(path, VERSION).item(), path)
    if not {"mu", "sigma"} <= set(names):
        raise ValueError(
            f"{path} holds no statistics but {', '.join(names) or 'nothing'}; needed are "
            f"{EXPECTED_ARRAYS}"
        )
    stated = "features_fingerprint" in names
    return ReferenceStatistics(
        pooled=_gaussian(path, "mu", "sigma"),
        spatial=_gaussian(path, "mu_s", "sigma_s") if "mu_s" in names else None,
        extractor=str(npz_array(path, "features")) if stated else INCEPTION,
        fingerprint=str(npz_array(path, "features_fingerprint")) if stated else None,
        input_size=int(npz_array(path, "input_size")) if stated else None,
        count=int(npz_array(path, "images")) if stated else None,
        image_hash=str(npz_array(path, "image_hash")) if stated else file_digest(path)[:16],
        sizes=_sizes(path) if "sizes" in names else (),
    )


def check_features(
    reference: ReferenceStatistics, extractor: str, fingerprint: str, dim: int
) -> None:
    """Refuse statistics of other features than those of the generated images.

    Args:
        reference: the statistics.
        extractor, fingerprint, dim: name, fingerprint and number of the images' features.

    Raises:
        ValueError: the features differ; both are named.
    """
    if reference.fingerprint is None:
        matches = extractor == reference.extractor
        advice = (
            "the file does not say which features its statistics are of, so the published "
            "Inception is assumed; give --features inception --inception PATH of its weights"
        )
    else:
        matches = reference.fingerprint == fingerprint
        advice = (
            "use the features of the statistics, or make new statistics with `pippin reference`"
        )
    if not matches:
        raise ValueError(
            f"statistics of {reference.extractor} ({reference.fingerprint or 'not stated'}) "
            f"cannot be compared with features of {extractor} ({fingerprint}): {advice}"
        )
    num_features = len(reference.pooled.mean)
    if num_features != dim:
        raise ValueError(
            f"the statistics are of {num_features} features, and {extractor} has {dim}: they are "
            "of another network or layer"
        )


def _sizes(path: Path) -> tuple[Size, ...]:
    array = npz_array(path, "sizes")
    if array.dtype.kind != "i" or array.shape[1:] != (2,):
        raise ValueError(
            f"sizes of {path} must be integers of shape (n, 2), height and width; they are "
            f"{array.dtype} {array.shape}"
        )
    return tuple(Size(*pair) for pair in array.tolist())


def _gaussian(path: Path, mean_name: str, covariance_name: str) -> FittedGaussian:
    arrays = [npz_array(path, name) for name in (mean_name, covariance_name)]
    shapes = [array.shape for array in arrays]
    (dim, *rest), square = shapes[0] or (0,), shapes[1]
    if rest or square != (dim, dim):
        raise ValueError(
            f"{mean_name} and {covariance_name} of {path} must have the shapes (d) and (d, d); "
            f"they have {shapes[0]} and {square}"
        )
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays):
        raise ValueError(
            f"{mean_name} and {covariance_name} of {path} must be finite real numbers"
        )
    mean, covariance = (torch.from_numpy(array.astype(np.float64)) for array in arrays)
    return FittedGaussian(mean=mean, covariance=covariance)


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
