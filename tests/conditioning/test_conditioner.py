# SPDX-License-Identifier: Apache-2.0
"""The conditioner: rules, gates, drops, nulls, initial weights."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.conditioning.config import (
    ConditioningConfig,
    ConstantGate,
    ControlConfig,
    DropConfig,
    LinearGate,
    LogSnrGate,
    NoSemantic,
    PowerCosineGate,
)
from pippin.conditioning.control_embedding import gate_value, unit_values
from pippin.conditioning.drop import draw_keep
from pippin.config import ConfigError
from pippin.control import CONTROL_FIELDS, Control, Corner, Size, recorded_fields
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mmdit.config import mmdit
from pippin.diffusion.schedules import make_schedule
from pippin.model import build_model
from pippin.types import Conditions, Keep, stack_controls

ENTANGLED = ConditioningConfig(rules={"label": "modulation"})
DISENTANGLED = ConditioningConfig(
    rules={"label": "attention"}, control=ControlConfig(low_gate=PowerCosineGate(alpha=4.0))
)


def small_model(conditioning, denoiser=None, seed=0):
    denoiser = denoiser or mmdit("tiny", patch_size=4)
    return build_model(conditioning, denoiser, num_classes=5, latent_channels=4, seed=seed)


def conditions(batch=3):
    control = Control(
        original_size=Size(100, 80), crop_corner=Corner(3, 2), crop_size=Size(60, 60), flip=True
    )
    return Conditions(label=torch.arange(batch) % 5, control=stack_controls([control] * batch))


def perturb(model):
    """Perturb every weight, since zero-initialised layers hide their inputs."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=draws))


# -- gates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [LinearGate(), PowerCosineGate(alpha=1.0), PowerCosineGate()])
def test_gate_endpoints_and_monotonicity(gate):
    t = torch.linspace(0, 1000, 101)
    gamma = gate_value(gate, t)
    assert gamma[0] == 1.0
    assert gamma[-1].abs() < 1e-6
    assert (gamma.diff() <= 1e-7).all()


def test_a_gate_in_log_snr_opens_at_the_same_noise_on_every_schedule():
    gate, levels = LogSnrGate(centre=1.0, width=0.5), torch.tensor([-2.0, 0.5, 1.0, 4.0])
    for name in ("sd", "ddpm", "flow"):
        schedule = make_schedule(name)
        times = schedule.time(levels)
        result = gate_value(gate, times, schedule.log_snr)
        # float32 times represent log-SNRs to about 1e-3
        assert torch.allclose(result, ((levels - 1) / 0.5).sigmoid(), atol=1e-3)
    with pytest.raises(ValueError, match=r"log_snr=schedule\.log_snr"):
        gate_value(gate, times)
    ends = gate_value(gate, torch.tensor([0.0, 1000.0]), make_schedule("flow").log_snr)
    assert ends.tolist() == [1.0, 0.0]


def test_the_default_gate_in_log_snr_is_near_the_papers_under_its_schedule():
    schedule, t = make_schedule("sd"), torch.arange(1000.0)
    paper_gate = gate_value(PowerCosineGate(alpha=4.0), t)
    result = gate_value(LogSnrGate(), t, schedule.log_snr)
    assert (result - paper_gate).abs().max() < 0.03


def test_constant_gate_is_one_everywhere():
    assert torch.equal(gate_value(ConstantGate(), torch.linspace(0, 1000, 7)), torch.ones(7))


def test_power_cosine_formula_and_alpha_one_is_the_cosine():
    t = torch.tensor([250.0, 500.0])
    cosine = (1 + torch.cos(torch.pi * t / 1000)) / 2
    assert torch.allclose(gate_value(PowerCosineGate(alpha=1.0), t), cosine)
    assert torch.allclose(gate_value(PowerCosineGate(alpha=3.0), t), cosine**3)


# -- drops ---------------------------------------------------------------------------------


def test_drop_rates():
    n, drop = 40_000, DropConfig(keep=0.5, control=0.2, semantic=0.2, both=0.1)
    config = replace(ENTANGLED, drop=drop, control=ControlConfig(field_drop=0.25))
    draws = torch.Generator().manual_seed(0)
    keep = draw_keep(config, torch.rand(n, generator=draws), torch.rand(n, 4, generator=draws))
    rates = {
        (s, c): float(((keep.semantic == s) & (keep.control == c)).float().mean())
        for s in (True, False)
        for c in (True, False)
    }
    sd = 3 * (0.25 / n) ** 0.5  # three standard errors of a share
    assert rates[True, True] == pytest.approx(0.5, abs=sd)
    assert rates[True, False] == pytest.approx(0.2, abs=sd)  # control dropped
    assert rates[False, True] == pytest.approx(0.2, abs=sd)
    assert rates[False, False] == pytest.approx(0.1, abs=sd)
    for name in ("original_size", "crop_corner", "crop_size", "flip"):
        assert float(keep.fields[name].float().mean()) == pytest.approx(0.75, abs=sd)


def test_drop_must_be_a_distribution():
    with pytest.raises(ConfigError, match="sum to 1"):
        DropConfig(keep=0.9)


def test_default_drop_keeps_everything_for_small_draws_and_drops_both_for_large():
    keep = draw_keep(ENTANGLED, torch.tensor([0.0, 0.75, 0.85, 0.99]), torch.ones(4, 4))
    assert keep.semantic.tolist() == [True, True, False, False]
    assert keep.control.tolist() == [True, False, True, False]


# -- fields --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 4096), st.integers(8, 4096), st.floats(0, 1), st.floats(0, 1))
def test_unit_values_lie_in_the_unit_interval(height, width, a, b):
    corner = Corner(int(a * (height - 1)), int(b * (width - 1)))
    size = Size(height - corner.top, width - corner.left)
    control = Control(
        original_size=Size(height, width), crop_corner=corner, crop_size=size, flip=False
    )
    batch = stack_controls([control])
    for name in CONTROL_FIELDS:
        value = unit_values(name, batch)
        assert (value >= 0).all() and (value <= 1).all()
    assert torch.allclose(
        unit_values("crop_corner", batch) + unit_values("crop_size", batch), torch.ones(2)
    )


def test_the_aspect_ratio_is_that_of_the_original_cut_to_its_range():
    sizes = torch.tensor([[64.0, 64.0], [64.0, 16.0], [16.0, 64.0], [4096.0, 8.0]])
    result = unit_values("aspect_ratio", {"original_size": sizes})
    assert torch.allclose(result[:, 0], torch.tensor([0.5, 0.75, 0.25, 1.0]))


@pytest.mark.parametrize("name", CONTROL_FIELDS)
def test_every_declared_field_can_be_read_in_either_group(name):
    for groups in ({"high": (name,), "low": ()}, {"high": (), "low": (name,)}):
        config = replace(ENTANGLED, control=ControlConfig(output_init="xavier", **groups))
        model = build_model(config, dit("tiny"), num_classes=5, latent_channels=4, seed=0)
        whole = conditions(2)
        changed = replace(whole, control={k: v.clone() for k, v in whole.control.items()})
        source = recorded_fields((name,))[0]
        changed.control[source][1, 0] = changed.control[source][1, 0] * 0.5 + 0.25
        first, second = (
            model.prepare(batch_conditions).at(torch.full((2,), 100.0)).modulation
            for batch_conditions in (whole, changed)
        )
        assert torch.equal(first[0], second[0])
        assert not torch.equal(first[1], second[1])


def test_a_value_outside_its_range_is_named():
    batch = conditions().control | {"original_size": torch.tensor([[4.0, 4.0]])}
    with pytest.raises(ValueError, match=r"original_size.*\[8, 8192\].*4"):
        unit_values("original_size", batch)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="'flip' is needed"):
        unit_values("flip", {"original_size": torch.ones(1, 2)})


@pytest.mark.parametrize("name", ["original_size", "aspect_ratio", "grain", "crop_size"])
def test_values_that_are_no_numbers_are_refused(name):
    batch = {"original_size": torch.full((2, 2), 64.0), "crop_size": torch.full((2, 2), 64.0)}
    batch["grain"] = torch.zeros(2, 1)
    source = "original_size" if name == "aspect_ratio" else name
    batch[source] = batch[source].clone()
    batch[source][1, 0] = torch.nan
    with pytest.raises(ValueError, match=rf"control '{name}' must lie in .* got NaN in 1 of [24]"):
        unit_values(name, batch)


def test_a_field_may_not_stand_in_both_groups():
    with pytest.raises(ConfigError, match="once"):
        ControlConfig(high=("flip",), low=("flip",))


# -- rules ---------------------------------------------------------------------------------


def test_rules_must_name_exactly_the_outputs():
    with pytest.raises(ConfigError, match=r"\['label'\]; got \['text'\]"):
        small_model(replace(ENTANGLED, rules={"text": "attention"}))
    with pytest.raises(ConfigError, match=r"\[\]; got \['label'\]"):
        small_model(replace(ENTANGLED, semantic=NoSemantic()))


def test_attention_needs_a_denoiser_that_reads_tokens():
    with pytest.raises(ConfigError, match="reads no tokens"):
        small_model(DISENTANGLED, dit("tiny"))


def test_labels_out_of_range_are_refused():
    model = small_model(ENTANGLED)
    bad = Conditions(label=torch.tensor([5]), control=conditions(1).control)
    with pytest.raises(ValueError, match=r"\[0, 5\); got \[5\]"):
        model.prepare(bad)


def test_unconditional_model_runs_without_conditions():
    config = ConditioningConfig(
        semantic=NoSemantic(), rules={}, control=ControlConfig(high=(), low=())
    )
    model = small_model(config)
    keep = Keep(semantic=torch.ones(2, dtype=torch.bool), control=torch.ones(2, dtype=torch.bool))
    prepared = model.prepare(Conditions(control={}), keep)
    output = model(torch.randn(2, 4, 8, 8), torch.tensor([10.0, 900.0]), prepared)
    assert output.mean.shape == (2, 4, 8, 8)


# -- differences between arms --------------------------------------------------------------


def test_arms_have_equal_token_counts_and_equal_initial_weights():
    first, second = small_model(ENTANGLED), small_model(DISENTANGLED)
    tokens = [m.prepare(conditions()).tokens.shape for m in (first, second)]
    assert tokens[0] == tokens[1] == (3, 4, 128)
    a, b = dict(first.named_parameters()), dict(second.named_parameters())
    shared = set(a) & set(b)
    assert all(torch.equal(a[name], b[name]) for name in shared)
    assert set(a) - shared == {
        "conditioner.label_vector.weight",
        "conditioner.constant_tokens.weight",
    }
    assert set(b) - shared == {"conditioner.label_tokens.weight"}
    assert any(p.std() > 0 for p in a.values())


def test_seed_changes_initial_weights():
    first, second = small_model(ENTANGLED, seed=0), small_model(ENTANGLED, seed=1)
    name = "denoiser.blocks.0.image.attention_in.qkv.weight"
    assert not torch.equal(first.state_dict()[name], second.state_dict()[name])


@pytest.mark.parametrize("config", [ENTANGLED, DISENTANGLED])
def test_label_moves_what_its_rule_says(config):
    model = small_model(config)
    perturb(model)
    base = model.prepare(conditions())
    other = model.prepare(replace(conditions(), label=torch.tensor([4, 4, 4])))
    t = torch.full((3,), 300.0)
    tokens_equal = torch.equal(base.at(t).tokens, other.at(t).tokens)
    modulation_equal = torch.equal(base.at(t).modulation, other.at(t).modulation)
    by_attention = config.rules["label"] == "attention"
    assert tokens_equal is not by_attention
    assert modulation_equal is by_attention


def test_gated_control_does_not_act_at_pure_noise_and_acts_fully_at_the_clean_end():
    model = small_model(DISENTANGLED)
    perturb(model)
    small = conditions()
    large = replace(
        small, control=small.control | {"original_size": 2 * small.control["original_size"]}
    )
    # crop fields are shares of the original side: double them too, so that only the size changes
    for name in ("crop_corner", "crop_size"):
        large.control[name] = 2 * small.control[name]
    difference = {
        t: (model.prepare(small).at(time).modulation - model.prepare(large).at(time).modulation)
        .abs()
        .max()
        for t, time in ((t, torch.full((3,), t)) for t in (1000.0, 500.0, 0.0))
    }
    assert difference[1000.0] < 1e-6
    assert difference[1000.0] < difference[500.0] < difference[0.0]


def test_modulation_is_time_plus_gated_groups_plus_semantics():
    gates = ControlConfig(high_gate=LinearGate(), low_gate=PowerCosineGate(alpha=2.0))
    model = small_model(replace(ENTANGLED, control=gates))
    perturb(model)
    prepared, t = model.prepare(conditions()), torch.tensor([100.0, 400.0, 800.0])
    (_, high), (_, low) = prepared.control
    expected = (
        model.conditioner.time(t)
        + (1 - t / 1000)[:, None] * high
        + (((1 + torch.cos(torch.pi * t / 1000)) / 2) ** 2)[:, None] * low
        + prepared.semantic
    )
    assert torch.allclose(prepared.at(t).modulation, expected, atol=1e-6)


@pytest.mark.parametrize("config", [ENTANGLED, DISENTANGLED])
def test_dropped_conditions_leave_no_trace(config):
    model = small_model(config)
    perturb(model)
    off = torch.zeros(3, dtype=torch.bool)
    first = conditions()
    control = {name: 0.5 * value for name, value in first.control.items()}
    second = Conditions(label=torch.tensor([4, 3, 0]), control=control)
    keep = Keep(semantic=off, control=off)
    t = torch.full((3,), 200.0)
    a, b = model.prepare(first, keep).at(t), model.prepare(second, keep).at(t)
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.modulation, b.modulation)


def test_control_starts_without_effect_by_default():
    t = torch.full((3,), 200.0)

    def moved(init):
        model = small_model(replace(ENTANGLED, control=ControlConfig(output_init=init)))
        a = model.prepare(conditions()).at(t).modulation
        control = {name: 0.5 * value for name, value in conditions().control.items()}
        b = model.prepare(replace(conditions(), control=control)).at(t).modulation
        return not torch.equal(a, b)

    assert not moved("zero")
    assert moved("xavier")


def test_an_image_shape_that_cannot_be_split_in_three_is_refused():
    shaped = ConditioningConfig(image_shape=True)
    with pytest.raises(ConfigError, match=r"image_shape .* multiple of 3; it is 128"):
        small_model(shaped, replace(mmdit("tiny", patch_size=4), width=128))
