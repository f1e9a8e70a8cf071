# SPDX-License-Identifier: Apache-2.0
"""Controls of the playground: those that a run has, their ranges, and the request they make.

Crops are given as shares, so that one position means the same at every original size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from pippin.config import ConfigError
from pippin.control import (
    AUGMENTATION_FIELDS,
    CONTROL_FIELDS,
    LARGEST_SIDE,
    SMALLEST_SIDE,
    Augmentation,
    Size,
)
from pippin.data.config import DataConfig, NoDataConfig, has_buckets
from pippin.data.views.buckets import BUCKET_STEP, bucket_sizes
from pippin.data.views.crop import crop_size_of
from pippin.sampling.config import ControlRequest
from pippin.sampling.load import LoadedRun

Value = float | bool | str
"""A number, a switch, or one of several choices."""

SMALLEST_CROP = 0.5
"""Smallest share of a crop, where the range of the training is unknown."""
RATIOS = (1 / 2, 2 / 3, 1.0, 3 / 2, 2.0)
"""Height over width of the choices for a published model that reads the shape of an image."""


@dataclass(frozen=True, kw_only=True)
class PlayControl:
    """One control of the page."""

    name: str
    label: str
    kind: Literal["number", "switch", "choice"] = "number"
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    log: bool = False
    """Whether a sweep has equal ratios instead of equal differences."""
    choices: tuple[str, ...] = ()
    default: Value
    info: str = ""

    def values(self, count: int) -> tuple[Value, ...]:
        """Values of a sweep over the whole range, in increasing order.

        Args:
            count: largest number of values, 2 or more; a switch has two, a choice has its own.
        """
        if self.kind == "switch":
            return (False, True)
        if self.kind == "choice":
            return self.choices
        shares = [index / (count - 1) for index in range(count)]
        if self.log:
            ratio = self.high / self.low
            numbers = [self.low * ratio**share for share in shares]
        else:
            numbers = [self.low + (self.high - self.low) * share for share in shares]
        return tuple(dict.fromkeys(map(self._rounded, numbers)))

    def _rounded(self, number: float) -> float:
        """The nearest multiple of the step inside the range."""
        steps = round(number / self.step)
        nearest = min(max(round(steps * self.step, 6), self.low), self.high)
        return int(nearest) if self.step >= 1 else nearest

    def caption(self, value: Value) -> str:
        """A value as the page shows it."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        return value if isinstance(value, str) else f"{value:g}"


def run_controls(run: LoadedRun) -> tuple[PlayControl, ...]:
    """Controls that the model reads and that its training varied."""
    read = set(run.read_names) & varied_fields(run.recipe.data)
    request = base_request(run)
    controls = [*_aspect(run), *_original_size(run, request, read), *_crop(run, request, read)]
    if "flip" in read:
        controls.append(
            PlayControl(name="flip", label="flip", kind="switch", default=request.flip)
        )
    for name in AUGMENTATION_FIELDS:
        if name in read:
            controls += _augmentation(name, getattr(request, name))
    return tuple(controls)


def constant_fields(run: LoadedRun) -> tuple[str, ...]:
    """Control fields that the model reads and that were the same in all training images."""
    varied = varied_fields(run.recipe.data)
    return tuple(name for name in run.read_names if name not in varied)


def varied_fields(data: DataConfig | NoDataConfig) -> set[str]:
    """Control fields that differ between training images; all, where the data are unknown."""
    if isinstance(data, NoDataConfig):
        return set(CONTROL_FIELDS)
    sizes, crop = getattr(data, "size_law", None), data.crop_law
    cropped = crop.smallest < 1 or crop.local_share > 0
    varied = {
        "original_size": sizes is None or sizes.smallest < sizes.largest,
        "crop_corner": cropped,
        "crop_size": cropped,
        "flip": 0 < crop.flip_probability < 1,
        "aspect_ratio": has_buckets(data),
    }
    varied |= {name: amount > 0 for name, (_, amount) in data.look.amounts().items()}
    return {name for name, varies in varied.items() if varies}


def base_request(run: LoadedRun) -> ControlRequest:
    """The run's own request where it has fixed values, otherwise the clean default."""
    request = run.recipe.sampling.control
    return request if request.ask == "fixed" else ControlRequest()


def control_request(run: LoadedRun, values: Mapping[str, Value]) -> ControlRequest:
    """The request of a run for values of the page; values of controls it lacks are ignored.

    Raises:
        ConfigError: a corner for a crop that is the whole image.
    """
    controls = run_controls(run)
    if not controls:
        return run.recipe.sampling.control
    chosen = {one.name: values.get(one.name, one.default) for one in controls}
    request = base_request(run)
    shape = _size_of(str(chosen["aspect"])) if "aspect" in chosen else Size(*request.original_size)
    side = int(chosen.get("original_size", max(request.original_size)))
    original = crop_size_of(shape, side)
    return ControlRequest(
        original_size=original,
        **_crop_request(chosen, original, {one.name: one for one in controls}),
        flip=bool(chosen.get("flip", request.flip)),
        **_augmentation_request(chosen, request),
    )


def sample_size(run: LoadedRun, values: Mapping[str, Value]) -> str | None:
    """``sampling.size`` for the aspect of the page; None = the square of the run's resolution."""
    controls = {one.name: one for one in _aspect(run)}
    if "aspect" not in controls:
        return run.recipe.sampling.size
    aspect = str(values.get("aspect", controls["aspect"].default))
    side = run.recipe.data.resolution
    return None if aspect == f"{side}x{side}" else aspect


def _aspect(run: LoadedRun) -> Iterator[PlayControl]:
    """Sizes that the model was trained at, if there are several."""
    data, side = run.recipe.data, run.recipe.data.resolution
    sizes: tuple[Size, ...] = ()
    if isinstance(data, NoDataConfig):
        if run.recipe.conditioning.image_shape:
            sizes = bucket_sizes(side, RATIOS, BUCKET_STEP)
    elif has_buckets(data):
        sizes = data.view_sizes
    if len(sizes) > 1:
        names = tuple(f"{size.height}x{size.width}" for size in sizes)
        squarest = min(sizes, key=lambda size: max(size) / min(size))
        own = run.recipe.sampling.size
        yield PlayControl(
            name="aspect",
            label="aspect",
            kind="choice",
            choices=names,
            default=own if own in names else names[sizes.index(squarest)],
            info="height x width of the image, in pixels",
        )


def _original_size(
    run: LoadedRun, request: ControlRequest, read: set[str]
) -> Iterator[PlayControl]:
    if "original_size" not in read:
        return
    data, default = run.recipe.data, max(request.original_size)
    sizes = getattr(data, "size_law", None)
    low = sizes.smallest if sizes else max(SMALLEST_SIDE, data.resolution // 2)
    high = sizes.largest if sizes else min(LARGEST_SIDE, data.resolution * 8)
    yield PlayControl(
        name="original_size",
        label="original size",
        low=min(low, default),
        high=max(high, default),
        step=1,
        log=True,
        default=default,
        info="in pixels",
    )


def _crop(run: LoadedRun, request: ControlRequest, read: set[str]) -> Iterator[PlayControl]:
    """Share of the crop, and its position from 0 (top, left) to 1 (bottom, right)."""
    original = request.original_size
    crop = request.crop_size or original
    law = getattr(run.recipe.data, "crop_law", None)
    low = law.smallest if law and law.smallest < 1 else SMALLEST_CROP
    share = max(crop) / max(original)
    if "crop_size" in read:
        yield PlayControl(
            name="crop_size",
            label="crop size",
            low=min(low, share),
            default=share,
        )
    if "crop_corner" in read:
        names = ("crop_top", "crop top"), ("crop_left", "crop left")
        for index, (name, label) in enumerate(names):
            room = original[index] - crop[index]
            yield PlayControl(
                name=name,
                label=label,
                default=request.crop_corner[index] / room if room else 0.0,
            )


def _crop_request(
    chosen: Mapping[str, Value], original: Size, controls: Mapping[str, PlayControl]
) -> dict[str, Any]:
    """Corner and size of the crop; no size for the whole image, or where the model reads none."""
    shares = [float(chosen.get(name, 0.0)) for name in ("crop_top", "crop_left")]
    has_size = "crop_size" in controls
    share = float(chosen["crop_size"]) if has_size else SMALLEST_CROP
    if share == 1:
        if any(shares):
            raise ConfigError(
                "the crop is the whole image, so it has no other position: lower the crop size, "
                "or set crop top and crop left to 0"
            )
        return {}
    if not has_size and "crop_top" not in controls:
        return {}
    crop = crop_size_of(original, max(1, round(share * max(original))))
    corner = tuple(
        round(share * (side - cropped))
        for share, side, cropped in zip(shares, original, crop, strict=True)
    )
    return {"crop_corner": corner, **({"crop_size": crop} if has_size else {})}


def _parts(name: str) -> tuple[str, ...]:
    """Names of the numbers of an augmentation."""
    return getattr(get_type_hints(Augmentation)[name], "_fields", (name,))


def _augmentation(name: str, value: Any) -> Iterator[PlayControl]:
    declared, kind = CONTROL_FIELDS[name], get_type_hints(Augmentation)[name]
    for index, part in enumerate(_parts(name)):
        yield PlayControl(
            name=part,
            label=declared.label or part if part == name else part,
            low=declared.low,
            high=declared.high,
            step=1 if kind is int else 0.05,
            log=declared.scale == "log",
            default=value[index] if isinstance(value, tuple) else value,
            info=declared.unit if part == name else f"factor, of the {declared.label}",
        )


def _augmentation_request(chosen: Mapping[str, Value], request: ControlRequest) -> dict[str, Any]:
    """Values of all augmentations, those of the request where the page has none."""
    result = {}
    for name in AUGMENTATION_FIELDS:
        kind, value = get_type_hints(Augmentation)[name], getattr(request, name)
        numbers = value if isinstance(value, tuple) else (value,)
        pairs = zip(_parts(name), numbers, strict=True)
        result[name] = kind(*(chosen.get(part, number) for part, number in pairs))
    return result


def _size_of(text: str) -> Size:
    height, width = text.split("x")
    return Size(int(height), int(width))
