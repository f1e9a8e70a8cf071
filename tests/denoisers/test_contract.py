# SPDX-License-Identifier: Apache-2.0
"""Contract of every denoiser, under every supported conditioning."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from pippin.conditioning.config import (
    ConditioningConfig,
    ControlConfig,
    LabelSemantic,
    TextSemantic,
)
from pippin.control import Control, Corner, Size
from pippin.denoisers.ddt.config import DDTConfig
from pippin.denoisers.dit.config import DiTConfig
from pippin.denoisers.jit.config import JiTConfig
from pippin.denoisers.mdtv2.config import MDTv2Config
from pippin.denoisers.mdtv2.model import MDTv2
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.denoisers.pixart.config import PixArtConfig
from pippin.denoisers.unet.config import UNetConfig
from pippin.denoisers.unet.model import UNet
from pippin.model import build_model
from pippin.nn.embeddings import DATA_TIME
from pippin.nn.initialise import initialise
from pippin.types import Conditions, Masking, TextFeatures, stack_controls

SMALL = {"depth": 2, "width": 32, "num_heads": 4}
MDT = {"depth": 4, "width": 32, "num_heads": 4, "grid": (4, 4), "decoder_depth": 2}
UNET = {
    "channels": 16,
    "channel_multiples": (1, 2),
    "blocks_per_level": 1,
    "attention_factors": (2,),
    "token_width": 24,
    "num_heads": 4,
    "norm_groups": 4,
}
TODAY = {"norm": "rms", "mlp": "swiglu", "rotary": True, "qk_norm": True, "time_input": "data"}
TODAY |= {"qk_norm_kind": "layer", "modulation_shift": False}
JIT = SMALL | {"depth": 3, "patch_size": 4, "bottleneck_width": 16}
DDT = SMALL | {"depth": 3, "encoder_depth": 2}
ATTENTION = ConditioningConfig(rules={"label": "attention"})
ONE_TOKEN = ConditioningConfig(semantic=LabelSemantic(num_tokens=1), rules={"label": "both"})
MODULATION = ConditioningConfig(rules={"label": "modulation"})


def text(projection="linear", features=12, pooled=None):
    rules = {"text": "attention"} | ({"pooled": "modulation"} if pooled else {})
    semantic = TextSemantic(
        token_features=features, pooled_features=pooled, num_tokens=5, projection=projection
    )
    return ConditioningConfig(semantic=semantic, rules=rules)


POOLED = ConditioningConfig(
    semantic=TextSemantic(token_features=None, pooled_features=7), rules={"pooled": "modulation"}
)
SHAPED = ConditioningConfig(control=ControlConfig(high=(), low=()), image_shape=True)
CASES = {
    "dit": (DiTConfig(**SMALL), MODULATION),
    "dit-pooled": (DiTConfig(**SMALL), POOLED),
    "dit-cross-modulation": (DiTConfig(**SMALL, cross_attention=True), MODULATION),
    "dit-cross-attention": (DiTConfig(**SMALL, cross_attention=True, qk_norm=True), ATTENTION),
    "dit-text": (DiTConfig(**SMALL, cross_attention=True), text()),
    "dit-variance": (DiTConfig(**SMALL, learn_variance=True), MODULATION),
    "dit-today": (DiTConfig(**SMALL, **TODAY), MODULATION),
    "dit-today-text": (DiTConfig(**SMALL, **TODAY, cross_attention=True), text()),
    "dit-mixer": (DiTConfig(**SMALL, **TODAY, mixer_depth=1, mixer_width=16), MODULATION),
    "mdtv2-modulation": (MDTv2Config(**MDT, learn_variance=True), MODULATION),
    "mdtv2-attention": (MDTv2Config(**MDT, cross_attention=True, qk_norm=True), ATTENTION),
    "mdtv2-text": (MDTv2Config(**MDT, cross_attention=True), text()),
    "mdtv2-unmasked": (MDTv2Config(**MDT, mask_ratio=None), MODULATION),
    "pixart-modulation": (PixArtConfig(**SMALL, learn_variance=True), MODULATION),
    "pixart-attention": (PixArtConfig(**SMALL, qk_norm=True, base_grid=8), ATTENTION),
    "pixart-text": (PixArtConfig(**SMALL), text("mlp")),
    "pixart-shape": (PixArtConfig(**(SMALL | {"width": 36})), SHAPED),
    "mmdit-modulation": (MMDiTConfig(**SMALL), MODULATION),
    "mmdit-attention": (MMDiTConfig(**SMALL), ATTENTION),
    "mmdit-plain": (MMDiTConfig(**SMALL, qk_norm=False, patch_size=4), ATTENTION),
    "mmdit-text": (MMDiTConfig(**SMALL, table_side=9), text(pooled=7)),
    "unet-modulation": (UNetConfig(**UNET), MODULATION),
    "unet-attention": (UNetConfig(**UNET, qk_norm=True), ATTENTION),
    "unet-text": (UNetConfig(**UNET), text("none", features=24)),
    "jit-modulation": (JiTConfig(**JIT), MODULATION),
    "jit-constant": (JiTConfig(**JIT, context_start=0), MODULATION),
    "jit-attention": (JiTConfig(**JIT, context_start=1, base_grid=4), ATTENTION),
    "jit-both": (JiTConfig(**JIT, context_start=2, context_repeats=3), ONE_TOKEN),
    "jit-text": (JiTConfig(**JIT, context_start=1, qk_norm=False), text(pooled=7)),
    "ddt-modulation": (DDTConfig(**DDT), MODULATION),
    "ddt-attention": (DDTConfig(**DDT, cross_attention=True), ATTENTION),
    "ddt-wide": (DDTConfig(**DDT, decoder_width=48, decoder_heads=4), MODULATION),
    "ddt-text": (DDTConfig(**DDT, cross_attention=True, qk_norm=False), text()),
}
NO_GRADIENT = (
    # mmDiT's last context stream is not updated: its queries, and their norm, have no effect
    "1.context.attention_in.norm.query.gain",
    # a published table that is not trained
    "denoiser.table.weight",
)


@pytest.fixture(params=CASES, ids=list(CASES))
def model(request):
    denoiser, conditioning = CASES[request.param]
    built = build_model(conditioning, denoiser, num_classes=3, latent_channels=4, seed=0)
    built.config = denoiser
    return built


def inputs(batch=3, side=8, model=None):
    draws = torch.Generator().manual_seed(0)
    control = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 4), crop_size=Size(50, 50), flip=False
    )
    semantic = model.conditioner.config.semantic if model is not None else LabelSemantic()
    features = None
    if isinstance(semantic, TextSemantic):
        tokens, pooled = semantic.token_features, semantic.pooled_features
        features = TextFeatures(
            tokens=None if tokens is None else torch.randn(batch, 5, tokens, generator=draws),
            mask=torch.tensor([[True, True, True, False, False]] * batch),
            pooled=None if pooled is None else torch.randn(batch, pooled, generator=draws),
        )
    conditions = Conditions(
        label=torch.arange(batch) % 3, text=features, control=stack_controls([control] * batch)
    )
    t = torch.linspace(1, 999, batch)
    return torch.randn(batch, 4, side, side, generator=draws), t, conditions


def masking(model, batch):
    count = model.denoiser.num_maskable((4, 8, 8))
    if not count:
        return None
    draws = torch.Generator().manual_seed(5)
    return Masking(order=torch.rand(batch, count, generator=draws), ratio_position=0.5)


def perturb(model):
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=draws))


def test_the_configuration_states_the_times_that_the_network_reads(model):
    reads_data = model.denoiser.time_input[:2] == DATA_TIME[:2]  # the base may differ
    assert model.config.time_input == ("data" if reads_data else "noise")


def test_starts_at_zero_and_has_the_latents_shape(model):
    x, t, conditions = inputs(model=model)
    output = model(x, t, model.prepare(conditions))
    assert output.mean.shape == x.shape
    assert torch.equal(output.mean, torch.zeros_like(x))  # the last layer starts at 0


def test_every_parameter_gets_a_finite_gradient(model):
    perturb(model)
    x, t, conditions = inputs(batch=6, model=model)
    # some rows dropped, so that the null vectors take part
    from pippin.types import Keep

    flags = torch.tensor([True, True, True, False, False, True])
    prepared = model.prepare(conditions, Keep(semantic=flags, control=flags))
    output = model(x, t, prepared, masking(model, 6))
    parts = [output.mean, output.variance]
    if output.aux is not None:
        parts += [output.aux.mean, output.aux.variance]
    sum((part**2).sum() for part in parts if part is not None).backward()
    for name, p in model.named_parameters():
        if name.endswith(NO_GRADIENT):
            continue
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_rows_do_not_mix(model):
    perturb(model)
    x, t, conditions = inputs(model=model)
    whole = model(x, t, model.prepare(conditions)).mean
    alone = model(x[1:2], t[1:2], model.prepare(conditions.rows(slice(1, 2)))).mean
    torch.testing.assert_close(whole[1:2], alone, atol=1e-5, rtol=1e-5)


def changed(model, x, t, conditions, later=0.0, **to):
    """Largest change of the output when a condition changes."""
    base = model(x, t, model.prepare(conditions)).mean
    other = model(x, t + later, model.prepare(replace(conditions, **to))).mean
    return (base - other).abs().max().item()


def test_each_condition_changes_the_output(model):
    perturb(model)
    x, t, conditions = inputs(model=model)
    assert changed(model, x, t - 1, conditions, later=50.0) > 1e-4
    semantic = model.conditioner.config.semantic
    if isinstance(semantic, TextSemantic):
        features = conditions.text
        if features.tokens is not None:
            other = replace(features, tokens=features.tokens + 1)
            assert changed(model, x, t, conditions, text=other) > 1e-4
        if features.pooled is not None:
            other = replace(features, pooled=features.pooled + 1)
            assert changed(model, x, t, conditions, text=other) > 1e-4
    else:
        assert changed(model, x, t, conditions, label=(conditions.label + 1) % 3) > 1e-4
    for name in model.conditioner.config.control.high + model.conditioner.config.control.low:
        values = conditions.control[name]
        moved = 1 - values if name == "flip" else values + 9
        other = conditions.control | {name: moved}
        assert changed(model, x, t, conditions, control=other) > 1e-5, name


def test_masked_text_is_not_read(model):
    if model.conditioner.text_tokens is None:
        pytest.skip("reads no text tokens")
    perturb(model)
    x, t, conditions = inputs(model=model)
    tokens = conditions.text.tokens.clone()
    tokens[:, 3:] = 100.0  # behind the mask
    other = replace(conditions.text, tokens=tokens)
    assert changed(model, x, t, conditions, text=other) == 0


def test_the_same_twice_and_without_touching_the_global_random_state(model):
    perturb(model)
    x, t, conditions = inputs(model=model)
    state = torch.get_rng_state()
    first = model(x, t, model.prepare(conditions), masking(model, 3))
    second = model(x, t, model.prepare(conditions), masking(model, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.mean, second.mean)
    if first.aux is not None:
        assert torch.equal(first.aux.mean, second.aux.mean)


def test_state_survives_saving(model, tmp_path):
    perturb(model)
    x, t, conditions = inputs(model=model)
    save_file(dict(model.state_dict()), tmp_path / "weights.safetensors")
    conditioning = model.conditioner.config
    again = build_model(conditioning, model.config, num_classes=3, latent_channels=4, seed=1)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    expected = model(x, t, model.prepare(conditions)).mean
    assert torch.equal(again(x, t, again.prepare(conditions)).mean, expected)


def test_a_masked_pass_is_a_second_prediction(model):
    perturb(model)
    x, t, conditions = inputs(model=model)
    draws = masking(model, 3)
    output = model(x, t, model.prepare(conditions), draws)
    if draws is None:
        assert output.aux is None
        return
    plain = model(x, t, model.prepare(conditions))
    assert torch.equal(output.mean, plain.mean)
    assert output.aux.mean.shape == x.shape
    assert (output.aux.mean - plain.mean).abs().max() > 1e-3
    other = model(x, t, model.prepare(conditions), replace(draws, order=draws.order.flip(1)))
    assert not torch.equal(other.aux.mean, output.aux.mean)


def test_bf16_autocast_is_near_fp32(model):
    perturb(model)
    x, t, conditions = inputs(model=model)
    exact = model(x, t, model.prepare(conditions)).mean
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(x, t, model.prepare(conditions)).mean.float()
    error = (exact - rounded).abs().max() / exact.abs().max()
    assert 0 < error < 0.05  # bf16 has 8 bits of mantissa


def test_another_grid_works_where_positions_are_computed(model):
    perturb(model)
    x, t, conditions = inputs(side=16, model=model)
    if isinstance(model.denoiser, MDTv2):  # its positions are learned
        with pytest.raises(ValueError, match=r"positions for 4 x 4 .* the latent has 4 x 8"):
            model(x[:, :, :8], t, model.prepare(conditions))
        return
    assert model(x[:, :, :8], t, model.prepare(conditions)).mean.shape == (3, 4, 8, 16)
    assert model(x, t, model.prepare(conditions)).mean.shape == (3, 4, 16, 16)


def test_a_learned_grid_need_not_be_square():
    config = MDTv2Config(**(MDT | {"grid": (2, 8)}))
    model = build_model(MODULATION, config, num_classes=3, latent_channels=4, seed=0)
    x, t, conditions = inputs(side=16)
    output = model(x[:, :, :4], t, model.prepare(conditions), None)
    assert output.mean.shape == (3, 4, 4, 16)


def test_a_grid_without_whole_patches_is_refused(model):
    x, t, conditions = inputs(model=model)
    with pytest.raises(ValueError, match=r"not divisible into patches of \d|whole numbers"):
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
    """Rounding between blocks would lose small updates of a large stream."""
    if isinstance(model.denoiser, UNet):
        pytest.skip("its convolutions compute a new stream at every level")
    dtypes = []
    for block in model.denoiser.blocks:
        block.register_forward_hook(
            lambda _, __, out: dtypes.append(out[0].dtype if isinstance(out, tuple) else out.dtype)
        )
    x, t, conditions = inputs(model=model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x, t, model.prepare(conditions))
    assert set(dtypes) == {torch.float32}
