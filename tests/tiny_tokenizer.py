# SPDX-License-Identifier: Apache-2.0
"""A tokenizer of a few words, as the transformers library saves one."""

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors


def word_tokenizer(words, ends=None, **special):
    """One token a word, whose id is its place.

    Args:
        words: with [PAD] and [UNK] among them.
        ends: what is set before and after a text; None = nothing.
        special: further tokens by their names in transformers: cls_token, bos_token, ...
    """
    found = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends is not None:
        found.post_processor = processors.TemplateProcessing(
            single=f"{ends[0]} $A {ends[1]}", special_tokens=[(w, words.index(w)) for w in ends]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="[PAD]", unk_token="[UNK]", **special
    )
