# SPDX-License-Identifier: Apache-2.0
"""Configuration of conditioning: the mechanism of each condition."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from pippin.config import Config, ConfigError
from pippin.control import CONTROL_FIELDS
from pippin.settings.bounds import above, at_least, within
from pippin.settings.marks import PROTOCOL_IF_CHANGED, stored_as

Mechanism = Literal["modulation", "attention", "both"]
"""Mechanism by which a semantic output enters the network. both: a label as tokens for attention
and as a vector in modulation, from separate tables, dropped together."""
PaddingRule = Literal["native", "zero", "mask", "replicate", "noisy_replicate"]
PaddingGrowth = Literal["none", "copy", "prompt"]


@dataclass(frozen=True, kw_only=True)
class NoSemantic(Config):
    """No class and no text: an unconditional model."""

    kind: Literal["none"] = "none"

    @property
    def outputs(self) -> set[str]:
        """Outputs that rules must name: none."""
        return set()


@dataclass(frozen=True, kw_only=True)
class LabelSemantic(Config):
    """Class label; its only output is called `label`."""

    kind: Literal["label"] = "label"
    num_tokens: int = 4
    """Tokens per class if the label uses attention; otherwise the number of learned constant
    tokens of a joint-attention model."""
    init_std: float = field(default=0.02, metadata=PROTOCOL_IF_CHANGED)
    """Standard deviation of the normal initialisation of class tokens and vectors: 0.02 (DiT) or 1
    (latent diffusion)."""

    def __post_init__(self) -> None:
        """Refuse a label without tokens, and equal initial weights of all classes."""
        at_least(self, "conditioning.semantic", 1, "num_tokens")
        above(self, "conditioning.semantic", 0, "init_std")

    @property
    def outputs(self) -> set[str]:
        """Outputs that rules must name."""
        return {"label"}


@dataclass(frozen=True, kw_only=True)
class TextSemantic(Config):
    """Caption as features of a text encoder; its outputs are `text` (tokens) and `pooled`."""

    kind: Literal["text"] = "text"
    token_features: int | None
    """Width of the encoder's tokens; None = no tokens, and no output `text`."""
    pooled_features: int | None = None
    """Width of the encoder's vector; None = no output `pooled`."""
    num_tokens: int = 77
    """Number of tokens to which captions are truncated and padded, and of the null caption."""
    projection: Literal["none", "linear", "mlp"] = "linear"
    """Projection from the encoder's width to the denoiser's: linear (SD3), mlp (PixArt-alpha),
    none (LDM)."""
    projection_init: Literal["xavier", "normal"] = field(
        default="xavier", metadata=PROTOCOL_IF_CHANGED
    )
    """Initial weights of the projection: Xavier uniform, or normal with standard deviation 0.02,
    as published for PixArt-alpha."""
    null: Literal["learned", "empty"] = "learned"
    """Null caption, which replaces a dropped one: learned features, or the encoder's empty
    caption."""
    padding: PaddingRule = "native"
    """Padding of captions shorter than num_tokens; see pippin.conditioning.padding."""
    padding_noise: float = 0.02
    """beta of noisy_replicate: standard deviation of the noise on copies, relative to each
    channel's standard deviation over the caption's tokens."""
    padding_growth: PaddingGrowth = field(
        default="none", metadata=stored_as({"none": False, "copy": True})
    )
    """noisy_replicate: growth of the noise with the number m of repetitions of a caption, m =
    ceil(positions / own tokens). none: every copy has equal noise; copy: the k-th copy gets
    sqrt(k) times the noise, k = 1 ... m - 1; prompt: all copies get sqrt(m - 1) times the noise,
    the likely interpretation of Berrada et al. 2024. Older records have False and True for none
    and copy, which are still read."""

    def __post_init__(self) -> None:
        """Refuse a caption without features, and the former booleans of padding_growth."""
        if self.padding_growth not in get_args(PaddingGrowth):
            raise ConfigError(
                "conditioning.semantic.padding_growth must be none (once False), copy "
                "(once True) or prompt; "
                f"got {self.padding_growth!r}"
            )
        at_least(self, "conditioning.semantic", 0, "padding_noise")
        at_least(self, "conditioning.semantic", 1, "token_features", "pooled_features")
        at_least(self, "conditioning.semantic", 1, "num_tokens")
        if self.token_features is None and self.pooled_features is None:
            raise ConfigError(
                "conditioning.semantic: text needs token_features, pooled_features or both"
            )

    @property
    def outputs(self) -> set[str]:
        """Outputs that rules must name."""
        named = {"text": self.token_features, "pooled": self.pooled_features}
        return {name for name, width in named.items() if width is not None}


@dataclass(frozen=True, kw_only=True)
class ConstantGate(Config):
    """Constant gate, gamma(t) = 1."""

    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, kw_only=True)
class LinearGate(Config):
    """Linear gate, gamma(t) = 1 - t / T."""

    kind: Literal["linear"] = "linear"


@dataclass(frozen=True, kw_only=True)
class PowerCosineGate(Config):
    """Power-cosine gate, gamma(t) = ((1 + cos(pi t / T)) / 2) ** alpha (method of Berrada et al.
    2024)."""

    kind: Literal["power-cosine"] = "power-cosine"
    alpha: float = 4.0

    def __post_init__(self) -> None:
        """Refuse a gate that does not open with time."""
        above(self, "conditioning.control gate", 0, "alpha")


@dataclass(frozen=True, kw_only=True)
class LogSnrGate(Config):
    """Log-SNR gate, gamma = 1 / (1 + exp(-(log-SNR - centre) / width)): a function of noise
    instead of time, so that it opens at the same noise on every schedule.

    The defaults approximate power-cosine with alpha 4 under the schedule ``sd``, which is half
    open at log-SNR 0.65.
    """

    kind: Literal["log-snr"] = "log-snr"
    centre: float = 0.65
    """Log-SNR at which the gate is half open."""
    width: float = 0.65

    def __post_init__(self) -> None:
        """Refuse a gate that does not open with falling noise."""
        above(self, "conditioning.control gate", 0, "width")


Gate = ConstantGate | LinearGate | PowerCosineGate | LogSnrGate


@dataclass(frozen=True, kw_only=True)
class ControlConfig(Config):
    """Control fields that the model reads, by group, and the time schedule of each group."""

    high: tuple[str, ...] = ("crop_corner", "crop_size", "flip")
    """Fields that change composition: those of pippin.control, and aspect_ratio."""
    low: tuple[str, ...] = ("original_size",)
    """Fields that change detail; also colour_jitter, jpeg_quality and grain. Any field may be in
    either group."""
    high_gate: Gate = ConstantGate()
    low_gate: Gate = ConstantGate()
    embedding: Literal["per-field", "sdxl"] = field(
        default="per-field", metadata=PROTOCOL_IF_CHANGED
    )
    """Embedding of the fields. per-field: each field as numbers in [0, 1], with an MLP of its own.
    sdxl: all fields as raw numbers (pixels for sizes and corners) through one sinusoid and one
    shared MLP with torch's initial weights, constant in time; output_init and num_frequencies are
    not read. See :mod:`pippin.conditioning.micro_conditions`."""
    output_init: Literal["zero", "xavier"] = "zero"
    """Initial weights of each field's output layer."""
    num_frequencies: int = 16
    """Number of Fourier frequencies, each with a cosine and a sine for each number of a field."""
    field_drop: float = 0.0
    """Probability that a single field is replaced by its null, in addition to the categorical
    drop."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of both groups."""
        return (*self.high, *self.low)

    def __post_init__(self) -> None:
        """Refuse unknown fields, and fields given twice or in both groups."""
        names = self.fields
        unknown = [name for name in names if name not in CONTROL_FIELDS]
        if unknown:
            raise ConfigError(
                f"conditioning.control has no field {unknown[0]!r}; high and low take: "
                f"{', '.join(CONTROL_FIELDS)}"
            )
        if len(set(names)) != len(names):
            raise ConfigError(
                "each field of conditioning.control may be given once, in high or low; got "
                f"{names}"
            )
        at_least(self, "conditioning.control", 1, "num_frequencies")
        within(self, "conditioning.control", 0, 1, "field_drop")
        if self.embedding == "sdxl":
            self._check_sdxl(names)

    def _check_sdxl(self, names: tuple[str, ...]) -> None:
        """Refuse gates and derived fields, which one MLP for all fields does not support."""
        gates = (self.high_gate, self.low_gate)
        if any(gate != ConstantGate() for gate in gates):
            raise ConfigError(
                "conditioning.control.embedding sdxl is one vector of all fields, constant in "
                f"time; got high_gate {gates[0].kind} and low_gate {gates[1].kind}: set both to "
                "constant, or set embedding to per-field"
            )
        if derived := [name for name in names if CONTROL_FIELDS[name].ratio_of is not None]:
            raise ConfigError(
                f"conditioning.control.embedding sdxl reads recorded numbers, and {derived[0]} is "
                "computed from others: leave it out of high and low, or set embedding to per-field"
            )


@dataclass(frozen=True, kw_only=True)
class DropConfig(Config):
    """Categorical drop of conditions, per training image, which trains every term of guidance."""

    keep: float = 0.7
    control: float = 0.1
    """Drop control, keep semantics."""
    semantic: float = 0.1
    """Drop semantics, keep control."""
    both: float = 0.1

    def __post_init__(self) -> None:
        """Refuse probabilities that are not a distribution."""
        shares = (self.keep, self.control, self.semantic, self.both)
        if min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            raise ConfigError(
                "conditioning.drop: keep, control, semantic, both must be >= 0 and sum to 1; "
                f"got {shares}"
            )


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig(Config):
    """Settings of the conditioner."""

    conditioner: str = "pippin"
    """Name of the class that embeds conditions: pippin, or a class that the program registered."""
    semantic: NoSemantic | LabelSemantic | TextSemantic = field(default_factory=LabelSemantic)
    rules: dict[str, Mechanism] = field(
        default_factory=lambda: {"label": "attention"}, hash=False
    )  # a dict has no hash
    """Semantic output -> mechanism; exactly the outputs that `semantic` has."""
    control: ControlConfig = field(default_factory=ControlConfig)
    image_shape: bool = False
    """Add PixArt-alpha's embedding of the source's height and width and the crop's aspect ratio
    to time; it has no null and no gate, unlike `control`."""
    interval: bool = field(default=False, metadata=PROTOCOL_IF_CHANGED)
    """Add an embedding of t - r to that of time, for the mean velocities of diffusion.meanflow."""
    drop: DropConfig = field(default_factory=DropConfig)
