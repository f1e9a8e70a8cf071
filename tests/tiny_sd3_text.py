# SPDX-License-Identifier: Apache-2.0
"""Two CLIPs and a T5 with random weights, as in a pipeline of Stable Diffusion 3."""

from pathlib import Path

import torch
import transformers
from tiny_tokenizer import word_tokenizer

WORDS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "red", "blue", "apple", "car"]
OTHER = ["[PAD]", "car", "blue", "[UNK]", "[EOS]", "[BOS]", "apple", "red"]
PLACES = 8
"""Number of tokens that the CLIPs read."""


def clip(words, width, projection, seed, places):
    torch.manual_seed(seed)
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=32,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=places,
        bos_token_id=words.index("[BOS]"),
        eos_token_id=words.index("[EOS]"),
        pad_token_id=0,
    )
    ends = ("[BOS]", "[EOS]")
    tokenizer = word_tokenizer(
        words, ends, bos_token="[BOS]", eos_token="[EOS]", model_max_length=places
    )
    return transformers.CLIPTextModelWithProjection(config).eval(), tokenizer


def t5(width=32):
    torch.manual_seed(2)
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    tokenizer = word_tokenizer(WORDS, eos_token="[EOS]")
    return transformers.T5EncoderModel(config).eval(), tokenizer


def encoders(places=PLACES):
    """Models and tokenizers, of widths 8, 16 and 32 with projections of 6 and 10."""
    with torch.random.fork_rng():
        return clip(WORDS, 8, 6, 0, places), clip(OTHER, 16, 10, 1, places), t5()


def save_encoders(folder, places=77):
    """Save encoders and tokenizers in folders as diffusers names them; returns the encoders'
    paths."""
    saved = []
    for end, (model, tokenizer) in zip(("", "_2", "_3"), encoders(places), strict=True):
        model.save_pretrained(Path(folder) / f"text_encoder{end}")
        tokenizer.save_pretrained(Path(folder) / f"tokenizer{end}")
        saved.append(str(Path(folder) / f"text_encoder{end}"))
    return tuple(saved)
