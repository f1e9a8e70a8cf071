# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing changes memory, not numbers."""

import copy

import pytest
import torch
import torch._dynamo

from pippin.conditioning.config import ConditioningConfig
from pippin.control import Control, Corner, Size
from pippin.denoisers.config import dit, mdtv2, mmdit, pixart, unet
from pippin.model import build_model
from pippin.run.activations import activation_bytes
from pippin.training.compile import compile_blocks
from pippin.training.recompute import recompute_blocks
from pippin.types import Conditions, Masking, stack_controls

KINDS = {
    "dit": dit("tiny", cross_attention=True),
    "mdtv2": mdtv2("tiny", (4, 4)),
    "pixart": pixart("tiny"),
    "mmdit": mmdit("tiny"),
    "unet": unet("tiny"),
}


def model_of(kind, every=0):
    rule = "modulation" if kind == "mdtv2" else "attention"
    model = build_model(
        ConditioningConfig(rules={"label": rule}),
        KINDS[kind],
        num_classes=3,
        latent_channels=4,
        seed=0,
    )
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
    recompute_blocks(model.denoiser.blocks, every)
    return model


def test_samples_keep_nothing_to_recompute(monkeypatch):
    def never(*_, **__):
        raise AssertionError("checkpointed without a gradient to compute")

    monkeypatch.setattr("pippin.training.recompute.checkpoint", never)
    model = model_of("dit", 1)
    with pytest.raises(AssertionError, match="without a gradient"):
        gradients(model, "dit")
    with torch.no_grad():
        block = model.denoiser.blocks[0]
        x = torch.randn(1, 4, 128)
        assert block(x, torch.zeros(1, 128), torch.zeros(1, 2, 128), None).shape == x.shape


def gradients(model, kind):
    """Output and gradients of one step, and how often each block ran."""
    draws = torch.Generator().manual_seed(2)
    whole = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
    )
    conditions = Conditions(label=torch.arange(3), control=stack_controls([whole] * 3))
    masking = Masking(order=torch.rand(3, 16, generator=draws), ratio=0.5)
    runs = [0] * len(model.denoiser.blocks)

    def count(place):
        def hook(*_):
            runs[place] += 1

        return hook

    hooks = [
        next(block.children()).register_forward_pre_hook(count(place))
        for place, block in enumerate(model.denoiser.blocks)
    ]
    x = torch.randn(3, 4, 8, 8, generator=draws)
    given = masking if kind == "mdtv2" else None
    output = model(x, torch.tensor([1.0, 500, 999]), model.prepare(conditions), given)
    parts = [output.mean] if output.aux is None else [output.mean, output.aux.mean]
    torch.stack([part.square().mean() for part in parts]).sum().backward()
    for hook in hooks:
        hook.remove()
    return output.mean.detach(), [p.grad for p in model.parameters()], runs


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_stay_and_blocks_run_again(kind):
    plain, plain_gradients, once = gradients(model_of(kind), kind)
    for every in (1, 2):
        output, found, runs = gradients(model_of(kind, every), kind)
        assert torch.equal(output, plain)
        for a, b in zip(found, plain_gradients, strict=True):
            assert (a is None) == (b is None)
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)  # sums in another order
        again = [2 if place % every == 0 else 1 for place in range(len(runs))]
        assert runs == [count * factor for count, factor in zip(once, again, strict=True)]


def test_a_copy_runs_its_own_weights():
    model = model_of("dit", 1)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    output, _, runs = gradients(twin, "dit")
    assert torch.equal(output, torch.zeros_like(output)) and set(runs) == {2}
    assert list(model.state_dict()) == list(model_of("dit").state_dict())


def test_keeps_less():
    kept = {}
    for every in (0, 2, 1):
        with torch.device("meta"):
            model = build_model(
                ConditioningConfig(), mmdit("tiny"), num_classes=3, latent_channels=4, seed=None
            )
        recompute_blocks(model.denoiser.blocks, every)
        kept[every] = activation_bytes(model, (4, 16, 16))
    assert kept[1] < 0.3 * kept[0] < kept[2] < 0.8 * kept[0]


def test_a_unet_of_many_kinds_of_blocks_is_compiled_whole(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, **options: asked.append(options))
    blocks = model_of("unet").denoiser.blocks
    with torch._dynamo.config.patch(recompile_limit=8):
        compile_blocks(KINDS["unet"], blocks)
        assert torch._dynamo.config.recompile_limit >= len(blocks) > 8
    assert asked == [{"dynamic": False}] * len(blocks)  # compiling them for real takes minutes


def test_compiled_blocks_give_the_same():
    kind = "dit"
    plain, expected, _ = gradients(model_of(kind), kind)
    model = model_of(kind, 1)
    compile_blocks(KINDS[kind], model.denoiser.blocks)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        output, found, _ = gradients(model, kind)
    torch.testing.assert_close(output, plain, rtol=1e-4, atol=1e-5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
