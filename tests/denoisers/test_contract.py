# SPDX-License-Identifier: Apache-2.0
"""What every denoiser must do, under every conditioning it admits."""

import pytest
import torch

from pippin.conditioning.config import ConditioningConfig
from pippin.denoisers.config import DiTConfig, MMDiTConfig
from pippin.model import build_model
from pippin.nn.initialise import initialise
from pippin.types import Conditions, Control, Corner, Size, stack_controls

SMALL = {"depth": 2, "width": 32, "num_heads": 4}
ATTENTION = ConditioningConfig(rules={"label": "attention"})
MODULATION = ConditioningConfig(rules={"label": "modulation"})
CASES = {
    "dit": (DiTConfig(**SMALL), MODULATION),
    "dit-cross-modulation": (DiTConfig(**SMALL, cross_attention=True), MODULATION),
    "dit-cross-attention": (DiTConfig(**SMALL, cross_attention=True, qk_norm=True), ATTENTION),
    "dit-variance": (DiTConfig(**SMALL, learn_variance=True), MODULATION),
    "mmdit-modulation": (MMDiTConfig(**SMALL), MODULATION),
    "mmdit-attention": (MMDiTConfig(**SMALL), ATTENTION),
    "mmdit-plain": (MMDiTConfig(**SMALL, qk_norm=False, patch_size=4), ATTENTION),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def model(request):
    denoiser, conditioning = CASES[request.param]
    return build_model(conditioning, denoiser, num_classes=3, latent_channels=4, seed=0)


def inputs(batch=3, side=8):
    draws = torch.Generator().manual_seed(0)
    control = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 4), crop_size=Size(50, 50), flip=False
    )
    conditions = Conditions(
        label=torch.arange(batch) % 3, control=stack_controls([control] * batch)
    )
    t = torch.linspace(1, 999, batch)
    return torch.randn(batch, 4, side, side, generator=draws), t, conditions


def perturb(model):
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=draws))


def test_starts_at_zero_and_has_the_latents_shape(model):
    x, t, conditions = inputs()
    output = model(x, t, model.prepare(conditions))
    assert output.mean.shape == x.shape
    assert torch.equal(output.mean, torch.zeros_like(x))  # the last layer starts at 0


def test_every_parameter_gets_a_finite_gradient(model):
    perturb(model)
    x, t, conditions = inputs(batch=6)
    # some rows dropped, so that the null vectors take part
    from pippin.types import Keep

    flags = torch.tensor([True, True, True, False, False, True])
    output = model(x, t, model.prepare(conditions, Keep(semantic=flags, control=flags)))
    parts = [output.mean, output.variance] if output.variance is not None else [output.mean]
    sum((part**2).sum() for part in parts).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        # mmDiT's last context stream is read only: its queries, and their norm, have no effect
        assert p.grad.abs().sum() > 0 or name.endswith("1.context.attention_in.norm.query.gain")


def test_rows_do_not_mix(model):
    perturb(model)
    x, t, conditions = inputs()
    whole = model(x, t, model.prepare(conditions)).mean
    one = Conditions(
        label=conditions.label[1:2], control={k: v[1:2] for k, v in conditions.control.items()}
    )
    alone = model(x[1:2], t[1:2], model.prepare(one)).mean
    torch.testing.assert_close(whole[1:2], alone, atol=1e-5, rtol=1e-5)


def test_time_and_label_change_the_output(model):
    perturb(model)
    x, t, conditions = inputs()
    base = model(x, t, model.prepare(conditions)).mean
    later = model(x, (t + 50).clamp(max=999), model.prepare(conditions)).mean
    other = Conditions(label=(conditions.label + 1) % 3, control=conditions.control)
    assert (base - later).abs().max() > 1e-4
    assert (base - model(x, t, model.prepare(other)).mean).abs().max() > 1e-4


def test_bf16_autocast_is_near_fp32(model):
    perturb(model)
    x, t, conditions = inputs()
    exact = model(x, t, model.prepare(conditions)).mean
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(x, t, model.prepare(conditions)).mean.float()
    error = (exact - rounded).abs().max() / exact.abs().max()
    assert 0 < error < 0.05  # bf16 has 8 bits of mantissa


def test_another_grid_works_where_positions_are_computed(model):
    perturb(model)
    x, t, conditions = inputs(side=16)
    assert model(x[:, :, :8], t, model.prepare(conditions)).mean.shape == (3, 4, 8, 16)


def test_a_grid_without_whole_patches_is_refused(model):
    x, t, conditions = inputs()
    with pytest.raises(ValueError, match="whole patches"):
        model(x[..., :7], t, model.prepare(conditions))


def test_initial_weights_depend_on_name_and_seed_only(model):
    before = {name: p.clone() for name, p in model.named_parameters()}
    perturb(model)
    initialise(model, 0)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_builds_on_the_meta_device():
    for denoiser, conditioning in CASES.values():
        with torch.device("meta"):
            model = build_model(
                conditioning, denoiser, num_classes=3, latent_channels=4, seed=None
            )
        assert all(p.device.type == "meta" for p in model.parameters())


def test_the_residual_stream_stays_in_fp32_under_autocast(model):
    """Rounded between blocks, small updates of a large stream would be lost."""
    dtypes = []
    for block in model.denoiser.blocks:
        block.register_forward_hook(
            lambda _, __, out: dtypes.append(out[0].dtype if isinstance(out, tuple) else out.dtype)
        )
    x, t, conditions = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x, t, model.prepare(conditions))
    assert set(dtypes) == {torch.float32}
