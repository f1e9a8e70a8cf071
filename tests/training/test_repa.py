# SPDX-License-Identifier: Apache-2.0
"""REPA: the loss, the aligned tokens, and trainers with a projector."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from one_batch import SMALL
from processes import run_ranks
from small_models import KINDS, model_of
from small_trainer import CONFIG, REPA_FEATURES, batches, make_trainer, rank_batches
from torch.nn.functional import conv2d

from pippin import rng
from pippin.config import ConfigError, protocol
from pippin.denoisers.ddt.config import ddt
from pippin.denoisers.jit.config import jit
from pippin.distributed.sharded_tensors import full_tensor
from pippin.distributed.world import World
from pippin.nn.projector import TokenProjector
from pippin.objective.alignment import normalise_over_tokens, repa_loss
from pippin.training.repa.config import NO_REPA, RepaConfig
from pippin.types import Masking

REPA = RepaConfig(encoder="efflite0", block=2, hidden_width=8)
ALIGNED = KINDS | {"jit": jit("tiny", context=True, patch_size=2), "ddt": ddt("tiny")}


def with_features(stream):
    """Batches with features of a 4 x 4 grid, which depend on the step only."""
    for step, batch in enumerate(stream):
        shape = (len(batch.index), REPA_FEATURES, 4, 4)
        yield replace(batch, features=rng.normal(shape, "init", step).half())


def test_the_loss_is_the_negative_cosine_similarity():
    features = torch.tensor([[1.0, 0], [0, 2], [3, 0], [0, -1]]).T.reshape(1, 2, 2, 2)
    projected = torch.tensor([[[5.0, 0], [0, -1], [0, 1], [0, -3]]])
    assert repa_loss(projected, features).tolist() == [-(1 - 1 + 0 + 1) / 4]
    scaled = repa_loss(
        torch.cat([projected, 7 * projected]), features.half().expand(2, -1, -1, -1)
    )
    assert scaled.dtype == torch.float32 and scaled.tolist() == [-0.25, -0.25]


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_features_are_normalised_over_the_tokens_of_each_image(share):
    features = 3 + 2 * torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    found = normalise_over_tokens(features, share)
    for image in range(2):
        for feature in range(3):
            values = features[image, feature].flatten().tolist()
            mean = sum(values) / 8
            deviation = (sum((x - mean) ** 2 for x in values) / 7) ** 0.5
            expected = [(x - share * mean) / (deviation + 1e-6) for x in values]
            own = found[image, feature].flatten()
            torch.testing.assert_close(own, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_a_convolution_reads_the_grid_of_tokens_in_raster_order():
    projector = TokenProjector("conv", 3, 8, 5)
    tokens = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    image = torch.stack([tokens[:, :3], tokens[:, 3:]], dim=1).permute(0, 3, 1, 2)  # 2 x 3
    expected = conv2d(image, projector.conv.weight, projector.conv.bias, padding=1)
    found = projector(tokens, (2, 3))
    assert found.shape == (2, 6, 5)
    for place in range(6):
        torch.testing.assert_close(found[:, place], expected[:, :, place // 3, place % 3])


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("kind", [kind for kind in ALIGNED if kind != "unet"])
def test_the_tokens_are_those_that_the_block_returns(kind, every):
    model, seen = model_of(kind, every, ALIGNED[kind]), {}
    blocks = model.denoiser.blocks

    def keep(block, inputs, output):
        seen.setdefault(list(blocks).index(block), output)  # of the first pass

    for block in blocks:
        block.register_forward_hook(keep)
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    masking = Masking(order=torch.rand(3, 16), ratio_position=0.5) if kind == "mdtv2" else None
    t = torch.tensor([1.0, 500, 999])
    conditions = replace(next(batches(batch_size=3)).conditions, label=torch.arange(3))
    prepared = model.prepare(conditions)
    assert model(x, t, prepared, masking).hidden is None
    count = ALIGNED[kind].token_blocks
    assert count == (3 if kind == "ddt" else len(blocks))  # three of ddt's four are its encoder
    for number in (1, 2, count):
        seen.clear()
        model.denoiser.aligned_block = number
        hidden = model(x, t, prepared, masking).hidden
        block_output = seen[number - 1]
        expected = block_output[0] if kind == "mmdit" else block_output[:, -16:]  # after context
        assert hidden.shape == (3, 16, model.denoiser.widths.modulation)
        assert torch.equal(hidden, expected)


def loss_and_gradients(folder, repa, world=World(), kind="dit", **settings):  # noqa: B008
    trainer = make_trainer(folder, world, SMALL[kind], awake=True, repa=repa, **settings)
    batch = next(rank_batches(with_features(batches()), world))
    draws = trainer.draw(0, (CONFIG.batch_size, 4, 8, 8)).rows(world.local_rows(8))
    loss = trainer.backward(batch, draws)
    named = trainer.model.named_parameters()
    gradients = {name: full_tensor(p.grad).clone() for name, p in named if p.grad is not None}
    return trainer, loss, gradients


def test_a_weight_of_zero_gives_the_gradients_without_repa(tmp_path):
    _, plain_loss, plain = loss_and_gradients(tmp_path, NO_REPA)
    _, _, none = loss_and_gradients(tmp_path, replace(REPA, weight=0.0))
    trainer, loss, some = loss_and_gradients(tmp_path, replace(REPA, weight=0.5))
    projector = {name for name in none if name.startswith("projector.")}
    assert len(projector) == 6 and none.keys() - projector == plain.keys()
    assert all(torch.equal(none[name], plain[name]) for name in plain)
    assert not any(none[name].any() for name in projector)
    assert all(some[name].any() for name in projector)
    later = "denoiser.blocks.1.", "denoiser.output."
    assert torch.equal(some[f"{later[1]}linear.weight"], plain[f"{later[1]}linear.weight"])
    assert not torch.equal(
        some[f"{later[0]}mlp.linear_out.weight"], plain[f"{later[0]}mlp.linear_out.weight"]
    )
    torch.testing.assert_close(loss - plain_loss, 0.5 * trainer._parts["repa"])


@pytest.mark.parametrize("settings", [{}, {"projector": "conv", "spatial_norm": 0.6}])
def test_the_logged_part_is_that_of_the_tokens_in_hand(settings, tmp_path):
    trainer, _, _ = loss_and_gradients(tmp_path, replace(REPA, **settings), micro_batch_size=3)
    whole, model = trainer._parts["repa"], trainer.model
    batch, draws = next(with_features(batches())), trainer.draw(0, (8, 4, 8, 8))
    schedule = trainer.objective.schedule
    alpha, sigma = (f(draws.t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    with torch.no_grad():
        noisy = alpha * batch.latents + sigma * draws.noise
        prepared = model.prepare(batch.conditions, draws.keep)
        tokens = model.projector(model(noisy, draws.t, prepared).hidden, (4, 4))
    targets = batch.features.float()
    if "spatial_norm" in settings:
        targets = normalise_over_tokens(targets, 0.6)
    targets = targets.permute(0, 2, 3, 1).reshape(8, 16, -1)
    cosines = (tokens * targets).sum(-1) / (tokens.norm(dim=-1) * targets.norm(dim=-1))
    torch.testing.assert_close(whole, -cosines.mean())


@pytest.mark.parametrize(("kind", "parallel"), [("mdtv2", "ddp"), ("mmdit", "fsdp")])
def test_two_processes_have_the_gradients_of_one(kind, parallel, tmp_path):
    settings = {"kind": kind, "parallel": parallel}

    def work(world, folder):
        trainer, _, gradients = loss_and_gradients(folder / "run", REPA, world, **settings)
        record = trainer.step(next(rank_batches(with_features(batches()), world)))
        logged = torch.tensor([record.loss, record.parts["repa"]])
        averages = torch.tensor(["projector" in name for name in trainer.ema.weights])
        return gradients | {"logged": logged, "averages": averages}

    alone = work(World(), tmp_path / "one")
    assert not alone.pop("averages").any()
    for rank in run_ranks(2, work, tmp_path / "two"):
        assert not rank.pop("averages").any() and rank.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(rank[name], value, rtol=1e-3, atol=1e-6, msg=name)


def test_batches_without_features_are_refused(tmp_path):
    trainer = make_trainer(tmp_path, repa=REPA)
    with pytest.raises(ValueError, match="batches with features: got"):
        trainer.step(next(batches()))
    batch = next(with_features(batches()))
    with pytest.raises(ValueError, match="16 tokens, and the features a grid of 2 x 4"):
        trainer.step(replace(batch, features=batch.features[:, :, :2]))


def test_a_killed_trainer_resumes_to_the_same_bits(tmp_path):
    settings = {"repa": REPA, "images": 48, "checkpoint_every": 24, "muon_learning_rate": 1e-2}
    whole, resumed = (make_trainer(tmp_path / name, **settings) for name in ("a", "b"))
    whole.train(with_features(batches()))
    resumed.restore(tmp_path / "a/checkpoints/24")
    resumed.train(islice(with_features(batches()), 3, None))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    initial = make_trainer(tmp_path / "c", **settings).model.projector.state_dict()
    assert all((whole.model.projector.state_dict()[n] != x).any() for n, x in initial.items())
    assert whole.ema.weights.keys() == resumed.ema.weights.keys()
    assert not any("projector" in name for name in whole.ema.weights)


def test_settings_without_an_effect_are_refused():
    with pytest.raises(ConfigError, match=r"train\.repa\.block has no effect while"):
        RepaConfig(block=4)
    with pytest.raises(
        ConfigError, match=r"source names the model of train\.repa\.encoder dinov2"
    ):
        RepaConfig(encoder="dinov2")
    with pytest.raises(ConfigError, match="got encoder efflite0, source x"):
        RepaConfig(encoder="efflite0", source="x")
    assert not [name for name in protocol(CONFIG) if name.startswith("repa")]
    assert protocol(replace(CONFIG, repa=REPA))["repa.block"] == 2
