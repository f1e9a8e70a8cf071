# SPDX-License-Identifier: Apache-2.0
"""CFG-rescale: the guided prediction with the standard deviation of the conditional one.

High scales of guidance raise the standard deviation of the prediction, and samples saturate. Lin
et al. 2023 (arXiv 2305.08891, section 3.4) scale the guided prediction x, for each image over
channels and pixels, to the standard deviation of the conditional one, and mix the result with x:

    phi x std(conditional) / std(x) + (1 - phi) x

The prediction is the network's own output, of whatever type (the paper's predicts v). This is the
convention of ``guidance_rescale`` in diffusers. The correction is not linear, so other types of
prediction give other images.
"""

from jaxtyping import Float
from torch import Tensor


def rescaled(
    guided: Float[Tensor, "batch channels height width"],
    conditional: Float[Tensor, "batch channels height width"],
    phi: float,
) -> Float[Tensor, "batch channels height width"]:
    """The guided prediction, rescaled.

    Args:
        guided, conditional: predictions; an image whose guided prediction is constant stays as
            it is.
        phi: in [0, 1]; 0 returns ``guided`` itself, 1 gives it the conditional standard deviation.
    """
    if phi == 0:
        return guided
    wanted, own = (
        prediction.float().std(dim=(1, 2, 3), correction=0, keepdim=True)
        for prediction in (conditional, guided)
    )
    ratio = (wanted / own).where(own > 0, 1.0)
    return guided * (phi * ratio + (1 - phi))
