# SPDX-License-Identifier: Apache-2.0
"""Configuration of scaling curves: which, at which points, and the budget of a point."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pippin.bench.config import Precision
from pippin.config import Config, ConfigError
from pippin.settings.bounds import above, at_least

CurveName = Literal["tokens", "width", "batch", "text", "processes", "data", "kid", "prdc"]
CURVES: tuple[CurveName, ...] = (
    *("tokens", "width", "batch", "text", "processes", "data", "kid", "prdc"),
)
PeerName = Literal["published-dit", "fast-dit", "diffusers"]
PEERS: tuple[PeerName, ...] = ("published-dit", "fast-dit", "diffusers")
PATCH_SIZE = 2


@dataclass(frozen=True, kw_only=True)
class ScalingConfig(Config):
    """Curves and their points. Each training curve varies one number of a DiT, or of an mmDiT for
    the text length, and keeps the others."""

    curves: tuple[CurveName, ...] = CURVES
    peers: tuple[PeerName, ...] = PEERS
    """Other implementations of DiT that take turns with pippin's on the curve of tokens."""
    seconds: float = 2.0
    """Budget of each timed call at each point. A first call within it is a warm-up, and
    repetitions follow; a longer first call is the only one."""
    longest: float = 120.0
    """Seconds of a call above which a point is left out, as the previous point predicts."""
    depth: int = 12
    width: int = 384
    head_width: int = 64
    """Width of an attention head, at every width."""
    image_tokens: int = 256
    """Image tokens of the curves of width, batch, text length and processes; a square number."""
    batch_size: int = 16
    """Batch size of the training curves; for processes, that of each process."""
    precision: Precision = "bf16"
    """Precision of pippin and of its peers."""
    tokens: tuple[int, ...] = (64, 144, 256, 576, 1024)
    """Image tokens; square numbers. A 512-pixel image has 1024 with an f8 autoencoder."""
    widths: tuple[int, ...] = (192, 384, 768, 1152)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    text_tokens: tuple[int, ...] = (16, 77, 154, 256, 512)
    processes: tuple[int, ...] = (1, 2)
    images: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    """Images of the data sets of which latent caches are built and read."""
    resolution: int = 32
    """Side of these images in pixels."""
    samples: tuple[int, ...] = (1000, 2000, 5000, 10_000, 20_000, 50_000)
    """Samples on each side of KID, and of precision, recall, density and coverage."""
    features: int = 2048
    """Features of a sample; Inception has 2048."""
    threads: int = 0
    """CPU threads; 0 = torch's default. Each of several processes gets an equal share, and one
    process the same share."""
    device: str = "auto"
    """Device of the training curves and of the autoencoder."""

    def __post_init__(self) -> None:
        """Refuse empty curves, and points that no model has."""
        at_least(self, "scaling", 1, "depth", "width", "head_width", "image_tokens", "batch_size")
        at_least(self, "scaling", 1, "resolution", "features")
        at_least(self, "scaling", 0, "threads", "seconds")
        above(self, "scaling", 0, "longest")
        self._check_names()
        for name, lowest in LOWEST.items():
            self._check_points(name, lowest)
        for tokens in (*self.tokens, self.image_tokens):
            if math.isqrt(tokens) ** 2 != tokens:
                raise ConfigError(
                    "scaling.tokens and scaling.image_tokens must be square numbers, such as 64, "
                    f"144, 256 or 1024: images are square; got {tokens}"
                )
        for width in (*self.widths, self.width):
            if width % self.head_width or width % 4:
                raise ConfigError(
                    "scaling.width and scaling.widths must be multiples of 4 and of "
                    f"scaling.head_width {self.head_width}; got {width}"
                )
        if self.resolution % 8:
            raise ConfigError(f"scaling.resolution must be a multiple of 8; got {self.resolution}")

    def _check_names(self) -> None:
        """Refuse no curve, and names that occur twice."""
        if not self.curves:
            raise ConfigError(f"scaling.curves must name one or more of {', '.join(CURVES)}")
        for field in ("curves", "peers"):
            names = getattr(self, field)
            if len(set(names)) < len(names):
                raise ConfigError(f"scaling.{field} must name each once; got {' '.join(names)}")

    def _check_points(self, name: str, lowest: int) -> None:
        """Refuse no points, points below the lowest, and points that do not grow."""
        points = getattr(self, name)
        grows = all(first < second for first, second in pairwise(points))
        if not points or points[0] < lowest or not grows:
            raise ConfigError(
                f"scaling.{name} must be growing numbers from {lowest} on; got "
                f"{' '.join(map(str, points)) or 'none'}"
            )


LOWEST = {
    "tokens": 1,
    "widths": 4,
    "batches": 1,
    "text_tokens": 1,
    "processes": 1,
    "images": 2,
    "samples": 8,
}
"""Field of points -> the smallest allowed one."""
