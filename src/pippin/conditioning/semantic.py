# SPDX-License-Identifier: Apache-2.0
"""Embedding of semantics, to tokens or to a modulation vector."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.nn.blocks import MLP
from pippin.nn.initialise import Init, Linear, normal, xavier
from pippin.system.device import to_device
from pippin.types import TextFeatures


class LabelTable(nn.Module):
    """Learned vector per class, and for the null class, whose id is ``num_classes``."""

    def __init__(self, num_classes: int, width: int, init_std: float = 0.02) -> None:
        super().__init__()
        self.inits: dict[str, Init] = {"weight": normal(init_std)}
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.zeros(num_classes + 1, width))

    def forward(
        self, label: Int[Tensor, " batch"], keep: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """Look up the vectors of class ids.

        Compiled code does not check ids: reading them would break its graph.

        Raises:
            ValueError: an id outside [0, num_classes); ``keep`` = False gives the null class.
        """
        outside = (label < 0) | (label >= self.num_classes)
        if not torch.compiler.is_compiling() and bool(outside.any()):
            raise ValueError(
                f"class ids must lie in [0, {self.num_classes}); got {sorted(set(label.tolist()))}"
            )
        return self.weight[torch.where(keep, to_device(label, keep.device), self.num_classes)]


class ConstantTokens(nn.Module):
    """Learned constant tokens, which attention reads if no semantics use attention."""

    inits: ClassVar[dict[str, Init]] = {"weight": normal(0.02)}

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_tokens, width))

    def forward(self, batch: int) -> Float[Tensor, "batch tokens width"]:
        """Expand the tokens to a batch."""
        return self.weight.expand(batch, -1, -1)


class TextTokens(nn.Module):
    """Tokens of a text encoder, projected to the denoiser's width, and a null caption."""

    inits: ClassVar[dict[str, Init]] = {"null": normal(0.02)}

    def __init__(self, config: TextSemantic, token_width: int) -> None:
        super().__init__()
        assert config.token_features is not None
        features = config.token_features
        learned = config.null == "learned"
        self.null = nn.Parameter(torch.zeros(config.num_tokens, features), requires_grad=learned)
        # Not saved: the loader of weights sets the encoder's empty caption and its mask again.
        self.null_mask: Tensor | None
        self.register_buffer("null_mask", None, persistent=False)
        self.projection = _projection(config, features, token_width)

    def forward(
        self, text: TextFeatures, keep: Bool[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch tokens token_width"], Bool[Tensor, "batch tokens"] | None]:
        """Tokens and their mask; of a null caption without a mask, all tokens are read.

        Raises:
            ValueError: no tokens, or another number than in the null caption while a caption is
                dropped.
        """
        if text.tokens is None:
            raise ValueError("this model reads text tokens, and the batch has none")
        tokens = to_device(text.tokens, self.null.device).to(self.null.dtype)
        mask = None if text.mask is None else to_device(text.mask, self.null.device)
        if tokens.shape[1] == len(self.null):
            # Even if all are kept: in data parallel training every rank must use the null.
            tokens = torch.where(keep[:, None, None], tokens, self.null)
            mask = self._mask_with_null(mask, keep[:, None])
        elif not bool(keep.all()):
            raise ValueError(
                f"captions have {tokens.shape[1]} tokens, the null caption {len(self.null)}: "
                "pad captions to that length, or set conditioning.semantic.num_tokens"
            )
        return self.projection(tokens), mask

    def _mask_with_null(self, mask: Tensor | None, keep: Tensor) -> Tensor | None:
        """Attention mask of captions and, in dropped rows, of the null caption."""
        if self.null_mask is None:
            return None if mask is None else mask | ~keep
        null = self.null_mask.expand(len(keep), -1)
        return null | keep if mask is None else torch.where(keep, mask, null)


class PooledText(nn.Module):
    """Embedding of a text encoder's pooled vector: Linear, SiLU, Linear; with a null vector, which
    SD3 does not have."""

    inits: ClassVar[dict[str, Init]] = {"null": normal(0.02)}

    def __init__(self, features: int, width: int, *, learned: bool = True) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(features), requires_grad=learned)
        self.linear_in = Linear(features, width, init=normal(0.02))
        self.linear_out = Linear(width, width, init=normal(0.02))

    def forward(
        self, text: TextFeatures, keep: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """Embed pooled features.

        Raises:
            ValueError: the batch has none.
        """
        if text.pooled is None:
            raise ValueError("this model reads a pooled text vector, and the batch has none")
        caption_features = to_device(text.pooled, self.null.device).to(self.null.dtype)
        pooled = torch.where(keep[:, None], caption_features, self.null)
        return self.linear_out(F.silu(self.linear_in(pooled)))


def _projection(config: TextSemantic, features: int, width: int) -> nn.Module:
    init = normal(0.02) if config.projection_init == "normal" else xavier
    if config.projection == "linear":
        return Linear(features, width, init=init)
    if config.projection == "mlp":
        return MLP(features, out_features=width, init=init)
    if features != width:
        raise ConfigError(
            "conditioning.semantic.projection none needs a denoiser whose tokens have the "
            f"encoder's {features} features; this one has {width}: set denoiser.token_width or "
            "another projection"
        )
    return nn.Identity()
