# SPDX-License-Identifier: Apache-2.0
"""Whether a text encoder and its tokenizer belong together: found out when they are loaded.

Files of two models load without an error. A tokenizer without its vocabulary reads every word as
unknown, and a CLIP whose end token its tokenizer never gives reads each caption at its start,
which is the same for all. Such encoders run, and say nothing of captions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

LEGACY_EOS = 2
"""Older configurations of CLIP say this whatever the tokenizer ends with; the highest token of a
caption is read."""
SAMPLES = ("a photo of a cat", "two red cars")
TRIED = 64
"""Words of a vocabulary that are tried as captions."""
PLACES = 16
"""Tokens of a caption that is tried."""


def check_vocabulary(tokenizer: Any, rows: int, where: str) -> None:
    """Refuse a tokenizer that gives tokens for which the model has no row.

    Args:
        tokenizer: of the transformers library.
        rows: of the model's embedding table.
        where: both are, for the message.

    Raises:
        ValueError: it does; numbers are named.
    """
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise ValueError(
            f"{where}: its tokenizer gives tokens up to {highest}, and its weights have "
            f"{rows} tokens; its files do not belong together"
        )


def check_end(tokenizer: Any, end: int, where: str) -> None:
    """Refuse a CLIP that does not read a caption's vector at the caption's end.

    Args:
        tokenizer: of the transformers library, with a token for padding.
        end: ``eos_token_id`` of the model's configuration.
        where: both are, for the message.

    Raises:
        ValueError: it reads elsewhere.
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
    """Refuse a tokenizer without a vocabulary.

    Raises:
        ValueError: it tells no two captions apart by words that it knows.
    """
    _two_captions(tokenizer, where)


def check_captions_matter(
    tokenizer: Any, encode: Callable[[Sequence[str]], Sequence[Tensor | None]], where: str
) -> None:
    """Refuse an encoder that gives two different captions the same features.

    Args:
        tokenizer: of the transformers library.
        encode: two captions to features of each kind, a row a caption; None = it has no such.
        where: both are, for the message.

    Raises:
        ValueError: it does, or its tokenizer knows no words.
    """
    pair = _two_captions(tokenizer, where)
    for features in encode(pair):
        if features is not None and _alike(features[0], features[1]):
            raise ValueError(
                f"{where} gives the captions {pair[0]!r} and {pair[1]!r} the same features: they "
                "would say nothing of any caption; its files do not belong together, or its "
                "weights are damaged"
            )


def _alike(first: Tensor, second: Tensor) -> bool:
    """But for rounding."""
    return torch.allclose(first, second, rtol=1e-5, atol=1e-6 * float(first.abs().max()))


def _two_captions(tokenizer: Any, where: str) -> tuple[str, str]:
    """Captions of equally many tokens that the tokenizer tells apart by words that it knows."""
    known: dict[int, dict[frozenset[int], str]] = {}
    for caption in _candidates(tokenizer):
        ids = tokenizer(caption, add_special_tokens=False)["input_ids"]
        words = frozenset(ids) - {tokenizer.unk_token_id}
        if not words or len(ids) > PLACES - 2:
            continue
        alike = known.setdefault(len(ids), {})
        alike.setdefault(words, caption)
        if len(alike) == 2:
            first, second = alike.values()
            return first, second
    raise ValueError(
        f"{where}: its tokenizer knows no words, and so all captions are alike to it; are the "
        "files of its vocabulary there (tokenizer.json, vocab.txt, vocab.json and merges.txt, or "
        "spiece.model)?"
    )


def _candidates(tokenizer: Any) -> Iterator[str]:
    """A few captions, and words of the vocabulary."""
    yield from SAMPLES
    for token in range(0, len(tokenizer), max(1, len(tokenizer) // TRIED)):
        if text := tokenizer.decode([token], skip_special_tokens=True).strip():
            yield text


def _tokens(tokenizer: Any, captions: Sequence[str]) -> Any:
    return tokenizer(
        list(captions),
        padding="max_length",
        max_length=PLACES,
        truncation=True,
        return_tensors="pt",
    )
