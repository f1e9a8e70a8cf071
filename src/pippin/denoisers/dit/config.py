# SPDX-License-Identifier: Apache-2.0
"""Configuration of DiT, and its sizes."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pippin.config import ConfigError
from pippin.denoisers.config import SIZES, SizeName, TimeName, TransformerConfig
from pippin.nn.config import BlockLayers, MLPName, NormName
from pippin.settings.bounds import at_least
from pippin.settings.marks import PROTOCOL_IF_CHANGED


@dataclass(frozen=True, kw_only=True)
class DiTConfig(TransformerConfig):
    """DiT with adaLN-zero (Peebles & Xie 2023)."""

    kind: Literal["dit"] = "dit"
    cross_attention: bool = False
    """Add cross-attention to condition tokens in every block (the paper's section 3.2 variant,
    with adaLN-zero kept for time and control)."""
    learn_variance: bool = False
    """Double the output channels: the second half is the variance's interpolation coefficient."""
    norm: NormName = field(default="layer", metadata=PROTOCOL_IF_CHANGED)
    """layer: layer norms without gain; rms: RMS norms with a learned gain (LightningDiT)."""
    mlp: MLPName = field(default="gelu", metadata=PROTOCOL_IF_CHANGED)
    """gelu: two linear layers; swiglu: gated, with 2/3 of the hidden width and so equally many
    parameters (Shazeer 2020)."""
    rotary: bool = field(default=False, metadata=PROTOCOL_IF_CHANGED)
    """Rotary positions in self-attention (Su et al. 2021), half of each head by row and half by
    column, in addition to the sine-cosine positions of the input."""
    qk_norm_kind: NormName = field(default="rms", metadata=PROTOCOL_IF_CHANGED)
    """With qk_norm. rms: with a gain; layer: layer norm with gain and bias."""
    modulation_shift: bool = field(default=True, metadata=PROTOCOL_IF_CHANGED)
    """False: blocks are modulated by scales and gates only; the last layer keeps its shift."""
    time_input: TimeName = field(default="noise", metadata=PROTOCOL_IF_CHANGED)
    """Time that the network reads. noise: t, from 0 = data to 1000 = noise; data: 1 - t / 1000,
    from 0 = noise to 1 = data (SiT and its descendants)."""
    mixer_depth: int = field(default=0, metadata=PROTOCOL_IF_CHANGED)
    """Blocks of a patch mixer before the others, which reads all tokens where train.masking hides
    some from the others (Sehwag et al. 2024); 0 = none."""
    mixer_width: int | None = field(default=None, metadata=PROTOCOL_IF_CHANGED)
    """Width of the mixer, in heads of the same width; None = width."""

    def __post_init__(self) -> None:
        """Refuse heads without whole pairs for rows and columns, and settings without effect."""
        super().__post_init__()
        self._check_mixer()
        if self.rotary:
            self.check_rotary()
        if self.qk_norm_kind != "rms" and not self.qk_norm:
            raise ConfigError(
                f"denoiser.qk_norm_kind {self.qk_norm_kind} has no effect without "
                "denoiser.qk_norm True: set it, or leave qk_norm_kind out"
            )

    def _check_mixer(self) -> None:
        """Refuse a width without a mixer, and one that heads do not divide."""
        at_least(self, "denoiser", 0, "mixer_depth")
        at_least(self, "denoiser", 1, "mixer_width")
        if self.mixer_width is None:
            return
        if not self.mixer_depth:
            raise ConfigError(
                f"denoiser.mixer_width {self.mixer_width} has no effect while "
                "denoiser.mixer_depth is 0: set --denoiser.mixer-depth 4, or leave it out"
            )
        if self.mixer_width % self.head_width:
            raise ConfigError(
                "denoiser.mixer_width must be a multiple of the width of a head, denoiser.width / "
                f"denoiser.num_heads = {self.head_width}; got {self.mixer_width}"
            )

    @property
    def head_width(self) -> int:
        """Width of a head, that of the mixer too."""
        return self.width // self.num_heads

    @property
    def masking_refusal(self) -> str:
        """Return an empty string: dit trains on any subset of tokens."""
        return ""

    def with_tokens(self) -> "DiTConfig":
        """The denoiser with cross-attention."""
        return replace(self, cross_attention=True)

    @property
    def data_time_option(self) -> str:
        """``--denoiser.time-input data``, unless it is set."""
        return "--denoiser.time-input data" if self.time_input == "noise" else ""

    @property
    def variant(self) -> str:
        """dit, sit or lightningdit, by times and layers."""
        if self.time_input == "noise":
            return "dit"
        return "lightningdit" if self.rotary or self.layers != BlockLayers() else "sit"

    @property
    def layers(self) -> BlockLayers:
        """Layers of each block."""
        return BlockLayers(
            norm=self.norm,
            mlp=self.mlp,
            qk_norm=self.qk_norm_kind if self.qk_norm else False,
            shift=self.modulation_shift,
        )


def dit(size: SizeName, **settings: Any) -> DiTConfig:
    """DiT of a named size."""
    return DiTConfig(**SIZES[size]._asdict(), **settings)
