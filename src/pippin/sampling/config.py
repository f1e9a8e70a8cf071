# SPDX-License-Identifier: Apache-2.0
"""Configuration of guidance and sampling."""

import math
import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

from pippin.conditioning.config import ConditioningConfig, TextSemantic
from pippin.config import Config, ConfigError
from pippin.control import (
    AUGMENTATION_FIELDS,
    CONTROL_FIELDS,
    LARGEST_SIDE,
    SMALLEST_SIDE,
    Augmentation,
)
from pippin.settings.bounds import above, at_least, within
from pippin.settings.marks import NOT_PROTOCOL, PROTOCOL_IF_CHANGED, protocol_as
from pippin.settings.weights import check_weights_name

SolverName = Literal["ddim", "dpm++", "heun", "euler", "ddpm", "sde", "meanflow"]
SpacingName = Literal["trailing", "leading", "linspace"]


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(Config):
    """lambda [beta e(c, s) + (1 - beta) e(0, s)] + (1 - lambda) e(reference)."""

    semantic_scale: float = 1.0
    """lambda, the scale of classifier-free guidance; 1 = off."""
    semantic_power: float | None = None
    """None: constant. p: MDTv2's power-cosine, 1 + (lambda - 1) (1 - cos(pi u^p)) / 2 with
    u = 1 - t / 1000, which grows from 1 at the noisy end to lambda at the clean one."""
    control_scale: float = 1.0
    """beta; 1 = off."""
    reference: Literal["null", "control"] = "null"
    """null: e(0, 0), the paper's; control: e(c, 0)."""
    log_snr_interval: tuple[float, float] | None = None
    """Guide only where low <= log-SNR <= high; outside, both scales are 1."""
    cfg_channels: int | None = None
    """None guides all channels; 3 reproduces the published DiT's samples."""
    guide_scale: float = field(default=1.0, metadata=PROTOCOL_IF_CHANGED)
    """Scale of autoguidance by the weaker model that sampling.guide, guide_checkpoint or
    guide_weights names, instead of both scales above; 1 = off."""
    rescale: float = field(default=0.0, metadata=PROTOCOL_IF_CHANGED)
    """phi of CFG-rescale: share to which the standard deviation of the guided prediction is set
    to that of the conditional one; 0 = off."""

    def __post_init__(self) -> None:
        """Refuse settings without effect."""
        at_least(self, "sampling.guidance", 1, "cfg_channels")
        above(self, "sampling.guidance", 0, "semantic_power")
        within(self, "sampling.guidance", 0, 1, "rescale")
        for name in ("semantic_scale", "control_scale", "guide_scale"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(
                    f"sampling.guidance.{name} must be a finite number (1 = off); got "
                    f"{getattr(self, name)}"
                )
        if self.log_snr_interval is not None:
            low, high = self.log_snr_interval
            if not low < high:
                raise ConfigError(
                    "sampling.guidance.log_snr_interval must be (low, high) with low < high; got "
                    f"({low}, {high})"
                )


def check_guidance(sampling: "SamplingConfig", conditioning: ConditioningConfig) -> None:
    """Refuse guidance whose reference a model of this conditioning was never trained on, and the
    solver of mean velocities for a model without them.

    A scale other than 1 needs its condition dropped in training, and a model that has it. A
    negative prompt needs a model of text, and a scale to push away from it; the reference keeps
    it, so that semantics need not have been dropped. Autoguidance needs a weaker model, which
    takes the place of the unconditional prediction.

    Raises:
        ConfigError: naming the scale and the setting that makes it impossible.
    """
    guidance, drop, control = sampling.guidance, conditioning.drop, conditioning.control
    if sampling.solver == "meanflow" and not conditioning.interval:
        raise ConfigError(
            "sampling.solver meanflow needs a model of mean velocities, trained with "
            "diffusion.meanflow.share above 0 and conditioning.interval True; for this model "
            "choose ddim, euler, heun, dpm++ or sde"
        )
    _check_guide(sampling)
    _check_one_step(sampling)
    if sampling.negative_prompt is not None:
        if not isinstance(conditioning.semantic, TextSemantic):
            raise ConfigError("sampling.negative_prompt is for text models: leave it out")
        if guidance.semantic_scale == 1:
            raise ConfigError(
                "sampling.negative_prompt has no effect without guidance: give a "
                "sampling.guidance.semantic_scale above 1"
            )
    has_control = bool(control.high or control.low)
    if guidance.semantic_scale != 1:
        name = f"sampling.guidance.semantic_scale {guidance.semantic_scale}"
        if not conditioning.rules:
            raise ConfigError(f"{name} guides nothing: conditioning.rules is empty; leave it at 1")
        drops_control = guidance.reference == "null" and has_control
        if sampling.negative_prompt is None:
            share = "both" if drops_control else "semantic"
            dropped = drop.both if drops_control else drop.semantic + drop.both * (not has_control)
            _check_dropped(name, share, dropped)
        elif drops_control:  # the negative prompt takes the place of the null caption
            _check_dropped(name, "control", drop.control)
    if guidance.control_scale != 1:
        name = f"sampling.guidance.control_scale {guidance.control_scale}"
        if not has_control:
            raise ConfigError(
                f"{name} guides nothing: conditioning.control has no field; leave it at 1"
            )
        _check_dropped(name, "control", drop.control + drop.both * (not conditioning.rules))


def check_requested_size(sampling: "SamplingConfig", conditioning: ConditioningConfig) -> None:
    """Refuse an original size that the model's control cannot read.

    Raises:
        ConfigError: naming the setting and its range.
    """
    control, size = conditioning.control, sampling.control.original_size
    reads = "original_size" in control.fields
    if reads and not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in size):
        raise ConfigError(
            f"sampling.control.original_size must lie between {SMALLEST_SIDE} and {LARGEST_SIDE} "
            f"pixels, which the model's control reads; got {size}"
        )


def _check_one_step(sampling: "SamplingConfig") -> None:
    """Refuse guidance that varies with time where the only step starts from pure noise: it is off
    there."""
    if sampling.solver != "meanflow" or sampling.steps > 1:
        return
    guidance = sampling.guidance
    guided = guidance.semantic_scale != 1
    used = {
        "log_snr_interval": guided or guidance.control_scale != 1 or guidance.guide_scale != 1,
        "semantic_power": guided,
    }
    for name in (name for name, acts in used.items() if acts):
        value = getattr(guidance, name)
        if value is None or (isinstance(value, tuple) and value[0] == -math.inf):
            continue
        raise ConfigError(
            f"sampling.guidance.{name} turns guidance off in the one step of sampling.solver "
            f"meanflow, which starts from pure noise; got {value} and sampling.steps 1: leave it "
            "out, or set --sampling.steps 2 or more"
        )


def _check_guide(sampling: "SamplingConfig") -> None:
    """Refuse a guide without a scale, a scale without a guide, and further guidance beside it."""
    guidance, given = sampling.guidance, sampling.guide_settings
    if guidance.guide_scale == 1:
        if given:
            name, value = next(iter(given.items()))
            raise ConfigError(
                f"sampling.{name} {value} has no effect at sampling.guidance.guide_scale 1, which "
                "is off: give a sampling.guidance.guide_scale above 1, or leave the guide out"
            )
        return
    scale = f"sampling.guidance.guide_scale {guidance.guide_scale}"
    if not given:
        raise ConfigError(
            f"{scale} needs a weaker model: give sampling.guide RUN, or for the same run "
            "sampling.guide_checkpoint N or sampling.guide_weights NAME"
        )
    for name in ("semantic_scale", "control_scale"):
        if getattr(guidance, name) != 1:
            raise ConfigError(
                f"{scale} guides by a weaker model instead of a dropped condition: set "
                f"sampling.guidance.{name} to 1; got {getattr(guidance, name)}"
            )


def _check_dropped(scale: str, share: str, dropped: float) -> None:
    if not dropped > 0:
        raise ConfigError(
            f"{scale} needs a model that was trained with conditioning.drop.{share} above 0; here "
            "it is 0, so the network never saw what guidance refers to: leave the scale at 1, or "
            "train with dropping"
        )


@dataclass(frozen=True, kw_only=True)
class ControlRequest(Config, Augmentation):
    """Which control values samples ask for, in pixels of an imagined source image."""

    ask: Literal["fixed", "training", "clean"] = "fixed"
    """fixed: the values given here, for every sample; training: those of a training view that
    the sample's seed picks, of its own class where the model has classes; clean: the whole
    image, unflipped and untouched, at a size that the data can show. The last two take no
    values."""
    original_size: tuple[int, int] = (256, 256)
    crop_corner: tuple[int, int] = (0, 0)
    crop_size: tuple[int, int] | None = None
    """None: the whole image, that is, original_size."""
    flip: bool = False

    def __post_init__(self) -> None:
        """Refuse a crop outside the imagined image, and an augmentation outside its range."""
        if self.ask != "fixed":
            changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
            values = ", ".join(name for name in changed if name != "ask")
            if values:
                raise ConfigError(
                    f"sampling.control.ask {self.ask} takes its values from the data, so "
                    f"sampling.control: {values} would have no effect: leave them out, or use "
                    "sampling.control.ask fixed"
                )
        for name in AUGMENTATION_FIELDS:
            declared, value = CONTROL_FIELDS[name], getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(declared.low <= number <= declared.high for number in numbers):
                raise ConfigError(
                    f"sampling.control.{name} must lie between {declared.low} and "
                    f"{declared.high} ({declared.unit}); got {value}"
                )
        size, corner = self.original_size, self.crop_corner
        if min(size) < 1:
            raise ConfigError(f"sampling.control.original_size must be 1 or more; got {size}")
        if self.crop_size is not None and min(self.crop_size) < 1:
            raise ConfigError(
                f"sampling.control.crop_size must be 1 or more; got {self.crop_size}"
            )
        crop = self.crop_size or (1, 1)  # no crop is so small that this corner leaves it room
        if min(corner) < 0 or any(c + k > s for c, k, s in zip(corner, crop, size, strict=True)):
            raise ConfigError(
                f"sampling.control: a crop of {self.crop_size or size} at sampling.control."
                f"crop_corner {corner} does not lie inside sampling.control.original_size {size}; "
                "give a smaller crop_size or corner, or a larger original_size"
            )


def _guide_kind(guide: str | None) -> str | None:
    """Value that a protocol records for ``sampling.guide``; the digest of its weights is there
    too."""
    return None if guide is None else "run"


class GuideChoice(NamedTuple):
    """Choice of the weaker model of autoguidance."""

    run: str | None
    """Run folder, exported folder, shipped model or hub model; None = the sampled run."""
    checkpoint: int | None
    """Images seen of its checkpoint; None = the newest, or that of the sampled run."""
    weights: str | None
    """Kind of weights; None = those of an exported model, otherwise the kind that is sampled."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How images are drawn from a model."""

    solver: SolverName = "ddim"
    """ddpm is ancestral sampling and sde the reverse SDE, with fresh noise at every step; the
    others solve an ODE, meanflow by the mean velocities of a model of diffusion.meanflow."""
    spacing: SpacingName = "trailing"
    """Which times are visited, as the word means in diffusers; linspace is the published DiT's
    respacing. The schedules flow and gvp have trailing only."""
    steps: int = 50
    """Solver steps; network evaluations are counted and reported beside."""
    time_shift: float = field(default=1.0, metadata=PROTOCOL_IF_CHANGED)
    """s: rectified flow visits sigma' = s sigma / (1 + (s - 1) sigma) instead of equal steps
    (Esser et al. 2024, section 5.3.2); above 1, more of the steps lie near the noise."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    control: ControlRequest = field(default_factory=ControlRequest)
    negative_prompt: str | None = None
    """For models of text: what guidance leads away from, in the place of the null caption."""
    guide: str | None = field(
        default=None, metadata=PROTOCOL_IF_CHANGED | protocol_as(_guide_kind)
    )
    """The weaker model of autoguidance (guidance.guide_scale): a run or exported folder, a shipped
    model or hf://USER/NAME. None: the sampled run itself, where one of the next two is given."""
    guide_checkpoint: int | None = field(default=None, metadata=PROTOCOL_IF_CHANGED)
    """Images seen of the guide's checkpoint; None = its newest, or that of the sampled run."""
    guide_weights: str | None = field(default=None, metadata=PROTOCOL_IF_CHANGED)
    """Kind of the guide's weights, as for weights; None = that of an exported model, otherwise
    the kind that is sampled."""
    size: str | None = None
    """HxW in pixels, such as 64x96, where the model's positions allow; None = its resolution."""
    terms: Literal["auto", "apart", "together"] = field(default="auto", metadata=NOT_PROTOCOL)
    """Whether the terms of guidance go through the network as one batch; changes images by
    rounding only. auto: apart on a CPU in fp32, where the larger batch is slower, otherwise
    together (docs/reference/bench.md)."""
    weights: str = "ema"
    """ema, raw, or one of the averages of train.ema_extra, such as ema-share-0.1."""
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = field(default=64, metadata=NOT_PROTOCOL)
    """Images of one seed depend on it by rounding only."""

    def __post_init__(self) -> None:
        """Refuse settings that sample nothing."""
        at_least(self, "sampling", 1, "steps", "batch_size", "guide_checkpoint")
        above(self, "sampling", 0, "time_shift")
        check_weights_name(self, "sampling")
        if self.guide is not None and not self.guide.strip():
            raise ConfigError(
                "sampling.guide must name a run, a model or a folder; got an empty text: leave it "
                "out for no guide"
            )
        if self.size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.size):
            raise ConfigError(
                f"sampling.size must be HEIGHTxWIDTH in pixels, such as 64x96; got {self.size!r}"
            )

    def pixels(self, resolution: int) -> tuple[int, int]:
        """(height, width) of the images that a model of this resolution draws."""
        if self.size is None:
            return resolution, resolution
        height, width = self.size.split("x")
        return int(height), int(width)

    @property
    def guide_settings(self) -> dict[str, Any]:
        """Settings of the guide that are given: name -> value."""
        names = ("guide", "guide_checkpoint", "guide_weights")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def guide_choice(self) -> GuideChoice:
        """The weaker model; all None where there is none."""
        return GuideChoice(self.guide, self.guide_checkpoint, self.guide_weights)

    @property
    def autoguided(self) -> bool:
        """Whether a weaker model guides."""
        return self.guidance.guide_scale != 1

    @property
    def scale(self) -> float:
        """Scale of autoguidance where a weaker model guides, otherwise the semantic one."""
        return self.guidance.guide_scale if self.autoguided else self.guidance.semantic_scale

    def without_guide(self) -> "SamplingConfig":
        """The same without autoguidance."""
        guidance = replace(self.guidance, guide_scale=1.0)
        return replace(
            self, guidance=guidance, guide=None, guide_checkpoint=None, guide_weights=None
        )

    def at_scale(self, scale: float) -> "SamplingConfig":
        """The same at another :attr:`scale`; at 1 without the guide and the negative prompt, which
        have no effect there."""
        if self.autoguided:
            if scale == 1:
                return self.without_guide()
            return replace(self, guidance=replace(self.guidance, guide_scale=scale))
        negative = self.negative_prompt if scale != 1 else None
        guidance = replace(self.guidance, semantic_scale=scale)
        return replace(self, guidance=guidance, negative_prompt=negative)
