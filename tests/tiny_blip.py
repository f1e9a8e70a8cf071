# SPDX-License-Identifier: Apache-2.0
"""Captioning model with random weights, in transformers' format."""

from pathlib import Path

import torch
import transformers
from tiny_tokenizer import word_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "red", "blue", "apple", "car", "a", "the"]
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "projection_dim": 8,
}


def save_blip(folder: Path, seed: int = 0) -> Path:
    """Save model, image processor and tokenizer; returns the folder."""
    tokenizer = word_tokenizer(WORDS, cls_token="[CLS]", sep_token="[SEP]", bos_token="[DEC]")
    text = {
        **SMALL,
        "encoder_hidden_size": 16,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 32,
        "bos_token_id": 4,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    config = transformers.BlipConfig(
        text_config=text,
        vision_config={**SMALL, "image_size": 32, "patch_size": 8, "initializer_range": 1.0},
        projection_dim=8,
        image_text_hidden_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.BlipForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.5)  # so that captions differ
            model.text_decoder.cls.predictions.bias[:5] = -20.0  # and have words
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    processor = transformers.BlipProcessor(transformers.BlipImageProcessor(size=size), tokenizer)
    processor.save_pretrained(folder)
    return folder
