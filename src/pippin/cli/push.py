# SPDX-License-Identifier: Apache-2.0
"""``pippin push RUN USER/NAME [--private] [--revision BRANCH] [--dry-run]``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pippin.cli.parsing.licence import LicenceOptions
from pippin.cli.parsing.options import parse
from pippin.system.output import progress_hidden
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.publish.facts import CardFacts
    from pippin.publish.upload import UploadTarget
    from pippin.runs.trained import Trained

MAX_SAMPLES = 256
"""Maximum number of images in the grid of a model card."""


@dataclass(frozen=True, kw_only=True)
class PushCommand(LicenceOptions):
    """Push a model to the Hugging Face hub: the exported folder, a grid of samples and a model
    card made from the run. Others load it as hf://USER/NAME. The token is that of `hf auth login`
    or HF_TOKEN. --license is required unless the training images decide it."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder (its newest intact checkpoint), an exported folder or hf://USER/NAME."""
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="USER/NAME")]
    """Name on the hub: your user name or an organisation of yours, and a name for the model."""
    private: bool = False
    """Create a model that only you, or your organisation, can see."""
    revision: str | None = None
    """Branch to push to, created where it is missing; None = main."""
    update: bool = False
    """Add a commit to a branch that holds a model already."""
    dry_run: bool = False
    """Prepare the folder and print the model card and the files; asks and sends nothing."""
    out: Path | None = None
    """New folder in which the pushed files stay; None = a temporary one."""
    weights: str | None = None
    """ema, raw, or one of the run's train.ema_extra; None = ema of a run, or the only weights of
    an exported folder."""
    checkpoint: int | None = None
    """Images seen of the run's checkpoint; default the newest intact one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the weights on the hub; pippin casts them to float32 on loading."""
    text_encoder: bool = True
    """Push text encoders of local folders, too; False: others need --text-source."""
    prompts: tuple[str, ...] = ()
    """Prompts of a text model's grid, used in turn; default train.preview_prompts."""
    samples: int = 16
    """Images of the grid, with seeds from 0 and all classes or prompts in turn; 0 = no grid."""


def main(argv: list[str]) -> int:
    """Parse, check the target, prepare, push."""
    command = parse(PushCommand, "pippin push", argv)

    from pippin.publish.facts import collect_facts
    from pippin.publish.upload import check_target
    from pippin.runs.exports import check_export_folder
    from pippin.runs.hub_source import check_hub_name, check_revision, pin_source
    from pippin.runs.trained import load_trained_weights

    check_hub_name(command.name)
    if command.revision is not None:
        check_revision(command.revision)
    if not 0 <= command.samples <= MAX_SAMPLES:
        raise ValueError(f"--samples must be 0 to {MAX_SAMPLES}; got {command.samples}")
    licence = command.licence
    if command.out is not None:
        check_export_folder(command.out)
    trained = load_trained_weights(pin_source(command.run), command.weights, command.checkpoint)
    facts = collect_facts(trained, command.dtype, licence)
    if facts.licence.model is None:
        raise _unknown_licence(command, trained)
    target = None
    if not command.dry_run:
        target = check_target(command.name, command.revision, update=command.update)
    with _output_folder(command.out) as folder:
        _prepare(command, facts, folder)
        if target is None:
            _print_plan(command, folder)
        else:
            _upload(command, target, folder)
    return 0


def _unknown_licence(command: PushCommand, trained: "Trained") -> ValueError:
    """The error of a push without a licence, which is never guessed."""
    lineage = f", from {trained.lineage[-1]['source']}" if trained.lineage else ""
    return ValueError(
        f"the licence of {command.run} is unknown (data.kind {trained.recipe.data.kind}{lineage}),"
        " and pippin does not choose one: type --license ID, such as --license cc-by-4.0, or "
        "--license other --license-link URL; the terms of the training images and of the initial "
        "weights may limit the choice"
    )


@contextmanager
def _output_folder(out: Path | None) -> Iterator[Path]:
    """The given folder, or a temporary one."""
    if out is not None:
        yield out
        return
    with TemporaryDirectory(prefix="pippin-push-") as name:
        yield Path(name)


def _prepare(command: PushCommand, facts: "CardFacts", folder: Path) -> None:
    from rich.console import Console

    from pippin.plugins import imported_modules
    from pippin.publish.hub_folder import ShareRequest, prepare_folder

    request = ShareRequest(
        name=command.name,
        revision=command.revision,
        text_encoders=command.text_encoder,
        prompts=command.prompts,
        num_samples=command.samples,
    )
    notes = prepare_folder(facts, folder, request, Console(stderr=True))
    if modules := imported_modules():
        notes.append(f"others need the imported modules, too: {', '.join(modules)}")
    for line in notes:
        print_text(f"note: {line}", error=True)


def _print_plan(command: PushCommand, folder: Path) -> None:
    """Print the model card and the files that a push would send."""
    from pippin.publish.card import CARD
    from pippin.publish.upload import MAIN, folder_files
    from pippin.system.downloads import size_text

    print_text((folder / CARD).read_text(encoding="utf-8"))
    names = folder_files(folder)
    for name in names:
        print_text(f"{size_text((folder / name).stat().st_size):>8}  {name}")
    kept = "" if command.out is None else f"; the files are in {command.out}"
    visibility = "private " if command.private else "public "
    print_text(
        f"dry run: {len(names)} files for the {visibility}model {command.name}, branch "
        f"{command.revision or MAIN}; nothing was sent{kept}"
    )


def _upload(command: PushCommand, target: "UploadTarget", folder: Path) -> None:
    from huggingface_hub.utils import disable_progress_bars

    from pippin.publish.upload import upload
    from pippin.runs.hub_source import HubSource

    if progress_hidden():
        disable_progress_bars()
    uploaded = upload(folder, target, private=command.private)
    source = HubSource(name=target.name, revision=uploaded.commit)
    print_text(f"pushed: {uploaded.url}, commit {uploaded.commit}")
    print_text(f"next: pippin sample {source} --seeds 0:16")
