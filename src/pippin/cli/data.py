# SPDX-License-Identifier: Apache-2.0
"""``pippin data import SOURCE``, ``data check``, ``data recaption`` and ``data prepare``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli import recaption
from pippin.cli.options import parse
from pippin.cli.train import find_recipe, located_recipe
from pippin.data.config import DataConfig, ImagesConfig, NoDataConfig
from pippin.data.import_config import ImportConfig
from pippin.encoders.config import AutoencoderConfig
from pippin.evaluation.config import EvaluationConfig
from pippin.recipes.recipe import Recipe
from pippin.system.json_text import parse_json
from pippin.system.ranks import first_process
from pippin.system.terminal import say

if TYPE_CHECKING:
    from pippin.data.cache import LatentCache
    from pippin.data.check import Summary
    from pippin.data.moments import MomentSource
    from pippin.data.scan import Scan
    from pippin.data.table import Split
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.encoders.measure import Reconstruction
    from pippin.encoders.statistics import LatentSums

USAGE = """usage: pippin data import SOURCE [options]     parquet, WebDataset or hub, into a folder
       pippin data check FOLDER [options]      what is in a folder of own pictures
       pippin data recaption FOLDER [options]  add a column of captions to its metadata file
       pippin data prepare RECIPE [options]    build the caches that training will use

`pippin data import SOURCE --help`, `pippin data check --help`, `pippin data recaption --help` and
`pippin data prepare RECIPE --help` show all settings."""
BATCH = 16
"""Images encoded at once when reconstruction is measured."""
MUCH_WORSE = 3.0
"""dB below its own record from which another autoencoder is advised: twice the squared error."""
REFUSED = 1
LOST_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class CheckCommand:
    """Say what is in a folder of own pictures; exit code 1 where it would be refused."""

    data: ImagesConfig = field(default_factory=ImagesConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    sample: int = 64
    """Training images that the autoencoder's reconstruction and latents are measured on; 0 = none.
    """
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class ImportCommand:
    """Write the images of a source into a folder with a metadata file, or go on with it."""

    what: Annotated[ImportConfig, tyro.conf.arg(name="")]
    folder: Path = Path("pictures")
    """New, or that of the same command before."""
    processes: int = 1
    """Shards at once."""


@dataclass(frozen=True, kw_only=True)
class PrepareCommand:
    """Build the caches of a recipe, or go on with them; every setting is an option."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    processes: int = 1
    """On this machine; each makes other shards. Further ones, here or on machines that share the
    disk, may be started with the same command."""


def main(argv: list[str]) -> int:
    """Parse and do."""
    if not argv or argv[0] in ("-h", "--help"):
        say(USAGE)
        return 0 if argv else 2
    verbs = {
        "import": (_import, "SOURCE"),
        "check": (_check, "FOLDER"),
        "recaption": (recaption.main, "FOLDER"),
        "prepare": (_prepare, "RECIPE"),
    }
    verb, rest = argv[0], argv[1:]
    if verb not in verbs:
        raise ValueError(f"pippin data has no verb {verb!r}; there are: {', '.join(verbs)}")
    work, what = verbs[verb]
    if not rest:
        raise ValueError(f"say which: pippin data {verb} {what} [options]; --help shows them")
    return work(rest)


def _import(argv: list[str]) -> int:
    """Import, and say what was taken, what was skipped and what comes next."""
    source, rest = ("", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    default = ImportCommand(what=ImportConfig(source=source or "SOURCE"))
    command = parse(ImportCommand, "pippin data import SOURCE", rest, default)

    from rich.console import Console
    from rich.progress import Progress

    from pippin.data.import_report import summary
    from pippin.data.importing import import_pictures

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("importing shards", total=None)
        found = import_pictures(
            command.what,
            command.folder,
            processes=command.processes,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    before = f", {found.before} of them before" if found.before else ""
    say(f"{command.folder}: {found.pictures} images of {found.shards} shards{before}")
    say(f"  {summary(found)}")
    if 0 < found.labels < found.pictures:
        say(
            f"  note: {found.pictures - found.labels} images have no class, and training skips "
            "them; --label none imports all without classes, into another folder"
        )
    for line in found.lost[:LOST_SHOWN]:
        say(f"  skipped, shard and row {line}")
    if len(found.lost) > LOST_SHOWN:
        say(f"  and {len(found.lost) - LOST_SHOWN} more")
    if not found.pictures:
        say(
            "nothing was imported: no row held an image; name the column of images with "
            "--image and import into a new --folder"
        )
        return REFUSED
    say(f"next: pippin data check {command.folder}")
    return 0


def _check(argv: list[str]) -> int:
    """Look into every file, print what is there, measure the autoencoder on some."""
    path, rest = ("", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    default = CheckCommand(data=ImagesConfig(path=path))
    command = parse(CheckCommand, "pippin data check FOLDER", rest, default)
    if not command.data.path:
        raise ValueError("say which: pippin data check FOLDER [options]")

    from pippin.data.check import summarise
    from pippin.data.listing import SourceRefusedError
    from pippin.data.scan import check_losses

    try:
        found = _scan(command.data)
        summary = summarise(found, command.data) if found.pictures else None
        say("\n".join(_described(command.data, found, summary)))
        check_losses(found, command.data)
        if refusal := found.facts.refusal(command.data.path):
            raise SourceRefusedError(refusal)
    except SourceRefusedError as refused:
        say(f"\nrefused: {str(refused).partition(chr(10))[0]}")  # all files stand above
        return REFUSED
    if command.sample:
        say(f"\n{_reconstruction(command)}")
    return 0


def _scan(config: ImagesConfig) -> "Scan":
    """Read every file anew, with a bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from pippin.data.scan import scan

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading pictures", total=None)
        return scan(
            config,
            fresh=True,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _described(config: ImagesConfig, found: "Scan", summary: "Summary | None") -> list[str]:
    """The lines about files, classes and sizes."""
    lines = [f"{config.path}: {len(found.pictures)} pictures ({found.layout})"]
    if summary:
        lines += ["", *_classes(summary), "", *_sizes(summary)]
        if config.aspect_ratios:
            lines += ["", *_buckets(summary), ""]
        rules = ", ".join(f"{count} {rule}" for rule, count in summary.rules.items())
        lines += [f"rules applied: {rules or 'none'}", f"repeated files: {summary.repeated}"]
        lines += [f"note: {note}" for note in (*summary.notes, *_too_few(summary.splits))]
    lines += [f"skipped: {line}" for line in found.facts.skipped_lines()]
    if found.passed_over:
        others = ", ".join(f"{count} {suffix}" for suffix, count in found.passed_over.items())
        lines.append(f"files that are no pictures: {others}")
    if found.lost:
        lines += ["", f"lost: {len(found.lost)} pictures ({found.lost_share:.1%})"]
        lines += [f"  {one.name}: {one.reason}: {one.detail}" for one in found.lost]
    return lines


def _too_few(splits: "dict[Split, int]") -> list[str]:
    """What an evaluation with its default settings cannot measure on so few pictures."""
    k, notes = EvaluationConfig().neighbours, []
    if splits["train"] < k + 1:
        notes.append(
            f"`pippin evaluate` needs {k + 1} pictures to train on, or --neighbours below {k}"
        )
    if splits["held-out"] < k + 2:
        notes.append(
            f"the floor of an evaluation needs {k + 2} held-out pictures and is left out; "
            "--data.held-out-share sets the share"
        )
    return notes


def _classes(summary: "Summary") -> list[str]:
    return _table("class", {**summary.classes, "total": summary.splits})


def _buckets(summary: "Summary") -> list[str]:
    from pippin.data.buckets import size_name

    rows = {size_name(size): count for size, count in summary.buckets.items()}
    return _table("bucket", {**rows, "total": summary.splits})


def _table(name: str, rows: "dict[str, dict[Split, int]]") -> list[str]:
    """A column of names and one for each split."""
    width = max(len(one) for one in (name, *rows))
    head = f"{name:<{width}}" + "".join(f"{split:>10}" for split in next(iter(rows.values())))
    lines = (
        f"{one:<{width}}" + "".join(f"{n:>10}" for n in counts.values())
        for one, counts in rows.items()
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
    """How well the autoencoder keeps some of the training pictures."""
    from pippin.data.open import build_source
    from pippin.data.views import make_views, square
    from pippin.encoders.autoencoder import Autoencoder
    from pippin.encoders.measure import measure_reconstruction
    from pippin.encoders.statistics import LatentSums
    from pippin.rng import permutation
    from pippin.system.device import resolve_device

    source = build_source(command.data, "train")
    autoencoder = Autoencoder.load(command.autoencoder, device=resolve_device(command.device))
    chosen = permutation(len(source), "subset", command.data.seed, "check")[: command.sample]
    sums = LatentSums()
    quality = measure_reconstruction(
        autoencoder,
        (
            make_views(source, rows.tolist(), [0] * len(rows), square(source)).images
            for rows in chosen.split(BATCH)
        ),
        sums,
    )
    latents = _latents(sums, autoencoder, command.autoencoder.source)
    return f"{_decibels(quality, command)}\n{latents}"


def _latents(sums: "LatentSums", autoencoder: "Autoencoder", source: str) -> str:
    """What the autoencoder's own numbers make of the latents that were counted."""
    from pippin.run.latents import USUAL_RMS, is_usual

    try:
        found = sums.statistics(autoencoder.fingerprint)
    except ValueError as error:
        return f"note: {error}"
    rms = found.rms(autoencoder.affine)
    text = (
        f"latents: root mean square {rms:.2f} on {found.images} views, normalised by the numbers "
        f"of {source}"
    )
    if is_usual(rms):
        return text
    low, high = USUAL_RMS
    return text + (
        f"\nnote: outside {low} to {high}; noise schedules and learning rates are made for 1. "
        "Recipes folder/... measure these images and normalise by that; other recipes do with "
        "--autoencoder.normalisation measured"
    )


def _decibels(quality: "Reconstruction", command: CheckCommand) -> str:
    """The reconstruction error, beside what is usual where that is known."""
    from pippin.encoders.source import find_autoencoder

    text = (
        f"autoencoder {command.autoencoder.source}: {quality.psnr:.1f} dB PSNR on "
        f"{quality.images} views at {command.data.resolution} pixels"
    )
    record = find_autoencoder(command.autoencoder) / "quality.json"
    if not record.is_file():
        return text
    try:
        usual = float(parse_json(record.read_bytes())["psnr_mean_of_images"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{record} is damaged ({error}): put it back, or remove it") from error
    text += f"; {usual:.1f} dB on pictures held out of its own training"
    if quality.psnr > usual - MUCH_WORSE:
        return text
    return text + (
        "\nnote: no sample is better than what the autoencoder keeps of a picture. For "
        "photographs take stabilityai/sd-vae-ft-mse (--autoencoder.source), or train one on "
        f"yours: pippin autoencoder train --data.path {command.data.path}"
    )


def _prepare(argv: list[str]) -> int:
    """Build or finish the caches and say where the latents are."""
    if argv[0] in ("-h", "--help"):
        say(USAGE)
        return 0
    name, recipe, rest = find_recipe(argv)
    default = PrepareCommand(recipe=recipe)
    command = parse(PrepareCommand, f"pippin data prepare {name}", rest, default)

    from pippin.run.prepare import prepare

    moments = prepare(located_recipe(argv, command.recipe), processes=command.processes)
    if not first_process():
        return 0
    for size, cache in _caches(moments, command.recipe.data).items():
        if cache is None:
            say(f"{size}0 pictures")
            continue
        megabytes = sum(shard.num_bytes for shard in cache.manifest.shards) / 1e6
        say(
            f"{size}{len(cache)} pictures x {cache.num_views} views in {cache.folder} "
            f"({megabytes:.1f} MB); training with the same settings reads it"
        )
    return 0


def _caches(
    moments: "MomentSource", data: DataConfig | NoDataConfig
) -> "dict[str, LatentCache | None]":
    """By the bucket's name; None where it has no pictures. Without buckets there is one."""
    from pippin.data.bucketed import BucketedMoments
    from pippin.data.buckets import size_name
    from pippin.data.cache import LatentCache

    if isinstance(moments, LatentCache):
        return {"": moments}
    assert isinstance(moments, BucketedMoments) and not isinstance(data, NoDataConfig)
    found: dict[str, LatentCache | None] = {
        f"bucket {size_name(size)}: ": None for size in data.view_sizes
    }
    for bucket in moments.buckets:
        assert isinstance(bucket.moments, LatentCache)
        found[f"bucket {size_name(bucket.size)}: "] = bucket.moments
    return found
