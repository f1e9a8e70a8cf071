# SPDX-License-Identifier: Apache-2.0
"""A recipe that runs from images to a report in seconds: 32 px, 24 images, random autoencoder."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL

from pippin.data.config import CacheConfig, OpenMojiConfig
from pippin.denoisers.mmdit.config import MMDiTConfig
from pippin.diffusion.config import DiffusionConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.normalisation import Affine
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.table import get_recipe
from pippin.sampling.load import load_run
from pippin.training.config import TrainConfig


@pytest.fixture(scope="session")
def autoencoder_folder(tmp_path_factory):
    torch.manual_seed(0)
    network = AutoencoderKL(
        block_out_channels=(4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        mid_block_add_attention=False,
    )
    folder = tmp_path_factory.mktemp("autoencoder")
    affine = Affine(torch.zeros(1, 4, 1, 1), torch.ones(1, 4, 1, 1))
    Autoencoder(network, affine).save(folder)
    return folder


@pytest.fixture(scope="session")
def recipe(autoencoder_folder, tmp_path_factory):
    base = get_recipe("openmoji/mmdit-disentangled")
    return replace(
        base,
        data=OpenMojiConfig(resolution=32, views=2, max_pictures=24),
        autoencoder=AutoencoderConfig(source=str(autoencoder_folder)),
        cache=CacheConfig(folder=str(tmp_path_factory.mktemp("caches"))),
        diffusion=DiffusionConfig(),  # eps: zero weights have loss 1
        denoiser=MMDiTConfig(depth=2, width=16, num_heads=2),
        train=TrainConfig(
            images=64,
            batch_size=16,
            precision="fp32",
            device="cpu",
            log_every=16,
            validate_every=32,
            preview_every=32,
            checkpoint_every=32,
        ),
        sampling=replace(base.sampling, steps=3, solver="dpm++"),
        evaluation=EvaluationConfig(
            num_samples=12, input_size=32, kid_subset_size=8, kid_subsets=4, drift_pairs=3
        ),
    )


@pytest.fixture(scope="session")
def finished_run(recipe, tmp_path_factory):
    from pippin.training.train import train

    folder = tmp_path_factory.mktemp("runs") / "finished"
    train(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def run(finished_run):
    """The run, loaded; a test that changes it changes it for its module."""
    return load_run(finished_run)


@pytest.fixture
def config(run):
    """Its sampling, by fours."""
    return replace(run.recipe.sampling, batch_size=4)
