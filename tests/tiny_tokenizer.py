# SPDX-License-Identifier: Apache-2.0
"""Tokenizer of a few words, in transformers' format."""

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors


def word_tokenizer(words, ends=None, **special):
    """Tokenizer with one token per word, whose id is its index.

    Args:
        words: words, including [PAD] and [UNK].
        ends: tokens before and after a text; None = none.
        special: further special tokens by their names in transformers: cls_token, bos_token, ...
    """
    result = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    result.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends is not None:
        result.post_processor = processors.TemplateProcessing(
            single=f"{ends[0]} $A {ends[1]}", special_tokens=[(w, words.index(w)) for w in ends]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=result, pad_token="[PAD]", unk_token="[UNK]", **special
    )
