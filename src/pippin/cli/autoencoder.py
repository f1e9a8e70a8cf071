# SPDX-License-Identifier: Apache-2.0
"""``pippin autoencoder train [--out DIR] [--a.b value ...]``."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.cli.failures import retry_command
from pippin.cli.parsing.options import chosen_data, parse
from pippin.cli.parsing.verb_help import HELP
from pippin.config import protocol
from pippin.data.config import DataConfig, ImagesConfig, OpenMojiConfig, check_squares
from pippin.encoders.config import AutoencoderConfig, AutoencoderTrainConfig
from pippin.system.redaction import redact
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.training.autoencoder.trainer import AutoencoderTrainer
    from pippin.types import Images

USAGE = """usage: pippin autoencoder train [--out DIR] [options]
       pippin autoencoder measure [--autoencoder.source SOURCE] [options]

Train a small KL autoencoder, or a decoder of frozen features, or measure the reconstruction of
held-out images.
`pippin autoencoder VERB --help` shows all settings."""
AFFINE_IMAGES = 512
"""Number of training views for the latent statistics."""


@dataclass(frozen=True, kw_only=True)
class TrainAutoencoderCommand:
    """Train a small KL autoencoder, or a decoder of frozen features, on training views, and
    evaluate it on held-out images."""

    out: Path = Path("runs/autoencoder")
    """Output folder, in diffusers' format; training state and log go to DIR/run."""
    resume: bool = False
    """Resume the run in DIR/run."""
    half_precision: bool = True
    """Store the weights in fp16; loading casts them to fp32. A frozen encoder stays in fp32, and
    its decoder with it."""
    train: AutoencoderTrainConfig = field(default_factory=AutoencoderTrainConfig)
    data: DataConfig = field(default_factory=OpenMojiConfig)
    """Images: OpenMoji, or with --data.path FOLDER a custom data set. Every epoch draws new sizes,
    tones, crops and flips, from data.seed + epoch."""


@dataclass(frozen=True, kw_only=True)
class MeasureAutoencoderCommand:
    """Measure an autoencoder's reconstruction of view 0 of every held-out image."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: DataConfig = field(default_factory=OpenMojiConfig)
    device: str = "auto"


def main(argv: list[str]) -> int:
    """Parse, then train and save, or measure."""
    if not argv or argv[0] in HELP:
        print_text(USAGE)
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    if verb == "train":
        default = TrainAutoencoderCommand(data=chosen_data(rest))
        command = parse(TrainAutoencoderCommand, "pippin autoencoder train", rest, default)
        return _train(command, redact(retry_command("autoencoder", argv)))
    if verb == "measure":
        measure = MeasureAutoencoderCommand(data=chosen_data(rest))
        _measure(parse(MeasureAutoencoderCommand, "pippin autoencoder measure", rest, measure))
        return 0
    raise ValueError(f"unknown verb {verb!r} of pippin autoencoder; choose train or measure")


def _measure(command: MeasureAutoencoderCommand) -> None:
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.evaluation.reconstruction import reconstruction_figures
    from pippin.system.device import resolve_device

    check_squares(command.data, "pippin autoencoder")
    device = resolve_device(command.device)
    _print(reconstruction_figures(Autoencoder.load(command.autoencoder, device), command.data))


def _print(figures: dict[str, Any]) -> None:
    print_text("\n".join(f"{name}: {value}" for name, value in figures.items()))


def _train(command: TrainAutoencoderCommand, again: str) -> int:
    """Train until the end or a signal, then measure and save. Returns the exit code."""
    from pippin.cli.main import RESUMABLE
    from pippin.encoders.source import WEIGHTS_FILE
    from pippin.system.files import remove_temporary_files
    from pippin.system.lock import folder_lock
    from pippin.system.signals import TrainingStoppedError
    from pippin.training.autoencoder.state import STATE_FILE

    check_squares(command.data, "pippin autoencoder")
    resuming = command.resume and (command.out / "run" / STATE_FILE).exists()
    if (command.out / WEIGHTS_FILE).exists() and not resuming:
        raise ValueError(f"{command.out} already holds an autoencoder; choose another --out")
    with folder_lock(command.out / "run"):
        remove_temporary_files(command.out)
        try:
            trainer = _trained(command)
        except TrainingStoppedError as stopped:
            print_text(f"{stopped}; resume with: {again}", error=True)
            return RESUMABLE
        except KeyboardInterrupt:
            print_text(f"stopped; resume with: {again}", error=True)
            return RESUMABLE
        finish(command, trainer)
    return 0


def _trained(command: TrainAutoencoderCommand) -> "AutoencoderTrainer":
    """Train to the end, with progress on stderr."""
    from rich.console import Console

    from pippin.data.sources.factory import build_file_source
    from pippin.system.output import progress_verbose
    from pippin.system.progress import Progress, print_event
    from pippin.training.autoencoder.recorded import CONTENT
    from pippin.training.autoencoder.trainer import AutoencoderTrainer

    data = {f"data.{name}": value for name, value in protocol(command.data).items()}
    if isinstance(command.data, ImagesConfig):
        data[CONTENT] = build_file_source(command.data, "train").content_hash()
    trainer = AutoencoderTrainer(
        command.train, command.out / "run", resume=command.resume, data=data
    )
    console, seen, images = Console(stderr=True), trainer.images_seen, command.train.images
    print_event(console, f"pippin autoencoder train: {trainer.device}, from image {seen}")
    with Progress(console, "training", total=images, done=seen) as progress:

        def report(images_seen: int, figures: dict[str, float]) -> None:
            facts = {name.replace("_", " "): f"{value:.4g}" for name, value in figures.items()}
            facts.pop("images per second", None)
            progress.update(images_seen, facts=lambda: facts, force=progress_verbose())

        trainer.train(
            lambda start: training_batches(command, start),
            report,
            lambda path: print_event(console, f"checkpoint written: {path}"),
        )
    return trainer


def training_batches(command: TrainAutoencoderCommand, start: int) -> "Iterator[Images]":
    """Endless batches of training views, starting at image ``start``.

    Position p is image order[p mod N] of epoch p // N.
    """
    import torch

    from pippin.data.sources.factory import build_file_source
    from pippin.data.views.views import make_view
    from pippin.rng import permutation

    def views(position: int) -> Iterator[torch.Tensor]:
        length = len(build_file_source(command.data, "train"))
        while True:
            epoch = position // length
            seed = command.data.seed + epoch
            source = build_file_source(replace(command.data, seed=seed), "train")
            order = permutation(length, "order", command.train.seed, epoch).tolist()
            for index in order[position % length :]:
                yield make_view(source, index, 0).image
            position = (epoch + 1) * length

    stream = views(start)
    while True:
        yield torch.stack([next(stream) for _ in range(command.train.batch_size)])


def finish(command: TrainAutoencoderCommand, trainer: "AutoencoderTrainer") -> None:
    """Measure the latent affine on training views, save, reload, and print the reconstruction."""
    from itertools import islice

    import torch

    from pippin.encoders.autoencoder import Autoencoder
    from pippin.encoders.statistics import measure_affine
    from pippin.evaluation.reconstruction import reconstruction_figures
    from pippin.system.files import write_json
    from pippin.system.weight_checks import is_finite

    network = trainer.ema_network()
    batches = AFFINE_IMAGES // command.train.batch_size + 1
    affine = measure_affine(network, islice(training_batches(command, 0), batches))
    half = command.half_precision and not command.train.representation.enabled
    weights = network.state_dict().values()
    if half and not all(is_finite(value, torch.float16) for value in weights):
        half = False
        print_text("note: weights beyond the range of float16: stored in float32", error=True)
    dtype = torch.float16 if half else torch.float32
    Autoencoder(network, affine).save(command.out, dtype=dtype)
    loaded = Autoencoder.from_folder(command.out)
    figures = {
        "images_trained_on": trainer.images_seen,
        **reconstruction_figures(loaded, command.data),
    }
    write_json(command.out / "quality.json", figures)
    _print(figures)
    print_text(f"saved: {command.out}; use it with --autoencoder.source {command.out}")
