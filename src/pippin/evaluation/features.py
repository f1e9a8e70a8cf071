# SPDX-License-Identifier: Apache-2.0
"""From streams of images to features, with a record of what they are."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.dinov2 import Dinov2
from pippin.evaluation.efflite0 import EffLite0
from pippin.evaluation.inception import Inception
from pippin.evaluation.kid import unbiased_within
from pippin.evaluation.prdc import squared_radii
from pippin.types import Images, ImageStream


@runtime_checkable
class FeatureExtractor(Protocol):
    """A fixed network that turns images into feature vectors."""

    name: str
    """Ends the names of distances: ``KID-efflite0``."""
    dim: int
    input_size: int
    """Images are resized to this side; images of any size are welcome."""
    fingerprint: str
    """16 hexadecimal digits of weights and preprocessing."""

    def __call__(self, images: Images) -> Float[Tensor, "batch dim"]:
        """Float32 features."""
        ...


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of a set of images, and what they are of."""

    values: Float32[Tensor, "count dim"]
    """On the CPU."""
    extractor: str
    fingerprint: str
    input_size: int
    image_hash: str
    """16 hexadecimal digits of the set of images: neither order nor batches change them."""
    spatial: Float32[Tensor, "count places"] | None = None
    """Where the extractor is Inception: what sFID is made of."""
    logits: Float32[Tensor, "count classes"] | None = None
    """Where the extractor is Inception: what the Inception score is made of."""

    _radii: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """How many images."""
        return len(self.values)

    # Of a large reference these are nearly all the work of a distance, and each is the same for
    # every set that is compared with it.

    @cached_property
    def kernel_within(self) -> Float64[Tensor, ""]:
        """The set's own term of the kernel distance, computed once."""
        return unbiased_within(self.values.double())

    def squared_radii(self, neighbours: int) -> Float64[Tensor, " count"]:
        """Of the balls up to each image's k-th neighbour, computed once."""
        if neighbours not in self._radii:
            self._radii[neighbours] = squared_radii(self.values.double(), neighbours)
        return self._radii[neighbours]

    def protocol(self) -> dict[str, Any]:
        """What the features are, without the images."""
        return {
            "features": self.extractor,
            "features_fingerprint": self.fingerprint,
            "input_size": self.input_size,
        }

    def part(self, rows: Int[Tensor, " rows"], image_hash: str) -> "Features":
        """Of some of the images, in the order of ``rows``."""
        return replace(
            self,
            values=self.values[rows],
            image_hash=image_hash,
            spatial=None if self.spatial is None else self.spatial[rows],
            logits=None if self.logits is None else self.logits[rows],
        )


def extract(extractor: FeatureExtractor, batches: ImageStream) -> Features:
    """Features of a stream of image batches, one batch of images in memory at a time.

    The features of all images are kept: 5 KB an image of efflite0, 20 KB of Inception. Where
    mean and covariance are enough, :func:`pippin.evaluation.reference.stream_statistics` keeps
    none. Batches may differ in size and resolution: every image is resized to the extractor's
    input.

    Raises:
        ValueError: no images at all, or something else than uint8 (batch, 3, height, width).
    """
    parts: dict[str, list[Tensor]] = {}
    hashed = ImageHash()
    for images in batches:
        for name, rows in outputs(extractor, images).items():
            parts.setdefault(name, []).append(rows)
        hashed.add(images)
    image_hash = hashed.digits()
    whole = {name: torch.cat(rows) for name, rows in parts.items()}
    return Features(
        values=whole["values"],
        spatial=whole.get("spatial"),
        logits=whole.get("logits"),
        extractor=extractor.name,
        fingerprint=extractor.fingerprint,
        input_size=extractor.input_size,
        image_hash=image_hash,
    )


def build_features(
    config: EvaluationConfig, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """The extractor that the configuration names.

    Raises:
        ConfigError, ValueError: its files are missing or are others, or its library is.
    """
    if config.features == "inception":
        assert config.inception is not None
        return Inception(config.inception, device)
    if config.features == "dinov2":
        assert config.dinov2 is not None
        return Dinov2(config.dinov2, device)
    return EffLite0(config.input_size, device)


def outputs(extractor: FeatureExtractor, images: Images) -> dict[str, Tensor]:
    """What is taken of one batch, float32 on the CPU, by the names that :class:`Features` has."""
    if isinstance(extractor, Inception):
        taken = extractor.outputs(images)
        found = {"values": taken.pooled, "spatial": taken.spatial, "logits": taken.logits}
    else:
        found = {"values": extractor(images)}
    return {name: rows.float().cpu() for name, rows in found.items()}


class ImageHash:
    """Of a set of images, batch by batch; 65 bytes of memory an image."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def add(self, images: Images) -> None:
        """One more batch."""
        self._digests += [_image_digest(image) for image in images.cpu()]

    def digits(self) -> str:
        """16 hexadecimal digits; neither order nor batches change them.

        Raises:
            ValueError: no images at all.
        """
        if not self._digests:
            raise ValueError("there are no images to take features of: the stream was empty")
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()[:16]


def _image_digest(image: Tensor) -> bytes:
    shape = "x".join(map(str, image.shape))
    return hashlib.sha256(shape.encode() + image.contiguous().numpy().tobytes()).digest()
