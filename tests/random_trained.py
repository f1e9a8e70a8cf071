# SPDX-License-Identifier: Apache-2.0
"""Trained models with random weights, an autoencoder and a text encoder, in a temporary folder."""

from dataclasses import replace

import diffusers
import torch
from tiny_sd3_text import WORDS, t5
from tiny_tokenizer import word_tokenizer

from pippin.conditioning.config import ConditioningConfig, ControlConfig, TextSemantic
from pippin.denoisers.weights.arguments import ModelSpec
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.normalisation import Affine
from pippin.interop.convert import converted_recipe
from pippin.model import build_model
from pippin.runs.trained import Trained
from pippin.sampling.config import GuidanceConfig, SamplingConfig

SIDE, STEPS, SCALE = 8, 4, 2.0
NO_CONTROL = ControlConfig(high=(), low=())
SHAPE = {"depth": 2, "width": 32, "num_heads": 2}


def save_autoencoder(folder):
    """Save an autoencoder without 1 x 1 convolutions whose channels have affines of their own."""
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
        mid_block_add_attention=False,
        use_post_quant_conv=False,
    )
    shift, scale = torch.tensor([0.5, -1, 0, 2]), torch.tensor([0.5, 2, 1, 3])
    affine = Affine(shift.view(1, 4, 1, 1), scale.view(1, 4, 1, 1))
    own = Autoencoder(network, affine)
    own.save(folder)
    return own


def trained_model(tmp_path, denoiser, conditioning, diffusion, text=None):
    """A model with random weights, and its recipe."""
    save_autoencoder(tmp_path / "kl")
    spec = ModelSpec(
        denoiser=denoiser,
        conditioning=conditioning,
        diffusion=diffusion,
        latent_channels=4,
        latent_side=SIDE,
        num_classes=3,
    )
    recipe = converted_recipe(spec, str(tmp_path / "kl"))
    guidance = GuidanceConfig(semantic_scale=SCALE)
    recipe = replace(
        recipe,
        conditioning=conditioning,  # with its own shares of dropped conditions
        sampling=SamplingConfig(solver="ddim", steps=STEPS, guidance=guidance),
        train=replace(recipe.train, device="cpu"),
        text=text or recipe.text,
    )
    model = build_model(
        recipe.conditioning, recipe.denoiser, num_classes=3, latent_channels=4, seed=0
    )
    draws = torch.Generator().manual_seed(1)
    tensors = {
        name: (value + 0.05 * torch.randn(value.shape, generator=draws)).detach()
        if value.requires_grad
        else value.detach()
        for name, value in model.named_parameters()
    }
    return Trained(
        source="random", recipe=recipe, tensors=tensors, weights="ema", images_seen=8, lineage=()
    )


def save_t5(folder):
    """Save a T5 whose tokenizer ends each text, so that an empty one has a token."""
    encoder, _ = t5()
    encoder.save_pretrained(folder)
    tokenizer = word_tokenizer(WORDS, ("[BOS]", "[EOS]"), eos_token="[EOS]")
    tokenizer.save_pretrained(folder)


def text_rule(**settings):
    return ConditioningConfig(
        semantic=TextSemantic(null="empty", **settings),
        rules={"text": "attention"}
        | ({"pooled": "modulation"} if "pooled_features" in settings else {}),
        control=NO_CONTROL,
    )
