# SPDX-License-Identifier: Apache-2.0
"""``pippin data recaption FOLDER --column caption_NAME``, with --captioner or --captions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pippin.cli.parsing.options import parse
from pippin.data.config import ImagesConfig
from pippin.system.text import print_text

if TYPE_CHECKING:
    from pippin.data.folder.recaption import RecaptionResult

MAX_NAMES = 5
"""Maximum number of names per line."""
TEXT_RECIPE = "folder/mmdit-disentangled-text"
"""The recipe for captions of a folder; its limit of tokens defines long captions."""


@dataclass(frozen=True, kw_only=True)
class RecaptionCommand:
    """Add a caption column to the metadata file of a custom image folder.

    Existing captions in the column are kept; use another column for another captioner.
    """

    column: str = ""
    """Column name caption_NAME; it is used in text.captions."""
    captioner: str | None = None
    """A captioning model of transformers (BLIP, BLIP-2, GIT, vision-encoder-decoder): a folder or
    a hub name."""
    captions: Path | None = None
    """Existing captions: a .jsonl or .csv file with file_name, relative to the folder, and
    caption."""
    metadata: str | None = None
    """Metadata file in the folder; None = metadata.csv or metadata.jsonl, or a new one."""
    batch_size: int = 16
    """Images captioned per batch."""
    max_tokens: int = 40
    """Maximum number of tokens of a caption; longer ones are truncated."""
    device: str = "auto"


def main(argv: list[str]) -> int:
    """Parse and run."""
    path, rest = ("", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    command = parse(RecaptionCommand, "pippin data recaption FOLDER", rest)
    if not path:
        raise ValueError("FOLDER is missing: pippin data recaption FOLDER [options]")
    if (command.captioner is None) == (command.captions is None):
        raise ValueError("give either --captioner MODEL or --captions FILE.jsonl")
    if min(command.batch_size, command.max_tokens) < 1:
        raise ValueError("--batch-size and --max-tokens must be 1 or more")

    from pippin.data.folder.metadata_columns import check_column

    check_column(command.column)
    from pippin.data.folder.listing import list_images
    from pippin.data.folder.recaption import merge_captions

    data = ImagesConfig(path=path, metadata=command.metadata)
    listing = list_images(data)
    new = listing.layout != "metadata"
    for warning in listing.facts.warnings(path):
        print_text(f"note: {warning}", error=True)
    if command.captions is not None:
        result = merge_captions(data, command.column, command.captions)
    else:
        result = _write_captions(command, data)
    lines = [*result_lines(command.column, result, new=new), _mixing(command.column)]
    print_text("\n".join(lines))
    if line := _truncation_note(data, command.column):
        print_text(f"note: {line}")
    return 0


def _write_captions(command: RecaptionCommand, data: ImagesConfig) -> "RecaptionResult":
    """Caption the images with the model, with progress on stderr."""
    from rich.console import Console

    from pippin.runs.data.missing_captions import write_model_captions

    assert command.captioner is not None
    return write_model_captions(
        data,
        command.column,
        command.captioner,
        max_tokens=command.max_tokens,
        batch_size=command.batch_size,
        device=command.device,
        console=Console(stderr=True),
    )


def _mixing(column: str) -> str:
    return f"mix them in training: --text.captions name 0.5 {column} 0.5"


def result_lines(column: str, result: "RecaptionResult", *, new: bool) -> list[str]:
    """Lines on written, kept and missing captions.

    Args:
        column: the column of captions.
        result: result of captioning.
        new: whether the metadata file is new.
    """
    total = result.written + result.kept + result.empty + len(result.unread)
    share = f" ({result.empty / total:.1%})" if result.empty else ""
    lines = [
        f"{result.path}: {result.written} captions written to column {column}, "
        f"{result.kept} kept, {result.empty} images without one{share}"
    ]
    if new:
        lines.append(
            "note: this new file lists all images with their classes; images added to the folder "
            "later need a row in it"
        )
    lines += [f"skipped: {name}: {reason}" for name, reason in result.unread.items()]
    if result.unknown:
        first = ", ".join(result.unknown[:MAX_NAMES])
        lines.append(
            f"skipped: {len(result.unknown)} names that are not images of the folder: {first}"
        )
    if result.num_truncated:
        lines.append(
            f"note: {result.num_truncated} captions were truncated; a larger --max-tokens of "
            "`pippin data recaption` and another column take them whole"
        )
    return lines


def _truncation_note(data: ImagesConfig, column: str) -> str | None:
    """Note on captions of a column that are longer than the text recipe reads; None where there
    are none, or its encoder is not installed."""
    from pippin.conditioning.config import TextSemantic
    from pippin.data.folder.listing import list_images
    from pippin.encoders.text import TextEncoder, minilm_installed
    from pippin.recipes.table import get_recipe

    if not minilm_installed():
        return None
    recipe = get_recipe(TEXT_RECIPE)
    semantic = recipe.conditioning.semantic
    assert isinstance(semantic, TextSemantic)
    captions = [e.captions[column] for e in list_images(data).entries if e.captions.get(column)]
    cuts = TextEncoder(recipe.text).truncated(captions, semantic.num_tokens)
    truncated = {cut.caption for cut in cuts}
    count = sum(caption in truncated for caption in captions)
    if not count:
        return None
    return (
        f"{count} of {len(captions)} captions ({count / len(captions):.1%}) have more than the "
        f"{semantic.num_tokens} tokens that {TEXT_RECIPE} reads: "
        "raise conditioning.semantic.num_tokens to read more"
    )
