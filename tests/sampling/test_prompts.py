# SPDX-License-Identifier: Apache-2.0
"""Sampling from text: negative prompts, keys and values that are kept."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from pippin import rng
from pippin.diffusion.schedules import make_schedule
from pippin.model import build_model
from pippin.nn.attention import CrossAttention
from pippin.recipes.table import get_recipe
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig
from pippin.sampling.request import request_conditions
from pippin.sampling.sampler import Sampler
from pippin.types import Prediction, TextFeatures

FIELDS = ("original_size", "crop_corner", "crop_size", "flip")


@pytest.mark.parametrize("name", ["dit", "mdtv2", "pixart", "unet"])
def test_keys_and_values_of_a_prompt_are_computed_once_and_change_nothing(name, monkeypatch):
    recipe = get_recipe(f"openmoji/{name}-disentangled-text")
    model = build_model(
        recipe.conditioning, recipe.denoiser, num_classes=1, latent_channels=4, seed=0
    )
    for index, weight in enumerate(model.parameters()):
        weight.data = 0.05 * rng.normal(tuple(weight.shape), "init", 0, index)
    tokens = rng.normal((2, 24, 384), "noise")
    text = TextFeatures(tokens=tokens, mask=torch.ones(2, 24, dtype=torch.bool))
    asked = request_conditions(None, ControlRequest(), FIELDS, num_classes=1, count=2, text=text)
    calls = []
    layers = [m for m in model.modules() if isinstance(m, CrossAttention)]
    for layer in layers:
        layer.key_value.register_forward_hook(lambda used, *_: calls.append(used))
    config = SamplingConfig(steps=3, guidance=GuidanceConfig(semantic_scale=2.0))
    sampler = Sampler(model, make_schedule("flow"), "flow", config)
    once = sampler.latents(asked, [0, 1], (4, 16, 16))
    used = set(calls)  # MDT has one that its masked pass alone reads
    assert len(used) >= len(layers) - 1
    assert len(calls) == 2 * len(used)  # the prompt and the null caption
    assert all(layer.kept is None for layer in layers)
    monkeypatch.setattr("pippin.sampling.sampler.cached_keys_values", lambda _: nullcontext())
    again = sampler.latents(asked, [0, 1], (4, 16, 16))
    assert len(calls) == (2 + 3 * 2) * len(used)
    assert torch.equal(once, again)


class Texts(nn.Module):
    """An eps model that adds its text, or nothing in the place of the null caption."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 3, padding=1)
        for index, weight in enumerate(self.parameters()):
            weight.data = 0.2 * rng.normal(tuple(weight.shape), "init", 0, index)

    def prepare(self, conditions, keep=None):
        return torch.where(keep.semantic[:, None], conditions.text.tokens[:, 0], torch.zeros(4))

    def forward(self, x_t, t, prepared):
        return Prediction(mean=torch.tanh(self.mix(x_t) + prepared[:, :, None, None]))


def sampler(scale, terms="auto"):
    guidance = GuidanceConfig(semantic_scale=scale)
    config = SamplingConfig(steps=4, guidance=guidance, terms=terms)
    return Sampler(Texts(), make_schedule("sd"), "eps", config)


def test_a_negative_prompt_stands_in_the_place_of_the_null_caption():
    def features(value):
        return TextFeatures(tokens=torch.full((2, 1, 4), value))

    def latents(negative, terms="auto"):
        asked = request_conditions(
            None,
            ControlRequest(),
            [],
            num_classes=1,
            count=2,
            text=features(1.0),
            negative_text=negative,
        )
        return sampler(2.0, terms).latents(asked, [0, 1], (4, 8, 8))

    null = latents(None)
    torch.testing.assert_close(latents(features(0.0)), null)
    assert (latents(features(-1.0)) - null).abs().max() > 0.01
    together = latents(features(-1.0), "together")
    torch.testing.assert_close(together, latents(features(-1.0)))
    # Guided away from itself, a prompt is drawn as without guidance.
    asked = request_conditions(
        None, ControlRequest(), [], num_classes=1, count=2, text=features(1.0)
    )
    plain = sampler(1.0).latents(asked, [0, 1], (4, 8, 8))
    torch.testing.assert_close(latents(features(1.0)), plain)
