# SPDX-License-Identifier: Apache-2.0
"""What a model of text reads: captions of pictures from a cache, prompts from the encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pippin import rng
from pippin.conditioning.config import TextSemantic
from pippin.conditioning.padding import needs_noise, pad_captions
from pippin.config import ConfigError
from pippin.data.captions import CaptionBank, Progress, build_bank
from pippin.data.claims import Ready
from pippin.data.manifest import Verify
from pippin.data.metadata_columns import CLASS
from pippin.data.source import PictureSource
from pippin.encoders.config import TextConfig
from pippin.encoders.text import TextEncoder, encoder_fingerprint
from pippin.types import CutCaption, TextFeatures

CUT_NAMED = 5
"""Prompts named that are longer than what is read of them."""
SHOWN = 80
"""Signs of a prompt that a message shows."""


class PictureCaptions:
    """The captions of a source's pictures as a model reads them.

    Args:
        source: the pictures.
        config: encoders and kinds of captions.
        rule: of the model.
        encoder: made only where captions are not cached yet.
        seed: of the choice of captions and the noise of padding.
        device: where a training step's captions are read; a card pads them itself.
        fingerprint: of the encoder's files, where it is known; None = they are read.
        progress, verify, ready: see :func:`pippin.data.captions.build_bank`.

    Raises:
        ConfigError: a kind of caption that the source does not have.
    """

    def __init__(
        self,
        source: PictureSource,
        config: TextConfig,
        rule: TextSemantic,
        encoder: Callable[[], TextEncoder],
        seed: int,
        progress: Progress | None = None,
        verify: Verify = "sha256",
        ready: Ready | None = None,
        device: torch.device | str = "cpu",
        fingerprint: str | None = None,
    ) -> None:
        self._rule, self._seed, self._device = rule, seed, torch.device(device)
        self._weights = torch.tensor(list(config.captions.values()))
        kinds = [
            source.captions(index) | {CLASS: source.class_names[source.label(index)]}
            for index in range(len(source))
        ]
        missing = sorted(set(config.captions) - set(kinds[0]))
        if missing:
            raise ConfigError(
                f"text.captions names {', '.join(missing)}; the pictures have "
                f"{', '.join(kinds[0])}"
            )
        texts = {kind: [captions[kind] for captions in kinds] for kind in config.captions}
        self.first: list[str] = next(iter(texts.values()))
        """Each picture's caption of the first kind, in order."""
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
        """Of a part of a step's captions. A CPU draws those of the global batch and slices."""
        shape = (batch_size, self._rule.num_tokens, self._rule.token_features or 1)
        if self._device.type == "cpu":
            return rng.normal(shape, "padding", self._seed, step)[part]
        return rng.rows_of_normal(shape, part, "padding", self._seed, step, device=self._device)

    def cut_lines(self) -> list[str]:
        """What to say of captions that have more tokens than the model reads."""
        cut, places = self._bank.is_cut(), self._rule.num_tokens
        if cut is None:
            return [
                f"how many captions have more than {places} tokens is not known: "
                f"{self._bank.folder} was written before it was counted; remove it to count them"
            ]
        images = self._rows.shape[1]
        counts = {
            kind: int(cut[rows].sum()) for kind, rows in zip(self._kinds, self._rows, strict=True)
        }
        return [
            f"{count} of {images} captions {kind!r} ({count / images:.1%}) have more than "
            f"{places} tokens and are not read to their ends; conditioning.semantic.num_tokens "
            "reads more"
            for kind, count in counts.items()
            if count
        ]

    def empty(self) -> TextFeatures:
        """The empty caption, a batch of one."""
        features = self._bank.fetch(self._bank.rows([""]))
        return pad_captions(features, self._rule, _noise(self._rule, [0]))

    def vectors(self) -> Float[Tensor, "pictures features"] | None:
        """Each picture's first caption as one vector; None where the encoder has none."""
        return self._bank.fetch(self._rows[0]).pooled

    def measured(self, indices: Int[Tensor, " batch"]) -> TextFeatures:
        """Captions of the first kind, their padding's noise the same every time."""
        features = self._bank.fetch(self._rows[0, indices])
        return pad_captions(features, self._rule, _noise(self._rule, indices.tolist()))


def prompt_features(
    encoder: TextEncoder, rule: TextSemantic, prompts: Sequence[str], seeds: Sequence[int]
) -> TextFeatures:
    """Prompts as a model reads them; the noise of padding comes from each sample's seed.

    Args:
        encoder: that the model was trained with.
        rule: of the model.
        prompts, seeds: one of each a sample.
    """
    different = list(dict.fromkeys(prompts))
    found = encoder.encode(different, rule.num_tokens)
    rows = torch.tensor([different.index(prompt) for prompt in prompts])
    return pad_captions(found.rows(rows), rule, _noise(rule, seeds))


def cut_notes(cuts: Sequence[CutCaption]) -> list[str]:
    """What to say of prompts that are longer than the model reads: the first few by name."""
    lines = [
        f"{_short(one.caption)} has {one.tokens} tokens and {one.encoder} reads {one.read}: not "
        f"read is {_short(one.unread)}"
        for one in cuts[:CUT_NAMED]
    ]
    if len(cuts) > CUT_NAMED:
        lines.append(f"{len(cuts)} prompts in all are longer than what is read of them")
    return lines


def _short(text: str) -> str:
    """A text in quotes, its middle left out where it is long."""
    return repr(text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}")


def check_encoder(encoder: TextEncoder, rule: TextSemantic) -> None:
    """Refuse an encoder whose features the model does not read.

    Raises:
        ConfigError: widths that differ, or a pooled vector that the encoder does not have.
    """
    pairs = (
        ("token_features", rule.token_features, encoder.token_features),
        ("pooled_features", rule.pooled_features, encoder.pooled_features),
    )
    for name, wanted, given in pairs:
        if wanted is not None and wanted != given:
            raise ConfigError(
                f"conditioning.semantic.{name} is {wanted}; text.source "
                f"{', '.join(encoder.config.source)} gives {given or 'none'}"
            )


def _noise(rule: TextSemantic, keys: Sequence[int]) -> Tensor | None:
    if not needs_noise(rule):
        return None
    shape = (rule.num_tokens, rule.token_features or 1)
    return torch.stack([rng.normal(shape, "padding", "sample", key) for key in keys])
