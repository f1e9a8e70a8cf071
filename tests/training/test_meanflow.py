# SPDX-License-Identifier: Apache-2.0
"""Training of mean velocities: the loss, its gradients, and trainers that are off or resumed."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from processes import run_ranks
from small_trainer import CONFIG, batches, make_trainer, rank_batches
from torch.autograd.forward_ad import make_dual, unpack_dual
from torch.utils.flop_counter import FlopCounterMode

from pippin import rng
from pippin.conditioning.config import ConditioningConfig
from pippin.config import ConfigError, protocol
from pippin.denoisers.dit.config import DiTConfig, dit
from pippin.denoisers.mmdit.config import mmdit
from pippin.diffusion.config import (
    AdaptiveWeight,
    DiffusionConfig,
    LogitNormalTime,
    MeanFlowConfig,
)
from pippin.diffusion.forward_derivative import forward_derivatives
from pippin.diffusion.meanflow import mean_velocity_target
from pippin.diffusion.schedules import make_schedule
from pippin.diffusion.times import draw_times
from pippin.distributed.sharded_tensors import full_tensor
from pippin.distributed.world import World
from pippin.model import build_model
from pippin.objective.draws import draw_step
from pippin.objective.setting_checks import check_meanflow
from pippin.training.blocks import checkpoint_blocks
from pippin.types import Keep

DENOISER = DiTConfig(depth=2, width=16, num_heads=2, time_input="data")
CONDITIONING = ConditioningConfig(rules={"label": "modulation"}, interval=True)
FLOW = DiffusionConfig(schedule="flow", prediction="flow", time_density=LogitNormalTime(mean=-0.4))
MEANFLOW = replace(FLOW, meanflow=MeanFlowConfig(share=0.25))
GUIDED = replace(
    MEANFLOW,
    meanflow=MeanFlowConfig(share=0.25, omega=0.8, kappa=0.5),
    loss_weight=AdaptiveWeight(),
)
SHAPE = (8, 4, 8, 8)


def trainer_of(folder, diffusion, world=World(), **settings):  # noqa: B008
    known = {"conditioning": CONDITIONING, "awake": True} | settings
    return make_trainer(folder, world, DENOISER, diffusion=diffusion, **known)


def loss_and_gradients(folder, diffusion, world=World(), change=None, **settings):  # noqa: B008
    trainer = trainer_of(folder, diffusion, world, **settings)
    draws = trainer.draw(0, SHAPE).rows(world.local_rows(8))
    draws = change(draws) if change else draws
    loss = trainer.backward(next(rank_batches(batches(), world)), draws)
    named = trainer.model.named_parameters()
    return trainer, loss, {name: full_tensor(p.grad).clone() for name, p in named}


def same_bits(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_off_leaves_draws_weights_and_protocol_as_they_are():
    density, times = FLOW.time_density, rng.uniform((8,), "time", 3, 5)
    off, on = (draw_step(x, CONDITIONING, SHAPE, seed=3, step=5) for x in (FLOW, MEANFLOW))
    assert off.interval is None
    assert torch.equal(off.t, draw_times(density, times, make_schedule("flow")))
    assert torch.equal(off.noise, on.noise) and torch.equal(off.keep.semantic, on.keep.semantic)
    assert (on.t >= off.t).all() and (on.interval > 0).sum() == 2
    for config in (FLOW, replace(CONDITIONING, interval=False)):
        assert not [name for name in protocol(config) if "meanflow" in name or "interval" in name]
    plain, own = (
        build_model(x, DENOISER, num_classes=3, latent_channels=4, seed=0).state_dict()
        for x in (replace(CONDITIONING, interval=False), CONDITIONING)
    )
    assert plain.keys() == {name for name in own if not name.startswith("conditioner.interval.")}
    assert all(torch.equal(value, own[name]) for name, value in plain.items())


def test_without_an_interval_it_is_flow_matching_bit_for_bit(tmp_path):
    def none(draws):
        return replace(draws, interval=torch.zeros(8))

    for diffusion in (MEANFLOW, replace(MEANFLOW, loss_weight=AdaptiveWeight())):
        trainer, loss, gradients = loss_and_gradients(tmp_path, diffusion, change=none)
        flow, draws = replace(diffusion, meanflow=MeanFlowConfig()), trainer.draw(0, SHAPE)
        _, expected, flow_gradients = loss_and_gradients(
            tmp_path, flow, change=lambda _, draws=draws: replace(draws, interval=None)
        )
        assert torch.equal(loss, expected)
        same_bits(gradients, flow_gradients)


def network_of(model, batch, keep):
    """The network's mean velocity, under given kept conditions."""
    prepared = model.prepare(batch.conditions, keep)
    return lambda z, t, interval: model(z, t, prepared, None, interval).mean


@pytest.mark.parametrize("diffusion", [MEANFLOW, GUIDED], ids=["plain", "guided"])
def test_the_loss_is_that_of_the_identity(diffusion, tmp_path):
    trainer, loss, gradients = loss_and_gradients(tmp_path, diffusion)
    model, batch, draws = trainer.model, next(batches()), trainer.draw(0, SHAPE)
    t, interval, keep = draws.t, draws.interval, draws.keep
    assert 0 < keep.semantic.sum() < 8
    z = (1 - t / 1000)[:, None, None, None] * batch.latents
    z = z + (t / 1000)[:, None, None, None] * draws.noise
    velocity, dropped = draws.noise - batch.latents, torch.zeros(8, dtype=torch.bool)
    null = Keep(semantic=dropped, control=dropped)
    config = diffusion.meanflow
    with torch.no_grad():
        u, v0 = (network_of(model, batch, k)(z, t, 0 * t) for k in (keep, null))
        guided = config.omega * velocity + config.kappa * u
        guided = guided + (1 - config.omega - config.kappa) * v0
        velocity = torch.where(keep.semantic[:, None, None, None], guided, velocity)
        expected = mean_velocity_target(network_of(model, batch, keep), z, t, interval, velocity)
    error = (network_of(model, batch, keep)(z, t, interval) - expected).square().mean((1, 2, 3))
    if diffusion is GUIDED:
        torch.testing.assert_close(trainer._parts["squared_error"], error.detach().mean())
        error = error / (error.detach() + 0.01 / 256)
    else:
        assert trainer._parts == {}
    torch.testing.assert_close(loss, error.mean())
    model.zero_grad()
    error.mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert all(value.any() for value in gradients.values())


def test_micro_batches_and_checkpointed_blocks_have_the_gradients_of_the_whole(tmp_path):
    _, loss, gradients = loss_and_gradients(tmp_path, GUIDED)
    _, same_loss, same = loss_and_gradients(tmp_path, GUIDED, micro_batch_size=3)
    torch.testing.assert_close(loss, same_loss)
    trainer = trainer_of(tmp_path, GUIDED)
    checkpoint_blocks(trainer.model.denoiser.blocks, 1)
    trainer.backward(next(batches()), trainer.draw(0, SHAPE))
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(same[name], gradients[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(parameter.grad, gradients[name])


def test_weights_that_were_rounded_without_gradients_have_gradients(tmp_path):
    """Autocast would hand the target's bf16 weights, which have no gradient, to the loss."""
    _, loss, exact = loss_and_gradients(tmp_path, GUIDED)
    _, rounded_loss, rounded = loss_and_gradients(tmp_path, GUIDED, precision="bf16")
    torch.testing.assert_close(rounded_loss, loss, rtol=0.02, atol=0)
    for name, value in exact.items():
        error = (rounded[name] - value).norm() / value.norm()
        assert error < 0.2, name


def test_two_processes_have_the_gradients_of_one(tmp_path):
    """Sharded, in micro-batches of two rows, of which some have no interval."""
    settings = {"parallel": "fsdp", "micro_batch_size": 2}

    def work(world, folder):
        trainer, _, gradients = loss_and_gradients(folder / "run", GUIDED, world, **settings)
        record = trainer.step(next(rank_batches(batches(), world)))
        logged = torch.tensor([record.loss, record.parts["squared_error"]])
        return gradients | {"logged": logged}

    alone = work(World(), tmp_path / "one")
    for rank in run_ranks(2, work, tmp_path / "two"):
        for name, value in alone.items():
            torch.testing.assert_close(rank[name], value, rtol=1e-3, atol=1e-6, msg=name)


def test_a_killed_trainer_resumes_to_the_same_bits(tmp_path):
    settings = {"images": 48, "checkpoint_every": 24}
    whole, resumed = (trainer_of(tmp_path / name, GUIDED, **settings) for name in ("a", "b"))
    whole.train(batches())
    resumed.restore(tmp_path / "a/checkpoints/24")
    resumed.train(islice(batches(), 3, None))
    same_bits(whole.model.state_dict(), resumed.model.state_dict())
    same_bits(whole.ema.weights, resumed.ema.weights)
    assert whole.ema.weights["conditioner.interval.linear_in.weight"].any()


def test_constant_weights_are_multiplied_twice():
    """Torch's own derivative of a linear layer multiplies by a tangent of zeros as well."""
    x, tangent = (rng.normal((2, 3, 6, 6), "noise", key) for key in (0, 1))
    layers = torch.nn.Linear(6, 5), torch.nn.Conv2d(3, 4, 3, padding=1)
    for layer in layers:
        with FlopCounterMode(display=False) as once:
            expected = torch.func.jvp(layer, (x,), (tangent,))
            once_flops = once.get_total_flops()
        with torch.no_grad(), forward_derivatives(), FlopCounterMode(display=False) as counter:
            found = unpack_dual(layer(make_dual(x, tangent)))
            found = found.primal, found.tangent
        torch.testing.assert_close(found, expected)
        assert 2 * once_flops == 3 * counter.get_total_flops()


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"meanflow\.omega has no effect while .*share is 0"):
        MeanFlowConfig(omega=2.0)
    with pytest.raises(ConfigError, match=r"below 1, since the scale .* got 1"):
        MeanFlowConfig(share=0.25, kappa=1.0)
    with pytest.raises(ConfigError, match=r"lower one first; got 0\.5 0\.5"):
        MeanFlowConfig(share=0.25, kappa=0.5, guided_times=(0.5, 0.5))
    with pytest.raises(ConfigError, match="guided_times has no effect without guidance"):
        MeanFlowConfig(share=0.25, guided_times=(0.0, 0.5))
    with pytest.raises(ConfigError, match=r"needs diffusion\.schedule flow.* got gvp, v and 1"):
        replace(MEANFLOW, schedule="gvp", prediction="v")
    with pytest.raises(ConfigError, match="got flow, flow and 2"):
        replace(MEANFLOW, rescale=2.0)
    off = replace(CONDITIONING, interval=False)
    for diffusion, conditioning in ((MEANFLOW, off), (FLOW, CONDITIONING)):
        with pytest.raises(ConfigError, match=r"need each other; got 0.* set --diff.* True, or"):
            check_meanflow(diffusion, conditioning, mmdit("tiny"))
        with pytest.raises(ConfigError, match=r"interval True --denoiser\.time-input data, or"):
            check_meanflow(diffusion, conditioning, dit("tiny"))
    check_meanflow(GUIDED, CONDITIONING, dit("tiny"))
    never = replace(CONDITIONING.drop, keep=0.8, both=0.0, control=0.1)
    with pytest.raises(ConfigError, match=r"conditioning\.drop\.both is 0"):
        check_meanflow(GUIDED, replace(CONDITIONING, drop=never), dit("tiny"))
    assert protocol(MEANFLOW)["meanflow.share"] == 0.25 and CONFIG.batch_size == 8
