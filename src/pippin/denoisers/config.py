# SPDX-License-Identifier: Apache-2.0
"""Configuration that denoisers share, and the table of transformer sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from pippin.config import Config, ConfigError
from pippin.settings.bounds import above, at_least


class Dimensions(NamedTuple):
    """Depth (blocks), width, number of attention heads."""

    depth: int
    width: int
    num_heads: int


# S to XL are DiT's (Peebles & Xie 2023, table 1); tiny is our choice for two CPU cores.
SIZES: dict["SizeName", Dimensions] = {
    "tiny": Dimensions(4, 128, 4),
    "S": Dimensions(12, 384, 6),
    "B": Dimensions(12, 768, 12),
    "L": Dimensions(24, 1024, 16),
    "XL": Dimensions(28, 1152, 16),
}
SizeName = Literal["tiny", "S", "B", "L", "XL"]
TimeName = Literal["noise", "data"]
"""noise: t, from 0 = data to 1000 = noise; data: 1 - t / 1000, from 0 = noise to 1 = data."""


class DenoiserConfig(Config):
    """Base class of the configuration of every denoiser, see :mod:`pippin.denoisers.registry`.

    It is not a dataclass, so that each class determines the position of ``kind`` in a record.
    """

    kind: str  # of a denoiser: a literal with itself as default

    @property
    def side_multiple(self) -> int:
        """Number of which a latent's sides must be multiples: the patch size, if any."""
        return int(getattr(self, "patch_size", 1))

    @property
    def shape_text(self) -> str:
        """Size in a list of recipes, such as ``12 x 768``; empty = the kind says enough."""
        return ""

    @property
    def variant(self) -> str:
        """Published model that the settings come nearest to, where a kind has several; otherwise
        the kind."""
        return self.kind

    @property
    def time_input(self) -> TimeName:
        """Time that the network reads, as the denoiser's module declares it for its features."""
        return "noise"

    @property
    def data_time_option(self) -> str:
        """Option that makes a network of ``noise`` times read ``data`` times, for a message; empty
        if there is none."""
        return ""

    @property
    def dynamic_shapes(self) -> bool | None:
        """Whether torch compiles blocks for shapes that vary; None: it finds out. False: for
        each shape anew."""
        return None

    @property
    def token_blocks(self) -> int:
        """Number of blocks, the first ones, that return a token for each patch of the latent and
        that REPA may align; 0 = none."""
        return 0

    @property
    def masking_refusal(self) -> str:
        """Reason why training cannot hide a share of the tokens (train.masking), for a message;
        empty if it can."""
        return REFUSES_MASKING

    @property
    def learned_grid(self) -> tuple[int, int] | None:
        """Grid (rows, columns) of patches that positions are learned for; None: positions are
        computed, for any grid."""
        return None

    @property
    def projected_width(self) -> int | None:
        """Width of condition tokens that the denoiser projects by itself; None: the conditioner
        projects tokens to the denoiser's width."""
        return None

    def with_projected_width(self, width: int) -> "DenoiserConfig":
        """The denoiser for tokens of another width, where it projects them by itself."""
        return self

    def with_tokens(self) -> "DenoiserConfig":
        """The denoiser that reads condition tokens, if it can."""
        return self

    def check_tokens(self, num_tokens: int) -> None:
        """Refuse a number of condition tokens that the denoiser cannot read.

        Raises:
            ConfigError: another number than it reads.
        """

    def with_grid(self, side: int, base: int) -> "DenoiserConfig":
        """The denoiser with positions for ``side`` patches along each side.

        Args:
            side: patches along a side; learned positions get this grid.
            base: patches along a side of the grid whose range computed positions keep.
        """
        return self

    def check_grid(self, resolution: int, patches: int) -> None:
        """Refuse square images that the denoiser has no positions for.

        Args:
            resolution: side of the images in pixels, for the message.
            patches: patches along a side of their latents.

        Raises:
            ConfigError: more patches than positions, or another grid.
        """

    def check_bucket(self, name: str, patches: int) -> None:
        """Refuse a bucket that the denoiser has no positions for.

        Args:
            name: size of the bucket, for the message.
            patches: patches along its longer side.

        Raises:
            ConfigError: more patches than positions.
        """

    def latent_channels(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Number of input channels, from the shapes of a model's tensors; for the formats of
        other implementations.

        Raises:
            ConfigError: the denoiser has no such format.
        """
        raise ConfigError(f"denoiser.kind {self.kind} has no format but pippin's own")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(DenoiserConfig):
    """Settings shared by all transformers over latent patches."""

    depth: int
    width: int
    num_heads: int
    patch_size: int = 2
    mlp_ratio: float = 4.0
    qk_norm: bool = False
    """RMS-normalise queries and keys of each head, with a learned gain."""
    base_grid: int | None = None
    """None: positions in unit steps. Otherwise the positions of every grid are scaled to 0 ..
    base_grid along each side, so that weights trained on that grid see the same range of positions
    (not for learned positions)."""

    def __post_init__(self) -> None:
        """Refuse widths that do not divide."""
        at_least(self, "denoiser", 1, "depth", "width", "num_heads", "patch_size", "base_grid")
        above(self, "denoiser", 0, "mlp_ratio")
        if self.width % self.num_heads or self.width % 4:
            raise ConfigError(
                "denoiser.width must be a multiple of 4 and of denoiser.num_heads; got "
                f"{self.width}, {self.num_heads} heads"
            )

    def check_rotary(self) -> None:
        """Refuse heads without whole pairs of features for rows and columns.

        Raises:
            ConfigError: naming both settings.
        """
        head = self.width // self.num_heads
        if head % 4:
            raise ConfigError(
                "denoiser.width / denoiser.num_heads must be a multiple of 4 for rotary "
                "positions, which turn pairs of features by row and by column; got "
                f"{self.width} / {self.num_heads} = {head}"
            )

    @property
    def token_blocks(self) -> int:
        """All blocks."""
        return self.depth

    @property
    def shape_text(self) -> str:
        """Depth and width."""
        return f"{self.depth} x {self.width}"

    def with_grid(self, side: int, base: int) -> "TransformerConfig":
        """Computed positions over the base grid, at any side."""
        return replace(self, base_grid=base)

    def latent_channels(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Channels of a patch, which the first layer reads as one vector."""
        return shapes["denoiser.patches.linear.weight"][1] // self.patch_size**2


REFUSES_MASKING = "needs all tokens"
"""Reason of denoisers without deferred masking."""


def masking_error_text(denoiser: str, reason: str, ratio: float) -> str:
    """Message that training cannot hide tokens from a denoiser.

    Args:
        denoiser: its name.
        reason: as in :attr:`DenoiserConfig.masking_refusal`.
        ratio: the share of hidden tokens that was asked for.
    """
    return (
        f"train.masking.ratio hides tokens from the blocks of dit, and denoiser {denoiser} "
        f"{reason}; got {ratio}: set --train.masking.ratio 0, or take a recipe with denoiser.kind "
        "dit"
    )


def learns_variance(config: DenoiserConfig) -> bool:
    """True if the denoiser predicts a variance in addition to the mean."""
    return bool(getattr(config, "learn_variance", False))
