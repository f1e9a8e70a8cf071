# SPDX-License-Identifier: Apache-2.0
"""Prompts of previews that the recipe gives (``train.preview_prompts``)."""

from collections.abc import Sequence

from pippin.conditioning.config import TextSemantic
from pippin.config import ConfigError
from pippin.recipes.recipe import Recipe
from pippin.runs.components import Components
from pippin.runs.folder import RunFolder
from pippin.runs.text_inputs import cached_prompts, padded_prompts
from pippin.system.formats import parse_json
from pippin.system.text import print_above_progress
from pippin.types import TextFeatures

MANIFEST = "manifest.json"
"""File of a preview folder that lists seed and prompt of each image."""


def check_preview_prompts(recipe: Recipe) -> None:
    """Refuse preview prompts for a model that reads no text.

    Raises:
        ConfigError: with the option that makes a text recipe.
    """
    prompts = recipe.train.preview_prompts
    if prompts and not isinstance(recipe.conditioning.semantic, TextSemantic):
        raise ConfigError(
            f"train.preview_prompts gives {len(prompts)} prompts, and this recipe reads "
            f"{recipe.conditioning.semantic.kind}, not text: leave them out, or train on captions "
            "with --text-encoder minilm|clip-l|t5-large"
        )


def encode_preview_prompts(components: Components) -> None:
    """Encode the prompts before training starts, so that no text encoder is loaded later, and
    warn of prompts that are longer than the model reads."""
    prompts, rule = components.recipe.train.preview_prompts, components.text_rule
    if not prompts or rule is None:
        return
    ordered = sorted(set(prompts))
    bank = cached_prompts(
        components.located.text,
        rule,
        lambda: components.text_encoder,
        components.text_fingerprint,
        ordered,
    )
    flags = bank.is_truncated()
    for prompt, truncated in zip(ordered, [] if flags is None else flags, strict=False):
        if truncated:
            print_above_progress(
                components.console,
                f"{prompt!r} has more than the {rule.num_tokens} tokens that the model reads",
                label="truncated preview prompt:",
            )


def preview_text(
    components: Components, prompts: Sequence[str], seeds: Sequence[int]
) -> TextFeatures:
    """Features of preview prompts, one row for each seed."""
    rule = components.text_rule
    assert rule is not None
    bank = cached_prompts(
        components.located.text,
        rule,
        lambda: components.text_encoder,
        components.text_fingerprint,
        components.recipe.train.preview_prompts,
    )
    return padded_prompts(bank, rule, prompts, seeds)


def set_aside_other_prompts(run: RunFolder, prompts: Sequence[str], images_seen: int) -> None:
    """Move the earlier previews of a run that resumes with other prompts to ``before-IMAGES``, so
    that a manifest lists the prompts of all grids beside it."""
    path = run.previews / MANIFEST
    try:
        earlier = [row["prompt"] for row in parse_json(path.read_bytes())["images"]]
    except (OSError, ValueError, LookupError, TypeError):
        return
    grids = [grid for _, grid in run.list_previews()]
    if earlier == list(prompts) or not grids:  # a manifest of removed grids is replaced
        return
    aside = run.previews / f"before-{images_seen:09d}"
    aside.mkdir(exist_ok=True)
    for file in [*grids, path]:
        file.rename(aside / file.name)
