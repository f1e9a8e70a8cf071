# SPDX-License-Identifier: Apache-2.0
"""Probes of controls: pairs of control values, the alignment that undoes their difference, and
the measurement of their effect.

A probe has two complete controls that describe the same image prepared in two ways. ``align``
removes the difference that the controls account for, so that the rest is drift; ``effects``
measures the response of each image to the control.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from pippin.control import CONTROL_FIELDS, Control, Corner, Size
from pippin.data.views.pixel_changes import PIXEL_CHANGES
from pippin.evaluation.metric import MetricKind
from pippin.evaluation.metric_parameters import CurvePosition
from pippin.evaluation.metrics.appearance import blur_to, log_sharpness, mass_centre, mirror
from pippin.evaluation.metrics.declared.drift import ASYMMETRIC_IMAGES, EFFECT
from pippin.types import Images

Distance = Callable[[Images, Images], Float[Tensor, " batch"]]
"""Perceptual distance of each pair of images, 0 or more."""

Aligned = tuple[UInt8[Tensor, "batch 3 rows columns"], UInt8[Tensor, "batch 3 rows columns"]]
"""Two aligned sets of images, which may be smaller than before."""

ASYMMETRIC = 0.15
"""Distance to its own mirror image above which an image counts as asymmetric. A shift by one
pixel gives 0.09 and slight noise (standard deviation 4 of 255) 0.2 on OpenMoji at 64 pixels;
about six in ten of its images exceed the threshold."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Effect of one probe on each image."""

    kind: MetricKind = EFFECT
    """A metric of a control: its name has ``{control}`` and ``{position}``."""
    values: Float[Tensor, " n"]
    """Empty if no image can show the effect."""
    unit: str | None = None
    """None = the metric's; of a control without one, the unit of the values."""


@runtime_checkable
class Probe(Protocol):
    """Two controls of one image, and the comparison of the two resulting images."""

    @property
    def name(self) -> str:
        """Name of the control, a parameter of the measures' names."""
        ...

    @property
    def position(self) -> CurvePosition | None:
        """Position on a curve of drift against effect; None = the probe stands for itself."""
        ...

    @property
    def controls(self) -> tuple[Control, Control]:
        """The pair of controls, in pixels of a hypothetical source image."""
        ...

    def align(self, first: Images, second: Images) -> Aligned:
        """Images that would be equal if the control changed only what it should."""
        ...

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """Responses of the images to the control."""
        ...

    def protocol(self) -> dict[str, Any]:
        """Settings of the probe beside its controls, as JSON values."""
        ...


@dataclass(frozen=True, kw_only=True)
class SizeProbe:
    """Small against large original size: detail should change, content should not.

    Drift: both images blurred to the small size. Effect: increase of the share of energy beyond
    the small size's detail, in natural logarithms
    (:func:`pippin.evaluation.metrics.appearance.log_sharpness`). Real pairs give the target.
    """

    small: int = 32
    large: int = 256
    name: str = "original_size"
    position: CurvePosition | None = None

    @property
    def controls(self) -> tuple[Control, Control]:
        """The uncropped image at both sizes."""
        return _uncropped(self.small), _uncropped(self.large)

    def align(self, first: Images, second: Images) -> Aligned:
        """Both images blurred to the detail of the small size.

        Raises:
            ValueError: images no larger than the small size, which cannot show the difference.
        """
        if self.small >= min(first.shape[-2:]):
            raise ValueError(
                f"images of {tuple(first.shape[-2:])} pixels cannot show an original size of "
                f"{self.small}; give the probe a smaller size than the images"
            )
        return blur_to(first, self.small), blur_to(second, self.small)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """Log-sharpness of the large size minus that of the small one."""
        gain = log_sharpness(second, self.small) - log_sharpness(first, self.small)
        return [Effect(values=gain.cpu())]

    def protocol(self) -> dict[str, Any]:
        """No further settings."""
        return {}


@dataclass(frozen=True, kw_only=True)
class FlipProbe:
    """Unflipped against flipped: the second image should be the mirror image of the first.

    Drift: the second image mirrored back. Effect, the mirror test: the share of asymmetric images
    for which the mirrored second image is nearer to the first than the second image itself. 1:
    always mirrored, 0: never. An image is asymmetric if its distance to its own mirror image
    exceeds the threshold; their share is measured too, and without any the test is omitted.
    """

    size: int = 256
    threshold: float = ASYMMETRIC
    name: str = "flip"
    position: CurvePosition | None = None

    @property
    def controls(self) -> tuple[Control, Control]:
        """The uncropped image, unflipped and flipped."""
        return _uncropped(self.size), _uncropped(self.size, flip=True)

    def align(self, first: Images, second: Images) -> Aligned:
        """The second image mirrored back."""
        return first, mirror(second)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """The mirror test, and the share of asymmetric images."""
        asymmetric = distance(first, mirror(first)) > self.threshold
        mirrored = distance(first, mirror(second)) < distance(first, second)
        share = Effect(kind=ASYMMETRIC_IMAGES, values=asymmetric.double())
        test = Effect(values=mirrored[asymmetric].double())
        return [test, share]

    def protocol(self) -> dict[str, Any]:
        """The threshold."""
        return {"asymmetric_above": self.threshold}


@dataclass(frozen=True, kw_only=True)
class CropProbe:
    """Top-left four fifths against bottom-right four fifths: content should move.

    With these crops, content moves by a quarter of the image, an integer number of pixels at every
    resolution divisible by four. Drift: the parts that show the same region of the source.
    Effect: displacement of the centre of the non-white pixels, down and right, from the second
    image to the first, the mean of both directions, in shares of the side. It is 0.25 if the whole
    object stays in view, less if it is cropped or fills the image: compare it with real pairs.
    """

    size: int = 240
    name: str = "crop_corner"
    position: CurvePosition | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that are not divisible by five."""
        if self.size < 5 or self.size % 5:
            raise ValueError(f"the crop probe's size must be a multiple of 5, got {self.size}")

    @property
    def controls(self) -> tuple[Control, Control]:
        """Crops of four fifths of the side, at two opposite corners."""
        rest = self.size // 5
        return self._crop(Corner(0, 0)), self._crop(Corner(rest, rest))

    def align(self, first: Images, second: Images) -> Aligned:
        """The region of the source that both images show."""
        height, width = first.shape[-2:]
        down, right = round(height / 4), round(width / 4)
        return first[..., down:, right:], second[..., : height - down, : width - right]

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """Displacement of the centre of the non-white pixels."""
        moved = (mass_centre(first) - mass_centre(second)).mean(1)
        return [Effect(values=moved.cpu())]

    def protocol(self) -> dict[str, Any]:
        """No further settings."""
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
class AugmentationProbe:
    """Augmented against clean: the augmentation should appear, and nothing else should change.

    :mod:`pippin.control` declares the augmented value, and
    :mod:`pippin.data.views.pixel_changes` the change of pixels and the measure of its strength.
    Drift: the clean image, changed, against the image generated as changed; for a random change
    both images blurred to a quarter of their side, which averages out grain of mean 0. Effect:
    increase of the strength.
    """

    name: str
    """A field of :class:`pippin.control.Augmentation`."""
    size: int = 256
    position: CurvePosition | None = None

    @property
    def value(self) -> Any:
        """Value of the first image."""
        return CONTROL_FIELDS[self.name].probe_value

    @property
    def controls(self) -> tuple[Control, Control]:
        """The uncropped image, augmented and clean."""
        clean = _uncropped(self.size)
        return replace(clean, **{self.name: self.value}), clean

    def align(self, first: Images, second: Images) -> Aligned:
        """The clean image, changed; or both images without detail finer than a quarter of the
        side."""
        change = PIXEL_CHANGES[self.name]
        if change.repeatable:
            return first, change.apply(second, self.value)
        side = max(1, min(first.shape[-2:]) // 4)
        return blur_to(first, side), blur_to(second, side)

    def effects(self, first: Images, second: Images, distance: Distance) -> list[Effect]:
        """Difference of the strengths."""
        level = PIXEL_CHANGES[self.name].level
        return [Effect(values=(level(first, self.value) - level(second, self.value)).cpu())]

    def protocol(self) -> dict[str, Any]:
        """No further settings."""
        return {}


def _uncropped(side: int, flip: bool = False) -> Control:
    size = Size(side, side)
    return Control(original_size=size, crop_corner=Corner(0, 0), crop_size=size, flip=flip)
