# SPDX-License-Identifier: Apache-2.0
"""Padding of captions shorter than ``num_tokens``.

Text encoders return a fixed number of tokens, and attention also reads the padding tokens:

- native: the encoder's own padding tokens (as in Stable Diffusion);
- zero: zeros;
- mask: attention ignores them;
- replicate: the caption's m tokens repeated in order until all positions are filled;
- noisy_replicate: the same, and every copy gets normal noise whose standard deviation is beta
  times that of its channel over the m tokens (Berrada et al. 2024). The first m are unchanged.
  ``padding_growth`` lets the noise grow with the number of copies, see :func:`noise_growth`.

Training, sampling and all other readers of captions use the same function.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor, arange

from pippin.conditioning.config import PaddingGrowth, TextSemantic
from pippin.types import TextFeatures


def pad_captions(
    text: TextFeatures,
    rule: TextSemantic,
    noise: Float[Tensor, "batch tokens features"] | None = None,
) -> TextFeatures:
    """Pad captions by the rule of the model.

    Args:
        text: features of an encoder: tokens of every position, and a mask that is True for a
            caption's own tokens.
        rule: text settings of the model.
        noise: standard normal; only noisy_replicate reads and requires it. Copies are made on its
            device.

    Raises:
        ValueError: no mask, a caption without a token, or missing noise.
    """
    tokens, mask = text.tokens, text.mask
    if tokens is None or rule.padding == "native":
        return TextFeatures(tokens=tokens, pooled=text.pooled)
    if mask is None or not bool(mask.any(dim=1).all()):
        raise ValueError("padding needs a mask of each caption's own tokens, one at least")
    if rule.padding == "mask":
        return text
    if noise is not None:
        text = text.to(noise.device)  # after the check on the CPU, which needs no synchronisation
        tokens, mask = text.tokens, text.mask
        assert tokens is not None and mask is not None
    if rule.padding == "zero":
        return TextFeatures(tokens=tokens * mask[..., None], pooled=text.pooled)
    source_indices, copy_number = _replicated(mask)
    padded = tokens.gather(1, source_indices[..., None].expand_as(tokens))
    if rule.padding == "noisy_replicate" and rule.padding_noise:
        if noise is None:
            raise ValueError("padding noisy_replicate needs noise for its copies; pass noise")
        growth = noise_growth(copy_number, rule.padding_growth).to(tokens)
        scale = rule.padding_noise * _channel_std(tokens, mask)[:, None] * growth[..., None]
        padded = padded + scale * noise.to(padded)
    return TextFeatures(tokens=padded, pooled=text.pooled)


def noise_growth(
    copy_number: Int[Tensor, "batch tokens"], growth: PaddingGrowth
) -> Float[Tensor, "batch tokens"]:
    """Factor of the noise at each position, 0 for the original tokens.

    With m the number of repetitions of a caption (the last one possibly truncated), and k = 1 ...
    m - 1 the number of a copy:

    - none: 1;
    - copy: sqrt(k);
    - prompt: sqrt(m - 1), one factor for all copies of a caption.

    Args:
        copy_number: number of the copy at each position, 0 = the original; ascending.
        growth: the rule.
    """
    copies = (copy_number > 0).float()
    if growth == "none":
        return copies
    return (copy_number if growth == "copy" else copies * copy_number[:, -1:]).float().sqrt()


def needs_noise(rule: TextSemantic) -> bool:
    """True if :func:`pad_captions` reads noise."""
    return rule.padding == "noisy_replicate" and rule.padding_noise > 0


def _replicated(
    mask: Bool[Tensor, "batch tokens"],
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
    """Source position of each position, and the number of its copy (0 = the original)."""
    count = mask.sum(dim=1, keepdim=True)
    own_positions = (
        (~mask).to(count.dtype).argsort(dim=1, stable=True)
    )  # positions of a caption's own tokens, in order
    position = arange(mask.shape[1], device=mask.device).expand(mask.shape)
    return own_positions.gather(1, position % count), position // count


def _channel_std(
    tokens: Float[Tensor, "batch tokens features"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch features"]:
    """Standard deviation of each channel over a caption's own tokens."""
    weight = mask[..., None].to(tokens)
    count = weight.sum(dim=1)
    mean = (tokens * weight).sum(dim=1) / count
    return (((tokens - mean[:, None]) ** 2 * weight).sum(dim=1) / count).sqrt()
