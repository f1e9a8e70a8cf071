# SPDX-License-Identifier: Apache-2.0
"""A source and an encoder small enough for tests of caches and loaders."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pippin.control import Control, Corner, Size
from pippin.data.config import OpenMojiConfig
from pippin.data.folder.listing import SkippedImage
from pippin.rng import generator
from pippin.types import Moments


@dataclass
class NoiseSource:
    """Source of random images with independent random heights and widths."""

    config: OpenMojiConfig = field(
        default_factory=lambda: OpenMojiConfig(resolution=8, views=3, seed=5)
    )
    split: Literal["train", "held-out"] = "train"
    class_names: tuple[str, ...] = ("a", "b", "c")
    num_pictures: int = 7
    content: str = "0123456789abcdef"
    skipped: tuple[SkippedImage, ...] = ()
    probe_side: int = 8
    layout: str | None = None
    decoder: str = "none"

    def __len__(self) -> int:
        return self.num_pictures

    def key(self, index: int) -> str:
        return f"image {index}"

    def name(self, index: int) -> str:
        return self.key(index)

    def captions(self, index: int) -> dict[str, str]:
        return {"name": self.name(index)}

    def label(self, index: int) -> int:
        return index % len(self.class_names)

    def original_size(self, index: int) -> Size:
        return Size(*self.image(index).shape[1:])

    def image(
        self, index: int, view: int | None = None, original_size: Size | None = None
    ) -> UInt8[Tensor, "3 height width"]:
        draws = generator("size", self.key(index))
        height, width = torch.randint(8, 24, (2,), generator=draws).tolist()
        return torch.randint(0, 256, (3, height, width), generator=draws, dtype=torch.uint8)

    def can_show(self, index: int, original_size: Size) -> bool:
        return original_size == self.image(index).shape[1:]

    def clean_control(self, index: int) -> Control:
        return Control(
            original_size=Size(*self.image(index).shape[1:]),
            crop_corner=Corner(0, 0),
            crop_size=Size(8, 8),
            flip=False,
        )

    def source_hash(self) -> str:
        return self.content

    def content_hash(self) -> str:
        return self.content


@dataclass
class PoolingEncoder:
    """Average pooling and a fixed linear map: 3 channels at R -> 4 channels at R / 4."""

    name: str = "pooling"
    fail_at: int | None = None
    """Index of the call of encode that raises, to simulate a kill."""
    calls: int = 0

    @property
    def fingerprint(self) -> str:
        return self.name

    def encode(self, pixels: Tensor) -> Moments:
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        weight = torch.linspace(-1, 1, 12).reshape(4, 3)
        mean = torch.einsum("oc,bchw->bohw", weight, avg_pool2d(pixels, 4))
        return Moments(mean=mean, std=0.1 + mean.square())

    def sample(self, moments: Moments, noise: Tensor) -> Tensor:
        return (moments.mean + moments.std * noise - 0.5) / 2


@pytest.fixture
def noise_source() -> NoiseSource:
    return NoiseSource()


@pytest.fixture(scope="session")
def make_source():
    return NoiseSource


@pytest.fixture(scope="session")
def make_encoder():
    return PoolingEncoder


@pytest.fixture
def encoder() -> PoolingEncoder:
    return PoolingEncoder()
