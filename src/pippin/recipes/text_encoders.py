# SPDX-License-Identifier: Apache-2.0
"""Text encoders by name, and recipes that read captions by one of them.

Another encoder has another width and reads another number of tokens. Here one name stands for all
of these settings.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pippin.conditioning.config import Mechanism, TextSemantic
from pippin.config import ConfigError, suggest_names
from pippin.encoders.text_configs import KINDS, text_values
from pippin.recipes.recipe import Recipe
from pippin.system.formats import ENTRY_ERRORS, read_foreign_json


class EncoderFacts(NamedTuple):
    """Settings that follow from a text encoder."""

    source: str
    """Entry of ``text.source``."""
    token_features: int
    pooled_features: int | None
    """Width of its pooled vector; None = it has none."""
    num_tokens: int
    """Number of tokens that a recipe reads."""


CLIP_TOKENS, T5_TOKENS = 77, 120
"""Number of tokens: CLIP's maximum, and that of PixArt-alpha, which reads T5."""
TEXT_ENCODERS: dict[str, EncoderFacts] = {
    "minilm": EncoderFacts("pippin/minilm", 384, 384, CLIP_TOKENS),
    "clip-l": EncoderFacts("openai/clip-vit-large-patch14", 768, 768, CLIP_TOKENS),
    "t5-large": EncoderFacts("google/flan-t5-large", 1024, None, T5_TOKENS),
    "t5-xxl": EncoderFacts("google/t5-v1_1-xxl", 4096, None, T5_TOKENS),
}
"""Encoders by name. minilm is in a package and needs no network; the others are on the hub."""


def with_text_encoder(recipe: Recipe, name: str) -> Recipe:
    """Recipe that reads captions by one encoder.

    A recipe without text becomes a text recipe: tokens by attention with noisy replicate padding,
    the disentangled conditioning of Berrada et al. 2024. A text recipe keeps its rules and its
    padding.

    Args:
        recipe: any recipe.
        name: a name of :data:`TEXT_ENCODERS`, or a folder of a BERT, CLIP or T5 in transformers'
            format.

    Raises:
        ConfigError: an unknown name, no such model, or an encoder without the pooled vector that
            the recipe reads.
    """
    facts, semantic = find_encoder(name), recipe.conditioning.semantic
    if isinstance(semantic, TextSemantic):
        rules, semantic = recipe.conditioning.rules, _with_widths(semantic, facts, name)
    else:
        rules, semantic = _text_rules(), _new_semantic(recipe, facts)
    denoiser = recipe.denoiser
    if "text" in rules:
        denoiser = denoiser.with_tokens()
    if semantic.projection == "none" and semantic.token_features is not None:
        denoiser = denoiser.with_projected_width(semantic.token_features)
    return replace(
        recipe,
        denoiser=denoiser,
        conditioning=replace(recipe.conditioning, semantic=semantic, rules=rules),
        text=replace(recipe.text, source=(facts.source,), layer="last", combine="features"),
    )


def find_encoder(name: str) -> EncoderFacts:
    """Facts of a named encoder, or of a folder's from its config.json.

    Raises:
        ConfigError: neither; the message lists the names.
    """
    if name in TEXT_ENCODERS:
        return TEXT_ENCODERS[name]
    if (Path(name) / "config.json").is_file():
        return _folder_facts(Path(name))
    raise ConfigError(
        f"no text encoder {name!r}{suggest_names(name, TEXT_ENCODERS)}; --text-encoder takes "
        f"{', '.join(TEXT_ENCODERS)}, or a folder with a BERT, CLIP or T5 in transformers' "
        "format; for another model of the hub set text.source, "
        "conditioning.semantic.token_features and conditioning.semantic.num_tokens"
    )


def _folder_facts(folder: Path) -> EncoderFacts:
    path = folder / "config.json"
    try:
        config = read_foreign_json(path)
        kind = KINDS[str(config["model_type"])]
        own = text_values(config, kind)
        if kind == "t5":
            return EncoderFacts(str(folder), int(own["d_model"]), None, T5_TOKENS)
        width, positions = int(own["hidden_size"]), int(own["max_position_embeddings"])
        pooled = width if kind == "bert" else int(own["projection_dim"])
    except ENTRY_ERRORS as error:
        raise ConfigError(
            f"{path} is not of a BERT, CLIP or T5 ({error!r}); give a folder with such a model in "
            f"transformers' format, or one of {', '.join(TEXT_ENCODERS)}"
        ) from error
    return EncoderFacts(str(folder), width, pooled, min(CLIP_TOKENS, positions))


def _text_rules() -> dict[str, Mechanism]:
    return {"text": "attention"}


def _new_semantic(recipe: Recipe, facts: EncoderFacts) -> TextSemantic:
    """Text conditioning of a recipe that had none. Denoisers that project tokens by themselves get
    them as they are."""
    return TextSemantic(
        token_features=facts.token_features,
        num_tokens=facts.num_tokens,
        projection="linear" if recipe.denoiser.projected_width is None else "none",
        padding="noisy_replicate",
    )


def _with_widths(semantic: TextSemantic, facts: EncoderFacts, name: str) -> TextSemantic:
    """Text conditioning with the widths of another encoder, for the outputs that it has."""
    if semantic.pooled_features is not None and facts.pooled_features is None:
        raise ConfigError(
            f"this recipe reads a pooled vector (conditioning.rules pooled), and text encoder "
            f"{name} has none: take minilm, clip-l or a folder of a BERT or CLIP, or a recipe "
            "that reads tokens only"
        )
    return replace(
        semantic,
        token_features=semantic.token_features and facts.token_features,
        pooled_features=semantic.pooled_features and facts.pooled_features,
        num_tokens=facts.num_tokens,
    )
