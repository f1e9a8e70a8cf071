# SPDX-License-Identifier: Apache-2.0
"""The null caption that is an encoder's empty one, under padding by a mask."""

from dataclasses import replace

import pytest
import torch

from pippin import rng
from pippin.conditioning.config import ConditioningConfig, ControlConfig, TextSemantic
from pippin.conditioning.padding import pad_captions
from pippin.denoisers.pixart.config import pixart
from pippin.diffusion.schedules import make_schedule
from pippin.model import build_model
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.sampler import Sampler
from pippin.types import Conditions, Keep, TextFeatures

RULE = TextSemantic(token_features=8, num_tokens=6, padding="mask", null="empty")
BATCH = 2


def model_of(rule=RULE):
    conditioning = ConditioningConfig(
        semantic=rule, rules={"text": "attention"}, control=ControlConfig(high=(), low=())
    )
    model = build_model(conditioning, pixart("tiny"), num_classes=1, latent_channels=4, seed=0)
    with torch.no_grad():
        for place, weight in enumerate(model.parameters()):  # zero layers would hear nothing
            weight.add_(0.1 * rng.normal(tuple(weight.shape), "init", 0, place))
    return model.eval()


def features(own, place):
    """A caption with some tokens of its own, and what an encoder leaves in the other places."""
    mask = torch.arange(RULE.num_tokens)[None] < own
    text = TextFeatures(tokens=rng.normal((1, RULE.num_tokens, 8), "noise", place), mask=mask)
    return pad_captions(text, RULE)


def repeated(text):
    return text.rows(torch.zeros(BATCH, dtype=torch.long))


PROMPT, EMPTY = features(4, 0), features(1, 1)


def predicted(model, text, kept=True):
    x, t = rng.normal((BATCH, 4, 8, 8), "noise", 2), torch.tensor([300.0, 900.0])
    keep = Keep(semantic=torch.full((BATCH,), kept), control=torch.ones(BATCH, dtype=torch.bool))
    with torch.no_grad():
        return model(x, t, model.prepare(Conditions(text=text, control={}), keep)).mean


def test_a_dropped_caption_is_the_empty_one_with_its_mask():
    model = model_of()
    model.conditioner.set_null(EMPTY)
    dropped = predicted(model, repeated(PROMPT), kept=False)
    asked = predicted(model, repeated(EMPTY))
    assert torch.equal(dropped, asked)
    whole = predicted(model, repeated(TextFeatures(tokens=EMPTY.tokens)))
    assert (whole - asked).abs().max() > 1e-3  # the empty places would be heard


def test_captions_without_a_mask_keep_all_their_places():
    model = model_of()
    model.conditioner.set_null(EMPTY)
    text = TextFeatures(tokens=repeated(PROMPT).tokens)
    mixed = Keep(semantic=torch.tensor([True, False]), control=torch.ones(2, dtype=torch.bool))
    prepared = model.prepare(Conditions(text=text, control={}), mixed)
    assert prepared.mask.tolist() == [[True] * 6, [True] + [False] * 5]


def test_guidance_refers_to_what_an_empty_negative_prompt_is():
    model = model_of()
    model.conditioner.set_null(EMPTY)
    guidance = GuidanceConfig(semantic_scale=3.0)
    for terms in ("apart", "together"):
        config = SamplingConfig(steps=3, guidance=guidance, terms=terms)
        sampler = Sampler(model, make_schedule("ddpm"), "eps", config)
        plain, away = (
            sampler.latents(
                Conditions(text=repeated(PROMPT), negative_text=negative, control={}),
                [0, 1],
                (4, 8, 8),
            )
            for negative in (None, repeated(EMPTY))
        )
        torch.testing.assert_close(plain, away, rtol=1e-5, atol=1e-5)


def test_saved_weights_hold_no_mask_and_load_without_one():
    masked = model_of()
    masked.conditioner.set_null(EMPTY)
    fresh = model_of()
    assert set(masked.state_dict()) == set(fresh.state_dict())
    fresh.load_state_dict(masked.state_dict())
    fresh.conditioner.set_null(EMPTY)
    assert torch.equal(
        predicted(fresh, repeated(PROMPT), kept=False),
        predicted(masked, repeated(PROMPT), kept=False),
    )


@pytest.mark.parametrize("null", ["learned", "empty"])
def test_a_null_without_a_mask_is_read_whole(null):
    model = model_of(replace(RULE, null=null))
    if null == "empty":
        model.conditioner.set_null(TextFeatures(tokens=EMPTY.tokens))
    keep = Keep(semantic=torch.zeros(1, dtype=torch.bool), control=torch.ones(1).bool())
    assert bool(model.prepare(Conditions(text=PROMPT, control={}), keep).mask.all())
