# SPDX-License-Identifier: Apache-2.0
"""Every tensor of both sides once, by the given rules only."""

from dataclasses import replace

import pytest
import torch
from small_trainer import batches

from pippin.conditioning.config import ConditioningConfig, ControlConfig, TextSemantic
from pippin.denoisers.dit.config import dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.pixart.config import pixart
from pippin.denoisers.unet.config import unet
from pippin.model import build_model
from pippin.nn.positions import grid_positions, sincos_2d
from pippin.transfer.merge import merge
from pippin.transfer.rules import TransferEnds, resample_biases, resample_positions

BY_CLASS = ConditioningConfig()
TEXT = TextSemantic(token_features=24, num_tokens=6)
BY_TEXT = ConditioningConfig(semantic=TEXT, rules={"text": "attention"})
SIZED = {"depth": 3, "width": 16, "num_heads": 2}
SMALL = {
    "mmdit": replace(mmdit("tiny"), **SIZED),
    "dit": replace(dit("tiny", cross_attention=True), **SIZED),
    "mdtv2": replace(
        mdtv2("tiny", (4, 4), cross_attention=True), **SIZED | {"depth": 4}, decoder_depth=2
    ),
    "pixart": replace(pixart("tiny"), **SIZED),
    "unet": replace(unet("tiny"), channels=16, token_width=16, num_heads=2, norm_groups=4),
}


def build(denoiser, conditioning=BY_CLASS, *, classes=5, channels=4, seed=0):
    return build_model(
        conditioning, denoiser, num_classes=classes, latent_channels=channels, seed=seed
    )


def trained(denoiser, *args, **settings):
    """Weights that differ from all initial ones."""
    model = build(denoiser, *args, **settings, seed=1)
    for place, weight in enumerate(model.parameters()):
        weight.data += 0.1 + place / 1000
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def moved(denoiser, new, rules, **settings):
    model = build(new, **settings)
    ends = TransferEnds(old=denoiser, new=new)
    given = trained(denoiser)
    weights, report = merge(given, model, ends, rules)
    model.load_state_dict(weights)
    assert [one.name for one in report.moved] == list(dict.fromkeys([*weights, *given]))
    return given, weights, report


ENDS = TransferEnds(old=SMALL["dit"], new=SMALL["dit"])


def moved_to(denoiser, conditioning):
    given = trained(denoiser)
    weights, report = merge(given, build(denoiser, conditioning), ENDS, ("control",))
    return given, weights, report


@pytest.mark.parametrize("kind", SMALL)
def test_to_the_same_model_everything_is_copied(kind):
    given, weights, report = moved(SMALL[kind], SMALL[kind], ())
    assert report.counts() == {"copied": len(given)}
    assert all(torch.equal(weights[name], given[name]) for name in given)


def test_rotary_positions_have_no_tensor_to_resample():
    old = replace(SMALL["dit"], rotary=True)
    given, _, report = moved(old, replace(old, base_grid=2), ("positions",))
    assert report.counts() == {"copied": len(given)} and report.unused == ("positions",)


@pytest.mark.parametrize("kind", SMALL)
def test_class_to_text_keeps_all_but_what_reads_semantics(kind):
    new = SMALL[kind]
    conditioning = BY_TEXT
    if kind == "unet":  # it projects tokens by itself
        new = replace(new, token_width=24)
        conditioning = replace(BY_TEXT, semantic=replace(TEXT, projection="none"))
    given, weights, report = moved(SMALL[kind], new, ("semantics",), conditioning=conditioning)
    changed = {one.name for one in report.moved if one.action != "copied"}
    assert all(one.rule == "semantics" for one in report.moved if one.action != "copied")
    assert "conditioner.label_tokens.weight" in changed
    own = build(new, conditioning).state_dict()
    for name in set(weights) & set(given):
        same = given[name] if name not in changed else own[name]
        assert torch.equal(weights[name], same), name
    with pytest.raises(ValueError, match=r"init\.transfer \(no rule\)"):
        moved(SMALL[kind], new, (), conditioning=conditioning)


@pytest.mark.parametrize("kind", SMALL)
def test_a_new_class_table_keeps_the_null_class(kind):
    for classes in (5, 9):
        given, weights, report = moved(SMALL[kind], SMALL[kind], ("classes",), classes=classes)
        table = "conditioner.label_tokens.weight"
        own = build(SMALL[kind], classes=classes).state_dict()[table]
        assert weights[table].shape[0] == classes + 1
        assert torch.equal(weights[table][-1], given[table][-1])
        assert torch.equal(weights[table][:-1], own[:-1])
        assert report.counts() == {"initialised": 1, "copied": len(given) - 1}


@pytest.mark.parametrize("kind", SMALL)
def test_other_latents_start_first_and_last_layer_anew(kind):
    _, _, report = moved(SMALL[kind], SMALL[kind], ("patches",), channels=8)
    changed = {one.name for one in report.moved if one.action != "copied"}
    assert changed and all("patches" in n or "conv_" in n or "output" in n for n in changed)
    assert len(changed) <= 4


def test_other_fields_of_control():
    fewer = replace(
        BY_CLASS, control=ControlConfig(high=(), low=("original_size", "jpeg_quality"))
    )
    _, _, report = moved(SMALL["dit"], SMALL["dit"], ("control",), conditioning=fewer)
    actions = {one.name.split(".linear")[0]: one.action for one in report.moved if one.rule}
    assert actions["conditioner.high.fields.crop_corner"] == "dropped"
    assert actions["conditioner.low.fields.jpeg_quality"] == "initialised"


def test_other_frequencies_start_a_field_anew_as_a_whole():
    """Random first layers must not be combined with trained last ones."""
    finer = replace(BY_CLASS, control=ControlConfig(num_frequencies=8))
    _, weights, report = moved(SMALL["dit"], SMALL["dit"], ("control",), conditioning=finer)
    fields = [one for one in report.moved if one.name.startswith("conditioner.high.fields.flip.")]
    assert {one.action for one in fields} == {"initialised"} and len(fields) == 5
    own = dict(build(SMALL["dit"], finer).named_parameters())
    assert all(torch.equal(weights[one.name], own[one.name]) for one in fields)


def test_a_field_in_the_other_group_keeps_its_embedder():
    other = ControlConfig(high=("crop_corner", "crop_size"), low=("original_size", "flip"))
    conditioning = replace(BY_CLASS, control=other)
    given, weights, report = moved_to(SMALL["dit"], conditioning)
    assert report.counts() == {"copied": len(given)} and report.unused == ()
    name = "fields.flip.linear_in.weight"
    assert torch.equal(weights[f"conditioner.low.{name}"], given[f"conditioner.high.{name}"])
    (record,) = [one for one in report.moved if one.name == f"conditioner.low.{name}"]
    assert record.detail == f"from conditioner.high.{name}" and record.rule == "control"
    with pytest.raises(ValueError, match=r"init\.transfer control"):
        merge(given, build(SMALL["dit"], conditioning), ENDS, ())


def test_learned_positions_and_biases_of_mdtv2_are_resampled():
    new = replace(SMALL["mdtv2"], grid=(8, 8))
    given, weights, report = moved(SMALL["mdtv2"], new, ("positions",))
    resampled = [one.name for one in report.moved if one.action == "resampled"]
    # two tables of positions, and a bias in each of the blocks and in the interpolater
    assert len(resampled) == 2 + 4 + 1
    assert report.counts()["copied"] == len(given) - 7
    name = "denoiser.positions.weight"
    wanted = resample_positions(given[name], (4, 4), (8, 8))
    assert torch.equal(weights[name], wanted)


def test_resampled_positions_keep_a_linear_field():
    """Bicubic resampling preserves a plane away from the border."""
    rows = torch.arange(8.0).repeat_interleave(8)
    found = resample_positions(rows[:, None], (8, 8), (16, 16))[:, 0].reshape(16, 16)
    wanted = (torch.arange(16.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(found[4:-4, 3], wanted[4:-4])


def test_biases_keep_no_offset_and_the_class_tokens_rows():
    table = torch.randn(7 * 7 + 3, 2, generator=torch.Generator().manual_seed(0))
    found = resample_biases(table, (4, 4), (8, 8))
    assert found.shape == (15 * 15 + 3, 2)
    assert torch.equal(found[-3:], table[-3:])
    torch.testing.assert_close(found[15 * 7 + 7], table[7 * 3 + 3])
    assert torch.equal(resample_biases(table, (4, 4), (4, 4)), table)


def test_a_bias_keeps_its_value_at_every_share_of_the_image():
    """2 d new patches are d old ones, so every second new offset equals an old one."""
    table = torch.randn(7 * 7 + 3, 2, generator=torch.Generator().manual_seed(0))
    old = table[:-3].reshape(7, 7, 2)
    new = resample_biases(table, (4, 4), (8, 8))[:-3].reshape(15, 15, 2)
    torch.testing.assert_close(new[1:14:2, 1:14:2], old, rtol=1e-5, atol=1e-5)


def test_a_larger_computed_table_is_computed():
    old, new = (replace(SMALL["mmdit"], table_side=side) for side in (4, 8))
    _, weights, report = moved(old, new, ("positions",))
    (one,) = [one for one in report.moved if one.action != "copied"]
    assert (one.name, one.action) == ("denoiser.table.weight", "initialised")
    assert torch.equal(weights[one.name], sincos_2d(8, 8, 16))


def test_a_grid_laid_over_the_base_has_its_positions_between_those_it_knows():
    base = grid_positions((4, 4), 16, torch.device("cpu"), base_grid=4)
    assert torch.equal(base, sincos_2d(4, 4, 16))
    fine = grid_positions((8, 8), 16, torch.device("cpu"), base_grid=4).reshape(8, 8, 16)
    torch.testing.assert_close(fine[::2, ::2].reshape(16, 16), base)
    fresh = sincos_2d(8, 8, 16, row_step=0.5, column_step=0.5)
    assert torch.equal(fine.flatten(0, 1), fresh)


def test_what_no_rule_names_is_refused_by_name_with_the_rule_that_would_allow_it():
    wider = replace(SMALL["dit"], mlp_ratio=2.0)
    with pytest.raises(ValueError) as refused:
        moved(SMALL["dit"], wider, ("classes",))
    text = str(refused.value)
    assert "denoiser.blocks.0.mlp.linear_in.weight: [64, 16] trained, [32, 16] here\n" in text
    assert "classes" in text and "semantics: class to text" in text
    with pytest.raises(ValueError, match=r"positions\.weight: .*\(init\.transfer positions\)"):
        moved(SMALL["mdtv2"], replace(SMALL["mdtv2"], grid=(8, 8)), ())


def test_another_encoder_of_the_same_width_starts_its_projection_anew():
    given = trained(SMALL["dit"], BY_TEXT)
    model = build(SMALL["dit"], BY_TEXT)
    own = {name: value.detach().clone() for name, value in model.named_parameters()}
    ends = TransferEnds(old=SMALL["dit"], new=SMALL["dit"])
    weights, report = merge(given, model, ends, ("semantics",))
    anew = {one.name for one in report.moved if one.action == "initialised"}
    assert anew == {name for name in own if name.startswith("conditioner.text_tokens.")}
    assert all(torch.equal(weights[name], own[name]) for name in anew)


def test_a_rule_that_touches_nothing_is_named():
    _, _, report = moved(SMALL["dit"], SMALL["dit"], ("positions", "patches"))
    assert report.unused == ("positions", "patches")
    assert report.lines()[0].endswith(f"{len(report.moved)} copied")


def test_positions_of_another_grid_with_as_many_patches_are_not_taken_as_they_are():
    tall = replace(SMALL["mdtv2"], grid=(2, 8))
    with pytest.raises(ValueError, match=r"positions\.weight: .*\(init\.transfer positions\)"):
        moved(SMALL["mdtv2"], tall, ())
    given, weights, report = moved(SMALL["mdtv2"], tall, ("positions",))
    name = "denoiser.positions.weight"
    assert given[name].shape == weights[name].shape
    assert torch.equal(weights[name], resample_positions(given[name], (4, 4), (2, 8)))
    assert report.counts()["resampled"] >= 2


def test_the_order_of_rules_decides_nothing():
    given = trained(SMALL["dit"])
    ends = TransferEnds(old=SMALL["dit"], new=SMALL["dit"])
    first, second = (
        merge(given, build(SMALL["dit"]), ends, rules)[0]
        for rules in (("classes", "semantics"), ("semantics", "classes"))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_mean_velocities_start_from_velocities_with_a_new_embedding():
    interval = replace(BY_CLASS, interval=True)
    given, weights, report = moved(
        SMALL["dit"], SMALL["dit"], ("interval",), conditioning=interval
    )
    assert report.counts() == {"copied": len(given), "initialised": 4}
    own = dict(build(SMALL["dit"], interval).named_parameters())
    new = [name for name in weights if name not in given]
    assert all(name.startswith("conditioner.interval.linear_") for name in new)
    assert all(
        torch.equal(weights[name], 0 * own[name] if ".linear_out." in name else own[name])
        for name in new
    )
    with pytest.raises(ValueError, match=r"init\.transfer interval"):
        merge(given, build(SMALL["dit"], interval), ENDS, ())


@pytest.mark.parametrize("learned", [True, False])
def test_mean_velocities_and_velocities_are_equal_at_the_end_of_the_interval(learned):
    """u(r = t) is v, before and after the transfer in either direction."""
    ends = BY_CLASS, replace(BY_CLASS, interval=True)
    old, new = ends if learned else reversed(ends)
    source, target = (build(SMALL["dit"], conditioning) for conditioning in (old, new))
    source.load_state_dict(trained(SMALL["dit"], old))
    given = {name: value.detach() for name, value in source.named_parameters()}
    weights, report = merge(given, target, ENDS, ("interval",))
    target.load_state_dict(weights)
    batch, t = next(batches(batch_size=2)), torch.tensor([300.0, 1000.0])
    velocities = [
        model(batch.latents, t, model.prepare(batch.conditions)).mean for model in (source, target)
    ]
    torch.testing.assert_close(*velocities, rtol=1e-5, atol=1e-5)
    record = next(one for one in report.moved if one.name == "conditioner.time.linear_out.bias")
    assert record.rule == ("" if learned else "interval")
    assert report.unused == ()
