# SPDX-License-Identifier: Apache-2.0
"""A run on features of a frozen encoder, from measured statistics to samples of its export."""

from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig
from pippin.encoders.representation.config import RepresentationConfig
from pippin.encoders.representation.network import (
    RepresentationNetwork,
    build_decoder,
    pretrained_encoder,
)
from pippin.recipes.recipe import Recipe
from pippin.runs.trained import export, load_trained_weights
from pippin.sampling.load import load_run
from pippin.sampling.sample import draw
from pippin.training.train import train

QUIET = Console(quiet=True)
SHAPE = {"block_channels": (4, 8, 8), "layers_per_block": 1, "norm_groups": 1}


def test_an_export_holds_autoencoder_and_measured_statistics(
    recipe: Recipe, tmp_path: Path
) -> None:
    """The export samples the run's images after the autoencoder's folder has gone."""
    source, exported = tmp_path / "rae", tmp_path / "export"
    encoder = pretrained_encoder(RepresentationConfig(encoder="efflite0"))
    torch.manual_seed(0)
    decoder = build_decoder(encoder.channels, **SHAPE)
    Autoencoder(RepresentationNetwork(encoder, decoder, **SHAPE), None).save(source)
    own = replace(
        recipe,
        autoencoder=AutoencoderConfig(source=str(source), normalisation="measured"),
        train=replace(recipe.train, images=16, validate_every=0, preview_every=0),
    )
    train(own, tmp_path / "run", console=QUIET)
    run = load_run(tmp_path / "run", console=QUIET)
    statistics = run.components.latents
    assert statistics is not None and len(statistics.mean) == 112 and statistics.images > 0
    expected = draw(run, [1, 2], [3, 4])
    export(load_trained_weights(str(tmp_path / "run")), exported)
    source.rename(tmp_path / "away")
    loaded = load_run(exported, console=QUIET)
    assert loaded.components.latents == statistics
    assert torch.equal(loaded.components.autoencoder.scale.flatten(), torch.tensor(statistics.std))
    assert torch.equal(draw(loaded, [1, 2], [3, 4]), expected)
