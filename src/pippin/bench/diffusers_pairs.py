# SPDX-License-Identifier: Apache-2.0
"""Our denoisers and diffusers' model classes with equal weights, on equal inputs."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pippin.bench.config import Kind
from pippin.conditioning.config import ConditioningConfig, LabelSemantic, TextSemantic
from pippin.denoisers.config import DenoiserConfig, SizeName, dit, mmdit, pixart, unet
from pippin.diffusion.config import DiffusionConfig
from pippin.interop.arguments import NO_CONTROL, Configured
from pippin.interop.diffusers_format import to_diffusers
from pippin.model import LatentDenoiser, build_model
from pippin.training.compile import compile_blocks
from pippin.types import Conditions, TextFeatures

NUM_CLASSES, CHANNELS = 1000, 4


def shape_of(kind: Kind, size: SizeName, side: int) -> tuple[DenoiserConfig, ConditioningConfig]:
    """A denoiser of a size, and conditions as its published model reads them."""
    by_text = {"text": "attention"}
    match kind:
        case "dit":
            return dit(size), _conditioned(LabelSemantic(), {"label": "modulation"})
        case "pixart":
            text = TextSemantic(token_features=4096, num_tokens=120, projection="mlp")
            return pixart(size, base_grid=side // 2), _conditioned(text, by_text)
        case "mmdit":
            text = TextSemantic(token_features=4096, pooled_features=2048, num_tokens=154)
            rules = by_text | {"pooled": "modulation"}
            return mmdit(size, qk_norm=False, table_side=side // 2), _conditioned(text, rules)
        case "unet":
            denoiser = unet(size)
            text = TextSemantic(token_features=denoiser.token_width, projection="none")
            return denoiser, _conditioned(text, by_text)


class Pair:
    """Both models, in evaluation mode: diffusers' DiT drops classes otherwise.

    diffusers' DiT divides time features by half - 1 where the published DiT and ours divide by
    half; that is set right in theirs, so that both compute one function.

    Args:
        kind, size: of the denoiser.
        side: of the latents.
        batch_size: of the inputs.
        device: where both live.
    """

    def __init__(
        self, kind: Kind, size: SizeName, side: int, batch_size: int, device: torch.device
    ) -> None:
        self.kind, self.batch_size, self.device = kind, batch_size, device
        self.latent_shape = (CHANNELS, side, side)
        self.denoiser, self.conditioning = shape_of(kind, size, side)
        draws = torch.Generator().manual_seed(0)
        ours = build_model(
            self.conditioning,
            self.denoiser,
            num_classes=NUM_CLASSES,
            latent_channels=CHANNELS,
            seed=0,
        )
        with torch.no_grad():
            for weight in ours.parameters():  # layers that start at 0 would hide the rest
                weight.add_(0.02 * torch.randn(weight.shape, generator=draws))
        theirs = _theirs(ours, self.denoiser, self.conditioning, side)
        self.ours, self.theirs = ours.to(device).eval(), theirs.to(device).eval()
        self.label = torch.arange(batch_size) % NUM_CLASSES
        self.text = self._captions(draws)
        self.t = torch.linspace(1, 999, batch_size).round().to(device)
        self.x_t = torch.randn((batch_size, *self.latent_shape), generator=draws).to(device)

    def _captions(self, draws: torch.Generator) -> TextFeatures | None:
        semantic = self.conditioning.semantic
        if not isinstance(semantic, TextSemantic):
            return None
        rows, pooled = self.batch_size, semantic.pooled_features
        tokens = torch.randn(
            rows, semantic.num_tokens, semantic.token_features or 1, generator=draws
        )
        vector = None if pooled is None else torch.randn(rows, pooled, generator=draws)
        return TextFeatures(
            tokens=tokens.to(self.device),
            pooled=None if vector is None else vector.to(self.device),
        )

    def run_ours(self) -> Tensor:
        """Conditioning and denoiser, once."""
        label = self.label if self.text is None else None
        conditions = Conditions(label=label, text=self.text, control={})
        return self.ours(self.x_t, self.t, self.ours.prepare(conditions)).mean

    def run_theirs(self) -> Tensor:
        """The same with diffusers."""
        if self.text is None:
            label = self.label.to(self.device)
            return self.theirs(self.x_t, timestep=self.t, class_labels=label).sample
        more: dict[str, Any] = {}
        if self.kind == "mmdit":
            more = {"pooled_projections": self.text.pooled}
        if self.kind == "pixart":
            more = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
        tokens = self.text.tokens
        return self.theirs(self.x_t, timestep=self.t, encoder_hidden_states=tokens, **more).sample

    def compile(self) -> None:
        """Compile the blocks of both, as the trainer compiles ours."""
        compile_blocks(self.denoiser, [*self.ours.denoiser.blocks, *_blocks(self.theirs)])


def _conditioned(
    semantic: LabelSemantic | TextSemantic, rules: dict[str, Any]
) -> ConditioningConfig:
    return ConditioningConfig(semantic=semantic, rules=rules, control=NO_CONTROL)


def _theirs(
    ours: LatentDenoiser, denoiser: DenoiserConfig, conditioning: ConditioningConfig, side: int
) -> nn.Module:
    configured = Configured(
        denoiser=denoiser,
        conditioning=conditioning,
        diffusion=DiffusionConfig(),
        latent_channels=CHANNELS,
        latent_side=side,
        num_classes=NUM_CLASSES,
    )
    theirs = to_diffusers(configured, ours.state_dict()).build()
    if denoiser.kind == "dit":
        for block in _blocks(theirs):
            block.norm1.emb.time_proj.downscale_freq_shift = 0
    return theirs


def _blocks(theirs: Any) -> Iterable[Any]:
    """The repeated part: a UNet's are its levels' residual blocks and transformers."""
    if hasattr(theirs, "transformer_blocks"):
        return list(theirs.transformer_blocks)
    levels = [*theirs.down_blocks, theirs.mid_block, *theirs.up_blocks]
    return [
        block
        for level in levels
        for block in (*level.resnets, *(getattr(level, "attentions", None) or ()))
    ]
