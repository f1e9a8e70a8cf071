# SPDX-License-Identifier: Apache-2.0
"""Train the shipped autoencoder ``pippin/shapes-f4``, initialised from ``pippin/openmoji-f4``.

    python scripts/train_shapes_autoencoder.py DIR

From random weights, with the same images, colours collapse onto one axis: objects are small, and
the mean absolute error of an image is dominated by its background.
"""

import sys
from pathlib import Path

from pippin.cli.autoencoder import TrainAutoencoderCommand, finish, training_batches
from pippin.data.config import CropConfig, ShapesConfig
from pippin.encoders.autoencoder import Autoencoder
from pippin.encoders.config import AutoencoderConfig, AutoencoderTrainConfig
from pippin.training.autoencoder.trainer import AutoencoderTrainer
from pippin.training.ema import EMA


def main(folder: Path) -> None:
    """Train, save and measure."""
    command = TrainAutoencoderCommand(
        out=folder,
        train=AutoencoderTrainConfig(
            images=10_000,
            batch_size=8,
            learning_rate=1e-2,
            vector_learning_rate=1.5e-3,
            warmup_images=500,
            kl_weight=1e-4,
        ),
        data=ShapesConfig(
            images=200_000,
            resolution=32,
            crop_law=CropConfig(smallest=0.4, flip_probability=0.5),
        ),
    )
    trainer = AutoencoderTrainer(command.train, folder / "run", resume=False)
    start = Autoencoder.load(AutoencoderConfig(), device="cpu").network.state_dict()
    trainer.network.load_state_dict(start)
    trainer.ema = EMA(trainer.network, trainer.ema.half_life)
    trainer.train(
        lambda seen: training_batches(command, seen),
        lambda images, figures: print(images, figures, flush=True),
    )
    finish(command, trainer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
