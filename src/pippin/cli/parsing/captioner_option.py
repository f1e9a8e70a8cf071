# SPDX-License-Identifier: Apache-2.0
"""``--captioner MODEL``, for the verbs that read images of a text recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pippin.config import ConfigError
from pippin.recipes.recipe import Recipe

OPTION, CAPTIONS = "--captioner", "--text.captions"


@dataclass(frozen=True, kw_only=True)
class CaptionerOption:
    """Base class of the commands with this option."""

    captioner: str | None = None
    """Before anything else, caption the images of data.path that have no caption, by a captioning
    model of transformers (BLIP, BLIP-2, GIT, vision-encoder-decoder): a folder or a hub name. The
    captions are kept in the column caption_MODEL of the folder's metadata file, which the recipe
    then reads."""


def with_captions_of(recipe: Recipe, captioner: str | None, words: Sequence[str]) -> Recipe:
    """Recipe that reads the captions of a captioner.

    Args:
        recipe: the recipe, with all options applied.
        captioner: value of the option.
        words: words after the recipe.

    Raises:
        ConfigError: ``--text.captions`` states other captions.
    """
    if captioner is None:
        return recipe
    from pippin.runs.data.missing_captions import caption_column

    column, captions = caption_column(captioner), recipe.text.captions
    if column in captions:
        return recipe
    if any(word.partition("=")[0] == CAPTIONS for word in words):
        stated = " ".join(f"{kind} {weight:g}" for kind, weight in captions.items())
        raise ConfigError(
            f"{OPTION} {captioner} writes captions to the column {column}, which {CAPTIONS} "
            f"{stated} does not read: add {column} with a weight, or leave one of the options out"
        )
    return replace(recipe, text=replace(recipe.text, captions={column: 1.0}))
