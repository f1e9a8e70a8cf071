# SPDX-License-Identifier: Apache-2.0
"""Base class of denoisers: from a noisy latent and embedded conditions to a prediction."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from pippin.denoisers.config import REFUSES_MASKING, masking_error_text
from pippin.nn.embeddings import TimeInput
from pippin.types import Embedded, Latents, Masking, Prediction


class Widths(NamedTuple):
    """Widths that a denoiser requires of its conditioner."""

    token: int
    """Width of condition tokens."""
    modulation: int
    """Width of the modulation vector."""
    time_features: int
    """Number of time features before their MLP."""


TokenUse = Literal["none", "cross", "joint"]
"""Use of condition tokens by a denoiser: none, by cross-attention, or by joint attention with the
image, which always needs tokens."""


class Denoiser(nn.Module, ABC):
    """Denoiser architecture, independent of labels, captions, crops, guidance, loss and data."""

    widths: Widths
    token_use: TokenUse
    time_input: TimeInput = TimeInput()
    """Number that the conditioner's time features read."""
    blocks: nn.ModuleList
    """Repeated blocks, which are compiled, checkpointed and sharded one by one."""
    aligned_block: int | None = None
    """Number of the block, from 1, whose image tokens a prediction holds as ``hidden``; None = no
    block."""

    def is_aligned(self, block: nn.Module) -> bool:
        """Whether a block is the aligned one."""
        return self.aligned_block is not None and block is self.blocks[self.aligned_block - 1]

    @abstractmethod
    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """Predict, in the unit of the recipe's prediction type.

        Args:
            masking: random numbers of a masked pass, which gives ``aux``, or, with
                ``hidden_share``, of deferred masking, which gives ``kept``; denoisers without
                either ignore it. On the device of ``x_t``.
        """

    def num_maskable(self, shape: tuple[int, ...]) -> int:
        """Number of tokens of latents (..., height, width) that a masked pass shuffles; 0 = no
        masked pass."""
        return 0

    def num_image_tokens(self, shape: tuple[int, ...]) -> int:
        """Number of tokens of latents (..., height, width) of which training may hide a share; 0 =
        the denoiser has no deferred masking."""
        return 0

    def num_shuffled(self, shape: tuple[int, ...], mask_ratio: float) -> int:
        """Number of tokens that a training step shuffles.

        Args:
            shape: shape of the latents, (..., height, width).
            mask_ratio: share of tokens that the step hides by deferred masking.

        Raises:
            ValueError: a share for a denoiser without deferred masking.
        """
        count = self.num_image_tokens(shape) if mask_ratio else self.num_maskable(shape)
        if mask_ratio and not count:
            name = type(self).__name__
            raise ValueError(masking_error_text(name, REFUSES_MASKING, mask_ratio))
        return count

    def decoupled(self) -> "DecoupledDenoiser | None":
        """The denoiser in its two parts; None for one that has no parts."""
        return None


State = Float[Tensor, "batch tokens dim"]


class DecoupledDenoiser(Denoiser):
    """Denoiser in two parts: a state from latents and conditions, and a prediction from latents
    and state."""

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W)."""
        return Prediction(mean=self.decode(x_t, self.encode(x_t, embedded)))

    def decoupled(self) -> "DecoupledDenoiser":
        """The denoiser itself."""
        return self

    @abstractmethod
    def encode(self, x_t: Latents, embedded: Embedded) -> State:
        """State of each token."""

    @abstractmethod
    def decode(self, x_t: Latents, state: State) -> Latents:
        """Prediction from latents and a state, which may be of another time."""
