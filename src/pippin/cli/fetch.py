# SPDX-License-Identifier: Apache-2.0
"""``pippin fetch RECIPE [--to FOLDER] [--list]``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pippin.cli.parsing.text_encoder_option import TextEncoderOption
from pippin.cli.recipe_argument import located_recipe, parse_verb
from pippin.distributed.ranks import is_rank0
from pippin.recipes.recipe import Recipe
from pippin.system.offline import is_offline, offline_reason, online_advice
from pippin.system.output import progress_hidden
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.encoders.hub_files import HubModel
    from pippin.evaluation.runs.named_models import NamedModel

USAGE = """usage: pippin fetch RECIPE [--to FOLDER] [--list] [options]
       pippin fetch --config FILE.yaml|RUN/config.json [options]

{recipes}"""
INCOMPLETE = 1


@dataclass(frozen=True, kw_only=True)
class FetchCommand(TextEncoderOption):
    """Bring every model that a recipe names into the hub's cache: autoencoder, text encoders, and
    the networks of its evaluation. A run then needs no network. Exit code 1 if one is missing."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    to: Path | None = None
    """Folder with the layout of the hub's cache; on the other machine set HF_HUB_CACHE to it.
    None = the cache of this machine."""
    captioner: str | None = None
    """Bring this model too, for --captioner of the training: a hub name."""
    list: bool = False
    """Print models, sizes and what is there (by size), and download nothing; with --offline the
    hub is not asked, and sizes are those of the cache."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model of the list, and whether it is there."""

    model: "NamedModel"
    status: str
    hub: "HubModel | None" = None
    """Its files, for a model of the hub that was found."""
    complete: bool
    error: str = ""
    """Why it could not be listed."""


def main(argv: list[str]) -> int:
    """Parse, list, fetch."""
    parsed = parse_verb(FetchCommand, "fetch", USAGE, argv)
    if isinstance(parsed, int):
        return parsed
    command = parsed.command
    if not is_rank0():
        return 0
    if is_offline() and not command.list:
        raise ValueError(
            f"{offline_reason()}, and pippin fetch downloads: type it where there is a network, "
            f"and {online_advice()}; --list prints what is there"
        )
    return _fetch(located_recipe(parsed.arguments, command.recipe), command)


def _fetch(recipe: Recipe, command: FetchCommand) -> int:
    from pippin.encoders.hub_files import cache_folder
    from pippin.evaluation.runs.named_models import named_models
    from pippin.system.downloads import check_space, size_text

    cache = cache_folder(command.to)
    rows = [_row(model, cache) for model in named_models(recipe, command.captioner)]
    width = max(len(row.model.setting) for row in rows)
    for row in rows:
        print_text(f"{row.model.setting:<{width}}  {row.model.source}  {row.status}")
    hub = [row.hub for row in rows if row.hub is not None]
    missing = sum(model.missing_bytes for model in hub)
    total = sum(model.num_bytes for model in hub)
    print_text(f"hub models: {size_text(total)}, {size_text(missing)} of it missing in {cache}")
    if command.list:
        problems = [_problem(row) for row in rows if not row.complete and row.hub is None]
    else:
        check_space(cache, missing)
        problems = [problem for row in rows if (problem := _bring(row, cache))]
    for problem in problems:
        print_text(f"missing: {problem}", error=True)
    if problems or (command.list and missing):
        return INCOMPLETE
    print_text(f"all is there; on a machine without network type:\n  {_exports(command.to)}")
    return 0


def _row(model: "NamedModel", cache: Path) -> Row:
    """Look a model up, on the hub unless pippin is offline."""
    from pippin.encoders.hub_files import list_cached, list_model
    from pippin.encoders.snapshots import SnapshotError
    from pippin.system.downloads import size_text

    if model.place != "hub":
        there = "there" if model.present else "missing"
        return Row(model=model, status=f"{model.place}, {there}", complete=model.present)
    look_up = list_cached if is_offline() else list_model
    try:
        listed = look_up(model.source, model.revision, model.alternatives, cache)
    except SnapshotError as error:
        return Row(model=model, status="not found", complete=False, error=str(error))
    missing = listed.missing_bytes
    what = "complete" if not missing else f"{size_text(missing)} missing"
    status = f"{size_text(listed.num_bytes)} in {len(listed.files)} files, {what}"
    return Row(model=model, status=status, hub=listed, complete=not missing)


def _bring(row: Row, cache: Path) -> str:
    """Fetch and verify a model; returns what is missing, or nothing."""
    from pippin.encoders.hub_files import download_model
    from pippin.encoders.snapshots import SnapshotError

    model = row.model
    if row.hub is None:
        fetched = model.place == "file" and not model.present and _download_published(model)
        return "" if row.complete or fetched else _problem(row)
    _hide_progress()
    try:
        verified = download_model(row.hub, cache)
    except SnapshotError as error:
        return f"{model.setting} {model.source} {error}"
    print_text(f"{model.source}: {len(row.hub.files)} files, {verified} verified by sha256")
    return ""


def _problem(row: Row) -> str:
    """Message on a model that is missing, and how to bring it."""
    model = row.model
    head = f"{model.setting} {model.source}"
    if model.place == "hub":  # some published recipes name a folder that the user makes
        own = f"; for a folder of yours give its path with --{_option(model)}"
        return f"{head} {row.error}{'' if '/' in model.source else own}"
    return f"{head} ({model.place}){'; ' if model.advice else ''}{model.advice}"


def _option(model: "NamedModel") -> str:
    parts: Sequence[str] = model.setting.split(".")
    return ".".join(part for part in parts if not part.isdecimal())


def _download_published(model: "NamedModel") -> bool:
    """Download a weight file that has a published name; False for any other."""
    from pippin.evaluation.features.published_files import PUBLISHED_FILES
    from pippin.system.downloads import download_file

    path = Path(model.source)
    published = PUBLISHED_FILES.get(path.name)
    if published is None:
        return False
    download_file(published.url, path, published.sha256)
    print_text(f"{path}: fetched and verified by sha256")
    return True


def _hide_progress() -> None:
    """Hide the bars of the hub's client with ``--quiet``."""
    if progress_hidden():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()


def _exports(folder: Path | None) -> str:
    """Shell command that lets another machine run from the cache."""
    from shlex import quote

    place = "" if folder is None else f"HF_HUB_CACHE={quote(str(folder.absolute()))} "
    return f"export {place}PIPPIN_OFFLINE=1"
