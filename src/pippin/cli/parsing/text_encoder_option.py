# SPDX-License-Identifier: Apache-2.0
"""``--text-encoder NAME``, for the verbs that take a recipe.

It changes which settings a recipe has, so it is applied before other options are parsed.
"""

from dataclasses import dataclass

OPTION = "--text-encoder"


@dataclass(frozen=True, kw_only=True)
class TextEncoderOption:
    """Base class of the commands with this option; its value is applied to their recipe."""

    text_encoder: str | None = None
    """Train on captions that this encoder reads, also where the recipe reads classes: minilm,
    clip-l, t5-large, t5-xxl, or a folder of a BERT, CLIP or T5. It sets text.source and
    conditioning.semantic."""


def take_text_encoder(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Value of the option, and the arguments without it.

    Raises:
        ValueError: the option without a value, or twice.
    """
    values: list[str] = []
    kept: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name != OPTION:
            kept.append(word)
        elif not equals and (not words or words[0].startswith("-")):
            raise ValueError(f"{OPTION} needs a name or a folder, such as {OPTION} clip-l")
        else:
            values.append(value if equals else words.pop(0))
    if len(values) > 1:
        raise ValueError(f"give {OPTION} once; got {', '.join(values)}")
    return (values[0] if values else None), kept
