# SPDX-License-Identifier: Apache-2.0
"""Configuration of conditioning: which condition goes through which mechanism."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from pippin.config import (
    WHERE_SET,
    Config,
    ConfigError,
    above,
    at_least,
    within,
    written_as,
)
from pippin.control import CONTROL_FIELDS

Mechanism = Literal["modulation", "attention", "both"]
"""How a semantic output enters the network. both: a label as tokens that attention reads and as a
vector in modulation, each from a table of its own, dropped together."""
PaddingRule = Literal["native", "zero", "mask", "replicate", "noisy_replicate"]
PaddingGrowth = Literal["none", "copy", "prompt"]


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
    init_std: float = field(default=0.02, metadata=WHERE_SET)
    """Standard deviation of the normal numbers that a class's tokens and vector start from: 0.02
    (DiT) or 1 (latent diffusion)."""

    def __post_init__(self) -> None:
        """Refuse a label without tokens, and classes that start alike."""
        at_least(self, "conditioning.semantic", 1, "num_tokens")
        above(self, "conditioning.semantic", 0, "init_std")

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
    projection_init: Literal["xavier", "normal"] = field(default="xavier", metadata=WHERE_SET)
    """Initial weights of the projection: Xavier's uniform ones, or normal ones of standard
    deviation 0.02, as published for PixArt-alpha."""
    null: Literal["learned", "empty"] = "learned"
    """What a dropped caption becomes: trained numbers, or the encoder's empty caption."""
    padding: PaddingRule = "native"
    """What stands in the places that a short caption leaves; see pippin.conditioning.padding."""
    padding_noise: float = 0.02
    """beta of noisy_replicate: standard deviation of the noise on copies, in units of each
    channel's own over the caption's tokens."""
    padding_growth: PaddingGrowth = field(
        default="none", metadata=written_as({"none": False, "copy": True})
    )
    """noisy_replicate: how the noise grows with the number m of times that a caption stands in the
    places, m = ceil(places / own tokens). none: every copy has the same; copy: the k-th copy gets
    sqrt(k) times as much, k = 1 ... m - 1; prompt: all copies get sqrt(m - 1) times as much, which
    is the likely reading of Berrada et al. 2024. Records have False and True for none and copy,
    and these are still read."""

    def __post_init__(self) -> None:
        """Refuse a caption that says nothing, and the booleans that growth had before."""
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
    embedding: Literal["per-field", "sdxl"] = field(default="per-field", metadata=WHERE_SET)
    """per-field: each field as numbers in [0, 1], with a perceptron of its own. sdxl: all fields
    as raw numbers (pixels for sizes and corners) through one sinusoid and one shared perceptron
    with torch's initial weights, constant in time; output_init and num_frequencies are not read.
    See :mod:`pippin.conditioning.micro_conditions`."""
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
        if self.embedding == "sdxl":
            self._check_sdxl(names)

    def _check_sdxl(self, names: tuple[str, ...]) -> None:
        """One perceptron for all fields leaves nothing to gate apart."""
        gates = (self.high_gate, self.low_gate)
        if any(gate != ConstantGate() for gate in gates):
            raise ConfigError(
                "conditioning.control.embedding sdxl is one vector of all fields, constant in "
                f"time; got high_gate {gates[0].kind} and low_gate {gates[1].kind}: set both to "
                "constant, or embedding to per-field"
            )
        if derived := [one for one in names if CONTROL_FIELDS[one].ratio_of is not None]:
            raise ConfigError(
                f"conditioning.control.embedding sdxl reads recorded numbers, and {derived[0]} is "
                "computed from others: leave it out of high and low, or set embedding to per-field"
            )


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
