# SPDX-License-Identifier: Apache-2.0
"""Semantics to tokens or to a modulation vector."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.nn.initialise import Init, Linear, normal, xavier
from pippin.nn.mlp import MLP
from pippin.system.device import to_device
from pippin.types import TextFeatures


class LabelTable(nn.Module):
    """A learned vector per class, and one for the null class, whose id is ``num_classes``."""

    def __init__(self, num_classes: int, width: int, init_std: float = 0.02) -> None:
        super().__init__()
        self.inits: dict[str, Init] = {"weight": normal(init_std)}
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.zeros(num_classes + 1, width))

    def forward(
        self, label: Int[Tensor, " batch"], keep: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """Class ids to vectors.

        Raises:
            ValueError: an id outside [0, num_classes); ask for the null by ``keep`` = False.
        """
        if bool(((label < 0) | (label >= self.num_classes)).any()):
            raise ValueError(
                f"class ids must lie in [0, {self.num_classes}); got {sorted(set(label.tolist()))}"
            )
        return self.weight[torch.where(keep, to_device(label, keep.device), self.num_classes)]


class ConstantTokens(nn.Module):
    """Learned tokens that say nothing: what joint attention reads when no semantics go there."""

    inits: ClassVar[dict[str, Init]] = {"weight": normal(0.02)}

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_tokens, width))

    def forward(self, batch: int) -> Float[Tensor, "batch tokens width"]:
        """The same tokens for each image."""
        return self.weight.expand(batch, -1, -1)


class TextTokens(nn.Module):
    """A text encoder's tokens, projected to the denoiser's width, and a null caption."""

    inits: ClassVar[dict[str, Init]] = {"null": normal(0.02)}

    def __init__(self, config: TextSemantic, token_width: int) -> None:
        super().__init__()
        assert config.token_features is not None
        features = config.token_features
        learned = config.null == "learned"
        self.null = nn.Parameter(torch.zeros(config.num_tokens, features), requires_grad=learned)
        # Not saved: whoever loads weights sets an encoder's empty caption anew, and its mask.
        self.null_mask: Tensor | None
        self.register_buffer("null_mask", None, persistent=False)
        self.projection = _projection(config, features, token_width)

    def forward(
        self, text: TextFeatures, keep: Bool[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch tokens token_width"], Bool[Tensor, "batch tokens"] | None]:
        """Tokens and their mask; a null caption without a mask of its own is read whole.

        Raises:
            ValueError: no tokens, or another number of them than the null caption has while a
                caption is dropped.
        """
        if text.tokens is None:
            raise ValueError("this model reads text tokens, and the batch has none")
        tokens = to_device(text.tokens, self.null.device).to(self.null.dtype)
        mask = None if text.mask is None else to_device(text.mask, self.null.device)
        if tokens.shape[1] == len(self.null):
            # Also where all are kept: processes that share gradients must all use the null.
            tokens = torch.where(keep[:, None, None], tokens, self.null)
            mask = self._mask_with_null(mask, keep[:, None])
        elif not bool(keep.all()):
            raise ValueError(
                f"captions have {tokens.shape[1]} tokens, the null caption {len(self.null)}: "
                "pad captions to that length, or set conditioning.semantic.num_tokens"
            )
        return self.projection(tokens), mask

    def _mask_with_null(self, mask: Tensor | None, keep: Tensor) -> Tensor | None:
        """Where captions and, in rows that are not kept, the null caption may be attended to."""
        if self.null_mask is None:
            return None if mask is None else mask | ~keep
        null = self.null_mask.expand(len(keep), -1)
        return null | keep if mask is None else torch.where(keep, mask, null)


class PooledText(nn.Module):
    """A text encoder's vector through Linear, SiLU, Linear; a learned null (SD3's has none)."""

    inits: ClassVar[dict[str, Init]] = {"null": normal(0.02)}

    def __init__(self, features: int, width: int, *, learned: bool = True) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(features), requires_grad=learned)
        self.linear_in = Linear(features, width, init=normal(0.02))
        self.linear_out = Linear(width, width, init=normal(0.02))

    def forward(
        self, text: TextFeatures, keep: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """Pooled features to vectors.

        Raises:
            ValueError: the batch has none.
        """
        if text.pooled is None:
            raise ValueError("this model reads a pooled text vector, and the batch has none")
        given = to_device(text.pooled, self.null.device).to(self.null.dtype)
        pooled = torch.where(keep[:, None], given, self.null)
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
