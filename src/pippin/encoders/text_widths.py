# SPDX-License-Identifier: Apache-2.0
"""Widths of text encoders by their files, without loading weights.

A hub model that is not in the hub's cache yet is asked for its config.json only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pippin.encoders.config import TextConfig
from pippin.encoders.hub import REQUIRED, model_config
from pippin.encoders.snapshots import SnapshotError, find_snapshot
from pippin.encoders.text import (
    MINILM,
    PROJECTION,
    TOKENIZER_FILE,
    encoder_folders,
)
from pippin.encoders.text_configs import KINDS, text_values
from pippin.system.formats import ENTRY_ERRORS, foreign_entry_error
from pippin.system.offline import is_offline
from pippin.system.weight_files import stored_types
from pippin.system.weight_folders import TRANSFORMERS, find_weights


@dataclass(frozen=True, kw_only=True)
class StatedEncoder:
    """Widths that the files of an encoder state, under the names of
    :class:`pippin.encoders.text.TextEncoder`."""

    config: TextConfig
    token_features: int
    pooled_features: int | None
    max_tokens: int | None
    """Smallest number of positions of the encoders; None = any number."""


class _Stated(NamedTuple):
    kind: str
    width: int
    pooled: int | None
    positions: int | None


def stated_encoder(config: TextConfig) -> StatedEncoder:
    """Read what the files of the encoders state.

    Raises:
        ValueError: not found, an unsupported type, or a local folder without weights or tokenizer.
    """
    parts = [_stated(source) for source in config.source]
    positions = [part.positions for part in parts if part.positions is not None]
    pooled = [part.pooled for part in parts if part.pooled is not None]
    sd3 = config.combine == "sd3"
    return StatedEncoder(
        config=config,
        token_features=parts[-1].width if sd3 else sum(part.width for part in parts),
        pooled_features=sum(pooled) if sd3 and pooled else pooled[-1] if pooled else None,
        # The CLIPs of SD3 read their own part of a caption.
        max_tokens=min(positions, default=None) if not sd3 else None,
    )


def _stated(source: str) -> _Stated:
    folder, complete = _folder(source)
    values = model_config(folder)
    kind = KINDS.get(str(values.get("model_type", "")), "")
    if not kind:
        raise ValueError(
            f"text encoder {source!r} is a {values.get('model_type', '')!r}; supported: "
            f"{', '.join(KINDS)}"
        )
    if complete and (absent := _absent(source)):
        raise ValueError(f"text encoder {source!r}: {absent}")
    try:
        values = text_values(values, kind)
        width = int(values["d_model" if kind == "t5" else "hidden_size"])
        pooled = width if kind == "bert" else None
        if kind == "clip" and (not complete or _projects(folder)):
            pooled = int(values["projection_dim"])
        positions = None if kind == "t5" else int(values["max_position_embeddings"])
    except ENTRY_ERRORS as error:
        what = f"the width of a {kind} text encoder"
        raise foreign_entry_error(folder / "config.json", what, error) from error
    return _Stated(kind, width, pooled, positions)


def _folder(source: str) -> tuple[Path, bool]:
    """Folder with config.json, and whether it must hold all other files already."""
    if source == MINILM or Path(source).is_dir() or is_offline():
        return encoder_folders(source)[0], True
    try:
        folder = find_snapshot(source, ("config.json",))
    except SnapshotError:
        return encoder_folders(source)[0], True  # raises with what is allowed
    return folder, all(any(folder.glob(name)) for name in REQUIRED)


def _absent(source: str) -> str:
    """Missing files of a folder that should be complete, as a message; empty if none are."""
    folders: Sequence[Path] = encoder_folders(source)
    try:
        find_weights(folders[0], TRANSFORMERS, pickled=False)
    except ValueError as error:
        return str(error)
    if not any(folders[-1].glob("tokenizer*")) and not (folders[-1] / TOKENIZER_FILE).is_file():
        vocabularies = ("vocab.*", "spiece.model", "*.model")
        if not any(any(folders[-1].glob(name)) for name in vocabularies):
            return (
                f"{folders[-1]} has no tokenizer; required: config.json, safetensors weights, a "
                "tokenizer in transformers' format"
            )
    return ""


def _projects(folder: Path) -> bool:
    """Whether a CLIP's weights hold the projection of its pooled vector."""
    return PROJECTION in stored_types(find_weights(folder, TRANSFORMERS, pickled=False).path)
