# SPDX-License-Identifier: Apache-2.0
"""Configuration of evaluation."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from pippin.config import NOT_PROTOCOL, WHERE_SET, Config, ConfigError, at_least, counts_as
from pippin.control import SMALLEST_SIDE

Part = Literal[
    "held-out", "quality", "drift", "alignment", "real", "untrained", "control-profile", "scene"
]
PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT_PARTS: tuple[Part, ...] = tuple(
    part for part in PARTS if part not in ("control-profile", "scene")
)
"""The parts of a run that are measured by default."""
SMALLEST_INPUT = 32
"""The features' network halves its input five times."""

SCALABLE = ("original_size", "crop_corner", "jpeg_quality", "colour_jitter", "grain")
"""Controls whose effect is a number of every image, so that it can be matched."""

NETWORKS = {"inception": "a file of its weights", "dinov2": "a folder of the model"}
"""Features whose network is not shipped -> what their setting of the same name gives."""


ReferenceKind = Literal["train", "validation", "file"]


def _kind_of_reference(reference: str) -> ReferenceKind:
    """What a protocol holds of ``evaluation.reference``."""
    kinds: dict[str, ReferenceKind] = {"train": "train", "validation": "validation"}
    return kinds.get(reference, "file")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Config):
    """What is measured, on how many images, against which reference."""

    parts: tuple[Part, ...] = DEFAULT_PARTS
    """What of a run is measured: held-out loss; quality, the distances of samples; drift and
    effect of controls; alignment with captions, of models of text; two floors, the same of
    real pictures and of the untrained model; and, where asked for, control-profile, the x0-error
    that a wrong value of each control adds, by log-SNR; and scene, whether samples of a model of
    shapes show what they were asked for."""
    num_samples: int = 1000
    reference: str = field(default="train", metadata=WHERE_SET | counts_as(_kind_of_reference))
    """What samples are compared with. train: the training images; validation: the held-out ones;
    otherwise a path. For a run: FILE.npz, statistics as `pippin reference` writes them, for the
    Frechet distances, while all other distances are those of train. For a folder of images: such
    statistics, a .npz of images (arr_0) or a folder of images, in the place of a data set. The
    content's hash is a part of the measures' protocol."""
    features: Literal["efflite0", "inception", "dinov2"] = "efflite0"
    """efflite0: EfficientNet-lite0 trained on ImageNet, 1280 pooled features. inception: the
    network of FID, from the file that evaluation.inception names. dinov2: from the folder that
    evaluation.dinov2 names."""
    input_size: int = 128
    """Images are resized (bilinear, antialiased) to this side before efflite0's features and
    distances are taken; the other networks have sides of their own."""
    kid_subsets: int = 50
    kid_subset_size: int = 200
    neighbours: int = 5
    """k of precision, recall, density and coverage."""
    loss_log_snrs: tuple[float, ...] = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
    """The fixed grid of the held-out denoising loss."""
    profile_log_snrs: tuple[float, ...] = field(
        default=(-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), metadata=WHERE_SET
    )
    """The grid of the control profile."""
    scene_samples: int = field(default=256, metadata=WHERE_SET)
    """Held-out scenes of data.kind shapes that samples are drawn for, for each kind of caption."""
    scene_captions: tuple[Literal["short", "medium", "long"], ...] = field(
        default=("short", "medium", "long"), metadata=WHERE_SET
    )
    """Kinds of captions that models of text are asked with for them."""
    drift_pairs: int = 64
    """Seeds of control drift and effect, for each control."""
    size_curve: tuple[int, ...] = ()
    """Further original sizes, in pixels below the resolution: drift and effect of each against the
    large one, for the curve of one against the other."""
    control_scales: tuple[float, ...] = ()
    """Control guidance scales, beta, at which drift and effect of a control are measured too; with
    them, the drift at which the model reaches matched_share of the effect of real pairs."""
    scaled_controls: tuple[str, ...] = field(default=("original_size",), metadata=WHERE_SET)
    """The controls that this is done for: original_size, crop_corner, jpeg_quality,
    colour_jitter, grain."""
    matched_share: float = field(default=0.5, metadata=WHERE_SET)
    """Share of real pairs' effect at which models are compared by their drift."""
    scales: tuple[float, ...] = ()
    """Semantic scales of which the best is looked for on a split of its own; none = no search.
    Quality is then reported at the best one and at 1, beside that of the recipe's sampling."""
    scale_samples: int = 200
    """Images drawn at each of them."""
    clip: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """Folder or hub name of a CLIP in transformers' format, for the CLIP score of models of text;
    None = no CLIP score. Its files' hash is part of the score's protocol."""
    inception: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """File of the weights of Inception, weights-inception-2015-12-05-6726825d.pth, for FID, sFID
    and Inception score; needs pip install 'pippin[fid]'. The file's hash is part of the measures'
    protocol, and of their names where it is another file."""
    dinov2: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """Folder or hub name of a DINOv2 in transformers' format. Its files' hash is part of the
    measures' protocol."""
    lpips: str | None = field(default=None, metadata=NOT_PROTOCOL)
    """torchvision's weights of AlexNet or VGG16, for drift in LPIPS beside our own distance; needs
    pip install 'pippin[lpips]'. The file's hash is part of the measures' protocol."""
    requests: tuple[int, ...] = field(default=(), metadata=WHERE_SET)
    """Original sizes, in pixels, that samples are asked for, of which the best is looked for on a
    split of its own, at every scale of ``scales`` (the recipe's where there are none); none = no
    search. Quality and sharpness are then reported at the best one too."""
    seed: int = 0
    """Of noise, subsets and labels."""
    seed_from_training: bool = field(default=False, metadata=WHERE_SET)
    """Whether samples, their classes, pictures of pairs and held-out noise depend on the training
    seed too; otherwise all training seeds are measured with the same noise."""
    batch_size: int = field(default=64, metadata=NOT_PROTOCOL)

    @property
    def reference_kind(self) -> ReferenceKind:
        """train, validation or file."""
        return _kind_of_reference(self.reference)

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
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
        at_least(self, "evaluation", 2, "num_samples", "kid_subset_size", "scale_samples")
        at_least(self, "evaluation", 2, "scene_samples")
        if not self.scene_captions or len(set(self.scene_captions)) < len(self.scene_captions):
            raise ConfigError(
                "evaluation.scene_captions must name one or more of short, medium, long, each "
                f"once; got {list(self.scene_captions)}"
            )
        at_least(self, "evaluation", SMALLEST_INPUT, "input_size")
        self._check_grids()
        if (self.scales or self.requests) and self.scale_samples > self.num_samples:
            raise ConfigError(
                "evaluation.scale_samples must not exceed evaluation.num_samples; got "
                f"{self.scale_samples} and {self.num_samples}"
            )
        if self.clip is not None and not self.clip.strip():
            raise ConfigError(
                f"evaluation.clip must name a folder or a hub repository; got {self.clip!r}"
            )
        for name, what in NETWORKS.items():
            given = getattr(self, name)
            if (given is not None) != (self.features == name):
                raise ConfigError(
                    f"evaluation.features {name} and evaluation.{name}, {what}, belong together; "
                    f"got features {self.features} and {name} {given}"
                )
        if self.neighbours >= self.num_samples:
            raise ConfigError(
                "evaluation.neighbours must be less than evaluation.num_samples; got "
                f"{self.neighbours} and {self.num_samples}"
            )
        wrong = [name for name in self.scaled_controls if name not in SCALABLE]
        if wrong or len(set(self.scaled_controls)) != len(self.scaled_controls):
            raise ConfigError(
                f"evaluation.scaled_controls must name some of {', '.join(SCALABLE)}, each once; "
                f"got {list(self.scaled_controls)}"
            )

    def _check_grids(self) -> None:
        """Refuse lists of scales, sizes and noise levels with impossible or equal entries."""
        for name in ("scales", "control_scales"):
            given = getattr(self, name)
            if not all(map(math.isfinite, given)) or len(set(given)) != len(given):
                raise ConfigError(
                    f"evaluation.{name} must be different finite numbers; got {given}"
                )
        for name in ("size_curve", "requests"):
            sides = getattr(self, name)
            if any(side < SMALLEST_SIDE for side in sides) or len(set(sides)) != len(sides):
                raise ConfigError(
                    f"evaluation.{name} must be different sides of {SMALLEST_SIDE} pixels or "
                    f"more; got {sides}"
                )
        if not 0 < self.matched_share <= 1:
            raise ConfigError(
                f"evaluation.matched_share must lie in (0, 1]; got {self.matched_share}"
            )
        if any(scale <= 0 for scale in self.control_scales):
            raise ConfigError(
                "evaluation.control_scales must lie above 0, where control is ignored; got "
                f"{self.control_scales}"
            )
        for name in ("loss_log_snrs", "profile_log_snrs"):
            grid = getattr(self, name)
            if not grid or not all(map(math.isfinite, grid)) or len(set(grid)) != len(grid):
                raise ConfigError(
                    f"evaluation.{name} must be one or more different numbers; got {grid}"
                )
