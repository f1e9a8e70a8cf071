# SPDX-License-Identifier: Apache-2.0
"""``pippin data import SOURCE``, ``data check``, ``data recaption`` and ``data prepare``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli import data_check, recaption
from pippin.cli.parsing.captioner_option import CaptionerOption, with_captions_of
from pippin.cli.parsing.options import parse
from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.parsing.verb_help import HELP
from pippin.cli.recipe_argument import located_recipe, parse_verb
from pippin.data.config import DataConfig, ImagesConfig, NoDataConfig
from pippin.data.importing.config import ImportConfig, ShardsConfig
from pippin.distributed.ranks import is_rank0
from pippin.recipes.recipe import Recipe
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.data.cache.latent_cache import LatentCache
    from pippin.data.cache.streamed import StreamedLatents
    from pippin.data.moments import MomentSource

USAGE = """usage: pippin data import SOURCE [options]     import parquet, WebDataset or hub data
       pippin data check FOLDER [options]      summarise a custom image folder
       pippin data recaption FOLDER [options]  add a caption column to its metadata file
       pippin data prepare RECIPE [options]    build the caches for training
       pippin data prepare RECIPE --data.path FOLDER --shards.source SOURCE
                                               the same, straight from shards
       pippin data prepare --config FILE.yaml|RUN/config.json [options]

`pippin data import SOURCE --help`, `pippin data check --help`, `pippin data recaption --help` and
`pippin data prepare RECIPE --help` show all settings."""
MAX_SKIPPED = 20
"""Number of skipped rows that an import names."""


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
        "check": (data_check.main, "FOLDER"),
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
        return data_check.REFUSED
    print_text(f"next: pippin data check {command.folder}")
    return 0


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
