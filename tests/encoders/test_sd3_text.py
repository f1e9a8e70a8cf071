# SPDX-License-Identifier: Apache-2.0
"""Two CLIPs and a T5 combined as in Stable Diffusion 3, against diffusers' pipeline."""

from dataclasses import replace

import diffusers
import pytest
import torch
from tiny_sd3_text import PLACES, encoders, save_encoders, t5

from pippin.config import ConfigError, fingerprint
from pippin.encoders.config import TextConfig
from pippin.encoders.text import TextEncoder, encoder_fingerprint

CAPTIONS = ["red apple", "blue car red apple blue car red apple blue car", ""]


@pytest.fixture(scope="module")
def parts():
    return encoders()


@pytest.fixture(scope="module")
def pipeline(parts):
    """Pipeline with prompt encoders only."""
    named = {}
    for end, (model, tokenizer) in zip(("", "_2", "_3"), parts, strict=True):
        named |= {f"text_encoder{end}": model, f"tokenizer{end}": tokenizer}
    return diffusers.StableDiffusion3Pipeline(transformer=None, scheduler=None, vae=None, **named)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Folders of a diffusers pipeline: tokenizers beside encoders."""
    sources = save_encoders(tmp_path_factory.mktemp("pipeline"), PLACES)
    return TextConfig(source=sources, layer="penultimate", combine="sd3")


def test_prompts_are_what_diffusers_pipeline_makes_of_them(config, pipeline):
    encoder = TextEncoder(config)
    assert (encoder.token_features, encoder.pooled_features) == (32, 16)
    result = encoder.encode(CAPTIONS, PLACES + 5)
    with torch.no_grad():
        tokens, negative, pooled, negative_pooled = pipeline.encode_prompt(
            CAPTIONS, None, None, device="cpu", max_sequence_length=5
        )
    torch.testing.assert_close(result.tokens, tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.pooled, pooled, rtol=1e-5, atol=1e-6)
    assert result.mask.shape == (3, PLACES + 5) and result.mask[:, 0].all()
    empty = encoder.encode([""], PLACES + 5)
    torch.testing.assert_close(empty.tokens[0], negative[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(empty.pooled[0], negative_pooled[0], rtol=1e-5, atol=1e-6)


def test_each_encoder_cuts_at_its_own_length(config):
    cuts = TextEncoder(config).truncated(CAPTIONS, PLACES + 5)
    assert [(cut.encoder, cut.tokens, cut.read) for cut in cuts] == [
        (config.source[0], 12, PLACES),  # ten words, start and end
        (config.source[1], 12, PLACES),
        (config.source[2], 10, 5),
    ]
    assert cuts[0].unread == "red apple blue car"
    assert {cut.caption for cut in cuts} == {CAPTIONS[1]}


def test_its_caches_are_not_those_of_features_side_by_side(config):
    beside = replace(config, combine="features")
    assert encoder_fingerprint(config) != encoder_fingerprint(beside)
    assert TextEncoder(beside).token_features == 8 + 16 + 32


def test_fingerprints_of_other_configurations_stay():
    assert fingerprint(TextConfig()) == "062d2dd47abf63c4"


def test_what_cannot_be_combined_is_refused_by_name(config, tmp_path):
    a, b, c = config.source
    for wrong in ({"source": (a, b)}, {"layer": "last"}):
        with pytest.raises(ConfigError, match=r"text\.combine sd3 needs three encoders"):
            replace(config, **wrong)
    with pytest.raises(ValueError, match=r"two CLIPs .* and then a T5 .*; got .*\(t5, width 32\)"):
        TextEncoder(replace(config, source=(c, a, b)))
    narrow, tokenizer = t5(16)
    narrow.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="at least as wide as both"):
        TextEncoder(replace(config, source=(a, b, str(tmp_path))))
    with pytest.raises(ValueError, match=r"num_tokens must be above 8.*got 8"):
        TextEncoder(config).encode(["red"], PLACES)
