# SPDX-License-Identifier: Apache-2.0
"""Text inputs of a model: captions of images from a cache, prompts from the encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pippin import rng
from pippin.conditioning.config import TextSemantic
from pippin.conditioning.padding import needs_noise, pad_captions
from pippin.config import ConfigError
from pippin.data.cache.caption_cache import CaptionBank, build_bank
from pippin.data.cache.manifest import Verify
from pippin.data.cache.shard_claims import Ready
from pippin.data.folder.metadata_columns import CLASS
from pippin.data.source import ImageSource
from pippin.encoders.config import TextConfig
from pippin.encoders.text import TextEncoder, encoder_fingerprint
from pippin.system.progress import ProgressCallback
from pippin.types import TextFeatures, TruncatedCaption

MAX_NAMED_PROMPTS = 5
"""Number of truncated prompts that are named."""
MAX_SHOWN_CHARACTERS = 80
"""Characters of a prompt that a message shows."""


class ImageCaptions:
    """The captions of a source's images as a model reads them.

    Args:
        source: the images.
        config: encoders and kinds of captions.
        rule: text conditioning of the model.
        encoder: builds the encoder; called only where captions are not cached yet.
        seed: seed of the choice of captions and of the noise of padding.
        device: device of a training step's captions; a GPU pads them itself.
        fingerprint: fingerprint of the encoder's files; None = compute it.
        progress, verify, ready: see :func:`pippin.data.cache.caption_cache.build_bank`.

    Raises:
        ConfigError: the source does not have a kind of caption.
    """

    def __init__(
        self,
        source: ImageSource,
        config: TextConfig,
        rule: TextSemantic,
        encoder: Callable[[], TextEncoder],
        seed: int,
        progress: ProgressCallback | None = None,
        verify: Verify = "sha256",
        ready: Ready | None = None,
        device: torch.device | str = "cpu",
        fingerprint: str | None = None,
    ) -> None:
        self._rule, self._seed, self._device = rule, seed, torch.device(device)
        self._weights = torch.tensor(list(config.captions.values()))
        kinds = [*source.captions(0), CLASS]
        missing = sorted(set(config.captions) - set(kinds))
        if missing:
            raise ConfigError(
                f"text.captions names {', '.join(missing)}; the images have {', '.join(kinds)}"
            )
        texts: dict[str, list[str]] = {kind: [] for kind in config.captions}
        for index in range(len(source)):  # one image's captions in memory at a time, not all kinds
            captions = source.captions(index) | {CLASS: source.class_names[source.label(index)]}
            for kind, column in texts.items():
                column.append(captions[kind])
        self.first: list[str] = next(iter(texts.values()))
        """Each image's caption of the first kind, in order."""
        self._bank: CaptionBank = build_bank(
            ["", *(text for column in texts.values() for text in column)],
            encoder,
            folder=Path(config.folder),
            fingerprint=fingerprint or encoder_fingerprint(config),
            num_tokens=rule.num_tokens,
            dtype=getattr(torch, config.dtype),
            verify=verify,
            progress=progress,
            ready=ready,
        )
        self._rows = torch.stack([self._bank.rows(column) for column in texts.values()])
        self._kinds = tuple(texts)

    def __call__(
        self, indices: Int[Tensor, " part"], step: int, batch_size: int, part: slice
    ) -> TextFeatures:
        """A training step's captions: see :class:`pippin.data.loader.LatentLoader`."""
        share = rng.uniform((batch_size,), "caption", self._seed, step)[part]
        bounds = (self._weights / self._weights.sum()).cumsum(0)
        kind = torch.searchsorted(bounds, share, right=True).clamp(max=len(bounds) - 1)
        noise = None
        if needs_noise(self._rule):
            noise = self._padding_noise(step, batch_size, part)
        return pad_captions(self._bank.fetch(self._rows[kind, indices]), self._rule, noise)

    def _padding_noise(self, step: int, batch_size: int, part: slice) -> Tensor:
        """Noise of a part of a step's captions. On a CPU, slice the noise of the global batch."""
        shape = (batch_size, self._rule.num_tokens, self._rule.token_features or 1)
        if self._device.type == "cpu":
            return rng.normal(shape, "padding", self._seed, step)[part]
        return rng.normal_rows(shape, part, "padding", self._seed, step, device=self._device)

    def truncation_notes(self) -> list[str]:
        """Notes on captions that have more tokens than the model reads."""
        truncated, num_tokens = self._bank.is_truncated(), self._rule.num_tokens
        if truncated is None:
            return [
                f"the number of captions with more than {num_tokens} tokens is unknown: "
                f"{self._bank.folder} was written by a version that did not count them; remove it "
                "to rebuild and count"
            ]
        images = self._rows.shape[1]
        counts = {
            kind: int(truncated[rows].sum())
            for kind, rows in zip(self._kinds, self._rows, strict=True)
        }
        return [
            f"{count} of {images} captions {kind!r} ({count / images:.1%}) have more than "
            f"{num_tokens} tokens and are truncated; raise conditioning.semantic.num_tokens to "
            "read more"
            for kind, count in counts.items()
            if count
        ]

    def empty(self) -> TextFeatures:
        """The empty caption, a batch of one."""
        features = self._bank.fetch(self._bank.rows([""]))
        return pad_captions(features, self._rule, _noise(self._rule, [0]))

    def vectors(self) -> Float[Tensor, "pictures features"] | None:
        """Each image's first caption as one vector; None where the encoder has none."""
        return self._bank.fetch(self._rows[0]).pooled

    def measured(self, indices: Int[Tensor, " batch"]) -> TextFeatures:
        """Captions of the first kind; the noise of their padding is fixed."""
        features = self._bank.fetch(self._rows[0, indices])
        return pad_captions(features, self._rule, _noise(self._rule, indices.tolist()))


def prompt_features(
    encoder: TextEncoder, rule: TextSemantic, prompts: Sequence[str], seeds: Sequence[int]
) -> TextFeatures:
    """Encode prompts as a model reads them; the sample's seed draws the noise of padding.

    Args:
        encoder: the encoder that the model was trained with.
        rule: text conditioning of the model.
        prompts, seeds: one of each per sample.
    """
    unique = list(dict.fromkeys(prompts))
    features = encoder.encode(unique, rule.num_tokens)
    rows = torch.tensor([unique.index(prompt) for prompt in prompts])
    return pad_captions(features.rows(rows), rule, _noise(rule, seeds))


def cached_prompts(
    config: TextConfig,
    rule: TextSemantic,
    encoder: Callable[[], TextEncoder],
    fingerprint: str,
    prompts: Sequence[str],
) -> CaptionBank:
    """Features of prompts that a run reads repeatedly, from the cache of captions.

    Args:
        config: encoders, and the folder of the cache.
        rule: text conditioning of the model.
        encoder: called only where the prompts are not cached yet.
        fingerprint: fingerprint of the encoder's files.
        prompts: in any order; duplicates are allowed.
    """
    return build_bank(
        prompts,
        encoder,
        folder=Path(config.folder),
        fingerprint=fingerprint,
        num_tokens=rule.num_tokens,
        dtype=getattr(torch, config.dtype),
    )


def padded_prompts(
    bank: CaptionBank, rule: TextSemantic, prompts: Sequence[str], seeds: Sequence[int]
) -> TextFeatures:
    """Prompts of a bank as a model reads them; as :func:`prompt_features`, without an encoder."""
    return pad_captions(bank.fetch(bank.rows(prompts)), rule, _noise(rule, seeds))


def prompt_truncation_notes(cuts: Sequence[TruncatedCaption]) -> list[str]:
    """Notes on prompts that are longer than the model reads: the first few by name."""
    lines = [
        f"{_short(cut.caption)} has {cut.tokens} tokens and {cut.encoder} reads {cut.read}; "
        f"ignored: {_short(cut.unread)}"
        for cut in cuts[:MAX_NAMED_PROMPTS]
    ]
    if len(cuts) > MAX_NAMED_PROMPTS:
        lines.append(f"{len(cuts)} prompts are truncated in total")
    return lines


def _short(text: str) -> str:
    """A text in quotes; the middle of a long text is left out."""
    half = MAX_SHOWN_CHARACTERS // 2
    return repr(text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:half]}...{text[-half:]}")


@runtime_checkable
class EncoderWidths(Protocol):
    """Widths of a loaded text encoder, or those that its files state."""

    @property
    def config(self) -> TextConfig:
        """Encoders and kinds of captions."""

    @property
    def token_features(self) -> int:
        """Width of the token features."""

    @property
    def pooled_features(self) -> int | None:
        """Width of the pooled vector; None if there is none."""


def check_encoder(encoder: EncoderWidths, rule: TextSemantic) -> None:
    """Refuse an encoder whose features the model does not read.

    Raises:
        ConfigError: widths differ, or the encoder has no pooled vector that the model needs.
    """
    pairs = (
        ("token_features", rule.token_features, encoder.token_features),
        ("pooled_features", rule.pooled_features, encoder.pooled_features),
    )
    for name, expected, width in pairs:
        if expected is not None and expected != width:
            option = f"--conditioning.semantic.{name.replace('_', '-')} {width}"
            raise ConfigError(
                f"conditioning.semantic.{name} is {expected}; text.source "
                f"{', '.join(encoder.config.source)} gives {width or 'none'}: "
                + (f"type {option}, or " if width else "")
                + "give another --text.source"
            )


def _noise(rule: TextSemantic, keys: Sequence[int]) -> Tensor | None:
    if not needs_noise(rule):
        return None
    shape = (rule.num_tokens, rule.token_features or 1)
    return torch.stack([rng.normal(shape, "padding", "sample", key) for key in keys])
