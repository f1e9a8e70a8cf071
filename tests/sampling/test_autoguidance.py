# SPDX-License-Identifier: Apache-2.0
"""Autoguidance against a loop written by hand, and which guides a run takes."""

from copy import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import model_of

from pippin import rng
from pippin.cli.main import main
from pippin.config import ConfigError, fingerprint, protocol
from pippin.control import Control, Corner, Size
from pippin.diffusion.schedules import make_schedule
from pippin.encoders.normalisation import Affine
from pippin.publish.pipeline import _sampling_notes
from pippin.runs.trained import export, load_trained_weights
from pippin.sampling import autoguidance as module
from pippin.sampling.config import GuidanceConfig, SamplingConfig
from pippin.sampling.guidance import extrapolate, guided, separate_terms
from pippin.sampling.load import load_run, untrained_run
from pippin.sampling.sample import draw, sampling_protocol
from pippin.sampling.sampler import Sampler
from pippin.types import Conditions, Prediction, stack_controls

SHAPE, SEEDS = (4, 8, 8), (3, 8)
OWN_CHECKPOINT = {"guide_checkpoint": 32}


def guiding(scale, **guide):
    """A sampling configuration guided by a weaker model."""
    guidance = GuidanceConfig(guide_scale=scale)
    return SamplingConfig(solver="euler", steps=3, guidance=guidance, **guide)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(scale=st.floats(-4, 9))
def test_equal_predictions_stay_bit_for_bit_at_any_scale(scale):
    strong = rng.normal((2, 4, 3, 3), "noise", 0)
    assert torch.equal(extrapolate(strong.clone(), strong, scale), strong)


@pytest.mark.parametrize(("t", "inside"), [(100.0, False), (500.0, True), (900.0, False)])
def test_the_guide_is_called_only_where_it_guides(t, inside):
    """sd: log-SNR is 2.1, -1.0 and -4.2 at these times; at scale 1 it is called nowhere."""
    x = rng.normal((2, 4, 3, 3), "noise", 1)
    calls = []

    def strong(semantic, control):
        assert semantic and control
        return lambda x_t, t: Prediction(mean=2 * x_t)

    def weak(x_t, t):
        calls.append(t)
        return Prediction(mean=x_t)

    for scale in (3.0, 1.0):
        config = GuidanceConfig(guide_scale=scale, log_snr_interval=(-3.0, 1.0))
        mean = guided(separate_terms(strong), config, make_schedule("sd"), weak)(x, t).mean
        guides = inside and scale != 1
        assert torch.equal(mean, x + scale * x if guides else 2 * x)
        assert len(calls) == guides
        calls.clear()


def test_two_networks_against_a_loop_written_by_hand():
    """Rectified flow, Euler: x moves along weak + 2.5 (strong - weak); 1e-5 of values near 3."""
    strong, weak = model_of("dit"), model_of("mmdit")
    labels, schedule = torch.tensor([0, 2]), make_schedule("flow")
    whole = Control(
        original_size=Size(64, 64), crop_corner=Corner(0, 0), crop_size=Size(64, 64), flip=False
    )
    conditions = Conditions(label=labels, control=stack_controls([whole] * 2))
    config = guiding(2.5, guide="weak")
    sampler = Sampler(strong, schedule, "flow", config, weak)
    latents = sampler.latents(conditions, SEEDS, SHAPE)
    x = torch.stack([rng.normal(SHAPE, "sample", seed) for seed in SEEDS])
    with torch.no_grad():
        prepared = [model.prepare(conditions) for model in (strong, weak)]
        for here, ahead in ((1.0, 2 / 3), (2 / 3, 1 / 3), (1 / 3, 0.0)):
            t = torch.full((len(labels),), 1000 * here)
            e, w = (
                model(x, t, embedded).mean
                for model, embedded in zip((strong, weak), prepared, strict=True)
            )
            x = x + (ahead - here) * (w + 2.5 * (e - w))
    assert (x - latents).abs().max() < 1e-5 * x.abs().max()
    assert sampler.evaluations == (3, 3) and sampler.evaluations_per_image == 6


@pytest.mark.parametrize(
    ("solver", "interval", "evaluations"),
    [("heun", None, (9, 9)), ("ddim", (-3.0, 100.0), (5, 3)), ("ddim", (90.0, 99.0), (5, 0))],
)
def test_evaluations_of_both_networks_are_counted(solver, interval, evaluations):
    """sd, trailing, 5 steps: log-SNR is -5.4 and -3.3 at the first two times, then above -3."""
    guidance = GuidanceConfig(guide_scale=2.0, log_snr_interval=interval)
    config = SamplingConfig(solver=solver, steps=5, guidance=guidance, guide="weak")
    network = model_of("dit")
    sampler = Sampler(network, make_schedule("sd"), "eps", config, network)
    assert sampler.evaluations == evaluations
    assert sampler.evaluations_per_image == sum(evaluations)


def test_a_scale_needs_a_guide():
    with pytest.raises(ValueError, match=r"guide_scale 2\.0 guides by a weaker model"):
        Sampler(model_of("dit"), make_schedule("flow"), "flow", guiding(2.0, guide="weak"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"guide_scale 2\.0 needs a weaker model: give sampling\.guide RUN"),
        ({"guide": "weak", "semantic_scale": 3.0}, r"set sampling\.guidance\.semantic_scale to 1"),
        ({"guide": "weak", "control_scale": 3.0}, r"set sampling\.guidance\.control_scale to 1"),
        ({"guide": "weak", "guide_scale": 1.0}, r"sampling\.guide weak has no effect"),
        ({"guide_checkpoint": 9, "guide_scale": 1.0}, r"guide_checkpoint 9 has no effect"),
        ({"guide": " "}, r"sampling\.guide must name a run"),
        ({"guide_checkpoint": 0}, r"guide_checkpoint must be 1 or more"),
    ],
)
def test_impossible_guides_are_refused(run, changes, message):
    guide = {name: value for name, value in changes.items() if name.startswith("guide")}
    scales = {"guide_scale": guide.pop("guide_scale", 2.0)}
    scales |= {
        name: changes[name] for name in ("semantic_scale", "control_scale") & changes.keys()
    }
    with pytest.raises(ConfigError, match=message):
        run.sampler(SamplingConfig(guidance=GuidanceConfig(**scales), **guide))


def test_settings_without_a_guide_keep_their_fingerprint():
    """The new settings are part of a protocol only where they are given."""
    names = {name for name in protocol(SamplingConfig()) if "guide" in name or "rescale" in name}
    assert names == set()
    given = protocol(guiding(2.0, guide="runs/weak"))
    assert given["guide"] == "run"  # a path says nothing: the digest of the weights is recorded
    assert fingerprint(guiding(2.0, guide="a")) == fingerprint(guiding(2.0, guide="b"))


def test_an_earlier_checkpoint_guides_and_is_part_of_the_protocol(run):
    config = guiding(2.0, **OWN_CHECKPOINT)
    images = draw(run, [1, 2], SEEDS, config)
    assert not torch.equal(images, draw(run, [1, 2], SEEDS, config.without_guide()))
    content = sampling_protocol(run, config)
    assert content["guide.images_seen"] == 32 and content["guide.sha256"] != run.sha256
    assert content["sampling.evaluations_per_image"] == 6
    assert run.guide(config) is run.guide(replace(config, steps=9))  # loaded once
    assert not any(name.startswith("guide.") for name in sampling_protocol(run, SamplingConfig()))


def test_another_run_guides_as_the_same_checkpoint_of_its_own(run, finished_run):
    """Named by folder or left out, the same weights give the same images."""
    own = guiding(3.0, **OWN_CHECKPOINT)
    named = replace(own, guide=str(finished_run))
    assert torch.equal(draw(run, [1], [0], own), draw(run, [1], [0], named))
    assert "guide.recipe" in sampling_protocol(run, named)


def test_the_weights_of_the_model_itself_are_refused(run, finished_run):
    with pytest.raises(ValueError, match="the guide has the weights of the model itself"):
        run.sampler(guiding(2.0, guide=str(finished_run)))
    with pytest.raises(ValueError, match=r"no checkpoint.*48"):
        run.sampler(guiding(2.0, guide_checkpoint=48))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diffusion": {"schedule": "cosine"}}, "diffusion.schedule: cosine in the guide, sd in"),
        ({"diffusion": {"prediction": "v"}}, "diffusion.prediction: v in the guide, eps in"),
    ],
)
def test_a_guide_of_another_process_is_refused(run, change, message):
    ((section, settings),) = change.items()
    recipe = replace(run.recipe, **{section: replace(getattr(run.recipe, section), **settings)})
    with pytest.raises(ValueError, match=message):
        module._check_fit(run, replace(run, recipe=recipe, source="other"))


def test_a_guide_of_velocities_is_refused_where_steps_are_of_mean_velocities(run):
    guide = run.guide(guiding(2.0, **OWN_CHECKPOINT))
    steps = replace(guiding(2.0), solver="meanflow")
    with pytest.raises(ValueError, match="interval is False in the guide, True in the model"):
        module.check_solver(guide, steps)
    conditioning = replace(guide.recipe.conditioning, interval=True)
    recipe = replace(guide.recipe, conditioning=conditioning)
    module.check_solver(replace(guide, recipe=recipe), steps)


def test_all_differences_of_conditions_and_latents_are_named(run):
    components = copy(run.components)
    data = replace(run.recipe.data, resolution=64)
    affine = Affine(torch.zeros(1, 4, 1, 1), 2 * torch.ones(1, 4, 1, 1))
    components.__dict__ |= {
        "recipe": replace(run.recipe, data=data),
        "autoencoder": run.components.autoencoder.with_affine(affine),
        "class_names": ("cat", "dog"),
        "training_record": replace(run.components.training_record, num_classes=2),
    }
    other = replace(run, components=components, source="runs/other")
    with pytest.raises(ValueError) as error:
        module._check_fit(run, other)
    lines = str(error.value).splitlines()
    assert lines[0] == "runs/other cannot guide this model; they differ in:"
    names = [line.split(":")[0].strip() for line in lines[1:-1]]
    assert names == [
        "shape of the latents",
        "autoencoder and affine",
        "classes",
        "names of classes",
    ]


def test_an_untrained_model_has_no_guide(run):
    recipe = replace(run.recipe, sampling=guiding(2.0, **OWN_CHECKPOINT))
    floor = untrained_run(recipe, run.components.console, components=run.components)
    assert not floor.recipe.sampling.autoguided and not floor.recipe.sampling.guide_settings


def test_the_command_takes_a_guide(finished_run, tmp_path, capsys):
    options = ["--guide-checkpoint", "32", "--guidance.guide-scale", "2"]
    options += ["--guidance.semantic-scale", "1", "--seeds", "0", "--labels", "0"]
    assert main(["sample", str(finished_run), *options, "--out", str(tmp_path), "--quiet"]) == 0
    assert '"guide.images_seen": 32' in (tmp_path / "manifest.json").read_text()


def test_an_export_holds_no_guide_and_says_so(finished_run, tmp_path):
    trained = load_trained_weights(str(finished_run))
    recipe = replace(trained.recipe, sampling=guiding(2.0, guide="runs/weak"))
    notes = export(replace(trained, recipe=recipe), tmp_path / "out")
    assert "sampling.guide runs/weak is left out: an export holds one model" in notes
    exported = load_run(tmp_path / "out")
    assert exported.recipe.sampling == guiding(2.0, guide="runs/weak").without_guide()
    with pytest.raises(ValueError, match="one set of weights"):
        exported.sampler(guiding(2.0, **OWN_CHECKPOINT))
    named = guiding(2.0, guide=str(finished_run), **OWN_CHECKPOINT)
    assert sampling_protocol(exported, named)["guide.images_seen"] == 32


def test_notes_name_what_a_pipeline_of_diffusers_lacks(finished_run):
    trained = load_trained_weights(str(finished_run))
    sampling = guiding(2.0, guide="runs/weak")
    rescaled = replace(sampling, guidance=GuidanceConfig(semantic_scale=2.0, rescale=0.5))

    def notes(sampling, pipeline):
        recipe = replace(trained.recipe, sampling=replace(sampling, solver="ddim"))
        return _sampling_notes(replace(trained, recipe=recipe), pipeline)

    assert notes(rescaled.without_guide(), "StableDiffusionPipeline") == []
    (note,) = notes(rescaled.without_guide(), "PixArtAlphaPipeline")
    assert "the constant semantic_scale only" in note
    assert "samples without sampling.guide" in notes(sampling, "PixArtAlphaPipeline")[-1]
