# SPDX-License-Identifier: Apache-2.0
"""Shared layers against closed forms and torch's own layers."""

import math

import pytest
import torch
import torch.nn.functional as F

from pippin.nn import attention
from pippin.nn.attention import FUSED_FROM_KEYS_FP32, _explicit, _fused, attend
from pippin.nn.blocks import AdaLNBlock, ModulatedOutput, SwiGLU, gelu_tanh, modulate
from pippin.nn.config import BlockLayers
from pippin.nn.embeddings import (
    DATA_TIME,
    PatchEmbedding,
    from_patches,
    time_features,
    to_patches,
)
from pippin.nn.initialise import Linear, initialise, normal
from pippin.nn.norms import RMSNorm, layer_norm
from pippin.nn.positions import sincos_2d


def heads(tokens, seed):
    return torch.randn(2, 3, tokens, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_backends_agree(masked):
    q, k, v = heads(5, 0), heads(7, 1), heads(7, 2)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[0, ..., 4:] = False
    used = mask if masked else None
    torch.testing.assert_close(_explicit(q, k, v, used), _fused(q, k, v, used))


def test_masked_keys_do_not_matter():
    q, k, v = heads(5, 0), heads(7, 1), heads(7, 2)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[:, 4:] = False
    short = attend(q, k[:, :, :4], v[:, :, :4])
    torch.testing.assert_close(attend(q, k, v, mask), short)


def test_rms_norm_is_torchs_and_keeps_the_dtype():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    norm = RMSNorm(6)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (6,), eps=1e-6))
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_patches_round_trip_on_an_oblong_grid():
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    patches = to_patches(x, 2)  # numbers as (channel, row, column)
    assert patches.shape == (2, 6, 12)
    assert torch.equal(patches[0, 1].reshape(3, 2, 2), x[0, :, 0:2, 2:4])  # row first
    reordered = patches.unflatten(-1, (3, 2, 2)).permute(0, 1, 3, 4, 2).flatten(2)
    assert torch.equal(from_patches(reordered, (2, 3), 2), x)


def test_patch_embedding_is_a_strided_convolution():
    layer = PatchEmbedding(4, 2, 16)
    initialise(layer, 0)
    x = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    weight = layer.linear.weight.reshape(16, 4, 2, 2)
    expected = F.conv2d(x, weight, layer.linear.bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)


def test_sincos_encodes_column_first_and_is_unique():
    table = sincos_2d(3, 5, 16).reshape(3, 5, 16)
    assert torch.equal(table[0, 2, :8], table[2, 2, :8])  # same column
    assert torch.equal(table[1, 0, 8:], table[1, 4, 8:])  # same row
    assert len(table.reshape(15, 16).unique(dim=0)) == 15


def test_time_features_have_cosines_first():
    features = time_features(torch.tensor([0.0, 3.0]), 8)
    assert torch.equal(features[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    assert features[1, 0] == pytest.approx(torch.tensor(3.0).cos().item())


def test_modulated_norm():
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    y = layer_norm(x)
    assert y.mean(-1).abs().max() < 1e-6
    shift, scale = torch.ones(2, 8), torch.full((2, 8), 0.5)
    torch.testing.assert_close(modulate(y, shift, scale), 1.5 * y + 1)


def test_initialise_refuses_a_parameter_that_does_not_say_how_it_starts():
    with pytest.raises(ValueError, match=r"0\.weight: Linear declares no initialisation"):
        initialise(torch.nn.Sequential(torch.nn.Linear(2, 2)), 0)


def test_initial_distributions():
    layer = Linear(300, 200, init=normal(0.02))
    initialise(layer, 0)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not layer.bias.any()


def test_a_table_first_asked_for_on_the_meta_device_is_real():
    with torch.device("meta"):
        sincos_2d(7, 3, 8)
    assert sincos_2d(7, 3, 8).device.type == "cpu"
    meta = sincos_2d(7, 3, 8, torch.device("meta"))  # as a model on the meta device asks
    assert meta.device.type == "meta"
    assert sincos_2d(7, 3, 8).device.type == "cpu"


def test_a_table_first_asked_for_while_sampling_serves_training():
    with torch.inference_mode():
        sincos_2d(3, 7, 8)
    table = sincos_2d(3, 7, 8)
    assert not table.is_inference()


@pytest.mark.parametrize(
    ("dtype", "compiled", "keys", "kernel"),
    [
        (torch.float32, False, 5, "_fused"),
        (torch.float32, True, 5, "_explicit"),
        (torch.float32, True, FUSED_FROM_KEYS_FP32, "_fused"),
        (torch.bfloat16, False, 5, "_explicit"),
        (torch.bfloat16, True, FUSED_FROM_KEYS_FP32, "_explicit"),
    ],
)
def test_attention_takes_the_quicker_kernel_of_the_cpu(dtype, compiled, keys, kernel, monkeypatch):
    expected, used = kernel, []
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
    for name in ("_explicit", "_fused"):
        kernel = getattr(attention, name)
        monkeypatch.setattr(
            attention, name, lambda *a, n=name, f=kernel: (used.append(n), f(*a))[1]
        )
    q, k, v = (heads(keys, seed).to(dtype) for seed in range(3))
    result = attend(q, k, v)
    assert used == [expected]
    exact = _explicit(q.double(), k.double(), v.double(), None).transpose(1, 2).flatten(2)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(result.double(), exact, atol=tolerance, rtol=0)


def test_modulation_rounds_for_the_layer_and_not_the_stream():
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    shift, scale = torch.zeros(2, 8), torch.ones(2, 8)
    assert modulate(x, shift.bfloat16(), scale.bfloat16()).dtype == torch.bfloat16
    assert modulate(x.double(), shift.double(), scale.double()).dtype == torch.float64


def test_compiled_gelu_is_the_same_function(monkeypatch):
    """Values to 1e-6 and derivatives to 5e-6 of those in fp64, also where exp overflows."""
    x = torch.cat([torch.linspace(-8, 8, 1001), torch.tensor([-1e4, -100.0, 100.0, 1e4])])
    exact, single = x.double().requires_grad_(), x.clone().requires_grad_()
    reference = F.gelu(exact, approximate="tanh")
    reference.sum().backward()
    assert torch.equal(gelu_tanh(x), F.gelu(x, approximate="tanh"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    result = gelu_tanh(single)
    result.sum().backward()
    torch.testing.assert_close(result.double(), reference, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(single.grad.double(), exact.grad, atol=5e-6, rtol=5e-6)


def test_swiglu_gates_with_its_first_rows():
    layer = SwiGLU(6, 4.0)
    initialise(layer, 0)
    assert layer.linear_out.in_features == 16  # 2/3 of 24
    assert SwiGLU(64, 4.0).linear_out.in_features == 170  # 170.67 rounded down
    x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    first, second = layer.linear_in.weight[:16], layer.linear_in.weight[16:]
    gate = x @ first.T
    expected = (gate * torch.sigmoid(gate) * (x @ second.T)) @ layer.linear_out.weight.T
    torch.testing.assert_close(layer(x), expected)


def test_vectors_of_each_token_modulate_as_those_of_an_image():
    """Equal vectors at every token give the block's and the output's result for one vector."""
    layers = BlockLayers(norm="rms", mlp="swiglu", qk_norm="layer", shift=False)
    block, output = AdaLNBlock(16, 2, 4.0, layers=layers), ModulatedOutput(16, 16, 3, norm="rms")
    draws = torch.Generator().manual_seed(0)
    for parameter in (*block.parameters(), *output.parameters()):
        torch.nn.init.normal_(parameter, std=0.3, generator=draws)
    x, vector = torch.randn(2, 5, 16, generator=draws), torch.randn(2, 16, generator=draws)
    each = vector[:, None].expand(-1, 5, -1)
    torch.testing.assert_close(block(x, each, None, None), block(x, vector, None, None))
    torch.testing.assert_close(output(x, each), output(x, vector))
    each = torch.cat([each[:, :4], each[:, 4:] + 1], dim=1)
    changed = (output(x, each) - output(x, vector)).abs().amax(dim=(0, 2))
    assert changed[:4].max() < 1e-5 and changed[4] > 0.1


def test_data_time_runs_from_noise_to_data():
    t = torch.tensor([1000.0, 250.0, 0.0])
    assert torch.equal(DATA_TIME.of(t), torch.tensor([0.0, 0.75, 1.0]))


def test_time_features_of_another_base():
    features = time_features(torch.tensor([0.5]), 8, base=10.0)
    expected = [math.cos(0.5 * 10 ** (-k / 4)) for k in range(4)]
    torch.testing.assert_close(features[0, :4], torch.tensor(expected))
