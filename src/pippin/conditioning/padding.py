# SPDX-License-Identifier: Apache-2.0
"""What stands in the places that a caption shorter than ``num_tokens`` leaves.

Text encoders return a fixed number of places, and attention reads the empty ones too:

- native: what the encoder itself gives there (Stable Diffusion reads that);
- zero: zeros;
- mask: nothing, attention passes over them;
- replicate: the caption's m tokens again and again, in order, until all places are filled;
- noisy_replicate: the same, and every copy gets normal noise whose standard deviation is beta
  times that of its channel over the m tokens (Berrada et al. 2024). The first m stay as they are.
  ``padding_growth`` lets it grow with the number of copies, see :func:`noise_growth`.

One function serves training, sampling and whatever else reads captions.
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
    """Captions as the model reads them.

    Args:
        text: of an encoder: tokens of every place, and a mask that is True for a caption's own.
        rule: of the model.
        noise: standard normal; only noisy_replicate reads it, and needs it. Copies are made where
            it is.

    Raises:
        ValueError: no mask, a caption without a token, or no noise where it is needed.
    """
    tokens, mask = text.tokens, text.mask
    if tokens is None or rule.padding == "native":
        return TextFeatures(tokens=tokens, pooled=text.pooled)
    if mask is None or not bool(mask.any(dim=1).all()):
        raise ValueError("padding needs to know each caption's own tokens, one at least")
    if rule.padding == "mask":
        return text
    if noise is not None:
        text = text.to(noise.device)  # only now: the mask was looked into without a wait
        tokens, mask = text.tokens, text.mask
        assert tokens is not None and mask is not None
    if rule.padding == "zero":
        return TextFeatures(tokens=tokens * mask[..., None], pooled=text.pooled)
    places, turn = _replicated(mask)
    padded = tokens.gather(1, places[..., None].expand_as(tokens))
    if rule.padding == "noisy_replicate" and rule.padding_noise:
        if noise is None:
            raise ValueError("noisy_replicate needs noise for its copies")
        growth = noise_growth(turn, rule.padding_growth).to(tokens)
        scale = rule.padding_noise * _spread(tokens, mask)[:, None] * growth[..., None]
        padded = padded + scale * noise.to(padded)
    return TextFeatures(tokens=padded, pooled=text.pooled)


def noise_growth(
    turn: Int[Tensor, "batch tokens"], growth: PaddingGrowth
) -> Float[Tensor, "batch tokens"]:
    """Factor of the noise in each place, 0 where the originals stand.

    With m the number of times that a caption stands in the places (the last time perhaps cut), and
    k = 1 ... m - 1 the number of a copy:

    - none: 1;
    - copy: sqrt(k);
    - prompt: sqrt(m - 1), one factor for all copies of a caption.

    Args:
        turn: which copy stands in a place, 0 = the original; it grows along the places.
        growth: the rule.
    """
    copies = (turn > 0).float()
    if growth == "none":
        return copies
    return (turn if growth == "copy" else copies * turn[:, -1:]).float().sqrt()


def needs_noise(rule: TextSemantic) -> bool:
    """Whether :func:`pad_captions` reads noise."""
    return rule.padding == "noisy_replicate" and rule.padding_noise > 0


def _replicated(
    mask: Bool[Tensor, "batch tokens"],
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
    """For each place: which place it shows, and which copy that is (0 = the original)."""
    count = mask.sum(dim=1, keepdim=True)
    own = (~mask).to(count.dtype).argsort(dim=1, stable=True)  # a caption's own places, in order
    place = arange(mask.shape[1], device=mask.device).expand(mask.shape)
    return own.gather(1, place % count), place // count


def _spread(
    tokens: Float[Tensor, "batch tokens features"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch features"]:
    """Each channel's standard deviation over a caption's own tokens."""
    weight = mask[..., None].to(tokens)
    count = weight.sum(dim=1)
    mean = (tokens * weight).sum(dim=1) / count
    return (((tokens - mean[:, None]) ** 2 * weight).sum(dim=1) / count).sqrt()
