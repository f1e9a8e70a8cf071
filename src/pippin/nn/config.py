# SPDX-License-Identifier: Apache-2.0
"""Choice of layers in a transformer block."""

from dataclasses import dataclass
from typing import Literal

NormName = Literal["layer", "rms"]
MLPName = Literal["gelu", "swiglu"]


@dataclass(frozen=True, kw_only=True)
class BlockLayers:
    """Layers of a block with adaptive norms; the defaults are DiT's (Peebles & Xie 2023)."""

    norm: NormName = "layer"
    """Norms before modulation. layer: layer norm without gain; rms: RMS norm with a gain."""
    mlp: MLPName = "gelu"
    """gelu: linear, GELU (tanh approximation), linear; swiglu: see
    :class:`pippin.nn.blocks.SwiGLU`."""
    mlp_bias: bool = True
    """Whether SwiGLU's linear layers have a bias; those of gelu always have one."""
    qk_norm: NormName | bool = False
    """Norm of queries and keys in each head. rms or True: with a gain; layer: with gain and bias,
    eps 1e-5, as in LightningDiT without RMS norms; False: no norm."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    shift: bool = True
    """Whether modulation has a shift beside scale and gate."""
    modulation_silu: bool = True
    """Whether SiLU is applied to the modulation vector in each block."""
