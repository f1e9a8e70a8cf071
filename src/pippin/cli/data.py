# SPDX-License-Identifier: Apache-2.0
"""``pippin data import SOURCE``, ``data check``, ``data recaption`` and ``data prepare``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli import recaption
from pippin.cli.parsing.captioner_option import CaptionerOption, with_captions_of
from pippin.cli.parsing.options import parse
from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.parsing.verb_help import HELP
from pippin.cli.recipe_argument import located_recipe, parse_verb
from pippin.data.config import DataConfig, ImagesConfig, NoDataConfig
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.distributed.ranks import is_rank0
from pippin.encoders.config import AutoencoderConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.recipe import Recipe
from pippin.system.formats import parse_json
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.data.cache.latent_cache import LatentCache
    from pippin.data.cache.streamed import StreamedLatents
    from pippin.data.folder.check import Summary
    from pippin.data.folder.scan import Scan
    from pippin.data.moments import MomentSource
    from pippin.data.sources.openmoji_table import Split
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.encoders.statistics import LatentSums, Reconstruction

USAGE = """usage: pippin data import SOURCE [options]     import parquet, WebDataset or hub data
       pippin data check FOLDER [options]      summarise a custom image folder
       pippin data recaption FOLDER [options]  add a caption column to its metadata file
       pippin data prepare RECIPE [options]    build the caches for training
       pippin data prepare RECIPE --data.path FOLDER --shards.source SOURCE
                                               the same, straight from shards
       pippin data prepare --config FILE.yaml|RUN/config.json [options]

`pippin data import SOURCE --help`, `pippin data check --help`, `pippin data recaption --help` and
`pippin data prepare RECIPE --help` show all settings."""
BATCH = 16
"""Batch size of the reconstruction measurement."""
MAX_PSNR_LOSS = 3.0
"""dB below the recorded PSNR from which another autoencoder is advised: twice the error."""
REFUSED = 1
MAX_SKIPPED = 20


@dataclass(frozen=True, kw_only=True)
class CheckCommand:
    """Summarise a custom image folder; exit code 1 if training would refuse it."""

    data: ImagesConfig = field(default_factory=ImagesConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    sample: int = 64
    """Number of training images on which the autoencoder is measured; 0 = none."""
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class ImportCommand:
    """Import the images of a source into a folder with a metadata file, or resume an import."""

    what: Annotated[ImportConfig, tyro.conf.arg(name="")]
    folder: Path = Path("pictures")
    """New folder, or that of the same command before."""
    processes: int = 1
    """Number of shards processed in parallel."""


@dataclass(frozen=True, kw_only=True)
class PrepareCommand(CaptionerOption, TextEncoderOption):
    """Build the caches of a recipe, or resume; all its settings are options."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    processes: int = 1
    """Number of processes on this machine; each builds other shards. More may be started with the
    same command, here or on machines that share the disk."""
    shards: ShardsConfig = field(default_factory=ShardsConfig)
    dry_run: bool = False
    """Stop after the checks, and print what would be built, where, and its size."""
    ignore_plan: bool = False
    """Start even if the disk does not suffice by the plan."""


def main(argv: list[str]) -> int:
    """Parse and run the verb."""
    if not argv or argv[0] in HELP:
        print_text(USAGE)
        return 0 if argv else 2
    verbs = {
        "import": (_import, "SOURCE"),
        "check": (_check, "FOLDER"),
        "recaption": (recaption.main, "FOLDER"),
        "prepare": (_prepare, "RECIPE"),
    }
    verb, rest = argv[0], argv[1:]
    if verb not in verbs:
        raise ValueError(f"unknown verb {verb!r} of pippin data; choose from: {', '.join(verbs)}")
    run, argument = verbs[verb]
    if not rest:
        raise ValueError(
            f"{argument} is missing: pippin data {verb} {argument} [options]; --help shows them"
        )
    return run(rest)


def _import(argv: list[str]) -> int:
    """Import, then print what was imported, what was skipped, and the next command."""
    source, rest = ("", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    default = ImportCommand(what=ImportConfig(source=source or "SOURCE"))
    command = parse(ImportCommand, "pippin data import SOURCE", rest, default)

    from rich.console import Console

    from pippin.data.importing.importer import import_images, summary
    from pippin.system.progress import Progress

    with Progress(Console(stderr=True), "importing", unit="shards") as progress:
        report = import_images(
            command.what,
            command.folder,
            processes=command.processes,
            progress=progress.update,
        )
    before = f", {report.before} of them imported before" if report.before else ""
    print_text(f"{command.folder}: {report.images} images of {report.shards} shards{before}")
    print_text(f"  {summary(report)}")
    if 0 < report.labels < report.images:
        print_text(
            f"  note: {report.images - report.labels} images have no class, and training skips "
            "them; --label none imports all without classes, into another folder"
        )
    for line in report.skipped[:MAX_SKIPPED]:
        print_text(f"  skipped, shard and row {line}")
    if len(report.skipped) > MAX_SKIPPED:
        print_text(f"  and {len(report.skipped) - MAX_SKIPPED} more")
    if not report.images:
        print_text(
            "nothing was imported: no row held an image; give the image column with --image "
            "and import into a new --folder"
        )
        return REFUSED
    print_text(f"next: pippin data check {command.folder}")
    return 0


def _check(argv: list[str]) -> int:
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


def _prepare(argv: list[str]) -> int:
    """Build or complete the caches and print their locations."""
    parsed = parse_verb(PrepareCommand, "data prepare", USAGE, argv)
    if isinstance(parsed, int):
        return parsed
    command = parsed.command
    recipe = with_captions_of(command.recipe, command.captioner, parsed.options)

    from pippin.cli.starts import Preflight, dry_run
    from pippin.data.folder.image_table import has_table
    from pippin.runs.data.streamed import find_shards_config
    from pippin.runs.prepare import prepare
    from pippin.training.repa.features import training_moments

    shards = command.shards.given()
    located = located_recipe(parsed.arguments, recipe)
    unread = find_shards_config(located, shards)
    if isinstance(located.data, ImagesConfig) and has_table(Path(located.data.path)):
        unread = None  # the table knows the images
    preflight = Preflight(
        None, ignore_plan=command.ignore_plan, shards=unread, captioner=command.captioner
    )
    if command.dry_run:
        return dry_run(preflight, located)
    moments = prepare(
        located,
        processes=command.processes,
        before=preflight.begin,
        shards=shards,
        moments=training_moments,
    )
    if not is_rank0():
        return 0
    for size, cache in _caches(moments, command.recipe.data).items():
        if cache is None:
            print_text(f"{size}0 images")
            continue
        megabytes = cache.num_bytes / 1e6
        print_text(
            f"{size}{len(cache)} images x {cache.num_views} views in {cache.folder} "
            f"({megabytes:.1f} MB); training with the same settings uses it"
        )
    return 0


def _caches(
    moments: "MomentSource", data: DataConfig | NoDataConfig
) -> "dict[str, LatentCache | StreamedLatents | None]":
    """Caches by bucket name, those of features with a suffix; None for an empty bucket. Without
    buckets there is one, and one of features where the recipe has them."""
    from pippin.data.moments import BucketedMoments
    from pippin.data.views.buckets import size_name

    if not isinstance(moments, BucketedMoments):
        return _caches_of("", moments)
    assert not isinstance(data, NoDataConfig)
    caches: dict[str, LatentCache | StreamedLatents | None] = {
        f"bucket {size_name(size)}: ": None for size in data.view_sizes
    }
    for bucket in moments.buckets:
        caches |= _caches_of(f"bucket {size_name(bucket.size)}: ", bucket.moments)
    return caches


def _caches_of(
    name: str, moments: "MomentSource"
) -> "dict[str, LatentCache | StreamedLatents | None]":
    """Latents of one size of views, and their features."""
    from pippin.data.cache.feature_cache import MomentsWithFeatures
    from pippin.data.cache.latent_cache import LatentCache
    from pippin.data.cache.streamed import StreamedLatents

    if isinstance(moments, MomentsWithFeatures):
        latents = _caches_of(name, moments.moments)
        return latents | {f"{name}features of ": moments.features}
    assert isinstance(moments, LatentCache | StreamedLatents)
    return {name: moments}
