# SPDX-License-Identifier: Apache-2.0
"""SDXL's micro-conditioning: equality with diffusers, drops, errors."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps

from pippin.conditioning.config import (
    ConditioningConfig,
    ControlConfig,
    LabelSemantic,
    PowerCosineGate,
    TextSemantic,
)
from pippin.conditioning.micro_conditions import NUM_FEATURES, MicroConditions
from pippin.config import ConfigError, difference, fingerprint
from pippin.control import Control, Corner, Size
from pippin.denoisers.mmdit.config import mmdit
from pippin.model import build_model
from pippin.nn.initialise import initialise
from pippin.recipes.table import get_recipe
from pippin.types import Conditions, Keep, stack_controls

FIELDS = ("crop_size", "original_size", "crop_corner")
SDXL = ControlConfig(high=("crop_corner", "crop_size"), low=("original_size",), embedding="sdxl")
BY_MODULATION = ConditioningConfig(rules={"label": "modulation"}, control=SDXL)


def controls():
    """Controls of three images: (height, width), (top, left), (height, width)."""
    rows = (
        ((768, 1024), (0, 57), (512, 512)),
        ((64, 48), (3, 0), (48, 48)),
        ((8, 9), (0, 1), (8, 8)),
    )
    return stack_controls(
        [
            Control(
                original_size=Size(*size),
                crop_corner=Corner(*corner),
                crop_size=Size(*crop),
                flip=False,
            )
            for size, corner, crop in rows
        ]
    )


def keep(flags=(True, True, True), **fields):
    flags = torch.tensor(flags)
    return Keep(
        semantic=flags, control=flags, fields={n: torch.tensor(f) for n, f in fields.items()}
    )


def embedding(width=24):
    module = MicroConditions(FIELDS, width)
    initialise(module, 0)
    return module


def test_it_is_diffusers_arithmetic_of_time_ids():
    """``add_time_proj`` and ``add_embedding`` of UNet2DConditionModel, on ids in SDXL's order."""
    module, control = embedding(), controls()
    ids = torch.cat(
        [control[name] for name in ("original_size", "crop_corner", "crop_size")], dim=1
    )
    project = Timesteps(NUM_FEATURES, flip_sin_to_cos=True, downscale_freq_shift=0)
    reference = TimestepEmbedding(6 * NUM_FEATURES, 24)
    for layer, other in (
        (module.linear_in, reference.linear_1),
        (module.linear_out, reference.linear_2),
    ):
        other.load_state_dict(layer.state_dict())
    expected = reference(project(ids.flatten()).reshape(len(ids), -1))
    torch.testing.assert_close(module(control, keep()), expected, rtol=1e-5, atol=1e-6)


def test_it_starts_with_an_effect_and_with_torch_s_weights():
    module = embedding(256)
    for layer in (module.linear_in, module.linear_out):
        bound = layer.in_features**-0.5
        assert layer.weight.abs().max() <= bound
        # a uniform variable's variance is bound^2 / 3; of 65 536 numbers or more known to 1 %
        assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)
    vectors = module(controls(), keep())
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3


def test_a_dropped_field_has_no_effect_and_all_dropped_is_one_vector():
    module = embedding()
    other = {name: value / 2 + 4 for name, value in controls().items()}
    off = keep((False, False, False))
    assert torch.equal(module(controls(), off), module(other, off))
    assert torch.equal(*module(controls(), off)[:2])
    alone = keep(original_size=(False, False, True))
    base_control = controls()
    changed_control = base_control | {"original_size": base_control["original_size"] * 2}
    first, second = module(base_control, alone), module(changed_control, alone)
    assert torch.equal(first[:2], second[:2]) and not torch.equal(first[2], second[2])


def test_it_enters_modulation_constant_in_time():
    model = build_model(
        BY_MODULATION, mmdit("tiny", patch_size=4), num_classes=5, latent_channels=4, seed=0
    )
    conditions = Conditions(label=torch.arange(3), control=controls())
    prepared = model.prepare(conditions, keep())
    vector = model.conditioner.micro_conditions(controls(), keep())
    for t in (torch.zeros(3), torch.full((3,), 1000.0)):
        expected = model.conditioner.time(t) + vector + prepared.semantic
        assert torch.equal(prepared.at(t).modulation, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"low_gate": PowerCosineGate()},
            r"sdxl .* constant in time; got .* low_gate power-cosine",
        ),
        ({"high": ("aspect_ratio",)}, "aspect_ratio is computed from others: leave it out"),
    ],
)
def test_what_one_perceptron_cannot_do_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(SDXL, **settings)


def test_values_that_are_missing_or_out_of_range_are_named():
    control = controls()
    with pytest.raises(ValueError, match=r"original_size.*8192"):
        embedding()(control | {"original_size": control["original_size"] * 100}, keep())
    del control["crop_corner"]
    with pytest.raises(ValueError, match="'crop_corner' is needed"):
        embedding()(control, keep())


# -- a class by attention and modulation ---------------------------------------------------


def small(config):
    return build_model(
        config, mmdit("tiny", patch_size=4), num_classes=5, latent_channels=4, seed=3
    )


def test_both_is_the_tokens_of_one_rule_and_the_vector_of_the_other():
    rules = {name: {"label": name} for name in ("attention", "modulation", "both")}
    models = {name: small(replace(BY_MODULATION, rules=rule)) for name, rule in rules.items()}
    conditions = Conditions(label=torch.tensor([4, 0, 2]), control=controls())
    t = torch.full((3,), 300.0)
    for flags in ((True, True, True), (True, False, False)):
        kept = keep(flags)
        result = {name: built.prepare(conditions, kept).at(t) for name, built in models.items()}
        assert torch.equal(result["both"].tokens, result["attention"].tokens)
        assert torch.equal(result["both"].modulation, result["modulation"].modulation)
    names = {name: {n for n, _ in built.named_parameters()} for name, built in models.items()}
    assert names["both"] == names["attention"] | names["modulation"] - {
        "conditioner.constant_tokens.weight"
    }


def test_recipes_of_both_and_of_sdxl_differ_in_what_they_are_named_for():
    plain = get_recipe("paper/mmdit-256")
    both = get_recipe("paper/mmdit-256-attention-modulation")
    assert difference(plain, both) == {
        "conditioning.rules": ({"label": "attention"}, {"label": "both"})
    }
    sdxl = get_recipe("paper/unet-256-sdxl-style").conditioning
    assert sdxl.control == SDXL and sdxl.rules == {"label": "modulation"}


# -- published initial weights -------------------------------------------------------------


def spread(config, name):
    return dict(small(config).named_parameters())[name].std().item()


def test_initial_weights_of_published_recipes_are_the_published_ones():
    """Each has 20 480 numbers or more, so a standard deviation is known to 1 %."""
    label = replace(BY_MODULATION, semantic=LabelSemantic(init_std=1.0), rules={"label": "both"})
    for table in ("label_tokens", "label_vector"):
        wide = spread(label, f"conditioner.{table}.weight")
        assert wide == pytest.approx(1.0, rel=0.1)
    text = TextSemantic(token_features=160, projection="mlp", projection_init="normal")
    config = replace(BY_MODULATION, semantic=text, rules={"text": "attention"})
    for layer in ("linear_in", "linear_out"):
        name = f"conditioner.text_tokens.projection.{layer}.weight"
        assert spread(config, name) == pytest.approx(0.02, rel=0.03)
        before = replace(config, semantic=replace(text, projection_init="xavier"))
        assert spread(before, name) > 0.05
    assert get_recipe("published/ldm-4-imagenet-256").conditioning.semantic.init_std == 1.0
    for side in (256, 512):
        pixart = get_recipe(f"published/pixart-xl-{side}").conditioning.semantic
        assert pixart.projection_init == "normal"


def test_new_settings_leave_fingerprints_of_before():
    """New settings are part of the protocol only if set."""
    for config, path in ((ControlConfig(), "embedding"), (LabelSemantic(), "init_std")):
        record = config.to_dict()
        del record[path]
        assert fingerprint(type(config).from_dict(record)) == fingerprint(config)
    assert fingerprint(LabelSemantic(init_std=1.0)) != fingerprint(LabelSemantic())
