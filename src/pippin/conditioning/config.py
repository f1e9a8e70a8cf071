# SPDX-License-Identifier: Apache-2.0
"""Configuration of conditioning: which condition goes through which mechanism."""

import math
from dataclasses import dataclass, field
from typing import Literal

from pippin.config import Config, ConfigError, above, at_least, within
from pippin.control import CONTROL_FIELDS

Mechanism = Literal["modulation", "attention"]
PaddingRule = Literal["native", "zero", "mask", "replicate", "noisy_replicate"]


@dataclass(frozen=True, kw_only=True)
class NoSemantic(Config):
    """No class and no text: an unconditional model."""

    kind: Literal["none"] = "none"

    @property
    def outputs(self) -> set[str]:
        """What rules must name: nothing."""
        return set()


@dataclass(frozen=True, kw_only=True)
class LabelSemantic(Config):
    """A class id; its only output is called `label`."""

    kind: Literal["label"] = "label"
    num_tokens: int = 4
    """Tokens per class where the label goes through attention, and the number of learned constant
    tokens a joint-attention model reads where it does not."""

    def __post_init__(self) -> None:
        """Refuse a label without tokens."""
        at_least(self, "conditioning.semantic", 1, "num_tokens")

    @property
    def outputs(self) -> set[str]:
        """What rules must name."""
        return {"label"}


@dataclass(frozen=True, kw_only=True)
class TextSemantic(Config):
    """A caption as features of a text encoder; its outputs are `text` (tokens) and `pooled`."""

    kind: Literal["text"] = "text"
    token_features: int | None
    """Width of the encoder's tokens; None = no tokens, and no output `text`."""
    pooled_features: int | None = None
    """Width of the encoder's vector; None = no output `pooled`."""
    num_tokens: int = 77
    """To how many tokens captions are cut and padded; the null caption has as many."""
    projection: Literal["none", "linear", "mlp"] = "linear"
    """From the encoder's width to the denoiser's: linear (SD3), mlp (PixArt-alpha), none (LDM)."""
    null: Literal["learned", "empty"] = "learned"
    """What a dropped caption becomes: trained numbers, or the encoder's empty caption."""
    padding: PaddingRule = "native"
    """What stands in the places that a short caption leaves; see pippin.conditioning.padding."""
    padding_noise: float = 0.02
    """beta of noisy_replicate: standard deviation of the noise on copies, in units of each
    channel's own over the caption's tokens."""
    padding_growth: bool = False
    """noisy_replicate: the k-th copy gets sqrt(k) times the noise."""

    def __post_init__(self) -> None:
        """Refuse a caption that says nothing."""
        at_least(self, "conditioning.semantic", 0, "padding_noise")
        at_least(self, "conditioning.semantic", 1, "token_features", "pooled_features")
        at_least(self, "conditioning.semantic", 1, "num_tokens")
        if self.token_features is None and self.pooled_features is None:
            raise ConfigError(
                "conditioning.semantic: text needs token_features, pooled_features or both"
            )

    @property
    def outputs(self) -> set[str]:
        """What rules must name."""
        named = {"text": self.token_features, "pooled": self.pooled_features}
        return {name for name, width in named.items() if width is not None}


@dataclass(frozen=True, kw_only=True)
class ConstantGate(Config):
    """gamma(t) = 1."""

    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, kw_only=True)
class LinearGate(Config):
    """gamma(t) = 1 - t / T."""

    kind: Literal["linear"] = "linear"


@dataclass(frozen=True, kw_only=True)
class PowerCosineGate(Config):
    """gamma(t) = ((1 + cos(pi t / T)) / 2) ** alpha (method of Berrada et al. 2024)."""

    kind: Literal["power-cosine"] = "power-cosine"
    alpha: float = 4.0

    def __post_init__(self) -> None:
        """Refuse a gate that does not open with time."""
        above(self, "conditioning.control gate", 0, "alpha")


@dataclass(frozen=True, kw_only=True)
class LogSnrGate(Config):
    """gamma = 1 / (1 + exp(-(log-SNR - centre) / width)): stated in noise instead of the index, so
    that it opens at the same noise on every schedule.

    The defaults come near power-cosine with alpha 4 under the schedule ``sd``, which is half open
    at log-SNR 0.65.
    """

    kind: Literal["log-snr"] = "log-snr"
    centre: float = 0.65
    """The log-SNR at which the gate is half open."""
    width: float = 0.65

    def __post_init__(self) -> None:
        """Refuse a gate that does not open with falling noise."""
        above(self, "conditioning.control gate", 0, "width")


Gate = ConstantGate | LinearGate | PowerCosineGate | LogSnrGate


@dataclass(frozen=True, kw_only=True)
class ControlConfig(Config):
    """Which control fields the model reads, in which group, and each group's time schedule."""

    high: tuple[str, ...] = ("crop_corner", "crop_size", "flip")
    """Fields that change composition; those of pippin.control, aspect_ratio besides."""
    low: tuple[str, ...] = ("original_size",)
    """Fields that change detail; colour_jitter, jpeg_quality and grain besides. Any may stand in
    either group."""
    high_gate: Gate = ConstantGate()
    low_gate: Gate = ConstantGate()
    output_init: Literal["zero", "xavier"] = "zero"
    """Initial weights of each field's output layer."""
    num_frequencies: int = 16
    """Fourier features: this many cosines and as many sines for each number of a field."""
    field_drop: float = 0.0
    """Probability that one field alone is replaced by its null, on top of the categorical drop."""

    def __post_init__(self) -> None:
        """Refuse a field that does not exist, or stands in both groups or twice."""
        names = (*self.high, *self.low)
        unknown = [name for name in names if name not in CONTROL_FIELDS]
        if unknown:
            raise ConfigError(
                f"conditioning.control has no field {unknown[0]!r}; high and low take: "
                f"{', '.join(CONTROL_FIELDS)}"
            )
        if len(set(names)) != len(names):
            raise ConfigError(
                f"each field of conditioning.control may stand once, in high or low; got {names}"
            )
        at_least(self, "conditioning.control", 1, "num_frequencies")
        within(self, "conditioning.control", 0, 1, "field_drop")


@dataclass(frozen=True, kw_only=True)
class DropConfig(Config):
    """One categorical draw for each training image, so that guidance finds every term trained."""

    keep: float = 0.7
    control: float = 0.1
    """Drop control, keep semantics."""
    semantic: float = 0.1
    """Drop semantics, keep control."""
    both: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what is not a distribution."""
        shares = (self.keep, self.control, self.semantic, self.both)
        if min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            raise ConfigError(
                "conditioning.drop: keep, control, semantic, both must be >= 0 and sum to 1; "
                f"got {shares}"
            )


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig(Config):
    """The only door between conditions and denoisers."""

    conditioner: str = "pippin"
    """Which class embeds conditions: ours, or one that the program registered under this name."""
    semantic: NoSemantic | LabelSemantic | TextSemantic = field(default_factory=LabelSemantic)
    rules: dict[str, Mechanism] = field(default_factory=lambda: {"label": "attention"})
    """Semantic output -> mechanism; exactly the outputs that `semantic` has."""
    control: ControlConfig = field(default_factory=ControlConfig)
    image_shape: bool = False
    """Add PixArt-alpha's embedding of the source's height and width and the crop's aspect ratio
    to time; it knows no null and no gate, unlike `control`."""
    drop: DropConfig = field(default_factory=DropConfig)
