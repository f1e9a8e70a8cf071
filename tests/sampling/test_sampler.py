# SPDX-License-Identifier: Apache-2.0
"""The sampler with small models: seeds, batches, counts, units, precision."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from pippin import rng
from pippin.config import ConfigError
from pippin.diffusion.prediction import target
from pippin.diffusion.schedules import make_schedule
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig
from pippin.sampling.request import request_conditions
from pippin.sampling.sampler import Sampler
from pippin.types import Prediction

SHAPE = (4, 8, 8)
SEEDS = [11, 3, 7, 0, 100, 42, 5, 6, 8, 9]


class Network(nn.Module):
    """A small convolutional eps model with two conditions, one null row each."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(4, 16, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.tail = nn.Conv2d(16, 4, 3, padding=1)
        self.labels, self.flips = nn.Embedding(4, 16), nn.Embedding(3, 16)
        for index, weight in enumerate(self.parameters()):
            weight.data = 0.2 * rng.normal(tuple(weight.shape), "init", 0, index)
        self.seen = []

    def prepare(self, conditions, keep=None):
        label = torch.where(keep.semantic, conditions.label, 3)
        flip = torch.where(keep.control, conditions.control["flip"][:, 0].long(), 2)
        return self.labels(label) + self.flips(flip)

    def forward(self, x_t, t, prepared):
        self.seen.append((t, x_t.dtype, torch.is_autocast_enabled("cpu")))
        hidden = self.head(x_t) + (prepared + t[:, None] / 1000)[:, :, None, None]
        return Prediction(mean=self.tail(self.drop(torch.tanh(hidden))))


class Perfect(nn.Module):
    """The exact answer for x0 ~ N(label / 2, 0.3^2), in any unit."""

    def __init__(self, kind, schedule):
        super().__init__()
        self.kind, self.schedule = kind, schedule

    def prepare(self, conditions, keep=None):
        assert keep.semantic.all() and keep.control.all()
        return conditions.label[:, None, None, None] / 2

    def forward(self, x_t, t, prepared):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        innovation = (x_t - a * prepared) / (a**2 * 0.09 + s**2)
        x0, eps = prepared + a * 0.09 * innovation, s * innovation
        return Prediction(mean=target(self.kind, x0, eps, alpha, sigma))


class Decoder:
    def latent_shape(self, height, width=None):
        return (4, height // 2, (width or height) // 2)

    def decode(self, latents):
        pixels = latents[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3)
        return (pixels * 40 + 128).clamp(0, 255).to(torch.uint8)


def _conditions(count=10):
    labels = [k % 3 for k in range(count)]
    return request_conditions(labels, ControlRequest(), ["flip"], num_classes=3)


def _sampler(model=None, schedule="sd", prediction="eps", **config):
    settings = {"steps": 4, "guidance": GuidanceConfig(semantic_scale=2.0)} | config
    return Sampler(
        model or Network(), make_schedule(schedule), prediction, SamplingConfig(**settings)
    )


def _latents(**config):
    return _sampler(**config).latents(_conditions(), SEEDS, SHAPE)


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "heun", "euler"])
def test_a_sample_does_not_depend_on_the_batch_size(solver):
    """1e-5 relative to the largest latent: fp32 rounding over some evaluations."""
    whole = _latents(solver=solver, batch_size=10)
    for batch_size in (1, 3):
        part = _latents(solver=solver, batch_size=batch_size)
        assert (part - whole).abs().max() < 1e-5 * whole.abs().max()
    assert (whole[0] - whole[3]).abs().max() > 0.1


def test_a_sample_does_not_depend_on_its_company_or_place():
    whole = _latents()
    labels = [k % 3 for k in (7, 2)]
    conditions = request_conditions(labels, ControlRequest(), ["flip"], num_classes=3)
    pair = _sampler().latents(conditions, [SEEDS[7], SEEDS[2]], SHAPE)
    torch.testing.assert_close(pair, whole[[7, 2]], rtol=1e-5, atol=1e-4)


def test_noise_is_that_of_the_sample_stream():
    """A model without any noise to remove: one flow step of velocity 0 keeps the noise."""

    class Still(Perfect):
        def forward(self, x_t, t, prepared):
            return Prediction(mean=torch.zeros_like(x_t))

    schedule = make_schedule("flow")
    config = SamplingConfig(steps=1, batch_size=4)
    found = Sampler(Still("flow", schedule), schedule, "flow", config).latents(
        _conditions(), SEEDS, SHAPE
    )
    wanted = torch.stack([rng.normal(SHAPE, "sample", seed) for seed in SEEDS])
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_batches_cover_the_seeds_exactly_once(batch_size):
    sampler, done = _sampler(batch_size=batch_size), []
    batches = list(
        sampler.batches(
            _conditions(), SEEDS, Decoder(), 16, progress=lambda *args: done.append(args)
        )
    )
    assert [seed for batch in batches for seed in batch.seeds] == SEEDS
    assert torch.cat([batch.labels for batch in batches]).tolist() == [k % 3 for k in range(10)]
    images = torch.cat([batch.images for batch in batches])
    assert images.shape == (10, 3, 16, 16) and images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in images}) == 10
    assert [len(batch.seeds) for batch in batches][:-1] == [batch_size] * (len(batches) - 1)
    assert done[-1] == (10, 10) and len(done) == len(batches)


def test_batches_are_the_decoded_latents():
    images = torch.cat(
        [b.images for b in _sampler(batch_size=3).batches(_conditions(), SEEDS, Decoder(), 16)]
    )
    wanted = Decoder().decode(_latents(batch_size=3))
    assert torch.equal(images, wanted)


@pytest.mark.parametrize(
    ("kind", "schedule", "solver"),
    [(kind, name, "dpm++") for kind in ("eps", "v", "x0", "flow") for name in ("sd", "flow")]
    + [("v", "cosine", "ddim"), ("eps", "sd", "ddim"), ("x0", "flow", "heun")],
)
def test_a_gaussian_is_sampled_right_in_every_unit(kind, schedule, solver):
    """Mean within 0.03 and std within 0.05 of the data's (640 numbers a label, 50 steps).

    sd starts from noise that is not quite pure, which moves the mean by up to 0.02; ddim's steps
    shrink the std by 0.035.
    """
    model = Perfect(kind, make_schedule(schedule))
    sampler = _sampler(
        model, schedule, kind, solver=solver, steps=50, guidance=GuidanceConfig(), batch_size=20
    )
    labels = [0, 2] * 10
    conditions = request_conditions(labels, ControlRequest(), [], num_classes=3)
    latents = sampler.latents(conditions, range(20), (1, 8, 8))
    for label, mean in ((0, 0.0), (2, 1.0)):
        part = latents[torch.tensor(labels) == label]
        assert part.mean().item() == pytest.approx(mean, abs=0.03)
        assert part.std().item() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("solver", "scales", "interval", "evaluations"),
    [
        ("ddim", (1.0, 1.0), None, 10),
        ("ddim", (2.0, 1.0), None, 20),
        ("dpm++", (2.0, 3.0), None, 30),
        ("heun", (2.0, 1.0), None, 38),
        ("ddim", (2.0, 1.0), (-100.0, -90.0), 10),
        ("ddim", (2.0, 1.0), (-3.0, 100.0), 10 + 7),
    ],
)
def test_evaluations_are_counted(solver, scales, interval, evaluations):
    """sd, trailing, 10 steps: log-SNR is -5.4, -4.2, -3.3 at the first three times, then -2.4."""
    model = Network()
    guidance = GuidanceConfig(
        semantic_scale=scales[0], control_scale=scales[1], log_snr_interval=interval
    )
    sampler = _sampler(model, solver=solver, steps=10, guidance=guidance, batch_size=4)
    assert sampler.evaluations_per_image == evaluations
    assert not model.seen  # nothing was computed for that
    sampler.latents(_conditions(), SEEDS, SHAPE)
    assert len(model.seen) == 3 * evaluations


@pytest.mark.parametrize(
    ("schedule", "steps", "guidance", "reason"),
    [
        (
            "sd",
            10,
            {"log_snr_interval": (20.0, 30.0)},
            r"holds no step: the 10 steps .* -5\.36 to",
        ),
        ("sd", 1, {"log_snr_interval": (-3.0, 3.0)}, r"the 1 step lie at"),
        ("flow", 1, {"semantic_power": 4.0}, r"semantic_power 4 turns guidance off in the 1 step"),
        ("sd", 1, {"semantic_power": 4.0}, "semantic_power 4"),
        (
            "sd",
            1,
            {"semantic_power": 4.0, "log_snr_interval": (-1e3, 30.0)},
            "semantic_power 4 turns",
        ),
        (
            "sd",
            10,
            {"semantic_power": 4.0, "log_snr_interval": (20.0, 30.0)},
            "holds no step",
        ),
        ("sd", 10, {"log_snr_interval": (-3.0, 3.0)}, None),
        ("flow", 2, {"semantic_power": 4.0}, None),
        ("flow", 1, {}, None),
        ("sd", 10, {"log_snr_interval": (20.0, 30.0), "semantic_scale": 1.0}, None),
    ],
)
def test_guidance_that_never_acts_says_why(schedule, steps, guidance, reason):
    guidance = GuidanceConfig(**{"semantic_scale": 4.0} | guidance)
    sampler = _sampler(schedule=schedule, prediction="v", steps=steps, guidance=guidance)
    if reason is None:
        assert sampler.unguided_reason is None
    else:
        assert re.search(reason, sampler.unguided_reason)


def test_the_network_is_fed_float32_times_one_a_row():
    model = Network()
    _sampler(model, steps=4, guidance=GuidanceConfig()).latents(_conditions(), SEEDS, SHAPE)
    assert [t.tolist() for t, *_ in model.seen] == [[t] * 10 for t in (999, 749, 499, 249)]
    assert all(t.dtype == torch.float32 for t, *_ in model.seen)


def test_bf16_is_near_fp32_and_keeps_the_state_in_fp32():
    model = Network()
    exact = _latents()
    half = _sampler(model, precision="bf16").latents(_conditions(), SEEDS, SHAPE)
    assert half.dtype == torch.float32
    assert all(autocast and dtype == torch.float32 for _, dtype, autocast in model.seen)
    distance = (half - exact).abs().max() / exact.abs().max()
    assert 1e-6 < distance < 0.05


def test_the_model_is_used_in_evaluation_mode_and_given_back_as_it_was():
    model = Network()
    model.tail.eval()
    first = _sampler(model).latents(_conditions(), SEEDS, SHAPE)
    assert torch.equal(first, _sampler(model).latents(_conditions(), SEEDS, SHAPE))
    assert model.training and model.drop.training and not model.tail.training


def test_an_interrupt_leaves_complete_batches_and_the_model_as_it_was():
    model = Network()
    batches = _sampler(model, batch_size=4).batches(_conditions(), SEEDS, Decoder(), 16)
    first = next(batches)

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    handle.remove()
    assert first.seeds == tuple(SEEDS[:4]) and len(first.images) == 4
    assert model.training and not torch.is_inference_mode_enabled()
    again = list(_sampler(model, batch_size=4).batches(_conditions(), SEEDS, Decoder(), 16))
    assert torch.equal(again[0].images, first.images)


def test_results_can_be_used_outside_of_inference_mode():
    latents = _latents(steps=1)
    assert not latents.is_inference() and not latents.requires_grad
    batch = next(_sampler(steps=1).batches(_conditions(), SEEDS, Decoder(), 16))
    batch.images.add_(0)


def test_non_finite_latents_name_their_seeds():
    class Broken(Network):
        def forward(self, x_t, t, prepared):
            mean = x_t.clone()
            mean[1::2] = float("nan")
            return Prediction(mean=mean)

    with pytest.raises(FloatingPointError, match=r"non-finite latents for seeds \[3, 0\]"):
        _sampler(Broken(), batch_size=4).latents(_conditions(), SEEDS, SHAPE)


def test_wrong_numbers_are_refused_before_any_work():
    sampler = _sampler()
    with pytest.raises(ValueError, match=r"2 seeds.*\{'label': 10, 'flip': 10\}"):
        sampler.batches(_conditions(), [1, 2], Decoder(), 16)
    with pytest.raises(ValueError, match="no seeds"):
        sampler.latents(_conditions(0), [], SHAPE)
    with pytest.raises(ValueError, match=r"sampling\.batch_size must be 1 or more; got 0"):
        _sampler(batch_size=0)
    with pytest.raises(ValueError, match="from 1 to 1000, got 1001"):
        _sampler(steps=1001)


def test_images_have_the_size_asked_for():
    batches = _sampler(size="8x24").batches(_conditions(2), [0, 1], Decoder(), 16)
    assert next(batches).images.shape == (2, 3, 8, 24)


@pytest.mark.parametrize("size", ["64", "0x64", "64x", "64 x 64", "-8x8", "8x8x8"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ConfigError, match="HEIGHTxWIDTH in pixels, such as 64x96"):
        SamplingConfig(size=size)


TWO_SCALES = GuidanceConfig(semantic_scale=3.0, control_scale=1.5, log_snr_interval=(-2.0, 3.0))


@pytest.mark.parametrize("reference", ["null", "control"])
def test_terms_together_are_those_apart_to_rounding(reference):
    """1e-5 of the largest latent; one call of the network a step in the place of three."""
    found, calls = [], []
    for terms in ("apart", "together"):
        model = Network()
        sampler = _sampler(model, terms=terms, guidance=replace(TWO_SCALES, reference=reference))
        found.append(sampler.latents(_conditions(), SEEDS, SHAPE))
        calls.append(len(model.seen))
        assert sum(len(t) for t, _, _ in model.seen) == 10 * sampler.evaluations_per_image
    assert (found[0] - found[1]).abs().max() < 1e-5 * found[0].abs().max()
    assert calls[1] == 4 and 4 < calls[0] <= 12


@pytest.mark.parametrize(
    ("terms", "precision", "calls"),
    [("auto", "fp32", 8), ("auto", "bf16", 4), ("together", "fp32", 4), ("apart", "bf16", 8)],
)
def test_on_a_cpu_terms_stay_apart_in_fp32_unless_asked(terms, precision, calls):
    model = Network()
    _sampler(model, terms=terms, precision=precision).latents(_conditions(), SEEDS, SHAPE)
    assert len(model.seen) == calls
