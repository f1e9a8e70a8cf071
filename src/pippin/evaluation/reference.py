# SPDX-License-Identifier: Apache-2.0
"""Statistics of a reference's features, kept in a file.

The file is a ``.npz`` with the arrays that ADM's reference batches (Dhariwal & Nichol 2021) have:
``mu`` and ``sigma`` of pooled Inception features, ``mu_s`` and ``sigma_s`` of spatial ones. Ours
say besides which features they are, of how many images and of which; those of others do not, and
are taken to be of the published Inception, which the format was made for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pippin.control import Size
from pippin.evaluation.features import FeatureExtractor, Features, ImageHash, outputs
from pippin.evaluation.frechet import FittedGaussian, Gaussian, GaussianStatistics
from pippin.evaluation.inception import NAME as INCEPTION
from pippin.evaluation.npz import npz_array, npz_names
from pippin.system.files import file_digest, remove_staged, replacing
from pippin.system.formats import FORMATS, VERSION, check_format
from pippin.types import ImageStream

KIND = "reference statistics"
"""Of :data:`pippin.system.formats.FORMATS`."""
WANTED = "mu and sigma, as `pippin reference` writes them and ADM's reference batches hold them"


@dataclass(frozen=True, kw_only=True)
class ReferenceStatistics:
    """Gaussians fitted to the features of a reference, and what they are of."""

    pooled: Gaussian
    spatial: Gaussian | None
    """Of the features that sFID is made of, where there are some."""
    extractor: str
    fingerprint: str | None
    """Of the features; None = the file does not say."""
    input_size: int | None
    count: int | None
    """How many images; None = the file does not say."""
    image_hash: str
    """Of the images, as in :class:`Features`; of the file where that does not say."""
    sizes: tuple[Size, ...] = ()
    """All sizes that the images have; none = the file does not say."""


def statistics_of(features: Features) -> ReferenceStatistics:
    """Of a reference whose features are at hand."""
    spatial = features.spatial
    return ReferenceStatistics(
        pooled=GaussianStatistics.of(features.values),
        spatial=None if spatial is None else GaussianStatistics.of(spatial),
        extractor=features.extractor,
        fingerprint=features.fingerprint,
        input_size=features.input_size,
        count=len(features),
        image_hash=features.image_hash,
    )


def stream_statistics(extractor: FeatureExtractor, batches: ImageStream) -> ReferenceStatistics:
    """Of a reference whose features nothing else needs: those of one batch are in memory at a
    time, however many images there are.

    Args:
        extractor: that takes them.
        batches: uint8 (batch, 3, height, width); sizes may differ from batch to batch.

    Raises:
        ValueError: no images at all, or something else than images.
    """
    hashed = ImageHash()
    found: dict[str, GaussianStatistics] = {}
    sizes = set()
    for images in batches:
        taken = outputs(extractor, images)
        for name in ("values", "spatial"):
            if name in taken:
                one = GaussianStatistics.of(taken[name])
                found[name] = found[name].merge(one) if name in found else one
        hashed.add(images)
        sizes.add(Size(*images.shape[2:]))
    image_hash = hashed.digits()
    return ReferenceStatistics(
        pooled=found["values"],
        spatial=found.get("spatial"),
        extractor=extractor.name,
        fingerprint=extractor.fingerprint,
        input_size=extractor.input_size,
        count=found["values"].count,
        image_hash=image_hash,
        sizes=tuple(sorted(sizes)),
    )


def save_statistics(statistics: ReferenceStatistics, path: Path, note: str) -> None:
    """Write a file that :func:`load_statistics` reads.

    Args:
        statistics: with a count, a fingerprint and an input size.
        path: ends in .npz; replaced where it exists.
        note: how the images were prepared, for people.

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
    about = {
        "images": statistics.count,
        "features": statistics.extractor,
        "features_fingerprint": statistics.fingerprint,
        "input_size": statistics.input_size,
        "image_hash": statistics.image_hash,
        "preparation": note,
    }
    assert None not in about.values(), about
    about[VERSION] = FORMATS[KIND]
    arrays |= {name: np.asarray(value) for name, value in about.items()}
    if statistics.sizes:
        arrays["sizes"] = np.asarray(statistics.sizes)
    remove_staged(path.parent, path.name)  # of a call that was killed
    with replacing(path) as staging, staging.open("wb") as file:
        np.savez(file, **arrays)


def load_statistics(path: Path) -> ReferenceStatistics:
    """Read a file of :func:`save_statistics`, of ADM's reference batches or of pytorch-fid.

    Raises:
        ValueError: no such file, no ``mu`` and ``sigma``, arrays that do not fit each other or
            are not finite, or pickled ones.
        FormatError: of a newer version.
    """
    names = npz_names(path)
    if VERSION in names:
        check_format(KIND, npz_array(path, VERSION).item(), path)
    if not {"mu", "sigma"} <= set(names):
        raise ValueError(
            f"{path} holds no statistics but {', '.join(names) or 'nothing'}; wanted are {WANTED}"
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
        ValueError: naming both.
    """
    if reference.fingerprint is None:
        same = extractor == reference.extractor
        advice = (
            "the file does not say of which features its statistics are, so they are taken to be "
            "of the published Inception: --features inception --inception PATH of its weights"
        )
    else:
        same = reference.fingerprint == fingerprint
        advice = "take the features that the statistics are of, or make new statistics with these"
    if not same:
        raise ValueError(
            f"statistics of {reference.extractor} ({reference.fingerprint or 'not stated'}) "
            f"cannot be compared with features of {extractor} ({fingerprint}): {advice}"
        )
    found = len(reference.pooled.mean)
    if found != dim:
        raise ValueError(
            f"the statistics are of {found} features, and {extractor} has {dim}: they were made "
            "of another network or layer"
        )


def _sizes(path: Path) -> tuple[Size, ...]:
    array = npz_array(path, "sizes")
    if array.dtype.kind != "i" or array.shape[1:] != (2,):
        raise ValueError(
            f"sizes of {path} must be whole numbers of the shape (n, 2), height and width; they "
            f"are {array.dtype} {array.shape}"
        )
    return tuple(Size(*pair) for pair in array.tolist())


def _gaussian(path: Path, of_mean: str, of_covariance: str) -> FittedGaussian:
    arrays = [npz_array(path, name) for name in (of_mean, of_covariance)]
    shapes = [array.shape for array in arrays]
    (dim, *rest), square = shapes[0] or (0,), shapes[1]
    if rest or square != (dim, dim):
        raise ValueError(
            f"{of_mean} and {of_covariance} of {path} must have the shapes (d) and (d, d); they "
            f"have {shapes[0]} and {square}"
        )
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{of_mean} and {of_covariance} of {path} must be finite real numbers")
    mean, covariance = (torch.from_numpy(array.astype(np.float64)) for array in arrays)
    return FittedGaussian(mean=mean, covariance=covariance)
