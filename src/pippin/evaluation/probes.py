# SPDX-License-Identifier: Apache-2.0
"""Pairs of control values, how to undo what they should do, and how to see that they did it.

A probe names two complete controls that describe the same picture prepared in two ways.
``align`` takes away what the difference of the controls accounts for, so that what is left is
drift; ``effects`` measures, image by image, whether the control acted at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from pippin.control import ColourJitter, Control, Corner, Size
from pippin.evaluation.appearance import (
    ROUNDING_VARIANCE,
    blur_to,
    brighten,
    grain_level,
    jpeg,
    log_sharpness,
    mass_centre,
    mirror,
)
from pippin.evaluation.measure import Better
from pippin.types import Images

Distance = Callable[[Images, Images], Float[Tensor, " batch"]]
"""How different the images of each pair look, from 0."""

Aligned = tuple[UInt8[Tensor, "batch 3 rows columns"], UInt8[Tensor, "batch 3 rows columns"]]
"""Two sets of images that may have become smaller."""

ASYMMETRIC = 0.15
"""Distance to one's own mirror image from which an image counts as asymmetric. A shift by one
pixel gives 0.09 and slight noise (standard deviation 4 of 255) 0.2 on OpenMoji at 64 pixels;
about six in ten of its pictures lie above."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one probe sees in each image."""

    name: str
    values: Float[Tensor, " n"]
    """May be empty where no image can show the effect."""
    unit: str
    better: Better


@runtime_checkable
class Probe(Protocol):
    """Two controls of one picture, and what to do with the two images."""

    @property
    def name(self) -> str:
        """Ends the names of measures."""
        ...

    @property
    def controls(self) -> tuple[Control, Control]:
        """The pair, in pixels of an imagined source image."""
        ...

    def align(self, first: Images, second: Images) -> Aligned:
        """Images that would be equal if the control did its work and nothing else."""
        ...

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """What shows that the control acts."""
        ...

    def protocol(self) -> dict[str, Any]:
        """Settings of the probe beside its controls, as JSON values."""
        ...


@dataclass(frozen=True, kw_only=True)
class SizeProbe:
    """A small original size against a large one: detail should change, content should not.

    Drift: both images blurred to the small size. Effect: by how much the share of energy beyond
    the small size's detail rises, in natural logarithms
    (:func:`pippin.evaluation.appearance.log_sharpness`). Real pairs show how much is right.
    """

    small: int = 32
    large: int = 256
    name: str = "original_size"

    @property
    def controls(self) -> tuple[Control, Control]:
        """The whole picture at both sizes."""
        return _whole(self.small), _whole(self.large)

    def align(self, first: Images, second: Images) -> Aligned:
        """Both at the detail of the small size.

        Raises:
            ValueError: images no larger than the small size, which cannot show the difference.
        """
        if self.small >= min(first.shape[-2:]):
            raise ValueError(
                f"images of {tuple(first.shape[-2:])} pixels cannot show an original size of "
                f"{self.small}: give the probe a size below that"
            )
        return blur_to(first, self.small), blur_to(second, self.small)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """Log-sharpness of the large size minus that of the small one."""
        gain = log_sharpness(second, self.small) - log_sharpness(first, self.small)
        return [Effect(name="effect", values=gain.cpu(), unit="nat", better="neither")]

    def protocol(self) -> dict[str, Any]:
        """Nothing more."""
        return {}


@dataclass(frozen=True, kw_only=True)
class FlipProbe:
    """Unflipped against flipped: the second image should be the mirror image of the first.

    Drift: the second image mirrored back. Effect, the mirror test: the share of asymmetric images
    of which the mirrored second is nearer to the first than the second itself is. 1: always
    mirrored, 0: never. An image is asymmetric if its distance to its own mirror image exceeds the
    threshold; their share is measured too, and without any of them the test is left out.
    """

    size: int = 256
    threshold: float = ASYMMETRIC
    name: str = "flip"

    @property
    def controls(self) -> tuple[Control, Control]:
        """The whole picture, not flipped and flipped."""
        return _whole(self.size), _whole(self.size, flip=True)

    def align(self, first: Images, second: Images) -> Aligned:
        """The second mirrored back."""
        return first, mirror(second)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """The mirror test, and how many images can take it."""
        asymmetric = distance(first, mirror(first)) > self.threshold
        mirrored = distance(first, mirror(second)) < distance(first, second)
        share = Effect(
            name="asymmetric images", values=asymmetric.double(), unit="share", better="neither"
        )
        test = Effect(
            name="effect", values=mirrored[asymmetric].double(), unit="share", better="neither"
        )
        return [test, share]

    def protocol(self) -> dict[str, Any]:
        """The threshold."""
        return {"asymmetric_above": self.threshold}


@dataclass(frozen=True, kw_only=True)
class CropProbe:
    """The top-left four fifths against the bottom-right four fifths: content should move.

    With these shares content moves by a quarter of the image, a whole number of pixels at every
    resolution divisible by four. Drift: the parts that show the same region of the source.
    Effect: how far the centre of what is not white moves down and right from the second image to
    the first, the mean of both directions, in shares of the side. It is 0.25 where the whole
    object stays in view, less where it is cut or the picture fills the image: read it beside
    that of real pairs.
    """

    size: int = 240
    name: str = "crop_corner"

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be cut so."""
        if self.size < 5 or self.size % 5:
            raise ValueError(f"the crop probe's size must be a multiple of 5, got {self.size}")

    @property
    def controls(self) -> tuple[Control, Control]:
        """Four fifths of the side, at the two far corners."""
        rest = self.size // 5
        return self._crop(Corner(0, 0)), self._crop(Corner(rest, rest))

    def align(self, first: Images, second: Images) -> Aligned:
        """What both images show of the source."""
        height, width = first.shape[-2:]
        down, right = round(height / 4), round(width / 4)
        return first[..., down:, right:], second[..., : height - down, : width - right]

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """Displacement of the centre."""
        moved = (mass_centre(first) - mass_centre(second)).mean(1)
        return [Effect(name="effect", values=moved.cpu(), unit="side", better="neither")]

    def protocol(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def _crop(self, corner: Corner) -> Control:
        side = self.size - self.size // 5
        return Control(
            original_size=Size(self.size, self.size),
            crop_corner=corner,
            crop_size=Size(side, side),
            flip=False,
        )


@dataclass(frozen=True, kw_only=True)
class JpegProbe:
    """Compressed against clean: the artefacts should come and nothing else.

    Drift: the clean image compressed, against the one that was asked for so. Effect: compression
    changes little in what was compressed before, so with e(x) the mean squared change by
    compressing x, ln (e(clean) / e(compressed)), each with the energy of 8-bit rounding added.
    """

    size: int = 256
    quality: int = 15
    name: str = "jpeg_quality"

    @property
    def controls(self) -> tuple[Control, Control]:
        """The whole picture, compressed and clean."""
        return replace(_whole(self.size), jpeg_quality=self.quality), _whole(self.size)

    def align(self, first: Images, second: Images) -> Aligned:
        """The clean one compressed."""
        return first, jpeg(second, self.quality)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """How much less the compressed one changes when it is compressed."""
        gain = self._change(second).log() - self._change(first).log()
        return [Effect(name="effect", values=gain.cpu(), unit="nat", better="neither")]

    def protocol(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def _change(self, images: Images) -> Float[Tensor, " batch"]:
        changed = jpeg(images, self.quality).double() - images.double()
        return changed.square().mean((1, 2, 3)) + ROUNDING_VARIANCE


@dataclass(frozen=True, kw_only=True)
class JitterProbe:
    """Darkened against clean colours: brightness should change and nothing else.

    Drift: the clean image darkened, against the one that was asked for so. Effect: ln of the mean
    of the clean image over that of the darkened one; -ln brightness where the model obeys.
    """

    size: int = 256
    brightness: float = 0.6
    name: str = "colour_jitter"

    @property
    def controls(self) -> tuple[Control, Control]:
        """The whole picture, darkened and clean."""
        darkened = ColourJitter(brightness=self.brightness)
        return replace(_whole(self.size), colour_jitter=darkened), _whole(self.size)

    def align(self, first: Images, second: Images) -> Aligned:
        """The clean one darkened."""
        return first, brighten(second, self.brightness)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """How much darker."""
        dark, light = (x.double().mean((1, 2, 3)).clamp(min=1) for x in (first, second))
        gain = light.log() - dark.log()
        return [Effect(name="effect", values=gain.cpu(), unit="nat", better="neither")]

    def protocol(self) -> dict[str, Any]:
        """Nothing more."""
        return {}


@dataclass(frozen=True, kw_only=True)
class GrainProbe:
    """Grainy against clean: the grain should come and nothing else.

    Drift: both images blurred to a quarter of their side, where grain, whose mean is 0, averages
    out.
    Effect: by how much :func:`pippin.evaluation.appearance.grain_level` rises.
    """

    size: int = 256
    grain: float = 32.0
    name: str = "grain"

    @property
    def controls(self) -> tuple[Control, Control]:
        """The whole picture, grainy and clean."""
        return replace(_whole(self.size), grain=self.grain), _whole(self.size)

    def align(self, first: Images, second: Images) -> Aligned:
        """Both without what is finer than a quarter of the side."""
        side = max(1, min(first.shape[-2:]) // 4)
        return blur_to(first, side), blur_to(second, side)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """How much more grain."""
        gain = grain_level(first) - grain_level(second)
        return [Effect(name="effect", values=gain.cpu(), unit="levels", better="neither")]

    def protocol(self) -> dict[str, Any]:
        """Nothing more."""
        return {}


def _whole(side: int, flip: bool = False) -> Control:
    size = Size(side, side)
    return Control(original_size=size, crop_corner=Corner(0, 0), crop_size=size, flip=flip)
