# SPDX-License-Identifier: Apache-2.0
"""Invalid settings are refused when they are given, by their name in a recipe."""

import math
import re
from dataclasses import replace

import pytest

from pippin.conditioning.config import (
    ConditioningConfig,
    ControlConfig,
    DropConfig,
    LabelSemantic,
    NoSemantic,
    PowerCosineGate,
    TextSemantic,
)
from pippin.config import ConfigError, protocol
from pippin.control import ColourJitter
from pippin.data.config import AugmentationConfig, CacheConfig, CropConfig, OpenMojiConfig
from pippin.denoisers.mmdit.config import mmdit
from pippin.diffusion.config import LogitNormalTime, MinSNRWeight
from pippin.encoders.config import AutoencoderConfig, AutoencoderTrainConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.sampling.config import ControlRequest, GuidanceConfig, SamplingConfig, check_guidance
from pippin.training.averaging.config import ImagesHalfLife, PowerProfile, ShareHalfLife
from pippin.training.config import InitConfig, TrainConfig


def train(**settings):
    return TrainConfig(**{"images": 10, **settings})


def tiny(**settings):
    return mmdit("tiny", **settings)


IMPOSSIBLE = [
    *[(train, "train", {name: 0}) for name in ("images", "batch_size", "checkpoint_every")],
    *[(train, "train", {name: 0}) for name in ("keep_checkpoints", "log_every", "max_bad_steps")],
    *[(train, "train", {name: -1}) for name in ("workers", "validate_every", "preview_every")],
    *[(train, "train", {name: -1}) for name in ("warmup_images", "weight_decay")],
    *[(train, "train", {"learning_rate": x}) for x in (0.0, -1.0, math.nan, math.inf)],
    (train, "train", {"grad_clip": 0.0}),
    (train, "train", {"betas": (0.9, 1.0)}),
    (train, "train", {"ema_extra": (ShareHalfLife(share=0.1), ShareHalfLife(share=0.1))}),
    (train, "train", {"ema_extra": (ShareHalfLife(),)}),
    *[(InitConfig, "init", {"weights": x}) for x in ("EMA", "ema-share-", "ema-images-0.5")],
    *[(SamplingConfig, "sampling", {"weights": x}) for x in ("", "ema/../raw", "untrained")],
    (ImagesHalfLife, "train.ema", {"images": 0}),
    (ShareHalfLife, "train.ema", {"share": 0.0}),
    *[(PowerProfile, "train.ema", {"sigma_rel": x}) for x in (0.0, 0.3, math.nan)],
    *[(train, "train", {"snapshot_widths": x}) for x in ((), (0.1, 0.1), (0.1, 0.3))],
    (train, "train", {"snapshot_every": -1}),
    *[
        (AutoencoderTrainConfig, "train", {name: 0})
        for name in ("layers_per_block", "norm_groups", "latent_channels", "log_every")
    ],
    *[
        (AutoencoderTrainConfig, "train", {name: 0.0})
        for name in ("learning_rate", "vector_learning_rate", "grad_clip", "ema_share")
    ],
    (AutoencoderTrainConfig, "train", {"kl_weight": -1.0}),
    (AutoencoderTrainConfig, "train", {"block_channels": (0, 8)}),
    (AutoencoderTrainConfig, "train", {"checkpoint_every": 0}),
    (AutoencoderConfig, "autoencoder", {"source": " "}),
    *[
        (EvaluationConfig, "evaluation", {name: 0})
        for name in ("kid_subsets", "neighbours", "drift_pairs", "batch_size", "num_samples")
    ],
    (EvaluationConfig, "evaluation", {"kid_subset_size": 1}),
    (EvaluationConfig, "evaluation", {"input_size": 31}),
    (EvaluationConfig, "evaluation", {"held_out_images": 0}),
    (EvaluationConfig, "evaluation", {"scale_samples": 1}),
    (EvaluationConfig, "evaluation", {"scales": (1.0, 1.0)}),
    (EvaluationConfig, "evaluation", {"size_curve": (0,)}),
    (EvaluationConfig, "evaluation", {"parts": ()}),
    (EvaluationConfig, "evaluation", {"control_scales": (1.0, math.inf)}),
    (EvaluationConfig, "evaluation", {"neighbours": 1000}),
    *[
        (EvaluationConfig, "evaluation", {"loss_log_snrs": x})
        for x in ((), (0.0, 0.0), (math.nan,))
    ],
    (SamplingConfig, "sampling", {"steps": 0}),
    (SamplingConfig, "sampling", {"batch_size": 0}),
    (GuidanceConfig, "sampling.guidance", {"cfg_channels": 0}),
    (GuidanceConfig, "sampling.guidance", {"semantic_scale": math.nan}),
    (GuidanceConfig, "sampling.guidance", {"control_scale": math.inf}),
    (GuidanceConfig, "sampling.guidance", {"log_snr_interval": (1.0, 1.0)}),
    (ControlRequest, "sampling.control", {"original_size": (0, 64)}),
    (ControlRequest, "sampling.control", {"crop_size": (64, 0)}),
    (ControlRequest, "sampling.control", {"crop_corner": (-1, 0)}),
    (ControlRequest, "sampling.control", {"crop_corner": (0, 256)}),
    (ControlRequest, "sampling.control", {"jpeg_quality": 0}),
    (ControlRequest, "sampling.control", {"colour_jitter": ColourJitter(1.0, 9.0, 1.0)}),
    (AugmentationConfig, "data.look", {"colour_jitter": -0.5}),
    (AugmentationConfig, "data.look", {"colour_jitter": 4.0}),
    (AugmentationConfig, "data.look", {"jpeg_share": 1.5}),
    (CropConfig, "data.crop_law", {"local_share": -0.1}),
    (AugmentationConfig, "data.look", {"jpeg_largest": 101}),
    (CacheConfig, "cache", {"shard_size": 0}),
    (CacheConfig, "cache", {"folder": ""}),
    (OpenMojiConfig, "max_pictures", {"max_pictures": 0}),
    (LogitNormalTime, "diffusion.time_density", {"std": 0.0}),
    (LogitNormalTime, "diffusion.time_density", {"mean": math.nan}),
    (MinSNRWeight, "diffusion.loss_weight", {"gamma": 0.0}),
    (LabelSemantic, "conditioning.semantic", {"num_tokens": 0}),
    (PowerCosineGate, "conditioning.control gate", {"alpha": 0.0}),
    (ControlConfig, "conditioning.control", {"num_frequencies": 0}),
    (ControlConfig, "conditioning.control", {"field_drop": 1.5}),
    (ControlConfig, "conditioning.control", {"high": ("flip", "flip")}),
    (ControlConfig, "conditioning.control", {"low": ("blur",)}),
    *[(tiny, "denoiser", {"patch_size": 0}), (tiny, "denoiser", {"mlp_ratio": 0.0})],
]


@pytest.mark.parametrize(("build", "section", "settings"), IMPOSSIBLE)
def test_what_cannot_work_is_refused_by_name(build, section, settings):
    build()
    with pytest.raises(ConfigError) as refused:
        build(**settings)
    (name,) = settings
    assert section in str(refused.value) and name in str(refused.value)


@pytest.mark.parametrize(("depth", "width", "heads"), [(0, 8, 2), (2, 0, 2), (2, 8, 0), (2, 8, 3)])
def test_a_network_of_nothing_is_refused(depth, width, heads):
    from pippin.denoisers.dit.config import DiTConfig

    with pytest.raises(ConfigError, match=r"denoiser\.\w+ must be"):
        DiTConfig(depth=depth, width=width, num_heads=heads)


@pytest.mark.parametrize(
    ("corner", "crop", "size"),
    [
        ((200, 0), (64, 64), (256, 256)),
        ((0, 1), (256, 256), (256, 256)),
        ((0, 0), (65, 9), (64, 9)),
    ],
)
def test_a_crop_outside_the_image_is_refused_by_all_three_names(corner, crop, size):
    with pytest.raises(ConfigError) as refused:
        ControlRequest(original_size=size, crop_corner=corner, crop_size=crop)
    for name in ("crop_corner", "crop_size", "original_size", str(corner), str(size)):
        assert name in str(refused.value)
    ControlRequest(original_size=(256, 256), crop_corner=(192, 0), crop_size=(64, 64))


def test_a_named_tuple_is_recorded_as_json_gives_it_back():
    config = ControlRequest(colour_jitter=ColourJitter(0.5, 1.0, 2.0))
    assert (
        config.to_dict()["colour_jitter"] == protocol(config)["colour_jitter"] == [0.5, 1.0, 2.0]
    )
    assert ControlRequest.from_dict(config.to_dict()) == config


def test_a_value_is_no_request_where_the_data_decide():
    with pytest.raises(ConfigError, match=r"ask training.*jpeg_quality, flip would have no"):
        ControlRequest(ask="training", jpeg_quality=40, flip=True)


NEVER = DropConfig(keep=1.0, control=0.0, semantic=0.0, both=0.0)
NO_CONTROL = ControlConfig(high=(), low=())


@pytest.mark.parametrize(
    ("guidance", "conditioning", "named"),
    [
        ({"semantic_scale": 2.0}, {"drop": NEVER}, "conditioning.drop.both"),
        (
            {"semantic_scale": 2.0, "reference": "control"},
            {"drop": DropConfig(keep=0.9, control=0.0, semantic=0.0, both=0.1)},
            "conditioning.drop.semantic",
        ),
        (
            {"control_scale": 2.0},
            {"drop": DropConfig(keep=0.8, control=0.0, semantic=0.1, both=0.1)},
            "conditioning.drop.control",
        ),
        ({"control_scale": 0.5}, {"control": NO_CONTROL}, "conditioning.control"),
        (
            {"semantic_scale": 2.0},
            {"semantic": NoSemantic(), "rules": {}},
            "conditioning.rules is empty",
        ),
    ],
)
def test_guidance_needs_what_training_dropped(guidance, conditioning, named):
    (scale,) = [name for name in guidance if name.endswith("scale")]
    with pytest.raises(ConfigError, match=re.escape(named)) as refused:
        check_guidance(
            SamplingConfig(guidance=GuidanceConfig(**guidance)), ConditioningConfig(**conditioning)
        )
    assert f"sampling.guidance.{scale} {guidance[scale]}" in str(refused.value)
    check_guidance(SamplingConfig(guidance=GuidanceConfig()), ConditioningConfig(**conditioning))


@pytest.mark.parametrize(
    "conditioning",
    [
        {},
        {
            "control": NO_CONTROL,
            "drop": DropConfig(keep=0.9, control=0.0, semantic=0.1, both=0.0),
        },
    ],
)
def test_guidance_by_what_was_dropped_is_allowed(conditioning):
    check_guidance(
        SamplingConfig(guidance=GuidanceConfig(semantic_scale=4.0)),
        ConditioningConfig(**conditioning),
    )


TEXT = {"semantic": TextSemantic(token_features=8, num_tokens=4), "rules": {"text": "attention"}}


@pytest.mark.parametrize(
    ("scale", "conditioning", "message"),
    [(2.0, {}, "is for text models"), (1.0, TEXT, "has no effect without guidance")],
)
def test_a_negative_prompt_that_cannot_work_is_refused(scale, conditioning, message):
    guidance = GuidanceConfig(semantic_scale=scale)
    with pytest.raises(ConfigError, match=f"sampling.negative_prompt {message}"):
        check_guidance(
            SamplingConfig(guidance=guidance, negative_prompt="blurry"),
            ConditioningConfig(**conditioning),
        )


def _text(**drop):
    return ConditioningConfig(**TEXT, drop=DropConfig(**{"keep": 0.8, **drop}))


def _negative(reference):
    guidance = GuidanceConfig(semantic_scale=3.0, reference=reference)
    return SamplingConfig(guidance=guidance, negative_prompt="blurry")


ONLY_SEMANTIC = {"control": 0.0, "semantic": 0.2, "both": 0.0}
ONLY_CONTROL = {"control": 0.2, "semantic": 0.0, "both": 0.0}
ONLY_BOTH = {"control": 0.0, "semantic": 0.0, "both": 0.2}


@pytest.mark.parametrize("drop", [ONLY_SEMANTIC, ONLY_BOTH])
def test_a_negative_prompt_without_control_needs_dropped_control(drop):
    """Its reference is e(0, negative), which keeps semantics."""
    with pytest.raises(ConfigError, match=r"conditioning\.drop\.control above 0"):
        check_guidance(_negative("null"), _text(**drop))


def test_a_negative_prompt_needs_no_dropped_semantics():
    check_guidance(_negative("null"), _text(**ONLY_CONTROL))
    for drop in (ONLY_CONTROL, ONLY_SEMANTIC, ONLY_BOTH):
        check_guidance(_negative("control"), _text(**drop))
    without_control = replace(_text(**ONLY_CONTROL), control=NO_CONTROL)
    check_guidance(_negative("null"), without_control)
    with pytest.raises(ConfigError, match=r"conditioning\.drop\.semantic above 0"):
        check_guidance(replace(_negative("null"), negative_prompt=None), without_control)
