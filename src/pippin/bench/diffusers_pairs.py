# SPDX-License-Identifier: Apache-2.0
"""Pairs of a pippin denoiser and diffusers' class, with equal weights and inputs."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pippin.bench.config import Kind
from pippin.conditioning.config import ConditioningConfig, LabelSemantic, TextSemantic
from pippin.denoisers.config import DenoiserConfig, SizeName, dit, mmdit, pixart, unet
from pippin.diffusion.config import DiffusionConfig
from pippin.interop.arguments import NO_CONTROL, ModelSpec
from pippin.interop.diffusers_format import to_diffusers
from pippin.model import LatentDenoiser, build_model
from pippin.training.compile import compile_blocks
from pippin.types import Conditions, TextFeatures

NUM_CLASSES, CHANNELS = 1000, 4


def shape_of(kind: Kind, size: SizeName, side: int) -> tuple[DenoiserConfig, ConditioningConfig]:
    """Denoiser of a size, and the conditions of its published model."""
    text_rules = {"text": "attention"}
    match kind:
        case "dit":
            return dit(size), _conditioned(LabelSemantic(), {"label": "modulation"})
        case "pixart":
            text = TextSemantic(token_features=4096, num_tokens=120, projection="mlp")
            return pixart(size, base_grid=side // 2), _conditioned(text, text_rules)
        case "mmdit":
            text = TextSemantic(token_features=4096, pooled_features=2048, num_tokens=154)
            rules = text_rules | {"pooled": "modulation"}
            return mmdit(size, qk_norm=False, table_side=side // 2), _conditioned(text, rules)
        case "unet":
            denoiser = unet(size)
            text = TextSemantic(token_features=denoiser.token_width, projection="none")
            return denoiser, _conditioned(text, text_rules)


class Pair:
    """Both models in evaluation mode, because diffusers' DiT drops classes in training mode.

    diffusers' DiT divides time features by half - 1, the published DiT and pippin divide by half.
    This is corrected in diffusers' model, so that both compute one function.

    Args:
        kind, size: denoiser and its size.
        side: side of the latents.
        batch_size: batch size of the inputs.
        device: device of both.
    """

    def __init__(
        self, kind: Kind, size: SizeName, side: int, batch_size: int, device: torch.device
    ) -> None:
        self.kind, self.batch_size, self.device = kind, batch_size, device
        self.latent_shape = (CHANNELS, side, side)
        self.denoiser, self.conditioning = shape_of(kind, size, side)
        draws = torch.Generator().manual_seed(0)
        model = build_model(
            self.conditioning,
            self.denoiser,
            num_classes=NUM_CLASSES,
            latent_channels=CHANNELS,
            seed=0,
        )
        with torch.no_grad():
            for weight in model.parameters():  # zero-initialised layers would hide the rest
                weight.add_(0.02 * torch.randn(weight.shape, generator=draws))
        reference = _to_diffusers_model(model, self.denoiser, self.conditioning, side)
        self.model, self.reference = model.to(device).eval(), reference.to(device).eval()
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

    def run_model(self) -> Tensor:
        """Run pippin's conditioner and denoiser."""
        label = self.label if self.text is None else None
        conditions = Conditions(label=label, text=self.text, control={})
        return self.model(self.x_t, self.t, self.model.prepare(conditions)).mean

    def run_reference(self) -> Tensor:
        """Run diffusers' model."""
        if self.text is None:
            label = self.label.to(self.device)
            return self.reference(self.x_t, timestep=self.t, class_labels=label).sample
        extra: dict[str, Any] = {}
        if self.kind == "mmdit":
            extra = {"pooled_projections": self.text.pooled}
        if self.kind == "pixart":
            extra = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
        tokens = self.text.tokens
        return self.reference(
            self.x_t, timestep=self.t, encoder_hidden_states=tokens, **extra
        ).sample

    def compile(self) -> None:
        """Compile the blocks of both models, as the trainer does."""
        compile_blocks(self.denoiser, [*self.model.denoiser.blocks, *_blocks(self.reference)])


def _conditioned(
    semantic: LabelSemantic | TextSemantic, rules: dict[str, Any]
) -> ConditioningConfig:
    return ConditioningConfig(semantic=semantic, rules=rules, control=NO_CONTROL)


def _to_diffusers_model(
    model: LatentDenoiser, denoiser: DenoiserConfig, conditioning: ConditioningConfig, side: int
) -> nn.Module:
    spec = ModelSpec(
        denoiser=denoiser,
        conditioning=conditioning,
        diffusion=DiffusionConfig(),
        latent_channels=CHANNELS,
        latent_side=side,
        num_classes=NUM_CLASSES,
    )
    reference = to_diffusers(spec, model.state_dict()).build()
    if denoiser.kind == "dit":
        for block in _blocks(reference):
            block.norm1.emb.time_proj.downscale_freq_shift = 0
    return reference


def _blocks(reference: Any) -> Iterable[Any]:
    """Repeated blocks of diffusers' model; a UNet's are ResNet blocks and transformers."""
    if hasattr(reference, "transformer_blocks"):
        return list(reference.transformer_blocks)
    levels = [*reference.down_blocks, reference.mid_block, *reference.up_blocks]
    return [
        block
        for level in levels
        for block in (*level.resnets, *(getattr(level, "attentions", None) or ()))
    ]
