# SPDX-License-Identifier: Apache-2.0
"""Deferred masking of tokens: model, loss, training and plan."""

from dataclasses import replace

import pytest
import torch
from one_batch import SIZED
from small_models import model_of
from small_trainer import CONFIG, REPA_FEATURES, batches, make_trainer

from pippin.conditioning.config import ConditioningConfig, ControlConfig
from pippin.config import ConfigError, fingerprint
from pippin.denoisers.dit.config import DiTConfig, dit
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import mmdit
from pippin.denoisers.unet.config import unet
from pippin.diffusion.config import AdaptiveWeight, DiffusionConfig
from pippin.evaluation.metrics.cost import denoiser_flops, meta_model
from pippin.nn.masking import gather_tokens, kept_patches, kept_tokens, num_kept
from pippin.objective.alignment import repa_loss
from pippin.objective.draws import draw_step
from pippin.objective.losses import Objective
from pippin.planning.activations import activations
from pippin.planning.devices import Cluster
from pippin.planning.plan import plan
from pippin.recipes.checks import check_recipe
from pippin.recipes.table import get_recipe
from pippin.training.masking.config import NO_MASKING, MaskingConfig
from pippin.training.repa.config import RepaConfig
from pippin.types import Masking, Prediction

TODAY = {"norm": "rms", "mlp": "swiglu", "rotary": True, "qk_norm": True}
MIXED = dit("tiny", cross_attention=True, mixer_depth=2, mixer_width=64)
MIXERS = {
    "none": dit("tiny", cross_attention=True),
    "equal": dit("tiny", cross_attention=True, mixer_depth=1, **TODAY),
    "narrow": MIXED,
    "narrow rotary": replace(MIXED, **TODAY),
}
SHAPE = (3, 4, 8, 8)
TINY = DiTConfig(**SIZED, cross_attention=True, mixer_depth=1, mixer_width=8)


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def forward(model, x, scores=None, share=None):
    """Prediction of three images at three times, with hidden tokens where a share is given."""
    conditions = replace(next(batches(batch_size=3)).conditions, label=torch.arange(3))
    masking = (
        None if scores is None else Masking(order=scores, ratio_position=0.5, hidden_share=share)
    )
    t = torch.tensor([1.0, 500, 999])
    return model(x, t, model.prepare(conditions), masking)


@pytest.mark.parametrize("name", MIXERS)
def test_keeping_all_tokens_is_the_identity(name):
    model, x = model_of("dit", 0, MIXERS[name]), torch.randn(SHAPE, generator=numbers())
    scores = torch.rand(3, 16, generator=numbers(1))
    plain = forward(model, x)
    assert plain.kept is None and plain.mean.abs().min() > 0
    for share in (None, 0.0):
        masked = forward(model, x, scores, share)
        assert masked.kept is None and torch.equal(masked.mean, plain.mean)
    gathered = forward(model, x, scores, 1e-17)  # keeps all 16, by way of the gathered tokens
    assert gathered.kept.index.tolist() == [list(range(16))] * 3
    assert torch.equal(gathered.mean, plain.mean)


@pytest.mark.parametrize(
    ("tokens", "ratio", "kept"), [(256, 0.75, 64), (16, 0.75, 4), (16, 0.3, 11), (16, 0.99, 1)]
)
def test_the_number_of_kept_tokens_is_rounded_down(tokens, ratio, kept):
    assert num_kept(tokens, ratio) == kept
    index = kept_tokens(torch.rand(2, tokens, generator=numbers()), ratio)
    assert index.shape == (2, kept) and (index.diff(dim=1) > 0).all()


def test_kept_are_the_smallest_scores_in_raster_order():
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.2, 0.3, 0.7], [0.0, 0.9, 0.5, 0.6, 0.1, 0.8]])
    kept = kept_tokens(scores, 0.5)
    assert kept.tolist() == [[1, 3, 4], [0, 2, 4]]
    patches = kept_patches(kept, (2, 3), 2).latents
    assert patches[0, 0].tolist() == [[0, 0, 1, 1, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2
    assert patches.sum().item() == 2 * 3 * 4


@pytest.mark.parametrize("name", MIXERS)
def test_kept_tokens_are_those_of_attention_that_cannot_read_the_hidden_ones(name):
    """All tokens pass all blocks, and a mask of keys hides some: positions stay in place."""
    model, x = model_of("dit", 0, MIXERS[name]), torch.randn(SHAPE, generator=numbers())
    scores, depth = torch.rand(3, 16, generator=numbers(1)), MIXERS[name].mixer_depth
    masked = forward(model, x, scores, 0.75)
    kept = torch.zeros(3, 16, dtype=torch.bool)
    for image in range(3):
        kept[image, sorted(range(16), key=scores[image].tolist().__getitem__)[:4]] = True

    def mask_keys(block, inputs, settings):
        return inputs, settings | {"key_mask": kept}

    for block in model.denoiser.blocks[depth:]:
        block.register_forward_pre_hook(mask_keys, with_kwargs=True)
    reference = forward(model, x).mean
    seen = kept.unflatten(1, (4, 4)).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None]
    assert torch.equal(masked.kept.latents, seen.float())
    torch.testing.assert_close(masked.mean, reference * seen, rtol=1e-4, atol=1e-5)
    assert not masked.mean[~seen.expand_as(x)].any()


def test_the_prediction_depends_on_the_kept_set_and_not_on_the_order_of_the_draws():
    model, x = model_of("dit", 0, MIXED), torch.randn(SHAPE, generator=numbers())
    scores = torch.rand(3, 16, generator=numbers(1))
    shuffled = scores.clone()
    for row, index in zip(shuffled, kept_tokens(scores, 0.75), strict=True):
        row[index] = row[index].flip(0)
    assert not torch.equal(shuffled, scores)
    first, second = (forward(model, x, given, 0.75) for given in (scores, shuffled))
    assert torch.equal(first.mean, second.mean)


@pytest.mark.parametrize("depth", [0, 1])
def test_hidden_patches_are_seen_by_the_mixer_alone(depth):
    model = model_of("dit", 0, dit("tiny", cross_attention=True, mixer_depth=depth))
    x, scores = torch.randn(SHAPE, generator=numbers()), torch.rand(3, 16, generator=numbers(1))
    first = forward(model, x, scores, 0.75)
    second = forward(model, torch.where(first.kept.latents > 0, x, x + 1), scores, 0.75)
    assert torch.equal(first.mean, second.mean) == (depth == 0)


@pytest.mark.parametrize("learns_variance", [False, True])
def test_the_loss_is_the_mean_over_kept_patches(learns_variance):
    config = DiffusionConfig()
    draws = draw_step(config, ConditioningConfig(), SHAPE, seed=0, step=0)
    latents, output = torch.randn(2, *SHAPE, generator=numbers())
    variance = torch.rand(SHAPE, generator=numbers(2)) if learns_variance else None
    index = kept_tokens(torch.rand(3, 16, generator=numbers(1)), 0.75)
    kept = kept_patches(index, (4, 4), 2)
    objective = Objective(config)

    def losses(mean, **settings):
        prediction = Prediction(mean=mean, variance=variance, **settings)
        return objective(lambda x_t, t: prediction, latents, draws.t, draws.noise)

    masked = losses(output, kept=kept)
    errors = (output - draws.noise).square().tolist()
    for image in range(3):
        places = [(token // 4, token % 4) for token in index[image].tolist()]
        values = [
            errors[image][channel][2 * row + down][2 * column + right]
            for channel in range(4)
            for row, column in places
            for down in range(2)
            for right in range(2)
        ]
        assert len(values) == 4 * 4 * 4
        assert masked["mse"][image].item() == pytest.approx(sum(values) / len(values), rel=1e-5)
    other = losses(torch.where(kept.latents > 0, output, 9.0), kept=kept)
    assert masked.keys() == other.keys() == ({"mse", "vlb"} if learns_variance else {"mse"})
    for name, values in masked.items():
        assert torch.equal(values, other[name])  # hidden patches do not count
    everything = kept_patches(torch.arange(16).expand(3, -1), (4, 4), 2)
    for name, values in losses(output, kept=everything).items():
        torch.testing.assert_close(values, losses(output)[name])


def test_the_adaptive_weight_counts_the_values_of_kept_patches():
    """With power 1, the loss of an image is e / (e + offset) of the squared error e over them."""
    weight = AdaptiveWeight(power=1.0, offset=0.5)
    config = DiffusionConfig(schedule="flow", prediction="flow", loss_weight=weight)
    latents, output = torch.randn(2, *SHAPE, generator=numbers())
    index = kept_tokens(torch.rand(3, 16, generator=numbers(1)), 0.75)
    prediction = Prediction(mean=output, kept=kept_patches(index, (4, 4), 2))
    noise = torch.randn(SHAPE, generator=numbers(2))
    losses = Objective(config)(lambda x, t: prediction, latents, torch.full((3,), 500.0), noise)
    squares = (output - noise + latents).square() * prediction.kept.latents
    errors = squares.sum(dim=(1, 2, 3))
    torch.testing.assert_close(losses["mse"], errors / (errors + 0.5))


def test_features_of_another_grid_are_refused(tmp_path):
    repa, masking = RepaConfig(encoder="efflite0", block=1), MaskingConfig(ratio=0.75)
    trainer = make_trainer(tmp_path, denoiser=TINY, repa=repa, masking=masking)
    features = torch.randn(8, REPA_FEATURES, 4, 4, generator=numbers())
    batch = replace(next(batches()), features=features)
    trainer.step(batch)
    with pytest.raises(ValueError, match="16 tokens, and the features a grid of 2 x 4"):
        trainer.step(replace(batch, features=features[:, :, :2]))


def test_features_of_kept_tokens_are_aligned():
    features = torch.randn(2, 3, 2, 4, generator=numbers())
    projected = torch.randn(2, 8, 3, generator=numbers(1))
    kept = kept_patches(torch.tensor([[1, 6], [0, 7]]), (2, 4), 2)
    own = repa_loss(gather_tokens(projected, kept.index), features, kept)
    for image in range(2):
        cosines = [
            torch.cosine_similarity(projected[image, n], features[image, :, n // 4, n % 4], dim=0)
            for n in kept.index[image].tolist()
        ]
        torch.testing.assert_close(own[image], -sum(cosines) / 2)


def block_macs(config, width, tokens):
    """MACs of a block for one image: attention, MLP, modulation from the backbone's width."""
    layers = tokens * width**2 * (4 + 2 * config.mlp_ratio)
    return layers + 2 * tokens**2 * width + 6 * config.width * width


def test_flops_fall_as_the_closed_form_says():
    width, mixer_width = 64, 32
    config = DiTConfig(depth=3, width=width, num_heads=4, mixer_depth=2, mixer_width=mixer_width)
    conditioning = ConditioningConfig(
        rules={"label": "modulation"}, control=ControlConfig(high=(), low=())
    )
    model = meta_model(conditioning, config, 10, 4)
    for ratio, kept in ((0.0, 64), (0.75, 16)):
        resized = (64 + kept) * width * mixer_width
        blocks = 2 * block_macs(config, mixer_width, 64) + 3 * block_macs(config, width, kept)
        rest = resized + blocks + kept * width * 16 + 2 * width * width
        # a layer's backward is two products of the size of its forward; the first has one
        expected = 2 * (2 * 64 * 16 * width + 3 * rest)
        own = denoiser_flops(model, (4, 16, 16), backward=True, mask_ratio=ratio)
        assert own == expected


def masked_recipe(**settings):
    recipe = get_recipe("openmoji/dit-disentangled")
    denoiser = replace(recipe.denoiser, depth=2, mixer_depth=1)
    return replace(recipe, denoiser=denoiser, train=replace(recipe.train, **settings))


def test_a_plan_counts_the_masked_and_the_unmasked_part_of_the_run():
    masking = MaskingConfig(ratio=0.75, unmasked_share=0.25)
    recipe = masked_recipe(masking=masking, gradient_checkpointing=0)
    planned = plan(recipe, Cluster(devices=1), images=100)
    shape = planned.latent_shape
    model = meta_model(recipe.conditioning, recipe.denoiser, 1, shape[0])
    unmasked, masked = (
        denoiser_flops(model, shape, backward=True, mask_ratio=ratio) for ratio in (0.0, 0.75)
    )
    assert masked < 0.75 * unmasked
    assert planned.training_flops == pytest.approx(0.75 * masked + 0.25 * unmasked, abs=1)
    assert planned.forward_flops == denoiser_flops(model, shape)
    assert masking.lowest_ratio == 0 and replace(masking, unmasked_share=0.0).lowest_ratio == 0.75


def test_planned_activations_of_a_masked_step():
    """Blocks after the mixer save for a quarter of the tokens, and so a quarter."""
    conditioning = ConditioningConfig(rules={"label": "modulation"})

    def per_image(depth, ratio):
        config = DiTConfig(depth=depth, width=32, num_heads=4, mixer_depth=1)
        own = activations(conditioning, config, (4, 16, 16), precision="fp32", mask_ratio=ratio)
        return own.per_image

    unmasked, masked = (per_image(4, r) - per_image(3, r) for r in (0.0, 0.75))
    assert 0.25 <= masked / unmasked < 0.27  # the modulation is saved for each image


def test_the_schedule_masks_the_first_share_of_the_run():
    masking = MaskingConfig(ratio=0.75, unmasked_share=0.25)
    ratios = [masking.ratio_at(step, 20) for step in range(20)]
    assert ratios == [0.75] * 15 + [0.0] * 5
    assert NO_MASKING.ratio_at(0, 20) == 0.0
    assert replace(masking, unmasked_share=0.0).ratio_at(19, 20) == 0.75


def test_draws_are_of_the_global_batch_and_leave_other_draws_alone(tmp_path):
    masking = MaskingConfig(ratio=0.75, unmasked_share=0.25)
    masked = make_trainer(tmp_path, denoiser=TINY, masking=masking)
    plain = make_trainer(tmp_path, denoiser=TINY)
    shape = (8, 4, 8, 8)
    first, last = masked.draw(3, shape), masked.draw(15, shape)
    assert first.masking.hidden_share == 0.75 and first.masking.order.shape == (8, 16)
    assert last.masking is None and plain.draw(3, shape).masking is None
    assert torch.equal(first.noise, plain.draw(3, shape).noise)
    assert not torch.equal(first.masking.order, masked.draw(4, shape).masking.order)
    rows = [first.rows(slice(start, start + 4)).masking for start in (0, 4)]
    assert all(part.hidden_share == 0.75 for part in rows)
    assert torch.equal(torch.cat([part.order for part in rows]), first.masking.order)


@pytest.mark.parametrize("settings", [{"micro_batch_size": 3}, {"gradient_checkpointing": 1}])
def test_gradients_do_not_depend_on_how_a_batch_is_computed(tmp_path, settings):
    found = []
    for own in ({}, settings):
        masking = MaskingConfig(ratio=0.75)
        trainer = make_trainer(tmp_path, denoiser=TINY, awake=True, masking=masking, **own)
        loss = trainer.backward(next(batches()), trainer.draw(0, (8, 4, 8, 8)))
        found.append([loss, *(p.grad for p in trainer.model.parameters())])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert all(gradient.any() for gradient in found[0][1:])


def test_a_run_resumed_before_its_unmasked_part_ends_at_the_same_bits(tmp_path):
    settings = {"denoiser": TINY, "masking": MaskingConfig(ratio=0.75, unmasked_share=0.25)}
    whole = make_trainer(tmp_path / "whole", **settings)
    whole.train(batches(), [])
    resumed = make_trainer(tmp_path / "resumed", **settings)
    resumed.restore(tmp_path / "whole/checkpoints/120")  # after the last masked step
    resumed.train(batches(resumed.step_count), [])
    assert whole.images_seen == resumed.images_seen == CONFIG.images
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_mixer_adds_its_blocks_alone():
    plain, mixed = model_of("dit", 0, MIXERS["none"]), model_of("dit", 0, MIXED)
    names = {name for name, _ in mixed.named_parameters()}
    assert len(mixed.denoiser.blocks) == 2 + len(plain.denoiser.blocks)
    assert {name for name, _ in plain.named_parameters()} <= names
    assert {name for name in names if ".mixer_" in name} == {
        f"denoiser.mixer_{end}.linear.{part}"
        for end in ("in", "out")
        for part in ("weight", "bias")
    }
    assert mixed.denoiser.blocks[0].attention.project_out.weight.shape == (64, 64)


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (unet("tiny"), "denoiser unet needs all tokens; got 0.75"),
        (mmdit("tiny"), "denoiser mmdit needs all tokens"),
        (mdtv2("tiny", (4, 4)), r"mdtv2 hides tokens by its own denoiser\.mask_ratio"),
    ],
)
def test_other_denoisers_are_refused(denoiser, message):
    recipe = masked_recipe(masking=MaskingConfig(ratio=0.75))
    check_recipe(recipe)
    with pytest.raises(ConfigError, match=message):
        check_recipe(replace(recipe, denoiser=denoiser))


def test_a_denoiser_without_masking_is_refused_by_the_trainer(tmp_path):
    trainer = make_trainer(tmp_path, masking=MaskingConfig(ratio=0.5))
    with pytest.raises(
        ValueError, match=r"denoiser MMDiT needs all tokens; got 0\.5: set --train"
    ):
        trainer.draw(0, (8, 4, 8, 8))


def test_settings_without_effect_are_refused():
    with pytest.raises(ConfigError, match=r"masking\.ratio must be 0 or more and below 1; got 1"):
        MaskingConfig(ratio=1.0)
    with pytest.raises(ConfigError, match=r"unmasked_share has no effect .* got 0\.1"):
        MaskingConfig(unmasked_share=0.1)
    with pytest.raises(ConfigError, match=r"mixer_width 64 has no effect"):
        dit("tiny", mixer_width=64)
    with pytest.raises(ConfigError, match=r"multiple of the width of a head.* = 32; got 48"):
        dit("tiny", mixer_depth=1, mixer_width=48)
    conv = RepaConfig(encoder="efflite0", block=1, projector="conv")
    with pytest.raises(ConfigError, match=r"projector conv reads the whole grid"):
        check_recipe(masked_recipe(masking=MaskingConfig(ratio=0.5), repa=conv))
    recipe = get_recipe("openmoji/dit-meanflow")
    masked = replace(recipe, train=replace(recipe.train, masking=MaskingConfig(ratio=0.5)))
    with pytest.raises(ConfigError, match=r"share 0\.25 and train\.masking\.ratio 0\.5: set --tr"):
        check_recipe(masked)


def test_it_is_part_of_the_fingerprint_where_it_is_on():
    recipe = get_recipe("openmoji/dit-disentangled")
    off = replace(recipe, train=replace(recipe.train, masking=MaskingConfig()))
    assert fingerprint(off) == fingerprint(recipe)
    on = masked_recipe(masking=MaskingConfig(ratio=0.5))
    assert fingerprint(on) != fingerprint(masked_recipe()) != fingerprint(recipe)
    assert type(on).from_dict(on.to_dict()) == on
    record = recipe.to_dict()  # of a version without these settings
    del record["train"]["masking"], record["denoiser"]["mixer_depth"]
    del record["denoiser"]["mixer_width"]
    assert type(recipe).from_dict(record) == recipe
