# SPDX-License-Identifier: Apache-2.0
"""Checks of a custom data set before training: refusals, and notes on captions and files."""

from collections.abc import Iterator

from pippin.data.folder.listing import InvalidSourceError
from pippin.data.folder.metadata_columns import CAPTIONS, CLASS, FILE, MAIN
from pippin.data.sources.images import ImageFolderSource
from pippin.runs.components import Components
from pippin.system.text import print_above_progress


def check_data(components: Components, *, resumed: bool = False) -> None:
    """Refuse image folders that are probably a mistake, and log what a user may not expect.

    Args:
        components: components of the training run.
        resumed: whether the run resumes; then nothing is refused, because it started like this.

    Raises:
        InvalidSourceError: folders of splits would become classes, or a text model would read no
            caption at all; the message says what to type.
    """
    source = components.train_source
    if not isinstance(source, ImageFolderSource):
        return
    path, console = source.config.path, components.console
    refusals = [source.facts.refusal(path), *_missing_captions(components, source)]
    if source.table is not None and not len(components.held_out_source):
        refusals.append(
            f"no held-out image of {path} is among the files that were kept, so nothing could be "
            "measured: give a larger --data.held-out-share, which needs no new latents"
        )
    for refusal in filter(None, refusals):
        if not resumed:
            raise InvalidSourceError(refusal)
        print_above_progress(console, refusal, label="check the data:")
    for warning in (*source.facts.warnings(path), *_few_captions(components, source)):
        print_above_progress(console, warning, label="check the data:")
    for line in source.facts.skipped_lines():
        print_above_progress(console, line, label="skipped:")


def caption_counts(source: ImageFolderSource) -> dict[str, int]:
    """Number of images that have a caption of each kind; kinds of the folder only."""
    counts = dict.fromkeys(source.caption_kinds, 0)
    for index in range(len(source)):
        for kind in source.record(index).captions:
            counts[kind] += 1
    return counts


def _missing_captions(components: Components, source: ImageFolderSource) -> Iterator[str]:
    """Errors for kinds of captions that the recipe trains on and no image has."""
    for kind, count in _counts_read(components, source).items():
        if count:
            continue
        if kind != MAIN:
            yield (
                f"no training image of {source.config.path} has a caption of the kind {kind}: "
                f"fill that column, or leave {kind} out of --text.captions"
            )
            continue
        similar = source.facts.near.get("caption")
        rename = f"Rename the column {similar!r} to {CAPTIONS[0]}; or give" if similar else "Give"
        yield (
            f"no training image of {source.config.path} has a caption, and the recipe trains on "
            f"captions (text.captions {', '.join(components.recipe.text.captions)}): each image "
            f"would be trained with the name of its class ({_listed(source.class_names)}). "
            f"{rename} a metadata.csv with the columns {FILE} and {CAPTIONS[0]}, or a text file "
            f"beside each image; to train on class names, type --text.captions {CLASS} 1"
        )


def _few_captions(components: Components, source: ImageFolderSource) -> Iterator[str]:
    """Warnings for kinds of captions that the recipe trains on and some images lack."""
    total = len(source)
    for kind, count in _counts_read(components, source).items():
        if 0 < count < total:
            instead = "" if kind == MAIN else "their main caption, or where there is none "
            yield (
                f"{total - count} of {total} training images ({1 - count / total:.1%}) have no "
                f"caption of the kind {kind}: they are trained with {instead}the name of their "
                "class"
            )


def _counts_read(components: Components, source: ImageFolderSource) -> dict[str, int]:
    """Caption counts of the kinds that the recipe reads and the folder has; always of the main."""
    if components.text_rule is None:
        return {}
    counts = {MAIN: 0} | caption_counts(source)
    return {kind: counts[kind] for kind in components.recipe.text.captions if kind in counts}


def _listed(names: tuple[str, ...], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
