# SPDX-License-Identifier: Apache-2.0
"""Captioning models of the transformers library: images to captions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from pippin.encoders.hub import (
    POOLER,
    describe_load_errors,
    load_tokenizer,
    load_weights,
    model_fingerprint,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.encoders.snapshots import SnapshotError, find_snapshot
from pippin.encoders.text_checks import check_words
from pippin.system.offline import is_offline
from pippin.system.weight_folders import TRANSFORMERS, find_weights

KINDS = ("blip", "blip-2", "git", "vision-encoder-decoder")
"""Supported model_type of a config.json: models that caption an image without a prompt."""
PARTS = "an image processor and a tokenizer"
PART_FILES = {
    "image processor": ("*processor_config.json",),
    "tokenizer": ("tokenizer*", "vocab*", "*.model"),
}
"""Required part beside config.json and weights -> patterns of its files."""


class Captioner:
    """Frozen captioning model with greedy decoding: the same image gives the same caption.

    Args:
        source: a folder or a hub name; weights in safetensors.
        max_tokens: maximum number of tokens; longer captions are truncated.
        device: device of the model.

    Raises:
        ValueError: not found, an unsupported type of model, or transformers is not installed.
    """

    def __init__(
        self, source: str, *, max_tokens: int = 40, device: torch.device | str = "cpu"
    ) -> None:
        self.device, self._max_tokens = torch.device(device), max_tokens
        folder = model_folder(source, "captioner")
        _check_kind(source, folder)
        model, self._processor, self._tokenizer = _load(folder)
        longest = _positions(model.config)
        if longest is not None and max_tokens >= longest:
            raise ValueError(
                f"captioner {source!r} generates fewer than {longest} tokens; got --max-tokens "
                f"{max_tokens}; give a smaller number"
            )
        self._model = model.to(self.device).eval().requires_grad_(False)
        self.num_truncated = 0
        """Number of captions so far that ``max_tokens`` truncated."""

    @torch.no_grad()
    def generate_captions(self, images: Sequence[UInt8[Tensor, "3 _ _"]]) -> list[str]:
        """Generate a one-line caption of each image; images may have any size."""
        if not images:
            return []
        pixels = self._processor(
            images=list(images), input_data_format="channels_first", return_tensors="pt"
        )["pixel_values"]
        ids = self._model.generate(
            pixel_values=pixels.to(self.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=self._max_tokens,
        )
        ends = torch.tensor(self._tokenizer.all_special_ids, device=ids.device)
        self.num_truncated += int((~torch.isin(ids[:, -1], ends)).sum())
        captions = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(caption.split()) for caption in captions]


def stated_max_tokens(source: str, max_tokens: int) -> int:
    """Check what a captioner's files state, without loading weights; a model of the hub that its
    cache lacks is asked for its config.json only.

    Args:
        source: a folder or a hub name.
        max_tokens: wanted number of tokens of a caption.

    Returns:
        The largest number of tokens up to ``max_tokens`` that the model generates.

    Raises:
        ValueError: not found, an unsupported type of model, a local folder without weights, image
            processor or tokenizer, or transformers is not installed.
    """
    transformers = transformers_library("captioning")
    folder, complete = _stated_folder(source)
    _check_kind(source, folder)
    with describe_load_errors("captioner", folder, PARTS):
        longest = _positions(transformers.AutoConfig.from_pretrained(folder))
        if complete:
            find_weights(folder, TRANSFORMERS, pickled=False)
            for part, patterns in PART_FILES.items():
                if not any(any(folder.glob(pattern)) for pattern in patterns):
                    raise ValueError(f"it has no {part}: {' or '.join(patterns)}")
    return max_tokens if longest is None else min(max_tokens, longest - 1)


def _stated_folder(source: str) -> tuple[Path, bool]:
    """Folder with config.json, and whether it must hold all other files already."""
    if Path(source).is_dir() or is_offline():
        return model_folder(source, "captioner"), True
    try:
        return find_snapshot(source, ("config.json",)), False
    except SnapshotError:
        return model_folder(source, "captioner"), True  # raises with what is allowed


def _check_kind(source: str, folder: Path) -> None:
    """Refuse a type of model that does not caption."""
    kind = model_type(folder)
    if kind not in KINDS:
        raise ValueError(
            f"captioner {source!r} is a {kind!r}; supported: {', '.join(KINDS)}. Import captions "
            "of other models from a file: pippin data recaption FOLDER --captions FILE.jsonl"
        )


def _positions(config: Any) -> int | None:
    """Number of positions of the decoder of text; None = any number."""
    positions: int | None = getattr(
        config.get_text_config(decoder=True), "max_position_embeddings", None
    )
    return positions


def captioner_fingerprint(source: str, max_tokens: int) -> str:
    """Fingerprint of a captioner's files and settings, without loading it.

    Raises:
        ValueError: not found.
    """
    return model_fingerprint(f"captions of {max_tokens}", model_folder(source, "captioner"))


def _load(folder: Path) -> tuple[Any, Any, Any]:
    """Load model, image processor and tokenizer."""
    transformers = transformers_library("captioning")
    with describe_load_errors("captioner", folder, PARTS):
        kind = transformers.AutoModelForImageTextToText
        model, _ = load_weights(kind, "captioner", folder, POOLER)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        tokenizer = load_tokenizer(folder)
    check_words(tokenizer, f"captioner in {folder}")
    return model, processor, tokenizer
