# SPDX-License-Identifier: Apache-2.0
"""Bytes kept for the backward pass, against those of models that compute on the CPU."""

import pytest
import torch
from torch.nn import functional

from pippin.conditioning.config import ConditioningConfig, ControlConfig
from pippin.denoisers.ddt.config import DDTConfig
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.jit.config import JiTConfig
from pippin.denoisers.mdtv2.config import mdtv2
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.denoisers.unet.config import unet
from pippin.evaluation.metrics.cost import meta_model, trial_outputs
from pippin.model import build_model
from pippin.planning.activations import activation_bytes, activations
from pippin.system.device import autocast
from pippin.training.blocks import checkpoint_blocks

SHAPE = (4, 64, 64)  # 1024 tokens: at fewer, bf16 on a CPU takes attention apart
FEW = (4, 32, 32)  # enough for a UNet, whose convolutions in bf16 take seconds on a CPU
CPU = torch.device("cpu")


def conditioning(rule):
    return ConditioningConfig(rules={"label": rule}, control=ControlConfig(high=(), low=()))


def small(kind, **settings):
    return kind(depth=3, width=64, num_heads=2, **settings)


def really_kept(rule, config, precision, batch, every=0, shape=SHAPE):
    """Bytes that autograd holds after a forward pass on the CPU, weights left out."""
    model = build_model(conditioning(rule), config, num_classes=1, latent_channels=4, seed=0)
    checkpoint_blocks(model.denoiser.blocks, every)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), autocast(CPU, precision):
        outputs = trial_outputs(model, shape, training=True, batch=batch)
    assert outputs[0].requires_grad
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)


CASES = {
    "dit": ("modulation", small(DiTConfig)),
    "dit of tokens": ("attention", small(DiTConfig, cross_attention=True)),
    "dit with rotary positions": (
        "modulation",
        small(DiTConfig, norm="rms", mlp="swiglu", rotary=True, qk_norm=True),
    ),
    "mmdit": ("attention", small(MMDiTConfig)),
    "jit": ("attention", small(JiTConfig, patch_size=2, context_start=1)),
    "ddt": ("attention", small(DDTConfig, encoder_depth=2, cross_attention=True)),
    "pixart": ("attention", small(PixArtConfig)),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_kept_is_what_autograd_keeps(case, precision):
    rule, config = CASES[case]
    estimate = activations(conditioning(rule), config, SHAPE, precision=precision)
    found = really_kept(rule, config, precision, batch=2)
    assert estimate.fixed + 2 * estimate.per_image == pytest.approx(found, rel=0.015)


def test_kept_of_a_unet_is_what_autograd_keeps():
    rule, config = "attention", unet("tiny")
    estimate = activations(conditioning(rule), config, FEW, precision="fp32")
    assert 2 * estimate.per_image == pytest.approx(
        really_kept(rule, config, "fp32", batch=2, shape=FEW), rel=0.001
    )


def test_norms_are_in_fp32_under_autocast_as_on_cuda(monkeypatch):
    """A CPU norms maps in bf16; made to do as CUDA does, it keeps what is estimated."""
    rule, config = "attention", unet("tiny")
    estimate = activations(conditioning(rule), config, FEW, precision="bf16")
    for name in ("group_norm", "layer_norm"):
        own = getattr(functional, name)
        in_fp32 = lambda x, *rest, own=own: own(x.float(), *rest)  # noqa: E731
        monkeypatch.setattr(functional, name, in_fp32)
    monkeypatch.setattr("pippin.nn.attention.FUSED_FROM_KEYS", 0)
    found = really_kept(rule, config, "bf16", batch=2, shape=FEW)
    assert estimate.fixed + 2 * estimate.per_image == pytest.approx(found, rel=0.02)


def test_with_checkpointing_the_inputs_of_blocks_are_kept():
    rule, config = CASES["dit"]
    estimate = activations(conditioning(rule), config, SHAPE, precision="fp32", every=1)
    found = really_kept(rule, config, "fp32", batch=2, every=1)
    assert 2 * estimate.per_image == pytest.approx(found, rel=0.001)
    whole = activations(conditioning(rule), config, SHAPE, precision="fp32")
    # what was kept in a block is one block's share of all that checkpointing saves
    saved = whole.per_image - estimate.per_image
    own_input = 1024 * config.width * 4
    assert whole.largest_block == pytest.approx(saved / config.depth + own_input, rel=0.01)


def test_bf16_copies_of_weights_do_not_grow_with_the_batch():
    rule, config = CASES["dit"]
    model = meta_model(conditioning(rule), config, 1, 4)
    matrices = [p for p in model.denoiser.parameters() if p.ndim > 1]
    # what multiplies the noisy latent, which needs no gradient, is not kept
    first = config.width * config.patch_size**2 * SHAPE[0]
    copies = 2 * (sum(p.numel() for p in matrices) - first)
    assert activations(conditioning(rule), config, SHAPE, precision="bf16").fixed == copies > 0
    assert activations(conditioning(rule), config, SHAPE, precision="fp32").fixed == 0


def test_a_masked_pass_is_counted():
    def kept(**settings):
        config = mdtv2("tiny", (32, 32), **settings)
        return activations(conditioning("modulation"), config, SHAPE, precision="fp32").per_image

    assert kept() > 1.3 * kept(mask_ratio=None)


def test_activations_grow_with_depth_and_places():
    def kept(depth, side):
        config = DiTConfig(depth=depth, width=64, num_heads=2)
        return activation_bytes(
            meta_model(conditioning("modulation"), config, 10, 4), (4, side, side)
        )

    assert kept(4, 16) - kept(3, 16) == kept(3, 16) - kept(2, 16) > 0
    # no scores are kept, so four times the places are four times the memory
    assert kept(4, 32) / kept(4, 16) == pytest.approx(4, rel=0.05)
