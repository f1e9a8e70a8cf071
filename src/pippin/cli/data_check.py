# SPDX-License-Identifier: Apache-2.0
"""``pippin data check FOLDER``: what training would read of an image folder, and how well an
autoencoder fits it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pippin.cli.parsing.options import parse
from pippin.data.config import ImagesConfig
from pippin.encoders.config import AutoencoderConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.system.formats import parse_json
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.data.folder.check import Summary
    from pippin.data.folder.scan import Scan
    from pippin.data.sources.openmoji_table import Split
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.encoders.statistics import LatentSums, Reconstruction

BATCH = 16
"""Batch size of the reconstruction measurement."""
MAX_PSNR_LOSS = 3.0
"""dB below the recorded PSNR from which another autoencoder is advised: twice the error."""
REFUSED = 1
"""Exit code for a folder that training would refuse."""


@dataclass(frozen=True, kw_only=True)
class CheckCommand:
    """Summarise a custom image folder; exit code 1 if training would refuse it."""

    data: ImagesConfig = field(default_factory=ImagesConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    sample: int = 64
    """Number of training images on which the autoencoder is measured; 0 = none."""
    device: str = "auto"


def main(argv: list[str]) -> int:
    """Scan all files, print a summary, and measure the autoencoder on some images."""
    path, rest = ("", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    default = CheckCommand(data=ImagesConfig(path=path))
    command = parse(CheckCommand, "pippin data check FOLDER", rest, default)
    if not command.data.path:
        raise ValueError("FOLDER is missing: pippin data check FOLDER [options]")

    from pippin.data.folder.check import summarise
    from pippin.data.folder.listing import InvalidSourceError
    from pippin.data.folder.scan import check_skipped_share

    try:
        report = _scan(command.data)
        summary = summarise(report, command.data) if report.images else None
        print_text("\n".join(_described(command.data, report, summary)))
        check_skipped_share(report, command.data)
        if refusal := report.facts.refusal(command.data.path):
            raise InvalidSourceError(refusal)
    except InvalidSourceError as refused:
        print_text(
            f"\nrefused: {str(refused).partition(chr(10))[0]}"
        )  # all files are listed above
        return REFUSED
    if command.sample:
        print_text(f"\n{_reconstruction(command)}")
    return 0


def _scan(config: ImagesConfig) -> "Scan":
    """Scan all files again, with progress on stderr."""
    from rich.console import Console

    from pippin.data.folder.scan import scan
    from pippin.system.progress import Progress

    console = Console(stderr=True)
    with Progress(console, "scanning images", unit="files", brief=True) as progress:
        return scan(config, fresh=True, progress=progress.update)


def _described(config: ImagesConfig, report: "Scan", summary: "Summary | None") -> list[str]:
    """Summary lines on files, classes and sizes."""
    lines = [f"{config.path}: {len(report.images)} images ({report.layout})"]
    if summary:
        lines += ["", *_classes(summary), "", *_sizes(summary)]
        if config.aspect_ratios:
            lines += ["", *_buckets(summary), ""]
        rules = ", ".join(f"{count} {rule}" for rule, count in summary.rules.items())
        lines += [f"rules applied: {rules or 'none'}", f"repeated files: {summary.repeated}"]
        lines += [f"note: {note}" for note in (*summary.notes, *_too_few(summary.splits))]
    lines += [f"skipped: {line}" for line in report.facts.skipped_lines()]
    if report.other_files:
        others = ", ".join(f"{count} {suffix}" for suffix, count in report.other_files.items())
        lines.append(f"files that are not images: {others}")
    if report.skipped:
        lines += ["", f"unreadable: {len(report.skipped)} images ({report.skipped_share:.1%})"]
        lines += [f"  {image.name}: {image.reason}: {image.detail}" for image in report.skipped]
    return lines


def _too_few(splits: "dict[Split, int]") -> list[str]:
    """Notes on what a default evaluation cannot measure on so few images."""
    k, notes = EvaluationConfig().neighbours, []
    if splits["train"] < k + 1:
        notes.append(f"`pippin evaluate` needs {k + 1} training images, or --neighbours below {k}")
    if splits["held-out"] < k + 2:
        notes.append(
            f"the floor of an evaluation needs {k + 2} held-out images and is skipped; "
            "--data.held-out-share sets the share"
        )
    return notes


def _classes(summary: "Summary") -> list[str]:
    return _table("class", {**summary.classes, "total": summary.splits})


def _buckets(summary: "Summary") -> list[str]:
    from pippin.data.views.buckets import size_name

    rows = {size_name(size): count for size, count in summary.buckets.items()}
    return _table("bucket", {**rows, "total": summary.splits})


def _table(name: str, rows: "dict[str, dict[Split, int]]") -> list[str]:
    """Table with a column of names and one per split."""
    width = max(map(len, (name, *rows)))
    head = f"{name:<{width}}" + "".join(f"{split:>10}" for split in next(iter(rows.values())))
    lines = (
        f"{row:<{width}}" + "".join(f"{count:>10}" for count in counts.values())
        for row, counts in rows.items()
    )
    return [head, *lines]


def _sizes(summary: "Summary") -> list[str]:
    side, aspect = summary.shorter_side, summary.aspect
    return [
        f"shorter side: {side.smallest:g} to {side.largest:g} pixels, median {side.median:g}",
        f"width / height: {aspect.smallest:.2f} to {aspect.largest:.2f}, "
        f"median {aspect.median:.2f}",
    ]


def _reconstruction(command: CheckCommand) -> str:
    """Reconstruction quality of the autoencoder on some training images."""
    from pippin.data.sources.factory import build_file_source
    from pippin.data.views.views import make_views, square_size
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.encoders.statistics import LatentSums, measure_reconstruction
    from pippin.rng import permutation
    from pippin.system.device import resolve_device

    source = build_file_source(command.data, "train")
    autoencoder = Autoencoder.load(command.autoencoder, device=resolve_device(command.device))
    sample = permutation(len(source), "subset", command.data.seed, "check")[: command.sample]
    sums = LatentSums()
    quality = measure_reconstruction(
        autoencoder,
        (
            make_views(source, rows.tolist(), [0] * len(rows), square_size(source)).images
            for rows in sample.split(BATCH)
        ),
        sums,
    )
    latents = _latents(sums, autoencoder, command.autoencoder.source)
    return f"{_decibels(quality, command)}\n{latents}"


def _latents(sums: "LatentSums", autoencoder: "Autoencoder", source: str) -> str:
    """RMS of the latents, normalised by the autoencoder's own statistics; without any, of the raw
    latents."""
    from pippin.runs.latents import USUAL_RMS, is_usual_rms

    try:
        measured = sums.statistics(autoencoder.fingerprint)
    except ValueError as error:
        return f"note: {error}"
    rms = measured.rms(autoencoder.affine)
    if not autoencoder.has_statistics:
        return (
            f"raw latents: root mean square {rms:.2f} on {measured.images} views; {source} has no "
            "statistics, so runs measure them (--autoencoder.normalisation measured)"
        )
    text = (
        f"latents: root mean square {rms:.2f} on {measured.images} views, normalised by the "
        f"statistics of {source}"
    )
    if is_usual_rms(rms):
        return text
    low, high = USUAL_RMS
    return text + (
        f"\nnote: outside {low} to {high}; noise schedules and learning rates assume 1. "
        "Recipes folder/... normalise by statistics of these images; other recipes do with "
        "--autoencoder.normalisation measured"
    )


def _decibels(quality: "Reconstruction", command: CheckCommand) -> str:
    """Reconstruction error, with the autoencoder's recorded PSNR if known."""
    from pippin.encoders.source import find_autoencoder

    text = (
        f"autoencoder {command.autoencoder.source}: {quality.psnr:.1f} dB PSNR on "
        f"{quality.images} views at {command.data.resolution} pixels"
    )
    record = find_autoencoder(command.autoencoder) / "quality.json"
    if not record.is_file():
        return text
    try:
        expected = float(parse_json(record.read_bytes())["psnr_mean_of_images"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{record} is damaged ({error}): restore it, or remove it") from error
    text += f"; {expected:.1f} dB on held-out images of its own training"
    if quality.psnr > expected - MAX_PSNR_LOSS:
        return text
    return text + (
        "\nnote: the autoencoder limits the quality of samples. For photographs use "
        "stabilityai/sd-vae-ft-mse (--autoencoder.source), or train an autoencoder on your "
        f"images: pippin autoencoder train --data.path {command.data.path}"
    )
