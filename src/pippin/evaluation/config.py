# SPDX-License-Identifier: Apache-2.0
"""Configuration of evaluation, and presets by name."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from pippin.config import Config, ConfigError
from pippin.control import CONTROL_FIELDS, LARGEST_SIDE, PROBED_CONTROLS, SMALLEST_SIDE
from pippin.data.config import ImagesConfig
from pippin.settings.bounds import at_least
from pippin.settings.marks import NOT_PROTOCOL, PROTOCOL_IF_CHANGED, protocol_as

Part = Literal[
    "held-out", "quality", "drift", "alignment", "real", "untrained", "control-profile", "scene"
]
PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT_PARTS: tuple[Part, ...] = tuple(
    part for part in PARTS if part not in ("control-profile", "scene")
)
"""Evaluation parts that run by default."""
SMALLEST_INPUT = 32
"""Smallest input side: the feature network halves its input five times."""

SCALABLE = tuple(
    name
    for name in PROBED_CONTROLS
    if (effect := CONTROL_FIELDS[name].effect) is not None and effect.matchable
)
"""Controls whose effect is a number per image, so that it can be matched."""

FeaturesName = Literal["efflite0", "inception", "dinov2", "clip"]
NETWORKS = {
    "inception": "a file of its weights",
    "dinov2": "a folder of the model",
    "clip": "a folder of the model",
}
"""Feature networks that are not shipped -> content of the setting of the same name."""


ReferenceKind = Literal["train", "validation", "file"]


def _reference_kind(reference: str) -> ReferenceKind:
    """Kind of reference that a protocol records for ``evaluation.reference``."""
    kinds: dict[str, ReferenceKind] = {"train": "train", "validation": "validation"}
    return kinds.get(reference, "file")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Config):
    """Settings of evaluation: metrics, numbers of images, reference."""

    parts: tuple[Part, ...] = DEFAULT_PARTS
    """Parts of the evaluation. held-out: denoising loss; quality: distances of samples; drift:
    drift and effect of controls; alignment: agreement with captions, for text models; real and
    untrained: two floors, the same metrics of real images and of the untrained model. On request
    only: control-profile, the x0-error that a wrong value of each control adds, by log-SNR; scene,
    whether samples of a model of shapes show what their caption states."""
    num_samples: int = 1000
    reference: str = field(
        default="train", metadata=PROTOCOL_IF_CHANGED | protocol_as(_reference_kind)
    )
    """Reference images of the distances. train: the training images; validation: the held-out
    images; otherwise a path. For a run: FILE.npz, statistics as `pippin reference` writes them,
    for the Frechet distances; all other distances use train. For a folder of images: such
    statistics, a .npz of images (arr_0) or a folder of images, instead of a data set. The hash of
    the content is part of the measures' protocol."""
    features: FeaturesName = "efflite0"
    """Feature network. efflite0: EfficientNet-lite0 trained on ImageNet, 1280 pooled features.
    inception: the network of FID, from the file that evaluation.inception names. dinov2 and
    clip: from the folder that evaluation.dinov2 or evaluation.clip names; clip adds CMMD."""
    input_size: int = 128
    """Images are resized (bilinear, antialiased) to this side before efflite0's features and
    distances are computed; the other networks have fixed input sizes."""
    kid_subsets: int = 50
    kid_subset_size: int = 200
    neighbours: int = 5
    """k of precision, recall, density and coverage."""
    loss_log_snrs: tuple[float, ...] = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
    """Log-SNR grid of the held-out denoising loss."""
    held_out_images: int = field(default=2048, metadata=PROTOCOL_IF_CHANGED)
    """Largest number of held-out images of the loss and the control profile; larger sets are
    measured on a fixed subset."""
    profile_log_snrs: tuple[float, ...] = field(
        default=(-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        metadata=PROTOCOL_IF_CHANGED,
    )
    """Log-SNR grid of the control profile."""
    scene_samples: int = field(default=256, metadata=PROTOCOL_IF_CHANGED)
    """Number of held-out scenes (data.kind shapes) sampled for each kind of caption."""
    scene_captions: tuple[Literal["short", "medium", "long"], ...] = field(
        default=("short", "medium", "long"), metadata=PROTOCOL_IF_CHANGED
    )
    """Kinds of captions that text models are prompted with for these scenes."""
    drift_pairs: int = 64
    """Number of seeds of control drift and effect, for each control."""
    size_curve: tuple[int, ...] = ()
    """Further original sizes, in pixels below the resolution: drift and effect of each against the
    large size, for the curve of drift against effect."""
    control_scales: tuple[float, ...] = ()
    """Control guidance scales, beta, at which drift and effect of a control are also measured,
    and the drift at which the model reaches matched_share of the effect of real pairs."""
    scaled_controls: tuple[str, ...] = field(
        default=("original_size",), metadata=PROTOCOL_IF_CHANGED
    )
    """Controls measured at control_scales: original_size, crop_corner, jpeg_quality,
    colour_jitter, grain."""
    matched_share: float = field(default=0.5, metadata=PROTOCOL_IF_CHANGED)
    """Share of the real pairs' effect at which drift is compared between models."""
    scales: tuple[float, ...] = ()
    """Guidance scales of the search for the best one, on a split of its own; empty = no search.
    Quality is then also reported at the best scale and at 1. They are semantic scales, or those
    of autoguidance where sampling.guidance.guide_scale is not 1."""
    scale_samples: int = 200
    """Number of images sampled at each scale."""
    intervals: tuple[tuple[float, float], ...] = field(default=(), metadata=PROTOCOL_IF_CHANGED)
    """Guidance intervals (low, high) in log-SNR of the search for the best one, at every scale of
    ``scales`` but 1 (the recipe's scale if empty); empty = no search. Quality is then also
    reported at the best interval."""
    clip: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """Folder or hub name of a CLIP in transformers' format, for the CLIP score of text models
    and for features clip; None = no CLIP score. The hash of its files is part of the measures'
    protocol."""
    inception: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """File of the Inception weights, weights-inception-2015-12-05-6726825d.pth, for FID, sFID and
    Inception score; needs the extra ``fid``. The file's hash is part of the measures'
    protocol, and of their names if it is another file."""
    dinov2: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """Folder or hub name of a DINOv2 in transformers' format. The hash of its files is part of
    the measures' protocol."""
    lpips: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """File of torchvision's weights of AlexNet or VGG16, for drift in LPIPS beside
    efflite0-distance; needs the extra ``lpips``. The file's hash is part of the measures'
    protocol."""
    requests: tuple[int, ...] = field(default=(), metadata=PROTOCOL_IF_CHANGED)
    """Requested original sizes, in pixels, of the search for the best one, on a split of its own,
    at every scale of ``scales`` (the recipe's scale if empty); empty = no search. Quality and
    sharpness are then also reported at the best size."""
    seed: int = 0
    """Seed of noise, subsets and labels."""
    seed_from_training: bool = field(default=False, metadata=PROTOCOL_IF_CHANGED)
    """Let samples, their classes, images of pairs and held-out noise also depend on the training
    seed; otherwise all training seeds are measured with the same noise."""
    batch_size: int = field(default=64, metadata=NOT_PROTOCOL)

    @property
    def reference_kind(self) -> ReferenceKind:
        """Kind of reference: train, validation or file."""
        return _reference_kind(self.reference)

    def __post_init__(self) -> None:
        """Refuse settings that cannot be measured."""
        if not self.parts or len(set(self.parts)) != len(self.parts):
            raise ConfigError(
                f"evaluation.parts must name one or more of {', '.join(PARTS)}, each once; got "
                f"{list(self.parts)}"
            )
        if not self.reference.strip():
            raise ConfigError(
                "evaluation.reference must be train, validation (the held-out images) or the path "
                f"of a file of statistics, FILE.npz; got {self.reference!r}"
            )
        at_least(self, "evaluation", 1, "kid_subsets", "neighbours", "drift_pairs", "batch_size")
        at_least(self, "evaluation", 1, "held_out_images")
        at_least(self, "evaluation", 2, "num_samples", "kid_subset_size", "scale_samples")
        at_least(self, "evaluation", 2, "scene_samples")
        if not self.scene_captions or len(set(self.scene_captions)) < len(self.scene_captions):
            raise ConfigError(
                "evaluation.scene_captions must name one or more of short, medium, long, each "
                f"once; got {list(self.scene_captions)}"
            )
        at_least(self, "evaluation", SMALLEST_INPUT, "input_size")
        self._check_grids()
        searches = self.scales or self.requests or self.intervals
        if searches and self.scale_samples > self.num_samples:
            raise ConfigError(
                "evaluation.scale_samples must not exceed evaluation.num_samples; got "
                f"{self.scale_samples} and {self.num_samples}"
            )
        if self.clip is not None and not self.clip.strip():
            raise ConfigError(
                f"evaluation.clip must name a folder or a hub repository; got {self.clip!r}"
            )
        for name, description in NETWORKS.items():
            source = getattr(self, name)
            unused = source is not None and self.features != name
            if (self.features == name and source is None) or (unused and name != "clip"):
                raise ConfigError(
                    f"evaluation.features {name} and evaluation.{name}, {description}, belong "
                    f"together; got features {self.features} and {name} {source}"
                )
        if self.neighbours >= self.num_samples:
            raise ConfigError(
                "evaluation.neighbours must be less than evaluation.num_samples; got "
                f"{self.neighbours} and {self.num_samples}"
            )
        unknown = [name for name in self.scaled_controls if name not in SCALABLE]
        if unknown or len(set(self.scaled_controls)) != len(self.scaled_controls):
            raise ConfigError(
                f"evaluation.scaled_controls must name some of {', '.join(SCALABLE)}, each once; "
                f"got {list(self.scaled_controls)}"
            )

    def _check_grids(self) -> None:
        """Refuse lists of scales, sizes and noise levels with invalid or duplicate entries."""
        for name in ("scales", "control_scales"):
            scales = getattr(self, name)
            if not all(map(math.isfinite, scales)) or len(set(scales)) != len(scales):
                raise ConfigError(
                    f"evaluation.{name} must be different finite numbers; got {scales}"
                )
        wrong = [
            pair
            for pair in self.intervals
            if not (all(map(math.isfinite, pair)) and pair[0] < pair[1])
        ]
        if wrong or len(set(self.intervals)) != len(self.intervals):
            raise ConfigError(
                "evaluation.intervals must be different pairs of finite log-SNR, each with low < "
                f"high, such as -3 3 -1 3; got {list(self.intervals)}"
            )
        for name in ("size_curve", "requests"):
            sides = getattr(self, name)
            within_range = all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sides)
            if not within_range or len(set(sides)) != len(sides):
                raise ConfigError(
                    f"evaluation.{name} must be different sides from {SMALLEST_SIDE} to "
                    f"{LARGEST_SIDE} pixels, which control reads; got {sides}"
                )
        if not 0 < self.matched_share <= 1:
            raise ConfigError(
                f"evaluation.matched_share must lie in (0, 1]; got {self.matched_share}"
            )
        if any(scale <= 0 for scale in self.control_scales):
            raise ConfigError(
                "evaluation.control_scales must be above 0, which ignores the control; got "
                f"{self.control_scales}"
            )
        for name in ("loss_log_snrs", "profile_log_snrs"):
            grid = getattr(self, name)
            if not grid or not all(map(math.isfinite, grid)) or len(set(grid)) != len(grid):
                raise ConfigError(
                    f"evaluation.{name} must be one or more different numbers; got {grid}"
                )


PresetName = Literal["coco-zero-shot"]


@dataclass(frozen=True, kw_only=True)
class ZeroShotPreset:
    """Zero-shot evaluation: samples for the captions of a folder that the model was not trained
    on, against the folder's images.

    Guidance, solver and all other sampling settings are the recipe's.
    """

    data: ImagesConfig
    """Images and samples are compared at ``data.resolution``."""
    evaluation: EvaluationConfig
    """``num_samples``: number of captions, or all if there are fewer."""
    steps: int
    """Number of steps of the recipe's solver."""


# 30 000 captions at 256 pixels are customary; 224 is the training resolution of
# EfficientNet-lite0. Everything can be set on the command line.
PRESETS: dict[PresetName, ZeroShotPreset] = {
    "coco-zero-shot": ZeroShotPreset(
        data=ImagesConfig(resolution=256),
        evaluation=EvaluationConfig(num_samples=30_000, input_size=224),
        steps=50,
    )
}
