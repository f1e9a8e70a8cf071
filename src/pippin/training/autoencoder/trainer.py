# SPDX-License-Identifier: Apache-2.0
"""Training of a small KL autoencoder, or of a decoder of frozen features, on any images.

Progress is counted in images. A killed run resumes from the last checkpoint with bit-identical
results, because data and noise are keyed by position. Schedule position, EMA, optimizer state,
log and stop are shared with diffusion models; the loop, the loss, the cosine and the state file
are its own.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder
from torch import Tensor, nn
from torch.optim import Optimizer

from pippin.encoders.config import AutoencoderTrainConfig
from pippin.encoders.normalisation import to_pixels
from pippin.encoders.representation.network import RepresentationNetwork
from pippin.rng import generator, normal
from pippin.system.device import autocast, resolve_device, to_device
from pippin.system.files import make_folder, remove_temporary_files
from pippin.system.signals import StopRequest, TrainingStoppedError
from pippin.training.autoencoder.loss import AutoencoderLoss, autoencoder_loss
from pippin.training.autoencoder.recorded import recorded_settings, refuse_change
from pippin.training.autoencoder.representation import (
    assembled,
    build_feature_decoder,
    build_frozen_encoder,
    representation_loss,
)
from pippin.training.autoencoder.state import STATE_FILE, RunState, read_state, write_state
from pippin.training.ema import EMA
from pippin.training.log import RunLog, RunningMeans
from pippin.training.monitor import reaches
from pippin.training.muon import Muon
from pippin.training.optimizer import schedule_position, set_learning_rates
from pippin.training.state import restore_state, save_state
from pippin.training.trackers import TensorBoard
from pippin.types import Images, Pixels

Batches = Callable[[int], Iterator[Images]]
"""Number of images seen -> infinite iterator over batches of ``batch_size`` images from there."""

Report = Callable[[int, dict[str, float]], None]
"""Callback with the number of images seen and the values of a log line."""


def build_network(config: AutoencoderTrainConfig) -> AutoencoderKL:
    """Initialise an AutoencoderKL without attention, which supports any resolution.

    The weights depend on ``config.seed`` only.
    """
    levels = len(config.block_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator("init", config.seed, "autoencoder").initial_seed())
        network = AutoencoderKL(
            latent_channels=config.latent_channels,
            block_out_channels=config.block_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_groups,
            mid_block_add_attention=False,
        )
    return network.to(memory_format=torch.channels_last)  # faster convolutions


def lr_multiplier(config: AutoencoderTrainConfig, step: int) -> float:
    """Learning-rate multiplier of a step: linear warm-up, then a cosine decay to zero, at the
    position of :func:`pippin.training.optimizer.schedule_position`."""
    seen, length = schedule_position(
        step, images=config.images, batch_size=config.batch_size, lr_at=config.lr_at
    )
    if seen < config.warmup_images:
        return seen / config.warmup_images
    progress = (seen - config.warmup_images) / max(1, length - config.warmup_images)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_optimizers(network: nn.Module, config: AutoencoderTrainConfig) -> list[Optimizer]:
    """Build Muon for convolution weights, and Adam for biases and normalisation gains."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    return [
        Muon(matrices, lr=config.learning_rate),
        torch.optim.Adam(vectors, lr=config.vector_learning_rate, betas=(0.9, 0.99)),
    ]


class AutoencoderTrainer:
    """Trainer of an autoencoder.

    Args:
        config: architecture, length, loss.
        folder: folder of the run (state.safetensors and log.jsonl), empty or to be resumed.
        resume: resume from the folder's state if there is one.
        data: settings that determine the batches, by name; they must not change on resume.

    Raises:
        ValueError: the folder has a state and ``resume`` is False, or the state has other
            settings or another frozen encoder.
    """

    def __init__(
        self,
        config: AutoencoderTrainConfig,
        folder: Path,
        *,
        resume: bool,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.folder = config, folder
        self.device = resolve_device(config.device)
        self.encoder = build_frozen_encoder(config, self.device)
        self.recorded = recorded_settings(config, data or {}, self.encoder)
        self.network = self._build().to(self.device).train()
        self.optimizers = build_optimizers(self.network, config)
        self.ema = EMA(self.network, config.ema_share * config.images)
        self.step_count = 0
        self.log_means = RunningMeans()
        make_folder(folder)
        remove_temporary_files(folder)
        state = read_state(folder)
        if state is not None:
            if not resume:
                raise ValueError(
                    f"{folder} holds a run already; resume it with --resume True, or choose "
                    "another --out"
                )
            self._restore(state)

    @property
    def images_seen(self) -> int:
        """Number of images seen, which determines the position in the data."""
        return self.step_count * self.config.batch_size

    def train(
        self, batches: Batches, report: Report, saved: Callable[[Path], None] = lambda path: None
    ) -> None:
        """Train to the end of the run.

        Args:
            batches: of the images.
            report: called with each log line.
            saved: called with the file of each checkpoint.

        Raises:
            FloatingPointError: loss or gradient is not finite; the last checkpoint is kept.
            TrainingStoppedError: SIGINT or SIGTERM, after a checkpoint.
        """
        stream = batches(self.images_seen)
        board = TensorBoard(self.folder, self.images_seen)
        log = RunLog(self.folder, self.images_seen, [board])
        start, first = time.perf_counter(), self.images_seen
        with closing(board), closing(log), StopRequest() as stop:
            while self.images_seen < self.config.images:
                self.log_means.add(self.step(next(stream)))
                if self._due(self.config.log_every):
                    speed = (self.images_seen - first) / (time.perf_counter() - start)
                    line = {**self.log_means.take(), "images_per_second": speed}
                    log.write(self.images_seen, **line)  # before a checkpoint of the same step
                    report(self.images_seen, line)
                    start, first = time.perf_counter(), self.images_seen
                if self._due(self.config.checkpoint_every) or stop.signal is not None:
                    self.save()
                    saved(self.folder / STATE_FILE)
                if stop.signal is not None:
                    raise TrainingStoppedError(stop.signal, self.folder / STATE_FILE)

    def step(self, images: Images) -> dict[str, float]:
        """Take one step; returns the values of a log line.

        Raises:
            FloatingPointError: see :meth:`train`; nothing is changed.
        """
        config = self.config
        pixels = to_pixels(to_device(images, self.device)).contiguous(
            memory_format=torch.channels_last
        )
        with autocast(self.device, config.precision):
            loss = self._loss(pixels)
        self.network.zero_grad()
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.grad_clip)
        terms = torch.stack([loss.total.detach(), norm, loss.pixel, loss.kl, loss.scale])
        # The only synchronisation of a step.
        total, gradient_norm, pixel, kl, scale = terms.tolist()
        self._check_finite(total, gradient_norm)
        multiplier = lr_multiplier(config, self.step_count)
        set_learning_rates(self.optimizers, multiplier)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step_count += 1
        self.ema.update(self.network, batch_size=config.batch_size, images_seen=self.images_seen)
        return {"pixel": pixel, "kl": kl, "scale": scale, "rate_share": multiplier}

    def _loss(self, pixels: Pixels) -> AutoencoderLoss:
        config, step = self.config, self.step_count
        if self.encoder is not None:
            return representation_loss(self.encoder, self.network, pixels, config, step)
        noise = normal(self._latent_shape(pixels), "posterior", config.seed, step)
        return autoencoder_loss(
            self.network,
            pixels,
            to_device(noise, self.device),
            kl_weight=config.kl_weight,
            scale_weight=config.scale_weight,
        )

    def _build(self) -> AutoencoderKL | Decoder:
        if self.encoder is None:
            return build_network(self.config)
        return build_feature_decoder(self.config, self.encoder.channels)

    def _check_finite(self, loss: float, norm: float) -> None:
        """Check loss and gradient norm before the update: clipping turns an infinite gradient into
        NaN, also for a finite loss."""
        if math.isfinite(loss) and math.isfinite(norm):
            return
        raise FloatingPointError(
            f"the loss is {loss:g} and the norm of its gradient {norm:g} after "
            f"{self.images_seen} images; the last checkpoint is valid. Start again in another "
            "folder with lower learning rates"
        )

    def ema_network(self) -> AutoencoderKL | RepresentationNetwork:
        """Network with EMA weights, the result of the run."""
        network = self._build().to(self.device).eval()
        network.load_state_dict(self.ema.weights)
        if self.encoder is None:
            return network
        return assembled(self.encoder, network, self.config)

    def save(self) -> None:
        """Save the training state."""
        position = {
            "step_count": self.step_count,
            **self.recorded,
            "log_means": self.log_means.state_dict(),
        }
        averages = {"ema": self.ema}
        checkpoint = save_state(
            self.network, averages, self.optimizers, position, keep=True, to_cpu=False
        )
        write_state(self.folder, RunState.of(checkpoint))

    def _restore(self, state: RunState) -> None:
        refuse_change(state.position, self.recorded, type(self.config), self.folder)
        self.step_count = state.position["step_count"]
        if "log_means" in state.position:  # absent from states of older versions
            self.log_means.load_state_dict(state.position["log_means"])
        place, averages = self.folder / STATE_FILE, {"ema": self.ema}
        restore_state(
            state.checkpoint(),
            place,
            self.network,
            averages,
            self.optimizers,
            command=f"pippin autoencoder train ... --out {self.folder.parent} --resume True",
        )

    def _latent_shape(self, pixels: Tensor) -> tuple[int, ...]:
        factor = 2 ** (len(self.config.block_channels) - 1)
        batch, _, height, width = pixels.shape
        return batch, self.config.latent_channels, height // factor, width // factor

    def _due(self, every: int) -> bool:
        """Whether the last step reached a multiple of ``every``, or the end of the run."""
        ended = self.images_seen >= self.config.images
        return ended or reaches(self.images_seen, self.config.batch_size, every)
