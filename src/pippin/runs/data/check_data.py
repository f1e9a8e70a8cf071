# SPDX-License-Identifier: Apache-2.0
"""Checks of a custom data set before training: refusals, and notes on captions and files."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pippin.conditioning.config import TextSemantic
from pippin.data.config import ImagesConfig
from pippin.data.folder.layout import LayoutFacts
from pippin.data.folder.listing import InvalidSourceError, Listing
from pippin.data.folder.metadata_columns import CAPTIONS, CLASS, FILE, MAIN
from pippin.data.sources.images import ImageFolderSource
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Components
from pippin.system.text import print_above_progress

BeforeStart = Callable[[Recipe, Recipe], None]
"""Called before a run reads or writes anything, with its recipe, and with the recipe of resolved
paths. It raises to refuse the run."""


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
    facts = _facts_of_source(components.recipe, source)
    refusals = [source.facts.refusal(path), *_missing_captions(facts)]
    if source.table is not None and not len(components.held_out_source):
        refusals.append(
            f"no held-out image of {path} is among the files that were kept, so nothing could be "
            "measured: give a larger --data.held-out-share, which needs no new latents"
        )
    for refusal in filter(None, refusals):
        if not resumed:
            raise InvalidSourceError(refusal)
        print_above_progress(console, refusal, label="check the data:")
    for warning in (*source.facts.warnings(path), *_few_captions(facts)):
        print_above_progress(console, warning, label="check the data:")
    for line in source.facts.skipped_lines():
        print_above_progress(console, line, label="skipped:")


def listing_refusals(recipe: Recipe, config: ImagesConfig, listing: Listing) -> Iterator[str]:
    """Errors that the names of files and the captions of a folder show, before an image is read.

    Args:
        recipe: the recipe to train.
        config: its image folder.
        listing: :func:`pippin.data.folder.listing.list_images` of the folder.
    """
    if refusal := listing.facts.refusal(config.path):
        yield refusal
    if not isinstance(recipe.conditioning.semantic, TextSemantic):
        return
    kinds = (MAIN, *listing.caption_kinds, CLASS)
    advice = f", or give the missing kinds as columns of {config.metadata or 'metadata.csv'}"
    if missing := missing_kinds(recipe, kinds, advice):
        yield missing
    names = tuple(dict.fromkeys(entry.label for entry in listing.entries))
    captions = (entry.captions for entry in listing.entries)
    yield from _missing_captions(
        _facts(recipe, config.path, listing.facts, listing.caption_kinds, names, captions)
    )


def missing_kinds(recipe: Recipe, kinds: Iterable[str], advice: str = "") -> str | None:
    """Error for kinds of ``text.captions`` that the images do not have; None if they have all.

    Args:
        recipe: the recipe to train.
        kinds: kinds of captions of the images, beside the class.
        advice: what else may be done, for the message.
    """
    kinds = tuple(dict.fromkeys((*kinds, CLASS)))
    missing = sorted(set(recipe.text.captions) - set(kinds))
    if not missing:
        return None
    weights = " ".join(f"{kind} {weight:g}" for kind, weight in recipe.text.captions.items())
    return (
        f"text.captions names {', '.join(missing)} (given: {weights}); the images have "
        f"{', '.join(kinds)}: type --text.captions with some of these, such as "
        f"--text.captions {kinds[0]} 1{advice}"
    )


@dataclass(frozen=True, kw_only=True)
class _CaptionFacts:
    """Captions of a folder that a recipe reads."""

    path: str
    counts: Mapping[str, int]
    """Kind of caption that the recipe reads -> number of images that have one."""
    total: int
    class_names: tuple[str, ...]
    similar: str | None
    """A column that seems to hold captions and is not read."""
    weights: Mapping[str, float]
    """``text.captions``."""


def _facts_of_source(recipe: Recipe, source: ImageFolderSource) -> _CaptionFacts:
    captions = (source.record(index).captions for index in range(len(source)))
    names, path = source.class_names, source.config.path
    return _facts(recipe, path, source.facts, source.caption_kinds, names, captions)


def _facts(
    recipe: Recipe,
    path: str,
    layout: LayoutFacts,
    kinds: tuple[str, ...],
    class_names: tuple[str, ...],
    captions: Iterable[Mapping[str, str]],
) -> _CaptionFacts:
    """Caption counts of the kinds that the recipe reads and the folder has; always of the main
    kind; none for a model without text."""
    counts: dict[str, int] = {}
    total = 0
    if isinstance(recipe.conditioning.semantic, TextSemantic):
        counts, total = _counted((MAIN, *kinds), captions)
    return _CaptionFacts(
        path=path,
        counts={kind: counts[kind] for kind in recipe.text.captions if kind in counts},
        total=total,
        class_names=class_names,
        similar=layout.near.get("caption"),
        weights=recipe.text.captions,
    )


def _counted(
    kinds: Iterable[str], captions: Iterable[Mapping[str, str]]
) -> tuple[dict[str, int], int]:
    """Number of images with each kind of caption, and of all images."""
    counts, total = dict.fromkeys(kinds, 0), 0
    for own in captions:
        total += 1
        for kind in own:
            counts[kind] += 1
    return counts, total


def _missing_captions(facts: _CaptionFacts) -> Iterator[str]:
    """Errors for kinds of captions that the recipe trains on and no image has."""
    for kind, count in facts.counts.items():
        if count:
            continue
        if kind != MAIN:
            yield (
                f"no training image of {facts.path} has a caption of the kind {kind}: "
                f"fill that column, or leave {kind} out of --text.captions"
            )
            continue
        rename = "Give"
        if facts.similar:
            rename = f"Rename the column {facts.similar!r} to {CAPTIONS[0]}; or give"
        yield (
            f"no training image of {facts.path} has a caption, and the recipe trains on "
            f"captions (text.captions {', '.join(facts.weights)}): each image "
            f"would be trained with the name of its class ({_listed(facts.class_names)}). "
            f"{rename} a metadata.csv with the columns {FILE} and {CAPTIONS[0]}, or a text file "
            f"beside each image; to train on class names, type --text.captions {CLASS} 1"
        )


def _few_captions(facts: _CaptionFacts) -> Iterator[str]:
    """Warnings for kinds of captions that the recipe trains on and some images lack."""
    total = facts.total
    for kind, count in facts.counts.items():
        if 0 < count < total:
            instead = "" if kind == MAIN else "their main caption, or where there is none "
            yield (
                f"{total - count} of {total} training images ({1 - count / total:.1%}) have no "
                f"caption of the kind {kind}: they are trained with {instead}the name of their "
                "class"
            )


def _listed(names: tuple[str, ...], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
