# SPDX-License-Identifier: Apache-2.0
"""Whole commands as a GPU would run them: no device is mixed up, and every wait is a known one."""

from dataclasses import replace

import pytest
import torch
import transformers
from cuda_rehearsal import WAITS, _IdleStream, rehearsal
from rich.console import Console
from small_models import KINDS
from small_trainer import CONFIG, batches

from pippin.conditioning.config import (
    ConditioningConfig,
    ControlConfig,
    LogSnrGate,
    TextSemantic,
)
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.diffusion.rescale import build_schedule
from pippin.encoders.config import AutoencoderTrainConfig, TextConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.evaluation.features.extraction import build_features, extract
from pippin.evaluation.runs.evaluate import evaluate_run
from pippin.model import build_model
from pippin.objective.losses import Objective
from pippin.sampling.config import ControlRequest, GuidanceConfig
from pippin.sampling.load import load_run
from pippin.sampling.request import request_conditions
from pippin.training.autoencoder.trainer import AutoencoderTrainer
from pippin.training.averaging.config import ImagesHalfLife, ShareHalfLife
from pippin.training.blocks import checkpoint_blocks
from pippin.training.loop import Trainer
from pippin.training.train import train

QUIET = Console(quiet=True)
STEP, IMAGES = "distributed.world:sync_step_status", "sampling.sampler:Sampler._images"
BY_MODULATION = {"label": "modulation"}
FINITE = "sampling.sampler:_check_finite"


def on_cuda(recipe):
    return replace(recipe, train=replace(recipe.train, device="cuda"))


def given(**settings):
    """Train settings, by default with the small mmDiT and 1000 indices of noise."""
    return MMDIT, DiffusionConfig(), ConditioningConfig(), settings


MMDIT = MMDiTConfig(depth=2, width=16, num_heads=2)
GATED = ConditioningConfig(control=ControlConfig(low=("original_size",), low_gate=LogSnrGate()))
LEARNED = replace(KINDS["dit"], learn_variance=True)
FLOW = DiffusionConfig(schedule="flow", prediction="flow")
EXTRA = (ShareHalfLife(share=0.3), ImagesHalfLife(images=9))
VARIANTS = {
    "dit": (LEARNED, DiffusionConfig(), ConditioningConfig(), {}),
    "pixart": (KINDS["pixart"], DiffusionConfig(), ConditioningConfig(), {}),
    "unet": (KINDS["unet"], DiffusionConfig(prediction="v"), ConditioningConfig(), {}),
    "mdtv2": (KINDS["mdtv2"], DiffusionConfig(), ConditioningConfig(rules=BY_MODULATION), {}),
    "flow": (MMDIT, FLOW, ConditioningConfig(), {}),
    "gate in log-SNR": (MMDIT, DiffusionConfig(), GATED, {}),
    "Muon": given(muon_learning_rate=1e-2),
    "micro-batches": given(micro_batch_size=4),
    "averages": given(
        ema_extra=(ShareHalfLife(share=0.3), ImagesHalfLife(images=9)), precision="bf16"
    ),
    "recomputed": given(gradient_checkpointing=1),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_waits_once_for_loss_and_norm(name, tmp_path):
    """And copies nothing but pinned memory."""
    denoiser, diffusion, conditioning, settings = VARIANTS[name]
    schedule, objective = build_schedule(diffusion), Objective(diffusion)
    with rehearsal() as mode:
        model = build_model(
            conditioning,
            denoiser,
            num_classes=3,
            latent_channels=4,
            seed=0,
            log_snr=schedule.log_snr,
        ).to("cuda")
        checkpoint_blocks(model.denoiser.blocks, settings.pop("gradient_checkpointing", 0))
        config = replace(CONFIG, images=24, checkpoint_every=24, **settings)
        trainer = Trainer(model, objective, conditioning, config, seed=0, folder=tmp_path)
        stream = batches()
        trainer.step(next(stream))
        mode.pageable.clear()
        mode.waits.clear()
        trainer.step(next(stream))
        assert dict(mode.waits) == {STEP: 1}
        assert not mode.pageable
        trainer.train(stream)
    assert set(mode.waits) <= set(WAITS)


def test_the_next_batch_is_fetched_before_the_wait(tmp_path, monkeypatch):
    """While the GPU still computes the step."""
    denoiser, diffusion, conditioning, _ = given()
    config, fetched = replace(CONFIG, images=24, checkpoint_every=24), []

    def watched(mode):
        for batch in batches():
            fetched.append(mode.waits[STEP])
            yield batch

    with rehearsal() as mode:
        monkeypatch.setattr(_IdleStream, "query", lambda _: False)
        model = build_model(conditioning, denoiser, num_classes=3, latent_channels=4, seed=0)
        trainer = Trainer(
            model.to("cuda"), Objective(diffusion), conditioning, config, seed=0, folder=tmp_path
        )
        trainer.train(watched(mode))
    assert fetched == [0, 0, 1]
    assert set(mode.waits) <= set(WAITS)


def test_training(recipe, tmp_path):
    """With cache, validation and previews."""
    train_config = replace(recipe.train, images=32, precision="bf16")
    with rehearsal() as mode:
        train(on_cuda(replace(recipe, train=train_config)), tmp_path / "run", console=QUIET)
    assert set(mode.waits) <= set(WAITS)
    assert mode.waits[STEP] == 2
    assert mode.waits[IMAGES] == mode.waits[FINITE] == 1  # a batch of previews


def test_training_with_captions(recipe, tmp_path):
    rule = TextSemantic(token_features=384, num_tokens=8, padding="noisy_replicate")
    conditioning = replace(recipe.conditioning, semantic=rule, rules={"text": "attention"})
    text = TextConfig(captions={"name": 1.0, "tags": 3.0}, folder=str(tmp_path / "text"))
    train_config = replace(recipe.train, images=16, validate_every=0, preview_every=16)
    recipe = replace(recipe, conditioning=conditioning, text=text, train=train_config)
    with rehearsal() as mode:
        train(on_cuda(recipe), tmp_path / "run", console=QUIET)
    assert set(mode.waits) <= set(WAITS)
    assert mode.waits[STEP] == 1


@pytest.fixture
def loaded(finished_run):
    """The run on the rehearsed device, and the rehearsal."""
    recipe = load_run(finished_run).recipe
    with rehearsal() as mode:
        yield load_run(finished_run, recipe=on_cuda(recipe)), mode


@pytest.mark.parametrize(
    ("solver", "guidance"),
    [
        ("ddim", GuidanceConfig(semantic_scale=3.0, control_scale=2.0)),
        ("euler", GuidanceConfig()),
        ("heun", GuidanceConfig(semantic_scale=3.0, cfg_channels=3)),
        ("dpm++", GuidanceConfig(semantic_scale=3.0, log_snr_interval=(-1.0, 1.0))),
        ("ddpm", GuidanceConfig(semantic_scale=3.0, semantic_power=4.0)),
    ],
)
def test_sampling_waits_for_the_images_of_a_batch(solver, guidance, loaded):
    run, mode = loaded
    config = replace(
        run.recipe.sampling,
        solver=solver,
        guidance=guidance,
        precision="bf16",
        batch_size=4,
        steps=2,
    )
    conditions = request_conditions(
        [0] * 6, ControlRequest(), run.control_names, num_classes=run.num_classes
    )
    mode.waits.clear()
    mode.pageable.clear()
    drawn = run.sampler(config).batches(conditions, range(6), run.components.autoencoder, 32)
    assert [len(batch.images) for batch in drawn] == [4, 2]
    assert dict(mode.waits) == {IMAGES: 2, FINITE: 2}
    assert not mode.pageable


def test_evaluation(finished_run, recipe, tmp_path):
    """With the search of the best scale."""
    parts = ("held-out", "quality", "drift")
    evaluation = replace(
        recipe.evaluation,
        parts=parts,
        num_samples=8,
        drift_pairs=1,
        loss_log_snrs=(0.0,),
        scales=(1.0, 3.0),
        scale_samples=4,
    )
    recipe = replace(recipe, evaluation=evaluation, sampling=replace(recipe.sampling, steps=1))
    with rehearsal() as mode:
        run = load_run(finished_run, recipe=on_cuda(recipe))
        measures = evaluate_run(run, tmp_path)
    expected = {"KID-efflite0", "held-out loss", "best semantic scale"}
    assert expected <= {measure.name for measure in measures}
    assert set(mode.waits) <= set(WAITS)


@pytest.fixture(scope="module")
def feature_configs(inception_file, tmp_path_factory):
    dinov2 = tmp_path_factory.mktemp("dinov2")
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(dinov2)
    return {
        "efflite0": EvaluationConfig(input_size=32),
        "inception": EvaluationConfig(features="inception", inception=str(inception_file)),
        "dinov2": EvaluationConfig(features="dinov2", dinov2=str(dinov2)),
    }


@pytest.mark.parametrize("name", ["efflite0", "inception", "dinov2"])
def test_features(name, feature_configs, images):
    with rehearsal() as mode:
        extractor = build_features(feature_configs[name], torch.device("cuda"))
        features = extract(extractor, [images[:6], images[6:]])
    assert len(features.values) == 12
    assert set(mode.waits) <= set(WAITS)


def test_training_of_an_autoencoder(images, tmp_path):
    config = AutoencoderTrainConfig(
        images=8,
        batch_size=4,
        block_channels=(4, 8),
        latent_channels=3,
        device="cuda",
        log_every=4,
    )
    with rehearsal() as mode:
        trainer = AutoencoderTrainer(config, tmp_path, resume=False)
        trainer.train(lambda start: iter([images[:4], images[4:8]]), lambda *_: None)
    assert set(mode.waits) <= set(WAITS)
