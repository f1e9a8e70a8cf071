# SPDX-License-Identifier: Apache-2.0
"""``pippin data recaption FOLDER --column caption_NAME``, with --captioner or --captions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pippin.cli.options import parse
from pippin.data.config import ImagesConfig
from pippin.system.terminal import say

if TYPE_CHECKING:
    from pippin.run.recaption import Recaptioned

SHOWN = 5
"""Names that a line gives of many."""


@dataclass(frozen=True, kw_only=True)
class RecaptionCommand:
    """Add a column of captions to the metadata file of a folder of own pictures.

    Pictures that have a caption in the column keep it; for another captioner take another column.
    """

    column: str = ""
    """caption_ and a name, which is the kind of caption in text.captions."""
    captioner: str | None = None
    """A captioning model of transformers (BLIP, BLIP-2, GIT, vision-encoder-decoder): a folder or
    a hub name."""
    captions: Path | None = None
    """Or captions made elsewhere: a .jsonl or .csv file with file_name, relative to the folder,
    and caption."""
    metadata: str | None = None
    """The metadata file in the folder; None = metadata.csv or metadata.jsonl, or a new one."""
    batch_size: int = 16
    """Pictures described at once."""
    max_tokens: int = 40
    """After so many tokens a caption is cut."""
    device: str = "auto"


def main(argv: list[str]) -> int:
    """Parse and do."""
    path, rest = ("", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    command = parse(RecaptionCommand, "pippin data recaption FOLDER", rest)
    if not path:
        raise ValueError("say where your pictures are: pippin data recaption FOLDER")
    if (command.captioner is None) == (command.captions is None):
        raise ValueError("give one of --captioner MODEL and --captions FILE.jsonl")
    if min(command.batch_size, command.max_tokens) < 1:
        raise ValueError("--batch-size and --max-tokens must be 1 or more")

    from pippin.data.metadata_columns import check_column

    check_column(command.column)
    from pippin.data.listing import list_pictures
    from pippin.run.recaption import merge_captions, unread_line

    data = ImagesConfig(path=path, metadata=command.metadata)
    listing = list_pictures(data)
    new = listing.layout != "metadata"
    for warning in listing.facts.warnings(path):
        say(f"note: {warning}", error=True)
    if command.captions is not None:
        done = merge_captions(data, command.column, command.captions)
    else:
        done = _described(command, data)
    say("\n".join(_report(command.column, done, new)))
    if line := unread_line(data, command.column):
        say(f"note: {line}")
    return 0


def _described(command: RecaptionCommand, data: ImagesConfig) -> "Recaptioned":
    """Let the model write captions, with a bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from pippin.encoders.captioner import Captioner, captioner_fingerprint
    from pippin.run.recaption import write_captions
    from pippin.system.device import resolve_device

    assert command.captioner is not None
    source, device = command.captioner, resolve_device(command.device)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("describing pictures", total=None)
        return write_captions(
            data,
            command.column,
            lambda: Captioner(source, max_tokens=command.max_tokens, device=device),
            fingerprint=captioner_fingerprint(source, command.max_tokens),
            batch_size=command.batch_size,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _report(column: str, done: "Recaptioned", new: bool) -> list[str]:
    total = done.written + done.kept + done.empty + len(done.unread)
    share = f" ({done.empty / total:.1%})" if done.empty else ""
    lines = [
        f"{done.path}: {done.written} captions written to column {column}, {done.kept} kept, "
        f"{done.empty} pictures without one{share}"
    ]
    if new:
        lines.append(
            "note: this file is new and names all pictures with their classes; pictures that are "
            "added to the folder need a row in it"
        )
    lines += [f"left out: {name}: {reason}" for name, reason in done.unread.items()]
    if done.unknown:
        first = ", ".join(done.unknown[:SHOWN])
        lines.append(f"left out: {len(done.unknown)} names that are no pictures here: {first}")
    if done.num_cut:
        lines.append(
            f"note: {done.num_cut} captions had not come to their end after --max-tokens; give a "
            "larger number and another column"
        )
    lines.append(f"mix them in training: --text.captions name 0.5 {column} 0.5")
    return lines
