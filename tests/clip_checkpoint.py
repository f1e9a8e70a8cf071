# SPDX-License-Identifier: Apache-2.0
"""Tiny CLIP with random weights and its tokenizer, saved in transformers' format."""

import torch
import transformers
from tiny_tokenizer import word_tokenizer

WORDS = ["[PAD]", "[UNK]", "red", "blue", "apple", "car", "<", ">", "[BOS]", "[EOS]"]
BOS, EOS = WORDS.index("[BOS]"), WORDS.index("[EOS]")


def save_clip(folder, seed=0):
    """Save a CLIP for 32-pixel images and 12 tokens, with a preprocessor file; returns the
    folder."""
    part = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    part["num_hidden_layers"] = 2
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 12}
    text |= {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config=part | text,
        vision_config=part | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
        initializer_factor=20.0,  # so that embeddings differ
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.CLIPModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    size = {"height": 32, "width": 32}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    processor.save_pretrained(folder)
    return folder


def save_tokenizer(folder):
    """Save a tokenizer with one token per word of WORDS, and with start and end tokens."""
    ends = ("[BOS]", "[EOS]")
    result = word_tokenizer(WORDS, ends, bos_token="[BOS]", eos_token="[EOS]")
    result.save_pretrained(folder)
