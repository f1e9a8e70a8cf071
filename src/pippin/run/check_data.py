# SPDX-License-Identifier: Apache-2.0
"""Folders of images that would train something else than asked for: refused, or said."""

from collections.abc import Iterator

from rich.markup import escape

from pippin.data.images import ImagesSource
from pippin.data.listing import SourceRefusedError
from pippin.data.metadata_columns import CAPTIONS, CLASS, FILE, MAIN
from pippin.run.parts import Parts


def check_data(parts: Parts, *, resumed: bool = False) -> None:
    """Refuse or say what a user may not expect of the images that a training begins on.

    Args:
        parts: of the training.
        resumed: whether it goes on; then nothing is refused, for it was begun like this.

    Raises:
        SourceRefusedError: folders of splits would become classes, or a model of text would read
            no caption at all; it says what to type.
    """
    source = parts.train_source
    if not isinstance(source, ImagesSource):
        return
    path, console = source.config.path, parts.console
    refusals = [source.facts.refusal(path), *_missing_captions(parts, source)]
    for refusal in filter(None, refusals):
        if not resumed:
            raise SourceRefusedError(refusal)
        console.print(f"[yellow]check the data:[/] {escape(refusal)}", soft_wrap=True)
    for warning in (*source.facts.warnings(path), *_few_captions(parts, source)):
        console.print(f"[yellow]check the data:[/] {escape(warning)}", soft_wrap=True)
    for line in source.facts.skipped_lines():
        console.print(f"[yellow]skipped:[/] {escape(line)}", soft_wrap=True)


def caption_counts(source: ImagesSource) -> dict[str, int]:
    """Kind of caption -> images that have one of their own; kinds of the folder only."""
    found = dict.fromkeys(source.caption_kinds, 0)
    for index in range(len(source)):
        for kind in source.picture(index).captions:
            found[kind] += 1
    return found


def _missing_captions(parts: Parts, source: ImagesSource) -> Iterator[str]:
    """Kinds of captions that the recipe trains on and no image has."""
    for kind, count in _counts_read(parts, source).items():
        if count:
            continue
        if kind != MAIN:
            yield (
                f"no training image of {source.config.path} has a caption of the kind {kind}: "
                f"fill that column, or leave {kind} out of --text.captions"
            )
            continue
        near = source.facts.near.get("caption")
        rename = f"Rename the column {near!r} to {CAPTIONS[0]}; or give" if near else "Give"
        yield (
            f"no training image of {source.config.path} has a caption, and the recipe trains on "
            f"captions (text.captions {', '.join(parts.recipe.text.captions)}): each image would "
            f"be trained with the name of its class ({_listed(source.class_names)}). {rename} "
            f"a metadata.csv with the columns {FILE} and {CAPTIONS[0]}, or a text file beside "
            f"each image; where class names are meant, say so: --text.captions {CLASS} 1"
        )


def _few_captions(parts: Parts, source: ImagesSource) -> Iterator[str]:
    """Kinds of captions that the recipe trains on and some images lack."""
    total = len(source)
    for kind, count in _counts_read(parts, source).items():
        if 0 < count < total:
            instead = "" if kind == MAIN else "their main caption, or where there is none "
            yield (
                f"{total - count} of {total} training images ({1 - count / total:.1%}) have no "
                f"caption of the kind {kind}: they are trained with {instead}the name of their "
                "class"
            )


def _counts_read(parts: Parts, source: ImagesSource) -> dict[str, int]:
    """Of the kinds that the recipe reads and the folder has; the main one always."""
    if parts.text_rule is None:
        return {}
    counts = {MAIN: 0} | caption_counts(source)
    return {kind: counts[kind] for kind in parts.recipe.text.captions if kind in counts}


def _listed(names: tuple[str, ...], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
