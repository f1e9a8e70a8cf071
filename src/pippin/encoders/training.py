# SPDX-License-Identifier: Apache-2.0
"""Training of a small KL autoencoder on any images.

Progress is counted in images. A killed run resumes from the last checkpoint with bit-identical
results, because data and noise are keyed by position.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.optim import Optimizer

from pippin.config import legacy_defaults, protocol
from pippin.encoders.config import AutoencoderTrainConfig
from pippin.encoders.loss import autoencoder_loss
from pippin.encoders.pixels import to_pixels
from pippin.encoders.run_state import STATE_FILE, RunState, load_state, save_state
from pippin.muon import Muon
from pippin.rng import generator, normal
from pippin.system.device import resolve_device
from pippin.system.files import remove_temporary_files
from pippin.system.fsync import make_folder
from pippin.system.lines import append_lines, keep_lines
from pippin.system.running_means import RunningMeans
from pippin.system.signals import StopRequest, TrainingStoppedError
from pippin.types import Images

LOG_FILE = "log.jsonl"
CONTENT = "data.content"
"""Key of the hash of the images among the data settings."""
PATH_SETTINGS = ("data.path", "data.metadata")
"""Data settings that may differ if the images are the same."""
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
    """Learning-rate multiplier of a step: linear warm-up, then a cosine decay to zero.

    ``config.lr_at`` sets the position within the step and the length, as in
    :func:`pippin.training.optimizer.lr_multiplier`.
    """
    seen: float = (step + 1) * config.batch_size
    length = config.images
    if config.lr_at == "middle":
        seen = (step + 0.5) * config.batch_size
        length = math.ceil(config.images / config.batch_size) * config.batch_size
    if seen < config.warmup_images:
        return seen / config.warmup_images
    progress = (seen - config.warmup_images) / max(1, length - config.warmup_images)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_optimizers(network: AutoencoderKL, config: AutoencoderTrainConfig) -> list[Optimizer]:
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
            settings.
    """

    def __init__(
        self,
        config: AutoencoderTrainConfig,
        folder: Path,
        *,
        resume: bool,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.folder, self.data = config, folder, dict(data or {})
        self.network = build_network(config).to(resolve_device(config.device)).train()
        self.device = next(self.network.parameters()).device
        self.average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.optimizers = build_optimizers(self.network, config)
        self.peak_rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.step_count = 0
        self.log_means = RunningMeans()
        make_folder(folder)
        remove_temporary_files(folder)
        state = load_state(folder)
        if state is not None:
            if not resume:
                raise ValueError(
                    f"{folder} holds a run already; resume it with --resume True, or choose "
                    "another --out"
                )
            self._restore(state)
        keep_lines(folder / LOG_FILE, self._is_logged_before_now)

    def _is_logged_before_now(self, line: dict[str, Any]) -> bool:
        """True if a log line belongs to the state; a line without an image count is damaged."""
        images = line.get("images")
        return isinstance(images, int) and images <= self.images_seen

    @property
    def images_seen(self) -> int:
        """Number of images seen, which determines the position in the data."""
        return self.step_count * self.config.batch_size

    def train(self, batches: Batches, report: Report) -> None:
        """Train to the end of the run.

        Raises:
            FloatingPointError: loss or gradient is not finite; the last checkpoint is kept.
            TrainingStoppedError: SIGINT or SIGTERM, after a checkpoint.
        """
        stream = batches(self.images_seen)
        with StopRequest() as stop:
            while self.images_seen < self.config.images:
                self._train_until_log(stream, report, stop)

    def _train_until_log(
        self, stream: Iterator[Images], report: Report, stop: StopRequest
    ) -> None:
        """Train to the next log line; the line precedes a checkpoint of the same step."""
        start, first, logged = time.perf_counter(), self.images_seen, False
        while not logged:
            self.log_means.add(self._step(next(stream)))
            logged = self._crossed(self.config.log_every)
            if logged:
                self._log((self.images_seen - first) / (time.perf_counter() - start), report)
            if self._crossed(self.config.checkpoint_every) or stop.signal is not None:
                self.save()
            if stop.signal is not None:
                raise TrainingStoppedError(stop.signal, self.folder / STATE_FILE)

    def _log(self, images_per_second: float, report: Report) -> None:
        """Write and report the means since the last line."""
        line = {**self.log_means.take(), "images_per_second": images_per_second}
        append_lines(self.folder / LOG_FILE, [{"images": self.images_seen, **line}])
        report(self.images_seen, line)

    def _step(self, images: Images) -> dict[str, float]:
        config = self.config
        pixels = to_pixels(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        noise = normal(self._latent_shape(pixels), "posterior", config.seed, self.step_count)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = autoencoder_loss(
                self.network,
                pixels,
                noise.to(self.device),
                kl_weight=config.kl_weight,
                scale_weight=config.scale_weight,
            )
        self.network.zero_grad()
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.grad_clip)
        terms = torch.stack([loss.total.detach(), norm, loss.pixel, loss.kl, loss.scale])
        # The only synchronisation of a step.
        total, gradient_norm, pixel, kl, scale = terms.tolist()
        self._check_finite(total, gradient_norm)
        multiplier = lr_multiplier(config, self.step_count)
        for optimizer, peak in zip(self.optimizers, self.peak_rates, strict=True):
            optimizer.param_groups[0]["lr"] = multiplier * peak
            optimizer.step()
        self.step_count += 1
        self._update_average()
        return {"pixel": pixel, "kl": kl, "scale": scale, "rate_share": multiplier}

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

    @torch.no_grad()
    def _update_average(self) -> None:
        """Update the EMA: average <- d average + (1 - d) weights; the half-life grows at first."""
        half_life = min(self.config.ema_share * self.config.images, 0.1 * self.images_seen)
        weight = 1 - 0.5 ** (self.config.batch_size / half_life)
        torch._foreach_lerp_(
            list(self.average.values()), [p.detach() for p in self.network.parameters()], weight
        )

    def ema_network(self) -> AutoencoderKL:
        """Copy of the network with EMA weights, the result of the run."""
        network = build_network(self.config).to(self.device).eval()
        network.load_state_dict(self.average)
        return network

    def save(self) -> None:
        """Save the training state."""
        tensors: dict[str, Tensor] = {
            **{f"network/{name}": p for name, p in self.network.named_parameters()},
            **{f"average/{name}": p for name, p in self.average.items()},
        }
        for name, state in self._optimizer_states():
            tensors |= {f"optimizer/{name}/{key}": value for key, value in state.items()}
        position = {
            "step_count": self.step_count,
            "config": self._protocol(),
            "data": _plain(self.data),
            "log_means": self.log_means.state_dict(),
        }
        save_state(self.folder, RunState(tensors=tensors, position=position))

    @torch.no_grad()
    def _restore(self, state: RunState) -> None:
        self._refuse_change(state.position)
        self.step_count = state.position["step_count"]
        if "log_means" in state.position:  # absent from states of older versions
            self.log_means.load_state_dict(state.position["log_means"])
        for name, parameter in self.network.named_parameters():
            parameter.copy_(state.tensors[f"network/{name}"])
            self.average[name].copy_(state.tensors[f"average/{name}"])
        for name, optimizer_state in self._optimizer_states():
            prefix = f"optimizer/{name}/"
            for key in [key for key in state.tensors if key.startswith(prefix)]:
                value = state.tensors[key]  # Adam keeps its step count, a scalar, on the CPU
                optimizer_state[key.removeprefix(prefix)] = (
                    value.to(self.device) if value.ndim else value
                )

    def _refuse_change(self, recorded: dict[str, Any]) -> None:
        """Reject settings that differ from those of the state, and name all of them."""
        before = recorded["config"] | recorded.get("data", {})
        now = self._protocol() | _plain(self.data)
        defaults = {f"train.{name}": v for name, v in legacy_defaults(type(self.config)).items()}
        before, now = defaults | before, defaults | now
        ignored = {CONTENT} if CONTENT not in before else set()  # an older version
        if before.get(CONTENT) is not None and before[CONTENT] == now.get(CONTENT):
            ignored = {*PATH_SETTINGS}  # the same images in another folder
        names = [n for n in {**before, **now} if before.get(n) != now.get(n) and n not in ignored]
        if names:
            lines = "\n".join(f"  {n}: {before.get(n)!r} -> {now.get(n)!r}" for n in names)
            images = f"; another {CONTENT} means other images" if CONTENT in names else ""
            raise ValueError(
                f"{self.folder} was trained with other settings (recorded -> given):\n{lines}\n"
                f"resume with the recorded ones, or choose another --out{images}"
            )

    def _optimizer_states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Optimizer state of each parameter, by name."""
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        for optimizer in self.optimizers:
            for parameter in optimizer.param_groups[0]["params"]:
                yield names[parameter], optimizer.state[parameter]

    def _protocol(self) -> dict[str, Any]:
        return {f"train.{name}": value for name, value in _plain(protocol(self.config)).items()}

    def _latent_shape(self, pixels: Tensor) -> tuple[int, ...]:
        factor = 2 ** (len(self.config.block_channels) - 1)
        batch, _, height, width = pixels.shape
        return batch, self.config.latent_channels, height // factor, width // factor

    def _crossed(self, every: int) -> bool:
        """True if the last step reached a multiple of ``every``, or the end of the run."""
        before = self.images_seen - self.config.batch_size
        return self.images_seen // every > before // every or (
            self.images_seen >= self.config.images
        )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON values: tuples become lists."""
    return json.loads(json.dumps(settings))
