# SPDX-License-Identifier: Apache-2.0
"""Checks on load that a text encoder and its tokenizer belong together.

Files of two different models load without an error. A tokenizer without its vocabulary maps every
word to the unknown token. A CLIP whose tokenizer never emits its end token pools each caption at
its start, which is the same for all. Such encoders run, but their features do not depend on
captions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

LEGACY_EOS = 2
"""eos_token_id of older CLIP configurations, whatever the tokenizer's end token; the model then
pools at the highest token id."""
SAMPLES = ("a photo of a cat", "two red cars")
MAX_CANDIDATES = 64
"""Number of vocabulary words that are tried as captions."""
NUM_TOKENS = 16
"""Number of token positions of a test caption."""


def check_vocabulary(tokenizer: Any, rows: int, where: str) -> None:
    """Check that the model has an embedding for every token of the tokenizer.

    Args:
        tokenizer: tokenizer of the transformers library.
        rows: rows of the model's embedding table.
        where: name of the encoder, for the message.

    Raises:
        ValueError: a token id is too large; the message has the numbers.
    """
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise ValueError(
            f"{where}: its tokenizer gives tokens up to {highest}, and its weights have "
            f"{rows} tokens; its files do not belong together"
        )


def check_end(tokenizer: Any, end: int, where: str) -> None:
    """Check that a CLIP pools a caption at its end token.

    Args:
        tokenizer: tokenizer of the transformers library, with a padding token.
        end: ``eos_token_id`` of the model's configuration.
        where: name of the encoder, for the message.

    Raises:
        ValueError: the model pools at another position.
    """
    batch = _tokens(tokenizer, ["", *SAMPLES])
    ids, own = batch["input_ids"], batch["attention_mask"]
    read = (ids if end == LEGACY_EOS else (ids == end).int()).argmax(dim=-1)
    last = (own * torch.arange(ids.shape[1])).argmax(dim=-1)
    if end != LEGACY_EOS and not (ids == end).any():
        raise ValueError(
            f"{where} reads a caption at its token {end} (eos_token_id of its config.json), which "
            "its tokenizer never gives; its files do not belong together"
        )
    if not torch.equal(read, last):
        at = "the highest token" if end == LEGACY_EOS else f"the first token {end}"
        raise ValueError(
            f"{where} reads a caption at {at} (eos_token_id {end} of its config.json), which is "
            "not the caption's last token by its tokenizer; its files do not belong together"
        )


def check_words(tokenizer: Any, where: str) -> None:
    """Check that a tokenizer has a vocabulary.

    Raises:
        ValueError: no two captions differ in known words.
    """
    _two_captions(tokenizer, where)


def check_captions_matter(
    tokenizer: Any, encode: Callable[[Sequence[str]], Sequence[Tensor | None]], where: str
) -> None:
    """Check that an encoder gives two different captions different features.

    Args:
        tokenizer: tokenizer of the transformers library.
        encode: maps two captions to features of each kind, one row a caption; None = no such
            features.
        where: name of the encoder, for the message.

    Raises:
        ValueError: the features are equal, or the tokenizer knows no words.
    """
    pair = _two_captions(tokenizer, where)
    for features in encode(pair):
        if features is not None and _alike(features[0], features[1]):
            raise ValueError(
                f"{where} gives the captions {pair[0]!r} and {pair[1]!r} the same features, so "
                "they do not depend on the caption; its files do not belong together, or its "
                "weights are damaged"
            )


def _alike(first: Tensor, second: Tensor) -> bool:
    """True if two vectors are equal up to rounding."""
    return torch.allclose(first, second, rtol=1e-5, atol=1e-6 * float(first.abs().max()))


def _two_captions(tokenizer: Any, where: str) -> tuple[str, str]:
    """Two captions with equal numbers of tokens that differ in known words."""
    captions_by_length: dict[int, dict[frozenset[int], str]] = {}
    for caption in _candidates(tokenizer):
        ids = tokenizer(caption, add_special_tokens=False)["input_ids"]
        words = frozenset(ids) - {tokenizer.unk_token_id}
        if not words or len(ids) > NUM_TOKENS - 2:
            continue
        same_length = captions_by_length.setdefault(len(ids), {})
        same_length.setdefault(words, caption)
        if len(same_length) == 2:
            first, second = same_length.values()
            return first, second
    raise ValueError(
        f"{where}: its tokenizer knows no words, so all captions are equal; check that its "
        "vocabulary files exist (tokenizer.json, vocab.txt, vocab.json and merges.txt, or "
        "spiece.model)"
    )


def _candidates(tokenizer: Any) -> Iterator[str]:
    """Sample captions, then words of the vocabulary."""
    yield from SAMPLES
    for token in range(0, len(tokenizer), max(1, len(tokenizer) // MAX_CANDIDATES)):
        if text := tokenizer.decode([token], skip_special_tokens=True).strip():
            yield text


def _tokens(tokenizer: Any, captions: Sequence[str]) -> Any:
    return tokenizer(
        list(captions),
        padding="max_length",
        max_length=NUM_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
