# SPDX-License-Identifier: Apache-2.0
"""DDT, the decoupled diffusion transformer (Wang et al. 2025, arXiv 2504.05741).

A condition encoder turns latents, time and conditions into a state, one vector per token. A
velocity decoder reads the latents again and is modulated by state and time, token by token; class,
control and text reach it through the state only. Cross-attention to condition tokens is our
addition.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pippin.denoisers.ddt.config import DDTConfig
from pippin.denoisers.denoiser import DecoupledDenoiser, State, TokenUse, Widths
from pippin.nn.blocks import AdaLNBlock, ModulatedOutput
from pippin.nn.embeddings import DATA_TIME, PatchEmbedding, from_channel_patches, patch_grid
from pippin.nn.initialise import Linear
from pippin.nn.rotary import Rotary, rotary_2d
from pippin.types import Embedded, Latents, Masking, Prediction

POSITION_RANGE = 16.0
"""Last position along each axis; the first is 0, on every grid."""


class DDT(DecoupledDenoiser):
    """Condition encoder and velocity decoder."""

    time_input = DATA_TIME._replace(base=10.0)

    def __init__(self, config: DDTConfig, latent_channels: int) -> None:
        super().__init__()
        width, (decoder_width, _) = config.width, config.decoder_dimensions
        self.widths = Widths(token=width, modulation=width, time_features=256)
        self.token_use: TokenUse = "cross" if config.cross_attention else "none"
        self.config = config
        self.patches = nn.ModuleDict(
            {
                name: PatchEmbedding(latent_channels, config.patch_size, part_width)
                for name, part_width in (("encoder", width), ("decoder", decoder_width))
            }
        )
        self.blocks = nn.ModuleList(
            _block(config, in_encoder=i < config.encoder_depth) for i in range(config.depth)
        )
        features = config.patch_size**2 * latent_channels
        self.project_state = Linear(width, decoder_width) if decoder_width != width else None
        self.output = ModulatedOutput(decoder_width, decoder_width, features, silu=False)

    def forward(
        self, x_t: Latents, embedded: Embedded, masking: Masking | None = None
    ) -> Prediction:
        """(B, C, H, W) -> mean (B, C, H, W)."""
        state, hidden = self._encode(x_t, embedded)
        return Prediction(mean=self.decode(x_t, state), hidden=hidden)

    def encode(self, x_t: Latents, embedded: Embedded) -> State:
        """State of each token, which modulates the decoder.

        Raises:
            ValueError: a conditioner that does not give the time alone.
        """
        return self._encode(x_t, embedded)[0]

    def _encode(
        self, x_t: Latents, embedded: Embedded
    ) -> tuple[State, Float[Tensor, "batch tokens dim"] | None]:
        """The state, and the tokens of an aligned block."""
        if embedded.time is None:
            raise ValueError("ddt needs Embedded.time; let the conditioner give the time alone")
        rotary = self._rotary(x_t, self.config.width // self.config.num_heads)
        # fp32 from here on, also under bf16 autocast
        state, hidden = self.patches["encoder"](x_t).float(), None  # (B, N, D)
        for block in self.blocks[: self.config.encoder_depth]:
            state = block(
                state, embedded.modulation, embedded.tokens, embedded.mask, rotary=rotary
            )
            hidden = state if self.is_aligned(block) else hidden
        state = F.silu(embedded.time[:, None] + state)
        return state if self.project_state is None else self.project_state(state), hidden

    def decode(self, x_t: Latents, state: State) -> Latents:
        """Velocity from latents and a state, which may be that of another time."""
        width, heads = self.config.decoder_dimensions
        rotary = self._rotary(x_t, width // heads)
        x = self.patches["decoder"](x_t).float()  # (B, N, D)
        for block in self.blocks[self.config.encoder_depth :]:
            x = block(x, state, None, None, rotary=rotary)
        grid = patch_grid(x_t, self.config.patch_size)
        return from_channel_patches(self.output(x, state), grid, self.config.patch_size)

    def _rotary(self, x_t: Latents, head_width: int) -> Rotary:
        rows, columns = patch_grid(x_t, self.config.patch_size)
        return rotary_2d(
            rows,
            columns,
            head_width,
            x_t.device,
            row_step=POSITION_RANGE / max(rows - 1, 1),
            column_step=POSITION_RANGE / max(columns - 1, 1),
            layout="alternating",
        )


def _block(config: DDTConfig, *, in_encoder: bool) -> AdaLNBlock:
    width, heads = (config.width, config.num_heads) if in_encoder else config.decoder_dimensions
    return AdaLNBlock(
        width,
        heads,
        config.mlp_ratio,
        cross_attention=in_encoder and config.cross_attention,
        layers=config.encoder_layers if in_encoder else config.decoder_layers,
    )
