# SPDX-License-Identifier: Apache-2.0
"""Feature extraction from streams of images, with the identity of features and images."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Float64, Int
from rich.console import Console
from torch import Tensor

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.clip_images import ClipImages
from pippin.evaluation.features.dinov2 import Dinov2
from pippin.evaluation.features.efflite0 import EffLite0
from pippin.evaluation.features.inception import Inception
from pippin.evaluation.metrics.cmmd import gaussian_within
from pippin.evaluation.metrics.kid import unbiased_within
from pippin.evaluation.metrics.prdc import squared_radii
from pippin.system.progress import Progress
from pippin.types import Images, ImageStream


@runtime_checkable
class FeatureExtractor(Protocol):
    """Fixed network that maps images to feature vectors."""

    name: str
    """Suffix of the names of distances: ``KID-efflite0``."""
    dim: int
    input_size: int
    """Side to which images are resized; images of any size are accepted."""
    fingerprint: str
    """Hash of weights and preprocessing, 16 hexadecimal digits."""

    def __call__(self, images: Images) -> Float[Tensor, "batch dim"]:
        """Float32 features."""
        ...


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of a set of images, with the identity of extractor and images."""

    values: Float32[Tensor, "count dim"]
    """On the CPU."""
    extractor: str
    fingerprint: str
    input_size: int
    image_hash: str
    """Hash of the set of images, 16 hexadecimal digits; independent of order and batches."""
    spatial: Float32[Tensor, "count places"] | None = None
    """Features of sFID; Inception only."""
    logits: Float32[Tensor, "count classes"] | None = None
    """Logits of the Inception score; Inception only."""

    _radii: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.values)

    # For a large reference these take most of the time of a distance, and they are the same for
    # every set that is compared with it.

    @cached_property
    def kernel_within(self) -> Float64[Tensor, ""]:
        """Within-set term of the kernel distance, computed once."""
        return unbiased_within(self.values.double())

    @cached_property
    def gaussian_within(self) -> Float64[Tensor, ""]:
        """Within-set term of CMMD, computed once."""
        return gaussian_within(self.values.double())

    def squared_radii(self, neighbours: int) -> Float64[Tensor, " count"]:
        """Squared distance of each image to its k-th neighbour, computed once."""
        if neighbours not in self._radii:
            self._radii[neighbours] = squared_radii(self.values.double(), neighbours)
        return self._radii[neighbours]

    def protocol(self) -> dict[str, Any]:
        """Identity of the extractor, for the protocol of measures."""
        return {
            "features": self.extractor,
            "features_fingerprint": self.fingerprint,
            "input_size": self.input_size,
        }

    def subset(self, rows: Int[Tensor, " rows"], image_hash: str) -> "Features":
        """Features of a subset of the images, in the order of ``rows``."""
        return replace(
            self,
            values=self.values[rows],
            image_hash=image_hash,
            spatial=None if self.spatial is None else self.spatial[rows],
            logits=None if self.logits is None else self.logits[rows],
        )


def check_same_extractor(first: Features, second: Features) -> None:
    """Check that the features of two sets of images can be compared.

    Raises:
        ValueError: features of two different extractors.
    """
    if first.protocol() != second.protocol():
        raise ValueError(
            "features of different extractors cannot be compared: "
            f"{first.protocol()} and {second.protocol()}"
        )


def watched(batches: ImageStream) -> ImageStream:
    """The same batches, with lines of progress in a log file if they take long."""
    console = Console(stderr=True)
    with Progress(console, "extracting features", brief=True, bar=False) as progress:
        for images in batches:
            yield images
            progress.advance(len(images))


def extract(extractor: FeatureExtractor, batches: ImageStream) -> Features:
    """Features of a stream of image batches, one batch of images in memory at a time.

    The features of all images are kept: 5 KB per image for efflite0, 20 KB for Inception. Where
    mean and covariance are enough, :func:`pippin.evaluation.reference.stream_statistics` keeps
    none. Batches may differ in size and resolution: every image is resized to the extractor's
    input.

    Raises:
        ValueError: no images at all, or not uint8 (batch, 3, height, width).
    """
    batches_by_name: dict[str, list[Tensor]] = {}
    hasher = ImageHash()
    for images in watched(batches):
        for name, rows in outputs(extractor, images).items():
            batches_by_name.setdefault(name, []).append(rows)
        hasher.add(images)
    image_hash = hasher.digits()
    tensors = {name: torch.cat(rows) for name, rows in batches_by_name.items()}
    return Features(
        values=tensors["values"],
        spatial=tensors.get("spatial"),
        logits=tensors.get("logits"),
        extractor=extractor.name,
        fingerprint=extractor.fingerprint,
        input_size=extractor.input_size,
        image_hash=image_hash,
    )


def build_features(
    config: EvaluationConfig, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """Feature extractor of a configuration.

    Raises:
        ConfigError, ValueError: its files or its library are missing, or the files are of another
            network.
    """
    if config.features == "inception":
        assert config.inception is not None
        return Inception(config.inception, device)
    if config.features == "dinov2":
        assert config.dinov2 is not None
        return Dinov2(config.dinov2, device)
    if config.features == "clip":
        assert config.clip is not None
        return ClipImages(config.clip, device)
    return EffLite0(config.input_size, device)


def outputs(extractor: FeatureExtractor, images: Images) -> dict[str, Tensor]:
    """Outputs for one batch, float32 on the CPU, by field name of :class:`Features`."""
    if isinstance(extractor, Inception):
        output = extractor.outputs(images)
        tensors = {"values": output.pooled, "spatial": output.spatial, "logits": output.logits}
    else:
        tensors = {"values": extractor(images)}
    return {name: rows.float().cpu() for name, rows in tensors.items()}


class ImageHash:
    """Hash of a set of images, updated batch by batch; 65 bytes of memory per image."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def add(self, images: Images) -> None:
        """Add one batch."""
        self._digests += [_image_digest(image) for image in images.cpu()]

    def digits(self) -> str:
        """Hash, 16 hexadecimal digits, independent of order and batches.

        Raises:
            ValueError: no images at all.
        """
        if not self._digests:
            raise ValueError("there are no images to extract features of: the stream was empty")
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()[:16]


def _image_digest(image: Tensor) -> bytes:
    shape = "x".join(map(str, image.shape))
    return hashlib.sha256(shape.encode() + image.contiguous().numpy().tobytes()).digest()
