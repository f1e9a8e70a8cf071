# SPDX-License-Identifier: Apache-2.0
"""Configuration tree of one run."""

from dataclasses import dataclass, field

from pippin.conditioning.config import ConditioningConfig
from pippin.config import Config, read_by_kind
from pippin.data.config import CacheConfig, DataConfig, NoDataConfig
from pippin.denoisers.config import DenoiserConfig
from pippin.denoisers.registry import denoiser_config
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.config import AutoencoderConfig, TextConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.sampling.config import SamplingConfig
from pippin.training.config import InitConfig, TrainConfig

read_by_kind(DenoiserConfig, denoiser_config)


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """All settings of a run, stored in config.json of its folder."""

    FORMAT = "run"

    family: str = ""
    """Protocol of the recipe, the first part of its name: published, paper, ... A study compares
    within one family, unless the family is on one of its axes."""
    data: DataConfig | NoDataConfig
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    denoiser: DenoiserConfig
    init: InitConfig = field(default_factory=InitConfig)
    train: TrainConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    """Seed of initial weights, order, time, noise, dropped conditions."""
