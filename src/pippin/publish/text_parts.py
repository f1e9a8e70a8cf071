# SPDX-License-Identifier: Apache-2.0
"""Text encoders and tokenizers as components of diffusers' pipelines."""

from dataclasses import dataclass
from pathlib import Path

from pippin.encoders.config import TextConfig
from pippin.encoders.hub import FILES, load_tokenizer, model_type
from pippin.encoders.source import CONFIG_FILE
from pippin.encoders.text import KINDS, encoder_folders
from pippin.runs.bundled_encoders import copy_files, folder_suffix
from pippin.runs.exports import TEXT_FOLDER, TOKENIZER_FOLDER

TABLES = tuple(pattern for pattern in FILES if pattern != "*.safetensors")
"""Patterns of a tokenizer's files."""
Component = tuple[str | None, str | None]
"""(library, class), as in ``model_index.json``; nothing = absent."""


@dataclass(frozen=True, kw_only=True)
class TextPart:
    """Text encoder of a recipe."""

    source: str
    kind: str
    """bert, clip or t5."""
    encoder: Path
    tokenizer: Path
    tokenizer_class: str
    max_tokens: int
    """``model_max_length`` of the tokenizer."""


def text_parts(config: TextConfig) -> list[TextPart]:
    """Text encoders of a configuration, in order; only tokenizers are loaded.

    Raises:
        ValueError: an encoder is not there, or has no tokenizer.
    """
    parts = []
    for source in config.source:
        encoder, *others = encoder_folders(source)
        folder = others[0] if others else encoder
        tokenizer = load_tokenizer(folder)
        parts.append(
            TextPart(
                source=source,
                kind=KINDS.get(model_type(encoder), "unknown"),
                encoder=encoder,
                tokenizer=folder,
                tokenizer_class=type(tokenizer).__name__,
                max_tokens=int(tokenizer.model_max_length),
            )
        )
    return parts


def write_text_parts(
    out: Path, parts: list[TextPart], classes: tuple[str, ...]
) -> dict[str, Component]:
    """Copy encoders and tokenizers into a pipeline's folder.

    Args:
        out: folder of the pipeline.
        parts: text encoders.
        classes: class of transformers of each encoder.

    Returns:
        their entries of ``model_index.json``.

    Raises:
        OSError: disk full or not writable.
    """
    components: dict[str, Component] = {}
    for index, (part, name) in enumerate(zip(parts, classes, strict=True)):
        end = folder_suffix(index)
        copy_files(part.encoder, out / f"{TEXT_FOLDER}{end}", FILES)
        copy_files(
            part.tokenizer, out / f"{TOKENIZER_FOLDER}{end}", TABLES, skipped=(CONFIG_FILE,)
        )
        components[f"{TEXT_FOLDER}{end}"] = ("transformers", name)
        components[f"{TOKENIZER_FOLDER}{end}"] = ("transformers", part.tokenizer_class)
    return components
