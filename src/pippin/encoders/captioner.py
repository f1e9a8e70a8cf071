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
from pippin.encoders.text_checks import check_words

KINDS = ("blip", "blip-2", "git", "vision-encoder-decoder")
"""Supported model_type of a config.json: models that caption an image without a prompt."""


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
        kind = model_type(folder)
        if kind not in KINDS:
            raise ValueError(
                f"captioner {source!r} is a {kind!r}; supported: {', '.join(KINDS)}. Import "
                "captions of other models from a file: --captions FILE.jsonl"
            )
        model, self._processor, self._tokenizer = _load(folder)
        longest = getattr(
            model.config.get_text_config(decoder=True), "max_position_embeddings", max_tokens + 1
        )
        if max_tokens >= longest:
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


def captioner_fingerprint(source: str, max_tokens: int) -> str:
    """Fingerprint of a captioner's files and settings, without loading it.

    Raises:
        ValueError: not found.
    """
    return model_fingerprint(f"captions of {max_tokens}", model_folder(source, "captioner"))


def _load(folder: Path) -> tuple[Any, Any, Any]:
    """Load model, image processor and tokenizer."""
    transformers = transformers_library("captioning")
    with describe_load_errors("captioner", folder, "an image processor and a tokenizer"):
        kind = transformers.AutoModelForImageTextToText
        model, _ = load_weights(kind, "captioner", folder, POOLER)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        tokenizer = load_tokenizer(folder)
    check_words(tokenizer, f"captioner in {folder}")
    return model, processor, tokenizer
